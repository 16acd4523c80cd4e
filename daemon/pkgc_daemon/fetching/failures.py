"""Failures: translates what HTTP, sockets and disks raise into errors for people and kinds for patience."""

from __future__ import annotations

import errno
import os
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.patience import Kind
from pkgc_daemon.later import Later
from pkgc_daemon.redaction import redact, redact_text

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = Later("aiohttp")

#: Statuses that may go away by themselves (design.md 8); every other 4xx is final.
RETRIED_STATUSES = frozenset({408, 425, 429, *range(500, 600)})

BAD_URL_HINT = (
    "It must look like https://user:password@host:port/path; special characters of the password are written "
    "as %XX (an '@' as %40, a '/' as %2F)."
)
TRY_AGAIN = (
    "Try again: what has arrived is kept, if the server supports ranges. A proxy may cut long transfers."
)

_OUTAGES = frozenset(
    {
        "bad-response",
        "connect-timeout",
        "connection-failed",
        "connection-refused",
        "dns-failure",
        "download-failed",
        "proxy-failure",
        "stalled",
    }
)

_STATUS_HINTS: Mapping[int, str] = {
    401: "Give credentials in the index URL or in the netrc file.",
    403: "The credentials in use may not read this file.",
    404: "The file is gone from the index; lock again, or check the index URL.",
    407: "The proxy wants credentials: put them into the proxy URL.",
    429: "The server limits the rate of requests; try again later.",
}


class TransferError(Exception):
    """One attempt has failed.

    Args:
        kind: what patience should make of it.
        error: what a person is told if this was the last attempt.
        retry_after: seconds that the server asked to wait.
    """

    def __init__(self, kind: Kind, error: PkgcError, retry_after: float | None = None) -> None:
        super().__init__(error.message)
        self.kind = kind
        self.error = error
        self.retry_after = retry_after


def translate(exc: BaseException, url: str, *, proxy: str | None = None) -> TransferError:
    """What `exc`, raised while `url` was asked for, means. `proxy` is the proxy in use, if any."""
    shown = redact(url)
    if isinstance(exc, TransferError):
        return exc
    if isinstance(exc, PkgcError):
        return TransferError(Kind.FATAL, exc)
    via = f"proxy: {redact(proxy)}" if proxy else None
    cause = redact_text(str(exc)) or type(exc).__name__
    context = "\n".join(part for part in (f"cause: {cause}", via) if part)
    if isinstance(exc, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
        return _fatal(
            "tls-certificate",
            f"the certificate of {shown} is not trusted",
            context,
            "Add its authority to the trust store of the system, or name a bundle with PKGC_CERT.",
        )
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        kind = Kind.SERVER if exc.status in RETRIED_STATUSES else Kind.FATAL
        message = f"the proxy answered {exc.status} for {shown}"
        return TransferError(
            kind, PkgcError("proxy-failure", message, context=context, hint=_STATUS_HINTS.get(exc.status))
        )
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        host = exc.host
        return TransferError(
            Kind.UNREACHABLE,
            PkgcError(
                "dns-failure",
                f"no address found for {host} ({shown})",
                context=context,
                hint="Check the network and the host name; with --offline pkgc uses the cache only.",
            ),
        )
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return _unreachable("connect-timeout", f"no connection to {shown} in time", context)
    if isinstance(exc, aiohttp.ServerTimeoutError | TimeoutError):
        return TransferError(
            Kind.STALL,
            PkgcError(
                "stalled",
                f"nothing more arrived from {shown}",
                context=context,
                hint="Try again: what has arrived is kept, if the server supports ranges.",
            ),
        )
    if isinstance(exc, aiohttp.ClientConnectorError):
        refused = exc.os_error.errno == errno.ECONNREFUSED
        if exc.os_error.errno in {errno.EMFILE, errno.ENFILE}:
            return TransferError(
                Kind.SERVER,
                PkgcError(
                    "too-many-files", f"no file descriptor left to connect to {shown}", context=context
                ),
            )
        code = "proxy-failure" if proxy else "connection-refused" if refused else "connection-failed"
        what = "connection refused by" if refused else "cannot connect to"
        return _unreachable(code, f"{what} {redact(proxy) + ' for ' if proxy else ''}{shown}", context)
    if isinstance(exc, aiohttp.InvalidURL | ValueError):
        return _fatal("bad-url", f"not a URL that can be fetched: {shown}", context, BAD_URL_HINT)
    if isinstance(exc, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return TransferError(
            Kind.SERVER,
            PkgcError(
                "download-failed",
                f"the connection was lost while reading {shown}",
                context=context,
                hint=TRY_AGAIN,
            ),
        )
    if isinstance(exc, aiohttp.ClientError):
        return TransferError(
            Kind.SERVER,
            PkgcError(
                "bad-response",
                f"{shown} did not answer in HTTP",
                context=context,
                hint="Check the scheme and the port of the URL, and the proxy, if there is one.",
            ),
        )
    raise exc


def for_status(status: int, headers: Mapping[str, str], url: str) -> TransferError:
    """What a final status other than 200, 206, 304 or 416 means. `headers` with lower-case names."""
    kind = Kind.SERVER if status in RETRIED_STATUSES else Kind.FATAL
    error = PkgcError(
        "http-status",
        f"HTTP status {status} for {redact(url)}",
        context=f"expected: 200\nfound: {status}",
        hint=_STATUS_HINTS.get(status)
        or (
            "The server is in trouble; try again later, or use another index."
            if status >= 500 or kind is Kind.SERVER
            else "Check the index URL: the server does not serve this file so."
        ),
    )
    return TransferError(kind, error, retry_after(headers))


def is_outage(error: PkgcError) -> bool:
    """Whether `error` (of `translate` or `for_status`) says that a server cannot be asked at present.

    Not when it was asked and refused: 401, 403, 404 and the like.
    """
    if error.code == "http-status":
        return any(error.message.startswith(f"HTTP status {status} ") for status in RETRIED_STATUSES)
    return error.code in _OUTAGES


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: a number or a date), or None."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    if not value:
        return None
    from email.utils import parsedate_to_datetime  # loads much, and few calls need it

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


def for_disk(exc: OSError, path: str | os.PathLike[str]) -> PkgcError:
    """The error for a failed write to the cache."""
    context = f"path: {os.fspath(path)}\ncause: {exc.strerror or exc}"
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return PkgcError(
            "disk-full",
            "no space left for the download",
            context=context,
            hint="Free some space, or empty the cache with `pkgc cache clean`.",
        )
    return PkgcError("cache-write-failed", "the cache cannot be written", context=context)


def _unreachable(code: str, message: str, context: str) -> TransferError:
    hint = "Check the URL and the network; with --offline pkgc uses the cache only."
    return TransferError(Kind.UNREACHABLE, PkgcError(code, message, context=context, hint=hint))


def _fatal(code: str, message: str, context: str, hint: str | None) -> TransferError:
    return TransferError(Kind.FATAL, PkgcError(code, message, context=context, hint=hint))
