"""Preparing: which ready copies and bytecode a sync takes, and what is to be made for the next one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pkgc_daemon.installing.staging import records_of
from pkgc_daemon.modes import own_umask
from pkgc_daemon.store.compiled import key_of
from pkgc_daemon.store.ready import Used
from pkgc_daemon.vocabulary import Plan

from .asking import Obtained
from .calls import SyncCall
from .context import Context
from .targets import Target


def _umask(context: Context) -> int:
    return context.umask if context.umask is not None else own_umask() or 0o022


def _fits(context: Context, call: SyncCall, target: Target) -> bool:
    """Whether copies in the cache can be moved into this environment at all."""
    if call.link_mode != "auto" or call.strict or not context.world.is_own:
        return False
    folder = target.venv if target.exists else os.path.dirname(target.venv)
    try:
        return os.stat(folder).st_dev == os.stat(context.services.store.layout.ready).st_dev
    except OSError:
        return False


def take_copies(
    context: Context, call: SyncCall, target: Target, plan: Plan, obtained: Mapping[str, Obtained]
) -> dict[str, str]:
    """Ready copies for what is added: name -> path. They belong to this call."""
    if plan.remove or not obtained or not _fits(context, call, target):
        return {}
    ready, umask = context.services.store.ready, _umask(context)
    taken = {name: ready.take(one.tree.sha256, umask) for name, one in obtained.items()}
    return {name: path for name, path in taken.items() if path is not None}


def want_copies(
    context: Context,
    call: SyncCall,
    target: Target,
    obtained: Mapping[str, Obtained],
    taken: Mapping[str, str],
) -> None:
    """Note what this sync installed: the next environment will want the same."""
    if not _fits(context, call, target):
        return
    used = [
        Used(one.tree.sha256, name in taken, records_of(one.provenance(), one.direct_url, requested=True))
        for name, one in obtained.items()
        if not (one.direct_url or {}).get("dir_info", {}).get("editable")
    ]
    context.services.store.ready.want(used, _umask(context))


def _shares_bytecode(context: Context, call: SyncCall) -> bool:
    """Whether bytecode of the store may be put into this environment.

    Not behind symbolic links: what Python writes beside a source would be beside that of all environments.
    """
    return context.world.is_own and call.link_mode != "symlink"


async def compile_trees(
    context: Context, call: SyncCall, target: Target, obtained: Mapping[str, Obtained]
) -> None:
    """For `--compile-bytecode`: have the store compile what it has no bytecode of."""
    if call.compile_bytecode and obtained and _shares_bytecode(context, call):
        trees = [one.tree.sha256 for one in obtained.values()]
        await context.services.store.bytecode.ensure(trees, target.wire)


def kept_bytecode(
    context: Context, call: SyncCall, target: Target, obtained: Mapping[str, Obtained]
) -> dict[str, str]:
    """Bytecode of what is added, as far as the store has it: name -> folder."""
    if not _shares_bytecode(context, call):
        return {}
    bytecode, key = context.services.store.bytecode, key_of(target.wire)
    found = {name: bytecode.path(one.tree.sha256, key) for name, one in obtained.items()}
    return {name: folder for name, folder in found.items() if folder is not None}


def want_bytecode(context: Context, call: SyncCall, target: Target, obtained: Mapping[str, Obtained]) -> None:
    """Note what this sync would have used: it is compiled while nobody waits."""
    if obtained and _shares_bytecode(context, call):
        trees = [one.tree.sha256 for one in obtained.values()]
        context.services.store.bytecode.want(trees, target.wire)
