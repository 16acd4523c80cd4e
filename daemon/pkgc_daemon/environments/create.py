"""Creating a virtual environment that is either complete or not there; it installs nothing into it.

It is built in ``VENV/.pkgc-create`` by the base interpreter's own `venv` and moved into place, pyvenv.cfg
last: the directory is an environment from that rename on.  What a killed creation left behind is finished
or removed by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.modes import Modes
from pkgc_protocol.version import __version__

from .files import kernel_path
from .interpreter import probe_interpreter
from .running import BARE, PATIENCE, explain, run, transportable

#: Staging, and by its flock the lock of a creation.
STAGING = ".pkgc-create"
#: In the staging: everything is built, moving has begun.
_MOVING = ".moving"
#: What a directory may hold and still count as empty.
_IGNORED = frozenset({STAGING, ".lock", ".pkgc", "lost+found"})
_ERRNO = re.compile(r"^(?:\w+Error): \[Errno (\d+)\]", re.MULTILINE)
_DOING = "cannot create the environment"
_ELSEWHERE = "name another directory with --venv"


def create_environment(args: dict[str, Any]) -> dict[str, Any]:
    """Create a virtual environment without any packages (a hand).

    Args:
        args: ``python``: absolute path of the interpreter to base it on (of an environment: its base is
            taken); ``venv``: absolute path of the directory: missing, empty, or an environment already.
            Optional: ``environ``, ``timeout`` (seconds for each run of Python), ``umask`` (of whom it is
            made for; default: this process's).

    Returns:
        ``created``: what was moved into the directory (empty: it was an environment already);
        ``folders``: the directory and its parents as far as they were new, outermost first: who undoes the
        creation removes each of them only while nobody has put anything else into it;
        ``interpreter``: `probe_interpreter` of the environment's own Python.

    Raises:
        PkgcError: ``not-an-environment``: the directory holds something else; ``no-permission``,
            ``read-only``, ``disk-full``, ``io-error``; ``create-failed``: `venv` failed, with what it said;
            ``environment-busy``: another creation does not end; and those of `probe_interpreter`.  Nothing
            that was made is left behind.
    """
    venv = transportable(kernel_path(args["venv"]))
    timeout = float(args.get("timeout") or PATIENCE)
    options = {"timeout": timeout, "environ": args.get("environ")}
    if not _is_environment(venv):
        _check_usable(venv)
        base = _base_python(args["python"], options)
        try:
            modes = Modes(args.get("umask"))
            with _directory(venv, modes) as made, _staging(venv, timeout) as staging:
                if staging is not None:
                    _build(base, staging, venv, options, modes.umask)
                    moved = _move_in(staging, venv)
                    try:
                        interpreter = _probe(venv, options)
                    except BaseException:
                        _remove(moved)
                        raise
                    return {"created": moved, "folders": made, "interpreter": interpreter}
        except OSError as error:
            raise explain(error, _DOING, venv, hint=_ELSEWHERE) from error
    return {"created": [], "folders": [], "interpreter": _probe(venv, options)}


def _is_environment(venv: str) -> bool:
    return os.path.isfile(os.path.join(venv, "pyvenv.cfg"))


def is_vacant(venv: str, names: list[str]) -> bool:
    """Whether a directory that holds `names` may become an environment: it is empty, or a creation was
    killed while it moved its work into place, and the next one goes on with that.
    """
    if not set(names) - _IGNORED:
        return True
    return (
        STAGING in names
        and "pyvenv.cfg" not in names
        and os.path.exists(os.path.join(venv, STAGING, _MOVING))
    )


def _probe(venv: str, options: dict[str, Any]) -> dict[str, Any]:
    return probe_interpreter({"python": os.path.join(venv, "bin", "python"), **options})


def _base_python(python: str, options: dict[str, Any]) -> str:
    """`python`, or the interpreter that it was made from if it is in an environment itself."""
    folder = os.path.dirname(os.path.abspath(python))
    if any(os.path.isfile(os.path.join(place, "pyvenv.cfg")) for place in (folder, os.path.dirname(folder))):
        base: str = probe_interpreter({"python": python, **options})["base_executable"]
        return base
    return python


def _check_usable(venv: str) -> None:
    """Refuse a directory that holds something, unless it is what a killed creation left.

    Raises:
        PkgcError: ``not-an-environment``.
        OSError: it cannot be read.
    """
    try:
        present = os.listdir(venv)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise PkgcError(
            "not-an-environment", f"{venv} is a file", hint="name another directory with --venv"
        ) from error
    except OSError as error:
        raise explain(error, _DOING, venv, hint=_ELSEWHERE) from error
    others = sorted(set(present) - _IGNORED)
    # In this order: another creation may be moving its work into place at this moment.
    half_made = os.path.exists(os.path.join(venv, STAGING, _MOVING)) or _is_environment(venv)
    if others and not half_made:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        raise PkgcError(
            "not-an-environment",
            f"{venv} is not empty and not a virtual environment (it has no pyvenv.cfg)",
            context=f"it holds {shown}".encode("utf-8", "backslashreplace").decode(),
            hint="name another directory with --venv, or empty this one",
        )


@contextlib.contextmanager
def _directory(venv: str, modes: Modes) -> Iterator[list[str]]:
    """Make `venv` and its parents; yield those that were new, outermost first; remove them on failure."""
    missing: list[str] = []
    path = venv
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    made: list[str] = []
    try:
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # somebody else was faster: then it is theirs
                os.mkdir(folder)
                made.append(folder)
                modes.folder(folder)
        yield made
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # not empty: somebody else uses it
                os.rmdir(folder)
        raise


@contextlib.contextmanager
def _staging(venv: str, timeout: float) -> Iterator[str | None]:
    """Hold the staging directory, empty; None when there is an environment by now.

    Raises:
        PkgcError: ``environment-busy``.
        OSError: it cannot be made.
    """
    path = os.path.join(venv, STAGING)
    deadline = time.monotonic() + 2 * timeout
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another creation has just ended
        try:
            _lock(fd, venv, deadline)
            try:
                ours = os.stat(path).st_ino == os.fstat(fd).st_ino
            except FileNotFoundError:
                ours = False
            if not ours:
                if _is_environment(venv):
                    yield None
                    return
                continue
            # Without its pyvenv.cfg it is either moved completely, or not what a creation left.
            if all(os.path.exists(os.path.join(path, name)) for name in (_MOVING, "pyvenv.cfg")):
                _move_in(path, venv)
                yield None
                return
            for name in os.listdir(path):
                _remove([os.path.join(path, name)])
            if _is_environment(venv):
                os.rmdir(path)
                yield None
                return
            try:
                yield path
            except BaseException:
                _remove([path])
                raise
            return
        finally:
            os.close(fd)


def _lock(fd: int, venv: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                return  # a file system without locks: go on, as uv does
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise
        if time.monotonic() > deadline:
            raise PkgcError(
                "environment-busy",
                f"another process is creating {venv} and does not end",
                hint="end it and run the command again",
            )
        time.sleep(0.02)


@functools.cache
def _script() -> str:
    with open(os.path.join(os.path.dirname(__file__), "create_script.py"), encoding="utf-8") as file:
        return file.read()


def _build(python: str, staging: str, venv: str, options: dict[str, Any], umask: int) -> None:
    command = [python, *BARE, "-c", _script(), staging, venv, __version__]
    try:
        ran = run(command, umask=umask, **options)
    except TimeoutError as error:
        raise PkgcError("create-failed", f"{_DOING} {venv}: {python} gave {error}") from error
    except OSError as error:
        raise PkgcError(
            "python-not-found",
            f"{python} cannot be run: {error.strerror}",
            hint="name a Python with --python",
        ) from error
    if ran.status == 0:
        return
    told = _ERRNO.findall(ran.errors)
    if told:
        number = int(told[-1])
        raise explain(OSError(number, os.strerror(number), venv), _DOING, venv, hint=_ELSEWHERE)
    without = "No module named 'venv'" in ran.errors
    raise PkgcError(
        "create-failed",
        f"{_DOING} {venv} with {python}",
        context=ran.complaint,
        hint="this Python lacks its venv module: install it (Debian: python3-venv)" if without else None,
    )


def _move_in(staging: str, venv: str) -> list[str]:
    """Move what is built (or the rest of it) into place, pyvenv.cfg last; return the new paths.

    Raises:
        OSError: what was moved is moved back.
    """
    marker = os.path.join(staging, _MOVING)
    if not os.path.lexists(marker):
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    names = sorted(set(os.listdir(staging)) - {_MOVING, "pyvenv.cfg"})
    moved: list[str] = []
    try:
        for name in (*names, "pyvenv.cfg"):
            os.rename(os.path.join(staging, name), os.path.join(venv, name))
            moved.append(name)
    except BaseException:
        for name in reversed(moved):
            os.rename(os.path.join(venv, name), os.path.join(staging, name))
        raise
    os.unlink(marker)
    os.rmdir(staging)
    return [os.path.join(venv, name) for name in moved]


def _remove(paths: list[str]) -> None:
    """Remove files and trees; what cannot be removed stays, since another error is on its way."""
    for path in reversed(paths):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)
