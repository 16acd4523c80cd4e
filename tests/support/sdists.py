"""A maker of sdists for tests: deterministic archives in memory, right by default and wrong on demand.

`make_sdist` makes projects that build without the network: their backend is a module of their own tree, of
the standard library alone.  The ``tar_*`` functions write headers byte by byte, so that a test can produce
what no packer writes.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

BLOCK = 512
#: The end of a tar: two blocks of NUL.
END = bytes(2 * BLOCK)
#: The time of every entry unless a test says another one.
WHEN = 1_700_000_000

POSIX_MAGIC, GNU_MAGIC, NO_MAGIC = b"ustar\x0000", b"ustar  \0", bytes(8)

#: A build backend in one file: takes every folder with an ``__init__.py``, and says what it was asked.
BACKEND = '''\
"""The backend of a test's project: standard library only."""
import ast, base64, hashlib, json, os, re, zipfile

REQUIRES = []

def _identity():
    with open("pyproject.toml", encoding="utf-8") as file:  # no tomllib: old interpreters build, too
        lines = re.findall(r"^(name|version|dependencies) *= *(.+)$", file.read(), re.M)
    project = {key: ast.literal_eval(value) for key, value in lines}
    return re.sub(r"[-_.]+", "_", project["name"]).lower(), project["version"], project

def get_requires_for_build_wheel(config_settings=None):
    return list(REQUIRES)

def get_requires_for_build_editable(config_settings=None):
    return list(REQUIRES)

def _packages():
    for folder, folders, files in os.walk("."):
        folders[:] = sorted(one for one in folders if os.path.exists(f"{folder}/{one}/__init__.py"))
        for name in sorted(files) if folder != "." else ():
            path = os.path.relpath(os.path.join(folder, name), ".")
            with open(path, "rb") as file:
                yield path, file.read()

def _write(directory, contents, settings):
    name, version, project = _identity()
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in project.get("dependencies", [])]
    contents = dict(contents)
    contents[f"{info}/METADATA"] = ("\\n".join(lines) + "\\n").encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    contents[f"{info}/settings.json"] = json.dumps(settings).encode()
    record = []
    for path, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}")
    contents[f"{info}/RECORD"] = "\\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    filename = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    return filename

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("building a wheel of", _identity()[0])
    return _write(wheel_directory, _packages(), config_settings)

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    path = {f"__editable__{_identity()[0]}.pth": (os.getcwd() + "\\n").encode()}
    return _write(wheel_directory, path, config_settings)
'''


class BuiltSdist(NamedTuple):
    """A source archive in memory: its file name, bytes and sha256 (hex)."""

    filename: str
    data: bytes
    sha256: str

    def write_to(self, directory: Path) -> Path:
        """Write the archive into `directory` under its own file name and return the path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / self.filename
        path.write_bytes(self.data)
        return path


def project_files(
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    *,
    pyproject: str | None = None,
    backend: str | None = BACKEND,
    requires: Collection[str] = (),
    dependencies: Collection[str] = (),
    hook_requires: Collection[str] = (),
    pkg_info: str | None = None,
) -> dict[str, bytes]:
    """The files of a project, by relative path.

    Args:
        name, version: as pyproject.toml has them.
        files: path -> content, added to or replacing the others; default one package with ``__version__``.
        pyproject: replaces the whole pyproject.toml; '' leaves it out.
        backend: source of the in-tree backend; None: there is none, and pyproject.toml names none.
        requires: build-system.requires.
        dependencies: project.dependencies.
        hook_requires: what the backend says that it requires for a build.
        pkg_info: PKG-INFO, as an sdist has it; None: none.
    """
    escaped = name.replace("-", "_").replace(".", "_").lower()
    if files is None:
        files = {f"{escaped}/__init__.py": f"__version__ = {version!r}\n"}
    if pyproject is None:
        pyproject = (
            f"[project]\nname = {name!r}\nversion = {version!r}\ndependencies = {list(dependencies)!r}\n"
        )
        if backend is not None:
            pyproject += f'[build-system]\nrequires = {list(requires)!r}\nbuild-backend = "tests_backend"\n'
            pyproject += 'backend-path = ["_build"]\n'
    contents: dict[str, bytes | str] = {}
    if pyproject:
        contents["pyproject.toml"] = pyproject
    if backend is not None:
        contents["_build/tests_backend.py"] = backend.replace(
            "REQUIRES = []", f"REQUIRES = {[*hook_requires]!r}"
        )
    if pkg_info is not None:
        contents["PKG-INFO"] = pkg_info
    contents.update(files)
    return {path: data.encode() if isinstance(data, str) else data for path, data in contents.items()}


def make_sdist(
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    *,
    pyproject: str | None = None,
    backend: str | None = BACKEND,
    requires: Collection[str] = (),
    dependencies: Collection[str] = (),
    hook_requires: Collection[str] = (),
    metadata_version: str | None = "2.2",
    executable: Collection[str] = (),
    links: Mapping[str, str] | None = None,
    ending: str = ".tar.gz",
    top: str | None = None,
    filename: str | None = None,
) -> BuiltSdist:
    """Make an sdist (see `project_files` for what is in it).

    Args:
        metadata_version: of PKG-INFO; None leaves PKG-INFO out.
        executable: paths that get mode 0755.
        links: path -> target of symbolic links (not in a zip).
        ending: ``.tar.gz``, ``.tar.bz2``, ``.tar.xz``, ``.tar``, ``.zip``, …: also decides the format.
        top: name of the one folder; default NAME-VERSION.
        filename: replaces the archive's file name.

    Returns:
        The sdist; equal arguments give equal bytes.
    """
    stem = f"{name.replace('-', '_').replace('.', '_').lower()}-{version}"
    pkg_info = None
    if metadata_version is not None:
        pkg_info = f"Metadata-Version: {metadata_version}\nName: {name}\nVersion: {version}\n"
    contents = project_files(
        name,
        version,
        files,
        pyproject=pyproject,
        backend=backend,
        requires=requires,
        dependencies=dependencies,
        hook_requires=hook_requires,
        pkg_info=pkg_info,
    )
    data = pack(
        {f"{top or stem}/{path}": value for path, value in contents.items()}, ending, executable, links
    )
    return BuiltSdist(filename or stem + ending, data, hashlib.sha256(data).hexdigest())


def pack(
    contents: Mapping[str, bytes],
    ending: str,
    executable: Collection[str] = (),
    links: Mapping[str, str] | None = None,
) -> bytes:
    """An archive of `contents` as Python's own packers write it.

    Args:
        executable, links: paths below the top folder.
    """
    buffer = io.BytesIO()
    if ending == ".zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in contents.items():
                info = zipfile.ZipInfo(path, (2023, 11, 14, 22, 13, 20))
                info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
                info.external_attr = (0o100755 if path.partition("/")[2] in executable else 0o100644) << 16
                archive.writestr(info, data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in contents.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime = len(data), WHEN
            member.mode = 0o755 if path.partition("/")[2] in executable else 0o644
            tar.addfile(member, io.BytesIO(data))
        top = next(iter(contents), "x").partition("/")[0]
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.type, member.linkname, member.mtime = tarfile.SYMTYPE, target, WHEN
            tar.addfile(member)
    return compress(buffer.getvalue(), ending)


def compress(data: bytes, ending: str) -> bytes:
    """`data` as a file that ends in `ending` holds it."""
    if ending in (".tar.gz", ".tgz"):
        return gzip.compress(data, mtime=0)
    if ending in (".tar.bz2", ".tbz"):
        return bz2.compress(data)
    if ending in (".tar.xz", ".txz"):
        return lzma.compress(data)
    return data


# -- byte by byte --------------------------------------------------------------------------------------------


def tar_header(
    name: bytes | str,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    mode: int | bytes = 0o644,
    mtime: int | bytes = WHEN,
    link: bytes | str = b"",
    magic: bytes = POSIX_MAGIC,
    prefix: bytes = b"",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block; bytes for a number are written as they are.

    Args:
        rest: what stands at byte 500.
        checksum: replaces the right one.
    """
    block = bytearray(BLOCK)

    def put(at: int, width: int, value: bytes | str | int) -> None:
        if isinstance(value, int):
            value = b"%0*o\0" % (width - 1, value)
        raw = value.encode() if isinstance(value, str) else value
        assert len(raw) <= width, raw
        block[at : at + len(raw)] = raw

    put(0, 100, name)
    put(100, 8, mode)
    put(108, 8, 0)
    put(116, 8, 0)
    put(124, 12, size)
    put(136, 12, mtime)
    put(156, 1, kind)
    put(157, 100, link)
    put(257, 8, magic)
    put(345, 155, prefix)
    put(500, 12, rest)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block) if checksum is None else checksum
    return bytes(block)


def padded(data: bytes) -> bytes:
    """`data`, filled with NUL to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def tar_file(name: bytes | str, data: bytes = b"", **fields: object) -> bytes:
    """A file's header and content; `fields` go to `tar_header`."""
    fields.setdefault("size", len(data))
    return tar_header(name, **fields) + padded(data)  # type: ignore[arg-type]


def tar_folder(name: bytes | str, mode: int = 0o755) -> bytes:
    """A folder's header."""
    return tar_header(name, 0, b"5", mode=mode)


def tar_link(name: bytes | str, target: bytes | str, kind: bytes = b"2") -> bytes:
    """A symbolic link's header (kind ``1``: a hard link's)."""
    return tar_header(name, 0, kind, link=target, mode=0o777)


def pax_record(key: bytes | str, value: bytes | str) -> bytes:
    """One record, its length counted."""
    raw_key = key.encode() if isinstance(key, str) else key
    raw_value = value.encode() if isinstance(value, str) else value
    rest = b" %b=%b\n" % (raw_key, raw_value)
    length = len(rest)
    while length != len(b"%d" % length) + len(rest):
        length = len(b"%d" % length) + len(rest)
    return b"%d%b" % (length, rest)


def tar_pax(*records: bytes | tuple[str, str], kind: bytes = b"x") -> bytes:
    """An extended header (kind ``g``: a global one) of records; bytes are written as they are."""
    data = b"".join(one if isinstance(one, bytes) else pax_record(*one) for one in records)
    return tar_file("PaxHeaders/x", data, kind=kind)


def tar_long(name: bytes | str, kind: bytes = b"L") -> bytes:
    """GNU's long name (kind ``K``: long link) of the next entry."""
    raw = name.encode() if isinstance(name, str) else name
    return tar_file("././@LongLink", raw + b"\0", kind=kind, magic=GNU_MAGIC)


def raw_tar(*entries: bytes, ending: str = ".tar.gz", end: bytes = END) -> bytes:
    """A tar of raw entries, compressed as `ending` says."""
    return compress(b"".join(entries) + end, ending)


def tree_of(folder: Path) -> dict[str, bytes | str]:
    """What is below `folder`: files by content, links by '-> target', empty folders by 'folder'."""
    found: dict[str, bytes | str] = {}
    for path in _walk(folder):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes()
        elif path.is_dir():
            if not any(path.iterdir()):
                found[name] = "folder"
        else:
            found[name] = "special"
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
