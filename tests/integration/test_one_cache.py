"""One cache (complaint 3): bytes that came by any way serve every other way, without the network."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.store.store import Store
from tests.support.instance import Instance
from tests.support.lockfiles import listed, pylock, uv_file, uv_package, uv_project, uvlock, wheel_package
from tests.support.locks import failure, impatient, pin
from tests.support.sdists import make_sdist
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: What `--hash` takes (H5), and what locks may have besides.
STRONG = ("sha256", "sha384", "sha512")
EVERY = (*STRONG, "blake2b")

Wheels = Sequence[BuiltWheel]


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One store for this module: what it must know already has other names and bytes in every test."""
    host_calls = request.param == "client-acts"
    with impatient(tmp_path_factory.mktemp("one-cache") / "pkgc", host_calls=host_calls) as instance:
        yield instance


@pytest.fixture(scope="module")
def mirror() -> Iterator[IndexServer]:
    """Another index, which has every file that a test offers there, and should be asked for none."""
    with IndexServer() as server:
        yield server


@pytest.fixture(scope="module")
def down() -> str:
    """The origin of a server that is not there any more."""
    with IndexServer() as server:
        return server.origin


def digest(wheel: BuiltWheel, algorithm: str) -> str:
    """A digest as `--hash` and pylock.toml spell it: ``ALGORITHM:HEX``."""
    return f"{algorithm}:{hashlib.new(algorithm, wheel.data).hexdigest()}"


def named(wheel: BuiltWheel) -> str:
    """``NAME==VERSION`` of a wheel."""
    return pin(wheel, hashed=False)


def project(wheel: BuiltWheel) -> str:
    """The name of a wheel's project."""
    return wheel.filename.split("-")[0]


# -- the ways in -------------------------------------------------------------------------------------------


def _offer(wheels: Wheels, server: IndexServer, **options: Any) -> None:
    for wheel in wheels:
        server.add(wheel.data, wheel.filename, **options)


def _sync(pkgc: Instance, lock: Path, *args: str | Path) -> dict[str, Any]:
    """Sync a new environment."""
    folder = pkgc.root / "venvs"
    folder.mkdir(exist_ok=True)
    return pkgc.sync(lock, "--venv", folder / str(len(list(folder.iterdir()))), *args)


def _fetch(pkgc: Instance, lock: Path, *args: str | Path) -> dict[str, Any]:
    return pkgc.ok("fetch", lock, *args, "--output-format", "json").json


def in_by_sync(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    _sync(pkgc, pkgc.requirements(*map(pin, wheels)), "-i", home.url)


def in_by_fetch(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "-i", home.url)


def in_by_index_without_hashes(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home, hashes=False)
    _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "-i", home.url)


def in_by_url(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    lines = (f"{project(wheel)} @ {home.file_url(wheel.filename)}" for wheel in wheels)
    _fetch(pkgc, pkgc.requirements(*lines))


def in_by_path(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    paths = [wheel.write_to(folder) for wheel in wheels]
    _fetch(pkgc, pkgc.requirements(*map(str, paths)))
    for path in paths:
        path.unlink()


def in_by_folder(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    paths = [wheel.write_to(folder) for wheel in wheels]
    _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "--no-index", "-f", folder)
    for path in paths:
        path.unlink()


def in_by_links_page(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    links = "".join(f'<a href="{home.file_url(wheel.filename)}">x</a>' for wheel in wheels)
    page = home.put("/links/", f"<html>{links}</html>".encode())
    _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "--no-index", "-f", page)


def in_by_build_requirement(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    sdist = make_sdist(f"needs-{project(wheels[0])}", "1.0", requires=[named(wheel) for wheel in wheels])
    _fetch(pkgc, pkgc.requirements(str(sdist.write_to(folder))), "-i", home.url)


def in_by_pylock(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    lock = pkgc.root / "pylock.toml"
    lock.write_text(pylock(*(wheel_package(wheel, home.file_url(wheel.filename)) for wheel in wheels)))
    _fetch(pkgc, lock)


def in_by_uvlock(pkgc: Instance, wheels: Wheels, home: IndexServer, folder: Path) -> None:
    _offer(wheels, home)
    lock = pkgc.root / "uv.lock"
    packages = (uv_package(wheel, home.url, home.file_url(wheel.filename)) for wheel in wheels)
    lock.write_text(uvlock(uv_project(*map(project, wheels)), *packages))
    _fetch(pkgc, lock)


WaysIn = Callable[[Instance, Wheels, IndexServer, Path], None]
WAYS_IN: Mapping[str, WaysIn] = {
    key.removeprefix("in_by_").replace("_", " "): way
    for key, way in globals().items()
    if key.startswith("in_by_")
}


# -- the ways out: all of them name places that do not answer -----------------------------------------------


def out_as_requirements(pkgc: Instance, wheels: Wheels, down: str, _: IndexServer) -> dict[str, Any]:
    """Pins, URLs and paths with hashes, and URLs with a digest as fragment, which need not be a `--hash`."""
    lines = [
        line(one, digest(one, how), f"{down}/other/{one.filename}")
        for one, (how, line) in zip(wheels, cycle(REQUIREMENTS), strict=False)
    ]
    return _sync(pkgc, pkgc.requirements("--no-require-hashes", *lines), "-i", f"{down}/simple/")


def _pin_line(wheel: BuiltWheel, how: str, url: str) -> str:
    return f"{named(wheel)} --hash={how}"


def _url_line(wheel: BuiltWheel, how: str, url: str) -> str:
    return f"{project(wheel)} @ {url} --hash={how}"


def _fragment_line(wheel: BuiltWheel, how: str, url: str) -> str:
    return f"{url}#{how.replace(':', '=')}"


def _path_line(wheel: BuiltWheel, how: str, url: str) -> str:
    return f"./nowhere/{wheel.filename} --hash={how}"


#: Algorithm and form of the lines of a requirements file.
REQUIREMENTS = (
    *((how, line) for how in STRONG for line in (_pin_line, _url_line, _path_line)),
    *((how, _fragment_line) for how in EVERY),
)


def out_as_find_links(pkgc: Instance, wheels: Wheels, down: str, _: IndexServer) -> dict[str, Any]:
    lines = [
        f"{named(one)} --hash={digest(one, how)}" for one, how in zip(wheels, cycle(STRONG), strict=False)
    ]
    return _fetch(pkgc, pkgc.requirements(*lines), "--no-index", "-f", f"{down}/links/")


def out_as_pylock(pkgc: Instance, wheels: Wheels, down: str, _: IndexServer) -> dict[str, Any]:
    def package(wheel: BuiltWheel, how: str) -> dict[str, Any]:
        algorithm, _, value = digest(wheel, how).partition(":")
        entry = wheel_package(wheel)
        entry["wheels"] = [listed(wheel, f"{down}/other/{wheel.filename}", hashes={algorithm: value})]
        return entry

    lock = pkgc.root / "pylock.toml"
    lock.write_text(pylock(*(package(one, how) for one, how in zip(wheels, cycle(EVERY), strict=False))))
    return _fetch(pkgc, lock)


def out_as_uvlock(pkgc: Instance, wheels: Wheels, down: str, _: IndexServer) -> dict[str, Any]:
    def package(wheel: BuiltWheel, how: str) -> dict[str, Any]:
        url = f"{down}/other/{wheel.filename}"
        file = uv_file(wheel, url, hash=digest(wheel, how))
        return uv_package(wheel, f"{down}/simple/", url, wheels=[file])

    lock = pkgc.root / "uv.lock"
    packages = [package(one, how) for one, how in zip(wheels, cycle(EVERY), strict=False)]
    lock.write_text(uvlock(uv_project(*map(project, wheels)), *packages))
    return _fetch(pkgc, lock)


def out_as_another_index(pkgc: Instance, wheels: Wheels, down: str, mirror: IndexServer) -> dict[str, Any]:
    """Unhashed: the page is asked, and tells which bytes it means."""
    for one, how in zip(wheels, cycle(EVERY), strict=False):
        algorithm, _, value = digest(one, how).partition(":")
        mirror.add(one.data, one.filename, {algorithm: value})
    answer = _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "-i", mirror.url)
    assert [hit.path for hit in mirror.log if hit.path.endswith(".whl")] == []
    return answer | {"index_requests": 0}


def out_as_build_requirement(
    pkgc: Instance, wheels: Wheels, down: str, mirror: IndexServer
) -> dict[str, Any] | None:
    """Unhashed too: a source archive, which is at hand, is built with all of them."""
    _offer(wheels, mirror)
    mirror.clear_log()
    sdist = make_sdist(f"takes-{project(wheels[0])}", "1.0", requires=[named(wheel) for wheel in wheels])
    lock = pkgc.requirements(str(sdist.write_to(pkgc.root / "sdists")))
    answer = _fetch(pkgc, lock, "-i", mirror.url, "--refresh")
    assert [one["from"] for one in answer["fetched"]] == ["build"]
    pages = {f"/simple/{project(wheel).replace('_', '-')}/" for wheel in wheels}
    assert {hit.path for hit in mirror.log} == pages
    return None


WayOut = Callable[[Instance, Wheels, str, IndexServer], dict[str, Any] | None]
WAYS_OUT: Mapping[str, WayOut] = {
    key.removeprefix("out_as_").replace("_", " "): way
    for key, way in globals().items()
    if key.startswith("out_as_")
}
ASKED: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(WAYS_OUT, EVERY),
    "requirements": tuple(how for how, _ in REQUIREMENTS),
    "find links": STRONG,
    "build requirement": ("sha256",),
}
"""The algorithms that each way out takes in turn."""


def assert_from_store(answer: dict[str, Any] | None, wheels: Wheels, what: str) -> None:
    """Everything came from the store, nobody was asked."""
    if answer is None:  # the way out has looked itself
        return
    done = answer["installed"] if "installed" in answer else answer["fetched"]
    assert {one["name"].replace("-", "_"): (one["from"], one["sha256"]) for one in done} == {
        project(wheel): ("store", wheel.sha256) for wheel in wheels
    }, what
    assert (answer["index_requests"], answer["downloaded"]["files"], answer["warnings"]) == (0, 0, []), what


def brought(
    pkgc: Instance, stem: str, index: IndexServer, folder: Path, *, every: bool = False
) -> dict[str, list[BuiltWheel]]:
    """For each way out, wheels by each way in, all of them in the store; the index is down then.

    Args:
        every: one for each algorithm that the way out can name; else one.
    """
    wheels: dict[str, list[BuiltWheel]] = {out: [] for out in WAYS_OUT}
    for way, bring in WAYS_IN.items():
        mine = {
            out: [
                make_wheel(f"{stem}_{way}_{out}_{number}".replace(" ", "_"), "1.0")
                for number in range(len(ASKED[out]) if every else 1)
            ]
            for out in WAYS_OUT
        }
        bring(pkgc, [one for some in mine.values() for one in some], index, folder)
        for out, some in mine.items():
            wheels[out] += some
    index.stop()
    return wheels


def test_what_came_one_way_serves_every_other(
    pkgc: Instance, index: IndexServer, mirror: IndexServer, down: str, tmp_path: Path
) -> None:
    """Peers key their caches by URL, index or command: the same 800 MB are fetched again for each of them."""
    daemon_acts = "PKGC_FORCE_HOST_CALLS" not in pkgc.env  # digests do not depend on who reads the lock
    wheels = brought(pkgc, "plain", index, tmp_path, every=daemon_acts)
    for out, use in WAYS_OUT.items():
        assert_from_store(use(pkgc, wheels[out], down, mirror), wheels[out], out)


def test_after_a_kill_and_after_eviction(
    pkgc: Instance, index: IndexServer, mirror: IndexServer, down: str, tmp_path: Path
) -> None:
    """An OOM kill right after a download of hours must not cost the download. Nor must a full cache: trees
    are kept longest, and what is unpacked needs no download, under any digest that is known of it."""
    wheels = brought(pkgc, "kept", index, tmp_path)
    pkgc.kill()
    for out, use in WAYS_OUT.items():
        assert_from_store(use(pkgc, wheels[out], down, mirror), wheels[out], f"{out} after a kill")
    evict(pkgc)
    for out, use in WAYS_OUT.items():
        assert_from_store(use(pkgc, wheels[out], down, mirror), wheels[out], f"{out} after eviction")


def evict(pkgc: Instance) -> None:
    """Shrink the store by exactly its original files, as an idle daemon does."""

    async def shrink() -> None:
        store = await Store.open(pkgc.cache)
        await store.shrink((await store.size())["trees"]["bytes"])
        await store.close()

    pkgc.ok("daemon", "stop")
    asyncio.run(shrink())
    sizes = pkgc.ok("cache", "size", "--output-format", "json").json
    assert sizes["artifacts"]["files"] == 0
    assert sizes["trees"]["files"] > 0


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_wrong_digest_poisons_nothing(
    pkgc: Instance, index: IndexServer, down: str, algorithm: str
) -> None:
    """H11: a lock that calls known bytes by a wrong digest fails, again and again, and changes for nobody
    else what that digest means."""
    forms = (_pin_line, _url_line, _fragment_line, _path_line)
    wheels = [make_wheel(f"poison{form.__name__}_{algorithm}", "1.0") for form in forms]
    _offer(wheels, index)
    _fetch(pkgc, pkgc.requirements(*map(named, wheels)), "-i", index.url)
    right, wrong = [], []
    for form, wheel in zip(forms, wheels, strict=True):
        (pkgc.root / "nowhere").mkdir(exist_ok=True)
        wheel.write_to(pkgc.root / "nowhere")
        known = digest(wheel, algorithm)
        other = known[:-1] + ("0" if known[-1] != "0" else "1")
        right.append(form(wheel, known, index.file_url(wheel.filename)))
        wrong.append(form(wheel, other, index.file_url(wheel.filename)))
    for line in (*wrong, *wrong[:1]):
        error = failure(pkgc, "fetch", pkgc.requirements(line), "-i", index.url)
        assert error["code"] in ("hash-mismatch", "no-allowed-hash"), line
    answer = _fetch(pkgc, pkgc.requirements(*right), "-i", f"{down}/simple/")
    assert_from_store(answer, wheels, "the right digests")
    assert failure(pkgc, "fetch", pkgc.requirements(wrong[1]), "--offline")["code"] == "not-in-cache"


def test_what_a_page_or_a_lock_claims_is_no_alias(pkgc: Instance, index: IndexServer) -> None:
    """An index or a lock that gives one package's digest to other bytes must not have them served by it."""
    good, bad = make_wheel("claimed", "1.0"), make_wheel("claimed", "1.0", {"claimed.py": "evil = 1\n"})
    algorithm, _, value = digest(good, "sha512").partition(":")
    index.add(bad.data, bad.filename, {"sha256": bad.sha256, algorithm: value})
    pkgc.run("fetch", pkgc.requirements(pin(bad)), "-i", index.url)
    lock = pkgc.root / "pylock.toml"
    entry = wheel_package(bad)
    file = listed(bad, index.file_url(bad.filename), hashes={"sha256": bad.sha256, algorithm: value})
    lock.write_text(pylock(entry | {"wheels": [file]}))
    assert failure(pkgc, "fetch", lock)["code"] == "hash-mismatch"
    url = index.file_url(bad.filename)
    line = f"claimed @ {url}#sha256={bad.sha256}&sha512={value}"
    assert failure(pkgc, "fetch", pkgc.requirements(line))["code"] == "hash-mismatch"
    wanted = pkgc.requirements(f"claimed==1.0 --hash=sha512:{value}")
    error = failure(pkgc, "fetch", wanted, "-i", index.url)
    assert error["code"] == "hash-mismatch"
    assert digest(bad, "sha512") in error["everything"]
    index.add(good.data, good.filename)
    (one,) = _fetch(pkgc, wanted, "-i", index.url, "--refresh")["fetched"]
    assert one["sha256"] == good.sha256


def test_a_source_archive_and_what_was_built_of_it(
    pkgc: Instance, index: IndexServer, mirror: IndexServer, down: str, tmp_path: Path
) -> None:
    """A build of minutes is done once, whichever way its source came, and outlives the source's eviction."""
    sdist = make_sdist("madeonce", "1.0")
    index.add(sdist.data, sdist.filename)
    sdist.write_to(tmp_path)
    (first,) = _fetch(pkgc, pkgc.requirements(f"madeonce @ {index.file_url(sdist.filename)}"))["fetched"]
    assert first["from"] == "build"
    index.stop()
    sha512 = hashlib.sha512(sdist.data).hexdigest()
    package = {"name": "madeonce", "version": "1.0", "sdist": listed(sdist, f"{down}/o/{sdist.filename}")}
    lock = pkgc.root / "pylock.toml"
    lock.write_text(pylock(package))
    pins = [f"madeonce==1.0 --hash=sha256:{sdist.sha256}", f"madeonce==1.0 --hash=sha512:{sha512}"]
    others: list[str | Path] = [
        f"madeonce @ {down}/o/{sdist.filename}#sha256={sdist.sha256}",
        f"madeonce @ {down}/o/{sdist.filename} --hash=sha512:{sha512}",
        str(tmp_path / sdist.filename),
        lock,
    ]

    def serves(use: str | Path, *args: str) -> dict[str, Any]:
        answer = _fetch(pkgc, use if isinstance(use, Path) else pkgc.requirements(use), *args)
        (one,) = answer["fetched"]
        assert (one["from"], one["sha256"]) == ("store", first["sha256"]), use
        return answer

    for use in (*pins, *others):
        answer = serves(use, "-i", f"{down}/simple/")
        assert (answer["index_requests"], answer["downloaded"]["files"]) == (0, 0), use
    evict(pkgc)
    mirror.add(sdist.data, sdist.filename)
    for use in (pins[0], others[0], lock):  # of bytes that are gone only the sha256 is known
        assert serves(use, "-i", mirror.url)["downloaded"]["files"] == 0, use
