"""The daemon's life as users see it: started, found, shared, stopped, replaced; and why it did not start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import venv as venv_module
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgc_protocol import __version__
from tests.support.instance import Instance, alive, running, wait_until
from tests.support.rawclient import RawClient, hello, invoke
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ROOT = Path(__file__).parents[2]


def daemons(instance: Instance) -> list[int]:
    """Pids of the daemons of this cache."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"pkgc_daemon" in words and os.fsencode(instance.cache) in words:
                found.append(int(entry.name))
    return found


@pytest.fixture
def slow(index: IndexServer) -> BuiltWheel:
    """slow 1.0: 4 MB, of which the index sends 400 kB/s."""
    wheel = make_wheel("slow", "1.0", {"slow.py": "", "slow.bin": os.urandom(4_000_000)})
    index.add(wheel.data, wheel.filename)
    index.behave(wheel.filename, Behaviour(times=None, rate=400_000))
    return wheel


def begin(instance: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path) -> subprocess.Popen[str]:
    """A sync that is in mid-download."""
    lock = instance.requirements(f"slow==1.0 --hash=sha256:{wheel.sha256}")
    client = instance.start("sync", str(lock), "--venv", str(venv), "-i", index.url)
    wait_until(lambda: index.active or client.poll() is not None, "the transfer has begun")
    time.sleep(0.3)
    assert client.poll() is None, client.communicate()
    return client


# --- starting -------------------------------------------------------------------------------------------


def test_ten_clients_at_once_start_one_daemon(own_pkgc: Instance) -> None:
    """Two daemons on one cache would corrupt it; the second must find the first."""
    clients = [own_pkgc.start("cache", "dir") for _ in range(10)]
    for client in clients:
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert str(own_pkgc.cache) in out
    assert daemons(own_pkgc) == [own_pkgc.pid()]


def test_help_version_and_status_never_start_a_daemon(own_pkgc: Instance) -> None:
    """A shell completion or a monitoring script must not leave a process behind."""
    for argv in (["--help"], ["--version"], ["sync", "--help"], ["daemon", "--help"], ["help", "cache"]):
        own_pkgc.ok(*argv)
    assert own_pkgc.ok("--version").out == f"pkgc {__version__}\n"
    assert own_pkgc.run("status").status == 1
    status = own_pkgc.run("daemon", "status", "--output-format", "json")
    assert (status.status, status.json["running"]) == (1, False)
    assert own_pkgc.ok("daemon", "stop").out == "no pkgc daemon runs\n"
    assert daemons(own_pkgc) == []
    assert not own_pkgc.cache.exists()


def test_status_fields(own_pkgc: Instance) -> None:
    """Monitoring reads them; they are promised."""
    assert "started" in own_pkgc.ok("daemon", "start").out
    assert "runs already" in own_pkgc.ok("daemon", "start").out
    status = own_pkgc.ok("status", "--output-format", "json").json
    assert status["pid"] == daemons(own_pkgc)[0]
    assert status["version"] == __version__
    assert status["socket"] == str(own_pkgc.socket)
    assert status["cache_dir"] == str(own_pkgc.cache)
    assert 0 <= status["uptime_s"] < 60
    assert status["clients"] == 1
    assert str(status["pid"]) in own_pkgc.ok("daemon", "status").out


def test_restart_and_logs(own_pkgc: Instance) -> None:
    """Another process afterwards; the log tells of both."""
    own_pkgc.ok("daemon", "start")
    first = own_pkgc.pid()
    own_pkgc.ok("daemon", "restart")
    assert own_pkgc.pid() != first
    assert not alive(first)
    own_pkgc.ok("daemon", "stop")
    events = [json.loads(line)["event"] for line in own_pkgc.ok("daemon", "logs").out.splitlines()]
    assert (events.count("ready"), events.count("stopped")) == (2, 2)
    assert len(own_pkgc.ok("daemon", "logs", "-n", "1").out.splitlines()) == 1


def failed_start(instance: Instance, code: str) -> str:
    """The message of a start that must fail, in text and as JSON."""
    result = instance.run("cache", "dir")
    assert result.status in (1, 2), str(result)
    assert f"error[{code}]" in result.err
    answer = instance.run("cache", "dir", "--output-format", "json")
    assert answer.error_code == code
    wait_until(lambda: daemons(instance) == [], "nothing is left running", 5)
    return result.err


def test_start_with_unusable_cache(own_pkgc: Instance) -> None:
    """The reason, not "connection refused": a file stands where the cache should be."""
    own_pkgc.cache.write_text("")
    assert str(own_pkgc.cache) in failed_start(own_pkgc, "cache-unusable")


def test_start_with_a_newer_catalog(own_pkgc: Instance) -> None:
    """An older pkgc must not touch a newer one's catalog, and says so through the client."""
    own_pkgc.ok("daemon", "start")
    own_pkgc.ok("daemon", "stop")
    catalog = next(
        path for path in own_pkgc.cache.rglob("*") if path.suffix in (".sqlite", ".db", ".sqlite3")
    )
    with sqlite3.connect(catalog) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    assert "999" in failed_start(own_pkgc, "catalog-too-new")


def test_start_with_broken_configuration(own_pkgc: Instance) -> None:
    """The daemon reads it at start; its complaint must reach the user who wrote it."""
    Path(own_pkgc.env["PKGC_CONFIG"]).write_text("what = = 1\n")
    assert "config.toml" in failed_start(own_pkgc, "invalid-config")


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_socket_folder_open_to_others(own_pkgc: Instance, mode: int) -> None:
    """Whoever may write there could answer in the daemon's place and use this user's hands."""
    own_pkgc.run_dir.chmod(mode)
    message = failed_start(own_pkgc, "socket-folder")
    assert str(own_pkgc.run_dir) in message
    assert f"{mode:04o}" in message
    refused = own_pkgc.run("daemon", "run")
    assert "error[socket-folder]" in refused.err


def test_socket_of_a_foreign_folder_is_not_connected_to(own_pkgc: Instance) -> None:
    """A waiting impostor in another user's folder hears nothing from us."""
    if os.getuid() != 0:
        pytest.skip("needs root to give a folder away")
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(own_pkgc.socket))
        impostor.listen()
        impostor.setblocking(False)
        os.chown(own_pkgc.run_dir, 65534, 65534)
        failed_start(own_pkgc, "socket-folder")
        with pytest.raises(BlockingIOError):
            impostor.accept()


def test_file_at_the_socket_is_not_replaced(own_pkgc: Instance) -> None:
    """A mistyped PKGC_SOCKET must not cost a file."""
    own_pkgc.socket.write_text("precious")
    failed_start(own_pkgc, "socket-unusable")
    assert own_pkgc.socket.read_text() == "precious"


def test_stale_socket_is_recognised(own_pkgc: Instance) -> None:
    """After a crash or a power cut the next command simply works."""
    own_pkgc.ok("daemon", "start")
    own_pkgc.kill()
    assert own_pkgc.socket.exists()
    own_pkgc.ok("cache", "dir")


def test_live_socket_and_live_cache_are_never_taken(own_pkgc: Instance, tmp_path: Path) -> None:
    """A second daemon is refused with the reason; the first stays reachable."""
    own_pkgc.ok("daemon", "start")
    pid, inode = own_pkgc.pid(), own_pkgc.socket.stat().st_ino
    same_cache = own_pkgc.run("daemon", "run", "--socket", own_pkgc.run_dir / "other")
    assert same_cache.status == 1
    assert "error[cache-locked]" in same_cache.err
    assert str(pid) in same_cache.err or str(own_pkgc.cache) in same_cache.err
    same_socket = own_pkgc.run("daemon", "run", "--cache-dir", tmp_path / "other")
    assert same_socket.status == 1
    assert "error[socket-in-use]" in same_socket.err
    mismatch = own_pkgc.run("cache", "dir", env={"PKGC_CACHE_DIR": str(tmp_path / "third")})
    assert mismatch.status == 2
    assert "error[cache-mismatch]" in mismatch.err
    elsewhere = own_pkgc.run("cache", "dir", env={"PKGC_SOCKET": str(own_pkgc.run_dir / "other")}, timeout=20)
    assert elsewhere.status == 1
    assert "error[cache-locked]" in elsewhere.err
    assert (own_pkgc.pid(), own_pkgc.socket.stat().st_ino) == (pid, inode)


def test_another_programs_socket_is_not_taken(own_pkgc: Instance) -> None:
    """Not only pkgc's own sockets are alive."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(own_pkgc.socket))
        other.listen()
        result = own_pkgc.run("daemon", "run")
        assert "error[socket-in-use]" in result.err
        assert own_pkgc.socket.exists()


def test_found_without_runtime_dir(own_pkgc: Instance) -> None:
    """cron, su and `docker exec` have no XDG_RUNTIME_DIR: they find the daemon beside the cache's lock."""
    plain = {"PKGC_SOCKET": ""}
    own_pkgc.ok("cache", "dir", env=plain | {"XDG_RUNTIME_DIR": str(own_pkgc.run_dir)})
    status = own_pkgc.ok("status", "--output-format", "json", env=plain).json
    assert status["socket"] == str(own_pkgc.run_dir / "pkgc" / "pkgc.sock")
    own_pkgc.ok("daemon", "stop", env=plain)
    assert daemons(own_pkgc) == []


def test_long_socket_path(own_pkgc: Instance) -> None:
    """The kernel takes 107 bytes; homes and CI workspaces are longer."""
    folder = own_pkgc.run_dir / ("d" * 90) / ("e" * 90)
    env = {"PKGC_SOCKET": str(folder / "pkgc.sock")}
    own_pkgc.ok("cache", "dir", env=env)
    assert own_pkgc.ok("status", "--output-format", "json", env=env).json["socket"] == env["PKGC_SOCKET"]
    own_pkgc.ok("daemon", "stop", env=env)
    too_long = own_pkgc.run("cache", "dir", env={"PKGC_SOCKET": str(own_pkgc.run_dir / ("s" * 120))})
    assert "error[socket-unusable]" in too_long.err


def test_daemon_keeps_nothing_of_the_client_that_started_it(own_pkgc: Instance, tmp_path: Path) -> None:
    """A script's lock or pipe must not stay open for half an hour, nor its folder in use."""
    read, write = os.pipe()
    folder = tmp_path / "gone"
    folder.mkdir()
    client = own_pkgc.start("cache", "dir", cwd=folder, pass_fds=(write,))
    client.communicate()
    os.close(write)
    os.set_blocking(read, False)
    assert os.read(read, 1) == b""  # BlockingIOError: somebody still holds the other end
    os.close(read)
    assert os.readlink(f"/proc/{own_pkgc.pid()}/cwd") == "/"


# --- going ----------------------------------------------------------------------------------------------


def test_idle_exit_races_new_calls(tmp_path: Path) -> None:
    """A daemon that goes when nobody needs it must never fail the one who comes at that moment."""
    with running(tmp_path / "pkgc") as instance:
        instance.env["PKGC_IDLE_EXIT"] = "1"
        pids = set()
        for turn in range(7):
            instance.ok("cache", "dir")
            pids.update(daemons(instance))
            time.sleep(0.97 + 0.015 * turn)
        assert len(pids) > 1, "no daemon went away: nothing was raced"
        wait_until(lambda: daemons(instance) == [], "idle exit", 5)
        assert not instance.socket.exists()


def test_stop_drains_a_running_sync(
    own_pkgc: Instance, index: IndexServer, slow: BuiltWheel, venv: Path
) -> None:
    """An upgrade of pkgc must not break a colleague's job; and stop returns when the process is gone."""
    index.behave_well(slow.filename)
    index.behave(slow.filename, Behaviour(times=None, rate=1_600_000))
    client = begin(own_pkgc, index, slow, venv)
    pid = own_pkgc.pid()
    stops = [own_pkgc.start("daemon", "stop")]
    wait_until(lambda: not own_pkgc.socket.exists(), "the drain has begun")
    stops.append(own_pkgc.start("daemon", "stop"))
    late = own_pkgc.start("cache", "dir")  # comes in the drain: gets the next daemon, not an error
    for stop in stops:
        stop.communicate(timeout=30)
        assert stop.returncode == 0
        assert not alive(pid)
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, (out, err)
    out, err = late.communicate(timeout=30)
    assert late.returncode == 0, err


def test_stop_while_the_daemon_starts(own_pkgc: Instance) -> None:
    """A stop that meets a daemon which holds the cache but does not listen yet must not wait for ever."""
    for turn in range(5):
        client = own_pkgc.start("cache", "dir")
        time.sleep(0.05 + 0.06 * turn)
        own_pkgc.ok("daemon", "stop", timeout=20)
        _, err = client.communicate(timeout=20)
        assert client.returncode == 0, err


def test_stop_does_not_wait_for_a_client_that_reads_nothing(own_pkgc: Instance) -> None:
    """A forgotten pager or a half-open connection must not hold up a shutdown for minutes."""
    own_pkgc.ok("daemon", "start")
    pid = own_pkgc.pid()
    with RawClient(own_pkgc.socket) as silent, RawClient(own_pkgc.socket) as greeted:
        greeted.send(hello(own_pkgc.cache))
        began = time.monotonic()
        own_pkgc.ok("daemon", "stop")
        assert time.monotonic() - began < 6
        assert not alive(pid)
        assert silent.rest() == []


@pytest.fixture
def other_version(own_pkgc: Instance, tmp_path: Path) -> Iterator[Path]:
    """The `pkgc` command of another version, installed beside this one."""
    base = tmp_path / "other"
    venv_module.create(base, symlinks=True)
    for package in ("protocol", "client", "daemon"):
        shutil.copytree(ROOT / package, base / package, ignore=shutil.ignore_patterns("__pycache__"))
    version = base / "protocol" / "pkgc_protocol" / "version.py"
    version.write_text(version.read_text().replace(f'"{__version__}"', '"99.0"'))
    site = next(base.glob("lib/python*/site-packages"))
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    lines = [str(base / package) for package in ("protocol", "client", "daemon")] + [dependencies]
    (site / "other.pth").write_text("\n".join(lines) + "\n")
    command = base / "bin" / "pkgc"
    command.write_text(f"#!{base / 'bin' / 'python'}\nfrom pkgc_client.hot import main\nmain()\n")
    command.chmod(0o755)
    yield command
    own_pkgc.command = Path(sys.executable).with_name("pkgc")


def test_another_version_replaces_the_daemon(
    own_pkgc: Instance, index: IndexServer, slow: BuiltWheel, venv: Path, other_version: Path
) -> None:
    """After an upgrade the new client works at once, and what the old daemon serves is finished."""
    index.behave_well(slow.filename)
    index.behave(slow.filename, Behaviour(times=None, rate=1_600_000))
    client = begin(own_pkgc, index, slow, venv)
    old = own_pkgc.pid()
    own_pkgc.command = other_version
    assert own_pkgc.ok("--version").out == "pkgc 99.0\n"
    own_pkgc.ok("cache", "dir")
    status = own_pkgc.status()
    assert status is not None
    assert status["version"] == "99.0"
    assert status["pid"] != old
    out, err = client.communicate(timeout=30)
    assert client.returncode == 0, (out, err)
    wait_until(lambda: daemons(own_pkgc) == [status["pid"]], "the old one is gone", 5)


def test_version_mismatch_on_the_wire(own_pkgc: Instance) -> None:
    """The typed answer that lets a client replace the daemon; others get their own."""
    own_pkgc.ok("daemon", "start")
    pid = own_pkgc.pid()
    for other, code in (
        ({"protocol": [2, 0], "software": "99"}, "protocol-mismatch"),
        ({"magic": "http"}, "protocol-mismatch"),
        ({"protocol": []}, "protocol-mismatch"),
        ({"cache_dir": "/elsewhere", "software": "99"}, "cache-mismatch"),
    ):
        with RawClient(own_pkgc.socket) as client:
            client.send(hello(own_pkgc.cache, **other))
            assert [m.get("code", m["t"]) for m in client.rest()] == ["hello", code]
    assert own_pkgc.pid() == pid
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache, software="99"), invoke("status"))
        assert [m.get("code", m["t"]) for m in client.rest()] == ["hello", "version-mismatch"]
    wait_until(lambda: not alive(pid), "the daemon made way", 5)


# --- interrupted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_mid_download(
    pkgc: Instance, index: IndexServer, slow: BuiltWheel, venv: Path, number: signal.Signals
) -> None:
    """Ctrl-C means: stop now, leave everything as it was, say 130."""
    client = begin(pkgc, index, slow, venv)
    before = sorted(venv.rglob("*"))
    began = time.monotonic()
    client.send_signal(number)
    _, err = client.communicate(timeout=10)
    assert client.returncode == 130, err
    assert time.monotonic() - began < 2
    assert err.count("error[interrupted]") == 1
    wait_until(lambda: index.active == 0, "the transfer has stopped", 1)
    assert sorted(venv.rglob("*")) == before
    assert pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_mid_apply(
    pkgc: Instance, index: IndexServer, tmp_path: Path, venv: Path, number: signal.Signals
) -> None:
    """Whatever the moment: 130 and the environment as before, or 0 and the environment as wanted."""
    files = {f"many/m{n}.py": "x = 1\n" for n in range(1500)}
    wheel = make_wheel("many", "1.0", files)
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(f"many==1.0 --hash=sha256:{wheel.sha256}")
    pkgc.ok("fetch", lock, "-i", index.url)
    pkgc.sync(pkgc.requirements("", name="empty.txt"), "--venv", venv, "-i", index.url)
    seen = set()
    site = next(venv.glob("lib/python*/site-packages"))
    for delay in (0.0, 0.03, 0.15, 0.6):
        client = pkgc.start("sync", lock, "--venv", venv, "-i", index.url, "--compile-bytecode")
        staging = venv / ".pkgc"
        wait_until(lambda: staging.exists() or client.poll() is not None, "the change has begun")  # noqa: B023
        time.sleep(delay)
        client.send_signal(number)
        _, err = client.communicate(timeout=20)
        wait_until(lambda: not staging.exists(), "the change is over", 5)  # noqa: B023
        installed = sorted(path.name for path in site.iterdir() if path.name != "__pycache__")
        seen.add(client.returncode)
        if client.returncode == 0:
            assert installed == ["many", "many-1.0.dist-info"]
            pkgc.sync(pkgc.requirements("", name="empty.txt"), "--venv", venv, "-i", index.url)
        else:
            assert client.returncode == 130, err
            assert installed == []
    assert 130 in seen


def test_client_killed_in_mid_download(
    own_pkgc: Instance, index: IndexServer, slow: BuiltWheel, venv: Path
) -> None:
    """A killed job must not go on downloading; what came is kept for the next one."""
    client = begin(own_pkgc, index, slow, venv)
    client.kill()
    client.communicate()
    wait_until(lambda: index.active == 0, "the transfer has stopped", 1.5)
    wait_until(lambda: own_pkgc.pid() and own_pkgc.status()["calls"]["running"] <= 1, "the call is over")  # type: ignore[index]
    index.behave_well()
    index.clear_log()
    lock = own_pkgc.requirements(f"slow==1.0 --hash=sha256:{slow.sha256}")
    own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert [hit.range is not None for hit in index.requests_for(slow.filename)] == [True]


def test_daemon_killed_in_mid_download(
    own_pkgc: Instance, index: IndexServer, slow: BuiltWheel, venv: Path
) -> None:
    """The client says so and ends; the next sync starts a daemon that resumes what had arrived."""
    client = begin(own_pkgc, index, slow, venv)
    time.sleep(1.2)  # what arrived is on disk within 1 s
    own_pkgc.kill()
    _, err = client.communicate(timeout=10)
    assert client.returncode == 1
    assert "error[daemon-vanished]" in err
    assert daemons(own_pkgc) == []
    index.behave_well()
    index.clear_log()
    lock = own_pkgc.requirements(f"slow==1.0 --hash=sha256:{slow.sha256}")
    answer = own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert answer["installed"][0]["name"] == "slow"
    assert [hit.range is not None for hit in index.requests_for(slow.filename)] == [True]


# --- bad company ----------------------------------------------------------------------------------------


def test_clients_that_break_the_rules(own_pkgc: Instance) -> None:
    """Garbage, half frames, second requests: each ends its own connection only, with a typed answer."""
    own_pkgc.ok("daemon", "start")
    pid = own_pkgc.pid()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0\0\0\x01\xc0", b"\0\0\0\0"):
        with RawClient(own_pkgc.socket) as client:
            client.sock.sendall(noise)
            assert [m.get("code") for m in client.rest()] == ["protocol-error"]
    with RawClient(own_pkgc.socket) as client:
        client.send(invoke("status"))
        assert [m.get("code") for m in client.rest()] == ["protocol-error"]
    with RawClient(own_pkgc.socket) as client:  # gone in the middle of a frame
        client.sock.sendall(b"\0\0\0\x50abc")
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), invoke("cache", "dir"), invoke("cache", "clean"))
        assert client.rest()[-1]["t"] in ("refuse", "result")
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), {"t": "reply", "id": 1, "value": None})
        assert client.rest()[-1].get("code") == "protocol-error"
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), {"t": "result", "exit": 0})
        assert client.rest()[-1].get("code") == "protocol-error"
    assert own_pkgc.pid() == pid


def test_malformed_reply_ends_the_call(own_pkgc: Instance) -> None:
    """A reply that passes the table and is still nonsense must not leave the call hanging for ever."""
    own_pkgc.ok("daemon", "start")
    forced = {"PKGC_FORCE_HOST_CALLS": "1", "HOME": "/"}
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), invoke("cache", "dir", env=forced))
        number = client.until("call")["id"]
        client.send({"t": "reply", "id": number, "error": {"code": "x", "exit": "not a number"}})
        assert client.rest()[-1]["t"] in ("refuse", "result")
    status = own_pkgc.status()
    assert status is not None
    assert status["calls"]["running"] == 1


def test_half_a_frame_slowly_hits_the_deadline(own_pkgc: Instance) -> None:
    """A byte a second for ever would hold a connection for ever; others are served meanwhile."""
    own_pkgc.ok("daemon", "start")
    with RawClient(own_pkgc.socket) as client:
        began = time.monotonic()
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.5):
                try:
                    client.sock.send(b"\0")
                except OSError:
                    return

        client.sock.sendall((60_000).to_bytes(4, "big"))
        thread = threading.Thread(target=drip)
        thread.start()
        own_pkgc.ok("cache", "dir")
        client.rest()
        stop.set()
        thread.join()
        assert 8 < time.monotonic() - began < 15


def test_client_that_never_reads(own_pkgc: Instance) -> None:
    """Its answers wait in bounded memory; the daemon serves the others and forgets it when it leaves."""
    own_pkgc.ok("daemon", "start")
    silent = [RawClient(own_pkgc.socket) for _ in range(20)]
    for client in silent:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.send(hello(own_pkgc.cache), invoke("sync", "--help"), *[{"t": "cancel"}] * 20)
    began = time.monotonic()
    own_pkgc.ok("cache", "dir")
    assert time.monotonic() - began < 5
    for client in silent:
        client.sock.close()
    wait_until(lambda: (own_pkgc.status() or {}).get("clients") == 1, "they are forgotten")


def settled(fds: Path) -> int:
    """How many descriptors a daemon has once it opens no more (some come after its first call)."""
    count, same = -1, 0
    while same < 5:
        now = len(list(fds.iterdir()))
        count, same = now, same + 1 if now == count else 0
        time.sleep(0.1)
    return count


def test_five_hundred_idle_connections(own_pkgc: Instance) -> None:
    """One careless user's connections must not stop another's command, nor stay behind as descriptors."""
    own_pkgc.ok("cache", "dir")
    fds = Path(f"/proc/{own_pkgc.pid()}/fd")
    own_pkgc.ok("cache", "dir")
    before = settled(fds)
    idle = [RawClient(own_pkgc.socket) for _ in range(500)]
    wait_until(lambda: len(list(fds.iterdir())) >= before + 500, "all are accepted")
    began = time.monotonic()
    own_pkgc.ok("cache", "dir")
    assert time.monotonic() - began < 5
    for client in idle:
        client.sock.close()
    wait_until(lambda: len(list(fds.iterdir())) <= before, "all descriptors are given back")


def test_passed_descriptors_are_not_kept(own_pkgc: Instance) -> None:
    """A client that sends open files with its bytes must not use up the daemon's descriptors."""
    own_pkgc.ok("cache", "dir")
    fds = Path(f"/proc/{own_pkgc.pid()}/fd")
    before = settled(fds)
    with RawClient(own_pkgc.socket) as client, open(os.devnull) as null:
        socket.send_fds(client.sock, [b"\0\0"], [null.fileno()] * 200)
        time.sleep(0.2)
        assert len(list(fds.iterdir())) <= before + 1
