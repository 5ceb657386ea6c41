"""Taps of the places of a grid: pixels along each axis, weights and their slopes (CPU).

Found for some places at a time, and kept in tables that are known by their addresses:
of counts, pixels, weights and slopes. For each axis and place there is one count, and
room for four of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.addresses import load
from nnlib.kernels.machinery import body
from nnlib.kernels.vectors import put_alone

__all__ = [
    "BATCH", "END", "NUMBERS", "WEIGHTS", "find_rows", "find_windows", "set_flat",
    "tables_of",
]  # fmt: skip

# Places whose taps are found at a time.
BATCH = 64
# What a thread keeps of these: for each axis how many taps, and four pixels; then the
# addresses of sixteen rows, and the bounds of the taps along a row (from 0 to END).
END = 3 * BATCH * 5 + 17
NUMBERS = END + 1
# Weights and slopes of the taps, and weights of the rows.
WEIGHTS = 3 * BATCH * 8 + 16
# Where a coordinate that is no number is sent: outside, so that it reads zeros. Those
# beyond the largest that are told apart stay on their side.
_NOWHERE = -100
_FAR = 1_000_000_000


@body
def bring_inside(x: Any, size: Any, padding: Any, align: Any) -> Any:
    """Return a coordinate brought into the image, and the slope of that (1, -1, 0)."""
    kind = type(x)
    zero, one = kind(0), kind(1)
    last = kind(size - 1)
    slope = one
    if padding == 2:
        low = zero if align else kind(-0.5)
        span = last if align else kind(size)
        if span > zero:
            away = x - low
            if away < zero:
                away = -away
                slope = -slope
            turns = np.floor(away / span)
            rest = away - turns * span
            if turns - kind(2) * np.floor(turns * kind(0.5)) == one:
                slope = -slope
                rest = span - rest
            x = rest + low
        else:
            x = x * zero
            slope = zero
    if padding != 0:
        if not (x > zero and x < last):
            slope = zero
        if x < zero:
            x = zero
        if x > last:
            x = last
    if not (x < kind(_FAR) and x > -kind(_FAR)):
        slope = zero
        if x > zero:
            x = kind(_FAR)
        elif x < zero:
            x = -kind(_FAR)
        else:
            x = kind(_NOWHERE)
    return x, slope


@body
def near(x: Any) -> Any:
    """Return the cubic weight at a distance up to 1 (Keys 1981), and its slope."""
    kind = type(x)
    a, b = kind(1.25), kind(2.25)  # a + 2 and a + 3 for a = -0.75
    return (a * x - b) * x * x + kind(1), (kind(3) * a * x - kind(2) * b) * x


@body
def far(x: Any) -> Any:
    """Return the cubic weight at a distance from 1 to 2, and its slope."""
    kind = type(x)
    a = kind(-0.75)
    weight = ((a * x - kind(5) * a) * x + kind(8) * a) * x - kind(4) * a
    return weight, (kind(3) * a * x - kind(10) * a) * x + kind(8) * a


@body
def keep(tap: Any, place: Any, size: Any, value: Any, rate: Any) -> Any:
    """Write a tap, unless it is outside; return where the next one goes.

    `tap` are the addresses of its pixel, weight and slope.
    """
    index, weight, slope = tap
    if place < 0 or place >= size:
        return tap
    put_alone(index, 0, place)
    put_alone(weight, 0, value)
    put_alone(slope, 0, rate)
    item = 8 if isinstance(value, np.float64) else 4
    return index + 8, weight + item, slope + item


@body
def cubic_taps(
    tap: Any, floor: Any, t: Any, rate: Any, size: Any, padding: Any, align: Any
) -> Any:
    """Write the taps of four neighbours; return where the next ones go."""
    kind = type(t)
    one = kind(1)
    for k in range(4):
        if k == 0:
            value, change = far(t + one)
        elif k == 1:
            value, change = near(t)
        elif k == 2:
            value, change = near(one - t)
            change = -change
        else:
            value, change = far(kind(2) - t)
            change = -change
        at, _ = bring_inside(floor + kind(k - 1), size, padding, align)
        tap = keep(tap, np.int64(at), size, value, change * rate)
    return tap


@body
def find_taps(
    first: Any, last: Any, grid: Any, shapes: Any, axis: Any, tables: Any
) -> None:
    """Write the taps of places `first` to `last` - 1 along an axis.

    `shapes` are depth, height, width, channels, places of an image, axes, mode,
    padding and alignment, of which modes and paddings are numbers.
    """
    size = shapes[axis]
    rank, mode, padding, align = shapes[5:]
    counts, index, weight, slope = tables
    item = grid.itemsize
    kind = grid.dtype.type
    one, half = kind(1), kind(0.5)
    factor = kind(size - 1) * half if align else kind(size) * half
    shift = factor if align else factor - half
    bound = 0 if mode == 2 else padding
    for p in range(first, last):
        at = axis * BATCH + p - first
        start = index + 32 * at, weight + 4 * item * at, slope + 4 * item * at
        tap = start
        g = grid[np.uint64(p * rank + 2 - axis)]
        x, rate = bring_inside(g * factor + shift, size, bound, align)
        rate *= factor
        if g != g or (padding == 2 and not np.isfinite(g)):
            # Nowhere: not even at a border.
            tap = start
        elif mode == 1:
            tap = keep(tap, np.int64(np.rint(x)), size, one, kind(0))
        else:
            floor = np.floor(x)
            t = x - floor
            if mode == 0:
                pixel = np.int64(floor)
                tap = keep(tap, pixel, size, one - t, -rate)
                tap = keep(tap, pixel + 1, size, t, rate)
            else:
                tap = cubic_taps(tap, floor, t, rate, size, padding, align)
        put_alone(counts, at, (tap[0] - start[0]) // 8)


@body
def find_windows(first: Any, last: Any, grid: Any, shapes: Any, tables: Any) -> None:
    """Write the taps of some places, at most `BATCH`, along all axes."""
    for axis in range(3 - shapes[5], 3):
        find_taps(first, last, grid, shapes, axis, tables)


@body
def set_flat(tables: Any, like: Any) -> None:
    """Write the taps along the first axis where there are only two: one pixel."""
    counts, index, weight, slope = tables
    zero = type(like)(0)
    for j in range(BATCH):
        put_alone(counts, j, 1)
        put_alone(index, 4 * j, 0)
        put_alone(weight, 4 * j, type(like)(1))
        put_alone(slope, 4 * j, zero)


@body
def find_rows(
    j: Any, image: Any, base: Any, depth: Any, height: Any, tables: Any, like: Any,
    rows: Any,
) -> Any:  # fmt: skip
    """Write addresses and weights of the rows of window `j`; return how many.

    `base` is the address of the first row, and after it the bytes of one.
    """
    counts, index, weight, _ = tables
    start, pitch = base
    addresses, factors = rows
    high = j + BATCH
    count = 0
    for i in range(4 * j, 4 * j + load(counts, j, 0)):
        plane = (image * depth + load(index, i, 0)) * height
        factor = load(weight, i, like)
        for k in range(4 * high, 4 * high + load(counts, high, 0)):
            at = start + (plane + load(index, k, 0)) * pitch
            put_alone(addresses, count, at)
            put_alone(factors, count, factor * load(weight, k, like))
            count += 1
    return count


@body
def tables_of(numbers: Any, weights: Any) -> Any:
    """Return the addresses of the tables of taps, and of those of rows."""
    counts, weight = numbers.ctypes.data, weights.ctypes.data
    item = weights.itemsize
    taps = 3 * BATCH
    index = counts + 8 * taps
    slope = weight + 4 * taps * item
    rows = index + 32 * taps, slope + 4 * taps * item
    return (counts, index, weight, slope), rows
