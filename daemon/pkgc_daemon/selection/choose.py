"""The selector: asks the sources that may serve a Wanted, in the right order, and returns the choice.

Which sources may serve it depends on the hash (design.md 8; dependency confusion): bytes with an allowed hash
are right wherever they come from, so every source may serve a hashed pin; an unhashed pin is served by
find-links, else by the first index that has a project of that name, and never by a later one. A project that
is pinned to an index comes from that one alone, hashed or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.candidates import Choice, Source, choose
from pkgc_daemon.selection.failures import no_matching_version, nothing_fits, unknown_package
from pkgc_daemon.selection.filenames import Pin
from pkgc_daemon.selection.findlinks import FlatLists, local_path
from pkgc_daemon.selection.indexes import Answer, IndexClient, Mode
from pkgc_daemon.selection.pages import MAX_FILES, PageFile, ProjectPage, digest_names
from pkgc_daemon.selection.ports import KnownFiles
from pkgc_daemon.vocabulary import Digest, IndexOptions, Interpreter, Wanted

T = TypeVar("T")

#: More entries of a page, or files of a version, are gone through in a thread.
_MANY_ENTRIES, _MANY_FILES = 5_000, 300


async def _off_loop(work: Callable[[], T]) -> T:
    """Run `work` in a thread: other clients shall not wait for it."""
    return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True)
class _Query:
    """One question: a Wanted and everything that decides how to answer it."""

    wanted: Wanted
    pin: Pin
    interpreter: Interpreter
    options: IndexOptions
    no_binary: frozenset[str]
    only_binary: frozenset[str]
    no_build: bool
    reporter: Reporter

    @property
    def pinned(self) -> str | None:
        """The URL of the index that the project is pinned to."""
        return self.options.pins.get(self.wanted.name)

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes that may be asked, in their order."""
        if self.options.no_index:
            return ()
        return self.options.indexes if self.pinned is None else (self.pinned,)

    def source(self, index: str) -> Source:
        """An index as messages and records name it."""
        return Source("index", redact(index), self.options.names.get(index, ""))

    async def choose(self, files: Sequence[tuple[Source, Sequence[PageFile]]]) -> Choice:
        """`candidates.choose` for this question."""
        decide = partial(
            choose,
            self.wanted,
            files,
            self.interpreter,
            no_binary=self.no_binary,
            only_binary=self.only_binary,
            no_build=self.no_build,
        )
        return await _off_loop(decide) if sum(len(some) for _, some in files) > _MANY_FILES else decide()


@dataclass(slots=True)
class _Offer:
    """What the sources said."""

    files: list[tuple[Source, tuple[PageFile, ...]]] = field(default_factory=list)
    """Files of the wanted version."""
    pages: list[ProjectPage] = field(default_factory=list)
    asked: list[Source] = field(default_factory=list)
    errors: list[PkgcError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    oldest: float = float("inf")
    """When the least recent of the pages was asked for."""
    fresh_until: float = float("inf")
    """Until when all that was asked need not be asked again."""

    async def add(self, source: Source, answer: Answer, query: _Query) -> None:
        """Take in what `source` said."""
        page = answer.page
        self.fresh_until = min(self.fresh_until, answer.fresh_until)
        if page is None:
            return
        self.oldest = min(self.oldest, answer.validated_at)
        self.pages.append(page)
        select = partial(page.files_of, query.pin.name, query.pin.matches)
        files = await _off_loop(select) if page.entry_count > _MANY_ENTRIES else select()
        self.files.append((source, files))
        if len(files) >= MAX_FILES:
            self.notes.append(
                f"{source.url} lists {MAX_FILES} files of this version or more; the rest is ignored"
            )
        if page.status != "active":
            reason = f": {page.status_reason}" if page.status_reason else ""
            self.notes.append(f"{source.url} says that the project is {page.status}{reason}")

    def digests(self) -> set[Digest]:
        """Every digest advertised for the wanted version."""
        return {digest for _, files in self.files for file in files for digest in file.hashes}


class Selector:
    """Finds the candidates of a Wanted.

    Args:
        client: answers what indexes have.
        known: is told which file names belong to which digests.
    """

    def __init__(self, client: IndexClient, known: KnownFiles) -> None:
        self._client = client
        self._known = known
        self._flat = FlatLists(client.read_folder)
        self._split: dict[str, tuple[ProjectPage, dict[str, ProjectPage]]] = {}
        self._warned: dict[str, float] = {}

    async def candidates(
        self,
        wanted: Wanted,
        interpreter: Interpreter,
        options: IndexOptions,
        *,
        reporter: Reporter,
        mode: Mode = "normal",
        no_binary: frozenset[str] = frozenset(),
        only_binary: frozenset[str] = frozenset(),
        no_build: bool = False,
        asked_at: float = 0.0,
        everywhere: bool = False,
    ) -> Choice:
        """The files that may satisfy `wanted`, best first; at least one.

        A pin that is not on a cached page has that page fetched anew once before it fails.

        Args:
            wanted: the pin.
            interpreter: the target.
            options: the sources.
            reporter: warned of indexes that could not be asked but were not needed. Of yanked files whoever
                uses one warns (S5), because only then it is known which it is: see `Candidate.yanked`.
            mode: see `IndexClient.lookup`.
            no_binary: projects whose wheels are excluded, or ':all:'.
            only_binary: exceptions from it, and projects whose source archives are excluded, or ':all:'.
            no_build: all source archives are excluded.
            asked_at: when the run began (Unix seconds, `IndexClient.now`); 0: now. Pages asked for since then
                are recent enough.
            everywhere: of a hashed pin, ask every index even if the first one lists all its digests (because
                its files could not be had). Who may serve an unhashed pin does not change.

        Raises:
            PkgcError: ``unknown-package``, ``no-matching-version``, ``no-matching-wheel``,
                ``no-allowed-hash``, and what `IndexClient.lookup` and `FlatLists.files` raise.
        """
        query = _Query(wanted, Pin(wanted), interpreter, options, no_binary, only_binary, no_build, reporter)
        since = asked_at or self._client.now()
        try:
            offer, choice = await self._gather(query, mode, since, everywhere)
        except PkgcError as cause:
            if cause.code != "not-in-cache":
                raise
            raise _offline(wanted, cause) from cause
        if not choice.candidates and mode == "normal" and offer.oldest < since:
            offer, choice = await self._gather(query, "refresh", since, everywhere)
        for source, files in offer.files:
            self._known.remember_files(source.url, wanted.name, digest_names(files))
        if not choice.candidates:
            raise await _off_loop(partial(_failure, query, offer, choice))
        for error in offer.errors:
            reporter.warning(f"{error.message}; {wanted} was found elsewhere", "index-skipped")
        if offer.errors:
            return choice
        return replace(choice, fresh_until=offer.fresh_until, generation=self._client.generation)

    async def _gather(
        self, query: _Query, mode: Mode, since: float, everywhere: bool
    ) -> tuple[_Offer, Choice]:
        offer = _Offer()
        indexes = query.indexes
        if query.pinned is not None:
            offer.notes.append(
                f"{query.wanted.name} is pinned to the index {query.source(query.pinned).label}: "
                "nothing else is asked"
            )
            await self._ask_tolerantly(indexes, query, mode, since, offer)
            return offer, await query.choose(offer.files)
        for location in query.options.find_links:
            await self._ask_find_links(location, query, mode, since, offer)
        if query.wanted.hashes:
            await self._ask_all(indexes, query, mode, since, offer, everywhere=everywhere)
            return offer, await query.choose(offer.files)
        choice = await query.choose(offer.files)
        if choice.candidates:
            return offer, choice
        for index in indexes:
            # An index that cannot be asked might have the project: going on would let a later one serve it.
            if await self._ask_index(index, query, mode, since, offer):
                return offer, await query.choose(offer.files)
        return offer, choice

    async def _ask_all(
        self,
        indexes: Sequence[str],
        query: _Query,
        mode: Mode,
        since: float,
        offer: _Offer,
        *,
        everywhere: bool,
    ) -> None:
        if not indexes:
            return
        if everywhere:
            await self._ask_tolerantly(indexes, query, mode, since, offer)
            return
        await self._ask_tolerantly(indexes[:1], query, mode, since, offer)
        # When every allowed digest has its file, no other index can offer a better one.
        if len(indexes) > 1 and not query.wanted.hashes <= offer.digests():
            await self._ask_tolerantly(indexes[1:], query, mode, since, offer)

    async def _ask_tolerantly(
        self, indexes: Sequence[str], query: _Query, mode: Mode, since: float, offer: _Offer
    ) -> None:
        """Ask `indexes` at the same time; keep their errors, because another one may have what is wanted."""
        offers = [_Offer() for _ in indexes]
        results = await asyncio.gather(
            *(
                self._ask_index(index, query, mode, since, one)
                for index, one in zip(indexes, offers, strict=True)
            ),
            return_exceptions=True,
        )
        for one, result in zip(offers, results, strict=True):
            offer.files += one.files
            offer.pages += one.pages
            offer.asked += one.asked
            offer.notes += one.notes
            offer.oldest = min(offer.oldest, one.oldest)
            offer.fresh_until = min(offer.fresh_until, one.fresh_until)
            if isinstance(result, PkgcError):
                offer.errors.append(result)
            elif isinstance(result, BaseException):
                raise result

    async def _ask_index(self, index: str, query: _Query, mode: Mode, since: float, offer: _Offer) -> bool:
        """Whether `index` has the project."""
        source = query.source(index)
        offer.asked.append(source)
        try:
            answer = await self._client.lookup(
                index,
                query.wanted.name,
                options=query.options,
                reporter=query.reporter,
                mode=mode,
                at_least=since,
            )
        except PkgcError as error:
            # As pip: a directory that is not there is no index. The first one is too important to be missed.
            if error.code != "index-unreadable" or index == query.indexes[0]:
                raise
            if self._warned.get(index) != since:
                if len(self._warned) > 100:
                    self._warned.clear()
                self._warned[index] = since
                query.reporter.warning(f"{error.message}; it is left out", "index-skipped")
            offer.fresh_until = 0.0
            return False
        await offer.add(source, answer, query)
        return answer.page is not None

    async def _ask_find_links(
        self, location: str, query: _Query, mode: Mode, since: float, offer: _Offer
    ) -> None:
        source = Source("find-links", redact(location))
        offer.asked.append(source)
        path = local_path(location)
        if path is not None:
            answer = Answer(await self._flat.files(path, query.wanted.name), float("inf"))
        else:
            answer = await self._client.flat_page(
                location, options=query.options, reporter=query.reporter, mode=mode, at_least=since
            )
            if answer.page is None:
                raise PkgcError(
                    "find-links-unreadable",
                    f"the find-links page {source.url} does not exist (HTTP 404)",
                    hint="correct the URL, or leave it out",
                )
            page = await self._of_project(location, answer.page, query.wanted.name)
            if page is None:
                offer.oldest = min(offer.oldest, answer.validated_at)
            answer = Answer(page, answer.validated_at, answer.fresh_until)
        await offer.add(source, answer, query)

    async def _of_project(self, location: str, page: ProjectPage, project: str) -> ProjectPage | None:
        """The part of a flat page that concerns `project`; the page is split once, not for each project."""
        known = self._split.get(location)
        if known is None or known[0] is not page:
            if len(self._split) > 20:
                self._split.clear()
            split = (
                await _off_loop(page.by_project) if page.entry_count > _MANY_ENTRIES else page.by_project()
            )
            known = self._split[location] = (page, split)
        return known[1].get(project)


def _failure(query: _Query, offer: _Offer, choice: Choice) -> PkgcError:
    wanted = query.wanted
    if offer.errors:
        # What is missing may be on the index that could not be asked, so that is the cause to name.
        cause = offer.errors[0]
        if cause.code == "not-in-cache":
            return _offline(wanted, cause)
        lines = [cause.context] if cause.context else []
        lines += [f"also: {error.message}" for error in offer.errors[1:]]
        lines += [f"wanted: {wanted}", *(f"asked: {source.label}" for source in offer.asked), *offer.notes]
        error = PkgcError(
            cause.code,
            cause.message,
            context="\n".join(lines),
            hint=cause.hint,
            exit_status=cause.exit_status,
        )
        error.__cause__ = cause
        return error
    if not offer.pages:
        pinned = query.source(query.pinned) if query.pinned is not None else None
        return unknown_package(wanted, offer.asked, offer.notes, pinned)
    if not choice.rejected:
        versions = {text for page in offer.pages for text in page.version_texts(wanted.name)}
        return no_matching_version(wanted, offer.asked, versions, offer.notes)
    return nothing_fits(wanted, query.interpreter, offer.asked, choice, offer.notes)


def _offline(wanted: Wanted, cause: PkgcError) -> PkgcError:
    place = f"{wanted.place}: " if wanted.place.file else ""
    error = PkgcError(
        cause.code,
        f"{place}{wanted} is not in the cache, and pkgc is offline",
        context=cause.message,
        hint="run once without --offline",
    )
    error.__cause__ = cause
    return error
