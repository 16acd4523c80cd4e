"""The cost model: how time and CPU grow with packages, files, bytes, clients and environments."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks import madewheels
from tests.benchmarks.bench import QUIET, Bench, Lock, assert_complete, in_turns
from tests.benchmarks.contestants import Cache, PkgcCache, UvCache
from tests.benchmarks.fits import Line, fit
from tests.benchmarks.report import Row, Sample, values
from tests.benchmarks.rows_crowd import crowd
from tests.benchmarks.rows_sync import NO_COPIES
from tests.support.realindex import RealIndex

PACKAGES, FILES, MEGABYTES = (10, 100, 1000), (10, 1000, 10_000), (1, 10, 100)
CLIENTS, ENVIRONMENTS = (1, 10, 50), (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Point:
    """One action at one size."""

    unit: str
    """What grows: ``package``, ``file``, ``MB``, ``client`` or ``environment``."""
    action: str
    size: int
    row: Row
    """Its measurements."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The lines of one action."""

    unit: str
    action: str
    ours: Line
    theirs: Line
    our_cpu: Line
    """Background work included."""
    their_cpu: Line


def measure(bench: Bench) -> list[Point]:
    """All points, on the first place."""
    folder = bench.folder(bench.fast, "made")
    made = {
        "package": madewheels.packages(folder, PACKAGES),
        "file": madewheels.files(folder, FILES),
        "MB": madewheels.megabytes(folder, MEGABYTES),
    }
    wheels = {wheel for sizes in made.values() for one in sizes.values() for wheel in one.wheels}
    points: list[Point] = []
    with RealIndex(wheels) as index:
        for unit, sizes in made.items():
            for size, one in sizes.items():
                lock = Lock.of(one.lock, index.url)
                # A thousand packages take seconds, and there the noise is small.
                count = 3 if size >= 1000 else 5
                points += _of_a_lock(bench, unit, size, lock, count)
        hundred = Lock.of(made["package"][100].lock, index.url)
        points += _of_clients(bench, hundred)
        points += _of_environments(bench, hundred)
    return points


def _of_a_lock(bench: Bench, unit: str, size: int, lock: Lock, count: int) -> Iterator[Point]:
    place = bench.fast

    def point(action: str, one: Callable[[], Sample], other: Callable[[], Sample]) -> Point:
        return _point(unit, action, size, *in_turns(count, one, other))

    yield point(
        "cold",
        lambda: bench.cold(place, bench.pkgc, lock),
        lambda: bench.cold(place, bench.uv, lock),
    )
    with _filled(bench, lock) as (ours, theirs), bench.venvs(place, 2) as (one, other):
        yield point(
            "warm, copies ready",
            lambda: bench.fresh(place, ours, lock),
            lambda: bench.fresh(place, theirs, lock),
        )
        bench.sync(place, ours, one, lock)
        bench.sync(place, theirs, other, lock)
        yield point(
            "no-op",
            lambda: bench.again(ours, one, lock),
            lambda: bench.again(theirs, other, lock),
        )
    with _filled(bench, lock, copies=False) as (ours, theirs):
        yield point(
            "warm, no copies",
            lambda: bench.fresh(place, ours, lock),
            lambda: bench.fresh(place, theirs, lock),
        )


@contextmanager
def _filled(bench: Bench, lock: Lock, *, copies: bool = True) -> Iterator[tuple[PkgcCache, UvCache]]:
    with bench.both(bench.fast, {} if copies else NO_COPIES) as (ours, theirs):
        bench.fresh(bench.fast, ours, lock)
        bench.fresh(bench.fast, theirs, lock)
        yield ours, theirs


def _of_clients(bench: Bench, lock: Lock) -> Iterator[Point]:
    """Clients at once, warm: until the last one has ended. CPU time is that of one environment."""
    with _filled(bench, lock) as (ours, theirs):
        for size in CLIENTS:
            mine, peer = in_turns(
                3,
                lambda size=size: crowd(bench, ours, lock, size),  # type: ignore[misc]
                lambda size=size: crowd(bench, theirs, lock, size),  # type: ignore[misc]
            )
            yield _point("client", "warm, at once", size, mine, peer, environments=size)


def _of_environments(bench: Bench, lock: Lock) -> Iterator[Point]:
    """New environments right after one another: the time of the whole series."""

    def series(cache: Cache, size: int) -> Sample:
        with bench.venvs(bench.fast, size) as venvs:
            samples = [cache.run(cache.call(lock.path, venv, lock.index)) for venv in venvs]
            for venv in venvs:
                assert_complete(venv, lock)
            later = cache.settle(QUIET)
        cpu = sum(sample.cpu or 0.0 for sample in samples)
        return Sample(sum(values(samples)), cpu, later)

    with _filled(bench, lock) as (ours, theirs):
        for size in ENVIRONMENTS:
            mine, peer = in_turns(
                1 if size >= 100 else 3,
                lambda size=size: series(ours, size),  # type: ignore[misc]
                lambda size=size: series(theirs, size),  # type: ignore[misc]
            )
            memory = f"daemon and workers afterwards: {ours.family.pss():.0f} MB PSS"
            point = _point("environment", "warm, in a row", size, mine, peer, environments=size)
            point.row.note = memory
            yield point


def _point(
    unit: str, action: str, size: int, mine: list[Sample], peer: list[Sample], environments: int = 1
) -> Point:
    plural = unit if unit == "MB" or size == 1 else f"{unit}s"
    row = Row(f"{action}, {size:,} {plural}", mine, peer, environments=environments)
    print(f"  {row.name}: {row.ratio:.2f}", file=sys.stderr, flush=True)
    return Point(unit, action, size, row)


def fitted(points: Sequence[Point]) -> list[Fitted]:
    """The lines through the points of each action; CPU time of all environments together."""
    found = []
    for unit, action in dict.fromkeys((point.unit, point.action) for point in points):
        own = [point for point in points if (point.unit, point.action) == (unit, action)]

        def line(cost: Callable[[Point], float], own: list[Point] = own) -> Line:
            return fit([(point.size, cost(point)) for point in own])

        found.append(
            Fitted(
                unit,
                action,
                line(lambda point: statistics.median(values(point.row.ours))),
                line(lambda point: statistics.median(values(point.row.theirs))),
                line(lambda point: sum(filter(None, point.row.cpu_each()[:2])) * point.row.environments),
                line(lambda point: (point.row.cpu_each()[2] or 0.0) * point.row.environments),
            )
        )
    return found


def fitted_markdown(lines: Sequence[Fitted]) -> str:
    """The lines as a table of Markdown, in milliseconds."""
    text = [
        "| action | per | pkgc | uv | CPU pkgc | CPU uv |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for one in lines:
        cells = (_told(line) for line in (one.ours, one.theirs, one.our_cpu, one.their_cpu))
        text.append(f"| {one.action} | {one.unit} | {' | '.join(cells)} |")
    return "\n".join(text)


def _told(line: Line) -> str:
    return f"{line.fixed * 1000:.1f} + {line.each * 1000:.3g} each"
