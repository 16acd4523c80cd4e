"""Several clients, one environment; several environments, one cache; other programs that hold the lock."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faults import (
    assert_holds,
    assert_sound,
    client_acts,
    environment_faults,
    finish,
    lock,
    offer,
    package,
    start_armed_client,
    state,
    wait_for,
)
from tests.support.instance import Instance
from tests.support.locks import holds
from tests.support.peertools import UV, uv_environment
from tests.support.server import IndexServer


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("missing", [False, True], ids=["existing", "missing"])
def test_same_lock(
    pkgc: Instance, index: IndexServer, tmp_path: Path, venv: Path, count: int, missing: bool
) -> None:
    """A Makefile with -j and two targets that sync: both must succeed and the environment be right."""
    wheels = [package(name, "1.0") for name in ("alpha", "beta", "gamma")]
    offer(index, *wheels)
    one_lock = lock(pkgc, "one.txt", wheels)
    where = tmp_path / "new" if missing else venv
    calls = [pkgc.start("sync", one_lock, "--venv", where, "-i", index.url) for _ in range(count)]
    for status, out, err in map(finish, calls):
        assert status == 0, out + err
    assert_holds(where, *wheels)
    assert all(len(index.requests_for(wheel.filename)) == 1 for wheel in wheels)
    assert_sound(pkgc)


@pytest.mark.parametrize("missing", [False, True], ids=["existing", "missing"])
def test_different_locks(
    pkgc: Instance, index: IndexServer, tmp_path: Path, venv: Path, missing: bool
) -> None:
    """The environment is what one of them said, never a mixture that no lock describes."""
    first = [package("alpha", "1.0"), package("beta", "1.0"), package("kept", "1.0")]
    second = [package("alpha", "2.0"), package("gamma", "2.0"), package("kept", "1.0")]
    offer(index, *first, *second)
    locks = [lock(pkgc, "first.txt", first), lock(pkgc, "second.txt", second)]
    for number in range(3):
        where = tmp_path / f"new{number}" if missing else venv
        options = ("--venv", where, "-i", index.url)
        calls = [pkgc.start("sync", one, *options) for one in locks * 2]
        for status, out, err in map(finish, calls):
            assert status == 0, out + err
        found = [environment_faults(where, wheels) for wheels in (first, second)]
        assert [] in found, found
    assert_sound(pkgc)


def test_second_waits_while_the_first_installs(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """Deterministic: one stands in the middle of its change, the other comes, waits, and wins."""
    if not client_acts(pkgc):
        pytest.skip("two threads of one daemon take the same way")
    first, second = [package("alpha", "1.0"), package("beta", "1.0")], [package("alpha", "2.0")]
    offer(index, *first, *second)
    options = ("--venv", venv, "-i", index.url)
    gate = pkgc.root / "gate"
    pkgc.ok("cache", "dir")
    slow = start_armed_client(
        pkgc, [f"checkpoint:place *=pause:{gate}"], "sync", lock(pkgc, "first.txt", first), *options
    )
    wait_for(Path(f"{gate}.reached"), slow)
    other = pkgc.start("sync", lock(pkgc, "second.txt", second), *options)
    time.sleep(1.5)
    assert other.poll() is None
    gate.touch()
    for status, out, err in (finish(slow), finish(other)):
        assert status == 0, out + err
    assert_holds(venv, *second)
    assert_sound(pkgc)


@contextmanager
def held(venv: Path) -> Iterator[None]:
    """Hold the environment's lock as uv does."""
    descriptor = os.open(venv / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_waits_for_the_lock_that_uv_takes(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """uv and pkgc in one environment at once would each remove the other's files."""
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    before = state(venv)
    pkgc.ok("cache", "dir")
    with held(venv):
        call = pkgc.start("sync", lock(pkgc, "one.txt", [wheel]), "--venv", venv, "-i", index.url)
        time.sleep(3)
        assert call.poll() is None
        assert state(venv) == before
    status, out, err = finish(call)
    assert status == 0, out + err
    assert "waiting for another program that works on" in err
    assert_holds(venv, wheel)


def test_waiting_can_be_cancelled(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """Ctrl-C must work while another program holds the environment, and change nothing."""
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    before = state(venv)
    pkgc.ok("cache", "dir")
    with held(venv):
        call = pkgc.start(
            "sync", lock(pkgc, "one.txt", [wheel]), "--venv", venv, "-i", index.url, "--output-format", "json"
        )
        time.sleep(2)
        call.send_signal(signal.SIGINT)
        status, out, err = finish(call, 20)
    assert status == 130, out + err
    assert json.loads(out)["ok"] is False
    assert state(venv) == before


def test_uv_waits_for_us(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """The lock works in the other direction too."""
    if not client_acts(pkgc):
        pytest.skip("once is enough")
    mine, theirs = package("alpha", "1.0"), package("beta", "1.0")
    offer(index, mine, theirs)
    gate = pkgc.root / "gate"
    pkgc.ok("cache", "dir")
    call = start_armed_client(
        pkgc,
        [f"checkpoint:place *=pause:{gate}"],
        *("sync", lock(pkgc, "one.txt", [mine]), "--venv", venv, "-i", index.url),
    )
    wait_for(Path(f"{gate}.reached"), call)
    command: list[str | Path] = [UV, "pip", "install", "--python", venv, "-i", index.url, "beta==1.0"]
    uv = subprocess.Popen(
        command,
        env=uv_environment(pkgc.root / "uv"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    waited = uv.poll() is None
    gate.touch()
    for status, out, err in (finish(call), finish(uv)):
        assert status == 0, out + err
    assert waited
    assert holds(venv) == {"alpha": "1.0", "beta": "1.0"}


def test_eight_cold_environments_fetch_everything_once(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Eight CI jobs on one machine cost the index one transfer per wheel and one per page (invariant 3)."""
    index.page_headers["Cache-Control"] = "max-age=600"  # as real indexes say; without it, they revalidate
    wheels = [package(f"pack{number}", "1.0", big=50_000) for number in range(12)]
    offer(index, *wheels)
    one_lock = lock(pkgc, "one.txt", wheels)
    calls = [
        pkgc.start("sync", one_lock, "--venv", tmp_path / f"env{number}", "-i", index.url)
        for number in range(8)
    ]
    for status, out, err in map(finish, calls):
        assert status == 0, out + err
    assert {wheel.filename: len(index.requests_for(wheel.filename)) for wheel in wheels} == {
        wheel.filename: 1 for wheel in wheels
    }
    assert [len(index.page_requests(f"pack{number}")) for number in range(12)] == [1] * 12
    for number in range(8):
        assert_holds(tmp_path / f"env{number}", *wheels)
    assert_sound(pkgc)


def test_waiting_for_a_lock_holds_up_nobody_else(
    pkgc: Instance, index: IndexServer, venv: Path, tmp_path: Path
) -> None:
    """One `uv` that hangs in one environment must not stop the syncs of all others."""
    first, second = package("alpha", "1.0"), package("beta", "1.0")
    offer(index, first, second)
    pkgc.ok("fetch", lock(pkgc, "both.txt", [first, second]), "-i", index.url)
    locks = [lock(pkgc, "first.txt", [first]), lock(pkgc, "second.txt", [second])]
    options = ("-i", index.url, "--output-format", "json")
    with held(venv):
        waiting = [pkgc.start("sync", locks[n % 2], "--venv", venv, *options) for n in range(36)]
        running = 0
        deadline = time.monotonic() + 60
        while running < len(waiting) and time.monotonic() < deadline:
            running = (pkgc.status() or {"calls": {"running": 1}})["calls"]["running"] - 1
            time.sleep(0.1)
        assert running == len(waiting)
        time.sleep(3)  # each has still to get to the queue, and to wait there for a second
        pkgc.ok("sync", locks[0], "--venv", tmp_path / "other", *options, timeout=20)
        waiting[0].send_signal(signal.SIGINT)
        waiting[-1].send_signal(signal.SIGINT)
        assert finish(waiting[0])[0] == finish(waiting[-1])[0] == 130
        assert all(one.poll() is None for one in waiting[1:-1])
    for one in waiting[1:-1]:
        status, out, err = finish(one)
        assert status == 0, out + err
        assert "waiting for another program that works on" in err
    found = [environment_faults(venv, wheels) for wheels in ([first], [second])]
    assert [] in found, found
    assert_sound(pkgc)
