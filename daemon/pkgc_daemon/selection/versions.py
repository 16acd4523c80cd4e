"""Versions: everything that the sources offer of one project for a target, for who may choose the version.

Locks name versions, so the rest of selection asks for one. What builds require is not locked, and is resolved
from this list. Which version is taken is not decided here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from packaging.version import Version

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.candidates import Source, choose
from pkgc_daemon.selection.filenames import cut_filename, normalize, parse_version
from pkgc_daemon.selection.findlinks import FlatLists, local_path
from pkgc_daemon.selection.indexes import IndexClient, Mode
from pkgc_daemon.selection.pages import PageFile, ProjectPage
from pkgc_daemon.vocabulary import Candidate, IndexOptions, Interpreter, Wanted

#: More files of a project are sorted in a thread.
_MANY_FILES = 50


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a project, with the files that a target may use."""

    version: Version
    candidates: tuple[Candidate, ...]
    """Best first; at least one, unless it comes from a direct reference."""
    yanked: bool = False
    """All its files are (PEP 592)."""


class VersionLists:
    """Lists the versions of projects.

    The sources are those that serve an unhashed pin: find-links, and the first index that has the project, or
    the one that it is pinned to (dependency confusion).

    Args:
        client: answers what indexes have.
    """

    def __init__(self, client: IndexClient) -> None:
        self._client = client
        self._flat = FlatLists(client.read_folder)

    async def releases(
        self,
        project: str,
        interpreter: Interpreter,
        options: IndexOptions,
        *,
        reporter: Reporter,
        mode: Mode = "normal",
        asked_at: float = 0.0,
        no_binary: frozenset[str] = frozenset(),
        only_binary: frozenset[str] = frozenset(),
        no_build: bool = False,
    ) -> tuple[Release, ...]:
        """The usable versions of `project`, newest first; none when no source has it.

        Args:
            project: normalized name.
            interpreter: the target; its tags and version count.
            options: the sources.
            reporter: counts requests.
            mode: see `IndexClient.lookup`.
            asked_at: when the run began; 0: now. Pages asked for since then are recent enough.
            no_binary: projects whose wheels are excluded, or ':all:'.
            only_binary: projects whose source archives are excluded, or ':all:'.
            no_build: all source archives are excluded.

        Raises:
            PkgcError: a source cannot be asked.
        """
        since = asked_at or self._client.now()
        files: list[tuple[Source, Sequence[PageFile]]] = []
        pinned = options.pins.get(project)
        if pinned is None:
            for location in options.find_links:
                page = await self._find_links(location, project, options, reporter, mode, since)
                files += _files(Source("find-links", redact(location)), page, project)
        indexes = () if options.no_index else options.indexes if pinned is None else (pinned,)
        for index in indexes:
            try:
                answer = await self._client.lookup(
                    index, project, options=options, reporter=reporter, mode=mode, at_least=since
                )
            except PkgcError as error:
                # As `Selector`: a directory that is not there is no index, unless it is the first one.
                if error.code != "index-unreadable" or index == indexes[0]:
                    raise
                continue
            if answer.page is not None:
                files += _files(Source("index", redact(index)), answer.page, project)
                break
        work = partial(_releases, project, files, interpreter, no_binary, only_binary, no_build)
        if sum(len(some) for _, some in files) > _MANY_FILES:
            return await asyncio.to_thread(work)
        return work()

    async def _find_links(
        self,
        location: str,
        project: str,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode,
        since: float,
    ) -> ProjectPage | None:
        path = local_path(location)
        if path is not None:
            return await self._flat.files(path, project)
        answer = await self._client.flat_page(
            location, options=options, reporter=reporter, mode=mode, at_least=since
        )
        return answer.page


def _files(source: Source, page: ProjectPage | None, project: str) -> list[tuple[Source, Sequence[PageFile]]]:
    return [] if page is None else [(source, page.files_of(project, lambda _: True))]


def _releases(
    project: str,
    files: Sequence[tuple[Source, Sequence[PageFile]]],
    interpreter: Interpreter,
    no_binary: frozenset[str],
    only_binary: frozenset[str],
    no_build: bool,
) -> tuple[Release, ...]:
    by_version: dict[Version, list[tuple[Source, list[PageFile]]]] = defaultdict(list)
    for source, some in files:
        groups: dict[Version, list[PageFile]] = defaultdict(list)
        for file in some:
            pieces = cut_filename(file.filename)
            version = parse_version(pieces.version) if pieces is not None else None
            if pieces is not None and version is not None and normalize(pieces.project) == project:
                groups[version].append(file)
        for version, group in groups.items():
            by_version[version].append((source, group))
    found = []
    for version, offered in sorted(by_version.items(), reverse=True):
        wanted = Wanted(project, str(version))
        choice = choose(
            wanted,
            offered,
            interpreter,
            no_binary=no_binary,
            only_binary=only_binary,
            no_build=no_build,
        )
        if choice.candidates:
            yanked = all(one.yanked is not None for one in choice.candidates)
            found.append(Release(version, choice.candidates, yanked))
    return tuple(found)
