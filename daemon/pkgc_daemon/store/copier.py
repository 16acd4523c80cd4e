"""The child that makes ready copies: `python -m pkgc_daemon.store.copier PARENT WATCHER`.

It serves its standard input until that ends, one copy at a time, and never outlives the daemon.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgpack

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import trees
from pkgc_daemon.store.compiled import BytecodeError, Compiled, identity, read
from pkgc_daemon.store.copying import CopyError, make_copy
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.unpacker import die_with, read_frame, write_frame
from pkgc_daemon.store.watching import Watcher, add_watch


def serve(stream: IO[bytes], answers: IO[bytes], watcher: Watcher) -> None:
    """Make the copies that `stream` names, until it ends."""
    while (frame := read_frame(stream)) is not None:
        job = msgpack.unpackb(frame, unicode_errors="surrogateescape")
        cache, sha256, target, umask, records, bytecode, room = job
        layout = Layout(Path(cache))
        answer: dict[str, Any]
        old = os.umask(0)  # this process's own: it does nothing else
        try:
            manifest = trees.read_manifest(layout, sha256)
            compiled = _bytecode(layout, sha256, bytecode)
            root = str(layout.tree_root(sha256))
            # Perhaps somebody has emptied the cache by hand.
            os.makedirs(layout.ready, 0o700, exist_ok=True)
            watch = partial(add_watch, watcher.descriptor)
            answer = make_copy(target, umask, manifest, root, compiled, records, watch, watcher.forget, room)
        except (CopyError, PkgcError, OSError, ValueError) as error:
            shutil.rmtree(target, ignore_errors=True)
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            os.umask(old)
        write_frame(answers, msgpack.packb(answer, unicode_errors="surrogateescape"))


def _bytecode(layout: Layout, sha256: str, folder: str | None) -> tuple[str, Compiled] | None:
    """Bytecode that was made of this unpacking of the wheel; a copy without any is good, too."""
    if folder is None:
        return None
    try:
        compiled = read(folder)
    except BytecodeError:
        return None
    if compiled.tree != identity(layout.manifest(sha256).read_bytes()):
        return None
    return f"{folder}/root", compiled


def main() -> None:
    """Serve standard input; whatever else prints goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(int(sys.argv[1]))
    watcher = Watcher(int(sys.argv[2]))
    with contextlib.suppress(OSError):
        os.nice(19)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers, watcher)


if __name__ == "__main__":
    main()
