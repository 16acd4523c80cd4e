"""Placing files of a tree by hardlink, reflink, symlink or copy, and noticing damage before it spreads."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable

from pkgc_daemon.installing.failures import NEXT_MODE
from pkgc_daemon.modes import Modes
from pkgc_daemon.vocabulary import FileEntry

#: What each link mode tries, in order. An explicit mode never falls back to one that shares more
#: between environments than was asked for.
MODES: dict[str, tuple[str, ...]] = {
    "auto": ("reflink", "hardlink", "copy"),
    "hardlink": ("hardlink", "reflink", "copy"),
    "reflink": ("reflink", "copy"),
    "symlink": ("symlink", "copy"),
    "copy": ("copy",),
}

_FICLONE = 0x40049409
_CHUNK = 1 << 20


class DamagedFileError(Exception):
    """A tree's file is not what its manifest says (invariant 6); internal to this stage."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class Linker:
    """Places files of trees in one way, changing to the next way for good when one is not possible.

    Args:
        mode: a key of `MODES`.
        folders: folders known to exist, with a trailing slash.
        modes: for whom folders and copies are made.
    """

    def __init__(self, mode: str, folders: Iterable[str] = (), modes: Modes | None = None) -> None:
        self.asked = mode
        self.modes = modes or Modes()
        self._left = list(MODES[mode])
        self._made = set(folders)
        self.warnings: list[str] = []

    @property
    def mode(self) -> str:
        """The mode in use now."""
        return self._left[0]

    def make_folder(self, folder: str) -> None:
        """Create `folder` (trailing slash) and its missing parents, once."""
        if folder in self._made:
            return
        parent = folder[: folder.rindex("/", 0, -1) + 1]
        if parent != "/":
            self.make_folder(parent)
        try:
            os.mkdir(folder, 0o777)
            self.modes.folder(folder)
        except FileExistsError:
            # A file here is a conflict of two packages; links below then fail with ENOTDIR.
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, "a file is in the way of a folder", folder) from None
        self._made.add(folder)

    def known_folder(self, folder: str) -> None:
        """`folder` (trailing slash) is there, whoever made it."""
        self._made.add(folder)

    def place(
        self,
        source: str,
        target: str,
        entries: Iterable[FileEntry],
        clash: Callable[[FileEntry], bool],
    ) -> None:
        """Place `entries` of the tree at `source` below `target` (both with a trailing slash).

        Args:
            clash: called when the path is taken; True to take it over.

        Raises:
            DamagedFileError: a source differs from its entry in inode, size, mtime or executable bit.
            OSError: whatever the file system says that is not a reason for the next mode.
        """
        # Local names and inlined hardlinking: this loop runs 12,000 times in a common sync.
        stat, link, made = os.stat, os.link, self._made
        put, is_hard = self._put, self.mode == "hardlink"
        folder = ""
        for entry in entries:
            path, size, executable, _, mtime_ns, inode = entry
            below = target + path[: path.rfind("/") + 1]
            if below != folder:
                if below not in made:
                    self.make_folder(below)
                folder = below
            origin = source + path
            try:
                found = stat(origin)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise DamagedFileError(path, "is gone") from error
            if (
                found.st_ino != inode
                or found.st_size != size
                or found.st_mtime_ns != mtime_ns
                or bool(found.st_mode & 0o111) is not executable
            ):
                raise DamagedFileError(path, "was changed")
            try:
                if is_hard:
                    link(origin, target + path)
                else:
                    put(origin, target + path, entry)
                    is_hard = self.mode == "hardlink"
            except FileExistsError:
                if clash(entry):
                    # Never through the existing file: it may be a link to a tree (W13).
                    os.unlink(target + path)
                    put(origin, target + path, entry)
            except OSError as error:
                if not is_hard or error.errno not in NEXT_MODE:
                    raise
                self._give_up(error, target + path)
                put(origin, target + path, entry)
                is_hard = self.mode == "hardlink"

    def _put(self, origin: str, destination: str, entry: FileEntry) -> None:
        while True:
            mode = self.mode
            try:
                if mode == "hardlink":
                    os.link(origin, destination)
                elif mode == "symlink":
                    os.symlink(origin, destination)
                elif mode == "reflink":
                    reflink_file(origin, destination, entry, self.modes)
                else:
                    copy_file(origin, destination, entry, self.modes)
            except FileExistsError:
                raise
            except OSError as error:
                if mode == "copy" or error.errno not in NEXT_MODE:
                    raise
                if error.errno == errno.EMLINK:
                    # This one inode has all the links it can have; others have not.
                    copy_file(origin, destination, entry, self.modes)
                    return
                self._give_up(error, destination)
            else:
                return

    def _give_up(self, error: OSError, destination: str) -> None:
        failed = self._left[0]
        if error.errno == errno.EMLINK and failed == "hardlink":
            return
        self._left.pop(0)
        if self.asked != "auto":
            self.warnings.append(
                f"{failed} is not possible at {os.path.dirname(destination)} "
                f"({error.strerror}); using {self.mode}"
            )


def check_source(origin: str, entry: FileEntry) -> None:
    """Compare one file of a tree with its entry, as `Linker.place` does in its loop.

    Raises:
        DamagedFileError: they differ.
    """
    try:
        found = os.stat(origin)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedFileError(entry.path, "is gone") from error
    if (
        (found.st_ino, found.st_size, found.st_mtime_ns) != (entry.inode, entry.size, entry.mtime_ns)
    ) or bool(found.st_mode & 0o111) is not entry.executable:
        raise DamagedFileError(entry.path, "was changed")


def copy_file(
    origin: str, destination: str, entry: FileEntry, modes: Modes, executable: bool | None = None
) -> None:
    """Copy a file into a new one, with the mode that `modes` gives and the time of `entry`.

    Raises:
        FileExistsError: `destination` exists; it is never written through.
        DamagedFileError: `origin` has another length than `entry` says.
    """
    if executable is None:
        executable = entry.executable
    source = os.open(origin, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mode = 0o777 if executable else 0o666
        target = os.open(destination, flags, mode)
        try:
            modes.file(target, mode)
            copied = 0
            while chunk := os.read(source, _CHUNK):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(target, view) :]
                copied += len(chunk)
            # As links have it: bytecode is valid for a source's time and size.
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(target)
    finally:
        os.close(source)
    if copied != entry.size:
        raise DamagedFileError(entry.path, f"has {copied} bytes, expected {entry.size}")


def reflink_file(origin: str, destination: str, entry: FileEntry, modes: Modes) -> None:
    """Make a new file that shares its blocks with `origin` (FICLONE) and has its time.

    Raises:
        OSError: with one of `NEXT_MODE` where there are no reflinks; nothing is left at `destination`.
    """
    source = os.open(origin, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mode = 0o777 if entry.executable else 0o666
        target = os.open(destination, flags, mode)
        try:
            modes.file(target, mode)
            fcntl.ioctl(target, _FICLONE, source)
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError:
            os.unlink(destination)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
