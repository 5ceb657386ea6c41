"""3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3).

A tile of 6x6 inputs gives 4x4 outputs with 36 products per pair of channels in place
of 144 (A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR
2016, equations 9 to 12):

    Y = A^T [ (G w G^T) * (B^T d B) ] A

summed over the input channels, which makes 36 matrix products of all tiles with all
channels. Memory is channels-last: each transform runs over neighbouring channels, all
36 values in registers (`nnlib.kernels.vectors.tile_transform`); values outside of the
image are read from a row of zeros, outputs outside of it written to a row of waste.
Each thread takes a block of tiles through all three stages while the block is in its
level-2 cache. The gradient by the input is the same with the weights turned round.

CPU alone: on CUDA the library's own choice of algorithm is not beaten by this one.
Relative error in float32: 2e-6 to 5e-6, four times the direct sum's. A value that is
not finite reaches all outputs of its tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.machinery.caches import level2_bytes
from nnlib.kernels.vectors import (
    COLUMNS,
    ROWS,
    aligned_empty,
    clear_bytes,
    multiply_narrow,
    multiply_tile,
    tile_transform,
)

__all__ = [
    "correlate",
    "fits",
    "squares",
    "strips_of",
    "transform_inputs",
    "transform_of",
]

# Bytes of a thread's transformed block of tiles.
_BLOCK_BYTES = level2_bytes() * 3 // 4
# Bytes of a row of the wider tile of sums.
TILE_BYTES = COLUMNS[4] * 4
# Fewer channels than this, of input or output, and the transforms cost more than the
# products they save.
CHANNELS = 16


def _input_line(a: Sequence[Any]) -> list[Any]:
    """Return B^T times six values."""
    even, odd = a[4] - a[2] * 4, a[3] - a[1] * 4
    late, twice = a[4] - a[2], (a[3] - a[1]) * 2
    return [
        a[0] * 4 - a[2] * 5 + a[4],
        even + odd,
        even - odd,
        late + twice,
        late - twice,
        a[1] * 4 - a[3] * 5 + a[5],
    ]


def _output_line(m: Sequence[Any]) -> list[Any]:
    """Return A^T times six values."""
    s, u = m[1] + m[2], m[1] - m[2]
    p, q = m[3] + m[4], m[3] - m[4]
    return [m[0] + s + p, u + q * 2, s + p * 4, u + q * 8 + m[5]]


def _weight_line(w: Sequence[Any]) -> list[Any]:
    """Return G times three values."""
    s = (w[0] + w[2]) * (-1 / 6)
    u = w[1] * (-1 / 6)
    p = w[0] * (1 / 24) + w[2] * (1 / 6)
    q = w[1] * (1 / 12)
    return [w[0] * 0.25, s + u, s - u, p + q, p - q, w[2]]


def apply_both(line: Any, values: Sequence[Any], side: int) -> list[Any]:
    """Apply a line's transform to the columns of a square, then to its rows."""
    columns = [line(values[j::side]) for j in range(side)]
    return [out for row in zip(*columns, strict=True) for out in line(row)]


def _outputs(values: Sequence[Any]) -> list[Any]:
    return [out + values[36] for out in apply_both(_output_line, values[:36], 6)]


def transform_of(inputs: int, outputs: int, line: Any, side: int) -> Any:
    """Make the intrinsic of a line's transform of both sides of a square."""
    return tile_transform(
        inputs, outputs, lambda values: apply_both(line, values, side), overlap=True
    )


# They take whole vectors: `CHANNELS` are one at least, and weights come in columns.
input_tile = transform_of(36, 36, _input_line, 6)
output_tile = tile_transform(37, 16, _outputs, overlap=True)
weight_tile = transform_of(9, 36, _weight_line, 3)


@cpu_loop
def weights_part(
    begin: int, end: int, w: Any, order: Any, columns: int, u: Any
) -> None:
    """Transform the filters of some strips and input channels."""
    channels, k, _ = w.shape
    filters = np.empty((9, columns), u.dtype)
    clear_bytes(filters.ctypes.data, filters.size * u.itemsize)
    table = np.empty((2, 36), np.int64)
    for t in range(9):
        table[0, t] = filters[t].ctypes.data
    for job in range(begin, end):
        c = job % channels
        strip = job // channels * columns
        left = min(columns, k - strip)
        for j in range(left):
            for t in range(9):
                filters[t, j] = w[c, strip + j, order[t]]
        for q in range(36):
            to = q * u.shape[1] + job * columns
            table[1, q] = u.ctypes.data + to * u.itemsize
        weight_tile(
            table[0].ctypes.data, table[1].ctypes.data, columns, u.dtype.type(0)
        )


def weights_loop(w: Any, order: Any, columns: int, u: Any) -> None:
    """Write ``G w G^T`` of (C, K, 9) to 36 times (strips, C, columns)."""
    strips = (w.shape[1] + columns - 1) // columns
    spread(weights_part, strips * w.shape[0], 8, (w, order, columns, u))


@body
def transform_inputs(
    x: Any, v: Any, zeros: Any, table: Any, t0: int, t1: int, down: int, across: int,
    top: int, left: int,
) -> None:  # fmt: skip
    """Write ``B^T d B`` of the tiles `t0` to `t1` of (N, H, W, C): 36 (tiles, C)."""
    _, height, width, c = x.shape
    size = x.itemsize
    nothing = zeros.ctypes.data
    pitch = v.shape[1] * size
    for t in range(t0, t1):
        n = t // (down * across)
        h0 = t // across % down * 4 + top
        w0 = t % across * 4 + left
        corner = x.ctypes.data + ((n * height + h0) * width + w0) * c * size
        to = v.ctypes.data + (t - t0) * c * size
        for i in range(6):
            row = corner + i * width * c * size
            inside = 0 <= h0 + i < height
            for j in range(6):
                here = inside and 0 <= w0 + j < width
                table[0, 6 * i + j] = row + j * c * size if here else nothing
                table[1, 6 * i + j] = to + (6 * i + j) * pitch
        input_tile(table[0].ctypes.data, table[1].ctypes.data, c, x.dtype.type(0))


@body
def multiply(
    v: Any, u: Any, m: Any, zeros: Any, table: Any, tiles: int, c: int, strips: int,
    columns: int,
) -> None:  # fmt: skip
    """Multiply 36 times (tiles, C) by (C, K)."""
    size = v.itemsize
    for b in range((tiles + ROWS - 1) // ROWS * ROWS):
        # Rows beyond the last repeat it; what they give is never read.
        table[0, b] = v.ctypes.data + min(b, tiles - 1) * c * size
        table[1, b] = m.ctypes.data + b * strips * columns * size
    right = table[2]
    narrow = columns * size < TILE_BYTES
    for q in range(36):
        for s in range(strips):
            right[0] = u.ctypes.data + (q * u.shape[1] + s * c * columns) * size
            for b in range(0, tiles, ROWS):
                run = (
                    table[0].ctypes.data + b * 8, q * v.shape[1] * size, 1,
                    right.ctypes.data, 0, columns, 1, c, zeros.ctypes.data, 0,
                    table[1].ctypes.data + b * 8,
                    (q * m.shape[1] + s * columns) * size, v.dtype.type(0),
                )  # fmt: skip
                if narrow:
                    multiply_narrow(*run)
                else:
                    multiply_tile(*run)


@body
def transform_outputs(
    m: Any, y: Any, bias: Any, waste: Any, table: Any, t0: int, t1: int, down: int,
    across: int, wide: int,
) -> None:  # fmt: skip
    """Write ``A^T m A`` plus the bias to the tiles `t0` to `t1` of (N, P, Q, K)."""
    _, height, width, k = y.shape
    size = y.itemsize
    table[0, 36] = bias.ctypes.data
    for t in range(t0, t1):
        h0 = t // across % down * 4
        w0 = t % across * 4
        n = t // (down * across)
        corner = y.ctypes.data + ((n * height + h0) * width + w0) * k * size
        start = m.ctypes.data + (t - t0) * wide * size
        for q in range(36):
            table[0, q] = start + q * m.shape[1] * size
        for i in range(4):
            for j in range(4):
                inside = h0 + i < height and w0 + j < width
                place = corner + (i * width + j) * k * size
                table[1, 4 * i + j] = place if inside else waste.ctypes.data
        output_tile(table[0].ctypes.data, table[1].ctypes.data, k, y.dtype.type(0))


@cpu_loop
def forward_parts(
    begin: int, end: int, x: Any, u: Any, bias: Any, y: Any, v: Any, m: Any, block: int,
    columns: int, top: int, left: int,
) -> None:  # fmt: skip
    """Take some parts of the tiles, block by block, through the three stages."""
    images, height, width, k = y.shape
    c = x.shape[3]
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = images * down * across
    groups = (tiles + ROWS - 1) // ROWS
    strips = (k + columns - 1) // columns
    zeros = np.empty(max(c, columns), x.dtype)
    clear_bytes(zeros.ctypes.data, zeros.size * x.itemsize)
    waste = np.empty(k, x.dtype)
    table = np.empty((3, max(block, 40)), np.int64)
    for part in range(begin, end):
        own, products = v[part], m[part]
        first = part * groups // v.shape[0] * ROWS
        last = min(tiles, (part + 1) * groups // v.shape[0] * ROWS)
        for t0 in range(first, last, block):
            t1 = min(last, t0 + block)
            transform_inputs(x, own, zeros, table, t0, t1, down, across, top, left)
            multiply(own, u, products, zeros, table, t1 - t0, c, strips, columns)
            transform_outputs(
                products, y, bias, waste, table, t0, t1, down, across, strips * columns
            )


def forward_loop(
    x: Any, u: Any, bias: Any, y: Any, v: Any, m: Any, block: int, columns: int,
    top: int, left: int,
) -> None:  # fmt: skip
    """Convolve all tiles; `v` and `m` are each part's buffers, of `block` tiles."""
    spread(
        forward_parts, v.shape[0], 1,
        (x, u, bias, y, v, m, block, columns, top, left),
    )  # fmt: skip


def _kernels(real: Any) -> tuple[Any, Any]:
    def inputs(ndim: int) -> Any:
        return types.Array(real, ndim, "C", readonly=True)

    any_three = types.Array(real, 3, "A", readonly=True, aligned=False)
    order = types.Array(types.int64, 1, "C", readonly=True)
    two, three, four = real[:, ::1], real[:, :, ::1], real[:, :, :, ::1]
    ints = types.int64
    forward = types.void(
        inputs(4), two, inputs(1), four, three, three, ints, ints, ints, ints
    )
    weights = types.void(any_three, order, ints, two)
    return (
        cpu_kernel(shared=True, signatures=[weights])(weights_loop),
        cpu_kernel(shared=True, signatures=[forward])(forward_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def fits(plan: Plan, x: Any, k: int) -> bool:
    """Tell whether `correlate` can do this, and pays.

    Parameters
    ----------
    plan : Plan
    x : array, shape (N, D, H, W, C)
    k : int
        Channels of the output.
    """
    return (
        plan.taps == (1, 3, 3)
        and plan.stride == plan.step == plan.gap == (1, 1, 1)
        and plan.first[0] == 0
        and plan.grid[0] == x.shape[1]
        and min(x.shape[4], k) >= CHANNELS
        and min(plan.grid[1:]) >= 4
    )


def strips_of(k: int, itemsize: int) -> tuple[int, int]:
    """Return how many strips of columns hold `k` filters, and their columns.

    Half as wide where half of the last would be empty, and that is much of them all.
    """
    columns = COLUMNS[itemsize]
    if k < 2 * columns and 0 < k % columns <= columns // 2:
        columns //= 2
    return -(-k // columns), columns


def squares(parts: int, count: int, dtype: Any) -> Any:
    """Return buffers of 36 times `count` values for each part.

    Their distance is an odd number of cache lines: at a power of two, all 36 values of
    a tile would fall on the same few places of the level-1 cache.
    """
    lines = -(-count * dtype.itemsize // 64) | 1
    return aligned_empty((parts, 36, lines * 64 // dtype.itemsize), dtype)


def correlate(plan: Plan, x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`.

    Parameters
    ----------
    x, y : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D, P, Q, K)
    w : array of any strides, shape (C, K, 9)
    bias : array, shape (K,) or (0,)
    """
    dtype = x.dtype
    c, k = x.shape[4], y.shape[4]
    strips, columns = strips_of(k, dtype.itemsize)
    wide = strips * columns
    u = squares(1, c * wide, dtype)[0]
    _KERNELS[dtype][0](w, plan.order, columns, u)
    images = y.shape[0] * y.shape[1]
    tiles = images * -(-y.shape[2] // 4) * -(-y.shape[3] // 4)
    groups = -(-tiles // ROWS)
    threads = min(get_num_threads(), groups)
    most = max(_BLOCK_BYTES // (36 * (c + wide) * dtype.itemsize) // ROWS, 2)
    # Blocks of one length make up the groups of a thread.
    share = -(-groups // threads)
    block = -(-share // -(-share // most)) * ROWS
    v = squares(threads, block * c, dtype)
    m = squares(threads, block * wide, dtype)
    _KERNELS[dtype][1](
        x.reshape(images, *x.shape[2:]), u, bias if bias.size else np.zeros(k, dtype),
        y.reshape(images, *y.shape[2:]), v, m, block, columns, plan.first[1],
        plan.first[2],
    )  # fmt: skip
