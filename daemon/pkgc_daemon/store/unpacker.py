"""The child that unpacks: `python -m pkgc_daemon.store.unpacker PARENT`; a lane behind two pipes.

It serves its standard input until that ends, one request at a time, and never outlives the daemon.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgpack

from pkgc_daemon.archives.manifest import head_of, manifest_to_bytes
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees
from pkgc_daemon.store.lanes import Growth, Job, LocalLane, Unpacked
from pkgc_daemon.store.laying import Layer, Outlay
from pkgc_daemon.store.layout import Layout

_PR_SET_PDEATHSIG = 1


def read_frame(stream: IO[bytes]) -> bytes | None:
    """One frame (u32 length, bytes), or None at the end of the stream."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    length = int.from_bytes(header, "big")
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """Write one frame and flush it."""
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


class LayingLane(LocalLane):
    """A lane in a process whose umask is 0: it lays out, too."""

    def __init__(self) -> None:
        super().__init__()
        self._layers: dict[str, Layer] = {}

    def build(self, job: Job, number: int | None) -> Unpacked:
        """See `Lane.build`."""
        unpacked = super().build(job, number)
        if job.outlay is None:
            return unpacked
        layer = self._layer(job.cache)
        layer.wrote(unpacked.manifest, job.outlay.asked_at)
        root = str(Layout(Path(job.cache)).tree_root(job.sha256))
        return unpacked._replace(note=layer.lay(job.sha256, root, job.outlay, time.monotonic()))

    def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `Lane.lay`."""
        layout, layer = Layout(Path(cache)), self._layer(cache)
        return [
            layer.lay(sha256, str(layout.tree_root(sha256)), outlay, time.monotonic())
            for sha256, outlay in outlays
        ]

    def _layer(self, cache: str) -> Layer:
        layer = self._layers.get(cache)
        if layer is None:
            layer = self._layers[cache] = Layer(partial(trees.read_manifest, Layout(Path(cache))))
        return layer


def serve(stream: IO[bytes], answers: IO[bytes]) -> None:
    """Do what `stream` asks for, until it ends: the methods of `lanes.Lane`."""
    lane = LayingLane()
    try:
        while (frame := read_frame(stream)) is not None:
            answer = _answer(lane, msgpack.unpackb(frame, unicode_errors="surrogateescape"))
            write_frame(answers, msgpack.packb(answer, unicode_errors="surrogateescape"))
    finally:
        lane.close()


def _answer(lane: LayingLane, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "advance":
        return {"goes_on": lane.advance(Growth(*request["growth"]))}
    if request["do"] == "drop":
        lane.drop(request["number"])
        return {}
    if request["do"] == "lay":
        outlays = [(sha256, Outlay(*asked)) for sha256, asked in request["outlays"]]
        return {"notes": lane.lay(request["cache"], outlays)}
    job = Job(*request["job"])
    if job.outlay is not None:
        job = job._replace(outlay=Outlay(*job.outlay))
    try:
        done = lane.build(job, request["number"])
    except PkgcError as error:
        return {"error": error.to_wire()}
    head = manifest_to_bytes(head_of(done.manifest))
    return {"row": list(dataclasses.astuple(done.row)), "head": head, "note": done.note}


def die_with(parent: int) -> None:
    """Have the kernel end this process when the daemon is gone, however it went (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before the line above
            sys.exit(1)


def main() -> None:
    """Serve standard input; whatever else prints goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of `pkgc daemon run` is the daemon's to handle
    die_with(int(sys.argv[1]))
    # Modes are what each file and folder is given: those of an outlay depend on whose it will be.
    os.umask(0)
    # A wheel makes many small objects and no cycles: collecting them is a tenth of the time.
    gc.set_threshold(100_000, 50, 100)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
