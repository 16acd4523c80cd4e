"""Texts by URL: requirements files and locks that are not on this machine."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching import texts as texts_module
from pkgc_daemon.fetching.patience import PatienceLimits
from pkgc_daemon.fetching.texts import Texts
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.reporting import Silent
from pkgc_daemon.vocabulary import IndexOptions
from tests.support.server import Behaviour, IndexServer

QUICK = PatienceLimits(first_delay=0.01, longest_delay=0.05, unreachable=0.5, server=1, stall=2)
BODY = b"demo==1.0\n" * 100
LONG_AGO, LATER = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        yield running


@pytest.fixture
async def texts() -> AsyncIterator[Texts]:
    transport = Transport(QUICK)
    yield Texts(transport)
    await transport.close()


async def get(texts: Texts, url: str) -> bytes:
    return await texts.fetch(url, IndexOptions(), Silent())


async def fails(texts: Texts, url: str) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        await get(texts, url)
    return caught.value


async def test_a_text_is_current_at_each_call(server: IndexServer, texts: Texts) -> None:
    """A lock on a server that changed a second ago is the lock that counts."""
    url = server.put("/locks/r.txt", BODY, "text/plain")
    assert [await get(texts, url + "#x") for _ in range(2)] == [BODY, BODY]
    assert [hit.status for hit in server.requests_for("r.txt")] == [200, 304]
    server.put("/locks/r.txt", b"demo==2.0\n", "text/plain")
    assert await get(texts, url) == b"demo==2.0\n"


@pytest.mark.parametrize(
    "how", [Behaviour(times=None, etag='"v1"'), Behaviour(times=None, etag=None, last_modified=LONG_AGO)]
)
async def test_a_redirect_that_leads_elsewhere_is_another_text(
    server: IndexServer, texts: Texts, how: Behaviour
) -> None:
    """Two releases whose locks have the same ETag: the one of the old release would be synced for ever."""
    for name, body in (("/1/r.txt", BODY), ("/2/r.txt", b"demo==2.0\n")):
        server.put(name, body, "text/plain")
        server.behave(name, how)
    server.behave("/latest", Behaviour(redirect="/1/r.txt", times=2), Behaviour(redirect="/2/r.txt"))
    assert [await get(texts, server.origin + "/latest") for _ in range(3)] == [BODY, BODY, b"demo==2.0\n"]
    assert [hit.status for hit in server.requests_for("r.txt")] == [200, 304, 200]
    conditions = {"if-none-match", "if-modified-since"}
    assert all(conditions.isdisjoint(hit.headers) for hit in server.requests_for("/latest"))


async def test_a_text_that_is_older_now(server: IndexServer, texts: Texts) -> None:
    """Somebody goes back to the lock of yesterday, and the server compares dates by order."""
    url = server.put("/r.txt", BODY, "text/plain")
    server.behave("/r.txt", Behaviour(etag=None, last_modified=LATER))
    assert await get(texts, url) == BODY
    server.put("/r.txt", b"demo==0.9\n", "text/plain")
    server.behave("/r.txt", Behaviour(status=304), Behaviour(status=304, headers={"Last-Modified": LONG_AGO}))
    assert await get(texts, url) == BODY, "a 304 that says nothing: there is no way to know"
    assert await get(texts, url) == b"demo==0.9\n"
    server.behave_well()
    server.behave("/r.txt", Behaviour(times=None, etag=None, last_modified=LONG_AGO))
    assert await get(texts, url) == b"demo==0.9\n"
    server.clear_log()
    assert await texts.fetch(url, IndexOptions(), Silent(), fresh=True) == b"demo==0.9\n"
    (hit,) = server.log
    assert (hit.status, hit.headers["cache-control"]) == (200, "no-cache")
    assert "if-modified-since" not in hit.headers


async def test_encodings_redirects_and_credentials(server: IndexServer, texts: Texts) -> None:
    """Locks lie on servers that compress, move and ask who it is."""
    url = server.put("/r.txt", BODY, "text/plain")
    server.behave("/r.txt", Behaviour(gzip=True))
    assert await get(texts, url) == BODY
    server.behave("/moved", Behaviour(redirect="/r.txt"))
    assert await get(texts, server.origin + "/moved") == BODY
    server.auth = ("me", "pass")
    assert (await fails(texts, server.origin + "/none.txt")).code == "http-status"
    assert await get(texts, url.replace("//", "//me:pass@")) == BODY
    assert (await fails(texts, url)).code == "http-status", "remembered for who may read it"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500])
async def test_a_refusal_is_an_error_with_its_status_and_a_hint(
    server: IndexServer, texts: Texts, status: int
) -> None:
    """Never an empty lock."""
    server.behave("/r.txt", Behaviour(times=None, status=status))
    error = await fails(texts, server.origin.replace("//", "//me:secret@") + "/r.txt")
    assert error.code == "http-status"
    assert f"HTTP status {status}" in error.message
    assert error.hint
    assert "secret" not in f"{error.message}{error.context}{error.hint}"


@pytest.mark.parametrize("packed", [False, True])
async def test_a_text_has_a_bound(
    server: IndexServer, texts: Texts, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong URL of a large file, or a bomb, must not fill the memory of the daemon."""
    monkeypatch.setattr(texts_module, "MAX_TEXT_BYTES", 10_000)
    body = b"\0" * 10_001
    url = server.put("/r.txt", gzip.compress(body) if packed else body, "text/plain")
    if packed:
        server.behave("/r.txt", Behaviour(times=None, headers={"Content-Encoding": "gzip"}))
    error = await fails(texts, url)
    assert error.code == "file-too-large"
    assert "10000 bytes" in (error.context or "")


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://127.0.0.1/r.txt", "r.txt", "http://"])
async def test_other_urls_are_refused(texts: Texts, url: str) -> None:
    """The daemon opens no file for who names a URL."""
    assert (await fails(texts, url)).code == "bad-url"


async def test_only_so_much_is_remembered(
    server: IndexServer, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that runs for months."""
    monkeypatch.setattr(texts_module, "_REMEMBERED", 3)
    monkeypatch.setattr(texts_module, "_REMEMBERED_BYTES", 25_000)
    urls = [server.put(f"/{number}.txt", b"%d" % number * 10_000, "text/plain") for number in range(4)]
    for url in urls:
        await get(texts, url)
    assert [url for url, _ in texts._known] == urls[-2:]
