"""Finding the interpreter that a person asked for (the hand `find_python`); it does not describe it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pkgc_daemon.errors import InputError, PkgcError

from .files import read_start
from .running import BARE, OLDEST, PATIENCE, explain, run, too_old, transportable

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(t?)\Z")
_QUESTION = (
    "import sys, json, sysconfig;"
    "print('\\n<<' + json.dumps([sys.executable, list(sys.version_info[:3]),"
    " bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]) + '>>')"
)
_ANSWER = re.compile(r"<<(\[.*\])>>")
_MAX_REMEMBERED = 256

_remembered: dict[tuple[str, int, int, int], Answer] = {}
_remembering = threading.Lock()


class Answer(NamedTuple):
    """What an interpreter said of itself."""

    executable: str
    version: tuple[int, int, int]
    free_threaded: bool


def find_python(args: dict[str, Any]) -> dict[str, Any]:
    """Find an interpreter (a hand).

    Args:
        args: ``request``: a version (``3.12``, ``3.12.1``, ``3.13t``), a name (``python3.12``, ``pypy3``), a
            path to an interpreter or to the directory of an environment or installation, or None for
            python3, then python.  ``path``: the value of PATH.  Optional: ``cwd`` (for relative paths),
            ``environ`` (variables to run candidates with), ``timeout`` (seconds for each of them).

    Returns:
        ``{"python": absolute path}``.  Shims (pyenv, asdf: scripts on PATH) are followed to what they run,
        so that what is remembered of an interpreter belongs to it.

    Raises:
        PkgcError: ``python-not-found`` (with every candidate and why it was passed over),
            ``python-too-old``, ``no-permission``.
        InputError: ``bad-python-request``.
    """
    request: str | None = args.get("request")
    search = _Search(args)
    if request is None:
        return search.first(["python3", "python"], "Python")
    if not request.strip() or "\0" in request:
        raise InputError("bad-python-request", f"--python {request!r} is no version, name or path")
    if os.sep in request or request in (".", "..") or request.startswith("~"):
        return search.at(request)
    version = _VERSION.match(request)
    if version is None:
        return search.first([request], request)
    major, minor, micro, threads = version.groups()
    names = ["python" + major, "python"]
    if minor is not None:
        names.insert(0, f"python{major}.{minor}{threads}")
    wanted = tuple(int(number) for number in (major, minor, micro) if number is not None)
    return search.first(names, f"Python {request}", wanted, free_threaded=bool(threads))


class _Search:
    """One search: where to look, and what was passed over."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        self._cwd: str = args.get("cwd") or "/"
        self._environ: Mapping[str, str] | None = args.get("environ")
        self._timeout = float(args.get("timeout") or PATIENCE)
        self._folders = [
            os.path.join(self._cwd, folder)
            for folder in (args.get("path") or "").split(os.pathsep)
            if folder  # an empty entry means the working directory: nobody wants python from there
        ]
        self._passed: list[str] = []
        self._old: PkgcError | None = None

    def first(
        self, names: list[str], what: str, wanted: tuple[int, ...] = (), *, free_threaded: bool = False
    ) -> dict[str, Any]:
        """The first interpreter of these names on PATH that runs and has the wanted version."""
        for path in self._on_path(names):
            answer = self._ask(path)
            if answer is None:
                continue
            version = ".".join(map(str, answer.version))
            if answer.version[: len(wanted)] != wanted or (wanted and answer.free_threaded != free_threaded):
                threads = " (free-threaded)" if answer.free_threaded else ""
                self._passed.append(f"{path}: is Python {version}{threads}")
            elif answer.version < OLDEST:
                self._old = too_old(path, version)
                self._passed.append(f"{path}: is Python {version}")
            else:
                return {"python": transportable(answer.executable if _is_script(path) else path)}
        if self._old is not None:
            raise self._old
        raise PkgcError(
            "python-not-found",
            f"{what} was not found",
            context="\n".join(self._passed or [f"looked for {', '.join(names)} on PATH"]),
            hint="name an interpreter with --python PATH",
        )

    def at(self, request: str) -> dict[str, Any]:
        """The interpreter at a path, or in the directory of an environment or installation."""
        home = (os.environ if self._environ is None else self._environ).get("HOME") or "~"
        if request == "~" or request.startswith("~/"):
            request = home + request[1:]
        path = os.path.normpath(os.path.join(self._cwd, request))
        if os.path.isdir(path):
            for name in ("bin/python", "bin/python3", "python", "python3"):
                inside = os.path.join(path, name)
                if os.path.isfile(inside):
                    path = inside
                    break
            else:
                raise PkgcError(
                    "python-not-found",
                    f"{path} is a directory without bin/python",
                    hint="name an interpreter with --python",
                )
        if not os.path.exists(path):
            raise PkgcError(
                "python-not-found", f"--python {request}: {path} does not exist", hint="check the path"
            )
        answer = self._ask(path)
        if answer is None:
            raise PkgcError(
                "python-not-found",
                f"--python {request}: {path} is no Python interpreter that works",
                context="\n".join(self._passed),
            )
        if answer.version < OLDEST:
            raise too_old(path, ".".join(map(str, answer.version)))
        return {"python": transportable(answer.executable if _is_script(path) else path)}

    def _on_path(self, names: list[str]) -> Iterator[str]:
        for name in names:
            for folder in self._folders:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    yield path

    def _ask(self, path: str) -> Answer | None:
        """What `path` says it is; None (and a line in the list of the passed over) if it does not work."""
        try:
            found = os.stat(path)
        except OSError as error:
            self._passed.append(f"{path}: {error.strerror}")
            return None
        key = (path, found.st_mtime_ns, found.st_size, found.st_ino)
        with _remembering:
            if key in _remembered:
                return _remembered[key]
        try:
            ran = run(
                [path, *BARE, "-c", _QUESTION],
                timeout=self._timeout,
                environ=self._environ,
                cwd=self._cwd if os.path.isdir(self._cwd) else None,
            )
        except TimeoutError as error:
            self._passed.append(f"{path}: {error}")
            return None
        except OSError as error:
            self._passed.append(explain(error, "cannot run", path).message)
            return None
        answer = _parse(ran.output) if ran.status == 0 else None
        if answer is None:
            self._passed.append(f"{path}: {ran.complaint.splitlines()[-1]}")
        elif not _is_script(path):  # what a shim runs may change from one call to the next
            with _remembering:
                while len(_remembered) >= _MAX_REMEMBERED:
                    del _remembered[next(iter(_remembered))]
                _remembered[key] = answer
        return answer


def _parse(output: str) -> Answer | None:
    import json

    match = _ANSWER.search(output)
    if match is None:
        return None
    try:
        executable, (major, minor, micro), threads = json.loads(match.group(1))
        return Answer(str(executable), (int(major), int(minor), int(micro)), bool(threads))
    except (ValueError, TypeError):
        return None


def _is_script(path: str) -> bool:
    try:
        return read_start(path, 2) == b"#!"
    except OSError:  # executable, but not readable: not a script that could run
        return False
