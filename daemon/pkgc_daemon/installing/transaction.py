"""The transaction: renames between VENV/.pkgc and the environment, journaled, undone when interrupted.

There are two operations, and each is one rename(2):

- ``aside p`` moves ``PREFIX/p`` to ``.pkgc/old/p``; it was done if and only if ``.pkgc/old/p`` exists;
- ``place p`` moves ``.pkgc/staging/p`` to ``PREFIX/p``; it was done if and only if
  ``.pkgc/staging/p`` does not exist.

So whether an operation was done can be told from `.pkgc` alone, which nobody else touches. The journal is
written before the first operation and unlinked after the last: unlinking is the commit. While the journal
exists, the change is undone in reverse; without it `.pkgc` is garbage. Undoing may itself be interrupted.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pkgc_daemon.environments.files import NotRegularError, open_regular
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.failures import translated
from pkgc_daemon.installing.layout import WORK, Layout
from pkgc_daemon.installing.records import mismatches, read_record

JOURNAL = f"{WORK}/journal"
STAGING = f"{WORK}/staging"
OLD = f"{WORK}/old"
_SCHEMA = 1


def checkpoint(name: str) -> None:
    """A point at which the process may die; crash tests replace it, and otherwise nothing happens."""


class Operation(NamedTuple):
    """One rename: kind ``aside`` or ``place``, and a path below the prefix."""

    kind: str
    path: str

    def rename(self, prefix: str) -> tuple[str, str]:
        """(from, to), absolute."""
        there = f"{prefix}/{self.path}"
        if self.kind == "aside":
            return there, f"{prefix}/{OLD}/{self.path}"
        return f"{prefix}/{STAGING}/{self.path}", there

    def was_done(self, prefix: str) -> bool:
        """Whether the rename happened."""
        if self.kind == "aside":
            return os.path.lexists(f"{prefix}/{OLD}/{self.path}")
        return not os.path.lexists(f"{prefix}/{STAGING}/{self.path}")


def boot_id() -> str:
    """What tells one boot of this machine from another; '' where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def begin(prefix: str) -> None:
    """Make an empty work folder; a leftover without a journal is garbage."""
    if os.path.lexists(f"{prefix}/{WORK}"):
        clear(prefix)
    os.mkdir(f"{prefix}/{WORK}", 0o700)
    os.mkdir(f"{prefix}/{STAGING}")
    os.mkdir(f"{prefix}/{OLD}")


def run(prefix: str, operations: Sequence[Operation], touched: Sequence[str]) -> None:
    """Journal and do the operations, or leave the environment as it was.

    Args:
        touched: .dist-info paths that leave; they are what an unclean boot makes suspect.

    Raises:
        OSError: what stopped it, after everything was undone.
    """
    for operation in operations:
        if operation.kind == "aside":
            os.makedirs(os.path.dirname(f"{prefix}/{OLD}/{operation.path}"), exist_ok=True)
    data = json.dumps(
        {"schema": _SCHEMA, "boot": boot_id(), "operations": operations, "touched": list(touched)}
    )
    checkpoint("before-journal")
    temporary = f"{prefix}/{JOURNAL}.new"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(data)
    checkpoint("journal-written")
    os.rename(temporary, f"{prefix}/{JOURNAL}")
    try:
        checkpoint("journaled")
        for operation in operations:
            os.rename(*operation.rename(prefix))
            checkpoint(f"{operation.kind} {operation.path}")
        os.unlink(f"{prefix}/{JOURNAL}")
    except BaseException:
        # Also for KeyboardInterrupt: in a client this runs on the main thread.
        if os.path.lexists(f"{prefix}/{JOURNAL}"):
            undo(prefix, operations)
        raise
    checkpoint("committed")


def undo(prefix: str, operations: Sequence[Operation]) -> None:
    """Take back, in reverse, what was done, and drop the journal; may be run again after a crash.

    Raises:
        PkgcError: ``recovery-blocked`` when something new stands where an old folder has to go back;
            the journal stays, and so does everything that is needed to try again.
    """
    for operation in reversed(operations):
        if not operation.was_done(prefix):
            continue
        source, target = operation.rename(prefix)
        try:
            os.rename(target, source)
        except FileNotFoundError:
            # Placed, and then taken away by someone else: nothing of ours is left there.
            if operation.kind == "aside":
                raise
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise PkgcError(
                    "recovery-blocked",
                    f"an interrupted change of {prefix} cannot be undone: {source} is in the way",
                    hint=f"move {source} elsewhere and run the command again",
                ) from error
            raise translated(error, f"cannot undo the interrupted change of {prefix}") from error
        checkpoint(f"undone {operation.kind} {operation.path}")
    os.unlink(f"{prefix}/{JOURNAL}")
    checkpoint("undone")


def clear(prefix: str) -> None:
    """Remove the work folder; only without a journal."""

    def loosen(function: Any, path: str, error: Any) -> None:
        # A folder without write permission keeps its entries: allow, and try once more.
        if not isinstance(error[1], PermissionError):
            raise error[1]
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path)
        else:
            function(path)

    work = f"{prefix}/{WORK}"
    if os.path.islink(work) or not os.path.isdir(work):
        os.unlink(work)
    else:
        _rmtree(work, loosen)
    checkpoint("cleared")


def _rmtree(path: str, loosen: Any) -> None:
    import sys

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=lambda function, name, error: loosen(function, name, (None, error)))
    else:
        shutil.rmtree(path, onerror=loosen)


def recover(prefix: str, layout: Layout) -> list[str]:
    """Undo an interrupted change, if there is one; the environment's lock must be held.

    Returns:
        Warnings; empty also when there was nothing to do.

    Raises:
        PkgcError: ``recovery-blocked``, or what the file system said.
    """
    warnings: list[str] = []
    try:
        # A symlink is not ours: what a journal behind it says would move files of another place.
        is_ours = not os.path.islink(f"{prefix}/{WORK}")
        if is_ours and os.path.lexists(f"{prefix}/{JOURNAL}"):
            journal = _read_journal(prefix)
            if journal is None:
                warnings += _salvage(prefix, layout)
            else:
                operations, touched, boot = journal
                undo(prefix, operations)
                warnings.append(f"an interrupted change of {prefix} was undone")
                if boot != boot_id():
                    warnings += _distrust(prefix, touched)
        if os.path.lexists(f"{prefix}/{WORK}"):
            clear(prefix)
    except OSError as error:
        raise translated(error, f"cannot undo the interrupted change of {prefix}") from error
    return warnings


def _read_journal(prefix: str) -> tuple[list[Operation], list[str], str] | None:
    """The journal, or None when a lost write (power failure) left it unreadable."""
    try:
        with open_regular(f"{prefix}/{JOURNAL}") as file:
            data = json.load(file)
        operations = [Operation(str(kind), str(path)) for kind, path in data["operations"]]
        touched = [str(path) for path in data["touched"]]
        boot = str(data["boot"])
        schema = data["schema"]
    except (ValueError, KeyError, TypeError, RecursionError, NotRegularError):
        return None
    if schema != _SCHEMA:
        raise PkgcError(
            "journal-too-new",
            f"another version of pkgc was interrupted while it changed {prefix}",
            hint="finish with that version of pkgc, or make a new environment",
        )
    for kind, path in operations:
        # It lies in a folder of the user: it may name nothing outside of the environment.
        if kind not in ("aside", "place") or path.startswith("/") or ".." in path.split("/"):
            return None
    return operations, touched, boot


def _salvage(prefix: str, layout: Layout) -> list[str]:
    """Without a readable journal: put back whatever has no successor, and distrust everything."""
    for path in list(_leaves(f"{prefix}/{OLD}", prefix, "")):
        os.rename(f"{prefix}/{OLD}/{path}", f"{prefix}/{path}")
    os.unlink(f"{prefix}/{JOURNAL}")
    suspects = []
    for site in layout.sites:
        with suppress(FileNotFoundError):
            suspects += [f"{site}/{name}" for name in os.listdir(f"{prefix}/{site}")]
    warning = f"the journal of an interrupted change of {prefix} was lost; its files were verified"
    return [warning, *_distrust(prefix, [path for path in suspects if path.endswith(".dist-info")])]


def _leaves(old: str, prefix: str, folder: str) -> Iterator[str]:
    """Topmost paths below `old` that do not exist in the prefix."""
    try:
        entries = list(os.scandir(f"{old}/{folder}"))
    except FileNotFoundError:
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if not os.path.lexists(f"{prefix}/{path}"):
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from _leaves(old, prefix, path)


def _distrust(prefix: str, dist_infos: Sequence[str]) -> list[str]:
    """After an unclean boot: compare with RECORD; what differs loses METADATA, the mark of damage.

    A scan reports a distribution without METADATA as damaged, so that the next plan replaces it.
    """
    warnings = []
    for dist_info in dist_infos:
        folder = f"{prefix}/{dist_info}"
        lines = read_record(folder)
        if lines is None:
            continue
        bad = next(mismatches(prefix, os.path.dirname(folder), lines), None)
        if bad is None and lines:
            continue
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/METADATA")
        warnings.append(
            f"{os.path.basename(dist_info)} was damaged by an unclean shutdown ({bad or 'empty RECORD'})"
        )
    return warnings
