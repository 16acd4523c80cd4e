"""docs/commands.md, made from the table in `options`; run as a module, it writes the file it is given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pkgc_daemon.serving.further import CONFIG_ONLY, VARIABLES
from pkgc_daemon.serving.options import COMMANDS, EXITS, OPTIONS, Option

_INTRODUCTION = """\
# Commands

This page is made from the table of options that the parser uses
(`python -m pkgc_daemon.serving.reference docs/commands.md`); a test keeps it true.

Options go after the command. For each option the first of these that speaks counts: the command line, its
`PKGC_…` variable, its key in `config.toml`, the default. An empty variable counts as not set. Variables of
options that can be repeated hold several values separated by blanks; their config keys hold a list of
strings. Switches are `1` or `0` in variables, `true` or `false` in `config.toml`. Relative paths start from
the working directory, those in `config.toml` from its directory (but `venv` always from the working
directory).
"""


def commands_page() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION]
    parts.append("## All commands\n")
    parts.append(
        _table(
            ("Command", "What it does"),
            (
                (f"[`pkgc {name}`](#pkgc-{name.replace(' ', '-')})", command.summary)
                for name, command in COMMANDS.items()
            ),
        )
    )
    for name, command in COMMANDS.items():
        parts.append(f"## pkgc {name}\n")
        parts.append(f"{command.summary}\n")
        parts.append(f"    pkgc {command.usage}\n")
        if command.notes:
            parts.append(f"{command.notes}\n")
        if command.local:
            parts.append("Works without a daemon.\n")
        if command.options:
            parts.append(_options_table([OPTIONS[key] for key in command.options]))
        if command.own_options:
            parts.append(
                _table(("Option", "Meaning"), ((f"`{flag}`", text) for flag, text in command.own_options))
            )
    parts.append("## Keys of config.toml that are no options\n")
    parts.append(
        "`cache.max-size` means: `max-size` in the table `[cache]`; `index.name` means: `name` in an "
        "`[[index]]` entry, of which there may be any number.\n"
    )
    parts.append(
        _table(("Config key", "Meaning"), ((f"`{name}`", text) for name, text in CONFIG_ONLY.items()))
    )
    parts.append("## Variables that are no options\n")
    parts.append(
        _table(
            ("Variable", "Meaning"),
            ((f"`{name.replace(', ', '`, `')}`", text) for name, text in VARIABLES.items()),
        )
    )
    parts.append("## Exit status\n")
    parts.append(_table(("Status", "Meaning"), ((str(status), text) for status, text in EXITS.items())))
    return "\n".join(parts)


def _options_table(options: Sequence[Option]) -> str:
    return _table(
        ("Option", "Variable", "Config key", "Meaning", "Default"),
        (
            (
                f"`{option.spelling}`" + (" (repeatable)" if option.kind in ("many", "count") else ""),
                f"`{option.variable}`",
                f"`{option.key}`",
                option.help,
                option.default,
            )
            for option in options
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(commands_page(), encoding="utf-8")
