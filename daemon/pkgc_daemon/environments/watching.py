"""Watching folders and files for any change (inotify); what a change means is for others to find out.

The kernel notes a change before the call that makes it returns, so whoever asks afterwards is told of it.
That costs one `read` however many folders there are; a look at 1,600 of them costs milliseconds. A watch only
ever vouches for "nothing happened": at the first event it is over, and everything is looked at as ever.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

#: Watches at once: each holds about a kilobyte of the kernel's memory.
MAX_WATCHES = 12_000
#: Filesystems whose changes all pass through this kernel, at the inode that is watched. (Not overlayfs: a
#: write moves a file to another inode. Not those of other hosts.)
LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "tmpfs", "xfs", "zfs"})

_ONLYDIR, _DONT_FOLLOW = 0x01000000, 0x02000000
_MODIFY, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x2, 0x8, 0xC0, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
#: In an event: some were lost.
OVERFLOW = 0x4000
_IGNORED = 0x8000
#: A change of a folder's entries, or of its own place.
_FOLDER = _MOVED | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR | _DONT_FOLLOW
#: A change of contents, also through another link of the file, or of its own place.
_FILE = _MODIFY | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")

Identity = tuple[int, int] | None


class Watcher:
    """Sets of watched paths, by key; thread-safe.

    Raises:
        OSError: this system has no inotify, or no instance of it is left.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "inotify is Linux's")
        self._lib = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._lib.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        try:
            # It becomes readable with POLLPRI when something is mounted, which no watch tells.
            self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._fd)
            raise
        self._poll = select.poll()
        self._poll.register(self._mounts, select.POLLPRI)
        self._lock = threading.Lock()
        self._keys: OrderedDict[Any, tuple[frozenset[int], tuple[tuple[str, Identity], ...]]] = OrderedDict()
        self._owners: dict[int, set[Any]] = {}
        """Watch -> keys. One file may be linked into several environments: one inode has one watch."""

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            self._keys.clear()
            self._owners.clear()
            os.close(self._fd)
            os.close(self._mounts)

    def arm(self, key: Any, folders: Iterable[str], files: Iterable[str], places: Sequence[str]) -> bool:
        """Watch the entries of `folders` and the contents of `files`, in place of what `key` had.

        Args:
            key: hashable.
            folders: absolute paths, none of them a symbolic link.
            files: absolute paths.
            places: paths that must go on leading to the same folders, whatever is renamed above them.

        Returns:
            Whether they are watched. If not, nothing is.
        """
        with self._lock:
            self._drain()
            self._lose(key)
            if not all(_is_local(place, self._mounts) for place in places):
                return False
            identities = tuple((place, _identity(place)) for place in places)
            wanted = [(path, _FOLDER) for path in folders] + [(path, _FILE) for path in files]
            if len(wanted) > MAX_WATCHES:
                self._tidy()
                return False  # before others give way for nothing
            while self._keys and len(self._owners) + len(wanted) > MAX_WATCHES:
                self._lose(next(iter(self._keys)))
                self._tidy()
            watches: set[int] = set()
            self._keys[key] = (frozenset(), identities)
            for path, mask in wanted:
                number = -1
                if len(self._owners) < MAX_WATCHES:
                    number = self._lib.inotify_add_watch(self._fd, os.fsencode(path), mask)
                if number < 0:
                    self._keys[key] = (frozenset(watches), identities)
                    self._lose(key)
                    self._tidy()
                    return False
                watches.add(number)
                self._owners.setdefault(number, set()).add(key)
            self._keys[key] = (frozenset(watches), identities)
            return all(identity is not None for _, identity in identities)

    def quiet(self, key: Any) -> bool:
        """Whether what `key` watches is as it was when `arm` returned. If not, it is watched no more."""
        with self._lock:
            self._drain()
            known = self._keys.get(key)
            if known is None:
                return False
            if any(identity is None or _identity(place) != identity for place, identity in known[1]):
                self._lose(key)
                return False
            self._keys.move_to_end(key)
            return True

    def tidy(self) -> None:
        """Take the events that came and give the kernel back what nobody watches: for idle times."""
        with self._lock:
            self._drain()
            self._tidy()

    def _drain(self) -> None:
        if self._poll.poll(0):
            self._lose_all()
        for number, mask in events(self._fd):
            if mask & OVERFLOW:
                self._lose_all()
            for key in tuple(self._owners.get(number, ())):
                self._lose(key)
            if mask & _IGNORED:  # the kernel has dropped it
                self._owners.pop(number, None)

    def _lose(self, key: Any) -> None:
        for number in self._keys.pop(key, (frozenset[int](), ()))[0]:
            owners = self._owners.get(number)
            if owners is not None:
                owners.discard(key)

    def _lose_all(self) -> None:
        for key in tuple(self._keys):
            self._lose(key)

    def _tidy(self) -> None:
        for number in [number for number, owners in self._owners.items() if not owners]:
            del self._owners[number]
            self._lib.inotify_rm_watch(self._fd, number)


def events(descriptor: int) -> Iterator[tuple[int, int]]:
    """(watch, mask) of the events that wait in an inotify instance; each is told once, and nothing blocks."""
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            yield number, mask


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_local(path: str, mounts: int) -> bool:
    """Whether `path` is on a filesystem of `LOCAL`, and nothing is mounted below it.

    Args:
        mounts: descriptor of mountinfo.
    """
    path = os.path.realpath(path)
    best, kind = "", ""
    os.lseek(mounts, 0, os.SEEK_SET)
    data = b""
    while part := os.read(mounts, 1 << 16):
        data += part
    for line in os.fsdecode(data).splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4]
        for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(code, char)
        if point.startswith(path.rstrip("/") + "/"):
            return False
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split(" ", 1)[0]
    return kind in LOCAL
