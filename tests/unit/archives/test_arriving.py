"""Wheels that are unpacked while they arrive: the same tree as from the whole file, or nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgc_daemon.archives.arriving import Arriving, Disagreement
from pkgc_daemon.archives.wheel import unpack_wheel
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS
from pkgc_daemon.archives.zipreader import ZipReader
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Manifest
from tests.support.wheels import BuiltWheel, ZipEntry, make_wheel, record_hash

MIB = 1 << 20


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def text(seed: int, size: int) -> bytes:
    """Bytes that deflate well."""
    return (b"%d is a number of lines that look alike\n" % seed * (size // 30))[:size]


def demo(**changes: object) -> BuiltWheel:
    """A wheel with everything: small and large, code and data, executable, compiled."""
    given: dict[str, object] = {
        "files": {
            "demo/__init__.py": "x = 1\n",
            "demo/lib/big.so": noise(1, 3 * MIB) + text(1, 2 * MIB),
            "demo/lib/text.dat": text(2, 5 * MIB),
            "demo/é.txt": "text",
            "demo/empty": b"",
            "demo/__pycache__/x.pyc": noise(3, 1000),
            "demo/tool": "#!/bin/sh\n",
        },
        "data": {"scripts/run": "#!python\nprint()\n"},
        "executable": ["demo/tool", "demo/lib/big.so"],
        "entry_points": {"console_scripts": {"demo": "demo:main"}},
    }
    return make_wheel("demo", "1.0", **{**given, **changes})  # type: ignore[arg-type]


def arrive(path: Path, data: bytes, out: Path, cuts: list[int]) -> Arriving:
    """Let `data` arrive at `path`, and unpack at each of the cuts."""
    path.write_bytes(b"")
    arriving = Arriving(str(path), len(data), str(out))
    done = 0
    for cut in [*cuts, len(data)]:
        with path.open("ab") as file:
            file.write(data[done:cut])
        done = cut
        # What lies behind has been written, but not promised: it must not be looked at.
        arriving.advance(cut)
    arriving.finish()
    return arriving


def whole(path: Path, wheel: BuiltWheel, out: Path) -> Manifest:
    path.write_bytes(wheel.data)
    return unpack_wheel(str(path), wheel.filename, wheel.sha256, str(out))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in folder.rglob("*")
    }


def timeless(manifest: Manifest) -> list[object]:
    fields = [getattr(manifest, name) for name in Manifest.__slots__ if name != "files"]
    return [*fields, [entry._replace(mtime_ns=0, inode=0) for entry in manifest.files]]


def assert_same(tmp_path: Path, wheel: BuiltWheel, cuts: list[int], ahead: int | None = None) -> None:
    """Both ways give one tree; `ahead` is how many files must have been unpacked before the end."""
    expected = whole(tmp_path / "whole.whl", wheel, tmp_path / "whole")
    arriving = arrive(tmp_path / "part", wheel.data, tmp_path / "out", cuts)
    try:
        found = unpack_wheel(
            str(tmp_path / "part"), wheel.filename, wheel.sha256, str(tmp_path / "out"), arriving=arriving
        )
    finally:
        arriving.close()
    assert timeless(found) == timeless(expected)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    for entry in found.files:
        status = os.stat(tmp_path / "out" / entry.path)
        assert (status.st_mtime_ns, status.st_ino, status.st_size) == (
            entry.mtime_ns,
            entry.inode,
            entry.size,
        )
    if ahead is not None:
        assert len(arriving.files) == ahead


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("seed", range(4))
def test_however_it_is_cut_the_tree_is_the_same(tmp_path: Path, compression: int, seed: int) -> None:
    """Where the network pauses must not change what is installed."""
    wheel = demo(compression=compression)
    cuts = sorted(random.Random(seed).sample(range(len(wheel.data)), 40))
    cuts += [min(cuts[-1] + step, len(wheel.data)) for step in (1, 2, 3)]
    files = len(zipfile.ZipFile(io.BytesIO(wheel.data)).namelist()) - 1  # without the compiled one
    assert_same(tmp_path, wheel, sorted(cuts), ahead=files)


def test_byte_by_byte(tmp_path: Path) -> None:
    """Headers and descriptors come in pieces too."""
    wheel = make_wheel("demo", "1.0", {"demo.py": "x = 1\n", "data.txt": text(1, 500)})
    assert_same(tmp_path, wheel, list(range(len(wheel.data))), ahead=5)


class Pipe(io.RawIOBase):
    """Like standard output: a packer that writes here cannot go back to write sizes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += memoryview(data)  # type: ignore[arg-type]
        return len(memoryview(data))  # type: ignore[arg-type]


def streamed(wheel: BuiltWheel, *, zip64: bool = False) -> BuiltWheel:
    """The same wheel with data descriptors."""
    pipe = Pipe()
    with (
        zipfile.ZipFile(io.BytesIO(wheel.data)) as source,
        zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for info in source.infolist():
            fresh = zipfile.ZipInfo(info.filename, info.date_time)
            fresh.compress_type = zipfile.ZIP_DEFLATED
            fresh.external_attr = info.external_attr
            with target.open(fresh, "w", force_zip64=zip64) as out:
                out.write(source.read(info))
    data = bytes(pipe.data)
    return wheel._replace(data=data, sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("zip64", [False, True])
def test_sizes_that_only_a_descriptor_tells(tmp_path: Path, zip64: bool) -> None:
    """Packers that write to a pipe say sizes behind the data; their wheels are no slower for it."""
    wheel = streamed(demo(files={"demo/__init__.py": "", "demo/big.so": noise(5, 2 * MIB)}), zip64=zip64)
    assert_same(tmp_path, wheel, list(range(0, len(wheel.data), 100_003)), ahead=7)


def test_what_cannot_be_read_ahead_is_read_at_the_end(tmp_path: Path) -> None:
    """A stored member whose size is not told ends the work; the wheel is installed all the same."""
    wheel = demo(compression=zipfile.ZIP_STORED)
    data = bytearray(wheel.data)
    info = zipfile.ZipFile(io.BytesIO(wheel.data)).infolist()[1]
    data[info.header_offset + 6 : info.header_offset + 8] = struct.pack("<H", 8)
    arriving = arrive(tmp_path / "part", bytes(data), tmp_path / "out", [])
    assert len(arriving.files) == 1
    assert arriving.stopped
    arriving.close()


def test_inflating_is_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that was done while the bytes arrived must be missing at the end, or all of it was in vain."""
    wheel = demo()
    arriving = arrive(tmp_path / "part", wheel.data, tmp_path / "out", [MIB])
    read: list[str] = []
    real = ZipReader.chunks

    def chunks(self: ZipReader, entry: object) -> object:
        read.append(entry.name)  # type: ignore[attr-defined]
        return real(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(ZipReader, "chunks", chunks)
    unpack_wheel(
        str(tmp_path / "part"), wheel.filename, wheel.sha256, str(tmp_path / "out"), arriving=arriving
    )
    arriving.close()
    info = "demo-1.0.dist-info"
    records = {f"{info}/WHEEL", f"{info}/METADATA", f"{info}/RECORD", f"{info}/entry_points.txt"}
    assert set(read) == {"demo/__pycache__/x.pyc", *records}


# -- what is refused stays refused -------------------------------------------------------------------


def patch_local(data: bytes, name: str, at: int, value: bytes) -> bytes:
    """Change a local header, and leave the directory as it is."""
    offset = zipfile.ZipFile(io.BytesIO(data)).getinfo(name).header_offset
    return data[: offset + at] + value + data[offset + at + len(value) :]


def rename_local(data: bytes) -> bytes:
    return patch_local(data, "demo/lib/text.dat", 30, b"demo/lib/evil.dat")


def forge_crc(data: bytes) -> bytes:
    """In both places, so that only the content tells."""
    info = zipfile.ZipFile(io.BytesIO(data)).getinfo("demo/lib/text.dat")
    return data.replace(struct.pack("<L", info.CRC), struct.pack("<L", info.CRC ^ 1))


def forge_directory(data: bytes) -> bytes:
    """Another CRC in the directory only."""
    info = zipfile.ZipFile(io.BytesIO(data)).getinfo("demo/lib/text.dat")
    crc = struct.pack("<L", info.CRC)
    at = data.rindex(crc)
    return data[:at] + struct.pack("<L", info.CRC ^ 1) + data[at + 4 :]


def hide_member(data: bytes) -> bytes:
    """A member between the others that the directory does not name, with all offsets right."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("demo/hidden.py", "import os\n")
        archive.filelist[:] = [one for one in archive.filelist if one.filename != "demo/hidden.py"]
    return buffer.getvalue()


def cut_off(data: bytes) -> bytes:
    return data[:-10]


def flip_inside(data: bytes) -> bytes:
    """Damage in the middle of a deflate stream."""
    info = zipfile.ZipFile(io.BytesIO(data)).getinfo("demo/lib/big.so")
    at = info.header_offset + 2 * MIB
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage", [rename_local, forge_crc, forge_directory, hide_member, cut_off, flip_inside]
)
def test_two_readings_are_refused_as_ever(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A wheel that says one thing while it arrives and another in its directory could smuggle a file in."""
    good = demo()
    data = damage(good.data)
    assert data != good.data
    wheel = good._replace(data=data)
    with pytest.raises(PkgcError) as expected:
        whole(tmp_path / "whole.whl", wheel, tmp_path / "whole")
    arriving = arrive(tmp_path / "part", data, tmp_path / "out", [MIB, 2 * MIB])
    with pytest.raises((PkgcError, Disagreement)) as found:
        unpack_wheel(
            str(tmp_path / "part"), wheel.filename, wheel.sha256, str(tmp_path / "out"), arriving=arriving
        )
    arriving.close()
    if isinstance(found.value, PkgcError):
        assert found.value.code == expected.value.code == "bad-archive"


def test_a_file_that_only_arrived_is_not_in_the_tree(tmp_path: Path) -> None:
    """What was unpacked and is not in the directory must spoil the whole tree, not stay in it."""
    wheel = demo(files={"demo/__init__.py": "", "demo/a.py": "A"})
    arriving = arrive(tmp_path / "part", wheel.data, tmp_path / "out", [])
    arriving.tree.write("demo/extra.py", b"import os")
    arriving.files[10**9] = next(iter(arriving.files.values()))
    with pytest.raises(Disagreement):
        unpack_wheel(
            str(tmp_path / "part"), wheel.filename, wheel.sha256, str(tmp_path / "out"), arriving=arriving
        )
    arriving.close()


@pytest.mark.parametrize("lie", [record_hash(b"other"), None])
def test_record_is_held_against_what_arrived(tmp_path: Path, lie: str | None) -> None:
    """RECORD's claims hold for files that were written before RECORD was there, too."""
    wheel = demo(record_lies={"demo/lib/big.so": lie})
    arriving = arrive(tmp_path / "part", wheel.data, tmp_path / "out", [])
    with pytest.raises(PkgcError) as found:
        unpack_wheel(
            str(tmp_path / "part"), wheel.filename, wheel.sha256, str(tmp_path / "out"), arriving=arriving
        )
    arriving.close()
    assert found.value.code == "bad-wheel"
    assert "demo/lib/big.so" in str(found.value.message) + str(found.value.context)


def test_other_algorithms_of_record(tmp_path: Path) -> None:
    """RECORD may use sha512; such claims are not taken for granted because only sha256 was computed."""
    for content, good in ((b"x" * 100, True), (b"y" * 100, False)):
        digest = hashlib.sha512(b"x" * 100).digest()
        encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        wheel = make_wheel("demo", "1.0", {"demo.py": content}, record_lies={"demo.py": f"sha512={encoded}"})
        folder = tmp_path / str(good)
        folder.mkdir()
        arriving = arrive(folder / "part", wheel.data, folder / "out", [])
        call = (str(folder / "part"), wheel.filename, wheel.sha256, str(folder / "out"))
        if good:
            assert unpack_wheel(*call, arriving=arriving).name == "demo"
        else:
            with pytest.raises(PkgcError):
                unpack_wheel(*call, arriving=arriving)
        arriving.close()


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "demo/../../evil.py", "C:evil.py", "a\\b.py"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Bytes that nobody has verified yet must not be written anywhere but into the draft."""
    wheel = make_wheel("demo", "1.0", extra_zip_entries=[ZipEntry(name, b"evil")])
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    arriving = arrive(inside / "part", wheel.data, inside / "out", [])
    arriving.close()
    assert arriving.stopped
    assert not list(tmp_path.rglob("*evil*"))
    assert not any(path.name == "b.py" for path in tmp_path.rglob("*"))


def test_a_bomb_stops_early(tmp_path: Path) -> None:
    """A small file of zeros must not fill the disk before its hash is known to be wrong."""
    wheel = make_wheel("demo", "1.0", {"demo/zeros": bytes(256 * MIB)})
    assert len(wheel.data) < MIB
    arriving = arrive(tmp_path / "part", wheel.data, tmp_path / "out", [])
    arriving.close()
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written <= DEFAULT_LIMITS.ratio_from
    assert not (tmp_path / "out" / "demo" / "zeros").exists()


def test_one_path_twice(tmp_path: Path) -> None:
    """The second of two files of one name must not replace the first: the directory refuses both."""
    wheel = make_wheel("demo", "1.0", extra_zip_entries=[ZipEntry("demo/__init__.py", b"evil")])
    with pytest.raises(OSError):
        arrive(tmp_path / "part", wheel.data, tmp_path / "out", [])
