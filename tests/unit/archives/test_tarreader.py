"""A tar that two readers can read differently must not be read at all (standards.md 1.14, peers.md 6)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Literal

import pytest

from pkgc_daemon.archives.tarreader import Member, TarReader
from pkgc_daemon.archives.zipdirectory import ArchiveLimits
from pkgc_daemon.errors import PkgcError
from tests.support.sdists import (
    BLOCK,
    END,
    GNU_MAGIC,
    NO_MAGIC,
    WHEN,
    compress,
    padded,
    pax_record,
    tar_file,
    tar_folder,
    tar_header,
    tar_link,
    tar_long,
    tar_pax,
)

Compression = Literal["tar", "gzip", "bzip2", "xz"]
ENDINGS: dict[Compression, str] = {"tar": ".tar", "gzip": ".tar.gz", "bzip2": ".tar.bz2", "xz": ".tar.xz"}
LONG = "p-1/" + "deep/" * 40 + "file.txt"
PLAIN = tar_file("p-1/a.txt", b"one")


def read(
    data: bytes,
    path: Path,
    compression: Compression = "tar",
    limits: ArchiveLimits | None = None,
) -> list[tuple[Member, bytes]]:
    """Every member of `data` with its content, read through `path`."""
    path.write_bytes(data)
    with TarReader(str(path), "p-1.tar", compression, limits or ArchiveLimits()) as archive:
        return [(member, b"".join(archive.content())) for member in archive.members()]


def refused(
    data: bytes,
    path: Path,
    compression: Compression = "tar",
    limits: ArchiveLimits | None = None,
) -> PkgcError:
    """The error that reading `data` raises."""
    with pytest.raises(PkgcError) as caught:
        read(data, path, compression, limits)
    assert caught.value.code == "bad-archive"
    assert caught.value.message.startswith("p-1.tar: ")
    assert caught.value.message.isprintable(), "a name could write to the terminal"
    assert caught.value.context is not None
    assert caught.value.context.startswith("expected ")
    assert "\nfound " in caught.value.context
    return caught.value


ACCEPTED: dict[str, tuple[bytes, list[tuple[str, str, bytes]]]] = {
    "a POSIX file": (PLAIN, [("p-1/a.txt", "file", b"one")]),
    "a GNU file (GNU tar's default, and Rust's packers)": (
        tar_file("p-1/a", b"x", magic=GNU_MAGIC),
        [("p-1/a", "file", b"x")],
    ),
    "a v7 file": (tar_file("p-1/a", b"x", magic=NO_MAGIC, kind=b"\0"), [("p-1/a", "file", b"x")]),
    "a v7 folder": (tar_header("p-1/d/", 0, b"\0", magic=NO_MAGIC), [("p-1/d", "folder", b"")]),
    "an old flag for a file": (tar_file("p-1/a", b"x", kind=b"\0"), [("p-1/a", "file", b"x")]),
    "a folder with and without a slash": (
        tar_folder("p-1/") + tar_folder("p-1/d"),
        [("p-1", "folder", b""), ("p-1/d", "folder", b"")],
    ),
    "a prefix (names up to 255 bytes)": (
        tar_file("file.txt", b"x", prefix=b"p-1/deep"),
        [("p-1/deep/file.txt", "file", b"x")],
    ),
    "pax path": (tar_pax(("path", LONG)) + tar_file("p-1/short", b"x"), [(LONG, "file", b"x")]),
    "pax path that is not ASCII": (
        tar_pax(("path", "p-1/ñ/日本.txt")) + tar_file("p-1/x", b"x"),
        [("p-1/ñ/日本.txt", "file", b"x")],
    ),
    "pax size that agrees": (tar_pax(("size", "3")) + PLAIN, [("p-1/a.txt", "file", b"one")]),
    "pax records of times, owners and packers": (
        tar_pax(
            ("mtime", "1700000000.25"),
            ("atime", "1.5"),
            ("uid", "4294967296"),
            ("uname", "üser"),
            ("SCHILY.xattr.user.x", "v"),
            pax_record("LIBARCHIVE.xattr.com.apple", b"\xff\x00\n\xfe"),
        )
        + PLAIN,
        [("p-1/a.txt", "file", b"one")],
    ),
    "hdrcharset BINARY of a name that is UTF-8 all the same (bsdtar)": (
        tar_pax(("hdrcharset", "BINARY"), ("path", "p-1/é")) + PLAIN,
        [("p-1/é", "file", b"one")],
    ),
    "a pax record twice with one value": (
        tar_pax(("path", "p-1/b"), ("path", "p-1/b")) + PLAIN,
        [("p-1/b", "file", b"one")],
    ),
    "an empty pax header": (tar_pax() + PLAIN, [("p-1/a.txt", "file", b"one")]),
    "git's global comment": (
        tar_pax(("comment", "0123456789abcdef"), kind=b"g") + PLAIN,
        [("p-1/a.txt", "file", b"one")],
    ),
    "global times and owners": (
        tar_pax(("mtime", "1"), ("uid", "0"), ("gname", "g"), kind=b"g") + PLAIN,
        [("p-1/a.txt", "file", b"one")],
    ),
    "GNU's long name": (tar_long(LONG) + tar_file("p-1/short", b"x"), [(LONG, "file", b"x")]),
    "GNU's long name and long link": (
        tar_long("deep/" * 40 + "x", b"K") + tar_long(LONG) + tar_link("p-1/s", "d"),
        [(LONG, "symlink", b"")],
    ),
    "a long name of a folder": (tar_long(LONG + "/") + tar_folder("p-1/s"), [(LONG, "folder", b"")]),
    "'./' before every name, and the folder './' itself": (
        tar_folder("./") + tar_folder("./p-1") + tar_file("./p-1/a", b"x"),
        [("p-1", "folder", b""), ("p-1/a", "file", b"x")],
    ),
    "a symbolic link": (tar_link("p-1/l", "../p-1/a"), [("p-1/l", "symlink", b"")]),
    "a hard link": (
        PLAIN + tar_link("p-1/h", "./p-1/a.txt", b"1"),
        [("p-1/a.txt", "file", b"one"), ("p-1/h", "hardlink", b"")],
    ),
    "numbers with blanks and without": (
        tar_file("p-1/a", b"x", size=b"          1 ", mode=b"644 ", mtime=b""),
        [("p-1/a", "file", b"x")],
    ),
    "a size in base 256": (
        tar_file("p-1/a", b"x", size=b"\x80" + (1).to_bytes(11, "big"), magic=GNU_MAGIC),
        [("p-1/a", "file", b"x")],
    ),
    "a time before 1970 in base 256": (
        tar_file("p-1/a", b"x", mtime=b"\xff" * 12, magic=GNU_MAGIC),
        [("p-1/a", "file", b"x")],
    ),
    "an empty archive": (b"", []),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_packers_write_is_read(what: str, tmp_path: Path) -> None:
    """A refusal here is a project that cannot be installed."""
    entries, expected = ACCEPTED[what]
    found = read(entries + END, tmp_path / "t")
    assert [(member.name, member.kind, content) for member, content in found] == expected


def _base256(value: int) -> bytes:
    return (value & (1 << 96) - 1).to_bytes(12, "big")


#: What is refused -> (the entries, a word of the message).
REFUSED: dict[str, tuple[bytes, str]] = {
    # -- sizes: where the next header is (CVE-2025-62518, GHSA-w476-p2h3-79g9, GHSA-3wgq-wrwc-vqmv)
    "pax size larger than the header's": (tar_pax(("size", "1024")) + PLAIN, "two sizes"),
    "pax size smaller than the header's (smuggled entries)": (
        tar_pax(("size", "0")) + tar_file("p-1/a", padded(tar_file("p-1/evil", b"x"))),
        "two sizes",
    ),
    "pax size over a header of 0 (TARmageddon)": (
        tar_pax(("size", "512")) + tar_header("p-1/a", 0) + tar_header("p-1/evil", 0),
        "two sizes",
    ),
    "pax size with a sign": (tar_pax(("size", "+3")) + PLAIN, "two sizes"),
    "pax size with a blank": (tar_pax(("size", " 3")) + PLAIN, "two sizes"),
    "pax size with a leading zero (octal for some)": (tar_pax(("size", "03")) + PLAIN, "two sizes"),
    "pax size that is no number": (tar_pax(("size", "three")) + PLAIN, "two sizes"),
    "pax size negative": (tar_pax(("size", "-3")) + PLAIN, "two sizes"),
    "pax size empty (deletes the field, for some)": (tar_pax(("size", "")) + PLAIN, "empty"),
    "pax size twice": (tar_pax(("size", "3"), ("size", "512")) + PLAIN, "twice"),
    "pax size of a folder": (tar_pax(("size", "512")) + tar_folder("p-1/d"), "two sizes"),
    "pax size in digits of another script": (tar_pax(("size", "٣")) + PLAIN, "two sizes"),
    "a size in base 256 that is negative": (
        tar_header("p-1/a", _base256(-512), magic=GNU_MAGIC),
        "negative",
    ),
    "a size in base 256 beyond every file": (
        tar_header("p-1/a", b"\x80" + b"\xff" * 11, magic=GNU_MAGIC),
        "too early",
    ),
    "a size that is not octal": (tar_header("p-1/a", b"00000000009\0"), "malformed"),
    "a size in two parts": (tar_header("p-1/a", b"0\0000000007\0"), "malformed"),
    "a size with a sign": (tar_header("p-1/a", b"-0000000001\0"), "malformed"),
    "a size with an unknown first bit": (tar_header("p-1/a", b"\x90" + bytes(11)), "malformed"),
    "a mode that is not octal": (tar_header("p-1/a", mode=b"rwxr-xr\0"), "malformed"),
    "a time that is not octal": (tar_header("p-1/a", mtime=b"yesterday..."), "malformed"),
    "a folder with content": (tar_header("p-1/d/", 512, b"5") + bytes(512), "no content"),
    "a symbolic link with content": (tar_header("p-1/l", 512, b"2", link="a") + bytes(512), "no content"),
    "a hard link with content": (PLAIN + tar_header("p-1/h", 512, b"1", link="p-1/a.txt"), "no content"),
    # -- pax records (GHSA-3cv2-h65g-fgmm)
    "pax record without '='": (tar_pax(b"9 path x\n") + PLAIN, "malformed"),
    "pax record without a key": (tar_pax(b"5 =x\n") + PLAIN, "malformed"),
    "pax record without an end": (tar_pax(b"10 path=xx") + PLAIN, "malformed"),
    "pax record that is longer than the header": (tar_pax(b"99 path=p-1/x\n") + PLAIN, "malformed"),
    "pax record that is shorter than it is": (tar_pax(b"8 path=p-1/x\n") + PLAIN, "malformed"),
    "pax record of length 0": (tar_pax(b"0 path=p-1/x\n") + PLAIN, "malformed"),
    "pax record with a length of zeros": (tar_pax(b"015 path=p-1/x\n") + PLAIN, "malformed"),
    "pax record with a signed length": (tar_pax(b"+15 path=p-1/x\n") + PLAIN, "malformed"),
    "pax record with a huge length": (tar_pax(b"99999999999999999999 path=x\n") + PLAIN, "malformed"),
    "pax record with a tab": (tar_pax(b"15\tpath=p-1/xy\n") + PLAIN, "malformed"),
    "pax records behind NUL bytes": (tar_pax(bytes(8) + pax_record("path", "p-1/x")) + PLAIN, "malformed"),
    "NUL bytes behind pax records": (tar_pax(pax_record("path", "p-1/x") + bytes(8)) + PLAIN, "malformed"),
    "a NUL in a pax key": (tar_pax(pax_record(b"pa\0th", b"x")) + PLAIN, "malformed"),
    "a NUL in a pax path (cut by C readers)": (tar_pax(("path", "p-1/x\0y")) + PLAIN, "NUL"),
    "a pax path that is not UTF-8": (tar_pax(pax_record("path", b"p-1/\xff")) + PLAIN, "UTF-8"),
    "a pax path that is empty": (tar_pax(("path", "")) + PLAIN, "empty"),
    "a pax path twice": (tar_pax(("path", "p-1/x"), ("path", "p-1/y")) + PLAIN, "twice"),
    "a pax link path that is empty": (tar_pax(("linkpath", "")) + tar_link("p-1/l", "a"), "empty"),
    "a pax time that is no number": (tar_pax(("mtime", "now")) + PLAIN, "time"),
    "a pax encoding that is unknown": (tar_pax(("hdrcharset", "UTF-7")) + PLAIN, "encoding"),
    "a pax header of a mebibyte and more": (tar_pax(("comment", "x" * (1 << 20))) + PLAIN, "too large"),
    "global pax path": (tar_pax(("path", "p-1/evil"), kind=b"g") + PLAIN, "global"),
    "global pax link path": (tar_pax(("linkpath", "evil"), kind=b"g") + PLAIN, "global"),
    "global pax size": (tar_pax(("size", "0"), kind=b"g") + PLAIN, "global"),
    "global pax encoding": (tar_pax(("hdrcharset", "BINARY"), kind=b"g") + PLAIN, "global"),
    # -- sparse files: the content is not what stands there
    "a sparse file of GNU": (tar_header("p-1/a", 0, b"S", magic=GNU_MAGIC), "sparse"),
    "a sparse file in pax 0.0": (tar_pax(("GNU.sparse.size", "9")) + PLAIN, "sparse"),
    "a sparse file in pax 1.0": (
        tar_pax(("GNU.sparse.major", "1"), ("GNU.sparse.name", "p-1/evil")) + PLAIN,
        "sparse",
    ),
    "a sparse file of star": (tar_pax(("SCHILY.realsize", "9")) + PLAIN, "sparse"),
    "a sparse file of Solaris": (tar_pax(("SUN.holesdata", " 0 9")) + PLAIN, "sparse"),
    "a global sparse record": (tar_pax(("GNU.sparse.size", "9"), kind=b"g") + PLAIN, "sparse"),
    # -- headers of headers: who obeys whom
    "two pax headers of one entry": (tar_pax(("size", "3")) * 2 + PLAIN, "two extended"),
    "pax, then a long name": (tar_pax(("path", "p-1/x")) + tar_long("p-1/y") + PLAIN, "two extended"),
    "a long name, then pax": (tar_long("p-1/y") + tar_pax(("path", "p-1/x")) + PLAIN, "two extended"),
    "two long names": (tar_long("p-1/x") + tar_long("p-1/y") + PLAIN, "two extended"),
    "a global header between": (
        tar_pax(("path", "p-1/x")) + tar_pax(("comment", "c"), kind=b"g") + PLAIN,
        "splits an entry",
    ),
    "a global header after a long name": (
        tar_long("p-1/x") + tar_pax(("comment", "c"), kind=b"g") + PLAIN,
        "splits an entry",
    ),
    "a pax header of nothing": (PLAIN + tar_pax(("path", "p-1/x")), "too early"),
    "a long name of nothing": (PLAIN + tar_long("p-1/x"), "too early"),
    "a long link of a file": (tar_long("x", b"K") + PLAIN, "long link"),
    "a long name with text behind its end": (tar_long(b"p-1/x\0p-1/evil") + PLAIN, "hide"),
    "a long name of a mebibyte and more": (tar_long("x" * (1 << 20)) + PLAIN, "too large"),
    "an empty long name": (tar_long("") + PLAIN, "not plain"),
    # -- headers
    "a wrong checksum": (tar_header("p-1/a", checksum=b"000000\0 "), "damaged"),
    "a checksum that is no number": (tar_header("p-1/a", checksum=b"notoctal"), "damaged"),
    "an empty checksum": (tar_header("p-1/a", checksum=bytes(8)), "damaged"),
    "an unknown format": (tar_header("p-1/a", magic=b"ustar\0ab"), "unknown tar format"),
    "a prefix in GNU's format": (tar_header("a", magic=GNU_MAGIC, prefix=b"p-1"), "unknown fields"),
    "a prefix in the v7 format": (tar_header("a", magic=NO_MAGIC, prefix=b"p-1"), "unknown fields"),
    "star's format (a shorter prefix)": (tar_header("p-1/a", rest=bytes(8) + b"tar\0"), "unknown fields"),
    "text behind the end of a name": (tar_header(b"p-1/a\0evil"), "hide"),
    "text behind the end of a link": (tar_header("p-1/l", 0, b"2", link=b"a\0/etc/passwd"), "hide"),
    "a name that is not UTF-8": (tar_header(b"p-1/\xe9"), "UTF-8"),
    # -- kinds
    "a character device": (tar_header("p-1/null", 0, b"3"), "character device"),
    "a block device": (tar_header("p-1/sda", 0, b"4"), "block device"),
    "a pipe": (tar_header("p-1/pipe", 0, b"6"), "pipe"),
    "a contiguous file": (tar_file("p-1/a", b"x", kind=b"7"), "do not agree"),
    "GNU's list of a folder": (tar_file("p-1/d", b"Ya\0\0", kind=b"D", magic=GNU_MAGIC), "do not agree"),
    "GNU's further volume": (tar_file("p-1/a", b"x", kind=b"M", magic=GNU_MAGIC), "do not agree"),
    "GNU's volume name": (tar_header("p-1", 0, b"V", magic=GNU_MAGIC), "do not agree"),
    "Solaris' extended header": (tar_file("p-1/x", pax_record("path", "p"), kind=b"X"), "do not agree"),
    "a kind that nobody knows": (tar_header("p-1/a", 0, b"Z"), "do not agree"),
    "a file that is named like a folder": (tar_header("p-1/a/", 0, b"0"), "named like a folder"),
    "an old file that is named like a folder, with content": (
        tar_header("p-1/a/", 512, b"\0") + bytes(512),
        "named like a folder",
    ),
    "an old file whose long name is a folder's (CVE-2025-13462)": (
        tar_long("p-1/a/") + tar_header("p-1/a", 0, b"\0"),
        "named like a folder",
    ),
    "an old file whose pax name is a folder's (CVE-2025-13462)": (
        tar_pax(("path", "p-1/a/")) + tar_header("p-1/a", 0, b"\0"),
        "named like a folder",
    ),
    # -- names
    "an absolute name": (tar_header("/etc/evil"), "leaves the archive"),
    "'..' at the start": (tar_header("../evil"), "leaves the archive"),
    "'..' within": (tar_header("p-1/../../evil"), "leaves the archive"),
    "'..' at the end": (tar_folder("p-1/.."), "leaves the archive"),
    "'..' in a pax path": (tar_pax(("path", "p-1/../../evil")) + PLAIN, "leaves the archive"),
    "'..' in a long name": (tar_long("p-1/../../evil") + PLAIN, "leaves the archive"),
    "'..' in a prefix": (tar_header("evil", prefix=b"p-1/../.."), "leaves the archive"),
    "'..' behind './'": (tar_header("./../evil"), "leaves the archive"),
    "an absolute name behind './'": (tar_header(".//etc/evil"), "leaves the archive"),
    "an empty component": (tar_header("p-1//a"), "not plain"),
    "two slashes at the end": (tar_folder("p-1//"), "not plain"),
    "'.' within": (tar_header("p-1/./a"), "not plain"),
    "'./' twice": (tar_header("././p-1/a"), "not plain"),
    "an empty name": (tar_header(""), "not plain"),
    "a file called '.'": (tar_header("."), "not plain"),
    "a backslash": (tar_header("p-1\\..\\evil"), "Windows"),
    "a line break": (tar_header("p-1/a\nb"), "control"),
    "an escape sequence": (tar_header("p-1/\x1b[2Jevil"), "control"),
    "a line separator": (tar_header("p-1/a\u2028b"), "control"),
    "an escape sequence in a header with a negative size": (
        tar_header("p-1/\x1b[2J", _base256(-1), magic=GNU_MAGIC),
        "negative",
    ),
    "an escape sequence in a device's name": (tar_header("\x1b[2J", 0, b"3"), "character device"),
    "an escape sequence in a sparse key": (tar_pax(("GNU.sparse.\x1b[2J", "1")) + PLAIN, "sparse"),
    "a component of 256 bytes": (tar_pax(("path", "p-1/" + "x" * 256)) + PLAIN, "too long"),
    "a component of 256 bytes in 100 characters": (tar_pax(("path", "p-1/" + "日" * 86)) + PLAIN, "too long"),
    "too many components": (tar_pax(("path", "p-1" + "/d" * 64)) + PLAIN, "too deep"),
    "an absolute target of a hard link": (PLAIN + tar_link("p-1/h", "/etc/passwd", b"1"), "leaves"),
    "'..' in the target of a hard link": (PLAIN + tar_link("p-1/h", "p-1/../../x", b"1"), "leaves"),
    "an empty target of a hard link": (PLAIN + tar_link("p-1/h", "", b"1"), "not plain"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_ambiguous_tars_are_refused(what: str, tmp_path: Path) -> None:
    """Accepted, an audit and the build would look at different files, or a file would land elsewhere."""
    entries, word = REFUSED[what]
    assert word in refused(entries + END, tmp_path / "t").message
    # Also behind something harmless, where it is not the first header.
    assert word in refused(tar_folder("p-1") + entries + END, tmp_path / "t").message


#: What is refused at the end -> (archive, a word).
ENDS: dict[str, tuple[bytes, str]] = {
    "no end": (PLAIN, "too early"),
    "half a block at the end": (PLAIN + bytes(100), "too early"),
    "half a header": (PLAIN + tar_header("p-1/b")[:300], "too early"),
    "half a file": (tar_header("p-1/b", 5000) + bytes(1024), "too early"),
    "an entry behind the end": (PLAIN + END + tar_file("p-1/evil", b"x") + END, "follow its end"),
    "an entry behind a lone block of NUL": (PLAIN + bytes(BLOCK) + PLAIN + END, "follow its end"),
    "a byte behind the end": (PLAIN + END + b"\1", "follow its end"),
    "a byte far behind the end": (PLAIN + END + bytes(3 << 20) + b"\1", "follow its end"),
    "a tar in the padding": (PLAIN + END + bytes(8192) + PLAIN, "follow its end"),
    "nothing at all": (b"", "too early"),
}


@pytest.mark.parametrize("what", ENDS)
def test_tars_end_once_and_whole(what: str, tmp_path: Path) -> None:
    """What follows the end is there for readers that do not stop; what is cut off is not whole."""
    data, word = ENDS[what]
    assert word in refused(data, tmp_path / "t").message
    assert word in refused(gzip.compress(data), tmp_path / "t", "gzip").message


@pytest.mark.parametrize("padding", [0, BLOCK, 8192, 3 << 20])
def test_padding_of_records_is_fine(padding: int, tmp_path: Path) -> None:
    """Packers fill the last record (10 KiB and more) with NUL: every real sdist has it."""
    assert len(read(PLAIN + END + bytes(padding), tmp_path / "t")) == 1
    assert len(read(PLAIN + bytes(BLOCK), tmp_path / "t")) == 1, "a lone block of NUL at the end"


def _large_dictionary() -> bytes:
    """An xz file whose header asks for a dictionary of 1.5 GiB."""
    data = bytearray(lzma.compress(STREAM))
    assert data[14:16] == b"\x21\x01", "the LZMA2 filter of the first block"
    data[16] = 37
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    return bytes(data)


STREAM = PLAIN + END
GZIP = gzip.compress(STREAM, mtime=0)
STREAMS: dict[str, tuple[Compression, bytes, str | None]] = {
    "gzip": ("gzip", GZIP, None),
    "gzip with its file name": ("gzip", GZIP[:3] + b"\x08" + GZIP[4:10] + b"x.tar\0" + GZIP[10:], None),
    "gzip with NUL padding": ("gzip", GZIP + bytes(4096), None),
    "gzip with garbage": ("gzip", GZIP + b"garbage", "followed by other"),
    "gzip with garbage behind padding": ("gzip", GZIP + bytes(2 << 20) + b"x", "followed by other"),
    "gzip with a second member": ("gzip", GZIP + gzip.compress(STREAM), "more than one"),
    "gzip cut off": ("gzip", GZIP[:-1], "too early"),
    "gzip cut off in its middle": ("gzip", GZIP[: len(GZIP) // 2], "too early"),
    "gzip with a wrong CRC": ("gzip", GZIP[:-8] + b"\0\0\0\0" + GZIP[-4:], "not a valid gzip"),
    "gzip with a wrong size": ("gzip", GZIP[:-4] + b"\1\1\1\1", "not a valid gzip"),
    "gzip with reserved flags": ("gzip", GZIP[:3] + b"\x80" + GZIP[4:], "unknown flags"),
    "gzip that is a plain tar": ("gzip", STREAM, "not a gzip file"),
    "gzip that is a zip": ("gzip", b"PK\x03\x04" + bytes(100), "not a gzip file"),
    "gzip that is empty": ("gzip", b"", "not a gzip file"),
    "gzip of two bytes": ("gzip", b"\x1f\x8b", "too early"),
    "bzip2": ("bzip2", bz2.compress(STREAM), None),
    "bzip2 in two streams (parallel packers)": ("bzip2", bz2.compress(PLAIN) + bz2.compress(END), None),
    "bzip2 with garbage": ("bzip2", bz2.compress(STREAM) + b"garbage", "not a valid bzip2"),
    "bzip2 cut off": ("bzip2", bz2.compress(STREAM)[:-4], "too early"),
    "bzip2 that is something else": ("bzip2", GZIP, "not a valid bzip2"),
    "bzip2 that is empty": ("bzip2", b"", "too early"),
    "xz": ("xz", lzma.compress(STREAM), None),
    "xz in two streams": ("xz", lzma.compress(PLAIN) + bytes(4) + lzma.compress(END), None),
    "xz with garbage": ("xz", lzma.compress(STREAM) + b"garbage of some length", "not a valid xz"),
    "xz cut off": ("xz", lzma.compress(STREAM)[:-4], "too early"),
    "xz that is lzma of old": ("xz", lzma.compress(STREAM, lzma.FORMAT_ALONE), "not a valid xz"),
    "xz with a dictionary of 1.5 GiB": ("xz", _large_dictionary(), "Memory usage limit"),
}  # fmt: skip


@pytest.mark.parametrize("what", STREAMS)
def test_compressed_streams_are_whole_and_alone(what: str, tmp_path: Path) -> None:
    """A damaged download is told from a good one, and a second archive does not hide behind the first."""
    compression, data, word = STREAMS[what]
    if word is None:
        assert [content for _, content in read(data, tmp_path / "t", compression)] == [b"one"]
    else:
        error = refused(data, tmp_path / "t", compression)
        assert word in f"{error.message}\n{error.context}"


def test_modes_and_times_are_told(tmp_path: Path) -> None:
    """A configure script that is not executable breaks the build."""
    entries = (
        tar_file("p-1/plain", mode=0o644),
        tar_file("p-1/program", mode=0o755),
        tar_file("p-1/suid", mode=0o4755, mtime=5),
        tar_pax(("mtime", "-7.5")) + tar_file("p-1/old"),
        tar_header("p-1/d/", 0, b"5", mode=0o1777),
    )
    members = [member for member, _ in read(b"".join(entries) + END, tmp_path / "t")]
    assert [member.executable for member in members] == [False, True, True, False, False]
    assert [member.mtime for member in members] == [WHEN, WHEN, 5, -7, WHEN]


LIMITS = {
    "too many entries": (ArchiveLimits(entries=3), tar_folder("p-1") * 4, "too many entries"),
    "too large": (ArchiveLimits(total=4096), tar_file("p-1/a", bytes(8192)), "too large"),
    "a bomb": (ArchiveLimits(ratio=10, ratio_from=1 << 20), tar_file("p-1/a", bytes(2 << 20)), "bomb"),
    "a bomb of names": (ArchiveLimits(ratio=10, ratio_from=1 << 16), tar_folder("p-1") * 400, "bomb"),
    "a bomb in the padding": (ArchiveLimits(ratio=10, ratio_from=1 << 20), END + bytes(2 << 20), "bomb"),
    "a bomb that nobody reads": (
        ArchiveLimits(ratio=10, ratio_from=1 << 20),
        tar_pax(("comment", "x" * 1000), kind=b"g") * 1000,
        "bomb",
    ),
}


@pytest.mark.parametrize("what", LIMITS)
@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
def test_bombs_are_refused(what: str, compression: Compression, tmp_path: Path) -> None:
    """A small download must not fill the disk (peers.md 6: zip bombs)."""
    limits, entries, word = LIMITS[what]
    data = compress(entries + END, ENDINGS[compression])
    assert word in refused(data, tmp_path / "t", compression, limits).message


def test_the_usual_limits_stop_a_real_bomb(tmp_path: Path) -> None:
    """The defaults, not just small ones: 200 MiB of NUL in 200 KB."""
    data = gzip.compress(tar_header("p-1/a", 200 << 20) + bytes(200 << 20) + END)
    assert "bomb" in refused(data, tmp_path / "t", "gzip").message


@pytest.mark.parametrize("compression", ["tar", "gzip", "bzip2", "xz"])
def test_memory_does_not_grow_with_a_file(compression: Compression, tmp_path: Path) -> None:
    """Invariant 9: an sdist of a gigabyte must not take a gigabyte of memory."""
    content = random.Random(3).randbytes(1 << 16) * (10 << 4)
    path = tmp_path / "t"
    tar = tar_file("p-1/a", content) + END
    # A small dictionary: the usual one of xz is 8 MiB, whatever the archive.
    path.write_bytes(
        lzma.compress(tar, preset=0) if compression == "xz" else compress(tar, ENDINGS[compression])
    )
    with TarReader(str(path), "p-1.tar", compression) as archive:
        tracemalloc.start()
        try:
            at, largest = 0, 0
            for _ in archive.members():
                for piece in archive.content():
                    assert piece == content[at : at + len(piece)]
                    at += len(piece)
                    largest = max(largest, len(piece))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert at == len(content)
    assert largest <= 1 << 20
    assert peak < 8 << 20


def test_content_may_be_left_unread(tmp_path: Path) -> None:
    """Whoever looks for one file must find the ones behind others."""
    path = tmp_path / "t"
    path.write_bytes(tar_file("p-1/a", bytes(3000)) + tar_file("p-1/b", b"b") + END)
    with TarReader(str(path), "p-1.tar", "tar") as archive:
        assert [member.name for member in archive.members()] == ["p-1/a", "p-1/b"]


def test_cancelled_reading_ends(tmp_path: Path) -> None:
    """Ctrl-C must not wait for a gigabyte to be unpacked."""
    path = tmp_path / "t"
    path.write_bytes(tar_file("p-1/a", bytes(8 << 20)) + END)
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 2

    with TarReader(str(path), "p-1.tar", "tar", cancelled=cancelled) as archive:
        with pytest.raises(PkgcError) as caught:
            for _ in archive.members():
                pass
    assert caught.value.code == "interrupted"
    assert caught.value.exit_status == 130
    assert len(asked) == 3


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_python_writes_what_is_read(form: int, tmp_path: Path) -> None:
    """Nearly all sdists are written by Python's tarfile, in one of its three formats."""
    names = [
        "p-1/plain",
        "p-1/" + "long" * 40,
        "p-1/" + "deep/" * 30 + "x",
        "p-1/ünïcode",
        "p-1/exactly" + "x" * 89,
    ]
    if form == tarfile.USTAR_FORMAT:
        names.remove("p-1/" + "long" * 40)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(name), WHEN + (0.5 if form == tarfile.PAX_FORMAT else 0)
            member.uid, member.uname = 1000, "user"
            tar.addfile(member, io.BytesIO(name.encode()[: member.size]))
    assert [member.name for member, _ in read(buffer.getvalue(), tmp_path / "t")] == names
