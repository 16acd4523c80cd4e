"""uv and pip as peers of pkgc: commands by which tests and benchmarks run them, without user settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

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


class Peers:
    """uv and pip as they work against one index, for any interpreter of this machine.

    Args:
        folder: for their caches and for the pips of interpreters that the test extra's is too new for.
        index: the root of the index that both use, for what they build with, too.
    """

    def __init__(self, folder: Path, index: str) -> None:
        self.folder = folder
        self.index = index
        self._pips: dict[Path, Path] = {}

    def uv(
        self, *arguments: str | Path, venv: Path | None = None, cwd: Path | None = None, cache: str = ""
    ) -> str:
        """Run ``uv ARGUMENTS`` on `venv`, whether the command wants an environment or a project's.

        Args:
            cache: which of uv's caches; a wheel without extensions that one Python built serves all Pythons.

        Returns:
            what it wrote on stdout.
        """
        places = {"VIRTUAL_ENV": str(venv), "UV_PROJECT_ENVIRONMENT": str(venv)} if venv else {}
        environment = uv_environment(self.folder / f"uv-cache{cache}", UV_DEFAULT_INDEX=self.index, **places)
        return run([UV, *arguments], self._without_git_settings(environment), cwd)

    def pip(self, interpreter: Cpython, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run the newest pip that `interpreter` can run, with ``PYTHON -m pip ARGUMENTS``.

        Returns:
            what it wrote on stdout.
        """
        environment = clean_environment(
            PIP_INDEX_URL=self.index,
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_NO_INPUT="1",
            PIP_NO_COMPILE="1",
            PIP_CACHE_DIR=str(self.folder / f"pip-cache{interpreter.version}"),
        )
        command: list[str | Path] = [self._python_with_pip(interpreter), "-m", "pip", *arguments]
        return run(command, self._without_git_settings(environment), cwd)

    def pip_install(
        self, interpreter: Cpython, venv: Path, *arguments: str | Path, cwd: Path | None = None
    ) -> None:
        """``pip install --no-deps ARGUMENTS`` into `venv`, which needs no pip of its own."""
        options = ["--no-deps", "--quiet"]
        self.pip(interpreter, "--python", venv / "bin/python", "install", *options, *arguments, cwd=cwd)

    def pip_version(self, interpreter: Cpython) -> Version:
        """Of the pip that `pip` runs for `interpreter`."""
        return Version(self.pip(interpreter, "--version").split()[1])

    def _python_with_pip(self, interpreter: Cpython) -> Path:
        if interpreter.full_version in SpecifierSet(metadata("pip")["Requires-Python"]):
            return Path(sys.executable)
        if interpreter.path not in self._pips:
            helper = self.folder / f"pip-for-{interpreter.version}"
            make_venvs(interpreter.path, [helper], self.folder / "uv-cache")
            self.uv("pip", "install", "--quiet", "pip", venv=helper)
            self._pips[interpreter.path] = helper / "bin/python"
        return self._pips[interpreter.path]

    def _without_git_settings(self, environment: dict[str, str]) -> dict[str, str]:
        return environment | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


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
