"""Local files: ``file:`` URLs take the same way as downloads, hashed while copied, but no network.

The daemon opens the path with its own rights: callers of another world must not get here (design.md 3).
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import Executor
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.bodies import Progress
from pkgc_daemon.fetching.failures import TransferError
from pkgc_daemon.fetching.partials import Partial, in_thread
from pkgc_daemon.fetching.patience import Kind
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Digest

_BLOCK = 1 << 20


def path_of(url: str) -> str:
    """The absolute path that a ``file:`` URL names (RFC 8089).

    Raises:
        PkgcError: ``bad-url``: another host, no absolute path, or a NUL in it.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc.lower() not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise PkgcError(
            "bad-url", f"not the URL of a local file: {redact(url)}", hint="file:///absolute/path"
        )
    return path


class Evidence(NamedTuple):
    """What tells without reading it whether a file has changed."""

    text: str
    """Equal: most likely the same content."""
    changed: float
    """Unix seconds of its last modification."""


def look(url: str) -> Evidence:
    """What `stat` says of the file at `url`. Blocks.

    Raises:
        PkgcError: ``bad-url``, ``file-not-found``, ``file-unreadable``.
    """
    try:
        status = os.stat(path_of(url))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
    except OSError as exc:
        raise _unreadable(url, exc) from exc
    # The time of the inode too: nobody can set it back.
    told = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)
    return Evidence(":".join(("file", *map(str, told))), status.st_mtime)


async def copy_file(url: str, partial: Partial, executor: Executor, progress: Progress) -> frozenset[Digest]:
    """Copy the file at `url` into `partial` and return its digests.

    Raises:
        TransferError: always of the fatal kind: ``file-not-found``, ``file-unreadable``, ``disk-full``, …
    """
    try:
        path = path_of(url)
        if partial.kept:
            await partial.start_over()
        fd, size = await in_thread(executor, _open, path)
        try:
            progress.expects(size)
            partial.begin(None)
            while data := await in_thread(executor, os.read, fd, _BLOCK):
                partial.feed(data)
                progress.arrived(len(data))
                await partial.ready()
        finally:
            await in_thread(executor, os.close, fd)
        return await partial.finish()
    except OSError as exc:
        raise TransferError(Kind.FATAL, _unreadable(url, exc)) from exc
    except PkgcError as exc:
        raise TransferError(Kind.FATAL, exc) from exc


def _unreadable(url: str, exc: OSError) -> PkgcError:
    code = "file-not-found" if isinstance(exc, FileNotFoundError) else "file-unreadable"
    hint = (
        "Check the path: a lock's start at the lock's folder, those of requirements files at the working "
        "directory."
    )
    return PkgcError(
        code,
        f"cannot read {redact(url)}",
        context=f"cause: {exc.strerror or exc}",
        hint=hint if code == "file-not-found" else None,
    )


def _open(path: str) -> tuple[int, int]:
    # Without O_NONBLOCK a FIFO of that name would hold the thread for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size
