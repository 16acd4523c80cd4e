"""Turns: the order of waiters, what they cost, and the end of their patience."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.serving import turns as module
from pkgc_daemon.serving.turns import Turns


class FakeWorld:
    """An environment whose lock another program holds for so many attempts."""

    def __init__(self, held: int = 0, *, is_own: bool = True, took: float = 0.01) -> None:
        self.held = held
        self.is_own = is_own
        self.took = took
        self.attempts = 0
        self.active = 0
        self.most = 0
        self.done: list[Any] = []

    async def do(self, verb: str, args: dict[str, Any], report: Any) -> dict[str, Any]:
        """`apply_plan`, which must never wait itself."""
        assert (verb, args["lock_timeout"]) == ("apply_plan", 0)
        self.attempts += 1
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(self.took)
        finally:
            self.active -= 1
        if self.attempts <= self.held:
            raise PkgcError("environment-locked", "held")
        self.done.append(args["who"])
        return {"status": "done"}


async def apply(turns: Turns, world: FakeWorld, who: Any, said: list[Any] | None = None) -> dict[str, Any]:
    """One waiter."""
    notes = [] if said is None else said
    args = {"venv": "/v", "who": who}
    return await turns.apply(world, args, lambda *_: None, lambda: notes.append(who))  # type: ignore[arg-type]


async def test_waiters_are_served_in_order_and_alone() -> None:
    """Whoever came first is first; a crowd does not look at the lock all at once."""
    turns, world = Turns(), FakeWorld(held=3)
    waiters = [asyncio.create_task(apply(turns, world, number)) for number in range(20)]
    await asyncio.sleep(0.03)
    waiters[0].cancel()
    waiters[5].cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert world.done == [number for number in range(20) if number not in (0, 5)]
    assert world.most == 1
    assert [number for number, one in enumerate(results) if isinstance(one, BaseException)] == [0, 5]


async def test_the_same_path_of_another_container_is_another_environment() -> None:
    """Calls from other mount namespaces must not wait for each other because of a name."""
    turns, world = Turns(), FakeWorld(is_own=False)
    await asyncio.gather(*(apply(turns, world, number) for number in range(5)))
    assert world.most == 5


@pytest.mark.parametrize("queued", [False, True])
async def test_patience_is_told_and_ends(monkeypatch: pytest.MonkeyPatch, queued: bool) -> None:
    """People see why nothing happens, and a hung program does not hold a job for ever."""
    monkeypatch.setattr(module, "LOCK_SILENCE", 0.1)
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.5)
    turns, said = Turns(), list[Any]()
    other = FakeWorld(took=3)
    first = asyncio.create_task(apply(turns, other, "first"))
    await asyncio.sleep(0)
    world = FakeWorld(held=1000) if not queued else other
    if not queued:
        first.cancel()
    with pytest.raises(PkgcError) as caught:
        await apply(turns, world, "second", said)
    assert caught.value.code == "environment-locked"
    assert "second" in said
    first.cancel()


async def test_what_fails_otherwise_is_not_tried_again() -> None:
    """Only a lock that is held is waited for."""

    class Full(FakeWorld):
        async def do(self, verb: str, args: dict[str, Any], report: Any) -> dict[str, Any]:
            self.attempts += 1
            raise PkgcError("disk-full", "full")

    world = Full()
    with pytest.raises(PkgcError, match="full"):
        await apply(Turns(), world, 1)
    assert world.attempts == 1
