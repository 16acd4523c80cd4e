"""Wheels that were built here, and files that somebody offers: two kinds of bytes (H10; invariant 4)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgc_daemon.selection.candidates import offline_choice
from pkgc_daemon.store.digests import learn
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Artifact, Digest, Interpreter, Origin, Wanted
from tests.support.wheels import make_wheel

WHEEL = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n"})
SHA256 = Digest("sha256", WHEEL.sha256)
SHA512 = Digest("sha512", hashlib.sha512(WHEEL.data).hexdigest())
WORK = "file:///tmp/work/dist/demo-1.0-py3-none-any.whl"
FOLDER = Origin("directory", "file:///src")
INDEX = Origin("index", "http://127.0.0.1/f/demo-1.0-py3-none-any.whl", "http://127.0.0.1/simple/")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


async def publish(store: Store, url: str = INDEX.url) -> Artifact:
    path = store.incoming / "x.part"
    path.write_bytes(WHEEL.data)
    return await store.publish_artifact(
        path, WHEEL.sha256, len(WHEEL.data), frozenset({SHA256, SHA512}), WHEEL.filename, url
    )


async def build(store: Store, source: Origin = FOLDER) -> Artifact:
    """What the builder does with a wheel."""
    with store.built_of(WORK, source):
        artifact = await publish(store, WORK)
    await store.ensure_tree(artifact, WHEEL.filename)
    await store.remember_build("key", WHEEL.sha256, WHEEL.filename, {})
    return artifact


async def download(store: Store) -> None:
    """What is done with a file of an index."""
    await publish(store)
    await store.record_origin(WHEEL.sha256, INDEX, WHEEL.filename)


async def serves(store: Store) -> bool:
    """Whether anybody who names these bytes by a digest gets them; all ways must agree."""
    interpreter = Interpreter("/p", "3.12.1", "cpython", "cpython-312", "/v", "/u", {}, ("py3-none-any",), {})
    answers = set()
    for digest in (SHA256, SHA512):
        wanted = Wanted("demo", "1.0", frozenset({digest}))
        await store.settle(wanted.hashes)
        await learn(store, wanted)
        choice = offline_choice(
            wanted, interpreter, store.known_filename, lambda one: store.sha256_of(one) is not None
        )
        answers.add((choice.use or choice.fallback) is not None)
        answers.add(store.sha256_of(digest) is not None)
        answers.add(await store.find_by_any(wanted.hashes, WHEEL.filename) is not None)
    answers.add(await store.held(WHEEL.sha256) is not None)
    if store.artifact(WHEEL.sha256) is not None:
        answers |= {store.find(digest) is not None for digest in (SHA256, SHA512)}
    (answer,) = answers
    return answer


@pytest.mark.parametrize("loss", ["none", "restart", "catalog", "file"])
async def test_a_built_wheel_is_nobodys_file(tmp_path: Path, loss: str) -> None:
    """Its hash in a lock would install a local build, even an editable one, under the name of an index."""
    store = await Store.open(tmp_path / "cache")
    await build(store)
    if loss == "file":
        await store.damaged_artifact(WHEEL.sha256)  # evicted: its tree is left
    if loss in ("restart", "catalog"):
        await store.close()
        if loss == "catalog":
            store.layout.catalog.unlink()
        store = await Store.open(tmp_path / "cache")
        await store.obtain_artifact(WHEEL.sha256)
    try:
        assert store.only_built(WHEEL.sha256)
        assert not await serves(store)
        assert store.origins(WHEEL.sha256) == ()
        assert store.sources(WHEEL.sha256) == (FOLDER,)
        # The builder has it still.
        assert await store.load_tree(WHEEL.sha256) is not None
        assert (await store.built("key") is not None) is (loss != "catalog")
        assert [row["origins"] for row in await store.listing()] == [[FOLDER.url]]
    finally:
        await store.close()


@pytest.mark.parametrize("first", ["built", "downloaded"])
@pytest.mark.parametrize("loss", ["none", "restart", "catalog"])
async def test_the_same_bytes_that_were_downloaded_too_are_a_file(
    tmp_path: Path, first: str, loss: str
) -> None:
    """A reproducible build must not cost the wheel of the index, nor a download at each sync."""
    store = await Store.open(tmp_path / "cache")
    await (build(store) if first == "built" else download(store))
    assert await serves(store) is (first == "downloaded")
    await (download(store) if first == "built" else build(store))
    if loss != "none":
        await store.close()
        if loss == "catalog":
            store.layout.catalog.unlink()
        store = await Store.open(tmp_path / "cache")
        await store.obtain_artifact(WHEEL.sha256)
    try:
        assert await serves(store)
        assert store.origins(WHEEL.sha256) == ((INDEX, WHEEL.filename),)
        assert store.sources(WHEEL.sha256) == (FOLDER,)
    finally:
        await store.close()


async def test_a_download_of_bytes_that_were_built_counts_at_once(store: Store) -> None:
    """Between the download and the record of its index, too: the flight of another waiter looks there."""
    await build(store)
    await publish(store)
    assert await serves(store)


async def test_one_wheel_of_two_sources(store: Store) -> None:
    """Two checkouts may give the same bytes; the second build must not make a file of them."""
    await build(store)
    other = Origin("vcs", "git+http://127.0.0.1/repo@abc")
    await build(store, other)
    assert set(store.sources(WHEEL.sha256)) == {FOLDER, other}
    assert not await serves(store)


async def test_stored_bytes_say_where_they_came_from(store: Store) -> None:
    """`pkgc why` and provenance_url.json must not name a server that was never asked."""
    offered = Origin("index", "http://mirror.test/demo.whl", "http://mirror.test/simple/")
    sha256 = WHEEL.sha256
    assert store.origin_for(sha256, offered) == offered, "nobody knows better"
    await publish(store, "http://127.0.0.1/cdn/demo.whl")
    bare = Origin("index", "http://127.0.0.1/cdn/demo.whl")
    assert store.origin_for(sha256, offered) == bare
    named = Origin("index", bare.url, "http://127.0.0.1/simple/")
    assert store.origin_for(sha256, named) == named, "the same URL, of which more is known now"
    await store.record_origin(sha256, INDEX, WHEEL.filename)
    assert store.origin_for(sha256, offered) == INDEX
    assert store.origin_for(sha256, INDEX) == INDEX
    claimed = Origin("index", INDEX.url, "http://claimed.test/simple/")
    assert store.origin_for(sha256, claimed) == INDEX, "it was that index that named the URL"
    await store.record_origin(sha256, offered, WHEEL.filename)
    assert store.origin_for(sha256, offered) == offered
