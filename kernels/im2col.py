"""Convolution as a product of matrices: gather a block of patches, multiply it.

On the CPU each thread gathers the patches of a block of outputs into a buffer of at
most `BUFFER` bytes, so that the product finds them in its cache, multiplies with BLAS
and goes on; a 1x1 convolution multiplies the input as it lies. On CUDA patches are
gathered for up to `CUDA_BUFFER` bytes at a time and multiplied by cuBLAS. Two ways,
because a GPU needs a large product to fill it and a core a small one.

Memory is channels-last and five-dimensional, (N, D, H, W, C); weights are packed to
(groups, taps * C / groups, K / groups), taps in the order of the plan
(`nnlib.kernels.convolution_plan`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import blas, body, cpu_kernel, num_threads, prange
from nnlib.kernels.vectors import clear_bytes, copy_bytes

__all__ = ["BUFFER", "correlate", "pack", "weight_sums"]

# Bytes of a thread's patches: half of a level-2 cache of 1 MB.
BUFFER = 1 << 19
# Rows of a product below which it wastes its packing of the weights.
_ROWS = 96
# Bytes of partial sums of a weight gradient, over all threads.
_SUMS = 1 << 26

_three = types.UniTuple(types.int64, 3)


@body
def gather_line(
    row: int, shape: Any, w: int, c0: int, cg: int, taps: int, gap: int, size: int,
    at: int,
) -> None:  # fmt: skip
    """Copy the taps of one line of the window: columns ``w + j * gap`` of a row.

    `row` and `at` are addresses: of the row's first pixel, and where the taps go.
    """
    width = shape[3]
    pixel = shape[4] * size
    if gap == 1 and cg == shape[4]:
        # Neighbouring pixels lie together: one copy, cut at the edges.
        low = min(max(0, -w), taps)
        high = max(min(taps, width - w), low)
        if low > 0:
            clear_bytes(at, low * pixel)
        copy_bytes(at + low * pixel, row + (w + low) * pixel, (high - low) * pixel)
        if high < taps:
            clear_bytes(at + high * pixel, (taps - high) * pixel)
        return
    for j in range(taps):
        column = w + j * gap
        to = at + j * cg * size
        if 0 <= column < width:
            copy_bytes(to, row + column * pixel + c0 * size, cg * size)
        else:
            clear_bytes(to, cg * size)


@body
def gather(
    x: int, shape: Any, size: int, at: int, r0: int, r1: int, lines: Any, grid: Any,
    stride: Any, taps: Any, first: Any, gap: Any, c0: int, cg: int,
) -> None:  # fmt: skip
    """Write the patches of the outputs `r0` to `r1` to the rows of a buffer.

    Of each window the `lines` (rows of taps) from the first number to the second. `x`
    and `at` are addresses.
    """
    line_bytes = taps[2] * cg * size
    row_bytes = shape[3] * shape[4] * size
    for r in range(r0, r1):
        w = r % grid[2] * stride[2] + first[2]
        rest = r // grid[2]
        h0 = rest % grid[1] * stride[1] + first[1]
        rest = rest // grid[1]
        d0 = rest % grid[0] * stride[0] + first[0]
        image = rest // grid[0] * shape[1]
        for line in range(lines[0], lines[1]):
            d = d0 + line // taps[1] * gap[0]
            h = h0 + line % taps[1] * gap[1]
            if 0 <= d < shape[1] and 0 <= h < shape[2]:
                row = x + ((image + d) * shape[2] + h) * row_bytes
                gather_line(row, shape, w, c0, cg, taps[2], gap[2], size, at)
            else:
                clear_bytes(at, line_bytes)
            at += line_bytes


@body
def place(
    block: int, y: int, shape: Any, size: int, r0: int, r1: int, grid: Any, start: Any,
    step: Any, k0: int, kg: int,
) -> None:  # fmt: skip
    """Copy the rows of a block, outputs `r0` to `r1`, to where they belong.

    `block` and `y` are addresses, `shape` that of ``y``: (N, D, H, W, K).
    """
    for r in range(r0, r1):
        w = r % grid[2] * step[2] + start[2]
        rest = r // grid[2]
        h = rest % grid[1] * step[1] + start[1]
        rest = rest // grid[1]
        d = rest % grid[0] * step[0] + start[0]
        pixel = (rest // grid[0] * shape[1] + d) * shape[2] + h
        to = (pixel * shape[3] + w) * shape[4] + k0
        copy_bytes(y + to * size, block + (r - r0) * kg * size, kg * size)


@body
def add_bias(y: Any, bias: Any) -> None:
    """Add the bias to each row."""
    for i in range(y.shape[0]):
        row = y[i]
        for j in range(row.size):
            row[j] += bias[j]


@body
def correlate_part(
    part: int, parts: int, x: Any, w: Any, bias: Any, y: Any, grid: Any, start: Any,
    step: Any, stride: Any, taps: Any, first: Any, gap: Any, rows: int, lines: int,
    direct: int,
) -> None:  # fmt: skip
    """Multiply the patches of every `parts`-th block of outputs."""
    groups, depth, kg = w.shape
    shape = x.shape
    c, k = shape[4], y.shape[4]
    cg = c // groups
    total = shape[0] * grid[0] * grid[1] * grid[2]
    jobs = (total + rows - 1) // rows * groups
    all_lines = taps[0] * taps[1]
    size = x.itemsize
    one, zero = x.dtype.type(1), x.dtype.type(0)
    line = taps[2] * cg
    buffer = np.empty(1 if direct & 1 else rows * lines * line, x.dtype)
    # Strides of one type for both: rows of the output, or of a block of its own.
    flat = y.reshape((y.size // k, k))
    block = np.empty((1 if direct & 2 else rows, kg), x.dtype)[:, :kg]
    for job in range(part, jobs, parts):
        g = job % groups
        r0 = job // groups * rows
        r1 = min(total, r0 + rows)
        target, pitch = block.ctypes.data, kg
        if direct & 2:
            target, pitch = y.ctypes.data + (r0 * k + g * kg) * size, k
        source, lead = x.ctypes.data + (r0 * c + g * cg) * size, c
        for l0 in range(0, all_lines, lines):
            l1 = min(all_lines, l0 + lines)
            if not direct & 1:
                source, lead = buffer.ctypes.data, (l1 - l0) * line
                gather(
                    x.ctypes.data, shape, size, source, r0, r1, (l0, l1), grid, stride,
                    taps, first, gap, g * cg, cg,
                )  # fmt: skip
            blas.gemm(
                False, False, r1 - r0, kg, (l1 - l0) * line, one, source, lead,
                w.ctypes.data + (g * depth + l0 * line) * kg * size, kg,
                zero if l0 == 0 else one, target, pitch,
            )  # fmt: skip
        if bias.size > 0:
            done = flat[r0:r1, g * kg : (g + 1) * kg]
            add_bias(
                done if direct & 2 else block[: r1 - r0], bias[g * kg : (g + 1) * kg]
            )
        if not direct & 2:
            place(
                target, y.ctypes.data, y.shape, size, r0, r1, grid, start, step, g * kg,
                kg,
            )  # fmt: skip


def correlate_loop(
    x: Any, w: Any, bias: Any, y: Any, grid: Any, start: Any, step: Any, stride: Any,
    taps: Any, first: Any, gap: Any, rows: int, lines: int, direct: int,
) -> None:  # fmt: skip
    """Multiply the patches of all outputs by packed weights, by block, on the pool.

    `direct` has bit 1 where the input serves as patches, bit 2 where the outputs of a
    block are neighbours in memory.
    """
    parts = num_threads()
    for part in prange(parts):
        correlate_part(
            part, parts, x, w, bias, y, grid, start, step, stride, taps, first, gap,
            rows, lines, direct,
        )  # fmt: skip


@body
def weight_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, grid: Any, stride: Any, taps: Any,
    first: Any, gap: Any, rows: int, lines: int, direct: bool,
) -> None:  # fmt: skip
    """Sum patches^T times gradient over every `parts`-th block of outputs."""
    groups, depth, kg = sums.shape
    shape = x.shape
    c, k = shape[4], g.shape[4]
    cg = c // groups
    total = shape[0] * grid[0] * grid[1] * grid[2]
    all_lines = taps[0] * taps[1]
    size = x.itemsize
    one, zero = x.dtype.type(1), x.dtype.type(0)
    line = taps[2] * cg
    buffer = np.empty(1 if direct else rows * lines * line, x.dtype)
    for r0 in range(part * rows, total, parts * rows):
        r1 = min(total, r0 + rows)
        for job in range(groups):
            source, lead = x.ctypes.data + (r0 * c + job * cg) * size, c
            for l0 in range(0, all_lines, lines):
                l1 = min(all_lines, l0 + lines)
                if not direct:
                    source, lead = buffer.ctypes.data, (l1 - l0) * line
                    gather(
                        x.ctypes.data, shape, size, source, r0, r1, (l0, l1), grid,
                        stride, taps, first, gap, job * cg, cg,
                    )  # fmt: skip
                blas.gemm(
                    True, False, (l1 - l0) * line, kg, r1 - r0, one, source, lead,
                    g.ctypes.data + (r0 * k + job * kg) * size, k,
                    zero if r0 == part * rows else one,
                    sums.ctypes.data + (job * depth + l0 * line) * kg * size, kg,
                )  # fmt: skip


def weight_sums_loop(
    x: Any, g: Any, sums: Any, grid: Any, stride: Any, taps: Any, first: Any, gap: Any,
    rows: int, lines: int, direct: bool,
) -> None:  # fmt: skip
    """Sum patches^T times gradient: (parts, groups, taps * C/G, K/G)."""
    parts = sums.shape[0]
    for part in prange(parts):
        weight_part(
            part, parts, x, g, sums[part], grid, stride, taps, first, gap, rows, lines,
            direct,
        )  # fmt: skip


@body
def pack_tap(w: Any, tap: int, packed: Any) -> None:
    """Write one tap of (in, out, taps) to (in, out)."""
    for i in range(packed.shape[0]):
        for j in range(packed.shape[1]):
            packed[i, j] = w[i, j, tap]


def pack_loop(w: Any, order: Any, packed: Any) -> None:
    """Write (groups, in, out, taps) of any strides to (groups, taps * in, out)."""
    cg = w.shape[1]
    taps = order.size
    for job in prange(w.shape[0] * taps):
        g = job // taps
        t = job % taps
        pack_tap(w[g], order[t], packed[g, t * cg : (t + 1) * cg])


@body
def unpack_row(sums: Any, g: int, j: int, dw: Any) -> None:
    """Write the gradient of output channel `j` of group `g`: (in, taps)."""
    parts = sums.shape[0]
    cg, taps = dw.shape
    for i in range(cg):
        for t in range(taps):
            total = sums[0, g, t * cg + i, j]
            for part in range(1, parts):
                total += sums[part, g, t * cg + i, j]
            dw[i, t] = total


def unpack_loop(sums: Any, dw: Any) -> None:
    """Add the parts up, in their order, and write (groups, out, in, taps)."""
    kg = dw.shape[1]
    for job in prange(dw.shape[0] * kg):
        unpack_row(sums, job // kg, job % kg, dw[job // kg, job % kg])


def _kernels(real: Any) -> tuple[Any, ...]:
    """Return the four loops, to be compiled for one dtype."""

    def inputs(ndim: int, layout: str = "C") -> Any:
        return types.Array(real, ndim, layout, readonly=True, aligned=layout == "C")

    ints = types.int64
    outputs = real[:, :, :, :, ::1]
    weights, packed = inputs(4, "A"), real[:, :, ::1]
    order = types.Array(ints, 1, "C", readonly=True)
    geometry = (_three,) * 4
    signatures = [
        types.void(
            inputs(5), inputs(3), inputs(1), outputs, _three, _three, _three,
            *geometry, ints, ints, ints,
        ),
        types.void(
            inputs(5), inputs(5), real[:, :, :, ::1], _three, *geometry, ints, ints,
            types.boolean,
        ),
        types.void(weights, order, packed),
        types.void(inputs(4), real[:, :, :, ::1]),
    ]  # fmt: skip
    loops = (correlate_loop, weight_sums_loop, pack_loop, unpack_loop)
    return tuple(
        cpu_kernel(signatures=[signature])(loop)
        for loop, signature in zip(loops, signatures, strict=True)
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def pack(w: Any, order: Any) -> Any:
    """Pack weights (groups, in, out, taps) of any strides for `correlate`."""
    groups, cg, kg, _ = w.shape
    packed = np.empty((groups, order.size * cg, kg), w.dtype)
    _KERNELS[w.dtype][2](w, order, packed)
    return packed


def _blocking(plan: Plan, cg: int, total: int, itemsize: int) -> tuple[int, int]:
    """Return how many outputs and lines of taps a block has."""
    line = plan.taps[2] * cg * itemsize
    lines = max(1, min(plan.taps[0] * plan.taps[1], BUFFER // (line * _ROWS)))
    rows = max(16, min(BUFFER // (line * lines), 1024) // 16 * 16)
    # Every thread should have work, and about the same.
    share = -(-total // get_num_threads())
    if share < rows:
        return max(16, -(-share // 16) * 16), lines
    blocks = -(-share // rows)
    return -(-share // (blocks * 16)) * 16, lines


def _neighbours(plan: Plan, shape: tuple[int, ...]) -> bool:
    """Tell whether the patches are the input itself."""
    return (
        plan.taps == (1, 1, 1)
        and plan.first == (0, 0, 0)
        and plan.stride == (1, 1, 1)
        and plan.grid == shape[1:4]
    )


def correlate(plan: Plan, x: Any, packed: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`.

    Parameters
    ----------
    x, y : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D', H', W', K)
    packed : array from `pack`, (groups, taps * C / groups, K / groups)
    bias : array, shape (K,) or (0,)
    """
    total = x.shape[0] * int(np.prod(plan.grid))
    if not total or not y.size:
        return
    depth = packed.shape[1]
    if not depth:
        # No tap reaches these outputs.
        index = tuple(
            slice(a, None, b) for a, b in zip(plan.start, plan.step, strict=True)
        )
        y[(slice(None), *index)] = bias if bias.size else 0
        return
    rows, lines = _blocking(plan, x.shape[4] // packed.shape[0], total, x.itemsize)
    direct = (1 if _neighbours(plan, x.shape) else 0) + (
        2 if plan.whole(y.shape[1:4]) else 0
    )
    _KERNELS[x.dtype][0](
        x, packed, bias, y, plan.grid, plan.start, plan.step, plan.stride, plan.taps,
        plan.first, plan.gap, rows, lines, direct,
    )  # fmt: skip


def weight_sums(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights of a convolution by `plan`.

    Parameters
    ----------
    x, g : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, *grid, K)
    dw : C-contiguous array, shape (groups, K / groups, C / groups, taps)
    """
    groups, kg, cg, taps = dw.shape
    total = x.shape[0] * int(np.prod(plan.grid))
    if not total or not dw.size:
        dw[...] = 0
        return
    rows, lines = _blocking(plan, cg, total, x.itemsize)
    most = max(1, _SUMS // max(1, dw.nbytes))
    parts = min(get_num_threads(), -(-total // rows), most)
    sums = np.empty((parts, groups, taps * cg, kg), x.dtype)
    _KERNELS[x.dtype][1](
        x, g, sums, plan.grid, plan.stride, plan.taps, plan.first, plan.gap, rows,
        lines, _neighbours(plan, x.shape),
    )  # fmt: skip
    _KERNELS[x.dtype][3](sums, dw)
