"""What an environment records of where its packages came from is what happened (complaint 4; PEP 710)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Bench, origins, shared_instance
from tests.support.instance import Instance
from tests.support.lockfiles import listed, pylock, uv_file, uv_package, uv_project, uvlock
from tests.support.sdists import make_sdist
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

#: Where nobody listens.
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One store for this module; every test has projects of its own."""
    with shared_instance(tmp_path_factory.mktemp("records") / "pkgc", request.param) as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


def why(bench: Bench, name: str, venv: str | Path = "venv") -> dict[str, Any]:
    """What `pkgc why` tells of a package, as data."""
    done = bench.pkgc.ok("why", name, "--venv", bench.folder / venv, "--output-format", "json")
    (package,) = done.json["packages"]
    assert isinstance(package, dict)
    return package


@pytest.mark.parametrize("kind", ["pylock", "uvlock"])
def test_a_lock_does_not_say_where_bytes_came_from(bench: Bench, kind: str) -> None:
    """A lock names a mirror that was never asked: people would search for a compromise in the wrong place."""
    wheel, sdist = make_wheel(f"true_{kind}", "1.0"), make_sdist(f"made_{kind}", "1.0")
    bench.offer(wheel, sdist)
    names = (f"true-{kind}", f"made-{kind}")
    bench.sync(*(f"{name}==1.0" for name in names), venv="first")
    url, source = f"{NOWHERE}/f/{wheel.filename}", f"{NOWHERE}/f/{sdist.filename}"
    if kind == "pylock":
        packages: list[dict[str, Any]] = [
            {
                "name": names[0],
                "version": "1.0",
                "index": f"{NOWHERE}/simple/",
                "wheels": [listed(wheel, url)],
            },
            {
                "name": names[1],
                "version": "1.0",
                "index": f"{NOWHERE}/simple/",
                "sdist": listed(sdist, source),
            },
        ]
        lock = bench.folder / "pylock.toml"
        lock.write_text(pylock(*packages))
    else:
        lock = bench.folder / "uv.lock"
        made = {
            "name": names[1],
            "version": "1.0",
            "source": {"registry": f"{NOWHERE}/simple/"},
            "sdist": uv_file(sdist, source),
        }
        lock.write_text(uvlock(uv_project(*names), uv_package(wheel, f"{NOWHERE}/simple/", url), made))
    bench.index.stop()
    for more in (("--dry-run",), ()):
        answer = bench.pkgc.sync(lock, "--venv", bench.venv(), *more)
        told = {one["name"]: one["origin"] for one in answer["installed"]}
        for name, filename in zip(names, (wheel.filename, sdist.filename), strict=True):
            place = {"kind": "index", "url": bench.index.file_url(filename), "index": bench.index.url}
            assert told[name] == place, (name, more)
    assert bench.pkgc.sync(lock, "--venv", bench.venv())["kept"] == 2
    for name in names:
        assert bench.provenance(name) == bench.provenance(name, "first")
        assert why(bench, name)["origin"]["index"] == bench.index.url


def test_a_lock_that_names_the_place_is_recorded_so(bench: Bench) -> None:
    """The same URL, of which a lock tells the index that nobody knew before."""
    wheel = make_wheel("placed", "1.0")
    bench.offer(wheel)
    bench.sync(f"placed @ {bench.index.file_url(wheel.filename)}", venv="first")
    lock = bench.folder / "pylock.toml"
    file = listed(wheel, bench.index.file_url(wheel.filename))
    lock.write_text(pylock({"name": "placed", "version": "1.0", "index": bench.index.url, "wheels": [file]}))
    answer = bench.pkgc.sync(lock, "--venv", bench.venv())
    assert origins(answer) == {"placed": "store"}
    record = bench.provenance("placed")
    assert (record["url"], record["pkgc"]["index"]) == (file["url"], bench.index.url)


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "unhashed"])
def test_who_is_recorded_where_two_indexes_offer_the_same_file(bench: Bench, hashed: bool) -> None:
    """With a hash the one that gave the bytes, without the one that was asked; and it stays so."""
    name = "paged" if hashed else "loose"
    wheel = make_wheel(name, "1.0")
    bench.offer(wheel)
    bench.sync(f"{name}==1.0", venv="first")
    with IndexServer() as mirror:
        mirror.add(wheel.data, wheel.filename)
        line = f"{name}==1.0 --hash=sha256:{wheel.sha256}" if hashed else f"{name}==1.0"
        options = ("--venv", bench.venv(), "-i", mirror.url)
        answer = bench.pkgc.sync(bench.lock(line), *options)
        assert origins(answer) == {name: "store"}
        assert mirror.requests_for(wheel.filename) == []
        decided = bench.index.url if hashed else mirror.url
        assert bench.provenance(name)["pkgc"]["index"] == decided
        assert bench.pkgc.sync(bench.lock(line), *options)["kept"] == 1


def test_a_local_file_that_a_hash_found_is_no_file_of_an_index(bench: Bench) -> None:
    """`pkgc why` would name an index that does not have the package."""
    wheel = make_wheel("mine", "1.0")
    path = wheel.write_to(bench.folder)
    bench.sync(str(path), venv="first")
    line = f"mine==1.0 --hash=sha256:{wheel.sha256}"
    assert origins(bench.sync(line, options=("--offline",))) == {"mine": "store"}
    package = why(bench, "mine")
    assert package["origin"] == {"kind": "path", "url": path.as_uri(), "index": None}
    assert "(a local file)" in bench.pkgc.ok("why", "mine", "--venv", bench.venv()).out
    assert bench.sync(line, options=("--offline",))["kept"] == 1


def test_one_environment_by_two_paths(bench: Bench) -> None:
    """`current -> releases/7` and the folder itself are one environment: what asked is known by both."""
    wheel = make_wheel("linked", "1.0")
    bench.offer(wheel)
    bench.sync("linked==1.0")
    link, around = bench.folder / "link", bench.folder / "around"
    link.symlink_to(bench.venv())
    around.symlink_to(bench.folder)
    asked = why(bench, "linked")["asked_by"]
    assert asked["text"] == "linked==1.0"
    for path in (link, around / "venv", around / "link", bench.folder / "x" / ".." / "venv"):
        assert why(bench, "linked", path)["asked_by"] == asked, path
    other = bench.lock(f"linked==1.0 --hash=sha256:{wheel.sha256}", name="other.txt")
    assert bench.pkgc.sync(other, "--venv", link, "-i", bench.index.url)["kept"] == 1
    assert why(bench, "linked")["asked_by"]["place"] == f"{other}:1"


def test_the_reason_names_both_places(bench: Bench) -> None:
    """T8: `installed from index A` alone does not say where the lock wants it from."""
    one, other = (
        make_wheel("two", "1.0", {"two.py": "a = 1\n"}),
        make_wheel("two", "1.0", {"two.py": "a = 2\n"}),
    )
    bench.offer(one)
    bench.sync("two==1.0")
    with IndexServer() as second:
        second.add(other.data, other.filename)
        lock = bench.lock(f"two==1.0 --hash=sha256:{other.sha256}")
        secret = second.index_url(credentials="me:hunter2")
        answer = bench.pkgc.sync(lock, "--venv", bench.venv(), "-i", secret)
        (change,) = answer["installed"]
        assert change["reason"] == (
            f"two 1.0: installed from index {bench.index.url}, "
            f"the lock wants sha256:{other.sha256} from index {second.url}"
        )
        named = ("--no-index", f"--index=corp={secret}", "--pin-index=two=corp")
        back = bench.lock(f"two==1.0 --hash=sha256:{one.sha256}")
        answer = bench.pkgc.sync(back, "--venv", bench.venv(), "--dry-run", *named[1:])
        assert f"from index corp ({second.url})" in answer["installed"][0]["reason"]
