"""Lines of an installed distribution's RECORD (PEP 376, PEP 627), rendered from what a manifest knows."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from binascii import unhexlify
from collections.abc import Sequence

from pkgc_daemon.vocabulary import FileEntry

#: Files of .dist-info that an installer writes itself, whatever the wheel holds.
WRITTEN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json")

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def record_hash(data: bytes) -> str:
    """RECORD's form of the sha256 of `data`."""
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def quoted(path: str) -> str:
    """A path as a csv field."""
    if "," in path or '"' in path or "\n" in path or "\r" in path:
        return '"' + path.replace('"', '""') + '"'
    return path


def render_entries(entries: Sequence[FileEntry], prefix: str = "") -> list[str]:
    """RECORD's lines of files that were placed unchanged: the manifest knows their hashes.

    All digests go through one base64 call: with one zero byte after each digest, every digest becomes 44
    characters, of which the first 43 are its unpadded form.
    """
    digests = b64encode(unhexlify("".join([f"{entry[3]}00" for entry in entries])))
    text = digests.translate(_URL_SAFE).decode()
    return [
        f"{quoted(prefix + entry[0])},sha256={text[start : start + 43]},{entry[1]}\n"
        for entry, start in zip(entries, range(0, len(text), 44), strict=True)
    ]


def render_line(path: str, data: bytes) -> str:
    """RECORD's line of a file that the installer wrote."""
    return f"{quoted(path)},{record_hash(data)},{len(data)}\n"
