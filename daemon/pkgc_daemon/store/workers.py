"""Where unpacking runs: a small pool of threads behind one narrow seam.

Threads for their simplicity, not for speed.  Measured with 29 real wheels (177 MB, 23,774 files, 740 MiB
unpacked) to tmpfs on two cores that others used too, seconds, in the order of the runs:
    two threads    1.36 1.80 3.72 3.88 3.58 2.38 1.73
    two processes  0.98 1.86 2.74 3.17 2.79 2.04 1.68
    one thread     2.78 2.07 2.57 2.43 3.78 3.74 1.87
Processes were faster in six of seven pairs, and pay for it with 0.1-0.2 s of start-up, pipes, and children
that must be kept from outliving the daemon.
The event loop beside two busy threads is late by 0.1 ms (median), 5 ms (99th percentile), 14 ms (worst).
The jobs and their results can be pickled, so that a process pool is one more class here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Workers(Protocol):
    """Runs CPU-heavy functions off the event loop."""

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` elsewhere and return its result. Cancelling the await does not stop the call."""

    def close(self) -> None:
        """Wait for what runs, and release everything."""


class ThreadWorkers:
    """`Workers` over threads.

    Args:
        count: how many; default: the processors, at most 8.
    """

    def __init__(self, count: int | None = None) -> None:
        size = count if count is not None else min(8, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(max(1, size), thread_name_prefix="pkgc-unpack")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Workers.run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """See `Workers.close`."""
        self._pool.shutdown(wait=True)
