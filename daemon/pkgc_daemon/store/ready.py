"""Ready copies: trees copied ahead of time, to be renamed into an environment; which to have, and how many.

A copy serves one environment. What was wanted lately is copied anew while nobody waits: one copy after the
other, in a process of the lowest priority, within bounds. A copy that anybody has touched meanwhile is not
used (`store.watching`). Nothing of this survives a restart: copies are swept at start, and made again once
somebody syncs. Losing one costs time, never truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from pkgc_daemon.store.filesystem import remove_tree
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.unpacker import read_frame, write_frame
from pkgc_daemon.store.watching import Watcher, open_watcher, watch_limit

_LOG = logging.getLogger(__name__)

#: Files and folders, and bytes of their own, that all ready copies may have together.
MAX_INODES, MAX_BYTES = 300_000, 2 << 30
#: Trees whose demand is remembered; copies that one tree may have.
MAX_TREES, MAX_COPIES = 2_000, 4
#: Folders that are watched: each takes about a kilobyte of the kernel's memory.
MAX_WATCHES = 20_000
#: Bytes that stay free on the file system: copies only save time, and a sync may need them.
MIN_FREE = 1 << 30
#: Seconds without a job after which the copier ends.
LINGER = 10.0


@dataclass(slots=True, eq=False)
class _Copy:
    path: Path
    umask: int
    key: str | None
    """Kind of interpreter whose bytecode is in it."""
    note: dict[str, Any]
    inode: int
    inodes: int
    bytes: int
    watches: tuple[int, ...]


@dataclass(slots=True)
class _Demand:
    """What is known of one tree: who would want a copy, and the copies there are."""

    umask: int
    records: Mapping[str, bytes]
    """Files of .dist-info that the last installation wrote."""
    key: str | None
    """Kind of interpreter that it was for (`compiled.key_of`)."""
    wanted: int = 1
    """Copies to have: more where one was missing lately."""
    failed: bool = False
    """Lately, and nobody has wanted it since."""
    bytes: int = 0
    """Of its last copy."""
    copies: list[_Copy] = field(default_factory=list)


class Used(NamedTuple):
    """A tree that a sync installed."""

    sha256: str
    found: bool
    """There was a ready copy of it."""
    records: Mapping[str, bytes]
    """What the installation wrote into .dist-info, RECORD excepted."""


class Taken(NamedTuple):
    """A ready copy that belongs to whoever took it."""

    path: str
    note: Mapping[str, Any]
    """See `store.copying`."""
    watches: Sequence[int]


class ReadyCopies:
    """The ready copies of one store. For the event loop's thread; `take` looks once at each copy.

    Args:
        layout: of the store.
        has_tree: whether a tree is there and trusted.
        bytecode: where the bytecode of a tree lies for a kind of interpreter, if there is any.
        watched: whether the kernel tells of every change on the store's file system; else files are compared.
    """

    def __init__(
        self,
        layout: Layout,
        has_tree: Callable[[str], bool],
        bytecode: Callable[[str, str | None], str | None] = lambda _sha256, _key: None,
        *,
        watched: bool = True,
    ) -> None:
        self.enabled = True
        self._layout = layout
        self._has_tree = has_tree
        self._bytecode = bytecode
        self._watches = watched
        self._demands: OrderedDict[str, _Demand] = OrderedDict()
        """By sha256 of the wheel, the one that was wanted last at the end."""
        self._inodes = 0
        self._bytes = 0
        self._room = MAX_BYTES
        self._child: subprocess.Popen[bytes] | None = None
        self._used_at = 0.0
        self._changed = asyncio.Event()
        self._watcher: Watcher | None = None
        self._watched: dict[int, _Copy] = {}
        self._closed = False
        self._making = False
        self._strange: set[int | None] = set()
        """Touched, and of no copy: perhaps of the one that is being made."""

    def take(self, sha256s: Iterable[str], umask: int, key: str | None = None) -> dict[str, Taken]:
        """Copies for one environment, the caller's from now on, by digest; what has none is absent.

        Args:
            sha256s: of the wheels.
            umask: of the environment's owner.
            key: kind of its interpreter.
        """
        self._mind_touched()
        taken: dict[str, Taken] = {}
        for sha256 in sha256s:
            demand = self._demands.get(sha256)
            if demand is None:
                continue
            fitting = [one for one in demand.copies if one.umask == umask and one.key in (None, key)]
            for copy in fitting:
                demand.copies.remove(copy)
                if not _is_there(copy):
                    _LOG.warning("the ready copy %s was taken away by another program", copy.path.name)
                    self._remove([copy])
                    continue
                self._forget(copy)
                taken[sha256] = Taken(str(copy.path), copy.note, copy.watches)
                break
        return taken

    def want(self, used: Iterable[Used], umask: int, key: str | None = None) -> None:
        """Note what a sync used.

        Args:
            used: the trees.
            umask: of the environment's owner.
            key: kind of its interpreter.
        """
        if not self.enabled:
            return
        for sha256, found, records in used:
            demand = self._demands.get(sha256)
            if demand is None:
                demand = self._demands[sha256] = _Demand(umask, records, key)
            elif not found and not demand.copies and demand.wanted < MAX_COPIES:
                demand.wanted += 1
            if all(copy.umask != umask or copy.key not in (None, key) for copy in demand.copies):
                # Else copies that nobody takes any more would be all that there ever is.
                self._remove_of(demand)
            demand.umask, demand.records, demand.key, demand.failed = umask, records, key, False
            self._demands.move_to_end(sha256)
        while len(self._demands) > MAX_TREES:
            _, old = self._demands.popitem(last=False)
            self._remove(old.copies)
        self._changed.set()

    def forget(self, sha256s: Iterable[str]) -> None:
        """Trees are going away, and with them their copies."""
        for sha256 in sha256s:
            demand = self._demands.pop(sha256, None)
            if demand is not None:
                self._remove(demand.copies)

    def renew(self, sha256: str, key: str) -> None:
        """Make the copies of a tree anew: there is bytecode of this kind now."""
        demand = self._demands.get(sha256)
        if demand is not None and demand.key == key:
            self._remove_of(demand)
            self._changed.set()

    def clear(self) -> None:
        """Remove every copy; what is wanted stays known."""
        for demand in self._demands.values():
            self._remove_of(demand)

    def shrink(self, room: int) -> None:
        """Have at most `room` bytes from now on; what was wanted least lately goes first."""
        self._room = min(MAX_BYTES, max(0, room))
        for demand in self._demands.values():
            if self._bytes <= self._room:
                break
            self._remove_of(demand)

    def discard(self, taken: Iterable[Taken]) -> None:
        """Remove what is left of copies that were taken."""
        there = list(taken)
        if there:
            self._remove_later([one.path for one in there], [one.watches for one in there])

    def size(self) -> dict[str, int]:
        """``{"copies", "files", "bytes"}``: what they have beyond what they share with trees."""
        copies = sum(len(demand.copies) for demand in self._demands.values())
        return {"copies": copies, "files": self._inodes, "bytes": self._bytes}

    async def refill(self, idle: Callable[[], bool]) -> None:
        """Make copies for ever, whenever some are missing and nobody waits.

        Args:
            idle: whether no call is running; asked before each copy.
        """
        while True:
            if self._child is not None:
                left = max(0.1, self._used_at + LINGER - time.monotonic())
                try:
                    # Not `wait_for`: before Python 3.12 it may lose the cancellation that ends this.
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    await asyncio.to_thread(self._end_child)
                    continue
            else:
                await self._changed.wait()
            self._changed.clear()
            while (missing := self._missing()) is not None:
                while not idle():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                await self._make(*missing)

    def close(self) -> None:
        """End the copier and the watching. Blocks until they are gone."""
        self._closed = True
        self._end_child()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            # First: whoever waits for its answer holds the pipe, and closing that would wait for him.
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _mind_touched(self) -> None:
        """Give up copies in which anything has happened since they were made."""
        if self._watcher is None:
            return
        for number in self._watcher.touched():
            if number is None:
                _LOG.warning("too much has happened in the ready copies: all are made anew")
                self.clear()
                self._changed.set()
            copy = self._watched.get(number) if number is not None else None
            if copy is None:
                if self._making:
                    self._strange.add(number)
                continue
            _LOG.warning("the ready copy %s was changed by another program and is removed", copy.path.name)
            for demand in self._demands.values():
                if copy in demand.copies:
                    demand.copies.remove(copy)
                    self._remove([copy])
                    self._changed.set()
                    break

    def _missing(self) -> tuple[str, _Demand] | None:
        """The tree to copy next: the one that was wanted last, first its first copy."""
        for count in range(MAX_COPIES):
            for sha256 in reversed(self._demands):
                demand = self._demands[sha256]
                if demand.failed or not len(demand.copies) == count < demand.wanted:
                    continue
                if not self._disk_has_room():
                    return None
                if self._has_room(demand, replacing=count == 0):
                    return sha256, demand
        return None

    def _disk_has_room(self) -> bool:
        try:
            found = os.statvfs(self._layout.root)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize >= MIN_FREE

    def _has_room(self, demand: _Demand, *, replacing: bool) -> bool:
        """Whether one more copy may be made.

        Args:
            replacing: copies of trees that nobody has wanted for longer may go for it.
        """
        if demand.bytes >= self._room:
            return False
        others = iter(self._demands.values())
        while self._inodes >= MAX_INODES or self._bytes + demand.bytes >= self._room:
            other = next(others)
            if not replacing or other is demand:
                return False
            self._remove_of(other)
        return True

    async def _make(self, sha256: str, demand: _Demand) -> None:
        if not self._has_tree(sha256):
            self.forget([sha256])
            return
        path = self._layout.ready / f"{sha256}.{secrets.token_hex(4)}"
        umask, key = demand.umask, demand.key
        bytecode = self._bytecode(sha256, key)
        job = [str(self._layout.root), sha256, str(path), umask, dict(demand.records), bytecode]
        self._strange.clear()
        self._making = True
        try:
            answer = await asyncio.to_thread(self._ask, job)
            self._mind_touched()
        finally:
            self._making = False
        self._used_at = time.monotonic()
        if answer is None or "error" in answer:
            demand.failed = True
            _LOG.warning("no ready copy of %s: %s", sha256, (answer or {}).get("error", "the copier ended"))
            return
        watches = tuple(answer["watches"] or ())
        note, inode, inodes, size = (answer[name] for name in ("note", "inode", "inodes", "bytes"))
        holds = key if note["bytecode"] is not None else None
        copy = _Copy(path, umask, holds, note, inode, inodes, size, watches)
        self._inodes += copy.inodes
        self._bytes += copy.bytes
        demand.bytes = copy.bytes
        self._watched.update((number, copy) for number in watches)
        if not self._strange.isdisjoint((*watches, None)):
            _LOG.warning("the ready copy %s was changed while it was made and is removed", path.name)
            demand.failed = True
            self._remove([copy])
        elif self._demands.get(sha256) is demand and umask == demand.umask:
            # One note for all copies that say the same: it is most of what a copy costs in memory.
            copy.note = next((one.note for one in demand.copies if one.note == copy.note), copy.note)
            demand.copies.append(copy)
        else:  # it was forgotten meanwhile, or is wanted otherwise
            self._remove([copy])

    def _ask(self, job: list[Any]) -> dict[str, Any] | None:
        child = self._child
        if child is None or child.poll() is not None:
            self._end_child()
            if self._watcher is None:
                self._watcher = open_watcher()
            watcher = self._watcher.descriptor if self._watcher is not None else -1
            command = [sys.executable, "-I", "-m", "pkgc_daemon.store.copier", str(os.getpid()), str(watcher)]
            try:
                child = self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=[watcher] if watcher >= 0 else [],
                )
            except OSError as error:  # no descriptors, no memory
                return {"error": str(error)}
            if self._closed:  # meanwhile
                self._end_child()
                return None
        assert child.stdin is not None
        assert child.stdout is not None
        room = 0
        if self._watches and self._watcher is not None:
            room = min(MAX_WATCHES, watch_limit()) - len(self._watched)
        try:
            write_frame(child.stdin, msgpack.packb([*job, room], unicode_errors="surrogateescape"))
            frame = read_frame(child.stdout)
        except (OSError, ValueError):
            return None
        if frame is None:
            return None
        answer = msgpack.unpackb(frame, unicode_errors="surrogateescape", use_list=False)
        return answer if isinstance(answer, dict) else None

    def _remove_of(self, demand: _Demand) -> None:
        copies, demand.copies = demand.copies, []
        self._remove(copies)

    def _forget(self, copy: _Copy) -> None:
        self._inodes -= copy.inodes
        self._bytes -= copy.bytes
        for number in copy.watches:
            self._watched.pop(number, None)

    def _remove(self, copies: Iterable[_Copy]) -> None:
        gone = list(copies)
        for copy in gone:
            self._forget(copy)
        if gone:
            self._remove_later([str(copy.path) for copy in gone], [copy.watches for copy in gone])

    def _remove_later(self, paths: Sequence[str], watches: Sequence[Sequence[int]]) -> None:
        """In a thread; what stays is swept at the next start."""
        watcher = self._watcher

        def remove() -> None:
            if watcher is not None:
                for numbers in watches:
                    watcher.forget(numbers)
            for path in paths:
                remove_tree(Path(path))

        asyncio.get_running_loop().run_in_executor(None, remove)


def _is_there(copy: _Copy) -> bool:
    """Whether its folder is the one that was made: what is watched is a folder, not a path."""
    try:
        return os.lstat(copy.path).st_ino == copy.inode
    except OSError:
        return False
