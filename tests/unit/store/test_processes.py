"""Unpacking in children: the same trees, the same errors, and nothing that outlives the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees
from pkgc_daemon.store.lanes import Job
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.processes import ProcessWorkers, default_count
from pkgc_daemon.store.workers import ThreadWorkers
from tests.support.instance import alive, wait_until
from tests.support.wheels import BuiltWheel, make_wheel


def job(cache: Path, wheel: BuiltWheel) -> Job:
    """A wheel to unpack, in a cache that has its folders."""
    Layout(cache).create(shared=False)
    path = wheel.write_to(cache / "in")
    return Job(str(cache), str(path), wheel.filename, wheel.sha256, "boot", len(wheel.data))


async def test_children_and_threads_agree(tmp_path: Path) -> None:
    """Where wheels are unpacked must not change what is installed."""
    wheel = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n", "demo/é.txt": "text"})
    threads, children = ThreadWorkers(1), ProcessWorkers(1)
    try:
        _row, one, _laid = await threads.unpack(job(tmp_path / "one", wheel))
        _row, two, _laid = await children.unpack(job(tmp_path / "two", wheel))
    finally:
        threads.close()
        children.close()
    assert one == two
    both = [trees.read_manifest(Layout(tmp_path / name), wheel.sha256).files for name in ("one", "two")]
    assert both[0]
    assert [(f.path, f.size, f.sha256) for f in both[0]] == [(f.path, f.size, f.sha256) for f in both[1]]


async def test_a_bad_wheel_is_the_same_error(tmp_path: Path) -> None:
    """The reason of a refusal must reach the user from the child, and the child must go on."""
    bad = make_wheel("demo", "1.0", {"demo.py": "x"})._replace(filename="other-1.0-py3-none-any.whl")
    good = make_wheel("demo", "1.0", {"demo.py": "x"})
    children = ProcessWorkers(1)
    try:
        with pytest.raises(PkgcError) as failure:
            await children.unpack(job(tmp_path / "c", bad))
        assert failure.value.code == "bad-wheel"
        assert list((tmp_path / "c" / "tmp").iterdir()) == []
        _row, manifest, _laid = await children.unpack(job(tmp_path / "c", good))
        assert manifest.name == "demo"
    finally:
        children.close()


async def test_a_killed_child_is_replaced(tmp_path: Path) -> None:
    """One out-of-memory kill must not end every sync until the daemon is restarted."""
    children = ProcessWorkers(1)
    children.start()
    try:
        await asyncio.to_thread(wait_until, lambda: children.children(), "the child is started ahead")
        first = children.children()[0]
        os.kill(first, signal.SIGKILL)
        _row, manifest, _laid = await children.unpack(
            job(tmp_path / "c", make_wheel("demo", "1.0", {"demo.py": "x"}))
        )
        assert manifest.version == "1.0"
        second = children.children()[-1]
        assert second != first
    finally:
        children.close()
    assert not alive(second)


def test_children_end_with_a_killed_daemon() -> None:
    """kill -9 of the daemon must not leave processes that write to the cache of the next one."""
    program = (
        "import time\n"
        "from pkgc_daemon.store.processes import ProcessWorkers\n"
        "workers = ProcessWorkers(2)\n"
        "workers.start()\n"
        "while len(workers.children()) < 2: time.sleep(0.01)\n"
        "print(*workers.children(), flush=True)\n"
        "time.sleep(60)\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    pids = [int(pid) for pid in daemon.stdout.readline().split()]
    assert len(pids) == 2
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    wait_until(lambda: not any(map(alive, pids)), "the children are gone")


def test_number_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small machine must be able to do without."""
    monkeypatch.setenv("PKGC_UNPACK_PROCESSES", "0")
    assert default_count() == 0
    monkeypatch.delenv("PKGC_UNPACK_PROCESSES")
    assert 1 <= default_count() <= 4


async def test_children_that_rest_are_gone_and_come_back(tmp_path: Path) -> None:
    """A daemon with nothing to do must not hold on to what unpacking took; the next sync must not notice."""
    wheel = make_wheel("demo", "1.0", {"demo.py": "x"})
    workers = ProcessWorkers(2)
    try:
        workers.start()
        await workers.unpack(job(tmp_path / "one", wheel))
        first = workers.children()
        assert first
        workers.rest()
        for _ in range(1000):
            if not workers.children() and not any(alive(pid) for pid in first):
                break
            await asyncio.sleep(0.01)
        assert workers.children() == []
        assert not any(alive(pid) for pid in first)
        _row, manifest, _note = await workers.unpack(job(tmp_path / "two", wheel))
        assert manifest.name == "demo"
    finally:
        workers.close()
