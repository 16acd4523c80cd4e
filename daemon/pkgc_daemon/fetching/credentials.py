"""Credentials: which user name and password a request carries; pure, reads no file and no environment."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Credentials(NamedTuple):
    """A user name and a password. Its repr shows neither."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"

    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617, UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


class Netrc(NamedTuple):
    """What a netrc file says."""

    machines: Mapping[str, Credentials]
    default: Credentials | None = None


def origin_of(url: str | SplitResult) -> tuple[str, str, int | None]:
    """(scheme, host, port) with the scheme's default port filled in (RFC 6454).

    Raises:
        ValueError: the port is not a number.
    """
    parts = urlsplit(url) if isinstance(url, str) else url
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(scheme)


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """`url` without its userinfo, and the userinfo (percent-decoded), if there is any."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = userinfo.partition(":")
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return bare, Credentials(unquote(user), unquote(password)) if userinfo else None


def credentials_for(url: str, indexes: Iterable[str], netrc: Netrc | None) -> Credentials | None:
    """What a request for `url` carries.

    In order: its own userinfo; that of an index or find-links URL of the same origin (of several, the one
    that shares the longest path); the netrc entry of its host.  The `default` entry of a netrc file goes to
    hosts of indexes only, because a page may link to any host.
    """
    bare, own = split_credentials(url)
    if own is not None:
        return own
    origin = origin_of(bare)
    path = urlsplit(bare).path
    best: tuple[int, Credentials] | None = None
    named = False
    for index in indexes:
        if "://" not in index:
            continue
        index_bare, theirs = split_credentials(index)
        if origin_of(index_bare) != origin:
            continue
        named = True
        shared = _shared_segments(path, urlsplit(index_bare).path)
        if theirs is not None and (best is None or shared > best[0]):
            best = (shared, theirs)
    if best is not None:
        return best[1]
    if netrc is None:
        return None
    return netrc.machines.get(origin[1]) or (netrc.default if named else None)


def _shared_segments(one: str, other: str) -> int:
    count = 0
    for a, b in zip(one.split("/"), other.split("/"), strict=False):
        if a != b:
            break
        count += 1
    return count


@lru_cache(maxsize=256)
def identity_of(credentials: Credentials, origin: tuple[str, str, int | None]) -> str:
    """An opaque, stable name for `credentials` at `origin`.

    It is kept on disk with index pages, hence a slow hash: guessing a password from it must not be cheap.
    """
    salt = f"pkgc identity {origin}".encode()
    secret = f"{credentials.user}\0{credentials.password}".encode()
    return hashlib.pbkdf2_hmac("sha256", secret, salt, 20_000, 16).hex()


def parse_netrc(text: str) -> Netrc:
    """Read the text of a netrc file: machine, default, login, password, account, macdef, ``#`` comments.

    A file that cannot be read to its end counts up to there: a broken netrc must not stop anonymous use.
    """
    machines: dict[str, Credentials] = {}
    default: Credentials | None = None
    lexer = shlex.shlex(_without_macros(text), posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = "\\"
    tokens: list[str] = []
    try:
        tokens.extend(lexer)
    except ValueError:
        pass
    machine: str | None = None
    entry: dict[str, str] | None = None

    def finish() -> None:
        nonlocal default
        if entry is None:
            return
        found = Credentials(entry.get("login", ""), entry.get("password", ""))
        if machine is None:
            default = default or found
        else:
            machines.setdefault(machine, found)

    words = iter(tokens)
    for word in words:
        if word in {"machine", "default"}:
            finish()
            machine = next(words, "").lower() if word == "machine" else None
            entry = {}
        elif word in {"login", "user", "password", "account"} and entry is not None:
            entry["login" if word == "user" else word] = next(words, "")
    finish()
    return Netrc(machines, default)


def _without_macros(text: str) -> str:
    """Drop comment lines and macro definitions (from ``macdef`` to the next empty line)."""
    kept: list[str] = []
    in_macro = False
    for line in text.splitlines():
        words = line.split()
        if in_macro:
            in_macro = bool(words)
        elif "macdef" in words[:1]:
            in_macro = True
        elif not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept)
