"""Locations: names of files and indexes resolved to absolute paths and URLs (R1); nothing is opened."""

from __future__ import annotations

import os.path
import re
import urllib.parse
from dataclasses import dataclass

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.problems import shown

_SCHEME = re.compile(r"(https?|file):", re.IGNORECASE)
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


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
    """Absolute path, or ``-``."""
    shown: str
    """As the user named it."""
    directory: str
    url: str | None = None
    """Set if it was named by a `file:` URL: what it includes is joined to that."""


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


def location_url(value: str, cwd: str) -> str:
    """An index location as a URL: a path (pip takes those too) becomes a `file:` URL."""
    if _ANY_SCHEME.match(value):
        return value
    return "file://" + urllib.parse.quote(joined(cwd, value))


def locate(name: str, parent: File | None, cwd: str) -> File:
    """Resolve the name of a requirements file.

    Args:
        name: a path, a URL, or ``-`` when `parent` is None.
        parent: the file that includes it; None for the command line.
        cwd: the client's working directory.

    Raises:
        LocationError: ``unsupported-requirement`` for a remote file, ``invalid-requirement`` for a name
            that names no local file.
        InputError: ``no-working-directory``.
    """
    if parent is None and name == "-":
        return File("-", "-", cwd)
    try:
        url = urllib.parse.urljoin(parent.url, name) if parent is not None and parent.url else name
        parts = urllib.parse.urlsplit(url)
    except ValueError as exc:
        raise LocationError("invalid-requirement", f"{shown(name)!r} is not a valid URL") from exc
    if not is_url(url):
        if "\0" in name or not name:
            raise LocationError("invalid-requirement", f"{name!r} is not the name of a file")
        path = joined(cwd if parent is None else parent.directory, name)
        display = name
        if parent is not None:
            # Only for people: `reqs/../base.txt` reads badly.
            display = os.path.normpath(os.path.join(os.path.dirname(parent.shown), name))
        return File(path, display, os.path.dirname(path))
    if parts.scheme != "file":
        raise LocationError(
            "unsupported-requirement",
            f"this version of pkgc reads no requirements over the network: {shown(url)}",
            "download the file first and name the local copy",
        )
    path = urllib.parse.unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise LocationError("invalid-requirement", f"not the URL of a local file: {shown(url)}")
    path = joined("/", path)
    return File(path, shown(url), os.path.dirname(path), url)
