"""A wheel is whole, says the truth about itself and stays in its place, or it never reaches the store."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pkgc_daemon.archives.manifest import manifest_from_bytes, manifest_to_bytes
from pkgc_daemon.archives.wheel import data_path_problem, same_version, unpack_wheel, wheel_identity
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Manifest
from tests.support.wheels import BuiltWheel, ZipEntry, make_wheel, make_zip, record_hash


def unpack(wheel: BuiltWheel, tmp_path: Path) -> Manifest:
    path = wheel.write_to(tmp_path / "in")
    return unpack_wheel(str(path), wheel.filename, wheel.sha256, str(tmp_path / "out"))


def refused(wheel: BuiltWheel, tmp_path: Path, code: str = "bad-wheel") -> PkgcError:
    with pytest.raises(PkgcError) as caught:
        unpack(wheel, tmp_path)
    assert caught.value.code == code, caught.value
    assert wheel.filename in caught.value.message
    assert caught.value.context is not None
    assert caught.value.context.startswith("expected ")
    return caught.value


def test_a_good_wheel_becomes_files_and_a_manifest(tmp_path: Path) -> None:
    """The whole purpose."""
    wheel = make_wheel(
        "Foo.Bar",
        "1.0",
        {"foo_bar/__init__.py": "x = 1\n", "foo_bar/tool": b"#!/bin/sh\n"},
        data={"scripts/run": "#!python\n", "data/share/x.txt": "x", "headers/foo.h": "y"},
        executable=["foo_bar/tool"],
        entry_points={
            "console_scripts": {"foo": "foo_bar:main [extra]"},
            "gui_scripts": {"bar": "foo_bar : b.c"},
        },
        root_is_purelib=False,
    )
    manifest = unpack(wheel, tmp_path)
    assert (manifest.name, manifest.version, manifest.sha256) == ("foo-bar", "1.0", wheel.sha256)
    assert manifest.dist_info == "foo_bar-1.0.dist-info"
    assert manifest.data_dir == "foo_bar-1.0.data"
    assert manifest.root_is_purelib is False
    assert manifest.console_scripts == (("foo", "foo_bar:main"),)
    assert manifest.gui_scripts == (("bar", "foo_bar:b.c"),)
    assert [entry.path for entry in manifest.files] == sorted(entry.path for entry in manifest.files)
    on_disk = {
        os.path.relpath(os.path.join(folder, name), tmp_path / "out")
        for folder, _, names in os.walk(tmp_path / "out")
        for name in names
    }
    assert on_disk == {entry.path for entry in manifest.files}
    for entry in manifest.files:
        path = tmp_path / "out" / entry.path
        status = path.stat()
        assert (entry.size, entry.mtime_ns, entry.inode) == (
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
        )
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert stat.S_IMODE(status.st_mode) == (0o555 if entry.path == "foo_bar/tool" else 0o444)
        assert entry.executable is (entry.path == "foo_bar/tool")
    assert manifest_from_bytes(manifest_to_bytes(manifest)) == manifest


def test_a_strict_umask_does_not_make_the_store_unreadable(tmp_path: Path) -> None:
    """With umask 077 other users of a shared cache could read nothing."""
    before = os.umask(0o077)
    try:
        manifest = unpack(make_wheel("a", "1", {"a/b/c.py": "", "a/x": ""}, executable=["a/x"]), tmp_path)
    finally:
        os.umask(before)
    modes = {
        entry.path: stat.S_IMODE((tmp_path / "out" / entry.path).stat().st_mode) for entry in manifest.files
    }
    assert modes["a/b/c.py"] == 0o444
    assert modes["a/x"] == 0o555
    assert {stat.S_IMODE((tmp_path / "out" / p).stat().st_mode) for p in (".", "a", "a/b")} == {0o755}


@pytest.mark.parametrize("algorithm", ["sha384", "sha512", "blake2b"])
def test_record_may_use_better_hashes_than_sha256(tmp_path: Path, algorithm: str) -> None:
    """W6: sha256 or better; flit and others may choose."""
    import base64

    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, b"x = 1").digest()).rstrip(b"=").decode()
    wheel = make_wheel("a", "1", {"a.py": "x = 1"}, record_lies={"a.py": f"{algorithm}={digest}"})
    assert "a.py" in {entry.path for entry in unpack(wheel, tmp_path).files}
    other = make_wheel("a", "1", {"a.py": "x = 2"}, record_lies={"a.py": f"{algorithm}={digest}"})
    refused(other, tmp_path / "other")


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    """RECORD hashes are verified in the one pass (invariant 6, W6)."""
    lie = record_hash(b"something else")
    error = refused(make_wheel("a", "1", {"a.py": "x = 1"}, record_lies={"a.py": lie}), tmp_path)
    assert "a.py" in error.message
    assert hashlib.sha256(b"something else").hexdigest() in (error.context or "")


DIST = "a-1.dist-info"
BAD: dict[str, Callable[[], BuiltWheel]] = {
    "file not in RECORD": lambda: make_wheel("a", "1", {"a.py": ""}, record_lies={"a.py": None}),
    "entry not in RECORD": lambda: make_wheel("a", "1", extra_zip_entries=[ZipEntry("evil.py", b"1")]),
    "RECORD lists a missing file": lambda: make_wheel("a", "1", record_lies={"gone.py": record_hash(b"")}),
    "RECORD without hash": lambda: make_wheel("a", "1", {"a.py": ""}, record_lies={"a.py": ""}),
    "RECORD with md5": lambda: make_wheel("a", "1", {"a.py": ""}, record_lies={"a.py": "md5=1B2M2Y8"}),
    "RECORD is not CSV": lambda: make_wheel("a", "1", record=b"a,b\n"),
    "RECORD is not UTF-8": lambda: make_wheel("a", "1", record=b"\xff\xfe,,\n"),
    "no dist-info": lambda: make_wheel("a", "1", dist_info="a-1.info"),
    "dist-info of another project": lambda: make_wheel("a", "1", dist_info="b-1.dist-info"),
    "dist-info of another version": lambda: make_wheel("a", "1", dist_info="a-2.dist-info"),
    "two dist-infos": lambda: make_wheel("a", "1", {"b-1.dist-info/METADATA": "Name: b\n"}),
    "METADATA of another project": lambda: make_wheel("a", "1", metadata="Name: b\nVersion: 1\n"),
    "METADATA of another version": lambda: make_wheel("a", "1", metadata="Name: a\nVersion: 2\n"),
    "METADATA without version": lambda: make_wheel("a", "1", metadata="Name: a\n\nVersion: 1\n"),
    "newer wheel format": lambda: make_wheel("a", "1", wheel_version="2.0"),
    "newer metadata format": lambda: make_wheel(
        "a", "1", metadata="Metadata-Version: 3.0\nName: a\nVersion: 1\n"
    ),
    "no wheel format": lambda: make_wheel("a", "1", wheel="Root-Is-Purelib: true\n"),
    "no root": lambda: make_wheel("a", "1", wheel="Wheel-Version: 1.0\n"),
    "file name of another project": lambda: make_wheel("a", "1", filename="b-1-py3-none-any.whl"),
    "not a wheel name": lambda: make_wheel("a", "1", filename="a-1.whl"),
    "unknown data key": lambda: make_wheel("a", "1", data={"etc/x": ""}),
    "file directly in data": lambda: make_wheel("a", "1", data={"x": ""}),
    "folder in scripts": lambda: make_wheel("a", "1", data={"scripts/d/x": ""}),
    "data of another project": lambda: make_wheel("a", "1", {"b-1.data/purelib/x.py": ""}),
    "records of another project in purelib": lambda: make_wheel(
        "a", "1", data={"purelib/b-1.dist-info/RECORD": ""}
    ),
    "records of another project in platlib": lambda: make_wheel(
        "a", "1", data={"platlib/b-1.Dist-Info/METADATA": ""}
    ),
    "records of another project in data": lambda: make_wheel(
        "a", "1", data={"data/lib/python3.11/site-packages/b-1.dist-info/RECORD": ""}
    ),
    "old records": lambda: make_wheel("a", "1", {"b.egg-info/PKG-INFO": "Name: b\n"}),
    "old records in data": lambda: make_wheel("a", "1", data={"data/lib64/x/b-1-py3.11.egg-info": ""}),
    "its own RECORD twice": lambda: make_wheel("a", "1", data={f"purelib/{DIST}/RECORD": ""}),
    "its own provenance": lambda: make_wheel("a", "1", data={f"platlib/{DIST}/provenance_url.json": ""}),
    "pyvenv.cfg": lambda: make_wheel("a", "1", data={"data/pyvenv.cfg": ""}),
    "pkgc's journal": lambda: make_wheel("a", "1", data={"data/.pkgc/journal": ""}),
    "bin as a file": lambda: make_wheel("a", "1", data={"data/bin": ""}),
    "interpreter": lambda: make_wheel("a", "1", data={"scripts/python3.11": ""}),
    "interpreter in data": lambda: make_wheel("a", "1", data={"data/bin/Python": ""}),
    "activation": lambda: make_wheel("a", "1", data={"data/bin/activate.fish": ""}),
    "two files by case": lambda: make_wheel("a", "1", {"a/X.py": "", "a/x.py": ""}),
    "two folders by case": lambda: make_wheel("a", "1", {"a/x.py": "", "A/y.py": ""}),
    "file and folder": lambda: make_wheel("a", "1", {"a/x": "", "a/x/y": ""}),
    "entry point escapes": lambda: make_wheel("a", "1", entry_points={"console_scripts": {"../evil": "a:b"}}),
    "entry point is python": lambda: make_wheel("a", "1", entry_points="[gui_scripts]\nPYTHON.exe=a:b"),
    "entry point without attribute": lambda: make_wheel("a", "1", entry_points="[console_scripts]\nx=a"),
    "entry point with code": lambda: make_wheel("a", "1", entry_points="[console_scripts]\nx=a:b();c"),
    "entry point keyword": lambda: make_wheel("a", "1", entry_points={"console_scripts": {"x": "a:import"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_wheels_are_refused(name: str, tmp_path: Path) -> None:
    """Each would install other files than it says, or break the environment it enters."""
    refused(BAD[name](), tmp_path)


@pytest.mark.parametrize(
    "entry", [ZipEntry("../evil.py", b"1"), ZipEntry("/evil.py", b"1"), ZipEntry("a/link", b"/etc", 0o120777)]
)
def test_what_the_zip_reader_refuses_writes_nothing(entry: ZipEntry, tmp_path: Path) -> None:
    """A path traversal must not leave even one file."""
    refused(make_wheel("a", "1", extra_zip_entries=[entry]), tmp_path, "bad-archive")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil.py").exists()


def test_bytecode_in_wheels_is_not_written(tmp_path: Path) -> None:
    """W11: a .pyc beside honest sources would run instead of them."""
    files: dict[str, bytes | str] = {
        "a/__init__.py": "",
        "a/__pycache__/__init__.cpython-311.pyc": b"evil",
        "__pycache__/x.pyc": b"",
    }
    manifest = unpack(make_wheel("a", "1", files), tmp_path)
    assert not [entry.path for entry in manifest.files if "__pycache__" in entry.path]
    assert not (tmp_path / "out" / "a" / "__pycache__").exists()


def test_good_oddities_are_accepted(tmp_path: Path) -> None:
    """Real wheels do these; refusing them would make pkgc useless."""
    wheels = [
        make_wheel("Mixed.Case-x", "1.0", dist_info="Mixed.Case_x-1.0.dist-info"),
        make_wheel("a", "1.0+cu118", metadata="Name: a\nVersion: 1.0\n"),
        make_wheel("a", "1.0", build="2local", tag="cp311.py3-abi3.none-any"),
        make_wheel("a", "1", {"a/x.py": ""}, extra_zip_entries=[ZipEntry("a/", b"", 0o40755)]),
        make_wheel("a", "1", {"a/m.py": "x"}, compression=zipfile.ZIP_STORED, zip_comment=b"made by hand"),
        make_wheel("a", "1", wheel_version="1.9"),
        make_wheel("a", "1", {"python": "", "activate": ""}),
        make_wheel(
            "a", "1", data={"scripts/python-config": "", "data/etc/python": "", "scripts/ipython3": ""}
        ),
        make_wheel("a", "1", metadata=b"Name: a\nVersion: 1\n\ndescription \xe9\n"),
        make_wheel("a", "1", entry_points="# c\n[x]\nfoo\n[console_scripts]\n\nb.c-d = a.b : c  \n"),
    ]
    for number, wheel in enumerate(wheels):
        manifest = unpack(wheel, tmp_path / str(number))
        assert f"{manifest.dist_info}/RECORD" in {entry.path for entry in manifest.files}


def test_formats_of_a_newer_minor_version_are_noted(tmp_path: Path) -> None:
    """W2, B4: the wheel is installed, and whoever does that hears that not all of it may be understood."""
    metadata = "Metadata-Version: 2.99\nName: a\nVersion: 1\n"
    newer = unpack(make_wheel("a", "1", wheel_version="1.9", metadata=metadata), tmp_path / "newer")
    assert [text.partition(" is")[0] for text in newer.newer] == [
        "Wheel-Version 1.9",
        "Metadata-Version 2.99",
    ]
    assert manifest_from_bytes(manifest_to_bytes(newer)) == newer
    assert unpack(make_wheel("a", "1"), tmp_path / "known").newer == ()


@pytest.mark.parametrize("mode", [0, 0o200, 0o444, 0o600, 0o644, 0o755, 0o4711, 0o6777])
def test_modes_of_the_archive_decide_only_what_is_executable(mode: int, tmp_path: Path) -> None:
    """W10: a file of mode 000 must be readable, and nothing that an archive says makes a setuid program."""
    content = b"x"
    name = "a-1.dist-info"
    record = f"a.py,{record_hash(content)},1\n{name}/METADATA,%s,\n{name}/WHEEL,%s,\n{name}/RECORD,,\n"
    texts = [b"Name: a\nVersion: 1\n", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"]
    entries = [ZipEntry("a.py", content, 0o100000 | mode)]
    for file, text in zip(("METADATA", "WHEEL"), texts, strict=True):
        entries.append(ZipEntry(f"{name}/{file}", text))
    entries.append(ZipEntry(f"{name}/RECORD", (record % tuple(map(record_hash, texts))).encode()))
    data = make_zip(entries)
    wheel = BuiltWheel("a-1-py3-none-any.whl", data, hashlib.sha256(data).hexdigest())
    (entry,) = (one for one in unpack(wheel, tmp_path).files if one.path == "a.py")
    found = stat.S_IMODE((tmp_path / "out" / "a.py").stat().st_mode)
    assert entry.executable is bool(mode & 0o111)
    assert oct(found) == oct(0o555 if mode & 0o111 else 0o444)


def test_entry_points_are_read_as_the_specification_says(tmp_path: Path) -> None:
    """E1: names keep their case, only '=' ends them, blanks do not count, and extras are ignored."""
    text = "[console_scripts]\nTool=a:b\ntool = c.d : e\n[gui_scripts]\n  xx:y =  é.f:g.h [one, two]  \n"
    manifest = unpack(make_wheel("a", "1", entry_points=text), tmp_path / "right")
    assert manifest.console_scripts == (("Tool", "a:b"), ("tool", "c.d:e"))
    assert manifest.gui_scripts == (("xx:y", "é.f:g.h"),)
    latin = make_wheel("a", "1", entry_points=b"[console_scripts]\nx = \xe9:f\n")
    assert "is not UTF-8" in refused(latin, tmp_path / "latin").message


def test_signatures_of_record_need_no_line(tmp_path: Path) -> None:
    """PEP 815: old wheels carry RECORD.jws."""
    wheel = make_wheel("a", "1", extra_zip_entries=[ZipEntry(f"{DIST}/RECORD.jws", b"{}")])
    assert f"{DIST}/RECORD.jws" in {entry.path for entry in unpack(wheel, tmp_path).files}


def test_unpacking_is_thread_safe(tmp_path: Path) -> None:
    """Workers unpack many wheels at once."""
    wheels = [make_wheel(f"p{n}", "1", {f"p{n}/{i}.py": f"{i}\n" * i for i in range(60)}) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(lambda wheel: unpack(wheel, tmp_path / wheel.filename), wheels))
    assert [manifest.name for manifest in manifests] == [f"p{n}" for n in range(8)]


def test_names_and_versions_are_compared_as_the_standards_say() -> None:
    """W1, W7: spelling is no difference, another version is."""
    assert wheel_identity("Foo.Bar_Baz-1.0-1b-py3-none-any.whl") == ("foo-bar-baz", "1.0")
    assert same_version("1.0", "1.0.0")
    assert same_version("1.0+cu118", "1.0")
    assert same_version("1.0_local", "1.0-local")
    assert not same_version("1.0+cu118", "1.0+cpu")
    assert not same_version("1.0", "1.1")
    assert data_path_problem("data/lib/python3.11/x.py") is None
    assert data_path_problem("data/Scripts/python.exe") is not None


def test_a_damaged_manifest_is_an_error_not_a_crash() -> None:
    """The tree is unpacked again instead."""
    for data in (b"", b"\x00", b"\x81\xa6format\x02", b"garbage" * 10):
        with pytest.raises(PkgcError, match="manifest"):
            manifest_from_bytes(data)


def test_folders_that_are_called_like_records_may_be_deeper(tmp_path: Path) -> None:
    """setuptools vendors packages with their .dist-info: those are nobody's installed distributions."""
    wheel = make_wheel(
        "a",
        "1",
        {"a/_vendor/b-1.dist-info/METADATA": "Name: b\n", "a.py": ""},
        data={"purelib/a/c-1.dist-info/METADATA": "", f"purelib/{DIST}/licenses/LICENSE": ""},
        requires_python=">=3.8",
    )
    manifest = unpack(wheel, tmp_path)
    assert "a/_vendor/b-1.dist-info/METADATA" in {entry.path for entry in manifest.files}
    assert manifest.requires_python == ">=3.8"
    assert manifest_from_bytes(manifest_to_bytes(manifest)) == manifest
