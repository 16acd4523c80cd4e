"""Writing the tree of a source archive: what may be where, whatever the format; it reads no archive.

Everything lands below one new folder.  Links are made last, after every file is written, and no entry may lie
below a link: so nothing is ever written through one (CVE-2025-8869, CVE-2007-4559).  Where a link leads is
computed over the whole tree, link by link and component by component, never by comparing prefixes of text
(CVE-2026-1703).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from typing import Literal

from pkgc_daemon.archives.tarheaders import Problem
from pkgc_daemon.archives.tarreader import check_text
from pkgc_daemon.archives.zipdirectory import ArchiveLimits

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: As many links in a row as the kernel follows.
_MOST_LINKS = 40
#: 1980-01-02 and 2107-12-30: what a zip can say in every time zone, since builds copy times into wheels.
EARLIEST, LATEST = 315_619_200, 4_354_732_800

_Kind = Literal["folder", "file", "program", "link"]


class SourceTree:
    """A tree that is being written into the folder `root`, which exists and is empty.

    Files get the modes 0666 or 0777 (executables) less the umask, as if the user had written them.

    Args:
        root: absolute path.
        limits: for the length of link targets and the sum of sizes.

    Raises (every method):
        Problem: the entry may not be where it is, or is there already with other content.
        OSError: it cannot be written.
    """

    def __init__(self, root: str, limits: ArchiveLimits) -> None:
        self._root = root
        self._limits = limits
        self._top: str | None = None
        self._kinds: dict[str, _Kind] = {}
        self._times: dict[str, int] = {}
        self._links: dict[str, str] = {}
        self._followed: dict[str, tuple[str, int]] = {}
        self._doubles: dict[str, str] = {}

    def folder(self, name: str, mtime: int | None) -> None:
        """A folder, which may be there already."""
        self._folder(name)
        if mtime is not None:
            self._times[name] = mtime

    def file(self, name: str, executable: bool, mtime: int | None, content: Iterator[bytes]) -> None:
        """A file with its content; a second one of that name must be the same."""
        kind: _Kind = "program" if executable else "file"
        if not self._claim(name, kind):
            self._compare(name, content)
            return
        fd = os.open(self._path(name), _CREATE, 0o777 if executable else 0o666)
        try:
            for piece in content:
                written = os.write(fd, piece)
                while written < len(piece):
                    written += os.write(fd, memoryview(piece)[written:])
            if mtime is not None:
                seconds = bounded_time(mtime)
                os.utime(fd, (seconds, seconds))
        finally:
            os.close(fd)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link; `finish` makes it, if it stays in the tree."""
        shown = f"{name} -> {target[:200]!r}"
        check_text(target, shown)
        length = len(target.encode())
        if not target or length > self._limits.name_bytes or target.count("/") >= self._limits.depth:
            raise Problem(f"the link {shown} is empty or too long", f"{length} bytes", "a usable path")
        if target.startswith("/"):
            raise Problem(f"the link {shown} leaves the archive", "an absolute path", "a relative path")
        if not self._claim(name, "link") and self._links[name] != target:
            raise Problem(f"{name} is there twice", repr(target), repr(self._links[name]))
        self._links[name] = target

    def hardlink(self, name: str, target: str) -> None:
        """A second name of a file that came before."""
        target = self._doubles.get(target, target)
        kind = self._kinds.get(target)
        if kind not in ("file", "program"):
            raise Problem(
                f"{name} is a hard link to what is no file before it",
                f"{target}: {kind or 'nothing'}",
                "a file",
            )
        if not self._claim(name, kind) and self._doubles.get(name) != target:
            raise Problem(f"{name} is there twice", "a hard link", "one entry")
        self._doubles[name] = target

    def finish(self) -> str:
        """Make the links, set the times of folders.

        Returns:
            the path of the one folder at the top.
        """
        if self._top is None or self._kinds.get(self._top) != "folder":
            raise Problem("it is empty", "no folder", "one folder at its top")
        for name in self._links:
            self._follow(name)
        size = 0
        for name, target in self._doubles.items():
            try:
                os.link(self._path(target), self._path(name), follow_symlinks=False)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOSPC, errno.EDQUOT):
                    raise
                size += os.stat(self._path(target)).st_size
                if size > self._limits.total:
                    raise Problem(
                        "it is too large", f"{size} bytes", f"at most {self._limits.total}"
                    ) from error
                shutil.copy2(self._path(target), self._path(name), follow_symlinks=False)
        for name, target in self._links.items():
            os.symlink(target, self._path(name))
        for name, mtime in self._times.items():
            seconds = bounded_time(mtime)
            os.utime(self._path(name), (seconds, seconds), follow_symlinks=False)
        return self._path(self._top)

    # -- what is where ---------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _claim(self, name: str, kind: _Kind) -> bool:
        """Take `name` for an entry that is no folder; False when it is taken by the same kind already."""
        parent = name.rpartition("/")[0]
        if not parent:
            raise Problem("it does not have one folder at its top", f"{name}: a {kind}", "one folder")
        if self._kinds.get(parent) != "folder":
            self._folder(parent)
        there = self._kinds.get(name)
        if there is None:
            self._kinds[name] = kind
            return True
        if there != kind:
            raise Problem(f"{name} is there twice, as two kinds of entry", f"a {kind}", f"a {there}")
        return False

    def _folder(self, name: str) -> None:
        missing = []
        while name and name not in self._kinds:
            missing.append(name)
            name = name.rpartition("/")[0]
        if name and self._kinds[name] != "folder":
            raise Problem(
                f"{name} is both a {self._kinds[name]} and a folder", f"{missing[:1] or name}", "one of them"
            )
        for path in reversed(missing):
            if "/" not in path:
                if self._top is not None:
                    raise Problem(
                        "it does not have one folder at its top", f"{self._top}, {path}", "one folder"
                    )
                self._top = path
            os.mkdir(self._path(path))
            self._kinds[path] = "folder"

    def _compare(self, name: str, content: Iterator[bytes]) -> None:
        """Read a file's second entry, which must be what the first one was."""
        if name in self._doubles:
            raise Problem(f"{name} is there twice", "a file", "a hard link")
        with open(self._path(name), "rb", buffering=0, opener=_no_follow) as first:
            for piece in content:
                at = 0
                while at < len(piece):
                    part = first.read(len(piece) - at)
                    if not part or part != piece[at : at + len(part)]:
                        raise Problem(f"{name} is there twice with two contents", "another file", "one file")
                    at += len(part)
            if first.read(1):
                raise Problem(f"{name} is there twice with two contents", "a shorter file", "one file")

    def _follow(self, name: str, depth: int = 1) -> tuple[str, int]:
        """Where the link `name` leads, going as the kernel would go, and how many links are on the way."""
        known = self._followed.get(name)
        if known is not None:
            return known
        target = self._links[name]
        at, links = name.rpartition("/")[0], 1
        for part in target.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                at = at.rpartition("/")[0]
                if not at:
                    raise Problem(
                        f"the link {name} -> {target!r} leaves the archive", "its target", "a target inside"
                    )
                continue
            at = f"{at}/{part}"
            if at in self._links:
                further = _MOST_LINKS
                if depth < _MOST_LINKS:
                    at, further = self._follow(at, depth + 1)
                links += further
                if links > _MOST_LINKS:
                    raise Problem(
                        f"the link {name} -> {target!r} leads nowhere", "links in a row", "a target"
                    )
        self._followed[name] = at, links
        return at, links


def bounded_time(seconds: int) -> int:
    """A modification time that every build can write into a zip."""
    return min(max(seconds, EARLIEST), LATEST)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
