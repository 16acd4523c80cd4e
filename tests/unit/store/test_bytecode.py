"""Bytecode in the store: complete or not there, of this very tree, made once, and gone with it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments.interpreter import probe_interpreter
from pkgc_daemon.store import store as store_module
from pkgc_daemon.store.compiled import find_damage, key_of, read
from pkgc_daemon.store.store import Store
from pkgc_daemon.store.workers import ThreadWorkers
from tests.support.instance import wait_until
from tests.support.interpreters import find, running
from tests.support.wheels import BuiltWheel, make_wheel
from tests.unit.store.test_store import publish

DEMO = make_wheel(
    "demo",
    "1",
    {
        "demo/__init__.py": "def fail():\n    raise ValueError\n",
        "demo/a.b.py": "X = 1\n",
        "demo/bad.py": "print 'two'\n",
        "demo/nul.py": "x = '\0'\n",
        "demo/.py": "",
        "demo/data.txt": "no source",
        "top.py": "",
    },
)
OTHER = make_wheel("other", "1", {"other.py": "Y = 2\n"})
WIRE = probe_interpreter({"python": str(running().path)})
KEY = str(key_of(WIRE))
TAG = str(sys.implementation.cache_tag)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    yield opened
    await opened.close()


async def unpack(store: Store, *wheels: BuiltWheel) -> list[str]:
    for wheel in wheels:
        await store.ensure_tree(await publish(store, wheel), wheel.filename)
    return [wheel.sha256 for wheel in wheels]


def files_of(store: Store, sha256: str, key: str = KEY) -> set[str]:
    folder = store.bytecode.path(sha256, key)
    assert folder is not None
    found = {str(path.relative_to(f"{folder}/root")) for path in Path(folder, "root").rglob("*.pyc")}
    assert found == {entry.path for entry in read(folder).files}
    return found


def wrapper(tmp_path: Path, before: str = "", exec_: str = sys.executable) -> tuple[dict[str, Any], Path]:
    """An interpreter that leaves a line for each time that it is started, and that line's file."""
    path, log = tmp_path / "python", tmp_path / "started"
    log.touch()
    path.write_text(f'#!/bin/sh\necho $$ >> {log}\n{before}\nexec {exec_} "$@"\n')
    path.chmod(0o755)
    return {**WIRE, "base_executable": str(path)}, log


def leftovers(store: Store) -> list[Path]:
    return [*store.layout.temporary.iterdir()]


async def test_what_can_be_compiled_is_compiled(store: Store) -> None:
    """One bad file in a wheel must not cost the bytecode of the others; what is kept cannot be written to."""
    (sha256,) = await unpack(store, DEMO)
    assert store.bytecode.path(sha256, KEY) is None
    await store.bytecode.ensure([sha256], WIRE)
    assert files_of(store, sha256) == {
        f"demo/__pycache__/__init__.{TAG}.pyc",
        f"demo/__pycache__/a.b.{TAG}.pyc",
        f"__pycache__/top.{TAG}.pyc",
    }
    folder = store.bytecode.path(sha256, KEY)
    assert folder is not None
    assert find_damage(folder) is None
    for entry in read(folder).files:
        found = os.stat(f"{folder}/root/{entry.path}")
        assert (found.st_size, found.st_mtime_ns, found.st_ino) == (entry.size, entry.mtime_ns, entry.inode)
        assert stat.S_IMODE(found.st_mode) == 0o444
    assert not leftovers(store)


async def test_data_folders_are_compiled_where_it_is_known_where_they_go(store: Store) -> None:
    """W3: modules in .data/purelib are modules; files in .data/data may be, and the installer must look."""
    pure = make_wheel(
        "pure", "1", {"pure-1.data/purelib/p/m.py": "", "pure-1.data/scripts/s.py": "#!python\n"}
    )
    data = make_wheel("data", "1", {"data-1.data/data/share/m.py": "", "m.py": ""})
    one, other = await unpack(store, pure, data)
    await store.bytecode.ensure([one, other], WIRE)
    assert files_of(store, one) == {f"pure-1.data/purelib/p/__pycache__/m.{TAG}.pyc"}
    assert files_of(store, other) == {f"__pycache__/m.{TAG}.pyc"}
    assert [read(str(store.bytecode.path(sha256, KEY))).whole for sha256 in (one, other)] == [True, False]


async def test_a_tree_without_sources_is_complete_too(store: Store) -> None:
    """Else every environment would start a compiler for it."""
    (sha256,) = await unpack(store, make_wheel("empty", "1", {"empty.txt": ""}))
    await store.bytecode.ensure([sha256], WIRE)
    assert files_of(store, sha256) == set()


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
async def test_each_python_takes_its_own(store: Store, tmp_path: Path, version: str) -> None:
    """W12: bytecode that the interpreter does not take as it is would be compiled again at every start where
    site-packages cannot be written; and a traceback must name the file of the environment."""
    python = find(version)
    if python is None:
        pytest.skip(f"no CPython {version} here")
    wire = probe_interpreter({"python": str(python.path)})
    (sha256,) = await unpack(store, DEMO)
    await store.bytecode.ensure([sha256], WIRE)
    await store.bytecode.ensure([sha256], wire)
    site, folder = tmp_path / "site", store.bytecode.path(sha256, key_of(wire))
    shutil.copytree(store.tree_root(sha256), site, copy_function=shutil.copy2)
    for path in (site, *site.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.copytree(f"{folder}/root", site, copy_function=shutil.copy2, dirs_exist_ok=True)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import demo; demo.fail()"
    ran = subprocess.run([python.path, "-I", "-B", "-v", "-c", code], capture_output=True, text=True)
    assert f"{site}/demo/__pycache__/__init__.{wire['cache_tag']}.pyc matches" in ran.stderr
    assert f'File "{site}/demo/__init__.py", line 2, in fail' in ran.stderr


async def test_it_is_compiled_once_however_many_ask(store: Store, tmp_path: Path) -> None:
    """Eight jobs that start together must not compile the same thing eight times."""
    trees = await unpack(store, DEMO, OTHER)
    wire, log = wrapper(tmp_path)
    await asyncio.gather(*(store.bytecode.ensure(trees, wire) for _ in range(8)))
    await store.bytecode.ensure(trees, wire)
    assert len(log.read_text().splitlines()) == 1
    assert store.bytecode.compiled == 2
    assert all(store.bytecode.path(sha256, KEY) for sha256 in trees)


async def test_many_files_have_several_compilers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits: one big tree must keep all processors busy, and be whole in the end."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    big = make_wheel("big", "1", {f"big/m{number}.py": f"X = {number}\n" for number in range(250)})
    wire, log = wrapper(tmp_path)
    (sha256,) = await unpack(store, big)
    await store.bytecode.ensure([sha256], wire)
    assert len(log.read_text().splitlines()) == 2
    assert len(files_of(store, sha256)) == 250


#: Says what it is, does a part of the work, and dies.
_DYING = """
import json, os, signal, sys
from importlib.util import MAGIC_NUMBER
print(json.dumps({"tag": sys.implementation.cache_tag, "magic": MAGIC_NUMBER.hex()}), flush=True)
unit = json.loads(sys.stdin.readline())
os.makedirs(unit["out"] + "/demo/__pycache__")
open(unit["out"] + "/demo/__pycache__/half.pyc", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_nothing_is_there_of_a_compiler_that_died(store: Store, tmp_path: Path) -> None:
    """A source can crash a compiler: no half of it may be used, no sync may fail or start it for ever."""
    script = tmp_path / "dying.py"
    script.write_text(_DYING)
    wire, log = wrapper(tmp_path, exec_=f"{sys.executable} {script} #")
    (sha256,) = await unpack(store, DEMO)
    for _ in range(2):
        await store.bytecode.ensure([sha256], wire)
    assert len(log.read_text().splitlines()) == 1
    assert store.bytecode.path(sha256, KEY) is None
    assert not list(store.layout.bytecode.rglob("*.pyc"))
    assert not leftovers(store)


async def test_another_python_than_was_asked_compiles_nothing(store: Store) -> None:
    """An upgraded interpreter must not fill the folder of its predecessor with what that cannot read."""
    (sha256,) = await unpack(store, DEMO)
    changed = {**WIRE, "pycache_magic": "0a0d0d0a"}
    await store.bytecode.ensure([sha256], changed)
    assert store.bytecode.path(sha256, key_of(changed)) is None
    assert store.bytecode.path(sha256, KEY) is None


@pytest.mark.parametrize("tag", ["", "../up", "a/b", "a.b"])
async def test_no_odd_tag_names_a_folder(store: Store, tag: str) -> None:
    """What an interpreter calls itself must not lead out of the cache."""
    (sha256,) = await unpack(store, DEMO)
    odd = {**WIRE, "cache_tag": tag}
    await store.bytecode.ensure([sha256], odd)
    assert key_of(odd) is None
    assert not list(store.layout.bytecode.iterdir())


async def test_it_goes_with_its_tree_and_is_made_anew(store: Store) -> None:
    """Times of another unpacking are others: bytecode of the first would not count, or count wrongly."""
    (sha256,) = await unpack(store, DEMO)
    await store.bytecode.ensure([sha256], WIRE)
    folder = Path(str(store.bytecode.path(sha256, KEY)))
    before = read(str(folder))
    await store.damaged_tree(sha256)
    assert store.bytecode.path(sha256, KEY) is None
    assert not folder.exists()
    await unpack(store, DEMO)
    await store.bytecode.ensure([sha256], WIRE)
    after = read(str(store.bytecode.path(sha256, KEY)))
    assert after.tree != before.tree
    source = os.stat(store.tree_root(sha256) / "top.py")
    header = (folder / f"root/__pycache__/top.{TAG}.pyc").read_bytes()[4:16]
    assert header == bytes(4) + int(source.st_mtime).to_bytes(4, "little") + bytes(4)


async def test_what_was_begun_before_its_tree_was_dropped_is_not_published(
    store: Store, tmp_path: Path
) -> None:
    """A slow compiler must not put bytecode of the damaged tree beside the new one."""
    (sha256,) = await unpack(store, DEMO)
    go = tmp_path / "go"
    wire, log = wrapper(tmp_path, f"while [ ! -e {go} ]; do sleep 0.02; done")
    task = asyncio.create_task(store.bytecode.ensure([sha256], wire))
    await asyncio.to_thread(wait_until, lambda: bool(log.read_text()), "the compiler runs")
    await store.bytecode.drop(sha256)
    go.touch()
    await task
    assert store.bytecode.path(sha256, KEY) is None
    assert not leftovers(store)
    await store.bytecode.ensure([sha256], wire)
    assert store.bytecode.path(sha256, KEY) is not None


async def test_a_compilation_that_nobody_waits_for_ends(store: Store, tmp_path: Path) -> None:
    """Ctrl-C: a compiler that is left running would take a processor from whatever the person does next."""
    (sha256,) = await unpack(store, DEMO)
    wire, log = wrapper(tmp_path, "sleep 300")
    tasks = [asyncio.create_task(store.bytecode.ensure([sha256], wire)) for _ in range(2)]
    await asyncio.to_thread(wait_until, lambda: bool(log.read_text()), "the compiler runs")
    tasks[0].cancel()
    await asyncio.sleep(0.2)
    pid = int(log.read_text())
    assert _runs(pid)
    tasks[1].cancel()
    await asyncio.to_thread(wait_until, lambda: not _runs(pid), "the compiler is gone")
    await store.bytecode.ensure([sha256], WIRE)
    assert store.bytecode.path(sha256, KEY) is not None


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


_DAEMON = """
import asyncio, json, sys
from pathlib import Path
from pkgc_daemon.store.store import Store
from pkgc_daemon.store.workers import ThreadWorkers

async def main():
    store = await Store.open(Path(sys.argv[1]), workers=ThreadWorkers(1))
    await store.bytecode.ensure([sys.argv[2]], json.loads(sys.argv[3]))

asyncio.run(main())
"""

#: As the interpreter, but it stops itself when it has said what it is.
_STOPPING = """
import os, sys
place = sys.argv.index("-c") + 1
code = sys.argv[place].replace("answers.flush()", "answers.flush(); os.kill(os.getpid(), signal.SIGSTOP)")
os.execv(sys.executable, [sys.executable, *sys.argv[1:place], code, *sys.argv[place + 1:]])
"""


async def test_the_compiler_dies_with_the_daemon(tmp_path: Path) -> None:
    """kill -9 of a daemon must leave no process behind, and nothing half-made that the next one uses."""
    store = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    (sha256,) = await unpack(store, DEMO)
    await store.close()
    script = tmp_path / "stopping.py"
    script.write_text(_STOPPING)
    wire, log = wrapper(tmp_path, exec_=f"{sys.executable} {script}")
    argv = [sys.executable, "-c", _DAEMON, str(tmp_path / "cache"), sha256, json.dumps(wire)]
    daemon = await asyncio.to_thread(subprocess.Popen, argv)
    try:
        await asyncio.to_thread(wait_until, lambda: _is_stopped(log), "the compiler runs", timeout=30)
    finally:
        daemon.kill()
        await asyncio.to_thread(daemon.wait)
    pid = int(log.read_text())
    try:
        await asyncio.to_thread(wait_until, lambda: not _runs(pid), "the compiler is gone")
    finally:
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)
    again = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    assert again.bytecode.path(sha256, KEY) is None
    assert not leftovers(again)
    await again.close()


def _is_stopped(log: Path) -> bool:
    text = log.read_text().strip()
    try:
        return bool(text) and "\nState:\tT" in Path(f"/proc/{text}/status").read_text()
    except OSError:
        return False


async def test_it_survives_a_restart_and_what_has_no_tree_is_swept(tmp_path: Path) -> None:
    """Compiled once per host, not once per daemon; and no cache that only grows."""
    store = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    trees = await unpack(store, DEMO, OTHER)
    await store.bytecode.ensure(trees, WIRE)
    size = await store.bytecode.size()
    await store.close()
    shutil.rmtree(store.layout.tree(OTHER.sha256))
    store.layout.catalog.unlink()  # else a row would stand for a tree that is gone
    again = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    assert files_of(again, DEMO.sha256)
    assert again.bytecode.path(OTHER.sha256, KEY) is None
    assert not (again.layout.bytecode / OTHER.sha256[:2] / OTHER.sha256).exists()
    left = await again.bytecode.size()
    assert (left["files"], left["bytes"] < size["bytes"]) == (3, True)
    await again.close()


@pytest.mark.parametrize("synced", [True, False])
async def test_after_a_crash_of_the_machine_only_what_was_synced_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    """A power cut may leave files of the right size and time with nothing in them."""
    store = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    (sha256,) = await unpack(store, DEMO)
    await store.checkpoint()
    await store.bytecode.ensure([sha256], WIRE)
    if synced:
        await store.checkpoint()
    monkeypatch.setattr(Store, "checkpoint", _nothing)
    await store.close()
    monkeypatch.setattr(store_module, "boot_id", lambda: "another boot")
    again = await Store.open(tmp_path / "cache", workers=ThreadWorkers(1))
    assert (again.bytecode.path(sha256, KEY) is not None) is synced
    await again.close()


async def _nothing(_store: Store) -> None:
    return None


async def test_damage_is_found_by_verify_and_mended(store: Store) -> None:
    """Invariant 6: bit rot in bytecode would run in every environment."""
    (sha256,) = await unpack(store, DEMO)
    await store.bytecode.ensure([sha256], WIRE)
    path = Path(str(store.bytecode.path(sha256, KEY)), f"root/__pycache__/top.{TAG}.pyc")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    path.chmod(0o444)
    report = await store.verify(fix=False)
    assert [(one["kind"], one["sha256"]) for one in report["damaged"]] == [("bytecode", sha256)]
    assert (await store.verify(fix=True))["fixed"] == 1
    assert store.bytecode.path(sha256, KEY) is None
    assert store.has_tree(sha256)
    await store.bytecode.ensure([sha256], WIRE)
    assert (await store.verify(fix=False))["damaged"] == []


async def test_it_is_counted_and_goes_before_trees(store: Store) -> None:
    """Invariant 7: bytecode is part of the limit, and a cache that is too large must lose it first."""
    trees = await unpack(store, DEMO, OTHER)
    await store.bytecode.ensure(trees, WIRE)
    sizes = await store.size()
    assert sizes["bytecode"]["files"] == 4
    assert sizes["total"]["bytes"] == sum(part["bytes"] for kind, part in sizes.items() if kind != "total")
    for row in store.catalog.artifacts.values():
        row.used = time.time() + 100
    with store.lease([DEMO.sha256]):
        await store.shrink(sizes["artifacts"]["bytes"] + sizes["trees"]["bytes"] + 1)
    assert store.bytecode.path(DEMO.sha256, KEY) is not None
    assert store.bytecode.path(OTHER.sha256, KEY) is None
    assert all(store.has_tree(sha256) for sha256 in trees)
    await store.clean()
    assert await store.bytecode.size() == {"files": 0, "bytes": 0}
    assert not list(store.layout.bytecode.rglob("*.pyc"))


# -- while nobody waits ------------------------------------------------------------------------------------


class Background:
    """`Bytecode.run` as the daemon has it."""

    def __init__(self, store: Store, idle: Callable[[], bool]) -> None:
        self.told: list[tuple[str, str]] = []
        store.bytecode.on_compiled = lambda sha256, key: self.told.append((sha256, key))
        self._task = asyncio.create_task(store.bytecode.run(idle))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_what_is_wanted_twice_is_compiled_and_told(store: Store, tmp_path: Path) -> None:
    """What is installed once may never be installed again; what is, shall have bytecode without asking."""
    trees = await unpack(store, DEMO, OTHER)
    wire, log = wrapper(tmp_path)
    background = Background(store, lambda: True)
    store.bytecode.want(trees, wire)
    await asyncio.sleep(0.3)
    assert not log.read_text()
    store.bytecode.want([DEMO.sha256], wire)
    await background.until(1)
    assert background.told == [(DEMO.sha256, KEY)]
    assert files_of(store, DEMO.sha256)
    assert store.bytecode.path(OTHER.sha256, KEY) is None
    await background.end()


async def test_it_stops_between_trees_when_a_call_comes(store: Store) -> None:
    """Invariant of background work: it is never done at the cost of a sync; and it is not forgotten."""
    trees = await unpack(store, DEMO, OTHER)
    busy = True
    background = Background(store, lambda: not busy or not store.bytecode.compiled)
    for _ in range(2):
        store.bytecode.want(trees, WIRE)
    await background.until(1)
    await asyncio.sleep(0.3)
    assert len(background.told) == 1
    busy = False
    await background.until(2)
    assert {sha256 for sha256, _ in background.told} == set(trees)
    await background.end()


async def test_a_sync_that_waits_does_not_wait_for_the_background(store: Store, tmp_path: Path) -> None:
    """A compiler of the lowest priority may take for ever on a busy machine."""
    trees = await unpack(store, DEMO)
    slow, log = wrapper(tmp_path, "sleep 300")
    background = Background(store, lambda: True)
    for _ in range(2):
        store.bytecode.want(trees, slow)
    await asyncio.to_thread(wait_until, lambda: bool(log.read_text()), "the compiler runs")
    async with asyncio.timeout(30):
        await store.bytecode.ensure(trees, WIRE)
    assert files_of(store, DEMO.sha256)
    pid = int(log.read_text().split()[0])
    await asyncio.to_thread(wait_until, lambda: not _runs(pid), "the slow one is gone")
    await background.end()


async def test_off_is_off(store: Store) -> None:
    """`cache.bytecode = "off"`: nothing is made, kept or used."""
    (sha256,) = await unpack(store, DEMO)
    await store.bytecode.ensure([sha256], WIRE)
    store.bytecode.enabled = False
    assert store.bytecode.path(sha256, KEY) is None
    await store.bytecode.drop(sha256)
    await store.bytecode.ensure([sha256], WIRE)
    store.bytecode.enabled = True
    assert store.bytecode.path(sha256, KEY) is None
