"""Full and read-only disks, and a cache that is taken away: one clear error, nothing half-done, go on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faults import assert_holds, assert_sound, client_acts, lock, offer, package, state
from tests.support.instance import Instance
from tests.support.locks import failure
from tests.support.server import IndexServer

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small tmpfs")


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A tmpfs at `folder`; the test is skipped where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={int(megabytes * 1024)}k,mode=700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all space of `disk` but `leave` bytes; the file that does it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = shutil.disk_usage(disk).free - leave
        try:
            while free > 0:
                free -= file.write(bytes(min(65536, free)))
        except OSError:
            pass
    return ballast


@pytest.fixture
def small_cache(own_pkgc: Instance) -> Iterator[Path]:
    """The cache of `own_pkgc` on a disk of 6 MB."""
    with small_disk(own_pkgc.cache, 6) as disk:
        yield disk
        own_pkgc.ok("daemon", "stop")


def test_cache_full_in_mid_download(
    own_pkgc: Instance, small_cache: Path, index: IndexServer, venv: Path
) -> None:
    """The user must read "disk full", lose nothing, and succeed as soon as there is space again."""
    pkgc = own_pkgc
    wheel, stored = package("alpha", "1.0", big=2_000_000), package("stored", "1.0")
    offer(index, wheel, stored)
    pkgc.sync(lock(pkgc, "stored.txt", [stored]), "--venv", venv, "-i", index.url)
    before, pid = state(venv), pkgc.pid()
    ballast = fill(small_cache, 1_200_000)
    new_lock = lock(pkgc, "new.txt", [wheel])
    error = failure(pkgc, "sync", new_lock, "--venv", venv, "-i", index.url)
    assert (error["code"], error["exit"]) == ("disk-full", 1)
    assert state(venv) == before
    assert pkgc.leftovers() == []
    # What is in the store is still served.
    pkgc.sync(lock(pkgc, "stored.txt", [stored]), "--venv", venv, "-i", index.url, "--reinstall")
    assert_holds(venv, stored)
    ballast.unlink()
    pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
    assert_holds(venv, wheel)
    assert pkgc.pid() == pid
    assert_sound(pkgc)


def test_cache_full_in_mid_unpack(
    own_pkgc: Instance, small_cache: Path, index: IndexServer, venv: Path
) -> None:
    """A tree that was cut short must not be published; the artifact stays and need not be fetched again."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0", big=1_500_000)
    offer(index, wheel)
    pkgc.ok("cache", "dir")
    before = state(venv)
    ballast = fill(small_cache, 2_200_000)
    new_lock = lock(pkgc, "new.txt", [wheel])
    error = failure(pkgc, "sync", new_lock, "--venv", venv, "-i", index.url)
    assert (error["code"], error["exit"]) == ("disk-full", 1)
    assert state(venv) == before
    assert pkgc.leftovers() == []
    ballast.unlink()
    answer = pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
    assert answer["downloaded"]["files"] == 0
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_full_cache_still_serves_what_it_has(
    own_pkgc: Instance, small_cache: Path, index: IndexServer, venv: Path, tmp_path: Path
) -> None:
    """Where the catalog cannot be written, syncs from the store go on, also after a restart."""
    pkgc = own_pkgc
    wheels = [package("alpha", "1.0"), package("beta", "1.0")]
    offer(index, *wheels)
    new_lock = lock(pkgc, "new.txt", wheels)
    pkgc.ok("fetch", new_lock, "-i", index.url)
    ballast = fill(small_cache)
    pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
    assert_holds(venv, *wheels)
    ballast.unlink()
    pkgc.kill()
    pkgc.sync(new_lock, "--venv", tmp_path / "other", "-i", index.url, "--offline")
    assert_holds(tmp_path / "other", *wheels)
    assert_sound(pkgc)


def test_daemon_that_cannot_start_on_a_full_disk_says_so(
    own_pkgc: Instance, small_cache: Path, index: IndexServer, venv: Path
) -> None:
    """A first start on a full disk: a sentence, not a traceback or a hang; afterwards it works."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    ballast = fill(small_cache)
    before = state(venv)
    result = pkgc.run("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert result.status == 1, str(result)
    assert "Traceback" not in result.err
    assert "disk-full" in result.err or "No space left" in result.err, str(result)
    assert state(venv) == before
    ballast.unlink()
    pkgc.sync(lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_environment_full_in_staging(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """An environment on a small disk is as before when the new packages do not fit."""
    old, new = [package("alpha", "1.0")], [package("alpha", "2.0", big=3_000_000), package("beta", "2.0")]
    offer(index, *old, *new)
    pid = None
    with small_disk(tmp_path / "small", 3) as disk:
        venv = disk / "venv"
        pkgc.sync(lock(pkgc, "old.txt", old), "--venv", venv, "-i", index.url)
        before, pid = state(venv), pkgc.pid()
        error = failure(pkgc, "sync", lock(pkgc, "new.txt", new), "--venv", venv, "-i", index.url)
        assert (error["code"], error["exit"]) == ("disk-full", 1)
        assert state(venv) == before
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        pkgc.sync(lock(pkgc, "new.txt", new), "--venv", venv, "-i", index.url)
        assert_holds(venv, *new)
    assert pkgc.pid() == pid
    assert_sound(pkgc)


def test_environment_on_a_full_disk(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Not a byte free: no environment can be made, and no half of one is left."""
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    with small_disk(tmp_path / "small", 1) as disk:
        fill(disk)
        error = failure(
            pkgc, "sync", lock(pkgc, "new.txt", [wheel]), "--venv", disk / "venv", "-i", index.url
        )
        assert error["code"] == "disk-full"
        assert sorted(path.name for path in disk.iterdir()) == ["ballast"]


def test_read_only_environment(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A read-only environment is checked and left alone, with a reason."""
    old, new = [package("alpha", "1.0")], [package("alpha", "2.0")]
    offer(index, *old, *new)
    with small_disk(tmp_path / "small", 8) as disk:
        venv = disk / "venv"
        old_lock = lock(pkgc, "old.txt", old)
        pkgc.sync(old_lock, "--venv", venv, "-i", index.url)
        before = state(venv)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert pkgc.sync(old_lock, "--venv", venv, "-i", index.url)["installed"] == []
        error = failure(pkgc, "sync", lock(pkgc, "new.txt", new), "--venv", venv, "-i", index.url)
        assert error["code"] == "read-only"
        assert state(venv) == before


def test_read_only_cache(own_pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """A cache that cannot be written is an error of one sentence, before anything is changed."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    new_lock = lock(pkgc, "new.txt", [wheel])
    with small_disk(pkgc.cache, 8):
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
        before = state(venv)
        pkgc.ok("daemon", "stop")
        subprocess.run(["mount", "-o", "remount,ro", pkgc.cache], check=True)
        failed = pkgc.run(
            "sync", new_lock, "--venv", venv, "-i", index.url, "--reinstall", "--output-format", "json"
        )
        assert (failed.status, failed.error_code) == (1, "cache-unusable")
        assert state(venv) == before
        subprocess.run(["mount", "-o", "remount,rw", pkgc.cache], check=True)
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url, "--reinstall")
        pkgc.ok("daemon", "stop")


def test_cache_removed_under_a_running_daemon(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """`rm -rf` of the cache is what people do: the next sync must work again, as if nothing had been."""
    wheels = [package("alpha", "1.0"), package("beta", "1.0")]
    offer(index, *wheels)
    new_lock = lock(pkgc, "new.txt", wheels)
    pkgc.sync(new_lock, "--venv", tmp_path / "one", "-i", index.url)
    shutil.rmtree(pkgc.cache)
    assert_holds(tmp_path / "one", *wheels)
    pkgc.sync(new_lock, "--venv", tmp_path / "two", "-i", index.url)
    assert_holds(tmp_path / "two", *wheels)
    if not client_acts(pkgc):
        pkgc.ok("daemon", "stop")
    pkgc.sync(new_lock, "--venv", tmp_path / "three", "-i", index.url)
    assert_holds(tmp_path / "three", *wheels)
    assert_sound(pkgc)
