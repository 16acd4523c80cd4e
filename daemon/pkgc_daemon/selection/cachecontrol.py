"""Freshness of index pages: the part of RFC 9111 that a private cache of one kind of resource needs.

Pure: header fields in, a verdict out. Nothing is guessed: without explicit freshness a page is asked for
again at its next use (design.md 8, 'Index pages'), so section 4.2.2 (heuristics) is left out on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: RFC 9111, 1.2.2: the largest delta that has to be understood.
_FOREVER = 2**31

_DIRECTIVE = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')


class Freshness(NamedTuple):
    """What may be done with a response."""

    storable: bool
    """False: serve those who wait for it, keep nothing."""
    fresh_until: float
    """Unix seconds; 0: validate before each use."""


def parse_cache_control(field: str) -> dict[str, str | None]:
    """Directives of a Cache-Control field, names in lower case; of repeated ones the first counts."""
    directives: dict[str, str | None] = {}
    position = 0
    while position < len(field):
        match = _DIRECTIVE.match(field, position)
        if match is not None:
            quoted = match.group(2)
            directives.setdefault(match.group(1).lower(), quoted if quoted is not None else match.group(3))
            position = match.end()
        comma = field.find(",", position)
        position = len(field) if comma < 0 else comma + 1
    return directives


def freshness(headers: Mapping[str, str], *, requested_at: float, received_at: float) -> Freshness:
    """How long a 200 or 304 response stays fresh (RFC 9111, 4.2, as a private cache).

    Args:
        headers: names in lower case.
        requested_at: Unix seconds when the request was sent.
        received_at: Unix seconds when the response came.
    """
    directives = parse_cache_control(headers.get("cache-control", ""))
    if "no-store" in directives:
        return Freshness(False, 0.0)
    if "no-cache" in directives or "*" in headers.get("vary", ""):
        return Freshness(True, 0.0)
    date = _date(headers.get("date"))
    lifetime = _lifetime(directives, headers, date if date is not None else received_at)
    if not lifetime:
        return Freshness(True, 0.0)
    # RFC 9111, 4.2.3
    apparent_age = max(0.0, received_at - date) if date is not None else 0.0
    corrected_age = _seconds(headers.get("age")) + max(0.0, received_at - requested_at)
    fresh_until = received_at + lifetime - max(apparent_age, corrected_age)
    return Freshness(True, fresh_until if fresh_until > received_at else 0.0)


def _lifetime(directives: Mapping[str, str | None], headers: Mapping[str, str], date: float) -> float:
    if "max-age" in directives:  # 5.2.2.1; s-maxage is for shared caches only
        return _seconds(directives["max-age"])
    if "expires" in headers:
        expires = _date(headers["expires"])  # 5.3: an invalid date, '0' above all, is in the past
        return max(0.0, expires - date) if expires is not None else 0.0
    return 0.0


def _seconds(text: str | None) -> float:
    text = (text or "").strip()
    if not text.isascii() or not text.isdigit():
        return 0.0  # 4.2.1: invalid freshness information makes a response stale
    return float(min(int(text[:12]), _FOREVER))


def _date(text: str | None) -> float | None:
    if not text:
        return None
    from email.utils import parsedate_to_datetime  # loads much, and few calls need it

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
