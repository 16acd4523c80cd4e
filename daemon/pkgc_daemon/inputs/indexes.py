"""Where to look for files: command line, variables, requirements files and configurations, put in order.

Pure: nothing is opened, no index is asked.
"""

from __future__ import annotations

import os.path
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.inputs.locations import is_url, joined, location_url
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

    @property
    def names_files(self) -> bool:
        """Whether it says where to look for files."""
        return bool(self.index_url or self.extra_index_urls or self.find_links or self.no_index)


def environment_choice(env: Mapping[str, str]) -> IndexChoice:
    """The same options from ``PKGC_…`` variables; lists are separated by white space, empty is absent.

    Raises:
        InputError: ``invalid-variable``: ``PKGC_NO_INDEX`` is no boolean.
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
    only if none of those names an index, find-links or no-index; else PyPI.  The lists of requirements
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
        InputError: ``invalid-variable``.
    """
    variables = environment_choice(env)
    own = _config_choice(config.options) if config is not None else IndexChoice()
    files = IndexChoice(
        given.index_url,
        given.extra_index_urls,
        given.find_links,
        given.no_index or None,
        given.trusted_hosts,
    )
    levels = [cli, variables, files, own]
    if pip is not None and not any(level.names_files for level in levels):
        levels.append(_pip_choice(pip))
    no_index = given.no_index or next(
        (level.no_index for level in levels if level.no_index is not None), False
    )
    indexes: list[str] = []
    if not no_index:
        main = next((level.index_url for level in levels if level.index_url), None)
        indexes.append(location_url(main, cwd) if main else default_index())
        indexes += [location_url(url, cwd) for url in _gathered(levels, "extra_index_urls")]
    return IndexOptions(
        indexes=_unique(indexes),
        find_links=_unique([_find_links(value, cwd) for value in _gathered(levels, "find_links")]),
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
        ),
        client_cert=_path(
            cli.client_cert
            or variables.client_cert
            or own.client_cert
            or (pip.client_cert if pip is not None else None),
            cwd,
        ),
        proxies=_proxies(env, pip),
        netrc=_netrc(env, cwd),
    )


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


def _find_links(value: str, cwd: str) -> str:
    return value if is_url(value) else joined(cwd, value)


def _path(value: str | None, cwd: str) -> str | None:
    return joined(cwd, value) if value else None


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
