"""The pyproject.toml beside a uv.lock: its default groups, and whether the lock was made from it.

Only uv can say whether a lock is up to date: that takes its resolver. What is said here is a hint, from
comparing the requirements as written; sources (`tool.uv.sources`) and markers do not count, so that a lock
that is right is never called old.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.dependency_groups import resolve_dependency_groups
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.inputs.tomlfiles import (
    Table,
    TypeProblem,
    parse_toml,
    table_at,
    tables_at,
    text_at,
    texts_at,
)
from pkgc_daemon.inputs.uvlock_package import UvPackage

_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([^'\"]*)['\"]")
#: More differences than this help nobody.
_MOST = 3
#: Python versions by which two Requires-Python are compared: uv writes its own in another form.
_PROBES = tuple(f"3.{minor}.{micro}" for minor in range(31) for micro in (0, 1, 30))
#: Keys of a locked requirement that are no source.
_NO_SOURCE = frozenset({"name", "specifier", "extras", "marker", "index", "conflict"})

_Where = tuple[str, str]
"""("extra" or "group" or "", its name)"""


@dataclass(frozen=True, slots=True)
class Project:
    """What of a pyproject.toml matters to its lock."""

    file: str
    """As messages name it."""
    table: Table
    groups: frozenset[str]
    """Normalized names."""
    extras: frozenset[str]
    default_groups: frozenset[str] | None
    """Normalized names; None: all."""


def read_project(data: bytes, name: str) -> Project:
    """Read a pyproject.toml.

    Raises:
        InputError: ``invalid-pyproject``.
    """
    content = parse_toml(data, name, "invalid-pyproject").content
    try:
        tool = table_at(table_at(content, "tool"), "uv")
        groups = set(table_at(content, "dependency-groups"))
        if "dev-dependencies" in tool:
            groups.add("dev")
        extras = table_at(table_at(content, "project"), "optional-dependencies")
        default: frozenset[str] | None = frozenset({"dev"})
        if tool.get("default-groups") == "all":
            default = None
        elif "default-groups" in tool:
            default = _normalized(texts_at(tool, "default-groups"))
    except TypeProblem as exc:
        raise InputError("invalid-pyproject", f"{name}: {exc}") from exc
    return Project(name, content, _normalized(groups), _normalized(extras), default)


def staleness(project: Project, root: UvPackage, requires_python: SpecifierSet | None) -> str:
    """How a pyproject.toml differs from what was locked of it; '' when nothing is known to.

    Args:
        project: the pyproject.toml.
        root: the project's package in the lock.
        requires_python: of the lock; None when it is not that of one project.
    """
    table = table_or_empty(project.table, "project")
    name = table.get("name")
    if not isinstance(name, str) or canonicalize_name(name) != root.name:
        return ""
    found: list[str] = []
    try:
        metadata = table_at(root.table, "metadata")
        written = table.get("requires-python")
        if isinstance(written, str) and requires_python is not None and _differ(written, requires_python):
            found.append(f"requires-python is {shown(written, 80)!r}")
        dynamic = texts_at(table, "dynamic")
        if metadata and not {"dependencies", "optional-dependencies"} & set(dynamic):
            extras = (
                _normalized(texts_at(metadata, "provides-extras")) if "provides-extras" in metadata else None
            )
            if extras is not None and extras != project.extras:
                names = ", ".join(sorted(extras ^ project.extras))
                found.append(f"the extras differ ({shown(names, 80)})")
            found += _differences(_asked(table, project.table), _locked(metadata))
    except (ValueError, LookupError, RecursionError, ExceptionGroup):
        # Not a requirement, group or type that can be compared: uv will say more. This is only a hint.
        return ""
    more = f", and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more


def table_or_empty(table: Table, key: str) -> Table:
    """A table, or an empty one if there is something else."""
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _normalized(names: Iterable[str]) -> frozenset[str]:
    return frozenset(str(canonicalize_name(name)) for name in names)


def _differ(written: str, locked: SpecifierSet) -> bool:
    asked = SpecifierSet(written)
    return any(asked.contains(version) != locked.contains(version) for version in _PROBES)


@dataclass(slots=True)
class _Said:
    """All that is said about one project at one place."""

    specifiers: set[SpecifierSet]
    extras: set[str]
    sourced: bool = False


_Saids = Mapping[tuple[_Where, str], _Said]


def _say(said: dict[tuple[_Where, str], _Said], where: _Where, name: str) -> _Said:
    return said.setdefault((where, str(canonicalize_name(name))), _Said(set(), set()))


def _asked(table: Table, content: Table) -> _Saids:
    """The requirements of a pyproject.toml."""
    said: dict[tuple[_Where, str], _Said] = {}

    def add(where: _Where, texts: Iterable[str]) -> None:
        for text in texts:
            requirement = Requirement(text)
            one = _say(said, where, requirement.name)
            one.specifiers.add(requirement.specifier)
            one.extras |= _normalized(requirement.extras)
            one.sourced |= requirement.url is not None

    add(("", ""), texts_at(table, "dependencies"))
    optional = table_at(table, "optional-dependencies")
    for extra in optional:
        add(("extra", str(canonicalize_name(extra))), texts_at(optional, extra))
    groups = table_at(content, "dependency-groups")
    for group in groups:
        add(("group", str(canonicalize_name(group))), resolve_dependency_groups(groups, group))
    tool = table_at(table_at(content, "tool"), "uv")
    add(("group", "dev"), texts_at(tool, "dev-dependencies"))
    return said


def _locked(metadata: Table) -> _Saids:
    """The requirements that a lock remembers of its project."""
    said: dict[tuple[_Where, str], _Said] = {}

    def add(where: _Where, table: Table) -> None:
        one = _say(said, where, text_at(table, "name") or "")
        one.specifiers.add(SpecifierSet(text_at(table, "specifier") or ""))
        one.extras |= _normalized(texts_at(table, "extras"))
        one.sourced |= not table.keys() <= _NO_SOURCE

    for table in tables_at(metadata, "requires-dist"):
        extras = _EXTRA.findall(text_at(table, "marker") or "")
        for where in [("extra", str(canonicalize_name(extra))) for extra in extras] or [("", "")]:
            add(where, table)
    groups = table_at(metadata, "requires-dev" if "requires-dev" in metadata else "dependency-groups")
    for group in groups:
        for table in tables_at(groups, group):
            add(("group", str(canonicalize_name(group))), table)
    return said


def _differences(asked: _Saids, locked: _Saids) -> list[str]:
    """One phrase for each requirement that is new, gone or changed."""
    found: list[str] = []
    for where, name in sorted(asked.keys() | locked.keys()):
        now, then = asked.get((where, name)), locked.get((where, name))
        place = f" ({where[0]} {where[1]})" if where[0] else ""
        label = shown(f"{name}{place}", 80)
        if then is None:
            found.append(f"{label} is not locked")
        elif now is None:
            found.append(f"{label} is locked, but not required any more")
        elif not (now.sourced or then.sourced) and (
            now.specifiers != then.specifiers or now.extras != then.extras
        ):
            found.append(f"{label} has other versions or extras")
    return found
