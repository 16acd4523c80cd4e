"""Shared work: once for all who want it, taken over when its doer leaves, and never waiting for itself."""

from __future__ import annotations

import asyncio

import pytest

from pkgc_daemon.building.shared import Shared
from pkgc_daemon.errors import PkgcError


async def test_what_two_want_is_done_once() -> None:
    """Else two syncs of one lock compile the same thing twice."""
    shared, done = Shared(), 0
    go = asyncio.Event()

    async def work() -> int:
        nonlocal done
        done += 1
        await go.wait()
        return 42

    tasks = [asyncio.create_task(shared.run("key", "demo", work)) for _ in range(5)]
    await asyncio.sleep(0.01)
    go.set()
    assert await asyncio.gather(*tasks) == [42] * 5
    assert done == 1
    assert await shared.run("key", "demo", work) == 42
    assert done == 2, "what is over is not remembered here"


async def test_the_next_one_takes_over_when_the_first_leaves() -> None:
    """Else Ctrl-C in one terminal ends the sync in another one."""
    shared, begun = Shared(), 0

    async def work() -> str:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.05)
        return "made"

    first = asyncio.create_task(shared.run("key", "demo", work))
    await asyncio.sleep(0)
    second = asyncio.create_task(shared.run("key", "demo", work))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "made"
    assert begun == 2


async def test_a_waiter_that_leaves_only_leaves() -> None:
    """Else one impatient client ends a build that others wait for."""
    shared, go = Shared(), asyncio.Event()

    async def work() -> str:
        await go.wait()
        return "made"

    first = asyncio.create_task(shared.run("key", "demo", work))
    await asyncio.sleep(0)
    second = asyncio.create_task(shared.run("key", "demo", work))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    assert await first == "made"


@pytest.mark.parametrize(("code", "runs"), [("build-failed", 1), ("connection-refused", 2)])
async def test_lasting_errors_are_everybodys_and_others_are_not(code: str, runs: int) -> None:
    """Else a failing build runs once for each waiter; or one client's dead proxy fails all of them."""
    shared, begun = Shared(frozenset({"build-failed"})), 0

    async def work() -> str:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.01)
        raise PkgcError(code, "it failed", context="here", hint="try", exit_status=1)

    outcomes = await asyncio.gather(
        *(shared.run("key", "demo", work) for _ in range(2)), return_exceptions=True
    )
    assert begun == runs
    assert [type(one) for one in outcomes] == [PkgcError, PkgcError]
    assert outcomes[0] is not outcomes[1]
    assert all(isinstance(one, PkgcError) and one.context == "here" for one in outcomes)


async def test_work_that_needs_itself_is_an_error_that_names_the_way() -> None:
    """Else a circle of build requirements hangs for ever."""
    shared = Shared()
    needs = {"a": "list", "list": "b", "b": "c", "c": "a"}
    labels = {"a": "A 1", "list": "", "b": "B 2", "c": "C 3"}

    async def make(name: str) -> str:
        inner = needs[name]
        # In a task of its own, as a group of parallel downloads would.
        return await asyncio.create_task(shared.run(inner, labels[inner], lambda: make(inner)))

    with pytest.raises(PkgcError) as failure:
        async with asyncio.timeout(5):
            await shared.run("a", labels["a"], lambda: make("a"))
    assert failure.value.code == "build-cycle"
    assert "A 1 → B 2 → C 3 → A 1" in (failure.value.context or "")


async def test_two_calls_that_wait_for_one_another_are_told() -> None:
    """Else a lock of two source archives that need each other hangs: each is begun by itself."""
    shared = Shared()

    async def make(name: str, other: str) -> str:
        await asyncio.sleep(0.01)  # both are under way then
        return await shared.run(other, other, lambda: make(other, name))

    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(
            shared.run("a", "A", lambda: make("a", "b")),
            shared.run("b", "B", lambda: make("b", "a")),
            return_exceptions=True,
        )
    assert [one.code for one in outcomes if isinstance(one, PkgcError)] == ["build-cycle"] * 2


async def test_needing_the_same_twice_is_no_circle() -> None:
    """Else two packages that both need one backend from source cannot be built."""
    shared, made = Shared(), 0

    async def backend() -> str:
        nonlocal made
        made += 1
        await asyncio.sleep(0.01)
        return "backend"

    async def project() -> list[str]:
        return await asyncio.gather(*(shared.run("backend", "Backend", backend) for _ in range(3)))

    found = await asyncio.gather(*(shared.run(name, name, project) for name in ("one", "two")))
    assert found == [["backend"] * 3] * 2
    assert made == 1
    assert not shared._needs
    assert not shared._labels
