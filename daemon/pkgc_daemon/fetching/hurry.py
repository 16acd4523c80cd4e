"""Hurry: leaves a slow source for one that another waiter has brought; times transfers, makes none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from pkgc_daemon.fetching.routes import Flight, has_untried


class TooSlow(Exception):
    """A transfer was ended in favour of another source."""


@contextlib.asynccontextmanager
async def hurry(
    flight: Flight, received: Callable[[], int], window: float, rate: float
) -> AsyncIterator[None]:
    """Ends a transfer that is slow as soon as there is a source that has not been tried yet.

    Each source is left at most once for each other one, so that two slow ones do not take turns for ever.

    Args:
        flight: whose transfer runs in the block.
        received: bytes of it that came over the network so far.
        window: seconds over which the rate is taken.
        rate: bytes a second that are enough.

    Raises:
        TooSlow: of the two the other should be tried.
    """
    loop = asyncio.get_running_loop()
    enough = rate * window
    samples = deque([(loop.time(), 0)])
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        now, here = loop.time(), received()
        while len(samples) > 1 and samples[1][0] <= now - window:
            samples.popleft()
        began, before = samples[0]
        samples.append((now, here))
        slow = now - began >= window and here - before < enough * (now - began) / window
        if slow and flight.arrived != flight.total and has_untried(flight):
            limit.reschedule(now)
            return
        timer = loop.call_later(window / 5, look)

    limit = asyncio.timeout(None)
    try:
        async with limit:
            timer = loop.call_later(window / 5, look)
            yield
    except TimeoutError:
        if limit.expired():
            raise TooSlow from None
        raise
    finally:
        if timer is not None:
            timer.cancel()
