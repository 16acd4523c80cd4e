"""Ready copies when something dies, is full, or is elsewhere: the environment is old or new, never half."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_disk import fill, small_disk
from tests.support.faults import (
    armed_daemon,
    assert_holds,
    assert_sound,
    environment_faults,
    kill_client,
    lock,
    offer,
    package,
    wait_for,
)
from tests.support.instance import Instance, alive, running, wait_until
from tests.support.locks import site
from tests.support.ready import copier, copies_of, ready_size, wait_for_copies
from tests.support.server import IndexServer

WHEELS = [package(name, "1.0", big=200_000 if name == "gamma" else 0) for name in ("alpha", "beta", "gamma")]
ALPHA, BETA, GAMMA = WHEELS
#: The first environment of the daemon passes each of them once, the second one dies there.
POINTS = (
    "locked#2",
    "staged alpha#2",
    "staged gamma#2",
    "before-journal#2",
    "journal-written#2",
    "journaled#2",
    "place *site-packages/alpha#2",
    "place *site-packages/gamma#2",
    "place *beta-1.0.dist-info#2",
    "place *gamma-1.0.dist-info#2",
    "committed#2",
)

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")


def names(pkgc: Instance) -> set[str]:
    """Of the copies that are there."""
    return set(os.listdir(pkgc.cache / "ready"))


def inode(venv: Path) -> int:
    return (site(venv) / "alpha/m1.py").stat().st_ino


def test_kill_at_every_stage_of_an_install_from_copies(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """kill -9 with copies half renamed: the next sync must finish, and never say that all is up to date."""
    pkgc = own_pkgc
    pkgc.env["PKGC_BYTECODE"] = "off"  # it would have the copies made anew
    offer(index, *WHEELS)
    new_lock = lock(pkgc, "lock.txt", WHEELS)
    for number, point in enumerate(POINTS):
        first, second = tmp_path / f"first{number}", tmp_path / f"second{number}"
        gate = tmp_path / f"gate{number}"
        with armed_daemon(pkgc, f"checkpoint:{point}=pause:{gate}") as daemon:
            pkgc.sync(new_lock, "--venv", first, "-i", index.url)
            wait_for_copies(pkgc, len(WHEELS))
            (copy,) = copies_of(pkgc, ALPHA.sha256)
            there, before = (copy / "site/alpha/m1.py").stat().st_ino, names(pkgc)
            client = pkgc.start("sync", new_lock, "--venv", second, "-i", index.url)
            wait_for(Path(f"{gate}.reached"), client)
            kill_client(client)
            daemon.kill()
        checked = pkgc.run("sync", new_lock, "--venv", second, "-i", index.url, "--check")
        assert checked.status == (0 if point.startswith("committed") else 1), f"{point}: {checked}"
        assert not names(pkgc) & before, f"{point}: copies of a dead daemon are not trusted"
        answer = pkgc.sync(new_lock, "--venv", second, "-i", index.url)
        assert_holds(second, *WHEELS)
        if point.startswith("committed"):
            assert answer["kept"] == 3
            assert inode(second) == there, "it was made of copies"
    assert_sound(pkgc)


def test_daemon_killed_while_copies_are_made(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Half a copy must not be found by the next daemon, nor the copier outlive the one that it serves."""
    pkgc = own_pkgc
    big = package("wide", "1.0", modules=1500)
    offer(index, big, *WHEELS)
    new_lock = lock(pkgc, "lock.txt", [big, *WHEELS])
    pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url)
    daemon = pkgc.pid()
    wait_until(lambda: copier(daemon) and copies_of(pkgc, big.sha256), "a copy is begun")
    left, child = names(pkgc), copier(daemon)
    assert child is not None
    pkgc.kill()
    wait_until(lambda: not alive(child), "the copier ends with its daemon")
    pkgc.sync(new_lock, "--venv", tmp_path / "second", "-i", index.url)
    assert not names(pkgc) & left
    assert_holds(tmp_path / "second", big, *WHEELS)
    assert_sound(pkgc)


def test_copier_killed(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The OOM killer likes processes of low priority: nobody may notice."""
    pkgc = own_pkgc
    offer(index, *WHEELS)
    new_lock = lock(pkgc, "lock.txt", WHEELS)
    pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url)
    wait_for_copies(pkgc, 1)
    daemon = pkgc.pid()
    child = copier(daemon)
    assert child is not None
    os.kill(child, signal.SIGKILL)
    for name in ("second", "third"):
        pkgc.sync(new_lock, "--venv", tmp_path / name, "-i", index.url)
        assert_holds(tmp_path / name, *WHEELS)
    wait_for_copies(pkgc, len(WHEELS))
    assert pkgc.pid() == daemon
    assert copier(daemon) not in (None, child)


@root_only
def test_a_full_disk_is_not_filled_with_copies(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """What is left of a disk belongs to the next sync, not to what would only make it faster."""
    pkgc = own_pkgc
    with small_disk(pkgc.cache, 20) as disk:
        offer(index, *WHEELS)
        new_lock = lock(pkgc, "lock.txt", WHEELS)
        fill(disk, 6_000_000)
        for name in ("first", "second"):
            pkgc.sync(new_lock, "--venv", disk / name, "-i", index.url)
            assert_holds(disk / name, *WHEELS)
        time.sleep(1.5)  # there is nothing to wait for; elsewhere the first copy takes a third of it
        assert names(pkgc) == set()
        assert ready_size(pkgc)["copies"] == 0
        assert_sound(pkgc)
        pkgc.ok("daemon", "stop")


@contextmanager
def bound(source: Path, target: Path) -> Iterator[Path]:
    """`source`, mounted once more at `target`."""
    source.mkdir(exist_ok=True)
    target.mkdir()
    done = subprocess.run(["mount", "--bind", source, target], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts here: {done.stderr.decode()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)


@root_only
@pytest.mark.parametrize("where", ["bind mount", "other file system"])
def test_an_environment_on_another_mount(index: IndexServer, tmp_path: Path, where: str) -> None:
    """Renames end at a mount, also where it is the same file system: files are placed one by one there."""
    with running(tmp_path / "pkgc") as pkgc:
        pkgc.env["PKGC_BYTECODE"] = "off"  # it would have the copies made anew
        offer(index, *WHEELS)
        new_lock = lock(pkgc, "lock.txt", WHEELS)
        pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url)
        wait_for_copies(pkgc, len(WHEELS))
        before = names(pkgc)
        mounted = (
            bound(tmp_path / "source", tmp_path / "mounted")
            if where == "bind mount"
            else small_disk(tmp_path / "mounted", 30)
        )
        with mounted as folder:
            pkgc.sync(new_lock, "--venv", folder / "venv", "-i", index.url)
            assert_holds(folder / "venv", *WHEELS)
            if where == "other file system":
                assert names(pkgc) == before, "copies were taken that are of no use here"
            pkgc.ok("sync", new_lock, "--venv", folder / "venv", "-i", index.url, "--check")


@root_only
def test_copies_that_became_read_only(index: IndexServer, tmp_path: Path) -> None:
    """Nothing can be moved out of their folder, made in it or removed from it: only time is lost."""
    with running(tmp_path / "pkgc") as pkgc:
        offer(index, *WHEELS)
        new_lock = lock(pkgc, "lock.txt", WHEELS)
        pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url)
        wait_for_copies(pkgc, len(WHEELS))
        folder = pkgc.cache / "ready"
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
            for name in ("second", "third"):
                pkgc.sync(new_lock, "--venv", tmp_path / name, "-i", index.url)
                assert_holds(tmp_path / name, *WHEELS)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        pkgc.sync(new_lock, "--venv", tmp_path / "fourth", "-i", index.url)
        wait_for_copies(pkgc, len(WHEELS))
        assert_holds(tmp_path / "fourth", *WHEELS)


def test_syncs_killed_at_random_with_copies(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Clients that vanish in mid-sync leave copies taken and not used: the next ones must not find those."""
    pkgc = own_pkgc
    offer(index, *WHEELS)
    new_lock = lock(pkgc, "lock.txt", WHEELS)
    pkgc.sync(new_lock, "--venv", tmp_path / "first", "-i", index.url)
    for number in range(12):
        venv = tmp_path / f"venv{number}"
        client = pkgc.start("sync", new_lock, "--venv", venv, "-i", index.url)
        try:
            client.wait(number * 0.01)
        except subprocess.TimeoutExpired:
            pass
        kill_client(client)
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
        assert environment_faults(venv, WHEELS) == []
    wait_for_copies(pkgc, lambda size: size["copies"] >= len(WHEELS))
    assert_sound(pkgc)
