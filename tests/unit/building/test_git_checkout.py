"""Checkouts of commits, from real servers: what a build gets, and what stays in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.building.git import checkout_git, resolve_git
from pkgc_daemon.errors import InputError, PkgcError
from tests.support.gitserver import GitServers, git_variables, needs_git

pytestmark = needs_git

PROJECT = {"pyproject.toml": "[project]\nname = 'demo'\nversion = '1'\n"}
SCM = {"pyproject.toml": "[build-system]\nrequires = ['setuptools', 'setuptools-scm']\n"}


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody without any configuration of git; the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "SSH_"))]:
        monkeypatch.delenv(name)
    for name, value in git_variables(home).items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[GitServers]:
    """Servers of an empty folder."""
    with GitServers(tmp_path / "served") as started:
        yield started


class Desk:
    """Where checkouts are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "cache" / "git" / "demo"
        self.count = 0

    def checkout(self, url: str, commit: str | None = None, **more: Any) -> Path:
        """One checkout in a work folder of its own."""
        cancelled = more.pop("cancelled", None)
        progress = more.pop("progress", None)
        self.count += 1
        work = self.folder / f"work{self.count}"
        work.mkdir()
        args = {"url": url, "commit": commit, "requested": None, "work": str(work), "offline": False}
        args |= {"repository": str(self.repository)} | more
        return Path(checkout_git(args, progress, cancelled)["path"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty cache, and room for work."""
    return Desk(tmp_path)


def say(folder: Path, *arguments: str) -> str:
    """What git says in a checkout, as a build backend would ask it."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def refused(code: str, call: Callable[[], object]) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        call()
    assert caught.value.code == code, caught.value.to_wire()
    return caught.value


@pytest.mark.parametrize("kind", ["http", "git", "file"])
def test_a_commit_is_checked_out_and_kept(servers: GitServers, desk: Desk, kind: str) -> None:
    """The build gets exactly that commit, though it is no tip; the second time no server is asked."""
    repository = servers.repository("demo")
    repository.commit({**PROJECT, "a": "0"})
    commit = repository.commit({**PROJECT, "a": "1"})
    repository.commit({**PROJECT, "a": "2"})
    url = getattr(servers, kind)("demo")
    first = desk.checkout(url, commit)
    assert (first / "a").read_text() == "1"
    assert say(first, "rev-parse", "HEAD") == commit
    assert say(first, "status", "--porcelain") == ""
    assert say(first, "rev-list", "--count", "HEAD") == "1"  # without the history that nobody asked for
    before = len(servers.hits)
    second = desk.checkout(url, commit, offline=True)
    assert (second / "a").read_text() == "1"
    assert len(servers.hits) == before
    assert say(desk.repository, "for-each-ref", "--format=%(refname)") == f"refs/pkgc/{commit}"


def test_a_commit_that_is_not_advertised(tmp_path: Path, desk: Desk) -> None:
    """Servers that give only tips must not make a lock's commit uninstallable."""
    with GitServers(tmp_path / "old", version=0) as servers:
        repository = servers.repository("demo")
        commit = repository.commit({**PROJECT, "a": "1"}, "dev")
        repository.commit({**PROJECT, "a": "2"}, "dev")
        other = repository.commit({**PROJECT, "a": "other"})
        repository.commit({**PROJECT, "a": "another"})
        found = desk.checkout(servers.http("demo"), commit, requested="dev")
        assert (found / "a").read_text() == "1"
        assert not (desk.repository / "refs" / "pkgc" / "heads").exists()  # only that branch was fetched
        assert (desk.checkout(servers.http("demo"), other) / "a").read_text() == "other"
        assert (desk.repository / "refs" / "pkgc" / "heads").exists()


def test_a_commit_of_a_deleted_branch(tmp_path: Path, desk: Desk) -> None:
    """A commit that only another kind of name leads to (a pull request's) is found."""
    with GitServers(tmp_path / "old", version=0) as servers:
        repository = servers.repository("demo")
        repository.commit(PROJECT)
        commit = repository.commit({**PROJECT, "a": "1"}, "gone")
        repository.commit({**PROJECT, "a": "2"}, "gone")
        repository.git("update-ref", "refs/pull/1/head", "gone")
        repository.git("update-ref", "-d", "refs/heads/gone")
        assert (desk.checkout(servers.http("demo"), commit) / "a").read_text() == "1"


def test_a_commit_that_is_nowhere(servers: GitServers, desk: Desk) -> None:
    """After a forced push the error says which commit is gone, and from where."""
    servers.repository("demo").commit(PROJECT)
    error = refused(
        "unknown-revision", lambda: desk.checkout(servers.http("demo"), "12" * 20, requested="main")
    )
    assert "12" * 20 in error.message
    assert "/demo" in error.message
    assert "main" in str(error.context)
    assert "forced push" in str(error.hint)


def test_a_short_commit_is_completed(servers: GitServers, desk: Desk) -> None:
    """Seven digits, as people copy them, name their commit; offline, too, once it is kept."""
    repository = servers.repository("demo")
    commit = repository.commit({**PROJECT, "a": "1"})
    repository.commit({**PROJECT, "a": "2"})
    url = servers.http("demo")
    for short in (commit[:7], commit[:5], commit[:9].upper()):
        assert (desk.checkout(url, requested=short) / "a").read_text() == "1"
    assert (desk.checkout(url, requested=commit[:7], offline=True) / "a").read_text() == "1"
    refused("unknown-revision", lambda: desk.checkout(url, requested="0000000"))
    refused("not-in-cache", lambda: desk.checkout(url, requested="0000000", offline=True))


def test_an_ambiguous_short_commit_is_refused(servers: GitServers, desk: Desk) -> None:
    """The wrong one of two commits must not be installed."""
    repository = servers.repository("demo")
    seen: dict[str, str] = {}
    while True:
        commit = repository.commit({**PROJECT, "a": str(len(seen))})
        if commit[:4] in seen or len(seen) > 3000:
            break
        seen[commit[:4]] = commit
    error = refused("unknown-revision", lambda: desk.checkout(servers.git("demo"), requested=commit[:4]))
    assert set(str(error.context).split()) == {commit, seen[commit[:4]]}


def test_a_branch_is_looked_up_when_no_commit_is_given(servers: GitServers, desk: Desk) -> None:
    """What `requested` names now is what is built."""
    repository = servers.repository("demo")
    repository.commit({**PROJECT, "a": "main"})
    repository.commit({**PROJECT, "a": "dev"}, "dev")
    url = servers.http("demo")
    assert (desk.checkout(url, requested="dev") / "a").read_text() == "dev"
    assert (desk.checkout(url) / "a").read_text() == "main"
    error = refused("not-in-cache", lambda: desk.checkout(url, requested="dev", offline=True))
    assert "over the network" in str(error.context)


def test_versions_come_from_tags_and_history(servers: GitServers, desk: Desk) -> None:
    """setuptools-scm counts commits since the last tag: without them the wheel gets another version."""
    repository = servers.repository("demo")
    repository.commit(SCM)
    repository.tag("v1.0", annotated=True)
    repository.commit({**SCM, "a": "1"})
    commit = repository.commit({**SCM, "a": "2"})
    url = servers.http("demo")
    found = desk.checkout(url, commit)
    assert say(found, "describe", "--tags", "--long").startswith("v1.0-2-g")
    assert say(desk.checkout(url, commit, offline=True), "describe", "--tags", "--long").startswith(
        "v1.0-2-g"
    )


def test_a_tagged_commit_has_its_tag_without_history(servers: GitServers, desk: Desk) -> None:
    """A release needs its tag, and no more than that is fetched."""
    repository = servers.repository("demo")
    repository.commit(SCM)
    commit = repository.commit({**SCM, "a": "1"})
    repository.tag("1.0")
    repository.commit({**SCM, "a": "2"})
    found = desk.checkout(servers.http("demo"), commit)
    assert say(found, "describe", "--tags", "--exact-match") == "1.0"
    assert say(found, "rev-list", "--count", "HEAD") == "1"


def test_history_that_is_not_kept_is_said_offline(servers: GitServers, desk: Desk) -> None:
    """A wheel of a wrong version must not be built because the network is off."""
    repository = servers.repository("demo")
    repository.commit(SCM)
    repository.tag("v1.0")
    commit = repository.commit({**SCM, "a": "1"})
    url = servers.file("demo")
    desk.checkout(url, commit)
    (desk.repository / "shallow").write_text(commit + "\n")  # as if that had been interrupted
    error = refused("not-in-cache", lambda: desk.checkout(url, commit, offline=True))
    assert "history" in str(error.context)


def test_submodules_are_checked_out_recursively(servers: GitServers, desk: Desk, person: Path) -> None:
    """C libraries live in submodules; relative URLs of them are relative to the repository."""
    inner = servers.repository("inner")
    deep = inner.commit({"deep": "x"})
    inner.commit({"deep": "newer"})
    middle = servers.repository("middle")
    library = middle.commit({"lib": "y"}, submodules={"inner": ("../inner", deep)})
    commit = servers.repository("demo").commit(PROJECT, submodules={"lib": ("../middle", library)})
    for number, url in enumerate((servers.http("demo"), servers.file("demo"))):
        found = desk.checkout(url, commit, repository=str(desk.folder / f"cache{number}" / "demo"))
        assert (found / "lib" / "inner" / "deep").read_text() == "x"
    error = refused(
        "not-in-cache",
        lambda: desk.checkout(url, commit, repository=str(desk.folder / "cache1/demo"), offline=True),
    )
    assert "submodules" in str(error.context)


def test_a_remote_repository_has_no_local_submodules(servers: GitServers, desk: Desk, tmp_path: Path) -> None:
    """Whoever writes .gitmodules must not read the caller's other repositories (CVE-2022-39253)."""
    secret = servers.repository("secret")
    inner = secret.commit({"key": "k"})
    commit = servers.repository("demo").commit(PROJECT, submodules={"lib": (servers.file("secret"), inner)})
    error = refused("git-unreachable", lambda: desk.checkout(servers.http("demo"), commit))
    assert "not allowed" in str(error.context)


def test_a_submodule_from_the_network_has_no_local_ones(servers: GitServers, desk: Desk) -> None:
    """That a local repository may have local submodules is no right of what it fetches."""
    secret = servers.repository("secret")
    inner = secret.commit({"key": "k"})
    middle = servers.repository("middle").commit(
        {"a": "1"}, submodules={"in": (servers.file("secret"), inner)}
    )
    demo = servers.repository("demo")
    remote = demo.commit(PROJECT, submodules={"lib": (servers.http("middle"), middle)})
    error = refused("git-unreachable", lambda: desk.checkout(servers.file("demo"), remote))
    assert "not allowed" in str(error.context)
    local = demo.commit(PROJECT, submodules={"lib": (servers.file("middle"), middle)})
    assert (desk.checkout(servers.file("demo"), local) / "lib" / "in" / "key").read_text() == "k"


def test_a_submodule_runs_no_program(servers: GitServers, desk: Desk, person: Path, tmp_path: Path) -> None:
    """ext:: URLs are commands; those of a lock are not run, whatever its user allows himself."""
    proof = tmp_path / "proof"
    (person / ".gitconfig").write_text('[protocol]\n\tallow = always\n[protocol "ext"]\n\tallow = always\n')
    commit = servers.repository("demo").commit(
        PROJECT, submodules={"lib": (f"ext::sh -c touch% {proof}", "12" * 20)}
    )
    with pytest.raises(PkgcError):
        desk.checkout(servers.file("demo"), commit)
    assert not proof.exists()


def test_hooks_and_variables_of_the_caller_do_no_harm(
    servers: GitServers, desk: Desk, person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pkgc runs in a git hook, too (GIT_DIR is set there), and with hooks configured for everything."""
    proof = tmp_path / "proof"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (hooks / name).chmod(0o755)
    (person / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n[alias]\n\tfetch = !touch {proof}\n")
    own = servers.repository("own")
    own.commit({"x": "y"})
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(own.folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "own-index"))
    before = own.git("for-each-ref")
    commit = servers.repository("demo").commit({**PROJECT, "a": "1"})
    assert (desk.checkout(servers.http("demo"), commit) / "a").read_text() == "1"
    assert not proof.exists()
    assert not (tmp_path / "own-index").exists()
    assert own.git("for-each-ref") == before


def test_the_subdirectory_must_be_inside(servers: GitServers, desk: Desk) -> None:
    """A link in a repository must not have another folder of the caller built."""
    commit = servers.repository("demo").commit(
        {"deep/er/pyproject.toml": "", **PROJECT}, links={"out": "../..", "in": "deep"}
    )
    url = servers.http("demo")
    assert (desk.checkout(url, commit, subdirectory="in/er") / "deep" / "er" / "pyproject.toml").exists()
    for hostile in ("out", "../x", "/etc", "deep/../../.."):
        with pytest.raises(InputError) as caught:
            desk.checkout(url, commit, subdirectory=hostile)
        assert caught.value.code == "subdirectory-outside"


def damage_config(repository: Path) -> None:
    (repository / "config").write_text("[core\n")


def damage_head(repository: Path) -> None:
    (repository / "HEAD").unlink()


def damage_objects(repository: Path) -> None:
    for path in (repository / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] + b"\0" * 64 + data[len(data) // 2 + 64 :])


def lose_objects(repository: Path) -> None:
    shutil.rmtree(repository / "objects" / "pack")
    for folder in (repository / "objects").glob("??"):
        shutil.rmtree(folder)


def be_a_file(repository: Path) -> None:
    shutil.rmtree(repository)
    repository.write_text("")


def lose_refs(repository: Path) -> None:
    for path in (repository / "refs" / "pkgc").iterdir():
        path.write_text("")


@pytest.mark.parametrize(
    "damage",
    [damage_config, damage_head, damage_objects, lose_objects, be_a_file, lose_refs],
    ids=lambda f: f.__name__,
)
def test_a_damaged_cache_is_fetched_again(
    servers: GitServers, desk: Desk, damage: Callable[[Path], None]
) -> None:
    """Damage on disk costs a fetch, not an error that only deleting the cache would end."""
    commit = servers.repository("demo").commit({**PROJECT, "a": "1"})
    url = servers.http("demo")
    desk.checkout(url, commit)
    damage(desk.repository)
    refused("not-in-cache", lambda: desk.checkout(url, commit, offline=True))
    assert (desk.checkout(url, commit) / "a").read_text() == "1"
    assert (desk.checkout(url, commit, offline=True) / "a").read_text() == "1"
    assert sorted(path.name for path in desk.repository.parent.iterdir()) == ["demo", "demo.lock"]


def test_locks_of_a_killed_git_do_not_stay(servers: GitServers, desk: Desk) -> None:
    """git refuses to work where another git was killed; nobody would know which file to delete."""
    repository = servers.repository("demo")
    first = repository.commit({**PROJECT, "a": "1"})
    url = servers.http("demo")
    desk.checkout(url, first)
    second = repository.commit({**PROJECT, "a": "2"})
    for name in ("shallow.lock", "config.lock", f"refs/pkgc/{second}.lock", "objects/pack/tmp_pack_x"):
        (desk.repository / name).write_text("")
    assert (desk.checkout(url, second) / "a").read_text() == "2"
    assert not list(desk.repository.rglob("tmp_pack*"))


def test_two_at_once_fetch_once(servers: GitServers, desk: Desk) -> None:
    """Eight jobs of one host cost one fetch, and all of them get the files."""
    commit = servers.repository("demo").commit({**PROJECT, **{f"f{n}": str(n) * 2000 for n in range(50)}})
    url = servers.http("demo")
    works = [desk.folder / f"job{number}" for number in range(6)]

    def one(work: Path) -> str:
        work.mkdir()
        args = {"url": url, "commit": commit, "requested": None, "repository": str(desk.repository)}
        path: str = checkout_git({**args, "work": str(work), "offline": False})["path"]
        return (Path(path) / "f7").read_text()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(one, works)) == {"7" * 2000}
    assert sum(hit.startswith("GET") for hit in servers.hits) == 1


def test_a_repository_with_sha256(servers: GitServers, desk: Desk) -> None:
    """git has another kind of repository; a cache of one kind gives way to the other."""
    old = servers.repository("demo").commit({**PROJECT, "a": "1"})
    repository = servers.repository("new", "sha256")
    repository.commit({**PROJECT, "a": "1"})
    commit = repository.commit({**PROJECT, "a": "2"})
    assert len(commit) == 64
    url = servers.http("new")
    assert resolve_git({"url": url, "requested": "main"}) == {"commit": commit}
    desk.checkout(servers.http("demo"), old)
    for wanted in ({"commit": commit}, {"requested": commit[:9]}, {"requested": commit}, {}):
        assert (desk.checkout(url, **wanted) / "a").read_text() == "2"


def test_cancel_stops_git(servers: GitServers, desk: Desk) -> None:
    """Ctrl-C must not leave a git behind that goes on downloading."""
    commit = servers.repository("demo").commit(PROJECT)
    servers.silent.set()
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    url = servers.http("demo")
    error = refused("interrupted", lambda: desk.checkout(url, commit, cancelled=stop.is_set))
    assert time.monotonic() - began < 8
    assert error.exit_status == 130
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert url not in running
    servers.silent.clear()
    servers.over.set()
    assert (desk.checkout(url, commit) / "pyproject.toml").exists()


def test_progress_is_told(servers: GitServers, desk: Desk) -> None:
    """A long fetch shows how far it is."""
    commit = servers.repository("demo").commit(
        {**PROJECT, **{f"f{n}": os.urandom(8).hex() for n in range(300)}}
    )
    told: list[tuple[int, int]] = []
    desk.checkout(servers.http("demo"), commit, progress=lambda done, total: told.append((done, total)))
    assert told
    assert all(0 <= done <= total for done, total in told)


def test_the_commit_may_not_be_an_option(servers: GitServers, desk: Desk) -> None:
    """A lock is not a command line."""
    for hostile in ("--upload-pack=touch x", "-x", "a b", "HEAD~1"):
        with pytest.raises(InputError) as caught:
            desk.checkout(servers.http("demo"), hostile)
        assert caught.value.code == "invalid-revision"
