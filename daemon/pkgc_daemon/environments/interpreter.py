"""What a Python interpreter is: asking one (the hand `probe_interpreter`), and building `Interpreter`.

The hand runs in the client's world and answers with plain facts; `interpreter_from_wire` judges them and
computes the tags in the daemon.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Interpreter

from .files import not_a_file
from .find import find_python
from .running import BARE, OLDEST, PATIENCE, Ran, explain, run, too_old, transportable
from .tags import TagFacts, tags_of

__all__ = ["find_python", "interpreter_from_wire", "interpreter_key", "probe_interpreter"]

#: Changes when a probe learns to tell more, so that remembered answers of older versions do not count.
_GENERATION = 1
_TEXTS = (
    "executable",
    "version",
    "implementation",
    "cache_tag",
    "prefix",
    "base_prefix",
    "pycache_magic",
)
_PATHS = ("purelib", "platlib", "scripts", "data", "include")
_MARKERS = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
)


def interpreter_key(path: str) -> list[str | int]:
    """What an answer of the interpreter at `path` depends on: equal keys, equal answers.

    The path as named, the real file and its identity, the pyvenv.cfg beside it, and the running kernel and
    C library (markers and tags tell of them).  Costs a few system calls.

    Raises:
        PkgcError: ``python-not-found``; ``not-an-environment``: pyvenv.cfg is no regular file.
    """
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError as error:
        raise _missing(path) from error
    kernel = os.uname()
    key: list[str | int] = [
        _GENERATION,
        path,
        real,
        found.st_mtime_ns,
        found.st_size,
        found.st_ino,
        kernel.release,
        kernel.version,
        kernel.machine,
        _libc(),
    ]
    folder = os.path.dirname(path)
    for place in (folder, os.path.dirname(folder)):
        config = os.path.join(place, "pyvenv.cfg")
        try:
            found = os.stat(config)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise not_a_file(config)  # the interpreter would wait for a writer
        return [*key, config, found.st_mtime_ns, found.st_size, found.st_ino]
    return key


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # not glibc
        return ""


def _missing(path: str) -> PkgcError:
    if os.path.islink(path):
        return PkgcError(
            "python-not-found",
            f"{path} points to {os.path.realpath(path)}, which does not exist",
            context="the Python that the environment was made with has been removed or replaced",
            hint="remove the environment and run the command again, or name a Python with --python",
        )
    return PkgcError(
        "python-not-found", f"there is no Python interpreter at {path}", hint="name one with --python"
    )


@functools.cache
def _script() -> str:
    with open(os.path.join(os.path.dirname(__file__), "probe_script.py"), encoding="utf-8") as file:
        return file.read()


def probe_interpreter(args: dict[str, Any]) -> dict[str, Any]:
    """Ask an interpreter what it is (a hand).

    Args:
        args: ``python``: absolute path.  Optional: ``timeout`` (seconds), ``environ`` (variables to start
            from instead of this process's; PYTHON* never count), ``known`` (the ``key`` of a remembered
            answer).

    Returns:
        The facts that `interpreter_from_wire` reads, and: ``base_executable``, the interpreter outside of
        any environment; ``key``, what `interpreter_key` gave before the question.  If that equals ``known``,
        nothing is run and the answer is ``{"key": …, "unchanged": True}``.

    Raises:
        PkgcError: ``python-not-found``, ``probe-failed`` (with what the interpreter said),
            ``python-too-old``, ``path-not-unicode``, ``no-permission``.
    """
    path = transportable(args["python"])
    timeout, environ = float(args.get("timeout") or PATIENCE), args.get("environ")
    key = interpreter_key(path)
    if key == args.get("known"):
        return {"key": key, "unchanged": True}
    # The word is unguessable, so that whatever else the interpreter prints cannot be taken for its answer.
    word = os.urandom(8).hex()
    try:
        ran = run([path, *BARE, "-c", _script(), word], timeout=timeout, environ=environ)
    except TimeoutError as error:
        raise PkgcError("probe-failed", f"{path} gave no answer within {timeout:g} s") from error
    except FileNotFoundError as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise explain(error, "cannot run", path) from error
    except OSError as error:
        raise PkgcError("probe-failed", f"{path} cannot be run: {error.strerror}") from error
    pieces = ran.output.split(word)
    if ran.status != 0 or len(pieces) != 3:
        raise _too_old(path, timeout, environ) or _failed(path, ran)
    try:
        facts = json.loads(pieces[1])
        json.dumps(facts, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise PkgcError(
            "path-not-unicode",
            f"{path} is in, or refers to, a directory whose name is not valid UTF-8",
            hint="rename the directory",
        ) from error
    except ValueError as error:
        raise _failed(path, ran) from error
    if not isinstance(facts, dict):
        raise _failed(path, ran)
    return {**facts, "key": key}


def _failed(path: str, ran: Ran) -> PkgcError:
    return PkgcError(
        "probe-failed",
        f"{path} could not be asked what it is (exit status {ran.status})",
        context=ran.complaint,
        hint="check that it is a working Python 3 interpreter",
    )


def _too_old(path: str, timeout: float, environ: Mapping[str, str] | None) -> PkgcError | None:
    """The error for a Python that cannot even run the probe because of its age, if that is the reason."""
    question = "import sys; sys.stdout.write('<%d.%d.%d>' % sys.version_info[:3])"
    try:
        ran = run([path, "-E", "-S", "-c", question], timeout=timeout, environ=environ)
        version = ran.output.partition("<")[2].partition(">")[0]
        old = bool(version) and tuple(map(int, version.split(".")))[:2] < OLDEST
    except (OSError, ValueError):
        return None
    return too_old(path, version) if old else None


def interpreter_from_wire(data: Mapping[str, Any]) -> Interpreter:
    """Build an `Interpreter` from the answer of `probe_interpreter`, which may come from another user.

    Raises:
        PkgcError: ``probe-failed``: the map is not such an answer; ``python-too-old``.
    """
    try:
        texts = {name: _text(data[name]) for name in _TEXTS}
        if not texts["executable"] or not texts["prefix"]:
            raise ValueError("it does not know where it is")
        managed = data["externally_managed"]
        facts = TagFacts.from_wire(data["tags"])
        if facts.version < OLDEST:
            raise too_old(texts["executable"], texts["version"])
        return Interpreter(
            **texts,
            markers={name: _text(data["markers"][name]) for name in _MARKERS},
            tags=tags_of(facts),
            paths={name: _text(data["paths"][name]) for name in _PATHS},
            externally_managed=None if managed is None else _text(managed),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise PkgcError(
            "probe-failed",
            "the interpreter's description of itself is not complete",
            context=f"{type(error).__name__}: {error}",
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, found {type(value).__name__}")
    return value
