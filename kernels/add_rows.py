"""Rows added to chosen rows of a matrix, where a row may be chosen many times.

The gradient of an embedding, of ``x[index]``, and `index_add`. The choices are sorted
first (stably, by the array module); then one task adds all rows that go to one place,
in their order: the same bits on every run, without atomics, whatever the number of
threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.backend.recording import current, refuse
from nnlib.kernels import special
from nnlib.kernels.elementwise import SERIAL, scalar, scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cuda,
    cuda_kernel,
    on_cuda,
    prange,
)

__all__ = ["add_rows"]

# The columns of one CPU task: 4 KB of float32 stay in the first-level cache.
COLUMN_BLOCK = 1024
# Indices that are put in order without a sort: 16 million comparisons.
_COUNTED = 4096


@body
def add_run(
    out: Any, rows: Any, order: Any, values: Any, first: Any, left: Any
) -> None:
    """Add the run of equal `rows` that begins at `first`; nothing if none does."""
    row = rows[first]
    if first > 0 and rows[first - 1] == row:
        return
    right = left + COLUMN_BLOCK
    total = out[row, left:right]
    k = first
    while k < rows.size and rows[k] == row:
        addend = values[order[k], left:right]
        for c in range(total.size):
            total[c] += addend[c]
        k += 1


@cpu_kernel(parallel=False)
def add_rows_cpu(out: Any, rows: Any, order: Any, values: Any) -> None:
    across = (out.shape[1] + COLUMN_BLOCK - 1) // COLUMN_BLOCK
    for t in range(rows.size * across):
        add_run(out, rows, order, values, t // across, t % across * COLUMN_BLOCK)


@cpu_kernel
def add_rows_pool(out: Any, rows: Any, order: Any, values: Any) -> None:
    across = (out.shape[1] + COLUMN_BLOCK - 1) // COLUMN_BLOCK
    for t in prange(rows.size * across):
        add_run(out, rows, order, values, t // across, t % across * COLUMN_BLOCK)


@scalar
def member(
    rows: Any, order: Any, values: Any, k: Any, row: Any, column: Any
) -> tuple[Any, Any]:
    """Return whether place `k` belongs to the run of `row`, and a value to add."""
    at = min(k, np.int64(rows.size) - np.int64(1))
    same = at == k and rows[np.uint64(at)] == row
    return same, values[np.uint64(order[np.uint64(at)]), np.uint64(column)]


@cuda_kernel
def add_rows_cuda(out: Any, rows: Any, order: Any, values: Any) -> None:
    # A thread per place in the order and column: that of the first place of a run
    # adds the whole run. Neighbours read neighbouring columns.
    columns = out.shape[1]
    i = np.int64(cuda.grid(1))
    while i < rows.size * columns:
        k = i // columns
        column = i - k * columns
        row = rows[np.uint64(k)]
        if k == 0 or rows[np.uint64(k - 1)] != row:
            total = out[row, column]
            total += values[np.uint64(order[np.uint64(k)]), np.uint64(column)]
            k += 1
            more = k < rows.size and rows[np.uint64(k)] == row
            while more:
                # Four are read before the first is added: a long run would wait for
                # the memory at each of its places.
                s0, v0 = member(rows, order, values, k, row, column)
                s1, v1 = member(rows, order, values, k + 1, row, column)
                s2, v2 = member(rows, order, values, k + 2, row, column)
                more, v3 = member(rows, order, values, k + 3, row, column)
                total = special.select(s0, total + v0, total)
                total = special.select(s1, total + v1, total)
                total = special.select(s2, total + v2, total)
                total = special.select(more, total + v3, total)
                k += 4
            out[row, column] = total
        i += cuda.gridsize(1)


def add_rows(out: Any, rows: Any, values: Any) -> Any:
    """Do ``out[rows[i]] += values[i]`` for every i, in order.

    Parameters
    ----------
    out : array, shape (R, C), float32 or float64, C-contiguous
        Changed in place.
    rows : array, shape (N,), int64
        Within ``[0, R)``: to be checked by the caller.
    values : array, shape (N, C), dtype of `out`

    Returns
    -------
    array
        `out`.

    Raises
    ------
    ShapeError
        If the shapes or dtypes do not fit.

    Examples
    --------
    >>> add_rows(np.zeros((2, 1)), np.array([1, 1]), np.array([[2.0], [3.0]]))
    array([[0.],
           [5.]])
    """
    scalar_type("add_rows", out)
    fits = out.ndim == 2 and values.shape == (rows.size, out.shape[1])
    if not fits or values.dtype != out.dtype or not out.flags.c_contiguous:
        raise ShapeError(
            f"add_rows: values are {values.dtype} of shape {values.shape}, expected "
            f"{out.dtype} of shape ({rows.size}, columns of a contiguous out, which "
            f"has shape {out.shape})"
        )
    if not values.size:
        return out
    module = array_module(out)
    if current() is not None and on_cuda(out):
        order = _order_by_counting(rows, module)
    else:
        # NumPy sorts 16-bit integers by radix, ten times as fast.
        narrow = rows.astype(np.uint16) if len(out) <= 1 << 16 else rows
        order = module.argsort(narrow, kind="stable")
    ordered = rows[order]
    values = module.ascontiguousarray(values)
    if on_cuda(out):
        add_rows_cuda(out, ordered, order, values, items=values.size)
    elif values.size <= SERIAL:
        add_rows_cpu(out, ordered, order, values)
    else:
        add_rows_pool(out, ordered, order, values)
    return out


def _order_by_counting(rows: Any, module: Any) -> Any:
    """Return the stable order of a few indices, without a sort.

    CuPy's waits for the GPU, which cannot be while a CUDA graph is recorded. Here each
    index counts those that come before it.
    """
    if rows.size > _COUNTED:
        refuse(f"the gradient of more than {_COUNTED} looked-up rows, which CuPy sorts")
    places = module.arange(rows.size)
    mine, others = rows[:, None], rows[None, :]
    before = (others < mine) | ((others == mine) & (places < places[:, None]))
    order = module.empty_like(places)
    order[before.sum(axis=1)] = places
    return order
