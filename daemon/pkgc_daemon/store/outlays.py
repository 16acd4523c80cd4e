"""Outlays: who asked for what to be laid out, where, and what becomes of it; the linking is `laying`'s.

An outlay belongs to the call that asked for it. When that call has ended before it is there, it is removed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.ready import Taken
from pkgc_daemon.store.workers import Workers

#: Files that one worker is told to lay out at once: less, and telling costs more than sharing the work gains.
FILES_AT_ONCE = 1_500


@dataclass(eq=False, slots=True)
class Laying:
    """What one call wants of one tree."""

    umask: int
    """Of whom the environment belongs to: it decides the modes of folders and records."""
    records: Mapping[str, bytes]
    """What the installation is expected to write into .dist-info, RECORD excepted."""
    asked_at: float = 0.0
    """When the call began (`time.monotonic`): a tree that was compared since then need not be once more."""
    bytecode: str | None = None
    """Folder of the bytecode that goes with it."""
    ordered: bool = False
    """A worker was told: the call whose wheel another one has unpacked is not the one."""
    taken: Taken | None = None
    """What was laid out: the caller's from then on."""
    given_up: bool = False
    """The call has ended: what comes now is for nobody."""


class Outlays:
    """The outlays of one store. For the event loop's thread.

    Args:
        layout: of the store.
        workers: they make them.
        discard: removes what is left of some.
        files_of: how many files a tree has.
        reflinks: whether files can share blocks here, which is better than to share inodes: then there are no
            outlays.
    """

    def __init__(
        self,
        layout: Layout,
        workers: Workers,
        discard: Callable[[Iterable[Taken]], None],
        files_of: Callable[[str], int],
        *,
        reflinks: bool,
    ) -> None:
        self._layout = layout
        self._workers = workers
        self._discard = discard
        self._files_of = files_of
        self.possible = workers.lays and not reflinks

    def order(self, sha256: str, laying: Laying | None) -> Outlay | None:
        """What a worker is told."""
        if laying is None or laying.given_up or not self.possible:
            return None
        target = self._layout.ready / f"{sha256}.{secrets.token_hex(4)}"
        laying.ordered = True
        return Outlay(str(target), laying.umask, dict(laying.records), laying.asked_at, laying.bytecode)

    def deliver(self, laying: Laying | None, outlay: Outlay | None, note: Mapping[str, Any] | None) -> None:
        """A worker has answered."""
        if laying is None or outlay is None or note is None:
            return
        taken = Taken(outlay.target, note, ())
        if laying.given_up:
            self._discard([taken])
        else:
            laying.taken = taken

    async def lay(self, layings: Mapping[str, Laying]) -> None:
        """Lay out trees that are there, by digest; one has nothing afterwards if that cannot be done."""
        batch: list[tuple[str, Laying]] = []
        batches = [batch]
        files = 0
        for sha256, laying in layings.items():
            count = self._files_of(sha256)
            if batch and files + count > FILES_AT_ONCE:
                batch, files = [], 0
                batches.append(batch)
            batch.append((sha256, laying))
            files += count
        await asyncio.gather(*(self._lay(batch) for batch in batches))

    async def _lay(self, batch: Sequence[tuple[str, Laying]]) -> None:
        outlays = [(sha256, self.order(sha256, laying)) for sha256, laying in batch]
        told = [(sha256, outlay) for sha256, outlay in outlays if outlay is not None]
        if not told:
            return
        # Not cancelled with the call: somebody has to remove what the worker makes.
        task = asyncio.create_task(self._workers.lay(str(self._layout.root), told))

        def made(task: asyncio.Task[list[dict[str, Any] | None]]) -> None:
            failed = task.cancelled() or task.exception() is not None
            notes = iter([] if failed else task.result())
            for (_, laying), (_, outlay) in zip(batch, outlays, strict=True):
                if outlay is not None:
                    self.deliver(laying, outlay, next(notes, None))

        task.add_done_callback(made)
        await asyncio.wait([task])

    def give_up(self, layings: Iterable[Laying]) -> None:
        """A call has ended: what it has not used, and what still comes, is removed."""
        there = []
        for laying in layings:
            laying.given_up = True
            if laying.taken is not None:
                there.append(laying.taken)
                laying.taken = None
        self._discard(there)
