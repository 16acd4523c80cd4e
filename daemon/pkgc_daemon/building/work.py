"""The hands `begin_build` and `end_build`: the temporary folder in which one build happens.

It lies in the client's world, under its TMPDIR, and belongs to its user alone.  Nothing is removed that has
no marker file of ours: the path comes over a socket, and a wrong one must not cost anybody's files.  What a
killed client leaves behind is swept by a later `begin_build`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from typing import Any

from pkgc_daemon.errors import PkgcError

#: How the names of work folders begin.
PREFIX = "pkgc-build-"
#: The file that says that a folder is one of ours, and whose.
MARKER = ".pkgc-build"
#: The output of the build's hooks, in the work folder.
LOG = "build.log"
#: Seconds for which a log that was kept can be read.
STALE_AFTER = 86_400.0
_LARGEST_MARKER = 4096


def begin_build(args: dict[str, Any]) -> dict[str, Any]:
    """Make a fresh work folder (a hand), and remove old ones of processes that are gone.

    Args:
        args: nothing that counts.

    Returns:
        ``work``: its absolute path, without symbolic links; mode 0700.

    Raises:
        PkgcError: ``no-work-folder``: it cannot be made.
    """
    del args
    try:
        parent = os.path.realpath(tempfile.gettempdir())
        _sweep(parent)
        work = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        marker = {"pid": os.getpid(), "started": _started(os.getpid()), "pids": _pid_namespace()}
        with open(os.path.join(work, MARKER), "x", encoding="utf-8") as file:
            json.dump(marker, file)
    except OSError as error:
        raise PkgcError(
            "no-work-folder",
            f"a temporary folder for builds cannot be made: {error.strerror or error}",
            context=error.filename if isinstance(error.filename, str) else None,
            hint="set TMPDIR to a directory that can be written",
        ) from error
    return {"work": work}


def end_build(args: dict[str, Any]) -> dict[str, Any]:
    """Remove a work folder (a hand).

    Args:
        args: ``work``: what `begin_build` gave; ``keep_log``: leave the log (with the folder and its marker,
            so that it is swept one day).

    Returns:
        ``log``: the path of the log that was kept, or None; ``left``: whether something could not be removed.

    Raises:
        PkgcError: ``not-a-work-folder``: `begin_build` did not make it; nothing was touched.
    """
    work = check_work(args["work"])
    kept = {MARKER}
    log = os.path.join(work, LOG)
    keep_log = bool(args.get("keep_log")) and os.path.isfile(log)
    if keep_log:
        kept.add(LOG)
    for name in os.listdir(work):
        if name not in kept:
            remove_all(os.path.join(work, name))
    left = bool(set(os.listdir(work)) - kept)
    if not keep_log and not left:
        # The marker goes last: without it nobody would ever remove the rest.
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(work, MARKER))
            os.rmdir(work)
    return {"log": log if keep_log else None, "left": left}


def check_work(work: object) -> str:
    """`work`, if it is a folder that `begin_build` made for this user.

    Raises:
        PkgcError: ``not-a-work-folder``.
    """
    if (
        isinstance(work, str)
        and os.path.isabs(work)
        and os.path.basename(work).startswith(PREFIX)
        and os.path.realpath(work) == work
        and _marker(work) is not None
    ):
        return work
    raise PkgcError("not-a-work-folder", f"{work} is not a folder that pkgc made for a build")


def remove_all(path: str) -> None:
    """Remove a file or a tree, also one whose folders are write-protected; what cannot be removed stays."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for folder, names, _files in os.walk(path):  # never follows links
        with contextlib.suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
        for name in names:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


def _marker(work: str) -> dict[str, Any] | None:
    """What the marker of a work folder of this user says; None: it is no such folder."""
    try:
        folder = os.lstat(work)
        if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid():
            return None
        fd = os.open(os.path.join(work, MARKER), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            found = json.loads(file.read(_LARGEST_MARKER))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _sweep(parent: str) -> None:
    """Remove the work folders whose process is gone; what `end_build` kept of one stays for a day."""
    oldest = time.time() - STALE_AFTER
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX):
                continue
            marker = _marker(entry.path)
            if marker is None:
                continue
            with contextlib.suppress(OSError):
                made = os.lstat(os.path.join(entry.path, MARKER)).st_mtime
                killed = not {MARKER, LOG}.issuperset(os.listdir(entry.path))
                if (killed or made < oldest) and _is_gone(marker):
                    remove_all(entry.path)


def _is_gone(marker: dict[str, Any]) -> bool:
    """Whether the process that made a work folder has ended, as far as that can be told from here."""
    pid = marker.get("pid")
    if type(pid) is not int or pid <= 0 or marker.get("pids") != _pid_namespace():
        return False  # of a container that shares this folder: its numbers mean others here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return marker.get("started") != _started(pid)


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot: tells it from a later one of the same number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError, ValueError):
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
