"""The hands, by verb: what is done in a client's world, by the daemon itself or by the client.

Plain synchronous functions of msgpack-able arguments.  They load what they need when they are called,
so that a client which acts as hands starts quickly.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from .errors import InputError

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
Hand = Callable[[dict[str, Any], Progress, Cancelled], dict[str, Any]]

#: Bytes that one file of input may have.
MAX_INPUT = 24 * 1024 * 1024


def read_file(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """Read input files.

    Args:
        args: ``paths``: absolute paths, or '-' for standard input; ``optional``: a file that does not
            exist (or may not be read) gives None instead of an error.

    Raises:
        InputError: `file-not-found`, `file-unreadable`, `file-too-large`.
    """
    optional = bool(args.get("optional"))
    return {"files": [_read_one(path, optional=optional) for path in args["paths"]]}


def _read_one(path: str, *, optional: bool) -> bytes | None:
    try:
        if path == "-":
            return _read_all(0, "standard input")
        # O_NONBLOCK: opening a FIFO without a writer must not hang a thread of the daemon
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if optional and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InputError("file-not-found", f"{path}: no such file") from error
        raise InputError("file-unreadable", f"{path}: cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            if optional:
                return None
            raise InputError("file-unreadable", f"{path}: is a directory", hint="name a file in it")
        first = _first_bytes(fd, path) if stat.S_ISFIFO(mode) else b""
        os.set_blocking(fd, True)
        return first + _read_all(fd, path)
    finally:
        os.close(fd)


def _first_bytes(fd: int, path: str) -> bytes:
    """What can be had at once from a pipe that was opened without waiting for a writer.

    A pipe without one would read as an empty file, and an empty lock empties an environment.

    Raises:
        InputError: `file-unreadable`: nobody writes, nor has written.
    """
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    written = bool(poll.poll(0))  # data, or the end of what somebody wrote
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""  # somebody is there, and has not written yet
    if not data and not written:
        raise InputError(
            "file-unreadable",
            f"{path}: is a pipe into which nobody writes",
            hint="pipe into `pkgc sync -` instead",
        )
    return data


def _read_all(fd: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
            size += len(part)
            if size > MAX_INPUT:
                raise InputError("file-too-large", f"{name}: over {MAX_INPUT >> 20} MiB")
    except OSError as error:
        raise InputError("file-unreadable", f"{name}: cannot be read: {error.strerror}") from error
    return b"".join(parts)


def read_variables(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """The values of the variables that a requirements file names (R6); unset ones are absent.

    Args:
        args: ``names``: list of variable names.
    """
    return {"values": {name: os.environ[name] for name in args["names"] if name in os.environ}}


def paths_exist(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """Which paths exist.

    Args:
        args: ``paths``: absolute paths.
    """
    return {"present": [os.path.exists(path) for path in args["paths"]]}


def locate_target(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """What stands at the place of an environment, and what an answer of its interpreter depends on.

    Args:
        args: ``venv``: absolute path, as the person named it.

    Returns:
        ``venv``: its one path, on the way to which there is no symbolic link and no ``..``; ``real``: the
        same, and it is none itself; ``kind``:
        ``missing`` (nothing, or an empty folder), ``venv``, ``other``; ``python``: its interpreter, or None;
        ``key``: `environments.interpreter.interpreter_key` of it; ``shape``: `environments.shapes.shape_of`;
        ``obstacle``: the error of every attempt to
        change or make it, when that shows without trying, or None.

    Raises:
        InputError: `not-an-environment`.
        PkgcError: `no-permission`, … : it cannot be looked at; `python-not-found`: its Python is gone.
    """
    from .environments.interpreter import interpreter_key
    from .environments.running import explain
    from .environments.shapes import shape_of

    named: str = args["venv"]
    venv = _real_place(named)
    real = os.path.realpath(venv)
    found: dict[str, Any] = {"venv": venv, "real": real, "kind": "missing", "python": None, "key": None}
    try:
        names = os.listdir(venv)
    except FileNotFoundError:
        return found | {"obstacle": _obstacle(named, os.path.dirname(venv), "create")}
    except PermissionError as error:
        raise explain(error, "cannot look at the environment", named) from error
    except OSError as error:
        raise InputError(
            "not-an-environment", f"{named} is not a virtual environment: {error.strerror}"
        ) from error
    found["obstacle"] = _obstacle(named, venv, "change")
    if "pyvenv.cfg" not in names and _is_vacant(venv, names):
        return found
    python = next(
        (path for name in ("python", "python3") if os.path.lexists(path := f"{venv}/bin/{name}")), None
    )
    found["kind"] = "venv" if "pyvenv.cfg" in names else "other"
    if python is None:
        return found
    return found | {
        "python": python,
        "key": interpreter_key(python),
        "shape": shape_of(venv) if found["kind"] == "venv" else None,
    }


def _real_place(path: str) -> str:
    """`path` with its parent's symbolic links and ``..`` resolved as the kernel does; the last name stays."""
    parent, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(parent), name)


def _obstacle(named: str, folder: str, doing: str) -> dict[str, Any] | None:
    """Why nothing can be written in `folder` (if it is missing: in the nearest one above), as an error."""
    from .environments.running import explain

    while folder != "/" and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    may = os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if may or not os.path.isdir(folder):
        return None
    try:
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    except OSError:
        read_only = 0
    number = errno.EROFS if read_only else errno.EACCES
    error = OSError(number, os.strerror(number), folder)
    return explain(error, f"cannot {doing} the environment", named).to_wire()


def _is_vacant(venv: str, names: list[str]) -> bool:
    from .environments.create import is_vacant

    return is_vacant(venv, names)


def find_python(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """See `environments.find.find_python`; ``key`` of what was found comes with it."""
    from .environments.find import find_python as hand
    from .environments.interpreter import interpreter_key

    found = hand(args)
    return found | {"key": interpreter_key(found["python"])}


def probe_interpreter(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """See `environments.interpreter.probe_interpreter`."""
    from .environments.interpreter import probe_interpreter as hand

    return hand(args)


def scan_environment(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """See `environments.scan.scan_environment`."""
    from .environments.watched import scan_environment as hand

    return hand(args)


def apply_plan(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `installing.apply.apply_plan`."""
    from .installing.apply import apply_plan as hand

    return hand(args, progress, cancelled)


def begin_build(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """See `building.work.begin_build`."""
    from .building.work import begin_build as hand

    return hand(args)


def end_build(args: dict[str, Any], _progress: Progress, _cancelled: Cancelled) -> dict[str, Any]:
    """See `building.work.end_build`."""
    from .building.work import end_build as hand

    return hand(args)


def prepare_source(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `building.prepare.prepare_source`."""
    from .building.prepare import prepare_source as hand

    return hand(args, progress, cancelled)


def run_build(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `building.hooks.run_build`."""
    from .building.hooks import run_build as hand

    return hand(args, progress, cancelled)


def resolve_git(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `building.git.resolve_git`."""
    from .building.git import resolve_git as hand

    return hand(args, progress, cancelled)


def checkout_git(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `building.git.checkout_git`."""
    from .building.git import checkout_git as hand

    return hand(args, progress, cancelled)


def inspect_directory(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `building.directories.inspect_directory`."""
    from .building.directories import inspect_directory as hand

    return hand(args, progress, cancelled)


def verify_distributions(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """See `environments.verify.verify_distributions`."""
    from .environments.verify import verify_distributions as hand

    return hand(args, progress, cancelled)


HANDS: dict[str, Hand] = {
    "read_file": read_file,
    "read_variables": read_variables,
    "paths_exist": paths_exist,
    "locate_target": locate_target,
    "find_python": find_python,
    "probe_interpreter": probe_interpreter,
    "scan_environment": scan_environment,
    "apply_plan": apply_plan,
    "begin_build": begin_build,
    "end_build": end_build,
    "prepare_source": prepare_source,
    "run_build": run_build,
    "resolve_git": resolve_git,
    "checkout_git": checkout_git,
    "inspect_directory": inspect_directory,
    "verify_distributions": verify_distributions,
}
