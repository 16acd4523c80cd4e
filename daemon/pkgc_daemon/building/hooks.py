"""The hand `run_build`: one hook of a build backend (PEP 517, PEP 660), in a process of its own.

Backends are code of others.  They get a session without a terminal, the caller's variables without those that
would change which Python code runs, and bounds: time, and space for what they print.  What they answer is
checked.  It knows nothing of where sources come from and what is done with the wheel.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import stat
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pkgc_daemon.building import lifeline
from pkgc_daemon.building.work import LOG, check_work
from pkgc_daemon.errors import EXIT_INTERRUPTED, PkgcError
from pkgc_daemon.redaction import redact_text

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Seconds that one hook may take.
TIMEOUT = 3600.0
#: Bytes of output that are kept; builds go on when they print more.
MAX_LOG = 32 * 1024 * 1024
#: Lines of the output that an error shows, and bytes from which they are taken.
TAIL_LINES, TAIL_BYTES = 60, 64 * 1024
#: Seconds between two looks whether a hook shall stop.
_POLL = 0.1
#: Seconds between two reports of progress.
_REPORT = 0.5
#: Seconds for the last output of a hook that has ended but whose children still hold its pipe.
_DRAIN = 0.5

_REQUIRES = ("get_requires_for_build_wheel", "get_requires_for_build_editable")
_BUILDS = ("build_wheel", "build_editable")
_DOING = {
    "get_requires_for_build_wheel": "asking the build backend what it requires",
    "get_requires_for_build_editable": "asking the build backend what it requires",
    "build_wheel": "building a wheel",
    "build_editable": "building an editable wheel",
}
#: Variables that change which Python code runs, and those of an outer build.
_LEAKING = frozenset(
    {
        "PYTHONBREAKPOINT",
        "PYTHONCASEOK",
        "PYTHONEXECUTABLE",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "PYTHONPATH",
        "PYTHONPLATLIBDIR",
        "PYTHONPYCACHEPREFIX",
        "PYTHONSAFEPATH",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "VIRTUAL_ENV",
        "_PYPROJECT_HOOKS_BACKEND_PATH_JSON",
        "_PYPROJECT_HOOKS_BUILD_BACKEND",
        "__PYVENV_LAUNCHER__",
    }
)


def run_build(args: dict[str, Any], progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
    """Run one hook (a hand).

    Args:
        args: ``work``: of `begin_build`; ``source``: the directory to build; ``python``: whose environment
            has the backend; ``path``: its scripts folder; ``project``: of `building.project`; ``hook``: one
            of ``get_requires_for_build_wheel``, ``get_requires_for_build_editable``, ``build_wheel``,
            ``build_editable``; ``settings``: [key, value] pairs; ``timeout``: seconds, or None for `TIMEOUT`;
            optional ``label``: what is built, for messages.
        progress: called now and then with the number of lines printed, and 0.
        cancelled: asked several times a second; then the hook and all that it started are killed.

    Returns:
        ``requires``: PEP 508 texts, or ``wheel``: absolute path of a file in ``work``/dist.

    Raises:
        PkgcError: ``build-failed`` with the end of the output as context, ``build-timeout``,
            ``editable-unsupported``, ``interrupted``, ``not-a-work-folder``.
    """
    from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller, HookMissing, UnsupportedOperation

    work = check_work(args["work"])
    hook: str = args["hook"]
    if hook not in _DOING:
        raise PkgcError("build-failed", f"there is no build hook {hook!r}")
    project: Mapping[str, Any] = args["project"]
    label = str(args.get("label") or project.get("name") or args["source"])
    given = args.get("timeout")
    runner = _Runner(
        work,
        hook,
        _environment(os.environ, args["path"]),
        TIMEOUT if given is None else float(given),
        progress,
        cancelled,
    )
    failing = _Failing(label, hook, runner)
    try:
        caller = BuildBackendHookCaller(
            args["source"],
            project["backend"],
            backend_path=project.get("backend_path") or None,
            runner=runner,
            python_executable=args["python"],
        )
        kwargs: dict[str, Any] = {"config_settings": config_settings(args.get("settings") or ())}
        if hook in _BUILDS:
            dist = os.path.join(work, "dist")
            os.makedirs(dist, mode=0o700, exist_ok=True)
            kwargs["wheel_directory"] = dist
        answer = getattr(caller, hook)(**kwargs)
    except _HookFailed as error:
        raise failing(error.why, error.hint) from error
    except _HookTimeout as error:
        raise failing.timeout() from error
    except BackendUnavailable as error:
        raise failing.unavailable(project["backend"], error.traceback or str(error)) from error
    except HookMissing as error:
        if hook != "build_editable":
            raise failing(f"the build backend has no hook {error.hook_name}") from error
        raise PkgcError(
            "editable-unsupported",
            f"{label}: its build backend {project['backend']} cannot make editable installations (PEP 660)",
            hint="install it without -e, or use a newer build backend (setuptools: version 64 or later)",
        ) from error
    except UnsupportedOperation as error:
        raise failing("the build backend does not support it") from error
    except (OSError, ValueError) as error:
        # A backend-path outside of the source, no answer at all, or one that is not JSON.
        raise failing(f"{type(error).__name__}: {error}") from error
    if hook in _REQUIRES:
        return {"requires": _texts(answer, failing)}
    return {"wheel": _wheel(os.path.join(work, "dist"), answer, failing)}


def config_settings(pairs: Sequence[Sequence[str]]) -> dict[str, Any] | None:
    """``--config-settings`` as PEP 517 wants them: a key that is given again gets a list (as in pip)."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key not in found:
            found[key] = value
        elif isinstance(found[key], list):
            found[key].append(value)
        else:
            found[key] = [found[key], value]
    return found or None


def _environment(environ: Mapping[str, str], scripts: str) -> dict[str, str]:
    """The caller's variables, for a process that lives in the environment of `scripts`.

    Those of compilers, linkers and pip stay: that is how people tell builds what to do.
    """
    env = {key: value for key, value in environ.items() if key not in _LEAKING}
    env["PATH"] = scripts + os.pathsep + env.get("PATH", os.defpath)
    prefix = os.path.dirname(scripts)
    if os.path.isfile(os.path.join(prefix, "pyvenv.cfg")):
        env["VIRTUAL_ENV"] = prefix
    env["PYTHONNOUSERSITE"] = "1"
    return env


class _HookFailed(Exception):
    """The process of a hook failed, or could not be started."""

    def __init__(self, why: str, hint: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


class _HookTimeout(Exception):
    """A hook took too long and was killed."""


class _Runner:
    """Runs the command of a hook; `pyproject_hooks` calls it.

    Args:
        work: where the log is.
        hook: for the log.
        env: the variables of the process.
        timeout: seconds.
        progress: see `run_build`.
        cancelled: see `run_build`.
    """

    def __init__(
        self,
        work: str,
        hook: str,
        env: dict[str, str],
        timeout: float,
        progress: Progress,
        cancelled: Cancelled,
    ) -> None:
        self.log = os.path.join(work, LOG)
        self.timeout = timeout
        self._hook = hook
        self._env = env
        self._progress = progress
        self._cancelled = cancelled
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._lines = 0
        self._room = 0

    def tail(self) -> str:
        """The last lines that the hook printed, without credentials."""
        text = b"".join(self._tail)[-TAIL_BYTES:].decode("utf-8", "replace")
        return redact_text("\n".join(line.rstrip() for line in text.splitlines()[-TAIL_LINES:]))

    def __call__(
        self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        with open(self.log, "ab", buffering=0) as log:
            self._room = MAX_LOG - log.tell()
            log.write(f"=== {self._hook}\n".encode())
            try:
                process = lifeline.start(
                    cmd,
                    {**self._env, **(extra_environ or {})},
                    cwd=cwd,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            except OSError as error:
                raise _HookFailed(f"{cmd[0]} cannot be run: {error.strerror or error}") from error
            try:
                _forbid_core_dumps(process.pid)
                self._follow(process, log.write)
            finally:
                if process.returncode is None:
                    # Not waited for, so its number and its group's are still its own. What it started and
                    # left behind in that group goes too: its folder is about to be removed.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                for stream in (process.stdout, process.stdin):
                    if stream is not None:
                        stream.close()
                process.wait()
            self._take_warnings(cmd[-1], log.write)
        if process.returncode:
            raise _failed(process.returncode)

    def _follow(self, process: subprocess.Popen[bytes], write: Callable[[bytes], Any]) -> None:
        """Take in what the process prints, until it has ended.

        Raises:
            _HookTimeout: it took too long.
            PkgcError: ``interrupted``.
        """
        assert process.stdout is not None
        fd = process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        open_ = True
        began = reported = time.monotonic()
        ended: float | None = None
        while True:
            if not open_:
                time.sleep(_POLL / 5)  # it closed its output, and is ending or goes on without
            elif poll.poll(_POLL * 1000):
                data = os.read(fd, 1 << 16)
                open_ = bool(data)
                self._keep(data, write)
            now = time.monotonic()
            if ended is None and _has_ended(process):
                ended = now
            if ended is not None and (not open_ or now - ended > _DRAIN):
                return
            if self._cancelled():
                raise PkgcError("interrupted", "interrupted while building", exit_status=EXIT_INTERRUPTED)
            if now - began > self.timeout:
                raise _HookTimeout
            if now - reported >= _REPORT:
                reported = now
                self._progress(self._lines, 0)

    def _keep(self, data: bytes, write: Callable[[bytes], Any]) -> None:
        if not data:
            return
        self._lines += data.count(b"\n")
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())
        if self._room <= 0:
            return
        shown = data[: self._room]
        self._room -= len(data)
        try:
            write(shown)
            if self._room <= 0:
                write(f"\n=== over {MAX_LOG >> 20} MiB: the rest is left out\n".encode())
        except OSError:  # a full disk: the build itself will notice, or not need any
            self._room = 0

    def _take_warnings(self, control: str, write: Callable[[bytes], Any]) -> None:
        """Write the hook's warnings into the log. `pyproject_hooks` would raise them in this process."""
        import json

        path = os.path.join(control, "output.json")
        try:
            with open(path, encoding="utf-8") as file:
                answer = json.load(file)
            if not isinstance(answer, dict) or not answer.get("warnings"):
                return
            lines = [f"{one['filename']}:{one['lineno']}: {one['message']}\n" for one in answer["warnings"]]
            self._keep("".join(lines).encode("utf-8", "replace"), write)
            answer["warnings"] = []
            with open(path, "w", encoding="utf-8") as file:
                json.dump(answer, file)
        except (OSError, ValueError, KeyError, TypeError):
            return  # not the answer of a hook: its reader says so


class _Failing:
    """Words the failures of one hook."""

    def __init__(self, label: str, hook: str, runner: _Runner) -> None:
        self._what = f"{label}: {_DOING[hook]} failed"
        self._runner = runner

    def __call__(self, why: str, hint: str | None = None, context: str | None = None) -> PkgcError:
        hints = [hint] if hint else []
        if os.path.isfile(self._runner.log):
            hints.append(f"the whole output is in {self._runner.log}")
        tail = self._runner.tail() if context is None else context
        return PkgcError(
            "build-failed", f"{self._what} ({why})", context=tail or None, hint="; ".join(hints) or None
        )

    def timeout(self) -> PkgcError:
        """It was killed."""
        return PkgcError(
            "build-timeout",
            f"{self._what} (it did not end within {self._runner.timeout:g} s)",
            context=self._runner.tail() or None,
            hint=f"the whole output is in {self._runner.log}; more time: build.timeout in config.toml",
        )

    def unavailable(self, backend: str, traceback: str) -> PkgcError:
        """The backend cannot be imported."""
        return self(
            f"its build backend {backend} cannot be imported",
            "build-system.requires in its pyproject.toml has to name what the backend is in"
            " (with --no-build-isolation, the environment has to have it)",
            redact_text("\n".join(traceback.strip().splitlines()[-TAIL_LINES:])),
        )


def _failed(status: int) -> _HookFailed:
    if status > 0:
        return _HookFailed(f"exit status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "the system may have run out of memory" if -status == signal.SIGKILL else None
    return _HookFailed(f"killed by {name}", hint)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended; it stays unwaited-for where that can be: its group keeps its number."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _forbid_core_dumps(pid: int) -> None:
    """Set the limit of a process that has just begun; a function run before its exec is unsafe in threads."""
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):
            hard = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, hard))


def _texts(answer: object, failing: _Failing) -> list[str]:
    if not isinstance(answer, list) or not all(isinstance(one, str) for one in answer):
        raise failing(f"the build backend answered {str(answer)[:200]!r} instead of a list of requirements")
    return answer


def _wheel(dist: str, answer: object, failing: _Failing) -> str:
    """The path of the wheel that the backend says it has made.

    Raises:
        PkgcError: ``build-failed``: it is no plain file in `dist`.
    """
    if not isinstance(answer, str) or answer in ("", ".", "..") or "/" in answer or "\0" in answer:
        raise failing(f"the build backend answered {str(answer)[:200]!r} instead of the wheel's file name")
    path = os.path.join(dist, answer)
    try:
        found = os.lstat(path)
    except OSError as error:
        raise failing(f"the build backend says that it made {answer}, which is not there") from error
    if not stat.S_ISREG(found.st_mode) or not answer.endswith(".whl"):
        raise failing(f"the build backend made {answer}, which is not a wheel")
    return path
