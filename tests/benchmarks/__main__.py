"""`python -m tests.benchmarks`: measure pkgc against uv, print the table, exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contestants import Failed
from tests.benchmarks.report import Row, as_json, machine, table
from tests.benchmarks.rows import ROWS, Bench
from tests.support.realindex import RealIndex
from tests.support.realwheels import PROJECT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, 0.3 GB in the memory row")
    parser.add_argument("--full", action="store_true", help="the real torch stack in the memory row (3 GB)")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--lock", type=Path, default=PROJECT / "examples" / "large.txt")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/dev/shm"),
        help="where caches and environments go (default: tmpfs)",
    )
    parser.add_argument("--json", type=Path, help="write every measurement there")
    return parser.parse_args()


def main() -> int:
    """Run the asked rows. Gives the exit status."""
    options = _arguments()
    base = options.work if options.work.is_dir() else Path(tempfile.gettempdir())
    work = Path(tempfile.mkdtemp(prefix="pkgc-bench-", dir=base))
    rows: list[Row] = []
    try:
        with RealIndex.for_lock(options.lock) as index:
            index.warm_up()
            bench = Bench(work, options.lock, index, quick=options.quick, full=options.full)
            facts = machine(work)
            facts["lock"] = f"{options.lock.name}, {bench.expected} packages"
            for name, value in facts.items():
                print(f"{name:8} {value}")
            print(flush=True)
            for name in options.rows:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                try:
                    found = ROWS[name](bench)
                except (Failed, AssertionError, OSError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    found = Row(name, [], broken="failed, see above")
                rows += found if isinstance(found, list) else [found]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(rows))
    if options.json:
        options.json.write_text(as_json(rows, facts))
    missed = [row.name for row in rows if row.missed]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nevery target is reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
