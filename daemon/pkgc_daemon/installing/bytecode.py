"""Compiling what is staged, with the interpreter of the environment; it never imports what it compiles."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.failures import interrupted, translated

_PARALLEL_FROM = 200


def compile_staged(
    executable: str,
    folders: Iterable[tuple[str, str]],
    *,
    files: int,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Compile every .py below the staged site folders, as pip does: a file that does not compile is left.

    Args:
        executable: the environment's interpreter.
        folders: (staged folder, the folder that it will be), so that tracebacks name the latter.
        files: how many files there are, which decides whether several processes pay.

    Raises:
        PkgcError: ``compile-failed`` when the compiler itself fails; ``interrupted``.
    """
    for staged, final in folders:
        if not os.path.isdir(staged):
            continue
        # -S: no .pth file of the environment runs (peers.md 6); timestamps, because links keep mtimes.
        command = [executable, "-I", "-S", "-m", "compileall", "-qq", "-r", "100", "-d", final]
        command += ["--invalidation-mode", "timestamp"]
        if files >= _PARALLEL_FROM:
            command += ["-j", "0"]
        _run([*command, staged], cancelled)


def _run(command: list[str], cancelled: Callable[[], bool] | None) -> None:
    import tempfile

    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise translated(error, f"cannot run {command[0]}") from error
        try:
            pause = 0.01
            while process.poll() is None:
                if cancelled is not None and cancelled():
                    raise interrupted()
                time.sleep(pause)
                pause = min(pause * 1.5, 0.1)
        except BaseException:
            _stop(process)
            raise
        # 1: some file has a syntax error, which is none of the installer's business.
        if process.returncode not in (0, 1):
            output.seek(0)
            raise PkgcError(
                "compile-failed",
                f"{command[0]} -m compileall ended with status {process.returncode}",
                context=output.read(4096).decode(errors="replace") or None,
                hint="try again with --no-compile-bytecode",
            )


def _stop(process: subprocess.Popen[bytes]) -> None:
    import signal
    from contextlib import suppress

    # Its own session: the worker processes of -j go too.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
