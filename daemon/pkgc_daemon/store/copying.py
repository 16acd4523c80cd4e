"""Copying a tree ahead of time: what a ready copy is made of, file by file; blocking, run by the copier.

A ready copy is laid out as site-packages is. Files up to `PRIVATE` bytes are copies of their own, verified
while they are copied; larger ones are links into the tree, compared before they are used (design.md 8, 'Ready
copies and edits'). What a wheel's .data folder holds is not in it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence

import msgpack

from pkgc_daemon.archives.recordlines import WRITTEN, render_entries, render_line
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: Bytes up to which a file is copied; beyond, copying costs more than it protects.
PRIVATE = 64 * 1024
#: Beside a ready copy: what the installer must know of it (`note_of`).
NOTE = ".note"


class CopyError(Exception):
    """The tree is not what its manifest says; it is left to the next use to find that out and heal it."""


def entries_of(manifest: Manifest) -> list[FileEntry]:
    """The files of a tree that a ready copy has."""
    data = f"{manifest.data_dir}/" if manifest.data_dir is not None else None
    info = f"{manifest.dist_info}/"
    return [
        entry
        for entry in manifest.files
        if not (data is not None and entry.path.startswith(data))
        and not (entry.path.startswith(info) and entry.path[len(info) :] in WRITTEN)
    ]


def copy_tree(
    root: str, manifest: Manifest, target: str, umask: int, records: Mapping[str, bytes]
) -> tuple[int, int]:
    """Make a ready copy, and its note beside it.

    Args:
        root: the tree's files.
        target: the folder to make; its parent exists.
        umask: of whom the environment will belong to.
        records: files of .dist-info that the next installation is expected to write (name -> content).

    Returns:
        (files and folders that it has, bytes that it does not share with the tree).

    Raises:
        CopyError: a file is not as the manifest says.
        OSError: the file system says no.
    """
    folder_mode = 0o777 & ~umask
    os.mkdir(target, folder_mode)
    made = {""}
    inodes, own = 2, 0
    entries = entries_of(manifest)
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        if folder not in made:
            inodes += make_folder(target, folder, made, folder_mode)
        source, destination = f"{root}/{entry.path}", f"{target}/{entry.path}"
        if entry.size > PRIVATE and _link(source, destination, entry):
            inodes += 1
            continue
        _copy(source, destination, entry, (0o777 if entry.executable else 0o666) & ~umask)
        inodes += 1
        own += entry.size
    shared = [entry for entry in entries if entry.size > PRIVATE]
    write_records(target, manifest, entries, umask, records, shared)
    return inodes + len(records) + 1, own


def write_records(
    target: str,
    manifest: Manifest,
    entries: Sequence[FileEntry],
    umask: int,
    records: Mapping[str, bytes],
    shared: Sequence[FileEntry],
) -> None:
    """Write what an installer adds to .dist-info, and the note beside the copy.

    Args:
        target: the copy.
        entries: the tree's files that it has.
        shared: those of them that must be compared with the tree before the copy is used.
    """
    lines = render_entries(entries)
    for name, content in records.items():
        lines.append(render_line(f"{manifest.dist_info}/{name}", content))
        _write(f"{target}/{manifest.dist_info}/{name}", content, 0o666 & ~umask)
    if is_complete(manifest):
        lines.sort()
        text = "".join([*lines, f"{manifest.dist_info}/RECORD,,\n"])
        _write(
            f"{target}/{manifest.dist_info}/RECORD", text.encode("utf-8", "surrogateescape"), 0o666 & ~umask
        )
    note = note_of(manifest, entries, records, shared)
    _write(target + NOTE, msgpack.packb(note, unicode_errors="surrogateescape"), 0o600)


def is_complete(manifest: Manifest) -> bool:
    """Whether an installation of this wheel writes nothing outside of site-packages."""
    return manifest.data_dir is None and not manifest.console_scripts and not manifest.gui_scripts


def note_of(
    manifest: Manifest,
    entries: Sequence[FileEntry],
    records: Mapping[str, bytes],
    shared: Sequence[FileEntry],
) -> dict[str, object]:
    """What the installer must know, so that it need not read the whole manifest."""
    copied = set(entries)
    return {
        "filename": manifest.filename,
        "name": manifest.name,
        "version": manifest.version,
        "dist_info": manifest.dist_info,
        "data_dir": manifest.data_dir,
        "root_is_purelib": manifest.root_is_purelib,
        "console_scripts": manifest.console_scripts,
        "gui_scripts": manifest.gui_scripts,
        "requires_python": manifest.requires_python,
        "newer": manifest.newer,
        "files": len(entries),
        "others": [entry for entry in manifest.files if entry not in copied],
        "links": list(shared),
        "lines": "" if is_complete(manifest) else "".join(sorted(render_entries(entries))),
        "records": dict(records),
    }


def _write(path: str, content: bytes, mode: int) -> None:
    writing = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(writing, view) :]
    finally:
        os.close(writing)


def make_folder(target: str, folder: str, made: set[str], mode: int) -> int:
    """Make `folder` below `target`, with its parents; how many that were."""
    parent = folder.rpartition("/")[0]
    count = make_folder(target, parent, made, mode) if parent not in made else 0
    os.mkdir(f"{target}/{folder}", mode)
    made.add(folder)
    return count + 1


def _link(source: str, destination: str, entry: FileEntry) -> bool:
    """Link a large file; False when this one has to be copied."""
    found = os.stat(source, follow_symlinks=False)
    if (found.st_ino, found.st_size, found.st_mtime_ns) != (entry.inode, entry.size, entry.mtime_ns):
        raise CopyError(entry.path)
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _copy(source: str, destination: str, entry: FileEntry, mode: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(reading)
        if (found.st_ino, found.st_size, found.st_mtime_ns) != (entry.inode, entry.size, entry.mtime_ns):
            raise CopyError(entry.path)
        writing = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            hasher, left = hashlib.sha256(), entry.size
            while left > 0 and (chunk := os.read(reading, min(left, 1 << 20))):
                hasher.update(chunk)
                left -= len(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(writing, view) :]
            if hasher.hexdigest() != entry.sha256:
                raise CopyError(entry.path)
            # Bytecode is valid for a source's time and size: all copies have the tree's.
            os.utime(writing, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)
