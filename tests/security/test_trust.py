"""Trust: who may have the daemon act itself; one table, default deny, checked against real peers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.hands import HANDS
from pkgc_daemon.serving.hostcalls import World
from pkgc_daemon.serving.trust import TABLE, Peer, PeerClass, actor, identify
from pkgc_protocol.states import CLIENT, TRANSITIONS
from tests.support.instance import Instance
from tests.support.rawclient import hello, invoke
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel

CLASSES: tuple[PeerClass, ...] = ("own", "own-elsewhere", "other")
HANDS_OF_THE_CLIENT = {"read_stdin", "read_variables"} | {
    # code of others, and the person's own credentials: never with the rights of a daemon
    *("begin_build", "end_build", "prepare_source", "run_build", "resolve_git", "checkout_git"),
}


@pytest.mark.parametrize("peer", CLASSES)
@pytest.mark.parametrize("verb", TABLE)
def test_matrix(verb: str, peer: PeerClass) -> None:
    """Written down a second time: a change of the table must be meant."""
    if verb == "invoke":
        expected = "deny" if peer == "other" else "daemon"
    elif verb == "stop":
        expected = "daemon" if peer == "own" else "deny"
    elif verb in HANDS_OF_THE_CLIENT or peer != "own":
        expected = "client"
    else:
        expected = "daemon"
    assert actor(verb, peer) == expected


def test_every_hand_and_request_is_in_the_table() -> None:
    """A verb that somebody adds and forgets here would be denied to all; say so before a user finds out."""
    requests = {kind for kind, target in TRANSITIONS[CLIENT, "open"].items() if target == "running"}
    assert HANDS.keys() | requests | {"read_stdin"} == TABLE.keys()
    for row in TABLE.values():
        assert row.keys() == set(CLASSES)


@pytest.mark.parametrize("peer", CLASSES)
@pytest.mark.parametrize("verb", ["run_code", "", "INVOKE", "invoke ", "__class__"])
def test_unlisted_verbs_are_denied(verb: str, peer: PeerClass) -> None:
    """Default deny, for one's own peers too."""
    assert actor(verb, peer) == "deny"


class _Nobody:
    async def call(self, verb: str, args: object, report: object) -> object:
        raise AssertionError(f"{verb} was asked of the client")


async def test_denied_verb_does_nothing() -> None:
    """A denied hand runs neither here nor there."""
    world = World(Peer(1, 1, "own"), _Nobody(), None, {})  # type: ignore[arg-type]
    with pytest.raises(PkgcError) as caught:
        await world.do("read_file", {"paths": ["/etc/passwd"]}, rule="not-in-the-table")
    assert caught.value.code == "verb-denied"


def test_peer_is_what_the_kernel_says() -> None:
    """Credentials are the kernel's integers: this process is its own peer, in its own world."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert identify(ours) == Peer(os.getuid(), os.getpid(), "own")


AS_NOBODY = """
import json, os, sys
sys.path[:0] = %r
from pathlib import Path
from tests.support.rawclient import RawClient
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with RawClient(Path(sys.argv[1])) as client:
    client.send(*json.loads(sys.argv[2]))
    print(json.dumps([m for m in client.rest() if m["t"] != "hello"]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("request_frame", [invoke("cache", "dir"), invoke("cache", "clean"), {"t": "stop"}])
def test_another_uid_is_refused(own_pkgc: Instance, request_frame: dict[str, object]) -> None:
    """Reached through a folder that was opened by mistake, the daemon still serves its own user only."""
    own_pkgc.ok("daemon", "start")
    before = own_pkgc.status()
    assert before is not None
    own_pkgc.run_dir.chmod(0o711)
    own_pkgc.socket.chmod(0o666)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AS_NOBODY % sys.path,
            own_pkgc.socket,
            json.dumps([hello(own_pkgc.cache), request_frame]),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert (answer["t"], answer["code"]) == ("refuse", "peer-not-allowed")
    assert "65534" in answer["message"]
    after = own_pkgc.status()
    assert after is not None
    assert after["pid"] == before["pid"]
    assert after["calls"]["served"] == before["calls"]["served"] + 1  # the status call before
    assert after["refused"] == {"peer-not-allowed": 1}


def _unshare_works() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _unshare_works(), reason="no mount namespace of its own to be had")
def test_client_in_another_mount_namespace(
    own_pkgc: Instance, index: IndexServer, demo: BuiltWheel, tmp_path: Path
) -> None:
    """A container sees other files under the same paths: the daemon must not open them, the client does."""
    own_pkgc.ok("daemon", "start")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    lock = hidden / "requirements.txt"
    lock.write_text("this is what the daemon would see\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "requirements.txt").write_text(f"demo==1.0 --hash=sha256:{demo.sha256}\n")

    def inside(*args: str | Path) -> subprocess.CompletedProcess[str]:
        script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", other, hidden]
        return subprocess.run(
            [*map(str, command), *own_pkgc.argv(*args)],
            env=own_pkgc.env,
            capture_output=True,
            text=True,
            check=False,
        )

    done = inside("sync", lock, "--venv", hidden / "venv", "-i", index.url, "--output-format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["installed"][0]["name"] == "demo"
    assert (other / "venv" / "bin" / "demo").exists()
    assert not (hidden / "venv").exists(), "the daemon acted in its own world"
    again = inside("sync", lock, "--venv", hidden / "venv", "-i", index.url, "--output-format", "json")
    assert json.loads(again.stdout)["kept"] == 1
    pid = own_pkgc.pid()
    stop = inside("daemon", "stop")
    assert (stop.returncode, "error[verb-denied]" in stop.stderr) == (1, True)
    assert own_pkgc.pid() == pid


@pytest.mark.parametrize(("value", "forced"), [("1", True), ("0", False), ("", False)])
def test_forced_host_calls(own_pkgc: Instance, demo: BuiltWheel, value: str, forced: bool) -> None:
    """The debug switch that lets the whole suite run the other way must really switch."""
    from tests.support.rawclient import RawClient

    own_pkgc.ok("daemon", "start")
    env = {"PKGC_FORCE_HOST_CALLS": value, "HOME": str(own_pkgc.home)}
    with RawClient(own_pkgc.socket) as client:
        client.send(hello(own_pkgc.cache), invoke("cache", "dir", env=env))
        first = next(m for m in iter(lambda: client.until("call") if forced else client.rest()[-1], None))
        assert first["t"] == ("call" if forced else "result")
