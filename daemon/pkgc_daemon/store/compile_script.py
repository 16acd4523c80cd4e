"""The script that a target interpreter runs to compile sources of trees; pkgc itself does not import it.

Its text is handed to any CPython or PyPy from 3.8 on, with ``-I -S -B -W ignore -c``: it uses nothing newer,
and executes nothing of what it compiles.  One JSON object a line comes in, one a line goes out: first which
bytecode this interpreter makes, then an answer to each unit of work.  It ends with its input.
"""

from __future__ import annotations

import gc
import hashlib
import json
import marshal
import os
import signal
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def magic_number() -> bytes:
    """What this interpreter's bytecode files begin with."""
    try:
        from _frozen_importlib_external import MAGIC_NUMBER
    except ImportError:
        from importlib.util import MAGIC_NUMBER
    return bytes(MAGIC_NUMBER)


def die_with(parent: int) -> None:
    """Have the kernel end this process with the daemon; where that fails, the end of the input does."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:
        sys.exit(1)


def read(path: str, size: int, mtime_ns: int, sha256: str) -> tuple[bytes, float] | None:
    """A source and its time, or None when it is not what the tree's manifest says."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        data = file.read()
    if (found.st_size, found.st_mtime_ns) != (size, mtime_ns) or hashlib.sha256(data).hexdigest() != sha256:
        return None
    return data, found.st_mtime


def compiled(data: bytes, shown: str, mtime: float, magic: bytes) -> bytes | None:
    """The .pyc of a source, valid by its time and size (PEP 552); None when it does not compile."""
    try:
        code = marshal.dumps(compile(data, shown, "exec", dont_inherit=True, optimize=0))
    except (Exception, RecursionError, MemoryError):
        return None  # Python 2, a template, a test of syntax errors: none of an installer's business
    # The same conversions as the importer's (importlib._bootstrap_external).
    return magic + struct.pack("<LLL", 0, int(mtime) & 0xFFFFFFFF, len(data) & 0xFFFFFFFF) + code


def write(path: str, content: bytes) -> os.stat_result:
    """Make a new file that nobody may write to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        return os.fstat(descriptor)


def carry_out(unit: dict[str, Any], magic: bytes) -> dict[str, Any]:
    """Compile the sources of one unit: ``made`` lists the files, or ``error`` says why there are none.

    A unit has ``root`` (of the tree), ``out`` (root of what is made), ``tag`` and ``files``: lists of path,
    path to show, size, mtime_ns and sha256.
    """
    made: list[list[Any]] = []
    folders: set[str] = set()
    for path, shown, size, mtime_ns, sha256 in unit["files"]:
        source = read(unit["root"] + "/" + path, size, mtime_ns, sha256)
        if source is None:
            return {"error": path + " was changed"}
        content = compiled(source[0], shown, source[1], magic)
        if content is None:
            continue
        folder, _, name = path.rpartition("/")
        place = (folder + "/" if folder else "") + "__pycache__"
        if place not in folders:
            os.makedirs(unit["out"] + "/" + place, 0o755, exist_ok=True)
            folders.add(place)
        target = place + "/" + name[:-3] + "." + unit["tag"] + ".pyc"
        found = write(unit["out"] + "/" + target, content)
        digest = hashlib.sha256(content).hexdigest()
        made.append([target, len(content), digest, found.st_mtime_ns, found.st_ino])
    return {"made": made}


def main() -> None:
    """Serve standard input; whatever else prints goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(int(sys.argv[1]))
    if sys.argv[2] != "0":
        os.nice(int(sys.argv[2]))
    os.umask(0)
    gc.disable()  # code objects have no cycles
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    magic = magic_number()
    answer: dict[str, Any] = {"tag": sys.implementation.cache_tag, "magic": magic.hex()}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.buffer.readline()
        if not line.endswith(b"\n"):
            return
        try:
            answer = carry_out(json.loads(line), magic)
        except OSError as error:
            answer = {"error": str(error)}


if __name__ == "__main__":
    main()
