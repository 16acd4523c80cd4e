"""The rows of the slow link: 100 Mbit/s and 25 ms each way, cold."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import biglocks
from tests.benchmarks.bench import Bench, Lock, in_turns, median
from tests.benchmarks.link import Link, slow_link, why_impossible
from tests.benchmarks.report import Row, Sample
from tests.support.interpreters import running
from tests.support.realindex import RealIndex
from tests.support.realwheels import wheels_for

BITS, DELAY = 100e6, 0.025
RATIO = 1.0
#: How often the link's own time the one big wheel may take.
LIMIT = 1.05


def rows(bench: Bench) -> list[Row]:
    """The large lock, and one wheel that nothing compresses, over the link."""
    if reason := why_impossible():
        return [Row("slow link", [], note=f"skipped: {reason}")]
    large = wheels_for(bench.large.path, [running()])
    one, wheels = biglocks.made_lock((30,) if bench.quick else (300,))
    found = []
    with slow_link(BITS, DELAY) as link:
        with RealIndex([*large, *wheels], address=link.address, inside=link.inside) as index:
            index.warm_up()
            with link.relayed(index.port) as port:
                url = f"http://127.0.0.1:{port}/simple/"
                found += _cold(bench, link, Lock.of(bench.large.path, url), large, bench.times(10, 1))
                found += _cold(bench, link, Lock.of(one, url), wheels, bench.times(3, 1))
    return found


def _cold(bench: Bench, link: Link, lock: Lock, wheels: list[Path], count: int) -> list[Row]:
    size = sum(wheel.stat().st_size for wheel in wheels)
    least = link.least_seconds(size)
    place = bench.fast
    mine, peer = in_turns(
        count,
        lambda: bench.cold(place, bench.pkgc, lock),
        lambda: bench.cold(place, bench.uv, lock),
    )
    what = f"{len(wheels)} packages" if len(wheels) > 1 else f"one wheel of {size / 1e6:.0f} MB"
    note = (
        f"{size / 1e6:.1f} MB at 100 Mbit/s: {least:.2f} s at least; "
        f"pkgc {median(mine) / least:.3f} and uv {median(peer) / least:.3f} times that"
    )
    table = [Row(f"slow link, cold, {what}", mine, peer, place.name, most=RATIO, note=note)]
    if len(wheels) == 1:
        over = [Sample(sample.value / least) for sample in mine]
        row = Row(f"slow link, {what}", over, where=place.name, unit="x the link's time", most=LIMIT)
        row.worst = False
        table.append(row)
    return table
