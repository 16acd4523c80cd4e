"""Syncing: the whole way of `pkgc sync`, stage by stage: read, scan, plan, obtain, apply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from pkgc_daemon.environments.watched import installed_from_wire
from pkgc_daemon.errors import EXIT_FAILED, PkgcError
from pkgc_daemon.installing.plan import Served, make_plan
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Add, DirectorySource, Installed, Origin, Plan, Wanted

from .asking import Asking, CameFrom, Obtained
from .attempts import NOT_SERVED
from .bytecode import compile_trees, kept_bytecode, want_bytecode, without_bytecode
from .calls import FetchCall, SyncCall
from .context import Context
from .direct import expected_version
from .locking import Asked, look_at, read_lock
from .output import InstalledPackage, RemovedPackage, SyncResult
from .preparing import Copies, prepare
from .remembering import remember_requests
from .targets import Target
from .working import Clock, together

#: How often an environment may be found half there before that is an error.
VANISHING = 5
#: What an environment looks like that is being removed.
HALF_THERE = frozenset({"not-an-environment", "broken-environment", "python-not-found"})
#: How often an environment may change under a sync before it gives up.
MAX_ROUNDS = 10


async def sync(context: Context, call: SyncCall) -> int:
    """`pkgc sync`: its exit status.

    Raises:
        PkgcError: it failed; nothing was changed.
    """
    clock = Clock()
    output = context.output
    output.sync_result(SyncResult(call.venv))
    target = await _find(context, call)
    clock.lap("find")
    lock, asking = await read_lock(context, call, target)
    clock.lap("read")
    asked = await look_at(context, lock, asking)
    clock.lap("look")
    healed: set[str] = set()
    robbed: set[str] = set()
    gone = 0
    for _round in range(MAX_ROUNDS):
        try:
            scan = await _scan(context, target)
        except PkgcError as error:
            if error.code != "not-an-environment" or gone >= VANISHING:
                raise
            # A call that was interrupted is just taking away the environment that it was making.
            gone += 1
            await asyncio.sleep(0.01 * gone)
            target = await _find(context, call)
            continue
        if scan.get("leftover") and not (call.dry_run or call.check):
            # Interrupted, or running now: then the environment's lock makes this one wait for its end.
            output.detail("looking after a change of the environment that has not ended")
            recovered = await _apply(context, call, target, None, Plan(), {})
            for warning in recovered.get("warnings", ()):
                output.warning(warning)
            scan = await _scan(context, target)
        installed = installed_from_wire(scan)
        served = await _served(context, asked.wanted, installed, asking)
        plan = make_plan(
            asked.wanted,
            installed,
            seeded=bool(scan.get("seeded")),
            reinstall=True if call.reinstall else call.reinstall_packages | robbed,
            exact=not call.inexact,
            served=served,
            states=asked.states,
            settings=asking.settings,
            options=asking.options,
        )
        clock.lap("plan")
        if call.dry_run or call.check:
            return await _only_say(context, call, target, plan, asked, scan, clock)
        if plan.is_noop and target.exists and not (call.compile_bytecode or call.strict):
            await remember_requests(context, target, asked, plan, {})
            if context.world.acts_here("scan_environment"):
                context.services.watches.want(_scan_args(target))
            _report(context, call, plan, {}, {}, clock)
            return 0
        target.check_writable()
        with ExitStack() as leases:
            copies = await prepare(context, call, target, plan)
            # Not before the answer is sent: a thread that removes things would only be in its way.
            leases.callback(context.services.later, copies.discard)
            obtained = await _obtain(context, plan.add, asked, leases, copies)
            clock.lap("fetch")
            await compile_trees(context, call, target, obtained)
            clock.lap("compile")
            fingerprint = scan.get("fingerprint")
            result = await _apply(context, call, target, fingerprint, plan, obtained, robbed, copies)
            clock.lap("install")
        if result["status"] == "done":
            for warning in result.get("warnings", ()):
                output.warning(warning)
            if not target.exists:
                output.say(f"Created {call.venv} with Python {target.interpreter.version}")
            await remember_requests(context, target, asked, plan, obtained)
            if target.exists and context.world.acts_here("scan_environment"):
                context.services.watches.want(_scan_args(target), changed=True)
            _report(context, call, plan, obtained, result, clock, target_existed=target.exists)
            return 0
        if result["status"] == "reinstall":
            output.detail(f"reinstalling what shares files with a removed package: {result['names']}")
            robbed.update(result["names"])
        elif result["status"] == "damaged" and result.get("bytecode"):
            # Compiled again, or where it is installed: bytecode is no reason to fail.
            output.detail(f"bytecode in the cache is put away: {result['path']}: {result['detail']}")
            await context.services.store.bytecode.drop(result["sha256"])
        elif result["status"] == "damaged":
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
            target = await _find(context, call)
    raise PkgcError(
        "environment-busy",
        f"{call.venv} was changed by other programs {MAX_ROUNDS} times while it was being synced",
        hint="run one sync of an environment at a time",
    )


async def _find(context: Context, call: SyncCall) -> Target:
    """The environment; what is half there may be on its way out (an interrupted call that was making it)."""
    targets = context.services.targets
    for attempt in range(VANISHING):
        try:
            return await targets.target(context.world, call.venv, call.python, context.env, call.cwd)
        except PkgcError as error:
            if error.code not in HALF_THERE:
                raise
        await asyncio.sleep(0.01 * (attempt + 1))
    return await targets.target(context.world, call.venv, call.python, context.env, call.cwd)


async def _scan(context: Context, target: Target) -> Mapping[str, Any]:
    if not target.exists:
        return {"fingerprint": None, "distributions": [], "interrupted": False, "seeded": False}
    return await context.world.do("scan_environment", _scan_args(target))


def _scan_args(target: Target) -> dict[str, Any]:
    paths = target.interpreter.paths
    return {
        "prefix": target.interpreter.prefix,
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
    }


async def _served(
    context: Context, wanted: Sequence[Wanted], installed: Sequence[Installed], asking: Asking
) -> Mapping[str, Served]:
    """For unhashed pins that are installed with a recorded hash: what the index, or the lock's URL, has now.

    A pin whose index cannot be asked is left out: what is installed is then kept.

    Raises:
        PkgcError: the index was asked, and does not have a pin.
    """
    recorded = {one.name: one for one in installed if one.hashes and not one.direct}
    asked = [
        one
        for one in wanted
        if not one.hashes
        and one.direct is None
        and one.name in recorded
        and recorded[one.name].version == one.version
    ]
    if not asked:
        return {}
    await context.services.prepare(asking.options)

    async def ask(one: Wanted) -> tuple[str, Served | None]:
        try:
            return one.name, await context.services.obtainer.served(one, asking, context.output)
        except PkgcError as error:
            if error.code in NOT_SERVED and asking.mode != "offline":
                raise
            context.output.detail(f"{one}: kept, because its index cannot be asked: {error.message}")
            return one.name, None

    answers = await together(ask(one) for one in asked)
    return {name: found for name, found in answers if found is not None}


async def _obtain(
    context: Context, adds: Sequence[Add], asked: Asked, leases: ExitStack, copies: Copies | None = None
) -> dict[str, Obtained]:
    services = context.services
    if adds:
        await services.prepare(asked.asking.options)
    known = services.recall.recall(asked.lock, asked.asking, [add.wanted for add in adds])
    leases.enter_context(services.store.lease(one.tree.sha256 for one in known.values()))

    async def one(wanted: Wanted) -> Obtained:
        obtained = asked.obtained.get(wanted.name)
        if obtained is None and wanted.direct is not None:
            state = asked.states[wanted.name]
            obtained = await services.direct.obtain(wanted, state, asked.asking, context.output)
        elif obtained is None:
            obtained = await services.obtainer.obtain(wanted, asked.asking, context.output, copies)
        leases.enter_context(services.store.lease([obtained.tree.sha256]))
        if copies is not None:
            await copies.offer(obtained)
        return obtained

    missing = [add.wanted for add in adds if id(add.wanted) not in known]

    if missing:
        services.store.workers.start()

    async def provide() -> list[Obtained]:
        if copies is not None:
            await copies.provide(known.values())
        return []

    async def fetch() -> list[Obtained]:
        found = await together(one(wanted) for wanted in missing)
        if copies is not None:
            await copies.rest()
        return found

    fetched, _ = await together((fetch(), provide()))
    if missing:
        services.recall.keep(asked.lock, asked.asking, fetched)
        known |= {id(obtained.wanted): obtained for obtained in fetched}
        # In the order of the plan, whoever had it.
        by_name = {obtained.wanted.name: obtained for obtained in known.values()}
        return {add.wanted.name: by_name[add.wanted.name] for add in adds}
    return {add.wanted.name: known[id(add.wanted)] for add in adds}


async def _apply(
    context: Context,
    call: SyncCall,
    target: Target,
    fingerprint: str | None,
    plan: Plan,
    obtained: Mapping[str, Obtained],
    settled: Iterable[str] = (),
    copies: Copies | None = None,
    *,
    only_check: bool = False,
) -> dict[str, Any]:
    store = context.services.store
    removals = [*plan.remove]
    compiled = {} if only_check else kept_bytecode(context, call, target, obtained)
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
                "direct_url": one.direct_url,
                "ready": copies.found(one.tree.sha256) if copies is not None else None,
                "bytecode": compiled.get(one.wanted.name) if without_bytecode(one, copies) else None,
                "records": one.records() if context.world.is_own else None,
                "requested": True,
            }
            for one in obtained.values()
        ],
        "link_mode": call.link_mode,
        "compile": call.compile_bytecode,
        "strict": call.strict,
        "settled": sorted(settled),
        "only_check": only_check,
    }
    if context.umask is not None:
        args["umask"] = context.umask
    if target.exists:
        args["interpreter"] = dict(target.wire)
    else:
        args["interpreter"] = None
        args["create"] = {"python": target.base, "version": target.interpreter.version}
    output = context.output
    label, key = f"into {call.venv}", f"install {call.venv}"
    placed = 0

    def show(total: int | None) -> None:
        output.started(key, label, total, verb="Installing", past="Installed", unit="file")

    def report(done: int, total: int) -> None:
        nonlocal placed
        show(total)
        output.advanced(key, done - placed)
        placed = done

    def waiting() -> None:
        output.warning(f"waiting for another program that works on {call.venv}", "waiting")

    show(None)
    try:
        result = await context.services.turns.apply(context.world, args, report, waiting)
    finally:
        output.finished(key)
    if copies is not None and result["status"] == "done":
        context.services.later(partial(copies.want_more, obtained))
        want_bytecode(context, call, target, obtained)
    return result


async def _only_say(
    context: Context,
    call: SyncCall,
    target: Target,
    plan: Plan,
    asked: Asked,
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
    if call.dry_run and call.strict:
        await _check_overlaps(context, call, target, plan, asked.asking)
    would_change = bool(plan.add or plan.remove or not target.exists or scan.get("interrupted"))
    if call.dry_run and would_change:
        target.check_writable()
    if plan.add:
        await context.services.prepare(asked.asking.options)
    expected = await together(_expected(context, add.wanted, asked, ask=call.dry_run) for add in plan.add)
    for add, (origin, came_from) in zip(plan.add, expected, strict=True):
        name, version = add.wanted.name, expected_version(add.wanted, asked.obtained.get(add.wanted.name))
        installed.append(InstalledPackage(name, version, origin, None, came_from, add.reason))
    removed = _removed(plan)
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


async def _expected(
    context: Context, wanted: Wanted, asked: Asked, *, ask: bool
) -> tuple[Origin | None, CameFrom]:
    """Where a Wanted would come from, as far as that shows."""
    services = context.services
    if wanted.direct is not None:
        return await services.direct.expected(wanted, asked.states[wanted.name], strict=ask)
    origin: Origin | None
    came_from: CameFrom
    origin, came_from = await services.obtainer.expected(wanted, asked.asking, context.output, ask=ask)
    return origin, came_from


async def _check_overlaps(
    context: Context, call: SyncCall, target: Target, plan: Plan, asking: Asking
) -> None:
    """Fail as a sync with `--strict` would, as far as the wheels are in the store already.

    Raises:
        PkgcError: ``overlapping-files``.
    """
    with ExitStack() as leases:
        held: dict[str, Obtained] = {}
        for add in plan.add:
            if add.wanted.direct is not None:
                continue
            tree = await context.services.obtainer.held_tree(add.wanted, asking, context.output)
            if tree is not None:
                leases.enter_context(context.services.store.lease([tree.sha256]))
                held[add.wanted.name] = Obtained(add.wanted, tree, None, "store")
        await _apply(context, call, target, None, plan, held, only_check=True)


def _removed(plan: Plan) -> list[RemovedPackage]:
    return [RemovedPackage(one.installed.name, one.installed.version, one.reason) for one in plan.remove]


def _report(
    context: Context,
    call: SyncCall,
    plan: Plan,
    obtained: Mapping[str, Obtained],
    result: Mapping[str, Any],
    clock: Clock,
    *,
    target_existed: bool = True,
) -> None:
    output = context.output
    reasons = {add.wanted.name: add.reason for add in plan.add}
    installed = [
        InstalledPackage(
            one.wanted.name,
            one.version,
            one.origin,
            one.tree.sha256,
            one.came_from,
            reasons.get(one.wanted.name, ""),
        )
        for one in obtained.values()
    ]
    removed = _removed(plan)
    output.sync_result(SyncResult(call.venv, installed, removed, len(plan.keep), clock.seconds()))
    compiled = result.get("compiled", 0)
    if plan.is_noop and (not result or target_existed):
        output.phase("Checked", len(plan.keep), seconds=clock.total)
        if compiled:
            output.phase("Compiled", compiled, "file", seconds=clock.phases.get("install"))
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
    built = sum(one.came_from == "build" for one in installed)
    if built:
        output.phase("Built", built)
    if removed:
        output.phase("Removed", len(removed))
    if installed:
        output.phase("Installed", len(installed), seconds=clock.phases.get("install"))
    if compiled:
        output.phase("Compiled", compiled, "file")
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
    asked = await look_at(context, lock, asking)
    adds = [Add(wanted, "") for wanted in asked.wanted if _can_be_fetched(wanted, context)]
    with ExitStack() as leases:
        obtained = await _obtain(context, adds, asked, leases)
    clock.lap("fetch")
    fetched = [
        {
            "name": one.wanted.name,
            "version": one.version,
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
    built = sum(one["from"] == "build" for one in fetched)
    if built:
        output.phase("Built", built)
    output.phase("Cached", len(fetched), seconds=clock.total)
    for entry in sorted(fetched, key=lambda entry: str(entry["name"])):
        if entry["from"] == "network":
            output.detail(f"  {entry['filename']}  sha256:{entry['sha256']}")
    return 0


def _can_be_fetched(wanted: Wanted, context: Context) -> bool:
    """Whether the cache can hold it: an editable project is a place, not a file."""
    if isinstance(wanted.source, DirectorySource) and wanted.source.editable:
        context.output.detail(f"{wanted}: an editable directory is not fetched")
        return False
    return True
