"""A network that lies, stalls and breaks: the sync succeeds or says why, and never believes a wrong byte."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.faults import assert_holds, assert_sound, lock, noise, offer, package, state
from tests.support.instance import Instance, running
from tests.support.locks import failure
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel

COUNT = itertools.count()
SHORT_STALL = "[network]\nstall-timeout = 1\nconnect-timeout = 2\n"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A daemon that takes one second of silence for a stall; the tests share it, not the index or wheels."""
    root = tmp_path_factory.mktemp("quick")
    (root / "config.toml").write_text(SHORT_STALL)
    with running(root) as instance:
        yield instance


@pytest.fixture
def wheel(index: IndexServer) -> BuiltWheel:
    """A version of alpha that no other test has, large enough for several batches."""
    made = package("alpha", f"1.{next(COUNT)}", big=900_000)
    offer(index, made)
    return made


#: The file is had in spite of them: behaviours, then the statuses that the server gave.
SURVIVED = {
    "truncated": ([Behaviour(truncate_after=500_000)], [200, 206]),
    "truncated twice": ([Behaviour(truncate_after=300_000)] * 2, [200, 206, 206]),
    "cut before the body": ([Behaviour(truncate_after=0)], [200, 200]),
    "reset": ([Behaviour(reset_after=500_000)], None),
    "stalled": ([Behaviour(stall_after=500_000)], [200, 206]),
    "stalled before the headers": ([Behaviour(stall_after=-1)], [0, 200]),
    "Content-Length too large": ([Behaviour(content_length=2_000_000)], None),
    "Content-Length too small": ([Behaviour(content_length=1000)], None),
    "longer body": ([Behaviour(data=noise("longer", 1_000_000))], None),
    "another body": ([Behaviour(data=b"another")], None),
    "206 with another offset": (
        [Behaviour(truncate_after=500_000), Behaviour(range_shift=7)],
        [200, 206, 200],
    ),
    "206 that begins too early": (
        [Behaviour(truncate_after=500_000), Behaviour(range_shift=-9)],
        [200, 206, 200],
    ),
    "200 for a range": ([Behaviour(truncate_after=500_000), Behaviour(ranges=False)], [200, 200]),
    "ETag changed": ([Behaviour(truncate_after=500_000), Behaviour(etag='"new"')], [200, 200]),
    "no validator": ([Behaviour(truncate_after=500_000, etag=None)], [200, 200]),
    "weak ETag": ([Behaviour(truncate_after=500_000, etag='W/"weak"')], [200, 200]),
    "416": ([Behaviour(truncate_after=500_000), Behaviour(status=416)], [200, 416, 200]),
    "503": ([Behaviour(status=503)], [503, 200]),
    "500 twice": ([Behaviour(status=500)] * 2, [500, 500, 200]),
    "chunked": ([Behaviour(chunked=True)], [200]),
    "chunked and cut": ([Behaviour(chunked=True, truncate_after=500_000)], None),
}


@pytest.mark.parametrize("case", SURVIVED)
def test_survived(quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path, case: str) -> None:
    """Each of these was seen in the wild; the user must not even notice, and no byte is taken on trust."""
    behaviours, statuses = SURVIVED[case]
    index.behave(wheel.filename, *behaviours)
    call = ("sync", lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    result = quick.run(*call, "--output-format", "json")
    if result.status and case in ("another body", "longer body", "Content-Length too small"):
        # A whole answer with other bytes is a wrong hash; trying once more is not owed, trusting it never is.
        assert result.error_code in (
            "hash-mismatch",
            "advertised-hash-mismatch",
            "size-mismatch",
            "bad-response",
        )
        result = quick.run(*call, "--output-format", "json")
    assert result.status == 0, str(result)
    if statuses is not None:
        assert [hit.status for hit in index.requests_for(wheel.filename)] == statuses
    assert_holds(venv, wheel)
    assert_sound(quick)


def test_gzip_that_nobody_asked_for(
    quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path
) -> None:
    """A proxy that compresses changes every byte: an error, or the right file; never a wrong one."""
    index.behave(wheel.filename, Behaviour(times=None, gzip=True))
    before = state(venv)
    call = ("sync", lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    result = quick.run(*call, "--output-format", "json")
    if result.status:
        assert state(venv) == before
        assert "gzip" in result.out + result.err or "hash" in result.error_code, str(result)
        index.behave_well()
        quick.sync(*call[1:])
    assert_holds(venv, wheel)
    assert_sound(quick)


def test_one_byte_a_second(quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path) -> None:
    """A server that trickles holds no sync for ever: other attempts are made, and one is enough."""
    index.behave(wheel.filename, Behaviour(times=2, rate=1.0))
    began = time.monotonic()
    quick.sync(lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert time.monotonic() - began < 60
    assert_holds(venv, wheel)
    assert_sound(quick)


def test_retry_after_is_obeyed(quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path) -> None:
    """An index that asks for patience and is hammered blocks the whole company."""
    index.behave(
        wheel.filename,
        Behaviour(status=429, headers={"Retry-After": "2"}),
        Behaviour(status=503, headers={"Retry-After": "1"}),
    )
    index.behave("/simple/alpha/", Behaviour(status=429, headers={"Retry-After": "1"}))
    quick.sync(lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    first, second, third = index.requests_for(wheel.filename)
    assert second.at - first.at >= 1.9
    assert third.at - second.at >= 0.9
    pages = index.page_requests("alpha")
    assert pages[1].at - pages[0].at >= 0.9
    assert_holds(venv, wheel)


@pytest.mark.parametrize("what", ["file", "page"])
def test_redirect_loop(quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path, what: str) -> None:
    """A loop ends at once, with an error that names the URL."""
    path = "/simple/alpha/" if what == "page" else f"/files/simple/{wheel.filename}"
    index.behave(path, Behaviour(times=None, redirect=index.origin + path))
    before = state(venv)
    began = time.monotonic()
    error = failure(quick, "sync", lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", index.url)
    assert time.monotonic() - began < 20
    assert "redirect" in error["code"] + error["everything"]
    assert len([hit for hit in index.log if hit.path == path]) <= 25
    assert state(venv) == before
    assert_sound(quick)


def test_redirect_keeps_credentials_at_home(
    quick: Instance, index: IndexServer, wheel: BuiltWheel, venv: Path
) -> None:
    """Credentials of the company's index must not be shown to the CDN that it redirects to."""
    with IndexServer(auth=("user", "s3cret-word")) as home:
        offer(home, wheel)
        home.behave(wheel.filename, Behaviour(times=None, redirect=index.file_url(wheel.filename)))
        url = home.index_url(credentials="user:s3cret-word")
        answer = quick.ok("sync", lock(quick, "new.txt", [wheel]), "--venv", venv, "-i", url, "-v")
    hits = index.requests_for(wheel.filename)
    assert hits
    assert all("authorization" not in hit.headers for hit in index.log)
    assert "s3cret-word" not in answer.out + answer.err
    assert all("s3cret-word" not in str(value) for value in state(venv).values())
    for folder, _, names in os.walk(quick.cache):
        for name in names:
            with suppress(FileNotFoundError):  # ready copies come and go
                assert b"s3cret-word" not in (Path(folder) / name).read_bytes(), name
    assert_holds(venv, wheel)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_third_request_fails(quick: Instance, index: IndexServer, venv: Path, seed: int) -> None:
    """Twenty packages over bad Wi-Fi: one failure in three must not fail a sync."""
    rng = random.Random(seed)
    print("seed", seed)
    wheels = [package(f"pack{number}", "1.0", big=rng.choice([0, 100_000, 600_000])) for number in range(20)]
    offer(index, *wheels)
    for made in wheels:
        name = made.filename.split("-")[0]
        for where, size in ((f"/simple/{name}/", 200), (made.filename, len(made.data))):
            while rng.random() < 1 / 3:
                cut = rng.randrange(size)
                index.behave(
                    where,
                    rng.choice(
                        [
                            Behaviour(status=rng.choice([500, 502, 503, 429])),
                            Behaviour(truncate_after=cut),
                            Behaviour(reset_after=cut),
                            Behaviour(stall_after=cut),
                            Behaviour(close=True, status=503, headers={"Retry-After": "0"}),
                        ]
                    ),
                )
    answer = quick.sync(lock(quick, "new.txt", wheels), "--venv", venv, "-i", index.url)
    assert len(answer["installed"]) == 20
    assert_holds(venv, *wheels)
    assert_sound(quick)


def test_index_without_hashes(quick: Instance, index: IndexServer, venv: Path) -> None:
    """Old indexes advertise nothing: the lock's hash decides, cuts are noticed, and unhashed pins work."""
    alpha, beta = package("alpha", "2.0", big=300_000), package("beta", "1.0")
    for made in (alpha, beta):
        index.add(made.data, made.filename, hashes=False, size=None)
    index.behave(alpha.filename, Behaviour(truncate_after=100_000))
    quick.sync(lock(quick, "hashed.txt", [alpha, beta]), "--venv", venv, "-i", index.url)
    assert_holds(venv, alpha, beta)
    unhashed = lock(quick, "unhashed.txt", [alpha, beta], hashed=False)
    quick.sync(unhashed, "--venv", venv, "-i", index.url)
    assert_sound(quick)


@pytest.mark.parametrize("after", ["page", "half of a file"])
def test_index_dies_in_mid_sync(tmp_path: Path, venv: Path, after: str) -> None:
    """The server goes down for good: one clear error in bounded time, the environment as before."""
    root = tmp_path / "quick"
    root.mkdir()
    (root / "config.toml").write_text("[network]\nstall-timeout = 1\nconnect-timeout = 1\nretries = 3\n")
    wheels = [package(f"pack{number}", "1.0", big=400_000) for number in range(4)]
    with running(root) as pkgc, IndexServer() as index:
        offer(index, *wheels)
        rate = 100_000.0 if after != "page" else 1.0
        for made in wheels:
            index.behave(made.filename, Behaviour(times=None, rate=rate))
        before = state(venv)
        call = pkgc.start(
            "sync", lock(pkgc, "new.txt", wheels), "--venv", venv, "-i", index.url, "--output-format", "json"
        )
        deadline = time.monotonic() + 20
        while not (index.requests_for(wheels[0].filename)) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        index.stop()
        began = time.monotonic()
        out, err = call.communicate(timeout=60)
        assert call.returncode == 1, out + err
        assert time.monotonic() - began < 40
        assert '"ok": false' in out
        assert "Traceback" not in err
        assert state(venv) == before
        assert_sound(pkgc, partial=True)


def test_https_is_not_left_for_http(
    tmp_path: Path, index: IndexServer, wheel: BuiltWheel, venv: Path
) -> None:
    """A redirect from https to http would let anybody on the way choose the answer."""
    trustme = pytest.importorskip("trustme")
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with running(tmp_path / "secure") as pkgc, IndexServer(tls=context) as secure:
        offer(secure, wheel)
        new_lock = lock(pkgc, "new.txt", [wheel])
        trusted = {"PKGC_CERT": str(bundle)}
        secure.behave(wheel.filename, Behaviour(times=1, redirect=index.file_url(wheel.filename)))
        before = state(venv)
        error = failure(pkgc, "sync", new_lock, "--venv", venv, "-i", secure.url, env=trusted)
        assert "http" in error["everything"]
        assert index.log == []
        assert state(venv) == before
        pkgc.sync(new_lock, "--venv", venv, "-i", secure.url, env=trusted)
        assert_holds(venv, wheel)
        other = package("beta", "1.0")
        offer(secure, other)
        untrusted = failure(pkgc, "sync", lock(pkgc, "b.txt", [other]), "--venv", venv, "-i", secure.url)
        assert untrusted["code"] == "tls-certificate"
        assert_holds(venv, wheel)
