"""Launch: start the daemon when none answers, and learn from it whether it is ready or why not.

Two clients at once start one daemon: a lock beside the socket is held from the last look until the new
daemon has said that it is ready.  The daemon speaks over a private datagram socket (after sccache).
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import sys
import time

from pkgc_protocol.brief import unpack
from pkgc_protocol.places import LOG, default_socket, folder_is_private

from .hot import Unavailable, absolute, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds that a new daemon has to become ready.
READY_TIMEOUT = 30.0
#: Seconds that a daemon which is leaving has to finish what it serves (it gives itself less).
DRAIN_TIMEOUT = 120.0
#: Seconds without a client after which a daemon that a client started goes away.
IDLE_EXIT = 1800


def private_folder(folder: str) -> None:
    """Make `folder` (0700), or check that it belongs to this user alone.

    Raises:
        Unavailable: it belongs to somebody else, or others may write to it.
    """
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        facts = os.stat(folder)
    except OSError as error:
        raise Unavailable("socket-folder", f"cannot make {folder}: {error.strerror}") from error
    if not folder_is_private(facts.st_mode, facts.st_uid, os.getuid()):
        raise Unavailable(
            "socket-folder",
            f"{folder} must belong to uid {os.getuid()} and be writable by it alone "
            f"(it belongs to uid {facts.st_uid}, mode {facts.st_mode & 0o777:04o})",
            "set PKGC_SOCKET to a path in a directory of your own",
        )


def start_daemon(env: dict[str, str], cache: str) -> _socket.socket:
    """Start the daemon of this cache, unless another client just did; a connection to it.

    Raises:
        Unavailable: it did not start; the message says why.
    """
    path = absolute(default_socket(env, os.getuid()))
    folder = os.path.dirname(path)
    private_folder(folder)
    try:
        lock = os.open(path + ".start", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable("socket-folder", f"cannot write to {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sock = connect(env, cache)
        if sock is not None:
            return sock
        try:
            spawn(env, cache, path)
        except Unavailable as error:
            # The client of a daemon that was starting may have been killed: that daemon was faster than ours.
            sock = connect(env, cache) if error.code == "cache-locked" else None
            if sock is None:
                raise
            return sock
        sock = connect(env, cache)
    finally:
        os.close(lock)
    if sock is None:
        raise Unavailable("daemon-unavailable", f"the daemon started, but nothing answers at {path}")
    return sock


def spawn(env: dict[str, str], cache: str, path: str) -> None:
    """Run the daemon as a process of its own session and wait for its word."""
    try:
        os.makedirs(cache, mode=0o700, exist_ok=True)
        log = os.open(os.path.join(cache, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            "cache-unusable",
            f"cannot write to the cache directory {cache}: {error.strerror}",
            "set PKGC_CACHE_DIR to a directory of your own",
        ) from error
    start_of_log = os.fstat(log).st_size
    notify = f"{os.path.dirname(path)}/.n{os.getpid()}"
    ear = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(notify)
        except OSError:
            pass
        ear.bind(f"/proc/self/fd/{folder}/{os.path.basename(notify)}")
        os.chmod(notify, 0o600)
        idle = env.get("PKGC_IDLE_EXIT") or str(IDLE_EXIT)
        command = [sys.executable, "-I", "-m", "pkgc_daemon", "--socket", path, "--cache-dir", cache]
        command += ["--idle-exit", idle, "--started-by-client"]
        child_env = {k: v for k, v in env.items() if k not in ("VIRTUAL_ENV", "NOTIFY_SOCKET", "LISTEN_FDS")}
        child_env["PKGC_NOTIFY"] = notify
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            pid = os.posix_spawn(
                sys.executable,
                command,
                child_env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in inherited()),
                ],
                setsid=True,
            )
        except OSError as error:
            raise Unavailable("daemon-start", f"cannot run {sys.executable}: {error.strerror}") from error
        finally:
            os.close(null)
        answer = await_word(ear, pid)
        if answer is None:
            raise Unavailable(
                "daemon-start",
                "the pkgc daemon did not start" + tail(os.path.join(cache, LOG), start_of_log),
                "`pkgc daemon run` shows what happens",
            )
        if not answer.get("ok"):
            told = answer.get("error") or {}
            raise Unavailable(
                str(told.get("code", "daemon-start")),
                str(told.get("message", "")),
                told.get("hint"),
                int(told.get("exit", 1)),
                told.get("context"),
            )
    finally:
        ear.close()
        os.close(log)
        os.close(folder)
        try:
            os.unlink(notify)
        except OSError:
            pass


def inherited() -> list[int]:
    """Descriptors beyond the standard three that this process was given.

    The daemon outlives the command: with them it would hold a script's lock or a pipe's end for half an hour.
    """
    try:
        found = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return []
    kept = []
    for fd in found:
        try:
            if fd > 2 and os.get_inheritable(fd):
                kept.append(fd)
        except OSError:  # the descriptor of the listing itself
            continue
    return kept


def await_word(ear: _socket.socket, pid: int) -> dict[str, Any] | None:
    """What the new daemon says, or None when it ended or stayed silent.

    While it waits for another one that is leaving the cache, it says so, and gets more time.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    gone = False
    ear.settimeout(0.1)
    while time.monotonic() < deadline:
        try:
            data = ear.recv(65536)
        except OSError as error:
            if not isinstance(error, TimeoutError) and error.errno != errno.EAGAIN:
                raise
            if gone:
                return None
            gone = os.waitpid(pid, os.WNOHANG)[0] == pid  # one more look: its word may be in the queue
            continue
        answer = unpack(data)
        if isinstance(answer, dict) and answer.get("waiting"):
            deadline = time.monotonic() + READY_TIMEOUT + DRAIN_TIMEOUT
            continue
        return answer if isinstance(answer, dict) else None
    return None


def tail(path: str, start: int) -> str:
    """What the log gained since `start`, at most its last 2 kB, as lines to append to a message."""
    try:
        with open(path, "rb") as log:
            log.seek(max(start, os.fstat(log.fileno()).st_size - 2048))
            text = log.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"; its log says:\n{text}" if text else ""
