"""A strict zip reader: one reading of an archive, or none; it is not a general zip library.

A zip can be read in several ways (local headers or central directory, first or last end record), and
attackers live in the difference (uv CVE-2025-54368, GHSA-pqhf-p39g-3x64, PyPI's wheel confusion of 2025).
So the reader accepts an archive only if every byte has exactly one meaning: the entries tile the file
from offset 0 to the central directory, the directory reaches to the end record, the end record and its
comment reach to the end of the file, and local headers, directory and data descriptors agree.
Reference: APPNOTE.TXT 6.3.10; standards.md 1.14.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, cast

from isal import isal_zlib

from pkgc_daemon.archives.members import Member
from pkgc_daemon.archives.zipdirectory import (
    CENTRAL,
    DEFAULT_LIMITS,
    DEFLATED,
    FLAG_DESCRIPTOR,
    FLAGS_COMPARED,
    LOCAL,
    MAX16,
    MAX32,
    STORED,
    ArchiveLimits,
    Directory,
    Entry,
    bad_archive,
)

_EOCD = struct.Struct("<4s4H2LH")
_EOCD64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")

_SIGNATURES = re.compile(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)")
_WINDOW = 1 << 20
_LEAD = 64 * 1024
#: Pieces of a large member. Output of 1 MiB at once was slower: it leaves the processor's cache before it is
#: hashed and written, and the allocator gives such blocks back to the kernel each time.
_PIECE_IN = 128 * 1024
_PIECE_OUT = 256 * 1024
# isal's stubs declare the class as an instance.
_InflateError = cast("type[Exception]", isal_zlib.error)


class ZipReader:
    """Reads one archive from a path; a context manager. Not thread-safe.

    Args:
        path: the archive.
        label: how errors call it (a file name, not a path of the store).
        limits: see `ArchiveLimits`.

    Raises:
        PkgcError: ``bad-archive`` for anything that is not one unambiguous zip.
    """

    def __init__(self, path: str, label: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
        self.label = label
        self.limits = limits
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._window: bytes = b""
        self._window_start = 0
        try:
            self._file_size = os.fstat(self._fd).st_size
            self._directory = Directory(label, limits, self._file_size)
            self.entries: tuple[Entry, ...] = self._read_directory()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The whole content of `entry`, checked (header, descriptor, CRC-32, size).

        Raises:
            PkgcError: ``bad-archive``; also when the entry is larger than `limit` bytes.
        """
        if entry.size > limit:
            self._refuse(f"{entry.name} is too large", f"{entry.size} bytes", f"at most {limit} bytes")
        return b"".join(self.chunks(entry))

    def small(self, entry: Entry) -> bytes | None:
        """The content of `entry` when it fits one piece, else None (see `chunks`, which checks the same)."""
        _, _, _, method, flags, crc, compressed, size, offset, end, raw_name, _ = entry
        span = end - offset
        if size > _WINDOW or compressed > _WINDOW or span > 2 * _WINDOW:
            return None if size > _WINDOW or compressed > _WINDOW else next(iter(self.chunks(entry)))
        at = offset - self._window_start
        if at < 0 or at + span > len(self._window):
            self._peek(offset, span)
            at = 0
        window = self._window
        local = LOCAL.unpack_from(window, at)
        data = at + LOCAL.size + len(raw_name)
        # Nearly all entries are exactly this; what is not is looked at closely.
        if (
            local[0] != b"PK\x03\x04"
            or local[2] != flags
            or flags & FLAG_DESCRIPTOR
            or (local[3], *local[6:]) != (method, crc, compressed, size, len(raw_name), 0)
            or window[at + LOCAL.size : data] != raw_name
            or data + compressed != at + span
        ):
            return next(iter(self.chunks(entry)))
        return self._inflated(entry, window[data : data + compressed])

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Stream the content of `entry`: pieces of at most 1 MiB, an exact entry, or an error.

        Large members come in pieces of 256 KiB.

        Raises:
            PkgcError: ``bad-archive``, possibly after some chunks were given out.
        """
        position = entry.offset
        header = self._peek(position, min(_LEAD, entry.end - position))
        data_start = position + self._check_local_header(entry, header)
        data_end = data_start + entry.compressed
        self._check_descriptor(entry, data_end)
        if entry.size <= _WINDOW and entry.compressed <= _WINDOW:
            yield self._inflated(entry, self._peek(data_start, entry.compressed))
        else:
            yield from self._large(entry, data_start, data_end)

    def agrees(self, entry: Entry, member: Member) -> bool:
        """Whether `member`, which was unpacked before the directory was there, is `entry` to the last byte.

        Raises:
            PkgcError: ``bad-archive``: what `chunks` would raise for its headers.
        """
        data_at = entry.offset + self._check_local_header(entry, member.header)
        self._check_descriptor(entry, data_at + entry.compressed, member.descriptor)
        return (member.data_at, member.data_end, member.size, member.crc) == (
            data_at,
            data_at + entry.compressed,
            entry.size,
            entry.crc,
        )

    def _inflated(self, entry: Entry, raw: bytes) -> bytes:
        if entry.method == STORED:
            data = raw
        else:
            inflater = isal_zlib.decompressobj(-15)
            try:
                # One byte more than promised: enough to tell a lie, never enough for a bomb.
                data = inflater.decompress(raw, entry.size + 1)
            except _InflateError as error:
                self._refuse(f"{entry.name} is not a valid deflate stream", str(error), "deflate", error)
            if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
                self._refuse_stream(entry)
        if len(data) != entry.size:
            self._refuse_size(entry, len(data))
        if isal_zlib.crc32(data) != entry.crc:
            self._refuse_crc(entry, isal_zlib.crc32(data))
        return data

    def _large(self, entry: Entry, start: int, end: int) -> Iterator[bytes]:
        inflater = isal_zlib.decompressobj(-15) if entry.method == DEFLATED else None
        crc, produced, position = 0, 0, start
        pending = b""
        while True:
            if inflater is None:
                if position == end:
                    break
                data = self._piece(position, min(_PIECE_OUT, end - position))
                position += len(data)
            else:
                if inflater.eof:
                    break
                if not pending and position < end:
                    pending = self._piece(position, min(_PIECE_IN, end - position))
                    position += len(pending)
                try:
                    data = inflater.decompress(pending, _PIECE_OUT)
                except _InflateError as error:
                    self._refuse(f"{entry.name} is not a valid deflate stream", str(error), "deflate", error)
                pending = inflater.unconsumed_tail
                if not data and not pending and position == end and not inflater.eof:
                    self._refuse_stream(entry)
            produced += len(data)
            if produced > entry.size:
                self._refuse_size(entry, produced)
            crc = isal_zlib.crc32(data, crc)
            if data:
                yield data
        if inflater is not None and (inflater.unused_data or pending or position != end):
            self._refuse_stream(entry)
        if produced != entry.size:
            self._refuse_size(entry, produced)
        if crc != entry.crc:
            self._refuse_crc(entry, crc)

    # -- reading ---------------------------------------------------------------------------------------

    def _peek(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`, through one read-ahead window: entries are read in file order."""
        at = offset - self._window_start
        if at < 0 or at + length > len(self._window):
            # Not mmap: a file that is cut while it is mapped would kill the daemon with SIGBUS.
            self._window = os.pread(self._fd, max(length, _WINDOW), offset)
            self._window_start, at = offset, 0
            while len(self._window) < length:
                more = os.pread(self._fd, length - len(self._window), offset + len(self._window))
                if not more:
                    self._refuse("it ends too early", f"{self._file_size} bytes", f"{offset + length} bytes")
                self._window += more
        return self._window[at : at + length]

    def _piece(self, offset: int, length: int) -> bytes:
        """Like `_peek`, past the window: of a large member nothing is read twice."""
        piece = os.pread(self._fd, length, offset)
        if not piece:
            self._refuse("it ends too early", f"{self._file_size} bytes", f"{offset + length} bytes")
        return piece

    def _read_directory(self) -> tuple[Entry, ...]:
        if self._file_size < _EOCD.size:
            self._refuse("it is not a zip archive", f"{self._file_size} bytes", "an end record")
        tail_size = min(self._file_size, _EOCD.size + MAX16 + _LOCATOR64.size)
        tail_start = self._file_size - tail_size
        tail = self._peek(tail_start, tail_size)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _EOCD.size > len(tail):
            self._refuse("it is not a zip archive", "no end record", "an end record")
        record = _EOCD.unpack_from(tail, at)
        _, disk, cd_disk, count_here, count, cd_size, cd_offset, comment_size = record
        if at + _EOCD.size + comment_size != len(tail):
            self._refuse(
                "bytes follow the end record",
                f"{len(tail) - at - _EOCD.size} bytes",
                f"a comment of {comment_size} bytes",
            )
        if _SIGNATURES.search(tail, at + _EOCD.size):
            self._refuse("its comment holds zip records", "a zip within the comment", "plain text")
        if disk != cd_disk or count_here != count or disk not in (0, MAX16):
            self._refuse("it is a part of a multi-part archive", f"disk {disk}", "disk 0")
        directory_end = tail_start + at
        if at >= _LOCATOR64.size and tail[at - _LOCATOR64.size : at - _LOCATOR64.size + 4] == b"PK\x06\x07":
            count, cd_size, cd_offset, directory_end = self._read_end64(tail, tail_start, at, record)
        elif disk or cd_size == MAX32 or cd_offset == MAX32:
            self._refuse("its zip64 end record is missing", "none", "a zip64 end record")
        if cd_offset + cd_size != directory_end:
            self._refuse(
                "bytes stand before, between or after its parts",
                f"a directory that ends at {cd_offset + cd_size}",
                f"{directory_end}",
            )
        if count > self.limits.entries:
            self._refuse("it has too many entries", str(count), f"at most {self.limits.entries}")
        if cd_size < count * CENTRAL.size or cd_size > count * (CENTRAL.size + 3 * MAX16):
            self._refuse("its directory has the wrong size", f"{cd_size} bytes", f"{count} entries")
        directory = self._peek(cd_offset, cd_size)
        self._window, self._window_start = b"", 0
        return self._directory.parse(directory, count, cd_offset)

    def _read_end64(
        self, tail: bytes, tail_start: int, at: int, record: tuple[bytes, int, int, int, int, int, int, int]
    ) -> tuple[int, int, int, int]:
        locator_at = at - _LOCATOR64.size
        _, disk, offset, disks = _LOCATOR64.unpack_from(tail, locator_at)
        if disk or disks != 1 or offset + _EOCD64.size != tail_start + locator_at:
            self._refuse("its zip64 locator lies", f"offset {offset}", f"{tail_start + locator_at - 56}")
        signature, size, _, _, disk, cd_disk, count_here, count, cd_size, cd_offset = _EOCD64.unpack(
            self._peek(offset, _EOCD64.size)
        )
        if signature != b"PK\x06\x06" or size != _EOCD64.size - 12 or disk or cd_disk or count_here != count:
            self._refuse("its zip64 end record is malformed", f"size {size}", f"{_EOCD64.size - 12}")
        for short, marker, full in (
            (record[4], MAX16, count),
            (record[5], MAX32, cd_size),
            (record[6], MAX32, cd_offset),
        ):
            if short not in (marker, full):
                self._refuse("its two end records disagree", str(short), str(full))
        return count, cd_size, cd_offset, offset

    def _check_local_header(self, entry: Entry, header: bytes) -> int:
        """Compare the local header with the directory; returns the header's whole length."""
        name = entry.name
        (signature, _, flags, method, _, _, crc, compressed, size, name_size, extra_size) = LOCAL.unpack_from(
            header
        )
        length = LOCAL.size + name_size + extra_size
        if signature != b"PK\x03\x04" or entry.offset + length + entry.compressed > entry.end:
            self._refuse(f"{name}: its local header is malformed", repr(signature), "a local header")
        if header[LOCAL.size : LOCAL.size + name_size] != entry.raw_name:
            self._refuse(
                f"{name} has two names",
                repr(header[LOCAL.size : LOCAL.size + name_size]),
                repr(entry.raw_name),
            )
        if method != entry.method or (flags ^ entry.flags) & FLAGS_COMPARED:
            self._refuse(
                f"{name}: its two headers disagree",
                f"method {method}, flags {flags:#06x}",
                f"method {entry.method}, flags {entry.flags:#06x}",
            )
        if extra_size:
            extra = header[LOCAL.size + name_size : length]
            if len(extra) < extra_size:
                extra = self._peek(entry.offset + LOCAL.size + name_size, extra_size)
            fields = self._directory.extra_fields(name, extra)
            if 0x7075 in fields and fields[0x7075][5:] != entry.raw_name:
                self._refuse(f"{name} has a second name", repr(fields[0x7075][5:]), repr(entry.raw_name))
            if 1 in fields:
                size, compressed = self._directory.local_zip64(name, fields[1], size, compressed)
        # With a data descriptor the header may say nothing (zero), but it may not say something else.
        streamed = bool(flags & FLAG_DESCRIPTOR)
        for found, expected in ((crc, entry.crc), (compressed, entry.compressed), (size, entry.size)):
            if found != expected and not (streamed and found == 0):
                self._refuse(f"{name}: its two headers disagree", str(found), str(expected))
        return int(length)

    def _check_descriptor(self, entry: Entry, data_end: int, known: bytes | None = None) -> None:
        gap = entry.end - data_end
        if not entry.flags & FLAG_DESCRIPTOR:
            if gap:
                self._refuse(f"unknown bytes follow {entry.name}", f"{gap} bytes", "none")
            return
        raw = b""
        if gap in (12, 16, 20, 24):
            raw = self._peek(data_end, gap) if known is None else known[:gap]
        if gap in (16, 24) and raw[:4] == b"PK\x07\x08":
            raw = raw[4:]
        expected = (entry.crc, entry.compressed, entry.size)
        if len(raw) == 12:
            found: tuple[int, ...] = struct.unpack("<3L", raw)
        elif len(raw) == 20:
            found = struct.unpack("<L2Q", raw)
        else:
            self._refuse(f"{entry.name}: its data descriptor is malformed", f"{gap} bytes", "12 to 24 bytes")
        if found != expected:
            self._refuse(f"{entry.name}: its data descriptor disagrees", str(found), str(expected))

    # -- refusing --------------------------------------------------------------------------------------

    def _refuse_stream(self, entry: Entry) -> NoReturn:
        self._refuse(f"{entry.name}: its data ends too early or goes on too long", "other data", "one stream")

    def _refuse_size(self, entry: Entry, found: int) -> NoReturn:
        self._refuse(f"{entry.name} has the wrong size", f"{found} bytes or more", f"{entry.size} bytes")

    def _refuse_crc(self, entry: Entry, found: int) -> NoReturn:
        self._refuse(f"{entry.name} is corrupt (CRC-32)", f"{found:08x}", f"{entry.crc:08x}")

    def _refuse(self, what: str, found: str, expected: str, cause: BaseException | None = None) -> NoReturn:
        raise bad_archive(self.label, what, found, expected) from cause
