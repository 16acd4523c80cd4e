"""Source trees of the user's: is there a project, and did it change since it was built (a hand).

It looks at names, sizes and times; files are read only where that is not enough.  It builds nothing,
copies nothing, and parses no project file itself (`project.py` does).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from pkgc_daemon.environments.files import NotRegularError, open_regular, read_regular, read_start
from pkgc_daemon.errors import EXIT_INTERRUPTED, InputError, PkgcError
from pkgc_daemon.inputs.tomlkeys import deep_key

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Files that one source tree may have.
MAX_FILES = 200_000
#: Seconds by which the clock of a file system may lag: an edit within this time may leave no trace.
TICK = 0.02

#: Changes when fingerprints come to mean something else, so that old ones do not compare equal by chance.
_GENERATION = b"pkgc-directory-1\n"
#: Project files: their content counts for an editable install, whatever else does.
_CONFIGURATION = ("pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in")
#: Sources of what does not show through an editable install: it has to be compiled.
_COMPILED = re.compile(
    rb"(?i)\.(c|cc|cpp|cxx|cu|h|hh|hpp|hxx|inc|pyx|pxd|pxi|f|f77|f90|f95|for|rs|go|zig|asm|s|cmake|build|lock)\Z"
    rb"|(\A|/)(CMakeLists\.txt|Cargo\.toml|meson\.options|meson_options\.txt|Makefile)\Z"
)
#: Said where a path leads nowhere.
_WHERE_PATHS_START = (
    "check the path: a lock's start at the lock's folder, those of requirements files at the working "
    "directory"
)
#: What makes a directory a project.
_PROJECT_FILES = ("pyproject.toml", "setup.py")

_SKIPPED = frozenset(
    {
        b".git",
        b".hg",
        b".svn",
        b".bzr",
        b"__pycache__",
        b".tox",
        b".nox",
        b".mypy_cache",
        b".pytest_cache",
        b".ruff_cache",
        b".venv",
        b"node_modules",
        b".eggs",
    }
)
#: Where backends put what they make, beside the project file.
_OUTPUT = frozenset({b"build", b"dist", b"_skbuild", b".pdm-build"})
#: Folders that say so themselves are no source (cargo's target, caches of most tools): bford.info/cachedir.
_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
#: Backends write the version into such files at every build (setuptools-scm, hatch-vcs, pdm, versioningit):
#: their times say nothing.
_VERSION_FILE = re.compile(rb"(?i)version|__about__")
_VERSION_FILE_SIZE = 64 * 1024
#: Bytes of a project file up to which its content counts; of a larger one size and time do.
_MOST_HASHED = 16 << 20
#: What opening a socket or a device without a driver says.
_NO_FILE = frozenset({errno.ENXIO, errno.ENODEV})


def inspect_directory(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Look at a source tree (a hand).

    Args:
        args: ``path``: absolute path of the tree; ``subdirectory``: of the project in it, or None;
            ``editable``: whether only what an editable install depends on counts.

    Returns:
        ``fingerprint``: hex, equal as long as nothing that a build reads has changed (`fingerprint_tree`,
        `fingerprint_editable`); ``project``: what `project.read_project` says; ``kind``: ``directory`` or
        ``editable``.

    Raises:
        InputError: ``source-not-found``, ``not-a-project``, ``subdirectory-outside``; what `read_project`
            raises.
        PkgcError: ``directory-too-large``; ``interrupted``; ``directory-unreadable``.
    """
    from .project import read_project

    del progress
    root: str = args["path"]
    project = project_folder(root, args.get("subdirectory"))
    if args.get("editable"):
        fingerprint, kind = fingerprint_editable(root, project, cancelled), "editable"
    else:
        fingerprint, kind = fingerprint_tree(root, project, cancelled), "directory"
    return {"fingerprint": fingerprint, "project": read_project(project), "kind": kind}


def project_folder(root: str, subdirectory: str | None) -> str:
    """The folder of the project in the tree at `root`, which has a project file.

    Raises:
        InputError: ``source-not-found``, ``not-a-project``, ``subdirectory-outside``.
    """
    try:
        found = os.stat(root)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(
            "source-not-found",
            f"{root}: no such directory" if missing else f"{root} cannot be looked at: {error.strerror}",
            hint=_WHERE_PATHS_START,
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise InputError(
            "not-a-project",
            f"{root} is a file, not the directory of a project",
            context="expected a directory with pyproject.toml or setup.py",
            hint="archives are named by a path that ends in .whl, .tar.gz or .zip",
        )
    folder = inside(root, subdirectory)
    if not os.path.isdir(folder):
        raise InputError("source-not-found", f"{folder}: no such directory", hint=_WHERE_PATHS_START)
    if not any(os.path.isfile(os.path.join(folder, name)) for name in _PROJECT_FILES):
        raise InputError(
            "not-a-project",
            f"{folder} holds no Python project",
            context="expected pyproject.toml or setup.py\nfound neither",
            hint="name the directory of the project"
            + ("" if subdirectory else "; a project deeper inside is named by #subdirectory=…"),
        )
    return folder


def inside(root: str, subdirectory: str | None) -> str:
    """`subdirectory` of `root`, whatever symbolic links lead to it.

    Raises:
        InputError: ``subdirectory-outside``: it is absolute, or leads out of `root`.
    """
    if not subdirectory:
        return root
    top = os.path.realpath(root)
    real = "" if "\0" in subdirectory else os.path.realpath(os.path.join(root, subdirectory))
    if os.path.isabs(subdirectory) or not real or os.path.commonpath([top, real]) != top:
        raise InputError(
            "subdirectory-outside",
            f"the subdirectory {subdirectory!r} is not inside {root}",
            context=f"expected a relative path below {top}\nfound {real or repr(subdirectory)}",
        )
    return real if ".." in subdirectory else os.path.join(root, subdirectory)


def fingerprint_editable(root: str, project: str, cancelled: Cancelled | None = None) -> str:
    """What an editable install depends on: the content of the project files, and what does not show through.

    That is compiled code, and which folders hold modules (a new package may need another mapping). A project
    whose metadata come from elsewhere (``dynamic`` fields, setup.py, no ``[project]``) depends on every file:
    pkgc cannot know which one has the version.

    Raises:
        PkgcError: ``directory-unreadable``, ``directory-too-large``, ``interrupted``.
    """
    digest = hashlib.sha256(_GENERATION + b"editable\n")
    if _is_static(project):
        try:
            entries = list(_entries(os.fsencode(root), _tops(root, project), cancelled))
        except PkgcError as error:
            if error.code != "directory-too-large":
                raise
            entries = []  # nothing else of a static project is worth an error
        lines = {line for line, _ in entries if _COMPILED.search(line.partition(b"\0")[0])}
        lines |= {
            os.path.dirname(path) + b"/\n"
            for path in (line.partition(b"\0")[0] for line, _ in entries)
            if path.endswith((b".py", b".pyi"))
        }
        digest.update(b"".join(sorted(lines)))
    else:
        digest.update(fingerprint_tree(root, project, cancelled).encode())
    for name in _CONFIGURATION:
        path = os.path.join(project, name)
        digest.update(b"%b %b\n" % (name.encode(), _content(path)))
    return digest.hexdigest()


def _content(path: str) -> bytes:
    """What stands for the content of a project file; ``-`` where no regular file is."""
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
            if found.st_size > _MOST_HASHED:
                return b"%d %d" % (found.st_size, found.st_mtime_ns)
            return hashlib.sha256(file.read(_MOST_HASHED) or b"").digest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotRegularError):
        return b"-"
    except OSError as error:
        if error.errno in _NO_FILE:
            return b"-"
        raise _unreadable(path, error) from error


def _is_static(project: str) -> bool:
    """Whether pyproject.toml alone says all metadata."""
    if os.path.lexists(os.path.join(project, "setup.py")):
        return False
    try:
        data = read_regular(os.path.join(project, "pyproject.toml"), _MOST_HASHED)
        text = data.decode("utf-8")
        table = None if deep_key(text) else tomllib.loads(text).get("project")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(table, dict) and not table.get("dynamic")


def _tops(root: str, project: str) -> set[bytes]:
    return {os.fsencode(os.path.normpath(root)), os.fsencode(os.path.normpath(project))}


def fingerprint_tree(root: str, project: str, cancelled: Cancelled | None = None) -> str:
    """What a build of the tree can depend on, without what builds and tools write into it.

    Of a regular file count path, size, executable bit, mtime and ctime: reading ten thousand files takes
    three times as long as looking at them.  ctime is what uv compares, too; it tells of every change of the
    content, even where a tool sets the mtime back.  A symbolic link counts by its text, and by the file or
    folder that it leads to.  Of version files that backends write anew at every
    build (`_VERSION_FILE`) the content counts instead, else such a project would be built at every sync.

    Not looked into: version control, caches, environments, ``*.egg-info`` folders; beside the project file
    and at the root also ``build``, ``dist`` and the like, unless they are packages.

    An edit that comes within a tick of the clock after another one could leave size and times as they were;
    so a tree that was changed just now is looked at again when the tick is over.

    Raises:
        PkgcError: ``directory-too-large``, ``interrupted``, ``directory-unreadable``.
    """
    tops = _tops(root, project)
    for _ in range(2):
        began = time.time_ns()
        entries: list[bytes] = []
        newest = 0
        for entry, changed in _entries(os.fsencode(root), tops, cancelled):
            entries.append(entry)
            newest = max(newest, changed)
        # a time in the future says nothing about now
        if not began - int(TICK * 1e9) <= newest <= time.time_ns():
            break
        time.sleep(TICK)
    entries.sort()
    where = os.fsencode(os.path.relpath(project, root))
    return hashlib.sha256(_GENERATION + where + b"\n" + b"".join(entries)).hexdigest()


def _entries(root: bytes, tops: set[bytes], cancelled: Cancelled | None) -> Iterator[tuple[bytes, int]]:
    """Each file as one line, and when it was changed last (nanoseconds since the epoch)."""
    count = 0
    folders = [root]
    outside = _Outside(root)
    skip_prefix = len(root.rstrip(b"/")) + 1
    while folders:
        if cancelled is not None and cancelled():
            raise interrupted()
        folder = folders.pop()
        top = os.path.normpath(folder) in tops
        try:
            with os.scandir(folder) as found:
                children = list(found)
        except OSError as error:
            if folder == root:
                raise _unreadable(os.fsdecode(root), error) from error
            # a database's folder of another user, for instance; a build cannot read it either
            yield b"%b\0unreadable\n" % folder[skip_prefix:], 0
            continue
        if folder != root and _is_foreign(children):
            continue
        for child in children:
            name = child.name
            try:
                if child.is_dir(follow_symlinks=False):
                    if not _is_skipped(name, top=top, path=child.path):
                        folders.append(child.path)
                    continue
                if child.is_symlink() and outside.is_new(child.path):
                    folders.append(child.path)
                line, changed = _line(child, child.path[skip_prefix:])
            except OSError:  # it went away meanwhile
                continue
            if line:
                yield line, changed
                count += 1
                if count > MAX_FILES:
                    raise _too_large(os.fsdecode(root))


class _Outside:
    """Folders outside of a tree to which its links lead: each is entered once."""

    def __init__(self, root: bytes) -> None:
        self._root = os.path.realpath(root)
        self._seen: set[bytes] = set()

    def is_new(self, link: bytes) -> bool:
        """Whether a link leads to such a folder, for the first time."""
        real = os.path.realpath(link)
        start = real.rstrip(b"/") + b"/"
        inside = real == self._root or real.startswith(self._root + b"/")
        if inside or real in self._seen or self._root.startswith(start) or not os.path.isdir(real):
            return False
        if any(one.startswith(start) or real.startswith(one + b"/") for one in self._seen):
            return False
        self._seen.add(real)
        return True


def _line(child: os.DirEntry[bytes], path: bytes) -> tuple[bytes, int]:
    """One file as a line of the fingerprint; empty for what no build depends on."""
    name = child.name
    if name.endswith((b".pyc", b".pyo")):
        return b"", 0
    found = child.stat(follow_symlinks=False)
    link = b""
    if stat.S_ISLNK(found.st_mode):
        link = os.readlink(child.path)
        try:
            target = child.stat()
        except OSError:
            target = None
        if target is None or not stat.S_ISREG(target.st_mode):
            return b"%b\0link %b\n" % (path, link), found.st_ctime_ns
        found = target
    elif not stat.S_ISREG(found.st_mode):
        return b"", 0
    executable = 1 if found.st_mode & 0o111 else 0
    if found.st_size <= _VERSION_FILE_SIZE and _VERSION_FILE.search(name):
        try:
            start = read_start(os.fsdecode(child.path), _VERSION_FILE_SIZE + 1)
            content = hashlib.sha256(start).hexdigest().encode()
        except PermissionError:
            content = b"unreadable"
        return b"%b\0%b %d %b\n" % (path, link, executable, content), 0
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return b"%b\0%b %d %d %d %d\n" % (path, link, executable, found.st_size, *times), max(times)


def _is_skipped(name: bytes, *, top: bool, path: bytes) -> bool:
    if name in _SKIPPED or name.endswith(b".egg-info"):
        return True
    # a package may be called build
    return top and name in _OUTPUT and not os.path.exists(os.path.join(path, b"__init__.py"))


def _is_foreign(children: list[os.DirEntry[bytes]]) -> bool:
    """Whether a folder is an environment, or a cache by its own word."""
    for child in children:
        if child.name == b"pyvenv.cfg":
            return True
        if child.name == b"CACHEDIR.TAG" and child.is_file(follow_symlinks=False):
            try:
                return read_start(os.fsdecode(child.path), len(_CACHE_TAG)) == _CACHE_TAG
            except OSError:
                return False
    return False


def interrupted() -> PkgcError:
    """The error of a call that its client cancelled."""
    return PkgcError("interrupted", "interrupted", exit_status=EXIT_INTERRUPTED)


def _unreadable(path: str, error: OSError) -> PkgcError:
    return PkgcError(
        "directory-unreadable",
        f"{path} cannot be read: {error.strerror or error}",
        hint="check who owns it and which user runs pkgc",
    )


def _too_large(root: str) -> PkgcError:
    return PkgcError(
        "directory-too-large",
        f"{root} has more than {MAX_FILES} files",
        context="pkgc looks at every file to see whether it has to be built again",
        hint="name the directory of the project itself; move data, caches and environments out of it, "
        "or put a CACHEDIR.TAG into their folders",
    )
