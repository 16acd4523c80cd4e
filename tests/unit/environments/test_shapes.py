"""Shapes: an environment's interpreter is only spoken for by another one's where it would say the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments.interpreter import probe_interpreter
from pkgc_daemon.environments.shapes import moved, shape_of
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.hands import HANDS
from pkgc_daemon.serving.targets import Target, Targets


class World:
    """The daemon's own world, which counts what it is asked."""

    def __init__(self) -> None:
        self.probed: list[str] = []

    async def do(self, verb: str, args: dict[str, Any]) -> Any:
        """Call the hand."""
        if verb == "probe_interpreter":
            self.probed.append(args["python"])
        return HANDS[verb](args, lambda *_: None, lambda: False)


class Store:
    """Remembers nothing over restarts."""

    async def recall_interpreter(self, key: str) -> None:
        """Nothing."""

    async def remember_interpreter(self, key: str, data: Any) -> None:
        """Nothing."""


class Asked:
    """One daemon that looks at environments."""

    def __init__(self) -> None:
        self.world = World()
        self.targets = Targets(Store())  # type: ignore[arg-type]

    async def target(self, venv: Path) -> Target:
        """As a sync finds it."""
        return await self.targets.target(self.world, str(venv), None, dict(os.environ), "/")  # type: ignore[arg-type]


def make(folder: Path, python: str, *options: str) -> Path:
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", *options, folder], check=True)
    return folder


def told(venv: Path) -> dict[str, Any]:
    """What the interpreter itself says."""
    return {k: v for k, v in probe_interpreter({"python": f"{venv}/bin/python"}).items() if k != "key"}


def wire(target: Target) -> dict[str, Any]:
    """What pkgc goes by."""
    return {key: value for key, value in target.wire.items() if key != "key"}


async def test_one_of_the_same_shape_is_spoken_for(python: str, tmp_path: Path) -> None:
    """What pkgc goes by must be what the interpreter says: paths, tags, markers; in every Python."""
    asked = Asked()
    first, second = make(tmp_path / "first", python), make(tmp_path / "second", python, "--prompt", "other")
    await asked.target(first)
    found = await asked.target(second)
    assert asked.world.probed == [f"{first}/bin/python"], "asked for nothing"
    assert wire(found) == told(second)


def config(venv: Path, old: str, new: str) -> None:
    path = venv / "pyvenv.cfg"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def lib64(venv: Path) -> None:
    (venv / "lib64").unlink(missing_ok=True)
    shutil.copytree(venv / "lib", venv / "lib64")


def manylinux(venv: Path) -> None:
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "_manylinux.py").write_text("def manylinux_compatible(*_): return False\n")


def other_config(venv: Path) -> None:
    shutil.copy(venv / "pyvenv.cfg", venv / "bin/pyvenv.cfg")


def own_python(venv: Path) -> None:
    real = os.path.realpath(venv / "bin/python")
    (venv / "bin/python").unlink()
    shutil.copy(real, venv / "bin/python")


DIFFERENT: dict[str, Callable[[Path], object]] = {
    "sees the system": lambda venv: config(venv, "packages = false", "packages = true"),
    "another key": lambda venv: config(venv, "version = ", "relocatable = true\nversion = "),
    "_manylinux": manylinux,
    "lib64": lib64,
    "pyvenv.cfg in bin": other_config,
    "another copy of Python": own_python,
    "no pyvenv.cfg that can be read": lambda venv: (venv / "pyvenv.cfg").write_bytes(b"home = x\n" * 99_999),
}


@pytest.mark.parametrize("what", DIFFERENT)
async def test_one_that_differs_is_asked_itself(what: str, any_python: str, tmp_path: Path) -> None:
    """A wheel that its `_manylinux` refuses, or a path that it does not have, would be taken for it."""
    asked = Asked()
    first, second = make(tmp_path / "first", any_python), make(tmp_path / "second", any_python)
    await asked.target(first)
    DIFFERENT[what](second)
    try:
        found = await asked.target(second)
    except PkgcError:  # it does not work as it is; but it was asked
        assert f"{second}/bin/python" in asked.world.probed
        return
    assert asked.world.probed == [f"{first}/bin/python", f"{second}/bin/python"]
    assert wire(found) == told(second)


@pytest.mark.parametrize("what", ["lib64", "_manylinux", "sees the system"])
async def test_one_that_comes_to_differ_is_asked_again(what: str, any_python: str, tmp_path: Path) -> None:
    """An environment that others were like is changed: they must not be spoken for by what it was."""
    asked = Asked()
    first, second = make(tmp_path / "first", any_python), make(tmp_path / "second", any_python)
    DIFFERENT[what](first)
    await asked.target(first)
    found = await asked.target(second)
    assert wire(found) == told(second)
    assert len(asked.world.probed) == 2


async def test_another_base(tmp_path: Path, any_python: str) -> None:
    """A copy of the interpreter elsewhere has another standard library, and other tags perhaps."""
    real = Path(os.path.realpath(any_python))
    other = tmp_path / "base" / "bin" / real.name
    other.parent.mkdir(parents=True)
    other.symlink_to(real)
    asked = Asked()
    first, second = make(tmp_path / "first", any_python), make(tmp_path / "second", any_python)
    (second / "bin/python").unlink()
    (second / "bin/python").symlink_to(other)
    config(second, f"home = {os.path.dirname(any_python)}", f"home = {other.parent}")
    await asked.target(first)
    found = await asked.target(second)
    assert wire(found) == told(second)
    assert len(asked.world.probed) == 2


async def test_moved_and_symlinked_environments(tmp_path: Path, any_python: str) -> None:
    """Paths must be those that the interpreter sees from where it is named."""
    asked = Asked()
    first, second = make(tmp_path / "first", any_python), make(tmp_path / "second", any_python)
    await asked.target(first)
    moved_to = second.rename(tmp_path / "elsewhere")
    assert wire(await asked.target(moved_to)) == told(moved_to)
    (tmp_path / "link").symlink_to("elsewhere")
    linked = await asked.target(tmp_path / "link")
    assert wire(linked) == told(Path(linked.venv))
    (tmp_path / "folder").mkdir()
    inner = moved_to.rename(tmp_path / "folder" / "inner")
    (tmp_path / "way").symlink_to("folder")
    through = await asked.target(tmp_path / "way" / "inner")
    assert wire(through) == told(Path(through.venv))
    assert shape_of(str(inner)) == shape_of(str(first))


def test_nothing_is_carried_over_where_the_base_is_inside() -> None:
    """What holds its own base is not the same as one that was made elsewhere."""
    assert moved({"prefix": "/a/env", "base_prefix": "/a/env"}, "/b") is None
    assert moved({"prefix": "/a/env", "base_prefix": "/a/env/base"}, "/b") is None
    assert moved({"prefix": "/a", "base_prefix": "/usr", "paths": {"x": "/a/lib", "y": "/ab/lib"}}, "/b") == {
        "prefix": "/b",
        "base_prefix": "/usr",
        "paths": {"x": "/b/lib", "y": "/ab/lib"},
    }
