"""The large example's environment is, file by file, the one that uv and pip make from the same index."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import instance, peertools
from tests.support.interpreters import Cpython, find, running
from tests.support.realindex import NginxMissingError, RealIndex
from tests.support.realwheels import PROJECT, pins_for
from tests.support.trees import Installed, differences, listing, read_installed

LARGE = PROJECT / "examples" / "large.txt"
VERSIONS = ("3.9", "3.11", "3.12", "3.13")

# Compiled extensions and every layer of the stack.
IMPORTS = """
import argon2, bs4, cffi, charset_normalizer, debugpy, httpx, IPython, ipykernel, ipywidgets, jinja2
import jsonschema, jupyter_client, jupyter_server, jupyterlab, markupsafe._speedups, nbconvert, nbformat
import notebook, psutil, requests, rpds, tornado.speedups, yaml, zmq
assert zmq.zmq_version_info()[0] >= 4
assert yaml.__with_libyaml__
assert nbformat.v4.new_notebook().nbformat == 4
"""

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder with a short path: long ones change the first line of scripts (E3)."""
    with tempfile.TemporaryDirectory(prefix="pkgc-diff-") as folder:
        yield Path(folder).resolve()


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(version, id=f"python{version}", marks=pytest.mark.full)
        if version != running().version
        else pytest.param(version, id=f"python{version}")
        for version in sorted({*VERSIONS, running().version}, key=lambda text: int(text.split(".")[1]))
    ],
)
def test_installed_tree_equals_uv_and_pip(version: str, work: Path) -> None:
    """If this fails, a package that works after `uv pip sync` may be broken after `pkgc sync`."""
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"no CPython {version} on this machine")
    venvs = {tool: work / tool for tool in ("pkgc", "pkgc-hands", "uv", "pip")}
    peertools.make_venvs(interpreter.path, list(venvs.values()), work / "uv-cache")
    before = {tool: listing(venv) for tool, venv in venvs.items()}
    with index_for(interpreter) as index:
        installed = sync_by_pkgc(venvs["pkgc"], index.url, work / "daemon", host_calls=False)
        sync_by_pkgc(venvs["pkgc-hands"], index.url, work / "client", host_calls=True)
        peertools.run(
            peertools.uv_sync_command(LARGE, index.url),
            peertools.uv_environment(work / "uv-cache", VIRTUAL_ENV=str(venvs["uv"])),
        )
        peertools.install_by_pip(interpreter, venvs["pip"], LARGE, index.url, work)

    trees = {tool: read_installed(venv, before[tool]) for tool, venv in venvs.items()}
    assert installed == len(trees["pkgc"].records) == len(pins_for(LARGE, interpreter.markers))
    for other in ("uv", "pip", "pkgc-hands"):
        assert differences(trees["pkgc"], trees[other], ("pkgc", other)) == []
    assert_scripts(trees["pkgc"])
    assert not (venvs["pkgc"] / ".pkgc").exists(), "a finished transaction leaves no trace"
    assert_works(venvs["pkgc"])


def index_for(interpreter: Cpython) -> RealIndex:
    try:
        return RealIndex.for_lock(LARGE, [interpreter])
    except NginxMissingError as error:
        pytest.skip(str(error))


def sync_by_pkgc(venv: Path, index: str, root: Path, *, host_calls: bool) -> int:
    """Gives the number of distributions that pkgc says it installed."""
    root.mkdir()
    with instance.running(root, host_calls=host_calls) as pkgc:
        answer = pkgc.sync(LARGE, "--venv", venv, "-i", index, timeout=600)
    assert answer["ok"]
    return len(answer["installed"])


def assert_scripts(tree: Installed) -> None:
    """Every entry point of every package has a script that can be run."""
    assert len(tree.entry_points) > 30
    for path in tree.entry_points:
        assert path in tree.files, f"{path} is missing"
        assert tree.files[path].executable, f"{path} cannot be run"


def assert_works(venv: Path) -> None:
    """The main packages import and the main command starts."""
    environment = instance.clean_environment()
    peertools.run([venv / "bin/python", "-c", IMPORTS], environment, cwd=venv)
    peertools.run([venv / "bin/jupyter", "--version"], environment, cwd=venv)
