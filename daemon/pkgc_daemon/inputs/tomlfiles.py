"""TOML files, read once: content with typed access, and the lines on which their packages stand.

It knows TOML and how to name a place in it; what the keys of a lock mean is the business of `pylock` and
`uvlock`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tomli

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.inputs.tomlkeys import MOST_PARTS, deep_key
from pkgc_daemon.vocabulary import Place

Table = Mapping[str, Any]

_NAME = re.compile(r"^[ \t]*(?:name|\"name\"|'name')[ \t]*=", re.MULTILINE)
#: Characters up to which the fast parser is used: it is compiled, and lets no other thread run meanwhile.
_FAST = 4 << 20
_TYPES = {str: "a string", int: "a whole number", bool: "a boolean", dict: "a table", list: "an array"}


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A TOML file: what it says, and its text for telling lines."""

    name: str
    """As messages name it."""
    content: Table
    text: str


def parse_toml(data: bytes, name: str, code: str) -> TomlFile:
    """Parse a whole file.

    Args:
        data: its bytes.
        name: how messages name it.
        code: of the error when it is no TOML.

    Raises:
        InputError: `code`, with the line; ``invalid-lock`` also for a lock without any content.
    """
    if code == "invalid-lock" and not data.strip():
        raise InputError(code, f"{name}: the file is empty", hint="was its writing interrupted?")
    try:
        # A byte order mark says nothing in UTF-8, and editors of some systems write one.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(
            code, f"{name}:{line}: not UTF-8, so not TOML", hint="save it as UTF-8, or have it made again"
        ) from exc
    if line := deep_key(text):
        raise InputError(
            code, f"{name}:{line}: not valid TOML for pkgc: a key or header of more than {MOST_PARTS} parts"
        )
    try:
        content = tomli.loads(text) if len(text) <= _FAST else tomllib.loads(text)
    except tomli.TOMLDecodeError as exc:
        raise InputError(
            code,
            f"{name}:{exc.lineno}: not valid TOML: {shown(exc.msg)}",
            hint="was the file cut off, or is there a merge conflict in it?",
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(code, f"{name}: not valid TOML: {shown(str(exc))}") from exc
    return TomlFile(name, content, text)


def package_places(file: TomlFile, key: str, count: int) -> tuple[Place, ...]:
    """The lines of the ``name`` keys of ``[[key]]`` tables, in their order.

    Lines are told by text, not by a parser. Where that finds another number of headers than there are
    tables (inline arrays), every place is the file's first line.
    """
    # As tools write it; the expression, which takes all that TOML allows, needs 14 ms for 1.5 MB.
    starts = [match.start() for match in re.finditer(rf"\[\[{re.escape(key)}\]\]\n", file.text)]
    if len(starts) != count:
        header = re.compile(rf"^[ \t]*\[\[[ \t]*{re.escape(key)}[ \t]*\]\]", re.MULTILINE)
        starts = [match.start() for match in header.finditer(file.text)]
    if len(starts) != count:
        return (Place(file.name, 1),) * count
    places: list[Place] = []
    line, counted = 1, 0
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < count else len(file.text)
        name = _NAME.search(file.text, start, end)
        found = start if name is None else name.start()
        line += file.text.count("\n", counted, found)
        counted = found
        places.append(Place(file.name, line))
    return tuple(places)


class TypeProblem(ValueError):
    """A value of a TOML file has another type than its key demands."""


def text_at(table: Table, key: str) -> str | None:
    """A string, or None without the key.

    Raises:
        TypeProblem: another type (so do all functions below).
    """
    value: str | None = _typed(table, key, str)
    return value


def number_at(table: Table, key: str) -> int | None:
    """A whole number, zero or more; a boolean is none, although Python thinks so."""
    value: int | None = _typed(table, key, int)
    if value is not None and value < 0:
        raise TypeProblem(f"{key} must not be negative, found {value}")
    return value


def table_at(table: Table, key: str) -> Table:
    """A table; empty without the key."""
    value: Table | None = _typed(table, key, dict)
    return value or {}


def tables_at(table: Table, key: str) -> list[Table]:
    """An array of tables; empty without the key."""
    return _items(table, key, dict)


def texts_at(table: Table, key: str) -> list[str]:
    """An array of strings; empty without the key."""
    return _items(table, key, str)


def _typed(table: Table, key: str, wanted: type[Any]) -> Any:
    value = table.get(key)
    if value is None or (isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))):
        return value
    raise TypeProblem(f"{key} must be {_TYPES[wanted]}, found {_kind(value)}")


def _items(table: Table, key: str, wanted: type[Any]) -> list[Any]:
    value: list[Any] = _typed(table, key, list) or []
    for item in value:
        if not isinstance(item, wanted):
            raise TypeProblem(f"{key} must hold only {_TYPES[wanted][2:]}s, found {_kind(item)}")
    return value


def _kind(value: object) -> str:
    return _TYPES.get(type(value), f"a {type(value).__name__}")
