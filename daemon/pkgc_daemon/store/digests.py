"""Digests: bytes that are stored under their sha256, found by a digest of another algorithm that nobody has
computed yet (H11; peers.md T9b).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from pkgc_daemon.fetching.urlmemory import TELLING
from pkgc_daemon.selection.filenames import Pin, cut_filename
from pkgc_daemon.store import artifacts
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.rows import ArtifactRow
from pkgc_daemon.vocabulary import Artifact, Digest, Wanted

#: Artifacts of one file name that are hashed for one question.
_LOOKED_AT = 8


class _Store(Protocol):
    layout: Layout
    catalog: Catalog

    async def settle(self, digests: Iterable[Digest]) -> None: ...
    async def obtain_artifact(self, sha256: str) -> Artifact | None: ...
    async def remember_digests(self, artifact: Artifact) -> None: ...
    async def damaged_artifact(self, sha256: str) -> None: ...
    def find(self, digest: Digest) -> Artifact | None: ...
    def only_built(self, sha256: str) -> bool: ...
    def digests(self, sha256: str) -> frozenset[Digest]: ...
    async def check_once(self, kind: str, sha256: str, check: Callable[[str], Awaitable[bool]]) -> bool: ...


async def find_by_any(store: _Store, digests: frozenset[Digest], filename: str) -> Artifact | None:
    """See `Store.find_by_any`."""
    asked = sorted(digest for digest in digests if digest.algorithm in TELLING)
    await store.settle(asked)
    for digest in asked:
        if (found := store.find(digest)) is not None:
            return found
    wanted = frozenset(digest.algorithm for digest in asked)
    named = (row for row in store.catalog.named(filename) if not store.only_built(row.sha256))
    rows = [row for row in named if _missing(store, row, wanted)]
    rows.sort(key=lambda row: (-row.size, row.sha256))
    for row in rows[:_LOOKED_AT]:
        artifact = await _computed(store, row, wanted)
        if artifact is not None and artifact.digests & frozenset(asked):
            return artifact
    return None


async def learn(store: _Store, wanted: Wanted) -> None:
    """Compute the digests that a pin asks for, of its files that came into the store by others.

    After it they are decided by the store alone, as if they had come by these digests. A file is hashed once
    for each algorithm; without anything new to compute it costs a few look-ups.
    """
    pin = Pin(wanted)
    for filename in sorted(store.catalog.names_of(wanted.name)) if wanted.hashes else ():
        asked = {one for one in wanted.hashes if one.algorithm in TELLING and one.algorithm != "sha256"}
        asked -= store.catalog.aliases.keys()
        if not asked:
            return
        pieces = cut_filename(filename)
        if pieces is not None and pin.matches(pieces.version):
            await find_by_any(store, frozenset(asked), filename)


def _missing(store: _Store, row: ArtifactRow, wanted: frozenset[str]) -> frozenset[str]:
    return wanted - {digest.algorithm for digest in store.digests(row.sha256)}


async def _computed(store: _Store, row: ArtifactRow, wanted: frozenset[str]) -> Artifact | None:
    """The artifact with its digests in all `wanted` algorithms; None when its bytes are damaged or gone."""
    artifact = await store.obtain_artifact(row.sha256)
    missing = _missing(store, row, wanted)
    if artifact is None or not missing:
        return artifact

    async def compute(sha256: str) -> bool:
        try:
            # sha256 again: an alias must be of the very bytes (invariant 1).
            found = await asyncio.to_thread(artifacts.hash_file, artifact.path, {"sha256", *missing})
        except OSError:
            found = {"sha256": ""}
        if found["sha256"] != sha256:
            await store.damaged_artifact(sha256)
            return False
        known = frozenset(Digest(name, value) for name, value in found.items())
        await store.remember_digests(Artifact(sha256, artifact.size, artifact.path, artifact.digests | known))
        return True

    await store.check_once(f"digests {sorted(missing)}", row.sha256, compute)
    return store.find(Digest("sha256", row.sha256))
