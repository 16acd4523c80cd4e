"""The tools that are measured: how each gets an empty cache, and one timed sync into an environment."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.benchmarks.accounting import Family, count_entries, wait_until_idle
from tests.benchmarks.report import Sample
from tests.support import peertools
from tests.support.instance import Instance, clean_environment


@dataclass(frozen=True, slots=True)
class Call:
    """One command, ready to be run."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class Failed(Exception):
    """A measured command failed; its output is the message."""


class Cache(Protocol):
    """A cache of one tool and what serves it."""

    def call(self, lock: Path, venv: Path, index: str, *, bytecode: bool = False) -> Call:
        """The call that makes `venv` equal to `lock`."""

    def run(self, *calls: Call) -> Sample:
        """Run the calls at once and measure them, with the CPU time of what serves the cache.

        Raises:
            Failed: one of them did not end with status 0.
        """

    def settle(self, quiet: float) -> float:
        """Wait until background work has ended; the CPU seconds that it took.

        Args:
            quiet: seconds of nothing that show it.
        """

    def discard(self) -> None:
        """Stop what serves the cache and remove it."""


class PkgcCache:
    """A pkgc with its own cache; its daemon runs unless `started` is False.

    Args:
        root: a new folder for cache and home.
        started: whether to start the daemon now.
        variables: for the daemon and the clients.
    """

    def __init__(
        self, root: Path, *, started: bool = True, variables: Mapping[str, str] | None = None
    ) -> None:
        self.instance = Instance(root)
        self.instance.env.update(variables or {})
        self.family = Family()
        self.started = started
        if started:
            self.start()

    @property
    def ready(self) -> Path:
        """Where the daemon keeps ready copies, one entry or two for each."""
        return self.instance.cache / "ready"

    def ready_trees(self) -> int:
        """How many different trees have a ready copy, which is named by the tree and a token."""
        try:
            return len(
                {name.partition(".")[0] for name in os.listdir(self.ready) if not name.startswith(".")}
            )
        except OSError:
            return 0

    def start(self) -> None:
        """Start the daemon."""
        with self.family.joined():
            self.instance.ok("daemon", "start")
        self.family.lead_by(self.instance.pid())
        self.started = True

    def stop_daemon(self) -> None:
        """Stop the daemon; the next call starts one."""
        self.instance.ok("daemon", "stop")
        self.started = False

    def call(self, lock: Path, venv: Path, index: str, *, bytecode: bool = False) -> Call:
        options = ["--compile-bytecode"] if bytecode else []
        argv = self.instance.argv("sync", lock, "--venv", venv, "-i", index, *options)
        return Call(argv, self.instance.env)

    def run(self, *calls: Call) -> Sample:
        before = self.family.cpu()
        if self.started:
            seconds, clients = timed(*calls)
            return Sample(seconds, clients + self.family.cpu() - before)
        # The client starts the daemon: both must be born in the family, and are counted by it together.
        seconds, clients = timed(*calls, family=self.family)
        self.started = True
        self.family.lead_by(self.instance.pid())
        spent = self.family.cpu() - before
        return Sample(seconds, spent if self.family.exact else spent + clients)

    def settle(self, quiet: float) -> float:
        before = self.family.cpu()
        try:
            wait_until_idle(self.family, self.ready, quiet=quiet)
        except TimeoutError as error:
            raise Failed(f"{error}; ready copies: {count_entries(self.ready)} entries") from error
        return self.family.cpu() - before

    def discard(self) -> None:
        self.instance.stop()
        self.family.close()
        shutil.rmtree(self.instance.root, ignore_errors=True)


class PeerCache:
    """A tool without a daemon: nothing to wait for, nothing to stop."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *calls: Call) -> Sample:
        return Sample(*timed(*calls))

    def settle(self, quiet: float) -> float:
        return 0.0

    def discard(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class UvCache(PeerCache):
    """A cache directory of uv."""

    def call(self, lock: Path, venv: Path, index: str, *, bytecode: bool = False) -> Call:
        environment = peertools.uv_environment(self.root, VIRTUAL_ENV=str(venv))
        options = ["--compile-bytecode"] if bytecode else []
        return Call([*peertools.uv_sync_command(lock, index), *options], environment)


class PipCache(PeerCache):
    """A cache directory of pip, which installs into environments that have no pip of their own."""

    def call(self, lock: Path, venv: Path, index: str, *, bytecode: bool = False) -> Call:
        argv = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--no-deps"]
        argv += ["--quiet", "--no-input", "--disable-pip-version-check", "--index-url", index]
        argv += [*([] if bytecode else ["--no-compile"]), "--requirement", str(lock)]
        return Call(argv, clean_environment(PIP_CACHE_DIR=str(self.root)))


def timed(*calls: Call, family: Family | None = None) -> tuple[float, float]:
    """Run the calls at once and wait for all.

    Args:
        calls: what to run.
        family: the family that they and what they leave behind belong to.

    Returns:
        wall-clock seconds from the first start to the last end, and CPU seconds of the calls and of the
        children that they waited for.

    Raises:
        Failed: one of them did not end with status 0.
    """
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in calls]
        processes = []
        with family.joined() if family else nullcontext():
            started = time.perf_counter()
            for call, output in zip(calls, outputs, strict=True):
                processes.append(
                    subprocess.Popen(
                        call.argv,
                        env=dict(call.environment),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                    )
                )
        usages = [_wait(process) for process in processes]
        seconds = time.perf_counter() - started
        for call, process, output in zip(calls, processes, outputs, strict=True):
            if process.returncode != 0:
                output.seek(0)
                said = output.read().decode("utf-8", "replace")
                raise Failed(f"{' '.join(call.argv)} ended with {process.returncode}:\n{said}")
    return seconds, sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
