"""Without the network: what is decided from the store alone, and what is never guessed (design.md 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.instance import Instance
from tests.support.locks import failure, impatient, pin
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(scope="module")
def pkgc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One impatient daemon; every test has projects and an index of its own."""
    with impatient(tmp_path_factory.mktemp("offline") / "pkgc") as instance:
        yield instance


def two_wheels(index: IndexServer, name: str) -> tuple[BuiltWheel, BuiltWheel]:
    """A wheel for every Python, and a better one for this Python."""
    version = interpreters.running().version.replace(".", "")
    plain = make_wheel(name, "1.0", tag="py3-none-any")
    better = make_wheel(name, "1.0", tag=f"cp{version}-none-any")
    for wheel in (plain, better):
        index.add(wheel.data, wheel.filename)
    return plain, better


def both(plain: BuiltWheel, better: BuiltWheel) -> str:
    """A line that allows either."""
    return f"{pin(plain)} --hash=sha256:{better.sha256}"


def test_hashed_and_cached_needs_nobody(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Invariant 2, also when the index was another one and its pages are stale."""
    wheel = make_wheel("solid", "1.0")
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("fetch", lock, "-i", index.url)
    index.clear_log()
    cases = (["--offline"], ["-i", "http://nosuch.invalid/simple/"], ["-i", index.url])
    for number, args in enumerate(cases):
        answer = pkgc.sync(lock, "--venv", tmp_path / f"venv{number}", *args)
        assert answer["index_requests"] == 0
        assert [one["from"] for one in answer["installed"]] == ["store"]
        assert answer["warnings"] == []
    assert index.log == []


def test_not_in_the_cache(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """--offline fails at once, names the requirement, and asks nobody."""
    wheel = make_wheel("never-seen", "1.0")
    index.add(wheel.data, wheel.filename)
    for hashed in (True, False):
        lock = pkgc.requirements("# first", pin(wheel, hashed=hashed))
        error = failure(pkgc, "sync", lock, "--venv", tmp_path / "venv", "-i", index.url, "--offline")
        assert (error["code"], error["exit"]) == ("not-in-cache", 1)
        assert "requirements.txt:2" in error["everything"]
        assert "--offline" in error["hint"]
    assert index.log == []
    assert not (tmp_path / "venv").exists()


def test_page_is_cached_but_the_file_is_not(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A dry run leaves the page; offline then knows the file, and says that it is missing."""
    wheel = make_wheel("only-page", "1.0")
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements(pin(wheel))
    pkgc.ok("sync", lock, "--dry-run", "-i", index.url, "--venv", tmp_path / "venv")
    error = failure(pkgc, "sync", lock, "-i", index.url, "--offline", "--venv", tmp_path / "venv")
    assert error["code"] == "not-in-cache"
    assert wheel.filename in error["everything"]
    assert "requirements.txt:1" in error["everything"]


def test_unhashed_pin_offline_uses_the_cached_page(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """Unhashed locks work offline after one online run, and in the environment that they made."""
    wheel = make_wheel("loose", "1.0")
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements("loose==1.0")
    pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url)
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", tmp_path / "two", "-i", index.url, "--offline")
    assert [one["sha256"] for one in answer["installed"]] == [wheel.sha256]
    answer = pkgc.sync(lock, "--venv", tmp_path / "one", "-i", index.url, env={"PKGC_OFFLINE": "1"})
    assert answer["kept"] == 1
    assert index.log == []


def test_unhashed_and_installed_with_the_index_down(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """An index that is down for an hour does not break a sync that has nothing to change."""
    wheel = make_wheel("steady", "1.0")
    index.add(wheel.data, wheel.filename)
    lock = pkgc.requirements("steady==1.0")
    pkgc.sync(lock, "--venv", tmp_path / "venv", "-i", index.url)
    url = index.url
    index.stop()
    answer = pkgc.sync(lock, "--venv", tmp_path / "venv", "-i", url)
    assert (answer["installed"], answer["kept"]) == ([], 1)


def test_a_cached_file_that_another_might_beat(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """The environment never depends on what happened to be cached: while the index answers, it decides."""
    plain, better = two_wheels(index, "choosy")
    with IndexServer() as partial:  # an index that has only the plain one
        partial.add(plain.data, plain.filename)
        pkgc.ok("fetch", pkgc.requirements(pin(plain)), "-i", partial.url)
    lock = pkgc.requirements(both(plain, better))
    answer = pkgc.sync(lock, "--venv", tmp_path / "online", "-i", index.url)
    assert [one["sha256"] for one in answer["installed"]] == [better.sha256]
    # both names are known now: the same choice without any index
    url = index.url
    index.stop()
    answer = pkgc.sync(lock, "--venv", tmp_path / "down", "-i", url)
    assert [one["sha256"] for one in answer["installed"]] == [better.sha256]
    assert (answer["index_requests"], answer["warnings"]) == (0, [])


@pytest.mark.parametrize("way", ["--offline", "index down"])
def test_fallback_is_said(pkgc: Instance, index: IndexServer, tmp_path: Path, way: str) -> None:
    """The index cannot be asked, the cached file fits: used, and the output says what it did not know."""
    name = "fallback-" + ("off" if way == "--offline" else "down")
    plain, better = two_wheels(index, name)
    with IndexServer() as partial:
        partial.add(plain.data, plain.filename)
        pkgc.ok("fetch", pkgc.requirements(pin(plain)), "-i", partial.url)
    lock = pkgc.requirements(both(plain, better))
    url = index.url
    args = ["--offline"] if way == "--offline" else []
    if not args:
        index.stop()
    result = pkgc.ok("sync", lock, "--venv", tmp_path / "venv", "-i", url, *args, "--output-format", "json")
    assert [one["sha256"] for one in result.json["installed"]] == [plain.sha256]
    assert [one["code"] for one in result.json["warnings"]] == ["unverified-choice"]
    message = result.json["warnings"][0]["message"]
    assert plain.filename in message
    assert "--offline" in message or url in message


def test_the_best_tag_may_still_be_beaten(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A rebuild with the same, best tag is not known here: the index has to be asked."""
    version = interpreters.running().version.replace(".", "")
    probe = pkgc.requirements("x==1")
    index.add(b"x", "x-1-cp39-cp39-win32.whl")
    told = failure(pkgc, "sync", probe, "-i", index.url, "--venv", tmp_path / "no")["everything"]
    tag = told.split("the target supports: ")[1].split(",")[0]
    assert tag.startswith(f"cp{version}-")
    first = make_wheel("rebuilt", "1.0", tag=tag)
    index.add(first.data, first.filename)
    pkgc.ok("fetch", pkgc.requirements(pin(first)), "-i", index.url)
    second = make_wheel("rebuilt", "1.0", tag=tag, build="2")
    index.add(second.data, second.filename)
    lock = pkgc.requirements(both(first, second))
    answer = pkgc.sync(lock, "-i", index.url, "--venv", tmp_path / "venv")
    assert [one["sha256"] for one in answer["installed"]] == [second.sha256]
    # now both are known: nobody is asked any more
    index.clear_log()
    pkgc.sync(lock, "-i", index.url, "--venv", tmp_path / "again")
    assert index.log == []


def test_another_index_has_no_say(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """A page of an index that is not among the sources of this call cannot hide the better file."""
    plain, better = two_wheels(index, "poisoned")
    with IndexServer() as partial:
        partial.add(plain.data, plain.filename)
        pkgc.ok("fetch", pkgc.requirements(pin(plain)), "-i", partial.url)
    with IndexServer() as liar:  # gives the better one a name that no target here supports
        liar.add(b"x", "poisoned-1.0-cp27-cp27m-win32.whl", {"sha256": better.sha256})
        other = make_wheel("poisoned", "1.0", files={"poisoned.py": "other = 1\n"})
        liar.add(other.data, other.filename)
        pkgc.ok("fetch", pkgc.requirements("poisoned==1.0"), "-i", liar.url)
    lock = pkgc.requirements(both(plain, better))
    answer = pkgc.sync(lock, "--venv", tmp_path / "venv", "-i", index.url)
    assert [one["sha256"] for one in answer["installed"]] == [better.sha256]


def test_wheels_and_source_archives_of_a_page_are_known(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """The common lock, with the hashes of every file of the release, costs no request once it is cached."""
    wheel = make_wheel("complete", "1.0")
    index.add(wheel.data, wheel.filename)
    index.add(b"source", "complete-1.0.tar.gz")
    sdist = hashlib.sha256(b"source").hexdigest()
    lock = pkgc.requirements(f"{pin(wheel)} --hash=sha256:{sdist}")
    page = index.put(
        "/links/",
        f'<a href="{index.file_url(wheel.filename)}#sha256={wheel.sha256}">x</a>'
        f'<a href="/gone/complete-1.0.tar.gz#sha256={sdist}">x</a>'.encode(),
    )
    for number, sources in enumerate((["-i", index.url], ["--no-index", "-f", page])):
        pkgc.ok("fetch", lock, *sources)
        index.clear_log()
        pkgc.sync(lock, *sources, "--venv", tmp_path / f"venv{number}")
        assert index.log == []


def test_offline_says_nothing_about_the_network(pkgc: Instance, tmp_path: Path) -> None:
    """--offline with a dead index is immediate: no attempt, no wait."""
    lock = pkgc.requirements("whatever==1.0")
    result = pkgc.run(
        "sync", lock, "--venv", tmp_path / "v", "-i", "http://nosuch.invalid/simple/", "--offline", timeout=5
    )
    assert result.status == 1
    assert "whatever==1.0" in result.err
    assert "dns" not in result.err.lower()
