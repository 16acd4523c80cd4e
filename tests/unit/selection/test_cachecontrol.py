"""Freshness: too long and a new release is not seen, too short and every sync asks the index."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.selection.cachecontrol import Freshness, freshness, parse_cache_control

NOW = 1_700_000_000.0


def judge(**fields: str) -> Freshness:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return freshness(headers, requested_at=NOW, received_at=NOW)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"cache_control": "max-age=600, public"}, 600),
        ({"cache_control": 'Max-Age="600"'}, 600),
        ({"cache_control": "max-age=600", "age": "100"}, 500),
        ({"cache_control": "max-age=600", "age": "700"}, None),
        ({"cache_control": "max-age=600", "date": formatdate(NOW - 60, usegmt=True)}, 540),
        ({"cache_control": "max-age=600", "date": formatdate(NOW + 60, usegmt=True)}, 600),
        ({"cache_control": "s-maxage=600"}, None),  # for shared caches only
        ({"cache_control": "max-age=0"}, None),
        ({"cache_control": "max-age=soon"}, None),
        ({"cache_control": "max-age=600, no-cache"}, None),
        ({"cache_control": "max-age=600", "vary": "*"}, None),
        ({"cache_control": "max-age=600", "vary": "Accept"}, 600),
        ({"expires": formatdate(NOW + 300, usegmt=True), "date": formatdate(NOW, usegmt=True)}, 300),
        ({"expires": formatdate(NOW + 300, usegmt=True), "cache_control": "max-age=10"}, 10),
        ({"expires": "0"}, None),
        ({"last_modified": formatdate(NOW - 10**7, usegmt=True)}, None),  # no guessing
        ({}, None),
    ],
)
def test_lifetimes(fields: dict[str, str], seconds: float | None) -> None:
    """RFC 9111, 4.2."""
    assert judge(**fields) == Freshness(True, 0.0 if seconds is None else NOW + seconds)


def test_no_store_wins() -> None:
    """Else a page that must not be kept lands on disk."""
    assert judge(cache_control="max-age=600, no-store") == Freshness(False, 0.0)


def test_the_time_of_the_request_counts() -> None:
    """RFC 9111, 4.2.3: a slow answer was made before it came."""
    verdict = freshness({"cache-control": "max-age=60"}, requested_at=NOW - 20, received_at=NOW)
    assert verdict.fresh_until == NOW + 40


def test_directives_are_parsed() -> None:
    """Commas in quoted values separate nothing."""
    assert parse_cache_control('private="a, b", max-age=3 ,, no-cache, max-age=9') == {
        "private": "a, b",
        "max-age": "3",
        "no-cache": None,
    }


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=10))
def test_no_header_breaks_the_verdict(cache_control: str, expires: str, date: str, age: str) -> None:
    """A server must not be able to crash the daemon with a header."""
    judge(cache_control=cache_control, expires=expires, date=date, age=age)
