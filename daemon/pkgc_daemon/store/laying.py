"""Laying out: a tree's files as an environment has them, linked for the one sync that waits for it.

The child that unpacks a wheel links its files too, and where no ready copy is left the children link what is
in the store: then the change of the environment is a few renames, and the linking of 97 wheels neither
waits for the last of them nor holds the interpreter lock of the daemon. What comes of it is laid out as a
ready copy is (`copying`), but every file is the tree's: it belongs to one call, is used at once or thrown
away, and never waits for another environment.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.compiled import BytecodeError, read
from pkgc_daemon.store.copying import Folder, Part, note_of, parts_of
from pkgc_daemon.store.manifests import ManifestCache
from pkgc_daemon.vocabulary import Manifest

#: File entries that one process keeps in memory.
MANIFEST_ENTRIES = 30_000


class Outlay(NamedTuple):
    """What is to be laid out of a tree (`Layer.lay`)."""

    target: str
    umask: int
    records: dict[str, bytes]
    asked_at: float
    """See `outlays.Laying`."""
    bytecode: str | None = None
    """Folder of the bytecode that goes with it."""


class _Known(NamedTuple):
    """What was made of a tree before, for the same records."""

    note: dict[str, Any]
    written: dict[str, bytes]


class Layer:
    """Lays trees out, for a process whose umask is 0; it remembers what does not change between two times.

    Args:
        read_manifest: of a tree, by digest.
        limit: trees to remember.
    """

    def __init__(self, read_manifest: Callable[[str], Manifest], limit: int = 2_000) -> None:
        self._read = read_manifest
        self._limit = limit
        self._compared: OrderedDict[str, float] = OrderedDict()
        """Digest -> when the files of the tree were compared, or written."""
        self._known: OrderedDict[tuple[str, str | None, tuple[tuple[str, bytes], ...]], _Known] = (
            OrderedDict()
        )
        self._manifests = ManifestCache(MANIFEST_ENTRIES)

    def wrote(self, manifest: Manifest, now: float) -> None:
        """This process has just written a tree: nothing is to be compared."""
        self._manifests.keep(manifest)
        self._mark(manifest.sha256, now)

    def lay(self, sha256: str, root: str, outlay: Outlay, now: float) -> dict[str, Any] | None:
        """Link the files of a tree into a folder that does not exist yet.

        Args:
            sha256: of the wheel.
            root: the tree's files, on the same file system.
            outlay: what is asked for.
            now: `time.monotonic`, which is the same clock in all processes of a machine.

        Returns:
            The note (see `installing.ready.ReadyCopy`). None when it could not be done, for whatever reason;
            then nothing is left, and the installer places the files itself and says what is wrong.
        """
        compare = self._compared.get(sha256, -1.0) < outlay.asked_at
        try:
            manifest = self._manifests.get(sha256)
            if manifest is None:
                manifest = self._read(sha256)
                self._manifests.keep(manifest)
            note = self._lay(manifest, root, outlay, compare=compare)
        except (OSError, ValueError, PkgcError, BytecodeError):
            self._manifests.drop(sha256)
            shutil.rmtree(outlay.target, ignore_errors=True)
            return None
        if compare:
            self._mark(sha256, now)
        return note

    def _lay(self, manifest: Manifest, root: str, outlay: Outlay, *, compare: bool) -> dict[str, Any]:
        folder = Folder(outlay.target, outlay.umask)
        folder.make("")
        parts = parts_of(manifest, manifest.files)
        for part in parts:
            _link(root, folder, part, compare=compare)
        compiled = None
        if outlay.bytecode is not None:
            compiled = read(outlay.bytecode)
            for part in parts_of(manifest, compiled.files):
                _link(f"{outlay.bytecode}/root", folder, part, compare=True)
        key = (manifest.sha256, outlay.bytecode, tuple(sorted(outlay.records.items())))
        known = self._known.get(key)
        if known is not None:
            for path, content in known.written.items():
                folder.write(path, content)
            return known.note
        note = note_of(folder, manifest, parts, outlay.records, links=(), compiled=compiled)
        self._known[key] = _Known(note, folder.written)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
        return note

    def _mark(self, sha256: str, now: float) -> None:
        self._compared[sha256] = now
        self._compared.move_to_end(sha256)
        while len(self._compared) > self._limit:
            self._compared.popitem(last=False)


def _link(root: str, folder: Folder, part: Part, *, compare: bool) -> None:
    if not part.entries:
        return
    link, stat = os.link, os.stat
    cut = len(part.start)
    last = ""
    folder.make(part.folder)
    # Short paths on both sides: a link costs the kernel a third less than by two absolute ones.
    with _inside(f"{folder.path}/{part.folder}"), _opened(root) as source:
        for path, size, executable, _, mtime_ns, inode in part.entries:
            inner = path[cut:]
            below = inner[: inner.rfind("/") + 1]
            if below != last:
                folder.make(f"{part.folder}/{below[:-1]}" if below else part.folder)
                last = below
            if compare:
                found = stat(path, dir_fd=source, follow_symlinks=False)
                if (
                    found.st_ino != inode
                    or found.st_size != size
                    or found.st_mtime_ns != mtime_ns
                    or bool(found.st_mode & 0o111) is not executable
                ):
                    raise ValueError(f"{path} was changed")
            link(path, inner, src_dir_fd=source, follow_symlinks=False)


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Work in `folder`: this process does one thing at a time."""
    with _opened(".") as before:
        os.chdir(folder)
        try:
            yield
        finally:
            os.fchdir(before)
