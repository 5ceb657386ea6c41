"""Convolution of each channel with a filter of its own, on the CPU.

Vectors run over neighbouring channels. Rows of outputs are cut into blocks, whose sums
stay in registers (`nnlib.kernels.channel_blocks`); images are read where they lie. The
gradient by the weights adds each block's products to sums of the thread's own.

What this does not fit (several filters of a channel, fewer channels than a vector has
elements, memory that is not channels-last, dilation, wide padding) is done by bands of
rows in frames of zeros: `nnlib.kernels.depthwise_bands`. On CUDA a thread computes one
output; see `nnlib.kernels.convolution_cuda`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels import depthwise_bands
from nnlib.kernels.channel_blocks import MOST_OUTPUTS, Form, block_of, run_block
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.vectors import REGISTER_BYTES, padded

__all__ = ["correlate", "weight_grad"]

# Taps of a line that blocks are made for: each number is a function to compile.
_MOST_TAPS = 7
# Rows of outputs that a thread has at least.
_GRAIN = 4
# Bytes of partial sums, over all threads.
_PARTIAL_SUMS = 1 << 27


class _Cut(NamedTuple):
    """A plan cut into blocks.

    Attributes
    ----------
    numbers : numpy.ndarray of int64
        The plan's grid, start, step, stride, taps, first and gap, three each; then, for
        each size of block from the largest, its outputs, columns and function.
    order : numpy.ndarray of int64
        The order of the taps.
    """

    numbers: Any
    order: Any


@functools.lru_cache(maxsize=512)
def _cut(key: tuple[Any, ...], width: int, dtype: Any, grad: bool) -> _Cut | None:
    """Cut a plan (without order) over images of some width; None if it does not fit."""
    plan = Plan._make((*key[:7], np.frombuffer(key[7], np.int64)))
    grid, stride, first = plan.grid[2], plan.stride[2], plan.first[2]
    taps = max(plan.taps[2], 1)
    behind = max(0, (grid - 1) * stride + first + taps - width)
    outside = max(behind, -first)
    if stride > 2 or plan.gap[2] > 1 or taps > _MOST_TAPS or outside >= taps:
        return None
    # Few forms of blocks: none, a "same" convolution's or all columns but one.
    outside = min(n for n in (0, taps // 2, taps - 1) if n >= outside)
    sizes = [n for n in (8, 4, 2, 1) if n <= min(grid, MOST_OUTPUTS)]
    if not grad:
        # The last block begins early; a gradient must not add an output twice.
        sizes = sizes[:1]
    numbers = [number for field in plan[:7] for number in field]
    left = grid
    for size in sizes:
        if left >= size:
            form = Form(size, taps, stride, outside, int(grad))
            numbers += [size, form.columns, block_of(form, dtype)]
            left %= size
    return _Cut(np.array(numbers, np.int64), plan.order)


@body
def list_lines(
    x: Any, weights: int, tap: int, n: int, d: int, q: int, numbers: Any, table: Any
) -> int:
    """Write where the lines of a row of windows and their weights begin; count them.

    `weights` is the address of the first tap's, `tap` the bytes from one to the next.
    """
    _, depth, height, width, channels = x.shape
    count = 0
    if not numbers[14]:
        return count
    for a in range(numbers[12]):
        z = d * numbers[9] + numbers[15] + a * numbers[18]
        for b in range(numbers[13]):
            h = q * numbers[10] + numbers[16] + b * numbers[19]
            if 0 <= z < depth and 0 <= h < height:
                line = ((n * depth + z) * height + h) * width
                table[1 + 2 * count] = x.ctypes.data + line * channels * x.itemsize
                first = (a * numbers[13] + b) * numbers[14]
                table[2 + 2 * count] = weights + first * tap
                count += 1
    return count


@body
def run_blocks(
    x: Any, row: int, step: int, lines: int, tap: int, overlap: bool, numbers: Any,
    table: Any, zeros: Any,
) -> None:  # fmt: skip
    """Compute a row of outputs: the first is at `row`, the next `step` bytes on."""
    width = x.shape[3]
    pixel = x.shape[4] * x.itemsize
    grid = numbers[2]
    i, size = 0, 21
    while i < grid:
        if i + numbers[size] > grid:
            if overlap:
                i = grid - numbers[size]
            else:
                size += 3
                continue
        left = i * numbers[11] + numbers[17]
        run_block(
            numbers[size + 2], table.ctypes.data, lines, left * pixel, pixel,
            max(0, -left), max(0, left + numbers[size + 1] - width),
            zeros.ctypes.data, tap, row + i * step, step, pixel,
        )  # fmt: skip
        i += numbers[size]


@cpu_loop
def correlate_rows(
    begin: int, end: int, x: Any, packed: Any, start: Any, y: Any, numbers: Any
) -> None:
    """Compute the rows of outputs `begin` to `end`."""
    pixel = x.shape[4] * x.itemsize
    zeros = np.zeros(REGISTER_BYTES // x.itemsize, x.dtype)
    table = np.empty(1 + 2 * numbers[12] * numbers[13], np.int64)
    table[0] = start.ctypes.data
    for job in range(begin, end):
        q = job % numbers[1]
        d = job // numbers[1] % numbers[0]
        n = job // numbers[1] // numbers[0]
        lines = list_lines(x, packed.ctypes.data, pixel, n, d, q, numbers, table)
        # The row of the result, and its first output.
        at = (n * y.shape[1] + d * numbers[6] + numbers[3]) * y.shape[2]
        at = (at + q * numbers[7] + numbers[4]) * y.shape[3] + numbers[5]
        run_blocks(
            x, y.ctypes.data + at * pixel, numbers[8] * pixel, lines, pixel, True,
            numbers, table, zeros,
        )  # fmt: skip


def correlate_loop(
    x: Any, w: Any, start: Any, y: Any, order: Any, numbers: Any
) -> None:
    """Put the channels of each tap together, then compute all rows, on the pool."""
    packed = np.empty((order.size, w.shape[0]), w.dtype)
    for t in range(order.size):
        for c in range(w.shape[0]):
            packed[t, c] = w[c, order[t]]
    rows = x.shape[0] * numbers[0] * numbers[1]
    spread(correlate_rows, rows, _GRAIN, (x, packed, start, y, numbers))


@cpu_loop
def grad_parts(begin: int, end: int, x: Any, g: Any, sums: Any, numbers: Any) -> None:
    """Sum the parts `begin` to `end` of all rows."""
    pixel = x.shape[4] * x.itemsize
    tap = sums.shape[2] * sums.itemsize
    zeros = np.zeros(REGISTER_BYTES // x.itemsize, x.dtype)
    table = np.empty(1 + 2 * numbers[12] * numbers[13], np.int64)
    rows = x.shape[0] * numbers[0] * numbers[1]
    parts = sums.shape[0]
    for part in range(begin, end):
        weights = sums.ctypes.data + part * sums.shape[1] * tap
        for job in range(part * rows // parts, (part + 1) * rows // parts):
            q = job % numbers[1]
            d = job // numbers[1] % numbers[0]
            n = job // numbers[1] // numbers[0]
            lines = list_lines(x, weights, tap, n, d, q, numbers, table)
            run_blocks(
                x, g.ctypes.data + job * numbers[2] * pixel, pixel, lines, tap, False,
                numbers, table, zeros,
            )  # fmt: skip


def grad_loop(x: Any, g: Any, sums: Any, numbers: Any) -> None:
    """Sum by parts, on the pool."""
    spread(grad_parts, sums.shape[0], 1, (x, g, sums, numbers))


def _kernels(real: Any) -> tuple[Any, Any]:
    def inputs(kind: Any, ndim: int, layout: str = "C") -> Any:
        return types.Array(kind, ndim, layout, readonly=True, aligned=layout == "C")

    images, ints = inputs(real, 5), inputs(types.int64, 1)
    correlate_types = types.void(
        images, inputs(real, 2, "A"), inputs(real, 1), real[:, :, :, :, ::1], ints, ints
    )
    grad_types = types.void(images, images, real[:, :, ::1], ints)
    return (
        cpu_kernel(shared=True, signatures=[correlate_types])(correlate_loop),
        cpu_kernel(shared=True, signatures=[grad_types])(grad_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def _fits(x: Any) -> bool:
    """Tell whether vectors can be read where the images lie."""
    result: bool = x.flags.c_contiguous and x.shape[4] * x.itemsize >= REGISTER_BYTES
    return result and x.size > 0


def correlate(
    plans: tuple[Plan, ...], x: Any, w: Any, bias: Any, y: Any, repeat: int
) -> None:
    """Write the outputs of `plans` to `y`.

    Parameters
    ----------
    plans : tuple of Plan
        All of one stride, none with an empty grid.
    x : numpy.ndarray, shape (N, D, H, W, K / repeat), any strides
    w : array, shape (K, taps)
    bias : array, shape (K,) or (0,)
    y : C-contiguous array, shape (N, D', H', W', K)
    repeat : int
        Filters of each channel.
    """
    if not y.size:
        return
    if repeat == 1 and _fits(x):
        found = [_cut(plan.key, x.shape[3], x.dtype, False) for plan in plans]
        cuts = [cut for cut in found if cut is not None]
        if len(cuts) == len(plans):
            start = bias if bias.size else np.zeros(x.shape[4], x.dtype)
            for cut in cuts:
                _KERNELS[x.dtype][0](x, w, start, y, cut.order, cut.numbers)
            return
    depthwise_bands.correlate(plans, x, w, bias, y, repeat)


def weight_grad(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    g : C-contiguous numpy.ndarray, shape (N, *grid, K)
    dw : C-contiguous array, shape (K, taps)
    """
    k, taps = dw.shape
    if not g.size:
        dw[...] = 0
        return
    cut = None
    if k == x.shape[4] and _fits(x):
        cut = _cut(plan.key, x.shape[3], x.dtype, True)
    if cut is None:
        depthwise_bands.weight_grad(plan, x, g, dw)
        return
    wide = padded(k, x.itemsize)
    rows = x.shape[0] * plan.grid[0] * plan.grid[1]
    most = max(1, _PARTIAL_SUMS // (taps * wide * x.itemsize))
    parts = max(1, min(get_num_threads(), rows // _GRAIN, most))
    sums = np.zeros((parts, taps, wide), x.dtype)
    _KERNELS[x.dtype][1](x, g, sums, cut.numbers)
    total = sums[0]
    for part in sums[1:]:
        total += part
    # The channels that the last vector computed again have two sums that are the same.
    lanes = REGISTER_BYTES // x.itemsize
    dw.T[:, : k - lanes] = total[:, : k - lanes]
    dw.T[:, k - lanes :] = total[:, wide - lanes :]
