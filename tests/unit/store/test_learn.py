"""A lock that names digests which nobody has computed of what is stored (T9b): found by the pin alone."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pkgc_daemon.store import artifacts
from pkgc_daemon.store.digests import learn
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Digest, Wanted
from tests.support.wheels import BuiltWheel, make_wheel

WHEEL = make_wheel("My.Long-Name", "1.0", {"x.py": "x = 1\n"})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store of its own."""
    opened = await Store.open(tmp_path / "cache")
    yield opened
    await opened.close()


async def publish(store: Store, wheel: BuiltWheel, name: str | None = None) -> None:
    path = store.incoming / "in.part"
    path.write_bytes(wheel.data)
    own = frozenset({Digest("sha256", wheel.sha256)})
    await store.publish_artifact(
        path, wheel.sha256, len(wheel.data), own, name or wheel.filename, "http://h/"
    )


def wanted(wheel: BuiltWheel, algorithm: str = "sha512") -> Wanted:
    digest = Digest(algorithm, hashlib.new(algorithm, wheel.data).hexdigest())
    return Wanted("my-long-name", "1.0", frozenset({digest}))


@pytest.mark.parametrize(
    "name", [WHEEL.filename, "My.Long-Name-1.0.tar.gz", "my_long.name-1.0.0-1-py3-none-any.whl"]
)
async def test_found_however_the_file_spells_name_and_version(store: Store, name: str) -> None:
    """Otherwise gigabytes come again because a lock uses sha512."""
    await publish(store, WHEEL, name)
    pin = wanted(WHEEL)
    await learn(store, pin)
    assert [store.sha256_of(digest) for digest in pin.hashes] == [WHEEL.sha256]


async def test_only_files_of_the_pin_are_read_and_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin that the cache cannot serve must not cost a reading of the whole cache, at every sync."""
    others = [
        make_wheel(name, version) for name, version in (("my-long-name", "2.0"), ("my-long-name-x", "1.0"))
    ]
    for wheel in (WHEEL, *others):
        await publish(store, wheel)
    read: list[str] = []
    hash_file = artifacts.hash_file

    def count(path: Path, algorithms: frozenset[str]) -> dict[str, str]:
        read.append(path.name)
        return hash_file(path, algorithms)

    monkeypatch.setattr(artifacts, "hash_file", count)
    for _ in range(2):
        await learn(store, wanted(others[0]))
    assert read == [WHEEL.sha256]
    await learn(store, wanted(WHEEL, "sha256"))
    await learn(store, wanted(others[0], "md5"))
    assert read == [WHEEL.sha256]
