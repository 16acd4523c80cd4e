"""Running an interpreter that may misbehave: bounded time, a clean environment, errors as `PkgcError`.

It knows how to run one and how failures of the operating system are named; not what to ask.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pkgc_daemon.errors import PkgcError

#: Oldest Python that pkgc installs for.
OLDEST = (3, 8)
#: Seconds after which an interpreter that does not answer is killed, with all that it started.
PATIENCE = 30.0
#: Flags of every run: ignore PYTHON* and the working directory, write no bytecode, speak UTF-8.
ISOLATED = ("-I", "-B", "-X", "utf8")
#: As `ISOLATED`, and no code of an environment (`.pth`, sitecustomize) runs.
BARE = ("-I", "-S", "-B", "-X", "utf8")


class Ran(NamedTuple):
    """How a process ended and what it said (decoded leniently)."""

    status: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The end of what it wrote to stderr, for a message."""
        said = self.errors.strip() or self.output.strip()
        return said[-2000:] if said else f"exit status {self.status}, no message"


def clean_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what would change which Python runs, or how."""
    source = os.environ if environ is None else environ
    return {
        key: value
        for key, value in source.items()
        if not key.startswith("PYTHON") and key != "__PYVENV_LAUNCHER__"
    }


def run(
    command: Sequence[str],
    *,
    timeout: float = PATIENCE,
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
    umask: int = -1,
) -> Ran:
    """Run `command` to its end, without a terminal and in a session of its own.

    Args:
        timeout: seconds; then the whole process group is killed.
        environ: variables to start from (default: this process's); PYTHON* are dropped.
        umask: the umask that it gets; -1: this process's.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it did not end in time.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(environ),
        cwd=cwd or "/",
        start_new_session=True,
        umask=umask,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException as error:
            # The group, not the process: a child of it that keeps the pipes open would hold us for ever.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"no answer after {timeout:g} s") from error
            raise
    return Ran(process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


def transportable(path: str) -> str:
    """`path`, if it can be told to a daemon and written into records.

    Raises:
        PkgcError: ``path-not-unicode``: the name is no valid UTF-8.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise PkgcError(
            "path-not-unicode",
            f"the path {shown} is not valid UTF-8",
            hint="rename the directory",
        ) from error
    return path


_CODES = {
    errno.EACCES: ("no-permission", "no permission"),
    errno.EPERM: ("no-permission", "no permission"),
    errno.EROFS: ("read-only", "the file system is read-only"),
    errno.ENOSPC: ("disk-full", "the disk is full"),
    errno.EDQUOT: ("disk-full", "the disk quota is used up"),
}
_HINTS = {
    "no-permission": "check who owns the directory and which user runs pkgc",
    "read-only": "choose a directory on a writable file system with --venv",
    "disk-full": "free some space and run the command again",
}


def explain(error: OSError, doing: str, path: str, *, hint: str | None = None) -> PkgcError:
    """The `PkgcError` for an error of the operating system.

    Args:
        doing: what failed, e.g. ``cannot create the environment``.
        path: what it failed on, unless the error itself names a file.
        hint: for errors that have none of their own.
    """
    code, why = _CODES.get(error.errno or 0, ("io-error", error.strerror or str(error)))
    where = error.filename if isinstance(error.filename, str) else path
    return PkgcError(
        code,
        f"{doing} {path}: {why}",
        context=f"{where}: {error.strerror or error}",
        hint=_HINTS.get(code, hint),
    )


def too_old(path: str, version: str) -> PkgcError:
    """The refusal of a Python before `OLDEST`."""
    return PkgcError(
        "python-too-old",
        f"{path} is Python {version}; pkgc installs for Python {OLDEST[0]}.{OLDEST[1]} and later",
        hint="name another interpreter with --python",
    )
