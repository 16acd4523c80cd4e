"""Housekeeping: leases, sizes, listing, verifying and removing; the part of `Store` that keeps order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from pkgc_daemon.store import repositories, upkeep
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import Tree

if TYPE_CHECKING:
    from pkgc_daemon.store.store import Store


class Housekeeping:
    """See the module; mixed into `Store`."""

    layout: Layout
    catalog: Catalog
    _leases: Counter[str]
    _building: dict[str, asyncio.Task[Tree]]

    @property
    def _store(self) -> Store:
        return cast("Store", self)

    # -- leases ----------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, sha256s: Iterable[str]) -> Iterator[None]:
        """Keep artifacts and trees of these digests from removal while the block runs."""
        held = tuple(sha256s)
        now = time.time()
        self._leases.update(held)
        for sha256 in held:
            for row in (self.catalog.artifacts.get(sha256), self.catalog.trees.get(sha256)):
                if row is not None:
                    row.used = now
        try:
            yield
        finally:
            self._leases.subtract(held)
            for sha256 in held:
                if self._leases[sha256] <= 0:
                    del self._leases[sha256]

    def is_leased(self, sha256: str) -> bool:
        """Whether some sync is using this digest now (or unpacking it)."""
        return sha256 in self._leases or sha256 in self._building

    # -- upkeep ----------------------------------------------------------------------------------------

    async def size(self) -> dict[str, dict[str, int]]:
        """``{kind: {"files", "bytes"}}``, the kinds being the store's parts and "total"."""
        rows, tree_rows = self.catalog.artifacts.values(), self.catalog.trees.values()
        sizes = {
            "artifacts": {"files": len(rows), "bytes": sum(row.size for row in rows)},
            "trees": {
                "files": sum(row.files for row in tree_rows),
                "bytes": sum(row.size for row in tree_rows),
            },
            "pages": await asyncio.to_thread(upkeep.folder_size, self.layout.pages),
            "git": await asyncio.to_thread(repositories.size, self.layout),
            "ready": {key: self._store.ready.size()[key] for key in ("files", "bytes")},
            "bytecode": await self._store.bytecode.size(),
            "incoming": await asyncio.to_thread(upkeep.folder_size, self.layout.incoming),
        }
        sizes["total"] = {key: sum(one[key] for one in sizes.values()) for key in ("files", "bytes")}
        return sizes

    async def listing(self) -> list[dict[str, Any]]:
        """See `upkeep.listing`."""
        return upkeep.listing(self._store)

    async def verify(self, fix: bool, progress: upkeep.Progress | None = None) -> dict[str, Any]:
        """See `upkeep.verify`."""
        return await upkeep.verify(self._store, fix=fix, progress=progress)

    async def clean(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """See `upkeep.clean`."""
        return await upkeep.clean(self._store, names)

    async def shrink(self, limit: int) -> dict[str, Any]:
        """See `upkeep.shrink`."""
        return await upkeep.shrink(self._store, limit)
