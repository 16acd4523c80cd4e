"""Run: the life of the daemon process: locks, services, socket, ready, drain, gone."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from pkgc_daemon.errors import EXIT_FAILED, PkgcError
from pkgc_protocol import __version__
from pkgc_protocol.places import LOG

from . import log
from .listening import Listener, adopt, listen
from .server import Server
from .services import Services
from .session import Hello
from .systemd import Notifier, listen_fds, watchdog_period
from .text import Style, error_text

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True)
class Settings:
    """How this daemon was asked to run."""

    socket: Path
    cache_dir: Path
    idle_exit: float | None
    wait_lock: float
    started_by_client: bool
    log_level: int


def parse(argv: Sequence[str]) -> Settings:
    """Read the daemon's own command line."""
    return _as_clients_write(argv) or _as_people_write(argv)


def _as_clients_write(argv: Sequence[str]) -> Settings | None:
    """The command line of `pkgc_client.launch`, read without argparse (10 ms); None: it is another one."""
    match argv:
        case ["--socket", path, "--cache-dir", cache, "--idle-exit", idle, "--started-by-client"]:
            try:
                seconds = float(idle)
            except ValueError:
                return None
            return Settings(
                Path(path).absolute(), Path(cache).absolute(), seconds or None, 0.0, True, logging.INFO
            )
    return None


def _as_people_write(argv: Sequence[str]) -> Settings:
    import argparse

    parser = argparse.ArgumentParser(
        prog="pkgc daemon run", description="Run the pkgc daemon in the foreground."
    )
    parser.add_argument("--socket", type=Path, required=True, help="path of the Unix socket to listen at")
    parser.add_argument("--cache-dir", type=Path, required=True, help="directory of the cache to serve")
    parser.add_argument(
        "--idle-exit",
        type=float,
        default=0,
        metavar="SECONDS",
        help="go away after that time without a client; 0: never",
    )
    parser.add_argument(
        "--wait-lock",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long for a daemon that serves the cache (one that is leaving is waited for anyway)",
    )
    parser.add_argument("--log-level", choices=sorted(LEVELS), default="info")
    parser.add_argument("--started-by-client", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    return Settings(
        socket=given.socket.absolute(),
        cache_dir=given.cache_dir.absolute(),
        idle_exit=given.idle_exit or None,
        wait_lock=given.wait_lock,
        started_by_client=given.started_by_client,
        log_level=LEVELS[given.log_level],
    )


class Word:
    """Tells the client that started this daemon whether it is ready, or why not."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def say(self, message: dict[str, Any], *, last: bool = True) -> None:
        """Send it; after the last word nothing is sent. Nobody listening is fine."""
        address = self._address
        if last:
            self._address = None
        if not address:
            return
        folder = -1
        try:
            folder = os.open(os.path.dirname(address), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as mouth:
                mouth.connect(f"/proc/self/fd/{folder}/{os.path.basename(address)}")
                mouth.send(msgpack.packb(message))
        except OSError:
            pass
        finally:
            if folder >= 0:
                os.close(folder)


def main(argv: Sequence[str]) -> int:
    """Run the daemon until it is told to stop; its exit status."""
    settings = parse(argv)
    os.chdir("/")  # the daemon outlives the folder in which it was started
    word = Word(os.environ.pop("PKGC_NOTIFY", None))
    notifier = Notifier(os.environ.pop("NOTIFY_SOCKET", None))
    activated = listen_fds(os.environ)
    raise_file_limit()
    gc.set_threshold(
        50_000, 50, 100
    )  # many long-lived objects, few cycles: collecting costs more than it frees
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(live(settings, word, notifier, activated))
    except PkgcError as error:
        word.say({"ok": False, "error": error.to_wire()})
        sys.stderr.write(error_text(error, Style(False)))
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_FAILED


def loop_factory() -> Any:
    """uvloop's event loop where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def raise_file_limit() -> None:
    """As many descriptors as the hard limit allows: sockets, partial files and trees are open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass


async def live(
    settings: Settings, word: Word, notifier: Notifier, activated: dict[str, socket.socket]
) -> int:
    """Open everything, serve, close everything."""
    services = await Services.open(
        settings.cache_dir,
        wait_lock=settings.wait_lock,
        waiting=lambda: word.say({"waiting": True}, last=False),
    )
    try:
        records = log.set_up(
            settings.cache_dir / LOG,
            stderr=not settings.started_by_client,
            journal=bool(os.environ.get("JOURNAL_STREAM")),
            level=settings.log_level,
        )
    except OSError as error:
        await services.close()
        raise PkgcError(
            "cache-unusable", f"cannot write the log in {settings.cache_dir}: {error.strerror}"
        ) from error
    try:
        listener = adopt(next(iter(activated.values()))) if activated else listen(settings.socket)
        try:
            services.announce(listener.path)
            await serve(settings, services, listener, word, notifier)
        finally:
            await asyncio.to_thread(services.withdraw)
            listener.withdraw()
    finally:
        await services.close()
        log.event("stopped")
        records.stop()
    return 0


async def serve(
    settings: Settings, services: Services, listener: Listener, word: Word, notifier: Notifier
) -> None:
    """From READY to STOPPING."""
    hello = Hello(os.path.realpath(settings.cache_dir))
    server = Server(listener, hello, services.serve, settings.idle_exit)
    services.attach(server, listener.path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop, signal.Signals(number).name)
    log.event(
        "ready",
        pid=os.getpid(),
        version=__version__,
        socket=str(listener.path),
        cache=str(settings.cache_dir),
        activated=listener.activated,
    )
    word.say({"ok": True, "socket": str(listener.path), "pid": os.getpid()})
    notifier.send("READY=1", f"STATUS=serving {settings.cache_dir}")
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(watchdog(notifier, settings.cache_dir, server)),
            group.create_task(say_stopping(server, services, notifier)),
            group.create_task(services.background()),
        ]
        await server.run()
        for task in background:
            task.cancel()


async def say_stopping(server: Server, services: Services, notifier: Notifier) -> None:
    """As soon as the drain begins: STOPPING=1, and no client is sent here any more."""
    await server.stopping.wait()
    await asyncio.to_thread(services.withdraw)
    notifier.send("STOPPING=1", f"STATUS=finishing: {server.reason}")


async def watchdog(notifier: Notifier, cache_dir: Path, server: Server) -> None:
    """WATCHDOG=1 at half the period, and only after both the loop and a thread that asks the disk have moved.

    The thread is its own: those of the hands may be busy for minutes with good reason (an environment's lock,
    bytecode), and a daemon that works must not be killed for it. When the cache is gone the daemon leaves.
    """
    period = watchdog_period(os.environ)
    os.environ.pop("WATCHDOG_USEC", None)
    os.environ.pop("WATCHDOG_PID", None)
    if period is None or not notifier.active:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="pkgc-watchdog") as thread:
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(thread, os.stat, cache_dir)
            except OSError as error:
                server.stop(f"its cache cannot be looked at: {error.strerror}")
                return
            notifier.send("WATCHDOG=1")
            await asyncio.sleep(period)
