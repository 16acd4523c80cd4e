"""Watched environments: a change that is not noticed is 'up to date' over a broken environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.environments import scan, watched, watching
from pkgc_daemon.environments.watching import Watcher

FILES = ("demo/__init__.py", "demo/deep/er/data.txt", "demo/mod.py", "other_top.py")


class Environment:
    """One distribution with folders, a script and a file outside of site-packages."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.site = prefix / "lib" / "python3.12" / "site-packages"
        self.args = {"prefix": str(prefix), "purelib": str(self.site), "platlib": str(self.site)}
        self.info = self.site / "demo-1.0.dist-info"
        lines = []
        for name in (*FILES, "../../../bin/tool", "../../../share/doc/demo/manual"):
            path = Path(os.path.normpath(self.site / name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
            lines.append(f"{name},sha256=x,4\n")
        self.info.mkdir()
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\npkgc = 0.1\n")
        (self.info / "METADATA").write_text("Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\n\nText\n")
        (self.info / "INSTALLER").write_text("pip\n")
        lines += [f"demo-1.0.dist-info/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD")]
        (self.info / "RECORD").write_text("".join(lines))
        self.settle()

    def settle(self) -> None:
        """Make everything old enough that an unchanged mtime proves that nothing changed."""
        past = time.time_ns() - 10**9
        for root, folders, names in os.walk(self.prefix, topdown=False):
            for path in (os.path.join(root, name) for name in (*names, *folders)):
                if os.lstat(path).st_mtime_ns > past and not os.path.islink(path):
                    os.utime(path, ns=(past, past))

    def scan(self) -> dict[str, Any]:
        return watched.scan_environment(self.args)

    def watch(self) -> dict[str, Any]:
        """Have it watched; the answer that is vouched for."""
        self.scan()
        assert watched.watch_environment(self.args)
        answer = self.scan()
        assert self.scan() is answer
        return answer


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Watcher]:
    """As in a daemon; on any filesystem, whatever the tests run on."""
    try:
        one = Watcher()
    except OSError as error:
        pytest.skip(f"no inotify: {error}")
    kinds = Path("/proc/self/mountinfo").read_text().splitlines()
    monkeypatch.setattr(
        watching, "LOCAL", watching.LOCAL | {line.partition(" - ")[2].split(" ")[0] for line in kinds}
    )
    watched.use_watcher(one)
    yield one
    watched.use_watcher(None)
    one.close()


@pytest.fixture
def env(tmp_path: Path, watcher: Watcher) -> Environment:
    return Environment(tmp_path / "env")


def replaced(path: Path, text: str) -> None:
    """As editors write: a new file under the old name."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.rename(path)


def edited_in_place(path: Path) -> None:
    """Other bytes of the same size in the same file; no folder changes."""
    path.write_bytes(path.read_bytes().replace(b"Version: 1.0", b"Version: 2.0"))


def edited_through_another_link(env: Environment) -> None:
    """The file is hardlinked from somewhere else, where it is written to."""
    with (env.prefix.parent / "link").open("a") as file:
        file.write("more\n")


def linked(folder: Path, elsewhere: Path) -> None:
    """The folder is moved, and a link put into its place."""
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def copied_over(env: Environment, folder: Path) -> None:
    """The folder is moved away, and a copy without one file is put into its place."""
    away = folder.with_name("away")
    folder.rename(away)
    shutil.copytree(away, folder, symlinks=True)
    shutil.rmtree(away)
    next(iter(env.site.glob("demo/mod.py")), env.prefix / "share/doc/demo/manual").unlink()


CHANGES: dict[str, Callable[[Environment], object]] = {
    "a file is deleted": lambda env: (env.site / "demo/deep/er/data.txt").unlink(),
    "a module at the top is deleted": lambda env: (env.site / "other_top.py").unlink(),
    "a package folder is deleted": lambda env: shutil.rmtree(env.site / "demo"),
    "a folder in it is deleted": lambda env: shutil.rmtree(env.site / "demo/deep"),
    "a folder becomes a link": lambda env: linked(env.site / "demo/deep", env.prefix.parent / "deep"),
    "a dist-info is deleted": lambda env: shutil.rmtree(env.info),
    "a dist-info is renamed": lambda env: env.info.rename(env.site / "demo-2.0.dist-info"),
    "METADATA is edited in place": lambda env: edited_in_place(env.info / "METADATA"),
    "METADATA is edited through another link": edited_through_another_link,
    "METADATA is replaced": lambda env: replaced(env.info / "METADATA", "Name: demo\nVersion: 2.0\n\n"),
    "RECORD is cut off": lambda env: os.truncate(env.info / "RECORD", 20),
    "an origin is added": lambda env: (env.info / "direct_url.json").write_text('{"url": "file:///x"}'),
    "another tool installs": lambda env: shutil.copytree(env.info, env.site / "new-1.0.dist-info"),
    "a script is deleted": lambda env: (env.prefix / "bin/tool").unlink(),
    "a file outside of site-packages is deleted": lambda env: (env.prefix / "share/doc/demo/manual").unlink(),
    "pyvenv.cfg is edited": lambda env: (env.prefix / "pyvenv.cfg").write_text("home = /usr/bin\n"),
    "a change of pkgc begins": lambda env: (env.prefix / ".pkgc").mkdir(),
    "lib is exchanged": lambda env: copied_over(env, env.prefix / "lib"),
    "share is exchanged": lambda env: copied_over(env, env.prefix / "share"),
    "the environment is exchanged": lambda env: copied_over(env, env.prefix),
    "what it is in is exchanged": lambda env: copied_over(env, env.prefix.parent),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(watcher: Watcher, tmp_path: Path, change: str) -> None:
    """Whoever makes it, and however: the next sync must look, and see what a first look would see."""
    env = Environment(tmp_path / "above" / "env")
    os.link(env.info / "METADATA", env.prefix.parent / "link")
    env.settle()
    answer = env.watch()
    CHANGES[change](env)
    now = env.scan()
    assert now is not answer
    assert not watched.is_watched(env.args)
    scan._sites.clear()
    assert now == scan.scan_environment(env.args)
    assert now != answer


def test_what_is_mounted_over_it_is_noticed(env: Environment) -> None:
    """No folder changes by it, and yet other files are there."""
    answer = env.watch()
    where = env.site / "demo"
    done = subprocess.run(["mount", "-t", "tmpfs", "none", str(where)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        assert env.scan() is not answer
        assert "missing" in env.scan()["distributions"][0]["damaged"]
        assert not watched.watch_environment(env.args)
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_quiet_environment_is_not_looked_at(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The no-op of 97 packages: no folder is listed, no record opened."""
    answer = env.watch()

    def fail(*_: Any) -> Any:
        raise AssertionError("it was looked at")

    monkeypatch.setattr(scan, "scan_environment", fail)
    assert env.scan() is answer
    assert watched.installed_from_wire(answer) is watched.installed_from_wire(answer)


def test_bytecode_ends_a_watch_but_changes_nothing(env: Environment) -> None:
    """Programs write it at any time: the answer stays the same, and the environment is watched again."""
    answer = env.watch()
    (env.site / "demo/__pycache__").mkdir()
    (env.site / "demo/__pycache__/mod.cpython-312.pyc").write_bytes(b"x")
    assert env.scan() == answer
    assert env.scan() is not answer
    env.settle()
    env.watch()
    (env.site / "demo/__pycache__/mod.cpython-312.pyc").write_bytes(b"y")
    assert watched.is_watched(env.args)


@pytest.mark.parametrize("moment", ["before the look", "after the look"])
def test_a_change_while_the_watch_is_set(
    env: Environment, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between the look and the watch nothing may slip through."""
    env.scan()
    look = scan.scan_environment

    def changing(args: dict[str, Any]) -> dict[str, Any]:
        if moment == "before the look":
            (env.site / "demo/mod.py").unlink(missing_ok=True)
        answer = look(args)
        if moment == "after the look":
            (env.site / "demo/mod.py").unlink(missing_ok=True)
        return answer

    monkeypatch.setattr(scan, "scan_environment", changing)
    assert not watched.watch_environment(env.args)
    monkeypatch.undo()
    assert "mod.py" in env.scan()["distributions"][0]["damaged"]


def test_what_is_remembered_may_be_old(env: Environment) -> None:
    """After a change the memory is of the time before: the watch must be of what is there now."""
    env.scan()
    shutil.copytree(env.info, env.site / "new-1.0.dist-info")
    env.settle()
    assert watched.watch_environment(env.args)
    answer = env.scan()
    assert len(answer["distributions"]) == 2
    (env.site / "new-1.0.dist-info/METADATA").unlink()
    assert env.scan() != answer


def test_what_changed_a_moment_ago_is_not_watched(env: Environment) -> None:
    """Two writes within one tick of the clock leave the same mtime."""
    (env.info / "INSTALLER").write_text("pip\n")
    os.utime(env.info / "INSTALLER", ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    env.scan()
    assert not watched.watch_environment(env.args)


def test_events_that_were_lost_end_every_watch(env: Environment, tmp_path: Path) -> None:
    """The kernel's queue is bounded: a busy environment must not hide what happens to a quiet one."""
    busy = Environment(tmp_path / "busy")
    answer = env.watch()
    busy.watch()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 100):  # creation and deletion are two events
        path = f"{busy.site}/{number % 7}"
        os.close(os.open(path, os.O_CREAT))
        os.unlink(path)
    (env.site / "demo/mod.py").unlink()
    assert env.scan() != answer


def test_environments_that_share_an_inode(env: Environment, tmp_path: Path) -> None:
    """Record files may be links of one file in the cache: the end of one watch must not end the other."""
    other = Environment(tmp_path / "other")
    (other.info / "METADATA").unlink()
    os.link(env.info / "METADATA", other.info / "METADATA")
    env.settle()
    other.settle()
    env.watch()
    answer = other.watch()
    assert watched.is_watched(env.args)
    shutil.rmtree(env.prefix)
    assert other.scan() is answer
    edited_in_place(other.info / "METADATA")
    assert other.scan() is not answer


def test_watches_are_bounded(env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the kernel's memory, and every user's share is limited: the oldest goes first."""
    first = env.watch()
    assert watched._watcher is not None
    monkeypatch.setattr(watching, "MAX_WATCHES", len(watched._watcher._owners) + 2)
    other = Environment(tmp_path / "other")
    answer = other.watch()
    assert env.scan() is not first
    assert other.scan() is answer
    monkeypatch.setattr(watching, "MAX_WATCHES", 3)
    other.scan()
    assert not watched.watch_environment(other.args)
    assert watched._watcher._owners == {}


def test_filesystems_that_others_can_change_are_not_watched(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host's write to NFS raises no event here."""
    monkeypatch.setattr(watching, "LOCAL", frozenset())
    env.scan()
    assert not watched.watch_environment(env.args)


def test_idle_times_give_back_what_nobody_watches(env: Environment, watcher: Watcher) -> None:
    """A daemon lives for weeks: watches of environments that are gone must not pile up."""
    env.watch()
    shutil.rmtree(env.prefix)
    watcher.tidy()
    assert watcher._owners == {}


def test_without_a_watcher_every_scan_looks(env: Environment) -> None:
    """Clients that act as hands, and systems without inotify."""
    env.scan()
    watched.use_watcher(None)
    assert not watched.watch_environment(env.args)
    answer = env.scan()
    (env.site / "demo/mod.py").unlink()
    assert env.scan() != answer


def test_records_behind_links_are_not_watched(env: Environment, tmp_path: Path) -> None:
    """As `--link-mode symlink` makes them: what they lead to goes without a sign if it has another name."""
    kept = tmp_path / "kept"
    (env.info / "METADATA").rename(kept)
    (env.info / "METADATA").symlink_to(kept)
    os.link(kept, tmp_path / "another")
    env.settle()
    env.scan()
    assert not watched.watch_environment(env.args)
