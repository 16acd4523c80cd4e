"""Unpacking in processes: each thread of the pool has a child of its own, fed over a pipe.

The children (`unpacker.py`) import only what unpacking needs, and end with the daemon: at the end of their
input, and by the kernel when the daemon is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees
from pkgc_daemon.store.catalog import TreeRow
from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.unpacker import read_frame, write_frame
from pkgc_daemon.store.workers import Job, ThreadWorkers, Unpacked

#: Seconds that a child has to end after its input has ended.
_FAREWELL = 10.0
#: Seconds to wait for all threads when the children are started ahead.
_START = 20.0


def default_count() -> int:
    """Children to have: PKGC_UNPACK_PROCESSES, else the processors, at most 4; 0 means threads."""
    given = os.environ.get("PKGC_UNPACK_PROCESSES", "")
    return int(given) if given.isdigit() else min(4, os.cpu_count() or 1)


class ProcessWorkers(ThreadWorkers):
    """`Workers` whose unpacking happens in children.

    Args:
        count: how many children.
    """

    lays = True

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._lane = threading.local()
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """See `Workers.start`: one child for each thread."""
        together = threading.Barrier(self.count)

        def prepare() -> None:
            self._child()
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(_START)  # so that each thread of the pool takes one of these

        for _ in range(self.count):
            self._pool.submit(prepare)

    def _child(self) -> subprocess.Popen[bytes]:
        """This thread's child; a new one when there is none or it has died."""
        child: subprocess.Popen[bytes] | None = getattr(self._lane, "child", None)
        if child is not None and child.poll() is not None:
            _end(child)
            child = None
        if child is None:
            # The kernel ends it with this thread, which lives as long as the pool: see unpacker.py.
            child = subprocess.Popen(
                [sys.executable, "-I", "-m", "pkgc_daemon.store.unpacker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._lane.child = child
            with self._guard:
                self._children = [one for one in self._children if one.poll() is None] + [child]
        return child

    def _unpack(self, job: Job) -> Unpacked:
        told = ["unpack", *job]
        answer = self._ask(told) or self._ask(told)  # a child may have been killed while it was idle
        if answer is None:
            raise PkgcError(
                "unpack-failed",
                f"{job.filename}: the process that unpacked it ended twice",
                hint="it may have run out of memory; `pkgc daemon logs` may tell more",
            )
        if "error" in answer:
            raise PkgcError.from_wire(answer["error"])
        manifest = trees.read_manifest(Layout(Path(job.cache)), job.sha256)
        return Unpacked(TreeRow(*answer["row"]), manifest, answer["note"])

    def _lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        # A child that died may have left half of it: it is swept at the next start.
        answer = self._ask(["lay", cache, outlays])
        notes: list[dict[str, Any] | None] = [None for _ in outlays] if answer is None else answer["notes"]
        return notes

    def _ask(self, job: Sequence[Any]) -> dict[str, Any] | None:
        """Have the child do it; None when it ended without an answer."""
        child = self._child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            write_frame(child.stdin, msgpack.packb(job, unicode_errors="surrogateescape"))
            frame = read_frame(child.stdout)
        except OSError:
            frame = None
        if frame is None:
            child.kill()
            _end(child)
            return None
        answer = msgpack.unpackb(frame, unicode_errors="surrogateescape", use_list=False)
        return answer if isinstance(answer, dict) else None

    def close(self) -> None:
        """See `Workers.close`."""
        super().close()
        for child in self._children:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a child, which ends it, and wait until it is gone."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not written is for nobody
                pipe.close()
    try:
        child.wait(_FAREWELL)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
