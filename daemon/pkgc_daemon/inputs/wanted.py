"""From requirement lines to Wanted for one target: markers, pins, constraints, hash mode; no I/O.

Rules: R9 (constraints), R10 (repeats), H1-H3, H5, H6 (hash-checking mode) of pip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, Specifier
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, RequirementLine, RequirementsInput
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.vocabulary import Digest, Place, Wanted

LOCK_HINT = (
    "pkgc sync installs locks: pin every requirement first, e.g. with "
    "`uv pip compile --generate-hashes requirements.in -o requirements.txt` or "
    "`pip-compile --generate-hashes requirements.in`"
)
UNSUPPORTED_HINT = (
    "this version of pkgc installs pinned index requirements only (name==version); install that one by "
    "another tool, or publish it to an index"
)
HASH_HINT = (
    "add a --hash to each of these lines (`uv pip compile --generate-hashes` or `pip-compile "
    "--generate-hashes` writes them), or give --no-require-hashes"
)


def select_wanted(
    given: RequirementsInput, markers: Mapping[str, str], *, require_hashes: bool | None
) -> Lock:
    """Decide what the lines mean for one interpreter.

    Args:
        given: what the files say.
        markers: the PEP 508 variables of the target, all of them.
        require_hashes: True for ``--require-hashes`` on the command line, False for
            ``--no-require-hashes``, None for neither.

    Raises:
        InputError: ``conflicting-options``, ``unsupported-requirement``, ``unpinned-requirement``,
            ``missing-hash``, ``conflicting-requirements``, ``invalid-requirement``.
    """
    hash_mode, cause = _hash_mode(given, require_hashes)
    problems = Problems()
    target = _Target(markers, problems)
    for line in given.unsupported:
        if target.matches(line.marker, line.place, line.text):
            problems.add(
                "unsupported-requirement",
                line.place,
                f"{line.text!r} is {line.kind}, which this version of pkgc cannot install",
                UNSUPPORTED_HINT,
            )
    projects = target.by_project(given.lines)
    constraints = target.by_project(given.constraints, only=projects)
    wanted: list[Wanted] = []
    for name, lines in projects.items():
        _check_format(given, name, lines[0], problems)
        chosen = _decide(name, lines, constraints.get(name, []), hash_mode, cause, problems)
        if chosen is not None:
            wanted.append(chosen)
    problems.check()
    warnings = list(given.warnings)
    if not wanted:
        names = ", ".join(given.sources) or "the input"
        warnings.append(f"{names}: no requirement applies, so nothing is wanted")
    return Lock(tuple(wanted), hash_mode, tuple(warnings))


def _hash_mode(given: RequirementsInput, require_hashes: bool | None) -> tuple[bool, str]:
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
        return True, f"--require-hashes ({required})"
    if refused is not None:
        return False, ""
    places: list[Place] = [line.place for line in (*given.lines, *given.constraints) if line.hashes]
    places += [line.place for line in given.unsupported if line.hashed]
    return bool(places), f"the --hash at {places[0]}" if places else ""


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

    def by_project(
        self, lines: Iterable[RequirementLine], only: Mapping[str, object] | None = None
    ) -> dict[str, list[RequirementLine]]:
        """The lines that apply, by normalized name, in their order."""
        found: dict[str, list[RequirementLine]] = {}
        for line in lines:
            name = canonicalize_name(line.requirement.name)
            if only is not None and name not in only:
                continue
            if self.matches(line.requirement.marker, line.place, line.text):
                found.setdefault(name, []).append(line)
        return found


def _check_format(given: RequirementsInput, name: str, line: RequirementLine, problems: Problems) -> None:
    # The same precedence as pip's: what names the project comes before :all:.
    if name in given.only_binary or (name not in given.no_binary and ":all:" in given.only_binary):
        return
    if name in given.no_binary or ":all:" in given.no_binary:
        problems.add(
            "unsupported-requirement",
            line.place,
            f"--no-binary asks to build {name} from source, which this version of pkgc cannot do",
            f"take {name} out of --no-binary (or give --only-binary {name})",
        )


def _decide(
    name: str,
    lines: list[RequirementLine],
    constraints: list[RequirementLine],
    hash_mode: bool,
    cause: str,
    problems: Problems,
) -> Wanted | None:
    """Merge all lines of one project with its constraints into one Wanted, or note why that fails."""
    first = lines[0]
    every = [*lines, *constraints]
    pin = _pin(every, hash_mode)
    if pin is None:
        problems.add(
            "unpinned-requirement",
            first.place,
            f"{shown(first.text)!r} is not pinned to one version with ==",
            LOCK_HINT,
        )
        return None
    pinned_by, specifier = pin
    conflict = _conflict(specifier, every)
    if conflict is not None:
        problems.add(
            "conflicting-requirements",
            pinned_by.place,
            f"{shown(pinned_by.text)!r} and {shown(conflict.text)!r} ({conflict.place}) exclude each other",
        )
        return None
    hashes, emptied_by = _common_hashes(every)
    if emptied_by is not None:
        problems.add(
            "conflicting-requirements",
            emptied_by.place,
            f"no --hash of {name} here is allowed by its other lines "
            f"({', '.join(str(line.place) for line in every if line.hashes and line is not emptied_by)})",
        )
        return None
    if hash_mode and not hashes:
        problems.add(
            "missing-hash",
            first.place,
            f"{shown(first.text)!r} has no --hash, but {cause} demands one for every requirement",
            HASH_HINT,
        )
        return None
    return Wanted(
        name=name,
        version=specifier.version,
        hashes=hashes,
        arbitrary=specifier.operator == "===",
        extras=frozenset(canonicalize_name(extra) for line in lines for extra in line.requirement.extras),
        place=first.place,
        text=first.text,
    )


def _pin(lines: list[RequirementLine], hash_mode: bool) -> tuple[RequirementLine, Specifier] | None:
    """The most specific pin among the lines: ``===`` before local versions before others.

    Hash mode wants a line whose only specifier is the pin (H3); ``==1.*`` pins nothing.
    """
    pins = [
        (line, specifier)
        for line in lines
        for specifier in line.requirement.specifier
        if _is_pin(specifier) and (not hash_mode or len(line.requirement.specifier) == 1)
    ]
    return min(pins, key=lambda pin: (pin[1].operator != "===", "+" not in pin[1].version), default=None)


def _is_pin(specifier: Specifier) -> bool:
    return specifier.operator == "===" or (
        specifier.operator == "==" and not specifier.version.endswith(".*")
    )


def _conflict(pin: Specifier, lines: list[RequirementLine]) -> RequirementLine | None:
    """The first line that does not allow the pinned version."""
    for line in lines:
        for other in line.requirement.specifier:
            if other == pin:
                continue
            try:
                allowed = other.contains(pin.version, prereleases=True)
            except (InvalidVersion, InvalidSpecifier):
                # A version that PEP 440 does not know satisfies only itself.
                allowed = other.version.lower() == pin.version.lower()
            if not allowed:
                return line
    return None


def _common_hashes(lines: list[RequirementLine]) -> tuple[frozenset[Digest], RequirementLine | None]:
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
