"""Values of options: command line over PKGC_ variable over config.toml over default, each checked once.

Pure: variables and configuration come in as mappings, paths are only joined, never looked at.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.locations import joined
from pkgc_daemon.inputs.namedindexes import split_index, split_pin, split_setting
from pkgc_daemon.serving.calls import Source
from pkgc_daemon.serving.options import OPTIONS, Command, Option
from pkgc_protocol.places import home

_YES = frozenset({"1", "true", "yes", "on", "y", "t"})
_NO = frozenset({"0", "false", "no", "off", "n", "f"})
_NAME = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?\Z", re.IGNORECASE)
_SEPARATORS = re.compile(r"[-_.]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_URL_SCHEMES = frozenset({"http", "https", "file"})
# "file" needs no host; the others do, or the URL is not one.
_URL = re.compile(r"(?:https?://[^/\s]+|file:/)\S*\Z", re.IGNORECASE)

DEFAULT = Source("default", "default")


def normalized_name(text: str) -> str | None:
    """A project's name in the form of PEP 503, or None when `text` is not a name."""
    return _SEPARATORS.sub("-", text).lower() if _NAME.match(text) else None


def absolute(path: str, base: str, env: Mapping[str, str]) -> str:
    """`path` seen from `base`, with ``~/`` expanded by HOME and ``.`` components dropped.

    ``..`` stays: only the filesystem knows where it leads.

    Raises:
        InputError: ``no-working-directory``: `path` is relative, and `base` empty.
    """
    if path == "~" or path.startswith("~/"):
        path = posixpath.join(home(dict(env)), path[2:])
    return joined(base, path)


class Values:
    """The options of one call: `of` gives values, `origins` says where each came from.

    Args:
        command: whose options.
        given: option key -> what the command line gave; absent or None: nothing.
        env: the client's environment.
        config: option key -> value of config.toml (str, bool, int, or a list of str).
        config_file: path of config.toml, for messages; relative paths in it start from its directory.
        cwd: the client's working directory, absolute.

    Raises:
        InputError: ``invalid-option``, naming the flag, variable or key.
    """

    def __init__(
        self,
        command: Command,
        given: Mapping[str, Any],
        env: Mapping[str, str],
        config: Mapping[str, Any],
        config_file: str,
        cwd: str,
    ) -> None:
        self._env = env
        self._cwd = cwd
        self._config_dir = posixpath.dirname(config_file) if config_file.startswith("/") else cwd
        self.origins: dict[str, Source] = {}
        self._values: dict[str, Any] = {}
        for key in command.options:
            option = OPTIONS[key]
            value: Any
            if given.get(key) is not None:
                source, value = Source("argv", option.flag), given[key]
            elif text := env.get(option.variable):
                source = Source("env", option.variable)
                value = text.split() if option.kind == "many" else text
            elif config.get(key) is not None:
                source, value = Source("config", f"{config_file}: {key}"), config[key]
            else:
                self.origins[key] = DEFAULT
                continue
            self.origins[key] = source
            self._values[key] = self._checked(option, source, value)

    def of(self, key: str, default: Any = None) -> Any:
        """The value of an option: bool, int, str, a tuple of str; `default` when nobody gave one."""
        return self._values.get(key, default)

    def label(self, key: str) -> str:
        """How to name the option in a message: by where its value came from."""
        origin = self.origins.get(key, DEFAULT)
        return OPTIONS[key].flag if origin.kind == "default" else origin.label

    def _checked(self, option: Option, source: Source, value: Any) -> Any:
        if option.kind in ("flag", "toggle"):
            return _boolean(source, value)
        if option.kind == "count":
            return _count(source, value)
        if option.kind == "one":
            if not isinstance(value, str):
                raise invalid(source, value, "must be a string")
            return self._text(option, source, value)
        values: Sequence[Any] = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(text, str) for text in values):
            raise invalid(source, value, "must be a string or a list of strings")
        if option.value == "format":
            return _formats(source, values)
        if option.value == "setting":
            # A setting that is given twice is a list of two values to the backend.
            return tuple(self._text(option, source, text) for text in values)
        # Repeated values count once, in the order of their first mention.
        return tuple(dict.fromkeys(self._text(option, source, text) for text in values))

    def _text(self, option: Option, source: Source, text: str) -> str:
        if not text.strip() or "\0" in text:
            raise invalid(source, text, "must not be empty" if not text.strip() else "holds a NUL character")
        base = self._config_dir if source.kind == "config" and option.key != "venv" else self._cwd
        match option.value:
            case "choice":
                if text not in option.choices:
                    raise invalid(
                        source,
                        text,
                        f"not one of {', '.join(option.choices)}",
                        hint=did_you_mean(text, option.choices),
                    )
            case "name":
                return _name(source, text)
            case "location":
                return self._location(source, text, base)
            case "index":
                name, location = _split(split_index, source, text)
                place = self._location(source, location, base)
                return f"{name}={place}" if name else place
            case "pin":
                return "=".join(_split(split_pin, source, text))
            case "setting":
                return "=".join(_split(split_setting, source, text))
            case "path":
                return absolute(text, base, self._env)
            case "python" if "/" in text or text in (".", "..", "~"):
                return absolute(text, base, self._env)
            case _:
                pass
        return text

    def _location(self, source: Source, text: str, base: str) -> str:
        scheme = _SCHEME.match(text)
        if not scheme:
            return absolute(text, base, self._env)
        if scheme[1].lower() not in _URL_SCHEMES or not _URL.match(text):
            raise invalid(source, text, "neither a path nor an http:, https: or file: URL")
        return text


def _split(how: Callable[[str], tuple[str, str]], source: Source, text: str) -> tuple[str, str]:
    try:
        return how(text)
    except ValueError as error:
        raise invalid(source, text, str(error)) from error


def invalid(source: Source, value: Any, problem: str, *, hint: str | None = None) -> InputError:
    """The error for a value that an option cannot have; credentials in it are not repeated."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    if "@" in shown:
        return InputError("invalid-option", f"{source.label}: {problem}", hint=hint)
    joint = {"argv": " ", "env": "=", "config": " = ", "default": " "}[source.kind]
    return InputError("invalid-option", f"{source.label}{joint}{shown}: {problem}", hint=hint)


def did_you_mean(word: str, words: Sequence[str]) -> str | None:
    """The hint that names what is nearest to a wrong word, if anything is near."""
    near = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def _boolean(source: Source, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) and source.kind == "env" else None
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise invalid(source, value, "must be true or false" if source.kind == "config" else "must be 1 or 0")


def _count(source: Source, value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        if value.isascii() and value.isdecimal() and len(value) < 4:
            return int(value)
        return int(_boolean(source, value))
    if isinstance(value, int) and value >= 0:
        return value
    raise invalid(source, value, "must be a number from 0 up")


def _name(source: Source, text: str) -> str:
    name = normalized_name(text.strip())
    if name is None:
        raise invalid(source, text, "not a project name")
    return name


def _formats(source: Source, values: Sequence[str]) -> tuple[str, ...]:
    """pip's rule: names add up, ``:none:`` forgets what was said before, ``:all:`` swallows the rest."""
    names: dict[str, None] = {}
    for value in values:
        for word in filter(None, (part.strip() for part in value.split(","))):
            if word == ":none:":
                names.clear()
            elif word == ":all:":
                names = {":all:": None}
            elif ":all:" not in names:
                names[_name(source, word)] = None
    return tuple(names)
