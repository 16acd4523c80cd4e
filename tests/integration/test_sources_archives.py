"""Source archives of an index, and archives by URL and path: obtained, built, recorded, kept, built anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import COUNTING, Bench, origins, shared_instance
from tests.support.instance import Instance, snapshot
from tests.support.locks import holds, importing, versions
from tests.support.sdists import BACKEND, BuiltSdist, make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for all tests of this module; each has an index, a TMPDIR and projects of its own."""
    with shared_instance(tmp_path_factory.mktemp("archives") / "pkgc", request.param) as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


def counted(name: str, version: str = "1.0", **options: object) -> BuiltSdist:
    """A source archive whose backend is `COUNTING`."""
    return make_sdist(name, version, backend=COUNTING, **options)  # type: ignore[arg-type]


# -- of an index ---------------------------------------------------------------------------------------------


def test_project_without_wheels_is_built_once(bench: Bench) -> None:
    """Else what has no wheel cannot be installed, or each new environment compiles it again."""
    sdist = counted("solo")
    bench.offer(sdist)
    answer = bench.sync("solo==1.0")
    (installed,) = answer["installed"]
    assert (installed["name"], installed["version"], installed["from"]) == ("solo", "1.0", "build")
    assert installed["origin"] == {
        "kind": "index",
        "url": bench.index.file_url(sdist.filename),
        "index": bench.index.url,
    }
    assert answer["downloaded"] == {"files": 1, "bytes": len(sdist.data)}
    assert importing(bench.venv(), "import solo; print(solo.__version__)") == "1.0"
    # PEP 710, H10: URL and hash are those of what was downloaded, not of the wheel that was made of it.
    record = bench.provenance("solo")
    assert record["url"] == bench.index.file_url(sdist.filename)
    assert record["archive_info"] == {"hashes": {"sha256": sdist.sha256}}
    again = bench.sync("solo==1.0")
    assert (again["kept"], again["installed"]) == (1, [])
    assert origins(bench.sync("solo==1.0", venv="second")) == {"solo": "store"}
    assert bench.builds("solo") == 1
    assert len(bench.index.requests_for(sdist.filename)) == 1
    assert bench.leftovers() == []


def test_hashed_source_archive_is_what_the_lock_names(bench: Bench) -> None:
    """H10, the classic bug: the hash of the lock compared with the wheel that was built of the archive; and
    every sync builds again, or fails."""
    sdist = counted("hashed")
    bench.offer(sdist)
    line = f"hashed==1.0 --hash=sha256:{sdist.sha256}"
    assert origins(bench.sync(line)) == {"hashed": "build"}
    bench.index.clear_log()
    for venv, expected in (("venv", {}), ("second", {"hashed": "store"})):
        answer = bench.sync(line, venv=venv)
        assert origins(answer) == expected
        assert answer["index_requests"] == 0
    # The same bytes by another algorithm, and after the daemon forgot everything that it had in memory.
    bench.pkgc.ok("daemon", "stop")
    other = f"hashed==1.0 --hash=sha512:{hashlib.sha512(sdist.data).hexdigest()}"
    assert origins(bench.sync(other, venv="third")) == {"hashed": "store"}
    assert bench.sync(other, venv="third")["kept"] == 1
    assert bench.index.requests_for(sdist.filename) == []
    assert bench.builds("hashed") == 1
    assert bench.pkgc.run("sync", bench.lock(line), "--venv", bench.venv(), "--check").status == 0


def test_archive_of_other_bytes_is_not_even_unpacked(bench: Bench) -> None:
    """The hash of a source archive is what stands between the lock and code that runs at once."""
    sdist = counted("tampered")
    bench.offer(sdist)
    bench.index.add(sdist.data, sdist.filename, False, index="silent", project="tampered")
    bench.sync()
    before = snapshot(bench.venv())
    line = f"tampered==1.0 --hash=sha256:{'0' * 64}"
    for index, code in (("simple", "no-allowed-hash"), ("silent", "hash-mismatch")):
        error = bench.fails(line, options=("-i", bench.index.index_url(index)))
        assert (error["code"], error["exit"]) == (code, 1), error
        assert sdist.sha256 in error["everything"]
    assert bench.builds("tampered") == 0
    assert bench.leftovers() == []
    assert snapshot(bench.venv()) == before


def test_wheel_or_source_by_choice(bench: Bench) -> None:
    """--no-binary and --only-binary, on the command line and in the file: people avoid broken wheels with
    the one, and code that runs while installing with the other."""
    bench.offer(
        make_wheel("both", "1.0", {"both.py": "made = 'by others'\n"}),
        counted("both", files={"both/__init__.py": "made = 'here'\n"}),
        counted("source", "1.0"),
        make_wheel("source", "0.9"),
    )
    made = "import both; print(both.made)"
    assert origins(bench.sync("both==1.0")) == {"both": "network"}
    assert importing(bench.venv(), made) == "by others"
    assert origins(bench.sync("both==1.0", venv="own", options=("--no-binary", "both"))) == {"both": "build"}
    assert importing(bench.venv("own"), made) == "here"
    assert origins(bench.sync("--no-binary :all:", "both==1.0", venv="file")) == {"both": "store"}
    assert importing(bench.venv("file"), made) == "here"
    for option in ("--only-binary=source", "--only-binary=:all:"):
        error = bench.fails("source==1.0", options=(option,))
        assert (error["code"], error["exit"]) == ("no-matching-wheel", 1), error
        assert "only-binary" in error["everything"]
    assert bench.fails("--only-binary source", "source==1.0")["code"] == "no-matching-wheel"
    assert bench.builds("source") == 0


def test_no_build_runs_no_code(bench: Bench) -> None:
    """--no-build is for machines that must not run what they download: not a single hook may start."""
    sdist = counted("inert")
    bench.offer(sdist, counted("made"))
    for option, env in (("--no-build", {}), ("-q", {"PKGC_NO_BUILD": "1"})):
        argv = bench.argv(("inert==1.0",), "venv", (option,))
        result = bench.pkgc.run(*argv, env=env)
        assert result.status == 1, str(result)
        assert "no-build" in result.err.lower().replace("_", "-"), str(result)
    error = bench.fails(f"inert @ {bench.index.file_url(sdist.filename)}", options=("--no-build",))
    assert (error["code"], error["exit"]) == ("build-not-allowed", 1)
    assert bench.builds("inert") == 0
    # Nothing has to be built for what is there already.
    bench.sync("made==1.0")
    assert bench.sync("made==1.0", options=("--no-build",))["kept"] == 1
    assert bench.fails("made==1.0", venv="second", options=("--no-build",))["code"] == "no-matching-wheel"


def test_settings_reach_the_backend_and_make_another_wheel(bench: Bench) -> None:
    """--config-settings without effect, or a wheel of other settings out of the cache: a build that lacks
    what was switched on."""
    sdist = counted("tuned")
    bench.offer(sdist)
    bench.sync("tuned==1.0")
    assert bench.settings("tuned") is None
    result = bench.run("tuned==1.0", options=("-C", "fast=1", "-C", "with=a", "--config-settings", "with=b"))
    assert result.status == 0, str(result)
    assert "~ tuned==1.0 (built with other --config-settings)" in result.out
    assert bench.settings("tuned") == {"fast": "1", "with": ["a", "b"]}
    line = "tuned==1.0 --config-settings=with=b -C of=line"
    assert origins(bench.sync(line, options=("-C", "with=a"))) == {"tuned": "build"}
    assert bench.settings("tuned") == {"with": ["a", "b"], "of": "line"}
    assert bench.sync(line, options=("-C", "with=a"))["kept"] == 1
    # Each of them is kept, as is what a URL gives.
    assert origins(bench.sync("tuned==1.0")) == {"tuned": "store"}
    assert bench.builds("tuned") == 3
    direct = f"tuned @ {bench.index.file_url(sdist.filename)} --config-settings=of=url"
    bench.sync(direct)
    assert bench.settings("tuned") == {"of": "url"}
    assert bench.sync(direct)["kept"] == 1
    assert bench.builds("tuned") == 4


def test_without_isolation_the_environment_builds(bench: Bench) -> None:
    """--no-build-isolation: people build against exactly the torch that is installed."""
    backend = COUNTING.replace("import ast,", "import ast, needed_here,", 1)
    bench.offer(make_sdist("picky", "1.0", backend=backend), make_wheel("needed-here", "1.0"))
    lines = ("picky==1.0", "needed-here==1.0")
    assert bench.fails("picky==1.0", options=("--no-build-isolation",))["code"] == "no-build-environment"
    bench.sync("needed-here==1.0")
    before = snapshot(bench.venv())
    error = bench.fails(*lines)
    assert error["code"] == "build-failed"
    assert "needed_here" in error["everything"]
    assert snapshot(bench.venv()) == before
    assert origins(bench.sync(*lines, options=("--no-build-isolation",))) == {"picky": "build"}
    assert holds(bench.venv()) == {"needed_here": "1.0", "picky": "1.0"}
    assert bench.sync(*lines, options=("--no-build-isolation",))["kept"] == 2


def test_archive_that_is_another_project(bench: Bench) -> None:
    """What is built under one name and is another: a mix-up, or a dependency that was swapped."""
    right, wrong = counted("right"), counted("wrong", "3.0")
    late = make_sdist(
        "late", "1.0", backend=BACKEND.replace('project["version"]', '"9.9"'), metadata_version=None
    )
    for sdist in (right, wrong, late):
        bench.index.put(f"/plain/{sdist.filename}", sdist.data, "application/gzip")
    place = f"{bench.index.origin}/plain"
    bench.index.add(wrong.data, "right-1.0.tar.gz", project="right")
    bench.offer(late)
    bench.sync()
    before = snapshot(bench.venv())
    for line, expected, found in (
        ("right==1.0", "right", "wrong"),
        (f"right @ {place}/{wrong.filename}", "right", "wrong"),
        ("late==1.0", "1.0", "9.9"),
    ):
        error = bench.fails(line)
        assert (error["code"], error["exit"]) == ("metadata-mismatch", 1), error
        assert expected in error["everything"]
        assert found in error["everything"]
    assert snapshot(bench.venv()) == before
    assert bench.builds("wrong") == 0


# -- by URL and path -----------------------------------------------------------------------------------------


def test_every_way_to_name_an_archive(bench: Bench) -> None:
    """Wheels and source archives, by URL, path and file: URL, named and not, in a subdirectory: what pip
    installs. Each is recorded so that every tool can tell where it came from (PEP 610, D5)."""
    wheels = [make_wheel(name, "1.0") for name in ("w-url", "w-bare", "w-path")]
    tars = [counted(name) for name in ("t-url", "t-bare", "t-path")]
    zips = [counted(name, ending=".zip") for name in ("z-url", "z-bare", "z-path")]
    inner = project_files("deep", "1.0", backend=COUNTING)
    inside = {f"packages/deep/{path}": data for path, data in inner.items()}
    nested = make_sdist("outer", "1.0", inside, pyproject="", backend=None)
    here = bench.folder / "some files"
    files: list[BuiltWheel | BuiltSdist] = [*wheels, *tars, *zips, nested]
    urls = {
        file.filename: bench.index.put(f"/a b/{file.filename}", file.data, "application/octet-stream")
        for file in files
    }
    for file in files:
        file.write_to(here)
    w, t, z = ([file.filename for file in kind] for kind in (wheels, tars, zips))
    lines = (
        f"w-url @ {urls[w[0]]}",
        urls[w[1]],
        f"./some files/{w[2]}",
        f"t-url @ {urls[t[0]]}#sha256={tars[0].sha256}",
        f"{urls[t[1]]}#egg=t-bare",
        str(here / t[2]),
        f"z-url @ {urls[z[0]]}",
        urls[z[1]],
        (here / z[2]).as_uri(),
        f"deep @ {urls[nested.filename]}#subdirectory=packages/deep",
    )
    answer = bench.sync(*lines)
    names = ["w-url", "w-bare", "w-path", "t-url", "t-bare", "t-path", "z-url", "z-bare", "z-path", "deep"]
    assert versions(answer) == dict.fromkeys(names, "1.0")
    assert {name for name, place in origins(answer).items() if place == "build"} == {*names[3:]}
    kinds = {one["name"]: one["origin"]["kind"] for one in answer["installed"]}
    assert {name for name, kind in kinds.items() if kind == "path"} == {"w-path", "t-path", "z-path"}
    for name, file in zip(names, files, strict=True):
        record = bench.record(name)
        local = name.endswith("path")
        place = (here / file.filename).as_uri() if local else urls[file.filename]
        assert record["url"] == place
        assert record["archive_info"]["hashes"]["sha256"] == file.sha256
        assert record.get("subdirectory") == ("packages/deep" if name == "deep" else None)
    assert importing(bench.venv(), "import deep, z_path; print(deep.__version__)") == "1.0"
    again = bench.sync(*lines)
    assert (again["kept"], again["installed"], again["removed"]) == (len(names), [], [])
    second = bench.sync(*lines, venv="second")
    assert set(origins(second).values()) == {"store"}
    assert sum(bench.builds(name) for name in names) == 7


def test_changed_archive_is_built_anew(bench: Bench) -> None:
    """T1 for sources: the content behind a URL or a path changed, and the old build stays installed."""
    old = counted("moving", files={"moving/__init__.py": "state = 'old'\n"})
    new = counted("moving", files={"moving/__init__.py": "state = 'new'\n"})
    state = "import moving; print(moving.state)"
    url = bench.index.put("/moving.tar.gz", old.data, "application/gzip")
    for line, change in (
        (f"moving @ {url}", lambda: bench.index.put("/moving.tar.gz", new.data)),
        ("./moving.tar.gz", lambda: (bench.folder / "moving.tar.gz").write_bytes(new.data)),
    ):
        (bench.folder / "moving.tar.gz").write_bytes(old.data)
        bench.sync(line)
        assert importing(bench.venv(), state) == "old"
        assert bench.sync(line)["kept"] == 1
        change()
        result = bench.run(line)
        assert result.status == 0, str(result)
        assert f"sha256:{old.sha256[:12]}… → sha256:{new.sha256[:12]}…" in result.out
        assert importing(bench.venv(), state) == "new"
        assert bench.record("moving")["archive_info"]["hashes"] == {"sha256": new.sha256}
        assert bench.sync(line)["kept"] == 1
    assert bench.builds("moving") == 2, "the same bytes from another place are the same build"


def test_one_content_from_two_places_is_built_once(bench: Bench) -> None:
    """A source archive of the index, of a URL and of a path is the same source: one build, three origins."""
    sdist = counted("same")
    bench.offer(sdist)
    url = bench.index.put("/elsewhere/same-1.0.tar.gz", sdist.data, "application/gzip")
    sdist.write_to(bench.folder)
    assert origins(bench.sync("same==1.0")) == {"same": "build"}
    answer = bench.sync(f"same @ {url}")
    assert [(one["from"], one["origin"]["kind"]) for one in answer["installed"]] == [("store", "url")]
    assert bench.record("same")["url"] == url
    answer = bench.sync(f"./{sdist.filename}")
    assert [(one["from"], one["origin"]["kind"]) for one in answer["installed"]] == [("store", "path")]
    answer = bench.sync("same==1.0")
    assert [(one["from"], one["origin"]["kind"]) for one in answer["installed"]] == [("store", "index")]
    assert bench.builds("same") == 1


def test_archives_that_are_none(bench: Bench) -> None:
    """A path that leads nowhere, an archive of something else, a broken one: an error that names it, and the
    environment stays."""
    bench.sync()
    before = snapshot(bench.venv())
    (bench.folder / "noise-1.0.tar.gz").write_bytes(b"this is no archive")
    make_sdist("doc", "1.0", {"README": "no project"}, pyproject="", backend=None).write_to(bench.folder)
    inner = counted("inner")
    inner.write_to(bench.folder)
    for line, code in (
        ("./nothing-1.0.tar.gz", "file-not-found"),
        (f"gone @ {bench.index.origin}/gone-1.0.tar.gz", "http-status"),
        ("noise @ ./noise-1.0.tar.gz", "bad-archive"),
        ("./noise-1.0.tar.gz", "bad-archive"),
        ("./doc-1.0.tar.gz", "not-a-project"),
        ("inner @ ./inner-1.0.tar.gz#subdirectory=nowhere", "source-not-found"),
        ("inner @ ./inner-1.0.tar.gz#subdirectory=../..", "invalid-requirement"),
    ):
        error = bench.fails(line)
        assert error["code"] == code, error
        assert "1.0.tar.gz" in error["everything"], error
    assert snapshot(bench.venv()) == before
    assert bench.builds("inner") == 0
    assert bench.leftovers() == []
