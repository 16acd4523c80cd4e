"""The live block: fits the terminal, ten frames a second at most, big files first."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.serving.live import MAX_LINES, Live
from pkgc_daemon.serving.text import Style, cells

COLOUR = re.compile("\x1b\\[[0-9;]*m")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def make(columns: int = 100, rows: int = 24, color: bool = False) -> tuple[Live, Clock]:
    clock = Clock()
    return Live(clock, columns, rows, Style(color)), clock


def test_nothing_under_way_shows_nothing() -> None:
    live, _ = make()
    assert live.frame() is None


def test_a_file_has_bar_bytes_rate_and_time_left() -> None:
    live, clock = make()
    live.started("k", "torch.whl", 100_000_000)
    live.frame()
    for _ in range(10):
        clock.now += 0.1
        live.advanced("k", 1_000_000)
        frame = live.frame()
    assert frame is not None
    line, total = frame.split("\n")
    assert re.match(r"torch\.whl  ━+─+  10 MB / 100 MB  10 MB/s  ETA 0:09", line)
    assert total == "0/1 file  10 MB / 100 MB  10 MB/s  ETA 0:09"


def test_ten_frames_a_second_at_most_but_the_end_at_once() -> None:
    live, clock = make()
    live.started("k", "a", 1000)
    assert live.frame()
    for _ in range(50):
        clock.now += 0.001
        live.advanced("k", 1)
        assert live.frame() is None
    live.finished("k")
    assert live.frame() == ""
    assert live.frame() is None


def test_an_unchanged_block_is_not_sent_again() -> None:
    live, clock = make()
    live.started("k", "a", None)
    live.frame()
    clock.now += 0.2
    live.frame()
    clock.now += 0.2
    assert live.frame() is None


def test_big_files_come_first_and_the_rest_is_counted() -> None:
    live, _ = make()
    for i in range(20):
        live.started(str(i), f"file{i:02d}", (i + 1) * 1_000_000)
    frame = live.frame()
    assert frame is not None
    lines = frame.split("\n")
    assert len(lines) == MAX_LINES
    assert [line.split()[0] for line in lines[:6]] == [
        "file19",
        "file18",
        "file17",
        "file16",
        "file15",
        "file14",
    ]
    assert lines[6] == "+ 14 more"
    assert lines[7].startswith("0/20 files")


def test_a_transfer_that_starts_over_goes_back() -> None:
    live, clock = make()
    live.started("k", "a", 1000)
    live.advanced("k", 900)
    clock.now += 0.5
    live.frame()
    live.advanced("k", -900)
    live.advanced("k", 10)
    clock.now += 0.5
    frame = live.frame()
    assert frame is not None
    assert "10 B / 1.0 kB" in frame


def test_unknown_keys_are_no_failure() -> None:
    live, _ = make()
    assert live.advanced("x", 1) is None
    assert live.finished("x") is None


def test_finished_files_stay_in_the_total() -> None:
    live, clock = make()
    live.started("a", "a", 1000)
    live.started("b", "b", 3000)
    live.advanced("a", 1000)
    live.finished("a")
    clock.now += 1
    frame = live.frame()
    assert frame is not None
    assert frame.split("\n")[-1].startswith("1/2 files  1.0 kB / 4.0 kB")


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 200),
    st.integers(0, 60),
    st.booleans(),
    st.lists(
        st.tuples(st.text(max_size=120), st.none() | st.integers(0, 10**15), st.integers(0, 10**15)),
        max_size=14,
    ),
)
def test_every_block_fits_every_terminal(
    columns: int, rows: int, color: bool, files: list[tuple[str, int | None, int]]
) -> None:
    """A line that wraps leaves rubbish behind when the block is replaced."""
    live, clock = make(columns, rows, color)
    for i, (label, total, _) in enumerate(files):
        live.started(str(i), label, total)
    for i, (_, _, done) in enumerate(files):
        live.advanced(str(i), done)
    clock.now += 0.7
    frame = live.frame()
    assert (frame is None) == (not files)
    lines = (frame or "").split("\n")
    assert len(lines) <= max(1, min(MAX_LINES, rows - 2))
    for line in lines:
        bare = COLOUR.sub("", line)
        assert "\x1b" not in bare
        assert cells(bare) <= max(10, columns - 1)
