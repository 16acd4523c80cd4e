"""uv.lock through the real client: what of a project's lock is installed, from every kind of source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import interpreters
from tests.support.gitserver import GitServers, needs_git
from tests.support.instance import Instance, running, snapshot
from tests.support.lockfiles import pylock, uv_file, uv_package, uv_project, uvlock, wheel_package
from tests.support.locks import failure, holds, pin, site, versions
from tests.support.sdists import make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ALPHA, BETA, GAMMA, DELTA = (make_wheel(name, "1.0") for name in ("alpha", "beta", "gamma", "delta"))
ALPHA2 = make_wheel("alpha", "2.0")
ELSEWHERE = "sys_platform == 'nowhere'"


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """The wheels of this module; tests add more under names of their own."""
    with IndexServer() as server:
        for wheel in (ALPHA, BETA, GAMMA, DELTA, ALPHA2):
            server.add(wheel.data, wheel.filename)
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module."""
    root = tmp_path_factory.mktemp("uvlock") / "pkgc"
    with running(root, host_calls=request.param == "client-acts") as instance:
        yield instance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder."""
    path = tmp_path / "app"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def shared(pkgc: Instance) -> Path:
    """An environment that every test brings to its own lock: a new one costs more than the sync."""
    return pkgc.root / "shared"


def write(folder: Path, *packages: dict[str, Any], **frame: Any) -> Path:
    """Write a uv.lock of these packages."""
    path = folder / "uv.lock"
    path.write_text(uvlock(*packages, **frame))
    return path


def pyproject(folder: Path, *lines: str, dependencies: str = "[]") -> None:
    """Write the pyproject.toml of `app`; `lines` follow its ``[project]`` table."""
    head = ["[project]", 'name = "app"', 'version = "0.1"', f"dependencies = {dependencies}"]
    (folder / "pyproject.toml").write_text("\n".join([*head, *lines]) + "\n")


def project(folder: Path, name: str) -> Path:
    """A source tree that builds without the network."""
    for path, data in project_files(name, "1.0").items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def of(index: IndexServer, wheel: BuiltWheel, *needs: Any, **other: Any) -> dict[str, Any]:
    """A package with the wheel as the index offers it."""
    return uv_package(wheel, index.url, index.file_url(wheel.filename), *needs, **other)


def would(pkgc: Instance, lock: Path, *options: str) -> dict[str, str]:
    """name -> version of what a sync of an environment that does not exist would install."""
    return versions(pkgc.sync(lock, "--dry-run", "--venv", "none", *options))


def record(venv: Path, name: str, file: str = "direct_url.json") -> dict[str, Any]:
    """An origin record of an installed package."""
    found: dict[str, Any] = json.loads((site(venv) / f"{name}-1.0.dist-info" / file).read_text())
    return found


def test_a_project_is_synced_like_uv_does(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """What the project needs, with its default group `dev`, by the lock's own URLs; nothing that only other
    platforms or nobody needs; and everything again without a request."""
    pyproject(folder)
    lock = write(
        folder,
        of(index, ALPHA, {"name": "beta", "extra": ["more"]}, {"name": "delta", "marker": ELSEWHERE}),
        uv_project("alpha", dev_dependencies={"dev": [{"name": "alpha"}], "docs": [{"name": "delta"}]}),
        of(index, BETA, optional_dependencies={"more": [{"name": "gamma"}]}),
        of(index, GAMMA),
        of(index, DELTA),
    )
    index.clear_log()
    venv = folder / ".venv"
    answer = pkgc.sync(cwd=folder)
    assert versions(answer) == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    assert answer["warnings"] == []
    assert (answer["index_requests"], index.page_requests()) == (0, [])
    assert record(venv, "alpha", "provenance_url.json")["url"] == index.file_url(ALPHA.filename)
    assert record(venv, "alpha", "provenance_url.json")["pkgc"]["index"] == index.url
    index.clear_log()
    assert pkgc.sync(lock, "--venv", venv)["kept"] == 3
    again = pkgc.sync(lock, "--venv", venv, "--reinstall")
    assert {one["from"] for one in again["installed"]} == {"store"}
    assert index.log == []


def test_extras_and_groups(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """The options choose as uv's do; default groups are those of pyproject.toml, else `dev`."""
    app = uv_project(
        optional_dependencies={"web": [{"name": "alpha"}], "all": [{"name": "app", "extra": ["web"]}]},
        dev_dependencies={"dev": [{"name": "beta"}], "docs": [{"name": "gamma"}]},
        metadata={"provides-extras": ["web", "all", "empty"]},
    )
    lock = write(folder, app, *(of(index, wheel) for wheel in (ALPHA, BETA, GAMMA)))
    for options, expected in (
        ([], "beta"),
        (["--no-default-groups"], ""),
        (["--extra", "web"], "alpha beta"),
        (["--extra", "ALL"], "alpha beta"),
        (["--extra", "empty", "--no-default-groups"], ""),
        (["--all-extras", "--group", "docs"], "alpha beta gamma"),
        (["--group", "docs", "--no-default-groups"], "gamma"),
    ):
        assert " ".join(would(pkgc, lock, *options)) == expected, options
    pyproject(folder, "[tool.uv]", 'default-groups = ["docs"]')
    assert " ".join(would(pkgc, lock)) == "gamma"
    assert " ".join(would(pkgc, lock, "--no-default-groups")) == ""
    pyproject(folder, "[tool.uv]", 'default-groups = "all"')
    assert " ".join(would(pkgc, lock)) == "beta gamma", "the edited pyproject.toml beside an unchanged lock"
    empty = pkgc.sync(lock, "--dry-run", "--venv", "none", "--no-default-groups")
    assert any("nothing is wanted" in one["message"] for one in empty["warnings"])


def test_conflicts(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """Extras that exclude each other bring each its own version, and both together are refused; so are
    groups."""
    conflicting = [
        [{"package": "app", "extra": "cpu"}, {"package": "app", "extra": "gpu"}],
        [{"package": "app", "group": "old"}, {"package": "app", "extra": "gpu"}],
    ]
    source = {"registry": index.url}
    one = {"name": "alpha", "version": "1.0", "source": source, "marker": "extra == 'extra-3-app-cpu'"}
    two = {
        "name": "alpha",
        "version": "2.0",
        "source": source,
        "marker": "extra == 'extra-3-app-gpu' or extra != 'extra-3-app-cpu'",
    }
    app = uv_project(
        one,
        two,
        optional_dependencies={
            "cpu": [{"name": "alpha", "version": "1.0", "source": source}],
            "gpu": [{"name": "alpha", "version": "2.0", "source": source}],
        },
        dev_dependencies={"old": [{"name": "beta"}]},
    )
    lock = write(folder, app, of(index, ALPHA), of(index, ALPHA2), of(index, BETA), conflicts=conflicting)
    assert would(pkgc, lock) == {"alpha": "2.0"}
    assert would(pkgc, lock, "--extra=cpu") == {"alpha": "1.0"}
    assert would(pkgc, lock, "--extra=gpu") == {"alpha": "2.0"}
    assert would(pkgc, lock, "--extra=cpu", "--group=old") == {"alpha": "1.0", "beta": "1.0"}
    for options, named in (
        (["--all-extras"], ("extra cpu of app", "extra gpu of app")),
        (["--extra=gpu", "--group=old"], ("extra gpu of app", "group old of app")),
    ):
        error = failure(pkgc, "sync", lock, "--venv", folder / "none", *options)
        assert (error["code"], error["exit"]) == ("conflicting-extras", 2)
        assert str(lock) in error["message"]
        for name in named:
            assert name in error["message"]
        assert error["hint"]


def test_forks(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """Of two versions of a project the target's is installed, as the markers of the edges say; a lock whose
    environments leave the target out is refused."""
    python = interpreters.running().version
    ours, other = f"python_full_version >= '{python}'", f"python_full_version < '{python}'"
    source = {"registry": index.url}
    app = uv_project(
        {"name": "alpha", "version": "1.0", "source": source, "marker": other},
        {"name": "alpha", "version": "2.0", "source": source, "marker": ours},
    )
    packages = [app]
    for wheel, marker in ((ALPHA, other), (ALPHA2, ours)):
        packages.append(of(index, wheel, resolution_markers=[marker]))
    lock = write(folder, *packages, resolution_markers=[ours, other])
    assert would(pkgc, lock) == {"alpha": "2.0"}
    older = interpreters.find("3.9")
    if older is not None:
        assert would(pkgc, lock, "--python", str(older.path)) == {"alpha": "1.0"}
    for key in ("resolution_markers", "supported_markers"):
        lock = write(folder, *packages, **{key: [ELSEWHERE]})
        error = failure(pkgc, "sync", lock, "--venv", folder / "none")
        assert (error["code"], error["exit"]) == ("unsupported-environment", 2)
        assert "nowhere" in error["context"]


def test_registries_of_files(pkgc: Instance, folder: Path, shared: Path) -> None:
    """A lock made with --find-links names a folder, seen from the lock; its files are hashed all the same."""
    wheel, sdist = make_wheel("flat", "1.0"), make_sdist("flatsrc", "1.0")
    for file in (wheel, sdist):
        file.write_to(folder / "house")
    source = {"registry": "house"}
    packages = [
        uv_project("flat", "flatsrc"),
        {
            "name": "flat",
            "version": "1.0",
            "source": source,
            "wheels": [uv_file(wheel, path=wheel.filename, size=None, hash=None)],
        },
        {
            "name": "flatsrc",
            "version": "1.0",
            "source": source,
            "sdist": uv_file(sdist, path=sdist.filename),
        },
    ]
    lock = write(folder, *packages)
    answer = pkgc.sync(lock, "--venv", shared, cwd=folder.parent)
    assert {one["name"]: one["from"] for one in answer["installed"]}["flatsrc"] == "build"
    assert versions(answer) == {"flat": "1.0", "flatsrc": "1.0"}
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 2
    changed = make_wheel("flat", "1.0", {"flat/__init__.py": "changed = 1\n"})
    changed.write_to(folder / "house")
    answer = pkgc.sync(lock, "--venv", shared)
    assert versions(answer) == {"flat": "1.0"}, "a file without a hash was replaced, and nobody noticed"
    assert (site(shared) / "flat/__init__.py").read_text() == "changed = 1\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServers]:
    """Git servers."""
    with GitServers(tmp_path_factory.mktemp("git")) as running_servers:
        yield running_servers


@needs_git
def test_direct_sources(
    pkgc: Instance, index: IndexServer, servers: GitServers, folder: Path, shared: Path
) -> None:
    """url, path, git, directory, editable and virtual: each installed, each with its record (PEP 610)."""
    by_url, by_path = make_wheel("byurl", "1.0"), make_sdist("bypath", "1.0")
    index.add(by_url.data, by_url.filename)
    by_path.write_to(folder / "vendor")
    project(folder / "libs/dirlib", "dirlib")
    project(folder / "libs/editlib", "editlib")
    name = f"repo{len(list(servers.folder.iterdir()))}"
    repository = servers.repository(name)
    files = {f"sub/{path}": data.decode() for path, data in project_files("gitlib", "1.0").items()}
    commit = repository.commit(files)
    repository.commit({"README": "later"})
    url = index.file_url(by_url.filename)
    packages = [
        uv_project("byurl", "bypath", "gitlib", "dirlib", "editlib", "virtlib"),
        {
            "name": "byurl",
            "version": "1.0",
            "source": {"url": url},
            "wheels": [uv_file(by_url, url)],
        },
        {
            "name": "bypath",
            "version": "1.0",
            "source": {"path": f"vendor/{by_path.filename}"},
            "sdist": uv_file(by_path, size=None),
        },
        {
            "name": "gitlib",
            "version": "1.0",
            "source": {"git": f"{servers.http(name)}?subdirectory=sub&branch=main#{commit}"},
        },
        {"name": "dirlib", "version": "1.0", "source": {"directory": "libs/dirlib"}},
        {"name": "editlib", "source": {"editable": "libs/editlib"}},
        {
            "name": "virtlib",
            "version": "9",
            "source": {"virtual": "libs/virtlib"},
            "dependencies": [{"name": "delta"}],
        },
        of(index, DELTA),
    ]
    lock = write(folder, *packages)
    answer = pkgc.sync(lock, "--venv", shared)
    names = ("byurl", "bypath", "gitlib", "dirlib", "editlib", "delta")
    assert versions(answer) == dict.fromkeys(names, "1.0")
    assert record(shared, "byurl")["url"] == url
    assert record(shared, "byurl")["archive_info"]["hashes"]["sha256"] == by_url.sha256
    assert record(shared, "bypath")["archive_info"]["hashes"]["sha256"] == by_path.sha256
    assert record(shared, "gitlib")["vcs_info"]["commit_id"] == commit
    assert record(shared, "gitlib")["subdirectory"] == "sub"
    assert record(shared, "dirlib")["dir_info"].get("editable", False) is False
    assert record(shared, "editlib")["dir_info"] == {"editable": True}
    assert not (site(shared) / "editlib").exists()
    servers.hits.clear()
    index.clear_log()
    assert pkgc.sync(lock, "--venv", shared)["kept"] == len(names)
    assert (index.log, servers.hits) == ([], [])
    # another commit in the lock is another thing to install
    text = lock.read_text()
    newer = repository.commit({**files, "sub/gitlib/__init__.py": "newer = 1\n"})
    lock.write_text(text.replace(commit, newer))
    assert versions(pkgc.sync(lock, "--venv", shared)) == {"gitlib": "1.0"}
    assert record(shared, "gitlib")["vcs_info"]["commit_id"] == newer


def test_the_project_itself(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """A project that can be installed is, editable, as uv does: its scripts work after the sync."""
    project(folder, "app")
    lock = write(folder, uv_project("alpha", source={"editable": "."}), of(index, ALPHA))
    assert versions(pkgc.sync(lock, "--venv", shared)) == {"app": "1.0", "alpha": "1.0"}
    assert record(shared, "app") == record(shared, "app") | {
        "url": folder.as_uri(),
        "dir_info": {"editable": True},
    }
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 2


def test_workspace(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """In the root's folder the root counts and the members that it needs; without a root, every member."""
    member = project(folder / "members/one", "one")
    project(folder / "members/two", "two")
    one = uv_project("alpha", name="one", source={"editable": "members/one"})
    two = uv_project("beta", name="two", source={"editable": "members/two"})
    wheels = [of(index, ALPHA), of(index, BETA)]
    lock = write(folder, uv_project("one"), one, two, *wheels, manifest={"members": ["app", "one", "two"]})
    assert would(pkgc, lock).keys() == {"one", "alpha"}
    lock = write(folder, one, two, *wheels, manifest={"members": ["one", "two"]})
    pkgc.sync(lock, "--venv", shared)
    assert holds(shared) == {"one": "1.0", "two": "1.0", "alpha": "1.0", "beta": "1.0"}
    assert record(shared, "one")["url"] == member.as_uri()
    lock = write(folder, one, *wheels, manifest={"members": ["one", "gone"]})
    error = failure(pkgc, "sync", lock, "--venv", shared)
    assert (error["code"], error["exit"]) == ("invalid-lock", 2)
    assert "'gone'" in error["message"]


def test_a_stale_lock_is_said(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """Who edits pyproject.toml and forgets `uv lock` is told what differs; the sync does what the lock says
    (as `uv sync --frozen`), and without a pyproject.toml beside it nothing is said."""
    app = uv_project("alpha", metadata={"requires-dist": [{"name": "alpha", "specifier": "==1.0"}]})
    lock = write(folder, app, of(index, ALPHA))
    pyproject(folder, dependencies='["alpha==1.0"]')
    assert pkgc.sync(lock, "--dry-run", "--venv", "none")["warnings"] == []
    pyproject(folder, dependencies='["alpha>=2", "newcomer"]')
    done = pkgc.ok("sync", lock, "--dry-run", "--venv", "none")
    assert "+ alpha==1.0" in done.out
    (warning,) = done.err.splitlines()
    for text in ("warning", str(lock), "newcomer", "alpha", "uv lock"):
        assert text in warning
    (folder / "pyproject.toml").write_text("[project\n")
    error = failure(pkgc, "sync", lock, "--dry-run", "--venv", "none")
    assert (error["code"], error["exit"]) == ("invalid-pyproject", 2)
    assert f"{folder / 'pyproject.toml'}:1" in error["message"]
    (folder / "pyproject.toml").unlink()
    assert pkgc.sync(lock, "--dry-run", "--venv", "none")["warnings"] == []


def test_hashes(pkgc: Instance, index: IndexServer, folder: Path, shared: Path) -> None:
    """A hash of the lock is checked whatever the algorithm, cached or not; a missing one is printed when
    hashes are demanded; the same bytes under another kind of lock are not installed again."""
    wheel = make_wheel("hashed", "1.0")
    index.add(wheel.data, wheel.filename)
    for cached in (False, True):
        if cached:
            pkgc.ok("fetch", write(folder, uv_project("hashed"), of(index, wheel)))
        for digest in (hashlib.sha512(wheel.data).hexdigest()[::-1], wheel.sha256[::-1]):
            algorithm = "sha512" if len(digest) == 128 else "sha256"
            file = uv_file(wheel, index.file_url(wheel.filename), hash=f"{algorithm}:{digest}")
            lock = write(folder, uv_project("hashed"), of(index, wheel, wheels=[file]))
            error = failure(pkgc, "sync", lock, "--venv", folder / "none")
            assert (error["code"], error["exit"]) == ("hash-mismatch", 1)
            for text in (digest, wheel.sha256, "uv.lock:12"):
                assert text in error["everything"]
    lock = write(folder, uv_project("hashed"), of(index, wheel))
    pkgc.sync(pkgc.requirements(pin(wheel)), "--venv", shared, "-i", index.url)
    before = snapshot(shared)
    index.clear_log()
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 1
    assert (snapshot(shared), index.log) == (before, [])
    bare = uv_file(wheel, index.file_url(wheel.filename), hash=None)
    lock = write(folder, uv_project("hashed"), of(index, wheel, wheels=[bare]))
    assert pkgc.sync(lock, "--venv", shared)["kept"] == 1
    error = failure(pkgc, "sync", lock, "--venv", shared, "--require-hashes")
    assert (error["code"], error["exit"]) == ("missing-hash", 2)
    for text in ("uv.lock:12", "--require-hashes", wheel.sha256):
        assert text in error["everything"]


def test_fetch_check_and_dry_run(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """CI asks with --check, people with --dry-run: neither downloads; fetch downloads and changes nothing.
    What cannot be in a cache (the project itself) is no obstacle."""
    wheel, sdist = make_wheel("looked", "1.0"), make_sdist("lookedsrc", "1.0")
    for file in (wheel, sdist):
        index.add(file.data, file.filename)
    project(folder, "app")
    source = uv_file(sdist, index.file_url(sdist.filename))
    lock = write(
        folder,
        uv_project("looked", "lookedsrc", source={"editable": "."}),
        of(index, wheel),
        {"name": "lookedsrc", "version": "1.0", "source": {"registry": index.url}, "sdist": source},
    )
    index.clear_log()
    assert pkgc.run("sync", "--check", cwd=folder).status == 1
    assert would(pkgc, lock).keys() == {"app", "looked", "lookedsrc"}
    assert index.log == []
    fetched = pkgc.ok("fetch", lock, "--output-format", "json").json["fetched"]
    assert {one["name"]: one["from"] for one in fetched} == {"looked": "network", "lookedsrc": "build"}
    assert not (folder / ".venv").exists()
    index.clear_log()
    answer = pkgc.sync(cwd=folder)
    assert {one["name"]: one["from"] for one in answer["installed"]} == {
        "app": "build",
        "looked": "store",
        "lookedsrc": "store",
    }
    assert index.log == []
    assert pkgc.run("sync", "--check", cwd=folder).status == 0
    assert pkgc.run("sync", "--check", "--no-build", cwd=folder).status == 0, "nothing has to be built"
    assert holds(folder / ".venv") == {"app": "1.0", "looked": "1.0", "lookedsrc": "1.0"}


def test_default_sources(pkgc: Instance, index: IndexServer, folder: Path) -> None:
    """Without SOURCE: pylock.toml, else uv.lock, else requirements.txt of the working directory, nothing of
    the folders above; and a named one when it is named."""
    (folder / "requirements.txt").write_text("delta==1.0\n")
    options = ("--dry-run", "--venv", "none", "-i", index.url)
    assert versions(pkgc.sync(*options, cwd=folder)) == {"delta": "1.0"}
    write(folder, uv_project("beta"), of(index, BETA))
    assert versions(pkgc.sync(*options, cwd=folder)) == {"beta": "1.0"}
    text = pylock(wheel_package(ALPHA, index.file_url(ALPHA.filename)))
    (folder / "pylock.ci.toml").write_text(text)
    assert versions(pkgc.sync(*options, cwd=folder)) == {"beta": "1.0"}, "a named pylock is never a default"
    (folder / "pylock.toml").write_text(text)
    assert versions(pkgc.sync(*options, cwd=folder)) == {"alpha": "1.0"}
    assert versions(pkgc.sync("uv.lock", *options, cwd=folder)) == {"beta": "1.0"}
    below = folder / "below"
    below.mkdir()
    error = failure(pkgc, "sync", *options, cwd=below)
    assert (error["code"], error["exit"]) == ("no-source", 2)
    for name in ("pylock.toml", "uv.lock", "requirements.txt"):
        assert name in error["message"]
    result = pkgc.run("fetch", cwd=folder)
    assert result.status == 2, "fetch has no default: what it should warm is said"
    assert "SOURCE" in result.err
