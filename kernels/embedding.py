"""Rows of a table by their numbers, and what is made of several of them.

`gather` copies rows, `bag` adds up the rows of each bag with a factor for each, `peak`
finds the largest element of each column in a bag. The gradients are sums of rows at
rows that repeat: `nnlib.kernels.add_rows`, sorted and so the same on every run.

A number that is no row is always found: on the CPU before anything is read, on CUDA the
kernel leaves the first one's position where the next synchronisation looks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import BoundsError, ShapeError
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    faults,
    on_cuda,
    spread,
)
from nnlib.kernels.vectors import copy_bytes

__all__ = ["bag", "gather", "peak"]

# Bytes that a thread copies, at least.
_GRAIN = 1 << 17
_INT64 = np.dtype(np.int64)


@body
def first_bad(ids: Any, rows: Any) -> Any:
    """Return the position of the first number that is no row, or -1."""
    worst = np.uint64(0)
    for i in range(ids.size):
        # As an unsigned number a negative one is larger than any row.
        worst = max(worst, np.uint64(ids[i]))
    if worst < np.uint64(rows):
        return -1
    for i in range(ids.size):
        if ids[i] < 0 or ids[i] >= rows:
            return i
    return -1


@cpu_loop
def gather_rows(
    begin: Any, end: Any, table: Any, ids: Any, out: Any, size: Any
) -> None:
    """Copy the rows for ``ids[begin:end]``; `table` and `out` are addresses."""
    for i in range(begin, end):
        copy_bytes(out + i * size, table + ids[i] * size, size)


@cpu_kernel(shared=True)
def gather_cpu(table: Any, rows: Any, ids: Any, out: Any, size: Any) -> Any:
    """Copy rows of `size` bytes; return the position of the first bad number, or -1."""
    wrong = first_bad(ids, rows)
    if wrong < 0:
        grain = _GRAIN // (size + 1) + 1
        spread(
            gather_rows, ids.size, grain,
            (table.ctypes.data, ids, out.ctypes.data, size),
        )  # fmt: skip
    return wrong


@cuda_kernel
def gather_cuda(table: Any, ids: Any, out: Any, slots: Any, slot: Any) -> None:
    rows, columns = table.shape
    for item in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        i = item // columns
        column = item - i * columns
        row = ids[i]
        if row < 0 or row >= rows:
            cuda.atomic.min(slots, slot, i)
            out[i, column] = table.dtype.type(0)
        else:
            out[i, column] = table[row, column]


@cpu_loop
def bag_rows(
    begin: Any, end: Any, table: Any, ids: Any, offsets: Any, factors: Any, out: Any
) -> None:
    """Add up the bags from `begin` to `end` - 1."""
    for b in range(begin, end):
        total = out[b]
        for c in range(total.size):
            total[c] = 0
        for k in range(offsets[b], offsets[b + 1]):
            row = table[ids[k]]
            factor = factors[k]
            for c in range(total.size):
                total[c] += factor * row[c]


@cpu_kernel(shared=True)
def bag_cpu(table: Any, ids: Any, offsets: Any, factors: Any, out: Any) -> Any:
    """Return the position of the first bad number, or -1 with the sums written."""
    wrong = first_bad(ids, table.shape[0])
    if wrong < 0:
        grain = out.shape[0] * _GRAIN // (ids.size * out.shape[1] * 4 + 1) + 1
        spread(
            bag_rows, out.shape[0], grain, (table, ids, offsets, factors, out)
        )  # fmt: skip
    return wrong


@cuda_kernel
def bag_cuda(
    table: Any, ids: Any, offsets: Any, factors: Any, out: Any, slots: Any, slot: Any
) -> None:
    rows, columns = table.shape
    for item in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        b = item // columns
        column = item - b * columns
        total = table.dtype.type(0)
        for k in range(offsets[b], offsets[b + 1]):
            row = ids[k]
            if row < 0 or row >= rows:
                cuda.atomic.min(slots, slot, k)
            else:
                total += factors[k] * table[row, column]
        out[b, column] = total


@body
def peak_at(
    table: Any, ids: Any, offsets: Any, skip: Any, out: Any, b: Any, column: Any
) -> None:
    """Write which row of bag `b` is largest in a column; -1 for an empty bag."""
    rows = table.shape[0]
    best = -1
    for k in range(offsets[b], offsets[b + 1]):
        row = ids[k]
        if row != skip and 0 <= row and row < rows:
            value = table[row, column]
            if best < 0 or value > table[best, column] or value != value:
                best = row
    out[b, column] = best


@cpu_loop
def peak_rows(
    begin: Any, end: Any, table: Any, ids: Any, offsets: Any, skip: Any, out: Any
) -> None:
    for b in range(begin, end):
        for column in range(out.shape[1]):
            peak_at(table, ids, offsets, skip, out, b, column)


@cpu_kernel(shared=True)
def peak_cpu(table: Any, ids: Any, offsets: Any, skip: Any, out: Any) -> Any:
    """Return the position of the first bad number, or -1 with the rows written."""
    wrong = first_bad(ids, table.shape[0])
    if wrong < 0:
        spread(peak_rows, out.shape[0], 64, (table, ids, offsets, skip, out))
    return wrong


@cuda_kernel
def peak_cuda(
    table: Any, ids: Any, offsets: Any, skip: Any, out: Any, slots: Any, slot: Any
) -> None:
    rows, columns = table.shape
    for item in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        b = item // columns
        peak_at(table, ids, offsets, skip, out, b, item - b * columns)
        for k in range(offsets[b], offsets[b + 1]):
            if ids[k] < 0 or ids[k] >= rows:
                cuda.atomic.min(slots, slot, k)


def _describe(op: str, shape: tuple[int, ...], rows: int) -> Any:
    def describe(position: int, value: int) -> BoundsError:
        place = tuple(int(i) for i in np.unravel_index(position, shape))
        where = ", ".join(map(str, place))
        return BoundsError(
            f"{op}: input[{where}] is {value}, expected 0 <= id < {rows} (rows of the "
            "weight)"
        )

    return describe


def _flat_ids(ids: Any) -> Any:
    module = array_module(ids)
    return module.ascontiguousarray(ids.reshape(-1), dtype=np.int64)


def gather(table: Any, ids: Any, op: str = "embedding") -> Any:
    """Return the rows of `table` numbered `ids`.

    Parameters
    ----------
    table : array, shape (V, D), any dtype
    ids : integer array, any shape
    op : str
        What an error names.

    Returns
    -------
    array, shape (*ids.shape, D)

    Raises
    ------
    BoundsError
        With the first number that is no row and its position: at once on the CPU, on
        CUDA at the next synchronisation.

    Examples
    --------
    >>> gather(np.array([[1.0], [2.0]]), np.array([[1, 0]]))
    array([[[2.],
            [1.]]])
    """
    module = array_module(table)
    rows, columns = table.shape
    flat = _flat_ids(ids)
    out = module.empty((*ids.shape, columns), table.dtype)
    table = module.ascontiguousarray(table)
    describe = _describe(op, ids.shape, rows)
    if on_cuda(table):
        if flat.size and not rows:
            raise describe(0, int(flat[0]))
        slots, slot = faults.open_slot(flat, describe)
        gather_cuda(
            table, flat, out.reshape(-1, columns), slots, slot, items=out.size
        )  # fmt: skip
        return out
    if flat.size:
        # As bytes: one compilation for every dtype.
        size = columns * table.itemsize
        wrong = gather_cpu(
            table.reshape(-1).view(np.uint8), rows, flat,
            out.reshape(-1).view(np.uint8), size,
        )  # fmt: skip
        if wrong >= 0:
            raise describe(wrong, int(flat[wrong]))
    return out


def _bags(op: str, table: Any, ids: Any, offsets: Any) -> tuple[Any, Any, Any]:
    scalar_type(op, table)
    module = array_module(table)
    if table.ndim != 2 or ids.ndim != 1 or offsets.ndim != 1 or not offsets.size:
        raise ShapeError(
            f"{op}: expected a table (V, D), numbers (N,) and offsets (B + 1,), got "
            f"shapes {table.shape}, {ids.shape} and {offsets.shape}"
        )
    return (
        module.ascontiguousarray(table),
        _flat_ids(ids),
        module.ascontiguousarray(offsets, dtype=np.int64),
    )


def bag(table: Any, ids: Any, offsets: Any, factors: Any) -> Any:
    """Return, for each bag, the sum of its rows times their factors.

    Parameters
    ----------
    table : array, shape (V, D), float32 or float64
    ids : integer array, shape (N,)
    offsets : integer array, shape (B + 1,)
        Bag b has ``ids[offsets[b]:offsets[b + 1]]``: to be checked by the caller.
    factors : array, shape (N,), dtype of `table`

    Returns
    -------
    array, shape (B, D)

    Raises
    ------
    BoundsError
        As for `gather`.

    Examples
    --------
    >>> table = np.array([[1.0], [2.0]])
    >>> bag(table, np.array([1, 1, 0]), np.array([0, 2, 3]), np.ones(3))
    array([[4.],
           [1.]])
    """
    table, ids, offsets = _bags("embedding_bag", table, ids, offsets)
    module = array_module(table)
    out = module.empty((offsets.size - 1, table.shape[1]), table.dtype)
    factors = module.ascontiguousarray(factors, dtype=table.dtype)
    describe = _describe("embedding_bag", ids.shape, len(table))
    if on_cuda(table):
        slots, slot = faults.open_slot(ids, describe)
        bag_cuda(table, ids, offsets, factors, out, slots, slot, items=out.size)
    else:
        wrong = bag_cpu(table, ids, offsets, factors, out)
        if wrong >= 0:
            raise describe(wrong, int(ids[wrong]))
    return out


def peak(table: Any, ids: Any, offsets: Any, skip: int = -1) -> Any:
    """Return, for each bag and column, the row whose element is largest.

    Parameters
    ----------
    table, ids, offsets
        As for `bag`.
    skip : int
        A row that does not count.

    Returns
    -------
    int64 array, shape (B, D)
        The first such row; -1 where nothing counts.

    Raises
    ------
    BoundsError
        As for `gather`.

    Examples
    --------
    >>> table = np.array([[1.0, 3.0], [2.0, 0.0]])
    >>> peak(table, np.array([0, 1]), np.array([0, 2]))
    array([[1, 0]])
    """
    table, ids, offsets = _bags("embedding_bag", table, ids, offsets)
    out = array_module(table).empty((offsets.size - 1, table.shape[1]), _INT64)
    describe = _describe("embedding_bag", ids.shape, len(table))
    if on_cuda(table):
        slots, slot = faults.open_slot(ids, describe)
        peak_cuda(table, ids, offsets, int(skip), out, slots, slot, items=out.size)
    else:
        wrong = peak_cpu(table, ids, offsets, int(skip), out)
        if wrong >= 0:
            raise describe(wrong, int(ids[wrong]))
    return out
