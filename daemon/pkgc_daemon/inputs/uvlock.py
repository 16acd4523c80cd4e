"""uv.lock: what it holds, and which of its packages one interpreter wants; no I/O, and nothing is resolved.

There is no standard for this file; version 1 is read as `uv sync --frozen` reads it (standards.md 1.4).
Packages are found by a walk (`uvlock_walk`), and looked at only when they are reached (`uvlock_package`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, LockChoice
from pkgc_daemon.inputs.lockchoice import PYTHON_HINT, chosen_names, python_fits
from pkgc_daemon.inputs.lockhome import LockHome, LockProblem
from pkgc_daemon.inputs.problems import Problems, shown
from pkgc_daemon.inputs.tomlfiles import (
    Table,
    TypeProblem,
    package_places,
    parse_toml,
    table_at,
    tables_at,
    text_at,
    texts_at,
)
from pkgc_daemon.inputs.uvlock_package import REMAKE, Edge, Packages, UvPackage
from pkgc_daemon.inputs.uvlock_project import Project, read_project, staleness
from pkgc_daemon.inputs.uvlock_sources import sourced
from pkgc_daemon.inputs.uvlock_walk import (
    Conditions,
    Item,
    ParsedMarkers,
    Reached,
    Start,
    conflict,
    extra_item,
    group_item,
    project_item,
    walk,
)
from pkgc_daemon.vocabulary import DirectorySource, Interpreter, VcsSource, Wanted

_VERSION = 1
#: How a lock names the folder that it is in.
_HERE = frozenset({"", ".", "./"})


@dataclass(frozen=True, slots=True, eq=False)
class UvLockInput:
    """A uv.lock, not yet seen from any interpreter. Packages fill in what they hold when it is asked for."""

    name: str
    """As messages name it."""
    home: LockHome
    packages: Packages
    roots: tuple[UvPackage, ...]
    """What is installed with its groups: the project in the lock's folder, else every member."""
    members: frozenset[str]
    requires_python: SpecifierSet | None
    supported: tuple[str, ...]
    """Markers of the environments that the lock is made for; empty: all."""
    forks: tuple[str, ...]
    """Markers of the environments that it was resolved for one by one; empty: all at once."""
    conflicts: tuple[frozenset[Item], ...]
    requirements: tuple[Table, ...]
    """Of the lock itself: of scripts, and of workspaces whose root is no project."""
    groups: Mapping[str, list[Table]]
    """Likewise."""
    project: Project | None
    """The pyproject.toml beside the lock."""
    markers: ParsedMarkers
    warnings: tuple[str, ...] = ()


def parse_uvlock(data: bytes, location: str, name: str, pyproject: bytes | None) -> UvLockInput:
    """Read a uv.lock.

    Args:
        data: its bytes.
        location: where it is: an absolute path, or an http(s) URL.
        name: how messages name it.
        pyproject: the bytes of the pyproject.toml beside it, for the default groups and for a warning when
            the lock is older; None when there is none.

    Raises:
        InputError: ``invalid-lock``, ``unsupported-lock-version``, ``invalid-pyproject``.
    """
    name = shown(name)
    file = parse_toml(data, name, "invalid-lock")
    content = file.content
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        found = "none" if version is None else shown(repr(version))
        raise InputError("invalid-lock", f"{name}: version must be {_VERSION}, found {found}", hint=REMAKE)
    if version != _VERSION:
        raise InputError(
            "unsupported-lock-version",
            f"{name}: version {version} of uv.lock is not supported: expected {_VERSION}",
            hint="use a newer pkgc, or `uv export --format pylock.toml -o pylock.toml` and sync that",
        )
    try:
        key = "package" if "package" in content else "distribution"
        tables = tables_at(content, key)
        places = package_places(file, key, len(tables))
        packages = Packages(tuple(map(UvPackage, range(len(tables)), tables, places)))
        manifest = table_at(content, "manifest")
        members = frozenset(str(canonicalize_name(member)) for member in texts_at(manifest, "members"))
        groups = table_at(manifest, "dependency-groups")
        requirements = tuple(tables_at(manifest, "requirements"))
        given = UvLockInput(
            name,
            LockHome.of(location),
            packages,
            _roots(packages, members, bool(requirements or groups)),
            members,
            _requires_python(content),
            tuple(texts_at(content, "supported-markers")),
            tuple(texts_at(content, "resolution-markers")),
            _conflicts(content),
            requirements,
            {group: tables_at(groups, group) for group in groups},
            None if pyproject is None else read_project(pyproject, _beside(name)),
            ParsedMarkers(),
        )
    except (TypeProblem, LockProblem) as exc:
        raise InputError("invalid-lock", f"{name}: {exc}", hint=REMAKE) from exc
    return given if given.project is None else _with_hint(given, given.project)


def select_uvlock(given: UvLockInput, interpreter: Interpreter, choice: LockChoice) -> Lock:
    """What of a lock one interpreter wants, as `uv sync --frozen` decides it.

    Args:
        given: the lock; may be used again, and is faster then.
        interpreter: the target.
        choice: extras, groups and rules of the command.

    Raises:
        InputError: ``python-mismatch``, ``unsupported-environment``, ``unknown-extra``, ``unknown-group``,
            ``conflicting-extras``, ``ambiguous-lock``, ``hash-unsupported`` (H4), ``remote-names-local``,
            ``bad-artifact-url``, ``unsupported-vcs``, ``invalid-lock``.
    """
    if given.requires_python is not None and not python_fits(
        given.requires_python, interpreter, release_only=True
    ):
        raise InputError(
            "python-mismatch",
            f"{given.name}: the lock is for Python {given.requires_python}, "
            f"but {interpreter.executable} is Python {interpreter.version}",
            hint=PYTHON_HINT,
        )
    conditions = Conditions(given.markers, interpreter.markers)
    try:
        _check_environment(given, interpreter, conditions)
        start = _start(given, choice, conditions)
        _check_conflicts(given, start.active)
        conflicting = frozenset[Item]().union(*given.conflicts)
        reached = walk(given.packages, start, conditions, conflicting)
    except (LockProblem, TypeProblem) as exc:
        code = exc.code if isinstance(exc, LockProblem) else "invalid-lock"
        hint = (exc.hint if isinstance(exc, LockProblem) else None) or REMAKE
        raise InputError(code, f"{given.name}: {exc}", hint=hint) from exc
    there = {given.packages.all[index].name for index in reached.packages}
    _check_conflicts(given, reached.active | {project_item(name) for name in given.members & there})
    return _lock(given, reached, choice)


def _beside(name: str) -> str:
    """How messages name the pyproject.toml beside the lock."""
    return name.rpartition("/")[0] + "/pyproject.toml" if "/" in name else "pyproject.toml"


def _roots(packages: Packages, members: frozenset[str], has_own: bool) -> tuple[UvPackage, ...]:
    """The projects that a sync is about."""
    here = tuple(package for package in packages.all if package.is_at(_HERE))
    if here:
        return here[:1]
    if not members:
        if not packages.all and not has_own:
            raise LockProblem("invalid-lock", "it names no package, not even the project: was it cut off?")
        if has_own:
            return ()
        raise LockProblem("invalid-lock", "no package is the project that the lock belongs to")
    roots: list[UvPackage] = []
    for member in sorted(members):
        found = [package for package in packages.by_name.get(member, []) if package.is_project]
        if len(found) != 1:
            raise LockProblem(
                "invalid-lock", f"the member {shown(member)!r} of the workspace is not in the lock"
            )
        roots += found
    return tuple(roots)


def _requires_python(content: Table) -> SpecifierSet | None:
    written = text_at(content, "requires-python")
    try:
        return None if written is None else SpecifierSet(written)
    except InvalidSpecifier as exc:
        raise LockProblem(
            "invalid-lock", f"requires-python {shown(written or '')!r} cannot be parsed"
        ) from exc


def _conflicts(content: Table) -> tuple[frozenset[Item], ...]:
    """The sets of extras, groups and projects that exclude each other."""
    sets = content.get("conflicts", [])
    if not isinstance(sets, list) or not all(isinstance(one, list) for one in sets):
        raise LockProblem("invalid-lock", "conflicts must be an array of arrays")
    return tuple(frozenset(map(_conflict_item, tables_at({"conflicts": one}, "conflicts"))) for one in sets)


def _conflict_item(table: Table) -> Item:
    package = str(canonicalize_name(text_at(table, "package") or ""))
    extra, group = text_at(table, "extra"), text_at(table, "group")
    if not package or (extra and group):
        raise LockProblem("invalid-lock", "an item of conflicts must name a package, and an extra or a group")
    if extra:
        return extra_item(package, canonicalize_name(extra))
    return group_item(package, canonicalize_name(group)) if group else project_item(package)


def _with_hint(given: UvLockInput, project: Project) -> UvLockInput:
    """The input, with a warning if the pyproject.toml says something else than what was locked."""
    root = next((root for root in given.roots if root.is_at(_HERE)), None)
    if root is None:
        return given
    single = given.requires_python if len(given.members) <= 1 else None
    different = staleness(project, root, single)
    if not different:
        return given
    warning = f"{given.name} may be out of date: {different}; run `uv lock`"
    return replace(given, warnings=(*given.warnings, warning))


def _check_environment(given: UvLockInput, interpreter: Interpreter, conditions: Conditions) -> None:
    """The lock must be made for the environment; else what it says of it means nothing."""
    # Forks that depend on conflicts say nothing of environments.
    forks = () if any("extra" in marker for marker in given.forks) else given.forks
    for markers in (given.supported, forks):
        if markers and not any(conditions.hold(marker) for marker in markers):
            raise InputError(
                "unsupported-environment",
                f"{given.name}: the lock is for other environments than that of {interpreter.executable}",
                context="\n".join(f"made for: {shown(marker)}" for marker in markers),
                hint="add the environment to `tool.uv.environments` in pyproject.toml and run `uv lock`",
            )


def _start(given: UvLockInput, choice: LockChoice, conditions: Conditions) -> Start:
    """The roots with the extras and groups that are asked for."""
    extras = chosen_names(
        given.name, "extra", choice.extras, _known_extras(given), take_all=choice.all_extras
    )
    groups = _groups(given, choice)
    active: set[Item] = set()
    chosen_extras: list[tuple[int, str]] = []
    edges: list[Edge] = []
    for root in given.roots:
        active.add(project_item(root.name))
        for extra in root.extras:
            if extra in extras:
                active.add(extra_item(root.name, extra))
                chosen_extras.append((root.index, extra))
        for group, dependencies in root.groups(given.packages).items():
            if group in groups:
                active.add(group_item(root.name, group))
                edges += dependencies
    own = [*given.requirements]
    for group, tables in given.groups.items():
        if canonicalize_name(group) in groups:
            own += tables
    for table in own:
        edges += _own_edge(given, table, conditions)
    # An extra without dependencies can take part in a conflict all the same.
    active.update(extra_item(root.name, extra) for root in given.roots for extra in extras)
    active.update(group_item(root.name, group) for root in given.roots for group in groups)
    conflicting = frozenset[Item]().union(*given.conflicts)
    return Start(
        tuple(root.index for root in given.roots), tuple(chosen_extras), tuple(edges), conflicting & active
    )


def _known_extras(given: UvLockInput) -> Iterable[str]:
    for root in given.roots:
        yield from root.extras
        yield from root.declared()[0]
    if given.project is not None:
        yield from given.project.extras


def _groups(given: UvLockInput, choice: LockChoice) -> frozenset[str]:
    """The dependency groups to install: those asked for, and the default ones that there are."""
    known = {str(canonicalize_name(group)) for group in given.groups}
    for root in given.roots:
        known.update(root.groups(given.packages))
        known.update(root.declared()[1])
    if given.project is not None:
        known.update(given.project.groups)
    groups = chosen_names(given.name, "group", choice.groups, known)
    if not choice.default_groups:
        return groups
    default = frozenset({"dev"}) if given.project is None else given.project.default_groups
    return groups | (frozenset(known) if default is None else default & known)


def _own_edge(given: UvLockInput, table: Table, conditions: Conditions) -> list[Edge]:
    """A requirement of the lock itself, which names no version: forks tell which package is meant."""
    name = str(canonicalize_name(text_at(table, "name") or ""))
    marker = text_at(table, "marker") or ""
    if not conditions.hold(marker):
        return []
    found = [
        package
        for package in given.packages.by_name.get(name, [])
        if not (forks := texts_at(package.table, "resolution-markers"))
        or any(conditions.hold(fork) for fork in forks)
    ]
    if len(found) != 1:
        problem = "is not in the lock" if not found else f"could be any of {len(found)} packages"
        raise LockProblem("invalid-lock", f"the requirement {shown(name)!r} {problem}")
    extras = tuple(str(canonicalize_name(extra)) for extra in texts_at(table, "extras"))
    return [Edge(found[0].index, extras, marker)]


def _check_conflicts(given: UvLockInput, active: frozenset[Item]) -> None:
    both = conflict(given.conflicts, active)
    if both is not None:
        raise InputError(
            "conflicting-extras",
            f"{given.name}: these exclude each other (tool.uv.conflicts): {', '.join(map(_spoken, both))}",
            hint="ask for one of them only; --no-default-groups leaves default groups out",
        )


def _spoken(item: Item) -> str:
    """An item of a conflict, for a person."""
    kind, length, rest = item.split("-", 2)
    package, name = rest[: int(length)], rest[int(length) + 1 :]
    return f"{kind} {name} of {package}" if name else package


def _lock(given: UvLockInput, reached: Reached, choice: LockChoice) -> Lock:
    """The packages that were reached, with their sources, in the order of the lock."""
    required = choice.require_hashes is True
    problems = Problems()
    wanted: list[Wanted] = []
    missing: list[Wanted] = []
    first: dict[str, UvPackage] = {}
    for index in sorted(reached.packages):
        package = given.packages.all[index]
        try:
            found = sourced(package, given.home)
            if found.source is None:
                continue
            if required and isinstance(found.source, VcsSource | DirectorySource):
                raise LockProblem(
                    "hash-unsupported",
                    "--require-hashes is given, but a repository or a directory has no hash",
                    "do without --require-hashes: what the lock has hashes for is verified anyway",
                )
            other = first.setdefault(package.name, package)
            if other is not package:
                raise LockProblem("ambiguous-lock", f"{other.label} at {other.place} applies too", REMAKE)
        except LockProblem as exc:
            hint = exc.hint or (REMAKE if exc.code == "invalid-lock" else None)
            problems.add(exc.code, package.place, f"{package.label}: {exc}", hint)
            continue
        # The version of a source tree is what its files say now, not what they said when it was locked.
        version = "" if isinstance(found.source, DirectorySource) else package.version
        one = Wanted(
            package.name,
            version,
            found.hashes,
            extras=reached.packages[index],
            place=package.place,
            text=f"{package.name}=={version}" if version else package.name,
            source=found.source,
        )
        (missing if required and not found.hashes else wanted).append(one)
    problems.check()
    warnings = list(given.warnings)
    if not wanted and not missing:
        warnings.append(f"{given.name}: no package applies, so nothing is wanted")
    return Lock(
        tuple(wanted),
        required,
        tuple(warnings),
        tuple(missing),
        hash_cause="--require-hashes (the command line)" if required else "",
    )
