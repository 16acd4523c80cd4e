"""Logical lines of a requirements file: decoding, joining, comments, variables; not what the lines mean.

The rules are R2-R6 of pip's requirements file format.  Every step is linear in its input, because the
daemon reads files of strangers: pip's own comment pattern is quadratic in runs of white space.
"""

from __future__ import annotations

import codecs
import locale
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pkgc_daemon.errors import InputError

# The order matters: the UTF-16-LE mark is a prefix of the UTF-32-LE mark.
_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
)
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_VARIABLE = re.compile(r"(\$\{([A-Z0-9_]+)\})")
#: Variables that name the locale of the client, in order of priority (POSIX XBD 8.2).
LOCALE_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")
#: A line may not grow beyond this by the values of variables (characters).
_LONGEST_EXPANSION = 1_000_000
#: References to variables in one line: each one looks through the line.
_MOST_REFERENCES = 1000


class Line(NamedTuple):
    """One logical line: comments gone, continuations joined, never empty before expansion."""

    number: int
    """1-based number of its first physical line."""
    raw: str
    """Before variables were put in: safe to show, the values may be secrets."""
    text: str
    """After that."""


def declared_encoding(data: bytes) -> str | None:
    """The PEP 263 declaration in a comment among the first two lines, or None."""
    for line in data.split(b"\n", 2)[:2]:
        if line.startswith(b"#") and (match := _CODING.search(line)):
            return match[1].decode("ascii", "replace")
    return None


def locale_encoding(variables: Mapping[str, str]) -> str | None:
    """The encoding that the client's locale variables name, or None when they name none."""
    value = next((variables[name] for name in LOCALE_VARIABLES if variables.get(name)), "")
    return locale.normalize(value).partition(".")[2].partition("@")[0] or None


def decode(data: bytes, file: str, fallback: str | None = None) -> tuple[str, str | None]:
    """Turn the bytes of a requirements file into text (R2).

    Args:
        data: the whole file.
        file: its name, for messages.
        fallback: the encoding of the client's locale, tried last.

    Returns:
        The text, and a warning if the fallback was used.

    Raises:
        InputError: ``invalid-encoding``: nothing decodes it, or the declared encoding is unknown.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding, file, "byte order mark"), None
    if declared := declared_encoding(data):
        return _decoded(data, declared, file, "declared encoding"), None
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as exc:
        if fallback is None:
            raise _not_utf8(data, file, exc) from exc
        try:
            text = data.decode(fallback)
        except (LookupError, ValueError):
            raise _not_utf8(data, file, exc) from exc
        return text, (
            f"{file}: is not UTF-8, so it was read as {fallback}, the encoding of the locale; "
            f"declare it in the first line: # -*- coding: {fallback} -*-"
        )


def _not_utf8(data: bytes, file: str, cause: UnicodeDecodeError) -> InputError:
    line = data.count(b"\n", 0, cause.start) + 1
    return InputError(
        "invalid-encoding",
        f"{file}:{line}: is not UTF-8: byte 0x{data[cause.start]:02x} at offset {cause.start} of the file",
        hint="save it as UTF-8, or declare its encoding in the first line: # -*- coding: latin-1 -*-",
    )


def _decoded(data: bytes, encoding: str, file: str, source: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as exc:
        raise InputError("invalid-encoding", f"{file}: unknown {source} {encoding!r}") from exc
    except ValueError as exc:
        raise InputError(
            "invalid-encoding", f"{file}: is not {encoding}, which its {source} promises: {exc}"
        ) from exc


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Split, join continuations, strip comments, drop empty lines (R3-R5).

    Yields:
        The number of the first physical line, and the stripped text.
    """
    for number, joined in _joined(text):
        line = _without_comment(joined).strip()
        if line:
            yield number, line


def _joined(text: str) -> Iterator[tuple[int, str]]:
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), start=1):
        comment = "#" in line and line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            if not parts:
                first = number
            # R4: pip strips backslashes at both ends.
            parts.append(line.strip("\\"))
            continue
        if comment:
            # A space in front, so that the comment stays one when it ends a continuation.
            line = " " + line
        if parts:
            parts.append(line)
            yield first, "".join(parts)
            parts = []
        else:
            yield number, line
    if parts:
        yield first, "".join(parts)


def _without_comment(line: str) -> str:
    position = line.find("#")
    while position >= 0:
        if position == 0 or line[position - 1].isspace():
            return line[:position]
        position = line.find("#", position + 1)
    return line


def variable_names(lines: Iterable[tuple[int, str]]) -> frozenset[str]:
    """The names in every ``${NAME}`` of the lines (R6)."""
    return frozenset(match[2] for _, line in lines if "${" in line for match in _VARIABLE.finditer(line))


def expand(line: str, variables: Mapping[str, str]) -> str:
    """Put in the values of ``${NAME}``; unset and empty variables stay as written (R6).

    Raises:
        OverflowError: the values make the line absurdly long.
    """
    if "${" not in line:
        return line
    # One replacement per occurrence found, as pip does: a value that holds a name which comes later in
    # the same line is expanded too.
    references = [
        (reference, value) for reference, name in _VARIABLE.findall(line) if (value := variables.get(name))
    ]
    if len(references) > _MOST_REFERENCES:
        raise OverflowError(f"more than {_MOST_REFERENCES} references to variables in one line")
    for reference, value in references:
        if len(line) + line.count(reference) * len(value) > _LONGEST_EXPANSION:
            raise OverflowError(f"the value of {reference} makes the line longer than a million characters")
        line = line.replace(reference, value)
    return line
