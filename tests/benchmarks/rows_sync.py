"""The rows of one person at one environment: no-op, warm in all its kinds, one package changed, cold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.bench import (
    QUIET,
    Bench,
    Lock,
    Place,
    assert_complete,
    everywhere,
    in_turns,
    median,
    requests_by_tool,
)
from tests.benchmarks.contestants import Cache, Failed, PipCache, PkgcCache, UvCache
from tests.benchmarks.report import Row, Sample
from tests.support.realindex import RealIndex

#: Ratios to uv that the goals name, by place where they differ.
NO_OP, ABSENT, COMPILED, CHANGED, COLD, COLD_CPU = 0.8, 1.0, 0.05, 0.5, 1.0, 1.2
WARM = {"tmpfs": 0.25, "disk": 0.1}
#: Environments right after one another: so many use up the copies that there are, so many are counted.
USING_UP, COUNTED = 3, 5
#: Makes the daemon keep no ready copies.
NO_COPIES = {"PKGC_READY_COPIES": "0"}


def no_op(bench: Bench) -> list[Row]:
    """The environment is as the lock says already."""
    return [_no_op(bench, place, bench.large, most=NO_OP) for place in bench.places]


def _no_op(bench: Bench, place: Place, lock: Lock, most: float | None) -> Row:
    with bench.both(place) as (ours, theirs), bench.venvs(place, 2) as (one, other):
        bench.sync(place, ours, one, lock)
        bench.sync(place, theirs, other, lock)
        mine, peer = in_turns(
            bench.times(30, 8), lambda: bench.again(ours, one, lock), lambda: bench.again(theirs, other, lock)
        )
        for venv in (one, other):
            assert_complete(venv, lock)
    note = (
        f"the first one after the sync: pkgc {mine[0].value * 1000:.0f} ms, uv {peer[0].value * 1000:.0f} ms"
    )
    return Row(f"no-op, {lock.expected} packages", mine, peer, place.name, most=most, note=note)


@contextmanager
def _filled(bench: Bench, place: Place, lock: Lock, **options: bool) -> Iterator[tuple[PkgcCache, UvCache]]:
    """Both caches filled by one sync, and the ready copies of pkgc made unless ``copies=False``."""
    variables = {} if options.pop("copies", True) else NO_COPIES
    with bench.both(place, variables) as (ours, theirs):
        bench.fresh(place, ours, lock, **options)
        bench.fresh(place, theirs, lock, **options)
        yield ours, theirs


def warm(bench: Bench) -> list[Row]:
    """A new environment; everything is in the cache and the ready copies are there."""
    return [
        warm_row(bench, place, bench.large, bench.index, most=WARM.get(place.name)) for place in bench.places
    ]


def warm_row(bench: Bench, place: Place, lock: Lock, index: RealIndex, most: float | None) -> Row:
    """The same for any lock.

    Args:
        index: serves it, and counts who asks for anything.
        most: the target.
    """
    ready: list[int] = []

    def fresh() -> Sample:
        ready.append(ours.ready_trees())
        return bench.fresh(place, ours, lock)

    with _filled(bench, place, lock) as (ours, theirs):
        index.clear_log()
        mine, peer = in_turns(bench.times(12, 4), fresh, lambda: bench.fresh(place, theirs, lock))
        asked = requests_by_tool(index)
    note = f"packages with a ready copy before: {min(ready)}; requests: {asked}"
    name = f"warm, {lock.expected} packages, copies ready"
    return Row(name, mine, peer, place.name, most=most, note=note)


@everywhere
def warm_without_copies(bench: Bench, place: Place) -> list[Row]:
    """The same with ready copies switched off."""
    with _filled(bench, place, bench.large, copies=False) as (ours, theirs):
        mine, peer = in_turns(
            bench.times(10, 3),
            lambda: bench.fresh(place, ours, bench.large),
            lambda: bench.fresh(place, theirs, bench.large),
        )
        if ours.ready_trees():
            raise Failed("there are ready copies although they are switched off")
    return [Row("warm, copies switched off", mine, peer, place.name, most=ABSENT)]


@everywhere
def warm_used_up(bench: Bench, place: Place) -> list[Row]:
    """Environments right after one another, so that no time is left to make new copies."""
    lock = bench.large
    first: list[float] = []

    def block(cache: Cache) -> list[Sample]:
        count = USING_UP + COUNTED
        with bench.venvs(place, count) as venvs:
            place.calm()
            samples = [cache.run(cache.call(lock.path, venv, lock.index)) for venv in venvs]
            for venv in venvs:
                assert_complete(venv, lock)
            # What the whole row of environments left to do, by share: the refill is nobody's alone.
            later = cache.settle(QUIET) / count
        if isinstance(cache, PkgcCache):
            first.append(samples[0].value)
        return [Sample(sample.value, sample.cpu, later) for sample in samples[USING_UP:]]

    mine: list[Sample] = []
    peer: list[Sample] = []
    with _filled(bench, place, lock) as (ours, theirs):
        for turn in range(bench.times(3, 1)):
            for cache, found in ((ours, mine), (theirs, peer))[:: -1 if turn % 2 else 1]:
                found += block(cache)
    note = (
        f"{COUNTED} counted after {USING_UP} that used the copies up; first of each series: "
        f"{min(first) * 1000:.0f}–{max(first) * 1000:.0f} ms"
    )
    return [Row("warm, copies used up", mine, peer, place.name, most=ABSENT, note=note)]


@everywhere
def warm_compiled(bench: Bench, place: Place) -> list[Row]:
    """A new environment whose bytecode is there when the command ends; both tools have compiled it before."""
    with _filled(bench, place, bench.large, bytecode=True) as (ours, theirs):
        mine, peer = in_turns(
            bench.times(10, 2),
            lambda: bench.fresh(place, ours, bench.large, bytecode=True),
            lambda: bench.fresh(place, theirs, bench.large, bytecode=True),
        )
    return [Row("warm, bytecode compiled", mine, peer, place.name, most=COMPILED)]


@everywhere
def changed(bench: Bench, place: Place) -> list[Row]:
    """One package gets another version, to and fro in one environment; both versions are in the cache."""

    def toggling(cache: Cache, venv: Path) -> Callable[[], Sample]:
        to_and_fro = itertools.cycle((bench.large, bench.changed))

        def turn() -> Sample:
            return bench.sync(place, cache, venv, next(to_and_fro))

        for _ in range(3):  # the next turn is to the other version
            turn()
        return turn

    with bench.both(place) as (ours, theirs), bench.venvs(place, 2) as (one, other):
        mine, peer = in_turns(bench.times(16, 4), toggling(ours, one), toggling(theirs, other))
    name = f"one of {bench.large.expected} changed, warm"
    return [Row(name, mine, peer, place.name, most=CHANGED, note="nbconvert, 131 files")]


@everywhere
def cold(bench: Bench, place: Place) -> list[Row]:
    """A new environment and an empty cache; the daemon runs already."""
    mine, peer = _cold(bench, place, bench.large)
    # The copies made afterwards are for later environments: shown, but the promise is about the sync.
    ours = [Sample(sample.cpu) for sample in mine if sample.cpu is not None]
    theirs = [Sample(sample.cpu) for sample in peer if sample.cpu is not None]
    return [
        Row(f"cold, {bench.large.expected} packages", mine, peer, place.name, most=COLD),
        Row("cold, CPU of client and daemon", ours, theirs, place.name, most=COLD_CPU),
    ]


def _cold(bench: Bench, place: Place, lock: Lock) -> tuple[list[Sample], list[Sample]]:
    return in_turns(
        bench.times(10, 2),
        lambda: bench.cold(place, bench.pkgc, lock),
        lambda: bench.cold(place, bench.uv, lock),
    )


@everywhere
def small(bench: Bench, place: Place) -> list[Row]:
    """The lock of a few packages: what starting costs. Nothing is promised of it."""
    mine, peer = _cold(bench, place, bench.small)
    return [
        _no_op(bench, place, bench.small, most=None),
        warm_row(bench, place, bench.small, bench.index, most=None),
        Row(f"cold, {bench.small.expected} packages", mine, peer, place.name),
    ]


def pip(bench: Bench) -> list[Row]:
    """The same lock by pip, for reference; its figures are in the row's notes, because uv is the peer."""
    place, lock = bench.fast, bench.large
    colds: list[Sample] = []
    warms: list[Sample] = []
    for _ in range(bench.times(2, 1)):
        cache = PipCache(bench.folder(place, "pip-cache"))
        try:
            colds.append(bench.fresh(place, cache, lock))
            warms.append(bench.fresh(place, cache, lock))
        finally:
            cache.discard()
    told = ", ".join(
        f"{name} {median(found):.1f} s (CPU {median([Sample(one.cpu or 0.0) for one in found]):.1f} s)"
        for name, found in (("cold", colds), ("warm", warms))
    )
    return [Row(f"pip, {lock.expected} packages", [], [], place.name, note=f"{told}, without compiling")]
