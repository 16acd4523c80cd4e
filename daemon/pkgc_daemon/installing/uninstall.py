"""What belongs to installed distributions and can be moved aside; it decides and changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from pkgc_daemon.environments.records import NO_PERMISSION
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.claims import may_own
from pkgc_daemon.installing.layout import Layout
from pkgc_daemon.installing.records import read_record


class Leaving(NamedTuple):
    """A distribution to be removed."""

    name: str
    version: str
    dist_info: str
    """Relative to the prefix."""


class Owner(NamedTuple):
    """Who owns a path, by its RECORD."""

    name: str
    hash: str


def owned_files(layout: Layout, dist_info: str) -> dict[str, str] | None:
    """Paths below the prefix that a distribution's RECORD lists, with their recorded hashes.

    Lines that leave the prefix are ignored (D3), and so are those that name the environment's own files.

    Returns:
        None when there is no RECORD: then nothing may be uninstalled (D2).
    """
    lines = read_record(os.path.join(layout.prefix, dist_info))
    if lines is None:
        return None
    site = os.path.dirname(dist_info)
    start = f"{site}/" if site else ""
    found: dict[str, str] = {}
    for line in lines:
        path = line.path
        if path[0] in "./" or "/." in path or "//" in path:
            absolute = os.path.join(layout.prefix, site, path)
            inside = layout.inside(absolute)
            if not inside:
                continue
            path = inside
        else:
            path = start + path
        if not layout.is_reserved(path):
            found[path] = line.hash
    return found


def each_kept(
    layout: Layout, leaving: Iterable[Leaving], about: frozenset[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(project, its files with hashes) of every distribution in the environment that is not leaving.

    Args:
        about: `claims.claims_of` paths: distributions that have none of them may be left out.
    """
    gone = {item.dist_info for item in leaving}
    for site in layout.sites:
        try:
            names = sorted(os.listdir(os.path.join(layout.prefix, site)))
        except FileNotFoundError:
            continue
        for folder in names:
            if not folder.endswith((".dist-info", ".egg-info")):
                continue
            dist_info = f"{site}/{folder}" if site else folder
            if dist_info in gone or (about is not None and not may_own(layout, dist_info, about)):
                continue
            project = folder.partition("-")[0].removesuffix(".egg")
            try:
                files = owned_files(layout, dist_info) or {}
            except PkgcError:
                # A RECORD that cannot be read claims nothing; it stands in the way of its own removal only.
                continue
            yield re.sub(r"[-_.]+", "-", project).lower(), files


def owners_of(
    layout: Layout, leaving: Iterable[Leaving], about: frozenset[str] | None = None
) -> dict[str, Owner]:
    """Path -> owner, over every distribution in the environment that is not leaving; see `each_kept`."""
    found: dict[str, Owner] = {}
    for name, files in each_kept(layout, leaving, about):
        for path, digest in files.items():
            other = found.get(path)
            # Of several owners, the one whose file it should be: the later name wins.
            if other is None or other.name <= name:
                found[path] = Owner(name, digest)
    return found


def find_removals(layout: Layout, leaving: Collection[Leaving], kept: Collection[str]) -> list[str]:
    """Paths to move aside so that `leaving` are gone: whole folders where everything in them goes.

    Args:
        kept: paths that distributions that stay own too.

    Returns:
        Paths below the prefix, none inside another.

    Raises:
        PkgcError: ``cannot-uninstall`` for a distribution without RECORD.
    """
    folders: dict[str, set[str]] = {}
    infos: set[str] = set()
    for item in leaving:
        files = owned_files(layout, item.dist_info)
        if files is None:
            path = os.path.join(layout.prefix, item.dist_info)
            raise cannot_uninstall([Stuck(f"{item.name} {item.version}", path, "RECORD is missing")])
        infos.add(item.dist_info)
        for path in (item.dist_info, *files):
            if path in kept:
                continue
            folder, _, name = path.rpartition("/")
            names = folders.get(folder)
            if names is None:
                names = folders[folder] = set()
                above = folder
                while above:
                    above = above.rpartition("/")[0]
                    if above in folders:
                        break
                    folders[above] = set()
            names.add(name)
    if not folders:
        return []
    return _visit(layout, "", folders, infos, layout.fixed)[1]


class Stuck(NamedTuple):
    """A distribution that cannot be removed."""

    named: str
    """Name and version."""
    dist_info: str
    """Absolute path."""
    why: str


def cannot_uninstall(what: Iterable[Stuck]) -> PkgcError:
    """The error of distributions that must not be removed (D2)."""
    stuck = list(what)
    first = stuck[0]
    denied = all(one.why.startswith(NO_PERMISSION) for one in stuck)
    folders = [one.dist_info for one in stuck if one.dist_info.endswith((".dist-info", ".egg-info"))]
    if denied:
        records = " ".join(f"{one.dist_info}/RECORD" for one in stuck)
        hint = f"chmod u+r {records}, or run pkgc as the owner"
    elif len(folders) == len(stuck):
        hint = (
            f"delete {' and '.join(folders)}, run the command again and delete what it leaves of the package;"
            " or make a new environment"
        )
    else:
        hint = "remove it with the tool that installed it, or make a new environment"
    return PkgcError(
        "no-permission" if denied else "cannot-uninstall",
        f"cannot uninstall {first.named}"
        + (f" and {len(stuck) - 1} more" if len(stuck) > 1 else "")
        + f": {first.why}"
        + ("" if denied else "; nothing says which files belong to it"),
        context="\n".join(f"{one.named} ({one.dist_info}): {one.why}" for one in stuck),
        hint=hint,
    )


def _visit(
    layout: Layout, folder: str, folders: dict[str, set[str]], infos: set[str], fixed: frozenset[str]
) -> tuple[bool, list[str]]:
    """Whether all of `folder` goes, and what to move (itself in that case). Symlinks are not followed."""
    names = folders[folder]
    start = f"{folder}/" if folder else ""
    whole, found = True, []
    try:
        entries = list(os.scandir(f"{layout.prefix}/{folder}"))
    except (FileNotFoundError, NotADirectoryError):
        return False, []
    for entry in entries:
        path = start + entry.name
        if entry.is_dir(follow_symlinks=False):
            if path in infos:
                found.append(path)
            elif entry.name == "__pycache__":
                all_stale, stale = _bytecode(layout, path, names, folders.get(path, set()))
                found += stale
                whole = whole and all_stale
            elif path in folders:
                goes, below = _visit(layout, path, folders, infos, fixed)
                found += below
                whole = whole and goes
            else:
                whole = False
        elif entry.name in names or (entry.name.endswith((".pyc", ".pyo")) and entry.name[:-1] in names):
            found.append(path)
        else:
            whole = False
    if whole and folder not in fixed:
        return True, [folder]
    return False, found


def _bytecode(layout: Layout, folder: str, sources: set[str], listed: set[str]) -> tuple[bool, list[str]]:
    """The compiled files in a ``__pycache__`` whose sources go (D3)."""
    whole, found = True, []
    for entry in list(os.scandir(f"{layout.prefix}/{folder}")):
        stem = entry.name.partition(".")[0]
        # `a.b.cpython-311.pyc` comes from `a.b.py`; optimised files have one part more.
        parts = entry.name.split(".")
        named = {".".join(parts[:cut]) + ".py" for cut in range(1, len(parts) - 1)} | {f"{stem}.py"}
        is_compiled = entry.name.endswith((".pyc", ".pyo")) and not sources.isdisjoint(named)
        if not entry.is_dir(follow_symlinks=False) and (is_compiled or entry.name in listed):
            found.append(f"{folder}/{entry.name}")
        else:
            whole = False
    return (True, [folder]) if whole else (False, found)
