"""The hot path: connect, forward the command, show what comes back. Nothing else is imported here.

Every no-op sync pays for these imports, so: `_socket` and `_signal` instead of their wrappers, no typing,
enum, dataclasses, json, subprocess, asyncio or typer (a test checks `sys.modules`).
"""

from __future__ import annotations

import _signal
import _socket
import errno
import os
import sys
import time  # built in, and loaded by every interpreter

from pkgc_protocol import CLIENT, FEATURES, MAGIC, PROTOCOL, Conversation, FrameDecoder, __version__, encode
from pkgc_protocol.messages import ProtocolError
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


class Interrupted(BaseException):
    """SIGINT or SIGTERM came while waiting for the daemon."""


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

    def __init__(self, refusal: Unavailable | None = None) -> None:
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


def hello(cache: str) -> bytes:
    """This side's first frame."""
    return encode(
        {
            "t": "hello",
            "magic": MAGIC,
            "protocol": list(PROTOCOL),
            "software": __version__,
            "features": list(FEATURES),
            "cache_dir": os.path.realpath(cache),
            "pid": os.getpid(),
        }
    )


def terminal() -> dict[str, Any]:
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


def write_all(fd: int, data: bytes) -> None:
    """Write everything; EAGAIN of a non-blocking terminal is waited out."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            import select

            select.select([], [fd], [])


def put(stream: int, data: bytes) -> None:
    """Write to standard output (1) or standard error (2); what stderr does not take is lost.

    Raises:
        BrokenPipeError: nobody reads stdout any more.
        Unavailable: stdout takes nothing (a full disk, a terminal that is gone).
    """
    try:
        write_all(stream, data)
    except OSError as error:
        if stream == 2:
            return
        if isinstance(error, BrokenPipeError):
            raise
        raise Unavailable("output", f"cannot write to standard output: {error.strerror}") from error


class Call:
    """One command on one connection, from the request to the terminal frame."""

    __slots__ = (
        "cancelled",
        "conversation",
        "daemon_pid",
        "decoder",
        "helpers",
        "interrupts",
        "lines",
        "lost",
        "pending",
        "sock",
        "waiting",
    )

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.decoder = FrameDecoder(first_limit=1 << 20)
        self.conversation = Conversation(CLIENT)
        #: frames that have come and were not looked at yet
        self.pending: list[dict[str, Any]] = []
        self.interrupts = 0
        self.cancelled = False
        self.waiting = False
        self.lines = 0
        #: why standard output is not what it should be
        self.lost: Unavailable | None = None
        self.daemon_pid = 0
        #: hands at work in threads (`hands.Helpers`), once there was one
        self.helpers: Any = None

    def on_signal(self, _number: int, _frame: object) -> None:
        """Count it; break a wait for the daemon, but never a change of an environment in progress."""
        self.interrupts += 1
        if self.waiting:
            self.waiting = False
            raise Interrupted

    def send(self, message: dict[str, Any]) -> None:
        """One frame to the daemon."""
        if self.helpers is None:
            self._send(message)
        else:
            with self.helpers.sending:
                self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        self.conversation.sending(message["t"])
        self.sock.sendall(encode(message))

    def run(self, request: dict[str, Any], cache: str) -> int:
        """See `_run`; what hands began in threads is over when it returns or raises."""
        try:
            return self._run(request, cache)
        finally:
            if self.helpers is not None:
                self.helpers.end()

    def _run(self, request: dict[str, Any], cache: str) -> int:
        """Send hello and request in one write, then serve the daemon until its terminal frame.

        Returns:
            The exit status of the command.

        Raises:
            Gone: the daemon left before it began to answer.
            Unavailable: it refused, or broke off in the middle; or its output could not be written.
        """
        self.conversation.sending("hello")
        self.conversation.sending(request["t"])
        for number in (_signal.SIGINT, _signal.SIGTERM):
            if _signal.getsignal(number) != _signal.SIG_IGN:  # as `nohup` and `&` of a script leave it
                _signal.signal(number, self.on_signal)
        answered = False
        try:
            self.sock.sendall(hello(cache) + encode(request))
        except OSError as error:
            raise Gone from error
        while True:
            try:
                self.waiting = True
                if self.interrupts > self.cancelled:  # it came while frames were looked at
                    raise Interrupted
                # A look first: the signal handler may raise here, and bytes that were taken would be lost.
                self.sock.recv(1, _socket.MSG_PEEK)
                self.waiting = False
                data = self.sock.recv(262144)
            except Interrupted:
                self.waiting = False
                if self.cancelled:  # asked twice: the daemon finishes or undoes without this client
                    self.erase()
                    return EXIT_INTERRUPTED
                self.cancel()
                continue
            except OSError:
                data = b""
            self.waiting = False
            if not data:
                self.erase()
                if not answered:
                    raise Gone
                raise Unavailable(
                    "daemon-vanished",
                    "the pkgc daemon went away in the middle of the command",
                    "run the command again: an interrupted change of an environment is finished or "
                    "rolled back; `pkgc daemon logs` may tell why",
                )
            self.pending += self.decoder.feed(data)
            while self.pending:
                message = self.pending.pop(0)
                kind = message["t"]
                self.conversation.received(kind)
                answered = True  # from its greeting on: a daemon that dies of a call is not fed the next
                if kind == "hello":
                    self.daemon_pid = message.get("pid", 0)
                elif kind == "refuse":
                    self.erase()
                    refusal = Unavailable(
                        message["code"], message["message"], message.get("hint"), message["exit"]
                    )
                    if message["code"] in ("version-mismatch", "draining"):
                        raise Gone(refusal)
                    raise refusal
                elif kind == "output":
                    self.erase()
                    if self.lost is not None and message["stream"] != 2:
                        continue
                    try:
                        put(2 if message["stream"] == 2 else 1, message["data"])
                    except BrokenPipeError:
                        self.cancel()
                        return EXIT_BROKEN_PIPE
                    except Unavailable as error:  # the command goes on: it may be changing an environment
                        self.lost = error
                elif kind == "progress":
                    self.show(message["text"])
                elif kind == "call":
                    self.serve(message)
                elif kind == "abort" and self.helpers is not None:
                    self.helpers.abort(message["id"])
                elif kind == "result":
                    self.erase()
                    status: int = message["exit"]
                    if self.lost is not None:
                        self.lost.status = status or self.lost.status
                        raise self.lost
                    return status

    def cancel(self) -> None:
        """Tell the daemon to stop; its answer is still awaited."""
        self.cancelled = True
        try:
            self.send({"t": "cancel"})
        except OSError:
            pass

    def serve(self, message: dict[str, Any]) -> None:
        """Act as the daemon's eyes or hands."""
        from .hands import LONG, Helpers, serve

        if message["verb"] in LONG:
            if self.helpers is None:
                self.helpers = Helpers(self)
            self.helpers.begin(message)
            return
        reply = serve(self, message)
        try:
            self.send(reply)
        except OSError:
            pass  # seen as the end of the stream by the next recv

    def show(self, text: str) -> None:
        """Replace the live block by `text` (lines; '' erases it). Written in one go: no flicker."""
        block = self._eraser()
        self.lines = 0
        if text:
            self.lines = text.count("\n") + 1
            block += os.fsencode(text.replace("\n", "\r\n")) + b"\r\n"
        if block:
            try:
                write_all(2, block)
            except OSError:
                pass

    def _eraser(self) -> bytes:
        return b"\x1b[%dA\r\x1b[J" % self.lines if self.lines else b""

    def erase(self) -> None:
        """Take the live block away."""
        if self.lines:
            self.show("")


def call(request: dict[str, Any], env: dict[str, str], *, start: bool = True) -> int | None:
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
            return Call(sock).run(request, cache)
        except Gone as gone:
            refusal = gone.refusal or refusal
            if attempt:
                import time

                time.sleep(0.05 * attempt)
        except ProtocolError as error:
            raise Unavailable(
                "protocol-error",
                f"the daemon does not speak as expected: {error}",
                "`pkgc daemon restart` replaces it",
            ) from error
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


def invoke(argv: list[str], env: dict[str, str]) -> dict[str, Any]:
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


def main() -> NoReturn:
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

            try:
                put(1, json_error(error, argv, time.monotonic() - began))
            except (Unavailable, BrokenPipeError):
                pass  # stderr gets the error as well
        status = complain(error)
    except BrokenPipeError:  # `pkgc … | head`
        status = EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, Interrupted):
        status = EXIT_INTERRUPTED
    os._exit(status)  # no finalisation: nothing is left to flush, and it costs milliseconds
