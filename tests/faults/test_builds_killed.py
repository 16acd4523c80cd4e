"""Builds that are interrupted, in every way: nothing of them goes on running, nothing is half done, and the
next sync builds as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builds import COUNTING, HELD, Bench, origins, session_members
from tests.support.faults import finish, kill_client
from tests.support.gitserver import GitServers, needs_git
from tests.support.instance import Instance, alive, snapshot, wait_until
from tests.support.locks import holds
from tests.support.sdists import make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

LINES = ("slow==1.0", "kept==1.0")


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """`slow`, whose build waits at a gate; an environment with `kept`."""
    bench = Bench(pkgc, index, tmp_path)
    bench.offer(make_sdist("slow", "1.0", backend=HELD), make_wheel("kept", "1.0"))
    bench.sync("kept==1.0")
    return bench


def begin(bench: Bench, venv: str = "venv") -> subprocess.Popen[str]:
    """A client whose build is at the gate."""
    client = bench.pkgc.start(*bench.argv(LINES, venv, ()), cwd=bench.folder)
    bench.wait_for("slow", "child")
    return client


def processes(bench: Bench) -> list[int]:
    """What runs in the session of the build: the hook, its child, and who watches over them."""
    hook, session = bench.noted("slow")
    child, _ = bench.noted("slow", "child")
    return sorted({*filter(alive, (hook, child)), *session_members(session)})


def go_on(bench: Bench) -> None:
    """Open the gate: the next sync builds, and sweeps what a killed client left."""
    bench.gate.touch()
    assert origins(bench.sync(*LINES)) == {"slow": "build"}
    assert holds(bench.venv()) == {"kept": "1.0", "slow": "1.0"}
    kept = {"build.log", ".pkgc-build"}
    assert [path for path in bench.temporary.glob("pkgc-build-*/*") if path.name not in kept] == []
    assert bench.pkgc.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_mid_build(bench: Bench, number: signal.Signals) -> None:
    """A build that hangs and cannot be stopped; or the prompt comes back and compilers go on behind it."""
    before = snapshot(bench.venv())
    client = begin(bench)
    assert len(processes(bench)) >= 2
    client.send_signal(number)
    status, out, err = finish(client)
    assert status == 130, out + err
    assert "Traceback" not in err
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert bench.leftovers() == []
    assert snapshot(bench.venv()) == before
    go_on(bench)


def test_ctrl_c_twice(bench: Bench) -> None:
    """Impatient people press it again: the client leaves at once, and its builds with it."""
    client = begin(bench)
    os.kill(client.pid, signal.SIGINT)
    os.kill(client.pid, signal.SIGINT)
    assert finish(client)[0] == 130
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    go_on(bench)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_client_killed_in_mid_build(bench: Bench, number: signal.Signals) -> None:
    """The terminal is closed, a CI job is killed: nobody is left to stop the build, and it must stop."""
    before = snapshot(bench.venv())
    pid = bench.pkgc.pid()
    client = begin(bench)
    assert len(processes(bench)) >= 2
    client.send_signal(number)
    client.communicate()
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert alive(pid), "the daemon died with its client"
    assert snapshot(bench.venv()) == before
    go_on(bench)


def test_daemon_killed_in_mid_build(bench: Bench) -> None:
    """A daemon that crashed: the client says so instead of waiting for ever, and ends what it builds."""
    before = snapshot(bench.venv())
    client = begin(bench)
    bench.pkgc.kill()
    status, out, err = finish(client)
    assert status == 1, out + err
    assert "error[daemon-vanished]" in err
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert snapshot(bench.venv()) == before
    go_on(bench)


def test_daemon_told_to_stop_in_mid_build(bench: Bench) -> None:
    """`daemon stop` and upgrades: it finishes what it serves, or the client says what became of it."""
    client = begin(bench)
    stopping = bench.pkgc.start("daemon", "stop")
    wait_until(lambda: not bench.pkgc.socket.exists() or bench.pkgc.status() is None, "it takes no more")
    bench.gate.touch()
    status, out, err = finish(client)
    assert finish(stopping)[0] == 0
    assert (status, holds(bench.venv())) in (
        (0, {"kept": "1.0", "slow": "1.0"}),
        (1, {"kept": "1.0"}),
        (130, {"kept": "1.0"}),
    ), out + err
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert bench.sync(*LINES)["ok"]
    assert holds(bench.venv()) == {"kept": "1.0", "slow": "1.0"}


def test_the_other_client_goes_on_building(bench: Bench) -> None:
    """Two jobs want the same build; the one that does it is killed: the other one must not fail with it."""
    first = begin(bench)
    second = bench.pkgc.start(*bench.argv(LINES, "second", ()), "--output-format", "json", cwd=bench.folder)
    wait_until(lambda: (bench.pkgc.status() or {})["calls"]["running"] >= 3, "both are there")
    gone = processes(bench)
    assert bench.builds("slow") == 1, "the second one waits"
    kill_client(first)
    wait_until(lambda: bench.builds("slow", "child") == 2, "the second one builds", 60)
    wait_until(lambda: not any(map(alive, gone)), "nothing of the first build runs")
    bench.gate.touch()
    status, out, err = finish(second)
    assert status == 0, out + err
    assert holds(bench.venv("second")) == {"kept": "1.0", "slow": "1.0"}
    assert holds(bench.venv()) == {"kept": "1.0"}


def test_build_whose_backend_is_killed(bench: Bench) -> None:
    """The OOM killer takes the compiler: an error that says so, with what it printed, and nothing changed."""
    before = snapshot(bench.venv())
    client = begin(bench)
    hook, _ = bench.noted("slow")
    os.kill(hook, signal.SIGKILL)
    status, _out, err = finish(client)
    assert status == 1
    assert "error[build-failed]" in err
    assert "killed by SIGKILL" in err
    assert "waiting at the gate" in err
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert snapshot(bench.venv()) == before
    assert bench.leftovers() == []
    go_on(bench)


def test_build_that_takes_too_long(own_pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A backend that waits for something that never comes would block CI for ever."""
    (own_pkgc.root / "config.toml").write_text("[build]\ntimeout = 2\n")
    bench = Bench(own_pkgc, index, tmp_path)
    bench.offer(make_sdist("slow", "1.0", backend=HELD))
    error = bench.fails("slow==1.0")
    assert (error["code"], error["exit"]) == ("build-timeout", 1)
    assert "2 s" in error["message"]
    assert "build.timeout" in error["hint"]
    assert "waiting at the gate" in error["context"]
    wait_until(lambda: not processes(bench), "nothing of the build runs")
    assert bench.leftovers() == []


@needs_git
@pytest.mark.parametrize("stop", [kill_client, lambda client: client.send_signal(signal.SIGINT)])
def test_client_gone_while_git_waits(
    bench: Bench, tmp_path: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    """A git server that accepts and is silent: git would wait for ever, and hold the cached repository."""
    files = {path: data.decode() for path, data in project_files("app", "1.0", backend=COUNTING).items()}
    with GitServers(tmp_path / "served") as servers:
        servers.repository("app").commit(files)
        line = f"app @ git+{servers.http('app')}@main"
        servers.silent.set()
        client = bench.pkgc.start(*bench.argv((line,), "second", ()), cwd=bench.folder)
        wait_until(lambda: bool(servers.hits), "git asks", 60)
        pids = [pid for pid in _gits(servers.http("app")) if pid != client.pid]
        assert pids
        stop(client)
        client.communicate()
        wait_until(lambda: not any(map(alive, pids)), "git is gone")
        servers.silent.clear()
        assert origins(bench.sync(line, venv="second")) == {"app": "build"}


def _gits(url: str) -> list[int]:
    """Processes that have `url` among their arguments."""
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if url.encode() in words:
            found.append(int(entry))
    return found
