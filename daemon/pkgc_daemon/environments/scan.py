"""What is installed in an environment (the hand `scan_environment`); how it should be is not known here.

A warm scan of unchanged distributions costs a few `stat` calls each: what was read is remembered in memory
with the identity of every record file, and of every folder with files, that it depends on.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Digest, Installed, Origin

from .contents import Stamp as FolderStamp
from .contents import changed_folders
from .files import NotRegularError, not_a_file, read_start
from .records import Read, is_distribution, read_distribution
from .running import explain

#: Directories (site-packages) of which the last state is remembered.
_MAX_SITES = 64
#: Files changed less than this long before they were read (ns) are read again next time: a later change
#: within the clock's granularity would leave the same mtime.
_SETTLED = 50_000_000
#: Record files whose change in place must be seen; a dist-info folder's own mtime shows additions and
#: removals, but not those.
_WATCHED = (
    "METADATA",
    "RECORD",
    "INSTALLER",
    "direct_url.json",
    "provenance_url.json",
    "PKG-INFO",
    "EGG-INFO/PKG-INFO",
)

Stamp = tuple[int, int, int]


class _Entry(NamedTuple):
    """What was read of one distribution, and what it depends on."""

    read: Read
    stamp: Stamp
    """Of the .dist-info folder (or the .egg-info file)."""
    files: tuple[tuple[str, Stamp], ...]
    """Absolute path and identity of the watched files that exist."""
    absent: frozenset[str]
    """Top-level names and scripts of RECORD that the listings did not have."""
    settled: bool
    token: bytes
    """For the fingerprint: `stamp`, `files`, and the damage that shows in folders. Not the folders' own
    identities: bytecode changes those."""


class _Site(NamedTuple):
    """What is remembered of a directory."""

    entries: dict[str, _Entry]
    folders: tuple[tuple[str, FolderStamp | None], ...]
    """Of all entries, each once: distributions share them."""


_NONE: frozenset[str] = frozenset()
#: The identity of no folder.
_CHANGING: FolderStamp = (-1, -1)

_sites: OrderedDict[tuple[str, str, str], _Site] = OrderedDict()
_sites_lock = threading.Lock()


def scan_environment(args: dict[str, Any]) -> dict[str, Any]:
    """List what is installed (a hand).

    Args:
        args: ``prefix``, ``purelib``, ``platlib``: absolute paths (from a probe). Optional: ``scripts``
            (default: ``bin`` in the prefix).

    Returns:
        ``fingerprint``: differs whenever anything that was looked at does; ``distributions``: maps with the
        fields of `Installed` (see `installed_from_wire`), sorted by name and path; ``interrupted``: a
        transaction's journal was left behind (``.pkgc/journal``); ``leftover``: ``.pkgc`` is there at all: a
        change is running, was interrupted, or could not tidy up; ``seeded``: pip, setuptools, wheel and uv
        belong to the environment (see `is_seeded`); ``pyvenv``: the keys of pyvenv.cfg, lower case.

    Raises:
        PkgcError: ``not-an-environment``, ``no-permission``, ``io-error``.
    """
    prefix: str = args["prefix"]
    scripts: str = args.get("scripts") or os.path.join(prefix, "bin")
    digest = hashlib.sha256()
    try:
        pyvenv = _read_pyvenv(prefix, digest)
        interrupted = os.path.lexists(os.path.join(prefix, ".pkgc", "journal"))
        digest.update(b"interrupted" if interrupted else b"whole")
        script_names = _names(scripts, digest)
        found: list[dict[str, Any]] = []
        for site in _distinct(args["purelib"], args["platlib"]):
            found += _scan_site(site, scripts, prefix, script_names, digest)
    except OSError as error:
        raise explain(error, "cannot read the environment", prefix) from error
    _mark_duplicates(found)
    found.sort(key=lambda wire: (wire["name"], wire["dist_info"]))
    return {
        "fingerprint": digest.hexdigest(),
        "distributions": found,
        "interrupted": interrupted,
        "leftover": os.path.lexists(os.path.join(prefix, ".pkgc")),
        "seeded": is_seeded(pyvenv),
        "pyvenv": pyvenv,
    }


def dependencies(prefix: str, purelib: str, platlib: str, scripts: str) -> tuple[set[str], set[str]] | None:
    """The folders and the files on which the last scan of an environment depends, for a watch.

    Returns:
        None when there was none, or when a watch of those would not tell everything: distributions older
        than ``.dist-info``, folders that are missing, records behind symlinks, anything that changed within
        the clock's granularity.
    """
    sites = _distinct(purelib, platlib)
    folders = {prefix, scripts, *sites}
    files = {os.path.join(prefix, "pyvenv.cfg")}
    for site in sites:
        with _sites_lock:
            seen = _sites.get((site, scripts, prefix))
        if seen is None:
            return None
        for path, identity in seen.folders:
            if identity is None or identity == _CHANGING:
                return None
            folders.add(os.path.join(site, path))
        for name, entry in seen.entries.items():
            if not entry.settled or not name.endswith(".dist-info"):
                return None
            folders.add(f"{site}/{name}")
            files.update(path for path, _ in entry.files)
    if any(os.path.islink(path) for path in files):
        return None  # what a link leads to may go without a sign, as long as it has another name
    return folders, files


def is_seeded(pyvenv: Mapping[str, str]) -> bool:
    """Whether pip, setuptools, wheel and uv were put there with the environment, so that they must stay.

    That is so for an environment made by `python -m venv` or virtualenv, and for one of uv's with
    ``seed = true``; pkgc and uv otherwise seed nothing.
    """
    if not pyvenv or "pkgc" in pyvenv:
        return False
    return "uv" not in pyvenv or pyvenv.get("seed", "").lower() == "true"


def parse_pyvenv(text: str) -> dict[str, str]:
    """The keys of a pyvenv.cfg, lower case, as `site` reads them (PEP 405): no sections, no quotes."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key.strip().lower()] = value.strip()
    return found


def installed_from_wire(data: Mapping[str, Any]) -> tuple[Installed, ...]:
    """Build `Installed` from the answer of `scan_environment`, which may come from another user.

    Digests of unknown algorithms or of wrong length are left out: they cannot satisfy anything.

    Raises:
        PkgcError: ``scan-failed``: it is not such an answer.
    """
    try:
        return tuple(_installed(wire) for wire in data["distributions"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PkgcError(
            "scan-failed",
            "the description of the environment is not complete",
            context=f"{type(error).__name__}: {error}",
        ) from error


def _installed(wire: Mapping[str, Any]) -> Installed:
    origin = wire["origin"]
    hashes = wire["hashes"]
    return Installed(
        name=_text(wire["name"]),
        version=_text(wire["version"]),
        dist_info=_text(wire["dist_info"]),
        installer=_optional(wire["installer"]),
        hashes=frozenset(_digests(hashes)) if hashes else frozenset(),
        origin=None if origin is None else _origin(origin),
        direct=bool(wire["direct"]),
        editable=bool(wire.get("editable")),
        commit=_optional(wire.get("commit")),
        requested=_optional(wire.get("requested")),
        subdirectory=_optional(wire.get("subdirectory")),
        fingerprint=_optional(wire.get("fingerprint")),
        settings=_optional(wire.get("settings")),
        removable=bool(wire["removable"]),
        obstacle=_optional(wire.get("obstacle")),
        damaged=_optional(wire["damaged"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, found {type(value).__name__}")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _digests(pairs: list[list[str]]) -> list[Digest]:
    found = []
    for algorithm, value in pairs:
        try:
            found.append(Digest.parse(f"{algorithm}:{value}"))
        except ValueError:
            continue
    return found


def _origin(data: Mapping[str, Any]) -> Origin:
    kind = data["kind"]
    if kind not in ("index", "find-links", "url", "path", "directory", "vcs"):
        raise ValueError(f"unknown kind of origin: {kind!r}")
    index = data["index"]
    return Origin(kind, redact(_text(data["url"])), None if index is None else redact(_text(index)))


def _distinct(purelib: str, platlib: str) -> list[str]:
    """Both, unless they are one directory (``lib64`` is often a link to ``lib``)."""
    if purelib == platlib or os.path.realpath(purelib) == os.path.realpath(platlib):
        return [purelib]
    return [purelib, platlib]


def _read_pyvenv(prefix: str, digest: hashlib._Hash) -> dict[str, str]:
    path = os.path.join(prefix, "pyvenv.cfg")
    try:
        data = read_start(path, 1 << 20)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.path.isdir(prefix):
            raise PkgcError("not-an-environment", f"there is no environment at {prefix}") from error
        data = b""
    except NotRegularError as error:
        raise not_a_file(path) from error
    digest.update(data + b"\0")
    return parse_pyvenv(data.decode("utf-8", "replace"))


def _names(folder: str, digest: hashlib._Hash) -> set[str]:
    """Names in a directory ('__pycache__' is left out: running a program may create it)."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    if "__pycache__" in names:
        names.remove("__pycache__")
    digest.update("\0".join((folder, *names)).encode("utf-8", "surrogateescape") + b"\0\0")
    return set(names)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _scan_site(
    site: str, scripts: str, prefix: str, script_names: set[str], digest: hashlib._Hash
) -> list[dict[str, Any]]:
    names = _names(site, digest)
    place = (site, scripts, prefix)
    with _sites_lock:
        before = _sites.get(place, _Site({}, ()))
    changed = changed_folders(site, before.folders) if before.folders and names else None
    now: dict[str, _Entry] = {}
    found = []
    same = True
    for name in sorted(filter(is_distribution, names)):
        entry = before.entries.get(name)
        if (
            entry is None
            or not entry.settled
            or (changed and any(path in changed for path, _ in entry.read.contents.folders))
            or not _is_current(site, name, entry)
            or _absent(entry.read, names, script_names) != entry.absent
        ):
            same = False
            try:
                entry = _read(place, name, names, script_names)
            except FileNotFoundError:  # removed since the listing
                digest.update(b"gone\0")
                continue
        now[name] = entry
        digest.update(entry.token)
        found.append(dict(entry.read.wire))
    same = same and len(now) == len(before.entries)
    with _sites_lock:
        _sites[place] = before if same else _Site(now, _folders_of(now))
        _sites.move_to_end(place)
        while len(_sites) > _MAX_SITES:
            _sites.popitem(last=False)
    return found


def _folders_of(entries: Mapping[str, _Entry]) -> tuple[tuple[str, FolderStamp | None], ...]:
    """The folders of all distributions, each once."""
    found: dict[str, FolderStamp | None] = {}
    for entry in entries.values():
        for path, identity in entry.read.contents.folders:
            if found.setdefault(path, identity) != identity:
                found[path] = _CHANGING  # while they were looked at: look again
    return tuple(found.items())


def _absent(read: Read, names: set[str], script_names: set[str]) -> frozenset[str]:
    """What the listings lack. It may be there all the same: file systems that ignore case or normalize."""
    if names.issuperset(read.entries) and script_names.issuperset(read.scripts):
        return _NONE
    return frozenset(
        (*(set(read.entries) - names), *(f"/{name}" for name in set(read.scripts) - script_names))
    )


def _is_current(site: str, name: str, entry: _Entry) -> bool:
    """Whether its records have not changed."""
    stat = os.stat
    try:
        if _stamp(stat(f"{site}/{name}")) != entry.stamp:
            return False
        for path, stamp in entry.files:
            status = stat(path)
            if (status.st_mtime_ns, status.st_size, status.st_ino) != stamp:
                return False
    except OSError:
        return False
    return True


def _read(place: tuple[str, str, str], name: str, names: set[str], script_names: set[str]) -> _Entry:
    """Read one distribution; identities are taken first, so that a change while reading is seen next time.

    Raises:
        FileNotFoundError: it has gone.
    """
    site, scripts, prefix = place
    folder = f"{site}/{name}"
    started = time.time_ns()
    stamp = _stamp(os.stat(folder))
    files = []
    for file in _WATCHED:
        path = f"{folder}/{file}"
        try:
            files.append((path, _stamp(os.stat(path))))
        except OSError:
            continue
    read = read_distribution(site, name, scripts, prefix)
    newest = max(stamp[0], read.contents.newest, *(mtime for _, (mtime, _, _) in files), 0)
    token = repr((name, stamp, files, read.contents.lasting)).encode()
    return _Entry(
        read,
        stamp,
        tuple(files),
        _absent(read, names, script_names),
        newest + _SETTLED < started,
        token,
    )


def _mark_duplicates(found: list[dict[str, Any]]) -> None:
    """Two records of one project: whose files are there cannot be told, so neither is trusted."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for wire in found:
        by_name.setdefault(wire["name"], []).append(wire)
    if len(by_name) == len(found):
        return
    for same in by_name.values():
        if len(same) > 1:
            where = ", ".join(sorted(os.path.basename(wire["dist_info"]) for wire in same))
            for wire in same:
                wire["damaged"] = wire["damaged"] or f"installed more than once: {where}"
