"""Comparing installed distributions with their RECORDs, byte for byte (the hand `verify_distributions`).

What RECORD does not list is no concern here, and nothing is repaired.
"""

from __future__ import annotations

import csv
import hashlib
import os
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pkgc_daemon.errors import EXIT_INTERRUPTED, PkgcError

from .files import NotRegularError, open_regular, read_regular
from .recordfile import RecordLine, parse_record
from .records import MAX_RECORD

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Paths that are told of one distribution, per kind; the rest is only counted.
MAX_TOLD = 1000
#: Bytes read at a time; between two reads the work can be cancelled.
_CHUNK = 1 << 20
#: Files between two reports of progress.
_STEP = 64


class _Work(NamedTuple):
    """One distribution to compare."""

    dist_info: str
    site: str
    lines: Sequence[RecordLine]
    problem: str | None


def verify_distributions(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Compare every file that the RECORDs list with the disk: there, of the recorded size and hash?

    Args:
        args: ``prefix``: of the environment (files outside of it are passed over: D3); ``dist_infos``:
            absolute paths of .dist-info folders. ``purelib`` and ``platlib`` may be there, as for a scan.
        progress: called with files compared and files in all.
        cancelled: asked between files, and within large ones.

    Returns:
        ``distributions``: a map for each of ``dist_infos``, in their order: ``dist_info``; ``checked``:
        files that were compared (bytecode is not: Python writes it anew); ``missing``, ``changed``,
        ``unreadable``: paths as RECORD has them, the first thousand of each; ``bad``: how many there are in
        all; ``problem``: why nothing could be compared (no RECORD, say), or None.

    Raises:
        PkgcError: ``interrupted``.
    """
    prefix: str = args["prefix"]
    work = [_read(prefix, path) for path in args["dist_infos"]]
    total = sum(len(one.lines) for one in work)
    done = 0
    found = []
    for one in work:
        result: dict[str, Any] = {"dist_info": one.dist_info, "checked": 0, "problem": one.problem, "bad": 0}
        told: dict[str, list[str]] = {"missing": [], "changed": [], "unreadable": []}
        for line in one.lines:
            verdict = _compare(os.path.join(one.site, line.path), line, cancelled)
            result["checked"] += 1
            if verdict is not None:
                result["bad"] += 1
                if len(told[verdict]) < MAX_TOLD:
                    told[verdict].append(_shown(line.path))
            done += 1
            if progress is not None and (done % _STEP == 0 or done == total):
                progress(done, total)
        found.append({**result, **told})
    return {"distributions": found}


def _read(prefix: str, dist_info: str) -> _Work:
    site = os.path.dirname(dist_info.rstrip("/"))
    try:
        data = read_regular(os.path.join(dist_info, "RECORD"), MAX_RECORD)
        lines = list(_relevant(prefix, site, parse_record(data.decode("utf-8", "surrogateescape"))))
    except (FileNotFoundError, NotADirectoryError):
        return _Work(dist_info, site, (), "it has no RECORD of its files")
    except NotRegularError:
        return _Work(dist_info, site, (), "RECORD is not a regular file")
    except OSError as error:
        return _Work(dist_info, site, (), f"RECORD cannot be read: {error.strerror}")
    except csv.Error as error:
        return _Work(dist_info, site, (), f"RECORD cannot be read: {error}")
    return _Work(dist_info, site, lines, None if lines else "RECORD is empty")


def _relevant(prefix: str, site: str, lines: Iterator[RecordLine]) -> Iterator[RecordLine]:
    """The lines of files inside the environment, bytecode excepted, each path once."""
    inside = prefix.rstrip("/") + "/"
    seen: set[str] = set()
    for line in lines:
        path = os.path.normpath(os.path.join(site, line.path.replace("\0", "")))
        if path.startswith(inside) and path not in seen and not line.path.endswith((".pyc", "/")):
            seen.add(path)
            yield line._replace(path=line.path.replace("\0", ""))


def _compare(path: str, line: RecordLine, cancelled: Cancelled | None) -> str | None:
    """What is wrong with a file: ``missing``, ``changed``, ``unreadable``; None: nothing."""
    if cancelled is not None and cancelled():
        raise _interrupted()
    try:
        with open_regular(path) as file:
            if line.size and str(os.fstat(file.fileno()).st_size) != line.size:
                return "changed"
            algorithm, _, value = line.hash.partition("=")
            if not value or algorithm not in hashlib.algorithms_guaranteed or "shake" in algorithm:
                return None
            digest = hashlib.new(algorithm, usedforsecurity=False)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if cancelled is not None and cancelled():
                    raise _interrupted()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except NotRegularError:
        return "changed"
    except OSError:
        return "unreadable"
    try:
        expected = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (Base64Error, ValueError):
        return "changed"
    return None if digest.digest() == expected else "changed"


def _interrupted() -> PkgcError:
    return PkgcError(
        "interrupted", "interrupted; the environment is as it was before", exit_status=EXIT_INTERRUPTED
    )


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
