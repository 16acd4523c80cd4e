"""Publishing: how a complete, verified file becomes an artifact, and what is noted of it in the same go.

The part of `Store` that takes files in; it fetches and unpacks nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pkgc_daemon.redaction import redact
from pkgc_daemon.store import artifacts
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import Artifact, Digest, Origin

if TYPE_CHECKING:
    from pkgc_daemon.store.store import Store


class Publishing:
    """See the module; mixed into `Store`."""

    layout: Layout
    catalog: Catalog
    _boot: str
    _to_be_built: dict[str, Origin]
    _offers: dict[str, list[tuple[Origin, str]]]
    _publishing: dict[str, asyncio.Task[Artifact]]

    @property
    def _whole(self) -> Store:
        return cast("Store", self)

    async def publish_artifact(
        self, path: Path, sha256: str, size: int, digests: frozenset[Digest], filename: str, url: str
    ) -> Artifact:
        """Take a complete, verified file into the store; atomic, and idempotent for one digest.

        Args:
            path: the file, in `incoming`; it is moved away (or removed, when the store has it already).
            sha256: hex digest that was computed over all its bytes.
            size: its size in bytes.
            digests: every digest that was computed over the same bytes; they become aliases.
            filename: the name under which it was offered.
            url: where it came from, without credentials (kept in the sidecar).

        Raises:
            PkgcError: ``size-mismatch``, ``disk-full``, ``store-io``.
        """
        while (running := self._publishing.get(sha256)) is not None:
            await asyncio.wait([running])
        task = asyncio.create_task(self._publish(path, sha256, size, digests, filename, url))
        self._publishing[sha256] = task
        task.add_done_callback(lambda _: self._publishing.pop(sha256, None))
        # Shielded: a file that was renamed into place gets its row, whoever leaves meanwhile.
        return await asyncio.shield(task)

    async def _publish(
        self, path: Path, sha256: str, size: int, digests: frozenset[Digest], filename: str, url: str
    ) -> Artifact:
        source = self._to_be_built.get(url)
        if self._whole.artifact(sha256) is not None:
            await asyncio.to_thread(path.unlink, True)
            row = self.catalog.artifacts[sha256]
            built = (source, filename) if source is not None else None
            if built is not None or not digests <= self._whole.digests(sha256):
                amend = partial(artifacts.amend_sidecar, self.layout, sha256, digests=digests, source=built)
                await asyncio.to_thread(amend)
        else:
            offers = [one for one in self._offers.get(sha256, ()) if redact(one[0].url) == url]
            take = partial(artifacts.publish, self.layout, path, sha256, size, digests, filename, url)
            row = await asyncio.to_thread(take, self._boot, source, offers)
            for origin, name in offers:
                self.catalog.put_origin(sha256, origin, name)
        if source is not None:
            self.catalog.put_source(sha256, source, filename)
        elif not self.catalog.origins.get(sha256):
            self.catalog.put_origin(sha256, Origin("index", url), filename)
        self.catalog.put_artifact(row, digests)
        return artifacts.as_artifact(self.layout, row, self.catalog.digests.get(sha256, ()))

    async def remember_digests(self, artifact: Artifact) -> None:
        """Keep digests that were computed over a stored artifact's bytes after it was published (H11)."""
        row = self.catalog.artifacts.get(artifact.sha256)
        if row is not None and not artifact.digests <= self._whole.digests(artifact.sha256):
            self.catalog.put_artifact(row, artifact.digests)
            await asyncio.to_thread(
                artifacts.amend_sidecar, self.layout, artifact.sha256, digests=artifact.digests
            )

    @contextmanager
    def offered(self, sha256: str | None, origin: Origin, filename: str) -> Iterator[None]:
        """While the block runs, somebody fetches from `origin` what must have this sha256 (None: any).

        If it is published meanwhile, and came from that URL, `origin` is recorded in the same go.
        """
        if sha256 is None:
            yield
            return
        offers = self._offers.setdefault(sha256, [])
        offers.append((origin, filename))
        try:
            yield
        finally:
            offers.remove((origin, filename))
            if not offers and self._offers.get(sha256) is offers:
                del self._offers[sha256]
