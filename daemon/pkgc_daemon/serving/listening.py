"""Listening: the daemon's socket: bound beside its place and renamed into it, never taken from a live one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from pkgc_daemon.errors import PkgcError
from pkgc_protocol.places import folder_is_private

#: Bytes of sun_path, without the final NUL.
MAX_SUN_PATH = 107
#: Bytes that the last part of a path may have, so that it fits behind a directory's /proc/self/fd/N/.
MAX_NAME = 80
BACKLOG = 512


class Listener:
    """A bound, listening Unix socket at `path`, held together with a lock beside it.

    The lock, not the socket file, tells whether a daemon lives: a file without a locked lock is stale.
    """

    def __init__(self, sock: socket.socket, path: Path, lock: int | None) -> None:
        self.socket = sock
        self.path = path
        self._lock = lock
        try:
            facts = os.stat(path)
            self._inode: tuple[int, int] | None = (facts.st_dev, facts.st_ino)
        except OSError:
            self._inode = None

    @property
    def activated(self) -> bool:
        """Whether the service manager owns the socket: then it is never unlinked here."""
        return self._lock is None

    def withdraw(self) -> None:
        """Stop being found: unlink the socket if it is still ours, release the lock, close."""
        if not self.activated:
            try:
                facts = os.stat(self.path)
                if (facts.st_dev, facts.st_ino) == self._inode:
                    os.unlink(self.path)
            except OSError:
                pass
        self.socket.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def adopt(sock: socket.socket) -> Listener:
    """Use a socket that socket activation passed."""
    name = sock.getsockname()
    return Listener(sock, Path(os.fsdecode(name) if name else "/"), None)


def listen(path: Path) -> Listener:
    """Bind a socket at `path` (mode 0600 in a 0700 folder).

    Raises:
        PkgcError: `socket-in-use` when a live daemon listens there, `socket-folder` when others may write
            beside it, `socket-unusable` for the rest.
    """
    folder = path.parent
    if len(os.fsencode(path.name)) > MAX_NAME:
        raise PkgcError(
            "socket-unusable",
            f"cannot listen at {path}: its last part is longer than {MAX_NAME} bytes",
            hint="set PKGC_SOCKET to a shorter name; the folder may be as long as you like",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
        if not folder_is_private(facts.st_mode, facts.st_uid, os.getuid()):
            raise PkgcError(
                "socket-folder",
                f"{folder} must belong to uid {os.getuid()} and be writable by it alone "
                f"(it belongs to uid {facts.st_uid}, mode {facts.st_mode & 0o777:04o})",
                hint="set PKGC_SOCKET to a path in a directory of your own",
            )
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PkgcError("socket-unusable", f"cannot listen at {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PkgcError(
                "socket-in-use",
                f"another pkgc daemon listens at {path}",
                hint="a second instance needs a PKGC_SOCKET and a PKGC_CACHE_DIR of its own",
            ) from error
        if _answers(path):
            raise PkgcError("socket-in-use", f"another program listens at {path}")
        if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise PkgcError(
                "socket-unusable", f"cannot listen at {path}: there is something else than a socket"
            )
        return Listener(_bind(path), path, lock)
    except BaseException:
        os.close(lock)
        raise


def _answers(path: Path) -> bool:
    """Whether somebody accepts connections at `path`: a live socket is never unlinked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            _with_short_path(path, probe.connect)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK)
    return True


def _bind(path: Path) -> socket.socket:
    temporary = path.with_name(f".{os.getpid()}.s")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        temporary.unlink(missing_ok=True)
        _with_short_path(temporary, sock.bind)
        os.chmod(temporary, 0o600)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        os.rename(temporary, path)
    except OSError as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise PkgcError("socket-unusable", f"cannot listen at {path}: {error.strerror}") from error
    return sock


def _with_short_path(path: Path, act: object) -> None:
    """Call `act` with an address for `path` that fits sun_path, through a directory's fd if need be."""
    assert callable(act)
    if len(os.fsencode(path)) <= MAX_SUN_PATH:
        act(str(path))
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
