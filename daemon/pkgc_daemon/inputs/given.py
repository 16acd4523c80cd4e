"""What requirements files say, line by line, before anything is decided about it; no reading, no choosing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from pkgc_daemon.vocabulary import Digest, DirectSource, Place, Wanted

#: Absolute path of the client's, ``-`` for its standard input, or http(s) URL, to content; raises PkgcError.
ReadFile = Callable[[str], Awaitable[bytes]]
#: Names to values of environment variables in the client's world; unset ones are absent.
Variables = Callable[[frozenset[str]], Awaitable[Mapping[str, str]]]
#: Whether an absolute path exists in the client's world.
Exists = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class RequirementLine:
    """One requirement or constraint of a file, markers not yet evaluated."""

    name: str
    """Normalized (PEP 503); '' for a direct reference whose name the text does not tell."""
    specifier: SpecifierSet
    """Empty for a direct reference."""
    hashes: frozenset[Digest]
    """Allowed digests: of ``--hash``, and the strong ones of a URL's fragment."""
    place: Place
    text: str
    """As written, before variables were put in, without options."""
    extras: frozenset[str] = frozenset()
    """Normalized."""
    marker: Marker | None = None
    source: DirectSource | None = None
    """Where the bytes are, of a direct reference; None: an index serves it."""
    settings: tuple[tuple[str, str], ...] = ()
    """Build settings (``--config-settings``), in their order."""
    hashed: bool = False
    """It carries ``--hash``, which switches hash mode on; a URL's fragment does not (H1)."""
    file_version: str = ""
    """The version that the file name of a direct wheel tells."""


@dataclass(frozen=True, slots=True)
class UnsupportedLine:
    """A valid line of a kind that pkgc cannot install: hg, svn, bzr. An error only if its marker is true."""

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
    """One per project, in the order of their first lines. Unnamed direct references have no name yet."""
    hash_mode: bool
    """Every Wanted has hashes, because hash-checking mode (H1) is on."""
    warnings: tuple[str, ...] = ()
    missing: tuple[Wanted, ...] = ()
    """What lacks a hash although hash mode is on, in the order of lines; not among `wanted`."""
    hash_cause: str = ""
    """What switched hash mode on, for messages."""


@dataclass(frozen=True, slots=True)
class LockChoice:
    """What of a lock with extras and groups (pylock.toml, uv.lock) a command asks for."""

    extras: frozenset[str] = frozenset()
    """Normalized names."""
    groups: frozenset[str] = frozenset()
    """Normalized names of dependency groups, beside the default ones."""
    all_extras: bool = False
    default_groups: bool = True
    """Whether the groups that the lock itself calls default are taken too."""
    require_hashes: bool | None = None
    """True for ``--require-hashes``, False for ``--no-require-hashes``, None for neither."""
    no_binary: frozenset[str] = frozenset()
    """Normalized names, or ``:all:``: only source archives of these."""
    only_binary: frozenset[str] = frozenset()
    """Normalized names, or ``:all:``: only wheels of these."""
    no_build: bool = False
    """Nothing may be built, whatever it is."""
