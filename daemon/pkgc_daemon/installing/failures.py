"""Translation of the operating system's errors into ours; not a place where errors are handled."""

from __future__ import annotations

import errno
import os

from pkgc_daemon.errors import PkgcError

#: What a file system says when a way of placing files is not possible there: try the next way
#: (design.md section 3, "Facts").
NEXT_MODE = frozenset(
    {
        errno.EPERM,
        errno.EXDEV,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.EINVAL,
        errno.EMLINK,
        errno.ENOTTY,
        errno.ENOSYS,
    }
)

_KNOWN: dict[int, tuple[str, str, str | None]] = {
    errno.ENOSPC: ("disk-full", "no space left", "free some space and run the command again"),
    errno.EDQUOT: ("disk-full", "disk quota exceeded", "free some space and run the command again"),
    errno.EROFS: ("read-only", "the file system is read-only", None),
    errno.EACCES: ("no-permission", "permission denied", "check who owns the environment"),
    errno.EPERM: ("no-permission", "operation not permitted", "check who owns the environment"),
    errno.EMFILE: ("no-file-descriptors", "too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("no-file-descriptors", "too many open files on this machine", None),
    errno.ENAMETOOLONG: ("path-too-long", "the path is too long for this file system", None),
}


def translated(error: OSError, doing: str) -> PkgcError:
    """The `PkgcError` for a failure of the file system.

    Args:
        error: what was raised; its file names go into the context.
        doing: what failed, as a clause: ``cannot change /path/of/venv``.
    """
    code, text, hint = _KNOWN.get(
        error.errno or 0, ("install-failed", error.strerror or type(error).__name__, None)
    )
    names = [
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
    ]
    return PkgcError(code, f"{doing}: {text}", context="\n".join(names) or None, hint=hint)


def interrupted() -> PkgcError:
    """The error of a call that its client cancelled."""
    return PkgcError("interrupted", "interrupted; the environment is as it was before", exit_status=130)
