"""Help texts, made from the table in `options`; imports neither typer nor rich, so the client may use it."""

from __future__ import annotations

from collections.abc import Sequence

from pkgc_daemon.serving.calls import STDOUT, Answer
from pkgc_daemon.serving.options import COMMANDS, EXITS, GROUPS, OPTIONS, Command, Option
from pkgc_daemon.serving.text import Style, cells, padded, wrapped

_FLAGS = ("-h", "--help")
_WIDEST_SPELLING = 34
_NARROWEST = 40


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the command line asks for help (nothing after ``--`` counts)."""
    words = list(argv)
    if "--" in words:
        words = words[: words.index("--")]
    return any(word in _FLAGS for word in words) or words[:1] == ["help"]


def help_text(argv: Sequence[str], columns: int | None = None, color: bool = False) -> Answer:
    """The help that `argv` asks for: of the command or group it names, else of pkgc.

    Args:
        argv: the words after ``pkgc``, with or without ``--help``.
        columns: width to wrap at; None (no terminal) wraps nothing.
        color: whether to use colours.
    """
    style = Style(color)
    width = None if columns is None else max(columns, _NARROWEST)
    words = [word for word in argv if not word.startswith("-")]
    if words[:1] == ["help"]:
        words = words[1:]
    name = " ".join(words[:2])
    command = COMMANDS.get(name) or COMMANDS.get(" ".join(words[:1]))
    if command is not None:
        lines = _command_help(command, width, style)
    elif words and words[0] in GROUPS:
        lines = _group_help(words[0], width, style)
    else:
        lines = _root_help(width, style)
    return Answer("\n".join(lines) + "\n", STDOUT, 0)


def _heading(text: str, style: Style) -> str:
    return style("bold green", f"{text}:")


def _usage(text: str, style: Style) -> str:
    return f"{_heading('Usage', style)} {style('bold', f'pkgc {text}')}"


def _table(rows: Sequence[tuple[str, str]], width: int | None, style: Style) -> list[str]:
    """Two columns; a left cell that is too wide stands on a line of its own."""
    left = min(max((cells(row[0]) for row in rows), default=0), _WIDEST_SPELLING)
    if width is not None:
        left = min(left, width // 2)
    lines = []
    for spelling, text in rows:
        body = wrapped(text, None if width is None else width - left - 4)
        if cells(spelling) > left and width is not None:
            lines += [f"  {style('bold cyan', spelling)}", *(" " * (left + 4) + line for line in body)]
            continue
        gap = " " * max(0, left - cells(spelling))
        lines.append(f"  {style('bold cyan', spelling)}{gap}  {body[0]}")
        lines += [" " * (left + 4) + line for line in body[1:]]
    return lines


def _described(option: Option) -> tuple[str, str]:
    """An option's flags, and its help with its default."""
    short = padded(f"{option.short}," if option.short else "", 4)
    return short + option.spelling.removeprefix(f"{option.short}, "), (
        f"{option.help} [default: {option.default}]" if option.default else option.help
    )


def _command_help(command: Command, width: int | None, style: Style) -> list[str]:
    lines = [*wrapped(command.summary, width), "", _usage(command.usage, style)]
    if command.notes:
        lines += ["", *wrapped(command.notes, width)]
    panels: dict[str, list[tuple[str, str]]] = {}
    for key in command.options:
        panels.setdefault(OPTIONS[key].panel, []).append(_described(OPTIONS[key]))
    panels.setdefault("Output" if command.options else "", []).extend(
        [*command.own_options, ("-h, --help", "Show this help.")]
    )
    for panel, rows in panels.items():
        lines += ["", _heading(f"{panel} options".strip().capitalize(), style), *_table(rows, width, style)]
    if command.options:
        note = "An option --NAME is also the variable PKGC_NAME and the key NAME in config.toml."
        lines += ["", *wrapped(note, width)]
    return lines


def _group_help(group: str, width: int | None, style: Style) -> list[str]:
    rows = [
        (name.split()[1], command.summary)
        for name, command in COMMANDS.items()
        if name.startswith(f"{group} ")
    ]
    return [
        *wrapped(GROUPS[group], width),
        "",
        _usage(f"{group} COMMAND", style),
        "",
        _heading("Commands", style),
        *_table(rows, width, style),
    ]


def _root_help(width: int | None, style: Style) -> list[str]:
    commands = [(name, command.summary) for name, command in COMMANDS.items()]
    options = [
        ("-h, --help", "Show help; after a command: of that command."),
        ("-V, --version", "Show the version."),
    ]
    exits = [(str(status), meaning) for status, meaning in EXITS.items()]
    return [
        *wrapped(
            "One shared cache of Python packages, and environments made equal to a lock from it.", width
        ),
        "",
        _usage("COMMAND [OPTIONS] [ARGUMENTS]", style),
        "",
        _heading("Commands", style),
        *_table(commands, width, style),
        "",
        _heading("Options", style),
        *_table(options, width, style),
        "",
        _heading("Exit status", style),
        *_table(exits, width, style),
    ]
