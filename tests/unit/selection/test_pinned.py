"""Projects that are pinned to an index come from that one alone, and errors say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import IndexOptions
from tests.unit.selection.test_choose import BOTH, EXTRA, PURE, TARGET, World, pin, sha

TORCH = "http://user:secret@torch.example/whl"
PINNED = replace(BOTH, pins={"demo": TORCH}, names={TORCH: "pytorch", EXTRA: "extra"})


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize("numbers", [(), (3,)])
async def test_only_the_index_of_the_pin_is_asked(
    world: World, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    """Whoever pins a project says that nothing else may serve it: no index, no folder."""
    (tmp_path / PURE).write_bytes(b"")
    world.indexes.hosts = {"main.example": {PURE: 1}, "torch.example": {PURE: 3}, "extra.example": {PURE: 1}}
    options = replace(PINNED, find_links=(str(tmp_path),))
    for everywhere in (False, True):
        assert await world.urls(pin(*numbers), options, everywhere=everywhere) == [
            f"http://torch.example/{PURE}"
        ]
    assert set(world.indexes.requests) == {"torch.example"}
    assert {index for index, _, _ in world.indexes.remembered} == {"http://torch.example/whl"}


async def test_a_hash_does_not_open_a_pinned_project_to_other_indexes(world: World) -> None:
    """The error says why the file that would match was not looked for."""
    world.indexes.hosts = {"main.example": {PURE: 1}, "torch.example": {PURE: 3}}
    error = await world.error(pin(1), PINNED)
    assert error.code == "no-allowed-hash"
    assert "demo is pinned to the index pytorch (http://torch.example/whl)" in (error.context or "")
    assert set(world.indexes.requests) == {"torch.example"}


async def test_other_projects_do_not_come_from_the_pinned_index(world: World) -> None:
    """An explicit index serves only what is pinned to it."""
    world.indexes.hosts = {"main.example": {PURE: 1}, "torch.example": {PURE: 3}}
    options = replace(PINNED, pins={"other": TORCH})
    assert await world.urls(pin(), options) == [f"http://main.example/{PURE}"]
    assert world.indexes.requests == ["main.example"]


@pytest.mark.parametrize("numbers", [(), (3,)])
async def test_what_the_pinned_index_lacks_is_an_error_that_names_it(
    world: World, numbers: tuple[int, ...]
) -> None:
    """Invariant 8: a forgotten pin is otherwise hard to find."""
    world.indexes.hosts = {"main.example": {PURE: 3}}
    error = await world.error(pin(*numbers), PINNED)
    assert error.code == "unknown-package"
    assert error.message == (
        "requirements.txt:3: demo is pinned to the index pytorch (http://torch.example/whl), "
        "which does not have it"
    )
    assert "--pin-index" in (error.hint or "")
    world.indexes.hosts = {"torch.example": {"demo-2.0-py3-none-any.whl": 1}}
    error = await world.error(pin(*numbers), PINNED)
    assert error.code == "no-matching-version"
    assert "demo is pinned to the index pytorch" in (error.context or "")


@pytest.mark.parametrize("numbers", [(), (3,)])
async def test_a_pinned_index_that_is_down_is_the_error(world: World, numbers: tuple[int, ...]) -> None:
    """No other index takes its place, and the cause is shown."""
    down = PkgcError("connection-refused", "http://torch.example refused the connection")
    world.indexes.hosts = {"main.example": {PURE: 3}, "torch.example": down}
    error = await world.error(pin(*numbers), PINNED)
    assert error.code == "connection-refused"
    assert "demo is pinned to the index pytorch" in (error.context or "")


async def test_no_index_means_no_pinned_index_either(world: World) -> None:
    """--no-index promises that no index is asked."""
    error = await world.error(pin(), replace(PINNED, no_index=True))
    assert error.code == "unknown-package"
    assert "--no-index forbids to ask it" in error.message
    assert world.indexes.requests == []


async def test_names_of_indexes_are_shown(world: World) -> None:
    """People know their indexes by the names they gave them."""
    error = await world.error(pin(), IndexOptions(indexes=(EXTRA,), names={EXTRA: "corp"}))
    assert error.context == "asked: corp (http://extra.example/simple)"


async def test_origins_of_named_indexes_hold_their_url(world: World) -> None:
    """Names change; records keep what does not."""
    world.indexes.hosts = {"torch.example": {PURE: 3}}
    choice = await world.selector.candidates(pin(3), TARGET, PINNED, reporter=world.reporter)
    assert choice.candidates[0].origin.index == "http://torch.example/whl"
    assert choice.advertised == {sha(3)}
