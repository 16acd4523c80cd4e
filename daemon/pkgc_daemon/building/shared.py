"""Shared work: what several callers want at the same time is done once, and nobody waits in a circle.

The work runs inside the call of one of them, with what that one brings (its world, its credentials, its
cancellation); when it is cancelled, the next one takes over.  What is worked on inside other work is noticed,
so that waiting for oneself, also by way of others, is an error and no silence.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pkgc_daemon.errors import PkgcError

T = TypeVar("T")

#: The work inside which this task runs. Tasks that it starts inherit it.
_INSIDE: ContextVar[Hashable | None] = ContextVar("pkgc_shared_work", default=None)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """How one run ended: a value, an error that is everybody's, or neither: the next one tries."""

    values: tuple[T, ...] = ()
    error: PkgcError | None = None


class Shared:
    """Runs work, one run per key at a time.

    Args:
        lasting: codes of errors that another run would end with as well; others are those of the caller who
            worked (it was cancelled, its network failed), and the next caller tries for itself.
    """

    def __init__(self, lasting: frozenset[str] = frozenset()) -> None:
        self._lasting = lasting
        self._running: dict[Hashable, asyncio.Future[_Outcome[object]]] = {}
        self._needs: dict[Hashable, Counter[Hashable]] = {}
        self._labels: dict[Hashable, str] = {}

    async def run(self, key: Hashable, label: str, work: Callable[[], Awaitable[T]]) -> T:
        """The value of `work`, which is run now, or is under way for the same key.

        Args:
            key: equal keys, equal work.
            label: what it is, for messages about circles; '' for what a person need not know of.
            work: called only if nobody else does the same.

        Raises:
            PkgcError: ``build-cycle``: this work would wait for itself; and what `work` raises.
        """
        with self._needing(_INSIDE.get(), key, label):
            while True:
                running = self._running.get(key)
                if running is None:
                    return await self._work(key, label, work)
                outcome = await asyncio.shield(running)
                if outcome.values:
                    return cast("T", outcome.values[0])
                if outcome.error is not None:
                    raise _copy(outcome.error)

    async def _work(self, key: Hashable, label: str, work: Callable[[], Awaitable[T]]) -> T:
        future: asyncio.Future[_Outcome[object]] = asyncio.get_running_loop().create_future()
        self._running[key] = future
        self._labels[key] = label
        token = _INSIDE.set(key)
        outcome: _Outcome[object] = _Outcome()
        try:
            value = await work()
            outcome = _Outcome((value,))
            return value
        except PkgcError as error:
            if error.code in self._lasting:
                outcome = _Outcome(error=error)
            raise
        finally:
            _INSIDE.reset(token)
            del self._running[key], self._labels[key]
            future.set_result(outcome)

    @contextmanager
    def _needing(self, outer: Hashable | None, key: Hashable, label: str) -> Iterator[None]:
        """Note that `outer` cannot end before `key` has.

        Raises:
            PkgcError: ``build-cycle``.
        """
        if outer is None:
            yield
            return
        way = self._way(key, outer)
        if way is not None:
            raise _cycle([label, *(self._labels.get(one, "") for one in way[1:]), label])
        needs = self._needs.setdefault(outer, Counter())
        needs[key] += 1
        try:
            yield
        finally:
            needs[key] -= 1
            if not needs[key]:
                del needs[key]
            if not needs:
                del self._needs[outer]

    def _way(self, start: Hashable, end: Hashable) -> list[Hashable] | None:
        """Work by which `start` waits for `end`, both included; None: it does not."""
        came_from: dict[Hashable, Hashable | None] = {start: None}
        waiting = [start]
        for one in waiting:
            if one == end:
                way: list[Hashable] = []
                step: Hashable | None = one
                while step is not None:
                    way.append(step)
                    step = came_from[step]
                return way[::-1]
            for needed in self._needs.get(one, ()):
                if needed not in came_from:
                    came_from[needed] = one
                    waiting.append(needed)
        return None


def _cycle(labels: list[str]) -> PkgcError:
    names = [label for label in labels if label]
    if len(names) > 1 and names[-1] != names[0]:
        names.append(names[0])  # the circle closed at work that has no label
    chain = " → ".join(names)
    return PkgcError(
        "build-cycle",
        f"{names[0] if names else 'a build'} needs itself to be built",
        context=f"needed one for another: {chain}" if chain else None,
        hint="offer a wheel of one of them (-f/--find-links), or allow wheels of it (without --no-binary)",
    )


def _copy(error: PkgcError) -> PkgcError:
    """The same error for another caller: raising one object twice would mix up their tracebacks."""
    return PkgcError(
        error.code, error.message, context=error.context, hint=error.hint, exit_status=error.exit_status
    )
