"""Runs the real client or daemon with faults armed at named points; the program itself knows nothing of it.

    python armed.py client|daemon POINT=ACTION… -- ARGUMENTS

A POINT is ``checkpoint:PATTERN[#N]`` (a name given to `installing.transaction.checkpoint`, fnmatch pattern)
or ``before:MODULE:FUNCTION[#N]`` / ``after:…`` (a call of that function; MODULE is where its caller looks it
up). #N: at the N-th time, default 1. An ACTION is ``kill`` (SIGKILL to itself) or ``pause:FILE``: create
FILE.reached and wait until FILE exists (or until somebody kills the process).

The hooks are put in place before `main` runs, in this process only: what is installed as `pkgc` has no
code for it, and no client can arm a daemon that runs.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def act(action: str) -> None:
    """Die, or wait."""
    kind, _, where = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(where + ".reached").touch()
    while not os.path.exists(where):
        time.sleep(0.005)


def arm_checkpoint(pattern: str, at: int, action: str) -> None:
    """Act at the `at`-th checkpoint whose name matches."""
    from pkgc_daemon.installing import transaction

    earlier, count = transaction.checkpoint, itertools.count(1)

    def checkpoint(name: str) -> None:
        earlier(name)
        if fnmatch.fnmatchcase(name, pattern) and next(count) == at:
            act(action)

    transaction.checkpoint = checkpoint


def arm_function(when: str, module: str, name: str, at: int, action: str) -> None:
    """Act before or after the `at`-th call of a function."""
    place: Any = importlib.import_module(module)
    *owners, name = name.split(".")
    for owner in owners:
        place = getattr(place, owner)
    original: Callable[..., Any] = getattr(place, name)
    count = itertools.count(1)

    @functools.wraps(original)
    def armed(*args: Any, **options: Any) -> Any:
        due = next(count) == at
        if due and when == "before":
            act(action)
        result = original(*args, **options)
        if due and when == "after":
            act(action)
        return result

    setattr(place, name, armed)


def arm(text: str) -> None:
    """Arm one ``POINT=ACTION``."""
    point, _, action = text.partition("=")
    point, _, number = point.partition("#")
    when, _, rest = point.partition(":")
    at = int(number or 1)
    if when == "checkpoint":
        arm_checkpoint(rest, at, action)
    else:
        module, _, name = rest.partition(":")
        arm_function(when, module, name, at, action)


def main(argv: Sequence[str]) -> int:
    """Arm, then be the client or the daemon."""
    role, *rest = argv
    cut = rest.index("--")
    for text in rest[:cut]:
        arm(text)
    if role == "daemon":
        from pkgc_daemon.serving.run import main as daemon

        return daemon(rest[cut + 1 :])
    from pkgc_client.hot import main as client

    sys.argv = ["pkgc", *rest[cut + 1 :]]
    return client()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
