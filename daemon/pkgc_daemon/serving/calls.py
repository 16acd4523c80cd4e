"""What the command line can ask for: one frozen record per command; plain data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

OutputFormat = Literal["text", "json"]
ColorChoice = Literal["auto", "always", "never"]
LinkMode = Literal["auto", "hardlink", "reflink", "copy", "symlink"]
CacheAction = Literal["dir", "size", "list", "verify", "clean"]
DaemonAction = Literal["run", "start", "stop", "restart", "status", "logs"]

STDOUT = 1
STDERR = 2


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the client's three streams are."""

    stdin: bool = False
    """Whether it is a terminal; likewise the next two."""
    stdout: bool = False
    stderr: bool = False
    columns: int = 80
    rows: int = 24


class Source(NamedTuple):
    """Where the value of an option came from."""

    kind: Literal["argv", "env", "config", "default"]
    label: str
    """As a message names it: ``--link-mode``, ``PKGC_LINK_MODE``, ``config.toml: link-mode``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: help."""

    text: str
    """Ends with a newline."""
    stream: int
    """1 or 2."""
    exit: int


@dataclass(frozen=True, slots=True)
class Display:
    """How a call wants to be answered."""

    output_format: OutputFormat = "text"
    verbosity: int = 0
    """-1: errors only; 1 and more: details."""
    color: ColorChoice = "auto"
    """NO_COLOR, FORCE_COLOR and TERM are settled here: ``auto`` now means: where there is a terminal."""
    progress: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What every command has."""

    cwd: str
    """The client's working directory, absolute."""
    display: Display = Display()
    origins: Mapping[str, Source] = field(default_factory=dict)
    """Option key -> where its value came from; every option of the command is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCall(Call):
    """What `sync` and `fetch` share: the sources, and where files may come from.

    Paths are absolute, except `sources` (as written; relative to `cwd`; ``-`` is standard input).
    URLs may hold credentials.
    """

    sources: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    require_hashes: bool | None = None
    """None: not said; the files decide."""
    only_binary: tuple[str, ...] = ()
    """Normalized names or ``:all:``."""
    no_binary: tuple[str, ...] = ()
    no_build: bool = False
    """Nothing may be built, whatever it is."""
    no_build_isolation: bool = False
    config_settings: tuple[tuple[str, str], ...] = ()
    """(key, value) in the order given; a key may come several times."""
    extras: frozenset[str] = frozenset()
    """Normalized."""
    all_extras: bool = False
    groups: frozenset[str] = frozenset()
    """Normalized."""
    no_default_groups: bool = False
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    named_indexes: tuple[tuple[str, str], ...] = ()
    """(name or '', URL): asked before `index_url`."""
    index_pins: tuple[tuple[str, str], ...] = ()
    """(normalized project, name of the only index that may serve it)"""
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    offline: bool = False
    refresh: bool = False
    refresh_packages: frozenset[str] = frozenset()
    """Normalized."""
    python: str | None = None
    """A version, a command name, or an absolute path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCall(InputCall):
    """``pkgc sync``."""

    venv: str
    """Absolute."""
    link_mode: LinkMode = "auto"
    compile_bytecode: bool = False
    reinstall: bool = False
    reinstall_packages: frozenset[str] = frozenset()
    inexact: bool = False
    strict: bool = False
    dry_run: bool = False
    check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCall(InputCall):
    """``pkgc fetch``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCall(Call):
    """``pkgc list``."""

    venv: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyCall(Call):
    """``pkgc why``."""

    names: tuple[str, ...]
    """Normalized, each once."""
    venv: str
    """Absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCall(Call):
    """``pkgc cache ACTION``."""

    action: CacheAction
    names: tuple[str, ...] = ()
    """`clean` only: normalized names; empty means everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCall(Call):
    """``pkgc status``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonCall(Call):
    """``pkgc daemon ACTION``: for the client to carry out; a daemon never gets it."""

    action: DaemonAction


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCall(Call):
    """``pkgc --version``."""
