"""Slots: how many transfers run at once, the largest file of a burst first; it transfers nothing.

The last wheel to arrive is the last to be unpacked: a large one that comes late leaves the processors idle.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Seconds within which requests count as one burst; between bursts, who came first goes first.
BURST = 0.5


class Slots:
    """A counting semaphore whose waiters of one burst are served by size.

    Args:
        count: transfers at once.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def locked(self) -> bool:
        """Whether somebody would have to wait."""
        return self._free == 0

    @asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Args:
            size: bytes that will be transferred, as far as is known; 0 when unknown.
        """
        await self._acquire(size)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, size: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (int(loop.time() / BURST), -size, next(self._numbers), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release()  # it was granted at the same moment
            else:
                granted.cancel()
            raise

    def _release(self) -> None:
        while self._waiting:
            *_order, granted = heapq.heappop(self._waiting)
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1


class HostSlots:
    """Slots for all hosts together, and for each of them.

    Args:
        count: transfers at once.
        per_host: transfers at once from one host.
    """

    def __init__(self, count: int, per_host: int) -> None:
        self._all = Slots(count)
        self._per_host = per_host
        self._hosts: dict[str, Slots] = {}

    @asynccontextmanager
    async def slot(self, host: str, size: int) -> AsyncIterator[None]:
        """See `Slots.slot`; for a transfer from `host`."""
        if len(self._hosts) > 1000:
            self._hosts = {name: slots for name, slots in self._hosts.items() if slots.locked()}
        # The host first: who waits for a busy host must not hold a place that another host could use.
        async with self._hosts.setdefault(host, Slots(self._per_host)).slot(size), self._all.slot(size):
            yield
