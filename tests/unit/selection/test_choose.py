"""The selector: who may serve a pin (dependency confusion), and errors that show all there was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.reporting import Reporter, Silent
from pkgc_daemon.selection import choose as choose_module
from pkgc_daemon.selection.choose import Selector
from pkgc_daemon.selection.failures import nearest
from pkgc_daemon.selection.indexes import IndexClient
from pkgc_daemon.selection.pages import MAX_FILES
from pkgc_daemon.selection.ports import CachedPage, Guard, PageResponse
from pkgc_daemon.vocabulary import Digest, IndexOptions, Interpreter, Place, Wanted

TAGS = ("cp311-cp311-linux_x86_64", "py3-none-any")
TARGET = Interpreter("/v/bin/python", "3.11.7", "cpython", "cpython-311", "/v", "/b", {}, TAGS, {})
MAIN, EXTRA = "http://user:secret@main.example/simple", "http://extra.example/simple"
BOTH = IndexOptions(indexes=(MAIN, EXTRA))
PURE = "demo-1.0-py3-none-any.whl"


def sha(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def pin(*numbers: int, version: str = "1.0") -> Wanted:
    return Wanted("demo", version, frozenset(map(sha, numbers)), place=Place("requirements.txt", 3))


class Indexes:
    """Both ports: indexes by host, and what the selector told to be remembered."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, int | None] | PkgcError] = {}
        self.requests: list[str] = []
        self.fields: dict[str, str] = {}
        self.extra: dict[str, Any] = {}
        self.page: dict[str, Any] = {}
        self.remembered: list[tuple[str, str, list[tuple[Digest, str]]]] = []
        self.time = 1_000_000.0

    def clock(self) -> float:
        self.time += 0.001
        return self.time

    async def get_page(
        self,
        url: str,
        headers: Mapping[str, str],
        options: IndexOptions,
        reporter: Reporter,
        *,
        guard: Guard | None = None,
    ) -> PageResponse:
        host = urlsplit(url).hostname or ""
        self.requests.append(host)
        files = self.hosts.get(host)
        clean = url.replace("user:secret@", "")
        if isinstance(files, PkgcError):
            raise files
        if files is None:
            return PageResponse(404, {}, b"", clean)
        entries = [
            {
                "filename": name,
                "url": f"http://{host}/{name}",
                "hashes": {} if number is None else {"sha256": sha(number).hex},
                **self.extra,
            }
            for name, number in files.items()
        ]
        body = orjson.dumps({"files": entries, "meta": {}, **self.page})
        return PageResponse(200, {"content-type": "application/json", **self.fields}, body, clean)

    def identity(self, url: str, options: IndexOptions) -> str:
        return ""

    async def load_page(self, key: str) -> CachedPage | None:
        return None

    async def save_page(self, page: CachedPage) -> None:
        pass

    async def drop_page(self, key: str) -> None:
        pass

    async def touch_page(self, key: str, fresh_until: float) -> None:
        pass

    def remember_files(self, index: str, project: str, files: Iterable[tuple[Digest, str]]) -> None:
        self.remembered.append((index, project, list(files)))

    def known_filename(self, digest: Digest, sources: frozenset[str] | None = None) -> str | None:
        return None


class World:
    def __init__(self) -> None:
        self.indexes = Indexes()
        self.reporter = Silent()
        self.selector = Selector(IndexClient(self.indexes, self.indexes, self.indexes.clock), self.indexes)

    async def urls(self, wanted: Wanted, options: IndexOptions = BOTH, **more: Any) -> list[str]:
        choice = await self.selector.candidates(wanted, TARGET, options, reporter=self.reporter, **more)
        return [candidate.url for candidate in choice.candidates]

    async def error(self, wanted: Wanted, options: IndexOptions = BOTH, **more: Any) -> PkgcError:
        with pytest.raises(PkgcError) as caught:
            await self.urls(wanted, options, **more)
        assert "secret" not in str(caught.value.to_wire())
        return caught.value


@pytest.fixture
async def world() -> World:
    return World()


async def test_an_unhashed_pin_stays_with_the_first_index_that_has_the_name(world: World) -> None:
    """Dependency confusion: a stranger's package of the same name must not be taken from a later index."""
    world.indexes.hosts = {"main.example": {"demo-0.9.zip": 1}, "extra.example": {PURE: 2}}
    error = await world.error(pin())
    assert error.code == "no-matching-version"
    assert set(world.indexes.requests) == {"main.example"}
    world.indexes.hosts["main.example"] = {PURE: 1}
    assert await world.urls(pin()) == [f"http://main.example/{PURE}"]


async def test_an_unhashed_pin_goes_on_when_the_first_index_has_no_such_project(world: World) -> None:
    """Else --extra-index-url would be useless."""
    world.indexes.hosts = {"extra.example": {PURE: 2}}
    assert await world.urls(pin()) == [f"http://extra.example/{PURE}"]
    assert world.indexes.requests == ["main.example", "extra.example"]


async def test_an_unhashed_pin_does_not_pass_over_an_index_that_fails(world: World) -> None:
    """Whoever can make the private index fail must not decide where packages come from."""
    down = PkgcError("connection-refused", "http://main.example refused the connection")
    world.indexes.hosts = {"main.example": down, "extra.example": {PURE: 2}}
    assert (await world.error(pin())).code == "connection-refused"
    assert world.indexes.requests == ["main.example"]


async def test_a_hashed_pin_may_come_from_anywhere(world: World) -> None:
    """Bytes with the allowed hash are right wherever they come from."""
    world.indexes.hosts = {"main.example": {PURE: 1}, "extra.example": {PURE: 2}}
    assert await world.urls(pin(2)) == [f"http://extra.example/{PURE}"]


async def test_later_indexes_are_not_asked_when_every_digest_has_its_file(world: World) -> None:
    """Else two indexes cost twice the requests, always."""
    world.indexes.hosts = {"main.example": {PURE: 1, "demo-1.0.tar.gz": 2}, "extra.example": {PURE: 1}}
    await world.urls(pin(1, 2))
    assert world.indexes.requests == ["main.example"]


async def test_a_hashed_pin_survives_an_index_that_is_down(world: World) -> None:
    """The other index has it; the output says so."""
    down = PkgcError("connection-refused", "http://main.example refused the connection")
    world.indexes.hosts = {"main.example": down, "extra.example": {PURE: 2}}
    assert await world.urls(pin(2)) == [f"http://extra.example/{PURE}"]
    assert "refused" in world.reporter.warnings[0]
    world.indexes.hosts["extra.example"] = {PURE: 3}
    error = await world.error(pin(2))
    assert error.code == "connection-refused"
    assert error.context is not None
    assert "extra.example" in error.context


async def test_a_pin_that_is_not_on_a_cached_page_is_looked_for_once_more(world: World) -> None:
    """A release of a minute ago must be found although the cached page is fresh for ten."""
    world.indexes.fields = {"cache-control": "max-age=600"}
    world.indexes.hosts = {"main.example": {PURE: 1}}
    await world.urls(pin())
    await world.urls(pin())
    assert len(world.indexes.requests) == 1
    world.indexes.hosts = {"main.example": {PURE: 1, "demo-1.1-py3-none-any.whl": 2}}
    assert len(await world.urls(pin(version="1.1"))) == 1
    assert len(world.indexes.requests) == 2
    assert (await world.error(pin(version="3.0"))).code == "no-matching-version"
    assert len(world.indexes.requests) == 3


@pytest.mark.parametrize("cache_control", ["max-age=600", "no-cache", "no-store"])
async def test_a_page_that_was_just_fetched_is_not_fetched_again(world: World, cache_control: str) -> None:
    """A typo must cost one request, not two."""
    world.indexes.fields = {"cache-control": cache_control}
    world.indexes.hosts = {"main.example": {PURE: 1}}
    await world.error(pin(version="3.0"))
    assert len(world.indexes.requests) == 1


async def test_find_links_go_first(world: World, tmp_path: Path) -> None:
    """A wheel that the user built must win over the index, and cost no request."""
    (tmp_path / PURE).write_bytes(b"")
    options = IndexOptions(indexes=(MAIN,), find_links=(str(tmp_path),))
    world.indexes.hosts = {"main.example": {PURE: 1, "demo-2.0-py3-none-any.whl": 2}}
    urls = await world.urls(pin(), options)
    assert urls == [(tmp_path / PURE).as_uri()]
    assert world.indexes.requests == []
    # What the folder does not have, the index may serve.
    assert await world.urls(pin(version="2.0"), options) == ["http://main.example/demo-2.0-py3-none-any.whl"]
    # A hashed pin tries the local file first: that costs no transfer.
    assert (await world.urls(pin(1), options))[0].startswith("file:")


async def test_every_index_can_be_asked_after_a_file_could_not_be_had(world: World) -> None:
    """The first index lists the digest and has lost the file: the mirror that has it must be found."""
    world.indexes.hosts = {"main.example": {PURE: 1}, "extra.example": {PURE: 1}}
    began = world.indexes.clock()
    assert await world.urls(pin(1), asked_at=began) == [f"http://main.example/{PURE}"]
    urls = await world.urls(pin(1), asked_at=began, everywhere=True)
    assert urls == [f"http://main.example/{PURE}", f"http://extra.example/{PURE}"]
    assert world.indexes.requests == ["main.example", "extra.example"]
    # That is no way around the order of indexes for a pin without a hash.
    assert await world.urls(pin(), asked_at=began, everywhere=True) == [f"http://main.example/{PURE}"]


async def test_a_local_index_that_is_not_there_is_told_from_a_missing_project(
    world: World, tmp_path: Path
) -> None:
    """A typo in -i must not look like a missing package; a forgotten extra index is no obstacle."""
    gone = (tmp_path / "gone").as_uri()
    for wanted in (pin(), pin(1)):
        error = await world.error(wanted, IndexOptions(indexes=(gone,)))
        assert error.code == "index-unreadable"
        assert f"the directory {tmp_path / 'gone'} does not exist" in error.message
    there = IndexOptions(indexes=(tmp_path.as_uri(),))
    assert (await world.error(pin(), there)).code == "unknown-package"
    # Unhashed: a later index must not take the place of a first one that is not mounted.
    world.indexes.hosts = {"main.example": {PURE: 1}, "extra.example": {"other-1.0-py3-none-any.whl": 2}}
    assert (await world.error(pin(), IndexOptions(indexes=(gone, MAIN)))).code == "index-unreadable"
    options = IndexOptions(indexes=(EXTRA, gone, MAIN))
    world.indexes.hosts["extra.example"] = None  # type: ignore[assignment]
    world.reporter.warnings.clear()
    began = world.indexes.clock()
    for wanted in (pin(), pin(1)):
        assert await world.urls(wanted, options, asked_at=began) == [f"http://main.example/{PURE}"]
    assert len(world.reporter.warnings) == 1
    assert "does not exist" in world.reporter.warnings[0]
    del world.indexes.hosts["main.example"]
    assert (await world.error(pin(), options)).code == "unknown-package"


async def test_find_links_pages_are_remembered_too(world: World) -> None:
    """Invariant 2 holds for them: a hashed pin from a page of links that is cached costs no request."""
    world.indexes.hosts = {"flat.example": {PURE: 1}}
    await world.urls(pin(1), IndexOptions(find_links=("http://flat.example/links",), no_index=True))
    assert world.indexes.remembered == [("http://flat.example/links", "demo", [(sha(1), PURE)])]


async def test_find_links_pages_are_fetched_once_for_all(world: World) -> None:
    """A flat page of thousands of files serves all packages of a run."""
    world.indexes.hosts = {"flat.example": {PURE: 1, "other-1.0-py3-none-any.whl": 2}}
    options = IndexOptions(find_links=("http://flat.example/links",), no_index=True, indexes=(MAIN,))
    began = world.indexes.clock()
    assert len(await world.urls(pin(), options, asked_at=began)) == 1
    assert len(await world.urls(Wanted("other", "1.0"), options, asked_at=began)) == 1
    assert (await world.error(Wanted("third", "1.0"), options, asked_at=began)).code == "unknown-package"
    assert world.indexes.requests == ["flat.example"]


async def test_what_pages_say_of_digests_is_remembered(world: World) -> None:
    """Invariant 2 rests on it: the next sync of the same lock asks nobody."""
    world.indexes.hosts = {"main.example": {PURE: 1, "demo-1.0.tar.gz": 2, "demo-2.0.tar.gz": 3}}
    await world.urls(pin(1, 2))
    assert world.indexes.remembered == [
        ("http://main.example/simple", "demo", [(sha(1), PURE), (sha(2), "demo-1.0.tar.gz")])
    ]


async def test_a_yanked_release_is_offered_with_its_reason(world: World) -> None:
    """S5: a lock goes on working, and whoever installs it can warn."""
    world.indexes.extra = {"yanked": "deletes your files"}
    world.indexes.hosts = {"main.example": {PURE: 1}}
    choice = await world.selector.candidates(pin(1), TARGET, BOTH, reporter=world.reporter)
    assert [candidate.yanked for candidate in choice.candidates] == ["deletes your files"]


async def test_an_unknown_package_names_the_indexes_asked(world: World) -> None:
    """Else a user cannot see that the wrong index is configured."""
    error = await world.error(pin())
    assert error.code == "unknown-package"
    assert error.message.startswith("requirements.txt:3: demo:")
    assert error.context == "asked: http://main.example/simple\nasked: http://extra.example/simple"
    assert "nothing" in ((await world.error(pin(), IndexOptions(no_index=True))).context or "")


async def test_a_missing_version_names_its_neighbours(world: World) -> None:
    """Else a user must look up by hand what there is."""
    versions = ["0.1", "0.9", "1.1", "2.0", "10.0"]
    world.indexes.hosts = {"main.example": {f"demo-{v}-py3-none-any.whl": 1 for v in versions}}
    error = await world.error(pin())
    assert error.code == "no-matching-version"
    assert "nearest first: 1.1, 0.9, 2.0, 0.1, 10.0" in (error.context or "")


async def test_a_project_that_is_not_active_any_more_is_said(world: World) -> None:
    """S4: a quarantined project has no files, and who looks for them has to be told why."""
    world.indexes.hosts = {"main.example": {}}
    world.indexes.page = {"project-status": {"status": "quarantined", "reason": "malware"}}
    error = await world.error(pin())
    assert "the project is quarantined: malware" in (error.context or "")


async def test_an_unsupported_platform_names_the_wheels_and_the_target(world: World) -> None:
    """Else a user cannot see what is missing for whom."""
    world.indexes.hosts = {"main.example": {"demo-1.0-cp38-cp38-win32.whl": 1, "demo-1.0.tar.gz": 2}}
    error = await world.error(pin(), no_build=True)
    assert error.code == "no-matching-wheel"
    for part in (
        "cp38-cp38-win32",
        "would have to be built, which --no-build forbids",
        "cp311-cp311-linux_x86_64",
        "/v/bin/python",
    ):
        assert part in (error.context or "")
    assert "allow the build" in (error.hint or "")
    choice = await world.selector.candidates(pin(), TARGET, BOTH, reporter=world.reporter)
    assert [(one.filename, one.is_sdist) for one in choice.candidates] == [("demo-1.0.tar.gz", True)]


async def test_no_allowed_hash_names_every_file_with_its_digests(world: World) -> None:
    """H9: what was expected and what was found."""
    world.indexes.hosts = {"main.example": {PURE: 1}, "extra.example": {PURE: 2, "demo-1.0.tar.gz": 3}}
    error = await world.error(pin(9))
    assert error.code == "no-allowed-hash"
    for number in (1, 2, 3, 9):
        assert str(sha(number)) in (error.context or "")


async def test_a_lock_of_another_platform_is_explained(world: World) -> None:
    """The allowed file and why it does not fit come first; the others are shown too."""
    world.indexes.hosts = {"main.example": {"demo-1.0-cp38-cp38-win32.whl": 1, PURE: 2}}
    error = await world.error(pin(1))
    assert error.code == "no-matching-wheel"
    context = error.context or ""
    assert context.index("win32") < context.index("hashes that are not allowed") < context.index(PURE)


async def test_a_page_of_thousands_of_files_stays_bounded(world: World) -> None:
    """One index must not freeze the daemon, or flood a terminal: 11 s and megabytes of error once."""
    world.indexes.hosts = {
        "main.example": {f"demo-1.0-{number}-cp27-cp27m-win32.whl": number for number in range(MAX_FILES + 9)}
    }
    threads = []
    work = choose_module._off_loop

    async def seen(job: Callable[[], Any]) -> Any:
        threads.append(job.func)  # type: ignore[attr-defined]
        return await work(job)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(choose_module, "_off_loop", seen)
        error = await world.error(pin())
    assert len(threads) >= 3, "selecting, choosing and explaining must leave the event loop"
    context = error.context or ""
    assert f"and {MAX_FILES - 20} more" in context
    assert f"lists {MAX_FILES} files of this version or more" in context
    assert len(context.splitlines()) < 60


async def test_offline_without_a_page_says_so(world: World) -> None:
    """Invariant 8: not 'unknown package'."""
    for wanted in (pin(1), pin()):
        error = await world.error(wanted, mode="offline")
        assert error.code == "not-in-cache"
        assert error.message.startswith("requirements.txt:3: demo==1.0 ")
    assert world.indexes.requests == []


def test_nearest_versions() -> None:
    """Odd version texts and many versions neither break nor flood a message."""
    assert nearest("1.0", []) == ([], "")
    assert nearest("1.0", ["weird", "0.5"]) == (["0.5"], "0.5")
    assert nearest("weird", ["0.5", "0.6", "odd"]) == (["0.6", "0.5", "odd"], "0.6")
    near, newest = nearest("50", [str(number) for number in range(100) if number != 50])
    assert near == ["51", "49", "52", "48", "53", "47", "54", "46"]
    assert newest == "99"
