"""Unpacking in processes: each lane has a child of its own, fed over a pipe.

The children (`unpacker.py`) import only what unpacking needs, and end with the daemon: at the end of their
input, and by the kernel when the daemon is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgpack

from pkgc_daemon.archives.manifest import head_from_bytes
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.lanes import Growth, Job, Lane, Unpacked
from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.rows import TreeRow
from pkgc_daemon.store.unpacker import read_frame, write_frame
from pkgc_daemon.store.workers import ThreadWorkers

#: Seconds that a child has to end after its input has ended.
_FAREWELL = 10.0


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

    def _lanes(self) -> Sequence[Lane]:
        return [ChildLane() for _ in range(self.count)]

    def children(self) -> list[int]:
        """Process ids of those that run."""
        return [lane.pid for lane in self._every if isinstance(lane, ChildLane) and lane.pid]


class ChildLane:
    """A lane in a child; what the child was unpacking is lost when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the child; 0: there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """See `Lane.start`."""
        self._child()

    def rest(self) -> None:
        """See `Lane.rest`: a child that has worked keeps tens of megabytes."""
        child, self._process = self._process, None
        if child is not None:
            _end(child)

    def _child(self) -> subprocess.Popen[bytes]:
        """The child; a new one when there is none or it has died."""
        child = self._process
        if child is not None and child.poll() is not None:
            _end(child)
            child = None
        if child is None:
            # The kernel ends it with the thread that starts it, which lives as long as the pool: unpacker.py.
            child = self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "pkgc_daemon.store.unpacker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return child

    def build(self, job: Job, number: int | None) -> Unpacked:
        """See `Lane.build`."""
        request = {"do": "build", "job": list(job), "number": number}
        answer = self._ask(request) or self._ask(request)  # a child may have been killed while it was idle
        if answer is None:
            raise PkgcError(
                "unpack-failed",
                f"{job.filename}: the process that unpacked it ended twice",
                hint="it may have run out of memory; `pkgc daemon logs` may tell more",
            )
        if "error" in answer:
            raise PkgcError.from_wire(answer["error"])
        return Unpacked(TreeRow(*answer["row"]), head_from_bytes(answer["head"]), answer["note"])

    def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `Lane.lay`."""
        # A child that died may have left half of it: it is swept at the next start.
        answer = self._ask({"do": "lay", "cache": cache, "outlays": outlays})
        notes: list[dict[str, Any] | None] = [None for _ in outlays] if answer is None else answer["notes"]
        return notes

    def advance(self, growth: Growth) -> bool:
        """See `Lane.advance`."""
        answer = self._ask({"do": "advance", "growth": list(growth)})
        return answer is not None and answer.get("goes_on") is True

    def drop(self, number: int) -> None:
        """See `Lane.drop`."""
        if self._process is not None:
            self._ask({"do": "drop", "number": number})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Have the child do it; None when it ended without an answer."""
        child = self._child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            write_frame(child.stdin, msgpack.packb(request, unicode_errors="surrogateescape"))
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
        """See `Lane.close`: a child that ends throws away what it has."""
        if self._process is not None:
            _end(self._process)


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
