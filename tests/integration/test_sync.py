"""`pkgc sync` from a lock to a working environment, through the real client and daemon."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.instance import Instance, snapshot
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


def pin(wheel: BuiltWheel, name: str, version: str) -> str:
    """A hashed requirement line."""
    return f"{name}=={version} --hash=sha256:{wheel.sha256}"


def test_lock_to_working_environment(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, tmp_path: Path
) -> None:
    """Without it nobody can use pkgc at all: a missing environment is made, and its script runs."""
    lock = pkgc.requirements(pin(demo, "demo", "1.0"))
    venv = tmp_path / "new"
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [(one["name"], one["version"], one["from"]) for one in answer["installed"]] == [
        ("demo", "1.0", "network")
    ]
    assert answer["installed"][0]["sha256"] == demo.sha256
    assert answer["downloaded"] == {"files": 1, "bytes": len(demo.data)}
    ran = subprocess.run([venv / "bin" / "demo"], capture_output=True, text=True, check=True)
    assert ran.stdout == "demo 1.0 runs\n"
    info = next(venv.glob("lib/python*/site-packages/demo-1.0.dist-info"))
    assert (info / "INSTALLER").read_text().strip() == "pkgc"
    provenance = json.loads((info / "provenance_url.json").read_text())
    assert provenance["archive_info"]["hashes"]["sha256"] == demo.sha256
    assert provenance["url"].endswith(demo.filename)
    assert not (venv / ".pkgc").exists()


def test_second_sync_changes_nothing_and_asks_nobody(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path
) -> None:
    """A no-op must be a no-op: no request, no write, says so."""
    lock = pkgc.requirements(pin(demo, "demo", "1.0"))
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    before = snapshot(venv)
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert answer["installed"] == []
    assert answer["removed"] == []
    assert answer["kept"] == 1
    assert index.log == []
    assert snapshot(venv) == before


def test_hashed_lock_syncs_with_the_index_down(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, tmp_path: Path
) -> None:
    """Invariant 2: what is pinned, hashed and cached needs no index at all, also after a restart."""
    lock = pkgc.requirements(pin(demo, "demo", "1.0"))
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    url = index.url
    index.stop()
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", url)
    assert answer["installed"][0]["from"] == "store"
    assert answer["index_requests"] == 0
    pkgc.ok("daemon", "stop")
    answer = pkgc.sync(lock, "--venv", tmp_path / "three", "-i", url)
    assert answer["installed"][0]["from"] == "store"


def test_upgrade_and_removal(pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path) -> None:
    """An environment equals its lock: what is no longer named goes, what changed is replaced."""
    other = make_wheel("other", "2.0", {"other.py": "x = 1\n"})
    newer = make_wheel("demo", "1.1", {"demo/__init__.py": "def main():\n    print('demo 1.1')\n"})
    for wheel in (other, newer):
        index.add(wheel.data, wheel.filename)
    first = pkgc.requirements(pin(demo, "demo", "1.0"), pin(other, "other", "2.0"))
    pkgc.sync(first, "--venv", venv, "-i", index.url)
    second = pkgc.requirements(pin(newer, "demo", "1.1"), name="second.txt")
    answer = pkgc.sync(second, "--venv", venv, "-i", index.url)
    assert {(one["name"], one["version"]) for one in answer["removed"]} == {("demo", "1.0"), ("other", "2.0")}
    site = next(venv.glob("lib/python*/site-packages"))
    assert sorted(path.name for path in site.iterdir() if path.name != "__pycache__") == [
        "demo",
        "demo-1.1.dist-info",
    ]
    assert not (site / "demo" / "data.txt").exists()
    assert not (venv / "bin" / "demo").exists()


def test_dry_run_and_check_change_nothing(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path
) -> None:
    """CI gates on --check: 1 while something would change, 0 afterwards; neither writes."""
    lock = pkgc.requirements(pin(demo, "demo", "1.0"))
    before = snapshot(venv)
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 1
    dry = pkgc.ok("sync", lock, "--venv", venv, "-i", index.url, "--dry-run")
    assert "demo" in dry.out
    assert snapshot(venv) == before
    assert index.requests_for(demo.filename) == []
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 0


def test_dependencies_are_not_followed(
    pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path
) -> None:
    """H2: a lock is the whole list; what a wheel requires besides is unpinned, unhashed, and not wanted."""
    needy = make_wheel("needy", "1.0", {"needy.py": ""}, requires_dist=["demo", "ghost>=1"])
    index.add(needy.data, needy.filename)
    answer = pkgc.sync(pkgc.requirements(pin(needy, "needy", "1.0")), "--venv", venv, "-i", index.url)
    assert [one["name"] for one in answer["installed"]] == ["needy"]
    assert index.page_requests("demo") == index.page_requests("ghost") == []


def test_wrong_hash_changes_nothing(pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path) -> None:
    """A tampered file never reaches the store or the environment; expected and found are shown."""
    lock = pkgc.requirements(f"demo==1.0 --hash=sha256:{'0' * 64}")
    before = snapshot(venv)
    result = pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--output-format", "json")
    assert result.status == 1
    assert result.json["ok"] is False
    assert demo.sha256 in result.out
    assert "0" * 64 in result.out
    assert snapshot(venv) == before
    assert pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"] == []
