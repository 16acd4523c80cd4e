"""pkgc's config.toml: its keys, their types, and errors that name them; not where the file is found."""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.locations import is_url, joined

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\Z", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: Keys whose relative paths start at the folder of the config file.
_PATHS = frozenset({"constraint", "cert", "client-cert"})


def parse_size(value: str | int) -> int:
    """A size in bytes: a number, or text such as ``20GB`` (10**9) or ``512 MiB`` (2**20).

    Raises:
        ValueError: it is neither, or negative.
    """
    if isinstance(value, int):
        if value < 0:
            raise ValueError("must not be negative")
        return value
    match = _SIZE.match(value.strip())
    if match is None:
        raise ValueError('must be a number of bytes or text such as "20GB" or "512MiB"')
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWER[match[2].lower()])


def _boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _texts(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a string or a list of strings")
    return tuple(value)


def _seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return float(value)


def _count(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def _level(value: object) -> object:
    if isinstance(value, int) and 0 <= value <= 9:
        return int(value)
    raise ValueError("must be true, false or a small whole number")


def _bytes(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError('must be a number of bytes or text such as "20GB"')
    return parse_size(value)


def _one_of(*names: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return check


_Check = Callable[[object], object]

#: Key -> check. The keys are the names of the command line's options.
OPTIONS: Mapping[str, _Check] = {
    "venv": _text,
    "python": _text,
    "constraint": _texts,
    "index-url": _text,
    "extra-index-url": _texts,
    "find-links": _texts,
    "no-index": _boolean,
    "trusted-host": _texts,
    "cert": _text,
    "client-cert": _text,
    "require-hashes": _boolean,
    "only-binary": _texts,
    "no-binary": _texts,
    "link-mode": _one_of("auto", "hardlink", "reflink", "copy", "symlink"),
    "compile-bytecode": _boolean,
    "refresh": _boolean,
    "refresh-package": _texts,
    "reinstall": _boolean,
    "reinstall-package": _texts,
    "offline": _boolean,
    "inexact": _boolean,
    "strict": _boolean,
    "dry-run": _boolean,
    "check": _boolean,
    "output-format": _one_of("text", "json"),
    "quiet": _level,
    "verbose": _level,
    "no-progress": _boolean,
    "color": _one_of("auto", "always", "never"),
}
CACHE: Mapping[str, _Check] = {"max-size": _bytes}
NETWORK: Mapping[str, _Check] = {
    "concurrent-downloads": _count,
    "concurrent-per-host": _count,
    "connect-timeout": _seconds,
    "stall-timeout": _seconds,
    "retries": _count,
}
_TABLES = {"cache": CACHE, "network": NETWORK}


@dataclass(frozen=True, slots=True)
class Config:
    """What a config.toml says; absent keys are absent."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Option names with dashes -> bool, str, int or tuple of str (see `OPTIONS`)."""
    cache: Mapping[str, Any] = field(default_factory=dict)
    """``max-size`` (bytes)."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Counts (int) and timeouts (float, seconds), see `NETWORK`."""
    path: str | None = None


def parse_config(data: bytes, path: str) -> Config:
    """Parse and check a config.toml.

    Relative `constraint`, `find-links`, `cert` and `client-cert` start at the folder of the
    file; a leading ``~`` is left for the caller, who knows whose home is meant.

    Args:
        data: the content.
        path: absolute path of the file, for messages and relative paths.

    Raises:
        InputError: ``invalid-config``: not TOML, an unknown key, or a value of the wrong type; every bad
            key is listed.
    """
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise InputError("invalid-config", f"{path}: is not UTF-8: {exc}") from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise InputError("invalid-config", f"{path}: is not valid TOML: {exc}") from exc
    problems: list[str] = []
    hints: list[str] = []
    tables: dict[str, dict[str, Any]] = {"": {}, "cache": {}, "network": {}}
    for key, value in document.items():
        if key not in _TABLES:
            _take(key, value, "", OPTIONS, path, tables[""], problems, hints)
        elif not isinstance(value, dict):
            problems.append(f"{path}: [{key}] must be a table")
        else:
            for inner, inner_value in value.items():
                _take(inner, inner_value, key, _TABLES[key], path, tables[key], problems, hints)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            "invalid-config",
            problems[0] + more,
            context="\n".join(problems) if more else None,
            hint="; ".join(hints) or None,
        )
    return Config(tables[""], tables["cache"], tables["network"], path)


def _take(
    key: str,
    value: object,
    table: str,
    known: Mapping[str, _Check],
    path: str,
    into: dict[str, Any],
    problems: list[str],
    hints: list[str],
) -> None:
    name = f"{table}.{key}" if table else key
    check = known.get(key)
    if check is None:
        problems.append(f"{path}: unknown key {name!r}")
        near = difflib.get_close_matches(key.replace("_", "-"), [*known, *([] if table else _TABLES)], 1)
        if near:
            hints.append(f"did you mean {f'{table}.{near[0]}' if table else near[0]!r}?")
        return
    try:
        into[key] = _resolved(name, check(value), os.path.dirname(path))
    except ValueError as exc:
        problems.append(f"{path}: {name} {exc}")


def _resolved(name: str, value: object, folder: str) -> object:
    if name == "find-links" and isinstance(value, tuple):
        return tuple(item if is_url(item) else _joined(folder, item) for item in value)
    if name not in _PATHS:
        return value
    if isinstance(value, tuple):
        return tuple(_joined(folder, item) for item in value)
    return _joined(folder, str(value))


def _joined(folder: str, value: str) -> str:
    return value if value.startswith("~") else joined(folder, value)
