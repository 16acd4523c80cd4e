"""Unpacking source archives (sdists, archives by URL) into a folder; it neither reads nor builds the project.

The format is decided by the file name alone, and a file which is another archive as well is refused
(CVE-2026-3219).  Rules: PEP 625, PEP 706, standards.md B1 and 1.14.  Everything lands below the folder that
the caller gives; after a refusal there may be a part of the tree in it, and nothing anywhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NoReturn

from pkgc_daemon.archives.sourcetree import SourceTree
from pkgc_daemon.archives.tarheaders import Problem
from pkgc_daemon.archives.tarreader import TarReader, is_tar
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS, ArchiveLimits, bad_archive
from pkgc_daemon.archives.zipreader import ZipReader
from pkgc_daemon.errors import PkgcError

Format = Literal["tar", "gzip", "bzip2", "xz", "zip"]

_FORMATS: tuple[tuple[str, Format], ...] = (
    (".tar.gz", "gzip"),
    (".tgz", "gzip"),
    (".tar.bz2", "bzip2"),
    (".tbz", "bzip2"),
    (".tar.xz", "xz"),
    (".txz", "xz"),
    (".tar", "tar"),
    (".zip", "zip"),
)


def archive_format(filename: str) -> Format:
    """The format that a file name stands for; upper and lower case are the same.

    Raises:
        PkgcError: ``unsupported-archive``.
    """
    name = filename.lower()
    for ending, kind in _FORMATS:
        if name.endswith(ending) and len(name) > len(ending):
            return kind
    raise PkgcError(
        "unsupported-archive",
        f"{filename}: not a source archive that can be read",
        context=f"expected {', '.join(ending for ending, _ in _FORMATS)}\nfound {filename}",
        hint="Use a wheel, or an sdist (.tar.gz).",
    )


def extract_sdist(
    path: str,
    filename: str,
    into: str,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
) -> str:
    """Unpack the source archive at `path` into the folder `into`.

    Args:
        path: the archive's bytes (the name on disk does not matter).
        filename: the archive's own file name: its ending is its format.
        into: absolute path of a folder that does not exist, or is empty. On failure the caller removes it.
        limits: bounds on what the archive may cost.
        cancelled: asked for every MiB and every entry.

    Returns:
        The absolute path of the one folder at the archive's top. Files have the modes that the umask gives to
        new files; of the archive's modes only "executable" counts. Modification times are the archive's,
        within 1980 to 2107.

    Raises:
        PkgcError: ``unsupported-archive``; ``bad-archive`` (not one unambiguous archive, an entry that
            leaves it, a bomb); ``file-unreadable``; ``disk-full`` or ``unpack-failed`` when writing fails;
            ``interrupted``.
    """
    kind = archive_format(filename)
    path = _regular_file(path, filename)
    try:
        _vacant_folder(into)
        tree = SourceTree(into, limits)
        if kind == "zip":
            _unpack_zip(path, filename, tree, limits, cancelled)
        else:
            with TarReader(path, filename, kind, limits, cancelled) as archive:
                _unpack_tar(archive, tree)
        return tree.finish()
    except Problem as problem:
        raise bad_archive(filename, problem.what, problem.found, problem.expected) from problem
    except OSError as error:
        _fail_to_write(error, filename)


def _unpack_tar(archive: TarReader, tree: SourceTree) -> None:
    for member in archive.members():
        if member.kind == "file":
            tree.file(member.name, member.executable, member.mtime, archive.content())
        elif member.kind == "folder":
            tree.folder(member.name, member.mtime)
        elif member.kind == "symlink":
            tree.symlink(member.name, member.target)
        else:
            tree.hardlink(member.name, member.target)


def _unpack_zip(
    path: str, filename: str, tree: SourceTree, limits: ArchiveLimits, cancelled: Callable[[], bool]
) -> None:
    if is_tar(path):
        raise Problem("it is a tar archive as well", "a tar header at its start", "a zip only")
    with ZipReader(path, filename, limits) as archive:
        for entry in archive.entries:
            if cancelled():
                raise PkgcError("interrupted", f"interrupted while reading {filename}", exit_status=130)
            mtime = _zip_time(entry.modified)
            if entry.is_directory:
                tree.folder(entry.name, mtime)
            else:
                tree.file(entry.name, entry.executable, mtime, archive.chunks(entry))


def _zip_time(modified: int) -> int | None:
    """Seconds since 1970 of an MS-DOS time, which has no zone: taken as UTC, so that builds repeat."""
    date, time = modified >> 16, modified & 0xFFFF
    try:
        moment = datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            (time & 31) * 2,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())


def _regular_file(path: str, filename: str) -> str:
    """The real path of the archive: opening a pipe would hang."""
    try:
        real = os.path.realpath(path, strict=True)
        if not stat.S_ISREG(os.stat(real).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if not os.access(real, os.R_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
    except OSError as error:
        raise PkgcError(
            "file-unreadable",
            f"{filename} cannot be read: {error.strerror}",
            context=f"expected a file\nfound {path}",
        ) from error
    return real


def _vacant_folder(into: str) -> None:
    try:
        os.mkdir(into, 0o700)
    except FileExistsError as error:
        if os.path.islink(into) or os.listdir(into):
            raise PkgcError(
                "unpack-failed",
                f"{into} is in the way",
                context=f"expected nothing, or an empty folder\nfound {into}",
            ) from error


def _fail_to_write(error: OSError, filename: str) -> NoReturn:
    if error.errno == errno.EEXIST:
        raise bad_archive(
            filename, "two of its entries are one path here", str(error.filename), "names that differ"
        ) from error
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    raise PkgcError(
        "disk-full" if full else "unpack-failed",
        f"No space left while unpacking {filename}" if full else f"{filename} could not be unpacked",
        context=f"expected {'free space' if full else 'success'}\nfound {error.strerror or error}: "
        f"{error.filename or 'the file or folder'}",
        hint="Builds happen in the temporary folder: set TMPDIR to one with space that may be written to.",
    ) from error
