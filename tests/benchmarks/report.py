"""What was found: rows with their targets, as a table for a terminal or for a page (measures nothing)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HEAD = (
    "row", "where", "unit", "n", "pkgc", "min", "max", "uv", "min", "max", "ratio", "target",
    "CPU pkgc", "refill", "CPU uv", "notes",
)  # fmt: skip
#: Columns of words; the others are figures and stand at the right.
_WORDS = frozenset({"row", "where", "unit", "target", "notes"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    value: float
    """Seconds, or what the row's unit says."""
    cpu: float | None = None
    """CPU seconds until the answer, of everything that worked for it; None: not measured."""
    later: float | None = None
    """CPU seconds of background work after the answer, until all is idle; None: not measured."""


def values(samples: Sequence[Sample]) -> list[float]:
    """What was measured first of all."""
    return [sample.value for sample in samples]


@dataclass
class Row:
    """One measured thing. Times are seconds; without `theirs` there is no peer to compare with."""

    name: str
    ours: list[Sample]
    theirs: list[Sample] = field(default_factory=list)
    where: str = ""
    """``tmpfs`` or ``disk``."""
    unit: str = "s"
    most: float | None = None
    """Target: the ratio of medians (with `theirs`), or our own value, may not exceed it."""
    worst: bool = True
    """Where there is no peer: whether our greatest value may not exceed `most`, or the median."""
    most_cpu: float | None = None
    """Target: the ratio of the medians of CPU time, ours with background work where that was measured."""
    environments: int = 1
    """How many one measurement makes: CPU time is shown for each of them."""
    condition: str = ""
    """A target that is no figure, in words; `broken` says whether it is missed."""
    note: str = ""
    broken: str = ""
    """Why the row misses its target whatever the times are; '' if it does not."""

    @property
    def ratio(self) -> float | None:
        """Median of pkgc by median of uv."""
        if not self.ours or not self.theirs:
            return None
        return statistics.median(values(self.ours)) / statistics.median(values(self.theirs))

    @property
    def cpu_ratio(self) -> float | None:
        """The same for CPU time, background work included."""
        ours, later, theirs = self.cpu_each()
        if ours is None or not theirs:
            return None
        return (ours + (later or 0.0)) / theirs

    def cpu_each(self) -> tuple[float | None, float | None, float | None]:
        """Median CPU seconds of one environment: pkgc's until the answer, in the background, and uv's."""
        wanted = (
            [sample.cpu for sample in self.ours],
            [sample.later for sample in self.ours],
            [sample.cpu for sample in self.theirs],
        )
        found: list[float | None] = []
        for column in wanted:
            there = [value for value in column if value is not None]
            found.append(statistics.median(there) / self.environments if there else None)
        return found[0], found[1], found[2]

    @property
    def missed(self) -> bool:
        """Whether a target is missed."""
        if self.broken:
            return True
        if self.most_cpu is not None and (self.cpu_ratio is None or self.cpu_ratio > self.most_cpu):
            return True
        if self.most is None:
            return False
        if self.ratio is not None:
            return self.ratio > self.most
        ours = values(self.ours)
        return (max(ours) if self.worst else statistics.median(ours)) > self.most

    @property
    def verdict(self) -> str:
        """``ok <= 3x``, ``MISSED <= 3x``, or ``-`` when nothing is asked of this row."""
        targets = []
        if self.most is not None:
            if self.theirs:
                targets.append(f"<= {self.most:g}x")
            elif self.unit == "s":
                targets.append(f"<= {self.most * 1000:g} ms")
            else:
                targets.append(f"<= {self.most:g} {self.unit}")
        if self.most_cpu is not None:
            targets.append(f"CPU <= {self.most_cpu:g}x")
        if self.condition:
            targets.append(self.condition)
        if not targets and not self.broken:
            return "-"
        return f"{'MISSED' if self.missed else 'ok'} {', '.join(targets)}".strip()

    def cells(self) -> list[str]:
        """The row as text, in the order of `HEAD`."""
        cpu, later, peer = self.cpu_each()
        notes = [self.broken, self.note]
        if self.most_cpu is not None and self.cpu_ratio is not None:
            notes.append(f"CPU ratio {self.cpu_ratio:.2f}")
        return [
            self.name,
            self.where or "-",
            "ms" if self.unit == "s" else self.unit,
            str(len(self.ours)),
            *_figures(values(self.ours), self.unit),
            *_figures(values(self.theirs), self.unit),
            "-" if self.ratio is None else _ratio(self.ratio, self.most),
            self.verdict,
            *("-" if value is None else _milliseconds(value) for value in (cpu, later, peer)),
            "; ".join(text for text in notes if text),
        ]


def _ratio(ratio: float, most: float | None) -> str:
    """Two decimals; more where they would make a missed target look reached."""
    text = f"{ratio:.2f}"
    return f"{ratio:.4f}" if most is not None and float(text) <= most < ratio else text


def _figures(measured: list[float], unit: str) -> list[str]:
    if not measured:
        return ["-", "-", "-"]
    shown = [statistics.median(measured), min(measured), max(measured)]
    return [_milliseconds(value) if unit == "s" else f"{value:.2f}" for value in shown]


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; times in milliseconds."""
    lines = [list(HEAD), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if name in _WORDS else cell.rjust(width)
            for name, cell, width in zip(HEAD, line, widths, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown; times in milliseconds, medians with least and greatest in brackets."""
    head = ["row", "where", "n", "pkgc", "uv", "ratio", "target", "CPU pkgc", "refill", "CPU uv", "notes"]
    right = {"n", "pkgc", "uv", "ratio", "CPU pkgc", "refill", "CPU uv"}
    lines = [_line(head), _line(["---:" if name in right else "---" for name in head])]
    for row in rows:
        name, where, unit, count, *figures = row.cells()
        ours, theirs, (ratio, target, cpu, later, peer, notes) = figures[:3], figures[3:6], figures[6:]
        if unit != "ms":
            name = f"{name} ({unit})"
        target = target.replace("MISSED", "**missed**").replace("<=", "≤")
        cells = [name, where, count, _spread(ours), _spread(theirs), ratio, target, cpu, later, peer, notes]
        lines.append(_line(["" if cell == "-" else cell for cell in cells]))
    return "\n".join(lines)


def _spread(figures: Sequence[str]) -> str:
    median, least, most = figures
    return median if least == most else f"{median} ({least}–{most})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def as_json(rows: Sequence[Row], points: Sequence[Row], facts: dict[str, str]) -> str:
    """Everything, with every single measurement, for keeping and comparing.

    Args:
        rows: those with targets.
        points: of the cost model.
        facts: of the machine.
    """
    document = {
        "machine": facts,
        "rows": [_kept(row) for row in rows],
        "cost": [_kept(row) for row in points],
    }
    return json.dumps(document, indent=1) + "\n"


def _kept(row: Row) -> dict[str, Any]:
    return {
        "row": row.name,
        "where": row.where,
        "unit": row.unit,
        "pkgc": values(row.ours),
        "uv": values(row.theirs),
        "ratio": row.ratio,
        "target": row.most,
        "cpu": {
            "pkgc": [sample.cpu for sample in row.ours],
            "pkgc later": [sample.later for sample in row.ours],
            "uv": [sample.cpu for sample in row.theirs],
            "ratio": row.cpu_ratio,
            "target": row.most_cpu,
            "environments": row.environments,
        },
        "missed": row.missed,
        "note": row.note,
        "broken": row.broken,
    }
