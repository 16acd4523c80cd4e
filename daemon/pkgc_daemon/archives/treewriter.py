"""Writing the files of one tree: folders 0755, files 0444 or 0555, whatever the umask; it reads no archive.

Paths come from `zipdirectory`, which has validated them; nothing that exists is ever opened.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_MODE = 0o755


class Written(NamedTuple):
    """What the filesystem says of a finished file."""

    mtime_ns: int
    inode: int


def file_mode(*, executable: bool) -> int:
    """The mode of a file in the store."""
    return 0o555 if executable else 0o444


class TreeWriter:
    """Writes below one folder that it makes.

    Args:
        destination: a folder that does not exist yet.

    Raises (every method):
        OSError: the filesystem's.
    """

    def __init__(self, destination: str) -> None:
        self._prefix = destination + "/"
        self._made = {""}
        os.mkdir(destination, _FOLDER_MODE)
        # The umask is the process's and may not be touched here (threads); folders are mended if it bites.
        self._masked = stat.S_IMODE(os.stat(destination).st_mode) != _FOLDER_MODE
        if self._masked:
            os.chmod(destination, _FOLDER_MODE)

    def folder(self, path: str) -> None:
        """Make a folder and those above it, as far as they are missing."""
        missing = []
        while path not in self._made:
            self._made.add(path)
            missing.append(path)
            path = path.rpartition("/")[0]
        for each in reversed(missing):
            os.mkdir(self._prefix + each, _FOLDER_MODE)
            if self._masked:
                os.chmod(self._prefix + each, _FOLDER_MODE)

    def create(self, path: str, *, executable: bool = False) -> int:
        """Open a new file in a folder that is there: a descriptor for `put` and `done`."""
        return os.open(self._prefix + path, _CREATE, file_mode(executable=executable))

    @staticmethod
    def put(fd: int, data: bytes) -> None:
        """Write all of `data`."""
        written = os.write(fd, data) if data else 0
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])

    @staticmethod
    def done(fd: int, *, executable: bool = False) -> Written:
        """What became of a file whose bytes are all written; the caller closes it."""
        status = os.fstat(fd)
        mode = file_mode(executable=executable)
        if status.st_mode & 0o7777 != mode:
            os.fchmod(fd, mode)
        return Written(status.st_mtime_ns, status.st_ino)

    def write(self, path: str, data: bytes, *, executable: bool = False) -> Written:
        """Write a file that is one piece."""
        fd = self.create(path, executable=executable)
        try:
            self.put(fd, data)
            return self.done(fd, executable=executable)
        finally:
            os.close(fd)

    def make_executable(self, path: str) -> None:
        """Say of a finished file that it is executable after all."""
        os.chmod(self._prefix + path, file_mode(executable=True))

    def remove(self, path: str) -> None:
        """Take a file back."""
        os.unlink(self._prefix + path)
