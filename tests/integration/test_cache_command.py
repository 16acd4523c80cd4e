"""`pkgc fetch` and `pkgc cache dir|size|list|verify|clean`: what they say; they never hurt a sync."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.instance import Instance, running, wait_until
from tests.support.locks import failure, holds, pin
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ONE = make_wheel("cached-one", "1.0", {"cached_one/__init__.py": "value = 1\n" * 50})
TWO = make_wheel("cached-two", "1.0", {"cached_two.py": "value = 2\n"})


@pytest.fixture
def filled(own_pkgc: Instance, index: IndexServer) -> Instance:
    """A pkgc that has fetched both wheels."""
    for wheel in (ONE, TWO):
        index.add(wheel.data, wheel.filename)
    own_pkgc.ok("fetch", own_pkgc.requirements(pin(ONE), pin(TWO)), "-i", index.url)
    return own_pkgc


def artifact(pkgc: Instance, wheel: BuiltWheel) -> Path:
    """The stored original file of a wheel."""
    found = [path for path in pkgc.cache.rglob(f"{wheel.sha256[:2]}*/*") if path.is_file()]
    found += [path for path in pkgc.cache.rglob(f"*{wheel.sha256}*") if path.is_file()]
    return next(path for path in found if path.read_bytes() == wheel.data)


def placed(pkgc: Instance, name: str) -> Path:
    """A file of an unpacked wheel in the store."""
    return next(path for path in pkgc.cache.rglob(name) if path.is_file())


def flip(path: Path) -> None:
    """Change one byte in the middle without changing size or time."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_fetch_then_offline(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """CI images: fetch once while building, install later without any network."""
    answer = filled.ok("fetch", "requirements.txt", "-i", index.url, "--output-format", "json").json
    assert [one["from"] for one in answer["fetched"]] == ["store", "store"]
    assert answer["downloaded"] == {"files": 0, "bytes": 0}
    url = index.url
    index.stop()
    result = filled.ok("sync", "requirements.txt", "-i", url, "--offline", "--venv", tmp_path / "venv")
    assert holds(tmp_path / "venv") == {"cached_one": "1.0", "cached_two": "1.0"}
    assert result.err == ""


def test_fetch_for_another_python(own_pkgc: Instance, index: IndexServer) -> None:
    """fetch --python takes what that interpreter needs; nothing is installed anywhere."""
    index.add(ONE.data, ONE.filename)
    own_pkgc.requirements(pin(ONE))
    before = sorted(own_pkgc.root.iterdir())
    text = own_pkgc.ok("fetch", "requirements.txt", "-i", index.url).out.splitlines()
    assert text[0].startswith("Downloaded 1 file (")
    assert text[1].startswith("Cached 1 package in ")
    assert {path.name for path in own_pkgc.root.iterdir()} - {path.name for path in before} <= {"cache"}
    assert failure(own_pkgc, "fetch")["code"] in ("no-source", "usage")


def test_dir_size_and_list(filled: Instance) -> None:
    """Where it is, how big it is, what is in it."""
    assert filled.ok("cache", "dir").out == f"{filled.cache}\n"
    assert filled.ok("cache", "dir", "--output-format", "json").json["cache"] == str(filled.cache)
    size = filled.ok("cache", "size", "--output-format", "json").json
    assert size["artifacts"] == {"files": 2, "bytes": len(ONE.data) + len(TWO.data)}
    assert size["total"]["bytes"] > size["artifacts"]["bytes"]
    text = filled.ok("cache", "size").out
    assert "total" in text
    listed = filled.ok("cache", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == [ONE.filename, TWO.filename]
    assert f"sha256:{ONE.sha256}" in listed[0]
    rows = filled.ok("cache", "list", "--output-format", "json").json["artifacts"]
    assert [(row["name"], row["version"], row["sha256"]) for row in rows] == [
        ("cached-one", "1.0", ONE.sha256),
        ("cached-two", "1.0", TWO.sha256),
    ]


def test_clean_by_name_and_all(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Names are names however they are spelled; environments do not mind."""
    filled.sync("requirements.txt", "-i", index.url, "--venv", tmp_path / "venv")
    assert "Removed 1 file" in filled.ok("cache", "clean", "Cached.One").out
    rows = filled.ok("cache", "list", "--output-format", "json").json["artifacts"]
    assert [row["name"] for row in rows] == ["cached-two"]
    missing = filled.ok("cache", "clean", "nothing-of-it")
    assert "Removed 0 files" in missing.out
    answer = filled.ok("cache", "clean", "--output-format", "json").json
    assert answer["removed"] == [TWO.filename]
    assert filled.ok("cache", "list").out == ""
    assert filled.sync("requirements.txt", "-i", index.url, "--venv", tmp_path / "venv")["kept"] == 2
    again = filled.sync("requirements.txt", "-i", index.url, "--venv", tmp_path / "venv", "--reinstall")
    assert again["downloaded"]["files"] == 2
    assert filled.run("cache", "clean", "not/a/name").status == 2


def test_clean_during_a_sync(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Somebody frees space while a job runs: the job ends well, what it uses stays."""
    slow = make_wheel("slow", "1.0")
    for wheel in (ONE, slow):
        index.add(wheel.data, wheel.filename)
    own_pkgc.ok("fetch", own_pkgc.requirements(pin(ONE)), "-i", index.url)
    index.behave(slow.filename, Behaviour(delay=1.5))
    lock = own_pkgc.requirements(pin(ONE), pin(slow))
    job = own_pkgc.start("sync", lock, "-i", index.url, "--venv", tmp_path / "venv")
    wait_until(lambda: index.page_requests("slow"), "the job asks for slow")

    def in_use() -> bool:
        rows = own_pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
        return any(row["in_use"] for row in rows)

    wait_until(in_use, "the job holds what it found in the cache", 5)
    answer = own_pkgc.ok("cache", "clean", "--output-format", "json").json
    assert answer["skipped"] == [ONE.filename]
    out, err = job.communicate(timeout=60)
    assert job.returncode == 0, out + err
    assert holds(tmp_path / "venv") == {"cached_one": "1.0", "slow": "1.0"}


def test_verify_finds_a_flipped_byte_and_heals(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Bit rot: size and time are as before, only a full re-hash sees it; the next sync has good files."""
    clean = filled.ok("cache", "verify")
    assert "2 files and 2 unpacked wheels" in clean.out
    assert "No damage found" in clean.out
    flip(placed(filled, "cached_two.py"))
    flip(artifact(filled, ONE))
    result = filled.run("cache", "verify")
    assert TWO.filename in result.out
    assert ONE.filename in result.out
    answer = filled.run("cache", "verify", "--output-format", "json").json
    assert (answer["ok"], answer["damaged"]) == (True, []), "healed: nothing is left to find"
    venv = tmp_path / "venv"
    filled.sync("requirements.txt", "-i", index.url, "--venv", venv)
    imported = subprocess.run(
        [
            venv / "bin/python",
            "-c",
            "import cached_one, cached_two; print(cached_one.value, cached_two.value)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout == "1 2\n"


def test_damage_is_seen_when_used(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Somebody edited a file of the cache: it does not reach an environment, and the user is told."""
    path = placed(filled, "cached_two.py")
    path.chmod(0o644)
    path.write_text("value = 'edited in the cache'\n")
    result = filled.ok("sync", "requirements.txt", "-i", index.url, "--venv", tmp_path / "venv")
    assert "warning" in result.err
    installed = next((tmp_path / "venv").glob("lib/*/site-packages/cached_two.py"))
    assert installed.read_text() == "value = 2\n"


def test_a_deleted_cache_folder(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """`rm -rf` of single files under a running daemon: fetched again, not an internal error."""
    artifact(filled, ONE).unlink()
    tree = placed(filled, "cached_two.py")
    tree.unlink()
    result = filled.ok("sync", "requirements.txt", "-i", index.url, "--venv", tmp_path / "venv")
    assert "Traceback" not in result.err
    assert holds(tmp_path / "venv") == {"cached_one": "1.0", "cached_two": "1.0"}


def test_two_caches_do_not_mix(filled: Instance, index: IndexServer, tmp_path: Path) -> None:
    """PKGC_CACHE_DIR isolates: another cache is empty and asks the index itself."""
    with running(tmp_path / "second") as second:
        assert second.ok("cache", "list").out == ""
        lock = second.requirements(pin(ONE))
        answer = second.sync(lock, "-i", index.url, "--venv", tmp_path / "venv")
        assert answer["downloaded"]["files"] == 1


def test_an_idle_daemon_keeps_the_size_limit(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Without a limit a shared cache fills the disk; what was used last stays longest."""
    wheels = [make_wheel(f"pack{n}", "1.0", {f"pack{n}.bin": os.urandom(200_000)}) for n in range(3)]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
    lines = [f"pack{n}==1.0 --hash=sha256:{wheel.sha256}" for n, wheel in enumerate(wheels)]
    env = {"PKGC_CACHE_MAX_SIZE": "700kB"}
    for line in lines:
        own_pkgc.ok("fetch", own_pkgc.requirements(line), "-i", index.url, env=env)

    def size() -> int:
        kinds = own_pkgc.ok("cache", "size", "--output-format", "json").json
        return int(kinds["artifacts"]["bytes"] + kinds["trees"]["bytes"])

    assert size() > 700_000
    wait_until(lambda: size() <= 700_000, "the cache is shrunk", timeout=40)
    answer = own_pkgc.sync(own_pkgc.requirements(*lines), "--venv", tmp_path / "v", "-i", index.url)
    assert len(answer["installed"]) == 3
