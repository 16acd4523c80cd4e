"""Lifelines: what a build starts ends with the process that started it, also when that one is killed.

Builds and git run in sessions of their own, so that a terminal's signals do not reach them; without this they
would go on when nobody is left who could stop them, and write into folders that others then use.  It starts
processes and nothing else; who started one still stops it in the ordinary way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

SHELL = "/bin/sh"
#: A member of the command's own group waits for a line from the starter. The end of the pipe without one
#: means that the starter is gone, and the whole group goes, whose number is its own while a member lives.
_SCRIPT = """exec 3<&0 </dev/null
(read -r _ <&3 || kill -9 0) >/dev/null 2>&1 &
exec "$@" 3<&-"""


def start(command: Sequence[str], env: Mapping[str, str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, without standard input, tied to this process's life.

    Whoever stops it kills its whole group; after an end that is none of that, `release` it.

    Args:
        command: program and arguments; a program without a slash is looked for on the PATH of `env`.
        env: its variables.
        popen: for `subprocess.Popen`, but for ``stdin`` and ``start_new_session``.

    Raises:
        OSError: it cannot be run.
    """
    if not os.access(SHELL, os.X_OK):  # then it is only stopped by those who live
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True, **popen)
    program = shutil.which(command[0], path=env.get("PATH", os.defpath))
    if program is None:
        number = errno.EACCES if "/" in command[0] and os.path.exists(command[0]) else errno.ENOENT
        raise OSError(number, os.strerror(number), command[0])
    tied = [SHELL, "-c", _SCRIPT, SHELL, program, *command[1:]]
    return subprocess.Popen(tied, env=env, stdin=subprocess.PIPE, start_new_session=True, **popen)


def release(process: subprocess.Popen[bytes]) -> None:
    """The process has ended, or is about to: what it left running on purpose may go on."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(b"\n")
            process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()
