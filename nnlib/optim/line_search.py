"""A line search to the strong Wolfe conditions.

J. Nocedal, S. J. Wright: Numerical optimization, 2nd edition, algorithms 3.5 and 3.6,
with cubic interpolation (eq. 3.59) and the safeguards of M. Schmidt's minFunc, as in
PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Point", "strong_wolfe"]

# Sufficient decrease and curvature.
_C1, _C2 = 1e-4, 0.9


class Point(NamedTuple):
    """A step length, and loss, gradient and slope along the direction there."""

    t: float
    loss: float
    grad: Any
    slope: float


def _minimum_of_cubic(
    a: Point, b: Point, bounds: tuple[float, float] | None = None
) -> float:
    """Return where the cubic through values and slopes of two points is least."""
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    if a.t > b.t:
        a, b = b, a
    if a.t == b.t:
        return (low + high) / 2
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    below = b.slope - a.slope + 2 * d2
    if below == 0:
        return high
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below)
    return min(max(t, low), high)


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    t: float,
    longest: float,
    tolerance_change: float,
    most: int,
) -> tuple[Point, int]:
    """Find a step that lowers the loss enough and flattens the slope.

    Parameters
    ----------
    evaluate : callable
        The `Point` at a step length.
    start : Point
        That of step 0.
    t : float
        The first length to try.
    longest : float
        The largest component of the direction: a bracket shorter than
        ``tolerance_change / longest`` is not divided further.
    most : int
        Iterations at most.

    Returns
    -------
    Point, int
        The best point, and how often `evaluate` was called.
    """
    bracket, calls, iteration = _bracket(evaluate, start, t, most)
    if len(bracket) == 1:
        return bracket[0], calls
    low, high = _order(bracket)
    stuck = done = False
    while not done and iteration < most:
        if abs(bracket[1].t - bracket[0].t) * longest < tolerance_change:
            break
        t, stuck = _inside(bracket, stuck)
        point = evaluate(t)
        calls += 1
        iteration += 1
        if _too_high(point, start) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = _order(bracket)
        else:
            done = _flat(point, start)
            if not done and point.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    return bracket[low], calls


def _bracket(
    evaluate: Callable[[float], Point], start: Point, t: float, most: int
) -> tuple[list[Point], int, int]:
    """Go on until a good point lies between two; return these, or the good one alone.

    Also returns how often `evaluate` was called, and the iterations.
    """
    previous, point = start, evaluate(t)
    calls = 1
    for iteration in range(most):
        if _too_high(point, start) or (iteration > 1 and point.loss >= previous.loss):
            return [previous, point], calls, iteration
        if _flat(point, start):
            return [point], calls, iteration
        if point.slope >= 0:
            return [previous, point], calls, iteration
        bounds = point.t + 0.01 * (point.t - previous.t), point.t * 10
        t = _minimum_of_cubic(previous, point, bounds)
        previous, point = point, evaluate(t)
        calls += 1
    return [start, point], calls, most


def _order(bracket: list[Point]) -> tuple[int, int]:
    """Return the places of the lower and of the higher loss."""
    return (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)


def _too_high(point: Point, start: Point) -> bool:
    return point.loss > start.loss + _C1 * point.t * start.slope


def _flat(point: Point, start: Point) -> bool:
    return abs(point.slope) <= -_C2 * start.slope


def _inside(bracket: list[Point], stuck: bool) -> tuple[float, bool]:
    """Return a length in the bracket, kept off its ends if it does not shrink."""
    t = _minimum_of_cubic(bracket[0], bracket[1])
    lower, upper = sorted(point.t for point in bracket)
    margin = 0.1 * (upper - lower)
    if min(upper - t, t - lower) >= margin:
        return t, False
    if stuck or t >= upper or t <= lower:
        nearer_top = abs(t - upper) < abs(t - lower)
        return (upper - margin if nearer_top else lower + margin), False
    return t, True
