"""Texts: requirements files and locks that a command line or another file names by URL; gets their bytes and
remembers them for the next time that the server says they are unchanged.  It reads nothing in them.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from urllib.parse import urldefrag, urlsplit

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.fetching.bodies import Stamp, guard_of, same_stamp, stamp_of
from pkgc_daemon.fetching.failures import BAD_URL_HINT, for_status
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.vocabulary import IndexOptions

#: The largest lock that is known has some 10 MB.
MAX_TEXT_BYTES = 24 << 20
#: Texts that are remembered, and the bytes that they may have together.
_REMEMBERED, _REMEMBERED_BYTES = 64, 32 << 20

_HINTS = {
    401: "Give credentials in the URL or in the netrc file.",
    403: "The credentials in use may not read this file.",
    404: "Check the URL.",
}


class Texts:
    """Fetches texts by URL.

    Args:
        transport: used by others too; closed by whoever made it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: OrderedDict[tuple[str, str], tuple[Stamp, bytes]] = OrderedDict()

    async def fetch(
        self,
        url: str,
        options: IndexOptions,
        reporter: Reporter,
        *,
        offline: bool = False,
        fresh: bool = False,
    ) -> bytes:
        """The bytes at `url` as they are now, without Content-Encoding.

        Args:
            url: http or https; may hold credentials. A fragment is not sent.
            options: whose credentials, certificates and proxies are used.
            reporter: told of retries, and of what was not asked for.
            offline: take what was there last, as far as it is remembered; ask nobody.
            fresh: have the server, not a cache on the way, send the text without any condition.

        Raises:
            PkgcError: ``not-in-cache`` (offline), ``http-status``, ``html-page``, ``file-too-large`` (24
                MiB), ``bad-url``, ``insecure-redirect``, ``connection-refused``, … after the retries that
                the bounds of patience allow.
        """
        bare = urldefrag(url).url
        if urlsplit(bare).scheme.lower() not in {"http", "https"}:
            raise PkgcError("bad-url", f"not an http or https URL: {redact(url)}", hint=BAD_URL_HINT)
        await self._transport.prepare(options)
        key = (bare, self._transport.identity(bare, options))
        known = self._known.get(key)
        if offline:
            if known is None:
                raise PkgcError(
                    "not-in-cache",
                    f"{redact(bare)} is not remembered, and --offline forbids to read it from the network",
                    hint="download it and name the local copy, or run once without --offline",
                )
            reporter.warning(
                f"{redact(bare)} was not asked whether it changed (--offline): using what was there last",
                "not-revalidated",
            )
            return known[1]
        headers = {"Accept": "text/plain, application/toml, */*;q=0.5"}
        if fresh:
            headers["Cache-Control"] = "no-cache"
        get = partial(self._transport.get_page, bare, headers, options, reporter, limit=MAX_TEXT_BYTES)
        guard = guard_of(known[0]) if known is not None and not fresh else None
        try:
            page = await get(guard=guard)
            if page.status == 304 and page.guarded and known is not None:
                if same_stamp(known[0], page.headers):
                    self._known.move_to_end(key)
                    return known[1]
                page = await get()
        except PkgcError as error:
            if error.code != "page-too-large":
                raise
            raise PkgcError(
                "file-too-large",
                f"{redact(url)} is too large for a requirements file or a lock",
                context=f"expected: {MAX_TEXT_BYTES} bytes at most\nfound: more",
            ) from error
        if page.status != 200:
            bad = for_status(page.status, page.headers, bare).error
            raise PkgcError(
                bad.code, bad.message, context=bad.context, hint=_HINTS.get(page.status, bad.hint)
            )
        if page.body[:256].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise InputError(
                "html-page",
                f"{redact(bare)} is an HTML page, neither a requirements file nor a lock",
                hint="name the URL of the raw file; the server may also want you to log in first",
            )
        self._remember(key, stamp_of(page.headers, page.answered_by), page.body)
        return page.body

    def _remember(self, key: tuple[str, str], stamp: Stamp | None, body: bytes) -> None:
        self._known.pop(key, None)
        if stamp is None:
            return
        self._known[key] = (stamp, body)
        total = sum(len(kept) for _, kept in self._known.values())
        while len(self._known) > _REMEMBERED or total > _REMEMBERED_BYTES:
            _, (_, dropped) = self._known.popitem(last=False)
            total -= len(dropped)
