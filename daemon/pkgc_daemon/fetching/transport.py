"""The HTTP transport: one pooled session; redirects by hand, credentials, TLS, proxies; no policy of retrying
artifacts (flights.py has that) and no parsing of pages (selection has that).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.credentials import (
    Credentials,
    Netrc,
    credentials_for,
    identity_of,
    origin_of,
    parse_netrc,
    split_credentials,
)
from pkgc_daemon.fetching.failures import BAD_URL_HINT, RETRIED_STATUSES, TransferError, for_status, translate
from pkgc_daemon.fetching.patience import Kind, Patience, PatienceLimits
from pkgc_daemon.fetching.settings import is_trusted, make_lax_tls, make_tls, proxy_for
from pkgc_daemon.fetching.urls import (
    decode_page,
    exact_url,
    is_url,
    page_too_large,
    redirect_target,
    url_key,
)
from pkgc_daemon.later import Later
from pkgc_daemon.redaction import mask_parameters, redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.ports import Guard, PageResponse
from pkgc_daemon.vocabulary import IndexOptions
from pkgc_protocol.version import __version__

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = Later("aiohttp")

MAX_REDIRECTS = 10
#: Pages larger than this are not read: the largest real ones have some 30 MB.
MAX_PAGE_BYTES = 100_000_000
#: A page must be complete within so many seconds, however steadily it trickles.
PAGE_DEADLINE = 300.0
#: Files named by options (certificates, netrc) are looked at again after so many seconds.
_SETTINGS_AGE = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


ReadLocal = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose headers have arrived and whose body has not."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names; of repeated fields, the values joined by ', '."""
    url: str
    """After redirects, without credentials."""
    content: aiohttp.StreamReader
    exact_url: str = field(repr=False)
    """`url` as it was sent: signatures in it are secret."""
    guarded: bool
    """See `PageResponse.guarded`."""


@dataclass(frozen=True, slots=True)
class _Settings:
    cert: bytes | None
    netrc: Netrc | None
    read_at: float


class Transport:
    """Implements `selection.ports.PageTransport`, and opens artifacts for flights.

    Args:
        limits: bounds of patience.
        read_local: reads a file that the options name (certificate bundle, netrc) in the world of the
            caller; the default reads it with the daemon's rights, in a thread.
        pages_per_host: how many pages of one host are asked for at once.
    """

    def __init__(
        self,
        limits: PatienceLimits | None = None,
        *,
        read_local: ReadLocal | None = None,
        pages_per_host: int = 16,
    ) -> None:
        self.limits = limits or PatienceLimits()
        self._read_local = read_local or _read_in_thread
        self._pages_per_host = pages_per_host
        self._page_slots: dict[tuple[str, str, int | None], asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None
        self._settings: dict[tuple[str | None, str | None, bool, str | None], _Settings] = {}
        self._contexts: dict[tuple[str, str | None], ssl.SSLContext] = {}
        self._lock = asyncio.Lock()
        self._settling = asyncio.Lock()

    async def close(self) -> None:
        """Close every connection. The transport may be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def prepare(self, options: IndexOptions) -> None:
        """Read the files that `options` name, so that `identity` knows the credentials among them.

        Raises:
            PkgcError: ``bad-certificate``, or whatever `read_local` raises for a missing certificate.
        """
        await self._settle(options, fresh=True)

    @staticmethod
    def load() -> None:
        """Load the HTTP library (a tenth of a second), which waits until something is fetched otherwise."""
        import_module("aiohttp")

    # -- identity ------------------------------------------------------------------------------------

    def identity(self, url: str, options: IndexOptions) -> str:
        """See `PageTransport.identity`. Call `prepare` first: netrc files are not read here.

        Whatever changes whom the answer can be trusted by or is meant for counts: credentials, a client
        certificate, another trust store, verification turned off, a proxy in the path of plain http.
        """
        parts = urlsplit(url)
        settings = self._settings.get(_settings_key(options))
        found = _credentials(url, options, settings.netrc if settings else None)
        names = [identity_of(found, _origin(url))] if found else []
        if parts.scheme.lower() == "https":
            if is_trusted(url, options.trusted_hosts):
                names.append("unverified")
            if options.cert is not None:
                names.append("ca:" + _digest(options.cert))
            if options.client_cert is not None:
                names.append("cc:" + _digest(options.client_cert))
        elif (proxy := proxy_for(url, options.proxies)) is not None:
            names.append("proxy:" + _digest(proxy))
        return "+".join(names)

    # -- pages ---------------------------------------------------------------------------------------

    async def get_page(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        reporter: Reporter,
        *,
        guard: Guard | None = None,
        limit: int | None = None,
    ) -> PageResponse:
        """See `PageTransport.get_page`.

        Args:
            limit: bytes that the body may have, before and after decoding; default: those of a page.

        Raises:
            PkgcError: ``connection-refused``, ``dns-failure``, ``connect-timeout``, ``stalled``,
                ``page-too-large``, ``bad-redirect``, … after the retries that the bounds of patience allow.
        """
        if len(self._page_slots) > 1000:
            self._page_slots = {key: one for key, one in self._page_slots.items() if one.locked()}
        slots = self._page_slots.setdefault(_origin(url), asyncio.Semaphore(self._pages_per_host))
        patience = Patience(self.limits)
        while True:
            patience.begin()
            try:
                async with slots:
                    # Waiting for one's turn is not the server's fault.
                    patience.begin()
                    timeout = patience.connect_timeout()
                    most = limit or MAX_PAGE_BYTES
                    page = await self._get_page_once(url, headers, options, guard, timeout, most)
                if page.status not in RETRIED_STATUSES:
                    return page
                trouble = for_status(page.status, page.headers, url)
            except TransferError as failure:
                page, trouble = None, failure
            delay = patience.failed(trouble.kind, trouble.retry_after)
            if delay is None:
                if page is not None:
                    return page
                raise trouble.error from trouble
            reporter.retrying(f"{trouble.error.message}; trying again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def _get_page_once(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        guard: Guard | None,
        connect_timeout: float,
        limit: int,
    ) -> PageResponse:
        asked = {"Accept-Encoding": "gzip", **headers}
        try:
            async with (
                asyncio.timeout(PAGE_DEADLINE),
                self.open(url, asked, options, guard=guard, connect_timeout=connect_timeout) as reply,
            ):
                parts: list[bytes] = []
                size = 0
                while part := await reply.content.readany():
                    parts.append(part)
                    size += len(part)
                    if size > limit:
                        raise page_too_large(url, limit)
                body = b"".join(parts)
                encoding = reply.headers.get("content-encoding", "identity").strip().lower()
                if body and encoding != "identity":
                    if len(body) > 65536:
                        body = await asyncio.to_thread(decode_page, body, encoding, url, limit)
                    else:
                        body = decode_page(body, encoding, url, limit)
                has_validator = not reply.headers.keys().isdisjoint(("etag", "last-modified"))
                by = await url_key(reply.exact_url) if reply.status == 200 and has_validator else ""
                return PageResponse(reply.status, reply.headers, body, reply.url, by, reply.guarded)
        except (aiohttp.ClientError, OSError, TimeoutError, PkgcError) as exc:
            raise translate(exc, url) from exc

    # -- requests ------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        *,
        guard: Guard | None = None,
        connect_timeout: float | None = None,
        read_bufsize: int = 65536,
    ) -> AsyncIterator[Reply]:
        """GET `url`, following redirects; the body is read by the caller, undecoded.

        Args:
            guard: headers for one URL only, which is `url` or one that it redirects to.
            connect_timeout: seconds for name, connection and TLS together (default: the limits').
            read_bufsize: bytes; twice as many may wait in memory.

        Raises:
            TransferError: no answer. Any status is an answer.
            PkgcError: ``bad-certificate``, ``bad-url``: the options or the URL cannot be used.
        """
        settings = await self._settle(options)
        current, credentials = split_credentials(url)[0], _credentials(url, options, settings.netrc)
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=connect_timeout or self.limits.connect_timeout,
            sock_connect=connect_timeout or self.limits.connect_timeout,
            sock_read=self.limits.stall_timeout,
        )
        for _ in range(MAX_REDIRECTS + 1):
            guarded = guard is not None and await is_url(current, guard.only_for)
            sent = {**headers, **guard.headers} if guard is not None and guarded else headers
            response = await self._request(
                current, sent, credentials, options, settings, timeout, read_bufsize
            )
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    yield Reply(
                        response.status,
                        _joined(response),
                        mask_parameters(current),
                        response.content,
                        current,
                        guarded,
                    )
                    return
                target, theirs = redirect_target(current, location)
                if theirs is not None or origin_of(target) != origin_of(current):
                    # Credentials are meant for one origin: scheme, host and port (peers.md, R1).
                    credentials = theirs
                current = target
                await _discard_small_body(response)
            finally:
                # Gives the connection back if the body was read to its end, closes it if not.
                response.release()
        raise _fatal(
            "too-many-redirects",
            f"more than {MAX_REDIRECTS} redirects from {redact(url)}",
            "The server redirects in a circle. Check the URL, and whether it needs credentials.",
        )

    async def _request(
        self,
        url: str,
        headers: Mapping[str, str],
        credentials: Credentials | None,
        options: IndexOptions,
        settings: _Settings,
        timeout: aiohttp.ClientTimeout,
        read_bufsize: int,
    ) -> aiohttp.ClientResponse:
        scheme = urlsplit(url).scheme.lower()
        if scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise TransferError(Kind.FATAL, _bad_url(url))
        sent = dict(headers)
        if credentials is not None:
            sent["Authorization"] = credentials.basic()
        tls: ssl.SSLContext | bool = True
        if scheme == "https":
            verified = not is_trusted(url, options.trusted_hosts)
            tls = await self._context(settings.cert, options, verified=verified)
        proxy = proxy_for(url, options.proxies)
        proxy_url, proxy_credentials = split_credentials(proxy) if proxy else (None, None)
        proxy_headers = None
        if proxy_credentials is not None:
            # A tunnel is opened with them once; plain http carries them in every request.
            proxy_headers = {"Proxy-Authorization": proxy_credentials.basic()}
            if scheme == "http":
                sent |= proxy_headers
                proxy_headers = None
        try:
            return await self._client().get(
                exact_url(url),
                headers=sent,
                allow_redirects=False,
                ssl=tls,
                proxy=proxy_url,
                proxy_headers=proxy_headers,
                timeout=timeout,
                read_bufsize=read_bufsize,
            )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise translate(exc, url, proxy=proxy_url) from exc

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # One session and one pool for everybody: the pool keeps connections apart by host, TLS context,
            # proxy and proxy credentials. Limits are ours (flights, pages), hence none here. No cookies.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": f"pkgc/{__version__}"},
            )
        return self._session

    # -- settings ------------------------------------------------------------------------------------

    async def _settle(self, options: IndexOptions, *, fresh: bool = False) -> _Settings:
        key = _settings_key(options)
        found = self._settings.get(key)
        if not fresh and found is not None and time.monotonic() - found.read_at < _SETTINGS_AGE:
            return found
        async with self._settling:
            # Ninety requests of one sync ask at once; one of them reads.
            found = self._settings.get(key)
            if found is None or time.monotonic() - found.read_at >= _SETTINGS_AGE:
                found = await self._read_settings(options)
                if "aiohttp" not in sys.modules:
                    await asyncio.to_thread(self.load)
                if len(self._settings) >= 256:
                    self._settings.clear()
                self._settings[key] = found
            return found

    async def _read_settings(self, options: IndexOptions) -> _Settings:
        cert = await self._read_local(options.cert) if options.cert is not None else None
        netrc = None
        if options.netrc is not None:
            try:
                netrc = parse_netrc((await self._read_local(options.netrc)).decode("utf-8", "replace"))
            except (OSError, PkgcError):
                # No netrc, or none that may be read: requests go out without it, as with other tools.
                netrc = None
        return _Settings(cert, netrc, time.monotonic())

    async def _context(self, cert: bytes | None, options: IndexOptions, *, verified: bool) -> ssl.SSLContext:
        """The context for these certificates; one object per content, because the pool goes by identity."""
        kind = "none" if not verified else "system" if cert is None else hashlib.sha256(cert).hexdigest()
        key = (kind, options.client_cert)
        async with self._lock:
            if key not in self._contexts:
                if len(self._contexts) >= 64:
                    self._contexts.clear()
                if verified:
                    made = await asyncio.to_thread(make_tls, cert, options.cert, options.client_cert)
                else:
                    made = await asyncio.to_thread(make_lax_tls, options.client_cert)
                self._contexts[key] = made
            return self._contexts[key]


async def _read_in_thread(path: str) -> bytes:
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as exc:
        raise PkgcError(
            "bad-certificate", f"the file {path} cannot be read", context=f"cause: {exc.strerror}"
        ) from exc


def _settings_key(options: IndexOptions) -> tuple[str | None, str | None, bool, str | None]:
    return options.cert, options.client_cert, bool(options.trusted_hosts), options.netrc


def _credentials(url: str, options: IndexOptions, netrc: Netrc | None) -> Credentials | None:
    try:
        # An explicit index is only among the pins, or known by its name.
        named = dict.fromkeys((*options.pins.values(), *options.names))
        return credentials_for(url, (*options.indexes, *options.find_links, *named), netrc)
    except ValueError as exc:
        raise _bad_url(url) from exc


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        return origin_of(split_credentials(url)[0])
    except ValueError as exc:
        raise _bad_url(url) from exc


def _bad_url(url: str) -> PkgcError:
    return PkgcError("bad-url", f"not an http or https URL: {redact(url)}", hint=BAD_URL_HINT)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _joined(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    joined: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


async def _discard_small_body(response: aiohttp.ClientResponse) -> None:
    """Read the body of a redirect, so that its connection can be used again; not if it is large."""
    if (response.content_length or 0) <= 65536:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                while await response.content.read(16384) and response.content.total_bytes <= 65536:
                    pass


def _fatal(code: str, message: str, hint: str) -> TransferError:
    return TransferError(Kind.FATAL, PkgcError(code, message, hint=hint))
