"""Processes that end with the one that started them: killed, ended, and where there is no shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pkgc_daemon.building import lifeline
from tests.support.instance import alive, wait_until

PATH = {"PATH": os.environ["PATH"]}
#: Starts a child of its own, says both numbers, and waits.
PARENT = """import os, subprocess, time
child = subprocess.Popen(['sleep', '600'])
print(os.getpid(), child.pid, flush=True)
"""


def starter(code: str) -> subprocess.Popen[str]:
    """A process that starts others."""
    text = "from pkgc_daemon.building import lifeline\nimport os, subprocess, sys, time\n" + textwrap.dedent(
        code
    )
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_a_killed_starter_takes_everything_along() -> None:
    """kill -9 of a client, or its terminal closed: compilers would go on for hours, in folders of others."""
    process = starter(
        f"""
        lifeline.start([sys.executable, "-c", {PARENT + "time.sleep(600)"!r}], os.environ)
        time.sleep(600)
        """
    )
    assert process.stdout is not None
    with process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        process.kill()
    wait_until(lambda: not any(map(alive, pids)), "the process and its child are gone")


def test_a_released_process_may_leave_something_running() -> None:
    """git starts daemons that keep passwords for the next command; they are not ours to stop."""
    process = starter(
        f"""
        made = lifeline.start([sys.executable, "-c", {PARENT!r}], os.environ)
        made.wait()
        lifeline.release(made)
        """
    )
    assert process.stdout is not None
    with process:
        own, child = (int(pid) for pid in process.stdout.readline().split())
        process.wait(20)
    try:
        assert not alive(own)
        # Everybody is gone who could have stopped it; the group is empty but for the child.
        wait_until(lambda: group_of(own) == [child], "the one that watched is gone")
    finally:
        os.kill(child, signal.SIGKILL)


def group_of(number: int) -> list[int]:
    """The living members of a process group."""
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == number and fields[0] not in "ZX":
            found.append(int(entry))
    return found


@pytest.mark.parametrize("shell", [lifeline.SHELL, "/nowhere/sh"])
def test_what_the_process_is(shell: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A session of its own, nothing to read from, its own number, arguments as they are; also in a container
    without a shell."""
    monkeypatch.setattr(lifeline, "SHELL", shell)
    code = (
        "import os, sys; print(os.getpid(), os.getsid(0), os.getcwd(), repr(sys.stdin.read()), sys.argv[1:])"
    )
    words = ["a b", "$HOME", "'", "", "*"]
    process = lifeline.start([sys.executable, "-c", code, *words], PATH, cwd=tmp_path, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        said = process.stdout.read().decode()
        lifeline.release(process)
    assert said == f"{process.pid} {process.pid} {tmp_path} '' {words}\n"
    assert process.returncode == 0


@pytest.mark.parametrize("shell", [lifeline.SHELL, "/nowhere/sh"])
def test_what_cannot_be_run(shell: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a Python that is gone shows as exit status 127 of a shell that nobody asked for."""
    monkeypatch.setattr(lifeline, "SHELL", shell)
    plain = tmp_path / "plain"
    plain.touch()
    for command, error in (("/nowhere/python", FileNotFoundError), ("no-such-program", FileNotFoundError)):
        with pytest.raises(error):
            lifeline.start([command], PATH)
    with pytest.raises(PermissionError):
        lifeline.start([str(plain)], PATH)
