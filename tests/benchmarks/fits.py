"""A straight line through measured points: what is fixed, and what each further unit costs (no I/O)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """``fixed + each * size``"""

    fixed: float
    each: float

    def at(self, size: float) -> float:
        """What the line says for `size`."""
        return self.fixed + self.each * size


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line whose relative errors have the least sum of squares.

    Relative, because sizes go over three powers of ten: else the largest point alone would decide, and what
    is fixed would be lost in its noise. Neither part is below zero: nothing is cheaper than free.

    Args:
        points: size and cost (above zero) of each measurement; two different sizes at least.

    Raises:
        ValueError: there are fewer than two sizes, or a cost is not above zero.
    """
    if len({size for size, _ in points}) < 2 or any(cost <= 0 for _, cost in points):
        raise ValueError("a line needs two sizes, and costs above zero")
    weights = [cost**-2 for _, cost in points]
    total = sum(weights)
    mean_size = sum(w * size for w, (size, _) in zip(weights, points, strict=True)) / total
    mean_cost = sum(w * cost for w, (_, cost) in zip(weights, points, strict=True)) / total
    both = sum(
        w * (size - mean_size) * (cost - mean_cost) for w, (size, cost) in zip(weights, points, strict=True)
    )
    square = sum(w * (size - mean_size) ** 2 for w, (size, _) in zip(weights, points, strict=True))
    each = both / square
    fixed = mean_cost - each * mean_size
    if each < 0:
        return Line(mean_cost, 0.0)
    if fixed < 0:
        products = sum(w * size * cost for w, (size, cost) in zip(weights, points, strict=True))
        squares = sum(w * size * size for w, (size, _) in zip(weights, points, strict=True))
        return Line(0.0, products / squares)
    return Line(fixed, each)
