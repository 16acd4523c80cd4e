"""Working: what every command that works for a while needs: a clock by phase, and tasks that fail as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pkgc_daemon.errors import PkgcError

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    """Seconds by phase."""

    started: float = field(default_factory=time.perf_counter)
    phases: dict[str, float] = field(default_factory=dict)
    _mark: float = 0.0

    def __post_init__(self) -> None:
        self._mark = self.started

    def lap(self, phase: str) -> float:
        """Book the time since the last lap on `phase`; its sum."""
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._mark
        self._mark = now
        return self.phases[phase]

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def seconds(self) -> dict[str, float]:
        """All phases and the total."""
        return {**self.phases, "total": self.total}


async def together(tasks: Iterable[Awaitable[T]]) -> list[T]:
    """Run all at once in a task group; of several failures, one error that says so.

    Raises:
        PkgcError: the first failure; the messages of the others in its context.
    """

    async def one(awaitable: Awaitable[T]) -> T:
        return await awaitable

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(task)) for task in tasks]
    except BaseExceptionGroup as failures:
        errors = [error for error in failures.exceptions if isinstance(error, PkgcError)]
        if len(errors) < len(failures.exceptions) or not errors:
            raise
        first = errors[0]
        more = "\n".join(f"also: {error.message}" for error in errors[1:] if error.message != first.message)
        if not more:
            raise first from None
        raise PkgcError(  # a new one: several calls may share an error of one flight
            first.code,
            first.message,
            context=f"{first.context}\n{more}" if first.context else more,
            hint=first.hint,
            exit_status=first.exit_status,
        ) from None
    return [task.result() for task in running]
