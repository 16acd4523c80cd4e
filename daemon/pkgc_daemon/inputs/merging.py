"""Merging: all lines of one project, with its constraints, become one Wanted, or the reason why they cannot.

Rules: R9 (constraints give pin, hashes and URL), R10 (repeats intersect), H3, H4, H6 of pip's format.
Markers were evaluated before.
"""

from __future__ import annotations

import os.path
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, Specifier
from packaging.version import InvalidVersion

from pkgc_daemon.inputs.given import RequirementLine
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.vocabulary import ArchiveSource, Digest, DirectorySource, DirectSource, VcsSource, Wanted

LOCK_HINT = (
    "pkgc sync installs locks: pin every requirement first, e.g. with "
    "`uv pip compile --generate-hashes requirements.in -o requirements.txt` or "
    "`pip-compile --generate-hashes requirements.in`"
)
UNHASHABLE_HINT = "name an archive with its hash instead, publish it to an index, or give --no-require-hashes"

#: Places that one message lists.
_MOST_PLACES = 20
#: What tells whether two sources are the same place.
Identity = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Mode:
    """Hash-checking mode (H1)."""

    on: bool
    cause: str = ""
    """What switched it on, for messages."""


def identity(source: DirectSource) -> Identity:
    """What makes two direct references the same: the place without credentials, revision and subdirectory.

    Digests do not count (they are intersected), nor whether a directory is editable (then it is).
    """
    if isinstance(source, ArchiveSource):
        place = _plain(source.url) if source.path is None else os.path.normpath(source.path)
        return "archive", place, source.subdirectory
    if isinstance(source, DirectorySource):
        return "directory", os.path.normpath(source.path), source.subdirectory
    return source.vcs, _plain(source.url), source.requested, source.subdirectory


def _plain(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2].lower()))


def merge(
    name: str,
    lines: Sequence[RequirementLine],
    constraints: Sequence[RequirementLine],
    mode: Mode,
    problems: Problems,
    warnings: list[str],
) -> Wanted | None:
    """Decide what is wanted of one project.

    A direct reference counts as pinned (H3); a pin beside it becomes the version that its content must have.

    Args:
        name: normalized; '' for a direct reference without a name.
        lines: its requirements, at least one, in their order.
        constraints: its constraints.
        mode: whether each project must have a hash that can be checked.
        problems: where to note ``unpinned-requirement``, ``conflicting-requirements``, ``hash-unsupported``.
        warnings: where to note what cannot be checked.

    Returns:
        The Wanted, without hashes if hash mode is on and the lines have none; None if there is a problem.
    """
    first, every = lines[0], [*lines, *constraints]
    sourced = _common_source(every, problems)
    if sourced is None:
        return None
    source, source_line = sourced
    pin = _pin(every, mode.on and source is None)
    if pin is None and source is None:
        problems.add(
            "unpinned-requirement",
            first.place,
            f"{shown(first.text)!r} is not pinned to one version with ==",
            LOCK_HINT,
        )
        return None
    if pin is not None and (conflict := _conflict(pin[1], every)) is not None:
        _exclude_each_other(pin[0], conflict, problems)
        return None
    if source is not None and not _check_file_version(
        source_line, every, pin is not None, problems, warnings
    ):
        return None
    hashes, emptied_by = _common_hashes(every)
    if emptied_by is not None:
        problems.add(
            "conflicting-requirements",
            emptied_by.place,
            f"no --hash of {name or shown(first.text)} here is allowed by its other lines "
            f"({_places([line for line in every if line.hashes and line is not emptied_by])})",
            "all lines of a project must allow one file in common: correct the hashes that are wrong",
        )
        return None
    if isinstance(source, (DirectorySource, VcsSource)) and (mode.on or hashes):
        _note_unhashable(source, source_line, mode, problems)
        return None
    settings = _common_settings(lines, problems)
    if settings is None:
        return None
    return Wanted(
        name=name,
        version=pin[1].version if pin is not None else "",
        hashes=hashes,
        arbitrary=pin is not None and pin[1].operator == "===",
        extras=frozenset().union(*(line.extras for line in lines)),
        place=first.place,
        text=first.text,
        source=source,
        settings=settings,
    )


def _places(lines: Sequence[RequirementLine]) -> str:
    more = f" and {len(lines) - _MOST_PLACES} more" if len(lines) > _MOST_PLACES else ""
    return ", ".join(str(line.place) for line in lines[:_MOST_PLACES]) + more


def _exclude_each_other(one: RequirementLine, other: RequirementLine, problems: Problems) -> None:
    problems.add(
        "conflicting-requirements",
        one.place,
        f"{shown(one.text)!r} and {shown(other.text)!r} ({other.place}) exclude each other",
        "keep one of them, or give them markers that exclude each other",
    )


def _common_source(
    lines: Sequence[RequirementLine], problems: Problems
) -> tuple[DirectSource | None, RequirementLine] | None:
    """The source that all lines with one agree on, and the first line that says it; None after a problem."""
    source, said_by = None, lines[0]
    for line in lines:
        if line.source is None:
            continue
        if source is None:
            source, said_by = line.source, line
            continue
        both = _united(source, line.source)
        if both is None:
            problems.add(
                "conflicting-requirements",
                said_by.place,
                f"{shown(said_by.text)!r} and {shown(line.text)!r} ({line.place}) name different sources",
                "keep one of the two lines",
            )
            return None
        source = both
    return source, said_by


def _united(one: DirectSource, other: DirectSource) -> DirectSource | None:
    """One source that satisfies both; None if they differ."""
    if identity(one) != identity(other):
        return None
    if isinstance(one, ArchiveSource) and isinstance(other, ArchiveSource):
        integrity = one.integrity | other.integrity
        # Two digests of one algorithm cannot both match.
        if len({digest.algorithm for digest in integrity}) < len(integrity):
            return None
        return replace(one, integrity=integrity)
    if isinstance(one, DirectorySource) and isinstance(other, DirectorySource):
        return replace(one, editable=one.editable or other.editable)
    return one


def _pin(lines: Sequence[RequirementLine], alone: bool) -> tuple[RequirementLine, Specifier] | None:
    """The most specific pin among the lines: ``===`` before local versions before others.

    Args:
        alone: hash mode wants a line whose only specifier is the pin (H3). ``==1.*`` pins nothing.
    """
    pins = [
        (line, specifier)
        for line in lines
        for specifier in line.specifier
        if _is_pin(specifier) and (not alone or len(line.specifier) == 1)
    ]
    return min(pins, key=lambda pin: (pin[1].operator != "===", "+" not in pin[1].version), default=None)


def _is_pin(specifier: Specifier) -> bool:
    return specifier.operator == "===" or (
        specifier.operator == "==" and not specifier.version.endswith(".*")
    )


def _conflict(pin: Specifier, lines: Sequence[RequirementLine]) -> RequirementLine | None:
    """The first line that does not allow the pinned version."""
    allowing = {str(pin)}
    for line in lines:
        for other in line.specifier:
            if (text := str(other)) not in allowing:
                if other != pin and not _allows(other, pin.version):
                    return line
                allowing.add(text)
    return None


def _allows(specifier: Specifier, version: str) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        # A version that PEP 440 does not know satisfies only itself.
        return specifier.version.lower() == version.lower()


def _check_file_version(
    source_line: RequirementLine,
    lines: Sequence[RequirementLine],
    pinned: bool,
    problems: Problems,
    warnings: list[str],
) -> bool:
    """Compare what the lines demand with the version in the file name of a direct wheel, if it is one.

    Of other sources only the content tells the version: a pin is compared with it later, a range cannot be.
    """
    version = next((line.file_version for line in lines if line.source is not None and line.file_version), "")
    for line in lines:
        for specifier in line.specifier:
            if version:
                if not _allows_file(specifier, version):
                    _exclude_each_other(line, source_line, problems)
                    return False
            elif not pinned:
                warnings.append(
                    f"{line.place}: {shown(line.text)!r} is not checked: only its content tells the version "
                    f"of {shown(source_line.text)!r} ({source_line.place})"
                )
                break
    return True


def _allows_file(specifier: Specifier, version: str) -> bool:
    """Whether the version in a file name is allowed; it may lack the local part (W7)."""
    public, plus, _ = specifier.version.partition("+")
    if plus and "+" not in version:
        specifier = Specifier(f"{specifier.operator}{public}")
    return _allows(specifier, version)


def _note_unhashable(
    source: DirectorySource | VcsSource, line: RequirementLine, mode: Mode, problems: Problems
) -> None:
    if isinstance(source, VcsSource):
        kind = "a repository"
    else:
        kind = "an editable directory" if source.editable else "a directory"
    why = f"but {mode.cause} demands one for every requirement" if mode.on else "so its --hash says nothing"
    problems.add(
        "hash-unsupported",
        line.place,
        f"{shown(line.text)!r} is {kind}, which has no hash that could be checked, {why}",
        UNHASHABLE_HINT if mode.on else "take the hash away, or name an archive",
    )


def _common_hashes(
    lines: Sequence[RequirementLine],
) -> tuple[frozenset[Digest], RequirementLine | None]:
    """The digests that all lines with hashes allow (R10), and the line that left none."""
    common: frozenset[Digest] = frozenset()
    for line in lines:
        if not line.hashes:
            continue
        both = common & line.hashes if common else line.hashes
        if not both:
            return both, line
        common = both
    return common, None


def _common_settings(
    lines: Sequence[RequirementLine], problems: Problems
) -> tuple[tuple[str, str], ...] | None:
    """The build settings of the lines that have some; None after a problem."""
    said_by: RequirementLine | None = None
    for line in lines:
        if not line.settings or (said_by is not None and line.settings == said_by.settings):
            continue
        if said_by is not None:
            problems.add(
                "conflicting-requirements",
                said_by.place,
                f"{shown(said_by.text)!r} and {shown(line.text)!r} ({line.place}) have different "
                "--config-settings",
            )
            return None
        said_by = line
    return said_by.settings if said_by is not None else ()
