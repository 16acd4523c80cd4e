"""The hand `apply_plan`: change one environment from trees of the store, wholly or not at all.

It runs in a thread of the daemon or in the client, imports nothing but the standard library, msgpack and
such modules of ours, and blocks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing import transaction
from pkgc_daemon.installing.changes import Changes
from pkgc_daemon.installing.failures import interrupted, translated
from pkgc_daemon.installing.layout import WORK, Layout, layout_of
from pkgc_daemon.installing.links import Linker
from pkgc_daemon.installing.lock import DEFAULT_TIMEOUT, LockVanishedError, environment_lock
from pkgc_daemon.installing.staging import Addition, Staging, TreeDamagedError, read_additions
from pkgc_daemon.installing.uninstall import Leaving, Owner, find_removals, owned_files, owners_of

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


def apply_plan(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Remove and add distributions in one journaled change.

    Args:
        args: ``venv``: the environment's folder; ``interpreter``: wire form of its probe, or None with
            ``create``: arguments of `create_environment`; ``fingerprint``: of the scan that the plan was
            made from, or None; ``remove``: maps of ``name``, ``version``, ``dist_info`` (absolute);
            ``add``: maps of ``name`` (normalized), ``version``, ``tree`` (folder), ``manifest`` (path),
            ``sha256``, ``provenance`` (provenance_url.json) or ``direct_url`` (direct_url.json) or
            neither, ``requested``; ``link_mode``: a key of `MODES`; ``compile``; ``strict``;
            ``lock_timeout``: seconds.
        progress: called with files staged and files in all.
        cancelled: asked between distributions, never once the change is journaled.

    Returns:
        ``status``: ``done``; ``stale`` (the environment is not the one that was scanned: scan and plan
        again); or ``damaged`` (with ``sha256`` and ``path`` of a tree that is not what its manifest says:
        nothing was changed). With ``done`` also ``installed``, ``removed``, ``warnings``, ``link_mode``
        (the one really used), ``files`` and ``interpreter``.

    Raises:
        PkgcError: the environment is as it was before.
    """
    interpreter = args.get("interpreter")
    created: list[str] = []
    if interpreter is None:
        from pkgc_daemon.environments.create import create_environment

        made = create_environment({"venv": args["venv"], **args["create"]})
        created, interpreter = list(made["created"]), made["interpreter"]
        args = {**args, "fingerprint": None, "interpreter": None}
    layout = layout_of(interpreter)
    # A new environment is taken away again only under its lock: who holds that may be using it already.
    try:
        with environment_lock(layout.prefix, timeout=_lock_timeout(args), cancelled=cancelled):
            transaction.checkpoint("locked")
            try:
                result = _locked(args, layout, interpreter, progress, cancelled)
            except BaseException:
                _remove_created(created)
                raise
            if result["status"] == "damaged":
                _remove_created(created)
    except LockVanishedError:
        return {"status": "stale", "warnings": []}
    result["interpreter"] = interpreter
    return result


def _locked(
    args: dict[str, Any],
    layout: Layout,
    interpreter: dict[str, Any],
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> dict[str, Any]:
    warnings = transaction.recover(layout.prefix, layout)
    expected = args.get("fingerprint")
    if args.get("interpreter") is None:
        # It was missing when the plan was made: somebody else may have made and filled it meanwhile.
        stale = bool(args.get("add")) and bool(_scan(interpreter)["distributions"])
    else:
        stale = expected is not None and _scan(interpreter)["fingerprint"] != expected
    if stale:
        return {"status": "stale", "warnings": warnings}
    result = _change(args, layout, interpreter, progress, cancelled)
    result["warnings"] = warnings + result.get("warnings", [])
    return result


def recover_environment(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Undo an interrupted change, for commands that change nothing else (a hand).

    Args:
        args: ``interpreter`` and ``lock_timeout`` as for `apply_plan`.

    Returns:
        ``warnings``: what was undone; empty when there was nothing to do.
    """
    layout = layout_of(args["interpreter"])
    timeout = _lock_timeout(args)
    try:
        with environment_lock(layout.prefix, timeout=timeout, cancelled=cancelled):
            return {"warnings": transaction.recover(layout.prefix, layout)}
    except LockVanishedError:
        return {"warnings": []}


def _lock_timeout(args: dict[str, Any]) -> float:
    given = args.get("lock_timeout")
    return DEFAULT_TIMEOUT if given is None else float(given)


def _scan(interpreter: dict[str, Any]) -> dict[str, Any]:
    from pkgc_daemon.environments.scan import scan_environment

    paths = interpreter["paths"]
    return scan_environment(
        {"prefix": interpreter["prefix"], "purelib": paths["purelib"], "platlib": paths["platlib"]}
    )


def _change(
    args: dict[str, Any],
    layout: Layout,
    interpreter: dict[str, Any],
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> dict[str, Any]:
    from pkgc_daemon.archives.manifest import manifest_from_bytes

    additions, damage = read_additions(args.get("add") or [], manifest_from_bytes)
    if damage is not None:
        return _damaged(damage)
    leaving = _leaving(args.get("remove") or [], layout)

    @cache
    def owners() -> dict[str, Owner]:
        return owners_of(layout, leaving)

    shared, overlaps = _shared(layout, leaving, owners)
    removals = find_removals(layout, leaving, shared)
    prefix = layout.prefix
    linker = Linker(args.get("link_mode") or "auto", [f"{prefix}/"])
    strict = bool(args.get("strict"))
    staging = Staging(
        f"{prefix}/{transaction.STAGING}",
        layout,
        linker,
        executable=interpreter["executable"],
        version=interpreter["version"],
        strict=strict,
    )
    try:
        transaction.begin(prefix)
        try:
            _stage(staging, additions, progress, cancelled)
            if args.get("compile"):
                _compile(staging, layout, interpreter, cancelled)
            changes = Changes(layout, staging, removals, owners, strict=strict)
            operations = changes.operations()
            if cancelled is not None and cancelled():
                raise interrupted()
            transaction.run(prefix, operations, [item.dist_info for item in leaving])
        except BaseException:
            _clear_quietly(prefix)
            raise
    except TreeDamagedError as error:
        return _damaged(error)
    except OSError as error:
        raise translated(error, f"cannot change the environment {prefix}") from error
    warnings = [*overlaps, *linker.warnings, *staging.warnings, *changes.warnings]
    try:
        transaction.clear(prefix)
    except OSError as error:
        # The change is committed; what is left is garbage that the next change clears.
        warnings.append(f"could not remove {prefix}/{WORK}: {error.strerror}")
    return {
        "status": "done",
        "installed": [{"name": item.name, "version": item.version} for item in additions],
        "removed": [{"name": item.name, "version": item.version} for item in leaving],
        "warnings": warnings,
        "link_mode": linker.mode,
        "files": staging.files,
    }


def _stage(
    staging: Staging, additions: list[Addition], progress: Progress | None, cancelled: Cancelled | None
) -> None:
    total = sum(len(item.manifest.files) for item in additions)
    done = 0
    for item in additions:
        if cancelled is not None and cancelled():
            raise interrupted()
        staging.add(item)
        done += len(item.manifest.files)
        if progress is not None:
            progress(done, total)
        transaction.checkpoint(f"staged {item.name}")


def _compile(
    staging: Staging, layout: Layout, interpreter: dict[str, Any], cancelled: Cancelled | None
) -> None:
    from pkgc_daemon.installing.bytecode import compile_staged

    folders = [(f"{staging.root}/{site}", f"{layout.prefix}/{site}") for site in layout.sites]
    compile_staged(interpreter["executable"], folders, files=staging.files, cancelled=cancelled)
    transaction.checkpoint("compiled")


def _leaving(items: Iterable[dict[str, Any]], layout: Layout) -> list[Leaving]:
    """The distributions to remove, their .dist-info made relative to the resolved prefix."""
    found: dict[str, Leaving] = {}
    for item in items:
        parent, name = os.path.split(str(item["dist_info"]).rstrip("/"))
        path = layout.inside(os.path.join(os.path.realpath(parent), name))
        if path is None or not name.endswith((".dist-info", ".egg-info")):
            raise PkgcError(
                "outside-environment",
                f"{item['dist_info']} is no distribution inside the environment {layout.prefix}",
            )
        # Through lib and lib64, the same distribution may be listed twice.
        found[path] = Leaving(str(item["name"]), str(item["version"]), path)
    return list(found.values())


def _shared(
    layout: Layout, leaving: list[Leaving], owners: Callable[[], dict[str, Owner]]
) -> tuple[set[str], list[str]]:
    """Paths of leaving distributions that those that stay own too, and warnings about their contents.

    They stay. Where the one that leaves had won an overlap, what is left is not the other's file.
    """
    shared: set[str] = set()
    warnings: list[str] = []
    kept = owners() if leaving else {}
    for item in leaving:
        for path, digest in (owned_files(layout, item.dist_info) or {}).items():
            owner = kept.get(path)
            if owner is None:
                continue
            shared.add(path)
            if owner.hash and digest and owner.hash != digest and owner.name < item.name:
                warnings.append(
                    f"{path} belongs to {owner.name} too, but holds what {item.name} installed; "
                    f"reinstall {owner.name}"
                )
    return shared, warnings


def _damaged(error: TreeDamagedError) -> dict[str, Any]:
    return {"status": "damaged", "sha256": error.sha256, "path": error.path, "detail": error.detail}


def _clear_quietly(prefix: str) -> None:
    """After a failure: leave no trace, unless an undo is still due."""
    if not os.path.lexists(f"{prefix}/{transaction.JOURNAL}"):
        with suppress(OSError):
            transaction.clear(prefix)


def _remove_created(created: list[str]) -> None:
    for path in reversed(created):
        if os.path.islink(path) or not os.path.isdir(path):
            with suppress(OSError):
                os.unlink(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
