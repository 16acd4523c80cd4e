"""Manifests in memory: parsing one costs more than anything else that is done with a tree."""

from __future__ import annotations

from collections import OrderedDict

from pkgc_daemon.vocabulary import Manifest


class ManifestCache:
    """Parsed manifests, least recently used ones dropped.

    Args:
        limit: file entries to keep in all (about 0.4 kB each; a manifest without files counts as one); the
            newest manifest always stays.
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
        self.entries += max(1, len(manifest.files))
        while self.entries > self.limit and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))

    def drop(self, sha256: str) -> None:
        """Forget one, if it is there."""
        manifest = self._kept.pop(sha256, None)
        if manifest is not None:
            self.entries -= max(1, len(manifest.files))
