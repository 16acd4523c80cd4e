"""What the store remembers besides bytes: index pages, file names of digests, origins, interpreters."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgpack

from pkgc_daemon.selection.ports import CachedPage
from pkgc_daemon.store import pages
from pkgc_daemon.store.artifacts import amend_sidecar
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import Digest, Manifest, Origin


class ManifestCache:
    """Parsed manifests, least recently used ones dropped.

    Args:
        limit: file entries to keep in all (about 0.4 kB each); the newest manifest always stays.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.entries = 0
        self._kept: OrderedDict[str, Manifest] = OrderedDict()

    def get(self, sha256: str) -> Manifest | None:
        """The manifest, which is now the most recently used one."""
        manifest = self._kept.get(sha256)
        if manifest is not None:
            self._kept.move_to_end(sha256)
        return manifest

    def keep(self, manifest: Manifest) -> None:
        """Add or replace one."""
        self.drop(manifest.sha256)
        self._kept[manifest.sha256] = manifest
        self.entries += len(manifest.files)
        while self.entries > self.limit and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))

    def drop(self, sha256: str) -> None:
        """Forget one, if it is there."""
        manifest = self._kept.pop(sha256, None)
        if manifest is not None:
            self.entries -= len(manifest.files)


class Records:
    """The part of `Store` that keeps facts; implements `selection.ports.PageStore` and `KnownFiles`."""

    layout: Layout
    catalog: Catalog

    async def load_page(self, key: str) -> CachedPage | None:
        """See `selection.ports.PageStore`."""
        return await asyncio.to_thread(pages.load, self.layout, key)

    async def save_page(self, page: CachedPage) -> None:
        """See `selection.ports.PageStore`."""
        await asyncio.to_thread(pages.save, self.layout, page)

    async def drop_page(self, key: str) -> None:
        """See `selection.ports.PageStore`."""
        await asyncio.to_thread(pages.drop, self.layout, key)

    async def touch_page(self, key: str, fresh_until: float) -> None:
        """See `selection.ports.PageStore`."""
        await asyncio.to_thread(pages.touch, self.layout, key, fresh_until)

    def remember_files(self, index: str, project: str, files: Iterable[tuple[Digest, str]]) -> None:
        """See `selection.ports.KnownFiles`."""
        self.catalog.put_files(index, project, files)

    def known_filename(self, digest: Digest, sources: frozenset[str] | None = None) -> str | None:
        """See `selection.ports.KnownFiles`."""
        return self.catalog.known_filename(digest, sources)

    async def recall_interpreter(self, key: str) -> dict[str, Any] | None:
        """What `remember_interpreter` kept under `key`, or None."""
        future = self.catalog.ask(
            lambda connection: connection.execute(
                "SELECT data FROM interpreters WHERE key = ?", (key,)
            ).fetchone()
        )
        row = await asyncio.wrap_future(future)
        if row is None:
            return None
        data = msgpack.unpackb(row[0])
        return data if isinstance(data, dict) else None

    async def remember_interpreter(self, key: str, data: dict[str, Any]) -> None:
        """Keep what a probe told; `data` is msgpack-able."""
        self.catalog.put_interpreter(key, msgpack.packb(data))

    async def record_origin(self, sha256: str, origin: Origin, filename: str) -> None:
        """Remember that these bytes were offered by `origin` as `filename`."""
        if (origin, filename) in self.catalog.origins.get(sha256, ()):
            return
        self.catalog.put_origin(sha256, origin, filename)
        await asyncio.to_thread(amend_sidecar, self.layout, sha256, origin=(origin, filename))

    def origins(self, sha256: str) -> tuple[tuple[Origin, str], ...]:
        """Every (origin, file name) under which these bytes were offered; from memory.

        What only the download told (its URL, without an index) comes last.
        """
        known = self.catalog.origins.get(sha256, ())
        return tuple(
            sorted(known, key=lambda item: (item[0].index is None, item[0].kind, item[0].url, item[1]))
        )
