"""The gradient of a convolution by its weights, tile by tile, in registers.

A tile of `ROWS` input channels by `COLUMNS` filters of one tap is summed over a block
of rows of outputs: neighbouring outputs of a row lie at equal distances, in the input
and in the gradient. Each thread sums over its own rows; the sums are added in the order
of the threads. CPU alone; see `nnlib.kernels.direct`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.direct import FEW, frame
from nnlib.kernels.machinery import body, cpu_kernel, prange
from nnlib.kernels.vectors import (
    COLUMNS,
    ROWS,
    aligned_empty,
    copy_bytes,
    multiply_narrow,
    multiply_tile,
)

__all__ = ["weight_grad"]

# Outputs whose products are summed at a time: their input and gradient stay in the
# level-2 cache.
_OUTPUTS = 512
# Bytes of partial sums, over all threads.
_SUMS = 1 << 27

_three = types.UniTuple(types.int64, 3)


@body
def find_lines(
    x: Any, right: int, k: int, r0: int, r1: int, grid: Any, stride: Any, dh: Any,
    w0: int, skip: int, starts: Any,
) -> int:  # fmt: skip
    """Write where rows of outputs begin, in input and gradient; return how many.

    Rows whose input at the tap lies outside are left out. `right` is the address of
    the gradient of row `r0`, `k` the length of its pixels; `dh` is depth and height
    of the tap's input for the first output, `w0` the column, `skip` the outputs to
    leave out at the beginning of a row.
    """
    _, depth, height, width, c = x.shape
    size = x.itemsize
    lines = 0
    for r in range(r0, r1):
        h = r % grid[1] * stride[1] + dh[1]
        d = r // grid[1] % grid[0] * stride[0] + dh[0]
        if 0 <= d < depth and 0 <= h < height:
            n = r // grid[1] // grid[0]
            pixel = ((n * depth + d) * height + h) * width + w0 + skip * stride[2]
            starts[0, lines] = x.ctypes.data + pixel * c * size
            starts[1, lines] = right + ((r - r0) * grid[2] + skip) * k * size
            lines += 1
    return lines


@body
def add_tap(
    starts: Any, lines: int, count: int, left_step: int, c0: int, cg: int, k: int,
    k0: int, kg: int, lefts: Any, targets: Any, sums: Any,
) -> None:  # fmt: skip
    """Add one tap's products, summed over lines, to (strips, C, columns)."""
    strips, deep, columns = sums.shape
    size = sums.itemsize
    for i in range(0, deep, ROWS):
        for m in range(ROWS):
            # Channels that are not there repeat the last.
            at = (c0 + min(i + m, cg - 1)) * size
            for t in range(lines):
                lefts[t, m] = starts[0, t] + at
            targets[m] = sums.ctypes.data + (i + m) * columns * size
        for s in range(strips):
            shift = s * deep * columns * size
            run = (
                lefts.ctypes.data, 0, left_step, starts[1].ctypes.data,
                (k0 + s * columns) * size, k, lines, count, targets[0] + shift,
                columns * size, targets.ctypes.data, shift, sums.dtype.type(0),
            )  # fmt: skip
            if (kg - s * columns) * 2 <= columns:
                multiply_narrow(*run)
            else:
                multiply_tile(*run)


@body
def grad_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, kg: int, cg: int, wide: int,
    grid: Any, stride: Any, taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Sum over one part of the rows of outputs: (groups, taps, strips, C, columns).

    Tiles read `wide` filters; where there are fewer, gradients are copied into a
    buffer of that width first.
    """
    groups = sums.shape[0]
    width, c = x.shape[3], x.shape[4]
    k = g.shape[4]
    rows = x.shape[0] * grid[0] * grid[1]
    block = max(1, _OUTPUTS // grid[2])
    starts = np.empty((2, block), np.int64)
    lefts = np.empty((block, ROWS), np.int64)
    targets = np.empty(ROWS, np.int64)
    size = x.itemsize
    buffer = np.zeros((block * grid[2] if wide > k else 1, wide), x.dtype)
    last = (part + 1) * rows // parts
    for r0 in range(part * rows // parts, last, block):
        r1 = min(last, r0 + block)
        right = g.ctypes.data + r0 * grid[2] * k * size
        pitch = max(k, wide)
        if wide > k:
            for i in range((r1 - r0) * grid[2]):
                copy_bytes(buffer[i].ctypes.data, right + i * k * size, k * size)
            right = buffer.ctypes.data
        for tap in range(taps[0] * taps[1] * taps[2]):
            line = tap // taps[2]
            w0 = first[2] + tap % taps[2] * gap[2]
            # Outputs of a row whose input lies in the image: skip to stop.
            skip = max(0, (stride[2] - 1 - w0) // stride[2])
            stop = min(grid[2], (width - 1 - w0) // stride[2] + 1)
            if stop <= skip:
                continue
            d0 = first[0] + line // taps[1] * gap[0]
            h0 = first[1] + line % taps[1] * gap[1]
            lines = find_lines(
                x, right, pitch, r0, r1, grid, stride, (d0, h0), w0, skip, starts
            )
            for job in range(groups):
                add_tap(
                    starts, lines, stop - skip, stride[2] * c,
                    job * cg if groups > 1 else 0, cg, pitch, job * kg, kg, lefts,
                    targets, sums[job, tap],
                )  # fmt: skip


def grad_loop(
    x: Any, g: Any, sums: Any, kg: int, cg: int, wide: int, grid: Any, stride: Any,
    taps: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Sum over all rows: (parts, groups, taps, strips, C, columns)."""
    parts = sums.shape[0]
    for part in prange(parts):
        grad_part(
            part, parts, x, g, sums[part], kg, cg, wide, grid, stride, taps, first, gap
        )


@body
def fold_row(sums: Any, group: int, tap: int, i: int, dw: Any) -> None:
    """Write the gradient of one tap and input channel for all filters."""
    parts, columns = sums.shape[0], sums.shape[5]
    for j in range(dw.size):
        s = j // columns
        total = sums[0, group, tap, s, i, j - s * columns]
        for part in range(1, parts):
            total += sums[part, group, tap, s, i, j - s * columns]
        dw[j] = total


def fold_loop(sums: Any, dw: Any, merged: int) -> None:
    """Add the parts up, in their order, and write (groups, K, C, taps).

    `merged` taps of a line stand one behind the other, as channels.
    """
    groups, _, channels, taps = dw.shape
    for job in prange(groups * taps * channels):
        i = job % channels
        tap = job // channels % taps
        group = job // channels // taps
        row = tap % merged * channels + i
        fold_row(sums, group, tap // merged, row, dw[group, :, i, tap])


def _kernels(real: Any) -> tuple[Any, Any]:
    images = types.Array(real, 5, "C", readonly=True)
    six = real[:, :, :, :, :, ::1]
    ints = types.int64
    grad_types = types.void(images, images, six, ints, ints, ints, *(_three,) * 5)
    return (
        cpu_kernel(signatures=[grad_types])(grad_loop),
        cpu_kernel(signatures=[types.void(six, real[:, :, :, ::1], ints)])(fold_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def weight_grad(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights of a convolution by `plan`.

    Parameters
    ----------
    x, g : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, *grid, K)
    dw : C-contiguous array, shape (groups, K / groups, C / groups, taps)
    """
    groups, kg, cg, _ = dw.shape
    rows = x.shape[0] * plan.grid[0] * plan.grid[1]
    if not g.size or not dw.size:
        dw[...] = 0
        return
    dtype = x.dtype
    columns = COLUMNS[dtype.itemsize]
    taps, merged = plan.taps, 1
    if groups == 1 and cg < FEW and plan.gap[2] == 1 and taps[2] > 1:
        plan, x = frame(plan, x)
        taps, merged = (*taps[:2], 1), taps[2]
        cg *= merged
    strips = -(-kg // columns)
    left = kg - (strips - 1) * columns
    read = (strips - 1) * columns + (columns // 2 if left * 2 <= columns else columns)
    wide = (groups - 1) * kg + read
    deep = -(-cg // ROWS) * ROWS
    shape = (groups, taps[0] * taps[1] * taps[2], strips, deep, columns)
    most = max(1, _SUMS // (math.prod(shape) * dtype.itemsize))
    parts = min(get_num_threads(), rows, most)
    sums = aligned_empty((parts, *shape), dtype)
    sums[...] = 0
    _KERNELS[dtype][0](
        x, g, sums, kg, cg, wide, plan.grid, plan.stride, taps, plan.first, plan.gap
    )
    _KERNELS[dtype][1](sums, dw, merged)
