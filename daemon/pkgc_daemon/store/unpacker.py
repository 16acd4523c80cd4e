"""The child that unpacks: `python -m pkgc_daemon.store.unpacker PARENT`; jobs in, rows and manifests out.

It serves its standard input until that ends, one job at a time, and never outlives the daemon.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgpack

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees
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


def serve(stream: IO[bytes], answers: IO[bytes]) -> None:
    """Unpack and lay out what `stream` names, until it ends."""
    layers: dict[str, Layer] = {}
    while (frame := read_frame(stream)) is not None:
        kind, cache, *job = msgpack.unpackb(frame, unicode_errors="surrogateescape")
        layout = Layout(Path(cache))
        layer = layers.get(cache)
        if layer is None:
            layer = layers[cache] = Layer(partial(trees.read_manifest, layout))
        answer = _unpack(layout, layer, *job) if kind == "unpack" else _lay(layout, layer, *job)
        write_frame(answers, msgpack.packb(answer, unicode_errors="surrogateescape"))


def _unpack(
    layout: Layout,
    layer: Layer,
    artifact: str,
    filename: str,
    sha256: str,
    boot: str,
    _size: int,
    asked: list[Any] | None,
) -> dict[str, Any]:
    try:
        row, manifest = trees.build(layout, Path(artifact), filename, sha256, boot)
    except PkgcError as error:
        return {"error": error.to_wire()}
    note = None
    if asked is not None:
        outlay = Outlay(*asked)
        layer.wrote(manifest, outlay.asked_at)
        note = layer.lay(sha256, str(layout.tree_root(sha256)), outlay, time.monotonic())
    return {"row": list(dataclasses.astuple(row)), "note": note}


def _lay(layout: Layout, layer: Layer, outlays: list[tuple[str, list[Any]]]) -> dict[str, Any]:
    notes = [
        layer.lay(sha256, str(layout.tree_root(sha256)), Outlay(*asked), time.monotonic())
        for sha256, asked in outlays
    ]
    return {"notes": notes}


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
