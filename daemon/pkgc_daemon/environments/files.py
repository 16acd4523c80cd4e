"""Opening files of an environment, where anything may lie under any name; it knows no formats.

Whoever can write into an environment can put a FIFO in place of a file: a plain `open` would wait for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader

from pkgc_daemon.errors import PkgcError


class NotRegularError(OSError):
    """What lies there is a folder, a FIFO, a socket or a device."""


def open_regular(path: str) -> BufferedReader:
    """Open a regular file for reading, or fail at once.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file", path)
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_regular(path: str, limit: int) -> bytes:
    """Bytes of a regular file; a larger one is refused rather than read.

    Args:
        limit: bytes.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be read; EFBIG: it is larger.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", path)
    return data


def read_start(path: str, size: int) -> bytes:
    """The first `size` bytes of a regular file, or as many as it has.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return file.read(size)


def not_a_file(path: str) -> PkgcError:
    """The error of a file that an environment cannot be without, in whose place is something else."""
    return PkgcError(
        "not-an-environment",
        f"{path} is not a regular file",
        hint="remove the environment and run the command again, or name another with --venv",
    )


def kernel_path(path: str) -> str:
    """An absolute path without ``..``, leading to where the kernel would go.

    ``link/../name`` is beside what the link points to, not beside the link. What follows the last ``..`` is
    left as it was named, so that a path through a link stays the one that people know.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." not in parts:
        return os.path.normpath(path)
    last = len(parts) - parts[::-1].index("..")
    return os.path.normpath(os.path.join(os.path.realpath("/" + "/".join(parts[:last])), *parts[last:]))
