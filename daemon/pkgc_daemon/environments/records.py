"""One distribution's records in site-packages, read without importing anything; not the environment's state.

What is read is plain data for the wire.  Names need not be normalized (standards.md D1), everything but
METADATA may be missing (D2), and three forms older than `.dist-info` are recognised.
"""

from __future__ import annotations

import csv
import errno
import os
import re
import stat
from typing import Any, NamedTuple

from .contents import Contents, Parsed, look_at, parse_paths
from .files import NotRegularError, read_regular, read_start
from .provenance import read_provenance

#: Bytes read of a RECORD, and of any other record file: far above what is real.
MAX_RECORD = 128 * 1024 * 1024
MAX_OTHER = 1024 * 1024
#: Bytes of METADATA in which Name and Version must be.
_HEADERS = 65536
#: How an obstacle begins that is a matter of permissions.
NO_PERMISSION = "no permission to read RECORD"

_SEPARATORS = re.compile(r"[-_.]+")
#: Versions that need no second look: PEP 440 as normalized, with an optional local part.
_PLAIN_VERSION = re.compile(
    r"(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?"
    r"(?:\.dev[0-9]+)?(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?\Z"
)
_PYTHON_SUFFIX = re.compile(r"-py[0-9]+(?:\.[0-9]+)*(?:-[^/]*)?\Z")


class Read(NamedTuple):
    """What the records of one distribution say."""

    wire: dict[str, Any]
    """Fields of `Installed`."""
    entries: tuple[str, ...] = ()
    """Top-level names in site-packages that RECORD lists."""
    scripts: tuple[str, ...] = ()
    """Names in the environment's scripts directory that RECORD lists."""
    contents: Contents = Contents()
    """What was found of the files that RECORD lists."""


def normalized(name: str) -> str:
    """PEP 503."""
    return _SEPARATORS.sub("-", name).lower()


def is_distribution(entry: str) -> bool:
    """Whether an entry of site-packages is, or stands for, an installed distribution.

    A leading ``~`` is what pip leaves behind when a removal was interrupted: no distribution.  A name that
    is not UTF-8 cannot be one either: project names are ASCII.
    """
    return (
        entry.endswith((".dist-info", ".egg-info", ".egg-link", ".egg"))
        and entry[0] not in "~."
        and entry.isascii()
    )


def read_distribution(site: str, entry: str, scripts_folder: str, prefix: str) -> Read:
    """Read the distribution that `entry` of the directory `site` stands for, and look at its files.

    Args:
        scripts_folder: absolute path of the environment's scripts directory.
        prefix: of the environment; files outside of it are not looked at (D3).

    Never raises for what the files hold: what cannot be read is damage (``damaged``).
    """
    path = os.path.join(site, entry)
    if entry.endswith(".dist-info"):
        return _read_dist_info(path, entry[: -len(".dist-info")], site, scripts_folder, prefix)
    if entry.endswith(".egg-link"):
        return _read_egg_link(path, entry[: -len(".egg-link")])
    if entry.endswith(".egg"):
        info = os.path.join(path, "EGG-INFO", "PKG-INFO")
        return _read_legacy(path, entry[: -len(".egg")], info, removable=False)
    stem = entry[: -len(".egg-info")]
    if os.path.isdir(path):
        listed = os.path.isfile(os.path.join(path, "installed-files.txt"))
        return _read_legacy(path, stem, os.path.join(path, "PKG-INFO"), removable=listed)
    return _read_legacy(path, stem, path, removable=False)


def _wire(name: str, version: str, path: str, **more: Any) -> dict[str, Any]:
    return {
        "name": normalized(name),
        "version": version,
        "dist_info": path,
        "installer": None,
        "hashes": [],
        "origin": None,
        "direct": False,
        "editable": False,
        "commit": None,
        "requested": None,
        "subdirectory": None,
        "fingerprint": None,
        "settings": None,
        "removable": True,
        "obstacle": None,
        "damaged": None,
        **more,
    }


def _read_dist_info(path: str, stem: str, site: str, scripts_folder: str, prefix: str) -> Read:
    name, dash, version = stem.partition("-")
    plain = bool(name and dash and _PLAIN_VERSION.match(version))
    damaged: str | None = None
    told_name = told_version = ""
    try:
        told_name, told_version = _parse_headers(read_start(os.path.join(path, "METADATA"), _HEADERS))
        damaged = _why_not_metadata(told_name, told_version, (name, version) if plain else None)
    except FileNotFoundError:
        damaged = "METADATA is missing"
    except OSError as error:
        damaged = f"METADATA cannot be read: {error.strerror}"
    if not plain:
        fallback_name, _, fallback_version = stem.rpartition("-")
        name = told_name or fallback_name or stem
        version = told_version or fallback_version or version
    wire = _wire(name, version, path)
    wire["installer"] = _installer(os.path.join(path, "INSTALLER"))
    parsed, obstacle, complaint = _read_record(path, site, scripts_folder, prefix, wire["installer"])
    contents = look_at(parsed, site, scripts_folder)
    damaged = damaged or complaint or contents.damage
    for file in ("INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json"):
        damaged = damaged or _why_not_regular(path, file)
    wire.update(removable=obstacle is None, obstacle=obstacle, damaged=damaged)
    wire.update(read_provenance(path))
    return Read(wire, parsed.entries, parsed.scripts, contents)


def _why_not_metadata(name: str, version: str, expected: tuple[str, str] | None) -> str | None:
    """What is wrong with METADATA's Name and Version, where the folder's name tells what to expect."""
    if not name or not version:
        return "METADATA is empty or cut off: it has no Name and Version"
    if expected is None:
        return None
    if normalized(name) == normalized(expected[0]) and _same_version(version, expected[1]):
        return None
    return f"METADATA is of {normalized(name)} {version}".encode("utf-8", "backslashreplace").decode()


def _same_version(one: str, other: str) -> bool:
    if one == other:
        return True
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


def _why_not_regular(path: str, name: str) -> str | None:
    try:
        mode = os.stat(os.path.join(path, name)).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else f"{name} is not a regular file"


def _read_record(
    path: str, site: str, scripts_folder: str, prefix: str, installer: str | None
) -> tuple[Parsed, str | None, str | None]:
    """What RECORD lists, why the distribution cannot be removed with it, and what is wrong with it."""
    record = os.path.join(path, "RECORD")
    try:
        text = read_regular(record, MAX_RECORD).decode("utf-8", "surrogateescape")
        parsed = parse_paths(text, site, scripts_folder, prefix)
    except FileNotFoundError:
        return Parsed(), "RECORD is missing", None
    except NotRegularError:
        return Parsed(), "RECORD is not a regular file", "RECORD is not a regular file"
    except OSError as error:
        why = f"RECORD cannot be read: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            why = NO_PERMISSION + _access(record)
        return Parsed(), why, why
    except (ValueError, csv.Error) as error:
        why = f"RECORD cannot be read: {error}"
        return Parsed(), why, why
    if not parsed.entries and not parsed.scripts and not parsed.files:
        return parsed, "RECORD is empty", "RECORD is empty"
    own = os.path.basename(path)
    needed = ("METADATA", "RECORD") if installer == "pkgc" else ("METADATA",)
    for name in needed:
        if f"{own}/{name}" not in parsed.own:
            return parsed, None, f"RECORD is cut off: it does not list {own}/{name}"
    return parsed, None, None


def _access(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f" (mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid})"


def _read_legacy(path: str, stem: str, metadata: str, *, removable: bool) -> Read:
    """setuptools and distutils before wheels: ``name-version[-pyX.Y]``."""
    name, version = _headers(metadata)
    found, _, rest = _PYTHON_SUFFIX.sub("", stem).partition("-")
    obstacle = None if removable else "installed without a record of its files"
    wire = _wire(name or found, version or rest or "0", path, removable=removable, obstacle=obstacle)
    if os.path.isdir(path):
        wire["installer"] = _installer(os.path.join(path, "INSTALLER"))
    return Read(wire)


def _read_egg_link(path: str, stem: str) -> Read:
    """`setup.py develop`: the first line names the directory that holds ``NAME.egg-info``."""
    try:
        folder = read_regular(path, MAX_OTHER).decode("utf-8", "surrogateescape").partition("\n")[0].strip()
    except OSError:
        folder = ""
    name, version = "", ""
    for candidate in (stem, stem.replace("-", "_")) if folder else ():
        name, version = _headers(os.path.join(folder, f"{candidate}.egg-info", "PKG-INFO"))
        if name:
            break
    obstacle = "installed by `setup.py develop`, without a record of its files"
    return Read(_wire(name or stem, version or "0", path, direct=True, removable=False, obstacle=obstacle))


def _headers(path: str) -> tuple[str, str]:
    """Name and Version of a PKG-INFO file ('' each when not there)."""
    try:
        return _parse_headers(read_start(path, _HEADERS))
    except OSError:
        return "", ""


def _parse_headers(data: bytes) -> tuple[str, str]:
    found = {"name": "", "version": ""}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line:
            break
        key, _, value = line.partition(":")
        if key.lower() in found and not found[key.lower()]:
            found[key.lower()] = value.strip()
            if found["name"] and found["version"]:
                break
    return found["name"], found["version"]


def _installer(path: str) -> str | None:
    try:
        return read_start(path, 256).decode("utf-8", "replace").partition("\n")[0].strip() or None
    except OSError:
        return None
