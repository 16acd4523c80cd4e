"""Remote: the URL of a git repository, judged and taken apart; nothing is run.

Only transports that carry bytes are let through: git would run a program for others (``ext::``).  The
credentials are split off, so that they never stand in a command line or a repository's configuration; git
gets them through a credential helper in its environment.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Literal

from pkgc_daemon.errors import InputError
from pkgc_daemon.redaction import redact

Transport = Literal["http", "https", "ssh", "git", "file"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: ``user@host:path``, the form that ssh users write.
_SCP = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]*@(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):(?![:-])\S"
)
_HOST = re.compile(r"(?:[\w.][\w.-]*|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?\Z")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
#: What git's own rules forbid in a name (git check-ref-format), and a leading dash.
_BAD_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|/$|\.lock$")
_HEX = re.compile(r"[0-9a-fA-F]+\Z")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is, and what is needed to read it."""

    url: str
    """As git gets it: without password; without user where that could be a token."""
    transport: Transport
    shown: str
    """For people."""
    origin: str = ""
    """Scheme and host, of http and https: what the credentials are for."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def read_remote(url: str) -> Remote:
    """Judge a repository's URL.

    Args:
        url: as git takes it: ``http``, ``https``, ``ssh``, ``git``, ``file``, an absolute path, or
            ``user@host:path``; without ``git+``, revision and fragment.

    Raises:
        InputError: ``invalid-git-url``.
    """
    shown = redact(url)
    if not url or url.startswith("-"):
        raise _invalid(shown, "it would be read as an option")
    if url.startswith("/") and "\0" not in url:
        return Remote(url, "file", url)
    if _CONTROL.search(url):
        raise _invalid(shown, "it holds blanks or control characters")
    scheme = _SCHEME.match(url)
    if scheme is None:
        if _SCP.match(url):
            return Remote(url, "ssh", shown)
        raise _invalid(shown, "expected http, https, ssh, git or file")
    transport = scheme.group(1).lower()
    rest = url[scheme.end() :]
    match transport:
        case "file":
            if not rest.removeprefix("localhost").startswith("/"):
                raise _invalid(shown, "expected file:// and an absolute path")
            return Remote(f"file://{rest.removeprefix('localhost')}", "file", shown)
        case "http" | "https" | "ssh" | "git":
            return _networked(transport, rest, shown)
    raise _invalid(shown, f"git is not asked to use {transport}: expected http, https, ssh, git or file")


def _networked(transport: Literal["http", "https", "ssh", "git"], rest: str, shown: str) -> Remote:
    """A URL with an authority; what precedes its last '@' is userinfo, as git reads it."""
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if not _HOST.match(host) or path.startswith("-"):
        raise _invalid(
            shown, "it names no host", "in a password write /, ?, # and @ as %2F, %3F, %23 and %40"
        )
    username, colon, password = userinfo.partition(":")
    if "?" in path and transport in ("http", "https"):
        raise _invalid(
            shown,
            "it has a query, which would show in the list of processes",
            "give the token to a credential helper, or write it as password: https://user:${TOKEN}@host/path",
        )
    clean = f"{transport}://{host}{slash}{path}"
    if transport in ("ssh", "git"):
        if colon:
            raise _invalid(shown, f"{transport} takes no password in a URL", "use a key and the ssh agent")
        if username.startswith("-"):
            raise _invalid(shown, "it would be read as an option")
        if at and transport == "ssh":
            clean = f"ssh://{username}@{host}{slash}{path}"
        return Remote(clean, transport, shown)
    values = [urllib.parse.unquote(value) for value in (username, password)]
    if any(_CONTROL.search(value.replace(" ", "")) for value in values):
        raise _invalid(shown, "its credentials hold control characters")
    return Remote(
        clean,
        transport,
        shown,
        f"{transport}://{host}",
        values[0] if at else None,
        values[1] if colon else None,
    )


def check_revision(revision: str, shown: str) -> None:
    """Refuse what git would read as an option or an expression rather than as a name.

    Raises:
        InputError: ``invalid-revision``.
    """
    if not revision or revision == "@" or len(revision) > 1000 or _BAD_REVISION.search(revision):
        raise InputError(
            "invalid-revision",
            f"{shown}: {revision[:200]!r} cannot be the name of a branch, tag or commit",
            hint="name a branch, a tag, a full refs/… name or a commit behind the '@'",
        )


def is_full_commit(revision: str) -> bool:
    """Whether this is the whole name of a commit (SHA-1 or SHA-256)."""
    return len(revision) in (40, 64) and _HEX.match(revision) is not None


def is_short_commit(revision: str) -> bool:
    """Whether this may be the beginning of a commit's name; git wants four digits."""
    return 4 <= len(revision) < 64 and len(revision) != 40 and _HEX.match(revision) is not None


def _invalid(shown: str, why: str, hint: str | None = None) -> InputError:
    return InputError(
        "invalid-git-url",
        f"{shown or repr('')} is not the URL of a git repository that pkgc uses: {why}",
        hint=hint or "write git+https://host/path@revision",
    )
