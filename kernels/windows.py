"""Which inputs each output of a pooling or a resize reads: one sparse table per axis.

Pooling windows, adaptive windows and the taps of an interpolation all are products of
one table per axis: output o reads the inputs ``index[ptr[o]:ptr[o + 1]]``, each with a
`value`. For a weighted sum that is its weight, for a maximum the number of the tap
within the window. With the tables turned round (inputs to outputs) the same loops
compute the gradient, so stride, dilation, padding and uneven windows live here alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import numpy as np

from nnlib.kernels.machinery import on_cuda
from nnlib.kernels.machinery.arrays import home, upload

__all__ = [
    "Axis",
    "Plan",
    "adaptive",
    "adaptive_mean",
    "axis_from_rows",
    "interpolated",
    "neighbours",
    "plan",
    "sliding",
    "sliding_mean",
]


# Axes of up to so many elements are short. Of the tables of longer ones a few are kept.
_SHORT = 1 << 14
_FEW = 8


class Axis(NamedTuple):
    """The table of one axis; see the module's text.

    Attributes
    ----------
    size : int
        How many inputs there are.
    ptr : array of int64, shape (outputs + 1,)
    index : array of int64, shape (entries,)
    value : array of float64, shape (entries,)
    taps : int
        The largest number of a tap, plus 1.
    """

    size: int
    ptr: Any
    index: Any
    value: Any
    taps: int


def axis_from_rows(size: int, rows: list[list[tuple[int, float]]], taps: int) -> Axis:
    """Return the table whose output o reads the (index, value) pairs of ``rows[o]``.

    Examples
    --------
    >>> axis_from_rows(3, [[(0, 1.0), (1, 1.0)], [(2, 1.0)]], 2).ptr
    array([0, 2, 3])
    """
    ptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    index = np.array([i for row in rows for i, _ in row], np.int64)
    value = np.array([v for row in rows for _, v in row], np.float64)
    return Axis(size, ptr, index, value, taps)


def _axis(size: int, index: Any, value: Any, held: Any, taps: int) -> Axis:
    """Return the table whose output o reads what is held of row o, (outputs, taps)."""
    ptr = np.concatenate([[0], np.cumsum(held.sum(1))]).astype(np.int64)
    value = np.broadcast_to(value, held.shape)[held].astype(np.float64)
    return Axis(size, ptr, index[held].astype(np.int64), value, taps)


def _remembered(build: Callable[..., Axis]) -> Callable[..., Axis]:
    """Keep the tables that `build` made last; of long axes a few, for their memory."""
    small, long = lru_cache(1024)(build), lru_cache(_FEW)(build)

    @wraps(build)
    def table(size: int, out: int, *rest: Any, **named: Any) -> Axis:
        kept = small if size <= _SHORT and out <= _SHORT else long
        return kept(size, out, *rest, **named)

    return table


def one(make: Any) -> Axis:
    """Return the table of an axis of length 1 that stays as it is."""
    value = 0.0 if make in (sliding, adaptive) else 1.0
    return axis_from_rows(1, [[(0, value)]], 1)


@_remembered
def sliding(
    size: int, out: int, kernel: int, stride: int, padding: int, dilation: int
) -> Axis:
    """Return the table of a sliding window; values are the numbers of the taps.

    Examples
    --------
    >>> sliding(4, 2, 3, 2, 1, 1).index
    array([0, 1, 1, 2, 3])
    """
    taps = np.arange(kernel)
    index = np.arange(out)[:, None] * stride - padding + taps * dilation
    return _axis(size, index, taps, (index >= 0) & (index < size), kernel)


@_remembered
def adaptive(size: int, out: int) -> Axis:
    """Return the table of windows that split an axis evenly (PyTorch's rule).

    Examples
    --------
    >>> adaptive(5, 2).index
    array([0, 1, 2, 2, 3, 4])
    """
    outputs = np.arange(out)[:, None]
    start = outputs * size // max(out, 1)
    count = -((outputs + 1) * size // -max(out, 1)) - start
    taps = np.arange(count.max(initial=1))
    return _axis(size, start + taps, taps, taps < count, len(taps))


@_remembered
def adaptive_mean(size: int, out: int) -> Axis:
    """Return the table of the means over the windows of `adaptive`.

    Examples
    --------
    >>> adaptive_mean(5, 2).value.round(2)
    array([0.33, 0.33, 0.33, 0.33, 0.33, 0.33])
    """
    axis = adaptive(size, out)
    count = np.diff(axis.ptr)
    return axis._replace(value=np.repeat(1.0 / np.maximum(count, 1), count))


@_remembered
def sliding_mean(
    size: int,
    out: int,
    kernel: int,
    stride: int,
    padding: int,
    divisor: int | None = None,
    include_pad: bool = True,
    sigma: float | None = None,
) -> Axis:
    """Return the table of weighted means over sliding windows.

    Parameters
    ----------
    divisor : int, optional
        Divide by this; otherwise by the weight of what a window holds: the inputs, and
        with `include_pad` the padding.
    sigma : float, optional
        Weights are ``exp(-d^2 / (2 sigma^2))`` at distance d from the window's middle;
        otherwise 1.

    Examples
    --------
    >>> sliding_mean(4, 2, 3, 2, 1, include_pad=False).value.round(2)
    array([0.5 , 0.5 , 0.33, 0.33, 0.33])
    """
    middle = (kernel - 1) / 2
    weights = [
        1.0 if sigma is None else math.exp(-((t - middle) ** 2) / (2 * sigma**2))
        for t in range(kernel)
    ]
    index = np.arange(out)[:, None] * stride - padding + np.arange(kernel)
    held = (index >= 0) & (index < size)
    # With ceil_mode a window may reach beyond the padding: that never counts.
    counted = index < size + padding if include_pad else held
    total: Any = divisor
    if divisor is None:
        # Tap by tap, so that windows of one content have one sum.
        total = np.zeros((out, 1))
        for tap in range(kernel):
            total[:, 0] += np.where(counted[:, tap], weights[tap], 0.0)
    with np.errstate(divide="ignore"):  # windows that hold nothing
        value = np.array(weights) / total
    return _axis(size, index, value, held, kernel)


@_remembered
def neighbours(size: int, width: int) -> Axis:
    """Return the table of sums over `width` neighbours, divided by `width`.

    Examples
    --------
    >>> neighbours(3, 2).index
    array([0, 0, 1, 1, 2])
    """
    index = np.arange(size)[:, None] - width // 2 + np.arange(width)
    held = (index >= 0) & (index < size)
    return _axis(size, index, np.float64(1 / width), held, width)


def _cubic(t: Any) -> Any:
    """Return the weights of four neighbours at distances `t` behind the second."""
    a = -0.75  # Keys 1981; OpenCV's and PyTorch's constant

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return np.stack([far(1 + t), near(t), near(1 - t), far(2 - t)], 1)


@_remembered
def interpolated(
    size: int, out: int, mode: str, align_corners: bool, factor: float | None
) -> Axis:
    """Return the table of an interpolation; see `nnlib.nn.functional.interpolate`.

    Parameters
    ----------
    mode : {"nearest", "nearest-exact", "linear", "bicubic"}
    factor : float, optional
        How much longer the output is; default ``out / size``.

    Examples
    --------
    >>> interpolated(2, 4, "linear", False, None).value[:4]
    array([1.  , 0.75, 0.25, 0.25])
    """
    scale = 1 / factor if factor is not None else size / out
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    outputs = np.arange(out)
    if mode[:7] == "nearest":
        # The positions are found in single precision, as PyTorch does.
        shift = np.float32(0.5 if mode == "nearest-exact" else 0)
        place = (outputs.astype(np.float32) + shift) * np.float32(scale)
        first = place.astype(np.int64)[:, None]
        value = np.ones((out, 1))
    elif mode == "bicubic":
        place = outputs * scale if align_corners else (outputs + 0.5) * scale - 0.5
        left = np.floor(place)
        first = left.astype(np.int64)[:, None] + np.arange(-1, 3)
        value = _cubic(place - left)
    else:
        place = outputs * scale if align_corners else (outputs + 0.5) * scale - 0.5
        place = place.clip(0.0)
        left = np.minimum(place.astype(np.int64), size - 1)
        first = left[:, None] + np.arange(2)
        part = np.minimum(place - left, 1.0)
        value = np.stack([1 - part, part], 1)
    # A neighbour of weight 0 is not read: it may be NaN.
    held = (value != 0) | (mode == "bicubic")
    return _axis(size, first.clip(0, size - 1), value, held, 1)


def turned(axis: Axis) -> Axis:
    """Return the table from the inputs to the outputs that read them."""
    outputs = len(axis.ptr) - 1
    source = np.repeat(np.arange(outputs), np.diff(axis.ptr))
    order = np.argsort(axis.index, kind="stable")
    count = np.bincount(axis.index, minlength=axis.size)
    ptr = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return Axis(outputs, ptr, source[order], axis.value[order], axis.taps)


class Plan:
    """The tables of three axes, joined: what the kernels take.

    Attributes
    ----------
    inputs, outputs : tuple of int
        (D, H, W) before and after.
    taps : tuple of int
        The extents of a window.
    rows : int
        The most rows that an output reads.
    apart : bool
        Whether a weighted sum is cheaper in two steps: over rows, then along the row.
    placed : dict
        The tables where kernels have them, by device and dtype.
    """

    def __init__(self, axes: tuple[Axis, Axis, Axis]) -> None:
        self.axes = axes
        self.inputs = tuple(axis.size for axis in axes)
        self.outputs = tuple(len(axis.ptr) - 1 for axis in axes)
        self.taps = tuple(axis.taps for axis in axes)
        most = [int(np.diff(axis.ptr).max(initial=1)) for axis in axes]
        self.rows = most[0] * most[1]
        # Reads of a row of windows all at once, against rows first, then pixels: those
        # come from a line in the cache, where windows grow outputs that is cheaper.
        entries = len(axes[2].index)
        apart = self.rows * self.inputs[2] + entries + self.outputs[2]
        worth = 0.9 if self.outputs[2] >= self.inputs[2] else 1.5
        self.apart = self.rows * entries > worth * apart
        self.placed: dict[Any, Any] = {}
        self._turned: Plan | None = None

    @property
    def turned(self) -> Plan:
        """The plan of the transposed map."""
        if self._turned is None:
            depth, height, width = map(turned, self.axes)
            self._turned = Plan((depth, height, width))
            self._turned._turned = self
        return self._turned

    def positions(self, number: int) -> Any:
        """Return, for an axis of taps, the input of each output's taps (else -1)."""
        axis = self.axes[number]
        outputs = len(axis.ptr) - 1
        table = np.full((outputs, axis.taps), -1, np.int64)
        rows = np.repeat(np.arange(outputs), np.diff(axis.ptr))
        table[rows, axis.value.astype(np.int64)] = axis.index
        return table

    def tables(self, like: Any, dtype: Any) -> tuple[Any, Any, Any]:
        """Return `ptr`, `index` and `value` (as `dtype`) of the three axes in a row.

        They lie where the array `like` lies, and are kept there.
        """
        key: Any = np.dtype(dtype).char
        if on_cuda(like):
            key = key, *home(like)
        found = self.placed.get(key)
        if found is None:
            starts = np.cumsum([0, *(len(axis.index) for axis in self.axes)])
            ptrs = [a.ptr + s for a, s in zip(self.axes, starts, strict=False)]
            joined = (
                np.concatenate(ptrs),
                np.concatenate([axis.index for axis in self.axes]),
                np.concatenate([axis.value for axis in self.axes]).astype(dtype),
            )
            found = tuple([upload(table, like, "windows") for table in joined])
            self.placed[key] = found
        return found


def plan(make: Callable[..., Axis], *axes: tuple[Any, ...]) -> Plan:
    """Return the plan of ``make(*arguments)`` for each axis; equal ones are one.

    Examples
    --------
    >>> plan(adaptive, (5, 2), (4, 4)).outputs
    (1, 2, 4)
    """
    for axis in axes:
        if axis[0] > _SHORT or axis[1] > _SHORT:
            return _long_plans(make, *axes)
    return _plans(make, *axes)


def _make_plan(make: Callable[..., Axis], *axes: tuple[Any, ...]) -> Plan:
    made = [make(*arguments) for arguments in axes]
    depth, height, width = [*[one(make)] * (3 - len(made)), *made]
    return Plan((depth, height, width))


_plans = lru_cache(512)(_make_plan)
_long_plans = lru_cache(_FEW)(_make_plan)
