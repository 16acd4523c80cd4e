"""Projects in git repositories: branches that move, tags, commits, submodules, servers that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import COUNTING, Bench, origins, shared_instance
from tests.support.gitserver import GitServers, Repository, needs_git
from tests.support.instance import Instance, snapshot
from tests.support.locks import holds, importing
from tests.support.sdists import project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

pytestmark = needs_git


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for all tests of this module; each has repositories and a TMPDIR of its own."""
    with shared_instance(tmp_path_factory.mktemp("git") / "pkgc", request.param) as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[GitServers]:
    """Git servers on loopback."""
    with GitServers(tmp_path / "served") as running:
        yield running


def project(name: str, state: str, version: str = "1.0") -> dict[str, str]:
    """The files of a project whose module says `state`."""
    files = {f"{name}/__init__.py": f"state = {state!r}\n"}
    made = project_files(name, version, files, backend=COUNTING)
    return {path: data.decode() for path, data in made.items()}


def state_of(bench: Bench, name: str, venv: str = "venv") -> str:
    """What the module in the environment says."""
    return importing(bench.venv(venv), f"import {name}; print({name}.state)")


def test_branch_that_moves_is_followed(bench: Bench, servers: GitServers) -> None:
    """The content behind `@main` changes: a sync that does not look leaves old code installed for months."""
    repository = servers.repository("app")
    first = repository.commit(project("app", "first"))
    line = f"app @ git+{servers.http('app')}@main"
    assert origins(bench.sync(line)) == {"app": "build"}
    assert state_of(bench, "app") == "first"
    record = bench.record("app")
    assert record["url"] == servers.http("app")
    assert record["vcs_info"] == {"vcs": "git", "requested_revision": "main", "commit_id": first}
    answer = bench.sync(line)
    assert (answer["kept"], answer["installed"], bench.builds("app")) == (1, [], 1)
    second = repository.commit(project("app", "second"))
    assert bench.pkgc.run(*bench.argv((line,), "venv", ("--check",))).status == 1
    result = bench.run(line)
    assert result.status == 0, str(result)
    assert f"~ app==1.0 (commit {first[:12]}… → {second[:12]}…)" in result.out
    assert state_of(bench, "app") == "second"
    assert bench.record("app")["vcs_info"]["commit_id"] == second
    assert origins(bench.sync(line, venv="second")) == {"app": "store"}
    assert bench.builds("app") == 2
    assert bench.leftovers() == []


def test_every_way_to_name_a_revision(bench: Bench, servers: GitServers) -> None:
    """Tags, annotated or not, other branches, whole and short commits, none at all: what pip takes."""
    repository = servers.repository("app")
    old = repository.commit(project("app", "old"))
    repository.tag("v1")
    middle = repository.commit(project("app", "middle"))
    repository.tag("v2", annotated=True)
    side = repository.commit(project("app", "side"), branch="feature/x")
    tip = repository.commit(project("app", "tip"))
    url = f"git+{servers.file('app')}"
    for revision, commit, state in (
        ("", tip, "tip"),
        ("@v1", old, "old"),
        ("@v2", middle, "middle"),
        ("@feature/x", side, "side"),
        (f"@{middle}", middle, "middle"),
        ("@refs/heads/feature/x", side, "side"),
        (f"@{old[:10]}", old, "old"),
    ):
        bench.sync(f"app @ {url}{revision}")
        assert state_of(bench, "app") == state, revision
        record = bench.record("app")["vcs_info"]
        assert record["commit_id"] == commit
        assert record.get("requested_revision") == (revision[1:] or None)
    # Another name of the same commit is the same build; only the record becomes another one.
    result = bench.run(f"app @ {url}@v1")
    assert "(the same commit)" in result.out, str(result)
    assert bench.record("app")["vcs_info"]["requested_revision"] == "v1"
    assert bench.sync(f"app @ {url}@v1")["kept"] == 1
    assert bench.builds("app") == 4
    # A whole commit needs nobody (invariant 2).
    (bench.folder / "served/app").rename(bench.folder / "away")
    line = f"app @ {url}@{middle}"
    assert origins(bench.sync(line)) == {"app": "store"}
    assert bench.sync(line)["kept"] == 1
    assert bench.fails(f"app @ {url}@v1")["code"] == "git-unreachable"


def test_other_transports_names_and_subdirectories(bench: Bench, servers: GitServers) -> None:
    """git:, file:, bare URLs with #egg=, a project deep in the repository, -e of a repository."""
    repository = servers.repository("mono")
    files = {f"py/{path}": data for path, data in project("deep", "deep").items()}
    commit = repository.commit({"README": "two projects", **files, **project("top", "top")})
    lines = (
        f"git+{servers.git('mono')}@main#egg=top",
        f"deep @ git+{servers.file('mono')}@{commit}#subdirectory=py",
    )
    bench.sync(*lines)
    assert (state_of(bench, "top"), state_of(bench, "deep")) == ("top", "deep")
    assert bench.record("top")["url"] == servers.git("mono")
    record = bench.record("deep")
    assert (record["url"], record["subdirectory"]) == (servers.file("mono"), "py")
    assert bench.sync(*lines)["kept"] == 2
    error = bench.fails(f"deep @ git+{servers.http('mono')}@main#subdirectory=nowhere")
    assert error["exit"] in (1, 2), error
    assert "nowhere" in error["everything"]
    assert holds(bench.venv()) == {"deep": "1.0", "top": "1.0"}


def test_submodules_come_along(bench: Bench, servers: GitServers) -> None:
    """Projects keep C libraries in submodules: without them they do not build, or build something else."""
    library = servers.repository("library")
    part = library.commit({"__init__.py": "state = 'in a submodule'\n"})
    main = servers.repository("main")
    files = project("outer", "outer")
    main.commit(files, submodules={"outer/vendored": (servers.http("library"), part)})
    bench.sync(f"outer @ git+{servers.http('main')}")
    assert importing(bench.venv(), "import outer.vendored as v; print(v.state)") == "in a submodule"


def test_offline_uses_what_is_there_and_says_so(bench: Bench, servers: GitServers) -> None:
    """On a train: what was fetched once is installed from the cache; what was not is an error at once."""
    repository = servers.repository("app")
    first = repository.commit(project("app", "first"))
    line = f"app @ git+{servers.http('app')}@main"
    bench.sync(line)
    repository.commit(project("app", "second"))
    servers.hits.clear()
    answer = bench.sync(line, options=("--offline",))
    assert answer["kept"] == 1
    (warning,) = answer["warnings"]
    assert warning["code"] == "not-revalidated"
    assert first in warning["message"]
    assert origins(bench.sync(line, venv="second", options=("--offline",))) == {"app": "store"}
    assert origins(bench.sync(f"app @ git+{servers.http('app')}@{first}", venv="third")) == {"app": "store"}
    for unknown in ("other", "0" * 40):
        error = bench.fails(f"app @ git+{servers.http('app')}@{unknown}", options=("--offline",))
        assert (error["code"], error["exit"]) == ("not-in-cache", 1), error
        assert "--offline" in error["everything"]
    assert servers.hits == []
    assert state_of(bench, "app") == "first"


def test_repositories_and_revisions_that_are_not_there(bench: Bench, servers: GitServers) -> None:
    """A server that is down, a repository that was renamed, a branch that was deleted: one clear error each,
    without questions for a password, and the environment stays."""
    repository: Repository = servers.repository("app")
    repository.commit(project("app", "here"))
    bench.offer(make_wheel("kept", "1.0"))
    bench.sync("kept==1.0")
    before = snapshot(bench.venv())
    gone = GitServers(bench.folder / "gone")
    with gone:
        nobody = gone.http("app", userinfo="me:hunter2")
    with GitServers(bench.folder / "served", auth=("me", "right")) as guarded:
        private = guarded.http("app", userinfo="me:hunter2")
        for url, revision, code, said in (
            (nobody, "main", "git-unreachable", "127.0.0.1"),
            (servers.http("nothing"), "main", "git-unreachable", "nothing"),
            (servers.http("app"), "nope", "unknown-revision", "nope"),
            (servers.http("app"), "0" * 40, None, "000000"),
            (private, "main", "git-authentication", "127.0.0.1"),
        ):
            error = bench.fails(f"app @ git+{url}@{revision}", "kept==1.0")
            assert code is None or error["code"] == code, error
            assert error["exit"] == 1
            assert said in error["everything"]
            assert "hunter2" not in error["everything"]
        line = f"app @ git+{guarded.http('app', userinfo='me:right')}@main"
        bench.sync(line, venv="second")
        record = bench.record("app", venv="second")
        assert record["url"] == guarded.http("app"), "no credentials in records (D5)"
    assert snapshot(bench.venv()) == before
    assert bench.leftovers() == []
