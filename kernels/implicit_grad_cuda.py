"""The gradient of a convolution by its weight on CUDA, as one product of matrices.

Its rows are the pairs of a tap and a channel, its columns the filters; the sum runs
over the outputs, of which each block takes a part. The parts are added up in one order
by a second launch, which writes the weight's own layout. See
`nnlib.kernels.implicit_cuda`, whose tiles these are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.implicit_cuda import (
    PRODUCTS,
    TILE,
    put_row,
    take,
    take_quad,
)
from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.machinery.cuda_vectors import aligned, store4

__all__ = ["add_parts_cuda", "adding_blocks", "grad_kernels", "grad_table", "grad_tile"]

_STEP = 8
# Threads of a block that adds up parts: so many elements, each by so many threads.
_LANES, _SHARES = 32, 8
_ADDERS = _LANES * _SHARES


@body
def split_row(table: Any, m: Any) -> Any:
    """Return the image and the place in the grid of output `m`."""
    rest = np.uint32(m)
    line = np.uint32(rest // np.uint32(table[3]))
    w = np.int32(rest - line * np.uint32(table[3]))
    plane = np.uint32(line // np.uint32(table[2]))
    h = np.int32(line - plane * np.uint32(table[2]))
    n = np.uint32(plane // np.uint32(table[1]))
    return np.int32(n), np.int32(plane - n * np.uint32(table[1])), h, w


@body
def next_row(n: Any, d: Any, h: Any, w: Any, size: Any, step: Any) -> Any:
    """Return the place `_STEP` outputs on, which is `step` in each dimension."""
    w = np.int32(w + step[3])
    h = np.int32(h + step[2])
    d = np.int32(d + step[1])
    n = np.int32(n + step[0])
    if w >= size[2]:
        w = np.int32(w - size[2])
        h = np.int32(h + 1)
    if h >= size[1]:
        h = np.int32(h - size[1])
        d = np.int32(d + 1)
    if d >= size[0]:
        d = np.int32(d - size[0])
        n = np.int32(n + 1)
    return n, d, h, w


@body
def column_of(table: Any, j: Any, group: Any) -> Any:
    """Return where column `j`, a tap of a channel, lies beside an output's place."""
    tap = np.uint32(np.uint32(j) // np.uint32(table[28]))
    c = np.int32(j - tap * table[28])
    line = np.uint32(tap // np.uint32(table[16]))
    w = np.int32((tap - line * table[16]) * table[19] + table[13])
    plane = np.uint32(line // np.uint32(table[15]))
    h = np.int32((line - plane * table[15]) * table[18] + table[12])
    d = np.int32(plane * table[17] + table[11])
    return d, h, w, np.int32((group * table[28] + c) * table[27])


@body
def place_in(row: Any, column: Any, stride: Any, size: Any, steps: Any) -> Any:
    """Return where a row's column is, and whether that is inside the image."""
    d = np.int32(row[1] * stride[0] + column[0])
    h = np.int32(row[2] * stride[1] + column[1])
    w = np.int32(row[3] * stride[2] + column[2])
    inside = (
        d >= 0 and d < size[0] and h >= 0 and h < size[1] and w >= 0 and w < size[2]
    )
    place = np.uint32(
        row[0] * steps[0] + d * steps[1] + h * steps[2] + w * steps[3] + column[3]
    )
    return place, inside


@body
def take_column(
    x: Any, row: Any, column: Any, stride: Any, size: Any, steps: Any, some: Any
) -> Any:
    """Return one number of a row, or zero."""
    place, inside = place_in(row, column, stride, size, steps)
    return take(x, place, inside and some)


@body
def three(table: Any, i: Any) -> Any:
    """Return three numbers of a table."""
    return np.int32(table[i]), np.int32(table[i + 1]), np.int32(table[i + 2])


def make_grad(rows: int, deep: int, wide: bool) -> Any:
    """Return the kernel of tiles of `rows` taps of channels and ``4 * deep`` filters.

    A block has `rows` threads, each with `deep` times four sums.
    """
    columns = 4 * deep
    pitch_a, pitch_b = rows + 4, columns + 4
    size_a, size_b = _STEP * pitch_a, _STEP * pitch_b
    room_a, room_b = 2 * size_a, 2 * size_b
    loads = _STEP * columns // rows
    products, tile = PRODUCTS[deep], TILE[deep]
    quarter = rows // 4
    b_rows = rows // columns
    next_a, next_b = np.uint64(pitch_a), np.uint64(pitch_b)

    def weight_grad(x: Any, g: Any, parts: Any, table: Any) -> None:
        a_tile = cuda.shared.array(room_a, dtype=x.dtype)
        b_tile = cuda.shared.array(room_b, dtype=x.dtype)
        ahead = cuda.local.array(loads, dtype=x.dtype)
        tid = np.int32(cuda.threadIdx.x)
        block = np.int32(cuda.blockIdx.x)
        all_tiles = np.int32(table[31] * table[32] * table[33])
        share = np.int32(np.uint32(block) // np.uint32(all_tiles))
        rest = np.int32(block - share * all_tiles)
        line = np.int32(np.uint32(rest) // np.uint32(table[32]))
        n0 = np.int32((rest - line * table[32]) * columns)
        group = np.int32(np.uint32(line) // np.uint32(table[31]))
        j0 = np.int32((line - group * table[31]) * rows)
        kg, total = np.int32(table[29]), np.int32(table[30])
        begin = np.int32(share * table[34])
        end = np.int32(min(begin + table[34], table[0]))
        grid, stride, image = three(table, 1), three(table, 8), three(table, 20)
        steps_x = (
            np.int32(table[23]), np.int32(table[24]), np.int32(table[25]),
            np.int32(table[26]),
        )  # fmt: skip
        step = (
            np.int32(table[4]), np.int32(table[5]), np.int32(table[6]),
            np.int32(table[7]),
        )  # fmt: skip
        # Which numbers of the left tile this thread reads: four columns of two rows.
        line_a = np.int32(tid // quarter)
        four = np.int32((tid - line_a * quarter) * 4)
        left_a = np.int32(total - j0 - four)
        c0 = column_of(table, np.int32(j0 + four), group)
        c1, c2, c3 = c0, c0, c0
        if not wide:
            c1 = column_of(table, np.int32(j0 + four + 1), group)
            c2 = column_of(table, np.int32(j0 + four + 2), group)
            c3 = column_of(table, np.int32(j0 + four + 3), group)
        m = np.int32(begin + line_a)
        row0 = split_row(table, m)
        row1 = split_row(table, np.int32(m + 4))
        a_place = np.uint32(line_a * pitch_a + four)
        # And of the right one: a column of some rows.
        line_b = np.int32(tid // columns)
        nb = np.int32(tid - line_b * columns)
        some_b = n0 + nb < kg
        b_at = np.int32((begin + line_b) * table[35] + group * kg + n0 + nb)
        b_left = np.int32(end - begin - line_b)
        b_place = np.uint32(line_b * pitch_b + nb)
        tx = np.int32(tid % deep)
        ty = np.int32(tid // deep)
        zero = x.dtype.type(0)
        p0 = (zero, zero, zero, zero)
        p1 = (zero, zero, zero, zero)
        nothing = (zero, zero, zero, zero)
        r = tile(nothing)
        buffer = np.uint32(0)
        steps = np.int32(np.uint32(end - begin + 7) >> np.uint32(3))
        for s in range(steps + 1):
            if s < steps:
                if wide:
                    place, inside = place_in(row0, c0, stride, image, steps_x)
                    p0 = take_quad(x, place, inside and m < end and left_a > 0)
                    place, inside = place_in(row1, c0, stride, image, steps_x)
                    p1 = take_quad(x, place, inside and m + 4 < end and left_a > 0)
                else:
                    p0 = take_columns(
                        x, row0, c0, c1, c2, c3, stride, image, steps_x, left_a, m < end
                    )
                    p1 = take_columns(
                        x, row1, c0, c1, c2, c3, stride, image, steps_x, left_a,
                        m + 4 < end,
                    )  # fmt: skip
                for i in range(loads):
                    ahead[i] = take(
                        g, np.uint32(b_at + i * b_rows * table[35]),
                        some_b and i * b_rows < b_left,
                    )  # fmt: skip
                m = np.int32(m + _STEP)
                b_at = np.int32(b_at + _STEP * table[35])
                b_left = np.int32(b_left - _STEP)
                row0 = next_row(row0[0], row0[1], row0[2], row0[3], grid, step)
                row1 = next_row(row1[0], row1[1], row1[2], row1[3], grid, step)
            if s > 0:
                u = np.uint64(buffer * np.uint32(size_a) + np.uint32(ty * deep))
                v = np.uint64(buffer * np.uint32(size_b) + np.uint32(tx * 4))
                r = products(r, a_tile, b_tile, u, v, next_a, next_b)
            if s < steps:
                if s > 0:
                    buffer = np.uint32(np.uint32(1) - buffer)
                at = np.uint64(buffer * np.uint32(size_a) + a_place)
                store4(a_tile, at, p0[0], p0[1], p0[2], p0[3])
                at = np.uint64(at + np.uint64(4 * pitch_a))
                store4(a_tile, at, p1[0], p1[1], p1[2], p1[3])
                at_b = np.uint32(buffer * np.uint32(size_b) + b_place)
                for i in range(loads):
                    b_tile[np.uint32(at_b + np.uint32(i * b_rows * pitch_b))] = ahead[i]
            cuda.syncthreads()

        left = np.int32(kg - n0 - tx * 4)
        quads = np.uint32(kg) & np.uint32(3) == np.uint32(0) and aligned(parts)
        first = np.int32((share * table[33] + group) * total)
        for i in range(deep):
            column = np.int32(j0 + ty * deep + i)
            if column < total and left > 0:
                place = np.uint32((first + column) * kg + n0 + tx * 4)
                put_row(parts, place, left, quads, r[i])

    name = f"weight_grad_{'wide' if wide else 'any'}_{rows}_{columns}"
    weight_grad.__name__ = weight_grad.__qualname__ = name
    return cuda_kernel(threads=rows)(weight_grad)


@body
def take_columns(
    x: Any, row: Any, c0: Any, c1: Any, c2: Any, c3: Any, stride: Any, size: Any,
    steps: Any, left: Any, some: Any,
) -> Any:  # fmt: skip
    """Return four columns of a row."""
    return (
        take_column(x, row, c0, stride, size, steps, some and left > 0),
        take_column(x, row, c1, stride, size, steps, some and left > 1),
        take_column(x, row, c2, stride, size, steps, some and left > 2),
        take_column(x, row, c3, stride, size, steps, some and left > 3),
    )


grad_kernels = {
    (rows, deep, wide): make_grad(rows, deep, wide)
    for rows, deep in ((64, 8), (64, 4))
    for wide in (False, True)
}


@cuda_kernel(threads=_ADDERS)
def add_parts_cuda(
    parts: Any, dw: Any, size: Any, count: Any, kg: Any, cg: Any, taps: Any
) -> None:
    """Add up the parts of a weight gradient."""
    # parts: `count` times (groups, taps, C / G, K / G); dw: (groups, K/G, C/G, taps).
    shared = cuda.shared.array(_ADDERS, dtype=parts.dtype)
    tid = np.int32(cuda.threadIdx.x)
    share = np.int32(tid // _LANES)
    lane = np.int32(tid - share * _LANES)
    i = np.int32(cuda.blockIdx.x * _LANES + lane)
    total = parts.dtype.type(0)
    if i < size:
        for s in range(share, count, _SHARES):
            total += parts[np.uint32(s * size + i)]
    shared[tid] = total
    cuda.syncthreads()
    if share == 0 and i < size:
        for s in range(1, _SHARES):
            total += shared[s * _LANES + lane]
        line = np.uint32(np.uint32(i) // np.uint32(kg))
        n = np.uint32(np.uint32(i) - line * np.uint32(kg))
        rest = np.uint32(line // np.uint32(cg))
        c = np.uint32(line - rest * np.uint32(cg))
        group = np.uint32(rest // np.uint32(taps))
        t = np.uint32(rest - group * np.uint32(taps))
        place = np.uint32(((group * np.uint32(kg) + n) * cg + c) * taps + t)
        dw[place] = total


def adding_blocks(size: int) -> int:
    """Return the grid of `add_parts_cuda` for so many elements."""
    return math.ceil(size / _LANES)


def grad_tile(filters: int) -> tuple[int, int]:
    """Return the rows, and a quarter of the filters, of a block's tile.

    Examples
    --------
    >>> grad_tile(6), grad_tile(64)
    ((64, 4), (64, 8))
    """
    return (64, 4) if filters <= 16 else (64, 8)


def grad_table(
    plan: Plan, x: Any, filters: int, groups: int, tile: tuple[int, int]
) -> tuple[Any, int, int]:
    """Return the table of a call, the number of blocks, and that of parts.

    Parameters
    ----------
    plan : Plan
        Of the convolution.
    x : array, shape (N, D, H, W, C)
    filters, groups : int
    tile : tuple of int
        From `grad_tile`.
    """
    rows, deep = tile
    outputs = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2]
    taps = plan.taps[0] * plan.taps[1] * plan.taps[2]
    cg, kg = x.shape[4] // groups, filters // groups
    total = taps * cg
    tiles_j, tiles_n = math.ceil(total / rows), math.ceil(kg / (4 * deep))
    tiles = tiles_j * tiles_n * groups
    # About this many blocks, whatever the GPU: the order of the sum depends on it.
    parts = max(1, min(1056 // tiles, outputs // 64))
    steps_each = math.ceil(math.ceil(outputs / parts) / _STEP)
    each = steps_each * _STEP
    parts = math.ceil(outputs / each)
    rest, ahead = _STEP, []
    for length in reversed(plan.grid):
        ahead.append(rest % length)
        rest //= length
    steps = [s // x.itemsize for s in x.strides]
    table = [
        outputs, *plan.grid, rest, *reversed(ahead), *plan.stride, *plan.first,
        *plan.taps, *plan.gap, *x.shape[1:4], *steps, cg, kg, total, tiles_j, tiles_n,
        groups, each, filters,
    ]  # fmt: skip
    return np.array(table, np.int32), tiles * parts, parts
