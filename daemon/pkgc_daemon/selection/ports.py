"""The ports of selection: what it needs from the network and the store, as protocols (no code).

`fetching` and `store` are later stages that selection may not import; they implement these, and `serving`
passes them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from pkgc_daemon.reporting import Reporter
from pkgc_daemon.vocabulary import Digest, IndexOptions


class Guard(NamedTuple):
    """Conditional headers, and the one URL that may get them.

    A validator is the word of the URL that answered with it (RFC 9110, 8.8). A redirect may lead elsewhere by
    now, where the same word stands for other bytes: then nothing must be asked by it, and no 304 believed.
    """

    headers: Mapping[str, str]
    only_for: str
    """`PageResponse.answered_by` of the answer that had the validators."""


class PageResponse(NamedTuple):
    """An answer to a request for an index page, after redirects and retries."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of repeated fields, the values joined by ', ' (RFC 9110, 5.3)."""
    body: bytes
    """Decoded (no Content-Encoding left); empty for 304."""
    url: str
    """The final URL, without credentials: what relative links of the page are relative to."""
    answered_by: str = ""
    """Tells the final URL from every other one, without secrets; '' when there is no validator to go with."""
    guarded: bool = False
    """The final URL is the one of the `Guard`, and got its headers: only then a 304 says anything."""


class PageTransport(Protocol):
    """Gets index pages: authentication, redirects, retries and TLS are its business."""

    async def get_page(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        reporter: Reporter,
        *,
        guard: Guard | None = None,
    ) -> PageResponse:
        """GET `url` (http or https; may hold credentials) with the extra request `headers`.

        Those of `guard` go to its URL only, whether that is `url` or where a redirect leads.

        Every final status comes back as a response, also 304, 4xx and (after the retries) 5xx.

        Raises:
            PkgcError: no response could be had: connection, DNS, TLS, stall, too many redirects, a body that
                is larger than a page may be.
        """

    def identity(self, url: str, options: IndexOptions) -> str:
        """Who would ask for `url`: an opaque name, '' when anonymous over an ordinary connection.

        It differs with everything that changes what the answer may be or how far it can be trusted
        (credentials, client certificate, trust settings, proxy): callers with equal identities share pages.
        """


class CachedPage(NamedTuple):
    """An index page as it is kept: enough to parse it again and to ask whether it is still current."""

    key: str
    """Opaque; made of URL and credential identity."""
    url: str
    """The final URL, without credentials."""
    etag: str | None
    last_modified: str | None
    fresh_until: float
    """Unix seconds until which the page may be used unasked (RFC 9111, 4.2); 0: always ask."""
    content_type: str
    body: bytes
    answered_by: str = ""
    """`PageResponse.answered_by`: whose validators these are."""


class PageStore(Protocol):
    """Keeps index pages over restarts. Losing one is never an error."""

    async def load_page(self, key: str) -> CachedPage | None:
        """The page saved under `key`, or None."""

    async def save_page(self, page: CachedPage) -> None:
        """Keep `page`, in place of one with the same key."""

    async def drop_page(self, key: str) -> None:
        """The page is gone from the index: forget it."""

    async def touch_page(self, key: str, fresh_until: float) -> None:
        """The page was found to be still current (304): renew its freshness."""


class KnownFiles(Protocol):
    """Remembers which file name belongs to which digest (design.md 8, 'Offline choice')."""

    def remember_files(self, index: str, project: str, files: Iterable[tuple[Digest, str]]) -> None:
        """`index` offers these (digest, file name) pairs for `project`. Never blocks.

        Args:
            index: an index or a find-links location, without credentials.
            project: normalized name.
            files: what is offered now; it replaces what `index` said of these digests before.
        """

    def known_filename(self, digest: Digest, sources: frozenset[str] | None = None) -> str | None:
        """The file name of `digest`; None when nobody who counts named it, or they disagree. Never blocks.

        Args:
            digest: of any algorithm.
            sources: whose word counts (`index` of `remember_files`) besides the name under which the bytes
                themselves were verified; None: everybody's.
        """
