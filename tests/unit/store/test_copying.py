"""Copying: a ready copy is what an installer would have made, or there is none."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from pkgc_daemon.installing.records import mismatches, read_record
from pkgc_daemon.store import copying, trees
from pkgc_daemon.store.copier import serve
from pkgc_daemon.store.copying import PRIVATE, CopyError, is_as_it_was, make_copy
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.unpacker import read_frame, write_frame
from pkgc_daemon.store.watching import Watcher
from pkgc_daemon.vocabulary import Manifest
from tests.support.wheels import BuiltWheel, make_wheel

BIG = bytes(range(256)) * 300
RECORDS = {"INSTALLER": b"pkgc\n", "REQUESTED": b""}
WHEEL = make_wheel(
    "demo",
    "1.0",
    {
        "demo/__init__.py": "x = 1\n",
        "demo/deep/er/a,b.txt": "comma",
        'demo/deep/"quoted".txt': "quotes",
        "demo/grüße-日本.txt": "names",
        "demo/tool.sh": "#!/bin/sh\n",
        "demo/big.bin": BIG,
        "demo/edge.bin": BIG[:PRIVATE],
        "demo/big.sh": b"#!/bin/sh\n" + BIG,
        "demo/empty.py": "",
        "top.py": "",
    },
    executable=["demo/tool.sh", "demo/big.sh"],
)
#: What of WHEEL is larger than what is copied.
LARGE = {"site/demo/big.bin", "site/demo/big.sh"}
SCRIPTED = make_wheel(
    "scripted",
    "1.0",
    {"scripted.py": "def main(): pass\n"},
    entry_points={"console_scripts": {"scripted": "scripted:main"}},
    data={
        "scripts/tool": "#!python\n",
        "data/share/man/man1/s.1": "man",
        "headers/s.h": "",
        "purelib/p.py": "",
    },
)


class Made:
    """A tree in a store, and what `make_copy` makes of it."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "cache")
        self.layout.create(shared=False)
        self.target = self.layout.ready / "copy"
        self.watched: list[str] = []
        self.unwatched: list[int] = []

    def tree(self, wheel: BuiltWheel) -> tuple[Manifest, Path]:
        """Unpack a wheel."""
        path = self.layout.incoming / wheel.filename
        path.write_bytes(wheel.data)
        _, manifest = trees.build(self.layout, path, wheel.filename, wheel.sha256, "boot")
        return manifest, self.layout.tree_root(wheel.sha256)

    def watch(self, folder: str) -> int | None:
        """Watches everything."""
        self.watched.append(folder)
        return len(self.watched)

    def copy(
        self,
        wheel: BuiltWheel,
        umask: int = 0o022,
        watch: Callable[[str], int | None] | None = None,
        room: int = 99,
    ) -> dict[str, Any]:
        """Make a copy as the copier does."""
        manifest, tree = self.tree(wheel)
        old = os.umask(0)
        try:
            return make_copy(
                str(self.target),
                umask,
                manifest,
                str(tree),
                None,
                RECORDS,
                watch or self.watch,
                self.unwatched.extend,
                room,
            )
        finally:
            os.umask(old)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_copy_is_the_tree_with_the_modes_of_its_owner(made: Made, umask: int) -> None:
    """With other modes colleagues could not read the environment; with other times bytecode is stale."""
    answer = made.copy(WHEEL, umask)
    tree = made.layout.tree_root(WHEEL.sha256)
    found = files(made.target)
    expected = {f"site/{path}" for path in files(tree)} | {
        f"site/demo-1.0.dist-info/{name}" for name in RECORDS
    }
    assert set(found) == expected
    for path, copied in found.items():
        status, original = copied.stat(), tree / path.removeprefix("site/")
        if path in LARGE:
            assert status.st_ino == original.stat().st_ino
            continue
        assert status.st_nlink == 1, f"{path} is shared"
        executable = original.exists() and bool(original.stat().st_mode & 0o100)
        assert stat.S_IMODE(status.st_mode) == (0o777 if executable else 0o666) & ~umask, path
        if original.exists() and not path.endswith("/RECORD"):
            assert copied.read_bytes() == original.read_bytes(), path
            assert status.st_mtime_ns == original.stat().st_mtime_ns, path
    for folder in [made.target, *(path for path in made.target.rglob("*") if path.is_dir())]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask, folder
    assert {entry.path for entry in answer["note"]["links"]} == {path.removeprefix("site/") for path in LARGE}
    private = sum(path.stat().st_size for name, path in found.items() if name not in LARGE)
    assert answer["bytes"] == private, "what `pkgc cache size` says"
    assert answer["inodes"] == 1 + len(list(made.target.rglob("*")))


def test_record_is_in_it_when_it_is_known_ahead(made: Made) -> None:
    """A RECORD that does not fit its files makes pip leave them behind, or refuse."""
    note = made.copy(WHEEL)["note"]
    info = made.target / "site/demo-1.0.dist-info"
    assert note["complete"]
    lines = read_record(str(info))
    assert lines is not None
    assert list(mismatches(str(made.target / "site"), str(made.target / "site"), lines)) == []
    assert {line.path for line in lines} == set(files(made.target / "site"))


def test_what_depends_on_the_environment_is_left_to_the_installer(made: Made) -> None:
    """A script with another environment's interpreter in its first line would run the wrong Python."""
    note = made.copy(SCRIPTED)["note"]
    assert not note["complete"]
    assert set(files(made.target)) == {
        "site/scripted.py",
        *(
            f"site/scripted-1.0.dist-info/{name}"
            for name in (*RECORDS, "METADATA", "WHEEL", "entry_points.txt")
        ),
        "data/share/man/man1/s.1",
    }
    assert {entry.path for entry in note["others"]} == {
        f"scripted-1.0.data/{path}" for path in ("scripts/tool", "headers/s.h", "purelib/p.py")
    }
    assert note["tops"] == {
        "site": [("scripted-1.0.dist-info", True), ("scripted.py", False)],
        "data": [("share", True)],
    }


def rewrite(path: Path, *, keep_time: bool) -> None:
    """Other bytes of the same size, in place."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(status.st_mode)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("path", "keep_time"), [("demo/__init__.py", False), ("demo/__init__.py", True), ("demo/big.bin", False)]
)
def test_a_damaged_tree_is_not_copied(made: Made, path: str, keep_time: bool) -> None:
    """An edit in an environment that shares inodes with the tree would be copied into the ones after it."""
    _, tree = made.tree(WHEEL)
    manifest = trees.read_manifest(made.layout, WHEEL.sha256)
    rewrite(tree / path, keep_time=keep_time)
    with pytest.raises(CopyError):
        make_copy(
            str(made.target), 0o022, manifest, str(tree), None, {}, made.watch, made.unwatched.extend, 99
        )


def edit(target: Path) -> None:
    (target / "site/demo/__init__.py").write_bytes(b"evil!\n")


MEANWHILE: dict[str, Callable[[Path], object]] = {
    "edited": edit,
    "removed": lambda target: (target / "site/top.py").unlink(),
    "added": lambda target: (target / "site/demo/evil.py").touch(),
    "added folder": lambda target: (target / "site/evil").mkdir(),
    "added at the top": lambda target: (target / "evil").touch(),
    "link replaced": lambda target: (target / "site/top.py").replace(target / "site/demo/big.bin"),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_changes_before_it_is_watched_is_noticed(made: Made, what: str) -> None:
    """A change between writing and watching would never be told by the kernel, and so be installed."""

    def watch(folder: str) -> int | None:
        if not made.watched:
            MEANWHILE[what](made.target)
        return made.watch(folder)

    with pytest.raises((CopyError, OSError)):
        made.copy(WHEEL, watch=watch)
    assert made.unwatched == list(range(1, len(made.watched) + 1))


def test_without_room_for_watches_everything_is_to_be_compared(made: Made) -> None:
    """Half a copy watched and the other half not would let an edit through; and no watch may be left."""
    answer = made.copy(WHEEL, room=3)
    assert made.watched == []
    assert answer["watches"] is None
    names = {str(path.relative_to(made.target)) for path in made.target.rglob("*")}
    assert {one[0] for one in answer["note"]["own"]} == names


def test_a_refused_watch_gives_back_the_others(made: Made) -> None:
    """Watches that nobody minds would stay with the folders, in environments, and use up the user's."""
    answer = made.copy(WHEEL, watch=lambda folder: None if len(made.watched) == 2 else made.watch(folder))
    assert made.unwatched == [1, 2]
    assert answer["watches"] is None
    assert answer["note"]["own"]


def link_beside(path: Path) -> Path:
    """A symbolic link to put in the place of `path`."""
    link = path.parent.parent.parent.parent / "a-link"
    link.symlink_to("demo/__init__.py")
    return link


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "byte, same time": ("site/demo/__init__.py", lambda path: rewrite(path, keep_time=True)),
    "big byte": ("site/demo/big.bin", lambda path: rewrite(path, keep_time=False)),
    "mode": ("site/demo/__init__.py", lambda path: path.chmod(0o666)),
    "gone": ("site/demo/__init__.py", lambda path: path.unlink()),
    "replaced": ("site/demo/big.bin", lambda path: path.with_name("edge.bin").replace(path)),
    "one more": ("site/demo", lambda path: (path / "evil.py").touch()),
    "mode of a folder": ("site/demo", lambda path: path.chmod(0o700)),
    "another link": ("site/top.py", lambda path: os.link(path, path.parent.parent.parent / "link")),
    "a link instead": ("site/top.py", lambda path: os.replace(link_beside(path), path)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_shows_in_the_evidence(made: Made, what: str) -> None:
    """Where nothing can be watched, this is all that keeps an edited copy out of environments."""
    answer = made.copy(WHEEL, room=0)
    evidence = answer["note"]["own"]
    assert all(is_as_it_was(str(made.target), one) for one in evidence)
    path, change = CHANGES[what]
    change(made.target / path)
    assert path in {one[0] for one in evidence if not is_as_it_was(str(made.target), one)}


def test_other_links_of_a_large_file_may_come_and_go(made: Made) -> None:
    """Every environment made from the tree adds a link: copies must stay good all the same."""
    evidence = made.copy(WHEEL, room=0)["note"]["own"]
    tree = made.layout.tree_root(WHEEL.sha256) / "demo/big.bin"
    os.link(tree, made.target.parent / "link")
    assert all(is_as_it_was(str(made.target), one) for one in evidence)


def test_where_nothing_can_be_linked_all_is_copied(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full link count of one big file must not end in no copy at all."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMLINK, "too many links")

    monkeypatch.setattr("pkgc_daemon.store.copying.os.link", refuse)
    answer = made.copy(WHEEL)
    assert answer["note"]["links"] == []
    assert (made.target / "site/demo/big.bin").read_bytes() == BIG
    assert answer["bytes"] > len(BIG)


def test_a_copy_that_fails_leaves_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not stay full because of what only saves time; the copier goes on with the next."""
    made.tree(WHEEL)
    job = [str(made.layout.root), WHEEL.sha256, str(made.target), 0o022, {}, None, 0]
    asked, answers = io.BytesIO(), io.BytesIO()
    for _ in range(2):
        write_frame(asked, msgpack.packb(job))
    asked.seek(0)
    written = copying._write_all
    count = 0

    def full_once(descriptor: int, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(errno.ENOSPC, "no space left")
        written(descriptor, content)
        assert made.target.exists()

    monkeypatch.setattr(copying, "_write_all", full_once)
    serve(asked, answers, Watcher(-1))
    answers.seek(0)
    first, second = (msgpack.unpackb(read_frame(answers) or b"") for _ in range(2))
    assert "no space left" in first["error"]
    assert second["note"]["name"] == "demo"


def test_a_cache_that_was_emptied_by_hand_gets_its_folder_again(made: Made) -> None:
    """`rm -rf` of the folder must not be the end of all copies until the daemon is started anew."""
    made.tree(WHEEL)
    made.layout.ready.rmdir()
    asked, answers = io.BytesIO(), io.BytesIO()
    write_frame(
        asked, msgpack.packb([str(made.layout.root), WHEEL.sha256, str(made.target), 0o022, {}, None, 0])
    )
    asked.seek(0)
    serve(asked, answers, Watcher(-1))
    assert (made.target / "site/top.py").exists()
    assert stat.S_IMODE(made.layout.ready.stat().st_mode) == 0o700
