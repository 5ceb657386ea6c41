"""The sum of a matrix's rows, the gradient of a bias: `reduction.sum_columns`.

Rows are added up in blocks of `ROW_BLOCK`, and the blocks' sums in further rounds: a
tree, so that the error of a float32 sum grows with the logarithm of the rows. Blocks
are fixed by the shape: the result does not depend on the number of threads. On CUDA
(`column_sum_cuda`) there are two rounds.
"""

from __future__ import annotations

from typing import Any

from nnlib.backend.errors import ShapeError
from nnlib.kernels.column_sum_cuda import column_sums
from nnlib.kernels.elementwise import GRAIN, scalar_type
from nnlib.kernels.machinery import (
    array_module,
    contiguous,
    cpu_kernel,
    cpu_loop,
    empty,
    on_cuda,
    spread,
)

__all__ = ["matrix_out", "sum_columns"]

# Rows that are added up in one go, and the columns of one task.
ROW_BLOCK = 256
COLUMN_BLOCK = 128


@cpu_loop
def sum_blocks(begin: Any, end: Any, x: Any, partial: Any) -> None:
    """Write the sums of blocks of rows, over a few columns each, to `partial`."""
    across = (x.shape[1] + COLUMN_BLOCK - 1) // COLUMN_BLOCK
    for t in range(begin, end):
        k = t // across
        left = t % across * COLUMN_BLOCK
        right = left + COLUMN_BLOCK
        first = k * ROW_BLOCK
        last = min(x.shape[0], first + ROW_BLOCK)
        total = partial[k, left:right]
        start = first + (last - first) % 2
        row = x[first, left:right]
        # An assignment to a slice would take two seconds to compile.
        for c in range(total.size):
            total[c] = row[c] if start > first else x.dtype.type(0)
        # Two rows at a time: `total` is read and written half as often.
        for r in range(start, last, 2):
            row = x[r, left:right]
            next_row = x[r + 1, left:right]
            for c in range(total.size):
                total[c] += row[c] + next_row[c]


@cpu_kernel(shared=True)
def sum_columns_cpu(x: Any, partial: Any) -> None:
    across = (x.shape[1] + COLUMN_BLOCK - 1) // COLUMN_BLOCK
    tasks = partial.shape[0] * across
    # So many of the tasks hold the elements that a thread should have at least.
    spread(sum_blocks, tasks, max(1, GRAIN * tasks // x.size), (x, partial))


def matrix_out(name: str, x: Any, out: Any, axis: int) -> tuple[Any, Any]:
    """Check `x` and `out`, or make `out`, of the length of `axis`."""
    module = array_module(x)
    if x.ndim != 2:
        raise ShapeError(f"{name}: x has shape {x.shape}, expected two dimensions")
    length = x.shape[axis]
    if out is None:
        return module, empty(x, length, x.dtype)
    if out.shape != (length,) or out.dtype != x.dtype or not out.flags.c_contiguous:
        raise ShapeError(
            f"{name}: out is {out.dtype} of shape {out.shape}, expected "
            f"contiguous {x.dtype} of shape {(length,)}"
        )
    return module, out


def sum_columns(x: Any, out: Any = None) -> Any:
    """Add up the rows of a matrix: the gradient of a bias.

    Parameters
    ----------
    x : array, shape (N, C), float32 or float64
    out : array, shape (C,), dtype of `x`, C-contiguous, optional

    Returns
    -------
    array, shape (C,), dtype of `x`

    Raises
    ------
    ShapeError
        If `x` is no matrix or `out` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> sum_columns(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    scalar_type("sum_columns", x)
    module, out = matrix_out("sum_columns", x, out, 1)
    rows, columns = x.shape
    if not rows:
        out[...] = 0
    if not rows or not columns:
        return out
    if not contiguous(x):
        x = module.ascontiguousarray(x)
    if on_cuda(x):
        column_sums(x.reshape(1, rows, columns), out)
        return out
    # A tree: each round leaves one row of sums for every block of rows.
    while rows:
        rows = (rows + ROW_BLOCK - 1) // ROW_BLOCK
        last = rows == 1
        partial = (
            out.reshape(1, columns) if last else module.empty((rows, columns), x.dtype)
        )
        sum_columns_cpu(x, partial)
        if last:
            break
        x = partial
    return out
