"""Server: accepts connections, keeps each one's task, counts, drains, exits when idle."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pkgc_protocol import ProtocolError

from .listening import Listener
from .log import event
from .session import Hello, Refusal, Session
from .trust import identify

#: Connections that are served at once; beyond it a client gets a typed `busy`.
MAX_CONNECTIONS = 1024
#: Commands that run or wait at once; beyond it a client gets a typed `busy`.
MAX_CALLS = 256
#: Seconds that running commands have when the daemon stops.
DRAIN_TIMEOUT = 60.0
#: Seconds that a client has, when the daemon stops, to take its answer or to undo what it does.
SLOW_TIMEOUT = 3.0
#: Seconds between two attempts to accept after the process ran out of descriptors.
ACCEPT_PAUSE = 0.2

Serve = Callable[[Session, dict[str, Any]], Awaitable[int]]


class Server:
    """The front of the daemon.

    Args:
        listener: where clients connect.
        hello: what is said and compared in the greeting.
        serve: runs one invocation in a session; its exit status.
        idle_exit: seconds without a client after which `stopped` is set; None: never.
    """

    def __init__(self, listener: Listener, hello: Hello, serve: Serve, idle_exit: float | None) -> None:
        self.started_at = time.monotonic()
        self.clients = 0
        self.served = 0
        self.running = 0
        self.refused: dict[str, int] = {}
        self.stopping = asyncio.Event()
        self.usable: Callable[[], bool] = lambda: True
        """Asked before each call; if not, this daemon leaves, and the client starts another one."""
        self.reason = ""
        self._listener = listener
        self._hello = hello
        self._serve = serve
        self._idle_exit = idle_exit
        self._last_seen = time.monotonic()
        self._sessions: set[Session] = set()

    def stop(self, reason: str) -> None:
        """Begin to drain: accept nothing more, finish what runs."""
        if not self.stopping.is_set():
            self.reason = reason
            self.stopping.set()

    async def run(self) -> None:
        """Serve until `stop`, then drain; returns when the last session is over."""
        sessions: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            acceptor = group.create_task(self._accept(group, sessions))
            idler = group.create_task(self._watch_idle())
            await self.stopping.wait()
            event("stopping", reason=self.reason, running=self.running)
            acceptor.cancel()
            idler.cancel()
            self._listener.withdraw()
            await self._drain(sessions)

    async def _drain(self, sessions: set[asyncio.Task[None]]) -> None:
        """Let what runs finish; then cancel it; then leave those behind who hold it up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_TIMEOUT
        slow = loop.time() + SLOW_TIMEOUT
        while sessions and loop.time() < deadline:
            if loop.time() >= slow:
                for session in list(self._sessions):
                    if session.idle:  # it only reads its answer, or has not asked for anything
                        session.drop()
            await asyncio.wait(sessions, timeout=min(1.0, deadline - loop.time()))
        for task in sessions:
            task.cancel()
        if sessions:
            await asyncio.wait(sessions, timeout=SLOW_TIMEOUT)
        for session in list(self._sessions):
            session.drop()

    async def _accept(self, group: asyncio.TaskGroup, sessions: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _address = await loop.sock_accept(self._listener.socket)
            except OSError as error:  # EMFILE, ENFILE, ENOMEM: wait for better times; the backlog keeps them
                event("accept-failed", error=os.strerror(error.errno or 0))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            task = group.create_task(self._connection(connection))
            sessions.add(task)
            task.add_done_callback(sessions.discard)

    async def _watch_idle(self) -> None:
        if self._idle_exit is None:
            return
        while True:
            if self.clients:
                self._last_seen = time.monotonic()
            left = self._last_seen + self._idle_exit - time.monotonic()
            if left <= 0:
                self.stop("idle")
                return
            await asyncio.sleep(min(left, 1.0) if not self.clients else 1.0)

    async def _connection(self, connection: Any) -> None:
        self.clients += 1
        self._last_seen = time.monotonic()
        session: Session | None = None
        try:
            peer = identify(connection)
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=1 << 20)
            session = Session(reader, writer, peer, self._hello)
            self._sessions.add(session)
            await self._converse(session)
        except ProtocolError as error:
            self._count("protocol-error")
            event("protocol-error", error=str(error), pid=session.client_pid if session else 0)
            if session is not None:
                session.fail("protocol-error", f"the client does not speak as expected: {error}")
        except (TimeoutError, OSError) as error:
            event("connection-failed", error=f"{type(error).__name__}: {error}")
        except Exception as error:  # one connection must not end the others, which share its task group
            event("connection-crashed", logging.ERROR, exc=error)
            if session is not None:
                session.fail("internal-error", f"{type(error).__name__}: {error}")
        finally:
            try:
                if session is not None:
                    await session.close()
                else:
                    connection.close()
            finally:
                if session is not None:
                    self._sessions.discard(session)
                self.clients -= 1
                self._last_seen = time.monotonic()

    async def _converse(self, session: Session) -> None:
        try:
            request = await session.greet()
            if request is None:
                return
            if request["t"] == "stop":
                session.send({"t": "result", "exit": 0})
                self.stop("asked by a client")
                return
            if not self.stopping.is_set() and not self.usable():
                self.stop("its cache was removed")
            if self.stopping.is_set():
                raise Refusal("draining", "this daemon is stopping")
            if self.clients > MAX_CONNECTIONS or self.running >= MAX_CALLS:
                raise Refusal("busy", f"the daemon is busy: {self.running} commands are running or waiting")
        except Refusal as refusal:
            self._count(refusal.frame["code"])
            event("refused", code=refusal.frame["code"], pid=session.client_pid)
            if refusal.frame["code"] == "version-mismatch" and session.peer.kind == "own":
                self.stop("replaced by another version")
            session.refuse(refusal)
            return
        self.running += 1
        try:
            await session.perform(lambda: self._serve(session, request))
            self.served += 1
        finally:
            self.running -= 1

    def _count(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
