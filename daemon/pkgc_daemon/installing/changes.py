"""Deciding the operations of a change: what moves aside and what takes its place; it changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from functools import cache

from pkgc_daemon.environments.files import open_regular
from pkgc_daemon.installing.compiled import bytecode_of, drop_stale
from pkgc_daemon.installing.conflicts import conflict, overlap_error, reserved
from pkgc_daemon.installing.layout import Layout
from pkgc_daemon.installing.staging import Staging
from pkgc_daemon.installing.transaction import Operation
from pkgc_daemon.installing.uninstall import Owner

_CHUNK = 1 << 20


class Changes:
    """The operations that turn the environment into what is staged.

    Args:
        removals: paths that move aside, from `find_removals`.
        owners: path -> owner of the distributions that stay; asked only when a path is taken.
        strict: a file of a distribution that stays, with other bytes, is an error.
    """

    def __init__(
        self,
        layout: Layout,
        staging: Staging,
        removals: Collection[str],
        owners: Callable[[], Mapping[str, Owner]],
        *,
        strict: bool,
    ) -> None:
        self.layout = layout
        self.warnings: list[str] = []
        self._staging = staging
        self._aside = set(removals)
        self._owners = cache(owners)
        self._strict = strict
        self._replaced: list[str] = []
        self.places: list[str] = []
        """What `operations` puts into place, each as a whole."""

    def operations(self) -> list[Operation]:
        """First what leaves, .dist-info ahead; then what comes, .dist-info last.

        So even where a journal were lost, a .dist-info never speaks for files that are not there.

        Raises:
            PkgcError: ``path-conflict``, ``overlapping-files`` (strict).
        """
        self._merge("")
        aside = sorted([*self._aside, *self._replaced], key=lambda path: (not _is_info(path), path))
        places = sorted(self.places, key=lambda path: (_is_info(path), path))
        return [Operation("aside", path) for path in aside] + [Operation("place", path) for path in places]

    def _merge(self, folder: str) -> None:
        prefix, start = self.layout.prefix, f"{folder}/" if folder else ""
        try:
            there = set(os.listdir(f"{prefix}/{folder}"))
        except FileNotFoundError:
            there = set()
        # Bytecode comes last: a source that is not taken takes its bytecode with it.
        entries = sorted(
            os.scandir(f"{self._staging.root}/{folder}"), key=lambda entry: entry.name == "__pycache__"
        )
        for entry in entries:
            path = start + entry.name
            if path in self._aside or entry.name not in there:
                # Nothing there: the whole folder goes in by one rename.
                self.places.append(path)
                continue
            try:
                found = os.lstat(f"{prefix}/{path}")
            except FileNotFoundError:
                self.places.append(path)
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and stat.S_ISDIR(found.st_mode):
                self._merge(path)
                continue
            if is_folder or stat.S_ISDIR(found.st_mode):
                if not (is_folder and self._is_stray_link(path, found)):
                    raise conflict(self._inside(path) or "an added package", f"{prefix}/{path}")
                self.warnings.append(f"{prefix}/{path} is in the way of a folder and was replaced")
            elif not self._takes(path):
                if path.endswith(".py"):
                    drop_stale(f"{self._staging.root}/{path}")
                continue
            self._replaced.append(path)
            self.places.append(path)
            if path.endswith(".py"):
                self._forget_bytecode(path)

    def _forget_bytecode(self, source: str) -> None:
        """Move aside the bytecode of a source that is replaced, where none is staged to take its place."""
        start = f"{self.layout.prefix}/"
        for found in bytecode_of(start + source):
            path = found.removeprefix(start)
            if self._aside.isdisjoint((path, os.path.dirname(path))) and not os.path.lexists(
                f"{self._staging.root}/{path}"
            ):
                self._replaced.append(path)

    def _is_stray_link(self, path: str, found: os.stat_result) -> bool:
        """Whether a symlink to a folder, which no package owns, stands where a package's folder was."""
        return (
            stat.S_ISLNK(found.st_mode)
            and os.path.isdir(f"{self.layout.prefix}/{path}")
            and not self.layout.is_reserved(path)
            and path not in self._owners()
        )

    def _inside(self, path: str) -> str:
        """An added project that has `path`, or something in it."""
        for folder, _, names in os.walk(f"{self._staging.root}/{path}"):
            for name in names:
                found = f"{folder}/{name}"[len(self._staging.root) + 1 :]
                if owner := self._staging.owner_of(found):
                    return owner
        return self._staging.owner_of(path)

    def _takes(self, path: str) -> bool:
        """Whether the staged file takes the place of the one at `path` (design.md 8, 'Overlaps')."""
        if self.layout.is_reserved(path):
            raise reserved(self._staging.owner_of(path) or "an added package", path, path)
        existing, staged = f"{self.layout.prefix}/{path}", f"{self._staging.root}/{path}"
        if same_content(existing, staged):
            return False
        if path.endswith(".pyc") and "/__pycache__/" in path:
            return True  # its source was taken, or stands beside it already
        owner = self._owners().get(path)
        added = self._staging.owner_of(path)
        if owner is None:
            if not path.endswith(".pyc"):
                self.warnings.append(f"{existing} belonged to no package and was replaced by {added}'s file")
            return True
        text = f"{owner.name} and {added} both have {path}, with different contents"
        if self._strict:
            raise overlap_error(text)
        winner = max(owner.name, added)
        self.warnings.append(f"{text}; the one of {winner} is installed")
        return winner == added


def same_content(one: str, other: str) -> bool:
    """Whether two paths are regular files with the same bytes."""
    first, second = os.lstat(one), os.lstat(other)
    if os.path.samestat(first, second):
        return True
    if not (stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)):
        return False
    if first.st_size != second.st_size:
        return False
    with open_regular(one) as left, open_regular(other) as right:
        while chunk := left.read(_CHUNK):
            if chunk != right.read(_CHUNK):
                return False
    return True


def _is_info(path: str) -> bool:
    return path.endswith((".dist-info", ".egg-info")) or ".dist-info/" in path
