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
from nnlib.kernels.machinery.caches import level2_bytes
from nnlib.kernels.vectors import ROWS, clear_bytes, multiply_narrow, multiply_tile
from nnlib.kernels.winograd import (
    TILE_BYTES,
    squares,
    strips_of,
    transform_inputs,
    transform_of,
)

__all__ = ["weight_grad"]

# Bytes of a thread's transformed block of tiles: the larger, the less often the sums
# pass through the cache.
_BLOCK_BYTES = level2_bytes() * 3 // 2


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
    g: Any, m: Any, zeros: Any, table: Any, t0: int, t1: int, down: int, across: int,
    wide: int,
) -> None:  # fmt: skip
    """Write ``A g A^T`` of the tiles `t0` to `t1`: 36 times (tiles, K)."""
    _, height, width, k = g.shape
    size = g.itemsize
    for t in range(t0, t1):
        h0 = t // across % down * 4
        w0 = t % across * 4
        n = t // (down * across)
        corner = g.ctypes.data + ((n * height + h0) * width + w0) * k * size
        to = m.ctypes.data + (t - t0) * wide * size
        for i in range(4):
            for j in range(4):
                inside = h0 + i < height and w0 + j < width
                place = corner + (i * width + j) * k * size
                table[0, 4 * i + j] = place if inside else zeros.ctypes.data
        for q in range(36):
            table[1, q] = to + q * m.shape[1] * size
        grad_tile(table[0].ctypes.data, table[1].ctypes.data, k, g.dtype.type(0))


@body
def add_products(
    v: Any, m: Any, sums: Any, initial: int, table: Any, tiles: int, c: int,
    strips: int, columns: int,
) -> None:  # fmt: skip
    """Add 36 times (C, tiles) by (tiles, K) to the sums: 36 (strips, C, columns).

    With `initial`, the address of a row of zeros, the sums begin with these.
    """
    size = v.itemsize
    k = strips * columns
    deep = (c + ROWS - 1) // ROWS * ROWS
    right = table[2]
    narrow = columns * size < TILE_BYTES
    pitch = 0 if initial else columns * size
    for c0 in range(0, deep, ROWS):
        for r in range(ROWS):
            # Channels that are not there repeat the last.
            table[0, r] = v.ctypes.data + min(c0 + r, c - 1) * size
            table[1, r] = sums.ctypes.data + (c0 + r) * columns * size
        right[0] = m.ctypes.data
        for q in range(36):
            for s in range(strips):
                shift = (q * sums.shape[1] + s * deep * columns) * size
                run = (
                    table[0].ctypes.data, q * v.shape[1] * size, c, right.ctypes.data,
                    (q * m.shape[1] + s * columns) * size, k, 1, tiles,
                    initial if initial else table[1, 0] + shift, pitch,
                    table[1].ctypes.data, shift, v.dtype.type(0),
                )  # fmt: skip
                if narrow:
                    multiply_narrow(*run)
                else:
                    multiply_tile(*run)


@cpu_loop
def grad_parts(
    begin: int, end: int, x: Any, g: Any, sums: Any, v: Any, m: Any, block: int,
    columns: int, top: int, left: int,
) -> None:  # fmt: skip
    """Sum over some parts of the tiles."""
    images, height, width, k = g.shape
    c = x.shape[3]
    down, across = (height + 3) // 4, (width + 3) // 4
    tiles = images * down * across
    strips = (k + columns - 1) // columns
    wide = strips * columns
    zeros = np.empty(max(c, wide), x.dtype)
    clear_bytes(zeros.ctypes.data, zeros.size * x.itemsize)
    table = np.empty((3, 40), np.int64)
    for part in range(begin, end):
        own, grads = v[part], m[part]
        first = part * tiles // v.shape[0]
        last = (part + 1) * tiles // v.shape[0]
        if wide > k:
            clear_bytes(grads.ctypes.data, grads.size * grads.itemsize)
        for t0 in range(first, last, block):
            t1 = min(last, t0 + block)
            transform_inputs(x, own, zeros, table, t0, t1, down, across, top, left)
            transform_grads(g, grads, zeros, table, t0, t1, down, across, wide)
            add_products(
                own, grads, sums[part], zeros.ctypes.data if t0 == first else 0, table,
                t1 - t0, c, strips, columns,
            )  # fmt: skip


def grad_loop(
    x: Any, g: Any, sums: Any, v: Any, m: Any, block: int, columns: int, top: int,
    left: int,
) -> None:  # fmt: skip
    """Sum over all tiles; each part has buffers of its own, of `block` tiles."""
    spread(grad_parts, v.shape[0], 1, (x, g, sums, v, m, block, columns, top, left))


@cpu_loop
def fold_rows(begin: int, end: int, sums: Any, columns: int, dw: Any) -> None:
    """Fold the sums of some strips and input channels, parts in their order."""
    k, channels, _ = dw.shape
    deep = (channels + ROWS - 1) // ROWS * ROWS
    table = np.empty((2, 36), np.int64)
    rows = np.empty((9, columns), sums.dtype)
    for t in range(9):
        table[1, t] = rows[t].ctypes.data
    for job in range(begin, end):
        s = job // channels
        i = job % channels
        at = (s * deep + i) * columns
        for q in range(36):
            total = sums[0, q, at : at + columns]
            for part in range(1, sums.shape[0]):
                more = sums[part, q, at : at + columns]
                for j in range(columns):
                    total[j] += more[j]
            table[0, q] = total.ctypes.data
        fold_tile(
            table[0].ctypes.data, table[1].ctypes.data, columns, sums.dtype.type(0)
        )
        for j in range(min(columns, k - s * columns)):
            for t in range(9):
                dw[s * columns + j, i, t] = rows[t, j]


def fold_loop(sums: Any, columns: int, dw: Any) -> None:
    """Write ``G^T s G`` to (K, C, 9), `s` being the sums of all parts."""
    strips = (dw.shape[0] + columns - 1) // columns
    spread(fold_rows, strips * dw.shape[1], 8, (sums, columns, dw))


def _kernels(real: Any) -> tuple[Any, Any]:
    images = types.Array(real, 4, "C", readonly=True)
    three, ints = real[:, :, ::1], types.int64
    grad = types.void(images, images, three, three, three, ints, ints, ints, ints)
    fold = types.void(three, ints, three)
    return (
        cpu_kernel(shared=True, signatures=[grad])(grad_loop),
        cpu_kernel(shared=True, signatures=[fold])(fold_loop),
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
    wide = strips * columns
    images = g.shape[0] * g.shape[1]
    tiles = images * -(-g.shape[2] // 4) * -(-g.shape[3] // 4)
    threads = min(get_num_threads(), -(-tiles // 16))
    fit = _BLOCK_BYTES // (36 * (c + wide) * dtype.itemsize) // 8 * 8
    share = -(-tiles // threads)
    most = min(max(fit, 32), share)
    block = -(-share // -(-share // most))
    v = squares(threads, block * c, dtype)
    m = squares(threads, block * wide, dtype)
    sums = squares(threads, -(-c // ROWS) * ROWS * wide, dtype)
    _KERNELS[dtype][0](
        x.reshape(images, *x.shape[2:]), g.reshape(images, *g.shape[2:]), sums, v, m,
        block, columns, plan.first[1], plan.first[2],
    )  # fmt: skip
    _KERNELS[dtype][1](sums, columns, dw.reshape(dw.shape[1:]))
