"""Watches: which environments are watched, and when: after the calls, never beside them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from pkgc_daemon.environments.watched import is_watched, use_watcher, watch_environment
from pkgc_daemon.environments.watching import Watcher
from pkgc_daemon.errors import PkgcError

from .log import event

#: Seconds after a call before its environment is watched: scripts make several calls in a row.
DELAY = 0.25
#: The same after a change: what was just made may be used, or made again, before anybody asks about it.
DELAY_OF_CHANGED = 1.0
#: Seconds until one that could not be watched is tried again.
REFUSED = 10.0
#: Environments that wait to be watched.
MAX_WAITING = 64


class Watches:
    """Has environments watched that were found to be as they should be.

    Args:
        executor: where it is done.
        idle: whether no command runs; else it waits.
    """

    def __init__(self, executor: Executor, idle: Callable[[], bool]) -> None:
        self._executor = executor
        self._idle = idle
        self._waiting: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}
        self._refused: dict[tuple[str, ...], float] = {}
        self._wake = asyncio.Event()
        self._watcher: Watcher | None = None

    def open(self) -> None:
        """Begin; without inotify there are no watches."""
        try:
            self._watcher = Watcher()
        except OSError as error:
            event("no-watches", logging.INFO, error=error.strerror or str(error))
            return
        use_watcher(self._watcher)

    def close(self) -> None:
        """End: no thread works with it any more."""
        if self._watcher is not None:
            use_watcher(None)
            self._watcher.close()
            self._watcher = None

    def want(self, args: dict[str, Any], *, changed: bool = False) -> None:
        """Watch an environment when there is time.

        Args:
            args: of `scan_environment`.
            changed: a call has just changed it. Looking at it costs a tenth of a second of work, which
                whoever makes many environments should not pay: one at a time is looked at.
        """
        key = tuple(sorted(args.values()))
        if self._watcher is None or is_watched(args) or len(self._waiting) >= MAX_WAITING:
            return
        if self._refused.get(key, 0.0) > time.monotonic() or (changed and self._waiting):
            return
        self._waiting[key] = (time.monotonic() + (DELAY_OF_CHANGED if changed else DELAY), args)
        self._wake.set()

    async def run(self) -> None:
        """Watch what is wanted, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            if not self._waiting:
                self._wake.clear()
                continue
            key = next(iter(self._waiting))
            due, args = self._waiting[key]
            await asyncio.sleep(min(max(due - time.monotonic(), 0.05), DELAY))
            if not self._idle() or time.monotonic() < due:
                continue
            self._waiting.pop(key, None)
            try:
                done = await loop.run_in_executor(self._executor, watch_environment, args)
            except PkgcError:  # it was removed meanwhile
                done = False
            self._refused.pop(key, None)
            if not done:
                while len(self._refused) >= MAX_WAITING:
                    self._refused.pop(next(iter(self._refused)))
                self._refused[key] = time.monotonic() + REFUSED

    async def tidy(self) -> None:
        """Give the kernel back what is watched for nobody: once in a while."""
        if self._watcher is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._watcher.tidy)
