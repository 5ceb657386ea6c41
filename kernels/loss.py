"""Losses element by element, their slopes, and a mask: maps of two arrays.

Each is one scalar definition for both targets, as in `activation`; `Gradient` makes the
loops, with the prediction x in the place of its first array and the target t in that of
the second.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.elementwise import Gradient, scalar
from nnlib.kernels.special import divide, maximum, minimum, select

__all__ = ["bce_logits", "bce_logits_slope", "gate", "huber", "huber_slope"]


@scalar
def huber_at(x: Any, t: Any, delta: Any) -> Any:
    """Huber's loss: c * (d - c / 2) with d = x - t and c = d bounded by +-delta."""
    d = x - t
    c = minimum(maximum(d, -delta), delta)
    return c * (d - type(x)(0.5) * c)


@scalar
def huber_slope_at(x: Any, t: Any, delta: Any) -> Any:
    """Slope of huber by x: x - t, bounded by +-delta."""
    return minimum(maximum(x - t, -delta), delta)


@scalar
def bce_logits_at(x: Any, t: Any, parameter: Any) -> Any:
    """Binary cross-entropy of sigmoid(x): max(x, 0) - x * t + log(1 + exp(-|x|))."""
    return maximum(x, type(x)(0)) - x * t + special.log1p(special.exp(-abs(x)))


@scalar
def bce_logits_slope_at(x: Any, t: Any, parameter: Any) -> Any:
    """Slope of bce_logits by x: sigmoid(x) - t."""
    one = type(x)(1)
    return divide(one, one + special.exp(-x)) - t


@scalar
def gate_at(x: Any, mask: Any, parameter: Any) -> Any:
    """Keep x where a mask is not 0, whatever x is elsewhere."""
    return select(mask == type(mask)(0), type(x)(0), x)


huber = Gradient(huber_at)
huber_slope = Gradient(huber_slope_at)
bce_logits = Gradient(bce_logits_at)
bce_logits_slope = Gradient(bce_logits_slope_at)
gate = Gradient(gate_at)
