"""Stamps: validators go to the URL that gave them and nowhere else; what a 304 can tell, and what not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.fetching.urls import is_url, url_key
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import make_wheel
from tests.unit.fetching.test_directurls import LATER, LONG_AGO, NAME, NEW, OLD, Bench, asked, digest

VALIDATORS = pytest.mark.parametrize(
    "how",
    [
        Behaviour(times=None, etag='"v1"'),
        Behaviour(times=None, etag='W/"v1"'),
        Behaviour(times=None, etag=None, last_modified=LONG_AGO),
    ],
    ids=["strong", "weak", "last-modified"],
)
CONDITIONS = {"if-none-match", "if-modified-since", "if-range", "range"}


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench.open(tmp_path)
    yield made
    await made.close()


def offer(server: IndexServer, how: Behaviour) -> tuple[str, str]:
    """The old and the new content under two paths, with the same validators."""
    urls = []
    for index, wheel in (("a", OLD), ("b", NEW)):
        urls.append(server.add(wheel.data, NAME, index=index))
        server.behave(f"/files/{index}/{NAME}", how)
    return urls[0], urls[1]


def hops_without_conditions(server: IndexServer, hop: str) -> bool:
    return all(CONDITIONS.isdisjoint(hit.headers) for hit in server.requests_for(hop))


# -- redirects ---------------------------------------------------------------------------------------------


@VALIDATORS
async def test_a_redirect_to_another_file_with_the_same_validator(
    server: IndexServer, bench: Bench, how: Behaviour
) -> None:
    """`latest.whl` moves on to a release whose ETag is a version, a size or a date: 304, and old code."""
    old, new = offer(server, how)
    latest = server.origin + "/latest"
    server.behave("/latest", Behaviour(redirect=old, times=2), Behaviour(redirect=new, times=2))
    found = []
    for number in range(4):
        if number == 1:
            bench = await bench.reopen()  # what is on disk says whose validators they are, too
        found.append((await bench.get(latest)).artifact.sha256)
    assert found == [OLD.sha256, OLD.sha256, NEW.sha256, NEW.sha256]
    assert [status for status, *_ in asked(server)] == [200, 304, 200, 304]
    assert hops_without_conditions(server, "/latest")
    await bench.close()


@VALIDATORS
async def test_a_file_that_becomes_a_redirect_and_back(
    server: IndexServer, bench: Bench, how: Behaviour
) -> None:
    """The server moves its files elsewhere: the redirect itself answers no condition, its target has none."""
    old, new = offer(server, how)
    assert (await bench.get(old)).artifact.sha256 == OLD.sha256
    server.behave_well(f"/files/a/{NAME}")
    server.behave(f"/files/a/{NAME}", Behaviour(redirect=new), how)
    assert (await bench.get(old)).artifact.sha256 == NEW.sha256
    assert (await bench.get(old)).artifact.sha256 == OLD.sha256
    assert [status for status, *_ in asked(server)] == [200, 302, 200, 200]


async def test_a_signed_target_is_told_from_the_others(server: IndexServer, bench: Bench) -> None:
    """`?key=…` may name a file: another one has other bytes. And none of it may be read from the catalog."""
    old, _ = offer(server, Behaviour(times=None, etag='"v1"'))
    link = server.origin + "/link"
    keys = ("alpha-secret", "alpha-secret", "beta-secret")
    server.behave("/link", *(Behaviour(redirect=f"{old}?key={key}") for key in keys))
    for _ in keys:
        bench = await bench.reopen()
        await bench.get(link)
    assert [status for status, *_ in asked(server)] == [200, 304, 200]
    await bench.close()
    for path in (bench.base / "cache").rglob("catalog*"):
        content = path.read_bytes()
        assert b"/link" in content or path.suffix != ".sqlite3"
        assert b"alpha-secret" not in content
        assert b"beta-secret" not in content


async def test_the_rest_of_one_file_is_not_put_behind_the_beginning_of_another(
    server: IndexServer, bench: Bench
) -> None:
    """A download is cut, and the redirect leads to another release with the same ETag: a mixture of both."""
    big = [make_wheel("demo", "1.0", {"demo/x.bin": os.urandom(600_000)}) for _ in range(2)]
    how = Behaviour(times=None, etag='"v1"')
    urls = []
    for index, wheel in zip("ab", big, strict=True):
        urls.append(server.add(wheel.data, NAME, index=index))
        first = [Behaviour(truncate_after=400_000, etag='"v1"')] if index == "a" else []
        server.behave(f"/files/{index}/{NAME}", *first, how)
    server.behave("/latest", *(Behaviour(redirect=url) for url in urls))
    current = await bench.get(server.origin + "/latest")
    assert current.artifact.sha256 == big[1].sha256
    assert [(hit.status, hit.range) for hit in server.requests_for(NAME)] == [(200, None), (200, None)]


async def test_the_rest_of_the_same_file_is_asked_for_behind_a_redirect(
    server: IndexServer, bench: Bench
) -> None:
    """T5: a gigabyte behind a link is not begun anew; and known by its hash, it may come from any mirror."""
    big = make_wheel("demo", "1.0", {"demo/x.bin": os.urandom(600_000)})
    urls = [server.add(big.data, NAME, index=index) for index in "ab"]
    server.behave(f"/files/a/{NAME}", Behaviour(truncate_after=400_000))
    server.behave("/latest", Behaviour(redirect=urls[0], times=2))
    await bench.get(server.origin + "/latest")
    assert [hit.status for hit in server.requests_for(NAME)] == [200, 206]
    assert hops_without_conditions(server, "/latest")
    await bench.store.damaged_artifact(big.sha256)
    server.clear_log()
    server.behave(f"/files/a/{NAME}", Behaviour(truncate_after=400_000))
    server.behave("/mirrors", *(Behaviour(redirect=url) for url in urls))
    current = await bench.get(server.origin + "/mirrors", integrity=frozenset({digest(big.data)}))
    assert current.artifact.sha256 == big.sha256
    assert [hit.status for hit in server.requests_for(NAME)] == [200, 206]


# -- servers that know dates only --------------------------------------------------------------------------


async def test_a_304_about_an_older_file_is_not_believed(server: IndexServer, bench: Bench) -> None:
    """Somebody goes back to an earlier build, and the server takes "not modified since" by its word."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(etag=None, last_modified=LATER))
    await bench.get(url)
    server.add(NEW.data, NAME)
    server.behave(NAME, Behaviour(status=304, headers={"Last-Modified": LATER}))
    assert (await bench.get(url)).artifact.sha256 == OLD.sha256
    server.behave(NAME, Behaviour(status=304, headers={"Last-Modified": LONG_AGO}))
    assert (await bench.get(url)).artifact.sha256 == NEW.sha256
    assert asked(server) == [(200, None, None), (304, None, LATER), (304, None, LATER), (200, None, None)]


async def test_what_a_304_does_not_say_only_refresh_finds(server: IndexServer, bench: Bench) -> None:
    """Python's http.server sends no Last-Modified with a 304: --refresh must not rely on one."""
    url = server.add(OLD.data, NAME)
    server.behave(NAME, Behaviour(etag=None, last_modified=LATER), Behaviour(status=304))
    await bench.get(url)
    server.add(NEW.data, NAME)
    assert (await bench.get(url)).artifact.sha256 == OLD.sha256
    assert (await bench.get(url, "refresh")).artifact.sha256 == NEW.sha256
    assert asked(server) == [(200, None, None), (304, None, LATER), (200, None, None)]
    assert server.requests_for(NAME)[-1].headers["cache-control"] == "no-cache"


# -- within one call ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["normal", "refresh"])
async def test_one_call_asks_once(server: IndexServer, bench: Bench, mode: str) -> None:
    """What a sync has just downloaded to compare it is not asked for again to install it."""
    url = server.add(OLD.data, NAME)
    began = bench.urls._now()
    first = await bench.get(url, mode, since=began)
    again = await bench.get(url, mode, since=began)
    assert (first.came_from, again.came_from) == ("network", "network"), "it came for this very call"
    assert again.artifact.sha256 == OLD.sha256
    assert len(asked(server)) == 1
    await asyncio.sleep(0.01)
    assert (await bench.get(url, mode, since=bench.urls._now())).came_from == "store"
    assert (await bench.get(url, mode)).came_from == "store"
    assert len(asked(server)) == 3, "a later call asks for itself"


async def test_an_answer_that_is_recent_enough_is_verified_all_the_same(
    server: IndexServer, bench: Bench
) -> None:
    """A second line for the same URL with another md5."""
    url = server.add(OLD.data, NAME)
    began = bench.urls._now()
    await bench.get(url, since=began)
    wrong = frozenset({digest(NEW.data, "md5")})
    assert (await bench.fails(url, since=began, integrity=wrong)).code == "hash-mismatch"
    assert len(asked(server)) == 1


# -- keys --------------------------------------------------------------------------------------------------

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=6, max_size=12)


@settings(max_examples=20, deadline=None)
@given(path=WORD, secret=WORD, other=WORD, password=WORD)
async def test_a_key_tells_urls_apart_and_no_secret(
    path: str, secret: str, other: str, password: str
) -> None:
    """A key is kept on disk, and decides which URL a validator is sent to."""
    secret, other, password = f"S{secret}", f"O{other}", f"P{password}"
    bare = f"http://h.example/{path}"
    assert await url_key(f"http://me:{password}@h.example/{path}#x") == bare
    signed = await url_key(f"{bare}?sig={secret}")
    assert secret not in signed
    assert signed == await url_key(f"{bare}?sig={secret}#y")
    assert await is_url(f"{bare}?sig={secret}", signed)
    for url in (bare, f"{bare}?sig={other}", f"{bare}?sig=***", f"{bare}x?sig={secret}"):
        assert not await is_url(url, signed)
