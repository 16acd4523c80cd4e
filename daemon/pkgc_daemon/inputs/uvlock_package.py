"""The packages of a uv.lock, read one by one when a walk first reaches them; no choosing.

A lock of hundreds of packages is mostly wheels of other platforms and projects of other forks: what nobody
reaches is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from packaging.utils import canonicalize_name

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.lockhome import LockProblem
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.inputs.tomlfiles import Table, TypeProblem, table_at, tables_at, text_at, texts_at
from pkgc_daemon.vocabulary import Digest, Place, Source

#: What helps when a uv.lock is no uv.lock.
REMAKE = "restore the file, or have it made again: uv lock"


class Edge(NamedTuple):
    """One dependency: which package, with which extras, under which marker."""

    target: int
    """The index of the package."""
    extras: tuple[str, ...]
    marker: str
    """As written; '' when there is none."""


class Sourced(NamedTuple):
    """Where a package's bytes are."""

    source: Source | None
    """None: nothing is installed (``virtual``)."""
    hashes: frozenset[Digest]
    """Allowed digests; empty: a file has none that is secure."""


class UvPackage:
    """One ``[[package]]``. Its fields are checked when they are asked for, and remembered."""

    __slots__ = ("_edges", "_groups", "index", "name", "place", "sourced", "table", "version")

    def __init__(self, index: int, table: Table, place: Place) -> None:
        self.index = index
        self.table = table
        self.place = place
        self.sourced: Sourced | None = None
        """Set by `uvlock_sources` when it is known."""
        self._edges: dict[str, tuple[Edge, ...]] = {}
        self._groups: dict[str, tuple[Edge, ...]] | None = None
        try:
            name, version = text_at(table, "name"), text_at(table, "version")
        except TypeProblem as exc:
            raise InputError("invalid-lock", f"{place}: package {index + 1}: {exc}", hint=REMAKE) from exc
        if not name:
            raise InputError(
                "invalid-lock", f"{place}: package {index + 1}: its name is missing", hint=REMAKE
            )
        self.name = str(canonicalize_name(name))
        self.version = version or ""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"package {self.index + 1} ({shown(self.name, 100)})"

    def refuse(self, code: str, message: str, hint: str | None = None) -> InputError:
        """An error about this package, to be raised."""
        hint = hint or (REMAKE if code == "invalid-lock" else None)
        return InputError(code, f"{self.place}: {self.label}: {message}", hint=hint)

    @property
    def source(self) -> Table:
        """Its ``source`` table.

        Raises:
            LockProblem: it is missing or no table.
        """
        source = self.table.get("source")
        if not isinstance(source, dict) or not source:
            raise LockProblem("invalid-lock", "its source is missing")
        return source

    def is_at(self, paths: frozenset[str]) -> bool:
        """Whether it is a source tree at one of `paths`, as written: how a lock marks its projects."""
        source = self.table.get("source")
        return isinstance(source, dict) and any(
            source.get(kind) in paths for kind in ("editable", "virtual", "directory")
        )

    @property
    def is_project(self) -> bool:
        """Whether it is a source tree: of several packages of one name, a member of the workspace is."""
        source = self.table.get("source")
        return isinstance(source, dict) and not source.keys().isdisjoint({"editable", "virtual", "directory"})

    def edges(self, extra: str, packages: Packages) -> tuple[Edge, ...]:
        """Its dependencies ('' for `extra`), or those that one extra adds (none if there is no such extra).

        Raises:
            InputError: ``invalid-lock``.
        """
        found = self._edges.get(extra)
        if found is None:
            try:
                if extra:
                    tables = tables_at(table_at(self.table, "optional-dependencies"), extra)
                else:
                    tables = tables_at(self.table, "dependencies")
                found = tuple(packages.edge(table) for table in tables)
            except (TypeProblem, LockProblem) as exc:
                raise self.refuse("invalid-lock", str(exc)) from exc
            self._edges[extra] = found
        return found

    @property
    def extras(self) -> tuple[str, ...]:
        """The extras that add something.

        Raises:
            InputError: ``invalid-lock``.
        """
        try:
            return tuple(table_at(self.table, "optional-dependencies"))
        except TypeProblem as exc:
            raise self.refuse("invalid-lock", str(exc)) from exc

    def groups(self, packages: Packages) -> Mapping[str, tuple[Edge, ...]]:
        """Its dependency groups.

        Raises:
            InputError: ``invalid-lock``.
        """
        if self._groups is None:
            try:
                key = "dev-dependencies" if "dev-dependencies" in self.table else "dependency-groups"
                tables = table_at(self.table, key)
                self._groups = {
                    group: tuple(packages.edge(table) for table in tables_at(tables, group))
                    for group in tables
                }
            except (TypeProblem, LockProblem) as exc:
                raise self.refuse("invalid-lock", str(exc)) from exc
        return self._groups

    def declared(self) -> tuple[frozenset[str], frozenset[str]]:
        """Extras and groups that its metadata names, with and without dependencies.

        Raises:
            InputError: ``invalid-lock``.
        """
        try:
            metadata = table_at(self.table, "metadata")
            groups = (
                table_at(metadata, "requires-dev").keys() | table_at(metadata, "dependency-groups").keys()
            )
            return frozenset(texts_at(metadata, "provides-extras")), frozenset(groups)
        except TypeProblem as exc:
            raise self.refuse("invalid-lock", str(exc)) from exc


class Packages:
    """All packages of a lock, by index and by name."""

    def __init__(self, packages: tuple[UvPackage, ...]) -> None:
        self.all = packages
        by_name: dict[str, list[UvPackage]] = {}
        for package in packages:
            by_name.setdefault(package.name, []).append(package)
        self.by_name: Mapping[str, list[UvPackage]] = by_name

    def edge(self, table: Table) -> Edge:
        """A dependency as written, with its target found.

        `version` and `source` are there only when the name alone is ambiguous.

        Raises:
            LockProblem: ``invalid-lock``: there is no such package, or more than one.
            TypeProblem: a value of the wrong type.
        """
        name = str(canonicalize_name(text_at(table, "name") or ""))
        found = self.by_name.get(name, [])
        version, source = text_at(table, "version"), table.get("source")
        if version is not None:
            found = [package for package in found if package.version == version]
        if source is not None:
            found = [package for package in found if package.table.get("source") == source]
        elif version is None and len(found) > 1:
            # A source tree with a dynamic version has none to tell it by.
            found = [package for package in found if not package.version] or found
        if len(found) != 1:
            what = f"{name}=={version}" if version else name
            problem = "is not in the lock" if not found else f"could be any of {len(found)} packages"
            raise LockProblem("invalid-lock", f"its dependency {shown(what)!r} {problem}")
        extras = tuple(str(canonicalize_name(extra)) for extra in texts_at(table, "extra"))
        return Edge(found[0].index, extras, text_at(table, "marker") or "")
