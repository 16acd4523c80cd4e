"""Bytecode of trees on disk: one folder per tree and kind of interpreter, complete or not there.

``<key>/root`` mirrors the tree (``pkg/__pycache__/mod.cpython-311.pyc``), ``<key>/manifest`` lists every file
of it as a tree's manifest does, and says of which unpacking of the wheel it is: the files count by the times
of their sources, which another unpacking does not have.  Everything here blocks, except `key_of`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from pkgc_daemon.store.filesystem import remove_tree, write_atomically
from pkgc_daemon.store.layout import Layout, is_sha256
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: Raised when the meaning of the bytes changes.
FORMAT = 1
_CHECK = struct.Struct("<I")
_KEY = re.compile(r"[A-Za-z0-9_]+-?[A-Za-z0-9_]*-[0-9a-f]{8}\Z")
#: Says that what was published since the last sync of the filesystem may be lost at the next boot.
_UNSYNCED = "unsynced"


class BytecodeError(Exception):
    """This bytecode may not be used; the message says why."""


class Compiled(NamedTuple):
    """The bytecode of one tree for one kind of interpreter."""

    files: tuple[FileEntry, ...]
    """Paths relative to the tree's root."""
    tree: str
    """`identity` of the tree that it was made of."""
    whole: bool
    """No source was left out, so that nothing of the tree needs to be compiled where it is installed."""


def key_of(interpreter: Mapping[str, Any]) -> str | None:
    """The kind of bytecode that an interpreter uses, as a file name; None: it keeps none.

    Args:
        interpreter: the answer of its probe.
    """
    tag, magic = interpreter.get("cache_tag"), interpreter.get("pycache_magic")
    key = f"{tag}-{magic}"
    return key if tag and magic and _KEY.match(key) else None


def tag_of(key: str) -> str:
    """The cache tag in a key (PEP 3147)."""
    return key.rpartition("-")[0]


def identity(manifest: bytes) -> str:
    """Which unpacking of a wheel a tree is, by the bytes of its manifest: they hold times and inodes."""
    return hashlib.sha256(manifest).hexdigest()


def sources_of(manifest: Manifest) -> tuple[list[tuple[FileEntry, str]], bool]:
    """The files to compile, each with its path in site-packages; and whether there are no others.

    The path is what the code objects name until they are imported: the importer puts the real one into them
    (`_fix_co_filename`), so that tracebacks are right wherever the files lie.
    """
    data = f"{manifest.data_dir}/" if manifest.data_dir is not None else None
    found: list[tuple[FileEntry, str]] = []
    whole = True
    for entry in manifest.files:
        path = entry.path
        if not path.endswith(".py") or path == ".py" or path.endswith("/.py"):
            continue
        if data is not None and path.startswith(data):
            kind, _, rest = path[len(data) :].partition("/")
            if kind not in ("purelib", "platlib"):
                # Where it goes depends on the environment, and it may be site-packages after all.
                whole = whole and kind != "data"
                continue
            path = rest
        found.append((entry, path))
    return found, whole


def to_bytes(compiled: Compiled) -> bytes:
    """The content of ``manifest``."""
    fields = {"format": FORMAT, "tree": compiled.tree, "whole": compiled.whole, "files": compiled.files}
    data = msgpack.packb(fields)
    assert isinstance(data, bytes)
    return data + _CHECK.pack(zlib.crc32(data))


def read(folder: str) -> Compiled:
    """What lies in a folder of bytecode.

    Raises:
        BytecodeError: it is gone, or damaged.
    """
    try:
        with open(f"{folder}/manifest", "rb") as file:
            data = file.read()
        body, (check,) = data[: -_CHECK.size], _CHECK.unpack(data[-_CHECK.size :])
        if zlib.crc32(body) != check:
            raise ValueError("another checksum")
        given: Any = msgpack.unpackb(body, use_list=False, max_array_len=1 << 20)
        if given["format"] != FORMAT:
            raise ValueError(f"format {given['format']!r}, not {FORMAT}")
        return Compiled(tuple(FileEntry(*entry) for entry in given["files"]), given["tree"], given["whole"])
    except (OSError, ValueError, KeyError, TypeError, struct.error, msgpack.UnpackException) as error:
        raise BytecodeError(f"its manifest cannot be read: {error}") from error


def find_damage(folder: str) -> str | None:
    """The full check: every listed file is there with its bytes. Says what is wrong, or None."""
    try:
        for entry in read(folder).files:
            descriptor = os.open(f"{folder}/root/{entry.path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry.sha256:
                return f"{entry.path} has sha256 {digest}, not {entry.sha256}"
            if mode != 0o444:
                return f"{entry.path} has mode {mode:o}"
    except BytecodeError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    return None


def publish(layout: Layout, draft: Path, sha256: str, key: str) -> None:
    """Put a complete draft into place, instead of what may be there."""
    target = layout.compiled(sha256, key)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.lexists(target):
        remove(layout, target)
    os.rename(draft, target)


def finish(layout: Layout, draft: Path, compiled: Compiled) -> None:
    """Write the manifest of a draft; what else it needs to be complete."""
    (draft / "root").mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(draft / "manifest", to_bytes(compiled), layout.temporary)


def remove(layout: Layout, path: Path) -> None:
    """Take a folder away in one step, then remove what is in it."""
    away = layout.draft()
    try:
        os.rename(path, away)
    except FileNotFoundError:
        return
    remove_tree(away)


def adopt(
    layout: Layout, boot: str, has_tree: Callable[[str], bool], warn: Callable[[str], None]
) -> tuple[dict[str, set[str]], bool]:
    """Find what an earlier daemon has left, and sweep what is of no use.

    Args:
        layout: of the cache.
        boot: id of the running boot.
        has_tree: whether the store knows a tree of this digest.
        warn: for a person to know.

    Returns:
        Keys by tree, and whether some of it is not on the disk for certain.
    """
    unsynced = _read_mark(layout)
    if unsynced not in (None, boot):
        # Written before the last boot, and nothing says that it reached the disk: it is made again.
        warn("bytecode that was not synced before the last boot is removed")
        for entry in list(os.scandir(layout.bytecode)):
            remove_tree(Path(entry.path))
        unsynced = None
    found: dict[str, set[str]] = {}
    for bucket in os.scandir(layout.bytecode):
        if bucket.name == _UNSYNCED:
            continue
        for entry in os.scandir(bucket.path):
            if not is_sha256(entry.name) or not has_tree(entry.name):
                remove_tree(Path(entry.path))
                continue
            found[entry.name] = {name for name in os.listdir(entry.path) if _KEY.match(name)}
    return found, unsynced is not None


def mark(layout: Layout, boot: str) -> None:
    """Before something is published: until `unmark` it counts in this boot only."""
    write_atomically(layout.bytecode / _UNSYNCED, boot.encode(), layout.temporary, 0o600)


def unmark(layout: Layout) -> None:
    """Everything that was published is on the disk."""
    (layout.bytecode / _UNSYNCED).unlink(missing_ok=True)


def _read_mark(layout: Layout) -> str | None:
    try:
        return (layout.bytecode / _UNSYNCED).read_text(errors="replace")
    except FileNotFoundError:
        return None


def measure(layout: Layout, items: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
    """(files, bytes) of each (tree, key); nothing for what cannot be read."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for sha256, key in items:
        try:
            files = read(str(layout.compiled(sha256, key))).files
        except BytecodeError:
            continue
        found[sha256, key] = (len(files), sum(entry.size for entry in files))
    return found
