"""What the figures depend on: hardware, kernel, file systems, versions, day and commit (measures nothing)."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support import peertools
from tests.support.instance import PKGC
from tests.support.realwheels import PROJECT


def facts_of(folders: Iterable[Path]) -> dict[str, str]:
    """Name -> value, in the order in which a reader wants them.

    Args:
        folders: where caches and environments go.
    """
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    commit = _output("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": f"{commit} and changes" if changed else commit,
        "cpu": f"{_first('/proc/cpuinfo', 'model name')} x {os.cpu_count()}",
        "memory": f"{_memory():.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "places": ", ".join(
            f"{filesystem(folder)} ({shutil.disk_usage(folder).free >> 30} GiB free)" for folder in folders
        ),
        "python": platform.python_version(),
        "pkgc": peertools.version_of(PKGC),
        "uv": peertools.version_of(peertools.UV),
        "pip": _output(str(PKGC.with_name("python")), "-m", "pip", "--version").split(" from ")[0][4:],
    }


def filesystem(path: Path) -> str:
    """The kind of file system that holds `path`: ``ext4``, ``tmpfs``, …"""
    device = path.stat().st_dev
    named = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == named:
            return fields[fields.index("-") + 1]
    return "unknown"


def _first(path: str, key: str) -> str:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
