"""Preparing: which ready copies a sync takes, which trees are laid out for it, and what is to be copied for
the next one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from pkgc_daemon.installing.staging import records_of
from pkgc_daemon.modes import own_umask
from pkgc_daemon.store.laying import Laying
from pkgc_daemon.store.ready import Used
from pkgc_daemon.vocabulary import Artifact, Origin, Plan

from .asking import Obtained, provenance_of
from .calls import SyncCall
from .context import Context
from .targets import Target


class Copies:
    """What one round of one sync has to be renamed into its environment. Call `discard` at its end.

    Args:
        plan: what the round does.
    """

    def __init__(self, context: Context, call: SyncCall, target: Target, plan: Plan) -> None:
        self._store = context.services.store
        self._umask = context.umask if context.umask is not None else own_umask() or 0o022
        self._fits = _fits(context, call, target)
        self._used = self._fits and bool(plan.add) and not plan.remove
        self._taken: dict[str, str] = {}
        self._layings: dict[str, Laying] = {}

    def laying(self, artifact: Artifact, origin: Origin) -> Laying | None:
        """For a wheel that has just been fetched from `origin`: what to make of its tree in one go."""
        if not self._used or artifact.sha256 in self._layings:
            return None
        provenance = provenance_of(origin, artifact.digests, artifact.sha256)
        laying = Laying(self._umask, records_of(provenance, None, requested=True))
        self._layings[artifact.sha256] = laying
        return laying

    async def provide(self, obtained: Obtained) -> None:
        """Have something for a distribution: what was laid out, else a ready copy, else lay it out now."""
        sha256 = obtained.tree.sha256
        laying = self._layings.get(sha256)
        if not self._used or (laying is not None and laying.path is not None):
            return
        taken = self._store.ready.take(sha256, self._umask)
        if taken is not None:
            self._taken[obtained.wanted.name] = taken
        elif laying is None or not laying.given_up:
            self._layings[sha256] = laying = Laying(self._umask, _records(obtained))
            await self._store.outlays.lay(sha256, laying)

    def paths(self, obtained: Iterable[Obtained]) -> dict[str, str]:
        """Name -> what is there for it. Each can be used once."""
        found = dict(self._taken)
        for one in obtained:
            laying = self._layings.get(one.tree.sha256)
            if laying is not None and laying.path is not None:
                found[one.wanted.name] = laying.path
        return found

    def want_more(self, obtained: Mapping[str, Obtained]) -> None:
        """Note what this sync installed: the next environment will want the same."""
        if not self._fits:
            return
        used = [
            Used(one.tree.sha256, name in self._taken, _records(one))
            for name, one in obtained.items()
            if not (one.direct_url or {}).get("dir_info", {}).get("editable")
        ]
        self._store.ready.want(used, self._umask)

    def discard(self) -> None:
        """Remove what is left."""
        self._store.ready.discard(self._taken.values())
        self._store.outlays.give_up(self._layings.values())


def _records(one: Obtained) -> dict[str, bytes]:
    return records_of(one.provenance(), one.direct_url, requested=True)


def _fits(context: Context, call: SyncCall, target: Target) -> bool:
    """Whether copies in the cache can be moved into this environment at all."""
    if call.link_mode != "auto" or call.strict or not context.world.is_own:
        return False
    folder = target.venv if target.exists else os.path.dirname(target.venv)
    try:
        found = os.stat(folder)
        # What is made in a setgid folder has its group; what is moved there has not.
        if found.st_mode & stat.S_ISGID:
            return False
        return found.st_dev == os.stat(context.services.store.layout.ready).st_dev
    except OSError:
        return False
