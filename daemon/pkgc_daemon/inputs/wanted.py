"""From requirement lines to Wanted for one target: markers, names, hash mode; no I/O.

Rules: R9 (constraints), R10 (repeats), H1, H2, H9 (hash-checking mode) of pip; how the lines of one project
are merged is in merging.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.version import InvalidVersion

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, RequirementLine, RequirementsInput
from pkgc_daemon.inputs.merging import Identity, Mode, identity, merge
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.vocabulary import ArchiveSource, Digest, DirectSource, FilesSource, Place, Wanted

UNSUPPORTED_HINT = (
    "pkgc installs from indexes, archives, directories and git repositories; install that one by another "
    "tool, or publish it to an index"
)
HASH_HINT = (
    "add a --hash to each of these lines (`uv pip compile --generate-hashes` or `pip-compile "
    "--generate-hashes` writes them), or give --no-require-hashes"
)
PASTE_HINT = (
    "the hashes above are those of what is there now: compare them with a source that you trust, then paste "
    "the lines; or give --no-require-hashes"
)

#: For a lock that lists files: nobody adds to it by hand.
LOCKED_HINT = (
    "lock again with an index that tells hashes, or leave --require-hashes out: what the lock has hashes for "
    "is verified anyway"
)

#: A project's normalized name, or what identifies a direct reference that has no name.
_Project = str | Identity


def select_wanted(
    given: RequirementsInput,
    markers: Mapping[str, str],
    *,
    require_hashes: bool | None,
    names: Mapping[DirectSource, str] | None = None,
) -> Lock:
    """Decide what the lines mean for one interpreter.

    Args:
        given: what the files say.
        markers: the PEP 508 variables of the target, all of them.
        require_hashes: True for ``--require-hashes`` on the command line, False for
            ``--no-require-hashes``, None for neither.
        names: normalized names of direct references that their text does not name, by `Wanted.source`: found
            out from their content after a first selection. With them a second one applies constraints and
            finds repeats.

    Returns:
        The Lock. In hash mode (H1) what lacks a hash is in `Lock.missing`, which the caller has to turn into
        `missing_hash_error`: pip's rule H9 is to print the hashes, and computing them takes a download.

    Raises:
        InputError: ``conflicting-options``, ``unsupported-requirement``, ``unpinned-requirement``,
            ``conflicting-requirements``, ``hash-unsupported``, ``invalid-requirement``.
    """
    mode = _hash_mode(given, require_hashes)
    problems = Problems()
    target = _Target(markers, problems)
    for line in given.unsupported:
        if target.matches(line.marker, line.place, line.text):
            problems.add(
                "unsupported-requirement",
                line.place,
                f"{line.text!r} is {line.kind}, which pkgc cannot install",
                UNSUPPORTED_HINT,
            )
    projects = _by_project(target.applying(given.lines), names or {})
    constraints: dict[_Project, list[RequirementLine]] = {}
    for limit in given.constraints:
        if limit.name in projects and target.matches(limit.marker, limit.place, limit.text):
            constraints.setdefault(limit.name, []).append(limit)
    warnings = list(given.warnings)
    wanted: list[Wanted] = []
    missing: list[Wanted] = []
    for project, lines in projects.items():
        name = project if isinstance(project, str) else ""
        chosen = merge(name, lines, constraints.get(project, []), mode, problems, warnings)
        if chosen is not None:
            (missing if mode.on and not chosen.hashes else wanted).append(chosen)
    problems.check()
    if not wanted and not missing:
        sources = ", ".join(given.sources) or "the input"
        warnings.append(f"{sources}: no requirement applies, so nothing is wanted")
    return Lock(tuple(wanted), mode.on, tuple(warnings), tuple(missing), mode.cause)


def missing_hash_error(missing: Sequence[tuple[Wanted, tuple[Digest, ...]]], cause: str) -> InputError:
    """The error for what lacks a hash in hash mode (H9).

    Args:
        missing: each of `Lock.missing`, at least one, with the digests that were computed for it (none if it
            could not be had).
        cause: `Lock.hash_cause`.

    Returns:
        An InputError ``missing-hash``; its context has every line, with its hashes ready to be pasted: where
        it stands is a comment at its end.
    """
    problems = Problems()
    for wanted, _ in missing:
        problems.add(
            "missing-hash",
            wanted.place,
            f"{shown(wanted.text)!r} has {_lacking(wanted)}, but {cause} demands one for every requirement",
        )
    message = problems.error().message
    context = "\n".join(
        " ".join((shown(wanted.text), *(f"--hash={digest}" for digest in digests), f" # {wanted.place}"))
        for wanted, digests in missing
    )
    computed = any(digests for _, digests in missing)
    hint = PASTE_HINT if computed else HASH_HINT
    if any(isinstance(wanted.source, FilesSource) for wanted, _ in missing):
        hint = LOCKED_HINT
    return InputError("missing-hash", message, context=context, hint=hint)


def _lacking(wanted: Wanted) -> str:
    if isinstance(wanted.source, FilesSource):
        return "a file without a secure hash"
    weak = isinstance(wanted.source, ArchiveSource) and wanted.source.integrity
    return "no --hash (the one in its URL is too weak)" if weak else "no --hash"


def _hash_mode(given: RequirementsInput, require_hashes: bool | None) -> Mode:
    """Whether hash mode is on (H1), and what switched it on."""
    required = "the command line" if require_hashes is True else given.require_hashes_place
    refused = "the command line" if require_hashes is False else given.no_require_hashes_place
    required = required or ("a requirements file" if given.require_hashes else None)
    refused = refused or ("a requirements file" if given.no_require_hashes else None)
    if required is not None and refused is not None:
        raise InputError(
            "conflicting-options",
            "--require-hashes and --no-require-hashes exclude each other",
            context=f"--require-hashes: {required}\n--no-require-hashes: {refused}",
        )
    if required is not None:
        return Mode(True, f"--require-hashes ({required})")
    if refused is not None:
        return Mode(False)
    places: list[Place] = [line.place for line in (*given.lines, *given.constraints) if line.hashed]
    places += [line.place for line in given.unsupported if line.hashed]
    return Mode(True, f"the --hash at {places[0]}") if places else Mode(False)


def _by_project(
    lines: Sequence[RequirementLine], names: Mapping[DirectSource, str]
) -> dict[_Project, list[RequirementLine]]:
    """The lines by project, in their order. A line without a name joins one that names the same source."""
    known: dict[Identity, str] = {identity(source): name for source, name in names.items()}
    known.update(
        (identity(line.source), line.name) for line in lines if line.name and line.source is not None
    )
    found: dict[_Project, list[RequirementLine]] = {}
    for line in lines:
        project: _Project = line.name
        if not line.name and line.source is not None:
            place = identity(line.source)
            project = known.get(place, place)
        found.setdefault(project, []).append(line)
    return found


class _Target:
    """Evaluates markers for one interpreter, each distinct one once."""

    def __init__(self, markers: Mapping[str, str], problems: Problems) -> None:
        self._environment = {**markers, "extra": ""}
        self._problems = problems
        self._known: dict[str, bool] = {}

    def matches(self, marker: Marker | None, place: Place, text: str) -> bool:
        """Whether the line applies; a marker that cannot be evaluated is a problem of that line."""
        if marker is None:
            return True
        key = str(marker)
        known = self._known.get(key)
        if known is None:
            try:
                known = marker.evaluate(self._environment, context="requirement")
            except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion, RecursionError) as exc:
                self._problems.add(
                    "invalid-requirement", place, f"the marker of {shown(text)!r} cannot be evaluated: {exc}"
                )
                return False
            self._known[key] = known
        return known

    def applying(self, lines: Iterable[RequirementLine]) -> list[RequirementLine]:
        """The lines that apply, in their order."""
        return [line for line in lines if self.matches(line.marker, line.place, line.text)]
