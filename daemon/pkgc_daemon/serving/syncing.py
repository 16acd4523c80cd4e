"""Syncing: the whole way of `pkgc sync`, stage by stage: read, scan, plan, obtain, apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pkgc_daemon.environments.scan import installed_from_wire
from pkgc_daemon.errors import EXIT_FAILED, InputError, PkgcError
from pkgc_daemon.inputs.given import Lock
from pkgc_daemon.installing.plan import make_plan
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Add, Digest, Installed, Plan, Wanted

from .calls import FetchCall, InputCall, SyncCall
from .context import Context
from .obtaining import Asking, Mode, Obtained
from .output import InstalledPackage, RemovedPackage, SyncResult
from .reading import Sources
from .targets import Target
from .working import Clock, together

#: How often an environment may change under a sync before it gives up.
MAX_ROUNDS = 10
#: Seconds that a sync waits for another program that changes the same environment.
LOCK_TIMEOUT = 300.0
#: Seconds of that after which it says what it waits for.
LOCK_SILENCE = 1.0


async def read_lock(context: Context, call: InputCall, target: Target) -> tuple[Lock, Asking]:
    """The lock of a call for its target, and how to ask for what it names."""
    sources = call.sources or await context.services.reader.default_sources(context.world, call.cwd)
    asked = Sources(tuple(sources), call.constraints, call.cwd, call.no_binary, call.only_binary)
    remembered = await context.services.reader.read(context.world, asked)
    lock = context.services.reader.lock(remembered, target.interpreter.markers, call.require_hashes)
    for warning in dict.fromkeys((*remembered.given.warnings, *lock.warnings)):
        context.output.warning(warning)
    if not remembered.given.lines:
        _mind_emptiness(context, sources)
    options = await context.index_options(call, remembered.given, target)
    mode: Mode = "offline" if call.offline else "refresh" if call.refresh else "normal"
    began = context.services.now()
    asking = Asking(target.interpreter, options, remembered.given, mode, call.refresh_packages, began)
    return lock, asking


def _mind_emptiness(context: Context, sources: Sequence[str]) -> None:
    """A lock without a requirement empties an environment: from a pipe that is a broken export."""
    if "-" in sources:
        raise InputError(
            "empty-lock",
            "standard input has no requirement",
            hint="the command before the pipe may have failed; to empty an environment, name an empty file",
        )
    context.output.warning(f"{', '.join(sources)}: no requirement; nothing is wanted", "empty-lock")


async def sync(context: Context, call: SyncCall) -> int:
    """`pkgc sync`: its exit status.

    Raises:
        PkgcError: it failed; nothing was changed.
    """
    clock = Clock()
    output = context.output
    output.sync_result(SyncResult(call.venv))
    target = await context.services.targets.target(
        context.world, call.venv, call.python, context.env, call.cwd
    )
    lock, asking = await read_lock(context, call, target)
    clock.lap("read")
    healed: set[str] = set()
    for _round in range(MAX_ROUNDS):
        scan = await _scan(context, target)
        if scan.get("leftover") and not (call.dry_run or call.check):
            # Interrupted, or running now: then the environment's lock makes this one wait for its end.
            output.detail("looking after a change of the environment that has not ended")
            recovered = await _apply(context, call, target, None, Plan(), {})
            for warning in recovered.get("warnings", ()):
                output.warning(warning)
            scan = await _scan(context, target)
        installed = installed_from_wire(scan)
        advertised = await _advertised(context, lock.wanted, installed, asking)
        plan = make_plan(
            lock.wanted,
            installed,
            seeded=bool(scan.get("seeded")),
            reinstall=True if call.reinstall else call.reinstall_packages,
            exact=not call.inexact,
            advertised=advertised,
        )
        clock.lap("plan")
        if call.dry_run or call.check:
            return await _only_say(context, call, target, plan, asking, scan, clock)
        if plan.is_noop and target.exists:
            _report(context, call, plan, {}, {}, clock)
            return 0
        with ExitStack() as leases:
            obtained = await _obtain(context, plan.add, asking, leases)
            clock.lap("fetch")
            result = await _apply(context, call, target, scan.get("fingerprint"), plan, obtained)
            clock.lap("install")
        if result["status"] == "done":
            for warning in result.get("warnings", ()):
                output.warning(warning)
            if not target.exists:
                output.say(f"Created {call.venv} with Python {target.interpreter.version}")
            _report(context, call, plan, obtained, result, clock)
            return 0
        if result["status"] == "damaged":
            whose = next((str(o.wanted) for o in obtained.values() if o.tree.sha256 == result["sha256"]), "")
            if result["sha256"] in healed:
                raise PkgcError(
                    "damaged-tree",
                    f"{whose}: a file in the cache is damaged again although it was just unpacked",
                    context=f"{result['path']}: {result['detail']}",
                    hint="does something else write into the cache, or is its disk failing?",
                )
            healed.add(result["sha256"])
            output.warning(
                f"{whose}: a file in the cache was damaged ({result['path']}: {result['detail']}); "
                "the wheel is unpacked again",
                "damaged-tree",
            )
            await context.services.store.damaged_tree(result["sha256"])
        else:
            output.detail("the environment was changed by another program meanwhile: planning again")
            # It may have been made, or removed, since it was looked at.
            target = await context.services.targets.target(
                context.world, call.venv, call.python, context.env, call.cwd
            )
    raise PkgcError(
        "environment-busy",
        f"{call.venv} was changed by other programs {MAX_ROUNDS} times while it was being synced",
        hint="run one sync of an environment at a time",
    )


async def _scan(context: Context, target: Target) -> Mapping[str, Any]:
    if not target.exists:
        return {"fingerprint": None, "distributions": [], "interrupted": False, "seeded": False}
    paths = target.interpreter.paths
    return await context.world.do(
        "scan_environment",
        {
            "prefix": target.interpreter.prefix,
            "purelib": paths["purelib"],
            "platlib": paths["platlib"],
        },
    )


async def _advertised(
    context: Context, wanted: Sequence[Wanted], installed: Sequence[Installed], asking: Asking
) -> Mapping[str, frozenset[Digest]]:
    """For unhashed pins that are installed with a recorded hash: what the index advertises now.

    A pin whose index cannot be asked is left out: what is installed is then kept.
    """
    recorded = {one.name: one for one in installed if one.hashes and not one.direct}
    asked = [
        one
        for one in wanted
        if not one.hashes and one.name in recorded and recorded[one.name].version == one.version
    ]
    if not asked:
        return {}
    await context.services.prepare(asking.options)

    async def digests(one: Wanted) -> tuple[str, frozenset[Digest] | None]:
        try:
            return one.name, await context.services.obtainer.advertised(one, asking, context.output)
        except PkgcError as error:
            context.output.detail(f"{one}: kept, because its index cannot be asked: {error.message}")
            return one.name, None

    answers = await together(digests(one) for one in asked)
    return {name: found for name, found in answers if found is not None}


async def _obtain(
    context: Context, adds: Sequence[Add], asking: Asking, leases: ExitStack
) -> dict[str, Obtained]:
    store = context.services.store

    async def one(wanted: Wanted) -> Obtained:
        obtained = await context.services.obtainer.obtain(wanted, asking, context.output)
        leases.enter_context(store.lease([obtained.tree.sha256]))
        return obtained

    if adds:
        await context.services.prepare(asking.options)
    found = await together(one(add.wanted) for add in adds)
    return {obtained.wanted.name: obtained for obtained in found}


async def _apply(
    context: Context,
    call: SyncCall,
    target: Target,
    fingerprint: str | None,
    plan: Plan,
    obtained: Mapping[str, Obtained],
) -> dict[str, Any]:
    store = context.services.store
    removals = [*plan.remove]
    args: dict[str, Any] = {
        "venv": target.venv,
        "fingerprint": fingerprint,
        "remove": [
            {
                "dist_info": one.installed.dist_info,
                "name": one.installed.name,
                "version": one.installed.version,
            }
            for one in removals
        ],
        "add": [
            {
                "name": one.wanted.name,
                "version": one.tree.manifest.version,
                "tree": str(one.tree.root),
                "manifest": str(store.manifest_path(one.tree.sha256)),
                "sha256": one.tree.sha256,
                "provenance": one.provenance(),
                "requested": True,
            }
            for one in obtained.values()
        ],
        "link_mode": call.link_mode,
        "compile": call.compile_bytecode,
        "strict": call.strict,
        "lock_timeout": LOCK_TIMEOUT,
    }
    if target.exists:
        args["interpreter"] = dict(target.wire)
    else:
        args["interpreter"] = None
        args["create"] = {"python": target.base}
    output = context.output
    label, key = f"into {target.venv}", f"install {target.venv}"
    placed = 0

    def show(total: int | None) -> None:
        output.started(key, label, total, verb="Installing", past="Installed", unit="file")

    def report(done: int, total: int) -> None:
        nonlocal placed
        show(total)
        output.advanced(key, done - placed)
        placed = done

    show(None)
    try:
        try:
            return await context.world.do("apply_plan", args | {"lock_timeout": LOCK_SILENCE}, report)
        except PkgcError as error:
            if error.code != "environment-locked":
                raise
        output.warning(f"waiting for another program that works on {target.venv}", "waiting")
        return await context.world.do("apply_plan", args, report)
    finally:
        output.finished(key)


async def _only_say(
    context: Context,
    call: SyncCall,
    target: Target,
    plan: Plan,
    asking: Asking,
    scan: Mapping[str, Any],
    clock: Clock,
) -> int:
    """`--dry-run` and `--check`: what would change."""
    output = context.output
    if scan.get("interrupted"):
        output.warning(
            "a change of this environment was interrupted; the next sync finishes or undoes it",
            "interrupted-change",
        )
    installed: list[InstalledPackage] = []
    if call.dry_run:
        await context.services.prepare(asking.options)
        origins = await together(
            context.services.obtainer.candidate(add.wanted, asking, output) for add in plan.add
        )
    else:
        origins = [None] * len(plan.add)
    for add, origin in zip(plan.add, origins, strict=True):
        installed.append(InstalledPackage(add.wanted.name, add.wanted.version, origin, reason=add.reason))
    removed = _removed(plan)
    would_change = bool(plan.add or plan.remove or not target.exists or scan.get("interrupted"))
    output.sync_result(
        SyncResult(call.venv, installed, removed, len(plan.keep), clock.seconds(), dry_run=True)
    )
    if not would_change:
        output.phase("Checked", len(plan.keep), seconds=clock.total)
        output.say(f"{call.venv} is up to date")
    else:
        if not target.exists:
            output.say(f"Would create {call.venv} with Python {target.interpreter.version}")
        if installed:
            output.phase("Would install", len(installed))
        if removed:
            output.phase("Would remove", len(removed))
        output.changes(installed, removed)
    return EXIT_FAILED if call.check and would_change else 0


def _removed(plan: Plan) -> list[RemovedPackage]:
    return [RemovedPackage(one.installed.name, one.installed.version, one.reason) for one in plan.remove]


def _report(
    context: Context,
    call: SyncCall,
    plan: Plan,
    obtained: Mapping[str, Obtained],
    result: Mapping[str, Any],
    clock: Clock,
) -> None:
    output = context.output
    reasons = {add.wanted.name: add.reason for add in plan.add}
    installed = [
        InstalledPackage(
            one.wanted.name,
            one.wanted.version,
            one.origin,
            one.tree.sha256,
            one.came_from,
            reasons.get(one.wanted.name, ""),
        )
        for one in obtained.values()
    ]
    removed = _removed(plan)
    output.sync_result(SyncResult(call.venv, installed, removed, len(plan.keep), clock.seconds()))
    if plan.is_noop and not result:
        output.phase("Checked", len(plan.keep), seconds=clock.total)
        return
    files = output.counts.get("downloaded_files", 0)
    if files:
        output.phase(
            "Downloaded",
            files,
            "file",
            size=output.counts.get("downloaded_bytes", 0),
            seconds=clock.phases.get("fetch"),
        )
    if removed:
        output.phase("Removed", len(removed))
    if installed:
        output.phase("Installed", len(installed), seconds=clock.phases.get("install"))
    output.changes(installed, removed)


async def fetch(context: Context, call: FetchCall) -> int:
    """`pkgc fetch`: bring everything that a lock names into the store, unpacked; install nothing."""
    clock = Clock()
    output = context.output
    _python, wire, interpreter = await context.services.targets.interpreter(
        context.world, call.python, context.env, call.cwd
    )
    target = Target("", False, interpreter, wire)
    lock, asking = await read_lock(context, call, target)
    clock.lap("read")
    adds = [Add(wanted, "") for wanted in lock.wanted]
    with ExitStack() as leases:
        obtained = await _obtain(context, adds, asking, leases)
    clock.lap("fetch")
    fetched = [
        {
            "name": one.wanted.name,
            "version": one.wanted.version,
            "sha256": one.tree.sha256,
            "filename": one.tree.manifest.filename,
            "from": one.came_from,
            "url": redact(one.origin.url) if one.origin else None,
        }
        for one in obtained.values()
    ]
    output.document_parts({"fetched": fetched, "seconds": clock.seconds()})
    files = output.counts.get("downloaded_files", 0)
    if files:
        size = output.counts.get("downloaded_bytes", 0)
        output.phase("Downloaded", files, "file", size=size, seconds=clock.phases["fetch"])
    output.phase("Cached", len(fetched), seconds=clock.total)
    for entry in sorted(fetched, key=lambda entry: str(entry["name"])):
        if entry["from"] == "network":
            output.detail(f"  {entry['filename']}  sha256:{entry['sha256']}")
    return 0
