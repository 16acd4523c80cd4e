"""Locks that must be refused, one by one: one clear error, the place and the remedy, and nothing changed.

Each row of the tables is a MUST or a refusal of standards 1.1 to 1.4 and issue 3's section "Bad input".
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.badlocks import AT, COMMIT, FOREIGN, GIT, PYLOCKS, URL, UVLOCKS, WHEEL, Case
from tests.support.gitserver import GitServers, needs_git
from tests.support.instance import Instance, snapshot
from tests.support.lockfiles import listed, pylock, uv_project, uvlock
from tests.support.locks import assert_untouched_cache, failure, impatient, make_venv, pin
from tests.support.sdists import project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel

KEPT = make_wheel("kept", "1.0", {"kept/__init__.py": "", "kept/data.txt": "user data\n"})

REQUIREMENTS = [
    Case(
        "versions",
        "demo==1.0\nkept\ndemo==2.0\n",
        "conflicting-requirements",
        ("requirements.txt:1", "requirements.txt:3"),
        ("--no-require-hashes",),
    ),
    Case(
        "range",
        "demo==1.0\ndemo<1\n",
        "conflicting-requirements",
        ("requirements.txt:1", "requirements.txt:2"),
    ),
    Case(
        "hashes",
        f"demo==1.0 --hash=sha256:{'0' * 64}\n{pin(WHEEL)}\n",
        "conflicting-requirements",
        ("requirements.txt:1", "requirements.txt:2"),
    ),
    Case(
        "urls",
        f"demo @ {URL}\ndemo @ {AT}/x/{WHEEL.filename}\n",
        "conflicting-requirements",
        ("requirements.txt:1", "requirements.txt:2"),
    ),
    Case(
        "wheel-of-another",
        f"other @ {URL}\n",
        "conflicting-requirements",
        ("requirements.txt:1", "other", "demo"),
        hint=False,
    ),
    Case("cycle", "kept==1.0\n-r requirements.txt\n", "recursive-requirements", ("requirements.txt:2",)),
    Case(
        "hash-md5",
        f"demo==1.0 --hash=md5:{'0' * 32}\n",
        "invalid-option",
        ("requirements.txt:1", "md5", "sha256"),
        hint=False,
    ),
    Case(
        "hash-short",
        "demo==1.0 --hash=sha256:abc\n",
        "invalid-option",
        ("requirements.txt:1", "64"),
        hint=False,
    ),
    Case(
        "fragment-weak",
        f"demo @ {URL}#md5={'0' * 32}\n{pin(KEPT)}\n",
        "missing-hash",
        ("requirements.txt:1", "--hash"),
    ),
    Case(
        "git-hashed",
        f"demo @ git+{GIT}\n{pin(KEPT)}\n",
        "hash-unsupported",
        ("requirements.txt:1", "requirements.txt:2"),
    ),
    Case("editable-hashed", f"-e ./empty\n{pin(KEPT)}\n", "hash-unsupported", ("requirements.txt:1",)),
    Case(
        "url-data",
        "demo @ data:application/zip;base64,AAAA\n",
        "invalid-requirement",
        ("requirements.txt:1", "data:"),
    ),
    Case(
        "url-ftp",
        "ftp://example.invalid/demo-1.0.zip\n",
        "invalid-requirement",
        ("requirements.txt:1", "ftp:"),
    ),
    Case("git-ext", "demo @ git+ext::sh\n", "invalid-requirement", ("requirements.txt:1",)),
    Case(
        "git-scp",
        "git+git@example.invalid:x/y.git\n",
        "invalid-requirement",
        ("requirements.txt:1", "git+ssh://"),
    ),
    Case(
        "git-option",
        "git+https://example.invalid/x@--upload-pack=y\n",
        "invalid-requirement",
        ("requirements.txt:1",),
        hint=False,
    ),
    Case(
        "git-outside",
        f"demo @ git+{GIT}#subdirectory=../x\n",
        "invalid-requirement",
        ("requirements.txt:1", "../x"),
        hint=False,
    ),
    Case(
        "hg",
        "demo @ hg+https://example.invalid/x\n",
        "unsupported-requirement",
        ("requirements.txt:1", "Mercurial"),
    ),
    Case("editable-archive", f"-e {URL}\n", "invalid-requirement", ("requirements.txt:1", "editable")),
    Case(
        "constraint-editable",
        "demo==1.0\n-c c.txt\n",
        "invalid-constraint",
        ("c.txt:1", "editable"),
        constraints="-e ./empty",
        hint=False,
    ),
    Case(
        "constraint-extras",
        "demo==1.0\n-c c.txt\n",
        "invalid-constraint",
        ("c.txt:1", "extras"),
        constraints="demo[x]==1.0",
        hint=False,
    ),
    Case(
        "constraint-nameless",
        "demo==1.0\n-c c.txt\n",
        "invalid-constraint",
        ("c.txt:1", "name"),
        constraints="./x/y",
        hint=False,
    ),
    Case(
        "constraint-other",
        "demo==1.0\n-c c.txt\n",
        "conflicting-requirements",
        ("requirements.txt:1", "c.txt:1"),
        constraints="demo==2.0",
    ),
    Case(
        "settings",
        "demo==1.0 -C novalue\n",
        "invalid-option",
        ("requirements.txt:1", "KEY=VALUE"),
        hint=False,
    ),
    Case("pylock-included", "-r pylock.toml\n", "mixed-sources", ("requirements.txt:1", "pylock.toml")),
    Case(
        "poetry-included", "-r poetry.lock\n", "unsupported-source", ("requirements.txt:1", "poetry export")
    ),
    Case("extra", "demo==1.0\n", "conflicting-options", ("--extra",), ("--extra=x",)),
    Case("group", "demo==1.0\n", "conflicting-options", ("--group",), ("--group=x",)),
    Case(
        "both-hash-modes",
        "--no-require-hashes\ndemo==1.0\n",
        "conflicting-options",
        ("requirements.txt:1", "command line"),
        ("--require-hashes",),
        hint=False,
    ),
    Case(
        "missing-path",
        "./no/demo-1.0-py3-none-any.whl\n",
        "file-not-found",
        ("requirements.txt:1", "no/demo-1.0"),
        exit=1,
    ),
    Case("missing-directory", "-e ./no/such\n", "source-not-found", ("requirements.txt:1", "no/such")),
    Case("empty-directory", "demo @ file:./empty\n", "not-a-project", ("requirements.txt:1", "empty")),
    Case(
        "no-build",
        "demo @ file:./project\n",
        "build-not-allowed",
        ("requirements.txt:1", "--no-build"),
        ("--no-build",),
        exit=1,
    ),
    Case(
        "wrong-platform",
        f"demo @ {AT}/{FOREIGN.filename}\n",
        "no-matching-wheel",
        ("requirements.txt:1", "win_amd64"),
        exit=1,
    ),
]


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    """`kept` on its page; the files that the tables name."""
    with IndexServer() as server:
        server.add(KEPT.data, KEPT.filename)
        for wheel in (WHEEL, FOREIGN):
            server.put(f"/{wheel.filename}", wheel.data, "application/octet-stream")
        yield server


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, index: IndexServer
) -> Iterator[Instance]:
    """One impatient daemon for this module, and an environment that holds `kept`."""
    root = tmp_path_factory.mktemp("badlocks") / "pkgc"
    with impatient(root, host_calls=request.param == "client-acts") as instance:
        make_venv(root / "venv", sys.executable)
        instance.sync(instance.requirements(pin(KEPT)), "--venv", root / "venv", "-i", index.url)
        yield instance


@pytest.fixture
def unchanged(pkgc: Instance) -> Iterator[Path]:
    """The environment; after the test it and the store must be as before."""
    venv = pkgc.root / "venv"
    before = snapshot(venv)
    yield venv
    assert snapshot(venv) == before
    assert_untouched_cache(pkgc, [KEPT.filename])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with an empty folder and a project in it."""
    (tmp_path / "empty").mkdir()
    for path, data in project_files("demo", "1.0").items():
        target = tmp_path / "project" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path


TABLES = {"pylock.toml": PYLOCKS, "uv.lock": UVLOCKS, "requirements.txt": REQUIREMENTS}


@pytest.mark.parametrize("name", TABLES)
def test_every_refusal(
    pkgc: Instance, index: IndexServer, unchanged: Path, folder: Path, name: str, subtests: pytest.Subtests
) -> None:
    """One error with its code, the place, the facts and the remedy; environment and store as before.

    The daemon judges a lock whoever reads it, so a sample is enough where the client does.
    """
    before = snapshot(unchanged)
    cases = TABLES[name][:: 6 if "PKGC_FORCE_HOST_CALLS" in pkgc.env else 1]
    for case in cases:
        with subtests.test(case.what):
            text = case.text if isinstance(case.text, bytes) else case.text.encode()
            (folder / name).write_bytes(text.replace(AT.encode(), index.origin.encode()))
            (folder / "c.txt").write_text(f"{case.constraints}\n")
            error = failure(
                pkgc, "sync", name, *case.options, "--venv", unchanged, "-i", index.url, cwd=folder
            )
            assert (error["code"], error["exit"]) == (case.code, case.exit), error
            for said in case.said:
                assert said in error["everything"]
            assert error["hint"] or not case.hint
            assert snapshot(unchanged) == before


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("poetry.lock", "poetry export -f requirements.txt"),
        ("pdm.lock", "pdm export -o requirements.txt"),
        ("Pipfile.lock", "pipenv requirements --hash"),
        ("pyproject.toml", "uv lock"),
        ("setup.py", "uv pip compile setup.py"),
        ("setup.cfg", "uv pip compile setup.cfg"),
    ],
)
def test_files_of_other_tools(pkgc: Instance, unchanged: Path, folder: Path, name: str, command: str) -> None:
    """Who comes from another tool is told the command that makes a lock which pkgc reads."""
    (folder / name).write_text("[tool]\n")
    (folder / "requirements.txt").write_text(f"kept==1.0\n-r {name}\n")
    for verb, sources in (("sync", [name]), ("fetch", [name]), ("sync", ["requirements.txt"])):
        place = ("--venv", str(unchanged)) if verb == "sync" else ()
        error = failure(pkgc, verb, *sources, *place, cwd=folder)
        assert (error["code"], error["exit"]) == ("unsupported-source", 2)
        assert f"{name} is " in error["message"]
        assert command in error["hint"]


def test_locks_by_other_names(pkgc: Instance, unchanged: Path, folder: Path) -> None:
    """A lock that was renamed, or comes by standard input, is known as one, and its right name is told."""
    for text in (pylock({"name": "kept", "version": "1.0"}), uvlock(uv_project())):
        (folder / "locked.toml").write_text(text)
        for source in ("locked.toml", "-"):
            error = failure(pkgc, "sync", source, "--venv", unchanged, cwd=folder, stdin=text)
            assert (error["code"], error["exit"]) == ("invalid-requirement", 2)
            assert "pylock.toml" in error["hint"]
    for name in ("pylock.toml", "uv.lock"):
        (folder / name).mkdir()
        error = failure(pkgc, "sync", name, "--venv", unchanged, cwd=folder)
        assert (error["code"], error["exit"]) == ("file-unreadable", 2)
        assert str(folder / name) in error["message"]
        (folder / name).rmdir()
        error = failure(pkgc, "sync", name, "--venv", unchanged, cwd=folder)
        assert (error["code"], error["exit"]) == ("file-not-found", 2)
        assert str(folder / name) in error["message"]


def test_circles_of_files(pkgc: Instance, unchanged: Path, folder: Path) -> None:
    """Files that include each other end in an error that names the last two, not in a hang."""
    (folder / "sub").mkdir()
    files = {
        "a.txt": "kept==1.0\n-r sub/b.txt\n",
        "sub/b.txt": "-c ../c.txt\n",
        "c.txt": "\n-r ./sub/../a.txt\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    error = failure(pkgc, "sync", "a.txt", "--venv", unchanged, cwd=folder)
    assert (error["code"], error["exit"]) == ("recursive-requirements", 2)
    for said in ("c.txt:2", "a.txt"):
        assert said in error["message"]
    for number in range(110):
        (folder / f"deep{number}.txt").write_text(f"-r deep{number + 1}.txt\n")
    (folder / "deep110.txt").write_text("kept==1.0\n")
    error = failure(pkgc, "sync", "deep0.txt", "--venv", unchanged, cwd=folder)
    assert (error["code"], error["exit"]) == ("too-many-files", 2)
    assert ".txt:1" in error["message"]


def test_files_with_other_content(pkgc: Instance, index: IndexServer, unchanged: Path, folder: Path) -> None:
    """Right bytes by hash, but of another project, or no wheel at all: refused by name and line."""
    other = make_wheel("other", "3.0")
    inside = make_wheel("demo", "2.0", metadata="Metadata-Version: 2.1\nName: other\nVersion: 3.0\n")
    nothing = WHEEL._replace(data=b"not a zip", sha256=hashlib.sha256(b"not a zip").hexdigest())
    for number, (wheel, name, code) in enumerate(
        (
            (other, WHEEL.filename, "bad-wheel"),
            (inside, inside.filename, "bad-wheel"),
            (nothing, WHEEL.filename, "bad-archive"),
        )
    ):
        url = index.put(f"/wrong{number}/{name}", wheel.data, "application/octet-stream")
        version = name.split("-")[1]
        listing = {"name": "demo", "version": version, "wheels": [listed(wheel, url, name=name)]}
        (folder / "pylock.toml").write_text(pylock(listing))
        (folder / "requirements.txt").write_text(f"demo @ {url}#sha256={wheel.sha256}\n")
        for source, line in (("pylock.toml", 5), ("requirements.txt", 1)):
            error = failure(pkgc, "sync", source, "--venv", unchanged, cwd=folder)
            assert (error["code"], error["exit"]) == (code, 1), error
            for said in (name, f"{source}:{line}"):
                assert said in error["everything"]
    pkgc.ok("cache", "clean", "demo")
    # a source tree that turns out to be another project than the lock says
    (folder / "pylock.toml").write_text(pylock({"name": "kept", "directory": {"path": "project"}}))
    (folder / "uv.lock").write_text(
        uvlock(uv_project("kept"), uv_project(name="kept", source={"editable": "project"}))
    )
    (folder / "requirements.txt").write_text("kept @ file:./project\n")
    for source, line in (("pylock.toml", 5), ("uv.lock", 12), ("requirements.txt", 1)):
        error = failure(pkgc, "sync", source, "--venv", unchanged, cwd=folder)
        assert (error["code"], error["exit"]) == ("metadata-mismatch", 1), error
        for said in ("demo", "kept", f"{source}:{line}"):
            assert said in error["everything"]


@needs_git
@pytest.mark.parametrize("name", ["pylock.toml", "uv.lock", "requirements.txt"])
def test_repositories_that_cannot_be_had(pkgc: Instance, unchanged: Path, folder: Path, name: str) -> None:
    """A remote that is away, has no such repository or commit: URL, git's own words and line are told."""
    with GitServers(folder / "served") as servers:
        repository = servers.repository("there")
        repository.commit({path: data.decode() for path, data in project_files("demo", "1.0").items()})
        for url, revision, code in (
            ("http://127.0.0.1:1/x.git", COMMIT, "git-unreachable"),
            (servers.http("nowhere"), COMMIT, "git-unreachable"),
            (servers.http("there"), COMMIT, "unknown-revision"),
            (servers.http("there"), "no-such-branch", "unknown-revision"),
        ):
            if name == "pylock.toml":
                vcs = {"type": "git", "url": url, "commit-id": COMMIT}
                text, line = pylock({"name": "demo", "vcs": vcs}), 5
            elif name == "uv.lock":
                source = {"git": f"{url}#{COMMIT}"}
                text, line = uvlock(uv_project("demo"), uv_project(name="demo", source=source)), 12
            else:
                text, line = f"demo @ git+{url}@{revision}\n", 1
            (folder / name).write_text(text)
            error = failure(pkgc, "sync", name, "--venv", unchanged, cwd=folder)
            assert (error["code"], error["exit"]) == (code, 1)
            for said in (url, f"{name}:{line}"):
                assert said in error["everything"]
            assert error["hint"]
