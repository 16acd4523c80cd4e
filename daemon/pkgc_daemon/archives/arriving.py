"""Unpacking a wheel while it arrives: members go to a folder as soon as their bytes are in the file.

Nothing of it is believed: what is written here counts only after `wheel.unpack_wheel` has read the directory
of the complete file, whose sha256 was verified before, and has found each member there, to the last byte.
Whatever is odd about the file ends the work here in silence: `unpack_wheel` says what is wrong with it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pkgc_daemon.archives.members import Member, MemberReader, Stop
from pkgc_daemon.archives.treewriter import TreeWriter, Written
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS, ArchiveLimits

#: Before its hash is known a wheel may not take more room than honest ones do; what stops here is unpacked
#: whole, within the usual limits, when it is verified.
UNVERIFIED = DEFAULT_LIMITS._replace(ratio=20)


class Disagreement(Exception):
    """What was unpacked on the way is not what the directory tells: it is thrown away."""


class Unpacked(NamedTuple):
    """A file in the folder, and the member that it came from."""

    member: Member
    there: Written


class Arriving:
    """One wheel on its way. Not thread-safe.

    Args:
        path: the file that grows.
        total: bytes that it will have.
        destination: a folder that does not exist yet; made here, thrown away by the caller.
        limits: bounds on what the archive may cost.

    Raises:
        OSError: the file is not there, or the folder cannot be made.
    """

    def __init__(self, path: str, total: int, destination: str, limits: ArchiveLimits = UNVERIFIED) -> None:
        self.files: dict[int, Unpacked] = {}
        """By the offset of the local header."""
        self.stopped = False
        """The rest is for `unpack_wheel`, or all of it."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.tree = TreeWriter(destination)
        except BaseException:
            os.close(self._fd)
            raise
        self._reader = MemberReader(self._fd, total, limits, self)
        self._name = ""
        self._open = -1
        self._last: Written | None = None

    def is_of(self, path: str) -> bool:
        """Whether `path` is the very file that was read."""
        here, there = os.fstat(self._fd), os.stat(path, follow_symlinks=False)
        return (here.st_dev, here.st_ino, here.st_size) == (there.st_dev, there.st_ino, there.st_size)

    def advance(self, available: int) -> None:
        """Unpack what the first `available` bytes hold, which do not change any more.

        Raises:
            OSError: writing failed. Nothing that was unpacked is of use then.
        """
        if self.stopped:
            return
        try:
            self._reader.advance(available)
        except Stop:
            self.finish()

    def finish(self) -> None:
        """Nothing more is unpacked here; what is half there goes away."""
        self.stopped = True
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
            self.tree.remove(self._name)

    def close(self) -> None:
        """Let go of the file."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.stopped = True

    # -- what the reader finds ------------------------------------------------------------------------

    def whole(self, name: str, data: bytes) -> None:
        """See `members.Sink`."""
        self.tree.folder(name.rpartition("/")[0])
        self._last = self.tree.write(name, data)

    def begin(self, name: str) -> None:
        """See `members.Sink`."""
        self.tree.folder(name.rpartition("/")[0])
        self._name = name
        self._open = self.tree.create(name)

    def piece(self, data: bytes) -> None:
        """See `members.Sink`."""
        self.tree.put(self._open, data)

    def end(self) -> None:
        """See `members.Sink`."""
        self._last = self.tree.done(self._open)
        os.close(self._open)
        self._open = -1

    def found(self, member: Member, offset: int) -> None:
        """See `members.Sink`."""
        assert self._last is not None
        self.files[offset] = Unpacked(member, self._last)
