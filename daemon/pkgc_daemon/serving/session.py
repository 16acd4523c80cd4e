"""Session: one connection, one call, from the greeting to the one terminal frame."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from pkgc_daemon.errors import EXIT_FAILED, EXIT_INTERRUPTED, PkgcError
from pkgc_protocol import (
    DAEMON,
    FEATURES,
    MAGIC,
    PROTOCOL,
    Conversation,
    FrameDecoder,
    ProtocolError,
    RemoteProtocolError,
    __version__,
    encode,
)
from pkgc_protocol.frames import load_msgpack

from .hostcalls import Report
from .log import event
from .trust import Peer, actor

#: Seconds that a client has for its greeting and its request.
GREETING_TIMEOUT = 10.0
#: Bytes that may wait for a client that does not read; more, and it is disconnected. Room for one frame.
MAX_UNREAD = 40 * 1024 * 1024
#: Bytes waiting above which progress is dropped.
PROGRESS_UNREAD = 64 * 1024
#: Seconds without a byte taken after which a client with its answer waiting is left (a pager may be open).
FAREWELL_TIMEOUT = 600.0
#: Characters of a peer's own words that a message repeats.
QUOTED = 200

Message = dict[str, Any]

load_msgpack()


class Refusal(Exception):
    """The call is not admitted; carries the fields of the `refuse` frame."""

    def __init__(self, code: str, message: str, hint: str | None = None, exit_status: int = 1) -> None:
        super().__init__(message)
        self.frame: Message = {"t": "refuse", "code": code, "message": message, "exit": exit_status}
        if hint:
            self.frame["hint"] = hint


class Hello:
    """What is compared in the greeting.

    Args:
        cache_dir: real path of this daemon's cache.
        software: this daemon's version.
    """

    def __init__(self, cache_dir: str, software: str = __version__) -> None:
        self.cache_dir = cache_dir
        self.software = software

    def frame(self) -> Message:
        """This side's first frame."""
        return {
            "t": "hello",
            "magic": MAGIC,
            "protocol": list(PROTOCOL),
            "software": self.software,
            "features": list(FEATURES),
            "cache_dir": self.cache_dir,
            "pid": os.getpid(),
        }

    def check(self, theirs: Message) -> None:
        """Compare the client's greeting with ours.

        Raises:
            Refusal: another protocol, another version of the software, or another cache.
        """
        protocol = theirs["protocol"]
        if theirs["magic"] != MAGIC or not protocol or protocol[0] != PROTOCOL[0]:
            raise Refusal(
                "protocol-mismatch",
                f"this daemon (pkgc {self.software}) speaks protocol {PROTOCOL[0]}, "
                f"the client {str(protocol)[:40]}",
                "stop the old daemon with `pkgc daemon stop` of its version, or upgrade the client",
            )
        if theirs["cache_dir"] != self.cache_dir:
            raise Refusal(
                "cache-mismatch",
                f"this daemon serves the cache {self.cache_dir}, the client wants {theirs['cache_dir']}",
                "set PKGC_SOCKET and PKGC_CACHE_DIR together: a socket belongs to one cache",
                2,
            )
        if theirs["software"] != self.software:
            raise Refusal(
                "version-mismatch",
                f"this daemon is pkgc {self.software}, the client {str(theirs['software'])[:40]}: "
                "the daemon finishes what it serves and is replaced",
            )


class Session:
    """One connection.

    Args:
        reader: bytes from the client.
        writer: bytes to the client.
        peer: who it is.
        hello: what this daemon says and compares.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, hello: Hello
    ) -> None:
        self.peer = peer
        self.client_pid = peer.pid
        self._reader = reader
        self._writer = writer
        self._hello = hello
        self._decoder = FrameDecoder()
        self._conversation = Conversation(DAEMON)
        self._queue: list[Message] = []
        self._calls: dict[int, tuple[asyncio.Future[Any], Report | None]] = {}
        self._next_call = 0
        self._lost = False
        self.idle = True

    # --- towards the client -------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue one frame; a client with too much unread is disconnected."""
        if self._lost:
            return
        self._conversation.sending(message["t"])
        self._writer.write(encode(message))
        if self._unread() > MAX_UNREAD:
            event("client-does-not-read", pid=self.client_pid, unread=self._unread())
            self.drop()

    def _unread(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def drop(self) -> None:
        """Leave the client: nothing more is sent, and nothing is expected of it."""
        self._lose()
        self._writer.transport.abort()

    def fail(self, code: str, message: str) -> None:
        """Say why the connection ends, if that may still be said."""
        if not self._conversation.finished and not self._lost:
            self.send(Refusal(code, message[:QUOTED]).frame)

    def write(self, stream: int, data: str) -> None:
        """Output for the client's stdout (1) or stderr (2)."""
        raw = data.encode("utf-8", "surrogateescape")
        for start in range(0, len(raw), 1 << 20):
            self.send({"t": "output", "stream": stream, "data": raw[start : start + (1 << 20)]})

    def live(self, text: str) -> None:
        """Replace the live block; dropped when the client lags (the next one replaces it anyway)."""
        if not self._lost and (not text or self._unread() < PROGRESS_UNREAD):
            self.send({"t": "progress", "text": text})

    async def call(self, verb: str, args: dict[str, Any], report: Report | None) -> Any:
        """Have the client do `verb`; see `hostcalls.Caller`.

        On cancellation the client is told to stop, and its answer is awaited while it is connected:
        a change of its environment is over before the terminal frame is sent.
        """
        if self._lost:
            raise asyncio.CancelledError
        self._next_call += 1
        number = self._next_call
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = (future, report)
        self.send({"t": "call", "id": number, "verb": verb, "args": args})
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done() and not self._lost:
                self.send({"t": "abort", "id": number})
                while not future.done():
                    try:
                        await asyncio.wait([future])
                    except asyncio.CancelledError:
                        continue
            if future.done() and not future.cancelled():
                future.exception()
            raise
        finally:
            self._calls.pop(number, None)

    # --- from the client ----------------------------------------------------------------------------

    async def _next(self) -> Message | None:
        """The next frame, or None at the end of the stream."""
        while not self._queue:
            try:
                data = await self._reader.read(262144)
            except ConnectionError:
                return None
            if not data:
                return None
            self._queue = self._decoder.feed(data)
        message = self._queue.pop(0)
        self._conversation.received(message["t"])
        return message

    async def greet(self) -> Message | None:
        """The client's request, after a greeting that agrees; None when it left.

        Raises:
            Refusal: the greeting does not agree, or the peer may not ask for that.
            RemoteProtocolError: it broke the wire's rules.
            TimeoutError: it took too long.
        """
        async with asyncio.timeout(GREETING_TIMEOUT):
            first = await self._next()
            if first is None:
                return None
            self.send(self._hello.frame())
            if self.peer.kind == "other":
                raise Refusal(
                    "peer-not-allowed",
                    f"this daemon belongs to uid {os.getuid()} and does not serve uid {self.peer.uid}",
                )
            self._hello.check(first)
            request = await self._next()
        if request is not None and actor(request["t"], self.peer.kind) != "daemon":
            raise Refusal("verb-denied", f"this client may not ask for {request['t']}")
        return request

    async def perform(self, command: Callable[[], Awaitable[int]]) -> None:
        """Run a command while listening for replies, cancel and the end of the stream; send its result."""
        status = EXIT_INTERRUPTED
        self.idle = False
        task: asyncio.Task[int] = asyncio.ensure_future(_as_coroutine(command))
        listener = asyncio.create_task(self._listen(task))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the daemon is stopping
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            self.idle = True
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            if not task.cancelled():
                error = task.exception()
                if error is not None:
                    event("call-crashed", logging.ERROR, exc=error)
                status = EXIT_FAILED if error is not None else task.result()
            self.send({"t": "result", "exit": status})

    async def _listen(self, command: asyncio.Task[int]) -> None:
        try:
            while True:
                message = await self._next()
                if message is None or message["t"] == "cancel":
                    if message is None:
                        self._lose()
                    command.cancel()
                    if message is None:
                        return
                    continue
                self._answer(message)
        except Exception as error:  # whatever a peer sends, its command must hear of the end
            level = logging.INFO if isinstance(error, ProtocolError) else logging.ERROR
            event("protocol-error", level, pid=self.client_pid, error=f"{type(error).__name__}: {error}")
            self.fail("protocol-error", f"the client does not speak as expected: {error}")
            self._lose()
            command.cancel()

    def _lose(self) -> None:
        """The client is gone: nothing more is sent, and calls to it fail."""
        self._lost = True
        for future, _report in self._calls.values():
            if not future.done():
                future.set_exception(PkgcError("client-vanished", "the client went away"))

    def _answer(self, message: Message) -> None:
        entry = self._calls.get(message["id"])
        if entry is None:
            return  # crossed an abort
        future, report = entry
        if message["t"] == "report":
            if report is not None:
                report(message["done"], message["total"])
        elif not future.done():
            error = message.get("error")
            if error is None:
                future.set_result(message.get("value"))
            else:
                future.set_exception(PkgcError.from_wire(error))

    def refuse(self, refusal: Refusal) -> None:
        """Send the terminal frame of a call that is not admitted."""
        self.send(refusal.frame)

    async def close(self) -> None:
        """Let the client take what is waiting for it, then close; bounded in time."""
        transport = self._writer.transport
        if self._lost:
            transport.abort()
        self._writer.close()
        closed = asyncio.ensure_future(self._writer.wait_closed())
        left = self._unread()
        while not (await asyncio.wait([closed], timeout=FAREWELL_TIMEOUT))[0]:
            if self._unread() >= left:
                transport.abort()
            left = self._unread()
        if not closed.cancelled():
            closed.exception()  # a client that went away first is no news


async def _as_coroutine(command: Callable[[], Awaitable[int]]) -> int:
    return await command()


__all__ = ["Hello", "Refusal", "RemoteProtocolError", "Session"]
