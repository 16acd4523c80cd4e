"""Where unpacking runs: threads or processes behind one narrow seam, the largest wheel first.

Processes, because it was measured: a wheel of many small files holds the GIL for most of its 28 us a file, so
two threads unpack little faster than one.  Cold sync of 97 wheels (12,349 files) on two cores: all bytes were
there after 0.28 s, the last tree after 0.82 s with two threads in the order of arrival.  Threads remain for
what is not unpacking, and where no processes are wanted (PKGC_UNPACK_PROCESSES=0).

Wheels that still arrive are unpacked in steps, when no complete one waits.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from pkgc_daemon.archives.manifest import head_of
from pkgc_daemon.store.lanes import Growth, Job, Lane, LocalLane, Unpacked
from pkgc_daemon.store.laying import Outlay

P = ParamSpec("P")
R = TypeVar("R")

#: Bytes that must have arrived anew before they are worth a step, and that one step takes at most.
STEP, LONGEST_STEP = 2 << 20, 32 << 20
#: Bytes below which a complete wheel is unpacked before everything else.
SMALL = 32 << 20
#: Seconds for which a file that has landed waits to be asked for as a tree.
UNCLAIMED = 60.0


class Workers(Protocol):
    """Runs CPU-heavy functions off the event loop."""

    lays: bool
    """Whether outlays are made: that takes processes, which have an umask of their own."""

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` elsewhere and return its result. Cancelling the await does not stop the call."""

    async def unpack(self, job: Job) -> Unpacked:
        """`trees.build` elsewhere; of those that wait, the largest wheel comes first."""

    async def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """Make outlays of trees that are there, by digest; their notes, None for what could not be made."""

    def follow(self, cache: str, path: Path, total: int) -> Follower:
        """Unpack the wheel at `path` while it arrives, so that less is left for `unpack`.

        Args:
            cache: root of the cache.
            path: the file that grows.
            total: bytes that it will have.
        """

    def start(self) -> None:
        """Prepare for the next job. Returns at once; cheap when all is prepared."""

    def rest(self) -> None:
        """Give back the memory of what has nothing to do. Returns at once."""

    def close(self) -> None:
        """Wait for what runs, and release everything."""


class _Task(NamedTuple):
    """Something to do in a lane; what compares lowest is done first."""

    kind: int
    """0: clears up, 1: a wheel that somebody waits for, 2: lays out, 3: can wait."""
    order: int
    """Minus the bytes of the wheel."""
    number: int
    lane: Lane | None
    """Where it has to happen."""
    work: Callable[[Lane], None]


def _rank(task: _Task) -> tuple[int, int, int]:
    """What comes first, for a lane that could do it: the lowest.

    A lane goes on with what it has begun before it takes something large that any lane could do: otherwise
    the last large wheel would be left to one lane while the others are idle. What is small does not wait.
    """
    if task.kind in (0, 2):
        rank = task.kind
    elif task.lane is None and task.kind == 1 and -task.order < SMALL:
        rank = 1
    else:
        rank = 3 if task.lane is not None else 4
    return rank, task.order, task.number


class Follower:
    """A wheel that is unpacked while it arrives. Made by `Workers.follow`; thread-safe, except `landed`."""

    def __init__(self, workers: ThreadWorkers, growth: Growth) -> None:
        self._workers = workers
        self.growth = growth
        """`available` is what the lane was told of last."""
        self.kept = 0
        self.lane: Lane | None = None
        """Where it is unpacked, as soon as that has begun."""
        self.queued = False
        self.over = False

    def grown(self, kept: int) -> None:
        """So many bytes are in the file, for good. Returns at once."""
        self._workers.grown(self, kept)

    def landed(self, sha256: str) -> None:
        """It is complete, verified, and in the store: the next `unpack` of this digest goes on with it."""
        self._workers.landed(self, sha256)

    def dropped(self) -> None:
        """What has arrived counts no more. Returns at once."""
        self._workers.drop(self)


class ThreadWorkers:
    """`Workers` over threads.

    Args:
        count: how many; default: the processors, at most 8.
    """

    lays = False

    def __init__(self, count: int | None = None) -> None:
        self.count = max(1, count if count is not None else min(8, os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="pkgc-unpack")
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self._waiting: list[_Task] = []
        self._free = list(self._lanes())
        self._every: Sequence[Lane] = tuple(self._free)
        self._bound: dict[Lane, int] = dict.fromkeys(self._free, 0)
        """Bytes of the wheels that still arrive, by the lane that unpacks them."""
        self._landed: dict[str, Follower] = {}
        self._closed = False

    def _lanes(self) -> Sequence[Lane]:
        return [LocalLane() for _ in range(self.count)]

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Workers.run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def unpack(self, job: Job) -> Unpacked:
        """See `Workers.unpack`."""
        future: Future[Unpacked] = Future()
        follower = self._landed.pop(job.sha256, None)
        number = follower.growth.number if follower is not None else None

        def build(lane: Lane) -> None:
            if not future.set_running_or_notify_cancel():
                if number is not None:
                    lane.drop(number)
                return
            try:
                done = lane.build(job, number)
                future.set_result(done._replace(manifest=head_of(done.manifest)))
            except BaseException as error:
                future.set_exception(error)

        with self._guard:
            lane = None
            if follower is not None:
                lane = follower.lane
                self._end(follower)
            self._add(1, job.size, lane, build)
        self._pool.submit(self._work)
        return await asyncio.wrap_future(future)

    async def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `Workers.lay`."""
        future: Future[list[dict[str, Any] | None]] = Future()

        def lay(lane: Lane) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(lane.lay(cache, outlays))
            except BaseException as error:
                future.set_exception(error)

        with self._guard:
            # Behind the small wheels: the call that waits for one may wait for nothing else.
            self._add(2, 0, None, lay)
        self._pool.submit(self._work)
        return await asyncio.wrap_future(future)

    def follow(self, cache: str, path: Path, total: int) -> Follower:
        """See `Workers.follow`."""
        return Follower(self, Growth(next(self._numbers), cache, str(path), total, 0))

    def start(self) -> None:
        """See `Workers.start`."""
        with self._guard:
            for lane in self._every:
                self._add(0, 0, lane, lambda lane: lane.start())
        for _ in self._every:
            self._pool.submit(self._work)

    def rest(self) -> None:
        """See `Workers.rest`."""
        with self._guard:
            if self._closed or self._waiting or len(self._free) < len(self._every):
                return
            for lane in self._every:
                self._add(0, 0, lane, lambda lane: lane.rest())
        for _ in self._every:
            self._pool.submit(self._work)

    def close(self) -> None:
        """See `Workers.close`."""
        with self._guard:
            self._closed = True
        self._pool.shutdown(wait=True)
        for lane in self._every:
            lane.close()

    # -- followers -------------------------------------------------------------------------------------

    def grown(self, follower: Follower, kept: int) -> None:
        """See `Follower.grown`."""
        with self._guard:
            follower.kept = kept
            due = self._queue(follower)
        if due:
            self._pool.submit(self._work)

    def _queue(self, follower: Follower) -> bool:
        """Have a step done, if there is enough to do."""
        if follower.queued or follower.over or self._closed:
            return False
        growth, kept = follower.growth, follower.kept
        # The last bytes at once: while the file is verified and published there is time for them.
        if kept - growth.available < STEP and not (growth.available < kept == growth.total):
            return False
        follower.queued = True
        self._add(3, growth.total, follower.lane, lambda lane: self._step(follower, lane))
        return True

    def _step(self, follower: Follower, lane: Lane) -> None:
        with self._guard:
            follower.queued = False
            if follower.over:
                return
            if follower.lane is None:
                follower.lane = lane
                self._bound[lane] += follower.growth.total
            available = min(follower.kept, follower.growth.available + LONGEST_STEP)
            follower.growth = follower.growth._replace(available=available)
        goes_on = lane.advance(follower.growth)
        with self._guard:
            if not goes_on:
                self._end(follower)
            self._queue(follower)  # this thread looks for more to do

    def landed(self, follower: Follower, sha256: str) -> None:
        """See `Follower.landed`."""
        earlier = self._landed.pop(sha256, None)
        if earlier is not None:
            self.drop(earlier)
        self._landed[sha256] = follower
        asyncio.get_running_loop().call_later(UNCLAIMED, self._expire, follower, sha256)

    def _expire(self, follower: Follower, sha256: str) -> None:
        if self._landed.get(sha256) is follower:
            del self._landed[sha256]
            self.drop(follower)

    def drop(self, follower: Follower) -> None:
        """See `Follower.dropped`."""
        number = follower.growth.number
        with self._guard:
            self._end(follower)
            if follower.lane is None or self._closed:
                return
            self._add(0, 0, follower.lane, lambda lane: lane.drop(number))
        self._pool.submit(self._work)

    def _end(self, follower: Follower) -> None:
        """No more steps for this one."""
        if follower.lane is not None and not follower.over:
            self._bound[follower.lane] -= follower.growth.total
        follower.over = True

    # -- lanes -----------------------------------------------------------------------------------------

    def _add(self, kind: int, size: int, lane: Lane | None, work: Callable[[Lane], None]) -> None:
        self._waiting.append(_Task(kind, -size, next(self._numbers), lane, work))

    def _work(self) -> None:
        """Do what waits, as long as there is something for a lane that is free."""
        while (taken := self._take()) is not None:
            task, lane = taken
            try:
                task.work(lane)
            finally:
                with self._guard:
                    self._free.append(lane)

    def _take(self) -> tuple[_Task, Lane] | None:
        with self._guard:
            possible = [task for task in self._waiting if self._free and task.lane in (None, *self._free)]
            if not possible:
                # What is left has to happen where another thread is busy: that one goes on with it.
                return None
            task = min(possible, key=_rank)
            self._waiting.remove(task)
            lane = task.lane
            if lane is None:
                lane = min(self._free, key=self._bound.__getitem__)
            self._free.remove(lane)
            return task, lane
