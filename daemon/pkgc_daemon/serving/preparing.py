"""Preparing: which ready copies a sync takes, which trees are laid out for it, and what is to be copied for
the next one.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pkgc_daemon.installing.additions import records_of
from pkgc_daemon.modes import own_umask
from pkgc_daemon.store.compiled import key_of
from pkgc_daemon.store.outlays import FILES_AT_ONCE, Laying
from pkgc_daemon.store.ready import Taken, Used
from pkgc_daemon.vocabulary import Artifact, Origin, Plan

from .asking import Obtained, provenance_of
from .calls import SyncCall
from .context import Context
from .targets import Target

if TYPE_CHECKING:
    from pkgc_daemon.store.store import Store

#: Files below which the installer links them itself sooner than a worker is told.
FEW_FILES = 300


class Copies:
    """What one round of one sync has to be renamed into its environment. Call `discard` at its end.

    Args:
        store: where copies come from.
        umask: of whom the environment belongs to.
        plan: what the round does.
        key: kind of its interpreter (`store.compiled.key_of`).
        fits: whether copies in the cache can be moved into the environment at all.
    """

    def __init__(self, store: Store, umask: int, plan: Plan, key: str | None, *, fits: bool) -> None:
        self._store = store
        self._umask = umask
        self._fits = fits
        self._used = fits and bool(plan.add) and not plan.remove
        self._asked_at = time.monotonic()
        self._key = key
        self._taken: dict[str, Taken] = {}
        """Ready copies, by digest."""
        self._layings: dict[str, Laying] = {}
        self._offered: list[Obtained] = []

    def laying(self, artifact: Artifact, origin: Origin) -> Laying | None:
        """For a wheel that has just been fetched from `origin`: what to make of its tree in one go."""
        if not self._used or artifact.sha256 in self._layings or artifact.sha256 in self._taken:
            return None
        provenance = provenance_of(origin, artifact.digests, artifact.sha256)
        records = records_of(provenance, None, requested=True)
        laying = Laying(self._umask, records, self._asked_at, self._bytecode(artifact.sha256))
        self._layings[artifact.sha256] = laying
        return laying

    async def provide(self, obtained: Iterable[Obtained]) -> None:
        """Have something for distributions: what was laid out, else a ready copy, else lay it out now."""
        if not self._used:
            return
        missing = {one.tree.sha256: one for one in obtained if not self._has(one.tree.sha256)}
        self._taken |= self._store.ready.take(missing, self._umask, self._key)
        layings: dict[str, Laying] = {}
        for sha256, one in missing.items():
            # What could not be laid out once is placed by the installer, which says why.
            earlier = self._layings.get(sha256)
            if sha256 not in self._taken and (earlier is None or not earlier.ordered):
                bytecode = self._bytecode(sha256)
                layings[sha256] = Laying(self._umask, one.records(), self._asked_at, bytecode)
        if sum(map(self._store.files_of, layings)) >= FEW_FILES:
            self._layings |= layings
            self._store.workers.start()
            await self._store.outlays.lay(layings)

    async def offer(self, obtained: Obtained) -> None:
        """One more distribution is there: as `provide`, some at a time. Call `rest` after the last one."""
        self._offered.append(obtained)
        if sum(self._store.files_of(one.tree.sha256) for one in self._offered) >= FILES_AT_ONCE:
            await self.rest()

    async def rest(self) -> None:
        """Provide for what was offered and is still without."""
        offered, self._offered = self._offered, []
        if offered:
            await self.provide(offered)

    def _bytecode(self, sha256: str) -> str | None:
        return self._store.bytecode.path(sha256, self._key)

    def _has(self, sha256: str) -> bool:
        laying = self._layings.get(sha256)
        return sha256 in self._taken or (laying is not None and laying.taken is not None)

    def found(self, sha256: str) -> dict[str, Any] | None:
        """What is there for a tree, as `apply_plan` takes it. It can be used once."""
        laying = self._layings.get(sha256)
        taken = self._taken.get(sha256) or (laying.taken if laying is not None else None)
        return None if taken is None else {"path": taken.path, "note": taken.note}

    def want_more(self, obtained: Mapping[str, Obtained]) -> None:
        """Note what this sync installed: the next environment will want the same."""
        if not self._fits:
            return
        used = [
            Used(one.tree.sha256, one.tree.sha256 in self._taken, one.records())
            for one in obtained.values()
            if not (one.direct_url or {}).get("dir_info", {}).get("editable")
        ]
        self._store.ready.want(used, self._umask, self._key)

    def discard(self) -> None:
        """Remove what is left."""
        self._store.ready.discard(self._taken.values())
        self._store.outlays.give_up(self._layings.values())


async def prepare(context: Context, call: SyncCall, target: Target, plan: Plan) -> Copies:
    """The copies of one round; nothing is taken yet."""
    # In a thread: the environment may be on a disk that answers late.
    umask, fits = await asyncio.to_thread(_look, context, call, target)
    return Copies(context.services.store, umask, plan, key_of(target.wire), fits=fits)


def _look(context: Context, call: SyncCall, target: Target) -> tuple[int, bool]:
    umask = context.umask if context.umask is not None else own_umask() or 0o022
    return umask, _fits(context, call, target)


def _fits(context: Context, call: SyncCall, target: Target) -> bool:
    """Whether copies in the cache can be moved into this environment at all."""
    if call.link_mode != "auto" or call.strict:
        return False
    if not (context.world.is_own and context.world.acts_here("apply_plan")):
        return False  # a client takes nothing out of the cache
    folder = target.venv if target.exists else os.path.dirname(target.venv)
    try:
        found = os.stat(folder)
        # What is made in a setgid folder has its group; what is moved there has not.
        if found.st_mode & stat.S_ISGID:
            return False
        return found.st_dev == os.stat(context.services.store.layout.root).st_dev
    except OSError:
        return False
