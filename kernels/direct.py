"""Convolution as it is written: windows times weights, tile by tile, in registers.

A tile of `ROWS` outputs by `COLUMNS` filters is summed over all taps and channels in
vector registers (`nnlib.kernels.vectors.multiply_tile`): the inputs are read where they
lie, through a table of addresses, those outside of the image from a row of zeros. So no
patches are gathered and no weights repacked, which cost a product by BLAS half its
time at these sizes. CPU alone.

Where there are few channels, the taps of a line of the window are taken as one long
tap: the image is first copied into a frame of zeros (`frame`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, prange
from nnlib.kernels.vectors import (
    COLUMNS,
    ROWS,
    aligned_empty,
    copy_bytes,
    multiply_narrow,
    multiply_tile,
)

__all__ = ["FEW", "correlate", "frame", "pack"]

# Tiles whose addresses are looked up at a time: their weights are read from the
# level-2 cache once for each.
_TILES = 16
# With fewer channels, lines of taps are merged.
FEW = 16

_three = types.UniTuple(types.int64, 3)


@body
def advance(place: Any, grid: Any) -> Any:
    """Return the output behind (n, d, h, w)."""
    n, d, h, w = place
    w += 1
    if w == grid[2]:
        w = 0
        h += 1
        if h == grid[1]:
            h = 0
            d += 1
            if d == grid[0]:
                d = 0
                n += 1
    return n, d, h, w


@body
def look_up(
    x: int, shape: Any, size: int, zeros: int, place: Any, stride: Any, lines: Any,
    first: Any, gap: Any, offsets: Any, column: Any,
) -> None:  # fmt: skip
    """Write the addresses of one window's lines, `offsets` from its first."""
    pixel = shape[4] * size
    n, d0, h0, w0 = place
    d0 = d0 * stride[0] + first[0]
    h0 = h0 * stride[1] + first[1]
    w0 = w0 * stride[2] + first[2]
    corner = x + (((n * shape[1] + d0) * shape[2] + h0) * shape[3] + w0) * pixel
    if (
        min(d0, h0, w0) >= 0
        and d0 + (lines[0] - 1) * gap[0] < shape[1]
        and h0 + (lines[1] - 1) * gap[1] < shape[2]
        and w0 + (lines[2] - 1) * gap[2] < shape[3]
    ):
        for t in range(offsets.size):
            column[t] = corner + offsets[t]
        return
    t = 0
    for a in range(lines[0]):
        d = d0 + a * gap[0]
        for b in range(lines[1]):
            h = h0 + b * gap[1]
            inside = 0 <= d < shape[1] and 0 <= h < shape[2]
            for e in range(lines[2]):
                here = inside and 0 <= w0 + e * gap[2] < shape[3]
                column[t] = corner + offsets[t] if here else zeros
                t += 1


@body
def find_offsets(shape: Any, size: int, lines: Any, gap: Any, offsets: Any) -> None:
    """Write the distance in bytes of each line of a window from its first."""
    t = 0
    for a in range(lines[0]):
        for b in range(lines[1]):
            row = (a * gap[0] * shape[2] + b * gap[1]) * shape[3]
            for e in range(lines[2]):
                offsets[t] = (row + e * gap[2]) * shape[4] * size
                t += 1


@body
def look_up_block(
    x: Any, y: Any, zeros: int, waste: int, sources: Any, targets: Any, r0: int,
    r1: int, grid: Any, start: Any, step: Any, stride: Any, lines: Any, first: Any,
    gap: Any, c0: int, offsets: Any,
) -> None:  # fmt: skip
    """Write the addresses that the outputs `r0` to `r1` read and write."""
    size = x.itemsize
    shape = y.shape
    w = r0 % grid[2]
    h = r0 // grid[2] % grid[1]
    d = r0 // grid[2] // grid[1]
    place = (d // grid[0], d % grid[0], h, w)
    for b in range((r1 - r0 + ROWS - 1) // ROWS):
        for m in range(ROWS):
            look_up(
                x.ctypes.data + c0 * size, x.shape, size, zeros, place, stride, lines,
                first, gap, offsets, sources[b, :, m],
            )  # fmt: skip
            if r0 + b * ROWS + m < r1:
                n, d, h, w = place
                pixel = (n * shape[1] + d * step[0] + start[0]) * shape[2]
                pixel = (pixel + h * step[1] + start[1]) * shape[3]
                pixel = pixel + w * step[2] + start[2]
                targets[b, m] = y.ctypes.data + pixel * shape[4] * size
                if r0 + b * ROWS + m + 1 < r1:
                    # Rows beyond the last repeat it; what they give is thrown away.
                    place = advance(place, grid)
            else:
                targets[b, m] = waste


@body
def direct_block(
    w: Any, bias: Any, buffer: Any, own: Any, sources: Any, rights: Any, targets: Any,
    rows: int, g: int, kg: int, count: int,
) -> None:  # fmt: skip
    """Compute `rows` outputs of group `g` whose addresses have been looked up."""
    size = w.itemsize
    zero = w.dtype.type(0)
    strips, columns = w.shape[1], w.shape[3]
    lines = rights.size
    for s in range(strips):
        for t in range(lines):
            rights[t] = w[g, s].ctypes.data + t * count * columns * size
        left = min(columns, kg - s * columns)
        at = (g * kg + s * columns) * size
        narrow = left * 2 <= columns
        # Whole rows go where they belong, others by way of a buffer.
        whole = left == columns or left * 2 == columns
        for b in range((rows + ROWS - 1) // ROWS):
            to = targets[b].ctypes.data if whole else own.ctypes.data
            shift = at if whole else 0
            run = (
                sources[b].ctypes.data, 0, 1, rights.ctypes.data, 0, columns, lines,
                count, bias[g, s].ctypes.data, 0, to, shift, zero,
            )  # fmt: skip
            if narrow:
                multiply_narrow(*run)
            else:
                multiply_tile(*run)
            if not whole:
                for m in range(min(ROWS, rows - b * ROWS)):
                    copy_bytes(targets[b, m] + at, buffer[m].ctypes.data, left * size)


@body
def direct_part(
    part: int, parts: int, x: Any, w: Any, bias: Any, y: Any, kg: int, count: int,
    grid: Any, start: Any, step: Any, stride: Any, lines: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Compute one part of the blocks of outputs."""
    groups, columns = w.shape[0], w.shape[3]
    total = x.shape[0] * grid[0] * grid[1] * grid[2]
    n_lines = lines[0] * lines[1] * lines[2]
    rows = _TILES * ROWS
    jobs = (total + rows - 1) // rows * groups
    zeros = np.zeros(count, x.dtype)
    # A waste row takes all channels before the strip as well.
    waste = np.empty(y.shape[4] + columns, x.dtype)
    buffer = np.empty((ROWS, columns), x.dtype)
    own = np.empty(ROWS, np.int64)
    for m in range(ROWS):
        own[m] = buffer.ctypes.data + m * columns * x.itemsize
    sources = np.empty((_TILES, n_lines, ROWS), np.int64)
    targets = np.empty((_TILES, ROWS), np.int64)
    rights = np.empty(n_lines, np.int64)
    offsets = np.empty(n_lines, np.int64)
    find_offsets(x.shape, x.itemsize, lines, gap, offsets)
    for job in range(part * jobs // parts, (part + 1) * jobs // parts):
        g = job % groups
        r0 = job // groups * rows
        r1 = min(total, r0 + rows)
        look_up_block(
            x, y, zeros.ctypes.data, waste.ctypes.data, sources, targets, r0, r1, grid,
            start, step, stride, lines, first, gap, g * count if groups > 1 else 0,
            offsets,
        )  # fmt: skip
        direct_block(
            w, bias, buffer, own, sources, rights, targets, r1 - r0, g, kg, count
        )


def direct_loop(
    x: Any, w: Any, bias: Any, y: Any, kg: int, count: int, parts: int, grid: Any,
    start: Any, step: Any, stride: Any, lines: Any, first: Any, gap: Any,
) -> None:  # fmt: skip
    """Compute all outputs, by block, on the pool."""
    for part in prange(parts):
        direct_part(
            part, parts, x, w, bias, y, kg, count, grid, start, step, stride, lines,
            first, gap,
        )  # fmt: skip


@body
def pack_line(w: Any, tap: int, strip: int, packed: Any) -> None:
    """Write one tap of (in, out, taps) to (in, columns), zeros behind the last."""
    columns = packed.shape[1]
    left = min(columns, w.shape[1] - strip * columns)
    for i in range(packed.shape[0]):
        for j in range(left):
            packed[i, j] = w[i, strip * columns + j, tap]


def pack_loop(w: Any, order: Any, packed: Any) -> None:
    """Write (groups, in, out, taps) to (groups, strips, taps * in, columns)."""
    cg, taps, strips = w.shape[1], order.size, packed.shape[1]
    for job in prange(w.shape[0] * strips * taps):
        t = job % taps
        s = job // taps % strips
        g = job // taps // strips
        pack_line(w[g], order[t], s, packed[g, s, t * cg : (t + 1) * cg])


def frame_loop(x: Any, framed: Any, before: Any) -> None:
    """Copy (N, D, H, W, C) into the middle of zeros."""
    images, depth, height, width, c = x.shape
    size = c * x.itemsize
    shape = framed.shape
    for job in prange(images * depth * height):
        h = job % height + before[1]
        d = job // height % depth + before[0]
        n = job // height // depth
        pixel = ((n * shape[1] + d) * shape[2] + h) * shape[3] + before[2]
        copy_bytes(
            framed.ctypes.data + pixel * size,
            x.ctypes.data + job * width * size,
            width * size,
        )


def _kernels(real: Any) -> tuple[Any, Any, Any]:
    def inputs(ndim: int, layout: str = "C") -> Any:
        return types.Array(real, ndim, layout, readonly=True, aligned=layout == "C")

    ints = types.int64
    images = real[:, :, :, :, ::1]
    direct_types = types.void(
        inputs(5), inputs(4), inputs(3), images, ints, ints, ints, *(_three,) * 7
    )
    pack_types = types.void(
        inputs(4, "A"), types.Array(ints, 1, "C", readonly=True), real[:, :, :, ::1]
    )
    return (
        cpu_kernel(signatures=[direct_types])(direct_loop),
        cpu_kernel(signatures=[pack_types])(pack_loop),
        cpu_kernel(signatures=[types.void(inputs(5), images, _three)])(frame_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def pack(w: Any, order: Any) -> Any:
    """Pack weights (groups, in, out, taps) of any strides for `correlate`."""
    groups, cg, kg, _ = w.shape
    columns = COLUMNS[w.dtype.itemsize]
    shape = (groups, -(-kg // columns), order.size * cg, columns)
    packed = aligned_empty(shape, w.dtype)
    if kg % columns:
        packed[:, -1] = 0
    _KERNELS[w.dtype][1](w, order, packed)
    return packed


def frame(plan: Plan, x: Any) -> tuple[Plan, Any]:
    """Return `x` in a frame of zeros in which every window lies, and its plan."""
    before, after = [], []
    for size, grid, stride, taps, first, gap in zip(
        x.shape[1:4], plan.grid, plan.stride, plan.taps, plan.first, plan.gap,
        strict=True,
    ):  # fmt: skip
        last = (grid - 1) * stride + first + (taps - 1) * gap
        before.append(max(0, -first))
        after.append(max(0, last - size + 1))
    if not any(before) and not any(after):
        return plan, x
    sizes = zip(before, x.shape[1:4], after, strict=True)
    framed = np.zeros((x.shape[0], *map(sum, sizes), x.shape[4]), x.dtype)
    _KERNELS[x.dtype][2](x, framed, tuple(before))
    moved = tuple(f + b for f, b in zip(plan.first, before, strict=True))
    return plan._replace(first=moved), framed


def correlate(plan: Plan, x: Any, packed: Any, kg: int, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`.

    Parameters
    ----------
    x, y : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D', H', W', K)
    packed : array from `pack`
    kg : int
        Filters per group.
    bias : array, shape (K,) or (0,)
    """
    groups, strips, depth, columns = packed.shape
    total = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2]
    if not total or not y.size:
        return
    lines, count = plan.taps, x.shape[4] // groups
    if groups == 1 and count < FEW and plan.gap[2] == 1 and plan.taps[2] > 1:
        plan, x = frame(plan, x)
        lines, count = (*plan.taps[:2], 1), count * plan.taps[2]
    start = np.zeros((groups, strips * columns), x.dtype)
    if bias.size:
        start[:, :kg] = bias.reshape(groups, kg)
    blocks = groups * -(-total // (_TILES * ROWS))
    _KERNELS[x.dtype][0](
        x, packed, start.reshape(groups, strips, columns), y, kg, count,
        min(get_num_threads(), blocks), plan.grid, plan.start, plan.step, plan.stride,
        lines, plan.first, plan.gap,
    )  # fmt: skip
