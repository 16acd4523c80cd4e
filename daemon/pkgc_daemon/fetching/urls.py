"""URLs and encodings: what goes over the wire, where a redirect leads, as what a URL is remembered, what a
page decodes to; no I/O.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from yarl import URL

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.credentials import Credentials, origin_of, split_credentials
from pkgc_daemon.fetching.failures import TransferError
from pkgc_daemon.fetching.patience import Kind
from pkgc_daemon.redaction import redact

_BROKEN = (
    "Only http and https URLs are followed. Check the index URL; the server may want you to log in first."
)
#: Rounds of the hash that stands for secrets in a key: it is kept on disk, and guessing must not be cheap.
_ROUNDS = 20_000
_SAFE_URL = re.compile(r"[!#$&-;=?-\[\]_a-z~%]*\Z")


def exact_url(url: str) -> URL:
    """`url` as it is, if it can go over the wire so: servers sign the very bytes of a path."""
    url = urldefrag(url).url
    if _SAFE_URL.match(url):
        return URL(url, encoded=True)
    return URL(quote(url, safe="!#$%&'()*+,/:;=?@[]~"), encoded=True)


def has_secrets(url: str) -> bool:
    """Whether `url`, which has no userinfo, has parameters that `redact` masks: `url_key` takes time then."""
    return redact(url) != url


async def url_key(url: str) -> str:
    """As what a URL is remembered: no secret can be read from it, or cheaply guessed.

    Credentials and fragment do not count; URLs that differ otherwise have different keys. The part before the
    first line break is the URL as people may see it.
    """
    bare = split_credentials(urldefrag(url).url)[0]
    if not has_secrets(bare):
        return bare
    # Parameters with secret names may tell files apart: masked, they would not.
    shown = redact(bare)
    secret = await asyncio.to_thread(
        hashlib.pbkdf2_hmac, "sha256", bare.encode("utf-8", "surrogateescape"), shown.encode(), _ROUNDS, 16
    )
    return f"{shown}\n{secret.hex()}"


async def is_url(url: str, key: str) -> bool:
    """Whether `key` is the `url_key` of `url`."""
    return redact(urldefrag(url).url) == key.partition("\n")[0] and await url_key(url) == key


def redirect_target(current: str, location: str) -> tuple[str, Credentials | None]:
    """Where `location` leads from `current`, without userinfo, and that userinfo.

    Raises:
        TransferError: fatal: ``bad-redirect``, ``insecure-redirect`` (never from https to http).
    """
    try:
        target, credentials = split_credentials(urljoin(current, location))
        scheme, host, _ = origin_of(target)
    except ValueError as exc:
        raise _fatal("bad-redirect", f"{redact(current)} redirects to what is not a URL", _BROKEN) from exc
    if scheme not in {"http", "https"} or not host:
        raise _fatal("bad-redirect", f"{redact(current)} redirects to {redact(target)}", _BROKEN)
    if scheme == "http" and urlsplit(current).scheme.lower() == "https":
        raise _fatal(
            "insecure-redirect",
            f"{redact(current)} redirects from https to {redact(target)}",
            "pkgc does not leave https. Use an index that stays there; if you trust the network, name the "
            "http URL itself.",
        )
    return target, credentials


def decode_page(body: bytes, encoding: str, url: str, limit: int) -> bytes:
    """Undo the Content-Encoding of a page.

    Raises:
        PkgcError: ``bad-response``: not what was asked for, or broken; ``page-too-large``: inflates to more
            than `limit` bytes.
    """
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise PkgcError(
            "bad-response",
            f"{redact(url)} is encoded in a way that was not asked for",
            context=f"expected: gzip or identity\nfound: {encoding[:40]}",
        )
    decoder = zlib.decompressobj(wbits=47)
    try:
        # Bounded: a page that inflates to more than a page may have is refused, not inflated.
        decoded = decoder.decompress(body, limit + 1)
    except zlib.error as exc:
        raise PkgcError("bad-response", f"{redact(url)} is not valid {encoding}", context=str(exc)) from exc
    if len(decoded) > limit:
        raise page_too_large(url, limit)
    if not decoder.eof:
        raise PkgcError("bad-response", f"{redact(url)} ends in the middle of its {encoding} data")
    return decoded


def page_too_large(url: str, limit: int) -> PkgcError:
    """The error for a page that nobody can want."""
    return PkgcError("page-too-large", f"{redact(url)} is larger than {limit} bytes")


def _fatal(code: str, message: str, hint: str) -> TransferError:
    return TransferError(Kind.FATAL, PkgcError(code, message, hint=hint))
