"""Fixtures of the integration, fault and security tests: a real client, a real daemon, a real index."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, running
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Instance]:
    """An isolated pkgc, once with the daemon acting itself and once with the client as its hands."""
    with running(tmp_path / "pkgc", host_calls=request.param == "client-acts") as instance:
        yield instance


for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    # Whoever runs the tests in the background may have them ignored, and then every client would ignore them.
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

#: Modules of long tables: in `./check` they run one way, in `./check full` both (10 minutes are soon over).
TABLES = frozenset({"test_hash_mode", "test_named_indexes", "test_origins", "test_why", "test_one_cache"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the second way of long tables `full`."""
    for item in items:
        if item.path.stem in TABLES and "client-acts" in item.name:
            item.add_marker(pytest.mark.full)


@pytest.fixture
def own_pkgc(tmp_path: Path) -> Iterator[Instance]:
    """An isolated pkgc whose daemon acts itself, for what does not depend on who acts."""
    with running(tmp_path / "pkgc") as instance:
        yield instance


@pytest.fixture
def index() -> Iterator[IndexServer]:
    """A scriptable index on loopback."""
    with IndexServer() as server:
        yield server


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An empty virtual environment of the running interpreter, made by its own venv module."""
    path = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    return path


@pytest.fixture
def demo(index: IndexServer) -> BuiltWheel:
    """demo 1.0 on the index: a package with a console script and a data file."""
    wheel = make_wheel(
        "demo",
        "1.0",
        {"demo/__init__.py": "def main():\n    print('demo 1.0 runs')\n", "demo/data.txt": "data\n"},
        entry_points="[console_scripts]\ndemo = demo:main\n",
    )
    index.add(wheel.data, wheel.filename)
    return wheel
