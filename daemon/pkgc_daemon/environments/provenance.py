"""Where a distribution says that it came from: direct_url.json (PEP 610) or provenance_url.json (PEP 710), as
plain data for the wire. Nothing here is compared with a lock; what cannot be trusted is left unknown.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pkgc_daemon.redaction import redact

from .files import read_regular

#: Bytes of such a file: far above what is real.
MAX_FILE = 1024 * 1024
#: The objects of direct_url.json of which there must be exactly one, and the kind of origin each means.
_KINDS = {"archive_info": "url", "vcs_info": "vcs", "dir_info": "directory"}


class _MalformedError(ValueError):
    """Not what PEP 610 or PEP 710 says: nothing of it is believed."""


def read_provenance(path: str) -> dict[str, Any]:
    """What a .dist-info folder records of its origin.

    Args:
        path: of the folder.

    Returns:
        Some of the wire fields of `Installed`: always ``direct`` (direct_url.json is there, whatever it
        holds); ``origin``, ``hashes``, ``editable``, ``commit``, ``requested``, ``subdirectory``,
        ``fingerprint`` and ``settings`` as far as they are told. A file that cannot be read or breaks its
        specification tells nothing: the origin is unknown. URLs are without credentials.
    """
    direct = os.path.lexists(os.path.join(path, "direct_url.json"))
    name = "direct_url.json" if direct else "provenance_url.json"
    try:
        data = json.loads(read_regular(os.path.join(path, name), MAX_FILE))
        told = _direct(data) if direct else _from_index(data)
        # A lone surrogate could not even be told to anyone.
        json.dumps(told, ensure_ascii=False).encode("utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"direct": direct}
    return {"direct": direct, **told}


def _from_index(data: dict[str, Any]) -> dict[str, Any]:
    """provenance_url.json: an index's file, or a wheel that was built from an index's sdist. No index is
    recorded of a local file that had the right hash."""
    told = _table(data.get("pkgc"))
    url = redact(_text(data, "url"))
    index = redact(told["index"]) if isinstance(told.get("index"), str) else None
    kind = told["kind"] if told.get("kind") in ("find-links", "url", "path") else "index"
    if index is None and url.startswith("file:"):
        kind = "path"
    return {
        "hashes": _hashes(_table(data.get("archive_info"))),
        "origin": {"kind": kind, "url": url, "index": index},
        "settings": _settings(told) or ("" if told.get("built") is True else None),
    }


def _direct(data: dict[str, Any]) -> dict[str, Any]:
    """direct_url.json (standards.md D5): exactly one of the three kinds, each with what it must have."""
    url = redact(_text(data, "url"))
    found = [key for key in _KINDS if data.get(key) is not None]
    if len(found) != 1 or not isinstance(data[found[0]], dict):
        raise _MalformedError("not exactly one of archive_info, vcs_info and dir_info")
    info, kind = data[found[0]], _KINDS[found[0]]
    own = _table(data.get("pkgc"))
    told: dict[str, Any] = {
        "subdirectory": _optional(data, "subdirectory"),
        "settings": _settings(own),
    }
    local = url.startswith("file:")
    if kind == "vcs":
        _text(info, "vcs")
        told["commit"] = _text(info, "commit_id").lower()
        told["requested"] = _optional(info, "requested_revision")
    elif kind == "directory":
        if not local:
            raise _MalformedError("a directory is a file: URL")
        told["editable"] = info.get("editable") is True
        told["fingerprint"] = _optional(own, "source")
    else:
        kind = "path" if local else "url"
        told["hashes"] = _hashes(info)
    told["origin"] = {"kind": kind, "url": url, "index": None}
    return told


def _settings(own: dict[str, Any]) -> str | None:
    value = own.get("settings")
    return value if isinstance(value, str) and value else None


def _text(data: dict[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not value:
        raise _MalformedError(f"{key} is no text")
    return value


def _optional(data: dict[str, Any], key: str) -> str | None:
    return None if data.get(key) in (None, "") else _text(data, key)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hashes(archive: dict[str, Any]) -> list[list[str]]:
    """Recorded digests. The deprecated ``hash`` must be one of ``hashes`` (D5); if not, neither counts."""
    found = {
        algorithm.lower(): value.lower()
        for algorithm, value in _table(archive.get("hashes")).items()
        if isinstance(value, str)
    }
    old = archive.get("hash")
    if isinstance(old, str) and "=" in old:
        algorithm, _, value = old.lower().partition("=")
        if not found:
            found[algorithm] = value
        elif found.get(algorithm) != value:
            return []
    return sorted(map(list, found.items()))
