"""Ready copies: which are made, how many, and that one which anybody has touched is never given away."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from pkgc_daemon.store import ready as module
from pkgc_daemon.store import trees
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.ready import ReadyCopies, Taken, Used
from pkgc_daemon.store.watching import Watcher
from tests.support.wheels import BuiltWheel, make_wheel
from tests.unit.store.test_watching import WAYS

RECORDS = {"INSTALLER": b"pkgc\n"}
WHEELS = [
    make_wheel(
        f"demo{number}", "1.0", {f"demo{number}/file.py": "x = 1\n" * 100, f"demo{number}/below/a.py": ""}
    )
    for number in range(4)
]
FIRST = WHEELS[0].sha256


class Copies:
    """The copies of a store with a few trees, and what a daemon would do with them."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "cache")
        self.layout.create(shared=False)
        for wheel in WHEELS:
            path = self.layout.incoming / wheel.filename
            path.write_bytes(wheel.data)
            trees.build(self.layout, path, wheel.filename, wheel.sha256, "boot")
        self.ready = ReadyCopies(self.layout, lambda sha256: self.layout.tree_root(sha256).exists())
        self.idle = True
        self.is_idle: Callable[[], bool] = lambda: self.idle
        self.asked = 0
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Refill from now on."""
        self.task = asyncio.create_task(self.ready.refill(self._is_idle))

    def _is_idle(self) -> bool:
        self.asked += 1
        return self.is_idle()

    def sync(
        self, *wheels: BuiltWheel, umask: int = 0o022, records: dict[str, bytes] = RECORDS
    ) -> dict[str, Taken]:
        """Take, install and want, as a sync does."""
        names = [wheel.sha256 for wheel in wheels]
        taken = self.ready.take(names, umask)
        self.ready.discard(taken.values())
        self.ready.want([Used(name, name in taken, records) for name in names], umask)
        return taken

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for the copier."""
        for _ in range(2000):
            if condition():
                return
            assert self.task is None or not self.task.done(), "the refilling has ended"
            await asyncio.sleep(0.01)
        raise AssertionError(f"never: {what}; {self.ready.size()}")

    async def has(self, count: int) -> None:
        """Wait until there are so many copies and no more are missing."""
        await self.until(lambda: self.ready.size()["copies"] == count and self.rests(), f"{count} copies")

    def rests(self) -> bool:
        """Whether nothing is missing."""
        return not self.ready._making and self.ready._missing() is None

    def folder(self, sha256: str = FIRST) -> Path:
        """The folder of the one copy of a tree."""
        (found,) = self.layout.ready.glob(f"{sha256}.*")
        return found

    async def swept(self, count: int) -> None:
        """Wait until so many folders are left."""
        await self.until(lambda: len(list(self.layout.ready.iterdir())) == count, f"{count} folders")


@pytest.fixture
async def copies(tmp_path: Path) -> AsyncIterator[Copies]:
    made = Copies(tmp_path)
    made.start()
    yield made
    assert made.task is not None
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)
    await asyncio.to_thread(made.ready.close)


async def test_what_was_installed_is_there_for_the_next(copies: Copies) -> None:
    """Without this, every new environment costs thousands of links."""
    assert copies.sync(*WHEELS) == {}
    await copies.has(4)
    taken = copies.ready.take([FIRST], 0o022)
    assert (Path(taken[FIRST].path) / "site/demo0/file.py").read_text() == "x = 1\n" * 100
    assert copies.ready.take([FIRST], 0o022) == {}, "one copy serves one environment"


async def test_one_missing_makes_more_up_to_the_bound(copies: Copies) -> None:
    """Ten environments a minute need more than one copy; a hundred must not fill the disk."""
    for _ in range(10):
        copies.sync(WHEELS[0])
    await copies.has(module.MAX_COPIES)
    assert len(list(copies.layout.ready.iterdir())) == module.MAX_COPIES


async def test_nothing_is_made_while_a_call_runs(copies: Copies) -> None:
    """Copying would take disk and processor from the sync that somebody waits for."""
    copies.idle = False
    copies.sync(*WHEELS)
    await copies.until(lambda: copies.asked > 3, "it asks whether it may")
    assert list(copies.layout.ready.iterdir()) == []
    # Idle for one question only: one copy is made, and then it waits again.
    answers = iter([True])
    copies.is_idle = lambda: next(answers, False)
    await copies.until(lambda: copies.ready.size()["copies"] == 1, "the first copy")
    copies.asked = 0
    await copies.until(lambda: copies.asked > 3, "it asks before each copy")
    assert copies.ready.size()["copies"] == 1


async def test_switched_off_there_are_none(copies: Copies) -> None:
    """Whoever has no space for copies must be able to have none."""
    copies.ready.enabled = False
    copies.sync(*WHEELS)
    assert copies.ready._missing() is None
    assert copies.ready.size() == {"copies": 0, "files": 0, "bytes": 0}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_touched_is_made_anew(
    copies: Copies, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A careless `sed -i` over the home directory, or malware, would reach every environment from then on."""
    (copies.layout.root / "away").mkdir()
    copies.sync(*WHEELS)
    await copies.has(4)
    touched = copies.folder()
    other = touched / "site/other"  # what some ways need beside the file
    other.write_bytes(b"y = 1\n") if way == "replaced" else None
    with caplog.at_level(logging.WARNING):
        WAYS[way](touched / "site/demo0/file.py")
        taken = copies.ready.take([wheel.sha256 for wheel in WHEELS], 0o022)
    assert FIRST not in taken
    assert len(taken) == 3, "the others are good"
    assert touched.name in caplog.text
    await copies.has(4)
    again = copies.ready.take([FIRST], 0o022)[FIRST]
    assert (Path(again.path) / "site/demo0/file.py").read_text() == "x = 1\n" * 100
    await copies.until(lambda: not touched.exists(), "what was touched is removed")


async def test_a_copy_in_another_place_is_not_taken(copies: Copies, caplog: pytest.LogCaptureFixture) -> None:
    """What is watched is a folder, not its path: a restored backup would be installed unwatched."""
    copies.sync(*WHEELS)
    await copies.has(4)
    there = copies.layout.ready
    there.rename(there.parent / "backup")
    assert copies.ready.take([FIRST], 0o022) == {}
    there.mkdir()
    (there / next((there.parent / "backup").glob(f"{WHEELS[1].sha256}.*")).name).mkdir()
    assert copies.ready.take([WHEELS[1].sha256], 0o022) == {}
    assert "taken away" in caplog.text


async def test_too_many_events_cost_all_copies(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel lost events, any copy may be a changed one."""
    copies.sync(*WHEELS)
    await copies.has(4)
    old = {path.name for path in copies.layout.ready.iterdir()}
    watcher = copies.ready._watcher
    assert watcher is not None
    with monkeypatch.context() as patched:
        patched.setattr(watcher, "touched", lambda: iter([None]))
        assert copies.ready.take([FIRST], 0o022) == {}
    await copies.has(4)
    await copies.swept(4)
    assert old.isdisjoint(path.name for path in copies.layout.ready.iterdir())


async def test_a_change_before_a_copy_is_registered_is_not_forgotten(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sync reads the kernel's events just then, and knows of no copy that they could mean."""
    asked = ReadyCopies._ask

    def ask(self: ReadyCopies, job: list[object]) -> dict[str, object] | None:
        answer = asked(self, job)
        (Path(str(job[2])) / "site/demo0/file.py").write_text("evil")
        self._mind_touched()  # as `take` does
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(ReadyCopies, "_ask", ask)
        copies.sync(WHEELS[0])
        await copies.until(lambda: copies.ready._demands[FIRST].failed, "it was noticed")
    assert copies.ready.size() == {"copies": 0, "files": 0, "bytes": 0}
    await copies.swept(0)
    copies.sync(WHEELS[0])
    await copies.until(lambda: copies.ready.size()["copies"] >= 1, "the next sync has it tried again")


async def test_without_inotify_there_are_copies_which_are_compared(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS nothing tells of a change: what is not compared would be installed as it is."""
    monkeypatch.setattr(module, "open_watcher", lambda: None)
    copies.sync(WHEELS[0])
    await copies.has(1)
    taken = copies.ready.take([FIRST], 0o022)[FIRST]
    assert not taken.watches
    assert {one[0] for one in taken.note["own"]} >= {"site/demo0/file.py", "site/demo0", "site"}


async def test_without_watches_left_copies_are_compared(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of 8,192 watches is reached by one lock: what is beyond must not be trusted unseen."""
    folders = (
        6  # of one copy: its own, site, demo0, below, .dist-info; and one that is not enough for a second
    )
    monkeypatch.setattr(module, "watch_limit", lambda: folders)
    copies.sync(*WHEELS[:2])
    await copies.has(2)
    taken = copies.ready.take([wheel.sha256 for wheel in WHEELS[:2]], 0o022)
    watched = {sha256 for sha256, one in taken.items() if one.watches}
    compared = {sha256 for sha256, one in taken.items() if one.note["own"]}
    assert len(watched) == 1
    assert watched | compared == set(taken)
    assert watched.isdisjoint(compared)


async def test_copies_for_another_umask_give_way(copies: Copies) -> None:
    """One sync by cron with umask 077 must not be the end of copies for the person with 022."""
    copies.sync(WHEELS[0], umask=0o077)
    await copies.has(1)
    assert copies.sync(WHEELS[0], umask=0o022) == {}, "of other modes"
    await copies.has(1)
    taken = copies.sync(WHEELS[0], umask=0o022)
    assert Path(taken[FIRST].path).stat().st_mode & 0o777 == 0o755
    await copies.has(1)
    # A sync that could not take any, but would have the same, leaves them alone.
    before = copies.folder()
    copies.ready.want([Used(FIRST, False, RECORDS)], 0o022)
    await copies.has(1)
    assert copies.folder() == before


async def test_a_tree_that_goes_takes_its_copies_along(copies: Copies) -> None:
    """A damaged tree is unpacked again: copies of the damaged one would bring the damage back."""
    copies.sync(*WHEELS)
    await copies.has(4)
    copies.ready.forget([FIRST])
    assert copies.ready.take([FIRST], 0o022) == {}
    await copies.swept(3)
    assert copies.ready.size()["copies"] == 3
    copies.sync(WHEELS[0])
    await copies.has(4)


async def test_a_tree_that_is_gone_is_not_asked_for_again(copies: Copies) -> None:
    """An evicted tree must not keep the copier busy for ever."""
    copies.layout.tree(FIRST).rename(copies.layout.root / "evicted")
    copies.sync(*WHEELS)
    await copies.has(3)
    assert FIRST not in copies.ready._demands


async def test_forgotten_while_it_is_made(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pkgc cache clean` in that moment must not leave a copy of a tree that is gone."""
    asked = ReadyCopies._ask
    made: list[str] = []

    def ask(self: ReadyCopies, job: list[object]) -> dict[str, object] | None:
        answer = asked(self, job)
        loop.call_soon_threadsafe(self.forget, [FIRST])
        made.append(str(job[2]))
        return answer

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(ReadyCopies, "_ask", ask)
    copies.sync(WHEELS[0])
    await copies.until(lambda: made and not copies.ready._making, "it was made")
    await copies.swept(0)
    assert copies.ready.size() == {"copies": 0, "files": 0, "bytes": 0}


async def test_a_copier_that_is_killed_is_started_again(copies: Copies) -> None:
    """The OOM killer takes the copier: the daemon and the copies that are there must not care."""
    copies.sync(WHEELS[0])
    await copies.has(1)
    child = copies.ready._child
    assert child is not None
    child.kill()
    child.wait()
    copies.sync(*WHEELS)
    await copies.has(4)


async def test_no_process_to_be_had_is_not_the_end(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors for a moment: the refilling must go on when there are some again (invariant 9)."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("pkgc_daemon.store.ready.subprocess.Popen", refuse)
        copies.sync(WHEELS[0])
        await copies.until(lambda: copies.ready._demands[FIRST].failed, "it was tried")
    copies.sync(WHEELS[0])
    await copies.until(lambda: copies.ready.size()["copies"] >= 1, "the next sync has it tried again")


async def test_closing_does_not_wait_for_the_copier(copies: Copies) -> None:
    """`pkgc daemon stop` must not wait until three gigabytes are copied."""
    copies.sync(WHEELS[0])
    await copies.has(1)
    child = copies.ready._child
    assert child is not None
    os.kill(child.pid, 19)  # SIGSTOP: it will never answer
    asked = asyncio.create_task(asyncio.to_thread(copies.ready._ask, ["", "", "", 0, {}]))
    await copies.until(lambda: not asked.done(), "it waits for an answer")
    await asyncio.sleep(0.05)
    await asyncio.wait_for(asyncio.to_thread(copies.ready.close), 20)
    assert await asked is None


async def test_it_ends_when_it_is_told_to(copies: Copies) -> None:
    """A daemon that is stopped just when a copy was wanted would go on, and hold its cache, for ever."""
    copies.sync(WHEELS[0])
    await copies.has(1)
    assert copies.task is not None
    await asyncio.sleep(0)
    copies.ready.want([Used(FIRST, True, RECORDS)], 0o022)
    copies.task.cancel()
    done, _ = await asyncio.wait([copies.task], timeout=5)
    assert done


# -- bounds ------------------------------------------------------------------------------------------------


def total(copies: Copies) -> tuple[int, int]:
    """(files and folders, bytes that no tree shares) in the folder, counted."""
    found = [path for top in copies.layout.ready.iterdir() for path in (top, *top.rglob("*"))]
    return len(found), sum(
        path.stat().st_size for path in found if path.is_file() and path.stat().st_nlink == 1
    )


async def test_what_is_said_of_their_size_is_true(copies: Copies) -> None:
    """`pkgc cache size` must not hide what was copied."""
    copies.sync(*WHEELS)
    await copies.has(4)
    assert (copies.ready.size()["files"], copies.ready.size()["bytes"]) == total(copies)
    copies.ready.clear()
    assert copies.ready.size() == {"copies": 0, "files": 0, "bytes": 0}
    await copies.swept(0)


async def test_inodes_are_bounded_and_old_copies_give_way(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies for last month's lock must not be all that there ever is, nor may they use up the inodes."""
    copies.sync(WHEELS[0])
    await copies.has(1)
    one = copies.ready.size()["files"]
    monkeypatch.setattr(module, "MAX_INODES", 2 * one)
    copies.sync(*WHEELS[1:])
    await copies.until(lambda: copies.rests() and copies.ready.size()["copies"] == 2, "two copies")
    taken = copies.ready.take([wheel.sha256 for wheel in WHEELS], 0o022)
    assert set(taken) == {WHEELS[2].sha256, WHEELS[3].sha256}, "those that were wanted last"


async def test_bytes_are_bounded(copies: Copies) -> None:
    """The size limit of a cache counts copies too: they go first, and do not come back at once."""
    copies.sync(*WHEELS)
    await copies.has(4)
    one = copies.ready.size()["bytes"] // 4
    copies.ready.shrink(3 * one)
    left = set(copies.ready._demands) - {FIRST}
    assert {sha256 for sha256, demand in copies.ready._demands.items() if demand.copies} <= left
    assert copies.ready.size()["bytes"] <= 3 * one
    there = copies.ready.size()["copies"]
    copies.sync(WHEELS[3])
    await copies.until(copies.rests, "nothing more is to be done")
    assert copies.ready.size()["copies"] <= there
    copies.ready.shrink(-1)
    assert copies.ready.size()["copies"] == 0
    copies.sync(*WHEELS)
    assert copies.ready._missing() is None


async def test_a_nearly_full_disk_gets_no_copies(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bytes of a disk belong to what somebody waits for."""
    monkeypatch.setattr(module, "MIN_FREE", 1 << 62)
    copies.sync(*WHEELS)
    assert copies.ready._missing() is None
    monkeypatch.setattr(module, "MIN_FREE", 0)
    copies.sync(*WHEELS)
    await copies.until(lambda: copies.ready.size()["copies"] >= 4, "there is space again")


async def test_the_demand_that_is_remembered_is_bounded(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CI host sees thousands of packages in a month."""
    monkeypatch.setattr(module, "MAX_TREES", 2)
    copies.sync(*WHEELS)
    await copies.has(2)
    assert len(copies.ready._demands) == 2
    copies.sync(*WHEELS[:2])
    await copies.has(2)
    await copies.swept(2)


async def test_watches_do_not_stay_with_what_was_installed(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be the user's, for as long as the environment lives."""
    forgotten: list[int] = []
    forget = Watcher.forget

    def note(self: Watcher, numbers: Iterable[int]) -> None:
        forgotten.extend(numbers)
        forget(self, numbers)

    monkeypatch.setattr(Watcher, "forget", note)
    copies.sync(WHEELS[0])
    await copies.has(1)
    taken = copies.ready.take([FIRST], 0o022)
    moved = Path(taken[FIRST].path, "site/demo0").rename(copies.layout.root / "environment")
    copies.ready.discard(taken.values())
    await copies.until(lambda: set(taken[FIRST].watches) <= set(forgotten), "they are given back")
    assert copies.ready._watcher is not None
    list(copies.ready._watcher.touched())
    (moved / "file.py").write_text("the user's")
    assert list(copies.ready._watcher.touched()) == []
    assert copies.ready._watched == {}
