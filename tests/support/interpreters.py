"""The CPython interpreters of this machine, found and asked once: for tests that run over several of them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The variables of PEP 508, section "Environment Markers", in words that every CPython since 3.6 knows.
_QUESTIONS = """
import json, os, platform, sys
info = sys.implementation.version
implementation_version = "{0.major}.{0.minor}.{0.micro}".format(info)
if info.releaselevel != "final":
    implementation_version += info.releaselevel[0] + str(info.serial)
print(json.dumps({
    "implementation_name": sys.implementation.name,
    "implementation_version": implementation_version,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}))
"""


@dataclass(frozen=True, slots=True)
class Cpython:
    """One interpreter of this machine."""

    path: Path
    markers: Mapping[str, str] = field(repr=False)
    """Its marker variables (PEP 508)."""

    @property
    def version(self) -> str:
        """``3.11``"""
        return self.markers["python_version"]

    @property
    def full_version(self) -> str:
        """``3.11.7``"""
        return self.markers["python_full_version"]


def ask(python: Path) -> Cpython | None:
    """The interpreter at `python`; None when it does not run or is not CPython."""
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _QUESTIONS], capture_output=True, timeout=60, check=True, text=True
        )
        markers = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Cpython(python, markers) if markers["implementation_name"] == "cpython" else None


@functools.cache
def running() -> Cpython:
    """The interpreter that runs the tests."""
    found = ask(Path(sys.executable))
    if found is None:
        raise RuntimeError(f"{sys.executable} is not a CPython that runs")
    return found


@functools.cache
def find(version: str) -> Cpython | None:
    """A CPython of `version` (``3.9``), or None: the running one, else from PATH, pyenv, or /usr/bin."""
    if running().version == version:
        return running()
    for path in _places(f"python{version}"):
        found = ask(path)
        # A pyenv shim of this name may answer with another version, or not at all.
        if found is not None and found.version == version:
            return found
    return None


def _places(name: str) -> Iterator[Path]:
    if on_path := shutil.which(name):
        yield Path(on_path)
    yield from sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"), reverse=True)
    for folder in ("/usr/local/bin", "/usr/bin"):
        if os.access(f"{folder}/{name}", os.X_OK):
            yield Path(folder, name)
