"""Outlays: who asked for what to be laid out, where, and what becomes of it; the linking is `laying`'s.

An outlay belongs to the call that asked for it. When that call has ended before it is there, it is removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from pkgc_daemon.store.laying import Laying
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.workers import Job, Outlay, Workers


class Outlays:
    """The outlays of one store. For the event loop's thread.

    Args:
        layout: of the store.
        workers: they make them.
        discard: removes what is left of some.
        reflinks: whether files can share blocks here, which is better than to share inodes: then there are no
            outlays.
    """

    def __init__(
        self,
        layout: Layout,
        workers: Workers,
        discard: Callable[[Iterable[str]], None],
        *,
        reflinks: bool,
    ) -> None:
        self._layout = layout
        self._workers = workers
        self._discard = discard
        self._possible = workers.lays and not reflinks

    def order(self, sha256: str, laying: Laying | None) -> Outlay | None:
        """What a worker is told."""
        if laying is None or laying.given_up or not self._possible:
            return None
        target = self._layout.ready / f"{sha256}.{secrets.token_hex(4)}"
        return Outlay(str(target), laying.umask, dict(laying.records))

    def deliver(self, laying: Laying | None, outlay: Outlay | None, made: bool) -> None:
        """A worker has answered."""
        if laying is None or outlay is None or not made:
            return
        if laying.given_up:
            self._discard([outlay.target])
        else:
            laying.path = outlay.target

    async def lay(self, sha256: str, laying: Laying) -> None:
        """Lay out a tree that is there; `laying` has no path afterwards if that cannot be done."""
        outlay = self.order(sha256, laying)
        if outlay is not None:
            made = False
            try:
                made = await self._workers.lay(Job(str(self._layout.root), "", "", sha256, "", 0, outlay))
            finally:
                # One who is cancelled leaves a worker behind that still works: it is swept at the next start.
                self.deliver(laying, outlay, made)

    def give_up(self, layings: Iterable[Laying]) -> None:
        """A call has ended: what it has not used, and what still comes, is removed."""
        there = []
        for laying in layings:
            laying.given_up = True
            if laying.path is not None:
                there.append(laying.path)
                laying.path = None
        self._discard(there)
