"""Bytecode for a sync: what is compiled before it, what it places, and what is made for the next one."""

from __future__ import annotations

from collections.abc import Mapping

from pkgc_daemon.store.compiled import key_of

from .asking import Obtained
from .calls import SyncCall
from .context import Context
from .preparing import Copies
from .targets import Target


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


def without_bytecode(obtained: Obtained, copies: Copies | None) -> bool:
    """Whether what is there to be renamed into the environment, if anything, has no bytecode in it."""
    found = copies.found(obtained.tree.sha256) if copies is not None else None
    return found is None or found["note"]["bytecode"] is None


def want_bytecode(context: Context, call: SyncCall, target: Target, obtained: Mapping[str, Obtained]) -> None:
    """Note what this sync would have used: it is compiled while nobody waits."""
    if obtained and _shares_bytecode(context, call):
        trees = [one.tree.sha256 for one in obtained.values()]
        context.services.store.bytecode.want(trees, target.wire)
