"""Outlays: who asked for what to be laid out, where, and what becomes of it; the linking is `laying`'s.

An outlay belongs to the call that asked for it. When that call has ended before it is there, it is removed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.ready import Taken
from pkgc_daemon.store.workers import Job, Outlay, Workers


@dataclass(eq=False, slots=True)
class Laying:
    """What one call wants of one tree."""

    umask: int
    """Of whom the environment belongs to: it decides the modes of folders and records."""
    records: Mapping[str, bytes]
    """What the installation is expected to write into .dist-info, RECORD excepted."""
    made: Taken | None = None
    """What was laid out: the caller's from then on."""
    given_up: bool = False
    """The call has ended: what comes now is for nobody."""


class Outlays:
    """The outlays of one store. For the event loop's thread.

    Args:
        layout: of the store.
        workers: they make them.
        discard: removes what is left of some.
        reflinks: whether files can share blocks here, which is better than to share inodes: then there are no
            outlays.
    """

    def __init__(
        self,
        layout: Layout,
        workers: Workers,
        discard: Callable[[Iterable[Taken]], None],
        *,
        reflinks: bool,
    ) -> None:
        self._layout = layout
        self._workers = workers
        self._discard = discard
        self._possible = workers.lays and not reflinks

    def order(self, sha256: str, laying: Laying | None) -> Outlay | None:
        """What a worker is told."""
        if laying is None or laying.given_up or not self._possible:
            return None
        target = self._layout.ready / f"{sha256}.{secrets.token_hex(4)}"
        return Outlay(str(target), laying.umask, dict(laying.records))

    def deliver(self, laying: Laying | None, outlay: Outlay | None, note: Mapping[str, Any] | None) -> None:
        """A worker has answered: with the note, if it was made."""
        if laying is None or outlay is None or note is None:
            return
        made = Taken(outlay.target, note, ())
        if laying.given_up:
            self._discard([made])
        else:
            laying.made = made

    async def lay(self, sha256: str, laying: Laying) -> None:
        """Lay out a tree that is there; nothing comes of it if that cannot be done."""
        outlay = self.order(sha256, laying)
        if outlay is not None:
            job = Job(str(self._layout.root), "", "", sha256, "", 0, outlay)
            # Not cancelled with the call: somebody has to remove what the worker makes.
            task = asyncio.create_task(self._workers.lay(job))
            task.add_done_callback(lambda task: self.deliver(laying, outlay, _result(task)))
            await asyncio.wait([task])

    def give_up(self, layings: Iterable[Laying]) -> None:
        """A call has ended: what it has not used, and what still comes, is removed."""
        there = []
        for laying in layings:
            laying.given_up = True
            if laying.made is not None:
                there.append(laying.made)
                laying.made = None
        self._discard(there)


def _result(task: asyncio.Task[dict[str, Any] | None]) -> dict[str, Any] | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
