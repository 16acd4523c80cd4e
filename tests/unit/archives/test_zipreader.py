"""A zip that can be read in two ways must not be read at all (standards.md 1.14)."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgc_daemon.archives.zipdirectory import ArchiveLimits
from pkgc_daemon.archives.zipreader import ZipReader
from pkgc_daemon.errors import PkgcError
from tests.support.wheels import ZipEntry, make_zip

PLAIN = make_zip([ZipEntry("a/one.txt", b"one " * 100), ZipEntry("b.txt", b"two")])


def read(data: bytes, path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Everything in `data`, read through `path`."""
    path.write_bytes(data)
    with ZipReader(str(path), "x.whl", limits or ArchiveLimits()) as archive:
        return {entry.name: b"".join(archive.chunks(entry)) for entry in archive.entries}


def refused(data: bytes, path: Path, limits: ArchiveLimits | None = None) -> PkgcError:
    """The error that reading `data` raises."""
    with pytest.raises(PkgcError) as caught:
        read(data, path, limits)
    assert caught.value.code == "bad-archive"
    assert caught.value.message.startswith("x.whl: ")
    assert caught.value.context is not None
    assert "expected" in caught.value.context
    assert "found" in caught.value.context
    return caught.value


def patch(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def central(data: bytes, number: int = 0) -> int:
    at = data.index(b"PK\x01\x02")
    for _ in range(number):
        at = data.index(b"PK\x01\x02", at + 4)
    return at


def end(data: bytes) -> int:
    return data.rindex(b"PK\x05\x06")


def test_plain_archives_are_read(tmp_path: Path) -> None:
    """Without it no wheel can be installed."""
    assert read(PLAIN, tmp_path / "z") == {"a/one.txt": b"one " * 100, "b.txt": b"two"}


def test_comments_and_folders_are_fine(tmp_path: Path) -> None:
    """design.md 8: comments in a zip are fine."""
    data = make_zip([ZipEntry("d/", b"", 0o40755), ZipEntry("d/x", b"1")], b"a comment")
    assert read(data, tmp_path / "z") == {"d": b"", "d/x": b"1"}


def test_large_entries_are_streamed_in_bounded_pieces(tmp_path: Path) -> None:
    """Memory must not grow with the size of a file (invariant 9)."""
    content = random.Random(1).randbytes(5_000_000)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / "z"
        path.write_bytes(make_zip([ZipEntry("x", content, compression=compression)]))
        with ZipReader(str(path), "x.whl") as archive:
            pieces = list(archive.chunks(archive.entries[0]))
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= 1 << 20


def streamed(force_zip64: bool = False) -> bytes:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *args: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(zipfile.ZipInfo("s.txt"), "w", force_zip64=force_zip64) as file:
            file.write(b"streamed" * 50)
    return buffer.getvalue()


@pytest.mark.parametrize("zip64", [False, True])
def test_data_descriptors_and_zip64_are_read_when_they_tell_the_truth(tmp_path: Path, zip64: bool) -> None:
    """Builders that stream write these; their wheels are good."""
    assert read(streamed(zip64), tmp_path / "z") == {"s.txt": b"streamed" * 50}


@pytest.mark.parametrize("zip64", [False, True])
def test_data_descriptors_that_lie_are_refused(tmp_path: Path, zip64: bool) -> None:
    """A streaming reader would believe the descriptor, another one the directory."""
    data = streamed(zip64)
    at = data.index(b"PK\x07\x08")
    refused(patch(data, at + 4, b"\0\0\0\0"), tmp_path / "z")
    refused(patch(data, at + 8, b"\x01"), tmp_path / "z")


def test_forced_zip64_local_headers_are_read(tmp_path: Path) -> None:
    """zipfile writes them for streams of unknown size; refusing them would refuse torch-like wheels."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        with archive.open("big.bin", "w", force_zip64=True) as file:
            file.write(b"12345")
    assert read(buffer.getvalue(), tmp_path / "z") == {"big.bin": b"12345"}


LIES: dict[str, Callable[[], bytes]] = {
    "empty file": lambda: b"",
    "not a zip": lambda: b"x" * 1000,
    "trailing bytes": lambda: PLAIN + b"\n",
    "trailing NULs": lambda: PLAIN + b"\0" * 8,
    "leading bytes": lambda: b"#!/bin/sh\n" + PLAIN,
    "two zips in a row": lambda: PLAIN + PLAIN,
    "a zip in the comment": lambda: make_zip([ZipEntry("a", b"1")], PLAIN),
    "end record with an empty directory": lambda: patch(PLAIN, end(PLAIN) + 12, b"\0\0\0\0"),
    "too few entries counted": lambda: patch(PLAIN, end(PLAIN) + 8, b"\1\0\1\0"),
    "too many entries counted": lambda: patch(PLAIN, end(PLAIN) + 8, b"\3\0\3\0"),
    "another disk": lambda: patch(PLAIN, end(PLAIN) + 4, b"\1\0"),
    "directory offset": lambda: patch(PLAIN, end(PLAIN) + 16, b"\1\0\0\0"),
    "local name differs": lambda: patch(PLAIN, PLAIN.index(b"a/one.txt"), b"a/two.txt"),
    "local size differs": lambda: patch(PLAIN, 22, b"\1"),
    "local crc differs": lambda: patch(PLAIN, 14, b"\1\2\3\4"),
    "local method differs": lambda: patch(PLAIN, 8, b"\0"),
    "directory crc differs": lambda: patch(PLAIN, central(PLAIN) + 16, b"\1\2\3\4"),
    "both crcs wrong": lambda: patch(patch(PLAIN, central(PLAIN) + 16, b"\1\2\3\4"), 14, b"\1\2\3\4"),
    "encrypted": lambda: patch(patch(PLAIN, central(PLAIN) + 8, b"\1"), 6, b"\1"),
    "unknown method": lambda: make_zip([ZipEntry("a", b"1" * 99, compression=zipfile.ZIP_BZIP2)]),
    "duplicate": lambda: make_zip([ZipEntry("a", b"1"), ZipEntry("a", b"2")]),
    "duplicate, same content": lambda: make_zip([ZipEntry("a", b"1"), ZipEntry("a", b"1")]),
    "file and folder of one name": lambda: make_zip([ZipEntry("a", b"1"), ZipEntry("a/", b"")]),
    "overlap": lambda: patch(PLAIN, central(PLAIN, 1) + 42, b"\0\0\0\0"),
    "gap": lambda: patch(PLAIN, central(PLAIN) + 42, b"\1\0\0\0"),
    "symlink": lambda: make_zip([ZipEntry("a", b"/etc/passwd", 0o120777)]),
    "device": lambda: make_zip([ZipEntry("a", b"", 0o020666)]),
    "fifo": lambda: make_zip([ZipEntry("a", b"", 0o010666)]),
    "folder with content": lambda: make_zip([ZipEntry("a/", b"content", 0o40755)]),
    "folder named like a file": lambda: make_zip([ZipEntry("a", b"", 0o40755)]),
}


@pytest.mark.parametrize("name", LIES)
def test_ambiguous_archives_are_refused(name: str, tmp_path: Path) -> None:
    """Each of these was accepted by some installer, and read otherwise by a scanner."""
    refused(LIES[name](), tmp_path / "z")


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/../x", "/etc/x", "a//b", "./a", "a/./b", "C:x", "c:/x", "a\\b", "\\\\host\\x", "a\x01b",
        "a\nb", "a\u202eb", "a\u200bb", "x/" * 100 + "x", "n" * 300, "..", ".", "a\x7f",
    ],
)  # fmt: skip
def test_names_that_leave_or_lie_are_refused(name: str, tmp_path: Path) -> None:
    """Otherwise a wheel writes outside the environment, or under another name than shown."""
    refused(make_zip([ZipEntry(name, b"1")]), tmp_path / "z")


def test_names_with_nul_or_without_encoding_are_refused(tmp_path: Path) -> None:
    """zipfile cuts names at NUL; cp437 and UTF-8 give two names for the same bytes."""
    data = make_zip([ZipEntry("aXb", b"1")])
    refused(data.replace(b"aXb", b"a\0b"), tmp_path / "z")
    refused(data.replace(b"aXb", b"a\xffb"), tmp_path / "z")
    refused(data.replace(b"aXb", "é!".encode()), tmp_path / "z")
    refused(make_zip([ZipEntry("é", b"1")]).replace("é".encode(), b"\xff\xfe"), tmp_path / "z")


def test_unicode_names_are_read(tmp_path: Path) -> None:
    """Packages with localized data files install."""
    assert set(read(make_zip([ZipEntry("pkg/ümlaut 名.txt", b"1")]), tmp_path / "z")) == {"pkg/ümlaut 名.txt"}


def test_a_second_name_in_an_extra_field_is_refused(tmp_path: Path) -> None:
    """Info-ZIP's Unicode path field renames the entry for readers that know it."""
    buffer = io.BytesIO()
    info = zipfile.ZipInfo("good.py")
    field = struct.pack("<BL", 1, zlib.crc32(b"good.py")) + b"evil.py"
    info.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"1")
    refused(buffer.getvalue(), tmp_path / "z")


def test_zip64_fields_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    """One reader takes the 32-bit size, another the 64-bit one."""
    buffer = io.BytesIO()
    info = zipfile.ZipInfo("a.py")
    info.extra = struct.pack("<HHQQ", 1, 16, 77, 77)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"1")
    refused(buffer.getvalue(), tmp_path / "z")


def test_bombs_are_refused(tmp_path: Path) -> None:
    """A small download must not fill the disk."""
    bomb = make_zip([ZipEntry("zeros", bytes(100 << 20))])
    refused(bomb, tmp_path / "z")
    limits = ArchiveLimits(ratio=10, ratio_from=1000)
    refused(make_zip([ZipEntry("zeros", bytes(100_000))]), tmp_path / "z", limits)
    many = make_zip([ZipEntry(f"f{number}", b"") for number in range(20)])
    refused(many, tmp_path / "z", ArchiveLimits(entries=10))
    refused(PLAIN, tmp_path / "z", ArchiveLimits(total=100))


def test_a_stream_longer_than_promised_is_cut_off(tmp_path: Path) -> None:
    """A header that promises 10 bytes over a stream of 100 MiB must not cost 100 MiB."""
    data = make_zip([ZipEntry("x", bytes(100 << 20))])
    for at in (22, central(data) + 24):
        data = patch(data, at, struct.pack("<L", 10))
    assert "x" in refused(data, tmp_path / "z").message


def test_data_after_the_deflate_stream_is_refused(tmp_path: Path) -> None:
    """Bytes that no reader shows are a place to hide things."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = packer.compress(b"x" * 50) + packer.flush() + b"hidden"
    data = make_zip([ZipEntry("x", raw, compression=zipfile.ZIP_STORED)])
    at = central(data)
    for local, wide, value in ((8, 10, b"\x08\0"), (14, 16, struct.pack("<L", zlib.crc32(b"x" * 50)))):
        data = patch(patch(data, local, value), at + wide, value)
    data = patch(patch(data, 22, struct.pack("<L", 50)), at + 24, struct.pack("<L", 50))
    refused(data, tmp_path / "z")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_an_error_never_a_crash_and_never_other_content(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever the bytes: the same files as the standard library sees, or ``bad-archive``."""
    broken = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(PLAIN) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(PLAIN)))
    raw = bytes(broken[:cut] if data.draw(st.booleans()) else broken)
    found, code = None, None
    try:
        found = read(raw, tmp_path / "z")
    except PkgcError as error:
        code = error.code
    if found is None:
        assert code == "bad-archive"
        return
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert found == {info.filename: archive.read(info) for info in archive.infolist()}


def test_no_file_descriptor_is_left_open(tmp_path: Path) -> None:
    """A daemon that is fed bad archives must not run out of descriptors."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        refused(PLAIN[:-5], tmp_path / "z")
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1
