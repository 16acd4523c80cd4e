"""The rows of what the daemon costs or saves: memory, gigabytes, the first call, reading a lock."""

from __future__ import annotations

import itertools
import shutil
import statistics
import threading
import time
from types import TracebackType
from typing import Self

from tests.benchmarks import biglocks, lockreading, rows_sync
from tests.benchmarks.accounting import Family
from tests.benchmarks.bench import QUIET, Bench, Lock, Place, in_turns
from tests.benchmarks.contestants import Failed, PkgcCache
from tests.benchmarks.report import Row, Sample
from tests.support.realindex import RealIndex

#: MB of PSS, daemon and workers.
IDLE, PEAK = 80.0, 250.0
BIG, FIRST_CALL = 0.9, 0.4
#: Seconds after which helpers that wait for more work have ended.
RESTED = 45.0


class Watch:
    """Samples the memory of a family while the block runs; `peak` is its greatest PSS in MB."""

    def __init__(self, family: Family, period: float = 0.1) -> None:
        self.peak = 0.0
        self._family = family
        self._period = period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._over.wait(self._period):
            self.peak = max(self.peak, self._family.pss())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def idle(bench: Bench) -> list[Row]:
    """Memory of a daemon that has done nothing yet, and of one that has done its work and rests."""
    new, used = [], []
    for turn in range(bench.times(3, 1)):
        cache = bench.pkgc(bench.fast)
        try:
            cache.settle(QUIET)
            new.append(Sample(cache.family.pss()))
            if turn == 0:
                bench.fresh(bench.fast, cache, bench.large)
                bench.fresh(bench.fast, cache, bench.large)
                used = _rested(bench, cache, f"memory, idle after {bench.large.expected} packages")
        finally:
            cache.discard()
    return [Row("memory, idle, new daemon", new, unit="MB PSS", most=IDLE), *used]


def _rested(bench: Bench, cache: PkgcCache, name: str) -> list[Row]:
    """Memory once the helpers of the daemon that wait for more work have gone; none in a quick run."""
    if bench.quick:
        return []
    before = cache.family.pss()
    time.sleep(RESTED)
    note = f"{RESTED:.0f} s after the last work; right after it {before:.0f} MB"
    return [Row(name, [Sample(cache.family.pss())], unit="MB PSS", most=IDLE, note=note)]


def big(bench: Bench) -> list[Row]:
    """Gigabytes through an empty cache, and the memory of daemon and workers meanwhile and afterwards."""
    place = bench.fast
    if bench.quick:
        path, wheels = biglocks.made_lock(biglocks.QUICK)
        source = "made wheels"
    else:
        path, wheels = biglocks.real_lock()
        source = "wheels, torch with CUDA"
    size = sum(wheel.stat().st_size for wheel in wheels)
    # The cache holds each wheel and its tree; both tools are never there at once.
    free = shutil.disk_usage(place.folder).free
    if free < 4 * size:
        raise Failed(f"{place.folder} has {free >> 20} MiB free, this row needs {4 * size >> 20}")
    peaks: list[Sample] = []
    afterwards: list[Row] = []
    with RealIndex(wheels) as index:
        index.warm_up()
        lock = Lock.of(path, index.url)

        def ours() -> Sample:
            cache = bench.pkgc(place)
            try:
                with bench.venvs(place) as (venv,), Watch(cache.family) as watch:
                    sample = bench.sync(place, cache, venv, lock)
                if not afterwards:
                    afterwards.extend(_rested(bench, cache, f"memory, idle after {len(wheels)} packages"))
            finally:
                cache.discard()
            peaks.append(Sample(watch.peak))
            return sample

        mine, peer = in_turns(bench.times(3, 1), ours, lambda: bench.cold(place, bench.uv, lock))
    note = f"{size / 1e9:.1f} GB in {len(wheels)} {source}"
    name = f"cold, {len(wheels)} packages"
    return [
        Row(f"{name}, {size / 1e9:.1f} GB", mine, peer, place.name, most=BIG, note=note),
        Row(f"memory, peak during {name}", peaks, unit="MB PSS", most=PEAK, note="background work included"),
        *afterwards,
    ]


def big_warm(bench: Bench) -> list[Row]:
    """The same lock into new environments, warm. On the disk: both caches are there at once."""
    if bench.quick:
        return []
    place = bench.places[-1]
    path, wheels = biglocks.real_lock()
    with RealIndex(wheels) as index:
        index.warm_up()
        lock = Lock.of(path, index.url)
        row = rows_sync.warm_row(bench, place, lock, index, most=rows_sync.WARM.get(place.name))
    return [row]


def first_call(bench: Bench) -> list[Row]:
    """The same call with no daemon running, and with one; the cache is full."""
    place, lock = bench.fast, bench.large
    rows = []
    cache = bench.pkgc(place)
    try:
        with bench.venvs(place) as (venv,):
            bench.sync(place, cache, venv, lock)

            def again(*, alone: bool, new: bool) -> Sample:
                if alone:
                    cache.stop_daemon()
                return bench.fresh(place, cache, lock) if new else bench.again(cache, venv, lock)

            for name, new in (("no-op", False), ("new environment", True)):
                again(alone=False, new=new)
                without, beside = in_turns(
                    bench.times(10, 3),
                    lambda new=new: again(alone=True, new=new),  # type: ignore[misc]
                    lambda new=new: again(alone=False, new=new),  # type: ignore[misc]
                )
                usual = statistics.median(sample.value for sample in beside)
                more = [Sample(sample.value - usual, sample.cpu, sample.later) for sample in without]
                note = f"with a daemon {usual * 1000:.0f} ms"
                row = Row(f"first call, {name}: what it takes more", more, where=place.name, note=note)
                row.most, row.worst = FIRST_CALL, False
                rows.append(row)
    finally:
        cache.discard()
    return rows


def lock_reading(bench: Bench) -> list[Row]:
    """A uv.lock of 300 packages, from its bytes to a plan: when it is new, and when it is known."""
    place: Place = bench.fast
    lock = lockreading.make_project(bench.folder(place, "project"), "http://127.0.0.1:9/simple/")
    size = lock.stat().st_size
    numbers = itertools.count()

    def new() -> Sample:
        lockreading.touch(lock, next(numbers))
        return Sample(lockreading.plan_seconds(ours, lock, venv))

    ours = bench.pkgc(place)
    try:
        venv, cache = bench.folder(place, "venv"), bench.folder(place, "uv-cache")
        new()  # the interpreter is asked what it is
        first, peer = in_turns(bench.times(12, 4), new, lambda: lockreading.uv_seconds(lock, cache))
        lockreading.plan_seconds(ours, lock, venv)
        again = [Sample(lockreading.plan_seconds(ours, lock, venv)) for _ in range(bench.times(20, 8))]
    finally:
        ours.discard()
    note = f"{lockreading.PACKAGES} packages, {size / 1e6:.1f} MB"
    return [
        Row("new uv.lock to plan", first, most=0.150, note=note),
        Row("known uv.lock to plan", again, most=0.005, note=note),
        Row("uv export --frozen", peer, note="the whole command, for comparison"),
    ]
