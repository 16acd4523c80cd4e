"""Versions of a project: what may be chosen from, when nothing is pinned."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from pkgc_daemon.environments.interpreter import interpreter_from_wire, probe_interpreter
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.reporting import Silent
from pkgc_daemon.selection.indexes import IndexClient
from pkgc_daemon.selection.versions import Release, VersionLists
from pkgc_daemon.vocabulary import IndexOptions

ALL = frozenset({":all:"})


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


async def listed(project: str, options: IndexOptions, **more: Any) -> tuple[Release, ...]:
    client = IndexClient(cast("Any", None), cast("Any", None))
    target = interpreter_from_wire(probe_interpreter({"python": sys.executable}))
    return await VersionLists(client).releases(project, target, options, reporter=Silent(), **more)


def shown(releases: tuple[Release, ...]) -> list[str]:
    return [f"{one.version} {one.candidates[0].filename}" for one in releases]


async def test_every_usable_version_newest_first_with_its_best_file(tmp_path: Path) -> None:
    """Else builds run with an old backend, or with a file that is not for the target."""
    folder = touch(
        tmp_path / "links",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",
        "demo-1.10-py3-none-any.whl",
        "demo-1.9-py3-none-any.whl",
        "demo-2.0-cp20-cp20-win32.whl",
        "demo-3.0.tar.gz",
        "demo-bad-py3-none-any.whl",
        "other-9.0-py3-none-any.whl",
    )
    options = IndexOptions(find_links=(str(folder),), no_index=True)
    assert shown(await listed("demo", options)) == [
        "3.0 demo-3.0.tar.gz",
        "1.10 demo-1.10-py3-none-any.whl",
        "1.9 demo-1.9-py3-none-any.whl",
        "1.0 demo-1.0-py3-none-any.whl",
    ]
    assert shown(await listed("demo", options, no_build=True))[0].startswith("1.10 ")
    assert shown(await listed("demo", options, only_binary=ALL))[0].startswith("1.10 ")
    assert shown(await listed("demo", options, no_binary=ALL)) == [
        "3.0 demo-3.0.tar.gz",
        "1.0 demo-1.0.tar.gz",
    ]
    assert await listed("nobody", options) == ()


async def test_only_the_first_index_that_has_the_project_counts(tmp_path: Path) -> None:
    """Dependency confusion: else a later index slips in a newer version of a private project."""
    private = touch(tmp_path / "private" / "demo", "demo-1.0-py3-none-any.whl").parent
    public = touch(tmp_path / "public" / "demo", "demo-9.0-py3-none-any.whl").parent
    touch(public / "tool", "tool-1.0-py3-none-any.whl")
    options = IndexOptions(indexes=(private.as_uri(), public.as_uri()))
    assert [str(one.version) for one in await listed("demo", options)] == ["1.0"]
    assert [str(one.version) for one in await listed("tool", options)] == ["1.0"]


async def test_a_pinned_project_has_no_other_source(tmp_path: Path) -> None:
    """Else what is pinned to the company's index comes from elsewhere when something needs it to build."""
    private = touch(tmp_path / "private" / "demo", "demo-1.0-py3-none-any.whl").parent
    public = touch(tmp_path / "public" / "demo", "demo-9.0-py3-none-any.whl").parent
    links = touch(tmp_path / "links", "demo-8.0-py3-none-any.whl")
    options = IndexOptions(
        indexes=(public.as_uri(),), find_links=(str(links),), pins={"demo": private.as_uri()}
    )
    assert [str(one.version) for one in await listed("demo", options)] == ["1.0"]


async def test_a_first_index_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Else a mistyped index lets the next one serve private names (a later one may be missing)."""
    there = touch(tmp_path / "there" / "demo", "demo-1.0-py3-none-any.whl").parent
    missing = (tmp_path / "missing").as_uri()
    with pytest.raises(PkgcError) as failure:
        await listed("demo", IndexOptions(indexes=(missing, there.as_uri())))
    assert failure.value.code == "index-unreadable"
    assert await listed("nobody", IndexOptions(indexes=(there.as_uri(), missing))) == ()
