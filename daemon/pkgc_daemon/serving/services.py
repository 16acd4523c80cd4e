"""Services: everything that lives as long as the daemon and is shared by all calls."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkgc_daemon.environments.watched import watched_count
from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.fetching.directurls import DirectUrls
from pkgc_daemon.fetching.flights import Fetcher, FetchLimits
from pkgc_daemon.fetching.patience import PatienceLimits
from pkgc_daemon.fetching.texts import Texts
from pkgc_daemon.fetching.transport import Transport
from pkgc_daemon.inputs.config import BYTECODE, Config, parse_config, parse_size
from pkgc_daemon.inputs.given import Lock
from pkgc_daemon.selection.choose import Selector
from pkgc_daemon.selection.indexes import IndexClient
from pkgc_daemon.selection.versions import VersionLists
from pkgc_daemon.store.lock import CacheLock, read_holder
from pkgc_daemon.store.processes import ProcessWorkers, default_count
from pkgc_daemon.store.store import Store
from pkgc_daemon.store.workers import ThreadWorkers, Workers
from pkgc_daemon.vocabulary import IndexOptions, Wanted
from pkgc_protocol import PROTOCOL, __version__

from .asking import Asking, Obtained
from .builds import Builder
from .direct import DirectSources
from .hostcalls import World
from .log import event
from .obtaining import Obtainer
from .reading import LockReader
from .recalling import Recall
from .session import Session
from .targets import Targets
from .turns import Turns
from .watches import Watches

if TYPE_CHECKING:
    from .server import Server

#: Threads for what the daemon does in its own world: reading, scanning, applying.
HANDS = 32
#: Seconds between two looks whether what was published can be made durable while nobody waits.
CHECKPOINT_PERIOD = 10.0
#: Seconds for which work that nobody waits for is put off.
LATER = 0.05
#: Looks, 20 ms apart, for which unpackers and the HTTP library wait while a first call runs.
FIRST_CALL = 15
#: Seconds between two attempts at a cache that another daemon holds.
LOCK_POLL = 0.05
#: Seconds that a daemon which is leaving has to give the cache back: more than it takes to drain.
HANDOVER = 90.0


class Services:
    """The daemon's parts, put together. Use `open`."""

    version = __version__

    def __init__(
        self, cache_dir: Path, lock: CacheLock, store: Store, transport: Transport, config: Config
    ) -> None:
        self.cache_dir = cache_dir
        self.store = store
        self.executor = ThreadPoolExecutor(HANDS, thread_name_prefix="pkgc-hand")
        self.reader = LockReader()
        self.targets = Targets(store)
        self.turns = Turns()
        self.watches = Watches(self.executor, self._is_idle)
        self._lock = lock
        self._transport = transport
        self._indexes = IndexClient(transport, store)
        self._selector = Selector(self._indexes, store)
        self._fetcher = Fetcher(
            transport,
            store.incoming,
            store.publish_artifact,
            find=store.find,
            follow=partial(store.workers.follow, str(store.layout.root)),
            limits=fetch_limits(config.network),
        )
        direct_urls = DirectUrls(self._fetcher, transport, store)
        self.texts = Texts(transport)
        self.builder = Builder(
            store,
            self._fetcher,
            VersionLists(self._indexes),
            concurrent=config.build.get("concurrent"),
            timeout=config.build.get("timeout"),
        )
        self.obtainer = Obtainer(store, self._selector, self._fetcher, direct_urls, self.builder)
        self.recall = Recall(store, self._indexes, transport.identity)
        self.direct = DirectSources(store, direct_urls, self.builder)
        self.builder.connect(self._obtain_for_build)
        self.noted: dict[str, Lock] = {}
        """Environment -> the lock whose requests were noted last (`remembering`)."""
        self._server: Server | None = None
        self._socket = Path()
        self._configs: dict[str, tuple[bytes, Config]] = {}
        self._max_size = cache_limit(config)
        store.bytecode.enabled = keeps_bytecode(config)
        store.ready.enabled = has_ready_copies(config)

    async def _obtain_for_build(self, wanted: Wanted, asking: Asking) -> Obtained:
        """The tree of a build requirement: by the same ways as everything else."""
        assert asking.context is not None
        output = asking.context.output
        if wanted.direct is None:
            return await self.obtainer.obtain(wanted, asking, output)
        state, _ = await self.direct.state(wanted, asking, output)
        return await self.direct.obtain(wanted, state, asking, output)

    @classmethod
    async def open(
        cls, cache_dir: Path, *, wait_lock: float = 0, waiting: Callable[[], None] = lambda: None
    ) -> Services:
        """Take the cache and open what is in it.

        A holder that names no socket is leaving (or about to listen): it is waited for.

        Args:
            wait_lock: seconds to wait for one that serves it.
            waiting: called once when there is a wait.

        Raises:
            PkgcError: `cache-locked` when a daemon serves it, `cache-unusable`, `catalog-too-new`.
        """
        began = time.monotonic()
        told = False
        while True:
            try:
                lock = await asyncio.to_thread(CacheLock, cache_dir)
                break
            except PkgcError as error:
                if error.code != "cache-locked":
                    raise
                serves = "socket" in await asyncio.to_thread(read_holder, cache_dir)
                if time.monotonic() > began + (wait_lock if serves else max(wait_lock, HANDOVER)):
                    raise
            if not told:
                told = True
                waiting()
            await asyncio.sleep(LOCK_POLL)
        try:
            config = await asyncio.to_thread(own_config)
            store = await Store.open(cache_dir, lock=lock, workers=make_workers())
        except BaseException:
            lock.release()
            raise
        return cls(cache_dir, lock, store, Transport(patience_limits(config.network)), config)

    async def close(self) -> None:
        """Close everything in the reverse order; the cache's lock last."""
        await self._fetcher.close()
        await self._indexes.close()
        await self._transport.close()
        await asyncio.to_thread(self.executor.shutdown)
        self.watches.close()
        await self.store.close()  # releases the cache's lock at last

    def announce(self, socket: Path) -> None:
        """Write beside the cache's lock where this daemon listens."""
        self._lock.announce(str(socket))

    def withdraw(self) -> None:
        """Take that note back: nobody is served here from now on; who still holds the lock stays written."""
        try:
            self._lock.announce(None)
        except (OSError, PkgcError):  # a full disk
            self._lock.withdraw()

    def attach(self, server: Server, socket: Path) -> None:
        """The front, for `status`."""
        self._server, self._socket = server, socket
        server.usable = self._lock.is_attached

    async def serve(self, session: Session, request: dict[str, Any]) -> int:
        """Carry out one invocation."""
        from .commands import run

        return await run(self, session, request)

    async def background(self) -> None:
        """What is done while nobody waits: load what calls would load."""
        await asyncio.sleep(0)
        from . import commands

        await asyncio.to_thread(commands.warm_up)  # typer and the renderers: tens of milliseconds
        self.watches.open()
        # The call for which the daemon was started may need neither, and would share two cores with both.
        for _ in range(FIRST_CALL):
            await asyncio.sleep(0.02)
            if self._is_idle():
                break
        self.store.workers.start()
        await asyncio.to_thread(self._transport.load)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watches.run())
            group.create_task(self._keep_house())
            group.create_task(self.store.ready.refill(self._is_idle))
            group.create_task(self.store.bytecode.run(self._is_idle))

    async def _keep_house(self) -> None:
        served = -1
        while True:
            await asyncio.sleep(CHECKPOINT_PERIOD)
            await self.watches.tidy()
            before, served = served, self._server.served if self._server is not None else 0
            if self._is_idle() and served == before:
                self.store.workers.rest()
            if self._is_idle():
                try:
                    await self.store.checkpoint()
                    if self._max_size is not None:
                        await self.store.shrink(self._max_size)
                except Exception as error:  # a full disk must not end the daemon
                    event("checkpoint-failed", logging.ERROR, exc=error)

    def _is_idle(self) -> bool:
        """Whether no call runs."""
        return self._server is None or not self._server.running

    async def config(self, world: World, path: str) -> Config:
        """The client's config.toml, parsed once per content.

        Raises:
            InputError: `invalid-config`.
        """
        data = (await world.read_files([path], optional=True))[0]
        if data is None:
            return Config()
        digest = hashlib.blake2b(data).digest()
        known = self._configs.get(path)
        if known is not None and known[0] == digest:
            return known[1]
        config = parse_config(data, path)
        if len(self._configs) > 64:
            self._configs.clear()
        self._configs[path] = (digest, config)
        return config

    def later(self, work: Callable[[], None]) -> None:
        """Do `work`, which nobody waits for, when the answers that are under way have been sent."""
        asyncio.get_running_loop().call_later(LATER, work)

    async def prepare(self, options: IndexOptions) -> None:
        """Read the credentials and certificates that `options` name: cached pages are kept apart by them.

        Raises:
            PkgcError: `bad-certificate`.
        """
        await self._transport.prepare(options)

    def now(self) -> float:
        """The clock of the index pages."""
        return self._indexes.now()

    async def status(self) -> dict[str, Any]:
        """What `pkgc status` shows."""
        server = self._server
        assert server is not None
        return {
            "running": True,
            "pid": os.getpid(),
            "version": __version__,
            "protocol": ".".join(map(str, PROTOCOL)),
            "socket": str(self._socket),
            "cache_dir": str(self.cache_dir),
            "uptime_s": round(time.monotonic() - server.started_at, 3),
            "clients": server.clients,
            "calls": {"running": server.running, "served": server.served},
            "refused": dict(server.refused),
            "filesystem": self.store.filesystem,
            "ready": self.store.ready.size(),
            "watched": watched_count(),
            "rss_bytes": await asyncio.to_thread(_memory),
        }


def make_workers() -> Workers:
    """Where wheels are unpacked: in processes, unless PKGC_UNPACK_PROCESSES is 0."""
    count = default_count()
    return ProcessWorkers(count) if count else ThreadWorkers()


def cache_limit(config: Config) -> int | None:
    """Bytes to which the cache is shrunk while nobody waits; None: it is not.

    Raises:
        InputError: `invalid-variable`.
    """
    given = os.environ.get("PKGC_CACHE_MAX_SIZE")
    if not given:
        return config.cache.get("max-size")
    try:
        return parse_size(given)
    except ValueError as error:
        raise InputError("invalid-variable", f"PKGC_CACHE_MAX_SIZE: {error}") from error


def keeps_bytecode(config: Config) -> bool:
    """Whether bytecode of trees is kept in the cache.

    Raises:
        InputError: `invalid-variable`.
    """
    given = os.environ.get("PKGC_BYTECODE") or config.cache.get("bytecode", "auto")
    if given not in BYTECODE:
        raise InputError("invalid-variable", f"PKGC_BYTECODE: must be one of {', '.join(BYTECODE)}")
    return bool(given != "off")


def has_ready_copies(config: Config) -> bool:
    """Whether copies are prepared for the next environment.

    Raises:
        InputError: `invalid-variable`.
    """
    given = os.environ.get("PKGC_READY_COPIES")
    if not given:
        return bool(config.cache.get("ready-copies", True))
    if given not in ("0", "1"):
        raise InputError("invalid-variable", f"PKGC_READY_COPIES must be 0 or 1, not {given!r}")
    return given == "1"


def fetch_limits(network: Mapping[str, Any]) -> FetchLimits:
    """How much is fetched at once, as config.toml says."""
    given = {
        "downloads": network.get("concurrent-downloads"),
        "downloads_per_host": network.get("concurrent-per-host"),
    }
    return FetchLimits(**{key: value for key, value in given.items() if value is not None})


def patience_limits(network: Mapping[str, Any]) -> PatienceLimits:
    """How long and how often is tried, as config.toml says."""
    given = {
        "connect_timeout": network.get("connect-timeout"),
        "stall_timeout": network.get("stall-timeout"),
        "attempts": network.get("retries"),
    }
    return PatienceLimits(**{key: value for key, value in given.items() if value is not None})


def _memory() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def own_config() -> Config:
    """The daemon's own config.toml: the limits of the network are the daemon's, not a call's.

    Raises:
        InputError: `invalid-config`.
    """
    from pkgc_protocol.places import config_file

    path = os.path.abspath(config_file(dict(os.environ)))
    try:
        return parse_config(Path(path).read_bytes(), path)
    except OSError:
        return Config()
