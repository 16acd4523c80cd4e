"""Copying a tree ahead of time: what a ready copy is made of, file by file; blocking, run by the copier.

A ready copy has up to two folders: `site`, laid out as site-packages, and `data`, laid out as the prefix.
Files up to `PRIVATE` bytes are copies of their own, verified while they are copied; larger ones are reflinks
where the file system has them, else links into the tree, which are compared before they are used (design.md
8, 'Ready copies and edits'). Scripts, and what else depends on the environment, are not in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pkgc_daemon.archives.recordlines import WRITTEN, render_entries, render_line
from pkgc_daemon.store.compiled import Compiled
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: Bytes up to which a file is copied; beyond, copying costs more than it protects.
PRIVATE = 64 * 1024
#: The folders of a copy, and what leads from site-packages to the prefix in RECORD's lines of the second one.
SITE, DATA, BACK = "site", "data", "../../../"
#: What of .data/data is copied ahead: folders below the prefix which hold neither code nor commands.
_SHARED = ("share/", "etc/")
_FICLONE = 0x40049409
_NO_REFLINK = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS}
)
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP})


class CopyError(Exception):
    """The tree is not what its manifest says; it is left to the next use to find that out and heal it."""


class Part(NamedTuple):
    """Files of one tree that go into one folder of a copy."""

    folder: str
    """`SITE` or `DATA`."""
    start: str
    """What their paths in the tree begin with, and their paths in the folder do not."""
    entries: Sequence[FileEntry]


def parts_of(manifest: Manifest, entries: Sequence[FileEntry]) -> list[Part]:
    """What of `entries`, files of the manifest's tree or of its bytecode, a ready copy has."""
    info = f"{manifest.dist_info}/"
    if manifest.data_dir is None:
        return [Part(SITE, "", [one for one in entries if not _is_written(one.path, info)])]
    data = f"{manifest.data_dir}/"
    shared = tuple(f"{data}data/{folder}" for folder in _SHARED)
    return [
        Part(
            SITE,
            "",
            [one for one in entries if not one.path.startswith(data) and not _is_written(one.path, info)],
        ),
        Part(DATA, f"{data}data/", [one for one in entries if one.path.startswith(shared)]),
    ]


def _is_written(path: str, info: str) -> bool:
    return path.startswith(info) and path[len(info) :] in WRITTEN


class Folder:
    """A folder that is laid out as an environment is; made with modes as somebody's umask has them.

    Args:
        path: where to make it; its parent exists.
        umask: of whom the environment will belong to. This process's own umask must be 0.
    """

    def __init__(self, path: str, umask: int) -> None:
        self.path = path
        self.umask = umask
        self.made: dict[str, str] = {}
        """Folders in it, relative ('' is itself) -> absolute."""
        self.inodes = 0
        self.bytes = 0
        """What it does not share with the tree."""
        self.own: list[tuple[str, int, int]] = []
        """(path in it, size, mtime_ns) of what is not shared."""
        self.links: dict[str, FileEntry] = {}
        """What is shared, by path in it."""
        self.written: dict[str, bytes] = {}
        """Path in it -> content, of the records."""

    def make(self, folder: str) -> None:
        """Make a folder in it, with its parents, once."""
        if folder in self.made:
            return
        if folder:
            self.make(folder.rpartition("/")[0])
        path = f"{self.path}/{folder}" if folder else self.path
        os.mkdir(path, 0o777 & ~self.umask)
        self.made[folder] = path
        self.inodes += 1

    def write(self, path: str, content: bytes) -> None:
        """Write a file of records."""
        self.make(path.rpartition("/")[0])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writing = os.open(f"{self.path}/{path}", flags, 0o666 & ~self.umask)
        try:
            _write_all(writing, content)
            self.own.append((path, len(content), os.fstat(writing).st_mtime_ns))
        finally:
            os.close(writing)
        self.inodes += 1
        self.bytes += len(content)
        self.written[path] = content

    def tops(self) -> dict[str, list[tuple[str, bool]]]:
        """What has to be moved: of each folder (name, whether it is a folder itself)."""
        found = {}
        for folder in (SITE, DATA):
            if folder in self.made:
                with os.scandir(f"{self.path}/{folder}") as entries:
                    found[folder] = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
        return found

    def check(self) -> list[Evidence]:
        """Look once more whether all is as it was written, and nothing else is there.

        What is done from now on is watched for, or compared with what this returns.

        Raises:
            CopyError: something has changed already.
            OSError: something has gone.
        """
        own = {path: (size, mtime_ns) for path, size, mtime_ns in self.own}
        evidence = []
        for folder, absolute in self.made.items():
            if folder:
                evidence.append(evidence_of(folder, os.lstat(absolute)))
            with os.scandir(absolute) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if path in self.made:
                        continue
                    found = entry.stat(follow_symlinks=False)
                    if path in self.links:
                        _compare(found, self.links[path])
                        evidence.append(evidence_of(path, found, shared=True))
                    elif own.get(path) == (found.st_size, found.st_mtime_ns):
                        evidence.append(evidence_of(path, found))
                    else:
                        raise CopyError(path)
        if len(evidence) != len(own) + len(self.links) + len(self.made) - 1:
            raise CopyError(f"{self.path}: something is gone")
        return evidence


def note_of(
    folder: Folder,
    manifest: Manifest,
    parts: Sequence[Part],
    records: Mapping[str, bytes],
    *,
    links: Sequence[FileEntry],
    compiled: Compiled | None,
) -> dict[str, Any]:
    """Write the records into a folder that has its files; what an installer needs to know of it.

    Args:
        parts: the files of the tree that are in it.
        records: files of .dist-info that the next installation is expected to write (name -> content).
        links: what has to be compared with the tree before it is used.
        compiled: the bytecode that is in it, too.

    Returns:
        The fields of `installing.ready.ReadyCopy` and of its manifest.

    Raises:
        OSError: the file system says no.
    """
    bytecode = compiled.files if compiled is not None else ()
    more = sum(len(part.entries) for part in parts_of(manifest, bytecode))
    lines = [line for part in parts for line in _lines(part)]
    for name, content in records.items():
        lines.append(render_line(f"{manifest.dist_info}/{name}", content))
        folder.write(f"{SITE}/{manifest.dist_info}/{name}", content)
    placed = {entry.path for part in parts for entry in part.entries}
    info = f"{manifest.dist_info}/"
    others = [one for one in manifest.files if one.path not in placed and not _is_written(one.path, info)]
    lines.sort()
    complete = not others and not manifest.console_scripts and not manifest.gui_scripts
    if complete:
        text = "".join([*lines, f"{manifest.dist_info}/RECORD,,\n"])
        folder.write(f"{SITE}/{manifest.dist_info}/RECORD", text.encode("utf-8", "surrogateescape"))
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
        "files": len(placed) + more,
        "bytecode": None if compiled is None else compiled.whole and more == len(bytecode),
        "others": others,
        "links": links,
        "lines": "" if complete else "".join(lines),
        "complete": complete,
        "records": dict(records),
        "tops": folder.tops(),
        "own": [],
    }


class Copier:
    """Copies files into a folder, in the best way that the file system has."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._reflinks = True

    def copy(self, root: str, part: Part, *, private: bool = False) -> list[FileEntry]:
        """Copy or link the files of a part; those that are links.

        Args:
            private: link none.

        Raises:
            CopyError: a file is not as the manifest says.
            OSError: the file system says no.
        """
        return [entry for entry in part.entries if self._put(root, part, entry, private=private)]

    def _put(self, root: str, part: Part, entry: FileEntry, *, private: bool) -> bool:
        folder = self._folder
        path = f"{part.folder}/{entry.path[len(part.start) :]}"
        folder.make(path.rpartition("/")[0])
        folder.inodes += 1
        source, destination = f"{root}/{entry.path}", f"{folder.path}/{path}"
        mode = (0o777 if entry.executable else 0o666) & ~folder.umask
        if entry.size > PRIVATE:
            if self._reflinks and self._reflink(source, destination, entry, mode):
                folder.own.append((path, entry.size, entry.mtime_ns))
                return False
            if not private and _link(source, destination, entry):
                folder.links[path] = entry
                return True
        copy_verified(source, destination, entry, mode)
        folder.own.append((path, entry.size, entry.mtime_ns))
        folder.bytes += entry.size
        return False

    def _reflink(self, source: str, destination: str, entry: FileEntry, mode: int) -> bool:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _compare(os.fstat(reading), entry)
            writing = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                fcntl.ioctl(writing, _FICLONE, reading)
                os.utime(writing, ns=(entry.mtime_ns, entry.mtime_ns))
            except OSError as error:
                os.unlink(destination)
                if error.errno not in _NO_REFLINK:
                    raise
                self._reflinks = False
                return False
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return True


def _lines(part: Part) -> list[str]:
    """RECORD's lines of a part."""
    if part.folder == SITE:
        return render_entries(part.entries)
    return render_entries([one._replace(path=one.path[len(part.start) :]) for one in part.entries], BACK)


def all_lines(manifest: Manifest) -> list[str]:
    """RECORD's lines of what a copy of the tree has."""
    return [line for part in parts_of(manifest, manifest.files) for line in _lines(part)]


def copy_verified(source: str, destination: str, entry: FileEntry, mode: int) -> None:
    """Copy a file of a tree whose bytes are compared on the way; the copy has the tree's time.

    Raises:
        CopyError: the source is not as its entry says.
        OSError: the file system says no.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _compare(os.fstat(reading), entry)
        writing = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            hasher, left = hashlib.sha256(), entry.size
            while left > 0 and (chunk := os.read(reading, min(left, 1 << 20))):
                hasher.update(chunk)
                left -= len(chunk)
                _write_all(writing, chunk)
            if hasher.hexdigest() != entry.sha256:
                raise CopyError(entry.path)
            # Bytecode is valid for a source's time and size: all copies have the tree's.
            os.utime(writing, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _link(source: str, destination: str, entry: FileEntry) -> bool:
    """Link a large file; False when this one has to be copied."""
    _compare(os.stat(source, follow_symlinks=False), entry)
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


#: (path in the copy, inode, mode, size, mtime_ns, ctime_ns) of one file or folder.
Evidence = tuple[str, int, int, int, int, int]


def evidence_of(path: str, found: os.stat_result, *, shared: bool = False) -> Evidence:
    """What changes when anybody changes a file, or a folder's entries.

    Args:
        shared: a link into the tree, of which other links come and go: mode and ctime do not count.
    """
    if shared:
        return (path, found.st_ino, -1, found.st_size, found.st_mtime_ns, -1)
    return (path, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def is_as_it_was(folder: str, evidence: Evidence) -> bool:
    """Whether what a copy had when it was made is there unchanged."""
    path = evidence[0]
    try:
        found = os.lstat(f"{folder}/{path}")
    except OSError:
        return False
    return evidence_of(path, found, shared=evidence[2] == -1) == evidence


def _compare(found: os.stat_result, entry: FileEntry) -> None:
    if (found.st_ino, found.st_size, found.st_mtime_ns) != (entry.inode, entry.size, entry.mtime_ns):
        raise CopyError(entry.path)


#: Told of each folder of a copy; its answer tells it from others, None where it cannot be watched.
Watch = Callable[[str], int | None]
#: Takes back what `Watch` has answered.
Unwatch = Callable[[Sequence[int]], None]


def make_copy(
    target: str,
    umask: int,
    manifest: Manifest,
    tree: str,
    bytecode: tuple[str, Compiled] | None,
    records: Mapping[str, bytes],
    watch: Watch,
    unwatch: Unwatch,
    room: int,
) -> dict[str, Any]:
    """Make a ready copy and have it watched.

    Args:
        bytecode: where it lies, and what it is.
        room: folders that may be watched.

    Returns:
        ``note`` (see `installing.ready.ReadyCopy`), ``inode`` of its folder, ``inodes``, ``bytes`` and
        ``watches``: the answers of `watch`, or None when not all its folders can be watched; then none is,
        and the note has in ``own`` what to compare.

    Raises:
        CopyError, OSError: it could not be made.
    """
    folder = Folder(target, umask)
    copier = Copier(folder)
    folder.make("")
    parts = parts_of(manifest, manifest.files)
    links = [entry for part in parts for entry in copier.copy(tree, part)]
    compiled = None
    if bytecode is not None:
        root, compiled = bytecode
        for part in parts_of(manifest, compiled.files):
            copier.copy(root, part, private=True)
    note = note_of(folder, manifest, parts, records, links=links, compiled=compiled)
    watches = _watch_all(list(folder.made.values()), watch, unwatch) if len(folder.made) <= room else None
    try:
        evidence = folder.check()
        if watches is None:
            note["own"] = evidence
        inode = os.lstat(target).st_ino
    except BaseException:
        unwatch(watches or ())
        raise
    answer = {"note": note, "inode": inode, "inodes": folder.inodes, "bytes": folder.bytes}
    return answer | {"watches": watches}


def _watch_all(folders: Sequence[str], watch: Watch, unwatch: Unwatch) -> list[int] | None:
    watches: list[int] = []
    for folder in folders:
        number = watch(folder)
        if number is None:
            # A watch stays with its folder, into an environment too: none may be left that nobody minds.
            unwatch(watches)
            return None
        watches.append(number)
    return watches
