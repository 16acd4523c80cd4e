"""The transport: credentials stay where they belong, redirects, encodings, TLS, retries of pages."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching import transport as module
from pkgc_daemon.fetching.failures import for_status
from pkgc_daemon.fetching.patience import PatienceLimits
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.reporting import Silent
from pkgc_daemon.selection.ports import PageResponse, PageTransport
from pkgc_daemon.vocabulary import IndexOptions
from tests.support.server import JSON_TYPE, Behaviour, Hit, IndexServer

QUICK = PatienceLimits(
    first_delay=0.01,
    longest_delay=0.02,
    stall_timeout=0.2,
    connect_timeout=2,
    unreachable=1,
    server=5,
    stall=1,
)
NAME = "demo-1.0-py3-none-any.whl"
BOB = ("bob", "s3cret")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        running.add(b"demo", NAME)
        yield running


@pytest.fixture
def other() -> Iterator[IndexServer]:
    with IndexServer() as running:
        running.add(b"demo", NAME)
        yield running


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(QUICK)
    yield made
    await made.close()


async def page(transport: Transport, url: str, options: IndexOptions | None = None) -> PageResponse:
    port: PageTransport = transport
    return await port.get_page(url, {"Accept": JSON_TYPE}, options or IndexOptions(), Silent())


async def fails(transport: Transport, url: str, options: IndexOptions | None = None) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        await page(transport, url, options)
    return caught.value


def authorization(hit: Hit) -> str | None:
    return hit.headers.get("authorization")


# -- pages ---------------------------------------------------------------------------------------------


async def test_a_page_arrives_with_lower_case_headers_and_its_url(
    server: IndexServer, transport: Transport
) -> None:
    got = await page(transport, server.url + "demo/")
    assert got.status == 200
    assert got.headers["content-type"] == JSON_TYPE
    assert got.url == server.url + "demo/"
    assert b"demo-1.0" in got.body


@pytest.mark.parametrize("status", [304, 401, 403, 404, 406])
async def test_final_statuses_come_back_as_answers(
    server: IndexServer, transport: Transport, status: int
) -> None:
    server.behave("/simple/demo/", Behaviour(times=None, status=status))
    assert (await page(transport, server.url + "demo/")).status == status
    assert len(server.log) == 1


async def test_server_errors_are_retried_and_then_come_back(
    server: IndexServer, transport: Transport
) -> None:
    server.behave("/simple/demo/", Behaviour(times=2, status=503))
    assert (await page(transport, server.url + "demo/")).status == 200
    server.behave("/simple/demo/", Behaviour(times=None, status=502))
    assert (await page(transport, server.url + "demo/")).status == 502
    assert len(server.log) == 3 + 8


async def test_cut_and_stalled_pages_are_retried(server: IndexServer, transport: Transport) -> None:
    server.behave("/simple/demo/", Behaviour(truncate_after=10), Behaviour(stall_after=5))
    assert (await page(transport, server.url + "demo/")).status == 200
    assert len(server.log) == 3


async def test_a_dead_index_fails_within_its_bound(server: IndexServer, transport: Transport) -> None:
    server.stop()
    async with asyncio.timeout(3):
        error = await fails(transport, server.url + "demo/")
    assert error.code == "connection-refused"


async def test_gzip_is_decoded_and_bounded(
    server: IndexServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed bomb must not fill the daemon's memory."""
    server.behave("/simple/demo/", Behaviour(gzip=True))
    assert b"demo-1.0" in (await page(transport, server.url + "demo/")).body
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 100_000)
    server.behave("/simple/demo/", Behaviour(times=None, data=b"x" * 1_000_000, gzip=True))
    assert (await fails(transport, server.url + "demo/")).code == "page-too-large"
    server.behave_well()
    server.behave("/simple/demo/", Behaviour(times=None, data=b"x" * 1_000_000))
    assert (await fails(transport, server.url + "demo/")).code == "page-too-large"


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(b"cut" * 1000, mtime=0)[:-9]], ids=["garbage", "cut"]
)
async def test_broken_encodings_are_errors(server: IndexServer, transport: Transport, body: bytes) -> None:
    how = Behaviour(times=None, data=body, headers={"Content-Encoding": "gzip"})
    server.behave("/simple/demo/", how)
    assert (await fails(transport, server.url + "demo/")).code == "bad-response"


async def test_connections_are_kept_alive_over_pages_and_redirects(
    server: IndexServer, transport: Transport
) -> None:
    server.behave("/simple/other/", Behaviour(times=None, redirect="/simple/demo/"))
    for _ in range(5):
        assert (await page(transport, server.url + "other/")).url == server.url + "demo/"
    assert server.connections == 1


async def test_bytes_of_a_url_are_sent_as_they_are(server: IndexServer, transport: Transport) -> None:
    """Signed URLs break when they are quoted anew."""
    await page(transport, server.origin + "/a%2Bb+c%2fd?x=%41%2b+1&y=~'()")
    assert server.log[0].query == "x=%41%2b+1&y=~'()"
    await page(transport, server.origin + "/with space/ü")
    assert server.log[1].path == "/with space/ü"


# -- credentials ---------------------------------------------------------------------------------------


async def test_credentials_of_the_url_are_sent_and_never_shown(
    server: IndexServer, transport: Transport
) -> None:
    server.auth = BOB
    got = await page(transport, server.index_url(credentials="bob:s3cret") + "demo/")
    assert got.status == 200
    assert "s3cret" not in got.url
    assert (await page(transport, server.index_url(credentials="bob:wrong") + "demo/")).status == 401


async def test_credentials_of_an_index_reach_its_files(server: IndexServer, transport: Transport) -> None:
    server.auth = BOB
    options = IndexOptions(indexes=(server.index_url(credentials="bob:s3cret"),))
    assert (await page(transport, server.file_url(NAME), options)).status == 200


async def test_credentials_stay_with_their_origin_over_redirects(
    server: IndexServer, other: IndexServer, transport: Transport
) -> None:
    """R1: an index that redirects to another host must not hand out the password."""
    server.behave("/simple/demo/", Behaviour(redirect=other.url + "demo/"))
    await page(transport, server.index_url(credentials="bob:s3cret") + "demo/")
    assert authorization(server.log[0]) is not None
    assert authorization(other.log[0]) is None
    server.behave("/simple/demo/", Behaviour(redirect="../again/"))
    await page(transport, server.index_url(credentials="bob:s3cret") + "demo/")
    assert authorization(server.log[-1]) is not None


async def test_no_cookie_is_ever_sent(server: IndexServer, transport: Transport) -> None:
    server.behave("/simple/demo/", Behaviour(headers={"Set-Cookie": "a=b; Path=/"}))
    await page(transport, server.url + "demo/")
    await page(transport, server.url + "demo/")
    assert all("cookie" not in hit.headers for hit in server.log)


async def test_netrc_is_used_and_looked_at_in_the_world_of_the_caller(server: IndexServer) -> None:
    server.auth = BOB
    asked = []

    async def read(path: str) -> bytes:
        asked.append(path)
        return b"machine 127.0.0.1 login bob password s3cret"

    transport = Transport(QUICK, read_local=read)
    options = IndexOptions(netrc="/home/u/.netrc")
    assert (await page(transport, server.url + "demo/", options)).status == 200
    assert (await page(transport, server.url + "demo/")).status == 401
    assert asked == ["/home/u/.netrc"]
    assert transport.identity(server.url, options) not in {"", transport.identity(server.url, IndexOptions())}
    await transport.close()


async def test_a_missing_netrc_is_no_error(server: IndexServer, transport: Transport, tmp_path: Path) -> None:
    options = IndexOptions(netrc=str(tmp_path / "none"))
    assert (await page(transport, server.url + "demo/", options)).status == 200


def test_identities_tell_apart_whom_an_answer_is_meant_for() -> None:
    transport = Transport()
    url = "https://h.test/simple/"
    plain = IndexOptions()
    assert transport.identity(url, plain) == ""
    names = {
        transport.identity(url, plain),
        transport.identity("https://a:b@h.test/simple/", plain),
        transport.identity("https://a:c@h.test/simple/", plain),
        transport.identity(url, IndexOptions(trusted_hosts=("h.test",))),
        transport.identity(url, IndexOptions(cert="/x.pem")),
        transport.identity(url, IndexOptions(client_cert="/x.pem")),
        transport.identity("http://h.test/", IndexOptions(proxies={"http": "http://p.test"})),
    }
    assert len(names) == 7
    assert transport.identity(url, IndexOptions(trusted_hosts=("other.test",))) == ""


# -- redirects -----------------------------------------------------------------------------------------


async def test_ten_redirects_are_followed_and_eleven_are_not(
    server: IndexServer, transport: Transport
) -> None:
    server.behave("/simple/demo/", Behaviour(times=10, redirect="/simple/demo/"))
    assert (await page(transport, server.url + "demo/")).status == 200
    server.behave("/simple/demo/", Behaviour(times=None, redirect="/simple/demo/"))
    assert (await fails(transport, server.url + "demo/")).code == "too-many-redirects"


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://h.test/x", "data:text/html,x", "http://[::1/"]
)
async def test_redirects_to_other_schemes_are_refused(
    server: IndexServer, transport: Transport, target: str
) -> None:
    server.behave("/simple/demo/", Behaviour(times=None, redirect=target))
    assert (await fails(transport, server.url + "demo/")).code == "bad-redirect"


@pytest.mark.parametrize("url", ["ftp://h.test/", "http:///x", "http://h.test:99999/", "nonsense"])
async def test_urls_that_cannot_be_fetched_are_errors_at_once(transport: Transport, url: str) -> None:
    async with asyncio.timeout(1):
        assert (await fails(transport, url)).code == "bad-url"


# -- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[IndexServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with IndexServer(tls=context) as running:
        running.add(b"demo", NAME)
        yield running


async def test_an_unknown_authority_is_an_error_that_is_not_retried(
    secure: IndexServer, transport: Transport
) -> None:
    error = await fails(transport, secure.url + "demo/")
    assert error.code == "tls-certificate"
    assert error.hint is not None
    assert secure.log == []


async def test_a_named_bundle_and_a_trusted_host_are_honoured(
    secure: IndexServer, transport: Transport, authority: trustme.CA, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    assert (await page(transport, secure.url + "demo/", IndexOptions(cert=str(bundle)))).status == 200
    trusting = IndexOptions(trusted_hosts=("127.0.0.1",))
    assert (await page(transport, secure.url + "demo/", trusting)).status == 200
    # Connections made for one are not used for the other.
    assert (await fails(transport, secure.url + "demo/")).code == "tls-certificate"


async def test_a_redirect_from_https_to_http_is_refused(
    secure: IndexServer, server: IndexServer, transport: Transport
) -> None:
    secure.behave("/simple/demo/", Behaviour(times=None, redirect=server.url + "demo/"))
    options = IndexOptions(trusted_hosts=("127.0.0.1",))
    assert (await fails(transport, secure.url + "demo/", options)).code == "insecure-redirect"
    assert server.log == []


async def test_a_broken_bundle_is_named(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "gone.pem"):
        error = await fails(transport, "https://127.0.0.1:1/", IndexOptions(cert=str(tmp_path / name)))
        assert error.code == "bad-certificate"
        assert name in error.message


# -- proxies -------------------------------------------------------------------------------------------


async def test_plain_http_goes_through_the_proxy_with_its_credentials(
    server: IndexServer, transport: Transport
) -> None:
    options = IndexOptions(proxies={"http": server.origin.replace("://", "://p:pw@")})
    await page(transport, "http://index.test/simple/demo/", options)
    assert server.log[0].headers["host"] == "index.test"
    await page(transport, "http://index.test/simple/demo/", options)
    assert server.connections == 1
    assert all("proxy-authorization" in hit.headers for hit in server.log)
    assert "authorization" not in server.log[0].headers


async def test_a_dead_proxy_is_blamed_without_its_password(server: IndexServer, transport: Transport) -> None:
    server.stop()
    options = IndexOptions(proxies={"all": server.origin.replace("://", "://p:s3cret@")})
    error = await fails(transport, "http://index.test/simple/demo/", options)
    assert error.code == "proxy-failure"
    assert "s3cret" not in str(error.to_wire())


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        (Behaviour(times=None, redirect="ftp://h.test/"), "bad-redirect", "index URL"),
        (Behaviour(times=None, truncate_after=3), "download-failed", "Try again"),
    ],
)
async def test_failures_say_what_to_do(
    server: IndexServer, transport: Transport, behaviour: Behaviour, code: str, words: str
) -> None:
    server.behave("/simple/demo/", behaviour)
    server.add(b"x" * 100, "demo-1.0-py3-none-any.whl")
    with pytest.raises(PkgcError) as caught:
        await transport.get_page(f"{server.url}demo/", {}, IndexOptions(), Silent())
    assert caught.value.code == code
    assert words in (caught.value.hint or "")


@pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 500, 503])
def test_every_status_has_a_hint(status: int) -> None:
    assert for_status(status, {}, "https://h.test/").error.hint


async def test_a_page_below_a_path_with_an_at_sign_keeps_its_url(
    server: IndexServer, transport: Transport
) -> None:
    """Its links are relative to it; some indexes have such paths."""
    server.put("/feed@view/simple/demo/", b"{}")
    url = server.origin.replace("//", "//u:p@") + "/feed@view/simple/demo/"
    page = await transport.get_page(url, {}, IndexOptions(), Silent())
    assert page.url == f"{server.origin}/feed@view/simple/demo/"
