"""The index client: one fetch however many want a page, and never an old page where a new one is needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.reporting import Reporter, Silent
from pkgc_daemon.selection.indexes import Answer, IndexClient, Mode, project_url
from pkgc_daemon.selection.pages import ProjectPage, parse_page
from pkgc_daemon.selection.ports import CachedPage, Guard, PageResponse
from pkgc_daemon.vocabulary import IndexOptions

INDEX = "http://index.example/simple"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
OPTIONS = IndexOptions(indexes=(INDEX,))


class Clock:
    """Time that passes when a test says so, and a little at each look."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        self.time += 0.001
        return self.time


class Store:
    """Pages in a dictionary."""

    def __init__(self) -> None:
        self.pages: dict[str, CachedPage] = {}

    async def load_page(self, key: str) -> CachedPage | None:
        return self.pages.get(key)

    async def save_page(self, page: CachedPage) -> None:
        self.pages[page.key] = page

    async def drop_page(self, key: str) -> None:
        self.pages.pop(key, None)

    async def touch_page(self, key: str, fresh_until: float) -> None:
        if key in self.pages:
            self.pages[key] = self.pages[key]._replace(fresh_until=fresh_until)


def body(*filenames: str, version: str = "1.0") -> bytes:
    files = [{"filename": name, "url": name, "hashes": {}} for name in filenames]
    return orjson.dumps({"meta": {"api-version": version}, "files": files})


class Web:
    """A transport that answers from a function, when it is let."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.status = 200
        self.fields: dict[str, str] = {"etag": '"1"'}
        self.body = body("demo-1.0-py3-none-any.whl")
        self.failure: PkgcError | None = None
        self.leads_to: str | None = None
        """Where every URL redirects to."""

    async def get_page(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        reporter: Reporter,
        *,
        guard: Guard | None = None,
    ) -> PageResponse:
        clean = self.leads_to or url.replace("user:secret@", "")
        guarded = guard is not None and guard.only_for == f"key of {clean}"
        if guard is not None and guarded:
            headers = {**headers, **guard.headers}
        self.requests.append((url, headers))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        if self.status == 200 and headers.get("if-none-match") == self.fields.get("etag", "?"):
            return PageResponse(304, self.fields, b"", clean, "", guarded)
        fields = {"content-type": JSON_TYPE, **self.fields}
        return PageResponse(self.status, fields, self.body, clean, f"key of {clean}", guarded)

    def identity(self, url: str, options: IndexOptions) -> str:
        return options.netrc or ""


class World:
    def __init__(self) -> None:
        self.clock, self.store, self.web = Clock(), Store(), Web()
        self.client = IndexClient(self.web, self.store, self.clock)
        self.reporter = Silent()

    async def restart(self) -> None:
        await self.client.close()
        self.client = IndexClient(self.web, self.store, self.clock)

    async def ask(
        self, mode: Mode = "normal", at_least: float = 0.0, options: IndexOptions = OPTIONS
    ) -> Answer:
        return await self.client.lookup(
            INDEX, "demo", options=options, reporter=self.reporter, mode=mode, at_least=at_least
        )


@pytest.fixture
async def world() -> World:
    return World()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_many_at_once_cost_one_request(world: World) -> None:
    """Invariant 3: a hundred jobs must not ask the index a hundred times, whatever it says of caching."""
    world.web.fields = {"cache-control": "no-store"}
    world.web.gate.clear()
    tasks = [asyncio.create_task(world.ask()) for _ in range(100)]
    await until(lambda: bool(world.web.requests))
    world.web.gate.set()
    answers = await asyncio.gather(*tasks)
    assert len(world.web.requests) == 1
    assert all(answer.page is answers[0].page for answer in answers)
    assert world.reporter.counts == {"index_requests": 1}
    assert world.store.pages == {}
    await world.ask()
    assert len(world.web.requests) == 2


async def test_the_request_is_what_the_standard_says(world: World) -> None:
    """S1, S2: normalized name, trailing slash, JSON first."""
    await world.client.lookup(INDEX + "/", "My.Demo_x", options=OPTIONS, reporter=world.reporter)
    url, headers = world.web.requests[0]
    assert url == f"{INDEX}/my-demo-x/"
    assert headers["accept"].startswith("application/vnd.pypi.simple.v1+json,")
    assert project_url("http://h/simple?x=1", "demo") == "http://h/simple/demo/?x=1"


async def test_identities_do_not_share(world: World) -> None:
    """A private page must not reach somebody without its credentials."""
    world.web.fields = {"cache-control": "max-age=600"}
    await world.ask()
    await world.ask()
    assert len(world.web.requests) == 1
    await world.ask(options=IndexOptions(netrc="other"))
    assert len(world.web.requests) == 2
    await world.client.saved()
    assert len(world.store.pages) == 2


async def test_a_fresh_page_is_used_until_it_is_stale(world: World) -> None:
    """Else each sync asks the index again, or never again."""
    world.web.fields = {"cache-control": "max-age=600", "etag": '"1"'}
    first = await world.ask()
    world.clock.time += 590
    assert (await world.ask()).page is first.page
    assert len(world.web.requests) == 1
    await world.restart()
    await world.ask()
    assert len(world.web.requests) == 1
    world.clock.time += 20
    second = await world.ask()
    assert world.web.requests[1][1]["if-none-match"] == '"1"'
    assert second.page is not None
    assert [file.filename for file in second.page.files] == ["demo-1.0-py3-none-any.whl"]
    await world.ask()
    assert len(world.web.requests) == 2  # the 304 renewed its freshness


async def test_without_freshness_a_page_is_validated_at_each_use(world: World) -> None:
    """Else a new release is not seen."""
    await world.ask()
    world.web.fields = {"etag": '"2"'}
    world.web.body = body("demo-2.0-py3-none-any.whl")
    page = (await world.ask()).page
    assert page is not None
    assert page.version_texts("demo") == {"2.0"}
    assert len(world.web.requests) == 2


async def test_a_page_asked_for_since_the_run_began_is_good_enough(world: World) -> None:
    """Else one run asks for the same page several times."""
    began = world.clock()
    await world.ask(at_least=began)
    await world.ask(at_least=began)
    await world.ask("refresh", at_least=began)
    assert len(world.web.requests) == 1


async def test_refresh_needs_a_fetch_that_started_after_it_asked(world: World) -> None:
    """Else --refresh may return what the index said before the release that somebody waits for."""
    world.web.fields = {"cache-control": "max-age=600"}
    world.web.gate.clear()
    early = asyncio.create_task(world.ask())
    await until(lambda: len(world.web.requests) == 1)
    late = [asyncio.create_task(world.ask("refresh")) for _ in range(3)]
    await until(lambda: len(world.web.requests) >= 2)
    world.web.gate.set()
    await asyncio.gather(early, *late)
    assert 2 <= len(world.web.requests) <= 4
    assert world.web.requests[-1][1]["cache-control"] == "no-cache"


async def test_refresh_does_not_trust_the_store(world: World) -> None:
    """A fresh page from before a restart is no answer to --refresh."""
    world.web.fields = {"cache-control": "max-age=600", "etag": '"1"'}
    await world.ask()
    await world.restart()
    await world.ask("refresh")
    assert len(world.web.requests) == 2


async def test_the_fetch_ends_when_the_last_waiter_leaves_and_not_before(world: World) -> None:
    """Invariant 3: one client's Ctrl-C must not fail another's sync, and nobody's must not go on."""
    world.web.gate.clear()
    first, second = asyncio.create_task(world.ask()), asyncio.create_task(world.ask())
    await until(lambda: bool(world.web.requests))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert world.web.cancelled == 0
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await until(lambda: world.web.cancelled == 1)
    world.web.gate.set()
    assert (await world.ask()).page is not None
    assert len(world.web.requests) == 2


async def test_a_newcomer_does_not_join_what_is_being_cancelled(world: World) -> None:
    """Else it is cancelled for somebody else's reason."""
    world.web.gate.clear()
    first = asyncio.create_task(world.ask())
    await until(lambda: bool(world.web.requests))
    first.cancel()
    second = asyncio.create_task(world.ask())
    await until(lambda: len(world.web.requests) == 2)
    world.web.gate.set()
    assert (await second).page is not None


async def test_close_ends_every_fetch(world: World) -> None:
    """Else a stopping daemon leaves tasks behind."""
    world.web.gate.clear()
    task = asyncio.create_task(world.ask())
    await until(lambda: bool(world.web.requests))
    await world.client.close()
    assert world.web.cancelled == 1
    await asyncio.gather(task, return_exceptions=True)


async def test_validators_are_for_the_url_that_gave_them(world: World) -> None:
    """An index that redirects to another mirror now: its pages have other files under the same ETag."""
    world.web.leads_to = "http://one.example/demo/"
    await world.ask()
    await world.ask()
    assert world.web.requests[1][1]["if-none-match"] == '"1"'
    await world.restart()
    world.web.leads_to, world.web.body = "http://two.example/demo/", body("demo-2.0-py3-none-any.whl")
    page = (await world.ask()).page
    assert "if-none-match" not in world.web.requests[2][1]
    assert page is not None
    assert page.version_texts("demo") == {"2.0"}


async def test_a_304_about_an_older_page_is_not_believed(world: World) -> None:
    """A folder of pages was put back to yesterday's: servers that go by the date alone say 304."""
    world.web.fields = {"last-modified": "Tue, 02 Jan 2024 00:00:00 GMT"}
    await world.ask()
    before, world.web.body = world.web.get_page, body("demo-0.9-py3-none-any.whl")
    said = [{"last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {}]

    async def by_date(url: str, *args: Any, guard: Guard | None = None) -> PageResponse:
        response = await before(url, *args, guard=guard)
        if guard is None:
            return response
        assert guard.headers == {"if-modified-since": "Tue, 02 Jan 2024 00:00:00 GMT"}
        return PageResponse(304, said.pop(), b"", url, "", response.guarded)

    world.web.get_page = by_date  # type: ignore[assignment, method-assign]
    page = (await world.ask()).page
    assert page is not None
    assert page.version_texts("demo") == {"1.0"}, "it says nothing: believed"
    page = (await world.ask()).page
    assert page is not None
    assert page.version_texts("demo") == {"0.9"}
    assert world.reporter.counts["index_requests"] == 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "index-unauthorized"),
        (403, "index-forbidden"),
        (406, "index-error"),
        (429, "index-error"),
        (503, "index-error"),
        (304, "index-error"),
    ],
)
async def test_refusals_are_named(world: World, status: int, code: str) -> None:
    """Each has another remedy; all waiters learn it; nothing of it is kept."""
    world.web.status = status
    results = await asyncio.gather(world.ask(), world.ask(), return_exceptions=True)
    for result in results:
        assert isinstance(result, PkgcError)
        assert result.code == code
        assert str(status) in result.message
    assert len(world.web.requests) == 1
    world.web.status = 200
    assert (await world.ask()).page is not None


@pytest.mark.parametrize("status", [404, 410])
async def test_a_missing_project_is_no_error_and_not_remembered(world: World, status: int) -> None:
    """Else a project that was just published stays unknown."""
    world.web.status = status
    assert (await world.ask()).page is None
    world.web.status = 200
    assert (await world.ask()).page is not None


async def test_offline_uses_what_is_there_and_never_asks(world: World) -> None:
    """However stale, memory or store."""
    with pytest.raises(PkgcError) as caught:
        await world.ask("offline")
    assert caught.value.code == "not-in-cache"
    await world.ask()
    assert (await world.ask("offline")).page is not None
    await world.restart()
    assert (await world.ask("offline")).page is not None
    assert len(world.web.requests) == 1


async def test_a_damaged_page_in_the_store_is_fetched_again(world: World) -> None:
    """Else one bad row makes a project unusable."""
    world.web.fields = {"cache-control": "max-age=600", "etag": '"1"'}
    await world.ask()
    await world.client.saved()
    (key,) = world.store.pages
    world.store.pages[key] = world.store.pages[key]._replace(body=b"{")
    await world.restart()
    assert (await world.ask()).page is not None
    assert "if-none-match" not in world.web.requests[1][1]


async def test_memory_is_bounded(world: World) -> None:
    """Invariant 9: pages leave memory, the least recently used first."""
    world.web.fields = {"cache-control": "max-age=600"}
    client = IndexClient(world.web, Store(), world.clock, memory=3 * len(world.web.body) * 2)
    for name in ("a", "b", "c"):
        await client.lookup(INDEX, name, options=OPTIONS, reporter=world.reporter)
    assert len(client._held) == 2
    assert client._weight == sum(held.page.weight for held in client._held.values())


async def test_a_newer_api_is_said_once(world: World) -> None:
    """S3: a warning, but not one for each of a hundred packages."""
    world.web.body, world.web.fields = body(version="1.9"), {}
    for _ in range(3):
        await world.ask()
    assert len(world.reporter.warnings) == 1
    assert "1.9" in world.reporter.warnings[0]


async def test_a_file_index_costs_no_request(world: World, tmp_path: Path) -> None:
    """A mirror on disk works without a network."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo-1.0-py3-none-any.whl").write_bytes(b"")
    for name, found in (("demo", True), ("other", False)):
        answer = await world.client.lookup(
            tmp_path.as_uri(), name, options=OPTIONS, reporter=world.reporter, mode="offline"
        )
        assert (answer.page is not None) is found
    assert not world.web.requests


async def test_errors_hold_no_credentials(world: World) -> None:
    """Invariant 8."""
    with pytest.raises(PkgcError) as caught:
        await world.client.lookup(
            "http://user:secret@index.example/simple",
            "demo",
            options=OPTIONS,
            reporter=world.reporter,
            mode="offline",
        )
    assert "secret" not in str(caught.value.to_wire())
    await world.client.lookup(
        "http://user:secret@index.example/simple", "demo", options=OPTIONS, reporter=world.reporter
    )
    await world.client.saved()
    assert len(world.store.pages) == 1
    assert "secret" not in repr(world.store.pages)


async def test_a_full_disk_does_not_fail_a_lookup(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be kept was still received."""

    async def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.store, "save_page", full)
    monkeypatch.setattr(world.store, "load_page", full)
    assert (await world.ask()).page is not None
    await world.client.close()


@pytest.mark.parametrize("status", [404, 410])
async def test_a_withdrawn_project_does_not_come_back(world: World, status: int) -> None:
    """Its page was fresh for minutes in the store: after a 404 neither a restart nor --offline finds it."""
    world.web.fields = {"cache-control": "max-age=600"}
    assert (await world.ask()).page is not None
    await world.client.saved()
    assert world.store.pages
    world.web.status = status
    assert (await world.ask("refresh")).page is None
    await world.client.saved()
    assert not world.store.pages
    assert (await world.ask()).page is None
    await world.restart()
    assert (await world.ask()).page is None
    with pytest.raises(PkgcError, match="offline"):
        await world.ask("offline")


async def test_a_page_that_may_not_be_stored_any_more_is_removed(world: World) -> None:
    """no-store is about the page: an older copy of it is not better."""
    await world.ask()
    await world.client.saved()
    world.web.fields = {"cache-control": "no-store", "etag": '"2"'}
    await world.ask("refresh")
    await world.client.saved()
    assert not world.store.pages


async def test_the_last_word_on_a_page_is_the_last_one_written(world: World) -> None:
    """A slow disk must not bring a withdrawn page back."""
    slow, save = asyncio.Event(), world.store.save_page

    async def save_slowly(page: CachedPage) -> None:
        await slow.wait()
        await save(page)

    world.store.save_page = save_slowly  # type: ignore[method-assign]
    await world.ask()
    world.web.status = 404
    await world.ask("refresh")
    await asyncio.sleep(0)
    slow.set()
    await world.client.saved()
    assert not world.store.pages


@pytest.mark.parametrize(("content_type", "size"), [(JSON_TYPE, 300_000), ("text/html", 70_000)])
async def test_large_pages_are_parsed_in_a_thread(
    world: World, monkeypatch: pytest.MonkeyPatch, content_type: str, size: int
) -> None:
    """Else one large page stops every other client."""
    threads = []

    def parse(body: bytes, content_type: str, url: str) -> ProjectPage:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse_page(body, content_type, url)

    monkeypatch.setattr("pkgc_daemon.selection.indexes.parse_page", parse)
    world.web.fields = {"content-type": content_type}
    filler = b" " * size
    world.web.body += filler
    await world.ask()
    assert threads == [False]
