"""Scenarios in which other installers keep, take or fetch wrong content: one test each, named after its row.

What a URL holds now, which file of an index may be taken, and that known content costs no request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.instance import Instance, snapshot
from tests.support.locks import failure, importing, pin
from tests.support.peerrows import (
    WAYS,
    bodies,
    both_ways,
    listed,
    module_text,
    record,
    recorded_sha256,
    statuses,
    stored_bytes,
    why,
)
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: What the URL of T1 may give to tell a change by: ETag, Last-Modified, nothing.
VALIDATORS = {"etag": "if-none-match", "modified": "if-modified-since", "nothing": ""}
MONDAY, TUESDAY = "Mon, 06 Jul 2026 10:00:00 GMT", "Tue, 07 Jul 2026 10:00:00 GMT"


@pytest.fixture(scope="module", params=WAYS)
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One impatient daemon for each way."""
    with both_ways(request, tmp_path_factory, "[network]\nretries = 1\n") as instance:
        yield instance


def version_of(name: str, number: int, tag: str = "py3-none-any") -> BuiltWheel:
    """NAME 1.0 whose content is told apart by a number, under one file name."""
    return make_wheel(name, "1.0", {f"{name}/__init__.py": f"number = {number}\n"}, tag=tag)


def served(index: IndexServer, wheel: BuiltWheel, validator: str, modified: str) -> str:
    """Have the URL of a wheel's file name give this content, with one kind of validator."""
    url = index.add(wheel.data, wheel.filename)
    index.behave_well(wheel.filename)
    etag = "auto" if validator == "etag" else None
    last_modified = modified if validator == "modified" else None
    index.behave(wheel.filename, Behaviour(times=None, etag=etag, last_modified=last_modified))
    return url


def native(name: str, number: int) -> BuiltWheel:
    """The same project as a file that is preferred to a py3-none-any one."""
    return version_of(name, number, f"cp{interpreters.running().version.replace('.', '')}-none-any")


@pytest.mark.parametrize("validator", VALIDATORS)
def test_t1_url_content_changed(pkgc: Instance, index: IndexServer, tmp_path: Path, validator: str) -> None:
    """Somebody rebuilds the archive behind a URL: the old code would stay, and sync say 'up to date'."""
    name = f"t1_{validator}"
    old, new = version_of(name, 1), version_of(name, 2)
    url = served(index, old, validator, MONDAY)
    lock, venv = pkgc.requirements(f"{name} @ {url}"), tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv)
    assert record(venv, name)["file"] == "direct_url.json"
    assert record(venv, name)["url"] == url
    assert record(venv, name)["archive_info"]["hashes"] == {"sha256": old.sha256}
    again = pkgc.sync(lock, "--venv", venv)
    assert (again["installed"], again["kept"]) == ([], 1)
    condition = VALIDATORS[validator]
    assert statuses(index, old.filename) == [200, 304 if condition else 200]
    if condition:
        assert condition in index.requests_for(old.filename)[1].headers
    served(index, new, validator, TUESDAY)
    index.clear_log()
    result = pkgc.ok("sync", lock, "--venv", venv)
    assert statuses(index, new.filename) == [200], "asked once, and the answer is the new content"
    assert f"sha256:{old.sha256[:12]}… → sha256:{new.sha256[:12]}…" in result.out, "it says what changed"
    assert module_text(venv, name) == "number = 2\n"
    assert importing(venv, f"import {name}; print({name}.number)") == "2"
    assert recorded_sha256(venv, name) == new.sha256
    assert pkgc.sync(lock, "--venv", venv)["kept"] == 1
    assert index.page_requests() == []


def test_t1b_fresh_environment_asks_the_url(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A new environment from a warm cache would silently hold last month's code."""
    old, new = version_of("t1b", 1), version_of("t1b", 2)
    url = served(index, old, "etag", MONDAY)
    lock = pkgc.requirements(f"t1b @ {url}")
    pkgc.sync(lock, "--venv", tmp_path / "one")
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", tmp_path / "two")
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert statuses(index, old.filename) == [304], "unchanged: asked, not transferred"
    served(index, new, "etag", MONDAY)
    answer = pkgc.sync(lock, "--venv", tmp_path / "three")
    assert [one["sha256"] for one in answer["installed"]] == [new.sha256]
    assert module_text(tmp_path / "three", "t1b") == "number = 2\n"
    assert recorded_sha256(tmp_path / "three", "t1b") == new.sha256
    assert module_text(tmp_path / "two", "t1b") == "number = 1\n", "another environment is not touched"


@pytest.mark.parametrize("where", ["option", "fragment"])
def test_t1c_new_hash_for_an_installed_url(
    pkgc: Instance, index: IndexServer, tmp_path: Path, where: str
) -> None:
    """The lock was updated to reviewed bytes, and the unreviewed ones would go on running."""
    name = f"t1c_{where}"
    old, new = version_of(name, 1), version_of(name, 2)
    url = served(index, old, "etag", MONDAY)
    venv = tmp_path / "venv"

    def lock(wheel: BuiltWheel) -> Path:
        if where == "fragment":
            return pkgc.requirements(f"{name} @ {url}#sha256={wheel.sha256}")
        return pkgc.requirements(f"{name} @ {url} --hash=sha256:{wheel.sha256}")

    pkgc.sync(pkgc.requirements(f"{name} @ {url}"), "--venv", venv)
    served(index, new, "etag", MONDAY)
    index.clear_log()
    result = pkgc.ok("sync", lock(new), "--venv", venv, "--require-hashes")
    assert f"the lock wants sha256:{new.sha256}" in result.out
    assert len(bodies(index, new.filename)) == 1
    assert module_text(venv, name) == "number = 2\n"
    assert recorded_sha256(venv, name) == new.sha256
    index.clear_log()
    assert pkgc.sync(lock(new), "--venv", venv, "--require-hashes")["kept"] == 1
    answer = pkgc.sync(lock(old), "--venv", venv, "--require-hashes")
    assert [one["from"] for one in answer["installed"]] == ["store"], "back to bytes that are known"
    assert module_text(venv, name) == "number = 1\n"
    assert index.log == [], "a hash says which bytes are meant: nobody has to be asked"


def test_t8_same_version_of_another_index(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Dependency confusion: the code of the wrong index would stay although the lock names other bytes."""
    ours, theirs = version_of("t8reg", 1), version_of("t8reg", 2)
    index.add(theirs.data, theirs.filename, index="a")
    index.add(ours.data, ours.filename, index="b")
    a, b = index.index_url("a"), index.index_url("b")
    venv = tmp_path / "venv"
    pkgc.sync(pkgc.requirements(pin(theirs, hashed=False)), "--venv", venv, "-i", a)
    assert why(pkgc, venv, "t8reg")["origin"]["index"] == a
    lock = pkgc.requirements(pin(ours))
    result = pkgc.ok("sync", lock, "--venv", venv, "-i", b, "--require-hashes")
    assert f"installed from index {a}, the lock wants sha256:{ours.sha256}" in result.out
    assert module_text(venv, "t8reg") == "number = 1\n"
    assert record(venv, "t8reg")["pkgc"]["index"] == b
    assert recorded_sha256(venv, "t8reg") == ours.sha256
    told = why(pkgc, venv, "t8reg")
    assert told["origin"]["index"] == b
    assert told["hashes"]["sha256"] == ours.sha256
    assert told["asked_by"]["place"].endswith("requirements.txt:1")
    assert b in pkgc.ok("why", "t8reg", "--venv", venv).out


@pytest.mark.parametrize("hashed", [False, True], ids=["unhashed", "hashed"])
def test_t4_index_advertises_a_wrong_hash(
    pkgc: Instance, index: IndexServer, tmp_path: Path, hashed: bool
) -> None:
    """A mirror with rotten files: their bytes must reach neither the cache nor the environment."""
    wheel = version_of(f"t4_{hashed}".lower(), 1)
    index.add(wheel.data, wheel.filename, {"sha256": "0" * 64})
    venv = tmp_path / "venv"
    before = stored_bytes(pkgc)
    error = failure(
        pkgc, "sync", pkgc.requirements(pin(wheel, hashed=hashed)), "--venv", venv, "-i", index.url
    )
    assert error["code"] == ("no-allowed-hash" if hashed else "advertised-hash-mismatch")
    assert "0" * 64 in error["everything"], "expected"
    assert wheel.sha256 in error["everything"], "computed, or wanted by the lock"
    assert "requirements.txt:1" in error["everything"]
    assert not venv.exists()
    assert stored_bytes(pkgc) == before
    assert pkgc.leftovers() == []


def test_t7_allowed_file_is_not_the_preferred_one(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The lock allows the universal wheel only: a better-tagged one must not even be downloaded."""
    allowed, preferred = version_of("t7", 1), native("t7", 2)
    for wheel in (allowed, preferred):
        index.add(wheel.data, wheel.filename)
    venv = tmp_path / "venv"
    pkgc.sync(pkgc.requirements(pin(allowed)), "--venv", venv, "-i", index.url)
    assert module_text(venv, "t7") == "number = 1\n"
    assert index.requests_for(preferred.filename) == []
    assert statuses(index, allowed.filename) == [200]


def test_t7b_next_file_where_the_index_has_no_hashes(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A plain old index: the lock could not be installed at all, although the file that it names is there."""
    allowed, preferred = version_of("t7b", 1), native("t7b", 2)
    for wheel in (allowed, preferred):
        index.add(wheel.data, wheel.filename, hashes=False)
    venv = tmp_path / "venv"
    result = pkgc.ok("sync", pkgc.requirements(pin(allowed)), "--venv", venv, "-i", index.url, "-v")
    assert module_text(venv, "t7b") == "number = 1\n"
    assert recorded_sha256(venv, "t7b") == allowed.sha256
    assert statuses(index, preferred.filename) == [200]
    assert statuses(index, allowed.filename) == [200]
    assert preferred.filename in result.err, "-v names the file that was tried in vain"
    assert [row["sha256"] for row in listed(pkgc, "t7b")] == [allowed.sha256], "wrong bytes are not kept"
    assert pkgc.leftovers() == []


def test_t7c_every_file_and_its_digest_is_told(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Whoever has to find the wrong line of a lock needs all digests, not that of one file."""
    wheels = [version_of("t7c", 1), native("t7c", 2), version_of("t7c", 3, "py2.py3-none-any")]
    for number, wheel in enumerate(wheels):
        index.add(wheel.data, wheel.filename, hashes=number == 2)
    lock = pkgc.requirements(f"t7c==1.0 --hash=sha256:{'ab' * 32}")
    error = failure(pkgc, "sync", lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert error["code"] == "hash-mismatch"
    for wheel in wheels:
        assert wheel.filename in error["everything"]
        assert wheel.sha256 in error["everything"]
    assert "ab" * 32 in error["everything"]
    assert "requirements.txt:1" in error["everything"]
    assert index.requests_for(wheels[2].filename) == [], "its advertised hash tells without a transfer"
    assert not (tmp_path / "venv").exists()


def test_t2_no_store_is_no_reason_to_download_again(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """An index that says no-store costs gigabytes at every sync, and the cache grows each time."""
    index.page_headers["Cache-Control"] = "no-cache, no-store"
    wheel = version_of("t2", 1)
    index.add(wheel.data, wheel.filename)
    never = {"Cache-Control": "no-cache, no-store"}
    index.behave(wheel.filename, Behaviour(times=None, headers=never))
    lock = pkgc.requirements(pin(wheel))
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    before = stored_bytes(pkgc)
    index.clear_log()
    assert pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)["kept"] == 1
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url, "--reinstall")
    pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url)
    assert index.log == []
    # without a hash in the lock the page is asked, and what it advertises is compared
    unhashed = pkgc.requirements(pin(wheel, hashed=False))
    for venv in ("one", "three"):
        pkgc.sync(unhashed, "--venv", tmp_path / venv, "-i", index.url)
    assert index.requests_for(wheel.filename) == []
    assert len(index.page_requests("t2")) == 2
    assert stored_bytes(pkgc) == before
    assert pkgc.leftovers() == []


def test_t2c_no_cache_costs_no_index_request(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Hashed and cached: asking the index is time lost, and a sync lost when it is down."""
    index.page_headers["Cache-Control"] = "no-cache"
    wheel = version_of("t2c", 1)
    index.add(wheel.data, wheel.filename)
    index.behave(wheel.filename, Behaviour(times=None, headers={"Cache-Control": "no-cache"}))
    lock = pkgc.requirements(pin(wheel))
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url)
    assert (answer["index_requests"], answer["downloaded"]) == (0, {"files": 0, "bytes": 0})
    assert index.log == []


@pytest.mark.parametrize("first", ["sync", "fetch"])
def test_t9_hashed_sync_after_an_unhashed_install(
    pkgc: Instance, index: IndexServer, tmp_path: Path, first: str
) -> None:
    """What one command downloaded, the next one must find, however it asks for it."""
    wheel = version_of(f"t9_{first}", 1)
    index.add(wheel.data, wheel.filename)
    unhashed = pkgc.requirements(pin(wheel, hashed=False), name="unhashed.txt")
    where = ("--venv", tmp_path / "one") if first == "sync" else ()
    pkgc.ok(first, unhashed, *where, "-i", index.url)
    index.clear_log()
    hashed = pkgc.requirements(pin(wheel))
    for venv in ("one", "two"):
        pkgc.sync(hashed, "--venv", tmp_path / venv, "-i", index.url, "--require-hashes")
    assert index.log == []
    assert module_text(tmp_path / "two", wheel.filename.split("-")[0]) == "number = 1\n"


def test_t9b_other_algorithm_than_the_cache_was_filled_by(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A lock with sha512 for a file that came by its sha256: the bytes are here, and need not come again."""
    wheel = version_of("t9b", 1)
    index.add(wheel.data, wheel.filename)
    pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", tmp_path / "one", "-i", index.url)
    index.clear_log()
    sha512 = hashlib.sha512(wheel.data).hexdigest()
    lock = pkgc.requirements(f"t9b==1.0 --hash=sha512:{sha512}")
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url, "--require-hashes")
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert recorded_sha256(tmp_path / "two", "t9b") == wheel.sha256
    assert index.log == []
    again = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url, "--require-hashes")
    assert again["kept"] == 1
    # the hash of a file that the cache does not have: the page is asked for it, the known file stays known
    both = pkgc.requirements(f"t9b==1.0 --hash=sha512:{sha512} --hash=sha512:{'1' * 128}")
    answer = pkgc.sync(both, "--venv", tmp_path / "three", "-i", index.url, "--require-hashes")
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert index.requests_for(wheel.filename) == []
    wrong = pkgc.requirements(f"t9b==1.0 --hash=sha512:{'0' * 128}")
    error = failure(pkgc, "sync", wrong, "--venv", tmp_path / "two", "-i", index.url)
    assert error["code"] == "hash-mismatch"


def test_t9c_one_transfer_without_metadata_and_ranges(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A simple server: reading a wheel's metadata and installing it must not be two downloads."""
    index.json = False
    wheel = version_of("t9c", 1)
    index.add(wheel.data, wheel.filename, hashes=False, size=None)
    index.behave(wheel.filename, Behaviour(times=None, ranges=False))
    pkgc.sync(pkgc.requirements("t9c==1.0"), "--venv", tmp_path / "venv", "-i", index.url)
    hits = index.requests_for(wheel.filename)
    assert [(hit.method, hit.status, hit.range, hit.sent) for hit in hits] == [
        ("GET", 200, None, len(wheel.data))
    ]
    assert [hit for hit in index.log if hit.path.endswith(".metadata")] == []


def test_t26_hashed_and_cached_asks_nobody(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A no-op sync that asks the index for every package is slow, and fails with the index."""
    index.page_headers["Cache-Control"] = "max-age=0"
    wheels = [version_of(f"t26_{number}", number) for number in range(5)]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(*(pin(wheel) for wheel in wheels))
    first = pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    assert (first["index_requests"], len(index.page_requests())) == (5, 5)
    index.clear_log()
    before = snapshot(tmp_path / "one")
    noop = pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    fresh = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url)
    assert (noop["kept"], noop["index_requests"]) == (5, 0)
    assert (len(fresh["installed"]), fresh["index_requests"]) == (5, 0)
    assert index.log == []
    assert snapshot(tmp_path / "one") == before


def test_t26b_hashed_and_cached_with_the_index_down(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """The index has an outage, nothing is missing, and every job would fail."""
    wheel = version_of("t26b", 1)
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(pin(wheel))
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    url = index.url
    index.stop()
    assert pkgc.sync(lock, "--venv", tmp_path / "one", "-i", url)["kept"] == 1
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", url)
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert answer["warnings"] == []


def test_t26c_offline_with_another_index_url(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """On the train, or where the mirror has another name: the content is known, its URL does not count."""
    wheel = version_of("t26c", 1)
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(pin(wheel))
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    index.clear_log()
    other = "http://mirror.invalid/simple/"
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", other, "--offline")
    assert [one["from"] for one in answer["installed"]] == ["store"]
    assert module_text(tmp_path / "two", "t26c") == "number = 1\n"
    assert index.log == []
