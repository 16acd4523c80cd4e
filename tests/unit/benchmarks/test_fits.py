"""Lines of the cost model: a wrong one would send the work to the wrong place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.fits import fit


@given(st.floats(0.001, 100), st.floats(0.001, 10))
def test_points_on_a_line_give_that_line(fixed: float, each: float) -> None:
    """What is fixed would be blamed on the packages, or the other way round."""
    line = fit([(size, fixed + each * size) for size in (10, 100, 1000)])
    assert line.fixed == pytest.approx(fixed, rel=1e-6, abs=1e-6)
    assert line.each == pytest.approx(each, rel=1e-6, abs=1e-6)
    assert line.at(50) == pytest.approx(fixed + each * 50, rel=1e-6)


def test_the_largest_point_does_not_decide_alone() -> None:
    """10 % of noise at 1,000 packages would swallow the fixed cost, which is what one package waits for."""
    line = fit([(10, 21.0), (100, 30.0), (1000, 132.0)])  # 20 + 0.1 each, the last one 10 % too slow
    assert line.fixed == pytest.approx(20, rel=0.1)


def test_nothing_is_cheaper_than_free() -> None:
    """A negative cost per file would be read as a gain."""
    falling = fit([(10, 5.0), (100, 4.0)])
    assert falling.each == 0
    assert 4 <= falling.fixed <= 5
    through_zero = fit([(10, 1.0), (100, 20.0)])
    assert through_zero.fixed == 0
    assert 0.1 <= through_zero.each <= 0.2


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)], [(10, 1.0), (100, 0.0)]])
def test_too_little_to_go_by_is_refused(points: list[tuple[float, float]]) -> None:
    """A line through one point could be any line."""
    with pytest.raises(ValueError, match="two sizes"):
        fit(points)
