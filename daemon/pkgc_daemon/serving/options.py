"""The one table of commands and options that the parser, the variables, config.toml, help and docs follow.

It parses nothing: `cli` feeds the table to typer, `values` reads variables and config by it, `help` and
`reference` print it.  An option that is not here does not exist anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["flag", "toggle", "one", "many", "count"]
"""flag: --x; toggle: --x/--no-x; one: the last value counts; many: values add up; count: -vv."""

ValueKind = Literal[
    "text", "choice", "path", "location", "python", "name", "format", "index", "pin", "setting"
]
"""What a value is: `location` is a URL or a path, `format` a project name, ``:all:`` or ``:none:``, `index` a
location or ``NAME=location``, `pin` ``PROJECT=NAME`` of an index, `setting` ``KEY=VALUE``."""

Panel = Literal["Input", "Build", "Index", "Environment", "Cache", "Output"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its flag is ``--KEY``, its variable ``PKGC_KEY``, its config.toml key ``KEY``."""

    key: str
    kind: Kind
    help: str
    panel: Panel
    value: ValueKind = "text"
    short: str | None = None
    metavar: str = ""
    choices: tuple[str, ...] = ()
    default: str = ""
    """The default in words, for help and docs."""

    @property
    def flag(self) -> str:
        """The long flag."""
        return f"--{self.key}"

    @property
    def negation(self) -> str | None:
        """The flag that switches a toggle off."""
        return f"--no-{self.key}" if self.kind == "toggle" else None

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "PKGC_" + self.key.upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        """The name as a Python identifier."""
        return self.key.replace("-", "_")

    @property
    def takes_value(self) -> bool:
        """Whether the flag is followed by a value."""
        return self.kind in ("one", "many")

    @property
    def spelling(self) -> str:
        """The flags as help shows them: ``-p, --python PY``."""
        flags = self.flag if self.negation is None else f"{self.flag} / {self.negation}"
        short = f"{self.short}, " if self.short else ""
        return f"{short}{flags} {self.value_name}".rstrip()

    @property
    def value_name(self) -> str:
        """The placeholder for the value, or ''."""
        return ("|".join(self.choices) or self.metavar) if self.takes_value else ""


LINK_MODES = ("auto", "hardlink", "reflink", "copy", "symlink")
OUTPUT_FORMATS = ("text", "json")
COLORS = ("auto", "always", "never")

_TABLE = (
    Option(
        "constraint",
        "many",
        "Constraints file: pins and hashes for what the sources name.",
        "Input",
        value="path",
        short="-c",
        metavar="FILE",
    ),
    Option(
        "require-hashes",
        "toggle",
        "Refuse every requirement without a hash.",
        "Input",
        default="on as soon as one requirement has a hash",
    ),
    Option(
        "extra",
        "many",
        "Take this extra of pylock.toml or uv.lock too.",
        "Input",
        value="name",
        metavar="NAME",
    ),
    Option("all-extras", "flag", "Take all extras of pylock.toml or uv.lock.", "Input"),
    Option(
        "group",
        "many",
        "Take this dependency group of pylock.toml or uv.lock too.",
        "Input",
        value="name",
        metavar="NAME",
    ),
    Option("no-default-groups", "flag", "Leave out the groups that a lock takes by default.", "Input"),
    Option(
        "only-binary",
        "many",
        "Use wheels only for these projects (names, ':all:' or ':none:', comma separated).",
        "Build",
        value="format",
        metavar="NAMES",
    ),
    Option(
        "no-binary",
        "many",
        "Build these projects from source, use no wheels (names, ':all:' or ':none:', comma separated).",
        "Build",
        value="format",
        metavar="NAMES",
    ),
    Option("no-build", "flag", "Build nothing: what is no wheel is an error.", "Build"),
    Option(
        "no-build-isolation",
        "flag",
        "Build in the environment itself, which must hold what the builds need.",
        "Build",
    ),
    Option(
        "config-settings",
        "many",
        "Setting for the build backends; a key may be given several times.",
        "Build",
        value="setting",
        short="-C",
        metavar="KEY=VALUE",
    ),
    Option(
        "index-url",
        "one",
        "Root of the package index (Simple API): URL or directory.",
        "Index",
        value="location",
        short="-i",
        metavar="URL",
        default="what the sources or pip's configuration name, else PyPI",
    ),
    Option(
        "extra-index-url",
        "many",
        "Further index, asked after --index-url.",
        "Index",
        value="location",
        metavar="URL",
    ),
    Option(
        "index",
        "many",
        "Further index, asked before --index-url; with a NAME, projects can be pinned to it.",
        "Index",
        value="index",
        metavar="[NAME=]URL",
    ),
    Option(
        "pin-index",
        "many",
        "Take this project from the index of that name only.",
        "Index",
        value="pin",
        metavar="PROJECT=NAME",
    ),
    Option(
        "find-links",
        "many",
        "Directory or page with links to files, asked before any index.",
        "Index",
        value="location",
        short="-f",
        metavar="PLACE",
    ),
    Option("no-index", "flag", "Use no index, only --find-links.", "Index"),
    Option("offline", "flag", "Use no network: only what the cache holds.", "Index"),
    Option("refresh", "flag", "Ask the indexes again for every project.", "Index"),
    Option(
        "refresh-package",
        "many",
        "Ask the indexes again for this project.",
        "Index",
        value="name",
        metavar="NAME",
    ),
    Option(
        "venv",
        "one",
        "Virtual environment to work on; sync creates it when missing.",
        "Environment",
        value="path",
        metavar="DIR",
        default="$VIRTUAL_ENV, else ./.venv",
    ),
    Option(
        "python",
        "one",
        "Interpreter: version, command name or path.",
        "Environment",
        value="python",
        short="-p",
        metavar="PY",
        default="that of the environment, else the first python3 on PATH",
    ),
    Option(
        "link-mode",
        "one",
        "How files get from the cache into the environment.",
        "Environment",
        value="choice",
        choices=LINK_MODES,
        default="auto",
    ),
    Option(
        "compile-bytecode",
        "toggle",
        "Compile installed modules to bytecode.",
        "Environment",
        default="off",
    ),
    Option("reinstall", "flag", "Install everything anew, even what is right already.", "Environment"),
    Option(
        "reinstall-package",
        "many",
        "Install this project anew.",
        "Environment",
        value="name",
        metavar="NAME",
    ),
    Option("inexact", "flag", "Keep installed packages that the sources do not name.", "Environment"),
    Option("strict", "flag", "Fail where packages overlap with different files.", "Environment"),
    Option("dry-run", "flag", "Say what would change, and change nothing.", "Environment"),
    Option("check", "flag", "Change nothing; exit status 1 if something would change.", "Environment"),
    Option(
        "output-format",
        "one",
        "Text for people, or one JSON object on stdout.",
        "Output",
        value="choice",
        choices=OUTPUT_FORMATS,
        default="text",
    ),
    Option("quiet", "count", "Print errors only.", "Output", short="-q"),
    Option("verbose", "count", "Print details; repeat for more.", "Output", short="-v"),
    Option("no-progress", "flag", "Show no progress.", "Output"),
    Option(
        "color",
        "one",
        "Use colors.",
        "Output",
        value="choice",
        choices=COLORS,
        default="auto; NO_COLOR and FORCE_COLOR are respected",
    ),
)

#: Every option by its key, in the order of help.
OPTIONS: Mapping[str, Option] = {option.key: option for option in _TABLE}


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line."""

    name: str
    """With its group: ``sync``, ``cache clean``."""
    summary: str
    options: tuple[str, ...] = ()
    """Keys of `OPTIONS`."""
    argument: str = ""
    """Placeholder of the positional arguments: ``SOURCE`` or ``NAME``, or ''."""
    required: bool = False
    """Whether at least one argument must be given."""
    local: bool = False
    """Whether the client carries it out by itself, without a daemon."""
    notes: str = ""
    """A further paragraph of help."""
    own_options: tuple[tuple[str, str], ...] = ()
    """(spelling, help) of options without variable and key, which the client or the daemon's main parses."""

    @property
    def usage(self) -> str:
        """The synopsis without ``pkgc``."""
        argument = f"{self.argument}..." if self.required else f"[{self.argument}]..."
        return " ".join(
            (
                self.name,
                *(("[OPTIONS]",) if self.options or self.own_options else ()),
                *((argument,) if self.argument else ()),
            )
        )


_DISPLAY = ("output-format", "quiet", "verbose", "color")
_INPUT = ("constraint", "require-hashes", "extra", "all-extras", "group", "no-default-groups")
_BUILD = ("only-binary", "no-binary", "no-build", "no-build-isolation", "config-settings")
_INDEX = (
    "index-url",
    "extra-index-url",
    "index",
    "pin-index",
    "find-links",
    "no-index",
    "offline",
    "refresh",
    "refresh-package",
)
_PLACING = (
    "link-mode",
    "compile-bytecode",
    "reinstall",
    "reinstall-package",
    "inexact",
    "strict",
    "dry-run",
    "check",
)
_SOURCES = (
    "SOURCE is a requirements file with pinned versions, a pylock.toml (or pylock.NAME.toml) or a uv.lock, "
    "named by path or URL; '-' means a requirements file on standard input."
)

_IDLE_EXIT = ("--idle-exit SECONDS", "Go away after that time without a client; 0: never.")

_COMMANDS = (
    Command(
        "sync",
        "Make a virtual environment equal to a lock.",
        (*_INPUT, *_BUILD, *_INDEX, "venv", "python", *_PLACING, *_DISPLAY, "no-progress"),
        argument="SOURCE",
        notes=f"{_SOURCES} Default: the first of pylock.toml, uv.lock and requirements.txt that is in the "
        "working directory.",
    ),
    Command(
        "fetch",
        "Download and verify what a lock names into the cache; install nothing.",
        (*_INPUT, *_BUILD, *_INDEX, "python", *_DISPLAY, "no-progress"),
        argument="SOURCE",
        required=True,
        notes=_SOURCES,
    ),
    Command("list", "List the packages of a virtual environment.", ("venv", *_DISPLAY)),
    Command(
        "why",
        "Show where installed packages came from, and whether their files are unchanged.",
        ("venv", *_DISPLAY),
        argument="NAME",
        required=True,
    ),
    Command("cache dir", "Print where the cache is.", _DISPLAY),
    Command("cache size", "Print how much the cache holds.", _DISPLAY),
    Command("cache list", "List the files in the cache.", _DISPLAY),
    Command(
        "cache verify", "Hash everything in the cache again and report damage.", (*_DISPLAY, "no-progress")
    ),
    Command(
        "cache clean",
        "Remove projects from the cache, or everything.",
        _DISPLAY,
        argument="NAME",
        notes="Without a NAME everything that no running command uses is removed.",
    ),
    Command("status", "Show what the daemon is doing (same as 'daemon status').", _DISPLAY),
    Command(
        "daemon run",
        "Run the daemon in the foreground.",
        local=True,
        own_options=(
            ("--socket PATH", "Where to listen. [default: PKGC_SOCKET, else in the runtime directory]"),
            ("--cache-dir DIR", "The cache to serve. [default: PKGC_CACHE_DIR, else the user's]"),
            _IDLE_EXIT,
            ("--wait-lock SECONDS", "Wait so long for a daemon that still holds the cache."),
            ("--log-level LEVEL", "How much to log."),
        ),
    ),
    Command(
        "daemon start",
        "Start the daemon in the background, unless it runs.",
        local=True,
        own_options=(_IDLE_EXIT,),
    ),
    Command("daemon stop", "Stop the daemon; returns when it is gone.", local=True),
    Command("daemon restart", "Stop the daemon and start it again.", local=True),
    Command(
        "daemon status",
        "Show whether the daemon runs, and what it is doing.",
        _DISPLAY,
        local=True,
    ),
    Command(
        "daemon logs",
        "Print the log of the daemon.",
        local=True,
        own_options=(
            ("-n, --lines N", "How many of the last lines. [default: 200]"),
            ("-f, --follow", "Go on with what is added."),
        ),
    ),
)

#: Every command by its full name, in the order of help.
COMMANDS: Mapping[str, Command] = {command.name: command for command in _COMMANDS}

#: Commands that are only a first word.
GROUPS: Mapping[str, str] = {
    "cache": "Look at the cache, verify it, clean it.",
    "daemon": "Start, stop and watch the daemon.",
}

#: Exit statuses.
EXITS: Mapping[int, str] = {
    0: "Done.",
    1: "The operation failed, or --check found differences.",
    2: "Wrong usage, or an input that cannot be read or is invalid.",
    130: "Interrupted.",
}
