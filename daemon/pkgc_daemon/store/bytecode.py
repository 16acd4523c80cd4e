"""Bytecode of trees: compiled once for each kind of interpreter, kept in the store, used by all environments.

`ensure` compiles now, for a sync that waits; `want` notes what would be of use, and `run` compiles it while
nobody waits.  Whatever goes wrong here costs time only: what has no bytecode is compiled where it is
installed, or by Python itself.  On disk it is `compiled`, the compiler is `compiling`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import compiled
from pkgc_daemon.store.compiled import Compiled, key_of
from pkgc_daemon.store.compiling import Batch, Job, most_lanes, run_lane
from pkgc_daemon.store.filesystem import remove_tree
from pkgc_daemon.store.layout import Layout

_LOG = logging.getLogger(__name__)

#: Times that a tree is wanted with one kind of interpreter before it is compiled unasked.
WANTED = 2
#: Trees and kinds whose demand is remembered.
MAX_WANTED = 4_000
#: Priority of what nobody waits for.
_LOWEST = 19
#: Seconds between two looks whether a call still runs.
_IDLE_POLL = 0.05

_Item = tuple[str, str]
"""sha256 of the tree's wheel, key."""
_Size = tuple[int, int]
"""Files, bytes."""


class Bytecode:
    """The bytecode of one store. For the event loop's thread; made by `open`.

    Args:
        layout: of the store.
        boot: id of the running boot.
        there: keys by tree.
        unsynced: some of it is not on the disk for certain.
    """

    def __init__(self, layout: Layout, boot: str, there: Mapping[str, Iterable[str]], unsynced: bool) -> None:
        self.enabled = True
        """False: none is kept, made or used (`cache.bytecode = "off"`)."""
        self.on_compiled: Callable[[str, str], None] | None = None
        """Called on the loop with (sha256, key) of each tree that was compiled."""
        self.compiled = 0
        """Trees that were compiled since the daemon began."""
        self._layout = layout
        self._boot = boot
        self._there: dict[str, dict[str, _Size | None]] = {
            sha256: dict.fromkeys(keys) for sha256, keys in there.items()
        }
        self._unsynced = int(unsynced)
        self._guard = threading.Lock()
        """Held while something is published or taken away: memory and disk change together."""
        self._generations: Counter[str] = Counter()
        """How often a tree's bytecode was dropped: what was begun before is not published after."""
        self._hopeless: set[_Item] = set()
        self._flights: dict[_Item, tuple[Batch, asyncio.Task[None]]] = {}
        self._urgent = 0
        """Syncs that wait."""
        self._behind: tuple[Batch, asyncio.Task[None]] | None = None
        self._wanted: OrderedDict[_Item, int] = OrderedDict()
        self._queue: OrderedDict[_Item, str] = OrderedDict()
        self._changed = asyncio.Event()
        self._pool = ThreadPoolExecutor(max(2, most_lanes()), thread_name_prefix="pkgc-compile")

    @classmethod
    def open(cls, layout: Layout, boot: str, has_tree: Callable[[str], bool]) -> Bytecode:
        """What an earlier daemon has left, without what is of no use any more. Blocks."""
        return cls(layout, boot, *compiled.adopt(layout, boot, has_tree, _LOG.warning))

    # -- using -----------------------------------------------------------------------------------------

    def path(self, sha256: str, key: str | None) -> str | None:
        """The folder of a tree's bytecode (`compiled`), when it is complete. From memory.

        Args:
            key: `compiled.key_of` the interpreter.
        """
        if not self.enabled or key is None or key not in self._there.get(sha256, ()):
            return None
        return str(self._layout.compiled(sha256, key))

    async def ensure(self, sha256s: Iterable[str], interpreter: Mapping[str, Any]) -> None:
        """Compile what has no bytecode, now; at most one compilation of a tree and kind at a time.

        What cannot be compiled is said in the log; `path` then still gives None.

        Args:
            sha256s: trees, which the caller has leased.
            interpreter: the answer of its probe.
        """
        key, executable = key_of(interpreter), _compiler(interpreter)
        if key is None or not executable:
            return
        missing = [one for one in dict.fromkeys(sha256s) if self._is_missing(one, key)]
        if not missing:
            return
        self._urgent += 1
        try:
            await self._interrupt()
            await self._ensure(missing, key, executable)
        finally:
            self._urgent -= 1

    async def _ensure(self, missing: Sequence[str], key: str, executable: str) -> None:
        flights: dict[int, tuple[Batch, asyncio.Task[None]]] = {}
        alone = [one for one in missing if self._is_missing(one, key) and not self._is_coming(one, key)]
        if alone:
            self._begin(Batch(key, executable, self._jobs(alone)))
        for sha256 in missing:
            flight = self._flights.get((sha256, key))
            if flight is not None:
                flights[id(flight[0])] = flight
        await _wait(flights.values())

    def _is_missing(self, sha256: str, key: str) -> bool:
        """Whether it is to be compiled, if somebody wants it."""
        return self.enabled and self.path(sha256, key) is None and (sha256, key) not in self._hopeless

    def _is_coming(self, sha256: str, key: str) -> bool:
        flight = self._flights.get((sha256, key))
        return flight is not None and not flight[0].stop.is_set()

    def _jobs(self, sha256s: Iterable[str]) -> list[Job]:
        return [Job(one, self._generations[one], self._layout.draft()) for one in sha256s]

    def _begin(self, batch: Batch) -> tuple[Batch, asyncio.Task[None]]:
        flight = batch, asyncio.create_task(self._compile(batch), name="compile trees")
        for job in batch.jobs:
            self._flights[job.sha256, batch.key] = flight
        return flight

    async def _compile(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()

        def done(job: Job) -> None:
            if self._publish(job, batch.key):
                loop.call_soon_threadsafe(self._tell, job.sha256, batch.key)

        try:
            await loop.run_in_executor(self._pool, self._prepare, batch, done)
            lanes = (loop.run_in_executor(self._pool, run_lane, batch, done) for _ in range(batch.lanes()))
            ends = await asyncio.gather(*lanes, return_exceptions=True)
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
            if batch.problem:
                _LOG.warning("nothing was compiled: %s", batch.problem)
            for job in batch.jobs:
                if job.problem:
                    _LOG.warning("the tree %s was not compiled: %s", job.sha256, job.problem)
                if job.hopeless:
                    self._hopeless.add((job.sha256, batch.key))
        except (OSError, PkgcError) as error:  # a full disk: the sync goes on without
            _LOG.warning("compiling ended early: %s", error)
        finally:
            batch.stop.set()
            for job in batch.jobs:
                flight = self._flights.get((job.sha256, batch.key))
                if flight is not None and flight[0] is batch:
                    del self._flights[job.sha256, batch.key]
            await asyncio.to_thread(_sweep, batch)

    def _prepare(self, batch: Batch, done: Callable[[Job], None]) -> None:
        for job in batch.jobs:
            try:
                job.prepare(self._layout)
            except (OSError, PkgcError) as error:
                job.problem = str(error)
                job.units.clear()
                continue
            if not job.units:
                done(job)  # nothing to compile is complete, too
        batch.fill()

    def _publish(self, job: Job, key: str) -> bool:
        """Put what was compiled into place, unless its tree was dropped meanwhile. In a thread."""
        files = tuple(sorted(job.made))
        compiled.finish(self._layout, job.draft, Compiled(files, job.tree, job.whole))
        with self._guard:
            if self._generations[job.sha256] != job.generation:
                return False
            if not self._unsynced:
                compiled.mark(self._layout, self._boot)
            self._unsynced += 1
            compiled.publish(self._layout, job.draft, job.sha256, key)
            self.compiled += 1
            size = (len(files), sum(entry.size for entry in files))
            self._there.setdefault(job.sha256, {})[key] = size
        return True

    def _tell(self, sha256: str, key: str) -> None:
        if self.on_compiled is not None:
            self.on_compiled(sha256, key)

    # -- while nobody waits ----------------------------------------------------------------------------

    def want(self, sha256s: Iterable[str], interpreter: Mapping[str, Any]) -> None:
        """Note that a sync would have used bytecode of these trees: from the second time on `run` makes it.

        Args:
            sha256s: trees.
            interpreter: the answer of its probe.
        """
        key, executable = key_of(interpreter), _compiler(interpreter)
        if key is None or not executable:
            return
        for sha256 in sha256s:
            if not self._is_missing(sha256, key):
                continue
            count = self._wanted.pop((sha256, key), 0) + 1
            self._wanted[sha256, key] = count
            if count >= WANTED:
                self._queue[sha256, key] = executable
        while len(self._wanted) > MAX_WANTED:
            self._queue.pop(self._wanted.popitem(last=False)[0], None)
        if self._queue:
            self._changed.set()

    async def run(self, idle: Callable[[], bool]) -> None:
        """Compile what is wanted, for ever, while nobody waits.

        Args:
            idle: whether no call is running; asked before each tree.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._queue:
                while self._urgent or not idle():  # noqa: ASYNC110
                    await asyncio.sleep(_IDLE_POLL)
                await self._one_batch(lambda: bool(self._urgent) or not idle())

    async def _one_batch(self, pause: Callable[[], bool]) -> None:
        """Compile what is wanted for one kind of interpreter, until `pause`; the rest stays wanted."""
        kind = next(iter(self._queue.items()))
        key, executable = kind[0][1], kind[1]
        chosen = [item for item in self._queue if item[1] == key]
        for item in chosen:
            del self._queue[item]
        missing = [item[0] for item in chosen if self._is_missing(*item) and not self._is_coming(*item)]
        if not missing:
            return
        batch = Batch(key, executable, self._jobs(missing), nice=_LOWEST, pause=pause)
        self._behind = self._begin(batch)
        try:
            await asyncio.wait([self._behind[1]])
        finally:
            batch.stop.set()
            self._behind = None
        for job in batch.jobs:
            if batch.problem or job.problem or not job.left:
                continue
            if self._is_missing(job.sha256, key):
                self._queue[job.sha256, key] = executable

    async def _interrupt(self) -> None:
        """Make way for a sync that waits."""
        behind = self._behind
        if behind is not None:
            behind[0].stop.set()
            await asyncio.wait([behind[1]])

    # -- keeping order ---------------------------------------------------------------------------------

    async def drop(self, sha256: str) -> None:
        """Remove the bytecode of a tree: before the tree goes, or because it is damaged itself."""
        await asyncio.to_thread(self._drop, sha256)

    def _drop(self, sha256: str) -> None:
        with self._guard:
            self._generations[sha256] += 1
            self._hopeless = {item for item in self._hopeless if item[0] != sha256}
            if self._there.pop(sha256, None) is None:
                return
            away = self._layout.draft()
            try:
                self._layout.compiled(sha256, "").rename(away)
            except FileNotFoundError:
                return
        remove_tree(away)

    def trees(self) -> list[str]:
        """The trees that have any."""
        return list(self._there)

    def size_of(self, sha256: str) -> _Size:
        """(files, bytes) of one tree's; nothing of what `measure` has not looked at."""
        sizes = [size for size in self._there.get(sha256, {}).values() if size is not None]
        return sum(size[0] for size in sizes), sum(size[1] for size in sizes)

    async def measure(self) -> None:
        """Learn the sizes of what an earlier daemon has left."""
        unknown = [
            (sha256, key)
            for sha256, keys in self._there.items()
            for key, size in keys.items()
            if size is None
        ]
        if not unknown:
            return
        found = await asyncio.to_thread(compiled.measure, self._layout, unknown)
        for sha256, key in unknown:
            if key in self._there.get(sha256, {}):
                self._there[sha256][key] = found.get((sha256, key), (0, 0))

    async def size(self) -> dict[str, int]:
        """``{"files", "bytes"}``."""
        await self.measure()
        sizes = [self.size_of(sha256) for sha256 in self._there]
        return {"files": sum(size[0] for size in sizes), "bytes": sum(size[1] for size in sizes)}

    def find_damage(self, sha256: str) -> str | None:
        """The full check of a tree's bytecode. Blocks."""
        for key in list(self._there.get(sha256, ())):
            problem = compiled.find_damage(str(self._layout.compiled(sha256, key)))
            if problem is not None and key in self._there.get(sha256, ()):
                return problem
        return None

    @property
    def unsynced(self) -> int:
        """Not 0: something may not be on the disk; to be given to `synced` after a sync of the filesystem."""
        return self._unsynced

    def synced(self, count: int) -> None:
        """What was `unsynced` then is on the disk. Blocks."""
        with self._guard:
            if self._unsynced == count:
                compiled.unmark(self._layout)
                self._unsynced = 0

    async def close(self) -> None:
        """Stop what runs, and wait for its end; nothing begins any more."""
        self.enabled = False
        self._queue.clear()
        running = list({id(batch): (batch, task) for batch, task in self._flights.values()}.values())
        for batch, _task in running:
            batch.stop.set()
        await asyncio.gather(*(task for _batch, task in running), return_exceptions=True)
        self._pool.shutdown(wait=False)


def _compiler(interpreter: Mapping[str, Any]) -> str:
    """Outside of the environment: nothing that was installed into that has a say in it."""
    return str(interpreter.get("base_executable") or "")


async def _wait(flights: Iterable[tuple[Batch, asyncio.Task[None]]]) -> None:
    """Wait for all; a batch that nobody waits for any more is stopped."""
    waited = list(flights)
    if not waited:
        return
    for batch, _task in waited:
        batch.waiting += 1
    try:
        await asyncio.wait([task for _batch, task in waited])
    finally:
        for batch, _task in waited:
            batch.waiting -= 1
            if not batch.waiting:
                batch.stop.set()


def _sweep(batch: Batch) -> None:
    """Remove drafts that were not published."""
    for job in batch.jobs:
        remove_tree(job.draft)
