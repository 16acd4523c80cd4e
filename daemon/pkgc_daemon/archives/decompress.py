"""Decompressing tars: a file in, pieces of at most 1 MiB out; whole and nothing behind it, or an error.

Bytes after the end would be another archive for another reader, so only NUL padding may follow.  A gzip file
must be one member: some installers read the first one only, others all of them.
"""

from __future__ import annotations

import bz2
import lzma
import os
from collections.abc import Callable, Iterator
from typing import cast

from isal import isal_zlib

from pkgc_daemon.archives.tarheaders import Problem

_WINDOW = 1 << 20
#: Enough for ``xz -9`` (65 MiB), too little for a dictionary that is an attack.
_XZ_MEMORY = 256 << 20
#: Streams that one file may have, and bytes that each further one must give on average: parallel packers
#: write one for every 100 KiB or more.
_MOST_STREAMS = 1000
_LEAST_STREAM = 64 << 10
_GZIP_RESERVED = 0xE0
# isal's stubs declare the class as an instance.
_InflateError = cast("type[Exception]", isal_zlib.error)


def plain(fd: int) -> Iterator[bytes]:
    """The file as it is."""
    while piece := os.read(fd, _WINDOW):
        yield piece


def gzip(fd: int) -> Iterator[bytes]:
    """The one member of a gzip file, its CRC-32 and size checked (RFC 1952).

    Raises:
        Problem: not gzip, damaged, cut off, or followed by anything but NUL bytes.
    """
    raw = os.read(fd, _WINDOW)
    if raw[:2] != b"\x1f\x8b":
        raise Problem("it is not a gzip file, as its name says", repr(raw[:4]), "gzip")
    if len(raw) > 3 and raw[3] & _GZIP_RESERVED:
        raise Problem("its gzip header has unknown flags", f"{raw[3]:#04x}", "flags of RFC 1952")
    inflater = isal_zlib.decompressobj(31)
    while not inflater.eof:
        try:
            data = inflater.decompress(raw, _WINDOW)
        except _InflateError as error:
            raise Problem("it is not a valid gzip file", str(error), "gzip") from error
        raw = inflater.unconsumed_tail
        if data:
            yield data
        if not raw and not inflater.eof:
            raw = os.read(fd, _WINDOW)
            if not raw and not data:
                raise Problem("it ends too early", "the end of the file", "the end of the gzip stream")
    rest = _after_padding(fd, inflater.unused_data)
    if rest:
        what = "is more than one gzip file" if rest[:2] == b"\x1f\x8b" else "is followed by other bytes"
        raise Problem(f"it {what}", repr(rest[:8]), "the end of the file")


def bzip2(fd: int) -> Iterator[bytes]:
    """All streams of a bzip2 file (parallel packers write several).

    Raises:
        Problem: not bzip2, damaged, cut off, or followed by anything but NUL bytes.
    """
    return _streams(fd, bz2.BZ2Decompressor, "bzip2")


def xz(fd: int) -> Iterator[bytes]:
    """All streams of an xz file.

    Raises:
        Problem: not xz, damaged, cut off, over 256 MiB of dictionary, or followed by anything but NUL bytes.
    """
    return _streams(fd, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), "xz")


def _streams(
    fd: int, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], what: str
) -> Iterator[bytes]:
    raw = os.read(fd, _WINDOW)
    streams = produced = 0
    while True:
        decoder = make()
        streams += 1
        if streams > _MOST_STREAMS + produced // _LEAST_STREAM:
            raise Problem(
                f"it has too many {what} streams",
                f"{streams} in {produced} bytes",
                f"at most {_MOST_STREAMS}, or {_LEAST_STREAM} bytes in each",
            )
        yield b""  # so that the reader asks whether it was cancelled
        while not decoder.eof:
            if decoder.needs_input and not raw:
                raw = os.read(fd, _WINDOW)
                if not raw:
                    raise Problem("it ends too early", "the end of the file", f"the end of the {what} stream")
            try:
                data = decoder.decompress(raw, _WINDOW)
            except (OSError, lzma.LZMAError) as error:
                raise Problem(f"it is not a valid {what} file", str(error), what) from error
            raw = b""
            if data:
                produced += len(data)
                yield data
        raw = _after_padding(fd, decoder.unused_data)
        if not raw:
            return


def _after_padding(fd: int, raw: bytes) -> bytes:
    """The first bytes that follow the padding; none at the end of the file."""
    while True:
        raw = raw.lstrip(b"\0")
        if raw:
            return raw
        raw = os.read(fd, _WINDOW)
        if not raw:
            return b""
