"""Host calls: what must be done in the client's world, done by the daemon or by the client.

`World.do` is the one door; the table of trust.py decides who passes through it.  Both ways run the
same functions (pkgc_daemon/hands.py), so the second way is tested by the same suite.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Protocol

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.hands import HANDS

from .trust import Peer, actor

Report = Callable[[int, int], None]

#: Where the process that looks finds itself.
_PRIVATE = ("/dev/fd/", "/dev/stdin", "/proc/self/", "/proc/thread-self/")


class Caller(Protocol):
    """The session, as far as host calls need it."""

    async def call(self, verb: str, args: dict[str, Any], report: Report | None) -> Any:
        """Have the client do `verb`; its value, or its PkgcError."""


class World:
    """The eyes and hands of one call.

    Args:
        peer: who asked.
        caller: how to reach the client.
        executor: threads for what the daemon does itself.
        env: variables that the client forwarded.
        force_client: have the client do everything (debug switch; other uids depend on this way).
    """

    def __init__(
        self,
        peer: Peer,
        caller: Caller,
        executor: Executor,
        env: Mapping[str, str],
        *,
        force_client: bool = False,
    ) -> None:
        self._peer = peer
        self._began = time.monotonic_ns()
        self._caller = caller
        self._executor = executor
        self._env = env
        self._force_client = force_client

    def acts_here(self, verb: str) -> bool:
        """Whether the daemon does `verb` itself, not the client."""
        return not self._force_client and actor(verb, self._peer.kind) == "daemon"

    @property
    def identity(self) -> str:
        """Whose work may be shared: '' for all clients in the daemon's own world; any other is alone.

        What such a client says it has built is true for itself only.
        """
        return "" if self.is_own else f"{self._peer.kind} {self._peer.pid} {id(self)} {self._began}"

    @property
    def is_own(self) -> bool:
        """Whether a path means the same here as for the client, whoever acts."""
        return self._peer.kind == "own"

    async def do(
        self, verb: str, args: dict[str, Any], report: Report | None = None, *, rule: str | None = None
    ) -> dict[str, Any]:
        """Perform `verb` in the client's world.

        Args:
            verb: a name in `HANDS`.
            args: its arguments.
            report: called on the loop's thread with (done, total) while it works.
            rule: row of the trust table, when it is not the verb's own.

        Raises:
            PkgcError: what the hand raised; `verb-denied` when the table says so.
        """
        who = actor(rule or verb, self._peer.kind)
        if who == "deny":
            raise PkgcError("verb-denied", f"a client of uid {self._peer.uid} may not ask for {verb}")
        if who == "client" or self._force_client:
            value = await self._caller.call(verb, args, report)
            if not isinstance(value, dict):
                raise PkgcError("client-failed", f"the client answered {verb} with {type(value).__name__}")
            return value
        return await self._do_here(verb, args, report)

    async def _do_here(self, verb: str, args: dict[str, Any], report: Report | None) -> dict[str, Any]:
        """Run the hand in a thread. On cancellation it is told to stop, and its end is awaited: a change of
        an environment is over (done or undone) before anybody else hears of it."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def progress(done: int, total: int) -> None:
            if report is not None:
                loop.call_soon_threadsafe(report, done, total)

        future = loop.run_in_executor(self._executor, HANDS[verb], args, progress, stop.is_set)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if not future.cancelled():
                future.exception()  # retrieved: the caller only hears of the cancellation
            raise

    async def read_files(self, paths: list[str], *, optional: bool = False) -> list[bytes | None]:
        """Contents of input files, '-' being the client's standard input.

        Raises:
            InputError: one cannot be read (with `optional`, a missing one is None instead).
        """
        if not paths:
            return []
        # `pkgc sync <(export)`: such paths mean another file in every process
        private = any(path == "-" or path.startswith(_PRIVATE) for path in paths)
        rule = "read_stdin" if private else "read_file"
        value = await self.do("read_file", {"paths": paths, "optional": optional}, rule=rule)
        files: list[bytes | None] = value["files"]
        return files

    async def variables(self, names: frozenset[str]) -> Mapping[str, str]:
        """Values of variables in the client's world; those that it forwarded cost no call."""
        found = {name: self._env[name] for name in names if name in self._env}
        missing = sorted(names - found.keys())
        if missing:
            found |= (await self.do("read_variables", {"names": missing}))["values"]
        return found

    async def exist(self, paths: list[str]) -> list[bool]:
        """Which of these absolute paths exist in the client's world."""
        if not paths:
            return []
        present: list[bool] = (await self.do("paths_exist", {"paths": paths}))["present"]
        return present
