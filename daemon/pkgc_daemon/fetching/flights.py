"""Flights: one transfer per artifact, however many want it at once (invariants 1 and 3; design.md 8).

A flight has waiters.  Each waiter brings a URL and its own idea of which bytes are right; the flight tries
their URLs until the bytes of one are right for somebody, publishes those once, and tells every waiter.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.bodies import (
    MAX_FILE_BYTES,
    Source,
    Unchanged,
    receive,
)
from pkgc_daemon.fetching.failures import TransferError, for_disk
from pkgc_daemon.fetching.hurry import TooSlow, hurry
from pkgc_daemon.fetching.localfiles import copy_file
from pkgc_daemon.fetching.partials import Follower, Partial, hash_file, in_thread, take_stock
from pkgc_daemon.fetching.patience import Kind, Patience
from pkgc_daemon.fetching.routes import (
    Arrival,
    Flight,
    Route,
    Telling,
    Waiter,
    fail,
    fail_each,
    flight_key,
    next_route,
)
from pkgc_daemon.fetching.slots import HostSlots
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.fetching.verdicts import Expectation
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.vocabulary import Artifact, Digest, IndexOptions

#: (file, sha256 hex, size, every digest computed, file name, URL without credentials) -> the Artifact.
#: It moves the file away; it is called once for each transfer.
Publish = Callable[[Path, str, int, frozenset[Digest], str, str], Awaitable[Artifact]]
#: (file that grows, bytes that it will have) -> who unpacks it meanwhile.
Follow = Callable[[Path, int], Follower]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much happens at once, and how long leftovers stay."""

    downloads: int = 50
    downloads_per_host: int = 16
    threads: int = 4
    """For hashing and writing."""
    stale_after: float = 7 * 86400.0
    """Seconds after which a partial file that nobody went on with is removed."""
    slow_rate: float = 100_000.0
    """Bytes a second; a source that gives less is left for one that another waiter has brought."""
    slow_window: float = 5.0
    """Seconds over which the rate is taken."""
    follow_from: int = 32 << 20
    """Bytes from which on a wheel is unpacked while it arrives."""


class Fetcher:
    """Fetches artifacts.

    Args:
        transport: used by many fetchers, perhaps; closed by whoever made it.
        incoming: directory for partial files, on the file system of the store; nobody else writes there.
        publish: takes a verified file into the store.
        find: what the store has under a digest; asked just before a transfer begins, so that who looked
            there a moment too early does not fetch again what a flight has just brought.
        follow: has a large wheel unpacked while it arrives.
    """

    def __init__(
        self,
        transport: Transport,
        incoming: Path,
        publish: Publish,
        *,
        find: Callable[[Digest], Artifact | None] | None = None,
        follow: Follow | None = None,
        limits: FetchLimits | None = None,
    ) -> None:
        self._transport = transport
        self._incoming = incoming
        self._publish = publish
        self._find = find
        self._follow = follow
        self.limits = limits or FetchLimits()
        self._flights: dict[str, Flight] = {}
        self._executor = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="pkgc-fetch")
        self._slots = HostSlots(self.limits.downloads, self.limits.downloads_per_host)
        self._left: set[str] = set()
        self._names: set[str] = set()
        """Of the partial files that a route uses now."""
        self._started: asyncio.Lock | None = asyncio.Lock()

    async def fetch(
        self,
        url: str,
        *,
        allowed: frozenset[Digest],
        advertised: frozenset[Digest],
        size: int | None,
        exact_size: bool,
        filename: str,
        options: IndexOptions,
        reporter: Reporter,
    ) -> Artifact:
        """The artifact at `url` (http, https or file; may hold credentials), verified and published.

        Args:
            allowed: digests of the lock, one of which is enough (H6); empty: any bytes.
            advertised: digests that the index gives; they guard against corruption (H7): all must match.
            size: bytes, as the lock (`exact_size`: another size is an error) or the index (a hint) says.
            filename: for messages and for the store's records.

        Raises:
            PkgcError: ``hash-mismatch``, ``advertised-hash-mismatch``, ``size-mismatch``, ``http-status``,
                ``download-failed``, ``stalled``, ``connection-refused``, ``dns-failure``, ``disk-full``, …
        """
        expected = Expectation(allowed, advertised, size if exact_size else None)
        if urlsplit(url).scheme.lower() != "file":
            await self._transport.prepare(options)
            identity = self._transport.identity(url, options)
        else:
            identity = ""
        source = Source(urldefrag(url).url, options, identity, None if exact_size else size)
        return (await self.bring(source, expected, filename, reporter)).artifact

    async def bring(
        self,
        source: Source,
        expected: Expectation,
        filename: str,
        reporter: Reporter,
        *,
        since: float = 0.0,
    ) -> Arrival:
        """Like `fetch`, and tells more; for one who knows the identity of the source, and perhaps its bytes.

        Args:
            since: time.monotonic(); a flight without a known hash that began earlier does not count if it
                has landed.

        Raises:
            PkgcError: as `fetch`.
        """
        if self._started is not None:
            await self._start(self._started)
        key = flight_key(source, expected)
        flight = self._flights.get(key)
        while flight is not None and flight.over:
            # It was cancelled and is still writing what this one will go on with; or it is tidying up.
            assert flight.task is not None
            await asyncio.wait([flight.task])
            if flight.arrival is not None and (expected.sha256 is not None or flight.began >= since):
                return await self._confirm(flight.arrival, expected, source.url)
            flight = self._flights.get(key)
        if flight is None:
            known = expected.sha256
            stored = self._find(Digest("sha256", known)) if self._find and known else None
            if stored is not None:
                return await self._confirm(Arrival(stored), expected, source.url)
            flight = self._flights[key] = Flight(key, filename)
        waiter = Waiter(source, expected, filename, reporter, asyncio.get_running_loop().create_future())
        self._join(flight, waiter)
        try:
            arrival = await waiter.result
            return await self._confirm(arrival, expected, source.url)
        finally:
            self._leave(flight, waiter)

    async def confirm(self, artifact: Artifact, expected: Expectation, url: str) -> Artifact:
        """Hold stored bytes against what somebody expects; algorithms that are missing are computed.

        Returns:
            The artifact with every digest that is known of it now.

        Raises:
            PkgcError: ``hash-mismatch``, ``advertised-hash-mismatch``, ``size-mismatch``.
        """
        missing = expected.algorithms - {digest.algorithm for digest in artifact.digests}
        more = await self._hash(artifact.path, missing) if missing else frozenset()
        error = expected.verdict(artifact.digests | more, artifact.size, url)
        if error is not None:
            raise error
        if not more:
            return artifact
        return Artifact(artifact.sha256, artifact.size, artifact.path, artifact.digests | more)

    async def close(self) -> None:
        """Cancel every flight, keep what arrived, and end the threads."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for flight in self._flights.values():
            flight.over = True
            if flight.task is not None and not flight.landing:
                flight.task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.to_thread(self._executor.shutdown)

    # -- waiters -------------------------------------------------------------------------------------

    async def _start(self, lock: asyncio.Lock) -> None:
        async with lock:
            if self._started is not None:
                self._left = await asyncio.to_thread(take_stock, self._incoming, self.limits.stale_after)
                self._started = None

    def _join(self, flight: Flight, waiter: Waiter) -> None:
        flight.waiters.append(waiter)
        waiter.reporter.started(flight.key, waiter.filename, flight.total or waiter.expected.size)
        if flight.arrived:
            waiter.reporter.advanced(flight.key, flight.arrived)
        name = waiter.source.name
        if name not in flight.routes or flight.routes[name].mismatched:
            flight.routes[name] = Route(waiter.source, Patience(self._transport.limits))
            flight.joined.set()
        if flight.task is None:
            flight.task = asyncio.create_task(self._fly(flight), name=f"flight {flight.label}")

    def _leave(self, flight: Flight, waiter: Waiter) -> None:
        flight.waiters.remove(waiter)
        waiter.reporter.finished(flight.key)
        if not waiter.result.done():
            waiter.result.cancel()
        elif not waiter.result.cancelled():
            waiter.result.exception()
        if not flight.waiters and not flight.landing and not flight.over and flight.task is not None:
            flight.over = True
            flight.task.cancel()

    async def _confirm(self, arrival: Arrival, expected: Expectation, url: str) -> Arrival:
        """Each waiter compares for itself, also who came too late for its algorithms to be computed."""
        return arrival._replace(artifact=await self.confirm(arrival.artifact, expected, url))

    # -- the flight ----------------------------------------------------------------------------------

    async def _fly(self, flight: Flight) -> None:
        try:
            await self._try_routes(flight)
        except PkgcError as exc:
            fail(flight, exc)
        except asyncio.CancelledError:
            fail(flight, PkgcError("cancelled", f"the download of {flight.label} was cancelled"))
            raise
        except Exception as exc:
            # A defect of ours. The waiters must hear of it, or they would wait for ever.
            error = PkgcError("internal-error", f"fetching {flight.label} failed", context=repr(exc))
            error.__cause__ = exc
            fail(flight, error)
        finally:
            flight.over = True
            for route in flight.routes.values():
                if route.partial is not None:
                    await route.partial.settle()
                    route.partial.drop_follower()
                    if route.partial.kept:
                        self._left.add(route.partial.path.name)
                    self._names.discard(route.partial.path.name)
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]

    async def _try_routes(self, flight: Flight) -> None:
        while True:
            route = next_route(flight)
            if route is None:
                fail_each(flight)
                return
            delay = route.not_before - time.monotonic()
            if delay > 0:
                flight.joined.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await flight.joined.wait()
                continue
            if await self._try_route(flight, route):
                return

    async def _try_route(self, flight: Flight, route: Route) -> bool:
        """One attempt. True: every waiter has its answer."""
        route.tried = True
        partial = await self._partial(flight, route)
        route.best = max(route.best, partial.kept)
        flight.turn_back(partial.kept)
        try:
            digests = await self._transfer(flight, route, partial)
        except TooSlow:
            # Not a failure: what arrived is kept, and it has its turn again if the others fail.
            await partial.settle()
            self._take_note(flight, route, partial.kept)
            route.not_before = time.monotonic()
            for waiter in flight.waiters:
                waiter.reporter.retrying(f"{redact(route.source.url)} is slow; trying another source")
            return False
        except Unchanged as answer:
            here = answer.condition
            name, began = route.source.name, flight.began
            flight.land(Arrival(here.artifact, name, here.stamp, unchanged=True, began=began))
            return True
        except TransferError as failure:
            await partial.settle()
            self._take_note(flight, route, partial.kept)
            delay = route.patience.failed(failure.kind, failure.retry_after)
            if delay is None:
                route.ended = failure.error
            else:
                route.not_before = time.monotonic() + delay
                for waiter in flight.waiters:
                    waiter.reporter.retrying(f"{failure.error.message}; trying again in {delay:.1f} s")
            return False
        return await self._land(flight, route, partial, digests)

    async def _transfer(self, flight: Flight, route: Route, partial: Partial) -> frozenset[Digest]:
        telling = Telling(flight, route, lambda total: self._have_followed(flight, partial, total))
        if route.source.is_local:
            route.patience.begin()
            return await copy_file(route.source.url, partial, self._executor, telling.progress())
        async with self._slots.slot(route.source.host, route.source.size_hint or 0):
            # Only now: waiting for a slot is not the server's fault.
            route.patience.begin()
            async with hurry(flight, lambda: telling.network, self.limits.slow_window, self.limits.slow_rate):
                return await receive(
                    self._transport,
                    route.source,
                    partial,
                    telling.progress(),
                    connect_timeout=route.patience.connect_timeout(),
                    verifiable=flight.key.startswith("sha256:"),
                    cap=max(telling.sizes, default=MAX_FILE_BYTES),
                )

    def _have_followed(self, flight: Flight, partial: Partial, total: int) -> None:
        """Have a large wheel unpacked while it arrives."""
        large = total >= self.limits.follow_from and flight.label.lower().endswith(".whl")
        if large and self._follow is not None and partial.follower is None:
            partial.follower = self._follow(partial.path, total)

    async def _land(self, flight: Flight, route: Route, partial: Partial, digests: frozenset[Digest]) -> bool:
        """All bytes are here. Tell whom they are wrong; publish them if they are right for anybody."""
        if not route.source.is_local and flight.waiters:
            flight.waiters[0].reporter.count("downloaded_files")  # also if it is thrown away, as its bytes
        computed = {digest.algorithm for digest in digests}
        while missing := frozenset().union(*(one.expected.algorithms for one in flight.waiters)) - computed:
            # Again, because somebody may join during it and name yet another algorithm.
            digests |= await self._hash(partial.path, missing)
            computed |= missing
        url, size = route.source.url, partial.kept
        verdicts = [(one, one.expected.verdict(digests, size, url)) for one in flight.waiters]
        errors = [error for _, error in verdicts if error is not None]
        if len(errors) == len(verdicts):
            # The kept part may have been of another file, or damaged: the whole decides.
            if not partial.resumed or route.patience.failed(Kind.SERVER) is None:
                # Before anything is awaited: who joins from now on has not been judged.
                route.ended, route.mismatched = errors[0], True
                for waiter, error in verdicts:
                    if waiter.source.name == route.source.name:
                        waiter.wrong = error
            await partial.start_over()
            flight.turn_back(0)
            if route.mismatched:
                # Another route of the same source may take its place.
                route.partial = None
                self._names.discard(partial.path.name)
            return False
        flight.landing = True
        shown = redact(route.source.url)
        sha256 = next(digest.hex for digest in digests if digest.algorithm == "sha256")
        filename = flight.waiters[0].filename
        artifact = await self._publish(partial.path, sha256, size, digests, filename, shown)
        flight.arrival = Arrival(artifact, route.source.name, route.stamp, began=flight.began)
        if partial.follower is not None:
            partial.follower.landed(sha256)
            partial.follower = None
        route.partial = None
        await self._clear(flight, partial)
        for waiter, error in verdicts:
            if error is not None and not waiter.result.done():
                waiter.result.set_exception(error)
        # Who joined during the publication has no verdict yet; `_confirm` gives it.
        flight.land(flight.arrival)
        return True

    async def _clear(self, flight: Flight, landed: Partial) -> None:
        """Remove sidecars, and the partial files of routes that were not needed in the end."""
        partials = [route.partial for route in flight.routes.values() if route.partial is not None]
        for route in flight.routes.values():
            route.partial = None
        if landed.noted:
            partials.append(landed)
        else:  # it came in one piece, and its file is the store's now
            self._names.discard(landed.path.name)
        for partial in partials:
            await partial.settle()
            partial.drop_follower()
            self._left.discard(partial.path.name)
            await in_thread(self._executor, partial.forget)
            self._names.discard(partial.path.name)

    async def _partial(self, flight: Flight, route: Route) -> Partial:
        if route.partial is None:
            shown = redact(route.source.url)
            cut = hashlib.sha256(f"{flight.key}\n{shown}".encode("utf-8", "surrogateescape")).hexdigest()[:40]
            # No digest of a password goes into a name, and a link that is signed anew goes on with its file;
            # hence routes that differ in secrets only are told apart by a number.
            names = (f"{cut}-{number}.part" for number in itertools.count())
            path = self._incoming / next(name for name in names if name not in self._names)
            self._names.add(path.name)
            algorithms = frozenset().union(*(one.expected.algorithms for one in flight.waiters))
            route.partial = Partial(path, shown, algorithms, self._executor)
            if path.name in self._left:
                await route.partial.recall()
        return route.partial

    def _take_note(self, flight: Flight, route: Route, kept: int) -> None:
        """An attempt has ended, and `kept` bytes need not be fetched again."""
        if kept > route.best:
            route.best = kept
            route.patience.progressed()
        flight.turn_back(kept)

    async def _hash(self, path: Path, algorithms: Iterable[str]) -> frozenset[Digest]:
        try:
            return await in_thread(self._executor, hash_file, path, frozenset(algorithms))
        except OSError as exc:
            raise for_disk(exc, path) from exc
