"""Laying out: a tree's files as an environment has them, linked for the one sync that waits for it.

The child that unpacks a wheel links its files too: then the change of the environment is a few renames, and
the linking of 97 wheels neither waits for the last of them nor holds the interpreter lock of the daemon. What
comes of it looks like a ready copy to the installer, but every file is the tree's: it belongs to one call, is
used at once or thrown away, and never waits for another environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from pkgc_daemon.store.copying import Copier, Part
from pkgc_daemon.vocabulary import FileEntry, Manifest


def lay_tree(
    root: str, manifest: Manifest, target: str, umask: int, records: Mapping[str, bytes], *, fresh: bool
) -> dict[str, Any] | None:
    """Link the files of a tree into `target`, which must not exist; for a process whose umask is 0.

    Args:
        root: the tree's files.
        target: on the same file system; its parent exists.
        umask: see `outlays.Laying`.
        records: see `outlays.Laying`.
        fresh: this process has just written the tree; else each file is compared with the manifest first
            (invariant 6).

    Returns:
        The note (see `Copier.copy`). None when it could not be done, for whatever reason; then nothing is
        left, and the installer places the files itself and says what is wrong.
    """
    try:
        return _Layer(target, umask, fresh=fresh).copy(manifest, root, None, records)
    except (OSError, ValueError):
        shutil.rmtree(target, ignore_errors=True)
        return None


class _Layer(Copier):
    """Links every file. None of them is compared again: the call that waits uses them at once."""

    def __init__(self, target: str, umask: int, *, fresh: bool) -> None:
        super().__init__(target, umask)
        self._fresh = fresh

    def put_all(self, root: str, part: Part) -> list[FileEntry]:
        """See `Copier`."""
        link, stat, fresh = os.link, os.stat, self._fresh
        cut, folder = len(part.start), ""
        for entry in part.entries:
            path, size, executable, _, mtime_ns, inode = entry
            placed = f"{part.folder}/{path[cut:]}"
            below = placed[: placed.rfind("/")]
            if below != folder:
                self.make_folder(below)
                folder = below
            source = f"{root}/{path}"
            if not fresh:
                found = stat(source, follow_symlinks=False)
                if (found.st_ino, found.st_size, found.st_mtime_ns) != (inode, size, mtime_ns) or bool(
                    found.st_mode & 0o111
                ) is not executable:
                    raise ValueError(f"{path} was changed")
            link(source, f"{self.target}/{placed}")
        return []
