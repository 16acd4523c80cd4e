"""The errors of packages that exclude each other, or the environment itself; it detects none of them."""

from __future__ import annotations

from pkgc_daemon.errors import PkgcError


def overlap_error(text: str, *more: str) -> PkgcError:
    """The error of --strict for two distributions that own one path; `more`: others like it."""
    return PkgcError(
        "overlapping-files",
        text,
        context="\n".join(more) or None,
        hint="remove one of the two from the lock, or run without --strict to let the later one win",
    )


def reserved(filename: str, source: str, path: str) -> PkgcError:
    """The error of a package that would replace a part of the environment itself."""
    return PkgcError(
        "reserved-path",
        f"{filename}: {source} would replace {path}, which belongs to the environment itself",
        hint="such a wheel is broken or hostile; report it to its authors",
    )


def conflict(name: str, path: str) -> PkgcError:
    """The error of a file where another has a folder, or the reverse."""
    return PkgcError(
        "path-conflict",
        f"{name}: {path} is a file in one place and a folder in another",
        hint="two packages, or a package and what lies in the environment, exclude each other",
    )
