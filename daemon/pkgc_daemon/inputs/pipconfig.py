"""pip's configuration, read as pip reads it, for people who set their index there; nothing of pkgc's own.

Order (pip's `Configuration`): global, user, site, ``PIP_CONFIG_FILE``, ``PIP_*`` variables; in the files the
section of the command (``[install]``) beats ``[global]``; empty values count as absent.
"""

from __future__ import annotations

import configparser
import os.path
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pkgc_daemon.errors import InputError

_SECTIONS = ("global", "install")
#: Settings that say what may be installed, not where it is.
_IGNORED = ("constraint", "no-binary", "only-binary")
_TRUE = frozenset({"y", "yes", "t", "true", "on", "1"})
_FALSE = frozenset({"n", "no", "f", "false", "off", "0"})


@dataclass(frozen=True, slots=True)
class PipConfiguration:
    """The settings of pip that mean something to pkgc."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None
    require_hashes: str | None = None
    """Where it says that every requirement must have a hash (a variable's name or a file); None: nowhere."""
    ignored: tuple[str, ...] = ()
    """What it sets that would change what pip installs, and that pkgc does not read: ``name (where)``."""

    @property
    def names_files(self) -> bool:
        """Whether it says where to look for files."""
        return bool(self.index_url or self.extra_index_urls or self.find_links or self.no_index)


class _Setting(NamedTuple):
    value: str
    source: str


def _user_files(env: Mapping[str, str], home: str, platform: str) -> list[str]:
    config = env.get("XDG_CONFIG_HOME", "").strip()
    if not os.path.isabs(config):
        config = os.path.join(home, ".config")
    files = [os.path.join(home, ".pip", "pip.conf"), os.path.join(config, "pip", "pip.conf")]
    if platform == "darwin":
        files.append(os.path.join(home, "Library", "Application Support", "pip", "pip.conf"))
    return files


def pip_configuration_files(
    env: Mapping[str, str], home: str, prefix: str | None, platform: str = sys.platform
) -> list[str]:
    """Every file that pip might read, the weakest first; most of them do not exist.

    Args:
        env: the client's environment.
        home: its home directory.
        prefix: the environment's prefix (pip's "site" file), or None when there is none yet.
        platform: `sys.platform` of the client.

    Returns:
        Absolute paths; none at all when ``PIP_CONFIG_FILE`` is the null device.
    """
    chosen = env.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    if platform == "darwin":
        files = ["/Library/Application Support/pip/pip.conf"]
    else:
        folders = [
            folder
            for folder in env.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
            if os.path.isabs(folder.strip())
        ]
        files = [os.path.join(folder.strip(), "pip", "pip.conf") for folder in folders or ["/etc/xdg"]]
        files.append("/etc/pip.conf")
    files += _user_files(env, home, platform)
    if prefix is not None:
        files.append(os.path.join(prefix, "pip.conf"))
    if chosen:
        files.append(chosen)
    return files


def merge_pip_configuration(
    contents: Mapping[str, bytes],
    env: Mapping[str, str],
    *,
    home: str | None = None,
    platform: str = sys.platform,
) -> PipConfiguration:
    """Merge the files that exist with the ``PIP_*`` variables.

    Args:
        contents: path -> bytes of the files that exist, in the order of `pip_configuration_files`.
        env: the client's environment.
        home: its home directory (default ``$HOME``); needed because ``PIP_CONFIG_FILE``, when that file
            exists, replaces the user's files.
        platform: `sys.platform` of the client.

    Raises:
        InputError: ``invalid-pip-config``: a file cannot be parsed, or a value is no boolean.
    """
    home = home if home is not None else env.get("HOME", "")
    skipped: frozenset[str] = frozenset()
    if env.get("PIP_CONFIG_FILE") in contents:
        skipped = frozenset(_user_files(env, home, platform))
    sections: dict[str, dict[str, _Setting]] = {name: {} for name in _SECTIONS}
    if env.get("PIP_CONFIG_FILE") != os.devnull:
        for path, data in contents.items():
            if path in skipped:
                continue
            for section, key, value in _entries(path, data):
                sections[section][key] = _Setting(value, path)
    merged: dict[str, _Setting] = {}
    for name in _SECTIONS:
        merged.update({key: setting for key, setting in sections[name].items() if setting.value})
    for name, value in env.items():
        if name.startswith("PIP_") and value:
            merged[_normalized(name[4:])] = _Setting(value, name)
    index = merged.get("index-url") or merged.get("pypi-url")
    return PipConfiguration(
        index_url=index.value if index else None,
        extra_index_urls=_words(merged, "extra-index-url"),
        find_links=_words(merged, "find-links"),
        no_index=_boolean(merged, "no-index"),
        cert=_path(merged, "cert", home),
        client_cert=_path(merged, "client-cert", home),
        trusted_hosts=_words(merged, "trusted-host"),
        proxy=merged["proxy"].value if "proxy" in merged else None,
        require_hashes=merged["require-hashes"].source if _boolean(merged, "require-hashes") else None,
        ignored=tuple(f"{key} ({merged[key].source})" for key in _IGNORED if key in merged),
    )


class _Parser(configparser.RawConfigParser):
    """An INI parser to which `index_url`, `Index-URL` and `--index-url` are one key, as to pip."""

    def optionxform(self, optionstr: str) -> str:
        """See `configparser.RawConfigParser.optionxform`."""
        return _normalized(optionstr)


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _entries(path: str, data: bytes) -> list[tuple[str, str, str]]:
    parser = _Parser()
    try:
        parser.read_string(data.decode("utf-8"), source=path)
    except UnicodeDecodeError as exc:
        raise InputError("invalid-pip-config", f"{path}: is not UTF-8: {exc}") from exc
    except configparser.Error as exc:
        # Its text may quote lines, and those may hold credentials.
        line = getattr(exc, "lineno", None)
        where = f"{path}:{line}" if line is not None else path
        raise InputError(
            "invalid-pip-config",
            f"{where}: pip's configuration cannot be parsed ({type(exc).__name__})",
            hint="correct it, or set PIP_CONFIG_FILE=/dev/null to do without",
        ) from exc
    return [
        (section, key, value)
        for section in parser.sections()
        if section in _SECTIONS
        for key, value in parser.items(section)
    ]


def _words(merged: Mapping[str, _Setting], key: str) -> tuple[str, ...]:
    return tuple(merged[key].value.split()) if key in merged else ()


def _path(merged: Mapping[str, _Setting], key: str, home: str) -> str | None:
    if key not in merged:
        return None
    value = merged[key].value
    # The daemon's own home is another one.
    return home + value[1:] if value == "~" or value.startswith("~/") else value


def _boolean(merged: Mapping[str, _Setting], key: str) -> bool:
    if key not in merged:
        return False
    value, source = merged[key]
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise InputError("invalid-pip-config", f"{source}: {key} must be true or false, not {value!r}")
