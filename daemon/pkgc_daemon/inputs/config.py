"""pkgc's config.toml: its keys, their types, and errors that name them; not where the file is found."""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.locations import is_url, joined
from pkgc_daemon.inputs.namedindexes import (
    NamedIndex,
    check_cache_control,
    is_index_name,
    project_name,
    split_index,
    split_pin,
    split_setting,
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\Z", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: Keys whose relative paths start at the folder of the config file.
_PATHS = frozenset({"constraint", "cert", "client-cert"})
#: Those that may be URLs as well.
_LOCATIONS = frozenset({"find-links", "index-url", "extra-index-url"})


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


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a string or a list of strings")
    return tuple(value)


def _each(split: Callable[[str], object]) -> Callable[[object], object]:
    """A check of texts, each of which `split` must accept; they stay texts."""

    def check(value: object) -> object:
        texts = _texts(value)
        for text in texts:
            split(text)
        return texts

    return check


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


def _index_name(value: object) -> object:
    if not isinstance(value, str) or not is_index_name(value):
        raise ValueError("must be letters and digits, with '.', '_' and '-' within")
    return value


def _index_url(value: object) -> object:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be a URL or a directory")
    if _SCHEME.match(value) and not is_url(value):
        raise ValueError("must be an http:, https: or file: URL, or a directory")
    return value


def _projects(value: object) -> object:
    names = [(text, project_name(text)) for text in _texts(value)]
    for text, name in names:
        if name is None:
            raise ValueError(f"must be a list of project names: {text!r} is none")
    return tuple(name for _, name in names)


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
    "pin-index": _each(split_pin),
    "find-links": _texts,
    "no-index": _boolean,
    "trusted-host": _texts,
    "cert": _text,
    "client-cert": _text,
    "require-hashes": _boolean,
    "only-binary": _texts,
    "no-binary": _texts,
    "no-build": _boolean,
    "no-build-isolation": _boolean,
    "config-settings": _each(split_setting),
    "extra": _texts,
    "all-extras": _boolean,
    "group": _texts,
    "no-default-groups": _boolean,
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
#: Values of ``cache.bytecode``.
BYTECODE = ("auto", "off")
CACHE: Mapping[str, _Check] = {
    "max-size": _bytes,
    "ready-copies": _boolean,
    "bytecode": _one_of(*BYTECODE),
}
NETWORK: Mapping[str, _Check] = {
    "concurrent-downloads": _count,
    "concurrent-per-host": _count,
    "connect-timeout": _seconds,
    "stall-timeout": _seconds,
    "retries": _count,
}
BUILD: Mapping[str, _Check] = {"concurrent": _count, "timeout": _seconds}
#: Of one ``[[index]]`` entry.
INDEX: Mapping[str, _Check] = {
    "name": _index_name,
    "url": _index_url,
    "default": _boolean,
    "explicit": _boolean,
    "packages": _projects,
}
#: Of its table ``cache-control``.
INDEX_CACHE_CONTROL: Mapping[str, _Check] = {"pages": lambda value: check_cache_control(str(_text(value)))}
_TABLES = {"cache": CACHE, "network": NETWORK, "build": BUILD}


@dataclass(frozen=True, slots=True)
class Config:
    """What a config.toml says; absent keys are absent."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Option names with dashes -> bool, str, int or tuple of str (see `OPTIONS`)."""
    cache: Mapping[str, Any] = field(default_factory=dict)
    """``max-size`` (bytes), ``ready-copies``, ``bytecode`` (see `BYTECODE`)."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Counts (int) and timeouts (float, seconds), see `NETWORK`."""
    path: str | None = None
    build: Mapping[str, Any] = field(default_factory=dict)
    """``concurrent`` (int) and ``timeout`` (float, seconds)."""
    indexes: tuple[NamedIndex, ...] = ()
    """The `[[index]]` entries, and the strings of a list `index`, in their order."""


def parse_config(data: bytes, path: str) -> Config:
    """Parse and check a config.toml.

    Relative `constraint`, `find-links`, `cert`, `client-cert` and indexes start at the folder of the file; a
    leading ``~`` is left for the caller, who knows whose home is meant.

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
    tables: dict[str, dict[str, Any]] = {name: {} for name in ("", *_TABLES)}
    indexes: tuple[NamedIndex, ...] = ()
    for key, value in document.items():
        if key == "index":
            indexes = _indexes(value, path, problems, hints)
        elif key not in _TABLES:
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
    return Config(tables[""], tables["cache"], tables["network"], path, tables["build"], indexes)


def _indexes(value: object, path: str, problems: list[str], hints: list[str]) -> tuple[NamedIndex, ...]:
    """The ``[[index]]`` entries, or the strings of a list as ``--index`` takes them.

    What one entry alone cannot tell is checked here too: names are unique, at most one is the default, and a
    project is pinned to one index only.
    """
    if not isinstance(value, list):
        problems.append(f"{path}: index must be a list: write [[index]], with two brackets")
        return ()
    found: list[NamedIndex] = []
    for number, entry in enumerate(value, 1):
        before = len(problems)
        index = _index(entry, f"index {number}", path, problems, hints)
        if index is not None and len(problems) == before:
            found.append(index)
    names = [index.name for index in found if index.name]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    problems += [f"{path}: two indexes have the name {name!r}" for name in twice]
    if sum(index.default for index in found) > 1:
        problems.append(f"{path}: more than one index has default = true")
    holders: dict[str, NamedIndex] = {}
    problems += [
        f"{path}: {project!r} is among the packages of two indexes"
        for index in found
        for project in index.packages
        if holders.setdefault(project, index) is not index
    ]
    return tuple(found)


def _index(entry: object, label: str, path: str, problems: list[str], hints: list[str]) -> NamedIndex | None:
    folder = os.path.dirname(path)
    if isinstance(entry, str):
        try:
            name, url = split_index(entry)
            return NamedIndex(name, _in_folder(folder, str(_index_url(url))))
        except ValueError as exc:
            problems.append(f"{path}: {label} {exc}")
            return None
    if not isinstance(entry, dict):
        problems.append(f"{path}: {label} must be a table or a string")
        return None
    given: dict[str, Any] = {}
    pages: dict[str, Any] = {}
    for key, value in entry.items():
        if key != "cache-control":
            _take(key, value, label, INDEX, path, given, problems, hints, further=("cache-control",))
        elif not isinstance(value, dict):
            problems.append(
                f'{path}: {label}.cache-control must be a table such as {{ pages = "max-age=600" }}'
            )
        else:
            for inner, text in value.items():
                table = f"{label}.cache-control"
                _take(inner, text, table, INDEX_CACHE_CONTROL, path, pages, problems, hints)
    if "url" not in given:
        if "url" not in entry:
            problems.append(f"{path}: {label} has no url")
        return None
    if given.get("default") and given.get("explicit"):
        problems.append(f"{path}: {label} cannot be both default and explicit")
    return NamedIndex(
        given.get("name", ""),
        _in_folder(folder, given["url"]),
        default=given.get("default", False),
        explicit=given.get("explicit", False),
        packages=given.get("packages", ()),
        pages=pages.get("pages"),
    )


def _take(
    key: str,
    value: object,
    table: str,
    known: Mapping[str, _Check],
    path: str,
    into: dict[str, Any],
    problems: list[str],
    hints: list[str],
    *,
    further: Sequence[str] = (),
) -> None:
    """Check one key of a table; `further` are keys that the caller takes by itself."""
    name = f"{table}.{key}" if table else key
    check = known.get(key)
    if check is None:
        problems.append(f"{path}: unknown key {name!r}")
        others = further if table else (*_TABLES, "index")
        near = difflib.get_close_matches(key.replace("_", "-"), [*known, *others], 1)
        if near:
            hints.append(f"did you mean {f'{table}.{near[0]}' if table else near[0]!r}?")
        return
    try:
        into[key] = _resolved(name, check(value), os.path.dirname(path))
    except ValueError as exc:
        problems.append(f"{path}: {name} {exc}")


def _resolved(name: str, value: object, folder: str) -> object:
    if name in _LOCATIONS:
        if isinstance(value, tuple):
            return tuple(_in_folder(folder, item) for item in value)
        return _in_folder(folder, str(value))
    if name not in _PATHS:
        return value
    if isinstance(value, tuple):
        return tuple(_joined(folder, item) for item in value)
    return _joined(folder, str(value))


def _in_folder(folder: str, value: str) -> str:
    """A location of the config file: URLs stay, paths start at its folder."""
    return value if _SCHEME.match(value) else _joined(folder, value)


def _joined(folder: str, value: str) -> str:
    return value if value.startswith("~") else joined(folder, value)
