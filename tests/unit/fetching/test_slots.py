"""Which transfer goes first, and that no slot is lost."""

from __future__ import annotations

import asyncio

import pytest

from pkgc_daemon.fetching.slots import Slots


async def holders(slots: Slots, sizes: list[int]) -> list[int]:
    """The order in which holders of these sizes, who come at once, get the one slot."""
    order: list[int] = []

    async def one(size: int) -> None:
        async with slots.slot(size):
            order.append(size)
            await asyncio.sleep(0)

    async with slots.slot(0):
        tasks = [asyncio.create_task(one(size)) for size in sizes]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return order


async def test_largest_of_a_burst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large wheel that comes last is unpacked last, while the processors idle."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    assert await holders(Slots(1), [5, 900, 1, 70]) == [900, 70, 5, 1]


async def test_who_waits_longer_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of large files must not starve somebody's small one."""
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    slots = Slots(1)
    order: list[str] = []

    async def one(name: str, size: int) -> None:
        async with slots.slot(size):
            order.append(name)

    async with slots.slot(0):
        small = asyncio.create_task(one("small", 1))
        await asyncio.sleep(0)
        now = 101.0
        large = asyncio.create_task(one("large", 1000))
        await asyncio.sleep(0)
    await asyncio.gather(small, large)
    assert order == ["small", "large"]


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_waiter_loses_no_slot(granted: bool) -> None:
    """Each lost slot would make every later download slower, until none runs."""
    slots = Slots(1)
    entered = asyncio.Event()

    async def wait() -> None:
        async with slots.slot(1):
            entered.set()

    async with slots.slot(0):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        if not granted:
            waiter.cancel()
            await asyncio.sleep(0)
    if granted:
        waiter.cancel()  # released, but not run yet
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not entered.is_set()
    assert not slots.locked()
