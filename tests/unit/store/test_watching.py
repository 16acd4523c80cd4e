"""Watching: whatever anybody does to a file that lies ready is told, and what is only read is not."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgc_daemon.store.watching import Watcher, add_watch, open_watcher, watch_limit

LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    opened = open_watcher()
    assert opened is not None
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    (path / "file.py").write_bytes(b"x = 1\n")
    (tmp_path / "other").write_bytes(b"y = 1\n")
    return path


def through_memory(file: Path) -> None:
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 0)
    mapped[0:1] = b"z"
    mapped.close()


def in_place(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"z")


WAYS: dict[str, Callable[[Path], object]] = {
    "written": in_place,
    "written through memory": through_memory,
    "cut short": lambda file: os.truncate(file, 1),
    "chmodded": lambda file: file.chmod(0o600),
    "another time": lambda file: os.utime(file, (1, 1)),
    "removed": lambda file: file.unlink(),
    "moved away": lambda file: file.rename(file.parent.parent / "away"),
    "replaced": lambda file: (file.parent.parent / "other").rename(file),
    "a file more": lambda file: (file.parent / "more.py").touch(),
    "a folder more": lambda file: (file.parent / "more").mkdir(),
    "a link more": lambda file: (file.parent / "more").symlink_to("file.py"),
    "a folder less": lambda file: shutil.rmtree(file.parent / "below"),
    "a folder chmodded": lambda file: (file.parent / "below").chmod(0o700),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_change_is_told(watcher: Watcher, folder: Path, way: str) -> None:
    """What is not told would be installed: a file that another program has changed in the cache."""
    number = add_watch(watcher.descriptor, str(folder))
    assert number is not None
    assert list(watcher.touched()) == []
    WAYS[way](folder / "file.py")
    assert set(watcher.touched()) == {number}
    assert list(watcher.touched()) == [], "told twice"


def test_reading_is_not_told(watcher: Watcher, folder: Path) -> None:
    """A backup, or a search through the cache, must not cost all copies."""
    add_watch(watcher.descriptor, str(folder))
    (folder / "file.py").read_bytes()
    os.listdir(folder)
    os.stat(folder / "file.py")
    assert list(watcher.touched()) == []


def test_a_folder_is_watched_wherever_it_is_moved_until_it_is_forgotten(
    watcher: Watcher, folder: Path
) -> None:
    """Watches that stay with what went into environments would use up those that the user has."""
    number = add_watch(watcher.descriptor, str(folder))
    assert number is not None
    moved = folder.rename(folder.parent / "moved")
    in_place(moved / "file.py")
    assert set(watcher.touched()) == {number}
    watcher.forget([number])
    list(watcher.touched())  # the kernel confirms it
    in_place(moved / "file.py")
    assert list(watcher.touched()) == []


def test_more_events_than_the_kernel_keeps_are_told_as_none(watcher: Watcher, folder: Path) -> None:
    """Lost events must not look like no events."""
    add_watch(watcher.descriptor, str(folder))
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    files = [folder / "file.py", folder / "below"]
    for count in range(limit + 10):
        files[count % 2].chmod(0o700)
    assert None in list(watcher.touched())


def test_what_cannot_be_watched_gives_none(watcher: Watcher, folder: Path) -> None:
    """A folder that looks watched and is not would be trusted for ever."""
    (folder / "link").symlink_to("below")
    assert add_watch(watcher.descriptor, str(folder / "gone")) is None
    assert add_watch(watcher.descriptor, str(folder / "file.py")) is None
    assert add_watch(watcher.descriptor, str(folder / "link")) is None
    assert add_watch(-1, str(folder)) is None


def test_only_a_share_of_the_watches_is_taken() -> None:
    """Editors of the same user need watches too: without any left, they stop noticing changes."""
    assert 0 < watch_limit() <= int(LIMIT.read_text()) // 2


def test_other_systems_have_no_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS there is no inotify; files are compared there."""
    monkeypatch.setattr("pkgc_daemon.store.watching.sys.platform", "darwin")
    assert open_watcher() is None
