"""One distribution's records in site-packages, read without importing anything; not the environment's state.

What is read is plain data for the wire.  Names need not be normalized (standards.md D1), everything but
METADATA may be missing (D2), and three forms older than `.dist-info` are recognised.
"""

from __future__ import annotations

import csv
import json
import os
import re
from typing import Any, NamedTuple

from pkgc_daemon.redaction import redact

#: Bytes read of a RECORD, and of any other record file: far above what is real.
MAX_RECORD = 128 * 1024 * 1024
MAX_OTHER = 1024 * 1024

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
    """Fields of `Installed`, without what depends on other files (``damaged`` by missing entries)."""
    entries: tuple[str, ...]
    """Top-level names in site-packages that RECORD lists."""
    scripts: tuple[str, ...]
    """Names in the environment's scripts directory that RECORD lists."""


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


def read_distribution(site: str, entry: str, scripts_folder: str) -> Read:
    """Read the distribution that `entry` of the directory `site` stands for.

    Args:
        scripts_folder: absolute path of the environment's scripts directory.

    Never raises for what the files hold: what cannot be read is damage (``damaged``).
    """
    path = os.path.join(site, entry)
    if entry.endswith(".dist-info"):
        return _read_dist_info(path, entry[: -len(".dist-info")], site, scripts_folder)
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
        "removable": True,
        "damaged": None,
        **more,
    }


def _read_dist_info(path: str, stem: str, site: str, scripts_folder: str) -> Read:
    name, dash, version = stem.partition("-")
    damaged: str | None = None
    metadata = os.path.join(path, "METADATA")
    if not name or not dash or not _PLAIN_VERSION.match(version):
        told_name, told_version = _headers(metadata)
        fallback_name, _, fallback_version = stem.rpartition("-")
        name = told_name or fallback_name or stem
        version = told_version or fallback_version or version
    if not os.path.isfile(metadata):
        damaged = "METADATA is missing"
    entries: set[str] = set()
    scripts: set[str] = set()
    removable = True
    try:
        record = _load(os.path.join(path, "RECORD"), MAX_RECORD)
        entries, scripts = _top_level(record.decode("utf-8", "surrogateescape"), site, scripts_folder)
    except FileNotFoundError:
        removable = False
    except (OSError, ValueError, csv.Error) as error:
        removable = False
        damaged = damaged or f"RECORD cannot be read: {error}"
    wire = _wire(name, version, path, removable=removable, damaged=damaged)
    wire["installer"] = _installer(os.path.join(path, "INSTALLER"))
    wire.update(_provenance(path))
    return Read(wire, tuple(sorted(entries)), tuple(sorted(scripts)))


def _read_legacy(path: str, stem: str, metadata: str, *, removable: bool) -> Read:
    """setuptools and distutils before wheels: ``name-version[-pyX.Y]``."""
    name, version = _headers(metadata)
    found, _, rest = _PYTHON_SUFFIX.sub("", stem).partition("-")
    wire = _wire(name or found, version or rest or "0", path, removable=removable)
    if os.path.isdir(path):
        wire["installer"] = _installer(os.path.join(path, "INSTALLER"))
    return Read(wire, (), ())


def _read_egg_link(path: str, stem: str) -> Read:
    """`setup.py develop`: the first line names the directory that holds ``NAME.egg-info``."""
    try:
        folder = _load(path, MAX_OTHER).decode("utf-8", "surrogateescape").partition("\n")[0].strip()
    except OSError:
        folder = ""
    name, version = "", ""
    for candidate in (stem, stem.replace("-", "_")) if folder else ():
        name, version = _headers(os.path.join(folder, f"{candidate}.egg-info", "PKG-INFO"))
        if name:
            break
    return Read(_wire(name or stem, version or "0", path, direct=True, removable=False), (), ())


def _load(path: str, limit: int) -> bytes:
    """Bytes of a regular file; a larger one is refused rather than read."""
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(None, f"more than {limit} bytes", path)
    return data


def _headers(path: str) -> tuple[str, str]:
    """Name and Version of a METADATA or PKG-INFO file ('' each when not there)."""
    try:
        with open(path, "rb") as file:
            text = file.read(65536).decode("utf-8", "replace")
    except OSError:
        return "", ""
    found = {"name": "", "version": ""}
    for line in text.splitlines():
        if not line:
            break
        key, _, value = line.partition(":")
        if key.lower() in found and not found[key.lower()]:
            found[key.lower()] = value.strip()
    return found["name"], found["version"]


def _installer(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "replace").partition("\n")[0].strip() or None
    except OSError:
        return None


def _top_level(record: str, site: str, scripts_folder: str) -> tuple[set[str], set[str]]:
    """First path components that RECORD lists, in `site` and in the scripts directory.

    Only names are compared here, so a line costs next to nothing; paths that lead elsewhere (D3) are not
    looked at.
    """
    to_scripts = os.path.relpath(scripts_folder, site).replace(os.sep, "/") + "/"
    entries: set[str] = set()
    scripts: set[str] = set()
    for line in record.split("\n"):
        if line.startswith('"'):
            path = next(csv.reader([line.rstrip("\r")]), [""])[0]
        else:
            path = line.partition(",")[0].rstrip("\r")
        if path.startswith((".", "/")) or "//" in path or "/." in path or "\\" in path:
            absolute = os.path.normpath(os.path.join(site, path.replace("\\", "/").replace("\0", "")))
            path = os.path.relpath(absolute, site).replace(os.sep, "/")
        head, _, _ = path.partition("/")
        if head == "..":
            name = path.removeprefix(to_scripts)
            if name != path and "/" not in name:
                scripts.add(name)
        elif head and not head.isspace():
            entries.add(head)
    entries.discard("__pycache__")
    entries.discard(".")
    return entries, scripts


def _provenance(path: str) -> dict[str, Any]:
    """Origin and hashes, from direct_url.json (PEP 610) or provenance_url.json (PEP 710)."""
    direct = os.path.lexists(os.path.join(path, "direct_url.json"))
    name = "direct_url.json" if direct else "provenance_url.json"
    try:
        data = json.loads(_load(os.path.join(path, name), MAX_OTHER))
        url = redact(data["url"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {"direct": direct}  # unreadable: the origin is unknown
    index = None
    if not direct:
        told = _table(data.get("pkgc"))
        kind = "find-links" if told.get("kind") == "find-links" else "index"
        index = redact(told["index"]) if isinstance(told.get("index"), str) else None
    elif "vcs_info" in data:
        kind = "vcs"
    elif "dir_info" in data:
        kind = "directory"
    else:
        kind = "path" if url.startswith("file:") else "url"
    hashes = _hashes(_table(data.get("archive_info")))
    try:
        "".join((url, index or "", *(text for pair in hashes for text in pair))).encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: it could not even be told to anyone
        return {"direct": direct}
    return {"direct": direct, "hashes": hashes, "origin": {"kind": kind, "url": url, "index": index}}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hashes(archive: dict[str, Any]) -> list[list[str]]:
    found = {
        algorithm.lower(): value.lower()
        for algorithm, value in _table(archive.get("hashes")).items()
        if isinstance(value, str)
    }
    old = archive.get("hash")  # deprecated by PEP 610's amendment: "sha256=…"
    if isinstance(old, str) and "=" in old:
        algorithm, _, value = old.partition("=")
        found.setdefault(algorithm.lower(), value.lower())
    return sorted(map(list, found.items()))
