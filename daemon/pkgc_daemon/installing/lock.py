"""The lock of an environment: the flock on VENV/.lock that uv takes too."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.failures import interrupted, translated
from pkgc_daemon.installing.layout import LOCK
from pkgc_daemon.modes import Modes

DEFAULT_TIMEOUT = 300.0
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class LockVanishedError(Exception):
    """The environment was removed (and perhaps made anew) while its lock was waited for."""


@contextmanager
def environment_lock(
    prefix: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    cancelled: Callable[[], bool] | None = None,
    modes: Modes | None = None,
) -> Iterator[bool]:
    """Hold the environment's lock.

    Args:
        prefix: the environment's folder.
        timeout: seconds to wait for another holder.
        cancelled: asked while waiting.
        modes: for whom the lock file is made, if it has to be.

    Yields:
        Whether the lock is really held: some network file systems have no locks, and there, as uv does,
        the work goes on without.

    Raises:
        PkgcError: ``environment-locked`` after `timeout`; ``interrupted``; a file system's error.
        LockVanishedError: what was locked is not the environment that stands there now.
    """
    path = os.path.join(prefix, LOCK)
    try:
        descriptor = _open(path, modes or Modes())
    except OSError as error:
        if not os.path.lexists(prefix):
            raise LockVanishedError(path) from error
        raise translated(error, f"cannot lock the environment {prefix}") from error
    try:
        held = _acquire(descriptor, path, timeout, cancelled)
        try:
            same = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:
            same = False
        if not same:
            raise LockVanishedError(path)
        yield held
    finally:
        # Closing releases it. The file stays, unless its holder takes the whole environment away: who waits
        # for it then sees that it is not the one that stands there.
        os.close(descriptor)


def _open(path: str, modes: Modes) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags, 0o666)
    modes.file(descriptor)
    return descriptor


def _acquire(descriptor: int, path: str, timeout: float, cancelled: Callable[[], bool] | None) -> bool:
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if cancelled is not None and cancelled():
                raise interrupted() from error
            if time.monotonic() >= deadline:
                raise PkgcError(
                    "environment-locked",
                    f"another program has held {path} for {timeout:g} s",
                    hint="wait for the other uv or pkgc command that works on this environment to end",
                ) from error
            time.sleep(pause)
            pause = min(pause * 2, 0.1)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            raise translated(error, f"cannot lock {path}") from error
        else:
            return True
