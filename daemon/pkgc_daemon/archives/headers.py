"""Header fields of WHEEL and METADATA, and which versions of these formats are known; no other rule.

Rules: binary-distribution-format "File contents" and core-metadata "Metadata-Version"; standards.md W2.
"""

from __future__ import annotations

import re

#: The newest version that is known of each format, by the field that names it.
KNOWN_FORMATS = {"Wheel-Version": (1, 0), "Metadata-Version": (2, 6)}
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\Z", re.ASCII)


def header_fields(text: str) -> dict[str, str]:
    """The fields before the first empty line, names in lower case; the first of a name wins (RFC 822)."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        line = line.rstrip("\r")
        if not line:
            break
        if line[0] in " \t":
            continue
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


def format_version(written: str) -> tuple[int, int] | None:
    """(major, minor) of a format; None when `written` is no such version."""
    match = _VERSION.match(written)
    return None if match is None else (int(match[1]), int(match[2]))
