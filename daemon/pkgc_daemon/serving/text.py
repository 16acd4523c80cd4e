"""Text for terminals: harmless characters, cell widths, colours, sizes, durations; it prints nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from pkgc_daemon.errors import PkgcError

# C0 and C1 controls, DEL, line and paragraph separators, marks that reorder or hide text (CVE-2021-42574),
# and lone surrogates, which could not even be encoded.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# What Style adds; harmless text has no ESC of its own.
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_SGR = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def harmless(text: str) -> str:
    """One line of text in which no character can steer a terminal: they become ``\\x1b`` and the like."""
    if text.isprintable():
        return text
    return _HARMFUL.sub(_escaped, text)


def harmless_lines(text: str) -> list[str]:
    """Text of several lines, each made harmless."""
    return [harmless(line) for line in text.replace("\r\n", "\n").strip("\n").split("\n")]


class Style:
    """Colours, or none: ``style("red", text)``. The text must be harmless already."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, names: str, text: str) -> str:
        """`text` in the colours that `names` lists, space separated."""
        if not self.on or not text:
            return text
        return f"\x1b[{';'.join(_SGR[name] for name in names.split())}m{text}\x1b[0m"


def _cell(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cells(text: str) -> int:
    """How many terminal columns harmless, uncoloured text takes."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def shortened(text: str, width: int) -> str:
    """`text` cut in the middle to at most `width` columns (the ends of file names matter most)."""
    if cells(text) <= width:
        return text
    if width <= 1:
        return "…"[: max(width, 0)]
    head_room = (width - 1) * 3 // 5
    head, used = "", 0
    for char in text:
        if used + _cell(char) > head_room:
            break
        head, used = head + char, used + _cell(char)
    tail, used = "", used + 1
    for char in reversed(text):
        if used + _cell(char) > width:
            break
        tail, used = char + tail, used + _cell(char)
    return f"{head}…{tail}"


def padded(text: str, width: int) -> str:
    """`text`, coloured or not, filled with blanks to `width` columns."""
    return text + " " * max(0, width - cells(_COLOUR.sub("", text)))


def format_bytes(amount: float) -> str:
    """Decimal units, as disks and networks count: ``999 B``, ``1.2 kB``, ``54 MB``, ``3.0 GB``."""
    value, units = float(max(amount, 0)), ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 999.5 or unit == units[-1]:
            digits = 1 if unit != "B" and value < 9.95 else 0
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """``12ms``, ``0.6s``, ``42s``, ``3m 05s``, ``2h 03m``."""
    seconds = max(seconds, 0.0)
    if seconds < 0.0995:
        return f"{max(1, round(seconds * 1000))}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``, ``2 copies``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}s"


def columns(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """Rows of cells, coloured or not, as lines: aligned, two blanks between columns, nothing shortened."""
    table = [list(row) for row in rows]
    widths: list[int] = []
    for row in table:
        for i, text in enumerate(row):
            if i == len(widths):
                widths.append(0)
            widths[i] = max(widths[i], cells(_COLOUR.sub("", text)))
    return [indent + "  ".join(map(padded, row, widths)).rstrip() for row in table]


def wrapped(text: str, width: int | None, indent: int = 0) -> list[str]:
    """Words in lines of at most `width` columns (None: one line), all but the first indented."""
    if width is None:
        return [text]
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and cells(line) + 1 + cells(word) > width - (indent if lines else 0):
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    return [lines[0], *(" " * indent + rest for rest in lines[1:])]


def error_text(error: PkgcError, style: Style) -> str:
    """An error as people read it: ``error[code]: message``, indented context, ``hint: …``."""
    first, *more = harmless_lines(error.message)
    lines = [f"{style('bold red', f'error[{harmless(error.code)}]:')} {first}"]
    lines += [f"  {line}" for line in more]
    if error.context:
        lines += [f"  {line}".rstrip() for line in harmless_lines(error.context)]
    if error.hint:
        first, *more = harmless_lines(error.hint)
        lines += [f"{style('bold cyan', 'hint:')} {first}", *(f"  {line}" for line in more)]
    return "\n".join(lines) + "\n"
