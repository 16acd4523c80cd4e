"""The nouns of pkgc, each with one meaning everywhere (design.md, section 2).

Data passes through them in this order: a lock's line becomes a `Wanted`; an index or a folder offers
`Candidate`s; fetching one gives an `Artifact`; unpacking and validating that gives a `Tree`; comparing
`Installed` distributions with the lock gives a `Plan`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

#: Digest lengths in hex characters.
DIGEST_LENGTHS: Mapping[str, int] = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "blake2b": 128,
}
#: Algorithms that `--hash` accepts and that satisfy hash-checking mode (standards.md H5).
STRONG_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})

_HEX = re.compile(r"[0-9a-f]+\Z")


class Digest(NamedTuple):
    """A hash of an artifact: algorithm and lower-case hex."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``alg:hex`` (or ``alg=hex``).

        Raises:
            ValueError: unknown algorithm, or the hex has the wrong length or alphabet.
        """
        algorithm, sep, value = text.replace("=", ":", 1).partition(":")
        algorithm, value = algorithm.strip().lower(), value.strip().lower()
        if not sep or algorithm not in DIGEST_LENGTHS:
            raise ValueError(f"unknown hash algorithm in {text!r}")
        if len(value) != DIGEST_LENGTHS[algorithm] or not _HEX.match(value):
            raise ValueError(f"{algorithm} digest must be {DIGEST_LENGTHS[algorithm]} hex digits: {value!r}")
        return cls(algorithm, value)


class Place(NamedTuple):
    """Where a line of input stands: file (as the user named it) and 1-based line number."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


#: The place of what no file says.
NOWHERE = Place("", 0)

OriginKind = Literal["index", "find-links", "url", "path", "directory", "vcs"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a distribution comes from. URLs carry no credentials."""

    kind: OriginKind
    url: str
    """The file's own URL."""
    index: str | None = None
    """The index (Simple API root) or the find-links page that named it."""


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """One archive, a wheel or a source archive, by its URL or path (a direct reference, PEP 610)."""

    url: str
    """``http:``, ``https:`` or ``file:``, without fragment; may hold credentials."""
    path: str | None = None
    """The absolute path of a local file (`url` is then its ``file:`` URL)."""
    subdirectory: str | None = None
    """Of a source archive: where the project is in it."""
    integrity: frozenset[Digest] = frozenset()
    """Digests that must all match, of any algorithm: URL fragments (H5), pylock.toml's hashes."""
    size: int | None = None
    """Exact, when a lock says it."""


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A source tree of the user's (PEP 610 ``dir_info``)."""

    path: str
    """Absolute."""
    editable: bool = False
    subdirectory: str | None = None


@dataclass(frozen=True, slots=True)
class VcsSource:
    """A commit of a git repository (PEP 610 ``vcs_info``)."""

    url: str
    """The repository, as git takes it: without ``git+``, revision and fragment; may hold credentials."""
    requested: str | None = None
    """Branch, tag or (short) commit, as asked for; None: the default branch."""
    commit: str | None = None
    """The full commit, when the lock names it."""
    subdirectory: str | None = None
    vcs: str = "git"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file that a lock names by itself: no index page is needed to find it."""

    filename: str
    url: str
    """``http:``, ``https:`` or ``file:``; may hold credentials."""
    hashes: frozenset[Digest] = frozenset()
    """Every one must match."""
    size: int | None = None
    """Exact, when the lock says it."""


@dataclass(frozen=True, slots=True)
class FilesSource:
    """The files of one version, as pylock.toml and uv.lock list them: chosen by their names alone."""

    files: tuple[LockedFile, ...]
    """Wheels, and at most one sdist."""
    index: str | None = None
    """The index that the lock names, without credentials."""


DirectSource = ArchiveSource | DirectorySource | VcsSource
Source = DirectSource | FilesSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of a lock, after markers: exactly one version of one project."""

    name: str
    """Normalized (PEP 503); '' for a direct reference whose name only its content tells."""
    version: str
    """The pinned version, as written; '' for a direct reference: whatever its content is."""
    hashes: frozenset[Digest] = frozenset()
    """Allowed digests, any one of which is enough (H6); empty: unhashed pin."""
    arbitrary: bool = False
    """Pinned with ``===``: compare as strings."""
    extras: frozenset[str] = frozenset()
    place: Place = NOWHERE
    text: str = ""
    """The requirement as written, for messages."""
    source: Source | None = None
    """Where its bytes are, when the lock says that; None: whatever index serves the pin."""
    settings: tuple[tuple[str, str], ...] = ()
    """Build settings of this requirement (``--config-settings KEY=VALUE``), in their order."""

    @property
    def direct(self) -> DirectSource | None:
        """The direct reference, if it is one (PEP 610: then direct_url.json is written)."""
        return None if isinstance(self.source, FilesSource) else self.source

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version else self.name or self.text


@dataclass(frozen=True, slots=True)
class SourceState:
    """What a direct reference holds now: looked up before planning, compared with what is installed."""

    digests: frozenset[Digest] = frozenset()
    """Of an archive's bytes; sha256 is among them."""
    commit: str | None = None
    """Of a repository."""
    fingerprint: str | None = None
    """Of a directory's files (`building.directories`)."""
    asked: bool = True
    """False: its place was not looked at (``--offline``): this is what was there last, if that is known."""
    fetched: bool = False
    """An archive's bytes came over the network for this look at them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that could satisfy a Wanted, with its origin. `url` may hold credentials; `origin` not."""

    name: str
    version: str
    filename: str
    url: str
    origin: Origin
    hashes: frozenset[Digest] = frozenset()
    """Digests that the index advertises; they guard against corruption only (H7)."""
    size: int | None = None
    """Advisory for index files."""
    requires_python: str | None = None
    yanked: str | None = None
    """The reason ('' when none is given), or None when not yanked (PEP 592)."""
    is_sdist: bool = False
    """A source archive, which has to be built."""
    exact_size: bool = False
    """Another `size` is an error (pylock.toml), not just a hint."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Verified bytes, named by sha256."""

    sha256: str
    size: int
    path: Path
    digests: frozenset[Digest] = frozenset()
    """Every digest that was computed or verified for these bytes, sha256 included."""


class FileEntry(NamedTuple):
    """One file of a Tree. Paths use '/' and are relative to the tree's root."""

    path: str
    size: int
    executable: bool
    sha256: str
    """Hex."""
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a Tree holds: recorded when it is unpacked, compared when it is used (invariant 6)."""

    sha256: str
    """Of the wheel's bytes."""
    filename: str
    name: str
    version: str
    dist_info: str
    """Name of the tree's one .dist-info folder."""
    data_dir: str | None
    """Name of the .data folder, when the wheel has one."""
    root_is_purelib: bool
    files: tuple[FileEntry, ...]
    """Every file, RECORD included, sorted by path."""
    console_scripts: tuple[tuple[str, str], ...] = ()
    """(script name, 'module:attr'), already validated (E1-E4)."""
    gui_scripts: tuple[tuple[str, str], ...] = ()
    requires_python: str | None = None
    """METADATA's Requires-Python, as written."""
    newer: tuple[str, ...] = ()
    """Formats of a newer minor version than pkgc knows, to be warned of when it is installed (W2)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked, validated wheel in the store."""

    sha256: str
    root: Path
    manifest: Manifest
    """Without its files: those are in the manifest on disk, for whoever places or verifies them."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One distribution found in an environment, and what its records say of where it came from."""

    name: str
    """Normalized."""
    version: str
    dist_info: str
    """Absolute path of its .dist-info or .egg-info folder (or file)."""
    installer: str | None = None
    hashes: frozenset[Digest] = frozenset()
    """Recorded by provenance_url.json or direct_url.json (archive_info.hashes)."""
    origin: Origin | None = None
    """None: unknown, because another tool installed it."""
    direct: bool = False
    """Installed from a direct URL, a path, a directory or a VCS (PEP 610)."""
    editable: bool = False
    commit: str | None = None
    """vcs_info.commit_id"""
    requested: str | None = None
    """vcs_info.requested_revision"""
    subdirectory: str | None = None
    fingerprint: str | None = None
    """Of the directory that it was built from, as pkgc recorded it."""
    settings: str | None = None
    """`settings_key` of the build settings that pkgc recorded; '': an index's archive, built without any."""
    removable: bool = True
    """False without RECORD: such a distribution must not be uninstalled (D2)."""
    obstacle: str | None = field(default=None, compare=False)
    """Why it is not removable, for people."""
    damaged: str | None = None
    """Why its files cannot be trusted (missing top-level entry, missing METADATA), or None."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a probe told of an interpreter: everything that selection and installing need."""

    executable: str
    """sys.executable as the environment names it."""
    version: str
    """X.Y.Z"""
    implementation: str
    """sys.implementation.name"""
    cache_tag: str
    prefix: str
    base_prefix: str
    markers: Mapping[str, str]
    """PEP 508 variables of the target."""
    tags: tuple[str, ...]
    """Wheel tags in order of preference, most preferred first."""
    paths: Mapping[str, str]
    """sysconfig paths: purelib, platlib, scripts, data, include (for a venv, the venv's)."""
    externally_managed: str | None = None
    """The text of EXTERNALLY-MANAGED (PEP 668), or None."""
    pycache_magic: str = ""
    """importlib.util.MAGIC_NUMBER, hex."""

    @property
    def is_virtual(self) -> bool:
        """Whether this is the interpreter of a virtual environment (PEP 405)."""
        return self.prefix != self.base_prefix


@dataclass(frozen=True, slots=True)
class Keep:
    """An installed distribution that already satisfies the lock."""

    installed: Installed
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """An installed distribution to take away, and why."""

    installed: Installed
    reason: str


@dataclass(frozen=True, slots=True)
class Add:
    """A Wanted to install; `replaces` names what it takes the place of, `reason` says why."""

    wanted: Wanted
    reason: str
    replaces: Installed | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to change in an environment; a pure function of lock and installed state."""

    keep: tuple[Keep, ...] = ()
    remove: tuple[Remove, ...] = ()
    add: tuple[Add, ...] = ()

    @property
    def is_noop(self) -> bool:
        """Whether the environment is right as it is."""
        return not self.remove and not self.add


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Where to look for files: the sum of command line, requirements files, config, pip's config."""

    indexes: tuple[str, ...] = ()
    """Simple API roots in order of priority; may hold credentials; empty with `no_index`."""
    find_links: tuple[str, ...] = ()
    """Pages or directories of files (absolute paths or URLs)."""
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    """PEM bundle that replaces the system trust store."""
    client_cert: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)
    """scheme ('http', 'https', 'all', 'no') -> proxy URL, from the client's environment."""
    netrc: str | None = None
    """Path of the netrc file of the caller, if there is one."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Normalized project -> the only index (URL) that may serve it; that index need not be in `indexes`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Index URL -> the name that its owner gave it, for messages."""
    page_rules: Mapping[str, str] = field(default_factory=dict)
    """Index URL -> a Cache-Control value that its pages are treated as if they had (per-index override)."""


def settings_key(settings: tuple[tuple[str, str], ...]) -> str | None:
    """Build settings as one short text to compare: None without any; the order of keys does not count."""
    if not settings:
        return None
    ordered = sorted(settings, key=lambda pair: pair[0])  # stable: values of one key keep their order
    return hashlib.sha256(repr(ordered).encode()).hexdigest()[:32]


JSON = dict[str, Any]
