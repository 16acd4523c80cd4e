"""What the store remembers besides bytes: index pages, file names of digests, origins, interpreters, URLs,
builds and requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgpack

from pkgc_daemon.fetching.urlmemory import UrlState
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.ports import CachedPage
from pkgc_daemon.store import pages
from pkgc_daemon.store.artifacts import amend_sidecar
from pkgc_daemon.store.catalog import Catalog, is_bare
from pkgc_daemon.store.facts import BuildRow, Request
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import Digest, Origin


class Records:
    """The part of `Store` that keeps facts.

    Implements `selection.ports.PageStore` and `KnownFiles`, and much of `fetching.urlmemory.UrlMemory`.
    """

    layout: Layout
    catalog: Catalog
    _to_be_built: dict[str, Origin]
    _page_names: set[str]
    """Of the files of saved pages; one that is gone costs a look."""

    async def load_page(self, key: str) -> CachedPage | None:
        """See `selection.ports.PageStore`."""
        # Memory tells what is not there: a first sync asks for a hundred pages, and threads cost more.
        if self.layout.page(key).name not in self._page_names:
            return None
        return await asyncio.to_thread(pages.load, self.layout, key)

    async def save_page(self, page: CachedPage) -> None:
        """See `selection.ports.PageStore`."""
        self._page_names.add(self.layout.page(page.key).name)
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

        def order(item: tuple[Origin, str]) -> tuple[bool, bool, str, str, str]:
            origin, filename = item
            return is_bare(origin), origin.index is None, origin.kind, origin.url, filename

        return tuple(sorted(known, key=order))

    def sha256_of(self, digest: Digest) -> str | None:
        """The sha256 of the bytes that have this digest, if that was ever verified (H11); as `Store.find`."""
        sha256 = self._sha256_of(digest)
        return None if sha256 is None or self.only_built(sha256) else sha256

    def _sha256_of(self, digest: Digest) -> str | None:
        return digest.hex if digest.algorithm == "sha256" else self.catalog.aliases.get(digest)

    def digests(self, sha256: str) -> frozenset[Digest]:
        """Every digest that was verified for the bytes with this one."""
        return frozenset({Digest("sha256", sha256), *self.catalog.digests.get(sha256, ())})

    def origin_for(self, sha256: str, offered: Origin) -> Origin:
        """Where stored bytes came from, for a record of who was given them without asking anybody.

        Args:
            sha256: of the bytes.
            offered: where they could have been had now; the answer if they did come from there, or if
                nobody knows better.
        """
        known = [origin for origin, _ in self.origins(sha256)]
        there = [origin for origin in known if origin.url == offered.url]
        if offered in known or not known:
            return offered
        if there:
            return next((origin for origin in there if origin.index is not None), offered)
        return known[0]

    @contextmanager
    def built_of(self, url: str, source: Origin) -> Iterator[None]:
        """What is published from `url` while the block runs was built here, of `source`."""
        url = redact(url)
        self._to_be_built[url] = source
        try:
            yield
        finally:
            del self._to_be_built[url]

    def sources(self, sha256: str) -> tuple[Origin, ...]:
        """What a wheel was built of here; empty: it was not."""
        return tuple(origin for origin, _ in self.catalog.sources.get(sha256, ()))

    def only_built(self, sha256: str) -> bool:
        """Whether these bytes were made here, and nobody ever offered them: they are no file of any index."""
        return sha256 in self.catalog.sources and not self.catalog.origins.get(sha256)

    def when_fetched(self, sha256: str) -> float | None:
        """Unix seconds at which these bytes came into the store (or were built); None: they are not there."""
        rows = (self.catalog.artifacts.get(sha256), self.catalog.trees.get(sha256))
        return min((row.added for row in rows if row is not None), default=None)

    # -- direct references, builds, requests -----------------------------------------------------------

    async def url_state(self, key: str) -> UrlState | None:
        """See `fetching.urlmemory.UrlMemory`."""
        return await self.catalog.facts.url(key)

    async def remember_url(self, key: str, state: UrlState) -> None:
        """See `fetching.urlmemory.UrlMemory`."""
        self.catalog.facts.put_url(key, state)

    async def build_of(self, sha256: str) -> BuildRow | None:
        """What is known of how a wheel was built here; None: it was not."""
        return await self.catalog.facts.build_of(sha256)

    async def built(self, key: str) -> BuildRow | None:
        """The wheel that was built under `key`, if the store still has it (its file or its tree)."""
        found = await self.catalog.facts.build(key)
        if found is None:
            return None
        if found.sha256 not in self.catalog.artifacts and found.sha256 not in self.catalog.trees:
            self.catalog.facts.drop_build(key)
            return None
        return found

    async def remember_build(self, key: str, sha256: str, filename: str, note: dict[str, Any]) -> None:
        """Keep under `key` what was built.

        Args:
            key: everything that made the wheel what it is.
            sha256: of the wheel, which the store has.
            filename: its file name.
            note: what its builder wants to read again; JSON can hold it.
        """
        self.catalog.facts.put_build(key, BuildRow(sha256, filename, note))

    async def requests(self, venv: str) -> Mapping[str, Request]:
        """Who asked for what is in the environment at the path `venv`, by normalized name; maybe empty."""
        return await self.catalog.facts.requests(venv)

    async def remember_requests(self, venv: str, requests: Mapping[str, Request]) -> None:
        """Keep these in place of all earlier ones of `venv`; nothing happens if only times (`at`) differ."""
        await self.catalog.facts.put_requests(venv, requests)
