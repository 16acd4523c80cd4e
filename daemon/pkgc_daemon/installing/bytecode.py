"""Compiling what is staged, or in place what is installed, with the environment's own interpreter."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.failures import interrupted, translated

_PARALLEL_FROM = 200
#: Site folders whose uncompilable files are remembered.
_REMEMBERED = 256
#: Run by the environment's interpreter, 3.8 or later: names come from stdin, each ending with a NUL.
_SCRIPT = """
import compileall, functools, os, py_compile, sys
names = [os.fsdecode(name) for name in sys.stdin.buffer.read().split(b"\\0") if name]
one = functools.partial(compileall.compile_file, force=True, quiet=2,
                        invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
pool = None
if sys.argv[1] == "0":
    try:
        from concurrent.futures import ProcessPoolExecutor
        pool = ProcessPoolExecutor()
    except (ImportError, NotImplementedError, OSError):
        pass
if pool is None:
    for name in names:
        one(name)
else:
    with pool:
        for _ in pool.map(one, names, chunksize=16):
            pass
"""


class _Source(NamedTuple):
    path: str
    mtime_ns: int
    size: int


_HOPELESS: dict[str, frozenset[_Source]] = {}


def compile_staged(
    executable: str,
    folders: Iterable[tuple[str, str]],
    *,
    files: int,
    umask: int = -1,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Compile every .py below the staged site folders, as pip does: a file that does not compile is left.

    Args:
        executable: the environment's interpreter.
        folders: (staged folder, the folder that it will be), so that tracebacks name the latter.
        files: how many files there are, which decides whether several processes pay.
        umask: the compiler's; -1 for this process's.

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
        _run([*command, staged], cancelled, umask)


def compile_installed(
    interpreter: Mapping[str, Any],
    folders: Iterable[str],
    *,
    skipped: Collection[str] = (),
    umask: int = -1,
    cancelled: Callable[[], bool] | None = None,
) -> int:
    """Compile, in place, every .py below `folders` whose bytecode is missing or not current.

    Bytecode that is current costs two system calls per file and no Python process.

    Args:
        interpreter: the wire form of the environment's `Interpreter`.
        folders: the site folders, absolute.
        skipped: files and folders below them, absolute, that are known to be current.
        umask: the compiler's; -1 for this process's.

    Returns:
        How many files were compiled; those that cannot be (syntax errors) are left, and not tried again by
        this process until they change.

    Raises:
        PkgcError: ``compile-failed`` when the compiler itself fails; ``interrupted``.
    """
    tag, magic = interpreter["cache_tag"], bytes.fromhex(interpreter["pycache_magic"])
    if not tag:
        return 0  # this Python keeps no bytecode
    compiled = 0
    for folder in folders:
        hopeless = _HOPELESS.get(folder, frozenset())
        stale = [one for one in _stale(folder, tag, magic, skipped) if one not in hopeless]
        if not stale:
            continue
        workers = 0 if len(stale) >= _PARALLEL_FROM else 1
        # -S: no .pth file of the environment runs.
        command = [interpreter["executable"], "-I", "-S", "-c", _SCRIPT, str(workers)]
        _run(command, cancelled, umask, b"\0".join(os.fsencode(one.path) for one in stale))
        left = frozenset(_stale(folder, tag, magic, skipped))
        compiled += sum(one not in left for one in stale)
        if len(_HOPELESS) >= _REMEMBERED:
            _HOPELESS.clear()
        _HOPELESS[folder] = left
    return compiled


def _stale(folder: str, tag: str, magic: bytes, skipped: Collection[str]) -> Iterator[_Source]:
    """Sources without bytecode that the interpreter would use as it is (PEP 552)."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            name = entry.name
            if entry.path in skipped:
                continue
            if entry.is_dir(follow_symlinks=False):
                if name != "__pycache__":
                    waiting.append(entry.path)
                continue
            if not name.endswith(".py"):
                continue
            try:
                found = entry.stat()
            except OSError:
                continue
            header = _header(f"{folder}/__pycache__/{name[:-3]}.{tag}.pyc")
            times = struct.pack("<LL", int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
            # Flags other than 0: it goes by the source's hash, which the interpreter looks after itself.
            if header[:4] != magic or (header[4:8] == bytes(4) and header[8:] != times):
                yield _Source(entry.path, found.st_mtime_ns, found.st_size)


def _header(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 16)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _run(command: list[str], cancelled: Callable[[], bool] | None, umask: int, given: bytes = b"") -> None:
    import tempfile

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as names:
        names.write(given)
        names.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=names,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=umask,
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
                f"{command[0]} ended with status {process.returncode} while compiling",
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
