"""A wheel maker for tests: deterministic wheels in memory, right by default and wrong on demand.

It is test support, not a build tool: `make_wheel` writes exactly what it is told to, so that a test can
produce a wheel whose RECORD lies, whose names escape, or whose zip holds things that no builder writes.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_DATE = (2020, 1, 2, 3, 4, 6)


class BuiltWheel(NamedTuple):
    """A wheel in memory: its file name, bytes and sha256 (hex)."""

    filename: str
    data: bytes
    sha256: str

    def write_to(self, directory: Path) -> Path:
        """Write the wheel into `directory` under its own file name and return the path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / self.filename
        path.write_bytes(self.data)
        return path


class ZipEntry(NamedTuple):
    """One raw entry of a zip: `mode` is the whole st_mode (file type bits included)."""

    name: str
    data: bytes
    mode: int = 0o100644
    compression: int = zipfile.ZIP_DEFLATED


def record_hash(data: bytes) -> str:
    """The RECORD form of a sha256: ``sha256=<urlsafe base64 without padding>``."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


def make_zip(entries: Iterable[ZipEntry], comment: bytes = b"") -> bytes:
    """A deterministic zip of `entries`, in the order given (duplicates are written as they are)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, _DATE)
            info.compress_type = entry.compression
            info.create_system = 3
            info.external_attr = (entry.mode & 0xFFFF) << 16 | (0x10 if entry.name.endswith("/") else 0)
            # zipfile warns about a second entry of one name; tests want to write it.
            archive.NameToInfo.pop(entry.name, None)
            archive.writestr(info, entry.data)
        archive.comment = comment
    return buffer.getvalue()


def _escape(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value


def make_wheel(
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    *,
    tag: str = "py3-none-any",
    build: str | None = None,
    entry_points: Mapping[str, Mapping[str, str]] | str | bytes | None = None,
    data: Mapping[str, bytes | str] | None = None,
    requires_python: str | None = None,
    requires_dist: Collection[str] = (),
    executable: Collection[str] = (),
    metadata: bytes | str | None = None,
    wheel: bytes | str | None = None,
    wheel_version: str = "1.0",
    root_is_purelib: bool = True,
    dist_info: str | None = None,
    dist_info_files: Mapping[str, bytes | str] | None = None,
    filename: str | None = None,
    record: bytes | str | None = None,
    record_lies: Mapping[str, str | None] | None = None,
    extra_zip_entries: Iterable[ZipEntry] = (),
    compression: int = zipfile.ZIP_DEFLATED,
    zip_comment: bytes = b"",
) -> BuiltWheel:
    """Make a wheel.

    Args:
        name: project name as the author spells it; the file name and .dist-info use its escaped form.
        version: version, also used in the file name (``-`` becomes ``_``).
        files: path in the wheel -> content; default one module ``<name>/__init__.py`` with ``__version__``.
        tag: compressed tag set, e.g. ``cp311-cp311-manylinux_2_17_x86_64``.
        build: build tag, e.g. ``1`` or ``1abc``.
        entry_points: ``{"console_scripts": {"name": "module:attr"}}``, or the raw text of the file.
        data: path below ``{name}-{version}.data/`` -> content, e.g. ``{"scripts/tool": "#!python\\n"}``.
        requires_python: the Requires-Python field.
        requires_dist: Requires-Dist fields.
        executable: paths (of `files`, or below the .data folder) that get mode 0755.
        metadata, wheel: replace the whole METADATA or WHEEL file.
        wheel_version, root_is_purelib: fields of WHEEL.
        dist_info: replaces the .dist-info folder's name.
        dist_info_files: more files in .dist-info.
        filename: replaces the wheel's file name.
        record: replaces the whole RECORD.
        record_lies: path -> false RECORD hash field (``sha256=…``); None leaves the line out.
        extra_zip_entries: raw entries added at the end, not mentioned in RECORD.
        compression: ``zipfile.ZIP_DEFLATED`` or ``ZIP_STORED``.
        zip_comment: comment of the archive.

    Returns:
        The wheel; equal arguments give equal bytes.
    """
    escaped, escaped_version = _escape(name), version.replace("-", "_")
    stem = f"{escaped}-{escaped_version}"
    info_dir = dist_info if dist_info is not None else f"{stem}.dist-info"
    if files is None:
        files = {f"{escaped}/__init__.py": f"__version__ = {version!r}\n"}
    contents: dict[str, bytes] = {path: _as_bytes(value) for path, value in files.items()}
    contents.update({f"{stem}.data/{path}": _as_bytes(value) for path, value in (data or {}).items()})
    if metadata is None:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        if requires_python is not None:
            lines.append(f"Requires-Python: {requires_python}")
        lines += [f"Requires-Dist: {requirement}" for requirement in requires_dist]
        metadata = "\n".join(lines) + "\n"
    contents[f"{info_dir}/METADATA"] = _as_bytes(metadata)
    if wheel is None:
        lines = [
            f"Wheel-Version: {wheel_version}",
            "Generator: pkgc-tests",
            f"Root-Is-Purelib: {'true' if root_is_purelib else 'false'}",
            *([f"Build: {build}"] if build else []),
        ]
        python, abi, platform = tag.split("-")
        lines += [
            f"Tag: {p}-{a}-{q}"
            for p in python.split(".")
            for a in abi.split(".")
            for q in platform.split(".")
        ]
        wheel = "\n".join(lines) + "\n"
    contents[f"{info_dir}/WHEEL"] = _as_bytes(wheel)
    if entry_points is not None:
        if not isinstance(entry_points, (str, bytes)):
            text = ""
            for group, points in entry_points.items():
                text += f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()) + "\n"
            entry_points = text
        contents[f"{info_dir}/entry_points.txt"] = _as_bytes(entry_points)
    contents.update(
        {f"{info_dir}/{path}": _as_bytes(value) for path, value in (dist_info_files or {}).items()}
    )

    if record is None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        lies = record_lies or {}
        for path, value in contents.items():
            claimed = lies.get(path, record_hash(value))
            if claimed is not None:
                writer.writerow([path, claimed, len(value)])
        for path in lies.keys() - contents.keys():
            writer.writerow([path, lies[path] or "", 0])
        writer.writerow([f"{info_dir}/RECORD", "", ""])
        record = buffer.getvalue()
    contents[f"{info_dir}/RECORD"] = _as_bytes(record)

    marked = {*executable, *(f"{stem}.data/{path}" for path in executable)}
    entries = [
        ZipEntry(path, value, 0o100755 if path in marked else 0o100644, compression)
        for path, value in contents.items()
    ]
    archive = make_zip([*entries, *extra_zip_entries], zip_comment)
    name_parts = [stem, *([build] if build else []), tag]
    return BuiltWheel(
        filename if filename is not None else "-".join(name_parts) + ".whl",
        archive,
        hashlib.sha256(archive).hexdigest(),
    )
