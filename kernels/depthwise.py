"""Convolution of each channel with its own filter: direct, no product of matrices.

Each output reads a window of one channel, so there is nothing to multiply by blocks;
the inner loop runs over neighbouring channels (channels-last memory). On CUDA a thread
computes one output; see `nnlib.kernels.convolution_cuda`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, num_threads, prange
from nnlib.kernels.vectors import tile_transform

__all__ = ["correlate", "weight_sums"]

_three = types.UniTuple(types.int64, 3)


@body
def window_start(r: int, grid: Any, stride: Any, first: Any) -> Any:
    """Return image, depth and row where the windows of a row of outputs begin."""
    h = r % grid[1] * stride[1] + first[1]
    rest = r // grid[1]
    return rest // grid[0], rest % grid[0] * stride[0] + first[0], h


@body
def add_products(a: Any, b: Any, total: Any) -> None:
    """Add ``a * b`` channel by channel."""
    for c in range(total.size):
        total[c] += a[c] * b[c]


def _sum_products(values: Sequence[Any]) -> list[Any]:
    total = values[18]
    for t in range(9):
        total = total + values[t] * values[9 + t]
    return [total]


def _add_nine(values: Sequence[Any]) -> list[Any]:
    return [values[10 + t] + values[t] * values[9] for t in range(9)]


# A window of nine taps, the usual one, in registers.
window_of_nine = tile_transform(19, 1, _sum_products)
gradient_of_nine = tile_transform(19, 9, _add_nine)


@body
def look_up(
    x: Any, zeros: int, r: int, q: int, count: int, grid: Any, stride: Any, taps: Any,
    first: Any, gap: Any, places: Any,
) -> None:  # fmt: skip
    """Write the addresses of the pixels of one window, of zeros for those outside."""
    _, depth, height, width, c = x.shape
    n, d0, h0 = window_start(r, grid, stride, first)
    w0 = q * stride[2] + first[2]
    for t in range(count):
        line = t // taps[2]
        d = d0 + line // taps[1] * gap[0]
        h = h0 + line % taps[1] * gap[1]
        w = w0 + t % taps[2] * gap[2]
        inside = 0 <= d < depth and 0 <= h < height and 0 <= w < width
        pixel = ((n * depth + d) * height + h) * width + w
        places[t] = x.ctypes.data + pixel * c * x.itemsize if inside else zeros


@body
def correlate_row(
    r: int, x: Any, w: Any, bias: Any, zeros: Any, table: Any, y: Any, grid: Any,
    start: Any, step: Any, stride: Any, taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Compute the `r`-th row of outputs of (N, D, H, W, C) with (taps, C)."""
    _, depth, height, width, _ = x.shape
    n, d0, h0 = window_start(r, grid, stride, first)
    to_h = r % grid[1] * step[1] + start[1]
    to_d = r // grid[1] % grid[0] * step[0] + start[0]
    for q in range(grid[2]):
        total = y[n, to_d, to_h, q * step[2] + start[2]]
        if w.shape[0] == 9:
            look_up(
                x, zeros.ctypes.data, r, q, 9, grid, stride, taps, first, gap, table[0]
            )
            table[1, 0] = total.ctypes.data
            window_of_nine(
                table[0].ctypes.data, table[1].ctypes.data, total.size,
                x.dtype.type(0),
            )  # fmt: skip
            continue
        total[:] = bias
        for t in range(w.shape[0]):
            line = t // taps[2]
            d = d0 + line // taps[1] * gap[0]
            h = h0 + line % taps[1] * gap[1]
            column = q * stride[2] + first[2] + t % taps[2] * gap[2]
            if 0 <= d < depth and 0 <= h < height and 0 <= column < width:
                add_products(x[n, d, h, column], w[t], total)


@body
def correlate_part(
    part: int, parts: int, x: Any, w: Any, bias: Any, y: Any, grid: Any, start: Any,
    step: Any, stride: Any, taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Compute one part of the rows of outputs."""
    rows = x.shape[0] * grid[0] * grid[1]
    zeros = np.zeros(x.shape[4], x.dtype)
    table = np.empty((2, 19), np.int64)
    for t in range(min(9, w.shape[0])):
        table[0, 9 + t] = w[t].ctypes.data
    table[0, 18] = bias.ctypes.data
    for r in range(part * rows // parts, (part + 1) * rows // parts):
        correlate_row(
            r, x, w, bias, zeros, table, y, grid, start, step, stride, taps, first, gap
        )


def correlate_loop(
    x: Any, w: Any, bias: Any, y: Any, grid: Any, start: Any, step: Any, stride: Any,
    taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Compute all rows of outputs."""
    parts = num_threads()
    for part in prange(parts):
        correlate_part(
            part, parts, x, w, bias, y, grid, start, step, stride, taps, first, gap
        )


@body
def weight_row(
    r: int, x: Any, g: Any, sums: Any, zeros: Any, table: Any, grid: Any, stride: Any,
    taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Add the products of the `r`-th row of outputs to the sums (taps, C)."""
    _, depth, height, width, _ = x.shape
    n, d0, h0 = window_start(r, grid, stride, first)
    for q in range(grid[2]):
        row = g[n, r // grid[1] % grid[0], r % grid[1], q]
        if sums.shape[0] == 9:
            look_up(
                x, zeros.ctypes.data, r, q, 9, grid, stride, taps, first, gap, table[0]
            )
            table[0, 9] = row.ctypes.data
            gradient_of_nine(
                table[0].ctypes.data, table[1].ctypes.data, row.size, x.dtype.type(0)
            )
            continue
        for t in range(sums.shape[0]):
            line = t // taps[2]
            d = d0 + line // taps[1] * gap[0]
            h = h0 + line % taps[1] * gap[1]
            column = q * stride[2] + first[2] + t % taps[2] * gap[2]
            if 0 <= d < depth and 0 <= h < height and 0 <= column < width:
                add_products(x[n, d, h, column], row, sums[t])


@body
def weight_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, grid: Any, stride: Any, taps: Any,
    first: Any, gap: Any,
) -> None:  # fmt: skip
    """Sum over one part of the rows of outputs."""
    rows = x.shape[0] * grid[0] * grid[1]
    zeros = np.zeros(x.shape[4], x.dtype)
    table = np.empty((2, 19), np.int64)
    for t in range(min(9, sums.shape[0])):
        table[0, 10 + t] = sums[t].ctypes.data
        table[1, t] = sums[t].ctypes.data
    for r in range(part * rows // parts, (part + 1) * rows // parts):
        weight_row(r, x, g, sums, zeros, table, grid, stride, taps, first, gap)


def weight_loop(
    x: Any, g: Any, sums: Any, grid: Any, stride: Any, taps: Any, first: Any, gap: Any
) -> None:
    """Sum input times gradient over each part's rows: (parts, taps, C)."""
    parts = sums.shape[0]
    for part in prange(parts):
        weight_part(part, parts, x, g, sums[part], grid, stride, taps, first, gap)


def _kernels(real: Any) -> tuple[Any, Any]:
    def inputs(ndim: int) -> Any:
        return types.Array(real, ndim, "C", readonly=True)

    correlate_types = types.void(
        inputs(5), inputs(2), inputs(1), real[:, :, :, :, ::1], *(_three,) * 7
    )
    weight_types = types.void(
        inputs(5), inputs(5), real[:, :, ::1], *(_three,) * 5
    )  # fmt: skip
    return (
        cpu_kernel(signatures=[correlate_types])(correlate_loop),
        cpu_kernel(signatures=[weight_types])(weight_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def correlate(plan: Plan, x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`.

    Parameters
    ----------
    x, y : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D', H', W', C)
    w : C-contiguous array, shape (taps, C)
        In the order of the plan.
    bias : array, shape (C,) or (0,)
    """
    if x.shape[0] and min(plan.grid):
        start = bias if bias.size else np.zeros(x.shape[4], x.dtype)
        _KERNELS[x.dtype][0](x, w, start, y, *plan[:7])


def weight_sums(plan: Plan, x: Any, g: Any) -> Any:
    """Return the gradient by the weights, shape (taps, C)."""
    taps, c = plan.order.size, x.shape[4]
    rows = x.shape[0] * plan.grid[0] * plan.grid[1]
    if not rows:
        return np.zeros((taps, c), x.dtype)
    parts = min(get_num_threads(), rows)
    sums = np.zeros((parts, taps, c), x.dtype)
    _KERNELS[x.dtype][1](
        x, g, sums, plan.grid, plan.stride, plan.taps, plan.first, plan.gap
    )
    total = sums[0]
    for part in sums[1:]:
        total += part
    return total
