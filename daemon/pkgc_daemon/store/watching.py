"""Watching: whether anybody has touched a file that lies ready, told by the kernel (inotify(7)).

A ready copy has thousands of files; comparing each before it is used would cost more than installing them.
The kernel knows what was written, made, removed or chmodded in a folder since it is watched. It does not see
writes through another link of the same file, nor bits that a disk loses. Linux only: elsewhere `open_watcher`
gives None, and files are compared. Watches are a resource of the user, not of the daemon: see `watch_limit`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator

from pkgc_daemon.environments.watching import OVERFLOW, events

_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x40, 0x80
#: The only sign of a change through a memory mapping: the file that was mapped had been opened for writing.
_CLOSE_WRITE = 0x8
_CREATE, _DELETE = 0x100, 0x200
_ONLY_FOLDERS, _NO_LINKS = 0x01000000, 0x02000000
#: Everything by which a file of a folder becomes another one.
_MASK = (
    _MODIFY | _CLOSE_WRITE | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS | _NO_LINKS
)


#: What may be taken of the watches that a user has: editors and desktops need theirs.
_SHARE = 2


def watch_limit() -> int:
    """How many folders may be watched."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
            return int(file.read()) // _SHARE
    except (OSError, ValueError):
        return 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def add_watch(descriptor: int, folder: str) -> int | None:
    """Have a folder watched.

    Args:
        descriptor: of a `Watcher`, perhaps inherited from the process that made it.

    Returns:
        The number that its events will have; None when the kernel has no room (``max_user_watches``).
    """
    number: int = _libc().inotify_add_watch(descriptor, os.fsencode(folder), _MASK)
    return number if number >= 0 else None


class Watcher:
    """One inotify instance.

    Args:
        descriptor: of it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def touched(self) -> Iterator[int | None]:
        """Numbers of the folders in which something has happened; None: too much, it may be any of them.

        Never blocks; each event is told once.
        """
        for number, mask in events(self.descriptor):
            yield None if mask & OVERFLOW else number

    def forget(self, numbers: Iterable[int]) -> None:
        """Watch these no more; some system calls per number."""
        libc = _libc()
        for number in numbers:
            libc.inotify_rm_watch(self.descriptor, number)

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self.descriptor)


def open_watcher() -> Watcher | None:
    """A watcher, or None where the system has none to give."""
    if not sys.platform.startswith("linux"):
        return None
    descriptor = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    return Watcher(descriptor) if descriptor >= 0 else None
