"""Patience: a user must neither wait for ever on a dead server nor lose a download to one hiccup."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.fetching.patience import Kind, Patience, PatienceLimits


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spend(
    patience: Patience, clock: Clock, kind: Kind, cost: float, retry_after: float | None = None
) -> float:
    """Fail every attempt so, each taking `cost` seconds, and return how long it took to give up."""
    began = clock.now
    for _ in range(10_000):
        patience.begin()
        clock.now += cost
        delay = patience.failed(kind, retry_after)
        if delay is None:
            return clock.now - began
        clock.now += delay
    raise AssertionError("never gave up")


def make(limits: PatienceLimits | None = None, jitter: float = 0.999) -> tuple[Patience, Clock]:
    clock = Clock()
    return Patience(limits or PatienceLimits(), clock=clock, jitter=lambda: jitter), clock


def test_refused_connection_gives_up_within_twenty_seconds() -> None:
    patience, clock = make()
    assert 5 < spend(patience, clock, Kind.UNREACHABLE, 0.001) <= 20


def test_a_black_hole_gives_up_within_twenty_seconds_connect_timeouts_included() -> None:
    patience, clock = make()
    began = clock.now
    while True:
        patience.begin()
        clock.now += patience.connect_timeout()
        delay = patience.failed(Kind.UNREACHABLE)
        if delay is None:
            break
        clock.now += delay
    assert clock.now - began <= 20.1


def test_server_errors_give_up_within_fifty_seconds() -> None:
    for cost in (0.01, 3.0, 10.0):
        patience, clock = make()
        assert spend(patience, clock, Kind.SERVER, cost) <= 50 + cost


def test_stalls_give_up_within_a_hundred_and_fifty_seconds() -> None:
    patience, clock = make()
    assert 60 < spend(patience, clock, Kind.STALL, 30.0) <= 150


def test_at_most_eight_attempts_without_progress() -> None:
    patience, clock = make(PatienceLimits(server=1e9), jitter=0.0)
    attempts = 0
    while True:
        attempts += 1
        patience.begin()
        if patience.failed(Kind.SERVER) is None:
            break
    assert attempts == 8
    assert clock.now == 1000.0


def test_progress_makes_the_budget_whole_again() -> None:
    """T5c: a server that cuts every 50 KB is used to the end of the file."""
    patience, clock = make()
    for _ in range(200):
        patience.begin()
        clock.now += 1.0
        patience.progressed()
        delay = patience.failed(Kind.SERVER)
        assert delay is not None
        assert delay <= 0.25
        clock.now += delay


def test_fatal_failures_are_never_retried() -> None:
    patience, _ = make()
    assert patience.failed(Kind.FATAL) is None


def test_retry_after_is_obeyed_up_to_thirty_seconds() -> None:
    patience, _ = make()
    patience.begin()
    assert patience.failed(Kind.SERVER, 7.0) == 7.0
    patience, _ = make()
    patience.begin()
    assert patience.failed(Kind.SERVER, 3600.0) == 30.0


def test_backoff_doubles_up_to_eight_seconds() -> None:
    patience, clock = make(PatienceLimits(attempts=20, server=1e9), jitter=1.0)
    delays = []
    for _ in range(8):
        patience.begin()
        delay = patience.failed(Kind.SERVER)
        assert delay is not None
        delays.append(delay)
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 8, 8]
    assert clock.now == 1000.0


@given(
    st.lists(
        st.tuples(st.sampled_from([Kind.UNREACHABLE, Kind.SERVER, Kind.STALL]), st.floats(0, 30)), min_size=8
    ),
    st.floats(0, 0.999),
)
def test_no_mixture_of_troubles_outlasts_the_longest_bound(
    troubles: list[tuple[Kind, float]], jitter: float
) -> None:
    patience, clock = make(PatienceLimits(attempts=1000), jitter)
    began = clock.now
    index = 0
    while True:
        kind, cost = troubles[index % len(troubles)]
        index += 1
        patience.begin()
        clock.now += max(cost, 0.01)
        delay = patience.failed(kind)
        if delay is None:
            break
        clock.now += delay
    assert clock.now - began <= 150 + 30
