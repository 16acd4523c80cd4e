"""The rows: each measures pkgc and uv in turns, in one run, against one index (method: see README.md)."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import biglocks, lockreading
from tests.benchmarks.contestants import Cache, Failed, PkgcCache, UvCache, timed
from tests.benchmarks.memory import Watch, pss_of_family
from tests.benchmarks.report import Row
from tests.support import peertools
from tests.support.interpreters import running
from tests.support.realindex import RealIndex
from tests.support.realwheels import pins_for

PSS_TARGET = 150.0
CLIENTS = 8


@dataclass
class Bench:
    """What all rows share."""

    work: Path
    """A folder on tmpfs that is empty."""
    lock: Path
    index: RealIndex
    quick: bool = False
    full: bool = False
    expected: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.expected = len(pins_for(self.lock, running().markers))

    def times(self, normal: int, quick: int) -> int:
        """How many repetitions."""
        return quick if self.quick else normal

    def folder(self, name: str) -> Path:
        """A path that nothing has used."""
        return self.work / f"{name}-{next(self._numbers)}"

    @contextmanager
    def venvs(self, count: int) -> Iterator[list[Path]]:
        """Fresh environments; made with a cache apart, so that uv's measured cache stays cold."""
        paths = [self.folder("venv") for _ in range(count)]
        peertools.make_venvs(running().path, paths, self.work / "uv-cache-for-venvs")
        try:
            yield paths
        finally:
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)

    def pkgc(self, *, started: bool = True) -> PkgcCache:
        """An empty pkgc."""
        return PkgcCache(self.folder("pkgc"), started=started)

    def uv(self) -> UvCache:
        """An empty uv."""
        return UvCache(self.folder("uv-cache"))

    def sync(
        self, cache: Cache, venv: Path, lock: Path | None = None, index: RealIndex | None = None
    ) -> float:
        """Seconds of one sync, after which the environment must be complete."""
        seconds = timed(cache.sync(lock or self.lock, venv, (index or self.index).url))
        if lock is None:
            self.assert_complete(venv)
        return seconds

    def assert_complete(self, venv: Path) -> None:
        """A tool that does less than the whole work must not win.

        Raises:
            Failed: distributions are missing.
        """
        found = sum(1 for _ in venv.glob("lib/python*/site-packages/*.dist-info/METADATA"))
        if found != self.expected:
            raise Failed(f"{venv}: {found} distributions where the lock has {self.expected}")


def in_turns(
    count: int, one: Callable[[], float], other: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Run both `count` times, alternating, each first every second time."""
    ones: list[float] = []
    others: list[float] = []
    for turn in range(count):
        if turn % 2:
            others.append(other())
            ones.append(one())
        else:
            ones.append(one())
            others.append(other())
    return ones, others


def no_op(bench: Bench) -> Row:
    """The environment is as the lock says already."""
    ours, theirs = bench.pkgc(), bench.uv()
    try:
        with bench.venvs(2) as (one, other):
            bench.sync(ours, one)
            bench.sync(theirs, other)
            count = bench.times(30, 8)
            mine, peer = in_turns(count, lambda: bench.sync(ours, one), lambda: bench.sync(theirs, other))
    finally:
        ours.discard()
        theirs.discard()
    return Row("no-op", mine, peer, most=3)


def warm(bench: Bench) -> Row:
    """A new environment; everything is in the cache."""
    ours, theirs = bench.pkgc(), bench.uv()

    def fresh(cache: Cache) -> float:
        with bench.venvs(1) as (venv,):
            return bench.sync(cache, venv)

    try:
        fresh(ours)
        fresh(theirs)
        bench.index.clear_log()
        mine, peer = in_turns(bench.times(12, 4), lambda: fresh(ours), lambda: fresh(theirs))
        asked = Counter(request.agent.partition("/")[0] for request in bench.index.requests())
    finally:
        ours.discard()
        theirs.discard()
    requests = ", ".join(f"{count} by {agent}" for agent, count in sorted(asked.items())) or "none"
    return Row("warm", mine, peer, most=2, note=f"requests: {requests}")


def cold(bench: Bench, *, started: bool = True) -> Row:
    """A new environment and an empty cache; the daemon runs already, or (`started` False) must be started."""

    def fresh(make: Callable[[], Cache]) -> float:
        with bench.venvs(1) as (venv,):
            cache = make()
            try:
                return bench.sync(cache, venv)
            finally:
                cache.discard()

    mine, peer = in_turns(
        bench.times(7, 3) if started else bench.times(4, 2),
        lambda: fresh(lambda: bench.pkgc(started=started)),
        lambda: fresh(bench.uv),
    )
    if started:
        return Row("cold", mine, peer, most=2)
    return Row("cold, daemon too", mine, peer, note="pkgc starts its daemon first")


def concurrent(bench: Bench) -> Row:
    """Several clients at once, all cold: each wheel and each page may be fetched once."""
    notes: dict[str, int] = {}
    problems: list[str] = []

    def crowd(cache: Cache) -> float:
        with bench.venvs(CLIENTS) as venvs:
            bench.index.clear_log()
            try:
                seconds = timed(*(cache.sync(bench.lock, venv, bench.index.url) for venv in venvs))
                for venv in venvs:
                    bench.assert_complete(venv)
            finally:
                cache.discard()
        return seconds

    def ours() -> float:
        seconds = crowd(bench.pkgc())
        notes["pkgc"] = len(bench.index.requests())
        problems.extend(fetched_more_than_once(bench))
        return seconds

    def theirs() -> float:
        seconds = crowd(bench.uv())
        notes["uv"] = len(bench.index.requests())
        return seconds

    mine, peer = in_turns(bench.times(3, 1), ours, theirs)
    return Row(
        f"{CLIENTS} clients, cold",
        mine,
        peer,
        condition="each once",
        note=f"requests: pkgc {notes['pkgc']}, uv {notes['uv']}, least {2 * bench.expected}",
        broken="; ".join(problems[:3]),
    )


def fetched_more_than_once(bench: Bench) -> list[str]:
    """What the log says against 'each page once, each wheel's bytes once'."""
    requests = bench.index.requests()
    problems = []
    pages = Counter(request.path for request in requests if request.path.startswith("/simple/"))
    problems += [f"{path} asked {count} times" for path, count in pages.items() if count > 1]
    sent: Counter[str] = Counter()
    for request in requests:
        if request.path.startswith("/files/") and request.method == "GET":
            sent[request.path] += request.sent
    sizes = bench.index.sizes
    problems += [
        f"{path}: {count} bytes sent of {sizes[path.rpartition('/')[2]]}"
        for path, count in sent.items()
        if count != sizes.get(path.rpartition("/")[2])
    ]
    if len(sent) != bench.expected:
        problems.append(f"{len(sent)} wheels fetched where the lock has {bench.expected}")
    return problems


def idle(bench: Bench) -> Row:
    """A daemon that has done nothing yet."""
    values = []
    for _ in range(bench.times(3, 1)):
        cache = bench.pkgc()
        try:
            values.append(pss_of_family(cache.instance.pid()))
        finally:
            cache.discard()
    return Row("idle memory", values, unit="MB PSS", most=PSS_TARGET)


def memory(bench: Bench) -> list[Row]:
    """Gigabytes through an empty cache; then what the daemon and its children hold."""
    source = "made wheels"
    if bench.full:
        try:
            lock, wheels = biglocks.real_lock()
            source = "torch stack"
        except (AssertionError, RuntimeError) as error:
            print(f"the torch stack cannot be had ({str(error)[:200]}): made wheels instead", flush=True)
            lock, wheels = biglocks.made_lock(biglocks.LIKE_TORCH)
    else:
        lock, wheels = biglocks.made_lock(biglocks.QUICK if bench.quick else biglocks.LIKE_TORCH)
    size = sum(wheel.stat().st_size for wheel in wheels)
    # The cache holds each wheel and its tree; both tools are never there at once.
    free = shutil.disk_usage(bench.work).free
    if free < 4 * size:
        raise Failed(f"{bench.work} has {free >> 20} MiB free, the memory row needs {4 * size >> 20}")
    note = f"{size / 1e9:.1f} GB in {len(wheels)} {source}"
    with RealIndex(wheels) as index, bench.venvs(2) as (one, other):
        index.warm_up()
        ours = bench.pkgc()
        try:
            pid = ours.instance.pid()
            with Watch(pid) as watch:
                seconds = bench.sync(ours, one, lock, index)
            after = pss_of_family(pid)
        finally:
            ours.discard()
        shutil.rmtree(one)
        theirs = bench.uv()
        try:
            peer = bench.sync(theirs, other, lock, index)
        finally:
            theirs.discard()
    return [
        Row("memory after big cold", [after], unit="MB PSS", most=PSS_TARGET, note=note),
        Row("memory during, peak", [watch.peak], unit="MB PSS"),
        Row("big cold", [seconds], [peer], note=note),
    ]


def lock_reading(bench: Bench) -> list[Row]:
    """A uv.lock of 300 packages, from its bytes to a plan: when it is new, and when it is known."""
    lock = lockreading.make_project(bench.folder("project"), "http://127.0.0.1:9/simple/")
    size = lock.stat().st_size
    numbers = itertools.count()

    def new() -> float:
        lockreading.touch(lock, next(numbers))
        return lockreading.plan_seconds(ours, lock, venv)

    ours = bench.pkgc()
    try:
        venv, cache = bench.folder("venv"), bench.folder("uv-cache")
        new()  # the interpreter is asked what it is
        first, peer = in_turns(bench.times(12, 4), new, lambda: lockreading.uv_seconds(lock, cache))
        lockreading.plan_seconds(ours, lock, venv)
        again = [lockreading.plan_seconds(ours, lock, venv) for _ in range(bench.times(20, 8))]
    finally:
        ours.discard()
    note = f"{lockreading.PACKAGES} packages, {size / 1e6:.1f} MB"
    return [
        Row("new uv.lock to plan", first, most=0.150, note=note),
        Row("known uv.lock to plan", again, most=0.005, note=note),
        Row("uv export --frozen", peer, note="the whole command, for comparison"),
    ]


ROWS: dict[str, Callable[[Bench], Row | list[Row]]] = {
    "no-op": no_op,
    "warm": warm,
    "cold": cold,
    "cold-start": lambda bench: cold(bench, started=False),
    "concurrent": concurrent,
    "lock": lock_reading,
    "idle": idle,
    "memory": memory,
}
