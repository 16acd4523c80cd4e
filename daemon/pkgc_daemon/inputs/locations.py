"""Locations: names of files and indexes resolved to absolute paths and URLs (R1); nothing is opened.

A remote requirements file may name remote things only: what lies on the disk of whoever syncs is no business
of a file from elsewhere.
"""

from __future__ import annotations

import os.path
import re
import urllib.parse
from dataclasses import dataclass

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.problems import shown

_SCHEME = re.compile(r"(https?|file):", re.IGNORECASE)
_REMOTE = re.compile(r"https?:", re.IGNORECASE)
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: The code of every refusal of a local name in a remote file.
REMOTE_NAMES_LOCAL = "remote-names-local"
LOCAL_COPY_HINT = "download the requirements file and name the local copy, if you trust it"


class LocationError(ValueError):
    """A name that cannot be resolved to a file that pkgc reads."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class File:
    """One file to read: `key` opens it, `shown` names it, the rest resolves what it includes."""

    key: str
    """Absolute path, ``-``, or the http(s) URL of a remote file (without fragment; may hold credentials)."""
    shown: str
    """As the user named it, without credentials."""
    directory: str
    """Empty for a remote file."""
    url: str | None = None
    """Set if it was named by a URL: what it includes is joined to that."""
    remote: bool = False
    """It came over the network."""


def joined(folder: str, path: str) -> str:
    """`path` seen from `folder`, without empty and ``.`` components.

    ``..`` stays: after a symbolic link only the kernel knows where it leads.

    Args:
        folder: absolute; or empty, when the client's working directory does not exist any more.
        path: absolute or relative.

    Raises:
        InputError: ``no-working-directory``.
    """
    if not path.startswith("/") and not folder:
        raise InputError(
            "no-working-directory",
            f"{shown(path)} is a relative path, and the working directory does not exist any more",
            hint="change to another directory, or name absolute paths",
        )
    parts = os.path.join(folder, path).split("/")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def is_url(value: str) -> bool:
    """Whether pip takes `value` as a URL and not as a path (R1)."""
    return _SCHEME.match(value) is not None


def is_remote(value: str) -> bool:
    """Whether `value` is an http(s) URL."""
    return _REMOTE.match(value) is not None


def file_url(path: str) -> str:
    """The `file:` URL of an absolute path."""
    return "file://" + urllib.parse.quote(path.encode("utf-8", "surrogateescape"))


def local_path(url: str) -> str | None:
    """The path in a `file:` URL, decoded once; relative if the URL is; None: another host's, or no path."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return None
    path = urllib.parse.unquote(parts.path, errors="surrogateescape")
    return path if parts.netloc in {"", "localhost"} and path and "\0" not in path else None


def location_url(value: str, cwd: str) -> str:
    """An index location as a URL: a path (pip takes those too) becomes a `file:` URL."""
    return value if _ANY_SCHEME.match(value) else file_url(joined(cwd, value))


def remote_names_local(what: str, name: str) -> LocationError:
    """The refusal of a name in a remote requirements file.

    Args:
        what: what kind of thing the name is, for a person.
        name: as written, without values of variables.
    """
    return LocationError(
        REMOTE_NAMES_LOCAL,
        f"{shown(name)!r} is {what}, which a requirements file from the network may not name",
        LOCAL_COPY_HINT,
    )


def locate(name: str, parent: File | None, cwd: str) -> File:
    """Resolve the name of a requirements file (R1).

    Args:
        name: a path, a URL, or ``-`` when `parent` is None.
        parent: the file that includes it; None for the command line. Names in a remote file are joined to its
            URL, names in a local one start at its folder.
        cwd: the client's working directory.

    Raises:
        LocationError: ``remote-names-local``: a remote file includes a local one; ``invalid-requirement``:
            the name is that of no file.
        InputError: ``no-working-directory``.
    """
    if parent is None and name == "-":
        return File("-", "-", cwd)
    try:
        url = urllib.parse.urljoin(parent.url, name) if parent is not None and parent.url else name
        parts = urllib.parse.urlsplit(url)
    except ValueError as exc:
        raise LocationError("invalid-requirement", f"{shown(name)!r} is not a valid URL") from exc
    if is_remote(url):
        if not parts.hostname:
            raise LocationError("invalid-requirement", f"not the URL of a file: {shown(url)}")
        url = urllib.parse.urldefrag(url).url
        return File(url, shown(url), "", url, remote=True)
    if parent is not None and parent.remote:
        raise remote_names_local("a local file", name)
    if not is_url(url):
        if "\0" in name or not name:
            raise LocationError("invalid-requirement", f"{name!r} is not the name of a file")
        path = joined(cwd if parent is None else parent.directory, name)
        display = name
        if parent is not None:
            # Only for people: `reqs/../base.txt` reads badly.
            display = os.path.normpath(os.path.join(os.path.dirname(parent.shown), name))
        return File(path, display, os.path.dirname(path))
    local = local_path(url)
    if local is None or not local.startswith("/"):
        raise LocationError("invalid-requirement", f"not the URL of a local file: {shown(url)}")
    path = joined("/", local)
    return File(path, shown(url), os.path.dirname(path), url)
