"""Origins of every kind, digests that are computed late, and wheels that were built here."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest

from pkgc_daemon.selection.candidates import offline_choice
from pkgc_daemon.store import artifacts
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Artifact, Digest, Interpreter, Origin, OriginKind, Wanted
from tests.support.wheels import BuiltWheel, make_wheel

WHEEL = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n"})
OTHER = make_wheel("demo", "1.0", {"demo/__init__.py": "x = 2\n"})
KINDS: tuple[OriginKind, ...] = get_args(OriginKind)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


async def publish(store: Store, wheel: BuiltWheel = WHEEL, url: str = "http://127.0.0.1/x") -> Artifact:
    path = store.incoming / f"{wheel.sha256}.part"
    path.write_bytes(wheel.data)
    digests = frozenset({Digest("sha256", wheel.sha256)})
    return await store.publish_artifact(path, wheel.sha256, len(wheel.data), digests, wheel.filename, url)


def digest(algorithm: str, wheel: BuiltWheel = WHEEL) -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, wheel.data).hexdigest())


def origins() -> list[Origin]:
    return [
        Origin(
            kind, f"http://127.0.0.1/{kind}", "http://127.0.0.1/" if kind in ("index", "find-links") else None
        )
        for kind in KINDS
    ]


@pytest.mark.parametrize("loss", ["none", "catalog", "artifact", "refetched"])
async def test_origins_of_every_kind_survive(tmp_path: Path, loss: str) -> None:
    """An environment records where its files came from; a wrong kind means direct_url.json or none."""
    first = await Store.open(tmp_path / "cache")
    await first.ensure_tree(await publish(first), WHEEL.filename)
    for origin in origins():
        await first.record_origin(WHEEL.sha256, origin, WHEEL.filename)
    if loss in ("artifact", "refetched"):
        await first.damaged_artifact(WHEEL.sha256)
    if loss == "refetched":
        await publish(first)
    await first.close()
    if loss != "none":
        first.layout.catalog.unlink()
    second = await Store.open(tmp_path / "cache")
    try:
        assert {origin for origin, _ in second.origins(WHEEL.sha256)} == set(origins())
        assert second.origins(WHEEL.sha256)[0][0].kind == "find-links", (
            "with a page: the most that can be said"
        )
    finally:
        await second.close()


async def test_an_unknown_kind_in_a_sidecar_is_left_out(tmp_path: Path) -> None:
    """A sidecar of a newer pkgc: the bytes stay of use, and nothing is taken for what it is not."""
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    await first.record_origin(WHEEL.sha256, Origin("url", "http://127.0.0.1/d"), WHEEL.filename)
    await first.close()
    first.layout.catalog.unlink()
    sidecar = first.layout.sidecar(WHEEL.sha256)
    text = sidecar.read_text().replace('"url", "http://127.0.0.1/d"', '"ipfs", "http://127.0.0.1/d"')
    assert "ipfs" in text
    sidecar.chmod(0o644)
    sidecar.write_text(text)
    second = await Store.open(tmp_path / "cache")
    try:
        assert second.origins(WHEEL.sha256) == ((Origin("index", "http://127.0.0.1/x"), WHEEL.filename),)
        assert await second.obtain_artifact(WHEEL.sha256) is not None
    finally:
        await second.close()


async def test_the_url_of_a_download_gives_way_to_what_it_was_wanted_for(tmp_path: Path) -> None:
    """Indexes redirect to other hosts, whose URLs tell nobody where a package is from."""
    first = await Store.open(tmp_path / "cache")
    await publish(first, url="http://127.0.0.1/cdn/demo-1.0-py3-none-any.whl")
    source = Origin("index", "http://127.0.0.1/demo-1.0-py3-none-any.whl", "http://127.0.0.1/simple/")
    await first.record_origin(WHEEL.sha256, source, WHEEL.filename)
    await publish(first, url="http://127.0.0.1/cdn2/demo-1.0-py3-none-any.whl")
    assert first.origins(WHEEL.sha256) == ((source, WHEEL.filename),)
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert second.origins(WHEEL.sha256) == ((source, WHEEL.filename),)
        assert [row["origins"] for row in await second.listing()] == [[source.url]]
    finally:
        await second.close()


def interpreter() -> Interpreter:
    return Interpreter("/p", "3.12.1", "cpython", "cpython-312", "/v", "/u", {}, ("py3-none-any",), {})


async def test_a_wheel_that_was_built_here_serves_no_other_hash(store: Store) -> None:
    """The same file name, other bytes: a hashed pin must get what its lock names (invariant 4)."""
    with store.built_of("http://127.0.0.1/x", Origin("directory", "file:///src")):
        await publish(store)
    await store.remember_build("key", WHEEL.sha256, WHEEL.filename, {})

    def decided(*hashes: Digest) -> Digest | None:
        wanted = Wanted("demo", "1.0", frozenset(hashes))
        choice = offline_choice(
            wanted, interpreter(), store.known_filename, lambda one: store.find(one) is not None
        )
        return choice.use or choice.fallback

    assert decided(digest("sha256", OTHER)) is None
    assert decided(digest("sha512", OTHER)) is None
    assert await store.find_by_any(frozenset({digest("sha512", OTHER)}), WHEEL.filename) is None
    store.remember_files("http://h/simple/", "demo", [(digest("sha256", OTHER), OTHER.filename)])
    assert decided(digest("sha256", OTHER)) is None
    assert decided(digest("sha256")) is None, "nor its own: see test_built_wheels.py"


# -- digests that nobody has computed yet (T9b) --------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha384", "sha512", "blake2b"])
async def test_stored_bytes_are_found_by_another_algorithm(
    tmp_path: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T9b: a lock that names sha512 only must not download again what is there under its sha256."""
    first = await Store.open(tmp_path / "cache")
    await publish(first)
    asked = frozenset({digest(algorithm)})
    assert await first.find_by_any(asked, "another-1.0-py3-none-any.whl") is None, "not a name to look at"
    assert first.find(digest(algorithm)) is None
    found = await asyncio.gather(*(first.find_by_any(asked, WHEEL.filename) for _ in range(10)))
    assert all(one is not None and one.sha256 == WHEEL.sha256 for one in found)
    assert found[0] is not None
    assert digest(algorithm) in found[0].digests
    await first.close()
    second = await Store.open(tmp_path / "cache")
    try:
        assert second.find(digest(algorithm)) is not None, "remembered"
    finally:
        await second.close()


async def test_each_file_is_hashed_once_however_often_it_is_asked_about(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock whose file is not in the store must not cost a full read of its namesakes at each sync."""
    await publish(store)
    hashed: list[str] = []
    hash_file = artifacts.hash_file

    def count(path: Path, algorithms: frozenset[str]) -> dict[str, str]:
        hashed.append(path.name)
        return hash_file(path, algorithms)

    monkeypatch.setattr(artifacts, "hash_file", count)
    asked = frozenset({digest("sha512", OTHER)})
    for _ in range(3):
        results = await asyncio.gather(*(store.find_by_any(asked, WHEEL.filename) for _ in range(5)))
        assert results == [None] * 5
    assert hashed == [WHEEL.sha256]
    assert await store.find_by_any(frozenset({digest("md5")}), WHEEL.filename) is None, "md5 tells nothing"
    assert hashed == [WHEEL.sha256]


async def test_an_alias_is_of_the_very_bytes(store: Store) -> None:
    """Bytes that rotted get no alias: it would serve them for ever (invariant 1)."""
    artifact = await publish(store)
    status = artifact.path.stat()
    rotten = bytes([WHEEL.data[0] ^ 1]) + WHEEL.data[1:]
    artifact.path.chmod(0o644)
    artifact.path.write_bytes(rotten)
    artifact.path.chmod(0o444)
    os.utime(artifact.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    wrong = Digest("sha512", hashlib.sha512(rotten).hexdigest())
    assert await store.find_by_any(frozenset({wrong, digest("sha512")}), WHEEL.filename) is None
    assert store.find(wrong) is None
    assert store.artifact(WHEEL.sha256) is None, "put away"


async def test_only_the_largest_namesakes_are_looked_at(store: Store) -> None:
    """One question must not read the whole cache."""
    wheels = [make_wheel("demo", "1.0", {"demo/x.bin": b"\0" * n + b"x"}) for n in range(0, 100_000, 10_000)]
    for wheel in wheels:
        await publish(store, wheel)
    assert len({wheel.filename for wheel in wheels}) == 1
    assert await store.find_by_any(frozenset({Digest("sha512", "0" * 128)}), wheels[0].filename) is None
    known = [len(store.digests(wheel.sha256)) == 2 for wheel in wheels]
    sizes = sorted(len(wheel.data) for wheel in wheels)[-8:]
    assert known == [len(wheel.data) in sizes for wheel in wheels]


async def test_what_is_left_of_an_evicted_file_is_held(store: Store) -> None:
    """The original file is evicted before its tree; a URL that did not change needs no download then."""
    assert await store.held(WHEEL.sha256) is None
    artifact = await publish(store)
    assert await store.held(WHEEL.sha256) == artifact
    await store.ensure_tree(artifact, WHEEL.filename)
    await store.damaged_artifact(WHEEL.sha256)
    held = await store.held(WHEEL.sha256)
    assert held is not None
    assert (held.sha256, held.size) == (WHEEL.sha256, len(WHEEL.data))
    assert (await store.ensure_tree(held, WHEEL.filename)).sha256 == WHEEL.sha256


# -- git repositories ----------------------------------------------------------------------------------------


async def test_repositories_are_counted_and_cleaned_unless_in_use(store: Store) -> None:
    """`pkgc cache clean` frees what git fetched, but not under the feet of a fetch."""
    used, unused = (store.layout.repository(f"http://127.0.0.1/{name}") for name in ("used", "unused"))
    assert used != unused
    assert store.layout.repository("http://u:secret@127.0.0.1/used") == used
    for path in (used, unused):
        (path / "objects").mkdir(parents=True)
        (path / "objects" / "pack").write_bytes(b"x" * 1000)
    assert (await store.size())["git"] == {"files": 2, "bytes": 2000}
    assert (await store.size())["total"]["bytes"] == 2000
    assert (await store.clean(["demo"]))["removed"] == []
    with open(f"{used}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        report = await store.clean()
        assert report == {"removed": [f"git/{unused.name}"], "bytes": 1000, "skipped": [f"git/{used.name}"]}
        assert used.is_dir()
    assert (await store.clean())["removed"] == [f"git/{used.name}"]
    assert (await store.size())["total"] == {"files": 0, "bytes": 0}
