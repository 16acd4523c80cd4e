"""CPU time of a family: what is not counted would look as if it were free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.accounting import (
    Family,
    count_entries,
    group_folder,
    parse_group_usage,
    parse_stat,
    wait_until_idle,
)

CGROUPS_V1 = "9:name=systemd:/init.scope\n2:cpu,cpuacct:/user.slice\n0::/init.scope\n"
MOUNTS_V1 = (
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
)
MOUNTS_V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"

BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass"


def test_the_group_is_looked_for_where_cpu_time_is_counted() -> None:
    """Another hierarchy's group would count nothing, and every daemon would cost 0 s."""
    assert group_folder(CGROUPS_V1, MOUNTS_V1) == Path("/sys/fs/cgroup/cpu,cpuacct/user.slice")
    assert group_folder("0::/user.slice/x\n", MOUNTS_V2) == Path("/sys/fs/cgroup/user.slice/x")
    assert group_folder(CGROUPS_V1, "tmpfs /tmp tmpfs rw 0 0\n") is None


def test_both_versions_of_a_groups_usage_are_seconds() -> None:
    """Micro- taken for nanoseconds would make the daemon a thousand times cheaper."""
    assert parse_group_usage("1500000000\n") == 1.5
    assert parse_group_usage("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n") == 1.5


def test_a_stat_line_counts_children_that_ended_and_survives_any_name() -> None:
    """A program may be called `a) R 1`; and unpackers that ended would be free."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = ["S", *["1"] * 10, str(tick), str(2 * tick), str(3 * tick), str(4 * tick), "0"]
    assert parse_stat(f"12 (a) R 1) {' '.join(fields)}") == 10


def run(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", code])


@pytest.mark.parametrize("grouped", [True, False])
def test_a_childs_time_is_counted_after_it_has_ended(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpackers and copiers come and go: their time is most of what a daemon spends."""
    if not grouped:
        monkeypatch.setattr("tests.benchmarks.accounting.group_folder", lambda *_: None)
    family = Family()
    if grouped and not family.exact:
        pytest.skip("no control group may be made here")
    try:
        code = (
            "import subprocess, sys\n"
            f"subprocess.run([sys.executable, '-S', '-c', {BURN.format(0.2)!r}])\n"
            "sys.stdin.read()\n"
        )
        with family.joined():
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", f"{code}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        family.lead_by(process.pid)
        assert process.pid in family.pids()
        while family.cpu() < 0.2:  # the test's own limit ends this if it is never counted
            pass
        process.communicate()
    finally:
        family.close()
    assert os.getpid() not in family.pids()


def test_idle_is_when_nothing_works_any_more(tmp_path: Path) -> None:
    """Refills would be cut off from the figure that shows them, and disturb the next measurement."""
    family = Family()
    try:
        with family.joined():
            process = run(f"{BURN.format(0.4)}\nopen({str(tmp_path / 'done')!r}, 'w').close()")
        family.lead_by(process.pid)
        wait_until_idle(family, tmp_path, quiet=0.2, timeout=60)
        assert (tmp_path / "done").exists()
        process.wait()
    finally:
        family.close()


def test_waiting_for_idle_has_an_end(tmp_path: Path) -> None:
    """A daemon that never rests would hang the whole run."""
    family = Family()
    with family.joined():
        process = run("while True: pass")
    try:
        family.lead_by(process.pid)
        with pytest.raises(TimeoutError, match="not idle"):
            wait_until_idle(family, tmp_path, quiet=0.2, timeout=0.5)
    finally:
        process.kill()
        process.wait()
        family.close()


def test_hidden_entries_and_a_missing_folder_count_nothing(tmp_path: Path) -> None:
    """A cache without ready copies is settled at once."""
    (tmp_path / ".x").touch()
    (tmp_path / "a").mkdir()
    assert count_entries(tmp_path) == 1
    assert count_entries(tmp_path / "missing") == 0
