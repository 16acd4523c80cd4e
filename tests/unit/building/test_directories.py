"""Source trees: is there a project, and does a change of it show while what builds write does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.building import directories
from pkgc_daemon.building.directories import fingerprint_tree, inside, inspect_directory
from pkgc_daemon.errors import PkgcError

SETUPTOOLS = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "demo"
version = "1.0"
"""
HATCHLING = SETUPTOOLS.replace('"setuptools"', '"hatchling"').replace(
    "setuptools.build_meta", "hatchling.build"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project whose files were last changed an hour ago, as far as they say."""
    root = tmp_path / "tree"
    (root / "src" / "demo").mkdir(parents=True)
    (root / "pyproject.toml").write_text(SETUPTOOLS)
    (root / "src" / "demo" / "__init__.py").write_text("a = 1\n")
    (root / "src" / "demo" / "tool.sh").write_text("true\n")
    (root / "link").symlink_to("src/demo/__init__.py")
    return root


def look(path: Path, **more: Any) -> str:
    fingerprint: str = inspect_directory({"path": str(path), "subdirectory": None, "editable": False} | more)[
        "fingerprint"
    ]
    return fingerprint


def failure(path: Path, **more: Any) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        look(path, **more)
    return caught.value


def test_the_answer_names_the_project(tree: Path) -> None:
    """The name of a directory's project is known without a build when it says so."""
    answer = inspect_directory({"path": str(tree), "subdirectory": None, "editable": False})
    assert (answer["project"]["name"], answer["kind"]) == ("demo", "directory")
    assert answer["fingerprint"] == look(tree)


def rewrite_with_same_size_and_time(tree: Path) -> None:
    path = tree / "src/demo/__init__.py"
    before = path.stat()
    path.write_text("a = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def turn_link(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("pyproject.toml")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "src/demo/__init__.py").write_text("a = 22\n"),
    "content of the same size": lambda tree: (tree / "src/demo/__init__.py").write_text("a = 2\n"),
    "content, with the time set back": rewrite_with_same_size_and_time,
    "a new file": lambda tree: touch(tree, "src/demo/new.py"),
    "a new file beside the project": lambda tree: touch(tree, "build.txt"),
    "a removed file": lambda tree: (tree / "src/demo/tool.sh").unlink(),
    "a renamed file": lambda tree: (tree / "src/demo/tool.sh").rename(tree / "src/demo/other.sh"),
    "an executable bit": lambda tree: (tree / "src/demo/tool.sh").chmod(0o755),
    "a link's text": turn_link,
    "a package that is called build": lambda tree: touch(tree, "build/__init__.py"),
    "a folder called build deeper inside": lambda tree: touch(tree, "src/demo/build/x.py"),
    "the project file": lambda tree: (tree / "pyproject.toml").write_text(SETUPTOOLS + "\n"),
    "a version file": lambda tree: (tree / "src/demo/_version.py").write_text("'2'"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_shows(tree: Path, change: Callable[[Path], object]) -> None:
    """Otherwise `pkgc sync` leaves yesterday's code installed; even right after the last look."""
    (tree / "src/demo/_version.py").write_text("'1'")
    before = look(tree)
    change(tree)
    assert look(tree) != before


def test_edits_right_after_each_other_show(tree: Path) -> None:
    """A script edits and syncs faster than the file system's clock ticks."""
    path = tree / "src/demo/__init__.py"
    seen = set()
    for number in range(30):
        path.write_text(f"a = {number:02}\n")
        seen.add(look(tree))
    assert len(seen) == 30


def test_a_fresh_edit_is_looked_at_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On kernels with coarse clocks the next edit may get the same time; an old tree costs no wait."""
    monkeypatch.setattr(directories, "TICK", 0.2)
    touch(tree, "src/demo/new.py")
    began = time.monotonic()
    first = look(tree)
    assert time.monotonic() - began >= 0.2
    time.sleep(0.2)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s for an old tree"))
    assert look(tree) == first


def touch(tree: Path, name: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(time.time_ns()))


@pytest.mark.parametrize(
    "name",
    [
        ".git/index",
        ".hg/x",
        ".svn/x",
        "src/demo/__pycache__/x.cpython-311.pyc",
        "src/demo/x.pyc",
        ".tox/py/x",
        ".nox/x",
        ".mypy_cache/x",
        ".pytest_cache/x",
        ".ruff_cache/x",
        ".venv/x",
        "node_modules/x/index.js",
        "build/lib/demo/__init__.py",
        "dist/demo-1.0.tar.gz",
        "demo.egg-info/PKG-INFO",
        "src/demo.egg-info/PKG-INFO",
    ],
)
def test_what_tools_write_does_not_show(tree: Path, name: str) -> None:
    """Otherwise every run of the tests, every build and every `git status` costs a build."""
    before = look(tree)
    touch(tree, name)
    assert look(tree) == before


def test_environments_and_marked_caches_do_not_show(tree: Path) -> None:
    """Environments have any name (pyvenv.cfg tells); cargo's `target` says itself that it is a cache."""
    before = look(tree)
    for name in ("env311/pyvenv.cfg", "env311/lib/x.py", "rust/target/debug/x"):
        touch(tree, name)
    assert look(tree) != before  # target is not marked yet
    (tree / "rust/target/CACHEDIR.TAG").write_text(
        "Signature: 8a477f597d28d172789f06886806bc55\n# by cargo\n"
    )
    assert look(tree) == before
    (tree / "rust/target/CACHEDIR.TAG").write_text("a file that has the name only\n")
    assert look(tree) != before


def test_a_version_file_counts_by_content(tree: Path) -> None:
    """setuptools-scm and hatch-vcs write it at each build: by its time, the project would change for ever."""
    path = tree / "src/demo/_version.py"
    path.write_text("version = '1'\n")
    before = look(tree)
    time.sleep(0.02)
    path.write_text("version = '1'\n")
    assert look(tree) == before
    path.write_text("version = '2'\n")
    assert look(tree) != before


def test_a_copy_with_other_times_is_built_again_and_nothing_breaks(tree: Path) -> None:
    """`git checkout` of the same content touches files: a build too many is fine, a crash is not."""
    before = look(tree)
    os.utime(tree / "pyproject.toml")
    assert look(tree) != before


def test_odd_files_do_no_harm(tree: Path) -> None:
    """Sockets, pipes, broken and circular links, and names that are no UTF-8 are in real trees."""
    os.mkfifo(tree / "pipe")
    os.mkfifo(tree / "CACHEDIR.TAG")
    (tree / "broken").symlink_to("nowhere")
    (tree / "round").symlink_to(".")
    (tree / "self").symlink_to("self")
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xfe.py")).write_text("")
    before = look(tree)
    assert before == look(tree)
    (tree / "broken").unlink()
    assert look(tree) != before


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import the usual backends from, as they are today."""
    folder = tmp_path_factory.mktemp("backends")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    subprocess.run([*install, "setuptools", "hatchling", "editables"], check=True, capture_output=True)
    return folder


@pytest.mark.network
@pytest.mark.parametrize("text", [SETUPTOOLS, HATCHLING], ids=["setuptools", "hatchling"])
def test_a_build_does_not_change_the_tree(tree: Path, backends: Path, text: str) -> None:
    """Otherwise each sync builds the project again, because the last one did."""
    (tree / "pyproject.toml").write_text(text)
    name = text.partition('build-backend = "')[2].partition('"')[0]
    code = "import importlib, sys; getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(sys.argv[3])"
    env = {**os.environ, "PYTHONPATH": str(backends)}
    before = look(tree)
    for hook in ("build_wheel", "build_editable"):
        out = tree.parent / hook
        out.mkdir()
        command = [sys.executable, "-c", code, name, hook, str(out)]
        subprocess.run(command, cwd=tree, env=env, check=True, capture_output=True)
        assert list(out.glob("*.whl"))
        assert look(tree) == before


def test_an_editable_depends_on_its_configuration_only(tree: Path) -> None:
    """Code shows through; building again at every edit is what editable installs avoid."""
    before = look(tree, editable=True)
    assert before != look(tree)
    CHANGES["content"](tree)
    CHANGES["a new file"](tree)
    os.utime(tree / "pyproject.toml")
    assert look(tree, editable=True) == before
    for name in ("setup.cfg", "setup.py", "MANIFEST.in", "pyproject.toml"):
        (tree / name).write_text(SETUPTOOLS + "# changed\n")
        after = look(tree, editable=True)
        assert after != before
        before = after


def test_a_project_in_a_subdirectory(tree: Path) -> None:
    """The whole tree counts, because such projects take files from beside them; their outputs do not."""
    (tree / "sub").mkdir()
    (tree / "sub" / "pyproject.toml").write_text(SETUPTOOLS.replace("demo", "inner"))
    args = {"path": str(tree), "subdirectory": "sub", "editable": False}
    answer = inspect_directory(args)
    assert answer["project"]["name"] == "inner"
    touch(tree, "sub/build/lib/x.py")
    touch(tree, "build/lib/x.py")
    assert inspect_directory(args)["fingerprint"] == answer["fingerprint"]
    touch(tree, "LICENSE")
    assert inspect_directory(args)["fingerprint"] != answer["fingerprint"]


def test_refusals(tree: Path, tmp_path: Path) -> None:
    """Each of these is another mistake, and is called so."""
    assert failure(tmp_path / "missing").code == "source-not-found"
    assert failure(tree / "pyproject.toml").code == "not-a-project"
    assert "pyproject.toml" in str(failure(tree / "src").context)
    assert failure(tree / "src").code == "not-a-project"
    assert failure(tree, subdirectory="nothing").code == "source-not-found"
    (tree / "out").symlink_to("..")
    for hostile in ("..", "/etc", "out", "src/../..", "x\0y"):
        assert failure(tree, subdirectory=hostile).code == "subdirectory-outside"
    assert inside(str(tree), "src/../src") == str(tree / "src")


def test_a_tree_without_end_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pkgc sync` of somebody's home folder must end, with an error that says what to do."""
    monkeypatch.setattr(directories, "MAX_FILES", 10)
    for number in range(11):
        touch(tree, f"data/{number}")
    error = failure(tree)
    assert error.code == "directory-too-large"
    assert error.hint
    assert look(tree, editable=True)


def test_cancelled(tree: Path) -> None:
    """Ctrl-C during a long look ends it."""
    with pytest.raises(PkgcError) as caught:
        inspect_directory({"path": str(tree), "subdirectory": None, "editable": False}, None, lambda: True)
    assert caught.value.code == "interrupted"


def test_what_cannot_be_read_is_no_obstacle(tree: Path) -> None:
    """A database's folder of another user stands in many project folders."""
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tree / "data").mkdir(mode=0)
    try:
        assert look(tree) == look(tree)
    finally:
        (tree / "data").chmod(0o755)


def test_looking_is_quick(tmp_path: Path) -> None:
    """A no-op sync of a large project must not be felt: 10,000 files in 0.1 s (0.3 if busy)."""
    for folder in range(100):
        (tmp_path / f"d{folder}").mkdir()
        for number in range(100):
            (tmp_path / f"d{folder}" / f"f{number}.py").touch()
    fingerprint_tree(str(tmp_path), str(tmp_path))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        fingerprint_tree(str(tmp_path), str(tmp_path))
        times.append(time.perf_counter() - began)
    assert min(times) < 0.3


def test_a_folder_behind_a_link_counts(tree: Path, tmp_path: Path) -> None:
    """Else an edit of shared sources, linked into the project, is never built; and a circle never ends."""
    shared = tmp_path / "shared"
    (shared / "deep").mkdir(parents=True)
    (shared / "deep" / "module.py").write_text("a = 1\n")
    (shared / "back").symlink_to(tree)
    (shared / "again").symlink_to(shared)
    (tree / "linked").symlink_to(shared)
    before = look(tree)
    assert before == look(tree)
    (shared / "deep" / "module.py").write_text("a = 1000\n")
    assert look(tree) != before


DYNAMIC = SETUPTOOLS.replace('version = "1.0"', 'dynamic = ["version"]')


@pytest.mark.parametrize(
    ("pyproject", "changed", "content", "counts"),
    [
        (SETUPTOOLS, "src/demo/__init__.py", "a = 77\n", False),
        (SETUPTOOLS, "src/demo/fast.c", "int x;", True),
        (SETUPTOOLS, "src/other/__init__.py", "", True),
        (DYNAMIC, "src/demo/__init__.py", "__version__ = '2.0'\n", True),
        (DYNAMIC, "src/demo/version.txt", "2.0\n", True),
    ],
)
def test_what_an_editable_install_depends_on(
    tree: Path, pyproject: str, changed: str, content: str, counts: bool
) -> None:
    """Code shows through; a version in another file, compiled code and new packages do not."""
    (tree / "pyproject.toml").write_text(pyproject)
    before = look(tree, editable=True)
    assert before == look(tree, editable=True)
    path = tree / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    assert (look(tree, editable=True) != before) is counts
