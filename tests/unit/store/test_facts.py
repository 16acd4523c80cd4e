"""What the catalog remembers of URLs, builds and requests: over restarts and within bounds."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.fetching.urlmemory import UrlMemory, UrlState
from pkgc_daemon.store import schema
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.facts import Request
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Artifact, Digest, Origin
from tests.support.wheels import BuiltWheel, make_wheel

WHEEL = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n"})
OTHER = make_wheel("other", "2.0")
URL = Origin("url", "http://127.0.0.1/demo.whl")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


async def publish(store: Store, wheel: BuiltWheel = WHEEL) -> Artifact:
    path = store.incoming / f"{wheel.sha256}.part"
    path.write_bytes(wheel.data)
    digests = frozenset({Digest("sha256", wheel.sha256)})
    url = f"http://127.0.0.1/files/{wheel.filename}"
    return await store.publish_artifact(path, wheel.sha256, len(wheel.data), digests, wheel.filename, url)


def request(version: str = "1.0", origin: Origin | None = None, at: float = 1.0) -> Request:
    return Request(version, WHEEL.sha256, "requirements.txt:3", f"demo=={version}", origin, at)


def as_port(store: Store) -> UrlMemory:
    """The type checker proves that Store is the memory of direct URLs."""
    return store


async def catalog_calls(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, no question reaches SQLite."""

    def forbidden(*args: object) -> object:
        raise AssertionError("SQLite was asked")

    monkeypatch.setattr(store.catalog.facts, "_ask", forbidden)


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    """A daemon that is replaced must neither build nor download again, and `pkgc why` must still know."""
    state = UrlState(WHEEL.sha256, 'W/"1"', None, 12.5, "http://h.example/x?key=***\n00ff")
    commit = UrlState("", "f" * 40, None, 1.0)
    asked = {
        "demo": request(origin=URL),
        "idx": request(origin=Origin("index", "http://h/x.whl", "http://h/simple/")),
        "other": request("2"),
    }
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    await first.remember_url("http://127.0.0.1/demo.whl\n", state)
    await first.remember_url("git http://127.0.0.1/repo main", commit)
    await first.remember_build("key", WHEEL.sha256, WHEEL.filename, {"requires": [["a", "1", "ff"]]})
    await first.remember_requests("/venv", asked)
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert await second.url_state("http://127.0.0.1/demo.whl\n") == state
        assert await second.url_state("git http://127.0.0.1/repo main") == commit
        built = await second.built("key")
        assert built is not None
        assert (built.sha256, built.filename) == (WHEEL.sha256, WHEEL.filename)
        assert built.note == {"requires": [["a", "1", "ff"]]}
        assert await second.requests("/venv") == asked
        assert await second.requests("/another") == {}
        assert await second.url_state("unknown") is None
        assert await second.built("unknown") is None
    finally:
        await second.close()


async def test_what_was_asked_once_costs_no_sqlite(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every no-op sync asks for each of its direct references."""
    await publish(store)
    await store.remember_url("known", UrlState(WHEEL.sha256))
    await store.remember_build("known", WHEEL.sha256, WHEEL.filename, {})
    assert await store.url_state("unknown") is None
    assert await store.requests("/empty") == {}
    await store.remember_requests("/venv", {"demo": request()})
    await catalog_calls(store, monkeypatch)
    assert await store.url_state("known") is not None
    assert await store.url_state("unknown") is None
    assert await store.built("known") is not None
    assert await store.requests("/venv") == {"demo": request()}
    assert await store.requests("/empty") == {}


async def test_requests_are_replaced_whole_and_only_if_something_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A no-op sync writes nothing; what left the lock is not named by `pkgc why` for ever."""
    await store.remember_requests("/venv", {"demo": request(), "gone": request("3")})
    posted: list[object] = []
    post = store.catalog.facts._post

    def count(job: object) -> None:
        posted.append(job)
        post(job)  # type: ignore[arg-type]

    monkeypatch.setattr(store.catalog.facts, "_post", count)
    await store.remember_requests("/venv", {"gone": request("3", at=99.0), "demo": request(at=99.0)})
    assert posted == []
    await store.remember_requests("/venv", {"demo": request("1.1", at=99.0)})
    assert len(posted) == 1, "one transaction"
    rows = await asyncio.wrap_future(
        store.catalog.ask(lambda db: db.execute("SELECT name, version, at FROM requests").fetchall())
    )
    assert rows == [("demo", "1.1", 99.0)]


async def test_what_is_removed_takes_its_urls_and_builds_along(store: Store) -> None:
    """A build row without its wheel would promise what is not there."""
    for wheel in (WHEEL, OTHER):
        await store.ensure_tree(await publish(store, wheel), wheel.filename)
        await store.remember_url(wheel.filename, UrlState(wheel.sha256, '"1"'))
        await store.remember_build(wheel.filename, wheel.sha256, wheel.filename, {})
    await store.damaged_artifact(WHEEL.sha256)
    assert await store.built(WHEEL.filename) is not None, "its tree is left"
    assert await store.url_state(WHEEL.filename) is not None
    await store.clean(["demo"])
    assert await store.built(WHEEL.filename) is None
    assert await store.url_state(WHEEL.filename) is None
    assert await store.built(OTHER.filename) is not None
    assert await store.url_state(OTHER.filename) is not None
    rows = store.catalog.ask(
        lambda db: db.execute("SELECT key FROM urls UNION SELECT key FROM builds").fetchall()
    )
    assert await asyncio.wrap_future(rows) == [(OTHER.filename,)]


async def test_rows_of_wheels_that_vanished_are_swept_at_start(tmp_path: Path) -> None:
    """Somebody removed files while no daemon ran, and the catalog lost its rows of them."""
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    for wheel in (WHEEL, OTHER):  # the second one was never there
        await first.remember_build(wheel.filename, wheel.sha256, wheel.filename, {})
        await first.remember_url(wheel.filename, UrlState(wheel.sha256))
    await first.remember_url("git", UrlState("", "c" * 40))
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert await second.built(WHEEL.filename) is not None
        assert await second.built(OTHER.filename) is None
        assert await second.url_state(OTHER.filename) is None
        assert await second.url_state(WHEEL.filename) is not None
        assert await second.url_state("git") is not None
    finally:
        await second.close()


async def test_a_build_row_whose_wheel_is_not_in_the_catalog_is_none(store: Store) -> None:
    """The builder would hand out a wheel that does not exist."""
    await store.remember_build("key", OTHER.sha256, OTHER.filename, {})
    assert await store.built("key") is None


async def test_tables_are_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that runs for months, and a cache that lives for years."""
    monkeypatch.setattr(
        schema, "_BOUNDS", schema._BOUNDS | {"urls": ("checked", 100), "requests": ("at", 50)}
    )
    store = await Store.open(tmp_path / "cache")
    for number in range(300):  # trimmed while it runs
        await store.remember_url(f"u{number}", UrlState("", None, None, float(number)))
        await store.remember_requests(f"/v{number}", {"demo": request(at=float(number))})

    def counts(db: sqlite3.Connection) -> list[int]:
        return [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("urls", "requests")]

    urls, requests = await asyncio.wrap_future(store.catalog.ask(counts))
    assert 100 <= urls < 300
    assert 50 <= requests < 300
    await store.close()
    again = await Store.open(tmp_path / "cache")  # and at start
    try:
        assert await asyncio.wrap_future(again.catalog.ask(counts)) == [100, 50]
        assert await again.url_state("u299") is not None
        assert await again.url_state("u199") is None
        assert await again.requests("/v249") == {}
        assert "demo" in await again.requests("/v250")
    finally:
        await again.close()


async def test_a_catalog_of_schema_2_is_taken_over(tmp_path: Path) -> None:
    """An upgrade of pkgc keeps every artifact, alias, origin and file name."""
    cache = tmp_path / "cache"
    first = await Store.open(cache)
    await first.ensure_tree(await publish(first), WHEEL.filename)
    await first.record_origin(WHEEL.sha256, Origin("index", "http://h/x", "http://h/simple/"), WHEEL.filename)
    first.remember_files("http://h/simple/", "demo", [(Digest("sha256", "a" * 64), "demo-2.tar.gz")])
    await first.remember_interpreter("python", {"a": 1})
    await first.close()
    connection = sqlite3.connect(cache / "catalog.sqlite3")
    connection.executescript(
        "DROP TABLE urls; DROP TABLE builds; DROP TABLE requests; DROP TABLE sources;"
        " PRAGMA user_version = 2;"
    )
    connection.close()
    second = await Store.open(cache)
    try:
        assert not second.catalog.rebuilt
        assert second.tree(WHEEL.sha256) or await second.load_tree(WHEEL.sha256)
        assert second.artifact(WHEEL.sha256) is not None
        assert second.origins(WHEEL.sha256)[0][0].index == "http://h/simple/"
        assert second.known_filename(Digest("sha256", "a" * 64)) == "demo-2.tar.gz"
        assert await second.recall_interpreter("python") == {"a": 1}
        await second.remember_build("key", WHEEL.sha256, WHEEL.filename, {})
        assert await second.built("key") is not None
    finally:
        await second.close()
    connection = sqlite3.connect(cache / "catalog.sqlite3")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    assert connection.execute("SELECT key FROM builds").fetchall() == [("key",)]
    connection.close()


async def test_a_catalog_of_schema_3_loses_its_secrets(tmp_path: Path) -> None:
    """Lines of locks were kept as they were written, passwords and tokens in them too."""
    cache = tmp_path / "cache"
    first = await Store.open(cache)
    await publish(first)
    await first.record_origin(WHEEL.sha256, URL, WHEEL.filename)
    await first.remember_build("key", WHEEL.sha256, WHEEL.filename, {})
    await first.close()
    path = cache / "catalog.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TABLE sources; ALTER TABLE urls DROP COLUMN answered_by; PRAGMA user_version = 3;"
    )
    for number in range(50):
        row = (f"/v{number}", f"demo @ http://u:hunter2@h/{'x' * 200}")
        connection.execute("INSERT INTO requests VALUES (?,'demo','1','','',?,'','','',1.0)", row)
    connection.execute("DELETE FROM requests WHERE venv < '/v2'")
    connection.commit()
    connection.close()
    path.chmod(0o644)
    assert b"hunter2" in path.read_bytes()
    second = await Store.open(cache)
    try:
        assert not second.catalog.rebuilt
        for file in cache.glob("catalog.sqlite3*"):
            assert b"hunter2" not in file.read_bytes(), file
            assert file.stat().st_mode & 0o777 == 0o600, file
        assert await second.requests("/v3") == {}
        # What was built may not be told from what was downloaded: it is downloaded again.
        assert second.only_built(WHEEL.sha256)
        assert await second.built("key") is not None
    finally:
        await second.close()


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
async def test_nobody_else_reads_the_catalog(tmp_path: Path, umask: int) -> None:
    """It says what everybody on the machine installed where, also in a cache that others may read."""
    old = os.umask(umask)
    try:
        store = await Store.open(tmp_path / "cache", shared=True)
    finally:
        os.umask(old)
    try:
        await store.remember_requests("/venv", {"demo": request()})
        await store.requests("/other")  # after that row
        files = sorted((tmp_path / "cache").glob("catalog.sqlite3*"))
        assert len(files) == 3, files
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    finally:
        await store.close()


async def test_rows_that_nobody_wrote_are_no_rows(tmp_path: Path) -> None:
    """A page of the database that was overwritten must not reach a plan."""
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    await first.close()
    connection = sqlite3.connect(tmp_path / "cache" / "catalog.sqlite3")
    sha256 = WHEEL.sha256
    connection.execute("INSERT INTO urls VALUES ('u', '../../etc', NULL, NULL, 1.0, NULL)")
    connection.execute("INSERT INTO urls VALUES ('v', ?, x'00', NULL, 1.0, NULL)", (sha256,))
    connection.execute("INSERT INTO urls VALUES ('w', ?, '\"1\"', NULL, 1.0, x'00')", (sha256,))
    for key, note in (("a", "[1]"), ("b", "{"), ("c", "[" * 50_000)):
        connection.execute("INSERT INTO builds VALUES (?,?,'x.whl',?,1.0,1.0)", (key, sha256, note))
    connection.execute(
        "INSERT INTO requests VALUES ('/v','demo',x'00','','','','index','','',1.0),"
        " ('/v','odd','1','','','','weird','u','',1.0)"
    )
    connection.commit()
    connection.close()
    store = await Store.open(tmp_path / "cache")
    try:
        assert [await store.url_state(key) for key in "uvw"] == [None, None, None]
        assert [await store.built(key) for key in "abc"] == [None, None, None]
        assert dict(await store.requests("/v")) == {"odd": Request("1", "", "", "", None, 1.0)}
    finally:
        await store.close()


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=40).map(os.fsdecode), text=st.text(max_size=40))
def test_paths_may_be_anything(raw: str, text: str) -> None:
    """Names of folders on Linux are bytes; one of them must not silence the catalog."""

    async def check(catalog: Catalog) -> None:
        asked = {"demo": Request(text, "", raw, text, Origin("path", raw), 1.0)}
        await catalog.facts.put_requests(raw, asked)
        catalog.facts.put_url(raw, UrlState("", text, raw, 1.0))
        # What SQLite has, not what memory has.
        rows = catalog.ask(lambda db: db.execute("SELECT count(*) FROM requests, urls").fetchone())
        assert (await asyncio.wrap_future(rows)) == (1,)
        assert await catalog.facts.requests(raw) == asked

    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder, "catalog.sqlite3"))
        try:
            asyncio.run(check(catalog))
        finally:
            catalog.close()


async def test_when_bytes_came_is_known(store: Store) -> None:
    """`pkgc why` says when a file was downloaded."""
    assert store.when_fetched(WHEEL.sha256) is None
    await store.ensure_tree(await publish(store), WHEEL.filename)
    came = store.when_fetched(WHEEL.sha256)
    assert came is not None
    await store.damaged_artifact(WHEEL.sha256)
    assert store.when_fetched(WHEEL.sha256) == store.catalog.trees[WHEEL.sha256].added >= came


async def test_when_bytes_came_outlives_the_catalog(tmp_path: Path) -> None:
    """A rebuilt catalog must not say that everything was downloaded today."""
    first = await Store.open(tmp_path / "cache")
    artifact = await publish(first)
    await first.close()
    os.utime(artifact.path, (1000.0, 1000.0))
    first.layout.catalog.unlink()
    second = await Store.open(tmp_path / "cache")
    try:
        assert await second.obtain_artifact(WHEEL.sha256) is not None
        assert second.when_fetched(WHEEL.sha256) == 1000.0
    finally:
        await second.close()
