"""Tar headers, parsed strictly: 512 bytes or pax records in, meaning out; no I/O.

Three formats are known (v7, POSIX ustar, GNU) with two extensions (pax records, GNU long names), and of each
only what every reader understands the same way.  The rest is refused, because attackers live where readers
differ: the size by which the next header is found (CVE-2025-62518, GHSA-w476-p2h3-79g9), records that one
reader skips and another obeys (GHSA-3wgq-wrwc-vqmv, GHSA-3cv2-h65g-fgmm), sparse files.
Reference: POSIX.1-2024 pax "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

BLOCK = 512

REGULAR, OLD_REGULAR, HARDLINK, SYMLINK, FOLDER = b"0", b"\0", b"1", b"2", b"5"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
#: Headers that say something of a later one; their content is read, not unpacked.
EXTENSIONS = frozenset({PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK})
_SPECIAL = {b"3": "character device", b"4": "block device", b"6": "pipe", b"S": "sparse file"}
_KNOWN = EXTENSIONS | {REGULAR, OLD_REGULAR, HARDLINK, SYMLINK, FOLDER}

_POSIX_MAGIC, _GNU_MAGIC, _NO_MAGIC = b"ustar\x0000", b"ustar  \0", bytes(8)
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*\Z")
_RECORD_START = re.compile(rb"([1-9][0-9]{0,9}) ")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,18})\Z")
_TIME = re.compile(r"(-?[0-9]{1,18})(\.[0-9]*)?\Z")
#: Records that make a file sparse: its content would not be what stands in the archive.
_SPARSE = ("GNU.sparse", "SCHILY.realsize", "SCHILY.filetype", "SUN.holesdata")
#: What only a header of one entry may say (a global one would change every entry, for some readers).
_OF_ONE_ENTRY = frozenset({"path", "linkpath", "size", "hdrcharset"})
_CHARSETS = frozenset({"ISO-IR 10646 2000 UTF-8", "BINARY"})


class Problem(ValueError):
    """Why a tar is refused: what is wrong, what was found, what was expected."""

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(what)
        self.what, self.found, self.expected = what, found, expected


class Header(NamedTuple):
    """One header block. Numbers are not negative, except `mtime`."""

    kind: bytes
    """The type flag."""
    name: str
    """As written (with the prefix, if the format has one)."""
    mode: int
    size: int
    mtime: int
    """Seconds since 1970."""
    link: str
    """Target of a link, as written."""


def parse_header(block: bytes) -> Header:
    """The meaning of one header.

    Raises:
        Problem: anything but a header of a known kind with one reading.
    """
    if not has_checksum(block):
        raise Problem("a header is damaged", "another checksum", "a tar header")
    magic, kind = block[257:265], block[156:157]
    if magic == _POSIX_MAGIC:
        prefix, rest = _text(block[345:500], "prefix"), block[500:]
    elif magic in (_GNU_MAGIC, _NO_MAGIC):
        # Some readers take this for a prefix whatever the magic says, others for times or for sparse maps.
        prefix, rest = "", block[345:]
    else:
        raise Problem("a header is of an unknown tar format", repr(magic), "ustar, GNU or v7")
    name = _text(block[0:100], "name")
    if rest.strip(b"\0"):
        raise Problem(f"the header of {name!r} has unknown fields", repr(rest.strip(b"\0")[:20]), "NUL bytes")
    if kind not in _KNOWN:
        what = _SPECIAL.get(kind, f"kind of entry {kind!r} that readers do not agree on")
        raise Problem(f"{name!r} is a {what}", repr(kind), "a file, folder or link")
    size = _number(block[124:136], "size", name)
    if size < 0:
        raise Problem(f"{name!r} has a negative size", str(size), "0 or more")
    if size and kind in (HARDLINK, SYMLINK, FOLDER):
        raise Problem(f"{name!r} has a size but can have no content", f"{size} bytes", "0 bytes")
    return Header(
        kind,
        f"{prefix}/{name}" if prefix and kind not in (LONG_NAME, LONG_LINK) else name,
        _number(block[100:108], "mode", name) & 0o7777,
        size,
        _number(block[136:148], "time", name),
        _text(block[157:257], "link") if kind in (HARDLINK, SYMLINK) else "",
    )


def has_checksum(block: bytes) -> bool:
    """Whether these 512 bytes are a tar header (their checksum is right)."""
    field = _OCTAL.match(block[148:156])
    if len(block) != BLOCK or field is None or not field[1]:
        return False
    return sum(block) - sum(block[148:156]) + 8 * 0x20 == int(field[1], 8)


def parse_pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: ``LENGTH KEY=VALUE\\n``, each exactly so long as it says.

    Values that are not text (extended attributes) come out mangled; nobody uses them here.

    Raises:
        Problem: malformed, a key twice with two values, or a record of a sparse file.
    """
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        start = _RECORD_START.match(data, at)
        end = at + int(start[1]) if start is not None else 0
        if start is None or end > len(data) or end <= start.end() or data[end - 1] != 0x0A:
            raise Problem("a pax record is malformed", repr(data[at : at + 40]), "'LENGTH KEY=VALUE\\n'")
        raw_key, separator, raw = data[start.end() : end - 1].partition(b"=")
        if not separator or not raw_key or b"\0" in raw_key:
            raise Problem("a pax record is malformed", repr(data[at : at + 40]), "'LENGTH KEY=VALUE\\n'")
        key = raw_key.decode("utf-8", "backslashreplace")
        if key.startswith(_SPARSE):
            raise Problem("it holds a sparse file", repr(key), "a file as it is")
        value = _decode(raw, key) if key in _OF_ONE_ENTRY else raw.decode("utf-8", "backslashreplace")
        if records.setdefault(key, value) != value:
            raise Problem(f"the pax record {key!r} is there twice", repr(value), repr(records[key]))
        at = end
    return records


def check_global(records: Mapping[str, str]) -> None:
    """Refuse global records that name, place or measure entries (git writes ``comment``, which is fine)."""
    for key in records:
        if key in _OF_ONE_ENTRY:
            raise Problem("a global pax header changes every entry", key, "no record of a single entry")


def with_records(header: Header, records: Mapping[str, str]) -> Header:
    """`header` as its own pax records amend it: name, link and time.

    Raises:
        Problem: a size that differs from the header's (readers would find different entries after it), an
            empty value (some readers delete the field, others take it), an unknown encoding.
    """
    name, link, mtime = header.name, header.link, header.mtime
    for key in ("path", "linkpath", "size"):
        if records.get(key) == "":
            raise Problem(f"{name!r}: its pax record {key!r} is empty", "''", "a value")
    if records.get("hdrcharset", "BINARY") not in _CHARSETS:
        raise Problem(f"{name!r}: its encoding is unknown", repr(records["hdrcharset"]), "UTF-8")
    size = records.get("size")
    if size is not None and (not _DECIMAL.match(size) or int(size) != header.size):
        raise Problem(
            f"{name!r} has two sizes", f"{size!r} in its pax record", f"{header.size} in its header"
        )
    if "mtime" in records:
        time = _TIME.match(records["mtime"])
        if time is None:
            raise Problem(f"{name!r}: its time is malformed", repr(records["mtime"]), "seconds")
        mtime = int(time[1])
    if header.kind in (HARDLINK, SYMLINK):
        link = records.get("linkpath", link)
    return header._replace(name=records.get("path", name), link=link, mtime=mtime)


def long_text(data: bytes) -> str:
    """The name in a GNU long-name entry: text, then NUL bytes only.

    Raises:
        Problem: more than one text, or not UTF-8.
    """
    return _text(data, "long name")


def _text(field: bytes, what: str) -> str:
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise Problem(f"bytes hide behind a {what}", repr(field.rstrip(b"\0")), "NUL bytes after the text")
    return _decode(text, what)


def _decode(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(f"a {what} is not UTF-8", repr(raw[:80]), "UTF-8") from None
    if "\0" in text:
        raise Problem(f"a {what} holds a NUL", repr(raw[:80]), "text")
    return text


def _number(field: bytes, what: str, name: str) -> int:
    """An octal number, or GNU's base 256 where the first bit is set."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big", signed=field[0] == 0xFF)
    match = _OCTAL.match(field)
    if match is None:
        raise Problem(f"{name!r}: its {what} is malformed", repr(field), "an octal number")
    return int(match[1] or b"0", 8)
