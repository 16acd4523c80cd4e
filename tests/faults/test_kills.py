"""kill -9 of whoever acts, anywhere in a sync: afterwards the environment is old or new, never half."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.support.faults import (
    armed_daemon,
    assert_holds,
    assert_sound,
    client_acts,
    finish,
    kill_client,
    lock,
    offer,
    package,
    state,
    stop_there,
)
from tests.support.instance import Instance, alive, wait_until
from tests.support.server import Behaviour, IndexServer
from tests.support.storm import Storm

#: In the order in which they are passed; the number picks one of many renames.
POINTS = (
    "locked",
    "staged *#2",
    "before-journal",
    "journal-written",
    "journaled",
    "aside *",
    "aside *#4",
    "place *",
    "place *#6",
    "committed",
)


def test_kill_at_every_stage_of_an_install(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """A power cut or the OOM killer in mid-install would leave an environment that imports half a package."""
    kept, gone = package("kept", "1.0"), package("gone", "1.0")
    old = [kept, gone, package("alpha", "1.0"), package("beta", "1.0")]
    new = [kept, package("alpha", "2.0"), package("beta", "2.0"), package("fresh", "2.0")]
    offer(index, *old, *new)
    old_lock, new_lock = lock(pkgc, "old.txt", old), lock(pkgc, "new.txt", new)
    options = ("--venv", venv, "-i", index.url)
    pkgc.sync(new_lock, *options)
    new_state = state(venv)
    pkgc.sync(old_lock, *options)
    old_state = state(venv)
    for number, point in enumerate(POINTS):
        stop_there(pkgc, f"checkpoint:{point}", "sync", new_lock, *options)
        committed = point == "committed"
        # Never "up to date" over a half-installed package; --check itself changes nothing.
        checked = pkgc.run("sync", new_lock, *options, "--check")
        assert checked.status == (0 if committed else 1), f"{point}: {checked}"
        if number % 2:
            # Back to the old lock, which must be the old state to the byte …
            pkgc.sync(old_lock, *options)
            assert state(venv) == old_state, point
            continue
        # … or the same once more: the change is done anew.
        pkgc.sync(new_lock, *options)
        assert state(venv) == new_state, point
        pkgc.sync(old_lock, *options)
    assert state(venv) == old_state
    assert_holds(venv, *old)
    assert_sound(pkgc)


def test_kill_while_the_undoing_runs(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """Whoever kills a sync out of impatience kills the next one too: undoing must survive that."""
    old, new = [package("alpha", "1.0")], [package("alpha", "2.0")]
    offer(index, *old, *new)
    old_lock, new_lock = lock(pkgc, "old.txt", old), lock(pkgc, "new.txt", new)
    options = ("--venv", venv, "-i", index.url)
    pkgc.sync(old_lock, *options)
    old_state = state(venv)
    stop_there(pkgc, "checkpoint:place *#2", "sync", new_lock, *options)
    assert state(venv) != old_state
    for point in ("undone *", "undone *#2", "undone"):
        stop_there(pkgc, f"checkpoint:{point}", "sync", old_lock, *options)
    pkgc.sync(old_lock, *options)
    assert state(venv) == old_state
    assert_sound(pkgc)


def test_kill_while_a_new_environment_is_made(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A killed first sync must not leave a folder that every later sync refuses."""
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    new_lock = lock(pkgc, "new.txt", [wheel])
    pkgc.ok("cache", "dir")
    create = "pkgc_daemon.environments.create"
    for number, point in enumerate(
        (f"before:{create}:_move_in", f"after:{create}:_move_in", "checkpoint:place *")
    ):
        venv = tmp_path / f"new{number}"
        stop_there(pkgc, point, "sync", new_lock, "--venv", venv, "-i", index.url)
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
        assert_holds(venv, wheel)
        assert sorted(path.name for path in venv.iterdir() if path.name.startswith(".")) in (
            [],
            [".lock"],
            [".gitignore", ".lock"],
        )
    assert_sound(pkgc)


def test_daemon_killed_in_mid_download_resumes(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """After a crash a 3 GB download must go on where it was, not start again (invariant 3)."""
    wheel = package("alpha", "1.0", big=3_000_000)
    offer(index, wheel)
    index.behave(wheel.filename, Behaviour(times=1, rate=1_500_000))
    new_lock = lock(pkgc, "new.txt", [wheel])
    call = ("sync", new_lock, "--venv", venv, "-i", index.url)
    empty = state(venv)
    pkgc.ok("cache", "dir")
    client = pkgc.start(*call)
    wait_until(lambda: partial_size(pkgc) > 600_000, "a part is on the disk")
    kill_client(client) if not client_acts(pkgc) else None
    kept = partial_size(pkgc)
    pkgc.kill()
    kill_client(client)
    assert state(venv) == empty
    answer = pkgc.sync(*call[1:])
    hits = index.requests_for(wheel.filename)
    assert hits[-1].status == 206
    first = int(str(hits[-1].range).removeprefix("bytes=").rstrip("-"))
    assert first >= kept - 300_000
    assert hits[-1].sent == len(wheel.data) - first
    assert answer["downloaded"] == {"files": 1, "bytes": len(wheel.data) - first}
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_client_killed_in_mid_download(pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """When the only one who wanted it is gone, the transfer ends, and the next client goes on with it."""
    wheel = package("alpha", "1.0", big=3_000_000)
    offer(index, wheel)
    index.behave(wheel.filename, Behaviour(times=1, rate=1_000_000))
    call = ("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    pkgc.ok("cache", "dir")
    pid = pkgc.pid()
    client = pkgc.start(*call)
    wait_until(lambda: partial_size(pkgc) > 400_000, "a part is on the disk")
    kill_client(client)
    wait_until(lambda: index.active == 0, "the transfer was cancelled")
    assert alive(pid)
    pkgc.sync(*call[1:])
    hits = index.requests_for(wheel.filename)
    assert [hit.status for hit in hits] == [200, 206]
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_other_waiters_outlive_a_killed_client(
    own_pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A shared download must not die with the client that happened to start it."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0", big=2_000_000)
    offer(index, wheel)
    index.behave(wheel.filename, Behaviour(times=1, rate=700_000))
    new_lock = lock(pkgc, "new.txt", [wheel])
    first = pkgc.start("sync", new_lock, "--venv", tmp_path / "one", "-i", index.url)
    wait_until(lambda: partial_size(pkgc) > 200_000, "a part is on the disk")
    second = pkgc.start("sync", new_lock, "--venv", tmp_path / "two", "-i", index.url)
    wait_until(lambda: (pkgc.status() or {})["calls"]["running"] >= 3, "both are there")
    time.sleep(0.5)  # nothing tells from outside that the second waits for the same transfer
    kill_client(first)
    status, out, err = finish(second)
    assert status == 0, out + err
    assert [hit.status for hit in index.requests_for(wheel.filename)] == [200]
    assert_holds(tmp_path / "two", wheel)
    assert_sound(pkgc)


@pytest.mark.parametrize(
    "point",
    [
        "before:pkgc_daemon.store.artifacts:write_atomically",
        "after:pkgc_daemon.store.artifacts:write_atomically",
        "after:pkgc_daemon.store.artifacts:publish",
        "before:pkgc_daemon.store.trees:write_atomically",
        "after:pkgc_daemon.store.trees:write_atomically",
        "after:pkgc_daemon.store.trees:build",
        "before:pkgc_daemon.archives.wheel:_Wheel._write_small#3",
    ],
)
def test_daemon_killed_while_it_publishes(
    own_pkgc: Instance, index: IndexServer, venv: Path, point: str
) -> None:
    """Half an artifact or half a tree in the store would be installed by everyone who comes later."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0", big=200_000)
    offer(index, wheel)
    call = ("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    stop_there(pkgc, point, *call)
    assert_sound_after_restart(pkgc)
    pkgc.sync(*call[1:])
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def assert_sound_after_restart(pkgc: Instance) -> None:
    """The next daemon sweeps what the killed one left before it serves anybody."""
    pkgc.ok("cache", "dir")
    assert_sound(pkgc, partial=True)


def test_client_tries_again_when_its_daemon_dies(own_pkgc: Instance, index: IndexServer, venv: Path) -> None:
    """A daemon that dies before it answered is no reason for an error: the call is safe to repeat."""
    pkgc = own_pkgc
    wheel = package("alpha", "1.0")
    offer(index, wheel)
    with armed_daemon(pkgc, "checkpoint:place *#2=kill") as daemon:
        client = pkgc.start("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
        daemon.wait_dead()
        status, _out, err = finish(client)
    assert (status == 0 and "Installed" in err) or "daemon-vanished" in err, err
    pkgc.sync(lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert_holds(venv, wheel)
    assert_sound(pkgc)


def test_twenty_random_kills_under_load(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """What nobody thought of: kills at any moment; a sync that reports success has left exactly its lock."""
    seed = 20_261_120
    print("seed", seed)
    rng = random.Random(seed)
    storm = Storm(pkgc, index, tmp_path, seed)
    storm.start()
    try:
        for number in range(20):
            time.sleep(rng.uniform(0.02, 0.45))
            storm.kill_one(daemon=number % 2 == 0)
    finally:
        storm.stop()
    storm.settle()
    print(storm.report)
    assert storm.report.wrong == []
    assert storm.report.syncs["ok"] > 0
    # what a kill left of a download that no later lock wants waits for the next one that does
    assert_sound(pkgc, partial=True)


def partial_size(pkgc: Instance) -> int:
    """Bytes of the largest partial download."""
    return max((path.stat().st_size for path in (pkgc.cache / "incoming").glob("*.part")), default=0)
