"""Ready copies, as a person sees them: the next environment is there at once, and is what its lock says."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import (
    assert_holds,
    assert_sound,
    environment_faults,
    lock,
    offer,
    package,
)
from tests.support.instance import Instance, running, wait_until
from tests.support.locks import site
from tests.support.ready import copier, copies_of, ready_size, wait_for_copies
from tests.support.server import IndexServer

WHEELS = [package(name, "1.0", big=200_000 if name == "gamma" else 0) for name in ("alpha", "beta", "gamma")]
ALPHA, BETA, GAMMA = WHEELS


class Prepared:
    """A pkgc that has made one environment, `first`, and has a copy of each wheel for the next."""

    def __init__(self, pkgc: Instance, index: IndexServer, root: Path) -> None:
        self.pkgc, self.index, self.root = pkgc, index, root
        # Copies are made anew once there is bytecode; these tests look at single copies.
        pkgc.env["PKGC_BYTECODE"] = "off"
        offer(index, *WHEELS)
        self.lock = lock(pkgc, "lock.txt", WHEELS)
        self.sync("first")
        wait_for_copies(pkgc, len(WHEELS))

    def sync(self, name: str, *options: str | Path, **more: Any) -> Path:
        """A new environment of the lock."""
        venv = self.root / name
        self.pkgc.sync(self.lock, "--venv", venv, "-i", self.index.url, *options, **more)
        return venv

    def inodes(self, name: str = "alpha/m1.py") -> set[int]:
        """Of that file in the copies."""
        return {path.stat().st_ino for path in (self.pkgc.cache / "ready").glob(f"*/site/{name}")}


@pytest.fixture
def prepared(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> Prepared:
    return Prepared(own_pkgc, index, tmp_path)


def parts(venv: Path) -> dict[str, tuple[str, bytes]]:
    """Kind and content of everything, with the environment's own path taken out (scripts have it)."""
    found = {}
    for path in sorted(venv.rglob("*")):
        shown, status = str(path.relative_to(venv)), path.lstat()
        if shown in (".lock", "pyvenv.cfg") or shown.startswith("bin/activate"):
            continue
        if path.is_symlink():
            content = os.readlink(path).encode()
        else:
            content = b"" if path.is_dir() else path.read_bytes()
        if shown.startswith("bin/"):
            content = content.replace(str(venv).encode(), b"VENV")
        if path.name == "RECORD":  # and so do the hashes of scripts
            content = b"\n".join(line for line in content.split(b"\n") if b"../bin/" not in line)
        found[shown] = (stat.filemode(status.st_mode)[0], content)
    return found


def modes(venv: Path) -> dict[str, int]:
    """Of what is not shared with the store."""
    return {
        str(path.relative_to(venv)): stat.S_IMODE(path.lstat().st_mode)
        for path in venv.rglob("*")
        if not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1)
    }


def test_the_next_environment_is_made_of_copies(prepared: Prepared) -> None:
    """That is what they are for; and nobody may see a difference but in time."""
    there = prepared.inodes()
    second = prepared.sync("second")
    assert (site(second) / "alpha/m1.py").stat().st_ino in there, "the copy was not used"
    assert_holds(second, *WHEELS)
    copied = prepared.sync("third", "--link-mode", "copy")
    assert parts(second) == parts(copied)
    assert {path: mode for path, mode in modes(copied).items() if path in modes(second)} == modes(second)
    assert prepared.pkgc.sync(prepared.lock, "--venv", second, "-i", prepared.index.url)["kept"] == 3
    wait_for_copies(prepared.pkgc, len(WHEELS))


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_a_client_of_another_umask_than_the_daemon(prepared: Prepared, umask: int) -> None:
    """A shared group could not write, or strangers could read, what the daemon's umask says."""

    def sync(name: str, *options: str) -> Path:
        venv = prepared.root / name
        args: tuple[str | Path, ...]
        args = ("sync", prepared.lock, "--venv", venv, "-i", prepared.index.url, *options)
        done = prepared.pkgc.start(*args, umask=umask)
        out, err = done.communicate(timeout=60)
        assert done.returncode == 0, out + err
        return venv

    sync("second")
    wait_for_copies(prepared.pkgc, len(WHEELS))
    wait_until(lambda: len(copies_of(prepared.pkgc, ALPHA.sha256)) == 1, "copies for this umask only")
    there = prepared.inodes()
    made, copied = sync("third"), sync("fourth", "--link-mode", "copy")
    assert (site(made) / "alpha/m1.py").stat().st_ino in there, "the copy was not used"
    found, expected = modes(made), modes(copied)
    assert {path: mode for path, mode in expected.items() if path in found} == found
    assert stat.S_IMODE((site(made) / "alpha").stat().st_mode) == 0o777 & ~umask


def test_another_index_than_the_copy_was_prepared_with(prepared: Prepared) -> None:
    """Provenance decides whether the next sync trusts what is installed."""
    offer_elsewhere = prepared.index.index_url("other")
    for wheel in WHEELS:
        prepared.index.add(wheel.data, wheel.filename, index="other")
    venv = prepared.root / "second"
    prepared.pkgc.sync(prepared.lock, "--venv", venv, "-i", offer_elsewhere)
    copied = prepared.root / "third"
    prepared.pkgc.sync(prepared.lock, "--venv", copied, "-i", offer_elsewhere, "--link-mode", "copy")
    assert parts(venv) == parts(copied)


# -- what others do to them --------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


TAMPERED: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, 3),
    "chmodded": lambda path: path.chmod(0o777),
    "removed": lambda path: path.unlink(),
    "added": lambda path: path.with_name("evil.py").write_text("evil"),
}


def assert_was_refused(prepared: Prepared, venv: Path) -> None:
    """The environment is right all the same, and so will be the next."""
    assert_holds(venv, *WHEELS)
    assert stat.S_IMODE((site(venv) / "alpha/m1.py").stat().st_mode) & 0o111 == 0
    wait_for_copies(prepared.pkgc, len(WHEELS))
    assert_holds(prepared.sync("afterwards"), *WHEELS)
    assert_sound(prepared.pkgc)


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_between_two_syncs(prepared: Prepared, what: str) -> None:
    """Who may write into the cache is root or the user: a script gone wrong must not spread through it."""
    (copy,) = copies_of(prepared.pkgc, ALPHA.sha256)
    TAMPERED[what](copy / "site/alpha/m1.py")
    venv = prepared.sync("second")
    assert "was changed by another program" in prepared.pkgc.ok("daemon", "logs").out
    assert_was_refused(prepared, venv)


@contextmanager
def daemon_with(pkgc: Instance, code: str) -> Iterator[None]:
    """A daemon that has run `code` before its main."""
    pkgc.cache.mkdir(parents=True, exist_ok=True)
    pkgc.env["PKGC_BYTECODE"] = "off"
    program = f"import sys\n{code}\nfrom pkgc_daemon.serving.run import main\nsys.exit(main(sys.argv[1:]))"
    with (pkgc.root / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-c", program, "--socket", pkgc.socket, "--cache-dir", pkgc.cache],
            env=pkgc.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: pkgc.socket.exists() and pkgc.status() is not None, "the daemon answers")
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_where_nothing_can_be_watched(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path, what: str
) -> None:
    """The user's watches are used up by an editor: then files are compared, all of them."""
    unwatched = "import pkgc_daemon.store.ready as ready\nready.open_watcher = lambda: None"
    with daemon_with(own_pkgc, unwatched):
        prepared = Prepared(own_pkgc, index, tmp_path)
        (copy,) = copies_of(own_pkgc, ALPHA.sha256)
        TAMPERED[what](copy / "site/alpha/m1.py")
        there = prepared.inodes("beta/m1.py")
        venv = prepared.sync("second")
        assert (site(venv) / "beta/m1.py").stat().st_ino in there, "copies are used here too"
        assert "was changed by another program" in (own_pkgc.root / "daemon.log").read_text()
        assert_was_refused(prepared, venv)


def edit(path: Path) -> None:
    """As root, or whoever owns it, with an editor that writes in place."""
    path.chmod(0o644)
    path.write_bytes(b"edited " + path.read_bytes()[7:])


@pytest.mark.parametrize("name", ["gamma/m1.py", "gamma/big.bin"])
def test_an_edit_never_reaches_a_later_environment(prepared: Prepared, name: str) -> None:
    """The promise, whether an environment was made from trees or copies, and whenever those were made."""
    edit(site(prepared.root / "first") / name)
    second = prepared.sync("second")
    assert_holds(second, *WHEELS)
    edit(site(second) / name)
    third = prepared.sync("third")
    assert_holds(third, *WHEELS)
    wait_for_copies(prepared.pkgc, len(WHEELS))
    edit(site(third) / name)
    assert_holds(prepared.sync("fourth"), *WHEELS)


def test_the_folder_is_removed_by_hand(prepared: Prepared) -> None:
    """People empty folders that look big: no error, and copies come again."""
    shutil.rmtree(prepared.pkgc.cache / "ready")
    assert_holds(prepared.sync("second"), *WHEELS)
    wait_for_copies(prepared.pkgc, len(WHEELS))
    there = prepared.inodes()
    assert (site(prepared.sync("third")) / "alpha/m1.py").stat().st_ino in there
    (prepared.pkgc.cache / "ready").rename(prepared.root / "away")
    assert_holds(prepared.sync("fourth"), *WHEELS)


# -- several at once, and elsewhere ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 8])
def test_several_want_the_last_copy(prepared: Prepared, count: int) -> None:
    """A copy belongs to one environment: two that share it would have half a package each."""
    with ThreadPoolExecutor(count) as pool:
        venvs = list(pool.map(lambda number: prepared.sync(f"venv{number}"), range(count)))
    for venv in venvs:
        assert_holds(venv, *WHEELS)
    inodes = [(site(venv) / "alpha/__init__.py").stat() for venv in venvs]
    alone = [one.st_ino for one in inodes if one.st_nlink == 1]
    assert len(alone) == len(set(alone)) >= 1


@pytest.mark.parametrize(
    "options",
    [("--link-mode", "hardlink"), ("--link-mode", "symlink"), ("--link-mode", "copy"), ("--strict",)],
)
def test_never_used_where_something_else_is_asked_for(prepared: Prepared, options: tuple[str, ...]) -> None:
    """Whoever names a way to place files, or wants overlaps found, must get it."""
    there = prepared.inodes()
    venv = prepared.sync("second", *options)
    assert (site(venv) / "alpha/m1.py").lstat().st_ino not in there
    assert prepared.inodes() == there, "left for the next"


def test_a_change_that_removes_leaves_the_copies(prepared: Prepared) -> None:
    """An upgrade is not made from copies; and must not have them all made anew."""
    there = prepared.inodes()
    venv = prepared.root / "first"
    answer = prepared.pkgc.sync(prepared.lock, "--venv", venv, "-i", prepared.index.url, "--reinstall")
    assert len(answer["installed"]) == 3
    assert_holds(venv, *WHEELS)
    wait_for_copies(prepared.pkgc, len(WHEELS))
    assert there <= prepared.inodes()


def test_missing_packages_are_added_from_copies(prepared: Prepared) -> None:
    """Into an environment that has others, and folders of a shared namespace."""
    venv = prepared.root / "second"
    less = lock(prepared.pkgc, "less.txt", [BETA])
    prepared.pkgc.sync(less, "--venv", venv, "-i", prepared.index.url, "--link-mode", "copy")
    (site(venv) / "shared_ns" / "mine.txt").write_text("the user's")
    there = prepared.inodes()
    prepared.sync("second")
    assert (site(venv) / "alpha/m1.py").stat().st_ino in there
    assert environment_faults(venv, WHEELS) == ["shared_ns/mine.txt belongs to nothing that was locked"]


# -- sizes and switches ------------------------------------------------------------------------------------


def test_sizes_and_cleaning(prepared: Prepared) -> None:
    """`pkgc cache size` tells what they take, and `pkgc cache clean` gives it back."""
    pkgc = prepared.pkgc
    size = pkgc.ok("cache", "size", "--output-format", "json").json
    files = [
        path for path in (pkgc.cache / "ready").rglob("*") if path.is_file() and path.stat().st_nlink == 1
    ]
    shown = json.dumps(size)
    assert str(sum(path.stat().st_size for path in files)) in shown
    pkgc.ok("cache", "clean", "alpha")
    wait_until(lambda: copies_of(pkgc, ALPHA.sha256) == [], "its copies are gone")
    assert ready_size(pkgc)["copies"] == 2
    pkgc.ok("cache", "clean")
    wait_until(lambda: list((pkgc.cache / "ready").iterdir()) == [], "all are gone")
    assert ready_size(pkgc) == {"copies": 0, "files": 0, "bytes": 0}
    assert_holds(prepared.sync("second"), *WHEELS)
    assert_sound(pkgc)


def test_cleaned_while_they_are_taken(prepared: Prepared) -> None:
    """What is in use is not cleaned; and nothing of what is gone is installed."""
    for number in range(4):
        with ThreadPoolExecutor(2) as pool:
            made = pool.submit(prepared.sync, f"venv{number}")
            pool.submit(prepared.pkgc.ok, "cache", "clean").result()
            assert_holds(made.result(), *WHEELS)
    assert_sound(prepared.pkgc)


def test_a_damaged_tree_takes_its_copies_along(prepared: Prepared) -> None:
    """`pkgc cache verify` puts a tree away: copies that share its large file are bad too."""
    pkgc = prepared.pkgc
    edit(next((pkgc.cache / "trees").rglob("gamma/big.bin")))
    pkgc.run("cache", "verify")
    wait_until(lambda: copies_of(pkgc, GAMMA.sha256) == [], "its copies are gone")
    assert_holds(prepared.sync("second"), *WHEELS)


@pytest.mark.parametrize("how", ["variable", "config"])
def test_switched_off(tmp_path: Path, index: IndexServer, how: str) -> None:
    """Small disks, and people who do not want it."""
    with running(tmp_path / "pkgc") as pkgc:
        if how == "variable":
            pkgc.env["PKGC_READY_COPIES"] = "0"
        else:
            (pkgc.root / "config.toml").write_text("[cache]\nready-copies = false\n")
        offer(index, *WHEELS)
        for name in ("one", "two"):
            pkgc.sync(lock(pkgc, "lock.txt", WHEELS), "--venv", tmp_path / name, "-i", index.url)
        wait_until(lambda: pkgc.ok("cache", "size") is not None, "it is idle")
        assert copier(pkgc.pid()) is None
        assert list((pkgc.cache / "ready").iterdir()) == []
        assert ready_size(pkgc)["copies"] == 0


def test_an_invalid_switch_is_an_error(tmp_path: Path) -> None:
    """A typing error must not silently mean on, or off."""
    with running(tmp_path / "pkgc") as pkgc:
        result = pkgc.run("cache", "size", env={"PKGC_READY_COPIES": "yes"})
        assert result.status != 0
        assert "PKGC_READY_COPIES must be 0 or 1, not 'yes'" in result.err


def test_the_client_may_be_the_one_that_acts(tmp_path: Path, index: IndexServer) -> None:
    """A client takes nothing out of the cache: it gets no copies, and none are made for it."""
    with running(tmp_path / "pkgc", host_calls=True) as pkgc:
        offer(index, *WHEELS)
        new_lock = lock(pkgc, "lock.txt", WHEELS)
        for name in ("first", "second"):
            pkgc.sync(new_lock, "--venv", tmp_path / name, "-i", index.url)
            assert_holds(tmp_path / name, *WHEELS)
        assert ready_size(pkgc)["copies"] == 0
        assert parts(tmp_path / "first") == parts(tmp_path / "second")
