"""Patience: when to try a transfer again and when to give up (design.md 8); decides, never waits.

The budget is of attempts *without verified progress*: a server that cuts every 50 KB is used to the end of
the file, one that sends the same first half over and over is given up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What went wrong with an attempt, as far as patience cares."""

    UNREACHABLE = "unreachable"
    """No connection: refused, no such host, no answer in time."""
    SERVER = "server"
    """5xx, 408, 425, 429, a cut, a reset, an answer that makes no sense."""
    STALL = "stall"
    """Connected, then not a byte for too long."""
    FATAL = "fatal"
    """Trying again cannot help: 401, 403, 404, a certificate, a hash, a full disk."""


@dataclass(frozen=True, slots=True)
class PatienceLimits:
    """The bounds of patience. All times in seconds."""

    attempts: int = 8
    """Attempts without progress, the first one included."""
    first_delay: float = 0.25
    longest_delay: float = 8.0
    longest_retry_after: float = 30.0
    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    unreachable: float = 20.0
    """Give up within so long when no connection can be had."""
    server: float = 50.0
    """Give up within so long when a server answers, but badly."""
    stall: float = 150.0
    """Give up within so long when nothing arrives."""

    def bound(self, kind: Kind) -> float:
        """How long failures of `kind` are borne, in seconds."""
        return {
            Kind.UNREACHABLE: self.unreachable,
            Kind.SERVER: self.server,
            Kind.STALL: self.stall,
            Kind.FATAL: 0.0,
        }[kind]


class Patience:
    """The state of one transfer from one source.

    Args:
        clock: monotonic seconds.
        jitter: a number in [0, 1) each time; delays are scaled by 0.5 to 1.
    """

    def __init__(
        self,
        limits: PatienceLimits = PatienceLimits(),
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._attempt_began = clock()
        self._trouble_began: dict[Kind, float] = {}

    def begin(self) -> None:
        """An attempt starts now."""
        self._attempt_began = self._clock()

    def progressed(self) -> None:
        """Bytes arrived that will not have to be fetched again: the budget is whole again."""
        self._failures = 0
        self._trouble_began.clear()
        self._attempt_began = self._clock()

    def connect_timeout(self) -> float:
        """Seconds that the next attempt may take to connect, so that the bound for it holds."""
        began = self._trouble_began.get(Kind.UNREACHABLE)
        if began is None:
            return self.limits.connect_timeout
        left = began + self.limits.unreachable - self._clock()
        return max(0.05, min(self.limits.connect_timeout, left))

    def failed(self, kind: Kind, retry_after: float | None = None) -> float | None:
        """The attempt that began last has failed.

        Args:
            retry_after: seconds that the server asked for (RFC 9110, 10.2.3).

        Returns:
            Seconds to wait before the next attempt, or None to give up.
        """
        if kind is Kind.FATAL:
            return None
        began = self._trouble_began.setdefault(kind, self._attempt_began)
        self._failures += 1
        if self._failures >= self.limits.attempts:
            return None
        # The exponent is capped so that a huge `attempts` cannot overflow the float.
        longest = min(self.limits.longest_delay, self.limits.first_delay * 2.0 ** min(self._failures - 1, 60))
        delay = longest * (0.5 + self._jitter() / 2)
        if retry_after is not None:
            delay = max(delay, min(retry_after, self.limits.longest_retry_after))
        # A stall is known only after the whole stall timeout: count it, or the bound would be overrun.
        cost = self.limits.stall_timeout if kind is Kind.STALL else 0.0
        now = self._clock()
        if now + delay + cost > began + self.limits.bound(kind):
            return None
        # Troubles of changing kinds must not add up to more than the longest bound.
        first = min(self._trouble_began.values())
        if now + delay > first + max(self.limits.unreachable, self.limits.server, self.limits.stall):
            return None
        return delay
