"""What the benchmarks found: rows with their targets, printed as a table (measures nothing itself)."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import peertools
from tests.support.instance import PKGC


@dataclass
class Row:
    """One measured thing. Times are seconds; without `theirs` there is no peer to compare with."""

    name: str
    ours: list[float]
    theirs: list[float] = field(default_factory=list)
    unit: str = "s"
    most: float | None = None
    """Target: the ratio of medians (with `theirs`), or our greatest value, may not exceed it."""
    condition: str = ""
    """A target that is no figure, in words; `broken` says whether it is missed."""
    note: str = ""
    broken: str = ""
    """Why the row misses its target whatever the times are; '' if it does not."""

    @property
    def ratio(self) -> float | None:
        """Median of pkgc by median of uv."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None

    @property
    def missed(self) -> bool:
        """Whether the target is missed."""
        if self.broken:
            return True
        if self.most is None:
            return False
        return (self.ratio if self.ratio is not None else max(self.ours)) > self.most

    @property
    def verdict(self) -> str:
        """``ok <= 3x``, ``MISSED <= 3x``, or ``-`` when nothing is asked of this row."""
        target = self.condition
        if self.most is not None:
            target = f"<= {self.most:g}{'x' if self.theirs else ' ' + self.unit}"
        if not target and not self.broken:
            return "-"
        return f"{'MISSED' if self.missed else 'ok'} {target}".strip()


def _figures(values: list[float], unit: str) -> list[str]:
    if not values:
        return ["-", "-", "-"]
    shown = [statistics.median(values), min(values), max(values)]
    if unit == "s":
        return [f"{value * 1000:.1f}" for value in shown]
    return [f"{value:.1f}" for value in shown]


def table(rows: list[Row]) -> str:
    """The rows as aligned text; times in milliseconds."""
    head = ["row", "unit", "n", "pkgc", "min", "max", "uv", "min", "max", "ratio", "target", ""]
    lines = [head]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        unit = "ms" if row.unit == "s" else row.unit
        figures = _figures(row.ours, row.unit) + _figures(row.theirs, row.unit)
        note = "; ".join(text for text in (row.broken, row.note) if text)
        lines.append([row.name, unit, str(len(row.ours)), *figures, ratio, row.verdict, note])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 1, 10, 11) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def machine(work: Path) -> dict[str, str]:
    """What the numbers depend on: hardware, kernel, file system and versions."""
    return {
        "cpu": f"{_first('/proc/cpuinfo', 'model name')} x {os.cpu_count()}",
        "memory": _first("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "work": f"{work.parent} ({_filesystem(work)}, {shutil.disk_usage(work).free >> 30} GiB free)",
        "python": platform.python_version(),
        "pkgc": peertools.version_of(PKGC),
        "uv": peertools.version_of(peertools.UV),
    }


def as_json(rows: list[Row], facts: dict[str, str]) -> str:
    """Everything, with every single measurement, for keeping and comparing."""
    listed: list[dict[str, Any]] = [
        {
            "row": row.name,
            "unit": row.unit,
            "pkgc": row.ours,
            "uv": row.theirs,
            "ratio": row.ratio,
            "target": row.most,
            "missed": row.missed,
            "note": row.note,
            "broken": row.broken,
        }
        for row in rows
    ]
    return json.dumps({"machine": facts, "rows": listed}, indent=1) + "\n"


def _first(path: str, key: str) -> str:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def _filesystem(path: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
