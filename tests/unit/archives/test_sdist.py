"""Source archives become folders: one folder at the top, plain files, links that stay inside."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from pkgc_daemon.archives.sdist import archive_format, extract_sdist
from pkgc_daemon.archives.sourcetree import EARLIEST, LATEST
from pkgc_daemon.archives.zipdirectory import ArchiveLimits
from pkgc_daemon.errors import PkgcError
from tests.support.sdists import (
    END,
    WHEN,
    compress,
    make_sdist,
    raw_tar,
    tar_file,
    tar_folder,
    tar_header,
    tar_link,
    tar_pax,
    tree_of,
)

ENDINGS = [".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar", ".zip"]


def extract(
    data: bytes, folder: Path, filename: str = "p-1.tar.gz", limits: ArchiveLimits | None = None
) -> Path:
    """`data` unpacked in `folder`; the top folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bytes"
    path.write_bytes(data)
    top = Path(extract_sdist(str(path), filename, str(folder / "into"), limits or ArchiveLimits()))
    assert top.is_absolute()
    assert top.parent == folder / "into"
    return top


def refused(data: bytes, folder: Path, filename: str = "p-1.tar.gz") -> PkgcError:
    """The error that unpacking `data` ends with."""
    with pytest.raises(PkgcError) as caught:
        extract(data, folder, filename)
    assert caught.value.code == "bad-archive"
    assert caught.value.message.startswith(f"{filename}: ")
    return caught.value


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same_tree(ending: str, tmp_path: Path) -> None:
    """Without it a project whose only release is in that format cannot be installed."""
    files = {"demo/__init__.py": "x = 1\n", "configure": "#!/bin/sh\n", "docs/ünïcode.txt": "text"}
    sdist = make_sdist("demo", "1.0", files, ending=ending, executable=["configure"])
    top = extract(sdist.data, tmp_path, sdist.filename)
    assert top.name == "demo-1.0"
    assert set(tree_of(top)) == {*files, "PKG-INFO", "pyproject.toml", "_build/tests_backend.py"}
    assert (top / "configure").read_text() == "#!/bin/sh\n"
    assert os.access(top / "configure", os.X_OK)
    assert not (top / "demo/__init__.py").stat().st_mode & 0o111
    assert (top / "configure").stat().st_mtime == WHEN, "wheels repeat only if their files' times do"


@pytest.mark.parametrize("ending", [".TAR.GZ", ".Zip"])
def test_upper_case_endings(ending: str, tmp_path: Path) -> None:
    """Old indexes have files whose names end in .ZIP; pip takes them."""
    sdist = make_sdist("demo", "1.0", ending=ending.lower())
    assert extract(sdist.data, tmp_path, "demo-1.0" + ending).name == "demo-1.0"


@pytest.mark.parametrize(
    "name",
    [
        "p-1.whl",
        "p-1.egg",
        "p-1.tar.zst",
        "p-1.tar.Z",
        "p-1.tar.lzma",
        "p-1.tar.lz",
        "p-1.rar",
        "p-1.gz",
        "p-1.exe",
        "p-1.deb",
        "p-1",
        "",
        ".tar.gz",
        "p-1.tar.gz.asc",
        "p-1.zip ",
    ],
)
def test_other_formats_are_named(name: str, tmp_path: Path) -> None:
    """The user must learn that it is the format, and which ones work."""
    path = tmp_path / "bytes"
    path.write_bytes(make_sdist("demo", "1.0").data)
    with pytest.raises(PkgcError) as caught:
        extract_sdist(str(path), name, str(tmp_path / "into"))
    assert caught.value.code == "unsupported-archive"
    assert ".tar.gz" in str(caught.value.context)
    assert not (tmp_path / "into").exists()


def test_the_longest_ending_counts() -> None:
    """'.tar.gz' is no '.gz', and a version may end in anything."""
    assert archive_format("p-1.zip.tar.gz") == "gzip"
    assert archive_format("p-1.tar.gz.zip") == "zip"


@pytest.mark.parametrize("wrong", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".zip"])
@pytest.mark.parametrize("right", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".zip"])
def test_the_name_decides_not_the_content(right: str, wrong: str, tmp_path: Path) -> None:
    """A guess by content is how one file became two archives (CVE-2026-3219)."""
    if right == wrong:
        pytest.skip("the same format")
    refused(make_sdist("p", "1", ending=right).data, tmp_path, "p-1" + wrong)


FILE = tar_file("p-1/a", b"one")

#: What is refused -> (entries, a word of the message).
SHAPES: dict[str, tuple[bytes, str]] = {
    "no entries": (b"", "empty"),
    "only './'": (tar_folder("./"), "empty"),
    "a file at the top": (tar_file("setup.py", b"x"), "one folder"),
    "a file beside the folder": (FILE + tar_file("setup.py", b"x"), "one folder"),
    "a file with the folder's name": (FILE + tar_file("p-1", b"x"), "one folder"),
    "two folders at the top": (FILE + tar_file("q-1/a"), "one folder"),
    "two folders in two cases": (FILE + tar_file("P-1/a"), "one folder"),
    "a second folder that is empty": (FILE + tar_folder("q-1"), "one folder"),
    "a folder whose name only begins so": (FILE + tar_file("p-1.evil/a"), "one folder"),
    "a link at the top": (FILE + tar_link("q", "p-1"), "one folder"),
    "a link in place of the folder": (tar_link("p-1", "q"), "one folder"),
    "a hard link at the top": (FILE + tar_link("q", "p-1/a", b"1"), "one folder"),
    "a file, then a folder": (FILE + tar_folder("p-1/a"), "both a file and a folder"),
    "a file, then something in it": (FILE + tar_file("p-1/a/b"), "both a file and a folder"),
    "a file, then something deep in it": (FILE + tar_file("p-1/a/b/c/d"), "both a file and a folder"),
    "a folder, then a file": (tar_folder("p-1/a") + FILE, "two kinds"),
    "something in a folder, then a file": (tar_file("p-1/a/b") + FILE, "two kinds"),
    "a file twice, other content": (FILE + tar_file("p-1/a", b"two"), "two contents"),
    "a file twice, the second longer": (FILE + tar_file("p-1/a", b"one more"), "two contents"),
    "a file twice, the second shorter": (FILE + tar_file("p-1/a", b"on"), "two contents"),
    "a file twice, the second empty": (FILE + tar_file("p-1/a"), "two contents"),
    "a file twice, one executable": (FILE + tar_file("p-1/a", b"one", mode=0o755), "two kinds"),
    "a file twice under two spellings": (FILE + tar_file("./p-1/a", b"two"), "two contents"),
    "a file twice, once by pax": (FILE + tar_pax(("path", "p-1/a")) + tar_file("x", b"two"), "two contents"),
    "a file, then a link": (FILE + tar_link("p-1/a", "b"), "two kinds"),
    "a link, then a file": (tar_link("p-1/a", "b") + FILE, "two kinds"),
    "a link twice, two targets": (tar_link("p-1/l", "a") + tar_link("p-1/l", "b"), "twice"),
    "a file below a link": (tar_link("p-1/l", ".") + tar_file("p-1/l/a"), "both a link and a folder"),
    "a folder in place of a link": (tar_link("p-1/l", ".") + tar_folder("p-1/l"), "both a link and a folder"),
    "a link in place of a folder": (tar_folder("p-1/l") + tar_link("p-1/l", "."), "two kinds"),
    "a hard link to nothing": (tar_link("p-1/h", "p-1/a", b"1"), "hard link"),
    "a hard link to a later file": (tar_link("p-1/h", "p-1/a", b"1") + FILE, "hard link"),
    "a hard link to itself": (tar_link("p-1/h", "p-1/h", b"1"), "hard link"),
    "a hard link to a folder": (tar_folder("p-1/d") + tar_link("p-1/h", "p-1/d", b"1"), "hard link"),
    "a hard link to a link": (tar_link("p-1/l", "a") + tar_link("p-1/h", "p-1/l", b"1"), "hard link"),
    "a hard link, then a file": (
        FILE + tar_link("p-1/h", "p-1/a", b"1") + tar_file("p-1/h", b"two"),
        "twice",
    ),
    "a file, then a hard link": (
        FILE + tar_file("p-1/h", b"two") + tar_link("p-1/h", "p-1/a", b"1"),
        "twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SHAPES)
def test_a_path_is_one_thing(what: str, tmp_path: Path) -> None:
    """Which of two entries wins differs by tool: the tree that was looked at is not the one that is built."""
    entries, word = SHAPES[what]
    assert word in refused(raw_tar(entries), tmp_path).message


FINE: dict[str, tuple[bytes, dict[str, bytes | str]]] = {
    "a folder twice": (tar_folder("p-1/d") * 2 + FILE, {"a": b"one", "d": "folder"}),
    "a folder after what is in it": (FILE + tar_folder("p-1"), {"a": b"one"}),
    "a file twice, the same": (FILE * 2, {"a": b"one"}),
    "a link twice, the same": (tar_link("p-1/l", "a") * 2, {"l": "-> a"}),
    "names in two cases": (FILE + tar_file("p-1/A", b"two"), {"a": b"one", "A": b"two"}),
    "a link to a file": (FILE + tar_link("p-1/l", "a"), {"a": b"one", "l": "-> a"}),
    "a link before its target": (tar_link("p-1/l", "a") + FILE, {"a": b"one", "l": "-> a"}),
    "a link up and down": (
        tar_file("p-1/d/e/f", b"x") + tar_link("p-1/d/l", "../d/e/f"),
        {"d/e/f": b"x", "d/l": "-> ../d/e/f"},
    ),
    "a link to the top": (tar_link("p-1/d/l", ".."), {"d/l": "-> .."}),
    "a link to nothing, inside": (tar_link("p-1/l", "not/there"), {"l": "-> not/there"}),
    "a link over a link": (
        tar_file("p-1/d/f", b"x") + tar_link("p-1/l", "d") + tar_link("p-1/m", "l/f"),
        {"d/f": b"x", "l": "-> d", "m": "-> l/f"},
    ),
    "a link whose target says '//' and '/.'": (tar_link("p-1/l", "d//e/./f/"), {"l": "-> d//e/./f/"}),
    "a hard link": (FILE + tar_link("p-1/h", "p-1/a", b"1"), {"a": b"one", "h": b"one"}),
    "a hard link to a hard link": (
        FILE + tar_link("p-1/h", "p-1/a", b"1") + tar_link("p-1/i", "p-1/h", b"1"),
        {"a": b"one", "h": b"one", "i": b"one"},
    ),
    "a hard link twice": (FILE + tar_link("p-1/h", "p-1/a", b"1") * 2, {"a": b"one", "h": b"one"}),
    "a name that begins with two dots": (tar_file("p-1/..a"), {"..a": b""}),
    "a name with blanks and quotes": (tar_file("p-1/ a '\"b "), {" a '\"b ": b""}),
    "a zero-width joiner": (tar_file("p-1/👩\u200d💻"), {"👩\u200d💻": b""}),
    "an empty top folder": (tar_folder("p-1"), {}),
}


@pytest.mark.parametrize("what", FINE)
def test_what_real_sdists_have_is_unpacked(what: str, tmp_path: Path) -> None:
    """Being strict must not cost projects that are harmless."""
    entries, expected = FINE[what]
    assert tree_of(extract(raw_tar(entries), tmp_path)) == expected


def test_modes_are_those_of_new_files(tmp_path: Path) -> None:
    """A setuid bit or a file that its owner may not read would come from a stranger."""
    entries = [
        tar_file(f"p-1/{mode:o}", mode=mode) for mode in (0, 0o200, 0o644, 0o666, 0o6755, 0o4711, 0o777)
    ]
    entries.append(tar_header("p-1/d/", 0, b"5", mode=0))
    entries.append(tar_header("p-1/e/", 0, b"5", mode=0o7777))
    top = extract(raw_tar(*entries), tmp_path)
    (tmp_path / "new").touch()
    plain = (tmp_path / "new").stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    for path in top.iterdir():
        mode = path.stat().st_mode & 0o7777
        if path.is_dir():
            assert mode == 0o777 & ~mask, path
        else:
            assert mode == (0o777 & ~mask if int(path.name, 8) & 0o111 else plain), path


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (0, EARLIEST),
        (5, EARLIEST),
        (WHEN, WHEN),
        (b"\xff" * 12, EARLIEST),
        (b"\x80" + b"\xff" * 11, LATEST),
        (b"77777777777\0", LATEST),
    ],
)
def test_times_are_those_that_a_wheel_can_hold(written: int | bytes, found: int, tmp_path: Path) -> None:
    """A build that copies a time before 1980 into a wheel fails; it is not the user's fault."""
    entries = tar_file("p-1/a", mtime=written) + tar_header("p-1/d/", 0, b"5", mtime=written)
    top = extract(raw_tar(entries + tar_file("p-1/d/later")), tmp_path)
    assert (top / "a").stat().st_mtime == found
    assert (top / "d").stat().st_mtime == found
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.write(top / "a")


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati"])
def test_bounded_times_fit_in_every_zone(zone: str, tmp_path: Path) -> None:
    """Zip times are local: 1980-01-01 UTC is 1979 in half of the world."""
    for seconds in (EARLIEST, LATEST):
        (tmp_path / "a").touch()
        os.utime(tmp_path / "a", (seconds, seconds))
        code = (
            "import zipfile; zipfile.ZipInfo.from_file('a').date_time; zipfile.ZipFile('z', 'w').write('a')"
        )
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"TZ": zone}, check=True)


def test_zip_times_and_programs(tmp_path: Path) -> None:
    """Zip sdists build the same wheel each time, and their scripts run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, date, mode in (
            ("p-1/a", (1980, 1, 1, 0, 0, 0), 0o100755),
            ("p-1/b", (2107, 12, 31, 23, 59, 58), 0),
        ):
            info = zipfile.ZipInfo(name, date)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, b"x")
        archive.writestr(zipfile.ZipInfo("p-1/d/", (2020, 1, 2, 3, 4, 6)), b"")
    data = bytearray(buffer.getvalue())
    top = extract(bytes(data), tmp_path, "p-1.zip")
    assert (top / "a").stat().st_mtime == EARLIEST
    assert (top / "b").stat().st_mtime == LATEST
    assert (top / "d").stat().st_mtime == 1_577_934_246
    assert os.access(top / "a", os.X_OK)


def test_a_zip_time_that_is_none(tmp_path: Path) -> None:
    """Some packers write month 0: the project is still good."""
    data = make_sdist("p", "1", ending=".zip").data
    at = data.index(b"PK\x01\x02")
    patched = data[: at + 12] + bytes(4) + data[at + 16 :]
    assert extract(patched, tmp_path, "p-1.zip").name == "p-1"


def test_zip_shapes_are_checked_too(tmp_path: Path) -> None:
    """The rule of one folder is of source archives, whatever the format."""
    for number, (names, word) in enumerate(
        [
            (["setup.py"], "one folder"),
            (["p-1/a", "q-1/a"], "one folder"),
            (["p-1/a", "p-1/a/b"], "both a file and a folder"),
            (["p-1/a/b", "p-1/a"], "two kinds"),
            ([], "empty"),
        ]
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        assert word in refused(buffer.getvalue(), tmp_path / str(number), "p-1.zip").message


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    """Whoever makes the work folder need not know how."""
    (tmp_path / "into").mkdir()
    assert extract(make_sdist("p", "1").data, tmp_path).name == "p-1"


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    """Unpacking over files of the user would mix two projects."""
    (tmp_path / "into").mkdir()
    (tmp_path / "into/mine").write_text("mine")
    with pytest.raises(PkgcError) as caught:
        extract(make_sdist("p", "1").data, tmp_path)
    assert caught.value.code == "unpack-failed"
    assert tree_of(tmp_path / "into") == {"mine": b"mine"}


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """Otherwise the tree lands where somebody else's link says."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").symlink_to("elsewhere")
    with pytest.raises(PkgcError) as caught:
        extract(make_sdist("p", "1").data, tmp_path)
    assert caught.value.code == "unpack-failed"
    assert tree_of(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("place", ["missing", "folder", "pipe"])
def test_an_archive_that_cannot_be_read(place: str, tmp_path: Path) -> None:
    """An error that names the file, and no thread that waits for a pipe's writer."""
    path = tmp_path / "p-1.tar.gz"
    if place == "folder":
        path.mkdir()
    elif place == "pipe":
        os.mkfifo(path)
    with pytest.raises(PkgcError) as caught:
        extract_sdist(str(path), path.name, str(tmp_path / "into"))
    assert caught.value.code == "file-unreadable"
    assert "p-1.tar.gz" in caught.value.message


def test_a_parent_that_is_missing(tmp_path: Path) -> None:
    """A stable code instead of a traceback."""
    path = make_sdist("p", "1").write_to(tmp_path)
    with pytest.raises(PkgcError) as caught:
        extract_sdist(str(path), path.name, str(tmp_path / "no/into"))
    assert caught.value.code == "unpack-failed"
    assert caught.value.hint is not None


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the user looks for a fault in the archive."""
    path = make_sdist("p", "1").write_to(tmp_path)

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PkgcError) as caught:
        extract_sdist(str(path), path.name, str(tmp_path / "into"))
    monkeypatch.undo()
    assert caught.value.code == "disk-full"
    assert "TMPDIR" in str(caught.value.hint)


def test_hard_links_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders on some filesystems have no hard links; the build needs the file all the same."""

    def none(source: str, target: str, *, follow_symlinks: bool) -> None:
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", none)
    top = extract(raw_tar(tar_file("p-1/a", b"one", mode=0o755), tar_link("p-1/h", "p-1/a", b"1")), tmp_path)
    assert (top / "h").read_bytes() == b"one"
    assert os.access(top / "h", os.X_OK)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_cancelled_unpacking_ends(ending: str, tmp_path: Path) -> None:
    """Ctrl-C ends a sync at once."""
    path = make_sdist("p", "1", ending=ending).write_to(tmp_path)
    with pytest.raises(PkgcError) as caught:
        extract_sdist(str(path), path.name, str(tmp_path / "into"), cancelled=lambda: True)
    assert caught.value.code == "interrupted"
    assert caught.value.exit_status == 130


def test_a_zip_within_a_tar_is_no_second_archive(tmp_path: Path) -> None:
    """Projects keep zips as test data; pip once took such sdists for zips (CVE-2026-3219)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", random.Random(1).randbytes(2000))
    entries = tar_file("p-1/data.zip", buffer.getvalue())
    for ending in (".tar", ".tar.gz"):
        assert extract(raw_tar(entries, ending=ending), tmp_path / ending, "p-1" + ending).name == "p-1"
    stored = gzip.compress(entries + END, compresslevel=0)
    assert b"PK\x05\x06" in stored
    assert extract(stored, tmp_path / "stored").name == "p-1"


def test_a_large_sdist_is_unpacked_in_a_second(tmp_path: Path) -> None:
    """Builds wait for it. In memory: how long a disk takes for 4,000 new files says nothing of the reader."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    source = random.Random(5)
    contents = {f"p-1/d{n // 100}/f{n}": source.randbytes(5_000) + bytes(5_000) for n in range(4_000)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    data = compress(buffer.getvalue(), ".tar.gz")
    assert len(data) > 20_000_000
    took = []
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for number in range(3):
            started = time.perf_counter()
            top = extract(data, Path(folder) / str(number))
            took.append(time.perf_counter() - started)
        assert (top / "d39/f3999").read_bytes() == contents["p-1/d39/f3999"]
    assert min(took) < 1, took
