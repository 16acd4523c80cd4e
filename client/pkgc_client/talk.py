"""Talk: what a client does once its request is sent: show what comes, serve host calls, take signals.

Loaded while the daemon works on the request. The rules of the hot path hold here as well: a no-op sync may be
answered before all of this is loaded.
"""

from __future__ import annotations

import _signal
import _socket
import os

from pkgc_protocol.frames import FrameDecoder, encode
from pkgc_protocol.messages import ProtocolError
from pkgc_protocol.states import CLIENT, Conversation

from .hot import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, Gone, Unavailable, begin, early

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Interrupted(BaseException):
    """SIGINT or SIGTERM came while waiting for the daemon."""


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
        """Make the request, and see it through; see `finish`.

        Raises:
            Gone: the daemon left before it began to answer.
        """
        begin(self.sock, request, cache)
        return self.finish(request["t"])

    def finish(self, kind: str) -> int:
        """Serve the daemon until its terminal frame; what hands began in threads is over afterwards.

        Args:
            kind: type of the request, which was sent together with the greeting.

        Returns:
            The exit status of the command.

        Raises:
            Gone: the daemon left before it began to answer.
            Unavailable: it refused, broke off in the middle, or does not speak as expected; or its output
                could not be written.
        """
        try:
            return self._finish(kind)
        except ProtocolError as error:
            raise Unavailable(
                "protocol-error",
                f"the daemon does not speak as expected: {error}",
                "`pkgc daemon restart` replaces it",
            ) from error
        finally:
            if self.helpers is not None:
                self.helpers.end()

    def _finish(self, request: str) -> int:
        self.conversation.sending("hello")
        self.conversation.sending(request)
        for number in (_signal.SIGINT, _signal.SIGTERM):
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, self.on_signal)
        self.interrupts += len(early)
        early.clear()
        answered = False
        while True:
            try:
                self.waiting = True
                if self.interrupts > self.cancelled:  # it came while frames were looked at
                    raise Interrupted
                # A look first: the signal handler may raise here, and bytes that were taken would be lost.
                self.sock.recv(1, _socket.MSG_PEEK)
                self.waiting = False
                data = self.sock.recv(65536)
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
