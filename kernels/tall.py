"""Products over many rows for a recurrent layer's weights, with the tiles of `panels`.

`rows_product` multiplies the rows of all time steps by one packed weight;
`columns_product` sums outer products over all rows, for the gradient of two weights
that share a factor, which is packed once for both. On a 2-core AVX-512 machine (AMD
Zen 5) they take 0.9 of the time of OpenBLAS with its AVX-512 kernels, and a little over
half of that with its AVX2 kernels (the shapes of ``char-LSTM`` in
`nnlib.bench.recurrent`); what they do not fit goes to `gemm`.

Each element is summed in one order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels import gemm, panels
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, on_cuda, spread
from nnlib.kernels.panels import TALL, copy_tall, multiply_packed, multiply_rows
from nnlib.kernels.vectors import COLUMNS

__all__ = ["columns_product", "rows_product"]

# Rows of one task of `rows_product`, and of one block of `columns_product`.
_ROWS = 32
_BLOCK = 256
# Fewer rows are not worth the packing.
_LEAST = 64
# Multiplications that make a second thread worth its entry.
_GRAIN = 1 << 18


@cpu_loop
def row_blocks(
    first: Any, last: Any, left: Any, left_step: Any, packed: Any, bias: Any, c: Any,
    add: Any,
) -> None:  # fmt: skip
    size = c.itemsize
    step = c.shape[1] * size
    for task in range(first, last):
        start = task * _ROWS
        rows = min(_ROWS, c.shape[0] - start)
        multiply_rows(
            left + start * left_step, left_step, rows, packed,
            c.ctypes.data + start * step, step, add,
        )  # fmt: skip
        if bias.size > 0:
            for i in range(start, start + rows):
                row = c[i]
                for j in range(row.size):
                    row[j] += bias[j]


@cpu_kernel(shared=True)
def rows_cpu(
    left: Any, left_step: Any, packed: Any, bias: Any, c: Any, add: Any
) -> None:
    tasks = (c.shape[0] + _ROWS - 1) // _ROWS
    grain = max(1, _GRAIN // max(1, _ROWS * packed.shape[1] * c.shape[1]))
    spread(row_blocks, tasks, grain, (left, left_step, packed, bias, c, add))


@body
def pack_right(right: Any, begin: int, k0: int, depth: int, packed: Any) -> None:
    """Pack `depth` rows of `right` from `k0` on, and columns from `begin` on."""
    width = right.shape[1]
    columns = packed.shape[2]
    for j in range(packed.shape[0]):
        start = begin + j * columns
        count = min(columns, width - start)
        for k in range(depth):
            row = right[k0 + k, start : start + count]
            to = packed[j, k]
            for c in range(row.size):
                to[c] = row[c]
            # What follows the row's end only makes columns that are not kept.


@body
def multiply_block(
    lefts: Any, tile: int, depth: int, packed: Any, k0: int, out: Any, edge: Any
) -> None:
    """Add the products of all packed tiles of the left and panels of the right."""
    size = out.itemsize
    columns = packed.shape[2]
    step = out.shape[1] * size
    like = out.dtype.type(0)
    for j in range(packed.shape[0]):
        panel = packed[j].ctypes.data
        j0 = j * columns
        whole = j0 + columns <= out.shape[1]
        for t in range(lefts.shape[0]):
            i0 = (tile + t) * TALL
            rows = min(TALL, out.shape[0] - i0)
            # The last panel is wider than what is left: by way of a whole tile.
            target = edge.ctypes.data
            pitch = columns * size
            if whole:
                target = out.ctypes.data + i0 * step + j0 * size
                pitch = step
            multiply_packed(
                lefts[t].ctypes.data, size, rows - 1, panel, depth, target, pitch,
                whole and k0 > 0, like,
            )  # fmt: skip
            if not whole:
                for i in range(rows):
                    for c in range(out.shape[1] - j0):
                        before = out[i0 + i, j0 + c] if k0 > 0 else like
                        out[i0 + i, j0 + c] = before + edge[i, c]


@cpu_loop
def column_blocks(
    first: Any, last: Any, left: Any, begin: Any, end: Any, right: Any, at: Any,
    out: Any, more: Any, more_at: Any, more_out: Any, columns: Any,
) -> None:  # fmt: skip
    kind = out.dtype
    like = kind.type(0)
    size = out.itemsize
    # A line between tiles: at powers of two they would share the cache's sets.
    lefts = np.empty((last - first, _BLOCK * TALL + 16), kind)
    most = max(out.shape[1], more_out.shape[1])
    packed = np.zeros(((most + columns - 1) // columns, _BLOCK, columns), kind)
    edge = np.empty((TALL, columns), kind)
    for k0 in range(0, left.shape[0], _BLOCK):
        depth = min(_BLOCK, left.shape[0] - k0)
        for k in range(depth):
            for t in range(last - first):
                i0 = begin + (first + t) * TALL
                to = lefts.ctypes.data + (t * lefts.shape[1] + k * TALL) * size
                if i0 + TALL <= end:
                    row = left.ctypes.data + ((k0 + k) * left.shape[1] + i0) * size
                    copy_tall(to, row, like)
                else:
                    for i in range(end - i0):
                        lefts[t, k * TALL + i] = left[k0 + k, i0 + i]
        for pair in range(2):
            source = more if pair else right
            target = more_out if pair else out
            used = packed[: (target.shape[1] + columns - 1) // columns]
            pack_right(source, more_at if pair else at, k0, depth, used)
            multiply_block(lefts, first, depth, used, k0, target, edge)


@cpu_kernel(shared=True)
def columns_cpu(
    left: Any, begin: Any, end: Any, right: Any, at: Any, out: Any, more: Any,
    more_at: Any, more_out: Any, columns: Any,
) -> None:  # fmt: skip
    tiles = (end - begin + TALL - 1) // TALL
    width = out.shape[1] + more_out.shape[1]
    grain = max(1, _GRAIN // max(1, TALL * left.shape[0] * width))
    spread(
        column_blocks, tiles, grain,
        (left, begin, end, right, at, out, more, more_at, more_out, columns),
    )  # fmt: skip


def rows_product(
    left: Any, weight: Any, out: Any = None, *, transposed: bool, bias: Any = None
) -> Any:
    """Return ``left @ weight`` with a bias, or add it to `out`.

    Parameters
    ----------
    left : array, shape (M, K)
    weight : array, shape (K, N), or (N, K) if `transposed`
    out : array, shape (M, N), contiguous, optional
        Receives the product on top of what it holds.
    transposed : bool
    bias : array, shape (N,), optional

    Examples
    --------
    >>> rows_product(np.ones((2, 3)), np.ones((4, 3)), transposed=True)[0]
    array([3., 3., 3., 3.])
    """
    if transposed:
        weight = weight.T
    dtype = left.dtype
    rows, width = left.shape[0], weight.shape[1]
    if (
        on_cuda(left)
        or rows < _LEAST
        or not left.shape[1]
        or width % COLUMNS.get(dtype.itemsize, rows + width + 1)
        or not width
        or left.strides[1] != dtype.itemsize
    ):
        add = out is not None
        return gemm.matmul(left, weight, out, bias=bias, accumulate=add)
    packed = panels.pack(weight, False)
    add = out is not None
    if out is None:
        out = np.empty((rows, width), dtype)
    bias = np.empty(0, dtype) if bias is None else np.ascontiguousarray(bias)
    rows_cpu(left.ctypes.data, left.strides[0], packed, bias, out, add)
    return out


def columns_product(left: Any, part: slice, pairs: Any) -> None:
    """Write ``left[:, part]^T @ right[:, at : at + N]`` to `out`, for one or two pairs.

    Parameters
    ----------
    left : array, shape (K, M), contiguous
    part : slice
        Columns of it.
    pairs : list of (right, at, out)
        `right` is a contiguous array of K rows, `at` the first column of it that
        counts, `out` a contiguous array of N columns, as many as count.

    Examples
    --------
    >>> out = np.empty((2, 1))
    >>> left, right = np.array([[1.0, 2.0]]), np.array([[3.0]])
    >>> columns_product(left, slice(0, 2), [(right, 0, out)])
    >>> out.tolist()
    [[3.0], [6.0]]
    """
    dtype = left.dtype
    if on_cuda(left) or left.shape[0] < _LEAST or dtype.itemsize not in COLUMNS:
        for right, at, out in pairs:
            gemm.matmul(left[:, part].T, right[:, at : at + out.shape[1]], out)
        return
    if not pairs:
        return
    first, second = (*pairs, (pairs[0][0], 0, pairs[0][2][:0, :0]))[:2]
    columns_cpu(
        left, part.start, part.stop, *first, second[0], second[1],
        np.ascontiguousarray(second[2]), COLUMNS[dtype.itemsize],
    )  # fmt: skip
