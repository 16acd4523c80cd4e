"""Whether the files that a RECORD lists are there; it opens none of them.

All files are looked at once. Later only their folders are: a file cannot be added, deleted or exchanged
without a new mtime of its folder. A file that is overwritten in place is noticed at the next full look.
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

Stamp = tuple[int, int]


class Parsed(NamedTuple):
    """What RECORD lists, as paths."""

    entries: tuple[str, ...] = ()
    """Top-level names in site-packages."""
    scripts: tuple[str, ...] = ()
    """Names in the environment's scripts directory."""
    files: tuple[tuple[str, str], ...] = ()
    """Path (relative to site-packages, or absolute) and size ('' where not told) of all but bytecode."""
    own: frozenset[str] = frozenset()
    """The files in .dist-info folders among them."""


class Contents(NamedTuple):
    """What was found of the files."""

    damage: str | None = None
    """What is wrong with them, for people: the first one and how many."""
    lasting: str | None = None
    """`damage`, if it shows in the folders: then every process that looks at this state finds it."""
    folders: tuple[tuple[str, Stamp | None], ...] = ()
    """The folders they are in (relative to site-packages, or absolute) with their identity; None: there is
    none."""
    newest: int = 0
    """The latest mtime of them (ns)."""


def parse_paths(record: str, site: str, scripts_folder: str, prefix: str) -> Parsed:
    """Read a RECORD; paths that leave the prefix are passed over (D3).

    Raises:
        csv.Error: it is no csv.
    """
    to_scripts = os.path.relpath(scripts_folder, site).replace(os.sep, "/") + "/"
    inside = prefix.rstrip("/") + "/"
    entries: set[str] = set()
    scripts: set[str] = set()
    files: list[tuple[str, str]] = []
    own: set[str] = set()
    for line in record.split("\n"):
        if line.startswith('"'):
            row = next(csv.reader([line.rstrip("\r")]), [""])
            path, size = row[0], row[2] if len(row) > 2 else ""
        else:
            path, _, rest = line.rstrip("\r").partition(",")
            size = rest.rpartition(",")[2]
        absolute = ""
        if path.startswith((".", "/")) or "//" in path or "/." in path or "\\" in path:
            absolute = os.path.normpath(os.path.join(site, path.replace("\\", "/").replace("\0", "")))
            path = os.path.relpath(absolute, site).replace(os.sep, "/")
        head, _, below = path.partition("/")
        if head == "..":
            name = path.removeprefix(to_scripts)
            if name != path and "/" not in name:
                scripts.add(name)
            if not absolute.startswith(inside):
                continue
            path = absolute
        elif head and not head.isspace():
            entries.add(head)
            if below and head.endswith(".dist-info"):
                own.add(path)
        else:
            continue
        if not path.endswith((".pyc", "/")) and path != ".":
            files.append((path, size))
    entries.discard("__pycache__")
    entries.discard(".")
    return Parsed(tuple(sorted(entries)), tuple(sorted(scripts)), tuple(files), frozenset(own))


def look_at(parsed: Parsed, site: str, scripts_folder: str) -> Contents:
    """Look at every file: is it there, has it its size, is it in a folder and not behind a link?

    Args:
        scripts_folder: it is not among the folders of the answer, as site-packages is not: their listings
            are compared, because they change with every distribution.
    """
    folders: dict[str, Stamp | None] = {}
    newest = 0
    links: list[str] = []
    for folder in sorted(_folders(parsed) - {scripts_folder}):
        try:
            found = os.lstat(os.path.join(site, folder))
        except (OSError, ValueError):
            folders[folder] = None
            continue
        folders[folder] = (found.st_mtime_ns, found.st_ino)
        newest = max(newest, found.st_mtime_ns)
        # Above site-packages a link may well be the environment's own (lib64).
        if not stat.S_ISDIR(found.st_mode) and not os.path.isabs(folder):
            links.append(os.path.join(site, folder))
    missing: list[str] = []
    other: list[str] = []
    look, start = os.stat, site.rstrip("/") + "/"
    for file, size in parsed.files:
        path = file if file[0] == "/" else start + file
        try:
            found = look(path)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and os.path.lexists(path.replace("\0", "")):
                other.append(f"{path}, listed in RECORD, cannot be looked at: {error.strerror}")
            else:
                missing.append(path)
            continue
        if not stat.S_ISREG(found.st_mode):
            other.append(f"{path}, listed in RECORD, is not a regular file")
        elif size and size != str(found.st_size):
            other.append(f"{path} has {found.st_size} bytes, not the {size} of RECORD")
    lasting = _tell(links, missing)
    damage = lasting
    if damage is None and other:
        damage = _shown(other[0]) + (f", and {len(other) - 1} more are damaged" if len(other) > 1 else "")
    return Contents(damage, lasting, tuple(folders.items()), newest)


def changed_folders(site: str, folders: Sequence[tuple[str, Stamp | None]]) -> set[str]:
    """Which of `folders` are not what they were (see `Contents.folders`).

    Raises:
        OSError: there is no `site`.
    """
    changed = set()
    look = os.stat
    # Short paths from an open folder: a quarter of the time goes into walking down long ones.
    fd = os.open(site, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, identity in folders:
            try:
                found = look(path, dir_fd=fd, follow_symlinks=False)
                if identity is None or found.st_mtime_ns != identity[0] or found.st_ino != identity[1]:
                    changed.add(path)
            except (OSError, ValueError):
                if identity is not None:
                    changed.add(path)
    finally:
        os.close(fd)
    return changed


def _folders(parsed: Parsed) -> set[str]:
    """All folders of the files, and those in between; not site-packages itself."""
    found: set[str] = set()
    for path, _ in parsed.files:
        folder = path.rpartition("/")[0]
        if folder.startswith("/"):
            found.add(folder)
            continue
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    # A .dist-info has its own, fuller identity.
    return {folder for folder in found if not folder.endswith(".dist-info")}


def _tell(links: list[str], missing: list[str]) -> str | None:
    if links:
        return f"{_shown(links[0])}, a folder in RECORD, is a link or a file"
    if not missing:
        return None
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return f"{_shown(missing[0])}, listed in RECORD, is missing{more}"


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
