"""Members of a zip, one local header after the other: reads and inflates the beginning of a file, and says
of each member what it found; nothing here is proof, the directory at the end of the file decides.

It understands less than `zipreader`: where a member is not plainly told by its own header it stops.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import NamedTuple, Protocol, cast

from isal import isal_zlib

from pkgc_daemon.archives.zipdirectory import (
    DEFLATED,
    FLAG_DESCRIPTOR,
    FLAG_UTF8,
    FLAGS_COMPARED,
    LOCAL,
    MAX32,
    STORED,
    ArchiveLimits,
    Directory,
)
from pkgc_daemon.errors import PkgcError

#: Bytes of a member that is read, inflated and written at once.
_SMALL = 1 << 20
_WINDOW = 1 << 20
_PIECE_IN = 128 * 1024
_PIECE_OUT = 256 * 1024
#: What a general-purpose flag may be here: a descriptor behind the data, and a name in UTF-8.
_UNDERSTOOD = FLAG_DESCRIPTOR | FLAG_UTF8
_DESCRIPTORS = (struct.Struct("<4s3L"), struct.Struct("<4sL2Q"))
_DESCRIPTOR_MARK = b"PK\x07\x08"
_FOLLOWING = (b"PK\x03\x04", b"PK\x01\x02")
#: The longest descriptor, and the signature of what follows it.
_BEHIND = 24 + 4
# isal's stubs declare the class as an instance.
_InflateError = cast("type[Exception]", isal_zlib.error)


class Member(NamedTuple):
    """A member that was read completely, and what was read of it."""

    header: bytes
    """The local header with name and extra fields, as in the file."""
    data_at: int
    data_end: int
    descriptor: bytes
    """What may be one: the bytes behind the data, at most 24."""
    size: int
    crc: int
    sha256: str
    """Hex, of the unpacked content."""


class Sink(Protocol):
    """Who takes the content of members."""

    def whole(self, name: str, data: bytes) -> None:
        """A member that is one piece."""

    def begin(self, name: str) -> None:
        """A member begins that comes in pieces."""

    def piece(self, data: bytes) -> None:
        """The next piece of it."""

    def end(self) -> None:
        """It is complete."""

    def found(self, member: Member, offset: int) -> None:
        """What the member was that came last, and where its local header is."""


class Stop(Exception):
    """The rest of the file is for `zipreader`."""


class _Local(NamedTuple):
    """A local header, as far as it matters here."""

    name: str
    is_directory: bool
    method: int
    crc: int
    compressed: int
    """-1: only the descriptor tells."""
    size: int
    described: bool


class _Current:
    """A large member on its way."""

    def __init__(self, header: bytes, data_at: int, local: _Local) -> None:
        self.header = header
        self.data_at = self.position = data_at
        self.local = local
        self.inflater = isal_zlib.decompressobj(-15) if local.method == DEFLATED else None
        self.pending = b""
        self.crc = self.size = 0
        self.hasher = hashlib.sha256()
        self.unpacked = False


class MemberReader:
    """Reads the members of a file that grows.

    Args:
        fd: the file; the caller closes it.
        total: bytes that the file will have.
        limits: see `ArchiveLimits`.
        sink: gets the content of every member that is a file, but not of compiled ones (``__pycache__``).
    """

    def __init__(self, fd: int, total: int, limits: ArchiveLimits, sink: Sink) -> None:
        self._members = 0
        self._fd = fd
        self._total = total
        self._limits = limits
        self._directory = Directory("", limits, total)
        self._sink = sink
        self._at = 0
        self._available = 0
        self._produced = 0
        self._current: _Current | None = None
        self._window = b""
        self._window_at = 0

    def advance(self, available: int) -> None:
        """Read what can be read of the first `available` bytes.

        Raises:
            Stop: nothing more can be read here, now or later.
            OSError: of the sink, or reading failed.
        """
        self._available = available
        try:
            while self._step():
                pass
        except (PkgcError, _InflateError, struct.error) as error:
            raise Stop(str(error)) from error

    def _step(self) -> bool:
        """One member, or a part of one. False: more bytes are needed."""
        if self._current is not None:
            return self._go_on(self._current)
        at = self._at
        fixed = self._peek(at, LOCAL.size)
        if fixed is None:
            return False
        if fixed[:4] != b"PK\x03\x04":
            raise Stop("the directory begins")
        name_size, extra_size = struct.unpack_from("<2H", fixed, 26)
        header = self._peek(at, LOCAL.size + name_size + extra_size)
        if header is None:
            return False
        local = self._read_local(header, name_size)
        data_at = at + len(header)
        if self._members >= self._limits.entries:
            raise Stop("too many entries")
        if local.is_directory or "__pycache__" in local.name.split("/"):
            # Nothing to write; who reads the directory looks at these.
            if local.compressed < 0 or local.described:
                raise Stop("a folder with a descriptor")
            self._at = data_at + local.compressed
            return self._at <= self._available
        if not local.described and local.size <= _SMALL and local.compressed <= _SMALL:
            return self._whole(header, data_at, local)
        self._sink.begin(local.name)
        self._current = _Current(header, data_at, local)
        return True

    def _read_local(self, header: bytes, name_size: int) -> _Local:
        _, _, flags, method, _, _, crc, compressed, size, _, _ = LOCAL.unpack_from(header)
        raw_name = header[LOCAL.size : LOCAL.size + name_size]
        if flags & FLAGS_COMPARED & ~_UNDERSTOOD or method not in (STORED, DEFLATED):
            raise Stop("a member of another kind")
        name = self._directory.check_name(raw_name, flags)
        described = bool(flags & FLAG_DESCRIPTOR)
        if MAX32 in (size, compressed):
            fields = self._directory.extra_fields(name, header[LOCAL.size + name_size :])
            if 1 not in fields:
                raise Stop("sizes are missing")
            size, compressed = self._directory.local_zip64(name, fields[1], size, compressed)
        if method == STORED and (described or size != compressed):
            raise Stop("a stored member of unknown size")
        if described:
            compressed = -1
        return _Local(name, raw_name.endswith(b"/"), method, crc, compressed, size, described)

    def _whole(self, header: bytes, data_at: int, local: _Local) -> bool:
        raw = self._peek(data_at, local.compressed)
        if raw is None:
            return False
        data = raw
        if local.method == DEFLATED:
            inflater = isal_zlib.decompressobj(-15)
            data = inflater.decompress(raw, local.size + 1)
            if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
                raise Stop("not one stream")
        crc = isal_zlib.crc32(data)
        if len(data) != local.size or crc != local.crc:
            raise Stop("other data than the header says")
        self._count(len(data))
        self._sink.whole(local.name, data)
        digest = hashlib.sha256(data).hexdigest()
        end = data_at + local.compressed
        self._report(Member(header, data_at, end, b"", len(data), crc, digest), end)
        return True

    def _go_on(self, member: _Current) -> bool:
        """The next pieces of a large member."""
        local = member.local
        if member.unpacked:
            return self._close(member)
        end = self._available
        if not local.described:
            end = min(end, member.data_at + local.compressed)
        while not (member.inflater.eof if member.inflater is not None else member.position == end):
            if not member.pending:
                member.pending = self._read(member.position, min(_PIECE_IN, end - member.position))
                member.position += len(member.pending)
            if not member.pending and member.inflater is None:
                break
            data, member.pending = member.pending, b""
            if member.inflater is not None:
                fed = bool(data)
                data = member.inflater.decompress(data, _PIECE_OUT)
                member.pending = member.inflater.unconsumed_tail
                if not data and not fed:
                    break
            if data:
                self._take(member, data)
        return self._is_whole(member)

    def _take(self, member: _Current, data: bytes) -> None:
        member.size += len(data)
        if not member.local.described and member.size > member.local.size:
            raise Stop("more data than the header says")
        self._count(len(data))
        member.crc = isal_zlib.crc32(data, member.crc)
        member.hasher.update(data)
        self._sink.piece(data)

    def _is_whole(self, member: _Current) -> bool:
        local, inflater = member.local, member.inflater
        if inflater is not None and inflater.eof:
            member.position -= len(inflater.unused_data) + len(member.pending)
        elif inflater is not None or member.position < member.data_at + local.compressed:
            if not local.described and member.position >= member.data_at + local.compressed:
                raise Stop("the stream goes on behind its data")
            return False
        if not local.described and (
            member.position != member.data_at + local.compressed
            or (member.size, member.crc) != (local.size, local.crc)
        ):
            raise Stop("other data than the header says")
        member.unpacked = True
        return True

    def _close(self, member: _Current) -> bool:
        """The data are complete; find where the next member begins."""
        end, descriptor = member.position, b""
        following = end
        if member.local.described:
            behind = self._peek(end, _BEHIND)
            if behind is None:
                return False
            descriptor = behind[:24]
            following = end + _descriptor_size(behind, (member.crc, end - member.data_at, member.size))
        self._sink.end()
        digest = member.hasher.hexdigest()
        self._current = None
        self._report(
            Member(member.header, member.data_at, end, descriptor, member.size, member.crc, digest), following
        )
        return True

    def _report(self, member: Member, following: int) -> None:
        self._sink.found(member, self._at)
        self._members += 1
        self._at = following

    def _count(self, size: int) -> None:
        """What an archive may cost holds while it arrives, too."""
        self._produced += size
        if self._produced > self._limits.total or (
            self._produced > self._limits.ratio_from and self._produced > self._limits.ratio * self._total
        ):
            raise Stop("it unpacks to too much")

    def _peek(self, offset: int, length: int) -> bytes | None:
        """`length` bytes at `offset`, through a read-ahead window; None: they are not there yet."""
        if offset + length > self._available:
            return None
        at = offset - self._window_at
        if at < 0 or at + length > len(self._window):
            self._window = self._read(offset, min(max(length, _WINDOW), self._available - offset))
            self._window_at, at = offset, 0
            if len(self._window) < length:
                raise Stop("the file is shorter than was said")
        return self._window[at : at + length]

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset) if length > 0 else b""


def _descriptor_size(behind: bytes, found: tuple[int, int, int]) -> int:
    """Bytes of the descriptor that says what was found and is followed by a member or the directory.

    Raises:
        Stop: there is none.
    """
    for layout in _DESCRIPTORS:
        for marked in (_DESCRIPTOR_MARK, b""):
            size = layout.size - 4 + len(marked)
            if behind[size : size + 4] not in _FOLLOWING:
                continue
            raw = behind[:size] if marked else _DESCRIPTOR_MARK + behind[:size]
            if layout.unpack(raw) == (_DESCRIPTOR_MARK, *found):
                return size
    raise Stop("no descriptor")
