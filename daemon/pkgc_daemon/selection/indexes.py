"""The index client: project pages from indexes, each fetched once for all who want it at the same time.

It owns single flight, the pages in memory, conditional requests and freshness; `PageTransport` does HTTP and
`PageStore` keeps pages over restarts. Which file of a page is used is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.cachecontrol import freshness
from pkgc_daemon.selection.failures import refusal
from pkgc_daemon.selection.filenames import normalize
from pkgc_daemon.selection.findlinks import ReadFolder, read_folder_in_thread, read_local_project
from pkgc_daemon.selection.pages import ACCEPT, API_VERSION, ProjectPage, parse_page
from pkgc_daemon.selection.ports import CachedPage, Guard, PageResponse, PageStore, PageTransport
from pkgc_daemon.vocabulary import IndexOptions

Mode = Literal["normal", "refresh", "offline"]

#: Bytes of parsed pages that are kept in memory.
MEMORY_LIMIT = 128 * 1024 * 1024
#: Seconds until a page is saved: a sync that waits for many of them needs the processors itself.
SAVE_DELAY = 2.0
#: Requests for pages that run at once.
CONCURRENT_REQUESTS = 50
#: A warning about an index is not repeated within this many seconds.
_WARN_AGAIN = 60.0
#: Pages of more bytes are parsed in a thread; HTML is read in pure Python.
_LARGE_JSON, _LARGE_HTML = 256 * 1024, 64 * 1024


class Answer(NamedTuple):
    """What an index says of a project, and how recent that is."""

    page: ProjectPage | None
    """None: the index does not have the project (404)."""
    validated_at: float
    """Unix seconds at which the request that confirmed the page was sent; 0: unknown, from the store."""
    fresh_until: float = 0.0
    """Unix seconds until which the index need not be asked again."""


@dataclass(slots=True)
class _Held:
    """A page in memory."""

    page: ProjectPage
    etag: str | None
    last_modified: str | None
    fresh_until: float
    validated_at: float
    answered_by: str
    """Whose validators they are (`PageResponse.answered_by`)."""

    def guard(self) -> Guard | None:
        """The headers that ask whether the page is still current; None: it cannot be asked so."""
        said = {"if-none-match": self.etag, "if-modified-since": self.last_modified}
        headers = {name: value for name, value in said.items() if value is not None}
        return Guard(headers, self.answered_by) if headers and self.answered_by else None

    def confirmed_by(self, response: PageResponse) -> bool:
        """Whether a 304 is about this page, and not about an older one that was put back."""
        changed = response.headers.get("last-modified", self.last_modified)
        return response.guarded and (self.etag is not None or changed == self.last_modified)


@dataclass(slots=True)
class _Flight:
    """One fetch with all who wait for it."""

    started: float
    task: asyncio.Task[Answer]
    waiters: int = 0


class _Place(NamedTuple):
    """Where a page is and under which key it is kept."""

    key: str
    url: str
    """May hold credentials."""
    rule: str | None = None
    """The Cache-Control that its answers are treated as if they had (`IndexOptions.page_rules`)."""


class IndexClient:
    """Answers what indexes have, from memory, the store or the network.

    Args:
        transport: does the requests.
        pages: keeps pages over restarts.
        clock: Unix seconds.
        concurrency: requests at once.
        memory: bytes of parsed pages to keep.
        read_folder: lists local folders and reads local pages (`file:` indexes).
    """

    def __init__(
        self,
        transport: PageTransport,
        pages: PageStore,
        clock: Callable[[], float] = time.time,
        *,
        concurrency: int = CONCURRENT_REQUESTS,
        memory: int = MEMORY_LIMIT,
        read_folder: ReadFolder = read_folder_in_thread,
    ) -> None:
        self._transport = transport
        self._pages = pages
        self._clock = clock
        self._memory = memory
        self._read_folder = read_folder
        self._requests = asyncio.Semaphore(concurrency)
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._weight = 0
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._saves: dict[str, asyncio.Task[None]] = {}
        self._save_now = asyncio.Event()
        self._warned: dict[tuple[str, str], float] = {}
        self.generation = 0
        """Changes with every page that is received, loaded or given up."""

    @property
    def read_folder(self) -> ReadFolder:
        """The way in which local folders are read."""
        return self._read_folder

    def now(self) -> float:
        """The clock's time: what `at_least` is compared with."""
        return self._clock()

    async def project_files(
        self,
        index: str,
        project: str,
        *,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode = "normal",
        at_least: float = 0.0,
    ) -> ProjectPage | None:
        """The page of `project`, or None when the index does not have it. See `lookup`."""
        answer = await self.lookup(
            index, project, options=options, reporter=reporter, mode=mode, at_least=at_least
        )
        return answer.page

    async def lookup(
        self,
        index: str,
        project: str,
        *,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode = "normal",
        at_least: float = 0.0,
    ) -> Answer:
        """What `index` says of `project`.

        Args:
            index: root of a Simple API (PEP 503), also ``file:``; may hold credentials.
            project: its name; requested normalized, with a trailing slash (S1).
            options: credentials, TLS, proxies, and what is said of this index's pages (`page_rules`).
            reporter: counts one ``index_requests`` for each request made for this caller.
            mode: ``normal`` asks the index unless the page is fresh, or was asked for at `at_least` or
                later; ``refresh`` asks it unless the page was asked for at `at_least` or later; ``offline``
                never asks.
            at_least: Unix seconds, usually when the caller's run began; in ``refresh`` 0 means now.

        Raises:
            PkgcError: ``index-unauthorized``, ``index-forbidden``, ``index-error``, ``index-garbage``,
                ``index-unreadable`` (a ``file:`` index that is not there), ``index-api-version``,
                ``not-in-cache`` (offline), and what the transport raises.
        """
        project = normalize(project)
        url = project_url(index, project)
        if url.startswith("file:"):
            return Answer(await read_local_project(url, self._read_folder), self._clock())
        return await self._ask(url, options, reporter, mode, at_least, options.page_rules.get(index))

    async def flat_page(
        self,
        url: str,
        *,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode = "normal",
        at_least: float = 0.0,
    ) -> Answer:
        """The find-links page at `url` (http or https): one list of files of any project. See `lookup`."""
        return await self._ask(url, options, reporter, mode, at_least)

    async def close(self) -> None:
        """Cancel the fetches that are under way, finish the saves, and wait until all have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.saved()

    async def saved(self) -> None:
        """Wait until every page that was received is in the store (or could not be put there)."""
        self._save_now.set()
        while self._saves:
            await asyncio.gather(*self._saves.values(), return_exceptions=True)
        self._save_now.clear()

    # --- memory, store or flight ---------------------------------------------------------------------------

    async def _ask(
        self,
        url: str,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode,
        at_least: float,
        rule: str | None = None,
    ) -> Answer:
        place = _Place(self._key(url, options, rule), url, rule)
        if mode == "offline":
            held = self._held.get(place.key) or await self._load(place)
            if held is None:
                raise PkgcError(
                    "not-in-cache",
                    f"the index page {redact(url)} is not in the cache and pkgc is offline",
                    hint="run once without --offline, or give the hashes of files that are in the cache",
                )
            return Answer(held.page, held.validated_at)
        validate = mode == "refresh"
        if not at_least:
            at_least = self._clock() if validate else math.inf
        while True:
            held = self._held.get(place.key)
            if held is not None and self._good(held, validate, at_least):
                self._held.move_to_end(place.key)
                return Answer(held.page, held.validated_at, held.fresh_until)
            flight = self._flights.get(place.key)
            if flight is None or (validate and flight.started < at_least):
                flight = self._start(place, options, reporter, validate=validate)
            answer = await self._join(place.key, flight)
            # A flight that need not validate may have ended with a page that was fresh in the store.
            if not validate or answer.validated_at >= at_least:
                return answer

    def _good(self, held: _Held, validate: bool, at_least: float) -> bool:
        if held.validated_at >= at_least:
            return True
        return not validate and held.fresh_until > self._clock()

    def _start(self, place: _Place, options: IndexOptions, reporter: Reporter, *, validate: bool) -> _Flight:
        task = asyncio.create_task(
            self._fly(place, options, reporter, validate=validate), name=f"index page {redact(place.url)}"
        )
        flight = self._flights[place.key] = _Flight(self._clock(), task)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Answer]) -> None:
            self._tasks.discard(task)
            if self._flights.get(place.key) is flight:
                del self._flights[place.key]
            if not task.cancelled():
                task.exception()  # everybody may have left: then nobody else retrieves it

        task.add_done_callback(ended)
        return flight

    async def _join(self, key: str, flight: _Flight) -> Answer:
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                # The last one leaves (invariant 3). Whoever comes now must not join what is being cancelled.
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]

    async def _fly(
        self, place: _Place, options: IndexOptions, reporter: Reporter, *, validate: bool
    ) -> Answer:
        held = self._held.get(place.key)
        if held is None:
            held = await self._load(place)
            if held is not None:
                self._hold(place.key, held)
        if held is not None and not validate and held.fresh_until > self._clock():
            return Answer(held.page, held.validated_at, held.fresh_until)
        headers = {"accept": ACCEPT}
        if validate:
            # Caches on the way must ask the origin as well (RFC 9111, 5.2.1.4).
            headers["cache-control"] = "no-cache"
        get = partial(self._transport.get_page, place.url, headers, options, reporter)
        async with self._requests:
            sent = self._clock()
            reporter.count("index_requests")
            response = await get(guard=held.guard() if held is not None else None)
            if response.status == 304 and held is not None and not held.confirmed_by(response):
                reporter.count("index_requests")
                response = await get()
        reporter.detail(f"index page {redact(response.url)}: {response.status}, {len(response.body)} bytes")
        return await self._receive(place, held, response, sent, reporter)

    async def _receive(
        self, place: _Place, held: _Held | None, response: PageResponse, sent: float, reporter: Reporter
    ) -> Answer:
        # A rule of the user's counts from now on: what caches on the way did is what it shall overrule.
        headers = response.headers if place.rule is None else {"cache-control": place.rule}
        verdict = freshness(headers, requested_at=sent, received_at=self._clock())
        if response.status == 304 and held is not None and response.guarded:
            self.generation += verdict.fresh_until < held.fresh_until
            held.fresh_until, held.validated_at = verdict.fresh_until, max(held.validated_at, sent)
            self._save(place.key, partial(self._pages.touch_page, place.key, verdict.fresh_until))
            return Answer(held.page, held.validated_at)
        self.generation += 1
        if response.status in (404, 410):
            self._forget(place.key, held, reporter)
            return Answer(None, sent)
        if response.status != 200:
            raise refusal(response)
        content_type = response.headers.get("content-type", "")
        page = await _parse(response.body, content_type, response.url)
        self._warn(page, reporter)
        etag, last_modified = response.headers.get("etag"), response.headers.get("last-modified")
        if not verdict.storable:
            self._forget(place.key, held, reporter)
            return Answer(page, sent)
        newest = self._held.get(place.key)
        if newest is None or newest.validated_at <= sent:
            answered_by = response.answered_by
            self._hold(place.key, _Held(page, etag, last_modified, verdict.fresh_until, sent, answered_by))
            saved = CachedPage(
                place.key,
                response.url,
                etag,
                last_modified,
                verdict.fresh_until,
                content_type,
                response.body,
                answered_by,
            )
            self._save(place.key, partial(self._pages.save_page, saved))
        return Answer(page, sent)

    def _forget(self, key: str, held: _Held | None, reporter: Reporter) -> None:
        """The index has withdrawn the page, or forbids to keep it: an earlier one must not come back."""
        if held is not None or key in self._held or key in self._saves:
            self._save(key, partial(self._pages.drop_page, key))
        self._drop(key)

    def _save(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Change a page in the store while its waiters go on; a failure costs a later request, no more."""
        earlier = self._saves.get(key)

        async def save() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._save_now.wait(), SAVE_DELAY)
            if earlier is not None:
                await asyncio.wait([earlier])  # the last word on a page must be the last one written
            with contextlib.suppress(OSError, PkgcError):  # losing one costs a later request, no more
                await work()

        task = asyncio.create_task(save(), name="saving an index page")
        self._saves[key] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._saves.get(key) is task:
                del self._saves[key]

        task.add_done_callback(ended)

    async def _load(self, place: _Place) -> _Held | None:
        try:
            saved = await self._pages.load_page(place.key)
            if saved is None:
                return None
            page = await _parse(saved.body, saved.content_type, saved.url)
        except (OSError, PkgcError):
            return None  # unreadable, damaged, or from another version of pkgc: as if it had never been saved
        return _Held(page, saved.etag, saved.last_modified, saved.fresh_until, 0.0, saved.answered_by)

    def _hold(self, key: str, held: _Held) -> None:
        self.generation += 1
        self._drop(key)
        if held.page.weight > self._memory:
            return
        self._held[key] = held
        self._weight += held.page.weight
        while self._weight > self._memory:
            self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self.generation += 1
            self._weight -= held.page.weight

    def _warn(self, page: ProjectPage, reporter: Reporter) -> None:
        if page.api_version[1] <= API_VERSION[1]:
            return
        host = urlsplit(page.url).netloc
        version = ".".join(map(str, page.api_version))
        now = self._clock()
        if now - self._warned.get((host, version), -_WARN_AGAIN) >= _WARN_AGAIN:
            if len(self._warned) > 1000:
                self._warned.clear()
            self._warned[host, version] = now
            reporter.warning(  # S3: a newer minor version should be warned about
                f"the index at {host} speaks version {version} of the Simple repository API; this pkgc knows "
                f"{'.'.join(map(str, API_VERSION))} and ignores what is newer",
                "index-api-version",
            )

    def _key(self, url: str, options: IndexOptions, rule: str | None) -> str:
        """Pages are shared among callers whom the index would answer alike, and with nobody else.

        What one caller's rule allows to keep must not be kept for one without that rule.
        """
        parts = urlsplit(url)
        # Userinfo is the identity's business; a token in the query, which redaction would mask, is kept.
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        facts = f"{bare}\0{self._transport.identity(url, options)}"
        if rule is not None:
            facts += f"\0{rule}"
        return hashlib.sha256(facts.encode()).hexdigest()


def project_url(index: str, project: str) -> str:
    """URL of a project's page: `index`, the normalized `project` and a trailing slash (S1)."""
    if "?" not in index and "#" not in index:
        return f"{index.rstrip('/')}/{project}/"
    parts = urlsplit(index)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{project}/", parts.query, ""))


async def _parse(body: bytes, content_type: str, url: str) -> ProjectPage:
    if len(body) > (_LARGE_JSON if "json" in content_type else _LARGE_HTML):
        # Milliseconds of work: other clients shall not wait for them.
        return await asyncio.to_thread(parse_page, body, content_type, url)
    return parse_page(body, content_type, url)
