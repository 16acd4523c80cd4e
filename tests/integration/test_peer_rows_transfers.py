"""Scenarios in which other installers transfer bytes again, give up, or show a secret: one test each.

Every test is named after its row; what the server saw (how often, which ranges, which headers) is the proof.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import noise
from tests.support.instance import Instance, alive, snapshot, wait_until
from tests.support.locks import failure, holds, pin, site
from tests.support.peerrows import WAYS, both_ways, listed, record, statuses
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: Attempts without progress.
ATTEMPTS = 3


@pytest.fixture(scope="module", params=WAYS)
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for each way, which gives up after a few attempts without progress."""
    with both_ways(request, tmp_path_factory, f"[network]\nretries = {ATTEMPTS}\n") as instance:
        yield instance


def large(name: str, size: int, index: IndexServer) -> BuiltWheel:
    """A wheel of about so many bytes on the index; nothing in it can be compressed."""
    wheel = make_wheel(name, "1.0", {f"{name}/data.bin": noise(name, size)})
    index.add(wheel.data, wheel.filename)
    return wheel


def ranges(index: IndexServer, wheel: BuiltWheel) -> list[str | None]:
    """The Range headers of the requests for a wheel."""
    return [hit.range for hit in index.requests_for(wheel.filename)]


def holds_bytes(venv: Path, name: str, size: int) -> bool:
    """Whether the environment has the very bytes of `large`."""
    return (site(venv) / name / "data.bin").read_bytes() == noise(name, size)


def test_t3_four_at_once_transfer_once(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Four jobs of a build start together: the index would see four times the traffic, and throttle."""
    index.page_headers["Cache-Control"] = "max-age=600"
    wheel = large("t3", 200_000, index)
    index.behave("/simple/t3/", Behaviour(delay=0.3))
    index.behave(wheel.filename, Behaviour(rate=400_000.0))
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("daemon", "start")
    jobs = [
        pkgc.start("sync", lock, "--venv", tmp_path / f"venv{number}", "-i", index.url) for number in range(4)
    ]
    for job in jobs:
        out, err = job.communicate(timeout=60)
        assert job.returncode == 0, out + err
    assert len(index.page_requests("t3")) == 1
    assert statuses(index, wheel.filename) == [200]
    assert len(listed(pkgc, "t3")) == 1
    for number in range(4):
        assert holds(tmp_path / f"venv{number}") == {"t3": "1.0"}


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashed"])
def test_t3b_same_bytes_of_two_indexes(
    pkgc: Instance, index: IndexServer, tmp_path: Path, hashed: bool
) -> None:
    """A mirror and its original: the same wheel would be downloaded and stored twice."""
    wheel = make_wheel(f"t3b_{hashed}".lower(), "1.0")
    for name in ("original", "mirror"):
        index.add(wheel.data, wheel.filename, index=name)
    lock = pkgc.requirements(pin(wheel, hashed=hashed))
    answers = [
        pkgc.sync(lock, "--venv", tmp_path / name, "-i", index.index_url(name))
        for name in ("original", "mirror")
    ]
    assert [one["installed"][0]["from"] for one in answers] == ["network", "store"]
    assert answers[1]["downloaded"] == {"files": 0, "bytes": 0}
    assert statuses(index, wheel.filename) == [200]
    assert len(index.page_requests(index="mirror")) == (0 if hashed else 1)
    assert len(listed(pkgc, wheel.filename.split("-")[0].replace("_", "-"))) == 1
    if not hashed:  # the same bytes, but not the same origin: each environment names its own
        told = [record(tmp_path / name, wheel.filename.split("-")[0])["pkgc"]["index"] for name in
                ("original", "mirror")]  # fmt: skip
        assert told == [index.index_url("original"), index.index_url("mirror")]


def test_t5_cut_twice_goes_on(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Bad Wi-Fi and a large wheel: each cut would cost everything that had come so far."""
    wheel = large("t5", 900_000, index)
    total = len(wheel.data)
    first, second = total * 6 // 10, total * 2 // 10
    index.behave(wheel.filename, Behaviour(truncate_after=first), Behaviour(truncate_after=second))
    answer = pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", tmp_path / "venv", "-i", index.url)
    assert statuses(index, wheel.filename) == [200, 206, 206]
    assert ranges(index, wheel) == [None, f"bytes={first}-", f"bytes={first + second}-"]
    assert all("if-range" in hit.headers for hit in index.requests_for(wheel.filename)[1:])
    assert sum(hit.sent for hit in index.requests_for(wheel.filename)) == total, "no byte came twice"
    assert answer["downloaded"] == {"files": 1, "bytes": total}
    assert holds_bytes(tmp_path / "venv", "t5", 900_000)


def test_t5b_hopeless_server_is_given_up(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A server that cuts and knows no ranges gets nowhere: few attempts, a clear error, nothing changed."""
    wheel = large("t5b", 300_000, index)
    index.behave(wheel.filename, Behaviour(times=None, truncate_after=100_000, ranges=False))
    call = ("sync", pkgc.requirements(pin(wheel)), "--venv", tmp_path / "venv", "-i", index.url)
    error = failure(pkgc, *call)
    assert error["code"] == "download-failed"
    assert index.file_url(wheel.filename) in error["everything"]
    assert statuses(index, wheel.filename) == [200] * ATTEMPTS, "the same part again and again is no progress"
    assert not (tmp_path / "venv").exists()
    index.behave_well()
    index.clear_log()
    pkgc.ok(*call)
    assert statuses(index, wheel.filename) == [206], "what came is gone on with when the server can"
    assert holds_bytes(tmp_path / "venv", "t5b", 300_000)


def test_t5c_progress_counts_not_attempts(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A proxy that cuts every 50 KB: as long as each attempt brings something, the file is had in the end."""
    step, size = 50_000, 330_000
    wheel = large("t5c", size, index)
    # four parts come with the first call, which then meets a server that gives nothing more
    index.behave(
        wheel.filename,
        Behaviour(times=4, truncate_after=step),
        Behaviour(times=ATTEMPTS - 1, status=503),
        Behaviour(times=None, truncate_after=step),
    )
    lock = pkgc.requirements(pin(wheel))
    error = failure(pkgc, "sync", lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert error["code"] == "http-status"
    # the last part was cut, too: it is the first attempt of those without progress
    assert statuses(index, wheel.filename) == [200, *[206] * 3, *[503] * (ATTEMPTS - 1)]
    index.clear_log()
    pkgc.sync(lock, "--venv", tmp_path / "venv", "-i", index.url)
    parts = -(-len(wheel.data) // step)
    assert ranges(index, wheel) == [f"bytes={number * step}-" for number in range(4, parts)]
    assert holds_bytes(tmp_path / "venv", "t5c", size)
    assert pkgc.leftovers() == []


def kill_in_mid_download(pkgc: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path) -> list[Path]:
    """Begin to sync, kill -9 client and daemon when the half is on disk; what lies in the cache then."""
    index.behave(wheel.filename, Behaviour(stall_after=2_000_000))
    job = pkgc.start("sync", pkgc.requirements(pin(wheel)), "--venv", venv, "-i", index.url)
    incoming = pkgc.cache / "incoming"
    before = set(incoming.glob("*.part"))

    def arrived() -> bool:
        return any(path.stat().st_size >= 1_000_000 for path in set(incoming.glob("*.part")) - before)

    try:
        wait_until(arrived, "a part is on disk")
        pid = pkgc.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "the daemon is gone")
    finally:
        job.kill()
        job.communicate()
    return sorted(incoming.iterdir())


def test_t12_killed_in_mid_download(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Somebody kills everything: the next run would begin at 0, and the garbage stay for ever."""
    size = 3_000_000
    forgotten, wheel = large("t12forgotten", size, index), large("t12", size, index)
    venv = tmp_path / "venv"
    garbage = kill_in_mid_download(pkgc, index, forgotten, venv)
    weeks_ago = time.time() - 30 * 86_400
    for path in garbage:
        os.utime(path, (weeks_ago, weeks_ago))
    parts = kill_in_mid_download(pkgc, index, wheel, venv)
    assert garbage
    assert not set(garbage) & set(parts), "swept when the daemon started"
    assert not venv.exists()
    kept = max(path.stat().st_size for path in parts)
    index.clear_log()
    answer = pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", venv, "-i", index.url)
    assert ranges(index, wheel) == [f"bytes={kept}-"]
    assert answer["downloaded"]["bytes"] == len(wheel.data) - kept
    assert holds_bytes(venv, "t12", size)
    assert pkgc.leftovers() == []


def test_r1_redirect_keeps_credentials_at_home(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The company's password would be shown to whatever host its index redirects to."""
    wheel = make_wheel("r1", "1.0")
    index.add(wheel.data, wheel.filename)
    with IndexServer(auth=("user", "r1-s3cret")) as home:
        home.add(wheel.data, wheel.filename)
        home.behave("/simple/r1/", Behaviour(times=None, redirect=index.url + "r1/"))
        home.behave(wheel.filename, Behaviour(times=None, redirect=index.file_url(wheel.filename)))
        url = home.index_url(credentials="user:r1-s3cret")
        direct = home.file_url(wheel.filename).replace("http://", "http://user:r1-s3cret@")
        # the page of the index, then a direct URL at home that leads elsewhere
        by_page = pkgc.ok("sync", pkgc.requirements(pin(wheel)), "--venv", tmp_path / "page", "-i", url, "-v")
        by_url = pkgc.ok("sync", pkgc.requirements(f"r1 @ {direct}"), "--venv", tmp_path / "url", "-v")
        assert all("authorization" in hit.headers for hit in home.log if hit.status == 302)
        assert {hit.status for hit in home.log} <= {302, 401}
    assert {hit.path for hit in index.log} == {"/simple/r1/", f"/files/simple/{wheel.filename}"}
    assert all("authorization" not in hit.headers and "cookie" not in hit.headers for hit in index.log)
    for result in (by_page, by_url):
        assert "r1-s3cret" not in result.out + result.err
    for venv in (tmp_path / "page", tmp_path / "url"):
        assert holds(venv) == {"r1": "1.0"}
        assert all(b"r1-s3cret" not in content for kind, content in snapshot(venv, (".lock",)).values()
                   if isinstance(content, bytes))  # fmt: skip
    assert record(tmp_path / "url", "r1")["url"] == home.file_url(wheel.filename)
