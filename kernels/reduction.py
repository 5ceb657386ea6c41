"""Sums, sums of squares and extrema: of everything, of rows, of columns.

Accuracy: on the CPU a float32 sum runs in float32 over blocks of at most 1,024 elements
(in some 64 partial sums each, because the vectorised loop keeps that many), and the
blocks' sums are added in float64: the error does not grow with the array's length.
On CUDA every thread keeps a partial sum or two and a tree adds them.

Results do not depend on the number of threads: the blocks are fixed by the shape.
A NaN anywhere makes the result NaN, extrema included. Nothing to add up gives 0; an
extremum of nothing is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import reduction_cuda, special
from nnlib.kernels.column_sum import matrix_out, sum_columns
from nnlib.kernels.elementwise import flat_views, scalar_type
from nnlib.kernels.group_reduction import MAXIMUM, MINIMUM, SQUARES, SUM
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    on_cuda,
    prange,
)

__all__ = [
    "MAXIMUM",
    "MINIMUM",
    "SQUARES",
    "SUM",
    "reduce_all",
    "reduce_rows",
    "sum_columns",
]

# Elements that one float32 accumulation takes before a wider one takes over.
BLOCK = 1024
# Elements that the calling thread does alone.
SERIAL = 32768


# On the CPU a loop of one operation vectorises, one that asks which it is does not:
# hence a loop for each, over a block that is short enough for float32.


@body(reassociate=True)
def block_sum(x: Any) -> Any:
    """Return the sum of a contiguous, non-empty run."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    return total


@body(reassociate=True)
def block_squares(x: Any) -> Any:
    """Return the sum of the squares of a contiguous, non-empty run."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] * x[i]
    return total


@body
def block_maximum(x: Any) -> Any:
    """Return the largest element of a contiguous, non-empty run."""
    result = x[0]
    for i in range(x.size):
        result = special.maximum(result, x[i])
    return result


@body
def block_minimum(x: Any) -> Any:
    """Return the smallest element of a contiguous, non-empty run."""
    result = x[0]
    for i in range(x.size):
        result = special.minimum(result, x[i])
    return result


@body
def block_reduce(operation: Any, x: Any) -> Any:
    if operation == SUM:
        return block_sum(x)
    if operation == SQUARES:
        return block_squares(x)
    if operation == MAXIMUM:
        return block_maximum(x)
    return block_minimum(x)


@body
def reduce_blocks(operation: Any, partial: Any, scale: Any) -> Any:
    """Return the blocks' results reduced to one, sums in float64 and times `scale`."""
    if operation == MAXIMUM:
        return block_maximum(partial)
    if operation == MINIMUM:
        return block_minimum(partial)
    total = np.float64(0)
    for i in range(partial.size):
        total += np.float64(partial[i])
    return partial.dtype.type(total * np.float64(scale))


@body
def row_reduce(operation: Any, row: Any, scale: Any) -> Any:
    if operation == MAXIMUM:
        return block_maximum(row)
    if operation == MINIMUM:
        return block_minimum(row)
    total = np.float64(0)
    for lower in range(0, row.size, BLOCK):
        total += np.float64(block_reduce(operation, row[lower : lower + BLOCK]))
    return row.dtype.type(total * np.float64(scale))


@cpu_kernel(parallel=False)
def reduce_all_cpu(operation: Any, x: Any, partial: Any, out: Any, scale: Any) -> None:
    for k in range(partial.size):
        partial[k] = block_reduce(operation, x[k * BLOCK : (k + 1) * BLOCK])
    out[0] = reduce_blocks(operation, partial, scale)


@cpu_kernel
def reduce_all_pool(operation: Any, x: Any, partial: Any, out: Any, scale: Any) -> None:
    for k in prange(partial.size):
        partial[k] = block_reduce(operation, x[k * BLOCK : (k + 1) * BLOCK])
    out[0] = reduce_blocks(operation, partial, scale)


@cpu_kernel(parallel=False)
def reduce_rows_cpu(operation: Any, x: Any, out: Any, scale: Any) -> None:
    for r in range(x.shape[0]):
        out[r] = row_reduce(operation, x[r], scale)


@cpu_kernel
def reduce_rows_pool(operation: Any, x: Any, out: Any, scale: Any) -> None:
    for r in prange(x.shape[0]):
        out[r] = row_reduce(operation, x[r], scale)


def reduce_all(
    x: Any, operation: int = SUM, out: Any = None, scale: float = 1.0
) -> Any:
    """Reduce all elements to one.

    Parameters
    ----------
    x : array, any shape, float32 or float64
    operation : int
        `SUM`, `SQUARES` (the sum of the squares), `MAXIMUM` or `MINIMUM`.
    out : array of shape (), dtype of `x`, optional
    scale : float
        A sum is multiplied by it: ``1 / x.size`` makes a mean.

    Returns
    -------
    array of shape (), dtype of `x`

    Raises
    ------
    ShapeError
        If an extremum of an empty array is asked for.

    Examples
    --------
    >>> reduce_all(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array(10.)
    """
    kind = scalar_type("reduce_all", x)
    module = array_module(x)
    if out is None:
        out = module.empty((), x.dtype)
    elif out.shape != () or out.dtype != x.dtype:
        raise ShapeError(
            f"reduce_all: out is {out.dtype} of shape {out.shape}, "
            f"expected {x.dtype} of shape ()"
        )
    size = x.size
    if size == 0:
        if operation >= MAXIMUM:
            raise ShapeError("reduce_all: an empty array has no extremum")
        out[...] = 0
        return out
    if operation >= MAXIMUM:
        scale = 1.0
    views = flat_views(x)
    flat = module.ascontiguousarray(x).reshape(-1) if views is None else views[0]
    target = out.reshape(1)
    if not on_cuda(x):
        partial = np.empty((size + BLOCK - 1) // BLOCK, x.dtype)
        kernel = reduce_all_cpu if size <= SERIAL else reduce_all_pool
        kernel(operation, flat, partial, target, kind(scale))
        return out
    reduction_cuda.all_of(operation, flat, target, kind(scale))
    return out


def reduce_rows(
    x: Any, operation: int = SUM, out: Any = None, scale: float = 1.0
) -> Any:
    """Reduce each row of a matrix to one element.

    Parameters
    ----------
    x : array, shape (N, C), float32 or float64
    operation : int
        `SUM`, `SQUARES` (the sum of the squares), `MAXIMUM` or `MINIMUM`.
    out : array, shape (N,), dtype of `x`, C-contiguous, optional
    scale : float
        A sum is multiplied by it: ``1 / C`` makes a mean.

    Returns
    -------
    array, shape (N,), dtype of `x`

    Raises
    ------
    ShapeError
        If `x` is no matrix, or an extremum over no columns is asked for.

    Examples
    --------
    >>> reduce_rows(np.array([[1.0, 2.0], [3.0, 4.0]]), MAXIMUM)
    array([2., 4.])
    """
    kind = scalar_type("reduce_rows", x)
    module, out = matrix_out("reduce_rows", x, out, 0)
    rows, columns = x.shape
    if operation >= MAXIMUM:
        scale = 1.0
        if rows and not columns:
            raise ShapeError("reduce_rows: a row of no columns has no extremum")
    if rows < 4 and rows * columns > SERIAL:
        # Too few rows to share out: share out each of them.
        for r in range(rows):
            reduce_all(x[r], operation, out[r : r + 1].reshape(()), scale)
    elif rows:
        x = module.ascontiguousarray(x)
        if on_cuda(x):
            reduction_cuda.rows_of(operation, x, out, kind(scale))
        else:
            kernel = reduce_rows_cpu if x.size <= SERIAL else reduce_rows_pool
            kernel(operation, x, out, kind(scale))
    return out
