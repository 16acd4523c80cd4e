"""What is noted of an artifact in the same go in which it is published, and how rows reach the catalog."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.selection.ports import CachedPage
from pkgc_daemon.store import artifacts
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Artifact, Digest, Origin
from tests.support.wheels import make_wheel

WHEEL = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n"})
URL = "http://127.0.0.1/files/demo.whl"
INDEX = Origin("index", URL, "http://127.0.0.1/simple/")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


async def publish(store: Store, url: str = URL) -> Artifact:
    path = store.incoming / "1.part"
    path.write_bytes(WHEEL.data)
    digests = frozenset({Digest("sha256", WHEEL.sha256)})
    return await store.publish_artifact(path, WHEEL.sha256, len(WHEEL.data), digests, WHEEL.filename, url)


async def test_whoever_waits_for_a_file_has_its_index_recorded_with_it(store: Store) -> None:
    """A daemon killed right after a download would forget which index it came from, and record a bare URL."""
    with store.offered(WHEEL.sha256, INDEX, WHEEL.filename):
        await publish(store)
    assert store.origins(WHEEL.sha256) == ((INDEX, WHEEL.filename),)
    note = artifacts.read_sidecar(store.layout, WHEEL.sha256)
    assert note is not None
    assert note.origins == ((INDEX, WHEEL.filename),)


@pytest.mark.parametrize("wrong", ["url", "digest", "over"])
async def test_an_offer_of_something_else_is_not_recorded(store: Store, wrong: str) -> None:
    """provenance_url.json would name an index that never gave these bytes."""
    offered = Origin("index", "http://127.0.0.1/other.whl", INDEX.index) if wrong == "url" else INDEX
    sha256 = "0" * 64 if wrong == "digest" else WHEEL.sha256
    with store.offered(sha256, offered, WHEEL.filename):
        if wrong != "over":
            await publish(store)
    if wrong == "over":
        await publish(store)
    assert [origin.index for origin, _ in store.origins(WHEEL.sha256)] == [None]


async def test_credentials_of_an_offer_do_not_hide_it(store: Store) -> None:
    """The download's URL has lost its credentials when it is published; the index is known all the same."""
    offered = Origin("index", URL.replace("http://", "http://me:secret@"), INDEX.index)
    with store.offered(WHEEL.sha256, offered, WHEEL.filename):
        await publish(store)
    assert store.origins(WHEEL.sha256)[0][0].index == INDEX.index


def test_rows_of_a_burst_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction for each row wakes a thread hundreds of times while a sync needs the processor.

    Whoever asks does not wait for the end of a burst, and meets everything that was posted before.
    """
    begun: list[Any] = []
    transaction = Catalog._transaction

    def counted(self: Catalog, connection: sqlite3.Connection, first: Any) -> bool:
        begun.append(first)
        return transaction(self, connection, first)

    monkeypatch.setattr(Catalog, "_transaction", counted)
    monkeypatch.setattr("pkgc_daemon.store.catalog._GATHER", 600.0)
    opened = Catalog(tmp_path / "catalog.sqlite3")
    for number in range(3):
        opened.put_origin(f"{number:064x}", INDEX, WHEEL.filename)
        while not number and not opened._jobs.empty():
            time.sleep(0.001)  # the writer has the first one in its hands before the others come
    rows = opened.ask(lambda db: db.execute("SELECT count(*) FROM origins").fetchone()).result(60)
    assert rows == (3,)
    assert len(begun) == 1
    opened.put_origin("f" * 64, INDEX, WHEEL.filename)
    opened.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM origins").fetchone() == (4,)


async def test_pages_of_an_earlier_daemon_are_found(tmp_path: Path) -> None:
    """Memory tells which pages there are: one that it does not know would be fetched again."""
    page = CachedPage("key", URL, None, None, 12.5, "text/html", b"<html>", URL)
    first = await Store.open(tmp_path / "cache")
    await first.save_page(page)
    assert await first.load_page("key") == page
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert await second.load_page("key") == page
        assert await second.load_page("other") is None
        await second.drop_page("key")
        assert await second.load_page("key") is None
    finally:
        await second.close()
