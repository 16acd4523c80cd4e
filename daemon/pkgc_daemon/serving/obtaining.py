"""Obtaining: from a Wanted to a Tree in the store, by the shortest way that the rules allow.

Order of the ways (invariant 2; design.md 8, 'Offline choice'): a hashed pin that the store can decide
alone costs no request; else the index's page names the candidates; a candidate whose bytes are in the
store already is not fetched; else it is fetched, and a candidate that turns out to have another hash is
followed by the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.candidates import Choice, StoredChoice, offline_choice
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

#: Errors of one candidate after which the next one is tried.
_NEXT_CANDIDATE = frozenset({"hash-mismatch", "advertised-hash-mismatch", "size-mismatch"})
#: Errors after which a file of the same digest from another index is tried.
_NEXT_SOURCE = frozenset(
    {"download-failed", "http-status", "stalled", "connection-refused", "dns-failure", "index-error"}
)


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
    last: PkgcError | None = None

    def add(self, candidate: Candidate, error: PkgcError) -> None:
        where = redact(candidate.origin.index or candidate.url)
        detail = (error.context or error.message).replace("\n", "\n    ")
        self.lines.append(f"{candidate.filename} from {where}:\n    {detail}")
        self.last = error


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

    async def candidate(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Origin | None:
        """Where `wanted` would come from, for a dry run: nothing is downloaded.

        Raises:
            PkgcError: no candidate.
        """
        await self._store.settle(wanted.hashes)
        stored = self._stored_choice(wanted, asking)
        if stored.use is not None:
            artifact = self._store.find(stored.use)
            return self._origin(artifact.sha256 if artifact is not None else stored.use.hex)
        choice = await self._choice(wanted, asking, reporter)
        return choice.candidates[0].origin if choice.candidates else None

    def _has(self, digest: Digest) -> bool:
        """Whether the store can serve this digest: by the original file, or by the tree alone."""
        return self._store.find(digest) is not None or (
            digest.algorithm == "sha256" and self._store.has_tree(digest.hex)
        )

    def _stored_choice(self, wanted: Wanted, asking: Asking) -> StoredChoice:
        return offline_choice(
            wanted,
            asking.interpreter,
            self._store.known_filename,
            self._has,
            no_binary=asking.given.no_binary,
            only_binary=asking.given.only_binary,
        )

    async def _choice(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Choice:
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
        if stored.use is not None:
            obtained = await self._from_store(wanted, stored.use, stored.filename)
            if obtained is not None:
                return obtained
        try:
            choice = await self._choice(wanted, asking, reporter)
        except PkgcError as error:
            if stored.fallback is not None:
                obtained = await self._from_store(wanted, stored.fallback, stored.filename)
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

    async def _from_store(self, wanted: Wanted, digest: Digest, filename: str) -> Obtained | None:
        artifact = self._store.find(digest)
        if artifact is None:
            tree = await self._store.load_tree(digest.hex) if digest.algorithm == "sha256" else None
            if tree is None:
                return None
            return Obtained(wanted, tree, self._origin(tree.sha256), "store", frozenset({digest}))
        try:
            tree = await self._store.ensure_tree(artifact, filename)
        except PkgcError as error:
            if error.code == "artifact-damaged":  # put away: it is fetched again
                return None
            raise
        return Obtained(wanted, tree, self._origin(artifact.sha256), "store", artifact.digests)

    def _origin(self, sha256: str) -> Origin | None:
        origins = self._store.origins(sha256)
        return origins[0][0] if origins else None

    async def advertised(
        self, wanted: Wanted, asking: Asking, reporter: Reporter
    ) -> frozenset[Digest] | None:
        """The digests that the serving index advertises now for an unhashed pin; None: it gives none.

        Raises:
            PkgcError: the index cannot be asked, or does not have it.
        """
        choice = await self._choice(wanted, asking, reporter)
        return choice.advertised or None

    async def _try_candidates(
        self, wanted: Wanted, choice: Choice, asking: Asking, reporter: Reporter
    ) -> Obtained:
        attempts = _Attempts()
        for candidate in choice.candidates:
            await self._store.settle(candidate.hashes)
            artifact = self._held(wanted, candidate)
            came_from: CameFrom = "store"
            if artifact is None:
                if asking.mode == "offline" and not candidate.url.startswith("file:"):
                    attempts.add(
                        candidate,
                        PkgcError("not-in-cache", f"{candidate.filename} is not in the cache (--offline)"),
                    )
                    continue
                try:
                    artifact = await self._fetch(wanted, candidate, asking, reporter)
                except PkgcError as error:
                    if error.code not in _NEXT_CANDIDATE | _NEXT_SOURCE:
                        raise
                    reporter.detail(f"{candidate.filename}: {error.message}")
                    attempts.add(candidate, error)
                    continue
                came_from = "network"
            try:
                tree = await self._store.ensure_tree(artifact, candidate.filename)
            except PkgcError as error:
                raise placed(error, wanted) from error
            if came_from == "network":
                await self._store.record_origin(artifact.sha256, candidate.origin, candidate.filename)
            if candidate.yanked is not None:
                reason = f": {candidate.yanked}" if candidate.yanked else ""
                reporter.warning(f"{wanted} was yanked by its index{reason}", "yanked")
            return Obtained(wanted, tree, candidate.origin, came_from, artifact.digests)
        raise self._failure(wanted, attempts, choice)

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
        last = attempts.last
        assert last is not None
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
        if last.code in _NEXT_CANDIDATE:
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
