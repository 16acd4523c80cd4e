"""The hot path until the request is sent: find the daemon, connect, forward the command.

Every no-op sync pays for what is loaded here, and nothing else goes on meanwhile: `_socket` and `_signal`
instead of their wrappers, no `__future__`, typing, enum, dataclasses, json, subprocess, asyncio, typer nor
msgpack (a test compares what is loaded with a list). What takes the answer (`talk`) is loaded while the
daemon works.
"""

import _signal
import _socket
import errno
import os
import sys
import time  # built in, and loaded by every interpreter

from pkgc_protocol import FEATURES, MAGIC, PROTOCOL, __version__
from pkgc_protocol.brief import pack
from pkgc_protocol.places import POINTER, cache_dir, default_socket, folder_is_private, forwarded, home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: Commands that this side answers itself, loading typer only then.
LOCAL = frozenset({"daemon", "status", "--version", "-V", "--help", "-h", "help"})
#: How often a call is tried when the daemon goes away before it answered (drain, replacement, crash).
TRIES = 5
EXIT_INTERRUPTED = 130
#: As a shell shows SIGPIPE.
EXIT_BROKEN_PIPE = 141

#: SIGINT and SIGTERM that came before `talk` took over.
early: list[int] = []


class Unavailable(Exception):
    """No daemon answered, or it could not be started. Carries what the user should read."""

    def __init__(
        self, code: str, message: str, hint: str | None = None, status: int = 1, context: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.context = context


class Gone(Exception):
    """The daemon went away, or declined, before it took the call: the call may be made again.

    Args:
        refusal: what it said, when it is about to leave; None when it said nothing.
    """

    def __init__(self, refusal: "Unavailable | None" = None) -> None:
        super().__init__()
        self.refusal = refusal


def read_pointer(cache: str) -> str | None:
    """The socket path that the holder of the cache's lock wrote beside it, if any."""
    try:
        fd = os.open(cache + "/" + POINTER, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    return os.fsdecode(text.split(b"\n", 1)[0]) or None


def check_socket(path: str) -> None:
    """Refuse a socket that somebody else could have put there.

    What answers there tells this process what to change: without a look at the folder, whoever is first
    to make `/tmp/pkgc-UID` would have this user's hands.

    Raises:
        OSError: there is no such folder, or a shared one (as /tmp) without such a socket.
        Unavailable: folder or socket are not this user's (or root's) alone.
    """
    folder, uid = os.path.dirname(path), os.getuid()
    facts = os.stat(folder)
    sticky = facts.st_mode & 0o1022 > 0o1000
    for each in (os.lstat(folder), facts, os.lstat(path) if sticky else facts):
        link = each.st_mode & 0o170000 in (0o120000, 0o140000)  # S_IFLNK, S_IFSOCK: only the owner counts
        if each.st_uid not in (uid, 0) or not (link or folder_is_private(each.st_mode, each.st_uid, uid)):
            raise Unavailable(
                "socket-folder",
                f"{folder} must belong to uid {uid} and be writable by it alone "
                f"(it belongs to uid {each.st_uid}, mode {each.st_mode & 0o7777:04o})",
                "set PKGC_SOCKET to a path in a directory of your own",
            )


def connect_to(path: str) -> _socket.socket:
    """A connected stream socket; paths over the kernel's 107 bytes go through a directory's fd.

    Raises:
        OSError: ENOENT or ECONNREFUSED when nothing listens there (no socket, or a stale one).
        Unavailable: others could have put the socket there.
    """
    check_socket(path)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) <= 107:
            sock.connect(path)
        else:
            folder, name = os.path.split(path)
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{fd}/{name}")
            finally:
                os.close(fd)
    except BaseException:
        sock.close()
        raise
    return sock


def candidates(env: dict[str, str], cache: str) -> list[str]:
    """Socket paths to try, in order: an explicit one alone, else the cache's own daemon, else the default."""
    default = default_socket(env, os.getuid())
    if env.get("PKGC_SOCKET"):
        return [absolute(default)]
    pointer = read_pointer(cache)
    return [pointer, default] if pointer and pointer != default else [default]


def connect(env: dict[str, str], cache: str) -> _socket.socket | None:
    """A connection to the daemon of this cache, or None when none answers.

    Raises:
        Unavailable: something is there, but may not be used.
    """
    for path in candidates(env, cache):
        try:
            return connect_to(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                continue
            raise Unavailable(
                "socket-unusable", f"cannot use the socket {path}: {error.strerror or error}"
            ) from error
    return None


def framed(message: "dict[str, Any]") -> bytes:
    """One frame. (A command line is bounded by the kernel, far below what a frame may have.)"""
    body = pack(message)
    return len(body).to_bytes(4, "big") + body


def hello(cache: str) -> bytes:
    """This side's first frame."""
    return framed(
        {
            "t": "hello",
            "magic": MAGIC,
            "protocol": PROTOCOL,
            "software": __version__,
            "features": FEATURES,
            "cache_dir": os.path.realpath(cache),
            "pid": os.getpid(),
        }
    )


def terminal() -> "dict[str, Any]":
    """What the daemon must know of the terminal to render for it."""
    facts: dict[str, Any] = {"stdin": os.isatty(0), "stdout": os.isatty(1), "stderr": os.isatty(2)}
    facts["columns"], facts["rows"] = 80, 24
    for fd in (2, 1, 0):
        if facts[("stdin", "stdout", "stderr")[fd]]:
            try:
                size = os.get_terminal_size(fd)
            except OSError:
                continue
            if size.columns > 0:
                facts["columns"], facts["rows"] = size.columns, size.lines
            break
    return facts


def begin(sock: _socket.socket, request: "dict[str, Any]", cache: str) -> None:
    """Send hello and request in one write; from here on SIGINT and SIGTERM are counted.

    Raises:
        Gone: the daemon left before it took them.
    """
    for number in (_signal.SIGINT, _signal.SIGTERM):
        if _signal.getsignal(number) != _signal.SIG_IGN:  # as `nohup` and `&` of a script leave it
            _signal.signal(number, on_early_signal)
    try:
        sock.sendall(hello(cache) + framed(request))
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have said why before it hung up: that can still be read
    except OSError as error:
        raise Gone from error


def on_early_signal(number: int, _frame: object) -> None:
    """Note it for `talk`."""
    early.append(number)


def call(request: "dict[str, Any]", env: dict[str, str], *, start: bool = True) -> int | None:
    """Make one call, starting the daemon when none answers.

    Returns:
        The exit status, or None when no daemon answers and `start` is false.

    Raises:
        Unavailable: it could not be made.
    """
    cache = absolute(cache_dir(env))
    refusal: Unavailable | None = None
    for attempt in range(TRIES):
        sock = connect(env, cache)
        if sock is None:
            if not start:
                return None
            from .launch import start_daemon

            sock = start_daemon(env, cache)
        try:
            begin(sock, request, cache)
            from .talk import Call

            return Call(sock).finish(request["t"])
        except Gone as gone:
            refusal = gone.refusal or refusal
            if attempt:
                time.sleep(0.05 * attempt)
        finally:
            sock.close()
    if refusal is not None:
        refusal.hint = refusal.hint or "something starts that daemon again and again: upgrade it as well"
        raise refusal
    raise Unavailable(
        "daemon-unavailable",
        f"the pkgc daemon closed the connection {TRIES} times without an answer",
        "`pkgc daemon logs` may tell why",
    )


def invoke(argv: list[str], env: dict[str, str]) -> "dict[str, Any]":
    """The request frame of a command line."""
    return {
        "t": "invoke",
        "argv": argv,
        "cwd": working_directory(),
        "env": forwarded(env),
        "terminal": terminal(),
        "umask": umask(),
    }


def working_directory() -> str:
    """The working directory, or '' when it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def absolute(path: str) -> str:
    """`path` from the root on.

    Raises:
        Unavailable: it is relative, and the working directory is gone.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise Unavailable(
            "no-working-directory",
            f"{path} is a relative path, and the working directory does not exist any more",
            "change to another directory, or name absolute paths",
            2,
        ) from error


def umask() -> int:
    """The permission bits that new files do not get. It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def occupy_standard_streams() -> None:
    """Give descriptors 0, 1 and 2 to the null device where they are closed (`<&-`).

    The next file to be opened would become one of them, and what is printed would go into it: the daemon's
    socket, a journal.
    """
    while True:
        try:
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # no /dev: what can only be read will do
            fd = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def complain(error: Unavailable) -> int:
    """Print an error of this side as the daemon prints its own; the exit status to end with."""
    text = f"error[{error.code}]: {error.message}\n"
    if error.context:
        text += "".join(f"  {line}\n" for line in error.context.splitlines())
    if error.hint:
        text += f"hint: {error.hint}\n"
    from .talk import put

    put(2, text.encode("utf-8", "backslashreplace"))
    return error.status


def wants_json(argv: list[str]) -> bool:
    """Whether the command line (or PKGC_OUTPUT_FORMAT) asks for one JSON object on stdout."""
    if "--output-format=json" in argv:
        return True
    for index, word in enumerate(argv[:-1]):
        if word == "--output-format":
            return argv[index + 1] == "json"
    return os.environ.get("PKGC_OUTPUT_FORMAT") == "json"


def main() -> "NoReturn":
    """Entry of the `pkgc` script: ends the process with the command's exit status."""
    began = time.monotonic()
    occupy_standard_streams()
    argv = sys.argv[1:]
    env = dict(os.environ)
    try:
        if not env.get("HOME"):
            env["HOME"] = home(env)
        if not argv or argv[0] in LOCAL or "--help" in argv or "-h" in argv:
            from .local import main as local

            status = local(argv, env)
        else:
            answer = call(invoke(argv, env), env)
            status = 1 if answer is None else answer
    except Unavailable as error:
        if wants_json(argv) and error.code != "output":
            from .local import json_error
            from .talk import put

            try:
                put(1, json_error(error, argv, time.monotonic() - began))
            except (Unavailable, BrokenPipeError):
                pass  # stderr gets the error as well
        status = complain(error)
    except BrokenPipeError:  # `pkgc … | head`
        status = EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    os._exit(status)  # no finalisation: nothing is left to flush, and it costs milliseconds
