"""Large wheels are unpacked while they arrive: whatever ends that, the store holds whole trees or none."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.faults.test_disk import fill, small_disk
from tests.support.faults import (
    assert_holds,
    assert_sound,
    finish,
    kill_client,
    lock,
    noise,
    offer,
    state,
)
from tests.support.instance import Instance, wait_until
from tests.support.locks import failure
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

MB = 1_000_000
#: Above the 32 MiB from which on a wheel is unpacked ahead.
SIZE = 36 * MB


def large(version: str = "1.0") -> BuiltWheel:
    """A wheel of one large file and some small ones."""
    files: dict[str, bytes | str] = {
        "alpha/__init__.py": f"__version__ = {version!r}\n",
        "alpha/weights.bin": noise(f"alpha {version}", SIZE),
        "alpha/after.py": "x = 1\n",
    }
    return make_wheel("alpha", version, files, compression=zipfile.ZIP_STORED)


@pytest.fixture(scope="module")
def wheel() -> BuiltWheel:
    return large()


def drafts(pkgc: Instance) -> list[Path]:
    return [path for path in (pkgc.cache / "tmp").glob("*/root") if path.is_dir()]


def trees(pkgc: Instance) -> list[Path]:
    return list((pkgc.cache / "trees").glob("*/*"))


@pytest.mark.parametrize("how", ["ranges", "no ranges", "another file since"])
def test_daemon_killed_while_it_unpacks_what_arrives(
    own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel, how: str
) -> None:
    """After kill -9 there must be no tree, and the next sync must end right whatever the server does now."""
    pkgc = own_pkgc
    offer(index, wheel)
    first = Behaviour(times=1, rate=12 * MB)
    if how == "another file since":
        first = Behaviour(times=1, rate=12 * MB, data=large("9").data, etag='"old"')
    again = Behaviour(times=None, ranges=how != "no ranges")
    index.behave(wheel.filename, first, again)
    call = ("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    empty = state(venv)
    pkgc.ok("cache", "dir")
    client = pkgc.start(*call)
    wait_until(lambda: any(folder.rglob("weights.bin") for folder in drafts(pkgc)), "unpacking has begun")
    pkgc.kill()
    kill_client(client)
    assert trees(pkgc) == []
    assert state(venv) == empty
    answer = pkgc.sync(*call[1:])
    last = index.requests_for(wheel.filename)[-1]
    assert last.status == (206 if how == "ranges" else 200)
    assert answer["downloaded"]["bytes"] == last.sent
    if how == "ranges":
        assert last.sent < len(wheel.data) - 2 * MB
    assert_holds(venv, wheel)
    wait_until(lambda: drafts(pkgc) == [], "the drafts are gone")
    assert_sound(pkgc)


def test_body_with_another_hash(
    own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel
) -> None:
    """Bytes that are not the lock's must not leave a file anywhere, although they were unpacked already."""
    pkgc = own_pkgc
    offer(index, wheel)
    other = large("2.0")
    index.behave(wheel.filename, Behaviour(times=None, data=other.data, rate=60 * MB))
    empty = state(venv)
    client = pkgc.start(
        "sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url, "--output-format", "json"
    )
    wait_until(lambda: drafts(pkgc), "unpacking has begun")
    status, out, _err = finish(client)
    assert status == 1
    assert "hash-mismatch" in out
    assert trees(pkgc) == []
    assert state(venv) == empty
    wait_until(lambda: drafts(pkgc) == [], "what was unpacked is gone")
    assert_sound(pkgc)
    index.behave_well()
    pkgc.sync(lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert_holds(venv, wheel)


def test_local_headers_that_lie(
    own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel
) -> None:
    """A wheel that names one file while it arrives and another in its directory is refused as ever."""
    pkgc = own_pkgc
    data = wheel.data.replace(b"alpha/after.py", b"alpha/other.py", 1)
    assert data != wheel.data
    liar = wheel._replace(data=data, sha256=hashlib.sha256(data).hexdigest())
    offer(index, liar)
    empty = state(venv)
    error = failure(pkgc, "sync", lock(pkgc, "new.txt", [liar]), "--venv", venv, "-i", index.url)
    assert error["code"] == "bad-archive"
    assert "two names" in error["message"]
    assert trees(pkgc) == []
    assert drafts(pkgc) == []
    assert state(venv) == empty


def test_cut_and_changed_in_mid_download(
    own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel
) -> None:
    """A mirror that is replaced during the download must not mix two files into one tree."""
    pkgc = own_pkgc
    offer(index, wheel)
    old = Behaviour(times=1, data=large("9").data, truncate_after=20 * MB, etag='"old"')
    index.behave(wheel.filename, old, Behaviour(times=1, truncate_after=25 * MB), Behaviour(times=1))
    pkgc.sync(lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert [hit.status for hit in index.requests_for(wheel.filename)] == [200, 200, 206]
    assert_holds(venv, wheel)
    wait_until(lambda: drafts(pkgc) == [], "the drafts are gone")
    assert_sound(pkgc)


def test_disk_full_in_mid_download(
    own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel
) -> None:
    """The user reads "disk full", nothing stays, and the same daemon succeeds as soon as there is room."""
    pkgc = own_pkgc
    offer(index, wheel)
    with small_disk(pkgc.cache, 100) as disk:
        new_lock = lock(pkgc, "new.txt", [wheel])
        pkgc.ok("cache", "dir")
        # The file fits and so does a part of what is in it, but not both.
        ballast = fill(disk, 60 * MB)
        error = failure(pkgc, "sync", new_lock, "--venv", venv, "-i", index.url)
        assert (error["code"], error["exit"]) == ("disk-full", 1)
        wait_until(lambda: drafts(pkgc) == [], "the drafts are gone")
        assert trees(pkgc) == []
        pid = pkgc.pid()
        ballast.unlink()
        pkgc.sync(new_lock, "--venv", venv, "-i", index.url)
        assert_holds(venv, wheel)
        assert pkgc.pid() == pid
        pkgc.ok("daemon", "stop")


def test_the_client_leaves(own_pkgc: Instance, index: IndexServer, venv: Path, wheel: BuiltWheel) -> None:
    """Ctrl-C in mid-download: what was unpacked goes, what was downloaded stays for the next time."""
    pkgc = own_pkgc
    offer(index, wheel)
    index.behave(wheel.filename, Behaviour(times=1, rate=12 * MB))
    call = ("sync", lock(pkgc, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    client = pkgc.start(*call)
    wait_until(lambda: drafts(pkgc), "unpacking has begun")
    kill_client(client)
    wait_until(lambda: drafts(pkgc) == [], "what was unpacked is gone")
    pkgc.sync(*call[1:])
    assert index.requests_for(wheel.filename)[-1].status == 206
    assert_holds(venv, wheel)
    assert_sound(pkgc)
