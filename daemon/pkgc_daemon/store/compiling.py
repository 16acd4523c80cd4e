"""Compiling sources of trees with a target interpreter: units of work, and the children that carry them out.

A lane is one thread with one child (`compile_script`).  Lanes share the units of a batch, so that one tree of
thousands of files keeps all of them busy.  Publishing is for `bytecode` to do, after a tree's last unit.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkgc_daemon.archives.manifest import manifest_from_bytes
from pkgc_daemon.environments.running import BARE, clean_environment
from pkgc_daemon.store.compiled import identity, key_of, sources_of, tag_of
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.vocabulary import FileEntry

#: Files, and bytes of them, in one unit.
UNIT_FILES, UNIT_BYTES = 32, 400_000
#: Files for each lane: fewer do not pay for starting another interpreter.
FILES_PER_LANE = 100
#: Lanes of one batch, however many processors there are.
MAX_LANES = 8
#: Seconds after which a unit counts as one that never ends.
PATIENCE = 120.0
#: Seconds between two looks whether to stop.
_LOOK = 0.05


@dataclass(slots=True)
class Job:
    """One tree to compile."""

    sha256: str
    generation: int
    draft: Path
    root: str = ""
    tree: str = ""
    whole: bool = True
    units: list[list[list[Any]]] = field(default_factory=list)
    left: int = 0
    made: list[FileEntry] = field(default_factory=list)
    problem: str = ""
    hopeless: bool = False
    """The compiler did not survive it: trying again is of no use."""

    def prepare(self, layout: Layout) -> int:
        """Read what there is to compile; how many files.

        Raises:
            OSError, PkgcError: the manifest cannot be read.
        """
        data = layout.manifest(self.sha256).read_bytes()
        self.root, self.tree = str(layout.tree_root(self.sha256)), identity(data)
        sources, self.whole = sources_of(manifest_from_bytes(data))
        size = 0
        for entry, shown in sources:
            if not self.units or len(self.units[-1]) >= UNIT_FILES or size >= UNIT_BYTES:
                self.units.append([])
                size = 0
            self.units[-1].append([entry.path, shown, entry.size, entry.mtime_ns, entry.sha256])
            size += entry.size
        self.left = len(self.units)
        return len(sources)


@dataclass(slots=True)
class Batch:
    """What one call of the compiler is about: trees for one kind of interpreter."""

    key: str
    executable: str
    jobs: list[Job]
    nice: int = 0
    pause: Callable[[], bool] = bool
    """Asked between trees: whether to stop there."""
    stop: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    units: deque[tuple[Job, list[list[Any]]]] = field(default_factory=deque)
    guard: threading.Lock = field(default_factory=threading.Lock)
    problem: str = ""
    """Why nothing of it could be done."""

    def fill(self) -> None:
        """Put the units of all jobs in order: those of one tree together, the largest tree first."""
        for job in sorted(self.jobs, key=lambda job: -len(job.units)):
            self.units.extend((job, unit) for unit in job.units)

    def lanes(self) -> int:
        """How many lanes pay; what nobody waits for has one."""
        files = sum(len(unit) for _job, unit in self.units)
        return 1 if self.nice else max(1, min(most_lanes(), files // FILES_PER_LANE))


def most_lanes() -> int:
    """Lanes that one batch may have."""
    return min(MAX_LANES, os.cpu_count() or 1)


def run_lane(batch: Batch, done: Callable[[Job], None]) -> None:
    """Carry out units of a batch until there are none, or it is to stop. Blocks.

    Args:
        done: called for each job whose last unit was done here, if none has failed.
    """
    child: _Child | None = None
    last: Job | None = None
    try:
        while not batch.stop.is_set() and not batch.problem:
            with batch.guard:
                if not batch.units:
                    return
                if last is not None and batch.units[0][0] is not last and batch.pause():
                    batch.stop.set()
                    return
                job, unit = batch.units.popleft()
            last = job
            if not job.problem:
                if child is None:
                    child = _start(batch)
                    if child is None:
                        return
                answer = child.ask(_message(job, unit, batch.key), batch.stop)
                if answer is None:
                    child.close()
                    child = None
                    if batch.stop.is_set():
                        return
                    job.problem, job.hopeless = "the interpreter did not survive it", True
                elif "error" in answer:
                    job.problem = str(answer["error"])
                else:
                    entries = [FileEntry(path, size, False, *rest) for path, size, *rest in answer["made"]]
                    with batch.guard:
                        job.made += entries
            with batch.guard:
                job.left -= 1
                is_last = job.left == 0
            if is_last and not job.problem:
                done(job)
    except BaseException:
        batch.stop.set()
        raise
    finally:
        if child is not None:
            child.close()


def _message(job: Job, unit: list[list[Any]], key: str) -> dict[str, Any]:
    return {"root": job.root, "out": f"{job.draft}/root", "tag": tag_of(key), "files": unit}


def _start(batch: Batch) -> _Child | None:
    try:
        child = _Child(batch.executable, batch.nice)
    except OSError as error:
        batch.problem = f"{batch.executable} cannot be run: {error.strerror}"
        return None
    hello = child.hear(batch.stop)
    found = key_of({"cache_tag": hello.get("tag"), "pycache_magic": hello.get("magic")}) if hello else None
    if found == batch.key:
        return child
    child.close()
    if not batch.stop.is_set():
        # Another Python was put in its place after it was asked.
        batch.problem = f"{batch.executable} makes bytecode of the kind {found}, not {batch.key}"
    return None


@functools.cache
def _script() -> str:
    return Path(__file__).with_name("compile_script.py").read_text(encoding="utf-8")


class _Child:
    """One interpreter that compiles.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, executable: str, nice: int) -> None:
        # The kernel ends it with the thread that starts it: the lane's, or at the latest the daemon's pool.
        self._process = subprocess.Popen(
            [executable, *BARE, "-W", "ignore", "-c", _script(), str(os.getpid()), str(nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            cwd="/",
        )
        self._rest = b""

    def ask(self, message: dict[str, Any], stop: threading.Event) -> dict[str, Any] | None:
        """Its answer; None when it ended or takes too long, or when `stop` is set."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        return self.hear(stop)

    def hear(self, stop: threading.Event) -> dict[str, Any] | None:
        """The next line that it says, as `ask` has it."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        until = time.monotonic() + PATIENCE
        while b"\n" not in self._rest:
            if stop.is_set() or time.monotonic() > until:
                return None
            if not poll.poll(_LOOK * 1000):
                continue
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            return None
        return answer if isinstance(answer, dict) else None

    def close(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
