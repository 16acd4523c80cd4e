"""A running daemon watches environments: whatever anybody changes there, the next sync repairs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.instance import Instance, clean_environment, snapshot, wait_until
from tests.support.peertools import UV, uv_environment
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

DEMO = make_wheel(
    "demo",
    "1.0",
    {"demo/__init__.py": "def main():\n    print('ok')\n", "demo/deep/data.txt": "data\n"},
    entry_points="[console_scripts]\ndemo = demo:main\n",
)
NEWER = make_wheel("demo", "2.0", {"demo/__init__.py": "new = 2\n"})
OTHER = make_wheel("other", "1.0", {"other.py": "x = 1\n"})


def site(venv: Path) -> Path:
    return next(venv.glob("lib/python*/site-packages"))


def run(*command: str | Path, cache: Path) -> None:
    env = clean_environment() | uv_environment(cache)
    subprocess.run([*map(str, command)], check=True, capture_output=True, env=env)


def pip(venv: Path, *words: str) -> None:
    run(sys.executable, "-m", "pip", "--python", venv / "bin/python", *words, cache=venv.parent / "c")


def uv(venv: Path, *words: str) -> None:
    run(UV, "pip", *words, "--python", venv / "bin/python", cache=venv.parent / "c")


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Version: 1.0", b"Version: 9.0"))


CHANGES: dict[str, Callable[[Path, str], object]] = {
    "pip uninstall": lambda venv, _: pip(venv, "uninstall", "-q", "-y", "demo"),
    "pip install": lambda venv, url: pip(
        venv, "install", "-q", "--no-cache-dir", "--disable-pip-version-check", "-i", url, "demo==2.0"
    ),
    "uv uninstall": lambda venv, _: uv(venv, "uninstall", "-q", "demo"),
    "uv install": lambda venv, url: uv(venv, "install", "-q", "-i", url, "demo==2.0"),
    "rm -rf of the package": lambda venv, _: shutil.rmtree(site(venv) / "demo"),
    "rm of one file": lambda venv, _: (site(venv) / "demo/deep/data.txt").unlink(),
    "rm of a script": lambda venv, _: (venv / "bin/demo").unlink(),
    "rm -rf of the dist-info": lambda venv, _: shutil.rmtree(site(venv) / "demo-1.0.dist-info"),
    "METADATA edited": lambda venv, _: edit(site(venv) / "demo-1.0.dist-info/METADATA"),
    "rm -rf of the environment": lambda venv, _: shutil.rmtree(venv),
}


def watched(pkgc: Instance) -> int:
    status = pkgc.status()
    assert status is not None
    return int(status["watched"])


@pytest.mark.parametrize("change", CHANGES)
def test_what_anybody_changes_is_repaired(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path, change: str
) -> None:
    """'Up to date' over a broken environment is the one thing that a no-op must never say."""
    for wheel in (DEMO, NEWER, OTHER):
        index.add(wheel.data, wheel.filename)
    lock = own_pkgc.requirements(
        f"demo==1.0 --hash=sha256:{DEMO.sha256}", f"other==1.0 --hash=sha256:{OTHER.sha256}"
    )
    venv = tmp_path / "venv"

    def sync() -> list[str]:
        answer = own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
        return [one["name"] for one in answer["installed"]]

    assert sync() == ["demo", "other"]
    whole = snapshot(venv, ignore=[".lock"])
    assert sync() == []
    wait_until(lambda: watched(own_pkgc) == 1, "the environment is watched")
    assert sync() == []
    assert watched(own_pkgc) == 1
    CHANGES[change](venv, index.url)
    assert "demo" in sync()
    assert snapshot(venv, ignore=[".lock"]) == whole
    assert sync() == []
    wait_until(lambda: watched(own_pkgc) == 1, "the environment is watched again")


def test_what_a_sync_changed_is_watched_without_another_one(
    own_pkgc: Instance, index: IndexServer, venv: Path
) -> None:
    """The first no-op after a change must not take a hundred milliseconds."""
    index.add(DEMO.data, DEMO.filename)
    lock = own_pkgc.requirements(f"demo==1.0 --hash=sha256:{DEMO.sha256}")
    own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    wait_until(lambda: watched(own_pkgc) == 1, "the environment is watched")
    (site(venv) / "demo/deep/data.txt").unlink()
    answer = own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [one["name"] for one in answer["installed"]] == ["demo"]


def test_a_daemon_that_gets_no_watch_works_all_the_same(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A client that acts as hands is never watched, and its changes are seen."""
    index.add(DEMO.data, DEMO.filename)
    lock = own_pkgc.requirements(f"demo==1.0 --hash=sha256:{DEMO.sha256}")
    own_pkgc.env["PKGC_FORCE_HOST_CALLS"] = "1"
    venv = tmp_path / "venv"
    own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    (site(venv) / "demo/deep/data.txt").unlink()
    answer = own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [one["name"] for one in answer["installed"]] == ["demo"]
    assert watched(own_pkgc) == 0
