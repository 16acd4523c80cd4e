"""Bytecode of the store in an environment: placed, valid, never of another source, gone with its package."""

from __future__ import annotations

import hashlib
import os
import py_compile
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.archives.manifest import manifest_from_bytes
from pkgc_daemon.store.compiled import Compiled, identity, sources_of, to_bytes
from pkgc_daemon.vocabulary import FileEntry
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import Env

TAG = sys.implementation.cache_tag


@pytest.fixture
def env(tmp_path: Path) -> Env:
    return Env(tmp_path)


def compiled(
    env: Env, name: str, files: Mapping[str, str], version: str = "1", **more: Any
) -> dict[str, Any]:
    """The wire map of an addition with bytecode, as the store has it; all trees have the same times."""
    item = env.item(make_wheel(name, version, files, **more))
    path = Path(item["manifest"])
    manifest = manifest_from_bytes(path.read_bytes())
    folder = env.store / f"bytecode-{item['sha256']}"
    made = []
    for entry, shown in sources_of(manifest)[0]:
        head, _, base = entry.path.rpartition("/")
        place = "/".join(filter(None, (head, "__pycache__", f"{base[:-3]}.{TAG}.pyc")))
        target = folder / "root" / place
        try:
            py_compile.compile(f"{item['tree']}/{entry.path}", str(target), shown, doraise=True)
        except py_compile.PyCompileError:
            continue
        target.chmod(0o444)
        found, data = target.stat(), target.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        made.append(FileEntry(place, len(data), False, digest, found.st_mtime_ns, found.st_ino))
    folder.mkdir(exist_ok=True)
    compiled = Compiled(tuple(made), identity(path.read_bytes()), True)
    (folder / "manifest").write_bytes(to_bytes(compiled))
    return {**item, "bytecode": str(folder)}


def same_times(monkeypatch: pytest.MonkeyPatch, moment: int = 1_700_000_000) -> None:
    """Have all trees unpacked at one moment, long ago, as trees of one cold sync nearly are."""
    real = os.fstat

    def frozen(descriptor: int) -> os.stat_result:
        os.utime(descriptor, (moment, moment))
        return real(descriptor)

    monkeypatch.setattr("pkgc_daemon.archives.wheel.os.fstat", frozen)


def without_compiler(env: Env) -> Path:
    """Make the environment's interpreter note that it was started."""
    python, asked = env.prefix / "bin" / "python", env.prefix.parent / "asked"
    python.unlink()
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return asked


def value_of(env: Env, module: str) -> str:
    """X of a module, as Python imports it here: with its bytecode, where that counts."""
    code = f"import sys; sys.path.insert(0, {str(env.site)!r}); import {module}; print({module}.X)"
    return subprocess.check_output([sys.executable, "-I", "-B", "-c", code], text=True).strip()


def pycs(env: Env) -> set[str]:
    return {str(path.relative_to(env.site)) for path in env.site.rglob("*.pyc")}


@pytest.mark.parametrize("mode", ["hardlink", "copy", "auto"])
def test_it_is_placed_valid_and_no_compiler_runs(
    env: Env, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """--compile-bytecode from the store: a time that is not the source's would make Python compile again."""
    same_times(monkeypatch)
    asked = without_compiler(env)
    files = {"demo/__init__.py": "def f():\n    raise ValueError\n", "demo/bad.py": "(\n"}
    item = compiled(env, "demo", files, data={"purelib/deep/m.py": "X = 1\n"})
    result = env.apply([item], compile=True, link_mode=mode)
    assert (result["status"], result["compiled"]) == ("done", 0)
    assert pycs(env) == {f"demo/__pycache__/__init__.{TAG}.pyc", f"deep/__pycache__/m.{TAG}.pyc"}
    assert not asked.exists()
    code = f"import sys; sys.path.insert(0, {str(env.site)!r}); import deep.m, demo; demo.f()"
    ran = subprocess.run([sys.executable, "-I", "-B", "-v", "-c", code], capture_output=True, text=True)
    assert f"{env.site}/demo/__pycache__/__init__.{TAG}.pyc matches" in ran.stderr
    assert f"{env.site}/deep/__pycache__/m.{TAG}.pyc matches" in ran.stderr
    assert f'File "{env.site}/demo/__init__.py", line 2, in f' in ran.stderr


def test_record_says_what_it_said_and_removal_takes_all(env: Env) -> None:
    """D3: `pip uninstall` and pkgc go by RECORD; bytecode in it would be wrong after any recompilation."""
    item = compiled(env, "demo", {"demo/a.py": "", "top.py": "", "ns/demo.py": ""})
    env.apply([{**item, "bytecode": None}])
    plain = (env.site / "demo-1.dist-info/RECORD").read_text()
    env.apply(remove=["demo-1.dist-info"])
    env.apply([item])
    assert (env.site / "demo-1.dist-info/RECORD").read_text() == plain
    assert len(pycs(env)) == 3
    env.apply(remove=["demo-1.dist-info"])
    assert list(env.site.iterdir()) == []


def test_an_upgrade_has_the_bytecode_of_the_new_version(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions may have sources of one size and, unpacked at one moment, one time: the old .pyc must go."""
    same_times(monkeypatch)
    old = compiled(env, "demo", {"demo/v.py": "X = 1\n", "six.py": "X = 1\n", "ns/__init__.py": "X = 1\n"})
    new = compiled(
        env, "demo", {"demo/v.py": "X = 2\n", "six.py": "X = 2\n", "ns/__init__.py": "X = 2\n"}, version="2"
    )
    kept = compiled(env, "other", {"ns/other.py": "X = 0\n", "kept.py": "X = 0\n"})
    env.apply([old, kept])
    env.apply([new], remove=["demo-1.dist-info"])
    assert [value_of(env, name) for name in ("demo.v", "six", "ns", "ns.other", "kept")] == list("22200")


@pytest.mark.parametrize("second", ["X = 2\n", "X = 1\n", "X =\\\n"])
@pytest.mark.parametrize("together", [True, False])
def test_overlapping_sources_run_as_they_read(
    env: Env, monkeypatch: pytest.MonkeyPatch, second: str, together: bool
) -> None:
    """Two packages with one path: bytecode of the loser would run in place of the winner's source, unseen."""
    same_times(monkeypatch)
    one = compiled(env, "aaa", {"ns/__init__.py": "X = 1\n"})
    other = compiled(env, "bbb", {"ns/__init__.py": second})
    if together:
        env.apply([other, one])
    else:
        env.apply([one])
        env.apply([other])
    assert (env.site / "ns/__init__.py").read_text() == second
    if second == "X =\\\n":
        assert not pycs(env)
    else:
        assert value_of(env, "ns") == second[4]


def test_of_equal_sources_the_bytecode_is_that_of_the_one_that_is_placed(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespace packages with the same `__init__.py`: the other one's bytecode has another time, and would be
    compiled again at every start where site-packages cannot be written."""
    items = []
    for number, name in enumerate(("aaa", "bbb", "ccc")):
        with monkeypatch.context() as patch:
            same_times(patch, 1_700_000_000 + 100 * number)
            items.append(compiled(env, name, {"ns/__init__.py": "X = 1\n"}))
    env.apply(items)
    code = f"import sys; sys.path.insert(0, {str(env.site)!r}); import ns"
    ran = subprocess.run([sys.executable, "-I", "-B", "-v", "-c", code], capture_output=True, text=True)
    assert f"{env.site}/ns/__pycache__/__init__.{TAG}.pyc matches" in ran.stderr


def test_a_loser_that_comes_later_leaves_the_winners_bytecode(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same the other way round: what is there stays as it is, source and bytecode."""
    same_times(monkeypatch)
    env.apply([compiled(env, "bbb", {"ns/__init__.py": "X = 2\n"})])
    loser = compiled(env, "aaa", {"ns/__init__.py": "X = 1\n", "ns/more.py": "X = 3\n"})
    result = env.apply([loser])
    assert any("different contents" in text for text in result["warnings"])
    assert (value_of(env, "ns"), value_of(env, "ns.more")) == ("2", "3")
    (env.site / f"ns/__pycache__/__init__.{TAG}.pyc").unlink()
    env.apply([loser], remove=["aaa-1.dist-info"])
    assert value_of(env, "ns") == "2"


def test_what_the_store_has_not_is_compiled_as_before(env: Env) -> None:
    """--compile-bytecode promises all of it: of packages without bytecode, and of what lies there besides."""
    (env.site / "_virtualenv.py").write_text("")
    item = compiled(env, "demo", {"demo/a.py": ""})
    assert env.apply([item], compile=True)["compiled"] == 1
    assert pycs(env) == {f"demo/__pycache__/a.{TAG}.pyc", f"__pycache__/_virtualenv.{TAG}.pyc"}
    env.apply(
        [compiled(env, "more", {"more.py": ""}), make_wheel("bare", "1", {"bare.py": ""})], compile=True
    )
    assert {f"__pycache__/{name}.{TAG}.pyc" for name in ("more", "bare")} < pycs(env)


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest", "folder", "other"])
def test_damage_changes_nothing_and_is_told(env: Env, damage: str) -> None:
    """Invariant 6: damaged bytecode must not reach an environment, and is not taken for a damaged tree."""
    item = compiled(env, "demo", {"demo/a.py": "X = 1\n"})
    folder = Path(item["bytecode"])
    path = folder / f"root/demo/__pycache__/a.{TAG}.pyc"
    if damage == "changed":
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b"x")
    elif damage == "gone":
        path.unlink()
    elif damage == "manifest":
        (folder / "manifest").write_bytes((folder / "manifest").read_bytes()[:-1] + b"\0")
    elif damage == "folder":
        folder.rename(folder.with_name("away"))
    else:
        entries = Compiled((), identity(b"another"), True)
        (folder / "manifest").write_bytes(to_bytes(entries))
    before = env.state()
    result = env.apply([item])
    assert (result["status"], result["bytecode"], result["sha256"]) == ("damaged", True, item["sha256"])
    assert env.state() == before
    assert env.apply([{**item, "bytecode": None}])["status"] == "done"
