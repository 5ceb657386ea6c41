"""Updates of the rows of a matrix that a sparse gradient names, and of no others.

The rules are PyTorch's for sparse gradients: SGD, Adagrad, and the Adam that moves its
running means only where there is a gradient (`SparseAdam`). One loop does all three:
the rule is chosen once a row, and a program that uses two compiles one kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import add_rows, special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)

__all__ = ["adagrad", "adam", "coalesce", "sgd"]

_SGD, _ADAGRAD, _ADAM = 0, 1, 2
# Elements of a thread, at least.
_GRAIN = 16384


@body
def update_at(
    rule: Any, p: Any, a: Any, b: Any, g: Any, at: Any, source: Any, settings: Any
) -> None:
    """Update element `at` of the flat table by element `source` of the gradient."""
    rate, eps, slow, slower = settings
    value = g[source]
    if rule == 0:
        p[at] -= rate * value
    elif rule == 1:
        total = a[at] + value * value
        a[at] = total
        p[at] -= rate * (value / (special.sqrt(total) + eps))
    else:
        mean = a[at] + (value - a[at]) * slow
        square = b[at] + (value * value - b[at]) * slower
        a[at] = mean
        b[at] = square
        p[at] -= rate * (mean / (special.sqrt(square) + eps))


@cpu_loop
def update_rows(
    begin: Any, end: Any, rule: Any, p: Any, a: Any, b: Any, rows: Any, g: Any,
    columns: Any, settings: Any,
) -> None:  # fmt: skip
    for i in range(begin, end):
        at = np.uint64(rows[i] * columns)
        source = np.uint64(i * columns)
        # One loop for each rule: a choice inside would not vectorise.
        if rule == 0:
            for c in range(np.uint64(columns)):
                update_at(0, p, a, b, g, at + c, source + c, settings)
        elif rule == 1:
            for c in range(np.uint64(columns)):
                update_at(1, p, a, b, g, at + c, source + c, settings)
        else:
            for c in range(np.uint64(columns)):
                update_at(2, p, a, b, g, at + c, source + c, settings)


@cpu_kernel(shared=True)
def update_cpu(
    rule: Any, p: Any, a: Any, b: Any, rows: Any, g: Any, columns: Any, settings: Any
) -> None:
    spread(
        update_rows, rows.size, _GRAIN // (columns + 1) + 1,
        (rule, p, a, b, rows, g, columns, settings),
    )  # fmt: skip


@cuda_kernel
def update_cuda(
    rule: Any, p: Any, a: Any, b: Any, rows: Any, g: Any, columns: Any, rate: Any,
    eps: Any, slow: Any, slower: Any,
) -> None:  # fmt: skip
    for item in range(cuda.grid(1), g.size, cuda.gridsize(1)):
        i = item // columns
        at = rows[i] * columns + item - i * columns
        update_at(rule, p, a, b, g, at, item, (rate, eps, slow, slower))


def _run(
    rule: int, table: Any, a: Any, b: Any, rows: Any, values: Any, settings: Any
) -> None:
    kind = scalar_type("sparse update", table)
    none = table.reshape(-1)[:0]
    a, b = (none if x is None else x for x in (a, b))
    for name, array in (("table", table), ("kept", a), ("kept", b)):
        if array is none:
            continue
        if array.shape != table.shape or not array.flags.c_contiguous:
            raise ShapeError(
                f"sparse update: {name} has shape {array.shape}, expected contiguous "
                f"{table.shape}"
            )
    columns = math.prod(table.shape[1:])
    if values.size != rows.size * columns or values.dtype != table.dtype:
        raise ShapeError(
            f"sparse update: {rows.size} rows with values {values.dtype} of shape "
            f"{values.shape}; expected {table.dtype} of shape ({rows.size}, "
            f"*{table.shape[1:]})"
        )
    if not values.size:
        return
    values = array_module(table).ascontiguousarray(values)
    flat = [x.reshape(-1) for x in (table, a, b)]
    settings = tuple(map(kind, settings))
    if on_cuda(table):
        update_cuda(
            rule, *flat, rows, values.reshape(-1), columns, *settings,
            items=values.size,
        )  # fmt: skip
    else:
        update_cpu(rule, *flat, rows, values.reshape(-1), columns, settings)


def coalesce(rows: Any, values: Any) -> tuple[Any, Any]:
    """Add up the values of equal rows.

    Parameters
    ----------
    rows : int64 array, shape (N,)
    values : array, shape (N, D), float32 or float64

    Returns
    -------
    rows : int64 array, shape (U,)
        Each once, in ascending order.
    values : array, shape (U, D)

    Examples
    --------
    >>> coalesce(np.array([3, 1, 3]), np.array([[1.0], [2.0], [4.0]]))
    (array([1, 3]), array([[2.],
           [5.]]))
    """
    module = array_module(values)
    if not rows.size:
        return rows, values
    unique, inverse = module.unique(rows, return_inverse=True)
    out = module.zeros((unique.size, values.shape[1]), values.dtype)
    return unique, add_rows.add_rows(out, inverse.reshape(-1), values)


def sgd(table: Any, rows: Any, values: Any, *, lr: float) -> None:
    """Do ``table[rows] -= lr * values``.

    Parameters
    ----------
    table : array, shape (V, ...), C-contiguous, float32 or float64
        Changed in place.
    rows : int64 array, shape (U,)
        Each once, within the table: to be checked by the caller.
    values : array, shape (U, ...)

    Examples
    --------
    >>> table = np.zeros((2, 1))
    >>> sgd(table, np.array([1]), np.array([[2.0]]), lr=0.5)
    >>> table
    array([[ 0.],
           [-1.]])
    """
    _run(_SGD, table, None, None, rows, values, (lr, 0.0, 0.0, 0.0))


def adagrad(
    table: Any, total: Any, rows: Any, values: Any, *, lr: float, eps: float
) -> None:
    """Do ``s += g * g; p -= lr * g / (sqrt(s) + eps)`` in some rows; see `sgd`."""
    _run(_ADAGRAD, table, total, None, rows, values, (lr, eps, 0.0, 0.0))


def adam(
    table: Any,
    mean: Any,
    square: Any,
    rows: Any,
    values: Any,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Do a step of `SparseAdam` in some rows; see `sgd`.

    ``p -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)``.
    """
    beta1, beta2 = betas
    rate = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    settings = rate, eps, 1.0 - beta1, 1.0 - beta2
    _run(_ADAM, table, mean, square, rows, values, settings)
