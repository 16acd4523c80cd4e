"""Ready copies of a running daemon: waiting for them, and finding their files and who makes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.instance import Instance

#: Seconds between two looks: a call keeps the daemon from copying.
_PAUSE = 0.15


def ready_size(pkgc: Instance) -> dict[str, int]:
    """What `status` says of them."""
    status = pkgc.status()
    assert status is not None, "no daemon runs"
    found: dict[str, int] = status["ready"]
    return found


def wait_for_copies(
    pkgc: Instance, enough: int | Callable[[dict[str, int]], Any], timeout: float = 60
) -> None:
    """Wait until there are so many copies, or until what `status` says is right."""
    deadline = time.monotonic() + timeout
    while True:
        time.sleep(_PAUSE)
        found = ready_size(pkgc)
        if found["copies"] >= enough if isinstance(enough, int) else enough(found):
            return
        assert time.monotonic() < deadline, f"no ready copies within {timeout} s: {found}"


def copies_of(pkgc: Instance, sha256: str) -> list[Path]:
    """The folders of a wheel's copies."""
    return sorted((pkgc.cache / "ready").glob(f"{sha256}.*"))


def copier(daemon: int) -> int | None:
    """The process in which a daemon has copies made, if it runs."""
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pkgc_daemon.store.copier" in words and str(daemon).encode() in words:
            return int(entry)
    return None
