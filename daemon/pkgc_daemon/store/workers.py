"""Where unpacking runs: threads or processes behind one narrow seam, the largest wheel first.

Processes, because it was measured: a wheel of many small files holds the GIL for most of its 28 us a file, so
two threads unpack little faster than one.  Cold sync of 97 wheels (12,349 files) on two cores: all bytes were
there after 0.28 s, the last tree after 0.82 s with two threads in the order of arrival.  Threads remain for
what is not unpacking, and where no processes are wanted (PKGC_UNPACK_PROCESSES=0).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from pkgc_daemon.store import trees
from pkgc_daemon.store.catalog import TreeRow
from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import Manifest

P = ParamSpec("P")
R = TypeVar("R")


class Job(NamedTuple):
    """One wheel to unpack: the arguments of `trees.build`, and the bytes of the wheel."""

    cache: str
    artifact: str
    filename: str
    sha256: str
    boot: str
    size: int
    outlay: Outlay | None = None
    """What is to be laid out of it at once."""


class Unpacked(NamedTuple):
    """What came of a `Job`."""

    row: TreeRow
    manifest: Manifest
    note: dict[str, Any] | None
    """Of the outlay, if it was made too."""


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

    def start(self) -> None:
        """Prepare for the first job. Returns at once."""

    def close(self) -> None:
        """Wait for what runs, and release everything."""


class ThreadWorkers:
    """`Workers` over threads.

    Args:
        count: how many; default: the processors, at most 8.
    """

    lays = False

    def __init__(self, count: int | None = None) -> None:
        self.count = max(1, count if count is not None else min(8, os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="pkgc-unpack")
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._guard = threading.Lock()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Workers.run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def unpack(self, job: Job) -> Unpacked:
        """See `Workers.unpack`."""
        return await self._queue(job.size, partial(self._unpack, job))

    async def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `Workers.lay`."""
        # Behind all unpacking: the call that waits for a wheel may wait for nothing else.
        return await self._queue(-1, partial(self._lay, cache, outlays))

    async def _queue(self, size: int, function: Callable[[], R]) -> R:
        future: Future[R] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        with self._guard:
            heapq.heappush(self._waiting, (-size, next(self._numbers), work))
        self._pool.submit(self._take)
        return await asyncio.wrap_future(future)

    def _take(self) -> None:
        """Run the largest job that waits; there is one for each call."""
        with self._guard:
            _size, _number, work = heapq.heappop(self._waiting)
        work()

    def _unpack(self, job: Job) -> Unpacked:
        layout = Layout(Path(job.cache))
        return Unpacked(*trees.build(layout, Path(job.artifact), job.filename, job.sha256, job.boot), None)

    def _lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        return [None for _ in outlays]

    def start(self) -> None:
        """See `Workers.start`."""

    def close(self) -> None:
        """See `Workers.close`."""
        self._pool.shutdown(wait=True)
