"""The report tells a target that was reached from one that was missed: a kind one would hide slowness."""

from __future__ import annotations

import json

from tests.benchmarks.report import HEAD, Row, Sample, as_json, markdown, table


def samples(*seconds: float) -> list[Sample]:
    return [Sample(value) for value in seconds]


def test_the_ratio_is_that_of_the_medians() -> None:
    """One slow measurement of either tool would decide otherwise."""
    row = Row("no-op", samples(0.1, 0.2, 9.0), samples(0.4, 0.1, 0.5))
    assert row.ratio == 0.2 / 0.4


def test_a_ratio_above_its_target_is_missed() -> None:
    """A row that became too slow would not fail the run."""
    assert Row("warm", samples(0.3), samples(1.0), most=0.25).missed
    assert not Row("warm", samples(0.25), samples(1.0), most=0.25).missed
    assert not Row("warm", samples(9.0), samples(1.0)).missed


def test_a_ratio_just_above_its_target_is_not_rounded_down_to_it() -> None:
    """The table would say 1.00 and missed, and nobody could tell which of the two is wrong."""
    assert "1.0013" in Row("slow link", samples(1.0013), samples(1.0), most=1.0).cells()
    assert "0.80" in Row("no-op", samples(0.8), samples(1.0), most=0.8).cells()


def test_without_a_peer_the_greatest_value_counts_or_the_median_where_the_row_says_so() -> None:
    """Memory is promised at its peak; a median would hide the one sync that took too much."""
    assert Row("peak", samples(100, 100, 260), unit="MB", most=250).missed
    assert not Row("peak", samples(100, 100, 260), unit="MB", most=250, worst=False).missed
    assert Row("first call", samples(0.5, 0.5, 0.1), most=0.4, worst=False).missed


def test_what_is_broken_is_missed_whatever_the_times_are() -> None:
    """A byte fetched twice would pass because the sync was fast."""
    row = Row("8 clients", samples(0.1), samples(1.0), most=0.7, broken="a.whl: 20 bytes sent of 10")
    assert row.missed
    assert row.verdict.startswith("MISSED")
    assert "a.whl" in row.cells()[-1]


def test_background_work_counts_where_cpu_time_is_promised() -> None:
    """CPU time could be moved behind the answer, where no figure shows it."""
    theirs = [Sample(1.0, 1.0)]
    assert not Row("50", [Sample(0.1, 0.8, 0.1)], theirs, most=0.5, most_cpu=1.0).missed
    assert Row("50", [Sample(0.1, 0.8, 0.3)], theirs, most=0.5, most_cpu=1.0).missed


def test_cpu_time_that_was_not_measured_reaches_no_target() -> None:
    """A row that lost its measurement would look fine."""
    assert Row("50", samples(0.1), samples(1.0), most_cpu=1.0).missed


def test_cpu_time_is_that_of_one_environment() -> None:
    """The columns of 50 clients could not be compared with those of one."""
    row = Row("50", [Sample(1.0, 5.0, 1.0)], [Sample(2.0, 10.0)], environments=50)
    assert row.cpu_each() == (0.1, 0.02, 0.2)
    assert row.cpu_ratio == 0.6


def test_the_table_shows_milliseconds_and_lines_up() -> None:
    """Figures of 20 ms would be read as seconds, or stand in another column's place."""
    text = table([Row("no-op", samples(0.020), samples(0.025), "tmpfs", most=0.8)])
    head, line = text.splitlines()
    assert line.split()[:5] == ["no-op", "tmpfs", "ms", "1", "20.0"]
    assert "ok <= 0.8x" in line
    assert head.index("target") == line.index("ok <=")


def test_every_row_of_the_page_has_every_column() -> None:
    """A cell with a bar or a line break would shift all figures behind it into other columns."""
    row = Row("a|b", samples(0.1), samples(0.2), "disk", most=0.1, note="one\ntwo")
    missing = Row("failed", [], broken="no")
    lines = markdown([row, missing]).splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "**missed** ≤ 0.1x" in lines[2]
    assert "**missed**" in lines[3]


def test_each_measurement_is_kept() -> None:
    """A median alone cannot be compared with another run's spread."""
    row = Row("no-op", [Sample(0.1, 0.2, 0.3)], samples(0.4), "tmpfs", most=0.8)
    kept = json.loads(as_json([row], [], {"cpu": "x"}))
    assert kept["machine"] == {"cpu": "x"}
    assert kept["rows"][0]["pkgc"] == [0.1]
    assert kept["rows"][0]["cpu"]["pkgc later"] == [0.3]
    assert kept["rows"][0]["missed"] is False


def test_a_row_has_as_many_cells_as_the_table_has_heads() -> None:
    """Printing the table would fail after the whole run."""
    assert len(Row("x", []).cells()) == len(HEAD)
