"""The walk through a uv.lock: from its projects along dependencies whose markers hold, to what is installed.

With `conflicts`, uv writes into markers which extras, groups and projects are active
(``extra == 'extra-4-demo-cpu'``), so what is active must be known before a marker is believed. The walk is
repeated until it activates nothing new, and only then its outcome counts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.markers import InvalidMarker, Marker

from pkgc_daemon.inputs.lockhome import LockProblem
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.inputs.uvlock_package import Edge, Packages

_QUOTED = r"('[^']*'|\"[^\"]*\")"
_EXTRA = re.compile(rf"\bextra\s*(==|!=)\s*{_QUOTED}|{_QUOTED}\s*(==|!=)\s*extra\b(?!-)")
#: What evaluating a marker of a hostile lock raises, in the versions of packaging since 26.1.
_MARKER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)

_Holds = Callable[[Edge], bool]
Item = str
"""An extra, group or project that takes part in a conflict, as markers write it."""


def extra_item(package: str, extra: str) -> Item:
    """How markers write an extra of a package."""
    return f"extra-{len(package)}-{package}-{extra}"


def group_item(package: str, group: str) -> Item:
    """How markers write a dependency group of a package."""
    return f"group-{len(package)}-{package}-{group}"


def project_item(package: str) -> Item:
    """How markers write a project itself, its dependencies without extras and groups."""
    return f"project-{len(package)}-{package}"


class ParsedMarkers:
    """The markers of one lock, each distinct text parsed once.

    ``extra == 'x'`` means here that x is among what is active, and several things can be: it is parsed as
    ``'x' in extras``, the form that `packaging` knows for that.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Marker, bool]] = {}

    def parsed(self, text: str) -> tuple[Marker, bool]:
        """The marker, and whether it depends on what is active.

        Raises:
            LockProblem: ``invalid-lock``.
        """
        known = self._known.get(text)
        if known is None:
            rewritten, count = _EXTRA.subn(_membership, text)
            try:
                known = (Marker(rewritten), count > 0)
            except (InvalidMarker, RecursionError, ValueError) as exc:
                raise LockProblem("invalid-lock", f"the marker {shown(text)!r} cannot be parsed") from exc
            self._known[text] = known
        return known


def _membership(match: re.Match[str]) -> str:
    operator, value = (match[1], match[2]) if match[1] else (match[4], match[3])
    return f"{value} {'in' if operator == '==' else 'not in'} extras"


class Conditions:
    """Markers seen from one interpreter; what does not depend on what is active is evaluated once."""

    def __init__(self, parsed: ParsedMarkers, variables: Mapping[str, str]) -> None:
        self._parsed = parsed
        self._variables = variables
        self._constant: dict[str, bool] = {"": True}
        self._dependent: dict[tuple[str, frozenset[Item]], bool] = {}

    def hold(self, text: str, active: frozenset[Item] = frozenset()) -> bool:
        """Whether a marker is true while `active` are.

        Raises:
            LockProblem: ``invalid-lock``.
        """
        known = self._constant.get(text)
        if known is not None:
            return known
        known = self._dependent.get((text, active))
        if known is not None:
            return known
        marker, dependent = self._parsed.parsed(text)
        try:
            result = marker.evaluate({**self._variables, "extras": active}, context="lock_file")
        except _MARKER_ERRORS as exc:
            raise LockProblem(
                "invalid-lock", f"the marker {shown(text)!r} cannot be evaluated: {shown(str(exc))}"
            ) from exc
        if dependent:
            self._dependent[text, active] = result
        else:
            self._constant[text] = result
        return result


@dataclass(frozen=True, slots=True)
class Start:
    """Where a walk begins."""

    roots: tuple[int, ...]
    """Packages that are there whatever markers say."""
    extras: tuple[tuple[int, str], ...]
    """Their extras that are asked for."""
    edges: tuple[Edge, ...]
    """Dependencies of groups and of the lock itself."""
    active: frozenset[Item]
    """What that activates, of what takes part in conflicts."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The end of a walk."""

    packages: Mapping[int, frozenset[str]]
    """Index of a package -> its extras that something asked for."""
    active: frozenset[Item]


def walk(packages: Packages, start: Start, conditions: Conditions, conflicting: frozenset[Item]) -> Reached:
    """Follow the dependencies whose markers hold.

    Args:
        packages: of the lock.
        start: where to begin.
        conditions: how markers are evaluated.
        conflicting: every item of the lock's conflicts; nothing else is ever looked for by markers.

    Raises:
        LockProblem, InputError: ``invalid-lock``.
    """
    active = start.active
    if conflicting:
        # Restarted whenever something becomes active: an edge that was followed before may not be any more.
        # `active` only grows, so this ends.
        while (found := _activated(packages, start, conditions, conflicting, active)) is not None:
            active |= found
    reached: dict[int, set[str]] = {root: set() for root in start.roots}
    for root, extra in start.extras:
        reached[root].add(extra)
    for edge in _followed(packages, start, lambda edge: conditions.hold(edge.marker, active)):
        reached.setdefault(edge.target, set()).update(edge.extras)
    return Reached({index: frozenset(extras) for index, extras in reached.items()}, active)


def _activated(
    packages: Packages,
    start: Start,
    conditions: Conditions,
    conflicting: frozenset[Item],
    active: frozenset[Item],
) -> frozenset[Item] | None:
    """The items that the first dependency adds which activates any; None when none does."""
    found: frozenset[Item] = frozenset()

    def holds(edge: Edge) -> bool:
        nonlocal found
        name = packages.all[edge.target].name
        added = conflicting.intersection(extra_item(name, extra) for extra in edge.extras) - active
        # A dependency on `demo[x]` may have a marker that asks whether x of demo is active.
        if not conditions.hold(edge.marker, active | added):
            return False
        found = added
        return True

    for _ in _followed(packages, start, holds):
        if found:
            return found
    return None


def _followed(packages: Packages, start: Start, holds: _Holds) -> Iterator[Edge]:
    """The edges that are followed, breadth first."""
    seen: set[tuple[int, str]] = {(root, "") for root in start.roots} | set(start.extras)
    queue = deque([*((root, "") for root in start.roots), *start.extras])

    def follow(edges: Iterable[Edge]) -> Iterator[Edge]:
        for edge in edges:
            if not holds(edge):
                continue
            yield edge
            for extra in ("", *edge.extras):
                if (edge.target, extra) not in seen:
                    seen.add((edge.target, extra))
                    queue.append((edge.target, extra))

    yield from follow(start.edges)
    while queue:
        index, extra = queue.popleft()
        package = packages.all[index]
        try:
            yield from follow(package.edges(extra, packages))
        except LockProblem as exc:
            raise package.refuse(exc.code, str(exc), exc.hint) from exc


def conflict(sets: Sequence[frozenset[Item]], active: frozenset[Item]) -> tuple[Item, ...] | None:
    """Active items that exclude each other, sorted; None when there are none."""
    for one in sets:
        both = one & active
        if len(both) > 1:
            return tuple(sorted(both))
    return None
