"""The lock of a cache folder: one daemon at a time, and a note that says where it listens."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pkgc_daemon.archives.wheel import translate_os_error
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.filesystem import make_folder, write_atomically
from pkgc_daemon.store.layout import Layout


class CacheLock:
    """An flock on ``<cache>/lock``, held until `release`; the kernel drops it when the process dies.

    Args:
        cache: the cache folder; created (0700) when missing.
        shared: the cache of a host rather than of a user: the folder is 0755.

    Raises:
        PkgcError: ``cache-locked`` when another daemon holds it; ``cache-unusable`` when it cannot be made.
    """

    def __init__(self, cache: Path, *, shared: bool = False) -> None:
        self._layout = Layout(cache)
        try:
            make_folder(cache, 0o755 if shared else 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._layout.lock, flags, 0o644)
        except OSError as error:
            raise PkgcError(
                "cache-unusable",
                f"The cache folder {cache} cannot be used",
                context=f"expected a folder that this user may write\nfound {error.strerror}",
                hint="Choose another one with PKGC_CACHE_DIR.",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise PkgcError(
                    "cache-unusable",
                    f"The cache folder {cache} cannot be locked",
                    context=f"expected a filesystem with flock\nfound {error.strerror}",
                    hint="Choose a folder on a local filesystem with PKGC_CACHE_DIR.",
                ) from error
            holder = read_holder(cache)
            raise PkgcError(
                "cache-locked",
                f"Another daemon uses the cache folder {cache}",
                context=f"expected no holder\nfound process {holder.get('pid', 'unknown')}"
                f" listening on {holder.get('socket', 'an unknown socket')}",
                hint="Use that daemon, stop it (`pkgc daemon stop`), or choose another PKGC_CACHE_DIR.",
            ) from error
        try:
            self.announce(None)
        except BaseException as error:
            os.close(self._fd)
            if isinstance(error, OSError):
                raise translate_os_error(error, f"opening the cache {cache}") from error
            raise

    def is_attached(self) -> bool:
        """Whether the locked file is the one that other daemons would find, and the folders are there.

        They are not when somebody removed the cache; what this daemon holds is then of no use to anybody.
        A few stats.
        """
        layout = self._layout
        try:
            ours = os.path.samestat(os.fstat(self._fd), os.stat(layout.lock, follow_symlinks=False))
        except OSError:
            return False
        return ours and all(
            os.path.isdir(path)
            for path in (layout.incoming, layout.temporary, layout.artifacts, layout.trees, layout.pages)
        )

    def announce(self, socket: str | None) -> None:
        """Write beside the lock who holds it and where it listens, for clients that look here first."""
        note = b"%s\n%d\n" % (os.fsencode(socket or ""), os.getpid())
        write_atomically(self._layout.daemon, note, self._layout.root, 0o644)

    def withdraw(self) -> None:
        """Take the note back: clients find nobody here any more, although the lock is still held."""
        # In a folder that was removed and made anew, the note is another daemon's.
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self._layout.lock, follow_symlinks=False)):
                self._layout.daemon.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the lock back; doing it twice is fine."""
        if self._fd < 0:
            return
        self.withdraw()
        os.close(self._fd)
        self._fd = -1


def read_holder(cache: Path) -> dict[str, Any]:
    """What the holder of the lock announced (``pid``, ``socket``); empty when there is no such note."""
    try:
        socket, pid, *_ = Layout(cache).daemon.read_bytes().split(b"\n")
        note: dict[str, Any] = {"pid": int(pid)}
    except (OSError, ValueError):
        return {}
    if socket:
        note["socket"] = os.fsdecode(socket)
    return note
