"""Direct URLs: the archive that a URL or a path holds now.  Who names its hash is served from the store; who
does not has the place asked at each sync whether it changed (invariant 4).  Which of the bytes that were ever
there are the right ones for an environment is decided by others.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple
from urllib.parse import urldefrag

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.bodies import Condition, Source, Stamp, guard_of
from pkgc_daemon.fetching.failures import is_outage
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.fetching.localfiles import look
from pkgc_daemon.fetching.routes import Arrival
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.fetching.urlmemory import TELLING, UrlMemory, UrlState
from pkgc_daemon.fetching.urls import url_key
from pkgc_daemon.fetching.verdicts import Expectation, of_lock
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.vocabulary import Artifact, Digest, IndexOptions, Origin

Mode = Literal["normal", "refresh", "offline"]
CameFrom = Literal["store", "network"]

#: Seconds that a local file must have been left alone before it was read: clocks of filesystems are coarse,
#: and what changes within a tick of the clock keeps its time.
_SETTLED = 2.0
#: Answers that are kept for those who asked before they came.
_RECENT = 1_000
_OTHER_BYTES = frozenset({"hash-mismatch", "advertised-hash-mismatch", "size-mismatch"})


class Current(NamedTuple):
    """What a direct URL holds."""

    artifact: Artifact
    """Verified; every digest that was asked for is among its digests."""
    came_from: CameFrom
    """`store`: the content is what was known already, when the caller's call began."""
    asked: bool
    """False: this is what was there last (``--offline``). True: it is there now, or its hash says that it is
    what is wanted."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of `current`."""

    url: str
    """Without fragment."""
    expected: Expectation
    filename: str
    options: IndexOptions
    reporter: Reporter
    mode: Mode
    began: float
    """time.monotonic()"""

    @property
    def hashed(self) -> bool:
        """Whether digests alone say which bytes are meant."""
        return any(one.algorithm in TELLING for one in self.expected.allowed | self.expected.advertised)


class DirectUrls:
    """Looks up direct URLs; shared by all calls.

    Args:
        fetcher: transfers bytes.
        transport: knows identities.
        memory: the store.
        now: Unix seconds.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        transport: Transport,
        memory: UrlMemory,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fetcher = fetcher
        self._transport = transport
        self._memory = memory
        self._now = now
        self._recent: OrderedDict[str, tuple[Arrival, CameFrom]] = OrderedDict()

    async def current(
        self,
        url: str,
        *,
        integrity: frozenset[Digest],
        size: int | None,
        filename: str,
        options: IndexOptions,
        reporter: Reporter,
        mode: Mode,
        allowed: frozenset[Digest] = frozenset(),
        since: float | None = None,
    ) -> Current:
        """The archive at `url`.

        Bytes that the store has under a digest that is asked for are taken without looking at the place, in
        every mode. Without such a digest the place is asked (a local file: looked at), unless `offline`.

        Args:
            url: http, https or file; may hold credentials; a fragment does not count.
            integrity: digests of any algorithm (H5), every one of which must match.
            size: bytes, exact.
            filename: for messages and records, and to find bytes by digests not computed yet.
            options: whose credentials, certificates and proxies are used.
            reporter: told of the transfer.
            mode: `normal` sends the validators back to the URL that gave them (`bodies.guard_of` says what
                that cannot find); `refresh` has the server, not a cache on the way, send the file without
                any condition; `offline` asks nobody, but local files are looked at.
            allowed: digests of a lock, one of which is enough (H6).
            since: Unix seconds; an answer to a request that was sent later is recent enough. None: now.

        Raises:
            PkgcError: ``hash-mismatch``, ``size-mismatch``, ``not-in-cache``, ``file-not-found``, and what
                `Fetcher.fetch` raises.
        """
        expected = Expectation(allowed, integrity, size)
        bare = urldefrag(url).url
        ago = max(0.0, self._now() - since) if since is not None else 0.0
        call = _Call(bare, expected, filename, options, reporter, mode, time.monotonic() - ago)
        try:
            if call.hashed and (known := await self._by_digest(call)) is not None:
                return Current(await self._noted(known), "store", True)
            if bare[:5].lower() == "file:":
                return await self._local(call)
            return await self._remote(call)
        except PkgcError as error:
            if error.code != "advertised-hash-mismatch":
                raise
            raise of_lock(error, bare) from error

    async def stored(
        self,
        url: str,
        *,
        integrity: frozenset[Digest],
        size: int | None,
        filename: str,
        options: IndexOptions,
        reporter: Reporter,
    ) -> Artifact | None:
        """The bytes that the store has under one of these digests, if they are all that is said of them.

        Args: as of `current`.
        """
        expected = Expectation(advertised=integrity, size=size)
        call = _Call(url, expected, filename, options, reporter, "offline", time.monotonic())
        known = await self._by_digest(call)
        return await self._noted(known) if known is not None else None

    # -- what is known by its digest -------------------------------------------------------------------

    async def _by_digest(self, call: _Call) -> Artifact | None:
        """Stored bytes that are right whatever the place holds by now."""
        digests = call.expected.allowed | call.expected.advertised
        telling = frozenset(one for one in digests if one.algorithm in TELLING)
        await self._memory.settle(telling)
        for digest in sorted(telling):
            sha256 = self._memory.sha256_of(digest)
            held = await self._memory.held(sha256) if sha256 is not None else None
            if held is not None and (right := await self._right(held, call)) is not None:
                return right
        found = await self._memory.find_by_any(telling, call.filename)
        return await self._right(found, call) if found is not None else None

    async def _right(self, artifact: Artifact, call: _Call) -> Artifact | None:
        """The artifact, if it is what the call expects."""
        if not await self._judgeable(artifact, call):
            return None
        try:
            return await self._fetcher.confirm(artifact, call.expected, call.url)
        except PkgcError as error:
            if error.code not in _OTHER_BYTES:
                raise
            return None

    async def _judgeable(self, artifact: Artifact, call: _Call) -> bool:
        """Whether every digest that counts is known, or can be computed: not of a tree whose file is gone."""
        if call.expected.algorithms <= {digest.algorithm for digest in artifact.digests}:
            return True
        return await asyncio.to_thread(artifact.path.is_file)

    async def _noted(self, artifact: Artifact) -> Artifact:
        await self._memory.remember_digests(artifact)
        return artifact

    # -- http ------------------------------------------------------------------------------------------

    async def _remote(self, call: _Call) -> Current:
        await self._transport.prepare(call.options)
        identity = self._transport.identity(call.url, call.options)
        key = await _key(call.url, identity)
        state = await self._memory.url_state(key)
        held = await self._memory.held(state.sha256) if state is not None else None
        if held is not None and (call.hashed or call.mode == "offline"):
            right = await self._right(held, call)
            if right is not None:
                return Current(await self._noted(right), "store", call.hashed)
        if call.mode == "offline":
            raise not_in_cache(call.url)
        source = Source(call.url, call.options, identity, None, fresh=call.mode == "refresh")
        if state is not None and held is not None and not call.hashed and await self._judgeable(held, call):
            stamp = Stamp(state.etag, state.last_modified, state.answered_by)
            if not source.fresh and guard_of(stamp) is not None:
                source = replace(source, condition=Condition(stamp, held))
        if (recent := await self._just_now(source, call)) is not None:
            return recent
        try:
            arrival = await self._bring(source, call)
        except PkgcError as error:
            if held is None or call.hashed or not is_outage(error):
                raise
            raise PkgcError(
                error.code,
                error.message,
                context=error.context,
                hint="A URL without a hash in the lock is asked at each sync. --offline takes what was there "
                "last: it is in the cache.",
            ) from error
        sha256 = arrival.artifact.sha256
        same = state is not None and state.sha256 == sha256 and held is not None
        came_from: CameFrom = "store" if same or not arrival.source else "network"
        if arrival.source == source.name:
            etag, changed, by = arrival.stamp or Stamp(None, None, None)
            await self._memory.remember_url(key, UrlState(sha256, etag, changed, self._now(), by))
            origin = Origin("url", redact(call.url))
            await self._memory.record_origin(sha256, origin, call.filename)
            self._recent[_request(source)] = arrival, came_from
            self._recent.move_to_end(_request(source))
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return Current(await self._noted(arrival.artifact), came_from, True)

    async def _just_now(self, source: Source, call: _Call) -> Current | None:
        """What a request brought that began after the call did."""
        recent = self._recent.get(_request(source))
        if recent is None or recent[0].began < call.began or call.hashed:
            return None
        arrival, came_from = recent
        known = await self._memory.held(arrival.artifact.sha256)
        if known is None or not await self._judgeable(known, call):
            return None
        confirmed = await self._fetcher.confirm(known, call.expected, call.url)
        return Current(await self._noted(confirmed), came_from, True)

    async def _bring(self, source: Source, call: _Call) -> Arrival:
        """The content of the URL as of now, or as of a flight that began after the call did."""
        bring = partial(
            self._fetcher.bring, expected=call.expected, filename=call.filename, reporter=call.reporter
        )
        arrival = await bring(source, since=call.began)
        if arrival.unchanged and await self._memory.held(arrival.artifact.sha256) is None:
            # It was evicted while the server was asked.
            arrival = await bring(replace(source, condition=None), since=time.monotonic())
        return arrival

    # -- files -----------------------------------------------------------------------------------------

    async def _local(self, call: _Call) -> Current:
        now = self._now()
        before = await asyncio.to_thread(look, call.url)
        state = await self._memory.url_state(call.url)
        held = await self._memory.held(state.sha256) if state is not None else None
        if state is not None and held is not None and state.etag == before.text:
            settled = state.checked - before.changed >= _SETTLED
            if settled and await self._judgeable(held, call):
                confirmed = await self._fetcher.confirm(held, call.expected, call.url)
                return Current(await self._noted(confirmed), "store", True)
        # The evidence is part of the identity: who saw another file does not share this flight.
        source = Source(call.url, call.options, before.text)
        arrival = await self._fetcher.bring(source, call.expected, call.filename, call.reporter)
        sha256 = arrival.artifact.sha256
        if arrival.source == source.name:
            after = await asyncio.to_thread(look, call.url)
            evidence = before.text if after == before else None
            await self._memory.remember_url(call.url, UrlState(sha256, evidence, None, now))
            await self._memory.record_origin(sha256, Origin("path", redact(call.url)), call.filename)
        same = state is not None and state.sha256 == sha256 and held is not None
        came_from: CameFrom = "store" if same or not arrival.source else "network"
        return Current(await self._noted(arrival.artifact), came_from, True)


def not_in_cache(url: str) -> PkgcError:
    """The error when nobody may be asked for what a URL holds, and it is not known."""
    return PkgcError(
        "not-in-cache",
        f"{redact(url)} is not in the cache, and --offline forbids to download it",
        hint="run once without --offline",
    )


async def _key(url: str, identity: str) -> str:
    """Under which a URL is remembered."""
    shown, line, secret = (await url_key(url)).partition("\n")
    return f"{shown}\n{identity}{line}{secret}"


def _request(source: Source) -> str:
    """Equal for sources whose answers are as good for one as for the other."""
    return f"{source.fresh} {source.name}"
