"""The user units, run by a real `systemd --user` manager: activation, READY, watchdog, drain, restart."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, alive, wait_until
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import make_wheel

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = Path(__file__).parents[2] / "systemd" / "user"

pytestmark = pytest.mark.skipif(
    not SYSTEMD.exists() or shutil.which("systemctl") is None, reason="systemd is not installed here"
)


class Manager:
    """A `systemd --user` of its own, with pkgc's units and a drop-in that names this checkout's command."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        runtime = instance.run_dir
        units = instance.home / ".config" / "systemd" / "user"
        units.mkdir(parents=True)
        for unit in UNITS.iterdir():
            shutil.copy(unit, units)
        drop_in = units / "pkgc.service.d"
        drop_in.mkdir()
        (drop_in / "test.conf").write_text(
            "[Service]\nExecStart=\n"
            f"ExecStart={instance.command} daemon run --idle-exit 0\n"
            f"Environment=PKGC_CACHE_DIR={instance.cache} PKGC_CONFIG={instance.env['PKGC_CONFIG']}\n"
            "WatchdogSec=2s\nRestartSec=100ms\nTimeoutAbortSec=2s\n"
        )
        del instance.env["PKGC_SOCKET"]
        instance.env |= {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(instance.home / ".config")}
        instance.socket = runtime / "pkgc" / "pkgc.sock"
        # without this folder `systemctl` believes that no systemd runs anywhere
        Path("/run/systemd/system").mkdir(parents=True, exist_ok=True)
        with (instance.root / "manager.log").open("wb") as log:
            self.process = subprocess.Popen(
                [SYSTEMD, "--user", "--log-target=console", "--log-level=notice"],
                env=instance.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        wait_until((runtime / "systemd" / "private").exists, "the manager answers")

    def systemctl(self, *args: str, check: bool = True) -> str:
        """Output of `systemctl --user …`."""
        done = subprocess.run(
            ["systemctl", "--user", *args],
            env=self.instance.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert not check or done.returncode == 0, (
            done.stderr + (self.instance.root / "manager.log").read_text()
        )
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.systemctl("show", "pkgc.service", "--value", "-p", name)

    def main_pid(self) -> int:
        """Pid of the service's main process, 0 when there is none."""
        return int(self.show("MainPID"))

    def close(self) -> None:
        """Stop units and manager."""
        self.systemctl("stop", "pkgc.socket", "pkgc.service", check=False)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def manager(own_pkgc: Instance) -> Iterator[Manager]:
    """A running manager whose socket unit listens; no service yet."""
    if os.geteuid() != 0 and not Path("/run/systemd/system").exists():
        pytest.skip("no systemd runs, and only root can make this machine look as if it did")
    # Two managers on one machine that systemd did not boot share a control group: each would take the other's
    # processes for its own.
    with Path(tempfile.gettempdir(), f"pkgc-test-systemd-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manager = Manager(own_pkgc)
        try:
            manager.systemctl("start", "pkgc.socket")
            yield manager
        finally:
            manager.close()


def test_activation_restart_and_stop(manager: Manager) -> None:
    """The first call starts the service; restarts and stops lose neither the socket nor a connection."""
    pkgc = manager.instance
    assert manager.systemctl("is-active", "pkgc.socket") == "active"
    assert manager.main_pid() == 0
    inode = pkgc.socket.stat().st_ino
    assert (pkgc.socket.stat().st_mode & 0o777, pkgc.socket.parent.stat().st_mode & 0o777) == (0o600, 0o700)

    status = pkgc.ok("status", "--output-format", "json").json  # waits in the backlog until it is ready
    assert status["pid"] == manager.main_pid()
    assert status["socket"] == str(pkgc.socket)
    assert manager.systemctl("is-active", "pkgc.service") == "active"
    assert "serving" in manager.show("StatusText")
    own_settings = manager.show("WatchdogTimestamp")
    assert own_settings

    first = manager.main_pid()
    manager.systemctl("restart", "pkgc.service")
    assert manager.main_pid() not in (0, first)
    pkgc.ok("cache", "dir")

    second = manager.main_pid()
    pkgc.ok("daemon", "stop")  # by pkgc's own command: activation brings it back
    assert not alive(second)
    pkgc.ok("cache", "dir")
    assert pkgc.pid() not in (first, second)

    manager.systemctl("stop", "pkgc.service")
    assert manager.systemctl("is-active", "pkgc.socket") == "active"
    pkgc.ok("cache", "dir")
    assert pkgc.socket.stat().st_ino == inode, "the daemon touched a socket that is systemd's"

    refused = pkgc.run("daemon", "run", timeout=20)  # beside the activated one
    assert refused.status == 1
    assert "error[cache-locked]" in refused.err
    assert pkgc.socket.stat().st_ino == inode


def test_watchdog_restarts_a_hanging_daemon(manager: Manager) -> None:
    """A daemon that neither works nor dies is replaced without anybody's help; one that works stays."""
    pkgc = manager.instance
    pkgc.ok("cache", "dir")
    pid = manager.main_pid()
    time.sleep(3)
    assert manager.main_pid() == pid, "the watchdog was not fed"
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: manager.main_pid() not in (0, pid), "systemd restarted it", 15)
    assert manager.show("NRestarts") == "1"
    pkgc.ok("cache", "dir")
    assert not alive(pid)


def test_stop_drains_a_running_sync(manager: Manager, index: IndexServer, venv: Path) -> None:
    """`systemctl stop`, an upgrade or a logout lets a running job finish."""
    pkgc = manager.instance
    wheel = make_wheel("slow", "1.0", {"slow.py": "", "slow.bin": os.urandom(3_000_000)})
    index.add(wheel.data, wheel.filename)
    index.behave(wheel.filename, Behaviour(times=None, rate=1_200_000))
    lock = pkgc.requirements(f"slow==1.0 --hash=sha256:{wheel.sha256}")
    client = pkgc.start("sync", str(lock), "--venv", str(venv), "-i", index.url)
    wait_until(lambda: index.active or client.poll() is not None, "the transfer has begun")
    pid = manager.main_pid()
    manager.systemctl("stop", "--no-block", "pkgc.service")
    wait_until(lambda: manager.show("StatusText").startswith("finishing"), "STOPPING was said", 5)
    assert manager.show("ActiveState") == "deactivating"
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, (out, err)
    wait_until(lambda: manager.show("ActiveState") == "inactive", "the service is down", 5)
    assert not alive(pid)
    assert manager.show("Result") == "success"


def test_units_are_right(own_pkgc: Instance) -> None:
    """systemd itself finds no fault in them."""
    folder = own_pkgc.home / ".config" / "systemd" / "user"
    folder.mkdir(parents=True)
    command = own_pkgc.home / ".local" / "bin" / "pkgc"
    command.parent.mkdir(parents=True)
    command.symlink_to(own_pkgc.command)
    for unit in UNITS.iterdir():
        shutil.copy(unit, folder)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *map(str, sorted(folder.iterdir()))],
        env=own_pkgc.env | {"XDG_RUNTIME_DIR": str(own_pkgc.run_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "pkgc" in line]
    assert (done.returncode, complaints) == (0, [])
