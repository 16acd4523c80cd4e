"""Files that a lock lists (pylock.toml, uv.lock): which one of them is installed, told by their names alone.

Pure; no index page is asked. The answer is one file: a lock's installer must not take another wheel because
of what can be had (PEP 751; standards.md 1.3, MUST 6).
"""

from __future__ import annotations

from packaging.version import Version

from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.candidates import (
    Choice,
    Formats,
    Rejected,
    RejectedKind,
    allowed_formats,
    file_order,
    forbidden,
)
from pkgc_daemon.selection.failures import nothing_listed
from pkgc_daemon.selection.filenames import Pin, Ranking, is_sdist, parse_sdist, parse_wheel, ranking
from pkgc_daemon.vocabulary import Candidate, FilesSource, Interpreter, LockedFile, Origin, Wanted

__all__ = ["listed_choice", "nothing_listed"]


def listed_choice(
    wanted: Wanted,
    interpreter: Interpreter,
    *,
    no_binary: frozenset[str] = frozenset(),
    only_binary: frozenset[str] = frozenset(),
    no_build: bool = False,
) -> Choice:
    """The one file of `wanted.source` to install: the best wheel that fits, else the source archive.

    The order is that of `candidates.choose`: version, tag, build tag, file name. Of two files of one name the
    first counts. Its `hashes` are the lock's, every one of which must match (P2).

    Args:
        wanted: its source is a `FilesSource`.
        interpreter: the target; its tags count.
        no_binary: projects whose wheels are excluded, or ':all:'.
        only_binary: exceptions from it, and projects whose source archives are excluded, or ':all:'.
        no_build: all source archives are excluded.

    Returns:
        At most one candidate; with none, `nothing_listed` makes an error of it.

    Raises:
        TypeError: the lock says something else of where its bytes are.
    """
    source = wanted.source
    if not isinstance(source, FilesSource):
        raise TypeError(f"{wanted} has no list of files")
    formats = allowed_formats(wanted.name, no_binary, only_binary, no_build)
    ranks = ranking(interpreter)
    pin = Pin(wanted)
    files: dict[str, LockedFile] = {}
    for file in source.files:
        files.setdefault(file.filename, file)
    wheels: list[LockedFile] = []
    sdists: list[LockedFile] = []
    rejected: list[Rejected] = []
    for file in files.values():
        problem = _problem(file.filename, wanted, pin, formats, ranks)
        if problem is not None:
            rejected.append(Rejected(file.filename, source.index or "", problem[1], problem[0], file.hashes))
        else:
            (sdists if is_sdist(file.filename) else wheels).append(file)
    best = _best(wheels, ranks) or (sdists[0] if sdists else None)
    return Choice(
        (_candidate(best, wanted, source),) if best is not None else (),
        tuple(rejected),
        frozenset(digest for file in files.values() for digest in file.hashes),
    )


def _problem(
    filename: str, wanted: Wanted, pin: Pin, formats: Formats, ranks: Ranking
) -> tuple[RejectedKind, str] | None:
    if is_sdist(filename):
        # Its name need not be standard: the lock says whose it is, and what is built must be that.
        return forbidden("sdist", filename, formats)
    if (problem := forbidden("wheel", filename, formats)) is not None:
        return problem
    wheel = parse_wheel(filename)
    if wheel is None:
        return "name", "not a valid file name of a wheel"  # variants, too (PEP 825): to be ignored
    if wheel.name != wanted.name:
        return "name", f"belongs to project {wheel.name}"
    if wanted.version and not pin.matches(str(wheel.version)):
        return "name", f"is of version {wheel.version}"
    if ranks.rank(wheel.tags) is None:
        return "tags", f"the target supports none of its tags ({wheel.tags})"
    return None


def _best(wheels: list[LockedFile], ranks: Ranking) -> LockedFile | None:
    ordered = [(order, file) for file in wheels if (order := file_order(file.filename, ranks)) is not None]
    if not ordered:
        return None
    newest: Version = max(order[0] for order, _ in ordered)
    return min((one for one in ordered if one[0][0] == newest), key=lambda one: one[0][1])[1]


def _candidate(file: LockedFile, wanted: Wanted, source: FilesSource) -> Candidate:
    name = parse_sdist(file.filename) if is_sdist(file.filename) else parse_wheel(file.filename)
    local = source.index is None and file.url.startswith("file:")
    return Candidate(
        name=wanted.name,
        version=str(name.version) if name is not None else wanted.version,
        filename=file.filename,
        url=file.url,
        origin=Origin("path" if local else "index", redact(file.url), source.index),
        hashes=file.hashes,
        size=file.size,
        is_sdist=is_sdist(file.filename),
        exact_size=file.size is not None,
    )
