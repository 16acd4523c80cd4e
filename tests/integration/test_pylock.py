"""pylock.toml (PEP 751) through the real client: every kind of source, what is chosen, and what is checked.

Rule numbers are those of the specification's section "Installation", as docs of the project number them
(MUST 1-8, P1, P2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.gitserver import GitServers, Repository, needs_git
from tests.support.instance import Instance, running, snapshot
from tests.support.lockfiles import listed, pylock, wheel_package
from tests.support.locks import failure, holds, output_of, pin, site, versions
from tests.support.sdists import make_sdist, project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ALPHA, BETA, GAMMA = (make_wheel(name, "1.0") for name in ("alpha", "beta", "gamma"))
SOURCE = make_sdist("source", "1.0")


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """alpha, beta, gamma and an sdist; tests add more under names of their own."""
    with IndexServer() as server:
        for file in (ALPHA, BETA, GAMMA, SOURCE):
            server.add(file.data, file.filename)
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module."""
    root = tmp_path_factory.mktemp("pylock") / "pkgc"
    with running(root, host_calls=request.param == "client-acts") as instance:
        yield instance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's lock and what it names by path lie."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def shared(pkgc: Instance) -> Path:
    """An environment that every test brings to its own lock: a new one costs more than the sync."""
    return pkgc.root / "shared"


def write(folder: Path, *packages: dict[str, Any], name: str = "pylock.toml", **frame: Any) -> Path:
    """Write a lock of these packages."""
    path = folder / name
    path.write_text(pylock(*packages, **frame))
    return path


def record(venv: Path, name: str, version: str = "1.0", file: str = "direct_url.json") -> dict[str, Any]:
    """An origin record of an installed package."""
    found: dict[str, Any] = json.loads((site(venv) / f"{name}-{version}.dist-info" / file).read_text())
    return found


def from_index(index: IndexServer, wheel: BuiltWheel, **other: Any) -> dict[str, Any]:
    """A package with the wheel as the index offers it."""
    return wheel_package(wheel, index.file_url(wheel.filename), index=index.url, **other)


def test_wheels_by_url_cost_no_page(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """The lock names every file, so no index is asked which there are; the record says where it came from."""
    wheels = [make_wheel(f"byurl{number}", "1.0") for number in range(3)]
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)
    lock = write(folder, *(from_index(index, wheel) for wheel in wheels))
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", folder / "venv")
    assert versions(answer) == {f"byurl{number}": "1.0" for number in range(3)}
    assert {one["from"] for one in answer["installed"]} == {"network"}
    assert answer["index_requests"] == 0
    assert sorted(hit.path.rpartition("/")[2] for hit in index.log) == [wheel.filename for wheel in wheels]
    found = record(folder / "venv", "byurl0", file="provenance_url.json")
    assert found["url"] == index.file_url(wheels[0].filename)
    assert found["archive_info"]["hashes"]["sha256"] == wheels[0].sha256
    assert found["pkgc"]["index"] == index.url
    again = pkgc.sync(lock, "--venv", folder / "venv")
    assert (again["kept"], again["installed"]) == (3, [])


def test_path_goes_before_url(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """P1: a vendored file is used even where its URL is dead, relative to the lock and not to the caller."""
    wheel, renamed = make_wheel("vendored", "1.0"), make_wheel("renamed", "1.0")
    wheel.write_to(folder / "wheel house")
    (folder / "blob").write_bytes(renamed.data)
    lock = write(
        folder,
        {
            "name": "vendored",
            "version": "1.0",
            "wheels": [listed(wheel, f"{index.origin}/dead/x.whl", path="wheel house/" + wheel.filename)],
        },
        {"name": "renamed", "version": "1.0", "wheels": [listed(renamed, path="./blob")]},
    )
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"vendored": "1.0", "renamed": "1.0"}
    assert index.log == []
    found = record(shared, "vendored", file="provenance_url.json")
    assert found["url"] == (folder / "wheel house" / wheel.filename).as_uri()
    # A relative name of the lock itself, from another working directory.
    answer = pkgc.sync("project/pylock.toml", "--venv", shared, "--reinstall", cwd=folder.parent)
    assert versions(answer) == {"vendored": "1.0", "renamed": "1.0"}


def test_names_of_files(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """P1: `name`, else the last part of the URL, percent-decoded: locks of local versions have `%2B`."""
    wheel = make_wheel("plus", "1.0+cu1")
    index.add(wheel.data, wheel.filename)
    url = index.file_url(wheel.filename)
    assert "%2B" in url
    unnamed = listed(wheel, url, name=None)
    odd = listed(ALPHA, f"{index.file_url(ALPHA.filename)}?token=1#sha256={'0' * 64}")
    lock = write(
        folder,
        {"name": "plus", "version": "1.0+cu1", "wheels": [unnamed]},
        {"name": "alpha", "version": "1.0", "wheels": [odd]},
    )
    assert versions(pkgc.sync(lock, "--venv", shared)) == {"plus": "1.0+cu1", "alpha": "1.0"}


def test_sdist(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """MUST 6: without a wheel that fits, the sdist is built, once; its provenance is the sdist's."""
    foreign = make_wheel("source", "1.0", tag="cp39-cp39-win_amd64")
    package = {
        "name": "source",
        "version": "1.0",
        "index": index.url,
        "sdist": listed(SOURCE, index.file_url(SOURCE.filename)),
        "wheels": [listed(foreign, f"{index.origin}/foreign/{foreign.filename}")],
    }
    lock = write(folder, package)
    answer = pkgc.sync(lock, "--venv", shared)
    assert [(one["name"], one["from"]) for one in answer["installed"]] == [("source", "build")]
    found = record(shared, "source", file="provenance_url.json")
    assert found["url"] == index.file_url(SOURCE.filename)
    assert found["archive_info"]["hashes"]["sha256"] == SOURCE.sha256
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 1
    index.clear_log()
    again = pkgc.sync(lock, "--venv", folder / "other")
    assert [one["from"] for one in again["installed"]] == ["store"], "built twice"
    assert index.log == []
    for option in ("--no-build", "--only-binary=:all:", "--only-binary=source"):
        error = failure(pkgc, "sync", lock, "--venv", folder / "none", option)
        assert (error["code"], error["exit"]) == ("no-matching-wheel", 1)
        for text in ("pylock.toml:5", SOURCE.filename, foreign.filename):
            assert text in error["everything"]
        assert "--no-build" in error["hint"]


def test_archives(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """MUST 6, 7: a wheel, a source archive by URL (in a subdirectory) and one by path: direct references."""
    wheel, sdist = make_wheel("archived", "1.0"), make_sdist("local", "1.0")
    inner = {f"sub/{path}": data for path, data in project_files("inner", "1.0").items()}
    nested = make_sdist("nested", "1.0", inner, pyproject="", backend=None, metadata_version=None)
    index.add(wheel.data, wheel.filename)
    index.add(nested.data, nested.filename)
    sdist.write_to(folder)
    packages = [
        {"name": "archived", "archive": listed(wheel, index.file_url(wheel.filename), name=None)},
        {
            "name": "inner",
            "version": "1.0",
            "archive": listed(nested, index.file_url(nested.filename), name=None, subdirectory="sub"),
        },
        {"name": "local", "archive": listed(sdist, path=sdist.filename, name=None)},
    ]
    lock = write(folder, *packages)
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"archived": "1.0", "inner": "1.0", "local": "1.0"}
    assert {one["name"]: one["from"] for one in answer["installed"]} == {
        "archived": "network",
        "inner": "build",
        "local": "build",
    }
    for name, url, sha256 in (
        ("archived", index.file_url(wheel.filename), wheel.sha256),
        ("inner", index.file_url(nested.filename), nested.sha256),
        ("local", (folder / sdist.filename).as_uri(), sdist.sha256),
    ):
        found = record(shared, name)
        assert (found["url"], found["archive_info"]["hashes"]["sha256"]) == (url, sha256)
    assert record(shared, "inner")["subdirectory"] == "sub"
    index.clear_log()
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 3
    assert index.log == [], "a hash says what is there, so nobody is asked"


def test_directories(pkgc: Instance, folder: Path, shared: Path) -> None:
    """Projects beside the lock are built, editable if the lock says so, and again when they changed."""
    for name in ("copied", "edited"):
        for path, data in project_files(name, "1.0").items():
            target = folder / name / "python" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    packages = [
        {"name": "copied", "directory": {"path": "./copied", "subdirectory": "python"}},
        {"name": "edited", "directory": {"path": "edited/python", "editable": True}},
    ]
    lock = write(folder, *packages)
    assert versions(pkgc.sync(lock, "--venv", shared)) == {"copied": "1.0", "edited": "1.0"}
    assert (site(shared) / "copied/__init__.py").exists()
    assert not (site(shared) / "edited").exists()
    found = record(shared, "copied")
    assert (found["url"], found["subdirectory"]) == ((folder / "copied").as_uri(), "python")
    assert record(shared, "edited")["dir_info"] == {"editable": True}
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 2
    (folder / "copied/python/copied/__init__.py").write_text("changed = 1\n")
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"copied": "1.0"}
    assert (site(shared) / "copied/__init__.py").read_text() == "changed = 1\n"
    error = failure(pkgc, "sync", lock, "--venv", shared, "--require-hashes")
    assert (error["code"], error["exit"]) == ("hash-unsupported", 2)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServers]:
    """Git servers."""
    with GitServers(tmp_path_factory.mktemp("git")) as running_servers:
        yield running_servers


@needs_git
def test_repositories(pkgc: Instance, servers: GitServers, folder: Path, shared: Path) -> None:
    """The commit id decides what is checked out, never the branch that the lock names for people."""
    name = f"repo{len(list(servers.folder.iterdir()))}"
    repository: Repository = servers.repository(name)
    files = {f"lib/{path}": data.decode() for path, data in project_files("gitted", "1.0").items()}
    first = repository.commit(files)
    repository.commit({path: text.replace("1.0", "2.0") for path, text in files.items()})
    vcs = {
        "type": "git",
        "url": servers.http(name),
        "requested-revision": "main",
        "commit-id": first,
        "subdirectory": "lib",
    }
    lock = write(folder, {"name": "gitted", "version": "1.0", "vcs": vcs})
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"gitted": "1.0"}
    found = record(shared, "gitted")
    assert found["vcs_info"] == {"vcs": "git", "commit_id": first, "requested_revision": "main"}
    assert (found["url"], found["subdirectory"]) == (servers.http(name), "lib")
    servers.hits.clear()
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 1
    assert servers.hits == [], "a commit id needs no look at the server"


def test_markers_extras_and_groups(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """MUST 1, 5: what is installed follows the target's markers, the extras and groups that are asked for,
    and the lock's own default groups."""
    lock = write(
        folder,
        from_index(index, ALPHA, marker="'web' in extras or 'test' in dependency_groups"),
        from_index(index, BETA, marker="'docs' in dependency_groups and 'doc-s' not in extras"),
        from_index(index, GAMMA, marker="sys_platform == 'nowhere' or 'Web_2' in extras"),
        extras=["web", "web-2"],
        dependency_groups=["test", "docs"],
        default_groups=["docs"],
    )
    for options, expected in (
        ([], {"beta"}),
        (["--no-default-groups"], set()),
        (["--extra", "WEB"], {"alpha", "beta"}),
        (["--extra", "web-2", "--no-default-groups"], {"gamma"}),
        (["--all-extras"], {"alpha", "beta", "gamma"}),
        (["--group", "test", "--no-default-groups"], {"alpha"}),
        (["--group", "test", "--group=docs"], {"alpha", "beta"}),
    ):
        answer = pkgc.sync(lock, "--dry-run", "--venv", "none", *options)
        assert versions(answer).keys() == expected, options
    # what comes by variables and configuration counts too
    answer = pkgc.sync(lock, "--dry-run", "--venv", "none", env={"PKGC_EXTRA": "web", "PKGC_GROUP": "test"})
    assert versions(answer).keys() == {"alpha", "beta"}


def test_environments_and_pythons(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """MUST 3-5: a lock of other environments says nothing about this one; a package for another Python in it
    is a mistake of the lock, not a package to leave out."""
    python = interpreters.running().version
    ours, other = f"python_version == '{python}'", "sys_platform == 'nowhere'"
    lock = write(folder, from_index(index, ALPHA), environments=[other, ours], requires_python=f">={python}")
    assert versions(pkgc.sync(lock, "--dry-run", "--venv", "none")) == {"alpha": "1.0"}
    lock = write(folder, from_index(index, ALPHA, requires_python="<3"), from_index(index, BETA))
    error = failure(pkgc, "sync", lock, "--dry-run", "--venv", "none")
    assert (error["code"], error["exit"]) == ("python-mismatch", 2)
    assert "pylock.toml:5" in error["message"]
    # one whose marker is false is nobody's business
    package = from_index(index, ALPHA, requires_python="<3", marker=other)
    lock = write(folder, package, from_index(index, BETA))
    assert versions(pkgc.sync(lock, "--dry-run", "--venv", "none")) == {"beta": "1.0"}


def test_the_best_wheel_by_name_only(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """MUST 6: the wheel that fits best is taken, cached or not; when it cannot be had that is an error, and
    no other wheel comes in its place: two machines with one lock would differ."""
    tag = interpreters.running().version.replace(".", "")
    plain = make_wheel("fits", "1.0")
    best = make_wheel("fits", "1.0", tag=f"cp{tag}-none-any")
    for wheel in (plain, best):
        index.add(wheel.data, wheel.filename)
    package = {
        "name": "fits",
        "version": "1.0",
        "wheels": [listed(wheel, index.file_url(wheel.filename)) for wheel in (plain, best)],
    }
    only_plain = write(folder, wheel_package(plain, index.file_url(plain.filename)), name="pylock.plain.toml")
    pkgc.ok("fetch", only_plain)
    lock = write(folder, package)
    index.behave(best.filename, Behaviour(times=None, status=404))
    error = failure(pkgc, "sync", lock, "--venv", folder / "venv")
    assert (error["code"], error["exit"]) == ("http-status", 1)
    assert index.file_url(best.filename) in error["message"]
    assert "pylock.toml:5" in error["everything"]
    assert not (folder / "venv").exists()
    error = failure(pkgc, "sync", lock, "--venv", folder / "venv", "--offline")
    assert (error["code"], error["exit"]) == ("not-in-cache", 1)
    index.behave_well(best.filename)
    answer = pkgc.sync(lock, "--venv", folder / "venv")
    assert answer["installed"][0]["sha256"] == best.sha256


@pytest.mark.parametrize("algorithm", ["sha384", "sha512", "blake2b"])
def test_locks_without_sha256(
    pkgc: Instance, index: IndexServer, folder: Path, shared: Path, algorithm: str
) -> None:
    """P2: any secure algorithm will do, checked while the file streams, and remembered with the content:
    what the cache has by sha256 is found by the other, and the other way around, without a request."""
    wheel = make_wheel(f"only-{algorithm}", "1.0")
    index.add(wheel.data, wheel.filename)
    url = index.file_url(wheel.filename)
    digest = hashlib.new(algorithm, wheel.data).hexdigest()
    name = f"only-{algorithm}"
    by_other = {"name": name, "wheels": [listed(wheel, url, hashes={algorithm: digest})]}
    lying = {"name": name, "wheels": [listed(wheel, url, hashes={algorithm: digest[::-1]})]}
    error = failure(pkgc, "sync", write(folder, lying), "--venv", folder / "none")
    assert (error["code"], error["exit"]) == ("hash-mismatch", 1)
    assert digest in error["everything"]
    assert digest[::-1] in error["everything"]
    answer = pkgc.sync(write(folder, by_other), "--venv", shared)
    assert answer["installed"][0]["sha256"] == wheel.sha256
    index.clear_log()
    for lock in (write(folder, by_other), write(folder, wheel_package(wheel, url))):
        assert pkgc.sync(lock, "--venv", shared)["kept"] == 1
        assert [one["from"] for one in pkgc.sync(lock, "--venv", shared, "--reinstall")["installed"]] == [
            "store"
        ]
    assert index.log == []
    error = failure(pkgc, "sync", write(folder, lying), "--venv", folder / "none")
    assert error["code"] == "hash-mismatch", "a wrong hash is refused with the file in the cache, too"


@pytest.mark.parametrize("cached", [False, True], ids=["cold", "cached"])
@pytest.mark.parametrize("kind", ["wheels", "archive"])
def test_every_hash_must_match(
    pkgc: Instance, index: IndexServer, folder: Path, kind: str, cached: bool
) -> None:
    """P2: of several algorithms one wrong digest is enough to refuse, whether the file is cached or not."""
    wheel = make_wheel(f"several-{kind}-{cached}", "1.0")
    index.add(wheel.data, wheel.filename)
    url, name = index.file_url(wheel.filename), wheel.filename.split("-")[0].replace("_", "-").lower()
    right = {"sha256": wheel.sha256, "sha512": hashlib.sha512(wheel.data).hexdigest()}
    if cached:
        pkgc.ok("fetch", write(folder, wheel_package(wheel, url), name="pylock.warm.toml"))
    for algorithm in right:
        wrong = right | {algorithm: right[algorithm][::-1]}
        file = listed(wheel, url, hashes=wrong)
        if kind == "archive":
            del file["name"]
        lock = write(folder, {"name": name, kind: [file] if kind == "wheels" else file})
        error = failure(pkgc, "sync", lock, "--venv", folder / "none")
        assert (error["code"], error["exit"]) == ("hash-mismatch", 1)
        for text in (right[algorithm], wrong[algorithm], "pylock.toml:5"):
            assert text in error["everything"]
    file = listed(wheel, url, hashes=right | {"md5": hashlib.md5(wheel.data).hexdigest(), "new-1": "xyz"})
    lock = write(folder, {"name": name, "wheels": [file]})
    answer = pkgc.sync(lock, "--dry-run", "--venv", "none")
    assert any("new-1" in one["message"] for one in answer["warnings"])


@pytest.mark.parametrize("cached", [False, True], ids=["cold", "cached"])
@pytest.mark.parametrize("kind", ["wheels", "archive"])
def test_sizes(pkgc: Instance, index: IndexServer, folder: Path, kind: str, cached: bool) -> None:
    """MUST 6: another size than the lock says is an error, with both sizes, cached or not."""
    wheel = make_wheel(f"sized-{kind}-{cached}", "1.0")
    index.add(wheel.data, wheel.filename)
    url, name = index.file_url(wheel.filename), wheel.filename.split("-")[0].replace("_", "-").lower()
    if cached:
        pkgc.ok("fetch", write(folder, wheel_package(wheel, url), name="pylock.warm.toml"))
    file = listed(wheel, url, size=len(wheel.data) + 1)
    if kind == "archive":
        del file["name"]
    lock = write(folder, {"name": name, kind: [file] if kind == "wheels" else file})
    error = failure(pkgc, "sync", lock, "--venv", folder / "none")
    assert (error["code"], error["exit"]) == ("size-mismatch", 1)
    for text in (str(len(wheel.data)), str(len(wheel.data) + 1), "pylock.toml:5"):
        assert text in error["everything"]
    assert not (folder / "none").exists()


def test_everything_cached_needs_no_network(
    pkgc: Instance, index: IndexServer, folder: Path, shared: Path
) -> None:
    """Invariant 2: with the index down, from a fresh environment, without --offline: zero requests."""
    wheel, sdist = make_wheel("downed", "1.0"), make_sdist("downsrc", "1.0")
    with IndexServer() as doomed:
        for file in (wheel, sdist):
            doomed.add(file.data, file.filename)
        packages = [
            wheel_package(wheel, doomed.file_url(wheel.filename), index=doomed.url),
            {"name": "downsrc", "sdist": listed(sdist, doomed.file_url(sdist.filename)), "version": "1.0"},
        ]
        lock = write(folder, *packages)
        pkgc.ok("fetch", lock)
    for evicted in (False, True):
        if evicted:  # the original files go first when room is needed: what was made of them is enough
            pkgc.run("daemon", "stop")
            for sha256 in (wheel.sha256, sdist.sha256):
                next(path for path in pkgc.cache.rglob(f"*{sha256}") if path.is_file()).unlink()
        answer = pkgc.sync(lock, "--venv", folder / f"venv{evicted}")
        assert {one["from"] for one in answer["installed"]} == {"store"}
        assert answer["index_requests"] == 0
        assert answer["downloaded"]["files"] == 0
        assert holds(folder / f"venv{evicted}") == {"downed": "1.0", "downsrc": "1.0"}


def test_the_same_bytes_from_the_index_are_kept(
    pkgc: Instance, index: IndexServer, folder: Path, shared: Path
) -> None:
    """An environment that was installed from requirements is not torn down because the lock is a pylock now;
    and the other way around."""
    index.clear_log()
    requirements = pkgc.requirements(pin(ALPHA))
    pkgc.sync(requirements, "--venv", shared, "-i", index.url)
    before = snapshot(shared)
    lock = write(folder, wheel_package(ALPHA, f"http://127.0.0.1:1/mirror/{ALPHA.filename}"))
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", shared)
    assert (answer["kept"], answer["installed"], answer["removed"]) == (1, [], [])
    assert index.log == []
    assert pkgc.sync(requirements, "--venv", shared, "-i", index.url)["kept"] == 1
    assert snapshot(shared) == before
    # the same version with other bytes is another thing
    other = make_wheel("alpha", "1.0", {"alpha/__init__.py": "other = 1\n"})
    other.write_to(folder)
    lock = write(folder, {"name": "alpha", "version": "1.0", "wheels": [listed(other, path=other.filename)]})
    answer = pkgc.sync(lock, "--venv", shared)
    assert answer["installed"][0]["sha256"] == other.sha256


def test_fetch_check_and_dry_run(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """CI asks with --check, people with --dry-run: neither downloads; fetch downloads and changes nothing."""
    wheel, sdist = make_wheel("looked", "1.0"), make_sdist("lookedsrc", "1.0")
    for file in (wheel, sdist):
        index.add(file.data, file.filename)
    lock = write(
        folder,
        from_index(index, wheel),
        {"name": "lookedsrc", "archive": listed(sdist, index.file_url(sdist.filename), name=None)},
        name="pylock.ci.toml",
    )
    venv = folder / "venv"
    index.clear_log()
    assert pkgc.run("sync", lock, "--venv", venv, "--check").status == 1
    answer = pkgc.sync(lock, "--venv", venv, "--dry-run")
    assert {one["name"]: one["from"] for one in answer["installed"]} == {
        "looked": "network",
        "lookedsrc": "network",
    }
    assert index.log == []
    fetched = pkgc.ok("fetch", lock, "--output-format", "json").json["fetched"]
    assert {one["name"]: one["from"] for one in fetched} == {"looked": "network", "lookedsrc": "build"}
    assert not venv.exists()
    assert pkgc.run("sync", lock, "--venv", venv, "--check").status == 1
    answer = pkgc.sync(lock, "--venv", venv, "--dry-run")
    assert {one["name"]: one["from"] for one in answer["installed"]} == {
        "looked": "store",
        "lookedsrc": "build",
    }
    pkgc.sync(lock, "--venv", venv)
    done = pkgc.ok("sync", lock, "--venv", venv, "--check")
    assert "up to date" in done.out


def test_newer_minor_versions_and_what_may_not_matter(
    pkgc: Instance, index: IndexServer, folder: Path
) -> None:
    """MUST 2 and the fields that MUST NOT affect installation: a lock of tomorrow's tool works, with a
    warning, and its `dependencies` and `tool` tables change nothing."""
    package = from_index(
        index,
        ALPHA,
        dependencies=[{"name": "beta", "version": "9"}],
        tool={"x": {"y": 1}},
        attestation_identities=[{"kind": "k"}],
    )
    lock = write(folder, package, lock_version="1.7", tool={"pkgc": {"no": True}}, unknown_key={"a": 1})
    answer = pkgc.sync(lock, "--dry-run", "--venv", "none")
    assert versions(answer) == {"alpha": "1.0"}
    assert any("1.7" in one["message"] for one in answer["warnings"])


def test_a_lock_from_pip_itself(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """What `pip lock` writes is what pkgc reads: the standard, not only the maker of our tests."""
    python = Path(pkgc.command).with_name("python")
    lock = folder / "pylock.toml"
    wheel = ALPHA.write_to(folder / "house")
    output_of(python, "-m", "pip", "lock", "--no-index", "-f", wheel.parent, "alpha", "-o", lock)
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"alpha": "1.0"}
    assert answer["installed"][0]["sha256"] == ALPHA.sha256
