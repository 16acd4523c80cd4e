"""Routes: the state of a flight: who waits for it, and the sources that it may try; no I/O, no decisions that
need the network.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.bodies import Progress, Source, Stamp
from pkgc_daemon.fetching.failures import TransferError
from pkgc_daemon.fetching.partials import Partial
from pkgc_daemon.fetching.patience import Kind, Patience
from pkgc_daemon.fetching.verdicts import Expectation, size_mismatch
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.vocabulary import Artifact


class Arrival(NamedTuple):
    """What came of a flight."""

    artifact: Artifact
    source: str = ""
    """`Source.name` of the URL that the bytes came from; '' when the store had them."""
    stamp: Stamp | None = None
    """What the server of that URL calls them."""
    unchanged: bool = False
    """They are those of the condition; nothing was transferred."""
    began: float = 0.0
    """time.monotonic() before the first request."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One who wants a file, and what is right for it."""

    source: Source
    expected: Expectation
    filename: str
    reporter: Reporter
    result: asyncio.Future[Arrival]
    wrong: PkgcError | None = None
    """What was wrong with the bytes of its own source, if they came and were not right for it."""


@dataclass(eq=False, slots=True)
class Route:
    """One source of a flight: what patience says of it, and the error that ended it, if it has ended."""

    source: Source
    patience: Patience
    not_before: float = 0.0
    ended: PkgcError | None = None
    mismatched: bool = False
    """It ended because its bytes were right for nobody who waited then."""
    tried: bool = False
    partial: Partial | None = None
    best: int = 0
    """The largest number of bytes that were ever kept."""
    stamp: Stamp | None = None
    """Of the last answer that gave bytes."""


@dataclass(eq=False, slots=True)
class Flight:
    """One transfer for everybody who wants the same."""

    key: str
    label: str
    waiters: list[Waiter] = field(default_factory=list)
    routes: dict[str, Route] = field(default_factory=dict)
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    landing: bool = False
    """The bytes are verified and being published: nobody can cancel any more."""
    over: bool = False
    arrival: Arrival | None = None
    began: float = field(default_factory=time.monotonic)

    def turn_back(self, kept: int) -> None:
        """Progress shown so far becomes what is really kept."""
        if self.arrived != kept:
            for waiter in self.waiters:
                waiter.reporter.advanced(self.key, kept - self.arrived)
            self.arrived = kept

    def land(self, arrival: Arrival) -> None:
        """Everybody who has no answer yet gets this one."""
        self.arrival = arrival
        for waiter in self.waiters:
            if not waiter.result.done():
                waiter.result.set_result(arrival)
        self.over = True

    total: int | None = None
    arrived: int = 0


class Telling:
    """Tells everybody who waits for a flight how one attempt goes on.

    Args:
        flight: the flight.
        route: the source of this attempt.
        known: told of the whole size as soon as it is known, if it may be right.
    """

    def __init__(self, flight: Flight, route: Route, known: Callable[[int], None]) -> None:
        self.network = 0
        """Bytes that came over the network."""
        exact = [one.expected.size for one in flight.waiters]
        self.sizes = (
            frozenset(size for size in exact if size is not None) if None not in exact else frozenset()
        )
        """Sizes that somebody may accept; empty: any."""
        self._flight = flight
        self._route = route
        self._known = known

    def progress(self) -> Progress:
        """The functions that are to be called."""
        return Progress(self._expects, self._arrived, self._received, self._answered)

    def _arrived(self, amount: int) -> None:
        self._flight.arrived += amount
        for waiter in self._flight.waiters:
            waiter.reporter.advanced(self._flight.key, amount)

    def _received(self, amount: int) -> None:
        self.network += amount
        if self._flight.waiters:
            self._flight.waiters[0].reporter.count("downloaded_bytes", amount)

    def _expects(self, total: int | None) -> None:
        if total is None:
            return
        if self.sizes and total not in self.sizes:
            raise TransferError(Kind.FATAL, size_mismatch(self.sizes, total, self._route.source.url))
        if total != self._flight.total:
            self._flight.total = total
            for waiter in self._flight.waiters:
                waiter.reporter.started(self._flight.key, waiter.filename, total)
        self._known(total)

    def _answered(self, stamp: Stamp | None) -> None:
        self._route.stamp = stamp


def next_route(flight: Flight) -> Route | None:
    """The route to try next: of those that somebody still waits for, the one that may go first."""
    wanted = {waiter.source.name for waiter in flight.waiters}
    live = [route for name, route in flight.routes.items() if route.ended is None and name in wanted]
    return min(live, key=lambda route: route.not_before, default=None)


def has_untried(flight: Flight) -> bool:
    """Whether somebody waits who has brought a source that nobody has tried."""
    sources = (flight.routes[waiter.source.name] for waiter in flight.waiters)
    return any(route.ended is None and not route.tried for route in sources)


def fail(flight: Flight, error: PkgcError) -> None:
    """Everybody gets `error`."""
    flight.over = True
    for waiter in flight.waiters:
        if not waiter.result.done():
            waiter.result.set_exception(error)


def fail_each(flight: Flight) -> None:
    """No route is left: each waiter gets the error of its own."""
    flight.over = True
    for waiter in flight.waiters:
        error = waiter.wrong or flight.routes[waiter.source.name].ended
        assert error is not None
        if not waiter.result.done():
            waiter.result.set_exception(error)


def flight_key(source: Source, expected: Expectation) -> str:
    """Who shares a flight (design.md 8, "Single flight key")."""
    known = expected.sha256
    if known is not None:
        return f"sha256:{known}"
    cut = hashlib.sha256(f"{source.url}\n{source.identity}".encode("utf-8", "surrogateescape"))
    # Whoever cannot take the word of a cache on the way does not share the answer of one.
    return f"{'fresh' if source.fresh else 'url'}:{cut.hexdigest()}"
