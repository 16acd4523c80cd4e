"""Memory of the daemon and everything it started, as PSS: shared pages are counted once, in shares."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

MB = 1_000_000


def pss_of_family(pid: int) -> float:
    """MB of proportional set size of `pid` and all its descendants; those that ended meanwhile count 0."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total / MB


class Watch:
    """Samples a family while the block runs; `peak` is its greatest PSS in MB."""

    def __init__(self, pid: int, period: float = 0.1) -> None:
        self.peak = 0.0
        self._pid = pid
        self._period = period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._over.wait(self._period):
            self.peak = max(self.peak, pss_of_family(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
