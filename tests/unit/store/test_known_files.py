"""File names of digests: whose word counts, and that nobody can change what others said."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgc_daemon.selection.ports import CachedPage
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Digest
from tests.support.wheels import make_wheel

GOOD, EVIL, THIRD = "http://good.example/simple", "http://evil.example/simple", "http://third.example/simple"
NAME, LIE = "demo-1.0-py3-none-any.whl", "demo-1.0-cp27-cp27m-win32.whl"
DIGEST = Digest("sha256", "a" * 64)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


def known(store: Store, *sources: str) -> str | None:
    return store.known_filename(DIGEST, frozenset(sources))


async def test_only_the_sources_of_the_call_count(store: Store) -> None:
    """An index that somebody else used once decided what this call installed."""
    store.remember_files(GOOD, "demo", [(DIGEST, NAME)])
    store.remember_files(EVIL, "demo", [(DIGEST, LIE)])
    assert known(store, GOOD) == NAME
    assert known(store, EVIL) == LIE
    assert known(store, THIRD) is None
    # Who disagrees among those that count: then the page must tell.
    assert known(store, GOOD, EVIL) is None
    assert store.known_filename(DIGEST) is None
    store.remember_files(THIRD, "demo", [(DIGEST, "Demo-1.0-py3-none-any.whl")])
    assert known(store, GOOD, THIRD) in (NAME, "Demo-1.0-py3-none-any.whl"), (
        "the same file, written otherwise"
    )


async def test_a_source_may_correct_itself(store: Store) -> None:
    """Else one mistake of an index costs a request for ever."""
    store.remember_files(GOOD, "demo", [(DIGEST, LIE), (DIGEST, NAME)])
    assert known(store, GOOD) is None
    store.remember_files(GOOD, "demo", [(DIGEST, NAME)])
    assert known(store, GOOD) == NAME


async def test_the_name_that_bytes_were_checked_against_stays(store: Store) -> None:
    """What is in the store needs no page, and no page can rename it."""
    wheel = make_wheel("demo", "1.0")
    digest = Digest("sha256", wheel.sha256)
    path = store.incoming / "new"
    path.write_bytes(wheel.data)
    also = frozenset({digest, Digest("sha512", hashlib.sha512(wheel.data).hexdigest())})
    artifact = await store.publish_artifact(
        path, wheel.sha256, len(wheel.data), also, wheel.filename, "http://good.example/x"
    )
    for _ in range(2):
        assert all(store.known_filename(one, frozenset()) == wheel.filename for one in also)
        store.remember_files(EVIL, "demo", [(digest, LIE)])
        assert store.known_filename(digest, frozenset({GOOD})) == wheel.filename
        assert store.known_filename(digest, frozenset({EVIL})) is None
        await store.ensure_tree(artifact, wheel.filename)


async def test_what_sources_said_survives_a_restart(tmp_path: Path) -> None:
    """Also what two of them said of one digest, and only so many sources are kept."""
    first = await Store.open(tmp_path / "cache")
    first.remember_files(EVIL, "demo", [(DIGEST, LIE)])
    for number in range(40):
        first.remember_files(f"http://h{number}.example", "demo", [(DIGEST, NAME)])
    first.remember_files(GOOD, "demo", [(DIGEST, LIE), (DIGEST, NAME)])
    first.remember_files(GOOD, "demo", [(DIGEST, NAME)])
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert known(second, GOOD) == known(second, "http://h39.example") == NAME
        assert known(second, EVIL) is None
        assert known(second, "http://h1.example") is None
    finally:
        await second.close()


async def test_an_older_catalog_is_taken_over(tmp_path: Path) -> None:
    """An upgrade of pkgc keeps what is known."""
    cache = tmp_path / "cache"
    await (await Store.open(cache)).close()
    connection = sqlite3.connect(cache / "catalog.sqlite3")
    connection.executescript(
        "DROP TABLE urls; DROP TABLE builds; DROP TABLE requests; DROP TABLE sources;"
        " DROP TABLE files;"
        " CREATE TABLE files (algorithm TEXT NOT NULL, hex TEXT NOT NULL,"
        " filename TEXT NOT NULL, page TEXT NOT NULL, project TEXT NOT NULL, seen REAL NOT NULL,"
        " PRIMARY KEY (algorithm, hex))"
        " WITHOUT ROWID; CREATE INDEX files_seen ON files (seen); PRAGMA user_version = 1;"
    )
    row = (DIGEST.algorithm, DIGEST.hex, NAME, GOOD, "demo", 1.0)
    connection.execute("INSERT INTO files VALUES (?,?,?,?,?,?)", row)
    connection.commit()
    connection.close()
    store = await Store.open(cache)
    try:
        assert known(store, GOOD) == NAME
        store.remember_files(EVIL, "demo", [(DIGEST, LIE)])
        assert known(store, EVIL) == LIE
    finally:
        await store.close()


async def test_a_dropped_page_is_gone(store: Store) -> None:
    """A project that its index has withdrawn must not come back from the disk."""
    page = CachedPage("key", "http://good.example/simple/a/", None, None, 0.0, "text/html", b"<html>")
    await store.drop_page(page.key)
    await store.save_page(page)
    await asyncio.gather(store.drop_page(page.key), store.drop_page("other"))
    assert await store.load_page(page.key) is None
