"""Which inputs each output of a convolution reads: the geometry all kernels share.

A convolution in one dimension is ``y[o] = sum_k w[k] x[o * stride + k * dilation -
before]``. The gradient by its input is one as well, for each phase of the stride:
of the positions ``i = phase + stride * q`` only those taps count for which
``i + before - k * dilation`` is a multiple of the stride, and then
``dx[i] = sum_k w[k] g[q + offset_k]``. So one `Plan` describes either: outputs
``start + step * q`` of a grid of q, inputs ``q * stride + first + j * gap`` for the
``j``-th tap, and which entry of the kernel that tap is. Nothing is scattered: each
output is written once, by one thread.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Axis", "Plan", "forward_plan", "input_grad_plans", "to_three"]

Three = tuple[int, int, int]
Sizes = tuple[int, ...]


class Axis(NamedTuple):
    """One dimension of a plan.

    Attributes
    ----------
    grid : int
        How many outputs are computed: ``start + step * q`` for q below `grid`.
    start, step : int
        Where they land.
    stride : int
        Distance of the inputs of two neighbouring outputs.
    taps : int
        How many inputs each output reads.
    first, gap : int
        Input of the first tap for ``q = 0``, and the distance of two taps (positive).
    kernel : tuple of int
        Which entry of the kernel each tap multiplies.
    """

    grid: int
    start: int
    step: int
    stride: int
    taps: int
    first: int
    gap: int
    kernel: tuple[int, ...]


class Plan(NamedTuple):
    """Three `Axis` transposed (each field is a triple), and the order of the taps.

    Attributes
    ----------
    order : numpy.ndarray of int64
        For each tap in the order of memory, its place in the flattened kernel.
    """

    grid: Three
    start: Three
    step: Three
    stride: Three
    taps: Three
    first: Three
    gap: Three
    order: Any

    @property
    def key(self) -> tuple[Any, ...]:
        """The plan as something to look up by."""
        return (*self[:7], self.order.tobytes())

    def whole(self, shape: tuple[int, ...]) -> bool:
        """Tell whether the grid is an output of this spatial `shape`."""
        return self.grid == shape and self.step == (1, 1, 1)


def to_three(values: Any, fill: int) -> Three:
    """Put `fill` before one, two or three values.

    Examples
    --------
    >>> to_three((3, 5), 1)
    (1, 3, 5)
    """
    values = tuple(values)
    return (*(fill,) * (3 - len(values)), *values)


def _plan(axes: tuple[Axis, ...], kernel: Three) -> Plan:
    fields: list[Any] = [
        tuple(getattr(axis, name) for axis in axes) for name in Axis._fields[:7]
    ]
    order = [
        (d * kernel[1] + h) * kernel[2] + w
        for d, h, w in itertools.product(*(axis.kernel for axis in axes))
    ]
    return Plan._make([*fields, np.array(order, np.int64)])


def _three_of(
    size: Sizes, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes
) -> tuple[Three, Three, Three, Three, Three]:
    return (
        to_three(size, 1),
        to_three(kernel, 1),
        to_three(stride, 1),
        to_three(before, 0),
        to_three(dilation, 1),
    )


@functools.lru_cache(maxsize=512)
def forward_plan(
    out: Sizes, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes
) -> Plan:
    """Return the plan of a convolution with outputs of spatial shape `out`.

    The arguments have one to three values each.
    """
    geometry = _three_of(out, kernel, stride, before, dilation)
    axes = tuple(
        Axis(o, 0, 1, s, k, -b, d, tuple(range(k)))
        for o, k, s, b, d in zip(*geometry, strict=True)
    )
    return _plan(axes, geometry[1])


def _phases(size: int, k: int, stride: int, before: int, dilation: int) -> list[Axis]:
    """Return the phases of one dimension of an input gradient."""
    found = []
    for phase in range(min(stride, size)):
        # From the last entry of the kernel to the first: ascending inputs.
        taps = [
            (tap, (phase + before - tap * dilation) // stride)
            for tap in reversed(range(k))
            if (phase + before - tap * dilation) % stride == 0
        ]
        first = taps[0][1] if taps else 0
        gap = taps[1][1] - first if len(taps) > 1 else 1
        grid = (size - phase + stride - 1) // stride
        kernel = tuple(tap for tap, _ in taps)
        found.append(Axis(grid, phase, stride, 1, len(taps), first, gap, kernel))
    return found


@functools.lru_cache(maxsize=512)
def input_grad_plans(
    size: Sizes, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes
) -> tuple[Plan, ...]:
    """Return the plans, one per phase, of the gradient by an input of shape `size`.

    The arguments have one to three values each.
    """
    geometry = _three_of(size, kernel, stride, before, dilation)
    axes = itertools.starmap(_phases, zip(*geometry, strict=True))
    return tuple(_plan(three, geometry[1]) for three in itertools.product(*axes))
