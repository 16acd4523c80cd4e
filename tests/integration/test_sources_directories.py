"""Directories and editable installs: built when their files changed, left alone when not; legacy projects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import COUNTING, Bench, changed, origins, shared_instance
from tests.support.instance import Instance, snapshot
from tests.support.interpreters import running as running_interpreter
from tests.support.locks import holds, importing, site
from tests.support.realwheels import wheels_for
from tests.support.sdists import make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import make_wheel


@pytest.fixture(scope="module", params=["daemon-acts", "client-acts"])
def pkgc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One daemon for all tests of this module; each has an index, a TMPDIR and projects of its own."""
    with shared_instance(tmp_path_factory.mktemp("directories") / "pkgc", request.param) as instance:
        yield instance


@pytest.fixture
def bench(pkgc: Instance, index: IndexServer, tmp_path: Path) -> Bench:
    """See `Bench`."""
    return Bench(pkgc, index, tmp_path)


def project(folder: Path, name: str, version: str = "1.0", **options: object) -> Path:
    """Write the files of a project whose builds are counted."""
    files = project_files(name, version, backend=COUNTING, **options)  # type: ignore[arg-type]
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def version_of(bench: Bench, module: str, venv: str = "venv") -> str:
    """What the module in the environment says."""
    return importing(bench.venv(venv), f"import {module}; print({module}.__version__)")


# -- directories ---------------------------------------------------------------------------------------------


def test_directory_is_built_when_it_changed_and_only_then(bench: Bench) -> None:
    """Else people sync, run yesterday's code and do not know; or every sync builds everything again."""
    folder = project(bench.folder / "app", "app")
    line = "app @ ./app"
    assert origins(bench.sync(line)) == {"app": "build"}
    assert version_of(bench, "app") == "1.0"
    record = bench.record("app")
    assert (record["url"], record["dir_info"]) == (folder.as_uri(), {})
    for _ in range(2):
        answer = bench.sync(line)
        assert (answer["kept"], answer["installed"], bench.builds("app")) == (1, [], 1)
    # What tools write beside the code is no change of the project.
    (folder / "app/__pycache__").mkdir()
    (folder / "app/__pycache__/x.pyc").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("ref: x")
    assert bench.sync(line)["kept"] == 1
    changed(folder / "app/__init__.py", lambda text: text.replace("1.0", "1.0 edited"))
    result = bench.run(line)
    assert result.status == 0, str(result)
    assert "~ app==1.0 (its directory changed)" in result.out
    assert version_of(bench, "app") == "1.0 edited"
    (folder / "app/more.py").write_text("x = 1\n")
    assert origins(bench.sync(line)) == {"app": "build"}
    assert importing(bench.venv(), "import app.more as m; print(m.x)") == "1"
    assert bench.builds("app") == 3
    assert origins(bench.sync(line, venv="second")) == {"app": "store"}
    assert bench.builds("app") == 3
    assert bench.leftovers() == []


def test_new_version_in_pyproject_replaces_the_old_one(bench: Bench) -> None:
    """The version comes from the directory: after a bump the old .dist-info must be gone."""
    folder = project(bench.folder / "app", "app")
    bench.sync("./app")
    changed(folder / "pyproject.toml", lambda text: text.replace("'1.0'", "'2.0'"))
    answer = bench.sync("./app")
    assert [(one["name"], one["version"]) for one in answer["removed"]] == [("app", "1.0")]
    assert holds(bench.venv()) == {"app": "2.0"}


def test_directory_whose_name_only_its_build_tells(bench: Bench) -> None:
    """`.` or `./lib` without a name, of a project that computes its name: it is built to learn it, and not
    again at every sync."""
    backend = COUNTING.replace(
        'open("pyproject.toml", encoding="utf-8")', 'open("identity.txt", encoding="utf-8")'
    )
    files = project_files("x", "1.0", backend=backend)
    pyproject = files.pop("pyproject.toml").decode()
    folder = bench.folder / "lib"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "pyproject.toml").write_text(pyproject[pyproject.index("[build-system]") :])
    (folder / "identity.txt").write_text("name = 'hidden-name'\nversion = '3.0'\n")
    for line in ("./lib", f"{folder}/", folder.as_uri()):
        bench.sync(line)
        assert holds(bench.venv()) == {"hidden_name": "3.0"}
        assert bench.sync(line)["kept"] == 1
    assert bench.builds("hidden-name") == 1
    (folder / "identity.txt").write_text("name = 'other-name'\nversion = '3.0'\n")
    bench.sync("./lib")
    assert holds(bench.venv()) == {"other_name": "3.0"}
    error = bench.fails("hidden-name @ ./lib")
    assert error["code"] == "metadata-mismatch"
    assert holds(bench.venv()) == {"other_name": "3.0"}


def test_subdirectories_and_neighbours_of_one_tree(bench: Bench) -> None:
    """Monorepos: each project of the tree is itself, and records where in the tree it is."""
    tree = bench.folder / "mono repo"
    for name in ("one", "two"):
        project(tree / "packages" / name, name)
    lines = (f"one @ {tree.as_uri()}#subdirectory=packages/one", "./mono repo/packages/two")
    bench.sync(*lines)
    assert holds(bench.venv()) == {"one": "1.0", "two": "1.0"}
    record = bench.record("one")
    assert (record["url"], record["subdirectory"]) == (tree.as_uri(), "packages/one")
    assert bench.record("two")["url"] == (tree / "packages/two").as_uri()
    assert bench.sync(*lines)["kept"] == 2
    changed(tree / "packages/two/two/__init__.py", lambda text: text.replace("1.0", "1.0 edited"))
    assert "two" in origins(bench.sync(*lines))
    assert version_of(bench, "two") == "1.0 edited"


def test_what_is_no_project_is_said_before_anything_changes(bench: Bench) -> None:
    """A wrong path, a folder without a project, a broken pyproject.toml: exit 2, and which file is wrong."""
    bench.offer(make_wheel("kept", "1.0"))
    bench.sync("kept==1.0")
    before = snapshot(bench.venv())
    (bench.folder / "empty").mkdir()
    broken = project(bench.folder / "broken", "broken")
    (broken / "pyproject.toml").write_text("[project\n")
    no_backend = project(bench.folder / "odd", "odd")
    changed(no_backend / "pyproject.toml", lambda text: text.replace('"tests_backend"', '"not a module"'))
    for line, code, said in (
        ("./nowhere", "source-not-found", "nowhere"),
        ("-e ./nowhere", "source-not-found", "nowhere"),
        ("./empty", "not-a-project", "pyproject.toml"),
        ("./broken", "invalid-project", "broken/pyproject.toml"),
        ("odd @ ./odd", "invalid-project", "odd/pyproject.toml"),
    ):
        error = bench.fails(line)
        assert (error["code"], error["exit"]) == (code, 2), error
        assert said in error["everything"], error
    # A whole run in hash mode cannot have a directory: nobody knows its hash (H4).
    project(bench.folder / "fine", "fine")
    error = bench.fails("./fine", "kept==1.0 --hash=sha256:" + "0" * 64)
    assert error["exit"] == 2, error
    assert "fine" in error["everything"]
    assert snapshot(bench.venv()) == before
    assert bench.leftovers() == []


# -- editable ------------------------------------------------------------------------------------------------


def test_editable_shows_edits_without_a_sync(bench: Bench) -> None:
    """The whole point of -e (PEP 660): edit and run. And a sync after an edit of code changes nothing, one
    after an edit of pyproject.toml makes the metadata right again."""
    folder = project(bench.folder / "app", "app")
    answer = bench.sync("-e ./app")
    assert origins(answer) == {"app": "build"}
    record = bench.record("app")
    assert (record["url"], record["dir_info"]) == (folder.as_uri(), {"editable": True})
    changed(folder / "app/__init__.py", lambda text: text.replace("1.0", "edited"))
    assert version_of(bench, "app") == "edited"
    answer = bench.sync("-e ./app")
    assert (answer["kept"], answer["installed"]) == (1, [])
    assert (bench.builds("app", "editable"), bench.builds("app")) == (1, 0)
    changed(folder / "pyproject.toml", lambda text: text.replace("'1.0'", "'1.1'"))
    result = bench.run("-e ./app")
    assert result.status == 0, str(result)
    assert "+ app==1.1" in result.out
    assert "- app==1.0" in result.out
    assert holds(bench.venv()) == {"app": "1.1"}
    assert version_of(bench, "app") == "edited"
    assert bench.builds("app", "editable") == 2
    assert json.loads(bench.pkgc.ok("why", "app", "--venv", bench.venv(), "--output-format", "json").out)[
        "packages"
    ][0]["editable"]


def test_editable_and_not_are_different_things(bench: Bench) -> None:
    """Before a release people take the -e away: the sync must then copy the code; and back."""
    folder = project(bench.folder / "app", "app")
    bench.sync("-e ./app")
    result = bench.run("./app")
    assert result.status == 0, str(result)
    assert "~ app==1.0 (installed from" in result.out
    assert (site(bench.venv()) / "app/__init__.py").is_file()
    assert not list(site(bench.venv()).glob("*.pth"))
    changed(folder / "app/__init__.py", lambda text: text.replace("1.0", "edited"))
    assert version_of(bench, "app") == "1.0"
    bench.sync("-e ./app")
    assert not (site(bench.venv()) / "app").exists()
    assert version_of(bench, "app") == "edited"
    assert (bench.builds("app", "editable"), bench.builds("app")) == (1, 1)


def test_backend_without_editable_installs(bench: Bench) -> None:
    """An old backend with -e: advice, not a traceback."""
    backend = COUNTING.partition("_plain = ")[0].replace("def build_editable", "def not_editable")
    files = project_files("old", "1.0", backend=backend)
    for path, data in files.items():
        (bench.folder / "old" / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.folder / "old" / path).write_bytes(data)
    error = bench.fails("-e ./old")
    assert (error["code"], error["exit"]) == ("editable-unsupported", 1)
    assert "without -e" in error["hint"]
    assert not bench.venv().exists()


def test_read_only_source_tree(bench: Bench) -> None:
    """A checkout that the build may not write into (a mounted volume, another user's) is installable when
    the backend does not write; nothing of ours is put beside the sources."""
    folder = project(bench.folder / "app", "app")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for path in (folder, folder / "app", folder / "_build"):
        os.chmod(path, 0o555)
    try:
        bench.sync("./app")
        bench.sync("-e ./app", venv="second")
    finally:
        for path in (folder, folder / "app", folder / "_build"):
            os.chmod(path, 0o755)
    after = sorted(path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts)
    assert after == before
    assert bench.sync("./app")["kept"] == 1


# -- legacy --------------------------------------------------------------------------------------------------

SETUPTOOLS = (
    "setuptools==82.0.1 --hash=sha256:a59e362652f08dcd477c78bb6e7bd9d80a7995bc73ce773050228a348ce2e5bb\n"
)


@pytest.mark.network
@pytest.mark.timeout(300)
def test_legacy_setup_py(bench: Bench) -> None:
    """Projects with setup.py and nothing else: they get setuptools, wherever it is offered (B2), as a
    source archive, as a directory, and editable."""
    lock = bench.folder / "setuptools.txt"
    lock.write_text(SETUPTOOLS)
    (wheel,) = wheels_for(lock, [running_interpreter()])
    bench.index.add(wheel, wheel.name)
    setup = "setup(name='old-one', version='0.3', packages=['old_one'])"
    files = {
        "setup.py": f"from setuptools import setup\n{setup}\n",
        "old_one/__init__.py": "state = 'first'\n",
    }
    bench.offer(make_sdist("old-one", "0.3", files, pyproject="", backend=None))
    folder = bench.folder / "legacy"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(data)
    state = "import old_one; print(old_one.state)"
    assert origins(bench.sync("old-one==0.3")) == {"old-one": "build"}
    assert importing(bench.venv(), state) == "first"
    assert "setuptools" not in holds(bench.venv())
    shown = bench.pkgc.ok("why", "old-one", "--venv", bench.venv()).out
    assert f"setuptools 82.0.1 sha256:{SETUPTOOLS.strip()[-64:]}" in shown
    bench.sync("-e ./legacy")
    # build/, *.egg-info: what setuptools leaves in the tree is no change of it.
    assert bench.sync("-e ./legacy")["kept"] == 1
    changed(folder / "old_one/__init__.py", lambda text: text.replace("first", "second"))
    assert importing(bench.venv(), state) == "second"
    bench.sync("old-one @ ./legacy")
    assert importing(bench.venv(), state) == "second"
    assert bench.sync("old-one @ ./legacy")["kept"] == 1
    assert len(bench.index.requests_for(wheel.name)) == 1
