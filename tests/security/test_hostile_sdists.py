"""Hostile source archives: each is refused, and nothing outside the folder that it was unpacked into changed.

Advisories: standards.md 1.14 and peers.md section 6, as far as they concern tars and source archives.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgc_daemon.archives.sdist import extract_sdist
from pkgc_daemon.archives.zipdirectory import ArchiveLimits
from pkgc_daemon.errors import PkgcError
from tests.support.sdists import (
    END,
    GNU_MAGIC,
    make_sdist,
    padded,
    raw_tar,
    tar_file,
    tar_folder,
    tar_header,
    tar_link,
    tar_long,
    tar_pax,
    tree_of,
)
from tests.support.wheels import ZipEntry, make_zip

SECRET = b"the user's own"
SMALL = ArchiveLimits(entries=1000, total=32 << 20)


class Scene(NamedTuple):
    """A folder with things of the user around the place where an archive is unpacked."""

    root: Path
    into: Path

    def seen(self) -> dict[str, bytes | str]:
        """Everything but what is in `into`."""
        return {
            name: content
            for name, content in tree_of(self.root).items()
            if name != "work/into" and not name.startswith("work/into/")
        }


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """The place where archives are unpacked, and what must not change."""
    return make_scene(tmp_path)


def make_scene(root: Path) -> Scene:
    (root / "work").mkdir(parents=True)
    (root / "home/.ssh").mkdir(parents=True)
    (root / "home/.ssh/authorized_keys").write_bytes(SECRET)
    (root / "work/into-evil").mkdir()
    (root / "work/into-evil/file").write_bytes(SECRET)
    return Scene(root, root / "work/into")


def unpack(data: bytes, filename: str, scene: Scene, limits: ArchiveLimits = SMALL) -> str:
    archive = scene.root / "archive"
    archive.write_bytes(data)
    try:
        return extract_sdist(str(archive), filename, str(scene.into), limits)
    finally:
        archive.unlink()


def refuse(data: bytes, filename: str, scene: Scene, limits: ArchiveLimits = SMALL) -> PkgcError:
    """Unpack, see the refusal, and see that there is no trace of it anywhere but in its folder."""
    before = scene.seen()
    with pytest.raises(PkgcError) as caught:
        unpack(data, filename, scene, limits)
    assert scene.seen() == before
    assert_harmless(scene)
    assert caught.value.code == "bad-archive"
    assert caught.value.message.startswith(f"{filename}: ")
    assert caught.value.hint
    return caught.value


def assert_harmless(scene: Scene) -> None:
    """What a refusal leaves in the folder are plain files and folders of the user's, and no link."""
    for folder, folders, files in os.walk(scene.into):
        for name in folders + files:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            assert stat.S_ISDIR(mode) or stat.S_ISREG(mode), name
            assert not mode & 0o7000


A = tar_file("p-1/a", b"one")
UP = "../" * 10
KEYS = "home/.ssh/authorized_keys"

#: What is refused -> (entries, a word of the message).
TARS: dict[str, tuple[bytes, str]] = {
    # -- CVE-2025-8869, CVE-2025-45829 of pip; GHSA of tokio-tar: links that leave
    "a link to the root": (tar_link("p-1/l", "/") + tar_file("p-1/l/evil"), "leaves"),
    "a link to an absolute file": (tar_link("p-1/l", "/etc/passwd"), "leaves"),
    "a link one up, out of the top": (tar_link("p-1/l", ".."), "leaves"),
    "a link far up": (tar_link("p-1/l", UP + "home/.ssh"), "leaves"),
    "a link out and back in": (A + tar_link("p-1/l", "../p-1/a"), "leaves"),
    "a link to a neighbour with the same beginning (CVE-2026-1703)": (
        tar_link("p-1/l", "../../into-evil/file"),
        "leaves",
    ),
    "a link to a neighbour of the top": (tar_link("p-1/l", "../p-1-evil"), "leaves"),
    "a link that leaves by another link": (
        tar_link("p-1/d/up", "..") + tar_link("p-1/out", "d/up/.."),
        "leaves",
    ),
    "a link that leaves by a link that comes later": (
        tar_link("p-1/out", "d/e/..") + tar_link("p-1/d/e", ".."),
        "leaves",
    ),
    "a link that leaves by a chain (CVE-2025-4517)": (
        b"".join(tar_link(f"p-1/{chr(98 + n)}", chr(97 + n)) for n in range(10))
        + tar_folder("p-1/a")
        + tar_link("p-1/out", "k/../../x"),
        "leaves",
    ),
    "a link whose text stays in and which leaves": (
        tar_link("p-1/x/y/z", "../..") + tar_link("p-1/out", "x/y/z/../.."),
        "leaves",
    ),
    "a link by a pax record": (tar_pax(("linkpath", UP + "home")) + tar_link("p-1/l", "a"), "leaves"),
    "an absolute link by a pax record": (tar_pax(("linkpath", "/home")) + tar_link("p-1/l", "a"), "leaves"),
    "a link by a long link": (tar_long(UP + "home", b"K") + tar_link("p-1/l", "a"), "leaves"),
    "a link to itself": (tar_link("p-1/l", "l"), "nowhere"),
    "two links in a circle": (tar_link("p-1/a", "b") + tar_link("p-1/b", "a"), "nowhere"),
    "links in a circle with folders": (tar_link("p-1/a", "b/c") + tar_link("p-1/b", "a/d"), "nowhere"),
    "a chain of a thousand links": (
        b"".join(tar_link(f"p-1/l{n}", f"l{n + 1}") for n in range(900)),
        "nowhere",
    ),
    "links that double (2^30 steps)": (
        tar_folder("p-1/l0")
        + b"".join(tar_link(f"p-1/l{n + 1}", f"l{n}/../l{n}") for n in range(30)),
        "nowhere",
    ),
    "a link of nothing": (tar_link("p-1/l", ""), "empty"),
    "a link with a NUL": (tar_pax(("linkpath", "a\0b")) + tar_link("p-1/l", "a"), "NUL"),
    "a link with a line break": (tar_link("p-1/l", "a\nb"), "control"),
    "a link with a backslash": (tar_link("p-1/l", "..\\..\\evil"), "Windows"),
    "a link of 3,000 bytes": (tar_pax(("linkpath", "x" * 3000)) + tar_link("p-1/l", "a"), "too long"),
    "a link of 64 levels": (tar_pax(("linkpath", "d/" * 64 + "x")) + tar_link("p-1/l", "a"), "too long"),
    # -- writing through links (CVE-2007-4559, CVE-2025-8869)
    "a file through a link": (tar_link("p-1/l", "d") + tar_folder("p-1/d") + tar_file("p-1/l/evil"), "link"),
    "a file through a link that leaves": (tar_link("p-1/l", UP) + tar_file("p-1/l/home/evil"), "link"),
    "a file in place of a link": (tar_link("p-1/l", UP + KEYS) + tar_file("p-1/l", b"k"), "two kinds"),
    "a link in place of a file": (tar_file("p-1/l", b"k") + tar_link("p-1/l", UP), "two kinds"),
    "a folder in place of a link": (tar_link("p-1/l", UP) + tar_folder("p-1/l/"), "link"),
    "a link in place of the top": (tar_link("p-1", ".") + tar_file("p-1/x"), "one folder"),
    "the top in place of a link": (tar_link("q/..", "x"), "not plain"),
    "a hard link through a link": (A + tar_link("p-1/l", "d") + tar_link("p-1/l/h", "p-1/a", b"1"), "link"),
    # -- hard links
    "a hard link to a file of the user": (tar_link("p-1/h", UP + KEYS, b"1"), "leaves"),
    "a hard link to an absolute path": (tar_link("p-1/h", "/etc/passwd", b"1"), "leaves"),
    "a hard link that is then written": (
        A + tar_link("p-1/h", "p-1/a", b"1") + tar_file("p-1/h", b"evil"),
        "twice",
    ),
    "a hard link to a link": (tar_link("p-1/l", UP + "home") + tar_link("p-1/h", "p-1/l", b"1"), "hard link"),
    "a hard link through a link that leaves": (
        tar_link("p-1/l", UP) + tar_link("p-1/h", "p-1/l/home/.ssh/authorized_keys", b"1"),
        "hard link",
    ),
    "a hard link to a file beside": (tar_link("p-1/h", "into-evil/file", b"1"), "hard link"),
    # -- names
    "an absolute name": (tar_file("/home/evil"), "leaves"),
    "a name that goes up": (tar_file(UP + "home/evil"), "leaves"),
    "a name that goes up inside": (A + tar_file("p-1/../../into-evil/file", b"x"), "leaves"),
    "a name that goes up by pax": (tar_pax(("path", UP + "home/evil")) + A, "leaves"),
    "a name that goes up by a long name": (tar_long(UP + "home/evil") + A, "leaves"),
    "a top called '..'": (tar_folder(".."), "leaves"),
    "the folder itself as a top": (tar_folder(".") + tar_file("./x"), "one folder"),
    # -- size smuggling
    "CVE-2025-62518 and GHSA-w476-p2h3-79g9: pax size over a header's zero": (
        tar_pax(("size", "1024")) + tar_header("p-1/x.tar", 0) + tar_file("p-1/evil", b"x" * 512),
        "two sizes",
    ),
    "GHSA-3wgq-wrwc-vqmv: a header's size over pax zero": (
        tar_pax(("size", "0")) + tar_file("p-1/x.tar", padded(tar_file("p-1/evil", b"x"))),
        "two sizes",
    ),
    "GHSA-3cv2-h65g-fgmm: a pax record that is not whole": (
        tar_pax(b"30 path=p-1/x\n") + tar_file("p-1/x"),
        "malformed",
    ),
    "a global size": (tar_pax(("size", "512"), kind=b"g") + A, "global"),
    "a global path": (tar_pax(("path", "p-1/evil"), kind=b"g") + A, "global"),
    "a sparse map": (tar_header("p-1/x", 512, b"S", magic=GNU_MAGIC) + bytes(512), "sparse"),
    # -- special files
    "a device": (tar_header("p-1/mem", 0, b"3"), "device"),
    "a block device": (tar_header("p-1/sda", 0, b"4"), "device"),
    "a pipe": (tar_header("p-1/pipe", 0, b"6"), "pipe"),
    # -- two trees in one
    "an entry behind the end": (A + END + tar_file("p-1/evil"), "follow its end"),
    "a second top": (A + tar_file("q-1/a"), "one folder"),
    "a file twice": (A + tar_file("p-1/a", b"two"), "two contents"),
    # -- too much
    "more entries than allowed": (b"".join(tar_file(f"p-1/{n}") for n in range(1001)), "too many"),
    "more bytes than allowed": (tar_file("p-1/a", bytes(33 << 20)), "too large"),
    "more links than steps": (b"".join(tar_link(f"p-1/{n}", f"{n + 1}") for n in range(999)), "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("what", TARS)
def test_hostile_tars_change_nothing(what: str, scene: Scene) -> None:
    """Accepted, a stranger's archive writes into the user's files, or the build is not what was audited."""
    entries, word = TARS[what]
    assert (
        word
        in refuse(
            raw_tar(tar_folder("p-1") if what.startswith("more ") else b"", entries), "p-1.tar.gz", scene
        ).message
    )


ZIPS: dict[str, bytes] = {
    "a name that goes up": make_zip([ZipEntry(UP + "home/evil", b"x")]),
    "a name that goes up inside": make_zip([ZipEntry("p-1/../../into-evil/file", b"x")]),
    "an absolute name": make_zip([ZipEntry("/home/evil", b"x")]),
    "a drive": make_zip([ZipEntry("C:/evil", b"x")]),
    "a backslash": make_zip([ZipEntry("p-1\\..\\..\\evil", b"x")]),
    "a symbolic link": make_zip([ZipEntry("p-1/l", b"../../home", 0o120777)]),
    "a pipe": make_zip([ZipEntry("p-1/l", b"", 0o010644)]),
    "a name twice (GHSA-pqhf-p39g-3x64)": make_zip([ZipEntry("p-1/a", b"1"), ZipEntry("p-1/a", b"2")]),
    "bytes before (CVE-2025-54368)": b"evil" + make_zip([ZipEntry("p-1/a", b"1")]),
    "bytes behind": make_zip([ZipEntry("p-1/a", b"1")]) + b"evil",
    "two zips in a row": make_zip([ZipEntry("p-1/evil", b"1")]) + make_zip([ZipEntry("p-1/a", b"1")]),
    "a file below a file": make_zip([ZipEntry("p-1/a", b"1"), ZipEntry("p-1/a/b", b"2")]),
    "two tops": make_zip([ZipEntry("p-1/a", b"1"), ZipEntry("q-1/a", b"2")]),
    "more entries than allowed": make_zip([ZipEntry(f"p-1/{n}", b"") for n in range(1001)]),
    "more bytes than allowed": make_zip([ZipEntry("p-1/a", bytes(33 << 20))]),
    "a directory that is said to be empty": make_zip([ZipEntry("p-1/a", b"1")])[:-22]
    + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("what", ZIPS)
def test_hostile_zips_change_nothing(what: str, scene: Scene) -> None:
    """A .zip sdist is read by the same strict reader as wheels."""
    refuse(ZIPS[what], "p-1.zip", scene)


GOOD_TAR = raw_tar(A)
GOOD_ZIP = make_zip([ZipEntry("p-1/evil", b"evil")])


def _zip_after(data: bytes, comment: bytes = b"") -> bytes:
    """`data`, then a zip whose offsets count from the start of the whole file."""
    buffer = io.BytesIO(data)
    buffer.seek(0, os.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("p-1/evil", b"evil")
        archive.comment = comment
    return buffer.getvalue()


def _gzip_around_a_zip() -> bytes:
    """A valid gzip file (zip in its extra field), read by others as a zip with a long comment."""
    body = gzip.compress(raw_tar(A, ending=".tar"), mtime=0)
    zipped = make_zip([ZipEntry("p-1/evil", b"evil")], comment=bytes(len(body) - 10))[: -(len(body) - 10)]
    extra = b"ZZ" + struct.pack("<H", len(zipped)) + zipped
    return body[:3] + b"\x04" + body[4:10] + struct.pack("<H", len(extra)) + extra + body[10:]


def _tar_in_a_zip() -> bytes:
    """A good zip whose first block is a tar header: its local header begins the tar's first name."""
    name = b"p-1/a"
    # Sizes and CRC-32 follow in a descriptor, so that the block does not depend on what it is a part of.
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 8, 0, 0, 33, 0, 0, 0, len(name), 0) + name
    block = bytearray(tar_header("x", 0))
    block[: len(local)] = local
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    content = bytes(block[len(local) :]) + END
    crc, size = zlib.crc32(content), len(content)
    descriptor = struct.pack("<4s3L", b"PK\x07\x08", crc, size, size)
    central = struct.pack(
        "<4s2B5H3L5H2L", b"PK\x01\x02", 20, 3, 20, 8, 0, 0, 33, crc, size, size, len(name), 0, 0, 0, 0, 0, 0
    )
    start = len(local) + size + len(descriptor)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + len(name), start, 0)
    return local + content + descriptor + central + name + end


EXTRA = "a gzip with a zip in its extra field, whose comment is the rest"
POLYGLOTS: dict[str, tuple[bytes, str, str]] = {
    "a .tar.gz and then a zip": (_zip_after(GOOD_TAR), "p-1.tar.gz", "zip"),
    "a .tar.gz and then a zip that counts from its own start": (GOOD_TAR + GOOD_ZIP, "p-1.tar.gz", "zip"),
    "a .tar.gz and then an empty zip": (GOOD_TAR + make_zip([]), "p-1.tar.gz", "zip"),
    "a .tar.gz and then a zip with a comment": (_zip_after(GOOD_TAR, b"c" * 60_000), "p-1.tar.gz", "zip"),
    EXTRA: (_gzip_around_a_zip(), "p-1.tar.gz", "zip"),
    "a .tar and then a zip": (_zip_after(raw_tar(A, ending=".tar")), "p-1.tar", "zip"),
    "a .tar.bz2 and then a zip": (_zip_after(raw_tar(A, ending=".tar.bz2")), "p-1.tar.bz2", "zip"),
    "a .tar.xz and then a zip": (_zip_after(raw_tar(A, ending=".tar.xz")), "p-1.tar.xz", "zip"),
    "a .zip behind a tar": (_zip_after(raw_tar(A, ending=".tar")), "p-1.zip", ""),
    "a .zip behind a .tar.gz": (_zip_after(GOOD_TAR), "p-1.zip", ""),
    "a zip that is called .tar.gz": (GOOD_ZIP, "p-1.tar.gz", "zip"),
    "a tar that is called .zip": (raw_tar(A, ending=".tar"), "p-1.zip", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", POLYGLOTS)
def test_a_file_is_one_archive(what: str, scene: Scene) -> None:
    """CVE-2026-3219: an index's scan sees the tar, the installer builds the zip."""
    data, filename, word = POLYGLOTS[what]
    assert word in refuse(data, filename, scene).message


@pytest.mark.parametrize(
    "what",
    [*(what for what in POLYGLOTS if what.startswith("a .tar")), EXTRA],
)
def test_the_polyglots_are_polyglots(what: str, tmp_path: Path) -> None:
    """A table of files that nobody reads in two ways would prove nothing."""
    data, _, _ = POLYGLOTS[what]
    path = tmp_path / "x"
    path.write_bytes(data)
    assert zipfile.is_zipfile(path)
    with zipfile.ZipFile(path) as archive:
        assert "p-1/evil" in archive.namelist() or archive.namelist() == []
    if "bz2" not in what and "xz" not in what:
        with tarfile.open(path, "r:gz" if "gz" in what else "r:") as tar:
            assert tar.getnames() == ["p-1/a"]


def test_a_zip_that_is_a_tar_as_well(scene: Scene, tmp_path: Path) -> None:
    """CVE-2026-3219 the other way round: the zip is good, and its first block is a tar header."""
    data = _tar_in_a_zip()
    (tmp_path / "x").write_bytes(data)
    assert zipfile.ZipFile(tmp_path / "x").namelist() == ["p-1/a"]
    assert tarfile.TarInfo.frombuf(data[:512], "utf-8", "surrogateescape").isreg()
    assert "tar archive as well" in refuse(data, "p-1.zip", scene).message


def test_two_links_to_the_outside_leave_no_link(scene: Scene) -> None:
    """Links are made last: a good one before a bad one is not there either."""
    entries = A + tar_link("p-1/good", "a") + tar_link("p-1/bad", "../..")
    refuse(raw_tar(entries), "p-1.tar.gz", scene)
    assert tree_of(scene.into) == {"p-1/a": b"one"}


def test_an_escape_sequence_in_a_name_is_not_printed(scene: Scene) -> None:
    """A message with it would rewrite the user's terminal."""
    for entries in (
        tar_file("p-1/\x1b]0;evil\x07"),
        tar_link("p-1/l", "/\x1b[2J"),
        tar_link("p-1/l", "\x1b[2J"),
    ):
        error = refuse(raw_tar(entries), "p-1.tar.gz", scene)
        assert "\x1b" not in f"{error.message}{error.context}"


BASE = b"".join(
    (
        tar_pax(("comment", "c"), kind=b"g"),
        tar_folder("p-1"),
        tar_file("p-1/a", b"one" * 300),
        tar_pax(("path", "p-1/" + "long/" * 30 + "x"), ("mtime", "1.5")) + tar_file("p-1/short", b"x"),
        tar_long("p-1/" + "name/" * 30 + "y") + tar_file("p-1/y", b"y", magic=GNU_MAGIC),
        tar_link("p-1/l", "a"),
        tar_link("p-1/d/up", "../a"),
        tar_link("p-1/h", "p-1/a", b"1"),
        END,
    )
)
FRAGMENTS = [
    b"..",
    b"/",
    b"../",
    b"./",
    b"\0",
    b"size=",
    b"path=",
    b"512",
    b"\xff",
    b"\x80",
    *b"0123567xgLKSD".split(),
]
FRAGMENTS += [bytes([one]) for one in b"0123567xgLKSD"]


def _mended(data: bytearray) -> bytes:
    """Right checksums for what looks like headers: otherwise every change ends at the first check."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


CHANGE = st.tuples(
    st.integers(0, len(BASE) // 512 - 3),
    st.sampled_from(
        [0, 0, 1, 2, 3, 4, 5, 10, 100, 124, 130, 134, 136, 148, 156, 156, 157, 158, 257, 263, 345, 500]
    ),
    st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=12),
)
CUT = st.tuples(st.integers(0, len(BASE) // 512 - 1), st.integers(1, 3), st.integers(0, len(BASE) // 512 - 1))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(CHANGE, min_size=1, max_size=4),
    moves=st.lists(CUT, max_size=2),
    mend=st.booleans() | st.just(True),
)
def test_mutated_tars_are_read_or_refused(
    changes: list[tuple[int, int, bytes]],
    moves: list[tuple[int, int, int]],
    mend: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nothing but a PkgcError, nothing outside, and the links of what is accepted stay inside."""
    data = bytearray(BASE)
    for block, offset, value in changes:
        at = block * 512 + offset
        data[at : at + len(value)] = value
    for start, count, to in moves:
        piece = data[start * 512 : (start + count) * 512]
        data[to * 512 : to * 512] = piece
    check_anything(_mended(data) if mend else bytes(data), "p-1.tar", tmp_path_factory)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 32),
    ending=st.sampled_from([".tar.gz", ".tar.bz2", ".tar.xz", ".zip"]),
    count=st.integers(1, 6),
)
def test_damaged_archives_are_read_or_refused(
    seed: int, ending: str, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any damage of a download is an error with a code, not a traceback."""
    source = random.Random(seed)
    data = bytearray(make_sdist("p", "1", ending=ending).data)
    for _ in range(count):
        if source.random() < 0.3:
            del data[source.randrange(len(data)) :]
            data += source.randbytes(source.randrange(1, 30))
        else:
            data[source.randrange(len(data))] = source.randrange(256)
    check_anything(bytes(data), "p-1" + ending, tmp_path_factory)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.dictionaries(
        st.sampled_from(["a", "b", "c", "d/a", "d/b", "d/e/a"]),
        st.lists(st.sampled_from(["..", ".", "a", "b", "c", "d", "e", ""]), min_size=1, max_size=6).map(
            "/".join
        ),
        min_size=1,
        max_size=5,
    )
)
def test_links_go_where_the_kernel_goes(
    links: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where a link leads is computed before there is one: it must be what the kernel will do."""
    entries = tar_folder("p-1/d/e") + b"".join(tar_link(f"p-1/{name}", text) for name, text in links.items())
    check_anything(raw_tar(entries), "p-1.tar.gz", tmp_path_factory)


def check_anything(data: bytes, filename: str, factory: pytest.TempPathFactory) -> None:
    """Unpack, whatever comes of it."""
    scene = make_scene(factory.mktemp("scene"))
    before = scene.seen()
    refusal = None
    try:
        top = unpack(data, filename, scene)
    except PkgcError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == "bad-archive"
        assert refusal.message.isprintable()
        assert_harmless(scene)
    else:
        real = os.path.realpath(top)
        assert real == top
        assert os.listdir(scene.into) == [os.path.basename(top)]
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                leads = os.path.realpath(os.path.join(folder, name))
                assert leads == top or leads.startswith(top + "/"), (name, leads)
                mode = os.lstat(os.path.join(folder, name)).st_mode
                assert stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
    assert scene.seen() == before
