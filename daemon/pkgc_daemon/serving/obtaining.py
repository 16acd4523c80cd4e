"""Obtaining: from a Wanted to a Tree in the store, by the shortest way that the rules allow.

Order of the ways (invariant 2; design.md 8, 'Offline choice'): a hashed pin that the store can decide
alone costs no request; else the index's page names the candidates; a candidate whose bytes are in the
store already is not fetched; else it is fetched, and a candidate that turns out to have another hash is
followed by the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.installing.plan import Served
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.candidates import Choice, StoredChoice, offline_choice, python_allowed, source_urls
from pkgc_daemon.selection.choose import Selector
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import (
    STRONG_ALGORITHMS,
    Artifact,
    Candidate,
    Digest,
    IndexOptions,
    Interpreter,
    Origin,
    Tree,
    Wanted,
)

Mode = Literal["normal", "refresh", "offline"]
CameFrom = Literal["store", "network"]

#: Errors that say that a file has other bytes than it should.
_OTHER_BYTES = frozenset({"hash-mismatch", "advertised-hash-mismatch", "size-mismatch"})
#: Errors that say that a file is not for this target, or not at hand: the next one may be.
_UNFIT = frozenset({"no-matching-wheel", "not-in-cache"})
#: Errors of a source, after which the same file from another one is tried.
_NEXT_SOURCE = frozenset(
    {
        "bad-response",
        "bad-url",
        "connect-timeout",
        "connection-failed",
        "connection-refused",
        "dns-failure",
        "download-failed",
        "file-not-found",
        "file-unreadable",
        "http-status",
        "index-error",
        "proxy-failure",
        "stalled",
        "tls-certificate",
    }
)
#: Answers of an index that say that it does not have the pin (other errors: it could not be asked).
NOT_SERVED = frozenset({"unknown-package", "no-matching-version", "no-matching-wheel", "no-allowed-hash"})
#: Files that are downloaded for one Wanted before it fails: a page may list any number of wrong ones.
MAX_FETCHED = 20


@dataclass(frozen=True, slots=True)
class Obtained:
    """A Wanted that is ready to be installed."""

    wanted: Wanted
    tree: Tree
    origin: Origin | None
    came_from: CameFrom
    digests: frozenset[Digest] = frozenset()

    def provenance(self) -> dict[str, Any] | None:
        """The map of provenance_url.json (PEP 710), with the index in an object of our own.

        None when nobody knows where the bytes came from (then no record is better than a wrong one).
        """
        if self.origin is None:
            return None
        hashes = {digest.algorithm: digest.hex for digest in sorted(self.digests)}
        record: dict[str, Any] = {
            "url": redact(self.origin.url),
            "archive_info": {"hashes": hashes | {"sha256": self.tree.sha256}},
        }
        if self.origin.index is not None:
            record["pkgc"] = {"index": redact(self.origin.index), "kind": self.origin.kind}
        return record


@dataclass(frozen=True, slots=True)
class Asking:
    """What is the same for every Wanted of one call."""

    interpreter: Interpreter
    options: IndexOptions
    given: RequirementsInput
    mode: Mode
    refresh_packages: frozenset[str] = frozenset()
    asked_at: float = 0.0
    """When the call began (Unix seconds): index pages that were asked for since then are recent enough."""

    def mode_for(self, name: str) -> Mode:
        """`refresh` for a project named by --refresh-package."""
        return "refresh" if self.mode == "normal" and name in self.refresh_packages else self.mode


@dataclass(slots=True)
class _Attempts:
    """Every candidate that did not work, for the one error at the end."""

    lines: list[str] = field(default_factory=list)
    errors: list[PkgcError] = field(default_factory=list)
    first: str = ""
    """File name of the best candidate."""
    fetched: int = 0
    everywhere: bool = False
    """Every index was asked, because a source failed."""

    def add(self, candidate: Candidate, error: PkgcError) -> None:
        self.first = self.first or candidate.filename
        where = redact(candidate.origin.index or candidate.url)
        detail = (error.context or error.message).replace("\n", "\n    ")
        self.lines.append(f"{candidate.filename} from {where}:\n    {detail}")
        self.errors.append(error)


def _same_file(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates are one file in two places: by name, or by a digest that tells."""
    return one.filename == other.filename or any(
        digest.algorithm in STRONG_ALGORITHMS for digest in one.hashes & other.hashes
    )


def _check_python(tree: Tree, interpreter: Interpreter) -> None:
    """Hold the wheel's own Requires-Python against the target: an index need not tell it.

    Raises:
        PkgcError: ``no-matching-wheel``.
    """
    wants = tree.manifest.requires_python
    if not python_allowed(wants, interpreter.version):
        raise PkgcError(
            "no-matching-wheel",
            f"{tree.manifest.filename} is for Python {wants}, the target is Python {interpreter.version}",
            context=f"expected: Python {wants} (Requires-Python in its METADATA)\n"
            f"found: {interpreter.executable} (Python {interpreter.version})",
            hint="use a Python that it is for (--python), or lock again for this one",
        )


def placed(error: PkgcError, wanted: Wanted) -> PkgcError:
    """The same error, which also says for which requirement: another one, because flights share theirs."""
    if not wanted.place.file or str(wanted.place) in f"{error.message}\n{error.context}":
        return error
    needed = f"needed for: {wanted} ({wanted.place})"
    return PkgcError(
        error.code,
        error.message,
        context=f"{error.context}\n{needed}" if error.context else needed,
        hint=error.hint,
        exit_status=error.exit_status,
    )


class Obtainer:
    """Obtains Trees; shared by all calls (what is in flight for one serves the others).

    Args:
        store: what is there already.
        selector: candidates by index pages.
        fetcher: verified bytes.
    """

    def __init__(self, store: Store, selector: Selector, fetcher: Fetcher) -> None:
        self._store = store
        self._selector = selector
        self._fetcher = fetcher

    async def expected(
        self, wanted: Wanted, asking: Asking, reporter: Reporter, *, ask: bool
    ) -> tuple[Origin | None, CameFrom]:
        """Where `obtain` would take `wanted` from, as far as that shows: nothing is downloaded.

        Args:
            ask: ask an index where the store alone does not decide; else the answer is the network then.

        Raises:
            PkgcError: no candidate.
        """
        await self._store.settle(wanted.hashes)
        stored = self._stored_choice(wanted, asking)
        if stored.use is not None:
            return self._origin(self._store.sha256_of(stored.use) or ""), "store"
        if not ask:
            return None, "network"
        try:
            choice = await self._choice(wanted, asking, reporter)
        except PkgcError:
            if stored.fallback is None:
                raise
            return self._origin(self._store.sha256_of(stored.fallback) or ""), "store"
        if not choice.candidates:
            return None, "network"
        first = choice.candidates[0]
        await self._store.settle(first.hashes)
        return first.origin, "network" if self._held(wanted, first) is None else "store"

    async def held_tree(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Tree | None:
        """What `obtain` would give for `wanted`, when the store holds it unpacked; nothing is downloaded.

        Raises:
            PkgcError: no candidate.
        """
        await self._store.settle(wanted.hashes)
        stored = self._stored_choice(wanted, asking)
        if stored.use is not None:
            sha256 = self._store.sha256_of(stored.use)
        else:
            choice = await self._choice(wanted, asking, reporter)
            held = self._held(wanted, choice.candidates[0]) if choice.candidates else None
            sha256 = held.sha256 if held is not None else None
        return await self._store.load_tree(sha256) if sha256 else None

    def _has(self, digest: Digest) -> bool:
        """Whether the store can serve this digest: by the original file, or by the tree alone."""
        sha256 = self._store.sha256_of(digest)
        return sha256 is not None and (
            self._store.artifact(sha256) is not None or self._store.has_tree(sha256)
        )

    def _stored_choice(self, wanted: Wanted, asking: Asking) -> StoredChoice:
        return offline_choice(
            wanted,
            asking.interpreter,
            partial(self._store.known_filename, sources=source_urls(asking.options)),
            self._has,
            no_binary=asking.given.no_binary,
            only_binary=asking.given.only_binary,
        )

    async def _choice(
        self, wanted: Wanted, asking: Asking, reporter: Reporter, *, everywhere: bool = False
    ) -> Choice:
        try:
            return await self._selector.candidates(
                wanted,
                asking.interpreter,
                asking.options,
                mode=asking.mode_for(wanted.name),
                asked_at=asking.asked_at,
                reporter=reporter,
                no_binary=asking.given.no_binary,
                only_binary=asking.given.only_binary,
                everywhere=everywhere,
            )
        except PkgcError as error:
            raise placed(error, wanted) from error

    async def obtain(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Obtained:
        """The Tree of `wanted`.

        Raises:
            PkgcError: no candidate, none with an allowed hash, or it could not be had.
        """
        await self._store.settle(wanted.hashes)
        stored = self._stored_choice(wanted, asking)
        unfit: PkgcError | None = None
        if stored.use is not None:
            try:
                obtained = await self._from_store(wanted, stored.use, stored.filename, asking)
            except PkgcError as error:
                if error.code != "no-matching-wheel":
                    raise
                unfit = error  # the lock may allow another file, which the page names
                obtained = None
            if obtained is not None:
                return obtained
        try:
            choice = await self._choice(wanted, asking, reporter)
        except PkgcError as error:
            if unfit is not None and error.code not in NOT_SERVED:
                raise placed(unfit, wanted) from error
            if stored.fallback is not None and unfit is None:
                obtained = await self._from_store(wanted, stored.fallback, stored.filename, asking)
                if obtained is not None:
                    why = (
                        "the index was not asked (--offline)"
                        if asking.mode == "offline"
                        else f"the index could not be asked ({error.message})"
                    )
                    reporter.warning(
                        f"{wanted}: {why}; using {stored.filename} from the cache, "
                        "although another file might fit better",
                        "unverified-choice",
                    )
                    return obtained
            raise
        return await self._try_candidates(wanted, choice, asking, reporter)

    async def _from_store(
        self, wanted: Wanted, digest: Digest, filename: str, asking: Asking
    ) -> Obtained | None:
        sha256 = self._store.sha256_of(digest)
        if sha256 is None:
            return None
        artifact = self._store.artifact(sha256)
        tree: Tree | None
        if artifact is None:
            tree = await self._store.load_tree(sha256)
            if tree is None:
                return None
        else:
            try:
                tree = await self._store.ensure_tree(artifact, filename)
            except PkgcError as error:
                if error.code == "artifact-damaged":  # put away: it is fetched again
                    return None
                raise
        _check_python(tree, asking.interpreter)
        return Obtained(wanted, tree, self._origin(sha256), "store", self._store.digests(sha256))

    def _origin(self, sha256: str) -> Origin | None:
        origins = self._store.origins(sha256)
        return origins[0][0] if origins else None

    async def served(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Served:
        """What the index that serves an unhashed pin has for it now.

        Raises:
            PkgcError: of `NOT_SERVED`: the index does not have it; others: it cannot be asked.
        """
        choice = await self._choice(wanted, asking, reporter)
        return Served(choice.advertised, frozenset(candidate.origin for candidate in choice.candidates))

    async def _try_candidates(
        self, wanted: Wanted, choice: Choice, asking: Asking, reporter: Reporter
    ) -> Obtained:
        """The first candidate that can be had and is right.

        A file of other bytes is only tried when the one before it is known to be wrong. After a failure of
        the source the same file may come from elsewhere; another file would be a silent change of what is
        installed, decided by the network (pip and uv fail too).
        """
        attempts = _Attempts()
        waiting = deque(choice.candidates)
        seen = {candidate.url for candidate in waiting}
        while waiting:
            candidate = waiting.popleft()
            if attempts.fetched >= MAX_FETCHED:
                attempts.lines.append(f"and {len(waiting) + 1} more files that were not tried")
                break
            try:
                return await self._try(wanted, candidate, asking, attempts, reporter)
            except PkgcError as error:
                attempts.add(candidate, error)
                reporter.detail(f"{candidate.filename}: {error.message}")
                if error.code in _NEXT_SOURCE:
                    if not attempts.everywhere:
                        attempts.everywhere = True
                        more = await self._elsewhere(wanted, asking, reporter)
                        waiting.extend(one for one in more if one.url not in seen)
                    waiting = deque(one for one in waiting if _same_file(one, candidate))
                elif error.code in _OTHER_BYTES and not wanted.hashes:
                    break
                elif error.code not in _OTHER_BYTES | _UNFIT:
                    raise placed(error, wanted) from error
        raise self._failure(wanted, attempts, choice)

    async def _try(
        self,
        wanted: Wanted,
        candidate: Candidate,
        asking: Asking,
        attempts: _Attempts,
        reporter: Reporter,
    ) -> Obtained:
        await self._store.settle(candidate.hashes)
        artifact = self._held(wanted, candidate)
        came_from: CameFrom = "store"
        if artifact is None:
            if asking.mode == "offline" and not candidate.url.startswith("file:"):
                raise PkgcError("not-in-cache", f"{candidate.filename} is not in the cache (--offline)")
            attempts.fetched += 1
            artifact = await self._fetch(wanted, candidate, asking, reporter)
            await self._store.remember_digests(artifact)
            came_from = "network"
        tree = await self._store.ensure_tree(artifact, candidate.filename)
        if came_from == "network":
            await self._store.record_origin(artifact.sha256, candidate.origin, candidate.filename)
        _check_python(tree, asking.interpreter)
        if candidate.yanked is not None:
            reason = f": {candidate.yanked}" if candidate.yanked else ""
            reporter.warning(f"{wanted} was yanked by its index{reason}", "yanked")
        if any(line.code == "not-in-cache" for line in attempts.errors):
            reporter.warning(
                f"{wanted}: using {candidate.filename} from the cache, although {attempts.first} fits better "
                "(it is not in the cache; --offline)",
                "unverified-choice",
            )
        return Obtained(wanted, tree, candidate.origin, came_from, artifact.digests)

    async def _elsewhere(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> tuple[Candidate, ...]:
        """Candidates of every index, after a source failed; only bytes that the lock names may come so."""
        if not wanted.hashes or len(asking.options.indexes) < 2:
            return ()
        try:
            choice = await self._choice(wanted, asking, reporter, everywhere=True)
        except PkgcError as error:
            reporter.detail(f"{wanted}: no other index could be asked: {error.message}")
            return ()
        return choice.candidates

    def _held(self, wanted: Wanted, candidate: Candidate) -> Artifact | None:
        """The candidate's bytes, when the store has them: told by a digest that the index advertises.

        Only a strong digest tells: bytes with another file's md5 can be made, and cached, by anybody.
        """
        for digest in candidate.hashes:
            if digest.algorithm not in STRONG_ALGORITHMS:
                continue
            artifact = self._store.find(digest)
            if artifact is not None and (not wanted.hashes or wanted.hashes & artifact.digests):
                return artifact
        return None

    async def _fetch(
        self, wanted: Wanted, candidate: Candidate, asking: Asking, reporter: Reporter
    ) -> Artifact:
        return await self._fetcher.fetch(
            candidate.url,
            allowed=wanted.hashes,
            advertised=candidate.hashes,
            size=candidate.size,
            exact_size=False,
            filename=candidate.filename,
            options=asking.options,
            reporter=reporter,
        )

    @staticmethod
    def _failure(wanted: Wanted, attempts: _Attempts, choice: Choice) -> PkgcError:
        last = attempts.errors[-1]
        if len(attempts.lines) == 1 and last.code not in ("hash-mismatch", "not-in-cache"):
            return placed(last, wanted)
        lines = list(attempts.lines)
        for one in choice.rejected:
            if one.kind == "hash":
                lines.append(f"{one.filename} from {redact(one.index)}:\n    not tried: {one.reason}")
                lines += [f"      {digest}" for digest in sorted(one.hashes)]
        if last.code == "not-in-cache":
            return PkgcError(
                "not-in-cache",
                f"{wanted} ({wanted.place}) is not in the cache, and --offline forbids to download it",
                context="\n".join(lines),
                hint="run once without --offline",
            )
        if last.code == "no-matching-wheel":
            return PkgcError(
                "no-matching-wheel",
                f"{wanted} ({wanted.place}): no file that can be had is for this Python",
                context="\n".join(lines),
                hint=last.hint,
            )
        if last.code in _OTHER_BYTES:
            allowed = "\n".join(f"  {digest}" for digest in sorted(wanted.hashes))
            return PkgcError(
                "hash-mismatch" if wanted.hashes else last.code,
                f"{wanted} ({wanted.place}): no file has an allowed hash",
                context="\n".join([*lines, *(["allowed by the lock:", allowed] if allowed else [])]),
                hint="either the lock is out of date or the file was changed: find out before you lock again",
            )
        return PkgcError(
            last.code,
            f"{wanted} ({wanted.place}): no file could be downloaded",
            context="\n".join(lines),
            hint=last.hint,
        )
