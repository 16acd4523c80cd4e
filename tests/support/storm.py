"""A storm: clients that sync random locks into several environments while somebody kills them and the daemon.

Whatever happens, a client that reports success must have left exactly its lock behind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pkgc_protocol.places import POINTER
from tests.support.faults import environment_faults, lock, offer, package
from tests.support.instance import Instance
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel

#: Errors that a kill, or an index that fails for long, may end in; any other one is a defect.
EXPECTED_ERRORS = (
    "daemon-vanished",
    "daemon-unavailable",
    "daemon-start",
    "download-failed",
    "http-status",
    "index-error",
    "bad-response",
    "stalled",
)


@dataclass
class Report:
    """What happened."""

    syncs: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"syncs {dict(self.syncs)}, kills {dict(self.kills)}, wrong {len(self.wrong)}" + "".join(
            f"\n  {one}" for one in self.wrong[:20]
        )


class Storm:
    """The clients, their locks and the killer.

    Args:
        pkgc: the instance.
        index: where the wheels are.
        root: the environments go here.
        seed: of everything that is random; print it.
        clients: threads; each owns `venvs_each` environments, and one environment belongs to all.
    """

    def __init__(
        self,
        pkgc: Instance,
        index: IndexServer,
        root: Path,
        seed: int,
        *,
        clients: int = 3,
        venvs_each: int = 2,
        packages: int = 10,
    ) -> None:
        self.report = Report()
        self.pkgc = pkgc
        self.index = index
        self.root = root
        self.wheels: dict[str, list[BuiltWheel]] = {}
        self._random = random.Random(seed)
        for number in range(packages):
            name = f"pack{number}"
            sizes = [0, 0, 40_000, 400_000]
            self.wheels[name] = [
                package(name, version, big=self._random.choice(sizes)) for version in ("1.0", "1.1", "2.0")
            ]
            offer(index, *self.wheels[name])
        self.venvs = [[root / f"env{one}-{two}" for two in range(venvs_each)] for one in range(clients)]
        self.shared = root / "shared"
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to sync."""
        for number, venvs in enumerate(self.venvs):
            seed = self._random.random()
            thread = threading.Thread(
                target=self._client, args=(number, venvs, random.Random(seed)), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the syncs that run."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
            if thread.is_alive():
                self.report.wrong.append("a client hangs")

    def spoil(self, share: float) -> None:
        """Let about `share` of the next requests for files and pages fail, each in one of several ways."""
        for name, wheels in self.wheels.items():
            for where in (f"/simple/{name}/", *(wheel.filename for wheel in wheels)):
                self.index.behave_well(where)
                if self._random.random() < share:
                    cut = self._random.randrange(2000)
                    ways = [
                        Behaviour(status=503),
                        Behaviour(status=500),
                        Behaviour(truncate_after=cut),
                        Behaviour(reset_after=cut),
                    ]
                    self.index.behave(where, self._random.choice(ways))

    def kill_one(self, daemon: bool) -> None:
        """kill -9 the daemon, or one of the clients that run now."""
        if daemon:
            pid = self.daemon_pid()
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self.report.kills["daemon"] += 1
            return
        with self._lock:
            running = list(self._running.values())
            if running:
                self._random.choice(running).kill()
                self.report.kills["client"] += 1

    def forget_one(self) -> None:
        """Have a project removed from the cache, so that it is fetched again."""
        name = self._random.choice(sorted(self.wheels))
        if self.pkgc.run("cache", "clean", name).status == 0:
            self.report.kills["cleaned"] += 1

    def daemon_pid(self) -> int:
        """From the note beside the cache's lock, without a client; 0 when there is none."""
        try:
            return int((self.pkgc.cache / POINTER).read_bytes().split(b"\n")[1])
        except (OSError, ValueError, IndexError):
            return 0

    def settle(self) -> None:
        """All clients are gone: every environment must come to a lock, and be exactly that."""
        self.index.behave_well()
        for venv in (*(venv for venvs in self.venvs for venv in venvs), self.shared):
            wheels = self._choose(self._random)
            self.pkgc.sync(lock(self.pkgc, "settle.txt", wheels), "--venv", venv, "-i", self.index.url)
            self.report.wrong += [f"{venv.name}: {one}" for one in environment_faults(venv, wheels)]

    def _choose(self, rng: random.Random) -> Sequence[BuiltWheel]:
        names = rng.sample(sorted(self.wheels), rng.randrange(1, len(self.wheels)))
        return [rng.choice(self.wheels[name]) for name in names]

    def _client(self, number: int, venvs: list[Path], rng: random.Random) -> None:
        try:
            while not self._stopping.is_set():
                own = rng.random() < 0.8
                self._sync(number, rng.choice(venvs) if own else self.shared, rng, own)
        except BaseException as error:
            self.report.wrong.append(f"client {number}: {error!r}")

    def _sync(self, number: int, venv: Path, rng: random.Random, own: bool) -> None:
        wheels = self._choose(rng)
        path = lock(self.pkgc, f"lock{number}.txt", wheels)
        process = self.pkgc.start("sync", path, "--venv", venv, "-i", self.index.url)
        with self._lock:
            self._running[number] = process
        try:
            _, err = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.report.wrong.append(f"{venv.name}: no end after 100 s")
            return
        finally:
            with self._lock:
                del self._running[number]
        if process.returncode == 0:
            self.report.syncs["ok"] += 1
            if own:
                self.report.wrong += [f"{venv.name}: {one}" for one in environment_faults(venv, wheels)]
        elif process.returncode == -signal.SIGKILL:
            self.report.syncs["killed"] += 1
        elif found := [code for code in EXPECTED_ERRORS if f"error[{code}]" in err]:
            self.report.syncs[found[0]] += 1
            time.sleep(0.05)
        else:
            self.report.wrong.append(f"{venv.name}: exit {process.returncode}: {err}")
