"""Obtaining: from a Wanted to a Tree in the store, by the shortest way that the rules allow.

Order of the ways (invariant 2; design.md 8, 'Offline choice'): a hashed pin that the store can decide
alone costs no request; else the index's page names the candidates; a candidate whose bytes are in the
store already is not fetched; else it is fetched, and a candidate that turns out to have another hash is
followed by the next.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from functools import partial

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.directurls import DirectUrls
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.fetching.verdicts import of_lock
from pkgc_daemon.installing.reasons import TELLING, Served
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.candidates import Choice, StoredChoice, offline_choice, python_allowed, source_urls
from pkgc_daemon.selection.choose import Selector
from pkgc_daemon.selection.listed import listed_choice, nothing_listed
from pkgc_daemon.store.digests import learn
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import (
    STRONG_ALGORITHMS,
    Artifact,
    Candidate,
    Digest,
    FilesSource,
    Interpreter,
    Origin,
    Tree,
    Wanted,
)

from .asking import Asking, CameFrom, Obtained
from .attempts import (
    MAX_FETCHED,
    NEXT_SOURCE,
    NOT_SERVED,
    OTHER_BYTES,
    UNFIT,
    Attempts,
    failure,
    placed,
)
from .buildable import Buildable, Built
from .builds import Builder
from .elsewhere import check_url
from .preparing import Copies


def is_source_archive(filename: str) -> bool:
    """Whether a file is no wheel, and has to be built."""
    return not filename.lower().endswith(".whl")


def decisive(digests: frozenset[Digest]) -> frozenset[Digest]:
    """The digests that tell what bytes they are of; others can be had for other bytes too."""
    return frozenset(one for one in digests if one.algorithm in TELLING)


def _same_file(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates are one file in two places: by name, or by a digest that tells."""
    return one.filename == other.filename or any(
        digest.algorithm in STRONG_ALGORITHMS for digest in one.hashes & other.hashes
    )


def sdist_source(sha256: str, filename: str, origin: Origin, path: str = "") -> Buildable:
    """A source archive as the builder takes it; without a path only what was built before can be had."""
    return Buildable("archive", f"sha256:{sha256}", filename, path, filename, origin=origin)


async def built_tree(store: Store, built: Built) -> Tree:
    """The Tree of a built wheel, whose file may have been evicted."""
    tree = await store.load_tree(built.artifact.sha256)
    return tree or await store.ensure_tree(built.artifact, built.filename)


def check_python(tree: Tree, interpreter: Interpreter) -> None:
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


class Obtainer:
    """Obtains Trees; shared by all calls (what is in flight for one serves the others).

    Args:
        store: what is there already.
        selector: candidates by index pages.
        fetcher: verified bytes.
        direct_urls: bytes of which nothing is known but their URL.
        builder: wheels of source archives.
    """

    def __init__(
        self, store: Store, selector: Selector, fetcher: Fetcher, direct_urls: DirectUrls, builder: Builder
    ) -> None:
        self._store = store
        self._selector = selector
        self._fetcher = fetcher
        self._direct_urls = direct_urls
        self._builder = builder

    async def expected(
        self, wanted: Wanted, asking: Asking, reporter: Reporter, *, ask: bool
    ) -> tuple[Origin | None, CameFrom]:
        """Where `obtain` would take `wanted` from, as far as that shows: nothing is downloaded.

        Args:
            ask: ask an index where the store alone does not decide; else the answer is the network then.

        Raises:
            PkgcError: no candidate.
        """
        stored = await self._stored(wanted, asking)
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
        held = await self._held(wanted, first)
        if held is None:
            return first.origin, "network"
        origin = first.origin
        if wanted.source is not None:
            origin = self._store.origin_for(held.sha256, origin)
        return origin, "build" if first.is_sdist else "store"

    async def held_tree(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Tree | None:
        """What `obtain` would give for `wanted`, when the store holds it unpacked; nothing is downloaded.

        Raises:
            PkgcError: no candidate.
        """
        stored = await self._stored(wanted, asking)
        if stored.use is not None:
            sha256 = self._store.sha256_of(stored.use)
        else:
            choice = await self._choice(wanted, asking, reporter)
            first = choice.candidates[0] if choice.candidates else None
            held = await self._held(wanted, first) if first is not None and not first.is_sdist else None
            sha256 = held.sha256 if held is not None else None
        return await self._store.load_tree(sha256) if sha256 else None

    async def _stored(self, wanted: Wanted, asking: Asking) -> StoredChoice:
        """What the store alone can say, whatever algorithm the lock uses."""
        await self._store.settle(wanted.hashes)
        await learn(self._store, wanted)
        return self._stored_choice(wanted, asking)

    def _has(self, digest: Digest) -> bool:
        """Whether the store can serve this digest: by the original file, or by the tree alone."""
        sha256 = self._store.sha256_of(digest)
        return sha256 is not None and (
            self._store.artifact(sha256) is not None or self._store.has_tree(sha256)
        )

    def _stored_choice(self, wanted: Wanted, asking: Asking) -> StoredChoice:
        if wanted.source is not None:  # the lock itself names the files
            return StoredChoice(None, None, "")
        return offline_choice(
            wanted,
            asking.interpreter,
            partial(self._store.known_filename, sources=source_urls(asking.options, wanted.name)),
            self._has,
            no_binary=asking.given.no_binary,
            only_binary=asking.given.only_binary,
            no_build=asking.no_build,
        )

    async def _choice(
        self, wanted: Wanted, asking: Asking, reporter: Reporter, *, everywhere: bool = False
    ) -> Choice:
        if isinstance(wanted.source, FilesSource):
            return self._listed(wanted, asking)
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
                no_build=asking.no_build,
                everywhere=everywhere,
            )
        except PkgcError as error:
            raise placed(error, wanted) from error

    @staticmethod
    def _listed(wanted: Wanted, asking: Asking) -> Choice:
        choice = listed_choice(
            wanted,
            asking.interpreter,
            no_binary=asking.given.no_binary,
            only_binary=asking.given.only_binary,
            no_build=asking.no_build,
        )
        if not choice.candidates:
            raise placed(nothing_listed(wanted, choice, asking.interpreter), wanted)
        return choice

    async def obtain(
        self, wanted: Wanted, asking: Asking, reporter: Reporter, copies: Copies | None = None
    ) -> Obtained:
        """The Tree of `wanted`.

        Args:
            copies: what is unpacked for this call is laid out for it, too.

        Raises:
            PkgcError: no candidate, none with an allowed hash, or it could not be had.
        """
        stored = await self._stored(wanted, asking)
        unfit: PkgcError | None = None
        if stored.use is not None:
            try:
                obtained = await self._from_store(wanted, stored.use, stored.filename, asking, reporter)
            except PkgcError as error:
                if error.code != "no-matching-wheel":
                    raise
                unfit = error  # the lock may allow another file, which the page names
                obtained = None
            if obtained is not None:
                return replace(obtained, right_until=0.0 if obtained.built else math.inf)
        try:
            choice = await self._choice(wanted, asking, reporter)
        except PkgcError as error:
            if unfit is not None and error.code not in NOT_SERVED:
                raise placed(unfit, wanted) from error
            if stored.fallback is not None and unfit is None:
                obtained = await self._from_store(wanted, stored.fallback, stored.filename, asking, reporter)
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
        obtained = await self._try_candidates(wanted, choice, asking, reporter, copies)
        first = choice.candidates[0]
        plain = obtained.came_from == "store" and not obtained.built and wanted.source is None
        if (
            plain
            and unfit is None
            and first.yanked is None
            and obtained.tree.sha256 in {one.hex for one in first.hashes if one.algorithm == "sha256"}
        ):
            return replace(obtained, right_until=choice.fresh_until, decided_at=choice.generation)
        return obtained

    async def _from_store(
        self, wanted: Wanted, digest: Digest, filename: str, asking: Asking, reporter: Reporter
    ) -> Obtained | None:
        sha256 = self._store.sha256_of(digest)
        if sha256 is None:
            return None
        artifact = self._store.artifact(sha256)
        if is_source_archive(filename):
            origin = self._origin(sha256)
            if origin is None:
                return None
            if artifact is None:  # evicted: perhaps what was built of it is still there
                return await self._built_before(wanted, sha256, filename, origin, asking)
            return await self._built(wanted, artifact, filename, origin, asking)
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
        check_python(tree, asking.interpreter)
        return Obtained(wanted, tree, self._origin(sha256), "store", self._store.digests(sha256))

    def _origin(self, sha256: str) -> Origin | None:
        origins = self._store.origins(sha256)
        return origins[0][0] if origins else None

    async def digests_now(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> frozenset[Digest]:
        """The digests of what would be installed for `wanted` if its lock named none (H9).

        Raises:
            PkgcError: nothing could be had.
        """
        choice = await self._choice(wanted, asking, reporter)
        first = choice.candidates[0]
        artifact = await self._known(wanted, first, asking, reporter)
        if artifact is None:
            artifact, _ = await self._current(first, asking, reporter)
        return artifact.digests

    async def served(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> Served:
        """What the index that serves an unhashed pin has for it now.

        Raises:
            PkgcError: of `NOT_SERVED`: the index does not have it; others: it cannot be asked.
        """
        asking = replace(asking, no_build=False)  # what is installed already needs no build
        choice = await self._choice(wanted, asking, reporter)
        advertised = choice.advertised
        if wanted.source is not None:  # a lock chooses one file; what it says of the others tells nothing
            advertised = choice.candidates[0].hashes
        if not decisive(advertised) and choice.candidates:
            # The index says nothing of the bytes: only they can tell whether they are the same.
            first = choice.candidates[0]
            advertised |= (await self._current(first, asking, reporter))[0].digests
        return Served(advertised, frozenset(candidate.origin for candidate in choice.candidates))

    async def _try_candidates(
        self, wanted: Wanted, choice: Choice, asking: Asking, reporter: Reporter, copies: Copies | None
    ) -> Obtained:
        """The first candidate that can be had and is right.

        A file of other bytes is only tried when the one before it is known to be wrong. After a failure of
        the source the same file may come from elsewhere; another file would be a silent change of what is
        installed, decided by the network (pip and uv fail too).
        """
        attempts = Attempts()
        waiting = deque(choice.candidates)
        seen = {candidate.url for candidate in waiting}
        while waiting:
            candidate = waiting.popleft()
            if attempts.fetched >= MAX_FETCHED:
                attempts.lines.append(f"and {len(waiting) + 1} more files that were not tried")
                break
            try:
                return await self._try(wanted, candidate, asking, attempts, reporter, copies)
            except PkgcError as error:
                attempts.add(candidate, error)
                reporter.detail(f"{candidate.filename}: {error.message}")
                if error.code in NEXT_SOURCE:
                    if not attempts.everywhere:
                        attempts.everywhere = True
                        more = await self._elsewhere(wanted, asking, reporter)
                        waiting.extend(one for one in more if one.url not in seen)
                    waiting = deque(one for one in waiting if _same_file(one, candidate))
                elif error.code in OTHER_BYTES and not wanted.hashes:
                    break
                elif error.code not in OTHER_BYTES | UNFIT:
                    raise placed(error, wanted) from error
        raise failure(wanted, attempts, choice)

    async def _try(
        self,
        wanted: Wanted,
        candidate: Candidate,
        asking: Asking,
        attempts: Attempts,
        reporter: Reporter,
        copies: Copies | None,
    ) -> Obtained:
        artifact = await self._known(wanted, candidate, asking, reporter)
        came_from: CameFrom = "store"
        origin = candidate.origin
        if artifact is not None and wanted.source is not None:
            # The lock alone names that place, and nobody was asked there; an index whose page was read is
            # another matter: it decided, and vouches for these bytes.
            origin = self._store.origin_for(artifact.sha256, origin)
        if artifact is None and candidate.is_sdist:
            before = await self._evicted_source(wanted, candidate, asking)
            if before is not None:
                return before
        if artifact is None and not wanted.hashes and not decisive(candidate.hashes):
            artifact, came_from = await self._current(candidate, asking, reporter)
            attempts.fetched += came_from == "network"
        elif artifact is None:
            if asking.context is not None:
                check_url(asking.context.world, candidate.url)
            if asking.mode == "offline" and not candidate.url.startswith("file:"):
                raise PkgcError("not-in-cache", f"{candidate.filename} is not in the cache (--offline)")
            attempts.fetched += 1
            artifact = await self._fetch(wanted, candidate, asking, reporter)
            await self._store.remember_digests(artifact)
            came_from = "network"
        if candidate.is_sdist:
            obtained = await self._built(wanted, artifact, candidate.filename, origin, asking)
        else:
            laying = copies.laying(artifact, origin) if copies is not None else None
            tree = await self._store.ensure_tree(artifact, candidate.filename, laying)
            obtained = Obtained(wanted, tree, origin, came_from, artifact.digests)
        if came_from == "network":
            await self._store.record_origin(artifact.sha256, candidate.origin, candidate.filename)
        check_python(obtained.tree, asking.interpreter)
        if candidate.yanked is not None:
            reason = f": {candidate.yanked}" if candidate.yanked else ""
            reporter.warning(f"{wanted} was yanked by its index{reason}", "yanked")
        if any(line.code == "not-in-cache" for line in attempts.errors):
            reporter.warning(
                f"{wanted}: using {candidate.filename} from the cache, although {attempts.first} fits better "
                "(it is not in the cache; --offline)",
                "unverified-choice",
            )
        return obtained

    async def _built(
        self, wanted: Wanted, artifact: Artifact, filename: str, origin: Origin, asking: Asking
    ) -> Obtained:
        """The wheel of a source archive that an index (or a lock) names."""
        source = sdist_source(artifact.sha256, filename, origin, str(artifact.path))
        settings = asking.settings_for(wanted)
        with self._store.lease([artifact.sha256]):
            built = await self._builder.wheel(source, asking, settings, wanted)
        tree = await built_tree(self._store, built)
        came_from: CameFrom = "store" if built.from_cache else "build"
        return Obtained(wanted, tree, origin, came_from, artifact.digests, built=True, settings=settings)

    async def _built_before(
        self, wanted: Wanted, sha256: str, filename: str, origin: Origin, asking: Asking
    ) -> Obtained | None:
        """The wheel that was built of a source archive which the store does not have any more."""
        settings = asking.settings_for(wanted)
        source = sdist_source(sha256, filename, origin)
        built = await self._builder.known(source, asking, settings, wanted)
        if built is None:
            return None
        tree = await built_tree(self._store, built)
        digests = self._store.digests(sha256) | {Digest("sha256", sha256)}
        return Obtained(wanted, tree, origin, "store", digests, built=True, settings=settings)

    async def _current(
        self, candidate: Candidate, asking: Asking, reporter: Reporter
    ) -> tuple[Artifact, CameFrom]:
        """What a file of unknown content is now, fetched only if it changed."""
        current = await self._direct_urls.current(
            candidate.url,
            integrity=candidate.hashes,
            size=candidate.size if candidate.exact_size else None,
            filename=candidate.filename,
            options=asking.options,
            reporter=reporter,
            mode=asking.mode_for_url(candidate.name),
            since=asking.asked_at or None,
        )
        return current.artifact, current.came_from

    async def _elsewhere(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> tuple[Candidate, ...]:
        """Candidates of every index, after a source failed; only bytes that the lock names may come so."""
        options = asking.options
        if not wanted.hashes or len(options.indexes) < 2 or wanted.name in options.pins:
            return ()
        try:
            choice = await self._choice(wanted, asking, reporter, everywhere=True)
        except PkgcError as error:
            reporter.detail(f"{wanted}: no other index could be asked: {error.message}")
            return ()
        return choice.candidates

    async def _held(self, wanted: Wanted, candidate: Candidate) -> Artifact | None:
        """The candidate's bytes, when the store has them: told by a digest that the index advertises.

        Only a strong digest tells: bytes with another file's md5 can be made, and cached, by anybody. Of a
        wheel the tree is enough: its file is evicted first.
        """
        for digest in decisive(candidate.hashes):
            sha256 = self._store.sha256_of(digest)
            if sha256 is None:
                continue
            artifact = self._store.artifact(sha256)
            if artifact is None and not candidate.is_sdist:
                artifact = await self._store.held(sha256)
            if artifact is not None and (not wanted.hashes or wanted.hashes & artifact.digests):
                return artifact
        return None

    async def _known(
        self, wanted: Wanted, candidate: Candidate, asking: Asking, reporter: Reporter
    ) -> Artifact | None:
        """As `_held`, and bytes that the store has under other digests than those that are asked for now.

        What a lock says of a file must all be true (P2), its size too.
        """
        if isinstance(wanted.source, FilesSource):
            return await self._direct_urls.stored(
                candidate.url,
                integrity=candidate.hashes,
                size=candidate.size if candidate.exact_size else None,
                filename=candidate.filename,
                options=asking.options,
                reporter=reporter,
            )
        await self._store.settle(candidate.hashes | wanted.hashes)
        held = await self._held(wanted, candidate)
        if held is not None:
            return held
        asked = decisive(candidate.hashes) or wanted.hashes
        if not asked or any(one.algorithm == "sha256" for one in asked):
            return None
        return await self._store.find_by_any(asked, candidate.filename)

    async def _evicted_source(self, wanted: Wanted, candidate: Candidate, asking: Asking) -> Obtained | None:
        """What was built of a source archive that the store does not have any more, but knows."""
        for digest in decisive(candidate.hashes):
            sha256 = self._store.sha256_of(digest)
            if sha256 is None:
                continue
            digests = self._store.digests(sha256)
            if candidate.hashes <= digests and (not wanted.hashes or wanted.hashes & digests):
                origin = self._store.origin_for(sha256, candidate.origin)
                return await self._built_before(wanted, sha256, candidate.filename, origin, asking)
        return None

    async def _fetch(
        self, wanted: Wanted, candidate: Candidate, asking: Asking, reporter: Reporter
    ) -> Artifact:
        sha256 = next((one.hex for one in candidate.hashes if one.algorithm == "sha256"), None)
        try:
            with self._store.offered(sha256, candidate.origin, candidate.filename):
                return await self._fetcher.fetch(
                    candidate.url,
                    allowed=wanted.hashes,
                    advertised=candidate.hashes,
                    size=candidate.size,
                    exact_size=candidate.exact_size,
                    filename=candidate.filename,
                    options=asking.options,
                    reporter=reporter,
                )
        except PkgcError as error:
            if error.code != "advertised-hash-mismatch" or wanted.source is None:
                raise
            raise of_lock(error, candidate.url) from error
