"""Indexes that their owner names: ``NAME=URL``, pins ``PROJECT=NAME``, and ``[[index]]`` entries, one by one.

Pure, and about single values only: which of several definitions counts is decided in `indexes`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_NAMED = re.compile(r"([^=:/?#]*)=(.*)\Z", re.DOTALL)
_PROJECT = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?\Z", re.IGNORECASE)
_SEPARATORS = re.compile(r"[-_.]+")
_LIFETIME = re.compile(r"max-age=\d{1,12}\Z", re.ASCII)
#: Directives of Cache-Control that mean nothing to a cache of one user that always revalidates what is stale.
_WITHOUT_MEANING = frozenset({"public", "private", "immutable", "must-revalidate"})


@dataclass(frozen=True, slots=True)
class NamedIndex:
    """One index as config.toml or ``--index`` define it."""

    name: str
    """'' when it has none."""
    url: str
    """A URL or a path; may hold credentials."""
    default: bool = False
    """It takes the place of PyPI."""
    explicit: bool = False
    """It serves only the projects that are pinned to it."""
    packages: tuple[str, ...] = ()
    """Normalized names of projects that are pinned to it."""
    pages: str | None = None
    """The Cache-Control that its pages are treated as if they had."""


def is_index_name(text: str) -> bool:
    """Whether `text` may be the name of an index: letters, digits, and ``.``, ``_``, ``-`` within."""
    return _NAME.match(text) is not None


def project_name(text: str) -> str | None:
    """A project's name in the form of PEP 503, or None when `text` is no name."""
    return _SEPARATORS.sub("-", text).lower() if _PROJECT.match(text) else None


def split_index(text: str) -> tuple[str, str]:
    """``NAME=URL`` or a bare URL (or path) as (name or '', location); see uv's ``--index``.

    A ``=`` in a URL does not count: names have neither ``:`` nor ``/``.

    Raises:
        ValueError: what is wrong with it, to be put behind the option's name.
    """
    match = _NAMED.match(text)
    name, location = (match[1], match[2]) if match else ("", text)
    if match and not is_index_name(name):
        raise ValueError("the name before '=' may hold letters, digits, '.', '_' and '-' only")
    if not location.strip() or "\0" in location:
        raise ValueError("must be a URL or a directory, or NAME=URL")
    return name, location


def split_pin(text: str) -> tuple[str, str]:
    """``PROJECT=NAME`` as (normalized project, name of an index).

    Raises:
        ValueError: what is wrong with it, to be put behind the option's name.
    """
    project, separator, name = (part.strip() for part in text.partition("="))
    if not separator:
        raise ValueError("must be PROJECT=NAME, where NAME is that of an index")
    normalized = project_name(project)
    if normalized is None:
        raise ValueError(f"{project!r} is not a project name")
    if not is_index_name(name):
        raise ValueError(f"{name!r} is not the name of an index")
    return normalized, name


def split_setting(text: str) -> tuple[str, str]:
    """``KEY=VALUE`` as (key, value); a build setting of pip's and uv's ``--config-settings``.

    Raises:
        ValueError: what is wrong with it, to be put behind the option's name.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ValueError("must be KEY=VALUE")
    return key.strip(), value


def check_cache_control(text: str) -> str:
    """A Cache-Control value for an index's pages, which says something that pkgc obeys (RFC 9111, 5.2.2).

    Raises:
        ValueError: a directive is unknown or malformed, or none says how long pages are good.
    """
    directives = [part.strip().lower() for part in text.split(",")]
    strange = [
        part
        for part in directives
        if part not in _WITHOUT_MEANING and part not in ("no-store", "no-cache") and not _LIFETIME.match(part)
    ]
    if strange:
        raise ValueError(f"must be like 'max-age=600', 'no-cache' or 'no-store': {strange[0]!r} is not")
    if _WITHOUT_MEANING.issuperset(directives):
        raise ValueError("must say max-age=SECONDS, no-cache or no-store")
    return ", ".join(directives)
