"""The central directory of a zip, parsed strictly: bytes in, entries out; no I/O.

What is refused, and why, is told in `zipreader`; this module knows names, extra fields, zip64 and how
the entries must tile the file.  Reference: APPNOTE.TXT 6.3.10, sections 4.3.12, 4.4 and 4.5.3.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
from typing import NamedTuple, NoReturn

from pkgc_daemon.errors import PkgcError

STORED, DEFLATED = 0, 8
FLAG_ENCRYPTED, FLAG_DESCRIPTOR, FLAG_PATCH, FLAG_STRONG, FLAG_UTF8, FLAG_MASKED = (
    0x1,
    0x8,
    0x20,
    0x40,
    0x800,
    0x2000,
)
#: Flags that must be equal in the local header and the directory (the others are hints to packers).
FLAGS_COMPARED = FLAG_ENCRYPTED | FLAG_DESCRIPTOR | FLAG_PATCH | FLAG_STRONG | FLAG_UTF8 | FLAG_MASKED
MAX32, MAX16 = 0xFFFFFFFF, 0xFFFF
LOCAL = struct.Struct("<4s5H3L2H")
LOCAL_SIZE = LOCAL.size

#: "Version needed to extract" of APPNOTE 6.3; other readers refuse more.
_NEWEST = 63
CENTRAL = struct.Struct("<4s2B5H3L5H2L")
_EXTRA = struct.Struct("<HH")
_DRIVE = re.compile(r"[A-Za-z]:")
#: Names in which nothing can be wrong, within the limits below: what nearly all of them are.
_PLAIN_NAME = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}/){0,15}[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}/?")
_PLAIN_DEPTH = 16
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ArchiveLimits(NamedTuple):
    """What an archive may cost. Sizes in bytes."""

    entries: int = 250_000
    total: int = 64 << 30
    ratio: int = 300
    """Largest uncompressed:archive size, once the uncompressed size is beyond `ratio_from`."""
    ratio_from: int = 64 << 20
    name_bytes: int = 2048
    depth: int = 64
    """Largest number of path components."""


DEFAULT_LIMITS = ArchiveLimits()


class Entry(NamedTuple):
    """One entry, as the central directory tells it."""

    name: str
    """Without a trailing slash; validated: relative, no empty, '.' or '..' component."""
    is_directory: bool
    executable: bool
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    offset: int
    """Of the local header."""
    end: int
    """Where the next local header, or the central directory, must begin."""
    raw_name: bytes
    modified: int = 0
    """MS-DOS date and time, as written: the date is the upper 16 bits."""


_END = Entry._fields.index("end")


def bad_archive(label: str, what: str, found: str, expected: str) -> PkgcError:
    """The error for an archive that is not one unambiguous zip."""
    return PkgcError(
        "bad-archive",
        f"{label}: {what}",
        context=f"expected {expected}\nfound {found}",
        hint="The archive is broken or made to be read in two ways; ask its publisher for a correct one.",
    )


class Directory:
    """Parses the central directory of one archive.

    Args:
        label: how errors call the archive.
        limits: see `ArchiveLimits`.
        file_size: of the archive, in bytes (for the ratio limit).

    Raises (every method):
        PkgcError: ``bad-archive``.
    """

    def __init__(self, label: str, limits: ArchiveLimits, file_size: int) -> None:
        self.label = label
        self.limits = limits
        self._file_size = file_size

    def parse(self, directory: bytes, count: int, cd_offset: int) -> tuple[Entry, ...]:
        """The entries of the central directory `directory` (`count` of them) that stands at `cd_offset`."""
        cd_size = len(directory)
        found: list[Entry] = []
        at, total = 0, 0
        for _ in range(count):
            if at + CENTRAL.size > cd_size:
                self._refuse("its directory ends too early", f"{len(found)} entries", f"{count} entries")
            entry, at = self._parse_entry(directory, at)
            total += entry.size
            found.append(entry)
        if at != cd_size:
            self._refuse(
                "its directory holds more than it counts", f"{cd_size - at} bytes", f"{count} entries"
            )
        if total > self.limits.total:
            self._refuse("it is too large", f"{total} bytes unpacked", f"at most {self.limits.total}")
        if total > self.limits.ratio_from and total > self.limits.ratio * self._file_size:
            self._refuse(
                "it unpacks to too much (a zip bomb?)",
                f"{total} bytes from {self._file_size}",
                f"at most {self.limits.ratio}:1",
            )
        return self._tile(found, cd_offset)

    def _parse_entry(self, directory: bytes, at: int) -> tuple[Entry, int]:
        (
            signature,
            _,
            system,
            needed,
            flags,
            method,
            time,
            date,
            crc,
            compressed,
            size,
            name_size,
            extra_size,
            comment_size,
            disk,
            _,
            attributes,
            offset,
        ) = CENTRAL.unpack_from(directory, at)
        name_at = at + CENTRAL.size
        extra_at = name_at + name_size
        next_at = extra_at + extra_size + comment_size
        if signature != b"PK\x01\x02" or next_at > len(directory):
            self._refuse("its directory is malformed", f"at byte {at} of the directory", "an entry")
        raw_name = directory[name_at:extra_at]
        name = self.check_name(raw_name, flags)
        if extra_size:
            extra = directory[extra_at : extra_at + extra_size]
            size, compressed, offset, disk = self._central_extra(
                name, raw_name, extra, size, compressed, offset, disk
            )
        elif MAX32 in (size, compressed, offset):
            self._refuse(f"{name}: its zip64 field is missing", "none", "a zip64 extra field")
        if disk:
            self._refuse("it is a part of a multi-part archive", f"disk {disk}", "disk 0")
        if needed & 0xFF > _NEWEST:
            self._refuse(f"{name} needs a newer zip", f"version {needed & 0xFF}", f"{_NEWEST} or older")
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED):
            self._refuse(f"{name} is encrypted", f"flags {flags:#06x}", "no encryption")
        if flags & FLAG_PATCH or method not in (STORED, DEFLATED):
            self._refuse(
                f"{name} is packed in an unknown way", f"method {method}", "0 (stored) or 8 (deflate)"
            )
        if method == STORED and size != compressed:
            self._refuse(f"{name} is stored with two sizes", f"{compressed}", f"{size}")
        mode = attributes >> 16
        kind = stat.S_IFMT(mode)
        # Only Unix writers (3; 19 is macOS) put a mode here; another's non-zero type bits would be a lie.
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "symbolic link" if stat.S_ISLNK(mode) else "special file"
            self._refuse(f"{name} is a {what}", f"mode {mode:o} (system {system})", "a regular file")
        is_directory = raw_name.endswith(b"/")
        if is_directory and (size or crc):
            self._refuse(f"{name} is a folder with content", f"{size} bytes", "0 bytes")
        if not is_directory and kind == stat.S_IFDIR:
            self._refuse(
                f"{name} is a folder that is named like a file", f"mode {mode:o}", "a trailing slash"
            )
        executable = bool(mode & 0o111) and kind == stat.S_IFREG
        return (
            Entry(
                name,
                is_directory,
                executable,
                method,
                flags,
                crc,
                compressed,
                size,
                offset,
                0,
                raw_name,
                date << 16 | time,
            ),
            next_at,
        )

    def _tile(self, found: list[Entry], cd_offset: int) -> tuple[Entry, ...]:
        """Order by offset and check that the entries neither overlap nor leave gaps nor repeat a name."""
        found.sort(key=lambda entry: entry.offset)
        ends = [entry.offset for entry in found[1:]] + [cd_offset]
        if (found[0].offset if found else cd_offset) != 0:
            self._refuse(
                "bytes stand before its first entry", f"{found[0].offset if found else cd_offset}", "0"
            )
        if not found:
            return ()
        entries, names = [], set[str]()
        for entry, end in zip(found, ends, strict=True):
            name = entry.name
            if end < entry.offset + LOCAL_SIZE + len(entry.raw_name) + entry.compressed:
                self._refuse(f"{name} overlaps what follows it", f"ends beyond {end}", "no overlap")
            if name in names:
                self._refuse(f"{name} is there twice", "two entries", "one entry")
            names.add(name)
            entries.append(Entry._make((*entry[:_END], end, *entry[_END + 1 :])))
        return tuple(entries)

    def _central_extra(
        self, name: str, raw_name: bytes, extra: bytes, size: int, compressed: int, offset: int, disk: int
    ) -> tuple[int, int, int, int]:
        fields = self.extra_fields(name, extra)
        if 0x7075 in fields and fields[0x7075][5:] != raw_name:
            self._refuse(f"{name} has a second name", repr(fields[0x7075][5:]), repr(raw_name))
        given = fields.get(1)
        wanted = (size == MAX32) + (compressed == MAX32) + (offset == MAX32)
        if given is None:
            if wanted:
                self._refuse(f"{name}: its zip64 field is missing", "none", "a zip64 extra field")
            return size, compressed, offset, disk
        known = len(given) // 8
        values = list(struct.unpack_from(f"<{known}Q", given))
        if len(given) - 8 * known not in (0, 4) or known < wanted:
            self._refuse(
                f"{name}: its zip64 field is malformed", f"{len(given)} bytes", f"{8 * wanted} bytes"
            )
        if len(given) - 8 * known == 4:
            (disk64,) = struct.unpack_from("<L", given, 8 * known)
            if disk64 != 0 or disk not in (0, MAX16):
                self._refuse(f"{name}: its zip64 field names another disk", str(disk64), "0")
            disk = 0
        shorts = (size, compressed, offset)
        if known > wanted:
            # Some writers add fields that nobody asked for; harmless only if they say the same.
            full = [*values[:3]]
            for short, value in zip(shorts, full, strict=False):
                if short not in (MAX32, value):
                    self._refuse(f"{name}: its zip64 field disagrees", str(value), str(short))
            strict_reading = iter(values)
            for short, value in zip(shorts, full, strict=False):
                if short == MAX32 and next(strict_reading) != value:
                    self._refuse(f"{name}: its zip64 field has two readings", str(values), "one")
            if wanted > sum(short == MAX32 for short in shorts[: len(full)]):
                self._refuse(f"{name}: its zip64 field is malformed", f"{len(given)} bytes", "all fields")
            values = [value for short, value in zip(shorts, full, strict=False) if short == MAX32]
        reading = iter(values)
        size, compressed, offset = (next(reading) if short == MAX32 else short for short in shorts)
        return size, compressed, offset, disk

    def local_zip64(self, name: str, field: bytes, size: int, compressed: int) -> tuple[int, int]:
        """The sizes of a local header that has a zip64 field: (uncompressed, compressed)."""
        known = len(field) // 8
        wanted = (size == MAX32) + (compressed == MAX32)
        if known < wanted:
            self._refuse(
                f"{name}: its zip64 field is malformed", f"{len(field)} bytes", f"{8 * wanted} bytes"
            )
        values = struct.unpack_from(f"<{known}Q", field)
        if wanted == 2:
            return int(values[0]), int(values[1])
        if size == MAX32:
            return int(values[0]), compressed
        if compressed == MAX32:
            return size, int(values[1] if known > 1 else values[0])
        return size, compressed

    def extra_fields(self, name: str, extra: bytes) -> dict[int, bytes]:
        """The extra fields of a header, by kind."""
        fields: dict[int, bytes] = {}
        at = 0
        while at + _EXTRA.size <= len(extra):
            kind, length = _EXTRA.unpack_from(extra, at)
            at += _EXTRA.size
            if at + length > len(extra) or (kind in fields and kind in (1, 0x7075)):
                self._refuse(
                    f"{name}: its extra fields are malformed", f"field {kind:#06x}", "one whole field"
                )
            fields[kind] = extra[at : at + length]
            at += length
        if extra[at:].strip(b"\0"):
            self._refuse(f"{name}: its extra fields are malformed", f"{len(extra) - at} bytes left", "none")
        return fields

    def check_name(self, raw: bytes, flags: int) -> str:
        """Decode and validate a name (standards.md W9); a name says one thing on every system."""
        limits = self.limits
        if _PLAIN_NAME.fullmatch(raw) and len(raw) <= limits.name_bytes and limits.depth >= _PLAIN_DEPTH:
            return raw.decode("ascii").removesuffix("/")
        try:
            name = raw.decode("utf-8" if flags & FLAG_UTF8 else "ascii")
        except UnicodeDecodeError as error:
            self._refuse(f"the name {raw!r} is not UTF-8", "other bytes", "UTF-8, marked as such", error)
        name = name.removesuffix("/")
        if len(raw) > self.limits.name_bytes:
            self._refuse("a name is too long", f"{len(raw)} bytes", f"at most {self.limits.name_bytes}")
        if not name.isprintable() and any(unicodedata.category(c) in _BAD_CATEGORIES for c in name):
            self._refuse(f"the name {name!r} holds control characters", repr(name), "printable text")
        if "\\" in name or _DRIVE.match(name):
            self._refuse(f"the name {name!r} is a Windows path", repr(name), "'/' between components")
        parts = name.split("/")
        if "" in parts or "." in parts or ".." in parts:
            self._refuse(
                f"the name {name!r} leaves the archive or is not plain", repr(name), "a relative path"
            )
        if (
            len(parts) > self.limits.depth
            or max(map(len, parts)) > 255
            or (len(raw) > 255 and max(len(part.encode()) for part in parts) > 255)
        ):
            self._refuse(
                f"the name {name[:80]!r}… is too deep or too long", f"{len(parts)} levels", "a usable path"
            )
        return name

    def _refuse(self, what: str, found: str, expected: str, cause: BaseException | None = None) -> NoReturn:
        raise bad_archive(self.label, what, found, expected) from cause
