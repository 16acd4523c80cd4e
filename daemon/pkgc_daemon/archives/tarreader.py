"""A strict tar reader: one pass, one reading, or an error; it writes nothing and is no general tar library.

Every header is checked (`tarheaders`), the archive must end as tars end, and only NUL bytes may follow: no
two readers can find different entries in what this one accepts (CVE-2025-62518 and its kin).
Names are plain relative paths; where links lead is for `sourcetree` to judge, which knows them all.
Memory does not grow with the archive: content passes in pieces of at most 1 MiB.
"""

from __future__ import annotations

import os
import struct
import unicodedata
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, NamedTuple

from pkgc_daemon.archives import decompress
from pkgc_daemon.archives.tarheaders import (
    BLOCK,
    EXTENSIONS,
    FOLDER,
    HARDLINK,
    LONG_LINK,
    LONG_NAME,
    OLD_REGULAR,
    PAX,
    PAX_GLOBAL,
    REGULAR,
    SYMLINK,
    Header,
    Problem,
    check_global,
    has_checksum,
    long_text,
    parse_header,
    parse_pax,
    with_records,
)
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS, ArchiveLimits, bad_archive
from pkgc_daemon.errors import PkgcError

Kind = Literal["file", "folder", "symlink", "hardlink"]

#: Bytes that one extended header or long name may have.
_EXTENSION_LIMIT = 1 << 20
_WINDOW = 1 << 20
_KINDS: dict[bytes, Kind] = {
    REGULAR: "file",
    OLD_REGULAR: "file",
    HARDLINK: "hardlink",
    SYMLINK: "symlink",
    FOLDER: "folder",
}
_DECOMPRESSORS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "tar": decompress.plain,
    "gzip": decompress.gzip,
    "bzip2": decompress.bzip2,
    "xz": decompress.xz,
}
_END_RECORD = struct.Struct("<4s4H2LH")
_BAD_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Member(NamedTuple):
    """One entry of a tar."""

    name: str
    """Relative, without a leading './' or trailing '/'; no empty, '.' or '..' component."""
    kind: Kind
    size: int
    """Of a file, in bytes; 0 for anything else."""
    executable: bool
    mtime: int
    """Seconds since 1970, as written."""
    target: str
    """Of a symlink: as written; of a hardlink: the name (as `name`) of another member."""


class TarReader:
    """Reads one archive from a path; a context manager. Not thread-safe.

    Args:
        path: the archive; must be a regular file.
        label: how errors call it (a file name, not a path of the store).
        compression: 'tar' (none), 'gzip', 'bzip2' or 'xz'.
        limits: see `ArchiveLimits`.
        cancelled: asked for every MiB.

    Raises:
        OSError: the file cannot be opened or read.
    """

    def __init__(
        self,
        path: str,
        label: str,
        compression: Literal["tar", "gzip", "bzip2", "xz"],
        limits: ArchiveLimits = DEFAULT_LIMITS,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.label = label
        self.limits = limits
        self._cancelled = cancelled
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._file_size = os.fstat(self._fd).st_size
        self._pieces = self._bounded(_DECOMPRESSORS[compression](self._fd))
        self._piece, self._at = b"", 0
        self._unread = 0
        self._padding = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def members(self) -> Iterator[Member]:
        """Every file, folder and link, in their order. The content of a file is had from `content`.

        Raises:
            PkgcError: ``bad-archive``: it is not one unambiguous tar, or too much; ``interrupted``.
        """
        try:
            if is_zip(self._fd, self._file_size):
                raise Problem("it is a zip archive as well", "a zip directory at its end", "a tar only")
            for count, member in enumerate(self._walk(), 1):
                if count > self.limits.entries:
                    raise Problem("it has too many entries", str(count), f"at most {self.limits.entries}")
                yield member
        except Problem as problem:
            raise self._refusal(problem) from problem

    def content(self) -> Iterator[bytes]:
        """The content of the file that `members` gave last: pieces of at most 1 MiB, all of it, once.

        Raises:
            PkgcError: ``bad-archive``, possibly after some pieces were given out; ``interrupted``.
        """
        try:
            while self._unread:
                piece = self._some(self._unread)
                self._unread -= len(piece)
                yield piece
        except Problem as problem:
            raise self._refusal(problem) from problem

    # -- entries ---------------------------------------------------------------------------------------

    def _walk(self) -> Iterator[Member]:
        records: dict[str, str] | None = None
        names: dict[bytes, str] = {}
        while (header := self._next_header()) is not None:
            if header.kind not in EXTENSIONS:
                if records is not None:
                    header = with_records(header, records)
                renamed = records is not None and "path" in records
                if LONG_NAME in names:
                    header, renamed = header._replace(name=names[LONG_NAME]), True
                if LONG_LINK in names:
                    if header.kind not in (HARDLINK, SYMLINK):
                        raise Problem(f"{header.name!r} has a long link name", "no link", "a link")
                    header = header._replace(link=names[LONG_LINK])
                records, names = None, {}
                member = self._member(header, renamed)
                if member is not None:
                    yield member
                self._skip()
                continue
            if header.kind == PAX_GLOBAL:
                if records is not None or names:
                    raise Problem(
                        "a global pax header splits an entry", "a global header", "the entry itself"
                    )
                check_global(parse_pax(self._extension(header)))
            elif header.kind == PAX:
                if records is not None or names:
                    raise Problem("two extended headers are of one entry", "a pax header", "the entry itself")
                records = parse_pax(self._extension(header))
            else:
                if records is not None or header.kind in names:
                    raise Problem("two extended headers are of one entry", "a long name", "the entry itself")
                names[header.kind] = long_text(self._extension(header))
        if records is not None or names:
            raise Problem("it ends too early", "an extended header", "the entry that it is of")

    def _member(self, header: Header, renamed: bool) -> Member | None:
        """None for the folder that the archive was made in ('./')."""
        kind, written = _KINDS[header.kind], header.name
        if kind == "file" and written.endswith("/"):
            # v7 had no kind for folders. Behind a long name readers disagree on what such an entry is.
            if header.kind != OLD_REGULAR or renamed or header.size:
                raise Problem(f"{written!r} is a file that is named like a folder", "a file", "one of them")
            kind = "folder"
        if kind == "folder" and written in (".", "./"):
            return None
        name = self._plain_name(written.removesuffix("/") if kind == "folder" else written)
        target = header.link
        if kind == "hardlink":
            target = self._plain_name(target)
        self._unread = header.size
        self._padding = -header.size % BLOCK
        executable = kind == "file" and bool(header.mode & 0o111)
        return Member(name, kind, header.size, executable, header.mtime, target)

    def _plain_name(self, written: str) -> str:
        """A name without the './' that some writers put first; it says one thing on every system."""
        name = written.removeprefix("./")
        shown = repr(written if len(written) < 100 else written[:100] + "…")
        check_text(name, shown)
        parts = name.split("/")
        if "" in parts or "." in parts or ".." in parts:
            raise Problem(f"the name {shown} leaves the archive or is not plain", shown, "a relative path")
        length = len(name.encode())
        if (
            length > self.limits.name_bytes
            or len(parts) > self.limits.depth
            or (length > 255 and max(len(part.encode()) for part in parts) > 255)
        ):
            raise Problem(f"the name {shown} is too deep or too long", f"{length} bytes", "a usable path")
        return name

    def _next_header(self) -> Header | None:
        """The next header, or None at the end, behind which there are only NUL bytes."""
        block = self._exactly(BLOCK)
        if block[0] or block.strip(b"\0"):
            return parse_header(block)
        while True:
            # The second block of NUL, and the padding of the last record.
            rest = self._piece[self._at :]
            if rest.strip(b"\0"):
                raise Problem("bytes follow its end", "more than padding", "NUL bytes")
            self._piece, self._at = next(self._pieces, b""), 0
            if not self._piece:
                return None

    def _extension(self, header: Header) -> bytes:
        if header.size > _EXTENSION_LIMIT:
            raise Problem(
                "an extended header is too large", f"{header.size} bytes", f"at most {_EXTENSION_LIMIT}"
            )
        data = self._exactly(header.size)
        self._exactly(-header.size % BLOCK)
        return data

    def _skip(self) -> None:
        while self._unread:
            self._unread -= len(self._some(self._unread))
        self._exactly(self._padding)
        self._padding = 0

    # -- bytes -----------------------------------------------------------------------------------------

    def _some(self, most: int) -> bytes:
        """At least one byte, at most `most`."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
            if not self._piece:
                raise Problem("it ends too early", "the end of the file", "the end of the archive")
        piece = self._piece[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _exactly(self, length: int) -> bytes:
        end = self._at + length
        if end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
            return data
        parts = []
        while length:
            part = self._some(length)
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _bounded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        produced = 0
        limits = self.limits
        for piece in pieces:
            if self._cancelled():
                raise PkgcError("interrupted", f"interrupted while reading {self.label}", exit_status=130)
            if not piece:
                continue
            produced += len(piece)
            if produced > limits.total:
                raise Problem("it is too large", f"{produced} bytes or more", f"at most {limits.total}")
            if produced > limits.ratio_from and produced > limits.ratio * self._file_size:
                raise Problem(
                    "it unpacks to too much (a bomb?)",
                    f"{produced} bytes or more from {self._file_size}",
                    f"at most {limits.ratio}:1",
                )
            yield piece

    def _refusal(self, problem: Problem) -> PkgcError:
        return bad_archive(self.label, problem.what, problem.found, problem.expected)


def check_text(text: str, shown: str) -> None:
    """Refuse what is not the same path everywhere, or not visible: control characters and backslashes.

    Raises:
        Problem: naming `shown`.
    """
    if not text.isprintable() and any(unicodedata.category(c) in _BAD_CATEGORIES for c in text):
        raise Problem(f"the name {shown} holds control characters", shown, "printable text")
    if "\\" in text:
        raise Problem(f"the name {shown} is a Windows path", shown, "'/' between components")


def is_zip(fd: int, size: int) -> bool:
    """Whether the file can be read as a zip too (CVE-2026-3219): a directory and an end record at its end.

    A zip that lies within a tar is none: its record counts from another start, and bytes follow it.
    """
    tail_start = max(0, size - _END_RECORD.size - 0xFFFF)
    tail = os.pread(fd, size - tail_start, tail_start)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END_RECORD.size <= len(tail):
            *_, count, directory_size, directory_start, comment = _END_RECORD.unpack_from(tail, at)
            here = tail_start + at
            to_the_end = at + _END_RECORD.size + comment >= len(tail)
            zip64 = tail[max(0, at - 20) : at].startswith(b"PK\x06\x07")
            first = os.pread(fd, 4, here - directory_size) if 0 < directory_size <= here else b""
            directory = zip64 or first == b"PK\x01\x02" or (not count and not directory_size)
            if directory and (to_the_end or zip64 or directory_start + directory_size == here):
                return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def is_tar(path: str) -> bool:
    """Whether the file begins with a tar header."""
    with open(path, "rb") as file:
        return has_checksum(file.read(BLOCK))
