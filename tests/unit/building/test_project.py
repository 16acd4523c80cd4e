"""What a source tree says of itself: how it is built, and what is known without building it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgc_daemon.building.project import read_project
from pkgc_daemon.errors import InputError

LEGACY = {
    "requires": ["setuptools>=40.8.0"],
    "backend": "setuptools.build_meta:__legacy__",
    "backend_path": [],
    "legacy": True,
}
FLIT = '[build-system]\nrequires = ["flit_core >=3.4,<5"]\nbuild-backend = "flit_core.buildapi"\n'


def write(folder: Path, **files: str | bytes) -> Path:
    """A project: ``pyproject``, ``setup_py``, ``setup_cfg``, ``pkg_info``."""
    names = {
        "pyproject": "pyproject.toml",
        "setup_py": "setup.py",
        "setup_cfg": "setup.cfg",
        "pkg_info": "PKG-INFO",
    }
    folder.mkdir(exist_ok=True)
    for key, content in files.items():
        (folder / names[key]).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(folder: Path, **files: str | bytes) -> dict[str, Any]:
    return read_project(str(write(folder, **files)))


def refused(folder: Path, **files: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, **files)
    assert caught.value.code == "invalid-project"
    assert str(folder) in caught.value.message
    assert caught.value.context is not None
    assert "expected" in caught.value.context
    assert "found" in caught.value.context
    return caught.value


def test_a_project_that_says_everything(tmp_path: Path) -> None:
    """Its backend is asked, and its name is known before a build."""
    text = '[project]\nname = "My.Project"\nversion = "1.0"\n[build-system]\n'
    text += 'requires = ["hatchling>=1.27", "x ; python_version > \'3\'"]\n'
    text += 'build-backend = "pkg.mod:obj.attr"\nbackend-path = [".", "tools"]\n'
    assert read(tmp_path, pyproject=text) == {
        "name": "my-project",
        "version": "1.0",
        "requires": ["hatchling>=1.27", "x ; python_version > '3'"],
        "backend": "pkg.mod:obj.attr",
        "backend_path": [".", "tools"],
        "legacy": False,
    }


@pytest.mark.parametrize(
    "files",
    [
        {"setup_py": "raise SystemExit('must not be run')"},
        {"setup_py": "", "pyproject": ""},
        {"setup_py": "", "pyproject": "[tool.black]\nline-length = 100\n"},
        {"pyproject": "[tool.setuptools]\n"},
    ],
)
def test_projects_without_a_build_system(files: dict[str, str], tmp_path: Path) -> None:
    """B2: half of all old sdists; each is built by setuptools as setup.py was run."""
    assert read(tmp_path, **files) == {"name": None, "version": None, **LEGACY}


def test_requires_without_a_backend(tmp_path: Path) -> None:
    """B2: Cython projects say what setup.py needs, and no backend."""
    found = read(tmp_path, pyproject='[build-system]\nrequires = ["setuptools", "cython"]\n')
    assert found == {"name": None, "version": None, **LEGACY, "requires": ["setuptools", "cython"]}


@pytest.mark.parametrize(
    "files", [{}, {"setup_cfg": "[metadata]\nname = x\n"}, {"pkg_info": "Metadata-Version: 2.2\n"}]
)
def test_folders_that_are_no_projects(files: dict[str, str], tmp_path: Path) -> None:
    """The hint says what is missing, instead of an error of setuptools' a minute later."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, **files)
    assert caught.value.code == "not-a-project"
    assert "pyproject.toml or setup.py" in str(caught.value.context)
    assert "subdirectory" in str(caught.value.hint)


def test_the_label_is_what_errors_name(tmp_path: Path) -> None:
    """A temporary folder's name says nothing to the user."""
    with pytest.raises(InputError) as caught:
        read_project(str(write(tmp_path, pyproject="[")), "demo-1.0.tar.gz")
    assert caught.value.message.startswith("demo-1.0.tar.gz/pyproject.toml: ")
    assert str(tmp_path) not in caught.value.message


INVALID: dict[str, tuple[str | bytes, str]] = {
    "not TOML": ("[project\n", "not valid TOML"),
    "a key twice": ("a = 1\na = 2\n", "not valid TOML"),
    "not UTF-8": (b'[project]\nname = "caf\xe9"\n', "not valid TOML"),
    "UTF-16": ('[project]\nname = "x"\n'.encode("utf-16"), "not valid TOML"),
    "nested to death": ("a = " + "[" * 100_000, "not valid TOML"),
    "a number to death": ("a = " + "1" * 10_000, "not valid TOML"),
    "build-system is a string": ('build-system = "x"\n', "no table"),
    "build-system is a list of tables": ('[[build-system]]\nrequires = ["x"]\n', "no table"),
    "no requires": ('[build-system]\nbuild-backend = "x"\n', "requires is missing"),
    "requires is a string": ('[build-system]\nrequires = "x"\n', "no list of strings"),
    "requires has a number": ("[build-system]\nrequires = [1]\n", "no list of strings"),
    "requires has what is no requirement": ('[build-system]\nrequires = ["x y"]\n', "no requirement"),
    "requires has an option": ('[build-system]\nrequires = ["--index-url=x"]\n', "no requirement"),
    "requires has an empty string": ('[build-system]\nrequires = [""]\n', "no requirement"),
    "build-backend is a list": ('[build-system]\nrequires = []\nbuild-backend = ["x"]\n', "build-backend"),
    "build-backend is empty": ('[build-system]\nrequires = []\nbuild-backend = ""\n', "build-backend"),
    "build-backend is a path": ('[build-system]\nrequires = []\nbuild-backend = "../x"\n', "build-backend"),
    "build-backend is code": ('[build-system]\nrequires = []\nbuild-backend = "x:y()"\n', "build-backend"),
    "build-backend of three": ('[build-system]\nrequires = []\nbuild-backend = "x:y:z"\n', "build-backend"),
    "backend-path is a string": ('[build-system]\nrequires = []\nbackend-path = "."\n', "no list of strings"),
    "backend-path goes up": ('[build-system]\nrequires = []\nbackend-path = [".."]\n', "leaves"),
    "backend-path goes far up": ('[build-system]\nrequires = []\nbackend-path = ["a/../../x"]\n', "leaves"),
    "backend-path is absolute": ('[build-system]\nrequires = []\nbackend-path = ["/tmp"]\n', "leaves"),
    "backend-path is empty": ('[build-system]\nrequires = []\nbackend-path = [""]\n', "leaves"),
    "backend-path has a NUL": ('[build-system]\nrequires = []\nbackend-path = ["a\\u0000b"]\n', "leaves"),
    "project is a string": ('project = "x"\n', "no table"),
    "the name is a number": ("[project]\nname = 1\n", "project.name"),
    "the name is a path": ('[project]\nname = "../x"\n', "project.name"),
    "the name is empty": ('[project]\nname = ""\n', "project.name"),
}  # fmt: skip


@pytest.mark.parametrize("what", INVALID)
def test_invalid_project_files_are_named(what: str, tmp_path: Path) -> None:
    """Which file, which key: not a traceback of a build."""
    content, word = INVALID[what]
    error = refused(tmp_path / "p", pyproject=content)
    assert word in error.message
    assert "pyproject.toml" in error.message


def test_backend_path_by_a_link(tmp_path: Path) -> None:
    """A link must not bring code from beside the tree into the build (by components: CVE-2026-1703)."""
    for name in ("p-evil", "p"):
        (tmp_path / name).mkdir()
    (tmp_path / "p/in").symlink_to("tools")
    (tmp_path / "p/tools").mkdir()
    (tmp_path / "p/out").symlink_to("../p-evil")
    text = '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["%s"]\n'
    assert read(tmp_path / "p", pyproject=text % "in")["backend_path"] == ["in"]
    assert "leaves" in refused(tmp_path / "p", pyproject=text % "out").message


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """Opening a pipe would hang the sync for ever."""
    os.mkfifo(tmp_path / "pyproject.toml")
    assert "no regular file" in refused(tmp_path).message


def test_a_project_file_that_is_too_large(tmp_path: Path) -> None:
    """Memory must not grow with what a stranger packs."""
    with (tmp_path / "pyproject.toml").open("wb") as file:
        file.truncate((16 << 20) + 1)
    assert "too large" in refused(tmp_path).message


PKG_INFO = "Metadata-Version: {}\nName: From.Info\nVersion: 2.0\n{}\nVersion: 9 (description)\n"

#: (pyproject, PKG-INFO, setup.cfg) -> (name, version)
IDENTITIES: dict[str, tuple[str, str | None, str | None, tuple[str | None, str | None]]] = {
    "static": ('[project]\nname = "x"\nversion = "1"\n', None, None, ("x", "1")),
    "a dynamic version": ('[project]\nname = "x"\ndynamic = ["version"]\n', None, None, ("x", None)),
    "a version that is static and dynamic": (
        '[project]\nname = "x"\nversion = "1"\ndynamic = ["version"]\n', None, None, ("x", None),
    ),
    "a version that is none": ('[project]\nname = "x"\nversion = "one"\n', None, None, ("x", None)),
    "a version that is a number": ('[project]\nname = "x"\nversion = 1\n', None, None, ("x", None)),
    "a dynamic version and PKG-INFO": (
        '[project]\nname = "x"\ndynamic = ["version"]\n', PKG_INFO.format("2.2", ""), None, ("x", "2.0"),
    ),
    "pyproject.toml before PKG-INFO": (
        '[project]\nname = "x"\nversion = "1"\n', PKG_INFO.format("2.4", ""), None, ("x", "1"),
    ),
    "PKG-INFO of 2.2 (PEP 643)": ("", PKG_INFO.format("2.2", ""), None, ("from-info", "2.0")),
    "PKG-INFO of a later minor version": ("", PKG_INFO.format("2.17", ""), None, ("from-info", "2.0")),
    "PKG-INFO of 2.1": ("", PKG_INFO.format("2.1", ""), None, (None, None)),
    "PKG-INFO of 1.2": ("", PKG_INFO.format("1.2", ""), None, (None, None)),
    "PKG-INFO of another format": ("", PKG_INFO.format("3.0", ""), None, (None, None)),
    "PKG-INFO without a format": ("", PKG_INFO.format("", ""), None, (None, None)),
    "PKG-INFO with a dynamic version": (
        "", PKG_INFO.format("2.2", "Dynamic: version\n"), None, ("from-info", None),
    ),
    "PKG-INFO with other dynamic fields": (
        "", PKG_INFO.format("2.2", "Dynamic: Requires-Dist\nDynamic: License\n"), None, ("from-info", "2.0"),
    ),
    "PKG-INFO with DOS lines": (
        "", PKG_INFO.format("2.2", "").replace("\n", "\r\n"), None, ("from-info", "2.0"),
    ),
    "PKG-INFO with a folded field": (
        "", "Metadata-Version: 2.2\nSummary: a\n Version: 3\nName: x\nVersion: 2\n\n", None, ("x", "2"),
    ),
    "setup.cfg": ("", None, "[metadata]\nname = From_cfg\nversion = 3\n", ("from-cfg", None)),
    "setup.cfg with percent signs": ("", None, "[metadata]\nname = x\n[x]\ny = %(z)s\n", ("x", None)),
    "setup.cfg after PKG-INFO": (
        "", PKG_INFO.format("2.2", ""), "[metadata]\nname = y\n", ("from-info", "2.0"),
    ),
    "setup.cfg that is broken": ("", None, "name = x\n", (None, None)),
    "setup.cfg with a name that is none": ("", None, "[metadata]\nname = attr: x.y\n", (None, None)),
}  # fmt: skip


@pytest.mark.parametrize("what", IDENTITIES)
def test_name_and_version_are_known_only_when_static(what: str, tmp_path: Path) -> None:
    """B4: a wrong guess installs under another name, or refuses a good project."""
    pyproject, pkg_info, setup_cfg, expected = IDENTITIES[what]
    files = {"pyproject": pyproject, "pkg_info": pkg_info, "setup_cfg": setup_cfg}
    found = read(tmp_path, **{key: value for key, value in files.items() if value is not None})
    assert (found["name"], found["version"]) == expected


def test_flit_projects_without_a_project_table(tmp_path: Path) -> None:
    """Poetry and old flit keep the name in their own tables: a build tells it."""
    found = read(tmp_path, pyproject=FLIT + '[tool.flit.metadata]\nmodule = "x"\n')
    assert found["name"] is None
    assert found["backend"] == "flit_core.buildapi"
    assert not found["legacy"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pyproject=st.binary(max_size=200)
    | st.builds(
        "[build-system]\nrequires = {}\nbuild-backend = {}\n[project]\nname = {}\nversion = {}\n".format,
        *[st.sampled_from(["1", "[]", '"x"', '["x"]', "{}", '"a.b:c"', "true", '"1.0"', "[[]]"])] * 4,
    ).map(str.encode),
    pkg_info=st.binary(max_size=100)
    | st.builds(PKG_INFO.format, st.text(max_size=5), st.text(max_size=20)).map(str.encode),
    setup_cfg=st.binary(max_size=100),
)
def test_wild_project_files(
    pyproject: bytes, pkg_info: bytes, setup_cfg: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A stranger's files end in an answer or in an error with a code."""
    folder = tmp_path_factory.mktemp("project")
    try:
        found = read(folder, pyproject=pyproject, pkg_info=pkg_info, setup_cfg=setup_cfg)
    except InputError:
        return
    assert all(isinstance(one, str) for one in found["requires"])
    assert isinstance(found["backend"], str)
