"""`python -m tests.benchmarks`: measure pkgc against uv, print the table, exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import cost, locks, page, rows_crowd, rows_daemon, rows_link, rows_sync
from tests.benchmarks.bench import Bench, Lock, Place
from tests.benchmarks.contestants import Failed
from tests.benchmarks.machine import facts_of, filesystem
from tests.benchmarks.report import Row, as_json, markdown, table
from tests.support.interpreters import running
from tests.support.realindex import RealIndex
from tests.support.realwheels import PROJECT, wheels_for

ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "no-op": rows_sync.no_op,
    "warm": rows_sync.warm,
    "warm-absent": rows_sync.warm_without_copies,
    "warm-used-up": rows_sync.warm_used_up,
    "warm-compiled": rows_sync.warm_compiled,
    "changed": rows_sync.changed,
    "cold": rows_sync.cold,
    "big": rows_daemon.big,
    "big-warm": rows_daemon.big_warm,
    "cold-crowd": rows_crowd.cold_crowd,
    "warm-crowd": rows_crowd.warm_crowd,
    "slow-link": rows_link.rows,
    "first-call": rows_daemon.first_call,
    "idle": rows_daemon.idle,
    "small": rows_sync.small,
    "lock": rows_daemon.lock_reading,
    "pip": rows_sync.pip,
}

#: What a row says that could not be measured.
UNMEASURED = "failed, see the output"
#: Written by a full run in which everything could be measured, or with --write.
PAGE = PROJECT / "docs" / "performance.md"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./check bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions, 0.3 GB for 3 GB, no cost model"
    )
    parser.add_argument(
        "--rows", nargs="+", choices=[*ROWS, "cost"], metavar="ROW", help=", ".join([*ROWS, "cost"])
    )
    parser.add_argument(
        "--where", nargs="+", choices=["tmpfs", "disk"], default=["tmpfs", "disk"], help="default: both"
    )
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder there")
    parser.add_argument(
        "--disk",
        type=Path,
        help="a folder there (default: the first of the temporary folder,"
        " the checkout and the home that is on no tmpfs)",
    )
    parser.add_argument("--json", type=Path, help="write every measurement there")
    parser.add_argument(
        "--write", action="store_true", help="write docs/performance.md whatever was measured"
    )
    return parser.parse_args()


def _folders(options: argparse.Namespace) -> dict[str, Path]:
    """Where each place is. Gives only those that exist."""
    found = {}
    if "tmpfs" in options.where and options.tmpfs.is_dir():
        found["tmpfs"] = options.tmpfs
    if "disk" in options.where:
        candidates = [options.disk] if options.disk else [Path(tempfile.gettempdir()), PROJECT, Path.home()]
        disks = [path for path in candidates if filesystem(path) not in ("tmpfs", "ramfs")]
        if disks:
            found["disk"] = disks[0]
    return found


def _measure(bench: Bench, names: list[str], rows: list[Row]) -> None:
    for name in names:
        started = time.monotonic()
        print(f"{name} …", file=sys.stderr, end="", flush=True)
        try:
            found = ROWS[name](bench)
        except (Failed, AssertionError, OSError, RuntimeError) as error:
            print(f"\n{name}: {error}", file=sys.stderr)
            found = [Row(name, [], broken=UNMEASURED)]
        rows += found
        print(f" {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        print(table(found), file=sys.stderr, flush=True)


def _cost(bench: Bench) -> list[cost.Point]:
    print("cost …", file=sys.stderr, flush=True)
    try:
        return cost.measure(bench)
    except (Failed, AssertionError, OSError, RuntimeError) as error:
        print(f"cost: {error}", file=sys.stderr)
        return []


def _as_page(rows: list[Row], points: list[cost.Point], facts: dict[str, str]) -> str:
    missed = [f"{row.name} ({row.where})" if row.where else row.name for row in rows if row.missed]
    told = f"Missed: {'; '.join(missed)}." if missed else "Every target is reached."
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = [machine, "## What people wait for", markdown(rows), told]
    if points:
        parts += ["## What more of it costs", cost.fitted_markdown(cost.fitted(points))]
        parts += [markdown([point.row for point in points])]
    return "\n\n".join(parts)


def main() -> int:
    """Run the asked rows. Gives the exit status."""
    options = _arguments()
    names = [name for name in options.rows or ROWS if name != "cost"]
    with_cost = "cost" in options.rows if options.rows else not options.quick
    # Folders of our own below the given ones, so that whatever happens they can be removed as a whole.
    folders = {
        name: Path(tempfile.mkdtemp(prefix="pkgc-bench-", dir=base))
        for name, base in _folders(options).items()
    }
    if not folders:
        print("there is neither a tmpfs nor a disk to work on", file=sys.stderr)
        return 2
    rows: list[Row] = []
    points: list[cost.Point] = []
    try:
        places = [Place(name, folder) for name, folder in folders.items()]
        facts = facts_of(folders.values())
        for name, value in facts.items():
            print(f"{name:8} {value}")
        print(flush=True)
        large, small = PROJECT / "examples" / "large.txt", locks.SMALL
        wheels = {wheel for lock in (large, small, locks.CHANGE) for wheel in wheels_for(lock, [running()])}
        changed = places[0].folder / "changed.txt"
        changed.write_text(locks.replaced(large.read_text(), locks.CHANGE.read_text()))
        with RealIndex(wheels) as index:
            index.warm_up()
            of = {path: Lock.of(path, index.url) for path in (large, changed, small)}
            bench = Bench(places, of[large], of[changed], of[small], index, quick=options.quick)
            _measure(bench, names, rows)
            if with_cost:
                points = _cost(bench)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.flush()
    if rows:
        print(table(rows))
    if points:
        print(f"\n{table([point.row for point in points])}\n\n{cost.fitted_markdown(cost.fitted(points))}")
    if options.json:
        options.json.write_text(as_json(rows, [point.row for point in points], facts))
    whole = not (options.quick or options.rows or any(row.broken == UNMEASURED for row in rows))
    if options.write or (whole and points):
        page.write(PAGE, _as_page(rows, points, facts))
    missed = [f"{row.name} {row.where}".strip() for row in rows if row.missed]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nevery target is reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
