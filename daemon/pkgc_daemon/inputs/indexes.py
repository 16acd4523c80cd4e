"""Where to look for files: command line, variables, requirements files and configurations, put in order.

Pure: nothing is opened, no index is asked.
"""

from __future__ import annotations

import os.path
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.inputs.locations import is_url, joined, location_url
from pkgc_daemon.inputs.namedindexes import NamedIndex, split_index, split_pin
from pkgc_daemon.inputs.pipconfig import PipConfiguration
from pkgc_daemon.vocabulary import IndexOptions

_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "off", "n", "f", ""})


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """The index options of one command line; absent ones are None or empty."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool | None = None
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    named: tuple[tuple[str, str], ...] = ()
    """(name or '', URL or path): asked before `index_url`."""
    pins: tuple[tuple[str, str], ...] = ()
    """(normalized project, name of an index)"""

    @property
    def names_files(self) -> bool:
        """Whether it says where to look for files."""
        return bool(self.index_url or self.extra_index_urls or self.named or self.find_links or self.no_index)


def names_files(
    choice: IndexChoice, given: RequirementsInput, config: Config | None, env: Mapping[str, str]
) -> bool:
    """Whether anything of pkgc's own says where to look for files: then pip's configuration is not read.

    An ``[[index]]`` of config.toml counts, also one that serves only the projects that are pinned to it.

    Args:
        choice: the command line.
        given: the requirements files.
        config: config.toml, if there is one.
        env: the client's environment.

    Raises:
        InputError: ``invalid-variable``.
    """
    return bool(
        any(level.names_files for level in (choice, environment_choice(env), _given_choice(given)))
        or (config is not None and (config.indexes or _config_choice(config.options).names_files))
    )


def environment_choice(env: Mapping[str, str]) -> IndexChoice:
    """The same options from ``PKGC_…`` variables; lists are separated by white space, empty is absent.

    Raises:
        InputError: ``invalid-variable``: ``PKGC_NO_INDEX`` is no boolean, or ``PKGC_INDEX`` or
            ``PKGC_PIN_INDEX`` are malformed.
    """
    no_index: bool | None = None
    if value := env.get("PKGC_NO_INDEX", ""):
        if value.lower() not in _TRUE | _FALSE:
            raise InputError("invalid-variable", f"PKGC_NO_INDEX must be true or false, not {value!r}")
        no_index = value.lower() in _TRUE
    return IndexChoice(
        index_url=env.get("PKGC_INDEX_URL") or None,
        extra_index_urls=tuple(env.get("PKGC_EXTRA_INDEX_URL", "").split()),
        find_links=tuple(env.get("PKGC_FIND_LINKS", "").split()),
        no_index=no_index,
        trusted_hosts=tuple(env.get("PKGC_TRUSTED_HOST", "").split()),
        cert=env.get("PKGC_CERT") or None,
        client_cert=env.get("PKGC_CLIENT_CERT") or None,
        named=_split_words(env, "PKGC_INDEX", split_index),
        pins=_split_words(env, "PKGC_PIN_INDEX", split_pin),
    )


def _split_words(
    env: Mapping[str, str], variable: str, split: Callable[[str], tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(split(word) for word in env.get(variable, "").split())
    except ValueError as error:
        raise InputError("invalid-variable", f"{variable} {error}") from error


def _given_choice(given: RequirementsInput) -> IndexChoice:
    return IndexChoice(
        given.index_url,
        given.extra_index_urls,
        given.find_links,
        given.no_index or None,
        given.trusted_hosts,
    )


def _config_choice(options: Mapping[str, Any]) -> IndexChoice:
    return IndexChoice(
        index_url=options.get("index-url"),
        extra_index_urls=tuple(options.get("extra-index-url", ())),
        find_links=tuple(options.get("find-links", ())),
        no_index=options.get("no-index"),
        trusted_hosts=tuple(options.get("trusted-host", ())),
        cert=options.get("cert"),
        client_cert=options.get("client-cert"),
        pins=tuple(split_pin(text) for text in options.get("pin-index", ())),
    )


def _pip_choice(pip: PipConfiguration) -> IndexChoice:
    return IndexChoice(
        pip.index_url,
        pip.extra_index_urls,
        pip.find_links,
        pip.no_index or None,
        pip.trusted_hosts,
    )


def index_options(
    *,
    cli: IndexChoice,
    given: RequirementsInput,
    config: Config | None,
    pip: PipConfiguration | None,
    env: Mapping[str, str],
    cwd: str = "/",
) -> IndexOptions:
    """Put everything that says where to look in order.

    Precedence: command line, ``PKGC_…`` variables, requirements files, config.toml; pip's configuration
    only if none of those names an index, find-links or no-index; else config.toml's default ``[[index]]``,
    else PyPI.  Indexes of ``--index`` and ``[[index]]`` come before the main one, extra ones after it; the
    explicit ones are asked only for the projects that are pinned to them.  The lists of requirements
    files add to those of the command line (or of the variables); config.toml's lists come after them.
    ``--no-index`` in a file is final, elsewhere the strongest word counts.

    Args:
        cli: the command line.
        given: the requirements files.
        config: config.toml, if there is one.
        pip: pip's configuration, if it may be used.
        env: the client's environment.
        cwd: the client's working directory, where relative paths of the command line, of variables and of
            pip's configuration start.

    Raises:
        InputError: ``invalid-variable``; ``unknown-index``: a project is pinned to a name that no index has.
    """
    variables = environment_choice(env)
    own = _config_choice(config.options) if config is not None else IndexChoice()
    configured = config.indexes if config is not None else ()
    levels = [cli, variables, _given_choice(given), own]
    if pip is not None and not configured and not any(level.names_files for level in levels):
        levels.append(_pip_choice(pip))
    no_index = given.no_index or next(
        (level.no_index for level in levels if level.no_index is not None), False
    )
    named = [
        replace(one, url=_location(one.url, cwd, env))
        for one in _named_indexes(cli.named or variables.named, configured)
    ]
    indexes: list[str] = []
    if not no_index:
        main = next((level.index_url for level in levels if level.index_url), None)
        default = next((one.url for one in named if one.default), None)
        indexes += [one.url for one in named if not one.default and not one.explicit]
        indexes.append(_location(main, cwd, env) if main else default or default_index())
        indexes += [_location(url, cwd, env) for url in _gathered(levels, "extra_index_urls")]
    return IndexOptions(
        indexes=_unique(indexes),
        find_links=_unique([_find_links(value, cwd, env) for value in _gathered(levels, "find_links")]),
        no_index=no_index,
        trusted_hosts=_unique(_gathered(levels, "trusted_hosts")),
        cert=_path(
            cli.cert
            or variables.cert
            or own.cert
            # pip too lets its own setting beat the variable, which speaks to every program.
            or (pip.cert if pip is not None else None)
            or env.get("SSL_CERT_FILE"),
            cwd,
            env,
        ),
        client_cert=_path(
            cli.client_cert
            or variables.client_cert
            or own.client_cert
            or (pip.client_cert if pip is not None else None),
            cwd,
            env,
        ),
        proxies=_proxies(env, pip),
        netrc=_netrc(env, cwd),
        pins=_pins([*(cli.pins or variables.pins), *own.pins], named),
        names={one.url: one.name for one in reversed(named) if one.name},
        page_rules={one.url: one.pages for one in reversed(named) if one.pages is not None},
    )


def _named_indexes(stronger: Sequence[tuple[str, str]], configured: Sequence[NamedIndex]) -> list[NamedIndex]:
    """Indexes of command line or variables, then config.toml's.

    A name that config.toml knows keeps what is said of it there and gets the new URL: so a mirror can stand
    in for an index, and one that serves only what is pinned to it serves no more than before.
    """
    known = {one.name: one for one in configured if one.name}
    result = []
    for name, url in stronger:
        base = known.pop(name, None) if name else None
        result.append(replace(base, url=url) if base is not None else NamedIndex(name, url))
    return [*result, *(one for one in configured if not one.name or one.name in known)]


def _pins(pins: Sequence[tuple[str, str]], named: Sequence[NamedIndex]) -> dict[str, str]:
    """Project -> URL of its only index; the first word on a project counts.

    Raises:
        InputError: ``unknown-index``: there is no index of that name.
    """
    urls = {one.name: one.url for one in reversed(named) if one.name}
    result: dict[str, str] = {}
    for project, name in pins:
        if name not in urls:
            near = get_close_matches(name, urls, n=1)
            known = ", ".join(sorted(urls)) or "(no index has a name)"
            raise InputError(
                "unknown-index",
                f"{project} is pinned to the index {name!r} (--pin-index), and no index has that name",
                context=f"expected: one of {known}\nfound: {name}",
                hint=f"did you mean {near[0]}?"
                if near
                else "define it: --index NAME=URL, or [[index]] in config.toml",
            )
        result.setdefault(project, urls[name])
    for one in named:
        for project in one.packages:
            result.setdefault(project, one.url)
    return result


def default_index() -> str:
    """PyPI's Simple API, as distlib spells it (imported late: that import is slow)."""
    from distlib.index import DEFAULT_INDEX

    return urllib.parse.urljoin(str(DEFAULT_INDEX), "simple/")


def _gathered(levels: Sequence[IndexChoice], name: str) -> list[str]:
    """A list option: the command line's or else the variables', then the files', then the rest."""
    command, variables, *others = levels
    chosen: list[str] = list(getattr(command, name) or getattr(variables, name))
    for level in others:
        chosen += getattr(level, name)
    return chosen


def _unique(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _expanded(value: str, env: Mapping[str, str]) -> str:
    """A leading ``~`` is the client's home, where its environment says where that is."""
    home = env.get("HOME")
    return home + value[1:] if home and (value == "~" or value.startswith("~/")) else value


def _location(value: str, cwd: str, env: Mapping[str, str]) -> str:
    return location_url(_expanded(value, env), cwd)


def _find_links(value: str, cwd: str, env: Mapping[str, str]) -> str:
    return value if is_url(value) else joined(cwd, _expanded(value, env))


def _path(value: str | None, cwd: str, env: Mapping[str, str]) -> str | None:
    return joined(cwd, _expanded(value, env)) if value else None


def _proxies(env: Mapping[str, str], pip: PipConfiguration | None) -> dict[str, str]:
    """Proxies by scheme; lower case wins, and ``HTTP_PROXY`` is not read under CGI (CVE-2016-1000110)."""
    proxies: dict[str, str] = {}
    for scheme in ("http", "https", "all", "no"):
        value = env.get(f"{scheme}_proxy")
        if value is None and not (scheme == "http" and "REQUEST_METHOD" in env):
            value = env.get(f"{scheme.upper()}_PROXY")
        if value:
            proxies[scheme] = value
    if pip is not None and pip.proxy and not proxies.keys() & {"http", "https", "all"}:
        proxies["http"] = proxies["https"] = pip.proxy
    return proxies


def _netrc(env: Mapping[str, str], cwd: str) -> str | None:
    """The path where a netrc file would be; whether there is one is found out when it is read."""
    if chosen := env.get("NETRC"):
        return joined(cwd, chosen)
    home = env.get("HOME")
    return os.path.join(home, ".netrc") if home else None
