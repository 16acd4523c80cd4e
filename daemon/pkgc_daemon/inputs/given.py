"""What requirements files say, line by line, before anything is decided about it; no reading, no choosing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.requirements import Requirement

from pkgc_daemon.vocabulary import Digest, Place, Wanted

#: Absolute path, or ``-`` for standard input, to content; raises PkgcError. Runs in the client's world.
ReadFile = Callable[[str], Awaitable[bytes]]
#: Names to values of environment variables in the client's world; unset ones are absent.
Variables = Callable[[frozenset[str]], Awaitable[Mapping[str, str]]]
#: Whether an absolute path exists in the client's world.
Exists = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class RequirementLine:
    """One requirement or constraint of a file, markers not yet evaluated."""

    requirement: Requirement
    hashes: frozenset[Digest]
    place: Place
    text: str
    """As written, before variables were put in, without options."""


@dataclass(frozen=True, slots=True)
class UnsupportedLine:
    """A valid line of a kind that pkgc cannot install yet. An error only if its marker is true."""

    kind: str
    """What it is, for a person: ``a URL``, ``a local path``, …"""
    marker: Marker | None
    place: Place
    text: str
    hashed: bool = False
    """Whether it carries ``--hash``, which switches hash mode on whatever its marker says (H1)."""


@dataclass(frozen=True, slots=True)
class RequirementsInput:
    """The sum of all requirements and constraints files of one command."""

    lines: tuple[RequirementLine, ...] = ()
    constraints: tuple[RequirementLine, ...] = ()
    index_url: str | None = None
    """The last one given (a URL; may hold credentials)."""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """Absolute paths, or URLs."""
    no_index: bool = False
    """Sticky: a later ``--index-url`` does not bring the index back."""
    require_hashes: bool = False
    """Given explicitly in a file."""
    no_require_hashes: bool = False
    trusted_hosts: tuple[str, ...] = ()
    only_binary: frozenset[str] = frozenset()
    """Normalized names, or ``:all:``."""
    no_binary: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    unsupported: tuple[UnsupportedLine, ...] = ()
    require_hashes_place: Place | None = None
    """Where a file says ``--require-hashes``."""
    no_require_hashes_place: Place | None = None
    sources: tuple[str, ...] = ()
    """The requirements files that the command named, as the user named them."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What an environment shall hold: the outcome of reading requirements for one interpreter."""

    wanted: tuple[Wanted, ...]
    """One per project, in the order of their first lines."""
    hash_mode: bool
    """Every Wanted has hashes, because hash-checking mode (H1) is on."""
    warnings: tuple[str, ...] = ()
