"""Laying out: a tree's files as site-packages has them, linked for the one sync that waits for it.

The child that unpacks a wheel links its files too: then the change of the environment is a few renames, and
the linking of 97 wheels neither waits for the last of them nor holds the interpreter lock of the daemon. What
comes of it looks like a ready copy to the installer, but every file is the tree's: it belongs to one call, is
used at once or thrown away, and never waits for another environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from pkgc_daemon.store.copying import NOTE, entries_of, make_folder, write_records
from pkgc_daemon.vocabulary import Manifest


@dataclass(eq=False, slots=True)
class Laying:
    """What one call wants of one tree."""

    umask: int
    """Of whom the environment belongs to: it decides the modes of folders and records."""
    records: Mapping[str, bytes]
    """What the installation is expected to write into .dist-info, RECORD excepted."""
    path: str | None = None
    """Where it was laid out: the caller's from then on."""
    given_up: bool = False
    """The call has ended: what comes now is for nobody."""


def lay_tree(
    root: str, manifest: Manifest, target: str, umask: int, records: Mapping[str, bytes], *, fresh: bool
) -> bool:
    """Link the files of a tree into `target`, which must not exist; for a process whose umask is 0.

    Args:
        root: the tree's files.
        target: on the same file system; its parent exists.
        umask: see `Laying`.
        records: see `Laying`.
        fresh: this process has just written the tree; else each file is compared with the manifest first
            (invariant 6).

    Returns:
        False when it could not be done, for whatever reason; then nothing is left, and the installer places
        the files itself and says what is wrong.
    """
    try:
        _link_all(root, manifest, target, 0o777 & ~umask, fresh=fresh)
        entries = entries_of(manifest)
        write_records(target, manifest, entries, umask, records, ())
    except (OSError, ValueError):
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(target + NOTE)
        return False
    return True


def _link_all(root: str, manifest: Manifest, target: str, folder_mode: int, *, fresh: bool) -> None:
    os.mkdir(target, folder_mode)
    made = {""}
    link, stat = os.link, os.stat
    folder = ""
    for path, size, executable, _, mtime_ns, inode in entries_of(manifest):
        below = path[: path.rfind("/")] if "/" in path else ""
        if below != folder:
            if below not in made:
                make_folder(target, below, made, folder_mode)
            folder = below
        source = f"{root}/{path}"
        if not fresh:
            found = stat(source, follow_symlinks=False)
            if (found.st_ino, found.st_size, found.st_mtime_ns) != (inode, size, mtime_ns) or bool(
                found.st_mode & 0o111
            ) is not executable:
                raise ValueError(f"{path} was changed")
        link(source, f"{target}/{path}")
