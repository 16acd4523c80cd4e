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
) -> Iterator[bool]:
    """Hold the environment's lock.

    Args:
        prefix: the environment's folder.
        timeout: seconds to wait for another holder.
        cancelled: asked while waiting.

    Yields:
        Whether the lock is really held: some network file systems have no locks, and there, as uv does,
        the work goes on without.

    Raises:
        PkgcError: ``environment-locked`` after `timeout`; ``interrupted``; a file system's error.
        LockVanishedError: what was locked is not the environment that stands there now.
    """
    path = os.path.join(prefix, LOCK)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
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
        # Closing releases it. The file stays: unlinking a lock file races with the next holder.
        os.close(descriptor)


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
