"""Commands: from an `invoke` frame to an exit status; every failure becomes an error that the user reads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pkgc_daemon.environments.scan import installed_from_wire
from pkgc_daemon.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, InputError, PkgcError
from pkgc_daemon.vocabulary import Installed
from pkgc_protocol.places import config_file

from .calls import (
    Answer,
    CacheCall,
    Call,
    DaemonCall,
    FetchCall,
    ListCall,
    StatusCall,
    SyncCall,
    Terminal,
    VersionCall,
    WhyCall,
)
from .cli import color_choice, parse
from .context import Context
from .documents import empty_result
from .hostcalls import World
from .log import event
from .output import Output
from .syncing import fetch, sync
from .tables import (
    render_cache_clean,
    render_cache_dir,
    render_cache_list,
    render_cache_size,
    render_cache_verify,
    render_list,
    render_status,
)
from .values import absolute
from .why import why

if TYPE_CHECKING:
    from .services import Services
    from .session import Session

#: Seconds between two updates of what is shown while a command works.
TICK = 0.1


def warm_up() -> None:
    """Do once what is slow the first time: build the parser of the usual command."""
    parse(["sync", "requirements.txt"], {}, "/", Terminal())


async def run(services: Services, session: Session, request: Mapping[str, Any]) -> int:
    """Carry out one invocation; its exit status. Only cancellation passes through."""
    started = time.perf_counter()
    argv = [str(word) for word in request["argv"]]
    env = {str(name): str(value) for name, value in request["env"].items()}
    terminal = _terminal(request["terminal"])
    force_client = env.get("PKGC_FORCE_HOST_CALLS", "") not in ("", "0")
    world = World(session.peer, session, services.executor, env, force_client=force_client)
    output: Output | None = None
    status = EXIT_FAILED
    try:
        try:
            cwd = _checked(argv, env, request["cwd"])
            path = absolute(config_file(env), cwd, env)
            config = await services.config(world, path)
            call = parse(argv, env, cwd, terminal, config.options, config_file=path)
        except PkgcError as error:
            output = Output(
                session,
                terminal,
                color=color_choice(None, env),
                output_format="json" if _wants_json(argv, env) else "text",
            )
            output.document_parts(empty_result(argv[0] if argv else ""))
            output.error(error)
            status = error.exit_status
            return status
        if isinstance(call, Answer):
            session.write(call.stream, call.text)
            status = call.exit
            return status
        output = Output(
            session,
            terminal,
            color=call.display.color,
            verbosity=call.display.verbosity,
            output_format=call.display.output_format,
            progress=call.display.progress,
        )
        output.document_parts(empty_result(argv[0] if argv else ""))
        context = Context(services, world, output, env, config, _umask(request.get("umask")))
        status = await _guarded(context, call)
        return status
    except asyncio.CancelledError:
        status = EXIT_INTERRUPTED
        if output is not None:
            output.error(PkgcError("interrupted", "interrupted; nothing is left half-done"))
        raise
    finally:
        if output is not None:
            output.close()
        event(
            "call",
            command=" ".join(argv[:2]) if argv[:1] in (["cache"], ["daemon"]) else " ".join(argv[:1]),
            pid=session.client_pid,
            exit=status,
            seconds=round(time.perf_counter() - started, 6),
        )


async def _guarded(context: Context, call: Call) -> int:
    """Run the command with a ticker beside it; errors are said, not raised."""
    ticker = asyncio.create_task(_tick(context.output))
    try:
        return await _dispatch(context, call)
    except PkgcError as error:
        context.output.error(error)
        return error.exit_status
    except asyncio.CancelledError:
        raise
    except Exception as error:
        event("internal-error", logging.ERROR, exc=error)
        context.output.error(
            PkgcError(
                "internal-error",
                f"{type(error).__name__}: {error}",
                hint="this is a bug of pkgc; `pkgc daemon logs` has the traceback",
            )
        )
        return EXIT_FAILED
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)


async def _tick(output: Output) -> None:
    while True:
        await asyncio.sleep(TICK)
        output.tick()


async def _dispatch(context: Context, call: Call) -> int:
    match call:
        case SyncCall():
            return await sync(context, call)
        case FetchCall():
            return await fetch(context, call)
        case ListCall():
            return await list_packages(context, call)
        case CacheCall():
            return await cache(context, call)
        case WhyCall():
            return await why(context, call)
        case StatusCall() | DaemonCall(action="status"):
            context.output.show(await context.services.status(), render_status)
            return 0
        case VersionCall():
            context.output.say(f"pkgc {context.services.version}")
            return 0
    raise PkgcError("usage", "this command belongs to the client", exit_status=EXIT_USAGE)


async def list_packages(context: Context, call: ListCall) -> int:
    """`pkgc list`: what an environment holds, and where it came from."""
    target = await context.services.targets.target(context.world, call.venv, None, context.env, call.cwd)
    if not target.exists:
        raise PkgcError(
            "no-environment",
            f"there is no environment at {call.venv}",
            hint="name one with --venv, or make one with `pkgc sync`",
        )
    paths = target.interpreter.paths
    scan = await context.world.do(
        "scan_environment",
        {"prefix": target.interpreter.prefix, "purelib": paths["purelib"], "platlib": paths["platlib"]},
    )
    if scan.get("interrupted"):
        context.output.warning(
            "a change of this environment was interrupted; the next sync finishes or undoes it",
            "interrupted-change",
        )
    packages = [_package(one) for one in sorted(installed_from_wire(scan), key=lambda one: one.name)]
    data = {"venv": call.venv, "python": target.interpreter.version, "packages": packages}
    context.output.show(data, render_list)
    return 0


def _package(one: Installed) -> dict[str, Any]:
    origin: dict[str, Any] | None = None
    if one.origin is not None:
        origin = {"kind": one.origin.kind, "url": one.origin.url}
        if one.origin.index is not None:
            origin["index"] = one.origin.index
    sha256 = next((digest.hex for digest in one.hashes if digest.algorithm == "sha256"), None)
    return {
        "name": one.name,
        "version": one.version,
        "installer": one.installer,
        "sha256": sha256,
        "origin": origin,
        "damaged": one.damaged,
    }


async def cache(context: Context, call: CacheCall) -> int:
    """`pkgc cache dir|size|list|verify|clean`."""
    store, output = context.services.store, context.output
    where = str(context.services.cache_dir)
    if call.action == "dir":
        output.show({"cache": where}, render_cache_dir)
    elif call.action == "size":
        output.show({"cache": where, **await store.size()}, render_cache_size)
    elif call.action == "list":
        output.show({"cache": where, "artifacts": await store.listing()}, render_cache_list)
    elif call.action == "clean":
        output.show(await store.clean(call.names), render_cache_clean, news=True)
    else:
        started = time.perf_counter()
        report = await store.verify(True, _VerifyProgress(output))
        output.finished("verify")
        output.show(report | {"seconds": time.perf_counter() - started}, render_cache_verify)
        if report["fixed"] < len(report["damaged"]):
            raise PkgcError("damaged-cache", "the cache has damage that could not be healed")
    return 0


class _VerifyProgress:
    """Shows the bytes that were hashed."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._done = 0
        self._begun = False

    def __call__(self, done: int, total: int) -> None:
        if not self._begun:
            self._begun = True
            self._output.started("verify", "the cache", total, verb="Verifying", past="Verified")
        self._output.advanced("verify", done - self._done)
        self._done = done


def _terminal(given: Mapping[str, Any]) -> Terminal:
    def number(key: str, default: int) -> int:
        value = given.get(key)
        return value if isinstance(value, int) and 0 < value < 10_000 else default

    return Terminal(
        stdin=given.get("stdin") is True,
        stdout=given.get("stdout") is True,
        stderr=given.get("stderr") is True,
        columns=number("columns", 80),
        rows=number("rows", 24),
    )


def _checked(argv: list[str], env: Mapping[str, str], cwd: str) -> str:
    """The working directory, when nothing of the request holds what no path can hold.

    Raises:
        InputError: ``usage``.
    """
    if any("\0" in text for text in (cwd, *argv, *env.values())):
        raise InputError("usage", "an argument, a variable or the working directory holds a NUL character")
    if cwd and not cwd.startswith("/"):
        raise InputError("usage", f"the working directory {cwd} is not absolute")
    return cwd


def _umask(given: object) -> int | None:
    return given if isinstance(given, int) and 0 <= given <= 0o777 else None


def _wants_json(argv: list[str], env: Mapping[str, str]) -> bool:
    """Whether a command line that could not be understood asked for JSON, as far as it can be told."""
    asked = [after for word, after in pairwise(argv) if word == "--output-format"]
    asked += [word.partition("=")[2] for word in argv if word.startswith("--output-format=")]
    return (asked or [env.get("PKGC_OUTPUT_FORMAT", "")])[-1] == "json"
