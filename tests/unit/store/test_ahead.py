"""Followers: a wheel that is unpacked while it arrives becomes the tree that it would be anyway, or none."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.archives.treewriter import TreeWriter
from pkgc_daemon.archives.zipreader import ZipReader
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees, workers
from pkgc_daemon.store.filesystem import remove_tree
from pkgc_daemon.store.lanes import Growth, Job, Unpacked
from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.processes import ProcessWorkers
from pkgc_daemon.store.workers import STEP, Follower, ThreadWorkers
from pkgc_daemon.vocabulary import Manifest
from tests.support.instance import wait_until
from tests.support.wheels import BuiltWheel, make_wheel, record_hash

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    Layout(root).create(shared=False)
    return root


@pytest.fixture(params=[ThreadWorkers, ProcessWorkers])
def made(request: pytest.FixtureRequest) -> Iterator[ThreadWorkers]:
    made: ThreadWorkers = request.param(2)
    yield made
    made.close()


@functools.cache
def big(seed: int = 1, lie: bool = False) -> BuiltWheel:
    lies = {"demo/big.so": record_hash(b"other")} if lie else None
    content = random.Random(seed).randbytes(3 * STEP)
    return make_wheel("demo", "1.0", {"demo/big.so": content, "demo/a.py": "A = 1\n"}, record_lies=lies)


class Download:
    """A file that grows, and its follower."""

    def __init__(self, owner: ThreadWorkers, cache: Path, wheel: BuiltWheel) -> None:
        self.cache, self.wheel = cache, wheel
        self.path = cache / "incoming" / f"{wheel.sha256[:8]}.part"
        self.path.write_bytes(b"")
        self.follower: Follower = owner.follow(str(cache), self.path, len(wheel.data))

    def grow(self, end: int) -> None:
        with self.path.open("ab") as file:
            file.write(self.wheel.data[file.tell() : end])
        self.follower.grown(min(end, len(self.wheel.data)))

    def land(self) -> Job:
        """All of it is there and goes into the store."""
        self.grow(len(self.wheel.data))
        artifact = Layout(self.cache).artifact(self.wheel.sha256)
        self.path.rename(artifact)
        self.follower.landed(self.wheel.sha256)
        size = len(self.wheel.data)
        return Job(str(self.cache), str(artifact), self.wheel.filename, self.wheel.sha256, "boot", size)


def drafts(cache: Path) -> list[Path]:
    return list((cache / "tmp").iterdir())


async def until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


def assert_is_tree(cache: Path, manifest: Manifest, wheel: BuiltWheel) -> None:
    root = Layout(cache).tree_root(wheel.sha256)
    assert manifest == trees.read_manifest(Layout(cache), wheel.sha256, head=True)
    assert trees.find_damage(root, trees.read_manifest(Layout(cache), wheel.sha256)) is None
    assert (root / "demo" / "a.py").read_text() == "A = 1\n"
    assert drafts(cache) == []


async def test_it_is_unpacked_before_it_is_complete(made: ThreadWorkers, cache: Path) -> None:
    """On a slow link the last byte must be all that a person waits for."""
    download = Download(made, cache, big())
    download.grow(2 * STEP)
    await until(lambda: list((cache / "tmp").glob("*/root/demo/big.so")), "the file is on its way")
    _row, manifest, _note = await made.unpack(download.land())
    assert_is_tree(cache, manifest, download.wheel)


async def test_what_was_unpacked_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking twice would be slower than not to begin early."""
    made = ThreadWorkers(1)
    download = Download(made, cache, big())
    download.grow(3 * STEP)
    await until(lambda: list((cache / "tmp").glob("*/root/demo/big.so")), "it has begun")
    written: list[str] = []
    real = TreeWriter.write

    def write(self: TreeWriter, path: str, data: bytes, **more: bool) -> object:
        written.append(path)
        return real(self, path, data, **more)

    monkeypatch.setattr(TreeWriter, "write", write)
    monkeypatch.setattr(ZipReader, "_large", lambda *_: pytest.fail("the large file is read again"))
    _row, manifest, _note = await made.unpack(download.land())
    made.close()
    assert_is_tree(cache, manifest, download.wheel)
    assert len(written) == len(set(written))


async def test_a_killed_child_loses_only_time(cache: Path) -> None:
    """What a child had begun dies with it; the wheel must be installed all the same."""
    made = ProcessWorkers(1)
    try:
        download = Download(made, cache, big())
        download.grow(2 * STEP)
        await until(lambda: list((cache / "tmp").glob("*/root/demo/big.so")), "it has begun")
        os.kill(made.children()[0], signal.SIGKILL)
        left = drafts(cache)
        _row, manifest, _note = await made.unpack(download.land())
        assert [
            path for path in drafts(cache) if path not in left
        ] == []  # the rest is swept at the next start
        for path in left:
            remove_tree(path)
        assert_is_tree(cache, manifest, download.wheel)
    finally:
        made.close()


async def test_a_dropped_one_leaves_nothing(made: ThreadWorkers, cache: Path) -> None:
    """Bytes of a cancelled or refused download must not fill the disk."""
    download = Download(made, cache, big())
    download.grow(2 * STEP)
    await until(lambda: drafts(cache), "it has begun")
    download.follower.dropped()
    await until(lambda: not drafts(cache), "the draft is gone")
    download.follower.grown(3 * STEP)  # a thread that did not know yet
    other = Download(made, cache, big(seed=2))
    _row, manifest, _note = await made.unpack(other.land())
    assert_is_tree(cache, manifest, other.wheel)


async def test_nobody_asks_for_it(made: ThreadWorkers, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that fails between download and unpacking must not leave gigabytes in the temporary folder."""
    monkeypatch.setattr(workers, "UNCLAIMED", 0.05)
    download = Download(made, cache, big())
    download.grow(2 * STEP)
    await until(lambda: drafts(cache), "it has begun")
    job = download.land()
    await until(lambda: not drafts(cache), "the draft is gone")
    _row, manifest, _note = await made.unpack(job)
    assert_is_tree(cache, manifest, download.wheel)


async def test_another_file_than_the_one_that_was_followed(made: ThreadWorkers, cache: Path) -> None:
    """If other bytes than those that were unpacked reach the store, the tree is made of what is there."""
    wheel = big()
    download = Download(made, cache, wheel._replace(data=big(seed=2).data))
    download.grow(3 * STEP)
    await until(lambda: drafts(cache), "it has begun")
    other = download.path.with_suffix(".other")
    other.write_bytes(wheel.data)
    other.replace(download.path)
    artifact = Layout(cache).artifact(wheel.sha256)
    download.path.rename(artifact)
    download.follower.landed(wheel.sha256)
    job = Job(str(cache), str(artifact), wheel.filename, wheel.sha256, "boot", len(wheel.data))
    _row, manifest, _note = await made.unpack(job)
    assert_is_tree(cache, manifest, wheel)


@pytest.mark.parametrize("what", ["record", "zip"])
async def test_the_error_is_the_same(made: ThreadWorkers, cache: Path, what: str) -> None:
    """Why a wheel is refused must not depend on how fast it came; and nothing of it stays."""
    wheel = big(lie=True)
    if what == "zip":
        good = big()
        wheel = good._replace(data=good.data[:-22])
    plain = Download(made, cache, wheel)
    plain.follower.dropped()
    with pytest.raises(PkgcError) as expected:
        await made.unpack(plain.land()._replace(sha256="0" * 64))
    download = Download(made, cache, wheel)
    download.grow(2 * STEP)
    await until(lambda: drafts(cache), "it has begun")
    with pytest.raises(PkgcError) as found:
        await made.unpack(download.land())
    assert (found.value.code, found.value.message) == (expected.value.code, expected.value.message)
    assert found.value.code in ("bad-wheel", "bad-archive")
    assert drafts(cache) == []
    assert not Layout(cache).tree(wheel.sha256).exists()


async def test_a_full_disk_gives_the_room_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself needs the room more than what is unpacked of it; nobody sees the failure."""
    made = ThreadWorkers(1)
    real = TreeWriter.put
    full = True

    def put(fd: int, data: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(fd, data)

    monkeypatch.setattr(TreeWriter, "put", staticmethod(put))
    download = Download(made, cache, big())
    download.grow(2 * STEP)
    await until(lambda: download.follower.over, "it has given up")
    assert drafts(cache) == []
    full = False
    _row, manifest, _note = await made.unpack(download.land())
    made.close()
    assert_is_tree(cache, manifest, download.wheel)


async def test_many_at_once(made: ThreadWorkers, cache: Path) -> None:
    """Eight wheels arrive together at two processors: every one is right, and complete ones do not wait."""
    downloads = [Download(made, cache, big(seed=seed)) for seed in range(8)]
    size = len(downloads[0].wheel.data)
    for end in range(0, size, STEP):
        for download in downloads:
            download.grow(end)
        await asyncio.sleep(0)
    results = await asyncio.gather(*(made.unpack(download.land()) for download in downloads))
    for download, (_row, manifest, _note) in zip(downloads, results, strict=True):
        assert_is_tree(cache, manifest, download.wheel)


async def test_what_is_small_does_not_wait_and_what_has_begun_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small sync must not wait for another's gigabytes; the last of those must not be left to one lane."""
    monkeypatch.setattr(workers, "SMALL", MIB)
    done: list[str] = []
    busy = threading.Event()

    class Lane:
        def start(self) -> None:
            busy.wait(10)

        def rest(self) -> None:
            done.append("rest")

        def build(self, job: Job, number: int | None) -> Unpacked:
            done.append(job.filename)
            raise PkgcError("bad-wheel", job.filename)

        def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
            done.append("lay")
            return []

        def advance(self, growth: Growth) -> bool:
            done.append(f"step {growth.number}")
            return True

        def drop(self, number: int) -> None:
            done.append(f"drop {number}")

        def close(self) -> None:
            pass

    lane = Lane()
    monkeypatch.setattr(ThreadWorkers, "_lanes", lambda self: [lane])
    made = ThreadWorkers(1)
    begun, fresh = (made.follow(str(cache), cache / "x", 100 * MIB) for _ in range(2))
    begun.grown(2 * STEP)
    await until(lambda: done, "the first step is done")
    made.start()  # the lane has to wait now
    sizes = {"small": 1000, "smaller": 10, "large": 10 * MIB}
    jobs = [Job(str(cache), "", name, name, "", size) for name, size in sizes.items()]
    calls: list[asyncio.Task[Any]] = [asyncio.create_task(made.lay(str(cache), []))]
    calls += [asyncio.create_task(made.unpack(job)) for job in jobs]
    await asyncio.sleep(0)
    fresh.grown(STEP)
    begun.grown(4 * STEP)
    begun.dropped()
    begun = made.follow(str(cache), cache / "x", 100 * MIB)
    begun.lane = lane
    begun.grown(STEP)
    busy.set()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.to_thread(made.close)
    bound, unbound = f"step {begun.growth.number}", f"step {fresh.growth.number}"
    assert done == ["step 0", "drop 0", "small", "smaller", "lay", bound, unbound, "large"]
