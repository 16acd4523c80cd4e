"""The hand `apply_plan`: change one environment from trees of the store, wholly or not at all.

It runs in a thread of the daemon or in the client, imports nothing but the standard library, msgpack and
such modules of ours, and blocks.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing import transaction
from pkgc_daemon.installing.changes import Changes
from pkgc_daemon.installing.claims import claims_of
from pkgc_daemon.installing.conflicts import overlap_error
from pkgc_daemon.installing.failures import interrupted, translated
from pkgc_daemon.installing.layout import LOCK, WORK, Layout, layout_of
from pkgc_daemon.installing.links import Linker
from pkgc_daemon.installing.lock import DEFAULT_TIMEOUT, LockVanishedError, environment_lock
from pkgc_daemon.installing.overlaps import overlaps_of, robbed
from pkgc_daemon.installing.staging import (
    Addition,
    Staging,
    TreeDamagedError,
    read_additions,
)
from pkgc_daemon.installing.uninstall import Leaving, Owner, find_removals, owned_files, owners_of
from pkgc_daemon.modes import Modes

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Seconds between two reports of progress.
_REPORT_EVERY = 0.03


def apply_plan(
    args: dict[str, Any], progress: Progress | None = None, cancelled: Cancelled | None = None
) -> dict[str, Any]:
    """Remove and add distributions in one journaled change.

    Args:
        args: ``venv``: the environment's folder; ``interpreter``: wire form of its probe, or None with
            ``create``: arguments of `create_environment`; ``fingerprint``: of the scan that the plan was
            made from, or None; ``remove``: maps of ``name``, ``version``, ``dist_info`` (absolute);
            ``add``: maps of ``name`` (normalized), ``version``, ``tree`` (folder), ``manifest`` (path),
            ``sha256``, ``ready`` (``path`` and ``note`` of a ready copy, which is used up, or None),
            ``bytecode`` (folder of what the store has compiled of the tree, or None),
            ``records`` (what `staging.records_of` makes of the following, or None),
            ``provenance`` (provenance_url.json) or ``direct_url`` (direct_url.json) or
            neither, ``requested``; ``link_mode``: a key of `MODES`; ``compile``; ``strict``;
            ``lock_timeout``: seconds; ``umask``: of whom the environment belongs to, deciding the modes of
            what is made (default: this process's); ``settled``: names not to ask a reinstallation of;
            ``only_check``: change and lock nothing, but fail as ``strict`` would (``add`` may lack what is
            not known yet; ``create`` holds the ``version`` of the Python of an environment to be made).
        progress: called with files staged and files in all.
        cancelled: asked between distributions, never once the change is journaled.

    Returns:
        ``status``: ``done``; ``stale`` (the environment is not the one that was scanned: scan and plan
        again); ``reinstall`` (with ``names``: packages that stay, but whose file was overwritten by one that
        leaves: plan again with them reinstalled, or name them in ``settled``: nothing was changed); or
        ``damaged`` (with ``sha256`` and ``path`` of a tree that is not what its manifest says, or with
        ``bytecode`` true, of one whose bytecode is not: nothing was changed). With ``done`` also
        ``installed``, ``removed``, ``warnings``, ``link_mode`` (the one really used), ``files``, ``compiled``
        (what lacked bytecode before) and ``interpreter``.

    Raises:
        PkgcError: the environment is as it was before.
    """
    interpreter = args.get("interpreter")
    if args.get("only_check"):
        return _only_check(args, interpreter)
    made: dict[str, Any] = {}
    if interpreter is None:
        from pkgc_daemon.environments.create import create_environment

        made = create_environment({"venv": args["venv"], "umask": args.get("umask"), **args["create"]})
        interpreter = made["interpreter"]
        args = {**args, "fingerprint": None, "interpreter": None}
    layout = layout_of(interpreter)
    # A new environment is taken away again only under its lock: who holds that may be using it already.
    try:
        with environment_lock(
            layout.prefix, timeout=_lock_timeout(args), cancelled=cancelled, modes=Modes(args.get("umask"))
        ):
            transaction.checkpoint("locked")
            try:
                result = _locked(args, layout, interpreter, progress, cancelled)
            except BaseException:
                _remove_created(layout, made)
                raise
            if result["status"] == "damaged":
                _remove_created(layout, made)
    except LockVanishedError:
        return {"status": "stale", "warnings": []}
    result["interpreter"] = interpreter
    return result


def _only_check(args: dict[str, Any], interpreter: dict[str, Any] | None) -> dict[str, Any]:
    from pkgc_daemon.archives.manifest import manifest_from_bytes

    if interpreter is None:
        interpreter = _expected(os.path.realpath(args["venv"]), args["create"]["version"])
    layout = layout_of(interpreter)
    staging = Staging(
        f"{layout.prefix}/{transaction.STAGING}",
        layout,
        Linker("copy"),
        executable=interpreter["executable"],
        version=interpreter["version"],
        strict=True,
    )
    try:
        additions, damage = read_additions(args.get("add") or [], manifest_from_bytes)
        if damage is None and (
            found := overlaps_of(layout, staging, _leaving(args.get("remove") or [], layout), additions)
        ):
            raise overlap_error(*found)
    except TreeDamagedError:
        pass  # the sync itself will heal it, and then look
    except OSError as error:
        raise translated(error, f"cannot read the environment {layout.prefix}") from error
    return {"status": "checked", "warnings": []}


def _expected(prefix: str, version: str) -> dict[str, Any]:
    """What matters of an environment that is not there yet."""
    site = f"{prefix}/lib/python{'.'.join(version.split('.')[:2])}/site-packages"
    paths = {"purelib": site, "platlib": site, "scripts": f"{prefix}/bin", "data": prefix}
    return {"executable": f"{prefix}/bin/python", "version": version, "prefix": prefix, "paths": paths}


def _locked(
    args: dict[str, Any],
    layout: Layout,
    interpreter: dict[str, Any],
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> dict[str, Any]:
    if not os.path.isfile(f"{layout.prefix}/pyvenv.cfg"):
        # Who made it has failed and taken it away again.
        with suppress(OSError):
            os.unlink(f"{layout.prefix}/{LOCK}")
        return {"status": "stale", "warnings": []}
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
    from pkgc_daemon.environments.watched import scan_environment

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

    additions, damage = read_additions(_items(args), manifest_from_bytes)
    if damage is not None:
        return _damaged(damage)
    leaving = _leaving(args.get("remove") or [], layout)

    @cache
    def owners() -> dict[str, Owner]:
        return owners_of(layout, leaving)

    prefix, strict = layout.prefix, bool(args.get("strict"))
    modes = Modes(args.get("umask"))
    linker = Linker(
        args.get("link_mode") or "auto", [f"{prefix}/", f"{prefix}/{transaction.STAGING}/"], modes
    )
    staging = Staging(
        f"{prefix}/{transaction.STAGING}",
        layout,
        linker,
        executable=interpreter["executable"],
        version=interpreter["version"],
        strict=strict,
    )
    try:
        if strict and (found := overlaps_of(layout, staging, leaving, additions)):
            raise overlap_error(*found)
        owned = {path for item in leaving for path in owned_files(layout, item.dist_info) or ()}
        # Of those that stay, only who may own something of that: reading every RECORD takes longer than
        # replacing one package.
        kept = owners_of(layout, leaving, claims_of(layout, owned)) if leaving else {}
        losses = robbed(layout, staging, leaving, additions, kept) if leaving else {}
    except TreeDamagedError as error:
        return _damaged(error)
    except OSError as error:
        raise translated(error, f"cannot change the environment {prefix}") from error
    settled = frozenset(args.get("settled") or ())
    if again := sorted(losses.keys() - settled):
        return {"status": "reinstall", "names": again}
    overlaps = [
        f"{path} belongs to {name} too, but holds what another package installed; reinstall {name}"
        for name, path in sorted(losses.items())
    ]
    if not additions and not leaving:
        compiled = _compile_kept(layout, interpreter, modes, cancelled, ()) if args.get("compile") else 0
        return _done(additions, leaving, linker, staging, [], compiled)
    removals = find_removals(layout, leaving, owned & kept.keys())
    try:
        transaction.begin(prefix)
        try:
            _stage(staging, additions, progress, cancelled)
            has_bytecode = all(item.is_compiled for item in additions)
            if args.get("compile") and not has_bytecode:
                _compile(staging, layout, interpreter, modes, cancelled)
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
    compiled = 0
    if args.get("compile"):
        try:
            fresh = changes.places if has_bytecode else ()
            compiled = _compile_kept(layout, interpreter, modes, cancelled, fresh)
        except PkgcError as error:
            # The change stands: bytecode is made up for by the next --compile-bytecode, or by Python.
            why = "interrupted" if error.code == "interrupted" else error.message
            warnings.append(f"not everything in {prefix} was compiled: {why}")
    return _done(additions, leaving, linker, staging, warnings, compiled)


def _items(args: dict[str, Any]) -> list[dict[str, Any]]:
    """What is added; without ready copies where every file has to be looked at, or placed in another way."""
    items: list[dict[str, Any]] = args.get("add") or []
    if args.get("strict") or args.get("remove") or (args.get("link_mode") or "auto") != "auto":
        return [{**item, "ready": None} for item in items]
    return items


def _done(
    additions: list[Addition],
    leaving: list[Leaving],
    linker: Linker,
    staging: Staging,
    warnings: list[str],
    compiled: int,
) -> dict[str, Any]:
    return {
        "status": "done",
        "installed": [{"name": item.name, "version": item.version} for item in additions],
        "removed": [{"name": item.name, "version": item.version} for item in leaving],
        "warnings": warnings,
        "link_mode": linker.mode,
        "files": staging.files,
        "compiled": compiled,
    }


def _compile_kept(
    layout: Layout,
    interpreter: dict[str, Any],
    modes: Modes,
    cancelled: Cancelled | None,
    fresh: Iterable[str],
) -> int:
    """Compile what lacks bytecode in the environment, except below `fresh`: paths that came with theirs."""
    from pkgc_daemon.installing.bytecode import compile_installed

    folders = [f"{layout.prefix}/{site}" for site in layout.sites]
    skipped = frozenset(f"{layout.prefix}/{path}" for path in fresh)
    return compile_installed(interpreter, folders, skipped=skipped, umask=modes.umask, cancelled=cancelled)


def _stage(
    staging: Staging, additions: list[Addition], progress: Progress | None, cancelled: Cancelled | None
) -> None:
    total = sum(len(item.manifest.files) for item in additions)
    done, reported = 0, time.monotonic()
    for item in additions:
        if cancelled is not None and cancelled():
            raise interrupted()
        staging.add(item)
        done += len(item.manifest.files)
        # Each report wakes the loop's thread, which then competes with this one.
        if progress is not None and (now := time.monotonic()) - reported >= _REPORT_EVERY:
            progress(done, total)
            reported = now
        transaction.checkpoint(f"staged {item.name}")
    if progress is not None:
        progress(done, total)


def _compile(
    staging: Staging,
    layout: Layout,
    interpreter: dict[str, Any],
    modes: Modes,
    cancelled: Cancelled | None,
) -> None:
    from pkgc_daemon.installing.bytecode import compile_staged

    folders = [(f"{staging.root}/{site}", f"{layout.prefix}/{site}") for site in layout.sites]
    compile_staged(
        interpreter["executable"], folders, files=staging.files, umask=modes.umask, cancelled=cancelled
    )
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


def _damaged(error: TreeDamagedError) -> dict[str, Any]:
    return {
        "status": "damaged",
        "sha256": error.sha256,
        "path": error.path,
        "detail": error.detail,
        "bytecode": error.bytecode,
    }


def _clear_quietly(prefix: str) -> None:
    """After a failure: leave no trace, unless an undo is still due."""
    if not os.path.lexists(f"{prefix}/{transaction.JOURNAL}"):
        with suppress(OSError):
            transaction.clear(prefix)


def _remove_created(layout: Layout, made: dict[str, Any]) -> None:
    """Take away an environment that this call made, and nothing that somebody else put beside it.

    The lock is held: the environment ends with its pyvenv.cfg, which came last and goes first.
    """
    if not made.get("created"):
        return
    for path in reversed(made["created"]):
        if os.path.islink(path) or not os.path.isdir(path):
            with suppress(OSError):
                os.unlink(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.unlink(f"{layout.prefix}/{LOCK}")
    for folder in reversed(made["folders"]):
        # Not empty: somebody else uses it, and what is around it.
        with suppress(OSError):
            os.rmdir(folder)
