"""Sum, difference, product and quotient of large arrays on all threads.

A NumPy operator runs on one thread. From a quarter of a million elements on, sharing
the loop out pays for entering the pool; smaller arrays, other dtypes and broadcasting
go through the array's own operator. CUDA arrays: `nnlib.kernels.arithmetic_cuda`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels import arithmetic_cuda
from nnlib.kernels.elementwise import flat_views
from nnlib.kernels.machinery import array_module, cpu_kernel, on_cuda, prange

__all__ = ["add", "divide", "multiply", "subtract"]

_SHARED = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


@cpu_kernel
def add_cpu(x, y, out):  # type: ignore[no-untyped-def]
    for i in prange(out.size):
        out[i] = x[i] + y[i]


@cpu_kernel
def subtract_cpu(x, y, out):  # type: ignore[no-untyped-def]
    for i in prange(out.size):
        out[i] = x[i] - y[i]


@cpu_kernel
def multiply_cpu(x, y, out):  # type: ignore[no-untyped-def]
    for i in prange(out.size):
        out[i] = x[i] * y[i]


@cpu_kernel
def divide_cpu(x, y, out):  # type: ignore[no-untyped-def]
    for i in prange(out.size):
        out[i] = x[i] / y[i]


def _shared(
    kernel: Any,
    cuda: Callable[[Any, Any], Any] | None,
    plain: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
) -> Any:
    if type(x) is not np.ndarray and cuda is not None:
        if hasattr(x, "dtype") and not isinstance(x, np.generic) and on_cuda(x):
            found = cuda(x, y)
            return plain(x, y) if found is None else found
    if (
        type(x) is np.ndarray
        and type(y) is np.ndarray
        and x.shape == y.shape
        and x.dtype == y.dtype
        and x.dtype in _SHARED
    ):
        out = np.empty_like(x)
        views = flat_views(x, y, out)
        if views is not None:
            kernel(*views)
            return out
    return plain(x, y)


def add(x: Any, y: Any, out: Any = None) -> Any:
    """Return ``x + y``; arrays or numbers that broadcast.

    Parameters
    ----------
    x, y : array or number
    out : array, optional
        Where the result goes; `x` itself is allowed.

    Examples
    --------
    >>> add(np.ones(2), np.ones(2))
    array([2., 2.])
    """
    if out is None:
        return _shared(add_cpu, arithmetic_cuda.add, operator.add, x, y)
    if on_cuda(out) and arithmetic_cuda.add(x, y, out) is not None:
        return out
    views = None
    if type(y) is np.ndarray and x.shape == y.shape == out.shape:
        if x.dtype == y.dtype == out.dtype and x.dtype in _SHARED:
            views = flat_views(x, y, out)
    if views is None:
        array_module(out).add(x, y, out=out)
    else:
        add_cpu(*views)
    return out


def subtract(x: Any, y: Any) -> Any:
    """Return ``x - y``; arrays or numbers that broadcast."""
    return _shared(subtract_cpu, arithmetic_cuda.subtract, operator.sub, x, y)


def multiply(x: Any, y: Any) -> Any:
    """Return ``x * y``; arrays or numbers that broadcast."""
    return _shared(multiply_cpu, arithmetic_cuda.multiply, operator.mul, x, y)


def divide(x: Any, y: Any) -> Any:
    """Return ``x / y``; arrays or numbers that broadcast. x / 0 is inf or NaN."""
    return _shared(divide_cpu, None, operator.truediv, x, y)
