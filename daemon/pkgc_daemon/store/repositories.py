"""The folder of git repositories: how large it is, and emptying it; what is in them is not looked at.

Who uses a repository holds an flock on ``<repository>.lock`` meanwhile; that file stays when the repository
is removed, or two could hold "the" lock at once.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

from pkgc_daemon.store.filesystem import remove_tree
from pkgc_daemon.store.layout import Layout

_LOCK = ".lock"


class Emptied(NamedTuple):
    """What `empty` did."""

    bytes: int
    removed: list[str]
    skipped: list[str]
    """In use."""


def size(layout: Layout) -> dict[str, int]:
    """``{"files", "bytes"}`` of all repositories. Blocks."""
    files = total = 0
    for folder, _, names in os.walk(layout.repositories):
        for name in names:
            if folder == str(layout.repositories) and name.endswith(_LOCK):
                continue
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
                files += 1
            except FileNotFoundError:
                continue
    return {"files": files, "bytes": total}


def empty(layout: Layout) -> Emptied:
    """Remove every repository that nobody uses. Blocks.

    Raises:
        OSError: a folder cannot be renamed.
    """
    removed, skipped, freed = [], [], 0
    for entry in sorted(layout.repositories.iterdir()):
        if entry.name.endswith(_LOCK):
            continue
        shown = f"git/{entry.name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{entry}{_LOCK}", flags, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                skipped.append(shown)
                continue
            draft = layout.draft()
            os.rename(entry, draft)
        finally:
            os.close(fd)
        freed += sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(draft)
            for name in names
        )
        remove_tree(draft)
        removed.append(shown)
    return Emptied(freed, removed, skipped)
