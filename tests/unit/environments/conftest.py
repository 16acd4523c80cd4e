"""Real interpreters for the tests of environments/: one per minor version found on this machine."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

_FIRST, _LAST = 8, 14


@functools.cache
def find_pythons() -> dict[str, str]:
    """'3.X' -> path, for every CPython from 3.8 on; scripts (shims) are passed over."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    candidates = [str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python")]
    for minor in range(_FIRST, _LAST + 1):
        candidates += [os.path.join(folder, f"python3.{minor}") for folder in folders]
    found: dict[str, str] = {}
    for path in sorted(candidates):
        if not os.access(path, os.X_OK) or Path(path).read_bytes()[:2] == b"#!":
            continue
        question = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
        ran = subprocess.run([path, "-I", "-S", "-c", question], capture_output=True, text=True, check=False)
        name, _, version = ran.stdout.strip().partition(" ")
        if ran.returncode == 0 and name == "cpython" and int(version.split(".")[1]) >= _FIRST:
            found.setdefault(version, path)
    return found


def pytest_generate_tests(metafunc: Any) -> None:
    """A test that takes `python` runs with every interpreter found."""
    if "python" in metafunc.fixturenames:
        found = find_pythons()
        metafunc.parametrize("python", list(found.values()), ids=list(found))


@pytest.fixture(scope="session")
def any_python() -> str:
    """One real interpreter that is in no environment."""
    found = find_pythons()
    return found.get("3.11") or next(iter(found.values()))
