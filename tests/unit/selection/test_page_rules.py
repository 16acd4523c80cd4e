"""Rules for pages: those of an index that forbids to keep them are kept, if and as long as the user says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pkgc_daemon.vocabulary import IndexOptions
from tests.unit.selection.test_indexes import INDEX, OPTIONS, World

TEN_MINUTES = replace(OPTIONS, page_rules={INDEX: "max-age=600"})


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize(
    "fields",
    [
        {"cache-control": "no-store"},
        {"cache-control": "no-cache", "vary": "*"},
        {"age": "100000", "date": "Thu, 01 Jan 1970 00:00:00 GMT", "expires": "0"},
        {},
    ],
)
async def test_a_rule_keeps_pages_of_an_index_that_forbids_it(world: World, fields: dict[str, str]) -> None:
    """Complaint 5: such an index is asked at every sync otherwise, by every job of the host."""
    world.web.fields = fields
    await world.ask(options=TEN_MINUTES)
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 1
    await world.restart()
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 1, "it is kept on disk too"
    world.clock.time += 601
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 2


async def test_a_304_is_fresh_by_the_rule_again(world: World) -> None:
    """Validators go on working, and the ten minutes begin anew."""
    world.web.fields = {"etag": '"1"', "cache-control": "no-cache"}
    await world.ask(options=TEN_MINUTES)
    world.clock.time += 601
    await world.ask(options=TEN_MINUTES)
    assert world.web.requests[1][1]["if-none-match"] == '"1"'
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 2
    await world.restart()
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 2


@pytest.mark.parametrize(
    "other", [OPTIONS, replace(OPTIONS, page_rules={"http://other.example/": "max-age=9"})]
)
async def test_a_rule_is_not_for_those_who_did_not_make_it(world: World, other: IndexOptions) -> None:
    """One user's config.toml must not give another an old page, from memory or disk."""
    world.web.fields = {"cache-control": "no-store"}
    await world.ask(options=TEN_MINUTES)
    await world.ask(options=other)
    await world.ask(options=other)
    assert len(world.web.requests) == 3
    await world.restart()
    await world.ask(options=other)
    assert len(world.web.requests) == 4
    await world.ask(options=TEN_MINUTES)
    assert len(world.web.requests) == 4


async def test_a_rule_can_forbid_what_the_index_allows(world: World) -> None:
    """An index whose max-age lies is asked every time."""
    world.web.fields = {"cache-control": "max-age=600"}
    never = replace(OPTIONS, page_rules={INDEX: "no-store"})
    await world.ask(options=never)
    await world.ask(options=never)
    assert len(world.web.requests) == 2
    await world.client.saved()
    assert world.store.pages == {}


async def test_refresh_beats_a_rule(world: World) -> None:
    """--refresh asks the index, whatever was said of its pages."""
    world.web.fields = {}
    await world.ask(options=TEN_MINUTES)
    await world.ask("refresh", options=TEN_MINUTES)
    assert len(world.web.requests) == 2
