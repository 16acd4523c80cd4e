"""The hand `prepare_source`: from an archive, a directory or a checkout to a folder that can be built in.

Archives are unpacked into the build's work folder; directories and checkouts are used where they are.  What
the project says of itself is read (`project`) and compared with what was asked for.  Nothing is built here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from packaging.utils import canonicalize_name

from pkgc_daemon.archives.sdist import extract_sdist
from pkgc_daemon.archives.wheel import same_version
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS
from pkgc_daemon.building.project import read_project, stated_identities
from pkgc_daemon.building.work import check_work
from pkgc_daemon.errors import EXIT_FAILED, InputError, PkgcError

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Where archives are unpacked, in the work folder.
UNPACKED = "source"


def prepare_source(args: dict[str, Any], _progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """Make a source ready to be built (a hand).

    Args:
        args: ``kind``: "archive", "directory" or "git-checkout"; ``path``: absolute path of the archive, the
            directory or the checkout; ``filename``: of an archive, its own file name, which says its format;
            ``subdirectory``: of the project in the source, or None; ``work``: the build's work folder
            (`work.begin_build`); optional: ``name`` and ``version`` that the project must have, ``label``:
            how errors call the source (default: file name or path).

    Returns:
        ``source``: absolute path of the folder to build in; ``project``: what `project.read_project` says.

    Raises:
        PkgcError: what `extract_sdist` raises; ``not-a-work-folder``; ``source-not-found``,
            ``subdirectory-outside``, ``not-a-project``, ``invalid-project`` (exit status 2 for a directory of
            the user's, else 1); ``metadata-mismatch``: it is another project or version than asked for.
    """
    kind: str = args["kind"]
    path: str = args["path"]
    filename: str = args.get("filename") or os.path.basename(path)
    label: str = args.get("label") or (filename if kind == "archive" else path)
    try:
        if kind == "archive":
            into = os.path.join(check_work(args["work"]), UNPACKED)
            top = extract_sdist(path, filename, into, DEFAULT_LIMITS, cancelled)
        else:
            top = os.path.abspath(path)
        source = _project_folder(top, args.get("subdirectory"), label)
        inner = f"{label}/{args['subdirectory'].strip('/')}" if args.get("subdirectory") else label
        project = read_project(source, inner)
        _compare(args, source, inner)
    except InputError as error:
        if kind == "directory":
            raise
        # Somebody else's mistake: nothing is wrong with the command or with the user's files.
        raise PkgcError(
            error.code, error.message, context=error.context, hint=error.hint, exit_status=EXIT_FAILED
        ) from error
    return {"source": source, "project": project}


def _project_folder(top: str, subdirectory: str | None, label: str) -> str:
    """`subdirectory` of `top`, by components and whatever symbolic links lead to it."""
    if not subdirectory:
        folder = top
    else:
        real = os.path.realpath(top)
        folder = "" if "\0" in subdirectory else os.path.normpath(os.path.join(top, subdirectory))
        if (
            not folder
            or os.path.isabs(subdirectory)
            or any(
                os.path.commonpath([real, os.path.realpath(path)]) != real
                for path in (folder, os.path.join(top, subdirectory))
            )
        ):
            raise InputError(
                "subdirectory-outside",
                f"the subdirectory {subdirectory!r} is not inside {label}",
                context=f"expected a relative path to a folder inside\nfound {subdirectory!r}",
            )
    if not os.path.isdir(folder):
        there = sorted(name for name in _names(top) if os.path.isdir(os.path.join(top, name)))
        raise InputError(
            "source-not-found",
            f"{label} has no folder {subdirectory!r}" if subdirectory else f"{label}: no such directory",
            context=f"expected a folder\nfound {', '.join(there[:10]) or 'no folder'}"
            if subdirectory
            else None,
        )
    return folder


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _compare(args: dict[str, Any], source: str, label: str) -> None:
    """Compare what is known without a build with what was asked for (PEP 503, PEP 440)."""
    name, version = args.get("name"), args.get("version")
    if not name and not version:
        return
    stated = stated_identities(source, label)
    names = [found for found, _ in stated if found]
    versions = [found for _, found in stated if found]
    # One that agrees is enough: the wheel that comes out is compared again.
    if name and names and canonicalize_name(name) not in names:
        raise _mismatch(label, "project", canonicalize_name(name), names[0])
    if version and versions and not any(same_version(found, version) for found in versions):
        raise _mismatch(label, "version", version, versions[0])


def _mismatch(label: str, what: str, expected: str, found: str) -> PkgcError:
    return PkgcError(
        "metadata-mismatch",
        f"{label} is another {what} than was asked for",
        context=f"expected {what} {expected}\nfound {what} {found}",
        hint="The file is not what its name or its lock says; ask its publisher, or lock again.",
    )
