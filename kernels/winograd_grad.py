"""The gradient of a 3x3 convolution by its weights, in Winograd's domain.

``dw = G^T [ sum over tiles (B^T d B) * (A g A^T) ] G``: the transpose of the formula of
`nnlib.kernels.winograd`, of which this shares the transform of the input and the plan.
Each thread sums over its own tiles; the sums are added in the order of the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.vectors import ROWS, aligned_empty, multiply_narrow, multiply_tile
from nnlib.kernels.winograd import (
    TILE_BYTES,
    strips_of,
    transform_inputs,
    transform_of,
)

__all__ = ["weight_grad"]

# Bytes of a thread's transformed block of tiles: the larger, the less often the sums
# pass through the cache.
_BLOCK_BYTES = 3 << 19


def _grad_line(g: Sequence[Any]) -> list[Any]:
    """Return A times four values."""
    s, u = g[0] + g[2], g[1] + g[3]
    p, q = g[0] + g[2] * 4, g[1] * 2 + g[3] * 8
    return [g[0], s + u, s - u, p + q, p - q, g[3]]


def _fold_line(m: Sequence[Any]) -> list[Any]:
    """Return G^T times six values."""
    p, r = m[1] + m[2], m[1] - m[2]
    e, o = m[3] + m[4], m[3] - m[4]
    return [
        m[0] * 0.25 - p * (1 / 6) + e * (1 / 24),
        o * (1 / 12) - r * (1 / 6),
        (e - p) * (1 / 6) + m[5],
    ]


grad_tile = transform_of(16, 36, _grad_line, 4)
fold_tile = transform_of(36, 9, _fold_line, 6)


@body
def transform_grads(
    g: Any, m: Any, zeros: Any, table: Any, t0: int, t1: int, down: int, across: int
) -> None:
    """Write ``A g A^T`` of the tiles `t0` to `t1` to (36, tiles, K)."""
    _, height, width, k = g.shape
    size = g.itemsize
    pitch = m.shape[1] * m.shape[2] * size
    for t in range(t0, t1):
        h0 = t // across % down * 4
        w0 = t % across * 4
        n = t // (down * across)
        corner = g.ctypes.data + ((n * height + h0) * width + w0) * k * size
        to = m.ctypes.data + (t - t0) * m.shape[2] * size
        for i in range(4):
            for j in range(4):
                inside = h0 + i < height and w0 + j < width
                place = corner + (i * width + j) * k * size
                table[0, 4 * i + j] = place if inside else zeros.ctypes.data
        for q in range(36):
            table[1, q] = to + q * pitch
        grad_tile(table[0].ctypes.data, table[1].ctypes.data, k, g.dtype.type(0))


@body
def add_products(v: Any, m: Any, sums: Any, table: Any, tiles: int) -> None:
    """Add 36 times (C, tiles) by (tiles, K) to the sums (36, strips, C, columns)."""
    _, most, c = v.shape
    k = m.shape[2]
    _, strips, deep, columns = sums.shape
    size = v.itemsize
    right = table[2]
    narrow = columns * size < TILE_BYTES
    for c0 in range(0, deep, ROWS):
        for r in range(ROWS):
            # Channels that are not there repeat the last.
            table[0, r] = v.ctypes.data + min(c0 + r, c - 1) * size
            table[1, r] = sums.ctypes.data + (c0 + r) * columns * size
        right[0] = m.ctypes.data
        for q in range(36):
            for s in range(strips):
                shift = (q * strips + s) * deep * columns * size
                run = (
                    table[0].ctypes.data, q * most * c * size, c, right.ctypes.data,
                    (q * most * k + s * columns) * size, k, 1, tiles,
                    table[1, 0] + shift, columns * size, table[1].ctypes.data, shift,
                    v.dtype.type(0),
                )  # fmt: skip
                if narrow:
                    multiply_narrow(*run)
                else:
                    multiply_tile(*run)


@body
def grad_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, v: Any, m: Any, top: int,
    left: int,
) -> None:  # fmt: skip
    """Sum over one part of the tiles."""
    images, height, width, k = g.shape
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = images * down * across
    block = v.shape[1]
    jobs = (tiles + block - 1) // block
    zeros = np.zeros(max(x.shape[3], k), x.dtype)
    table = np.empty((3, 40), np.int64)
    for job in range(part * jobs // parts, (part + 1) * jobs // parts):
        t0 = job * block
        t1 = min(tiles, t0 + block)
        transform_inputs(x, v, zeros, table, t0, t1, down, across, top, left)
        transform_grads(g, m, zeros, table, t0, t1, down, across)
        add_products(v, m, sums, table, t1 - t0)


@cpu_loop
def grad_parts(
    begin: int, end: int, x: Any, g: Any, sums: Any, v: Any, m: Any, top: int, left: int
) -> None:
    """Sum over some parts of the tiles."""
    for part in range(begin, end):
        grad_part(part, v.shape[0], x, g, sums[part], v[part], m[part], top, left)


def grad_loop(x: Any, g: Any, sums: Any, v: Any, m: Any, top: int, left: int) -> None:
    """Sum over all tiles: (parts, 36, strips, C, columns)."""
    spread(grad_parts, v.shape[0], 1, (x, g, sums, v, m, top, left))


@body
def fold_row(sums: Any, s: int, i: int, table: Any, rows: Any, dw: Any) -> None:
    """Write the gradient of one input channel and strip of filters: (K, C, 9)."""
    parts, _, _, _, columns = sums.shape
    left = min(columns, dw.shape[0] - s * columns)
    for q in range(36):
        total = sums[0, q, s, i]
        for part in range(1, parts):
            more = sums[part, q, s, i]
            for j in range(columns):
                total[j] += more[j]
        table[0, q] = total.ctypes.data
    for t in range(9):
        table[1, t] = rows[t].ctypes.data
    fold_tile(table[0].ctypes.data, table[1].ctypes.data, columns, sums.dtype.type(0))
    for j in range(left):
        for t in range(9):
            dw[s * columns + j, i, t] = rows[t, j]


@cpu_loop
def fold_rows(begin: int, end: int, sums: Any, dw: Any) -> None:
    """Fold the sums of some strips and input channels."""
    channels = dw.shape[1]
    table = np.empty((2, 36), np.int64)
    rows = np.empty((9, sums.shape[4]), sums.dtype)
    for job in range(begin, end):
        fold_row(sums, job // channels, job % channels, table, rows, dw)


def fold_loop(sums: Any, dw: Any) -> None:
    """Write ``G^T s G`` to (K, C, 9), `s` being the sums of all parts."""
    spread(fold_rows, sums.shape[2] * dw.shape[1], 8, (sums, dw))


def _kernels(real: Any) -> tuple[Any, Any]:
    images = types.Array(real, 4, "C", readonly=True)
    four, five = real[:, :, :, ::1], real[:, :, :, :, ::1]
    ints = types.int64
    return (
        cpu_kernel(
            shared=True,
            signatures=[types.void(images, images, five, four, four, ints, ints)],
        )(grad_loop),
        cpu_kernel(shared=True, signatures=[types.void(five, real[:, :, ::1])])(
            fold_loop
        ),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def weight_grad(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights of a convolution by `plan`.

    Parameters
    ----------
    x, g : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D, P, Q, K)
    dw : C-contiguous array, shape (1, K, C, 9)
    """
    dtype = x.dtype
    c, k = x.shape[4], g.shape[4]
    strips, columns = strips_of(k, dtype.itemsize)
    deep = -(-c // ROWS) * ROWS
    images = g.shape[0] * g.shape[1]
    tiles = images * -(-g.shape[2] // 4) * -(-g.shape[3] // 4)
    threads = min(get_num_threads(), -(-tiles // 16))
    fit = _BLOCK_BYTES // (36 * (c + strips * columns) * dtype.itemsize) // 8 * 8
    share = -(-tiles // threads)
    most = min(max(fit, 32), share)
    block = -(-share // -(-share // most))
    v = aligned_empty((threads, 36, block, c), dtype)
    m = aligned_empty((threads, 36, block, strips * columns), dtype)
    if k % columns:
        m[..., k:] = 0
    sums = aligned_empty((threads, 36, strips, deep, columns), dtype)
    sums[...] = 0
    _KERNELS[dtype][0](
        x.reshape(images, *x.shape[2:]), g.reshape(images, *g.shape[2:]), sums, v, m,
        plan.first[1], plan.first[2],
    )  # fmt: skip
    _KERNELS[dtype][1](sums, dw.reshape(dw.shape[1:]))
