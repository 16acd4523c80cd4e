"""CPU seconds of a daemon with everything it started, ended children included (of no other process).

Best by a control group of its own, which counts to the nanosecond and forgets nobody. Where none can be made,
by ``/proc/PID/stat``: ticks of 10 ms, and a child that its parent never waited for is forgotten when it ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")


def group_folder(cgroups: str, mounts: str) -> Path | None:
    """The folder of this process's own group in the hierarchy that counts CPU time.

    Args:
        cgroups: text of ``/proc/self/cgroup``.
        mounts: text of ``/proc/self/mounts``.

    Returns:
        the folder in version 1's ``cpuacct`` if that is mounted, else in version 2's tree, else None.
    """
    by_controller = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        by_controller.update(dict.fromkeys(controllers.split(","), path))
    unified = None
    for line in mounts.splitlines():
        _, folder, kind, options = line.split()[:4]
        if kind == "cgroup" and "cpuacct" in options.split(",") and "cpuacct" in by_controller:
            return Path(folder + by_controller["cpuacct"])
        if kind == "cgroup2" and "" in by_controller:
            unified = Path(folder + by_controller[""])
    return unified


def parse_stat(text: str) -> float:
    """CPU seconds that a ``/proc/PID/stat`` names: its own and those of children that were waited for."""
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def parse_group_usage(text: str) -> float:
    """CPU seconds of a group: version 1's ``cpuacct.usage`` (ns) or version 2's ``cpu.stat`` (µs)."""
    if "usage_usec" in text:
        values = dict(line.split() for line in text.splitlines())
        return int(values["usage_usec"]) / 1e6
    return int(text) / 1e9


class Family:
    """A daemon and its descendants. What is started inside `joined` belongs to it from its first moment."""

    def __init__(self) -> None:
        self._root = 0
        self._group: Path | None = None
        self._home: Path | None = None
        try:
            home = group_folder(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mounts").read_text())
            if home is not None and (home / "cgroup.procs").exists():
                group = home / f"pkgc-bench-{os.getpid()}-{secrets.token_hex(3)}"
                group.mkdir()
                self._group, self._home = group, home
                with self.joined():  # a group that cannot be entered is of no use
                    pass
        except OSError:
            self.close()

    @property
    def exact(self) -> bool:
        """Whether a control group counts."""
        return self._group is not None

    def lead_by(self, pid: int) -> None:
        """Name the daemon, for where there is no control group."""
        self._root = pid

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """What the block starts belongs to the family. The block itself is counted, too: keep it short."""
        if self._group is None or self._home is None:
            yield
            return
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (self._home / "cgroup.procs").write_text(str(os.getpid()))

    def cpu(self) -> float:
        """CPU seconds since the family began."""
        if self._group is not None:
            for name in ("cpuacct.usage", "cpu.stat"):
                if (self._group / name).exists():
                    return parse_group_usage((self._group / name).read_text())
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += parse_stat(Path(f"/proc/{pid}/stat").read_text())
        return total

    def pids(self) -> list[int]:
        """The processes that live."""
        if self._group is not None:
            return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]
        try:
            root = psutil.Process(self._root)
            return [self._root, *(child.pid for child in root.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def working(self) -> bool:
        """Whether one of its threads runs, waits for a processor, or waits for a disk, right now."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    if (
                        Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[0]
                        in "RD"
                    ):
                        return True
        return False

    def pss(self) -> float:
        """MB of proportional set size: pages that several share are counted once, in shares."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                total += psutil.Process(pid).memory_full_info().pss
        return total / 1e6

    def close(self) -> None:
        """Remove the group; its processes must have ended."""
        group, self._group = self._group, None
        if group is None:
            return
        for _ in range(100):
            try:
                group.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:  # the kernel has not taken the last process out yet
                time.sleep(0.02)


def wait_until_idle(family: Family, folder: Path, *, quiet: float, timeout: float = 120.0) -> None:
    """Wait until nothing of the family works and `folder` neither grows nor shrinks, for `quiet` seconds.

    Args:
        family: its threads are looked at, and its CPU time, because a copier of the lowest priority may
            wait long for its turn on a busy machine.
        folder: where ready copies are put; it need not exist.
        timeout: seconds.

    Raises:
        TimeoutError: it still works after `timeout`.
    """
    deadline = time.monotonic() + timeout
    since, spent, there = time.monotonic(), family.cpu(), count_entries(folder)
    while time.monotonic() - since < quiet:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the daemon is not idle after {timeout:.0f} s")
        time.sleep(0.02)
        now_there = count_entries(folder)
        # A daemon that does nothing wakes up now and then: 2 % of a processor is idle.
        if family.working() or now_there != there or family.cpu() - spent > 0.02 * quiet:
            since, spent, there = time.monotonic(), family.cpu(), now_there


def count_entries(folder: Path) -> int:
    """How many entries a folder has, hidden ones and one that is missing excepted."""
    try:
        return sum(1 for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return 0
