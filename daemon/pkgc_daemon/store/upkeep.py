"""Upkeep: sizes, listing, full verification, removal by name and by age; the slow work on a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import artifacts, repositories, trees
from pkgc_daemon.store.filesystem import remove_tree
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.rows import ArtifactRow, TreeRow

if TYPE_CHECKING:
    from pkgc_daemon.store.store import Store

Progress = Callable[[int, int], None]
"""(bytes checked so far, bytes in all)."""


def folder_size(path: Path) -> dict[str, int]:
    """``{"files", "bytes"}`` of a folder, by walking it."""
    files = total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
                files += 1
            except FileNotFoundError:
                continue
    return {"files": files, "bytes": total}


def project_of(row: ArtifactRow | TreeRow) -> str:
    """The normalized project name of a row's file name ('' when it has none)."""
    return canonicalize_name(row.filename.split("-", 1)[0])


def listing(store: Store) -> list[dict[str, Any]]:
    """One map per digest that the store holds, sorted by project and file name."""
    catalog = store.catalog
    rows = []
    for sha256 in sorted(catalog.artifacts.keys() | catalog.trees.keys()):
        artifact, tree = catalog.artifacts.get(sha256), catalog.trees.get(sha256)
        one = tree if tree is not None else artifact
        assert one is not None
        rows.append(
            {
                "sha256": sha256,
                "filename": one.filename,
                "name": project_of(one),
                "version": tree.version if tree else [*one.filename.split("-"), ""][1],
                "artifact_bytes": artifact.size if artifact else 0,
                "tree_bytes": tree.size if tree else 0,
                "tree_files": tree.files if tree else 0,
                "added": one.added,
                "used": max(row.used for row in (artifact, tree) if row is not None),
                "in_use": store.is_leased(sha256),
                "origins": sorted(
                    {
                        origin.url
                        for known in (catalog.origins, catalog.sources)
                        for origin, _ in known.get(sha256, ())
                    }
                ),
            }
        )
    rows.sort(key=lambda row: (row["name"], row["filename"], row["sha256"]))
    return rows


async def verify(store: Store, *, fix: bool, progress: Progress | None) -> dict[str, Any]:
    """Re-hash every artifact and every file of every tree.

    Args:
        store: the store.
        fix: put away what is damaged, so that it is fetched or unpacked again when it is wanted.
        progress: called on the loop after each item.

    Returns:
        ``{"artifacts", "trees", "bytes", "damaged": [{"kind", "sha256", "filename", "problem"}], "fixed"}``;
        kinds are ``artifact``, ``tree`` and ``bytecode``.
    """
    catalog = store.catalog
    work: list[tuple[str, ArtifactRow | TreeRow]] = [("artifact", row) for row in catalog.artifacts.values()]
    work += [("tree", row) for row in catalog.trees.values()]
    total = sum(row.size for _, row in work)
    damaged: list[dict[str, str]] = []
    done = fixed = 0
    for kind, row in work:
        check = _artifact_problem if kind == "artifact" else _tree_problem
        problem = await store.workers.run(check, store.layout, row)
        known = catalog.artifacts if kind == "artifact" else catalog.trees
        if problem is not None and row.sha256 in known:
            damaged.append({"kind": kind, "sha256": row.sha256, "filename": row.filename, "problem": problem})
            if fix:
                put_away = store.damaged_artifact if kind == "artifact" else store.damaged_tree
                await put_away(row.sha256)
                fixed += 1
        if kind == "tree" and row.sha256 in known:
            problem = await store.workers.run(store.bytecode.find_damage, row.sha256)
            if problem is not None:
                one = {"kind": "bytecode", "sha256": row.sha256, "filename": row.filename, "problem": problem}
                damaged.append(one)
                if fix:
                    await store.bytecode.drop(row.sha256)
                    fixed += 1
        done += row.size
        if progress is not None:
            progress(done, total)
    return {
        "artifacts": sum(kind == "artifact" for kind, _ in work),
        "trees": sum(kind == "tree" for kind, _ in work),
        "bytes": total,
        "damaged": damaged,
        "fixed": fixed,
    }


def _artifact_problem(layout: Layout, row: ArtifactRow | TreeRow) -> str | None:
    try:
        found = artifacts.hash_file(layout.artifact(row.sha256))["sha256"]
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if found == row.sha256 else f"its bytes have sha256 {found}"


def _tree_problem(layout: Layout, row: ArtifactRow | TreeRow) -> str | None:
    try:
        manifest = trees.read_manifest(layout, row.sha256)
    except PkgcError as error:
        return error.message
    return trees.find_damage(layout.tree_root(row.sha256), manifest)


async def clean(store: Store, names: Sequence[str]) -> dict[str, Any]:
    """Remove everything of these projects; when `names` is empty, of all, and pages and git repositories too.

    What is leased or locked is skipped. What was known of URLs and builds goes with the bytes.

    Returns:
        ``{"removed": [file names], "bytes", "skipped": [file names in use]}``.
    """
    await store.bytecode.measure()
    wanted = {canonicalize_name(name) for name in names}
    catalog = store.catalog
    rows: list[ArtifactRow | TreeRow] = [*catalog.artifacts.values(), *catalog.trees.values()]
    chosen = [row for row in rows if not wanted or project_of(row) in wanted]
    report = await _remove(store, chosen, None)
    if not wanted:
        report["bytes"] += store.ready.size()["bytes"]
        store.ready.clear()
        await store.workers.run(_empty, store.layout.pages)
        gits = await store.workers.run(repositories.empty, store.layout)
        report["bytes"] += gits.bytes
        report["removed"] += gits.removed
        report["skipped"] += gits.skipped
    return report


async def shrink(store: Store, limit: int) -> dict[str, Any]:
    """Remove the least recently used until everything takes at most `limit` bytes (invariant 7).

    First ready copies, which only save time; then bytecode and artifacts; then trees, which syncs use.
    Leases are never touched. Returns what `clean` returns.
    """
    catalog = store.catalog
    by_use = sorted(catalog.artifacts.values(), key=lambda row: row.used)
    trees_by_use = sorted(catalog.trees.values(), key=lambda row: row.used)
    compiled = (await store.bytecode.size())["bytes"]
    total = sum(row.size for row in by_use) + sum(row.size for row in trees_by_use) + compiled
    store.ready.shrink(limit - total)  # they only save time
    if total <= limit:
        return await _remove(store, [], None)
    bytecode = [_BytecodeRow(row) for row in trees_by_use if store.bytecode.size_of(row.sha256)[1]]
    early: list[ArtifactRow | TreeRow | _BytecodeRow] = [*by_use, *bytecode]
    early.sort(key=lambda row: row.used)
    return await _remove(store, [*early, *trees_by_use], total - limit)


class _BytecodeRow:
    """The bytecode of a tree as something to be removed."""

    def __init__(self, row: TreeRow) -> None:
        self.sha256, self.filename, self.used = row.sha256, row.filename, row.used


async def _remove(
    store: Store, rows: Iterable[ArtifactRow | TreeRow | _BytecodeRow], enough: int | None
) -> dict[str, Any]:
    removed: set[str] = set()
    skipped: set[str] = set()
    freed = 0
    for row in rows:
        if enough is not None and freed >= enough:
            break
        # Asked at the last moment: a lease may begin while earlier ones are being removed.
        if store.is_leased(row.sha256):
            skipped.add(row.filename)
            continue
        if isinstance(row, ArtifactRow):
            await store.damaged_artifact(row.sha256)
            freed += row.size
        else:
            freed += store.bytecode.size_of(row.sha256)[1]
            if isinstance(row, _BytecodeRow):
                await store.bytecode.drop(row.sha256)
                continue
            await store.damaged_tree(row.sha256)
            freed += row.size
        removed.add(row.filename)
    return {"removed": sorted(removed), "bytes": freed, "skipped": sorted(skipped)}


def _empty(path: Path) -> None:
    for entry in list(path.iterdir()):
        remove_tree(entry)
