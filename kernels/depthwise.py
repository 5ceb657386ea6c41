"""Convolution of each channel with a filter of its own, on the CPU.

Vectors run over neighbouring channels. Rows of outputs are cut into blocks, whose sums
stay in registers (`nnlib.kernels.channel_blocks`), for 3x3 of stride 1 a few rows at a
time; images are read where they lie. The gradient by the weights adds each block's
products to sums of the thread's own.

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
from nnlib.kernels.channel_blocks import MOST_OUTPUTS, ROWS, Form, block_of, run_block
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.machinery.caches import outgrows_caches
from nnlib.kernels.vectors import REGISTER_BYTES, padded

__all__ = ["correlate", "weight_grad"]

# Taps of a line that blocks are made for: each number is a function to compile.
_MOST_TAPS = 7
# Where sizes of blocks begin in the numbers of a `_Cut`.
_SIZES = 25
# Times an image's bytes pass through the last cache before they are read again: itself,
# the result, and as much of what else a step of training reads.
_PASSED = 4
# Rows of outputs that a thread has at least.
_GRAIN = 4
# Bytes of partial sums, over all threads.
_PARTIAL_SUMS = 1 << 27


class _Cut(NamedTuple):
    """A plan cut into blocks.

    Attributes
    ----------
    numbers : numpy.ndarray of int64
        The plan's grid, start, step, stride, taps, first and gap, three each; the rows
        of a block of several rows, how many such blocks a slice has, and how many jobs
        with the single rows left over; where the sizes of blocks of a single row begin.
        From `_SIZES` on, for each size of a block of several rows from the largest, its
        outputs, columns and function; then those of a single row.
    order : numpy.ndarray of int64
        The order of the taps.
    """

    numbers: Any
    order: Any


def _sizes(grid: int, most: int, form: Form, dtype: Any) -> list[int]:
    """Return outputs, columns and function of the blocks that a row is cut into."""
    sizes = [n for n in (8, 4, 2, 1) if n <= min(grid, most)]
    if not form.grad:
        # The last block begins early; a gradient must not add an output twice.
        sizes = sizes[:1]
    found: list[int] = []
    for size in sizes:
        if grid >= size:
            used = form._replace(outputs=size)
            found += [size, used.columns, block_of(used, dtype)]
            grid %= size
    return found


@functools.lru_cache(maxsize=512)
def _cut(
    key: tuple[Any, ...], width: int, dtype: Any, grad: bool, fetch: bool = False
) -> _Cut | None:
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
    form = Form(1, taps, stride, outside, int(grad))
    square = plan.taps == (1, 3, 3) and plan.stride == plan.gap == (1, 1, 1)
    blocks = plan.grid[1] // ROWS if square else 0
    numbers = [number for field in plan[:7] for number in field]
    sizes = []
    if blocks:
        sizes = _sizes(grid, 4, form._replace(rows=ROWS, fetch=int(fetch)), dtype)
    left = plan.grid[1] - blocks * ROWS
    numbers += [ROWS, blocks, blocks + left, _SIZES + len(sizes), *sizes]
    if left:
        numbers += _sizes(grid, MOST_OUTPUTS, form, dtype)
    return _Cut(np.array(numbers, np.int64), plan.order)


@body
def place_of(job: int, numbers: Any) -> Any:
    """Return image, slice and first row of a job, and how many rows it has."""
    slices = job // numbers[23]
    n = slices // numbers[0]
    d = slices - n * numbers[0]
    block = job - slices * numbers[23]
    if block < numbers[22]:
        return n, d, block * numbers[21], numbers[21]
    return n, d, block + numbers[22] * (numbers[21] - 1), 1


@body
def list_lines(
    x: Any, weights: int, tap: int, place: Any, numbers: Any, table: Any
) -> int:
    """Write where the lines of a job's windows and their weights begin; count them.

    `weights` is the address of the first tap's, `tap` the bytes from one to the next.
    Of a single row's windows, lines outside of the image are left out.
    """
    _, depth, height, width, channels = x.shape
    n, d, q, rows = place
    count = 0
    if not numbers[14]:
        return count
    for a in range(numbers[12]):
        z = d * numbers[9] + numbers[15] + a * numbers[18]
        for b in range(numbers[13] + rows - 1):
            h = q * numbers[10] + numbers[16] + b * numbers[19]
            inside = 0 <= z < depth and 0 <= h < height
            if inside or rows > 1:
                line = ((n * depth + z) * height + h) * width
                line = x.ctypes.data + line * channels * x.itemsize
                table[1 + 2 * count] = line if inside else 0
                first = (a * numbers[13] + b) * numbers[14]
                table[2 + 2 * count] = weights + first * tap
                count += 1
    return count


@body
def run_blocks(
    x: Any, row: int, step: int, below: int, lines: int, tap: int, overlap: bool,
    numbers: Any, size: int, table: Any, zeros: Any,
) -> None:  # fmt: skip
    """Compute a job's rows: their first outputs are at `row`, `below` bytes apart.

    The next outputs of a row are `step` bytes on; `size` is where the largest size of
    the blocks is in `numbers`.
    """
    width = x.shape[3]
    pixel = x.shape[4] * x.itemsize
    grid = numbers[2]
    i = 0
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
            zeros.ctypes.data, tap, row + i * step, step, pixel, below,
        )  # fmt: skip
        i += numbers[size]


@body
def make_zeros(x: Any) -> Any:
    """Return the zeros that blocks read in place of what is outside."""
    # Pixels for the columns of a block of several rows, four outputs of three taps.
    return np.zeros(6 * x.shape[4], x.dtype)


@cpu_loop
def correlate_rows(
    begin: int, end: int, x: Any, packed: Any, start: Any, y: Any, numbers: Any
) -> None:
    """Compute the jobs `begin` to `end`."""
    pixel = x.shape[4] * x.itemsize
    zeros = make_zeros(x)
    table = np.empty(1 + 2 * numbers[12] * (numbers[13] + numbers[21]), np.int64)
    table[0] = start.ctypes.data
    for job in range(begin, end):
        place = place_of(job, numbers)
        n, d, q, rows = place
        lines = list_lines(x, packed.ctypes.data, pixel, place, numbers, table)
        # The row of the result, and its first output.
        at = (n * y.shape[1] + d * numbers[6] + numbers[3]) * y.shape[2]
        at = (at + q * numbers[7] + numbers[4]) * y.shape[3] + numbers[5]
        run_blocks(
            x, y.ctypes.data + at * pixel, numbers[8] * pixel,
            numbers[7] * y.shape[3] * pixel, lines, pixel, True, numbers,
            _SIZES if rows > 1 else numbers[24], table, zeros,
        )  # fmt: skip


def correlate_loop(
    x: Any, w: Any, start: Any, y: Any, order: Any, numbers: Any
) -> None:
    """Put the channels of each tap together, then compute all rows, on the pool."""
    packed = np.empty((order.size, w.shape[0]), w.dtype)
    for t in range(order.size):
        for c in range(w.shape[0]):
            packed[t, c] = w[c, order[t]]
    jobs = x.shape[0] * numbers[0] * numbers[23]
    grain = max(1, _GRAIN * numbers[23] // numbers[1])
    spread(correlate_rows, jobs, grain, (x, packed, start, y, numbers))


@cpu_loop
def grad_parts(begin: int, end: int, x: Any, g: Any, sums: Any, numbers: Any) -> None:
    """Sum the parts `begin` to `end` of all jobs."""
    pixel = x.shape[4] * x.itemsize
    tap = sums.shape[2] * sums.itemsize
    zeros = make_zeros(x)
    table = np.empty(1 + 2 * numbers[12] * (numbers[13] + numbers[21]), np.int64)
    jobs = x.shape[0] * numbers[0] * numbers[23]
    parts = sums.shape[0]
    for part in range(begin, end):
        weights = sums.ctypes.data + part * sums.shape[1] * tap
        for job in range(part * jobs // parts, (part + 1) * jobs // parts):
            place = place_of(job, numbers)
            n, d, q, rows = place
            lines = list_lines(x, weights, tap, place, numbers, table)
            row = ((n * numbers[0] + d) * numbers[1] + q) * numbers[2]
            run_blocks(
                x, g.ctypes.data + row * pixel, pixel, numbers[2] * pixel, lines, tap,
                False, numbers, _SIZES if rows > 1 else numbers[24], table, zeros,
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
        fetch = outgrows_caches(_PASSED * x.nbytes)
        found = [_cut(plan.key, x.shape[3], x.dtype, False, fetch) for plan in plans]
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
        fetch = outgrows_caches(_PASSED * x.nbytes)
        cut = _cut(plan.key, x.shape[3], x.dtype, True, fetch)
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
