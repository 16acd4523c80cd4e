"""find-links and local indexes: a folder of wheels must do what an index does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection.findlinks import (
    FlatLists,
    file_url,
    local_path,
    read_folder_in_thread,
    read_local,
    read_local_project,
)


async def test_a_folder_lists_its_archives(tmp_path: Path) -> None:
    """Other files, folders and dangling links are passed over; odd characters survive."""
    for name in ("My.Demo-1.0+x#y-py3-none-any.whl", "my_demo-2.0.tar.gz", "other-1.zip", "README.txt"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "folder-1.0-py3-none-any.whl").mkdir()
    (tmp_path / "gone-1.0-py3-none-any.whl").symlink_to("nowhere")
    page = await FlatLists(read_folder_in_thread).files(str(tmp_path), "my-demo")
    assert page is not None
    files = {file.filename: file for file in page.files}
    assert set(files) == {"My.Demo-1.0+x#y-py3-none-any.whl", "my_demo-2.0.tar.gz"}
    wheel = files["My.Demo-1.0+x#y-py3-none-any.whl"]
    assert wheel.size == 5
    path = local_path(wheel.url)
    assert path is not None
    assert Path(path).read_bytes() == b"12345"


async def test_a_changed_folder_is_seen(tmp_path: Path) -> None:
    """Else a wheel that was just built there is not found until the daemon restarts."""
    lists = FlatLists(read_folder_in_thread)
    assert await lists.files(str(tmp_path), "demo") is None
    (tmp_path / "demo-1.0-py3-none-any.whl").write_bytes(b"")
    os.utime(tmp_path, ns=(1, 1))
    page = await lists.files(str(tmp_path), "demo")
    assert page is not None
    assert len(page.files) == 1


async def test_an_unchanged_folder_is_not_listed_again(tmp_path: Path) -> None:
    """Else each of a hundred requirements lists a folder of thousands of wheels."""
    kinds = []

    async def read(args: dict[str, object]) -> dict[str, object]:
        result = read_local(args)
        kinds.append(result["kind"])
        return result

    lists = FlatLists(read)
    for name in ("a", "b", "c"):
        await lists.files(str(tmp_path), name)
    assert kinds == ["folder", "same", "same"]


async def test_a_local_page_is_a_flat_list(tmp_path: Path) -> None:
    """pip takes HTML files as find-links; relative links are relative to the page."""
    page_path = tmp_path / "links.html"
    page_path.write_text(f'<a href="sub/demo-1.0-py3-none-any.whl#sha256={"a" * 64}">x</a>')
    page = await FlatLists(read_folder_in_thread).files(str(page_path), "demo")
    assert page is not None
    assert page.files[0].url == file_url(str(tmp_path)) + "/sub/demo-1.0-py3-none-any.whl"
    assert len(page.files[0].hashes) == 1


async def test_a_missing_or_unreadable_location_is_named(tmp_path: Path) -> None:
    """Else a typo in -f looks like a missing package."""
    lists = FlatLists(read_folder_in_thread)
    with pytest.raises(PkgcError, match="absent") as caught:
        await lists.files(str(tmp_path / "absent"), "demo")
    assert caught.value.code == "find-links-unreadable"
    with pytest.raises(PkgcError, match="another host"):
        local_path("file://server/share")
    assert local_path("file:///a%20b/c") == "/a b/c"
    assert local_path("file://localhost/x") == "/x"
    assert local_path("http://h.example/x") is None


async def test_file_indexes(tmp_path: Path) -> None:
    """A mirror on disk: index.html of the project's folder, else the files in it, else no such project."""
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.mkdir()
    written.mkdir()
    (plain / "plain-1.0-py3-none-any.whl").write_bytes(b"")
    (written / "index.html").write_text('<a href="../../files/written-1.0.zip">w</a>')
    root = file_url(str(tmp_path))

    listed = await read_local_project(f"{root}/plain/", read_folder_in_thread)
    assert listed is not None
    assert [file.url for file in listed.files] == [f"{root}/plain/plain-1.0-py3-none-any.whl"]
    paged = await read_local_project(f"{root}/written/", read_folder_in_thread)
    assert paged is not None
    assert paged.files[0].url == file_url(str(tmp_path.parent)) + "/files/written-1.0.zip"
    assert await read_local_project(f"{root}/absent/", read_folder_in_thread) is None
