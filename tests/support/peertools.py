"""uv and pip as peers of pkgc: commands by which tests and benchmarks run them, without user settings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

from tests.support.instance import clean_environment
from tests.support.interpreters import Cpython

UV = Path(sys.executable).with_name("uv")


def uv_environment(cache: Path, **more: str) -> dict[str, str]:
    """A clean environment for uv: its own cache, no configuration files, no downloaded Pythons."""
    return clean_environment(UV_CACHE_DIR=str(cache), UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", **more)


def make_venvs(python: Path, venvs: Sequence[Path], cache: Path) -> None:
    """Make empty environments by ``uv venv``: the same start for every tool."""
    for venv in venvs:
        run(
            [str(UV), "venv", "--quiet", "--no-project", "--python", str(python), str(venv)],
            uv_environment(cache),
        )


def uv_sync_command(lock: Path, index: str) -> list[str]:
    """``uv pip sync`` of `lock` into the environment that VIRTUAL_ENV names."""
    return [str(UV), "pip", "sync", "--default-index", index, str(lock)]


def install_by_pip(interpreter: Cpython, venv: Path, lock: Path, index: str, work: Path) -> None:
    """``pip install --no-deps`` of `lock` into `venv`, which needs no pip of its own.

    By the test extra's pip, or by the one that the interpreter bundles where it is too old for that.
    """
    pip = [sys.executable, "-m", "pip"]
    if interpreter.full_version not in SpecifierSet(metadata("pip")["Requires-Python"]):
        helper = work / "with-pip"
        run([str(interpreter.path), "-m", "venv", str(helper)], clean_environment())
        pip = [str(helper / "bin/python"), "-m", "pip"]
    options = ["--no-deps", "--no-compile", "--require-hashes", "--no-cache-dir", "--quiet", "--no-input"]
    options += ["--disable-pip-version-check", "--index-url", index, "--requirement", str(lock)]
    run([*pip, "--python", str(venv / "bin/python"), "install", *options], clean_environment())


def run(command: Sequence[str | Path], environment: dict[str, str], cwd: Path | None = None) -> str:
    """Run a command that must succeed.

    Returns:
        what it wrote on stdout.

    Raises:
        AssertionError: it failed; the message has its output.
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def version_of(command: Path) -> str:
    """The version that ``COMMAND --version`` names, or 'unknown'."""
    answer = run([command, "--version"], clean_environment())
    found = re.search(r"\d+(\.\w+)+\S*", answer)
    return found.group() if found else "unknown"
