"""Origins (complaint 4): the same name and version from elsewhere is another thing, also when installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import interpreters
from tests.support.gitserver import Repository, needs_git
from tests.support.instance import Instance, clean_environment, snapshot
from tests.support.locks import impatient, importing, make_venv, site
from tests.support.peertools import UV, run, uv_environment
from tests.support.sdists import project_files
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for this module."""
    host_calls = request.param == "client-acts"
    with impatient(tmp_path_factory.mktemp("origins") / "pkgc", host_calls=host_calls) as instance:
        yield instance


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every place from which a project of this module can come."""
    root = tmp_path_factory.mktemp("places")
    with IndexServer() as server:
        yield World(server, root, Repository(root / "repository"))


#: The indexes: a and its mirror have the same bytes, b has its own, bare gives no hashes (for a's bytes).
INDEXES = ("a", "b", "mirror", "bare")


@dataclass
class World:
    """Places; what a project says of itself (``where``) tells which of two versions was installed."""

    server: IndexServer
    root: Path
    repository: Repository
    wheels: dict[str, dict[str, BuiltWheel]] = field(default_factory=dict)
    """Project -> index -> what that serves."""
    lines: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """Project -> key of `KEYS` -> (line of a lock, the index that serves it)."""

    def add(self, name: str, keys: Collection[str] = ("directory", "git")) -> None:
        """Put version 1.0 of a project everywhere: where it is source, only if one of `keys` is that."""
        if name in self.lines:
            return
        wheels = {at: make_wheel(name, "1.0", {f"{name}.py": f"where = {at!r}\n"}) for at in ("a", "b")}
        wheels |= {"mirror": wheels["a"], "bare": wheels["a"]}
        for at, wheel in wheels.items():
            self.server.add(wheel.data, wheel.filename, at != "bare", index=at)
        wheels["a"].write_to(self.root)
        tree = self.root / "trees" / name
        if not {"directory", "editable"}.isdisjoint(keys):
            contents = project_files(name, "1.0", {f"{name}/__init__.py": "where = 'tree'\n"})
            for path, data in contents.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_bytes(data)
        if "git" in keys:
            contents = project_files(name, "1.0", {f"{name}/__init__.py": "where = 'git'\n"})
            self.repository.commit({path: data.decode() for path, data in contents.items()}, branch=name)
        url = self.server.file_url(wheels["a"].filename, "a")
        hashes = {at: f"--hash=sha256:{wheels[at].sha256}" for at in ("a", "b")}
        self.wheels[name] = wheels
        self.lines[name] = {
            **{at: (f"{name}==1.0", at) for at in INDEXES},
            **{f"{at} hashed": (f"{name}==1.0 {hashes[at]}", at) for at in ("a", "b")},
            "url": (f"{name} @ {url}", ""),
            "url hashed": (f"{name} @ {url} {hashes['a']}", ""),
            "url hashed otherwise": (f"{name} @ {url} {hashes['b']}", ""),
            "path": (str(self.root / wheels["a"].filename), ""),
            "directory": (f"{name} @ file://{tree}", ""),
            "editable": (f"-e {tree}", ""),
            "git": (f"{name} @ git+file://{self.repository.folder}@{name}", ""),
        }

    def options(self, pins: Mapping[str, str]) -> list[str]:
        """The arguments by which each project comes from its index."""
        args = [f"--index={at}={self.server.index_url(at)}" for at in INDEXES]
        return [*args, *(f"--pin-index={name}={at}" for name, at in pins.items())]


KEYS = (
    *("a", "a hashed", "b", "b hashed", "mirror", "bare"),
    *("url", "url hashed", "url hashed otherwise", "path", "directory", "editable", "git"),
)


def lock_of(pkgc: Instance, world: World, chosen: Mapping[str, tuple[str, str]]) -> list[str | Path]:
    """The arguments of a sync that wants these lines: project -> (line, index)."""
    lock = pkgc.requirements("--no-require-hashes", *(line for line, _ in chosen.values()))
    return [lock, *world.options({name: index for name, (_, index) in chosen.items() if index})]


def reasons(pkgc: Instance, venv: Path, args: Sequence[str | Path]) -> dict[str, str]:
    """project -> why a sync would replace it; nothing is changed."""
    answer = pkgc.sync(*args, "--venv", venv, "--dry-run")
    assert len(answer["installed"]) == len(answer["removed"])
    return {one["name"].replace("-", "_"): one["reason"] for one in answer["installed"]}


Install = Callable[[Instance, "World", Path, Mapping[str, str]], None]


def by_pkgc(pkgc: Instance, world: World, venv: Path, wanted: Mapping[str, str]) -> None:
    """Install these lines of `lines` (project -> key)."""
    pkgc.sync(
        *lock_of(pkgc, world, {name: world.lines[name][key] for name, key in wanted.items()}), "--venv", venv
    )


def by_uv(_: Instance, world: World, venv: Path, wanted: Mapping[str, str]) -> None:
    """The same by uv."""
    command = [str(UV), "pip", "install", "--no-deps", "--default-index", world.server.index_url("a")]
    texts = [world.lines[name][key][0] for name, key in wanted.items()]
    run([*command, *texts], uv_environment(world.root / "uv", VIRTUAL_ENV=str(venv)))


def by_pip(_: Instance, world: World, venv: Path, wanted: Mapping[str, str]) -> None:
    """The same by pip."""
    command = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--no-deps"]
    options = ["--no-cache-dir", "--quiet", "--disable-pip-version-check", "--no-compile"]
    texts = [world.lines[name][key][0] for name, key in wanted.items()]
    run([*command, *options, "-i", world.server.index_url("a"), *texts], clean_environment())


@dataclass(frozen=True)
class Case:
    """Something installed, and what of `KEYS` it satisfies."""

    by: Install
    key: str
    keeps: tuple[str, ...]
    told: str
    """What the reason says of the installed one; PLACE is that of its line."""


CASES = {
    "index": Case(by_pkgc, "a", ("a", "a hashed", "mirror", "bare"), "installed from index PLACE"),
    "other index": Case(by_pkgc, "b", ("b", "b hashed"), "installed from index PLACE"),
    "url": Case(by_pkgc, "url", ("url", "url hashed"), "installed from PLACE"),
    "path": Case(by_pkgc, "path", ("path",), "installed from file://PLACE"),
    "index by uv": Case(by_uv, "a", ("a", "b", "mirror", "bare"), "installed by uv, origin unknown"),
    "url by uv": Case(by_uv, "url", (), "installed from PLACE"),
    "index by pip": Case(by_pip, "a", ("a", "b", "mirror", "bare"), "installed by pip, origin unknown"),
    "url by pip": Case(by_pip, "url", ("url", "url hashed"), "installed from PLACE"),
    "path by pip": Case(by_pip, "path", ("path",), "installed from file://PLACE"),
}


def check_reason(world: World, case: Case, name: str, key: str, reason: str | None) -> None:
    """Kept where it may be, else replaced for a reason that names what is there and what is wanted."""
    where = f"{case} for {key}: {reason}"
    if key in case.keeps:
        assert reason is None, where
        return
    assert reason is not None, where
    assert reason.startswith(f"{name.replace('_', '-')} 1.0: "), where
    line, index = world.lines[name][case.key]
    place = world.server.index_url(index) if index else line.rpartition(" ")[2]
    same_place = case.key == "url" and key.startswith("url")
    if same_place and case.by is by_uv:
        assert "installed by uv without a record of what" in reason, where
        return
    assert case.told.replace("PLACE", place) in reason, where
    wanted = world.lines[name][key][0]
    direct = case.key in ("url", "path")
    if key in INDEXES or "==" in wanted:
        sha256 = world.wheels[name]["b" if key.startswith("b ") or key == "b" else "a"].sha256
        at = world.lines[name][key][1]
        index = f"the lock wants it from index {at} ({world.server.index_url(at)})"
        assert (index if direct else f"sha256:{sha256}") in reason, where
    elif same_place:
        assert f"the lock wants sha256:{world.wheels[name]['b'].sha256}" in reason, where
    else:
        expected = {"git": str(world.repository.folder), "editable": "editable"}.get(key)
        expected = expected or wanted.partition(" --hash")[0].rpartition(" ")[2].removeprefix("file://")
        assert "the lock wants it from" in reason, where
        assert expected in reason, where


@needs_git
@pytest.mark.parametrize("name", CASES)
def test_what_is_installed_satisfies_what_it_is(pkgc: Instance, world: World, name: str) -> None:
    """T8: the code of one origin stays under the name of another, and nobody hears of it."""
    case, stem = CASES[name], name.replace(" ", "_")
    names = {f"{stem}_{key}".replace(" ", "_"): key for key in KEYS}
    venv = world.root / f"venv {stem} {'' if case.by is not by_pkgc else pkgc.root.parent.name}"
    for one, key in names.items():
        world.add(one, [key])
    if not venv.exists():  # what others install does not depend on who acts
        if case.by is not by_pkgc:
            make_venv(venv, interpreters.running().path)
        case.by(pkgc, world, venv, dict.fromkeys(names, case.key))
    before = snapshot(venv)
    found = reasons(
        pkgc, venv, lock_of(pkgc, world, {one: world.lines[one][key] for one, key in names.items()})
    )
    for one, key in names.items():
        check_reason(world, case, one, key, found.get(one))
    assert snapshot(venv) == before


@needs_git
@pytest.mark.parametrize("key", ["directory", "editable", "git"])
def test_what_was_built_satisfies_only_its_source(pkgc: Instance, world: World, key: str) -> None:
    """A local build is what a developer tries out: a lock that wants the release gets the release."""
    name = f"built_{key}"
    world.add(name)
    venv = world.root / f"venv {key} {pkgc.root.parent.name}"
    by_pkgc(pkgc, world, venv, {name: key})
    for wanted in ("a hashed", "url", "directory", "editable", "git"):
        found = reasons(pkgc, venv, lock_of(pkgc, world, {name: world.lines[name][wanted]}))
        if wanted == key:
            assert found == {}
            continue
        place = world.repository.folder if key == "git" else world.root / "trees" / name
        assert f"{place}" in found[name].partition(", the lock wants it from")[0], wanted
        assert found[name].startswith(f"built-{key} 1.0: installed from "), wanted


@needs_git
def test_every_origin_takes_the_place_of_every_other(pkgc: Instance, world: World, tmp_path: Path) -> None:
    """What is imported after a sync is what the lock says, whatever was there before; the records say where
    it came from (PEP 610, PEP 710), and --check tells before and after."""
    world.add("walker")
    venv = make_venv(tmp_path / "venv", interpreters.running().path)
    steps = (
        ("a", "a", "provenance_url.json"),
        ("b", "b", "provenance_url.json"),
        ("url", "a", "direct_url.json"),
        ("directory", "tree", "direct_url.json"),
        ("path", "a", "direct_url.json"),
        ("git", "git", "direct_url.json"),
        ("editable", "tree", "direct_url.json"),
        ("a", "a", "provenance_url.json"),
    )
    for key, where, record in steps:
        args = lock_of(pkgc, world, {"walker": world.lines["walker"][key]})
        untouched = snapshot(venv)
        assert pkgc.run("sync", *args, "--venv", venv, "--check").status == 1, key
        assert snapshot(venv) == untouched
        pkgc.sync(*args, "--venv", venv)
        assert importing(venv, "import walker; print(walker.where)") == where, key
        info = next(site(venv).glob("walker-1.0.dist-info"))
        records = {path.name: path for path in info.glob("*_url.json")}
        assert list(records) == [record], key
        line = world.lines["walker"][key][0]
        url = json.loads(records[record].read_text())["url"]
        if record == "direct_url.json":
            assert url.removeprefix("file://") in line, key
        else:
            assert url == world.server.file_url("walker-1.0-py3-none-any.whl", key)
        assert pkgc.run("sync", *args, "--venv", venv, "--check").status == 0, key


def test_an_unhashed_pin_follows_the_index_that_is_asked_now(
    pkgc: Instance, index: IndexServer, tmp_path: Path
) -> None:
    """A release that was replaced in place, or that another index has in other bytes, is installed anew; the
    same bytes on another index are no reason to touch anything."""
    old, new = make_wheel("follow", "1.0"), make_wheel("follow", "1.0", {"follow.py": "new = 1\n"})
    for at in ("one", "mirror"):
        index.add(old.data, old.filename, index=at)
    lock, venv = pkgc.requirements("follow==1.0"), tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.index_url("one"))
    before = snapshot(venv)
    index.clear_log()
    assert pkgc.sync(lock, "--venv", venv, "-i", index.index_url("mirror"))["kept"] == 1
    assert snapshot(venv) == before
    assert index.requests_for(old.filename) == []
    index.add(new.data, new.filename, index="mirror")
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.index_url("mirror"), "--check").status == 1
    (one,) = pkgc.sync(lock, "--venv", venv, "-i", index.index_url("mirror"))["installed"]
    assert one["sha256"] == new.sha256
    assert f"sha256:{new.sha256}" in one["reason"]
    assert index.index_url("one") in one["reason"]
    (one,) = pkgc.sync(lock, "--venv", venv, "-i", index.index_url("one"))["installed"]
    assert (one["sha256"], one["from"]) == (old.sha256, "store")


@pytest.mark.parametrize("validator", ["etag", "last-modified", "none"])
def test_an_index_without_hashes_is_asked_for_the_bytes(
    pkgc: Instance, index: IndexServer, tmp_path: Path, validator: str
) -> None:
    """Complaint 5, for indexes that advertise nothing: bytes are fetched only if they changed, as far as the
    server can tell; and what did not change is not installed again."""
    name = f"plain_{validator}".replace("-", "_")
    old, new = make_wheel(name, "1.0"), make_wheel(name, "1.0", {f"{name}.py": "new = 1\n"})
    how = {
        "etag": Behaviour(times=None),
        "last-modified": Behaviour(times=None, etag=None, last_modified="Mon, 02 Nov 2020 10:00:00 GMT"),
        "none": Behaviour(times=None, etag=None),
    }[validator]
    index.add(old.data, old.filename, hashes=False)
    index.behave(old.filename, how)
    lock, venv = pkgc.requirements(f"{name}==1.0"), tmp_path / "venv"
    pkgc.sync(lock, "--venv", venv, "-i", index.url)
    before = snapshot(venv)
    status = 200 if validator == "none" else 304
    index.clear_log()
    answer = pkgc.sync(lock, "--venv", venv, "-i", index.url)
    assert (answer["kept"], answer["installed"]) == (1, [])
    assert [hit.status for hit in index.requests_for(old.filename)] == [status]
    assert snapshot(venv) == before
    index.clear_log()
    (one,) = pkgc.sync(lock, "--venv", tmp_path / "fresh", "-i", index.url)["installed"]
    assert one["sha256"] == old.sha256
    assert [hit.status for hit in index.requests_for(old.filename)] == [status]
    index.behave_well()
    index.add(new.data, new.filename, hashes=False)
    assert pkgc.run("sync", lock, "--venv", venv, "-i", index.url, "--check").status == 1
    (one,) = pkgc.sync(lock, "--venv", venv, "-i", index.url)["installed"]
    assert one["sha256"] == new.sha256
    assert new.sha256 in one["reason"]


def test_the_store_keeps_them_apart(pkgc: Instance, index: IndexServer, tmp_path: Path) -> None:
    """Two indexes, one file name: each environment gets the bytes of its lock, offline too, and the catalog
    knows which is from where."""
    wheels = {at: make_wheel("twin", "1.0", {"twin.py": f"where = {at!r}\n"}) for at in ("left", "right")}
    for at, wheel in wheels.items():
        index.add(wheel.data, wheel.filename, index=at)
        pkgc.ok("fetch", pkgc.requirements("twin==1.0"), "-i", index.index_url(at))
    listed = pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
    found = {one["sha256"]: one["origins"] for one in listed if one["name"] == "twin"}
    assert found == {wheel.sha256: [index.file_url(wheel.filename, at)] for at, wheel in wheels.items()}
    for at, wheel in wheels.items():
        lock = pkgc.requirements(f"twin==1.0 --hash=sha256:{wheel.sha256}")
        venv = tmp_path / at
        (one,) = pkgc.sync(lock, "--venv", venv, "--offline")["installed"]
        assert (one["sha256"], one["origin"]["index"]) == (wheel.sha256, index.index_url(at))
        assert importing(venv, "import twin; print(twin.where)") == at
