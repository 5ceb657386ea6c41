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
from functools import lru_cache
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


def one(make: Any) -> Axis:
    """Return the table of an axis of length 1 that stays as it is."""
    value = 0.0 if make in (sliding, adaptive) else 1.0
    return axis_from_rows(1, [[(0, value)]], 1)


@lru_cache(1024)
def sliding(
    size: int, out: int, kernel: int, stride: int, padding: int, dilation: int
) -> Axis:
    """Return the table of a sliding window; values are the numbers of the taps.

    Examples
    --------
    >>> sliding(4, 2, 3, 2, 1, 1).index
    array([0, 1, 1, 2, 3])
    """
    rows = []
    for o in range(out):
        start = o * stride - padding
        row = [(start + t * dilation, float(t)) for t in range(kernel)]
        rows.append([(i, t) for i, t in row if 0 <= i < size])
    return axis_from_rows(size, rows, kernel)


@lru_cache(1024)
def adaptive(size: int, out: int) -> Axis:
    """Return the table of windows that split an axis evenly (PyTorch's rule).

    Examples
    --------
    >>> adaptive(5, 2).index
    array([0, 1, 2, 2, 3, 4])
    """
    rows = []
    for o in range(out):
        start, stop = o * size // out, -((o + 1) * size // -out)
        rows.append([(i, float(i - start)) for i in range(start, stop)])
    return axis_from_rows(size, rows, max(map(len, rows), default=1))


@lru_cache(1024)
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


@lru_cache(1024)
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
    rows = []
    for o in range(out):
        start = o * stride - padding
        row = [(start + t, weights[t]) for t in range(kernel)]
        held = [(i, w) for i, w in row if 0 <= i < size]
        # With ceil_mode a window may reach beyond the padding: that never counts.
        counted = (
            [w for i, w in row if i < size + padding]
            if include_pad
            else [w for _, w in held]
        )
        total = sum(counted) if divisor is None else divisor
        rows.append([(i, w / total) for i, w in held])
    return axis_from_rows(size, rows, kernel)


@lru_cache(1024)
def neighbours(size: int, width: int) -> Axis:
    """Return the table of sums over `width` neighbours, divided by `width`.

    Examples
    --------
    >>> neighbours(3, 2).index
    array([0, 0, 1, 1, 2])
    """
    rows = []
    for o in range(size):
        start = o - width // 2
        row = [(i, 1 / width) for i in range(start, start + width)]
        rows.append([(i, w) for i, w in row if 0 <= i < size])
    return axis_from_rows(size, rows, width)


def _cubic(t: float) -> tuple[float, float, float, float]:
    """Return the weights of four neighbours at distance `t` behind the second."""
    a = -0.75  # Keys 1981; OpenCV's and PyTorch's constant

    def near(d: float) -> float:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: float) -> float:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return far(1 + t), near(t), near(1 - t), far(2 - t)


@lru_cache(1024)
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
    # The positions of the nearest are found in single precision, as PyTorch does.
    single = np.float32(scale)
    rows: list[list[tuple[int, float]]] = []
    for o in range(out):
        if mode[:7] == "nearest":
            shift = np.float32(0.5 if mode == "nearest-exact" else 0)
            rows.append([(min(int((np.float32(o) + shift) * single), size - 1), 1.0)])
            continue
        place = o * scale if align_corners else (o + 0.5) * scale - 0.5
        if mode == "bicubic":
            first = math.floor(place)
            weights = _cubic(place - first)
            rows.append(
                [
                    (min(max(first + t - 1, 0), size - 1), weight)
                    for t, weight in enumerate(weights)
                ]
            )
            continue
        place = max(place, 0.0)
        first = min(int(place), size - 1)
        part = min(place - first, 1.0)
        row = [(first, 1 - part), (min(first + 1, size - 1), part)]
        rows.append([(i, w) for i, w in row if w])
    return axis_from_rows(size, rows, 1)


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


@lru_cache(512)
def plan(make: Callable[..., Axis], *axes: tuple[Any, ...]) -> Plan:
    """Return the plan of ``make(*arguments)`` for each axis; equal ones are one.

    Examples
    --------
    >>> plan(adaptive, (5, 2), (4, 4)).outputs
    (1, 2, 4)
    """
    made = [make(*arguments) for arguments in axes]
    depth, height, width = [*[one(make)] * (3 - len(made)), *made]
    return Plan((depth, height, width))
