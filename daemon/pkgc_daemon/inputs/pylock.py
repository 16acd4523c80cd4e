"""pylock.toml (PEP 751): what it holds, and which of its packages one interpreter wants; no I/O.

`packaging.pylock` checks the structure. What it leaves to installers is done here: URLs, paths, digests and
file names are checked, relative paths resolved, and the steps of the specification's section "Installation"
followed (standards.md 1.3, steps 1-5). Which file of a package fits the interpreter is selection's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockValidationError,
)
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs import lockhome
from pkgc_daemon.inputs.given import Lock, LockChoice
from pkgc_daemon.inputs.lockchoice import PYTHON_HINT, chosen_names, python_fits
from pkgc_daemon.inputs.lockhome import LocalFile, LockHome, LockProblem
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.inputs.tomlfiles import Table, package_places, parse_toml
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    Digest,
    DirectorySource,
    FilesSource,
    Interpreter,
    LockedFile,
    Place,
    Source,
    VcsSource,
    Wanted,
)

_KNOWN = Version("1.0")
#: What stands for the rest of a lock while one package is checked.
_FRAME = {"lock-version": "1.0", "created-by": "pkgc"}
_MADE_WRONG = (
    "the lock does not follow its specification (PEP 751): have it made again, or tell its tool's makers"
)
#: PEP 825: one more component, the label of a wheel variant.
_VARIANT = re.compile(r".+-[0-9a-z._]{1,16}\.whl\Z")
#: What evaluating a marker of a hostile lock raises, in the versions of packaging since 26.1.
MARKER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One ``[[packages]]`` table."""

    package: Package
    marker: str
    """Its text, by which evaluations are remembered; '' without a marker."""
    number: int
    """1-based."""
    place: Place

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"package {self.number} ({self.package.name})"


@dataclass(frozen=True, slots=True)
class PylockInput:
    """A pylock.toml whose structure is right, not yet seen from any interpreter."""

    name: str
    """As messages name it."""
    home: LockHome
    frame: Pylock
    """Everything but the packages."""
    entries: tuple[_Entry, ...]
    warnings: tuple[str, ...] = ()


def parse_pylock(data: bytes, location: str, name: str) -> PylockInput:
    """Read a pylock.toml.

    Args:
        data: its bytes.
        location: where it is: an absolute path, or an http(s) URL.
        name: how messages name it.

    Raises:
        InputError: ``invalid-lock``; ``unsupported-lock-version`` (MUST 2).
    """
    name = shown(name)
    file = parse_toml(data, name, "invalid-lock")
    warnings: list[str] = []
    _check_version(file.content, name, warnings)
    frame = {key: value for key, value in file.content.items() if key != "packages"}
    tables = file.content.get("packages")
    try:
        # The version is checked already; packaging would log a warning of its own.
        pylock = Pylock.from_dict({**frame, "lock-version": "1.0", "packages": []})
    except (PylockValidationError, *MARKER_ERRORS) as exc:
        raise InputError("invalid-lock", f"{name}: {_words(exc)}", hint=_MADE_WRONG) from exc
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        what = "is missing" if tables is None else "must be an array of tables"
        raise InputError("invalid-lock", f"{name}: packages {what}", hint=_MADE_WRONG)
    problems = Problems()
    entries: list[_Entry] = []
    for number, (table, place) in enumerate(
        zip(tables, package_places(file, "packages", len(tables)), strict=True), 1
    ):
        label = f"package {number} ({shown(str(table.get('name', 'without name')), 100)})"
        kept = _without_variants(table, f"{place}: {label}", warnings)
        try:
            package = Pylock.from_dict({**_FRAME, "packages": [kept]}).packages[0]
        except (PylockValidationError, *MARKER_ERRORS) as exc:
            words = _words(exc).replace("packages[0].", "").removesuffix(" in 'packages[0]'")
            problems.add("invalid-lock", place, f"{label}: {words}", _MADE_WRONG)
            continue
        entries.append(_Entry(package, kept.get("marker", ""), number, place))
    problems.check()
    return PylockInput(name, LockHome.of(location), pylock, tuple(entries), tuple(warnings))


def select_pylock(given: PylockInput, interpreter: Interpreter, choice: LockChoice) -> Lock:
    """What of a lock one interpreter wants (MUST 1-5).

    Args:
        given: the lock.
        interpreter: the target.
        choice: extras, groups and rules of the command. Hashes are verified whatever it says.

    Raises:
        InputError: ``unknown-extra``, ``unknown-group``, ``python-mismatch`` (MUST 3, 5),
            ``unsupported-environment`` (MUST 4), ``ambiguous-lock`` (MUST 5), ``hash-unsupported`` (H4),
            ``weak-hash`` (P2), ``remote-names-local``, ``bad-artifact-url``, ``unsupported-vcs``,
            ``invalid-lock``.
    """
    frame = given.frame
    start = Place(given.name, 1)
    if frame.requires_python is not None and not python_fits(frame.requires_python, interpreter):
        raise InputError(
            "python-mismatch",
            f"{given.name}: the lock is for Python {frame.requires_python}, "
            f"but {interpreter.executable} is Python {interpreter.version}",
            hint=PYTHON_HINT,
        )
    evaluator = _Evaluator(given, interpreter, choice)
    environments = frame.environments or ()
    if environments and not any(evaluator.fits(marker, start) for marker in environments):
        raise InputError(
            "unsupported-environment",
            f"{given.name}: the lock is for other environments than that of {interpreter.executable}",
            context="\n".join(f"made for: {marker}" for marker in environments),
            hint="have the lock made again for this environment too",
        )
    active = _active(given, interpreter, evaluator)
    problems = Problems()
    warnings = list(given.warnings)
    wanted: list[Wanted] = []
    for entry in active:
        try:
            wanted.append(_wanted(entry, given.home, choice, warnings))
        except LockProblem as exc:
            hint = exc.hint or (_MADE_WRONG if exc.code == "invalid-lock" else None)
            problems.add(exc.code, entry.place, f"{entry.label}: {exc}", hint)
    problems.check()
    if not wanted:
        warnings.append(f"{given.name}: no package applies, so nothing is wanted")
    hashed = choice.require_hashes is True or (bool(wanted) and all(one.hashes for one in wanted))
    return Lock(tuple(wanted), hashed, tuple(warnings), hash_cause=given.name if hashed else "")


def _check_version(content: Table, name: str, warnings: list[str]) -> None:
    """MUST 2: another major version is an error, a newer minor one a warning."""
    written = content.get("lock-version")
    if not isinstance(written, str):
        found = "none" if written is None else repr(written)
        raise InputError(
            "invalid-lock",
            f"{name}: lock-version must be a string such as '1.0', found {found}",
            hint=_MADE_WRONG,
        )
    try:
        version = Version(written)
    except InvalidVersion as exc:
        message = f"{name}: lock-version {shown(written)!r} is no version"
        raise InputError("invalid-lock", message, hint=_MADE_WRONG) from exc
    if version.major != _KNOWN.major or version.epoch:
        raise InputError(
            "unsupported-lock-version",
            f"{name}: lock-version {version} is not supported: expected 1.x",
            hint="use a newer pkgc, or have the lock made in version 1.0",
        )
    if version > _KNOWN:
        warnings.append(f"{name}: lock-version {version} is newer than 1.0; keys unknown to pkgc are ignored")


def _without_variants(table: Table, where: str, warnings: list[str]) -> Table:
    """The package without wheels whose names have a variant label: installers that do not know variants
    ignore them (PEP 825), but `packaging.pylock` would refuse the lock."""
    wheels = table.get("wheels")
    if not isinstance(wheels, list):
        return table
    kept = [wheel for wheel in wheels if not _is_variant(wheel)]
    if len(kept) == len(wheels):
        return table
    warnings.append(f"{where}: wheels with variant labels are ignored: {len(wheels) - len(kept)}")
    return {**table, "wheels": kept}


def _is_variant(wheel: object) -> bool:
    if not isinstance(wheel, dict):
        return False
    named = wheel.get("name") or wheel.get("path")
    name = named if isinstance(named, str) else lockhome.url_filename(str(wheel.get("url", "")))
    name = name.rpartition("/")[2]
    if name.count("-") not in {5, 6} or _VARIANT.match(name) is None:
        return False
    try:
        parse_wheel_filename(name)
    except InvalidWheelFilename:
        pass
    else:
        return False  # the sixth component is a build number
    try:
        parse_wheel_filename(name.rpartition("-")[0] + ".whl")
    except InvalidWheelFilename:
        return False
    return True


class _Evaluator:
    """Markers of one lock, seen from one interpreter and one choice; each distinct text once."""

    def __init__(self, given: PylockInput, interpreter: Interpreter, choice: LockChoice) -> None:
        frame = given.frame
        extras = chosen_names(
            given.name, "extra", choice.extras, frame.extras or (), take_all=choice.all_extras
        )
        groups = chosen_names(given.name, "group", choice.groups, frame.dependency_groups or ())
        if choice.default_groups:
            groups |= {canonicalize_name(group) for group in frame.default_groups or ()}
        # MUST 1
        self._variables: dict[str, str | frozenset[str]] = {
            **interpreter.markers,
            "extras": extras,
            "dependency_groups": groups,
        }
        self._markers = dict(interpreter.markers)
        self._known: dict[str, bool] = {}

    def fits(self, marker: Marker, place: Place) -> bool:
        """Whether an environment of the lock is that of the interpreter: extras and groups do not count."""
        try:
            return marker.evaluate(self._markers, context="requirement")
        except MARKER_ERRORS as exc:
            raise _bad_marker(place, "environments", exc) from exc

    def wants(self, entry: _Entry) -> bool:
        """Whether a package's marker holds."""
        if entry.package.marker is None:
            return True
        known = self._known.get(entry.marker)
        if known is None:
            try:
                known = entry.package.marker.evaluate(self._variables, context="lock_file")
            except MARKER_ERRORS as exc:
                raise _bad_marker(entry.place, entry.label, exc) from exc
            self._known[entry.marker] = known
        return known


def _bad_marker(place: Place, label: str, error: Exception) -> InputError:
    message = f"{place}: {label}: its marker cannot be evaluated: {_words(error)}"
    return InputError("invalid-lock", message, hint=_MADE_WRONG)


def _active(given: PylockInput, interpreter: Interpreter, evaluator: _Evaluator) -> list[_Entry]:
    """The packages to install (MUST 5): markers true, one of a name, all of them for this Python."""
    problems = Problems()
    active: dict[str, _Entry] = {}
    for entry in given.entries:
        if not evaluator.wants(entry):
            continue
        package = entry.package
        if package.requires_python is not None and not python_fits(package.requires_python, interpreter):
            problems.add(
                "python-mismatch",
                entry.place,
                f"{entry.label}: it is for Python {package.requires_python}, "
                f"but {interpreter.executable} is Python {interpreter.version}",
                PYTHON_HINT,
            )
            continue
        first = active.setdefault(package.name, entry)
        if first is not entry:
            problems.add(
                "ambiguous-lock",
                entry.place,
                f"{entry.label}: {first.label} at {first.place} applies too",
                "give the two packages markers that exclude each other",
            )
    problems.check()
    return list(active.values())


def _wanted(entry: _Entry, home: LockHome, choice: LockChoice, warnings: list[str]) -> Wanted:
    """One package with its source; `dependencies`, `tool` and `attestation-identities` never matter.

    Raises:
        LockProblem: something that it names cannot be used.
    """
    package = entry.package
    source: Source
    hashes: frozenset[Digest] = frozenset()
    if package.archive is not None:
        source = _archive(package.archive, home, entry, warnings)
        hashes = lockhome.secure(source.integrity)
    elif package.vcs is not None or package.directory is not None:
        if choice.require_hashes is True:
            raise LockProblem(
                "hash-unsupported",
                "--require-hashes is given, but a repository or a directory has no hash",
                "lock an archive of it instead, or do without --require-hashes",
            )
        if package.vcs is not None:
            source = _repository(package.vcs, home)
        else:
            assert package.directory is not None
            source = DirectorySource(
                home.local(package.directory.path).path,
                editable=bool(package.directory.editable),
                subdirectory=lockhome.subdirectory(package.directory.subdirectory),
            )
    else:
        files = [_file(wheel, home, entry, warnings) for wheel in package.wheels or ()]
        if package.sdist is not None:
            files.append(_file(package.sdist, home, entry, warnings))
        index = None if package.index is None else redact(package.index)
        source = FilesSource(tuple(files), index)
        hashes = lockhome.secure(frozenset[Digest]().union(*(file.hashes for file in files)))
    version = "" if package.version is None else str(package.version)
    return Wanted(
        package.name,
        version,
        hashes,
        place=entry.place,
        text=f"{package.name}=={version}" if version else package.name,
        source=source,
    )


def _file(
    listed: PackageWheel | PackageSdist, home: LockHome, entry: _Entry, warnings: list[str]
) -> LockedFile:
    """A wheel or sdist; `path` goes before `url` (P1)."""
    filename = lockhome.check_filename(listed.filename)
    found = _target(listed, home)
    try:
        digests = _digests(listed.hashes, entry, warnings)
        size = _size(listed.size)
    except LockProblem as exc:
        raise LockProblem(exc.code, f"{shown(filename)}: {exc}", exc.hint) from exc
    return LockedFile(filename, found.url if isinstance(found, LocalFile) else found, digests, size)


def _archive(listed: PackageArchive, home: LockHome, entry: _Entry, warnings: list[str]) -> ArchiveSource:
    found = _target(listed, home)
    return ArchiveSource(
        found.url if isinstance(found, LocalFile) else found,
        path=found.path if isinstance(found, LocalFile) else None,
        subdirectory=lockhome.subdirectory(listed.subdirectory),
        integrity=_digests(listed.hashes, entry, warnings),
        size=_size(listed.size),
    )


def _target(listed: PackageWheel | PackageSdist | PackageArchive, home: LockHome) -> str | LocalFile:
    return home.local(listed.path) if listed.path else home.artifact(listed.url or "")


def _repository(listed: PackageVcs, home: LockHome) -> VcsSource:
    if listed.type != "git":
        raise LockProblem(
            "unsupported-vcs",
            f"only git repositories can be installed, found {shown(listed.type)!r}",
            "lock an archive of it instead",
        )
    url = home.local(listed.path).url if listed.path else home.repository(listed.url or "")
    return VcsSource(
        url,
        requested=listed.requested_revision,
        commit=lockhome.commit_id(listed.commit_id),
        subdirectory=lockhome.subdirectory(listed.subdirectory),
    )


def _digests(hashes: Table, entry: _Entry, warnings: list[str]) -> frozenset[Digest]:
    digests, unknown = lockhome.known_digests(hashes)
    for algorithm in unknown:
        text = f"{entry.place}: {entry.label}: hashes of unknown kind are not checked: {shown(algorithm)!r}"
        if text not in warnings:
            warnings.append(text)
    return digests


def _size(size: int | None) -> int | None:
    if size is not None and size < 0:
        raise LockProblem("invalid-lock", f"its size must not be negative, found {size}")
    return size


def _words(error: BaseException) -> str:
    """What an exception of `packaging` says, fit to be shown."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    # Of what cannot be parsed (a marker) the second line is the text itself, the third points at a place.
    first, *rest = (str(error) or type(error).__name__).splitlines() or [""]
    return shown(f"{first}: {rest[0].strip()}" if len(rest) == 2 else first)
