"""The tools that are measured: how each gets an empty cache, and one timed sync into an environment."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support import peertools
from tests.support.instance import Instance


@dataclass(frozen=True, slots=True)
class Call:
    """One command, ready to be run."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class Cache(Protocol):
    """A cache of one tool and what serves it."""

    def sync(self, lock: Path, venv: Path, index: str) -> Call:
        """The call that makes `venv` equal to `lock`."""

    def discard(self) -> None:
        """Stop what serves the cache and remove it."""


class PkgcCache:
    """A pkgc with its own cache; its daemon runs unless `started` is False."""

    def __init__(self, root: Path, *, started: bool = True) -> None:
        self.instance = Instance(root)
        if started:
            self.instance.ok("daemon", "start")

    def sync(self, lock: Path, venv: Path, index: str) -> Call:
        argv = self.instance.argv("sync", lock, "--venv", venv, "-i", index)
        return Call(argv, self.instance.env)

    def discard(self) -> None:
        self.instance.stop()
        shutil.rmtree(self.instance.root, ignore_errors=True)


class UvCache:
    """A cache directory of uv."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sync(self, lock: Path, venv: Path, index: str) -> Call:
        environment = peertools.uv_environment(self.root, VIRTUAL_ENV=str(venv))
        return Call(peertools.uv_sync_command(lock, index), environment)

    def discard(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class Failed(Exception):
    """A measured command failed; its output is the message."""


def timed(*calls: Call) -> float:
    """Run the calls at once and wait for all: wall-clock seconds from the first start to the last end.

    Raises:
        Failed: one of them did not end with status 0.
    """
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in calls]
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                call.argv, env=dict(call.environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            for call, output in zip(calls, outputs, strict=True)
        ]
        statuses = [process.wait() for process in processes]
        seconds = time.perf_counter() - started
        for call, status, output in zip(calls, statuses, outputs, strict=True):
            if status != 0:
                output.seek(0)
                said = output.read().decode("utf-8", "replace")
                raise Failed(f"{' '.join(call.argv)} ended with {status}:\n{said}")
        return seconds
