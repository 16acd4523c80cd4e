"""Turns: who changes an environment next. Waiting costs no thread: those belong to all clients.

Calls of this daemon wait in a queue per environment, in the order in which they came. Only the first of
them looks, again and again, whether another program still holds the environment's lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from pkgc_daemon.errors import PkgcError

from .hostcalls import Report, World

#: Seconds that a call waits for others that change the same environment.
LOCK_TIMEOUT = 300.0
#: Seconds of that after which it says what it waits for.
LOCK_SILENCE = 1.0
#: Seconds between two looks at a lock that another program holds: at first, and at most.
LOCK_PAUSES = (0.05, 0.25)


class Turns:
    """The queues of one daemon."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def apply(
        self, world: World, args: dict[str, Any], report: Report, waiting: Callable[[], None]
    ) -> dict[str, Any]:
        """Do `apply_plan` when it is this call's turn and no other program has the environment's lock.

        Args:
            world: where the environment is.
            args: of the hand; its ``lock_timeout`` is set here.
            report: as for `World.do`.
            waiting: called when there is a wait that a person notices; perhaps more than once.

        Raises:
            PkgcError: ``environment-locked`` after `LOCK_TIMEOUT`; what the hand raises.
        """
        venv: str = args["venv"]
        began = time.monotonic()
        pause, most = LOCK_PAUSES
        async with self._turn(venv if world.is_own else None, venv, waiting):
            while True:
                try:
                    return await world.do("apply_plan", args | {"lock_timeout": 0}, report)
                except PkgcError as error:
                    if error.code != "environment-locked":
                        raise
                    waited = time.monotonic() - began
                    if waited >= LOCK_TIMEOUT:
                        raise _locked(venv) from error
                if waited >= LOCK_SILENCE:
                    waiting()
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, most)

    @asynccontextmanager
    async def _turn(self, key: str | None, venv: str, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Hold the first place of a queue; with no key there is no queue (that path means another folder)."""
        if key is None:
            yield
            return
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = asyncio.Lock()
        notice = asyncio.get_running_loop().call_later(LOCK_SILENCE, waiting)
        try:
            async with asyncio.timeout(LOCK_TIMEOUT):
                await queue.acquire()
        except TimeoutError as error:
            raise _locked(venv) from error
        finally:
            notice.cancel()
        try:
            yield
        finally:
            queue.release()


def _locked(venv: str) -> PkgcError:
    return PkgcError(
        "environment-locked",
        f"other programs have worked on {venv} for {LOCK_TIMEOUT:g} s",
        hint="wait for the other uv or pkgc command that works on this environment to end",
    )
