"""What all rows share: places, locks, empty caches, fresh environments, and measuring in turns."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.contestants import Cache, Failed, PkgcCache, UvCache
from tests.benchmarks.report import Row, Sample
from tests.support import peertools
from tests.support.interpreters import running
from tests.support.realindex import RealIndex
from tests.support.realwheels import pins_for

#: Seconds of nothing after which background work has ended.
QUIET = 0.4


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for caches and environments."""

    name: str
    """``tmpfs`` or ``disk``."""
    folder: Path

    def calm(self) -> None:
        """Let the disk finish what the last measurement left to it: the next one shall not pay."""
        if self.name == "disk":
            os.sync()


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock and the index that serves it."""

    path: Path
    index: str
    """Root of the Simple API."""
    expected: int
    """Distributions that an environment of it has."""

    @classmethod
    def of(cls, path: Path, index: str) -> Lock:
        """A lock of pins and hashes, counted for the running interpreter."""
        return cls(path, index, len(pins_for(path, running().markers)))


@dataclass
class Bench:
    """One run of the benchmarks."""

    places: list[Place]
    large: Lock
    """97 packages."""
    changed: Lock
    """The same with one package of another version."""
    small: Lock
    index: RealIndex
    """Serves these three."""
    quick: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def fast(self) -> Place:
        """Where the rows go that are measured in one place only."""
        return self.places[0]

    def times(self, normal: int, quick: int) -> int:
        """How many repetitions."""
        return quick if self.quick else normal

    def folder(self, place: Place, name: str) -> Path:
        """A path that nothing has used."""
        return place.folder / f"{name}-{next(self._numbers)}"

    @contextmanager
    def venvs(self, place: Place, count: int = 1) -> Iterator[list[Path]]:
        """Fresh environments; made with a cache apart, so that uv's measured cache stays cold."""
        paths = [self.folder(place, "venv") for _ in range(count)]
        peertools.make_venvs(running().path, paths, place.folder / "uv-cache-for-venvs")
        try:
            yield paths
        finally:
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)

    def pkgc(
        self, place: Place, *, started: bool = True, variables: Mapping[str, str] | None = None
    ) -> PkgcCache:
        """An empty pkgc."""
        return PkgcCache(self.folder(place, "pkgc"), started=started, variables=variables)

    def uv(self, place: Place) -> UvCache:
        """An empty uv."""
        return UvCache(self.folder(place, "uv-cache"))

    @contextmanager
    def both(
        self, place: Place, variables: Mapping[str, str] | None = None
    ) -> Iterator[tuple[PkgcCache, UvCache]]:
        """An empty pkgc and an empty uv, both discarded at the end.

        Args:
            variables: for pkgc.
        """
        ours, theirs = self.pkgc(place, variables=variables), self.uv(place)
        try:
            yield ours, theirs
        finally:
            ours.discard()
            theirs.discard()

    def sync(self, place: Place, cache: Cache, venv: Path, lock: Lock, *, bytecode: bool = False) -> Sample:
        """One measured sync, after which the environment must be complete; and what is done afterwards."""
        place.calm()
        sample = cache.run(cache.call(lock.path, venv, lock.index, bytecode=bytecode))
        assert_complete(venv, lock)
        return replace(sample, later=cache.settle(QUIET))

    def again(self, cache: Cache, venv: Path, lock: Lock) -> Sample:
        """One measured sync that has nothing to do."""
        sample = cache.run(cache.call(lock.path, venv, lock.index))
        return replace(sample, later=cache.settle(QUIET / 4))

    def fresh(self, place: Place, cache: Cache, lock: Lock, *, bytecode: bool = False) -> Sample:
        """One measured sync into a new environment."""
        with self.venvs(place) as (venv,):
            sample = self.sync(place, cache, venv, lock, bytecode=bytecode)
            if bytecode:
                assert_compiled(venv)
            return sample

    def cold(self, place: Place, make: Callable[[Place], Cache], lock: Lock) -> Sample:
        """One measured sync into a new environment from a new, empty cache."""
        cache = make(place)
        try:
            return self.fresh(place, cache, lock)
        finally:
            cache.discard()


def everywhere(measure: Callable[[Bench, Place], list[Row]]) -> Callable[[Bench], list[Row]]:
    """The same measurement in each place; in a quick run in the first one only."""

    @functools.wraps(measure)
    def rows(bench: Bench) -> list[Row]:
        places = bench.places[:1] if bench.quick else bench.places
        return [row for place in places for row in measure(bench, place)]

    return rows


def in_turns(
    count: int, one: Callable[[], Sample], other: Callable[[], Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Run both `count` times, alternating, each first every second time."""
    ones: list[Sample] = []
    others: list[Sample] = []
    for turn in range(count):
        if turn % 2:
            others.append(other())
            ones.append(one())
        else:
            ones.append(one())
            others.append(other())
    return ones, others


def assert_complete(venv: Path, lock: Lock) -> None:
    """A tool that does less than the whole work must not win.

    Raises:
        Failed: distributions are missing.
    """
    found = sum(1 for _ in venv.glob("lib/python*/site-packages/*.dist-info/METADATA"))
    if found != lock.expected:
        raise Failed(f"{venv}: {found} distributions where the lock has {lock.expected}")


def assert_compiled(venv: Path) -> None:
    """The environment must have the bytecode of (nearly) all its modules; some wheels hold files for others.

    Raises:
        Failed: it has not.
    """
    sources = compiled = 0
    for _, _, files in os.walk(venv / "lib"):
        sources += sum(name.endswith(".py") for name in files)
        compiled += sum(name.endswith(".pyc") for name in files)
    if compiled < 0.95 * sources:
        raise Failed(f"{venv}: {compiled} compiled modules of {sources}")


def requests_by_tool(index: RealIndex) -> str:
    """How many requests each tool has made, in words."""
    asked = Counter(request.agent.partition("/")[0] for request in index.requests())
    return ", ".join(f"{count} by {agent}" for agent, count in sorted(asked.items())) or "none"


def median(samples: list[Sample]) -> float:
    """The median of what was measured."""
    return statistics.median(sample.value for sample in samples)
