"""From an archive, a directory or a checkout to a folder that can be built in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkgc_daemon.building.prepare import prepare_source
from pkgc_daemon.building.work import begin_build, end_build
from pkgc_daemon.errors import PkgcError
from tests.support.sdists import make_sdist, pack, project_files, raw_tar, tar_file, tar_link, tree_of


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A work folder as the daemon asks for it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    folder = begin_build({})["work"]
    yield folder
    end_build({"work": folder, "keep_log": False})


def prepare(**args: Any) -> dict[str, Any]:
    return prepare_source(args, lambda _done, _total: None, lambda: False)


def refused(code: str, **args: Any) -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        prepare(**args)
    assert caught.value.code == code
    return caught.value


def archive(
    work: str, tmp_path: Path, data: bytes, filename: str = "demo-1.0.tar.gz", **args: Any
) -> dict[str, Any]:
    path = tmp_path / "named-by-its-digest"
    path.write_bytes(data)
    return {
        "kind": "archive",
        "path": str(path),
        "filename": filename,
        "subdirectory": None,
        "work": work,
    } | args


def write_project(folder: Path, name: str = "demo", version: str = "1.0") -> Path:
    for path, data in project_files(name, version).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.xz", ".zip"])
def test_an_archive_is_unpacked_into_the_work_folder(ending: str, work: str, tmp_path: Path) -> None:
    """Without it no sdist can be built."""
    sdist = make_sdist("demo", "1.0", ending=ending, requires=["x"])
    found = prepare(**archive(work, tmp_path, sdist.data, sdist.filename))
    assert found["source"].startswith(work + "/")
    assert (Path(found["source"]) / "demo/__init__.py").read_text() == "__version__ = '1.0'\n"
    assert found["project"] == {
        "name": "demo",
        "version": "1.0",
        "requires": ["x"],
        "backend": "tests_backend",
        "backend_path": ["_build"],
        "legacy": False,
    }


def test_a_directory_is_used_where_it_is(tmp_path: Path, work: str) -> None:
    """Copying it would lose what lies beside it, and take the time of copying node_modules."""
    tree = write_project(tmp_path / "tree")
    before = tree_of(tree)
    found = prepare(kind="directory", path=str(tree), filename="", subdirectory=None, work=work)
    assert found["source"] == str(tree)
    assert found["project"]["name"] == "demo"
    assert tree_of(tree) == before
    assert set(tree_of(Path(work))) == {".pkgc-build"}


@pytest.mark.parametrize("kind", ["directory", "git-checkout"])
def test_a_subdirectory(kind: str, tmp_path: Path, work: str) -> None:
    """Repositories with several projects (#subdirectory=)."""
    write_project(tmp_path / "tree/python/demo")
    found = prepare(kind=kind, path=str(tmp_path / "tree"), subdirectory="python/demo/", work=work)
    assert found["source"] == str(tmp_path / "tree/python/demo")


def test_a_subdirectory_of_an_archive(work: str, tmp_path: Path) -> None:
    """It counts from the archive's top folder, as in pip."""
    files = {f"repo-main/python/{path}": data for path, data in project_files("demo", "1.0").items()}
    found = prepare(**archive(work, tmp_path, pack(files, ".zip"), "main.zip", subdirectory="python"))
    assert found["source"].endswith("/repo-main/python")
    assert found["project"]["name"] == "demo"


@pytest.mark.parametrize("outside", ["..", "../demo-1.0-evil", "a/../..", "/etc", "out", "out/x", "a\0b"])
@pytest.mark.parametrize("kind", ["archive", "directory", "git-checkout"])
def test_a_subdirectory_stays_inside(kind: str, outside: str, work: str, tmp_path: Path) -> None:
    """A lock must not make the build run in another folder of the user's (CVE-2026-1703: by components)."""
    for name in ("tree", "demo-1.0-evil/x"):
        write_project(tmp_path / name)
    (tmp_path / "tree/a").mkdir()
    (tmp_path / "tree/out").symlink_to("../demo-1.0-evil")
    if kind == "archive":
        if outside.startswith("out"):
            pytest.skip("such a link is refused before")
        args = archive(work, tmp_path, make_sdist("demo", "1.0", {"a/x": ""}).data, subdirectory=outside)
    else:
        args = {"kind": kind, "path": str(tmp_path / "tree"), "subdirectory": outside, "work": work}
    error = refused("subdirectory-outside", **args)
    assert repr(outside) in error.message


def test_a_subdirectory_that_is_not_there(work: str, tmp_path: Path) -> None:
    """What is there helps to see the slip."""
    data = make_sdist("demo", "1.0", {"python/x": ""}).data
    error = refused("source-not-found", **archive(work, tmp_path, data, subdirectory="pyhton"))
    assert "demo-1.0.tar.gz has no folder 'pyhton'" in error.message
    assert "python" in str(error.context)
    refused("source-not-found", kind="directory", path=str(tmp_path / "no"), work=work)


def test_errors_name_the_archive_and_not_the_work_folder(work: str, tmp_path: Path) -> None:
    """The user knows the file, and cannot look into a folder that is gone."""
    for data, code in (
        (raw_tar(tar_file("demo-1.0/x")), "not-a-project"),
        (make_sdist("demo", "1.0", pyproject="[").data, "invalid-project"),
        (raw_tar(tar_link("demo-1.0/x", "/etc")), "bad-archive"),
    ):
        inner = begin_build({})["work"]
        error = refused(code, **archive(inner, tmp_path, data))
        end_build({"work": inner, "keep_log": False})
        assert error.message.startswith("demo-1.0.tar.gz")
        assert inner not in f"{error.message}{error.context}"
        assert error.exit_status == 1, "it is not the user's input that is wrong"


def test_errors_may_have_another_label(work: str, tmp_path: Path) -> None:
    """A checkout lies in a temporary folder: errors name its repository."""
    (tmp_path / "checkout").mkdir()
    error = refused(
        "not-a-project",
        kind="git-checkout",
        path=str(tmp_path / "checkout"),
        label="git+https://x/y",
        work=work,
    )
    assert error.message.startswith("git+https://x/y holds")


def test_a_directory_of_the_user_is_the_users_input(work: str, tmp_path: Path) -> None:
    """Exit status 2: the input is wrong, nothing failed."""
    (tmp_path / "tree").mkdir()
    error = refused("not-a-project", kind="directory", path=str(tmp_path / "tree"), work=work)
    assert error.exit_status == 2
    assert str(tmp_path / "tree") in error.message


def test_only_a_work_folder_is_written_into(tmp_path: Path) -> None:
    """The path comes over a socket: a wrong one must not cost anybody's files."""
    (tmp_path / "mine").mkdir()
    refused("not-a-work-folder", **archive(str(tmp_path / "mine"), tmp_path, make_sdist("demo", "1.0").data))
    assert tree_of(tmp_path / "mine") == {}


def test_unknown_formats_are_told(work: str, tmp_path: Path) -> None:
    """A lock can name any file."""
    refused("unsupported-archive", **archive(work, tmp_path, b"", "demo-1.0.rar"))


ASKED: dict[str, tuple[dict[str, Any], str | None, str | None, bool]] = {
    "the same": ({}, "demo", "1.0", True),
    "another spelling": ({}, "Demo", "1.0.0", True),
    "only a name": ({}, "demo", None, True),
    "only a version": ({}, None, "1", True),
    "nothing": ({}, None, None, True),
    "another name": ({}, "demos", "1.0", False),
    "another version": ({}, "demo", "1.1", False),
    "a local version that the file lacks": ({}, "demo", "1.0+cpu", True),
    "unknown until it is built": ({"pyproject": "[tool.x]\n", "metadata_version": "2.1"}, "other", "9", True),
    "told by PKG-INFO": ({"pyproject": "[tool.x]\n"}, "demo", "1.0", True),
    "told otherwise by PKG-INFO": ({"pyproject": "[tool.x]\n"}, "demo", "2.0", False),
    "a development version that only PKG-INFO has (tag_build)": (
        {"files": {"PKG-INFO": "Metadata-Version: 2.2\nName: demo\nVersion: 1.0.dev3\n"}},
        "demo",
        "1.0.dev3",
        True,
    ),
}


@pytest.mark.parametrize("what", ASKED)
def test_the_source_must_be_what_was_asked_for(what: str, work: str, tmp_path: Path) -> None:
    """Another project under a known name is an attack or a mistake; a build would run its code."""
    made, name, version, agrees = ASKED[what]
    args = archive(work, tmp_path, make_sdist("demo", "1.0", **made).data, name=name, version=version)
    if agrees:
        assert prepare(**args)["source"]
        return
    error = refused("metadata-mismatch", **args)
    assert "demo-1.0.tar.gz" in error.message
    assert "expected" in str(error.context)
    assert "found" in str(error.context)
    assert error.hint is not None


def test_cancelling_reaches_the_archive(work: str, tmp_path: Path) -> None:
    """Ctrl-C while a large archive is unpacked."""
    args = archive(work, tmp_path, make_sdist("demo", "1.0").data)
    with pytest.raises(PkgcError) as caught:
        prepare_source(args, lambda _done, _total: None, lambda: True)
    assert caught.value.code == "interrupted"
