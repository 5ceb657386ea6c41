"""The CPU loops of `nnlib.kernels.gemm`: blocks of a product, one per thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.kernels.machinery import (
    blas,
    body,
    cpu_kernel,
    cpu_loop,
    num_threads,
    spread,
)

__all__ = ["PARALLEL", "REAL", "Real", "cut"]

# Products below this many multiplications (6 us of them) stay on the calling thread:
# sharing them out costs 1.2 us, but 100 us where another process has taken a core.
PARALLEL = 1 << 18
# Blocks end on multiples of these, the tile sizes of OpenBLAS's kernels.
_ROWS = 8
_COLUMNS = 16


@body
def row_step(stride_i: int, stride_j: int, rows: int, columns: int, size: int) -> int:
    """Return how BLAS can read a matrix with these strides (in bytes).

    Positive: the distance of two rows in elements, elements of a row adjacent.
    Negative: minus the distance of two columns, elements of a column adjacent. Zero:
    not at all.
    """
    if columns <= 1 or stride_j == size:
        if rows <= 1:
            return max(columns, 1)
        if stride_i >= columns * size and stride_i % size == 0:
            return max(stride_i // size, 1)
    if rows <= 1 or stride_i == size:
        if columns <= 1:
            return -max(rows, 1)
        if stride_j >= rows * size and stride_j % size == 0:
            return -max(stride_j // size, 1)
    return 0


@body
def cut(m: int, n: int, k: int, parts: int) -> int:
    """Return into how many bands of rows to cut the output for `parts` threads.

    Each thread repacks the rows of A and the columns of B that its block needs: the cut
    that needs the least is taken. With a short inner dimension writing the output costs
    most, and whole rows are written fastest.
    """
    if k <= 64 and m >= 2 * _ROWS * parts:
        return parts
    best = 1
    least = m + n // parts
    for bands in range(2, parts + 1):
        if parts % bands == 0:
            need = m // bands + n // (parts // bands)
            if need < least:
                best = bands
                least = need
    return best


@cpu_loop
def blocks_of(
    begin: int, end: int, a: int, b: int, c: Any, bias: Any, floor: Any, step_a: int,
    step_b: int, k: int, bands: int, strips: int, accumulate: bool,
) -> None:  # fmt: skip
    """Compute blocks of the output, which is cut into `bands` times `strips`.

    `a` and `b` are addresses. A bias and `floor` (0 for ReLU, else -inf) are applied in
    one loop while the block is in cache.
    """
    m, n = c.shape
    height = ((m + bands - 1) // bands + _ROWS - 1) // _ROWS * _ROWS
    width = ((n + strips - 1) // strips + _COLUMNS - 1) // _COLUMNS * _COLUMNS
    size = c.itemsize
    one = c.dtype.type(1)
    for q in range(begin, end):
        i0 = q // strips * height
        j0 = q % strips * width
        i1 = i0 + height if i0 + height < m else m
        j1 = j0 + width if j0 + width < n else n
        if i0 >= i1 or j0 >= j1:
            continue
        blas.gemm(
            step_a < 0,
            step_b < 0,
            i1 - i0,
            j1 - j0,
            k,
            one,
            a + size * (i0 if step_a < 0 else i0 * step_a),
            -step_a if step_a < 0 else step_a,
            b + size * (-j0 * step_b if step_b < 0 else j0),
            -step_b if step_b < 0 else step_b,
            one if accumulate else c.dtype.type(0),
            c.ctypes.data + size * (i0 * n + j0),
            n,
        )
        if bias.size > 0:
            shift = bias[j0:j1]
            for i in range(i0, i1):
                row = c[i, j0:j1]
                # From 0: an index that might be negative would keep the loop scalar.
                for j in range(row.size):
                    value = row[j] + shift[j]
                    # Written so that NaN stays NaN.
                    row[j] = floor if value < floor else value


@cpu_loop
def products_of(
    begin: int, end: int, a: int, offsets_a: Any, b: int, offsets_b: Any, c: Any,
    bias: Any, floor: Any, step_a: int, step_b: int, k: int, bands: int, parts: int,
    accumulate: bool,
) -> None:  # fmt: skip
    """Compute blocks of a stack of products, each cut into `parts`."""
    for t in range(begin, end):
        i = t // parts
        q = t % parts
        blocks_of(
            q, q + 1, a + offsets_a[i], b + offsets_b[i], c[i], bias, floor, step_a,
            step_b, k, bands, parts // bands, accumulate,
        )  # fmt: skip


def _per_dtype(function: Any, *, batched: bool = False) -> Any:
    """Compile `function` for float32 and for float64: any strides, read-only or not."""
    kernels = {}
    for real in (types.float32, types.float64):
        operand = types.Array(real, 2, "A", readonly=True, aligned=False)
        bias = types.Array(real, 1, "C", readonly=True)
        head: Any = (operand, operand, real[:, ::1])
        if batched:
            offsets = types.Array(types.int64, 1, "C")
            head = (operand, offsets, operand, offsets, real[:, :, ::1])
        kernels[np.dtype(real.name)] = cpu_kernel(
            shared=True,
            signatures=[types.int64(*head, bias, real, types.boolean)],
        )(function)
    return kernels


def gemm(a: Any, b: Any, c: Any, bias: Any, floor: Any, accumulate: Any) -> Any:
    """Multiply, or say which to copy first: 1 `a`, 2 `b`, 3 both."""
    m, n = c.shape
    k = a.shape[1]
    step_a = row_step(a.strides[0], a.strides[1], m, k, c.itemsize)
    step_b = row_step(b.strides[0], b.strides[1], k, n, c.itemsize)
    if step_a == 0 or step_b == 0:
        return (1 if step_a == 0 else 0) + (2 if step_b == 0 else 0)
    parts = num_threads()
    if m * n * k < parts * (PARALLEL // 2):
        parts = m * n * k // (PARALLEL // 2) + 1
    bands = cut(m, n, k, parts)
    spread(
        blocks_of, parts, 1,
        (a.ctypes.data, b.ctypes.data, c, bias, floor, step_a, step_b, k, bands,
         parts // bands, accumulate),
    )  # fmt: skip
    return 0


def gemm_batched(
    a: Any,
    offsets_a: Any,
    b: Any,
    offsets_b: Any,
    c: Any,
    bias: Any,
    floor: Any,
    accumulate: Any,
) -> Any:
    """Multiply pairs of matrices at byte offsets from `a` and `b`; else as above."""
    batch, m, n = c.shape
    k = a.shape[1]
    step_a = row_step(a.strides[0], a.strides[1], m, k, c.itemsize)
    step_b = row_step(b.strides[0], b.strides[1], k, n, c.itemsize)
    if step_a == 0 or step_b == 0:
        return (1 if step_a == 0 else 0) + (2 if step_b == 0 else 0)
    a_at = a.ctypes.data
    b_at = b.ctypes.data
    threads = num_threads()
    # With fewer products than threads, each product is cut as well.
    parts = min((threads + batch - 1) // batch, m * n * k // (PARALLEL // 2))
    parts = max(parts, 1)
    bands = cut(m, n, k, parts)
    spread(
        products_of, batch * parts, max(1, PARALLEL // 2 * parts // (m * n * k)),
        (a_at, offsets_a, b_at, offsets_b, c, bias, floor, step_a, step_b, k, bands,
         parts, accumulate),
    )  # fmt: skip
    return 0


_single = _per_dtype(gemm)
_batched = _per_dtype(gemm_batched, batched=True)


class Real:
    """What a product of one dtype needs: kernels, and arguments that mean nothing."""

    def __init__(self, dtype: Any) -> None:
        kind = dtype.type
        self.single = _single[dtype]
        self.batched = _batched[dtype]
        self.no_bias = np.empty(0, dtype)
        # The floor under the values: none, or that of ReLU.
        self.no_floor = kind(-np.inf)
        self.zero = kind(0)


REAL = {dtype: Real(dtype) for dtype in _single}
