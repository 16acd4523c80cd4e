"""The trees that pip and uv make of the same wheels are the measure: file by file, bit by bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.environments.interpreter import probe_interpreter
from tests.support.wheels import make_wheel
from tests.unit.installing.test_apply import full_wheel
from tests.unit.installing.trees import Env, snapshot

#: Written by one tool and not by another.
_OWN = ("direct_url.json", "uv_cache.json", "uv_build.json", "provenance_url.json", "REQUESTED")
#: Contents that name the tool or the environment.
_CONTENT = ("RECORD", "INSTALLER", "pyvenv.cfg")


def tree(prefix: Path) -> dict[str, tuple[str, bytes]]:
    """What is compared of an environment."""
    found = {}
    for path, (kind, content) in snapshot(prefix):
        name = os.path.basename(path)
        if name in _OWN or path in (".lock", ".gitignore", "CACHEDIR.TAG") or kind == "folder":
            continue
        if name in _CONTENT or path.startswith("bin/"):
            content = b""
        found[path] = (kind, content)
    return found


def command(*words: str) -> None:
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_", "PYTHON"))
    }
    environ["UV_NO_CACHE"] = "1"
    subprocess.run(words, check=True, capture_output=True, env=environ)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_same_tree_as_the_other_installers(tmp_path: Path, tool: str) -> None:
    wheels = [
        full_wheel(),
        make_wheel(
            "pip", "99", {"pip/__init__.py": ""}, entry_points="[console_scripts]\npip=pip:m\npip3=pip:m\n"
        ),
        make_wheel("plat", "1", {"plat/x.so": b"\x7fELF"}, executable=["plat/x.so"], root_is_purelib=False),
        make_wheel("ns-one", "1", {"ns/one.py": ""}),
        make_wheel("ns-two", "1", {"ns/two.py": ""}),
    ]
    env = Env(tmp_path)
    paths = [str(wheel.write_to(tmp_path / "wheels")) for wheel in wheels]
    compare(tmp_path, tool, env, paths)


def compare(tmp_path: Path, tool: str, env: Env, wheels: list[str]) -> None:
    """Install `wheels` with `tool` and with pkgc, and compare."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for prefix in (theirs, ours):
        command(sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(prefix))
    python = str(theirs / "bin" / "python")
    if tool == "pip":
        command(
            sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
            "--no-compile", *wheels,
        )  # fmt: skip
    else:
        uv = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
        if uv is None:
            pytest.skip("uv is not installed")
        (tmp_path / "list.txt").write_text("".join(f"{wheel}\n" for wheel in wheels))
        command(uv, "pip", "sync", "--python", python, "--no-index", str(tmp_path / "list.txt"))
    env.prefix = ours
    env.interpreter = probe_interpreter({"python": str(ours / "bin" / "python")})
    result = env.apply([Path(wheel) for wheel in wheels])
    assert result["status"] == "done"
    assert result["warnings"] == []
    expected = tree(theirs)
    if tool == "pip":
        # pip leaves a script that its archive does not mark executable as it is; uv and W4 do not.
        for path, (kind, content) in expected.items():
            if path.startswith("bin/") and kind == "file" and "activate" not in path.lower():
                expected[path] = ("program", content)
    assert tree(ours) == expected
