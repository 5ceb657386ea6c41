"""Softmax and its logarithm over rows, forward and backward.

With s the sum over a row of exp(x - max x)::

    softmax        y = exp(x - max x) / s        gradient  y * (g - sum(g * y))
    log_softmax    y = x - max x - log(s)        gradient  g - exp(y) * sum(g)

On the CPU blocks of rows pass through the cache, the exponentials of a block in one
run; on CUDA a group of threads shares each row (`softmax_cross_entropy_cuda`). A row
that holds a NaN or plus infinity, or nothing but minus infinity, becomes NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    on_cuda,
    prange,
)
from nnlib.kernels.reduction import THREADS, lanes_for
from nnlib.kernels.softmax_cross_entropy import CHUNK, run_total
from nnlib.kernels.softmax_cross_entropy_cuda import (
    softmax_backward_cuda,
    softmax_forward_cuda,
)

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]

_ndarray = np.ndarray
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


@body
def forward_rows(x: Any, y: Any, logarithm: Any, first: Any, last: Any) -> None:
    """Do the rows from `first` to `last` - 1."""
    columns = x.shape[1]
    # One run of exponentials over all the rows: rows of ten would not vectorise.
    e = np.empty((last - first) * columns, x.dtype)
    tops = np.empty(last - first, x.dtype)
    for i in range(first, last):
        top = x[i, 0]
        for j in range(columns):
            top = special.maximum(top, x[i, j])
        tops[i - first] = top
        start = np.uint64((i - first) * columns)
        for j in range(columns):
            e[start + np.uint64(j)] = x[i, j] - top
    for j in range(e.size):
        e[j] = special.exp(e[j])
    for i in range(first, last):
        start = np.uint64((i - first) * columns)
        total = run_total(e, start, start + np.uint64(columns))
        if logarithm:
            top, norm = tops[i - first], special.log(total)
            for j in range(columns):
                y[i, j] = (x[i, j] - top) - norm
        else:
            scale = x.dtype.type(1) / total
            for j in range(columns):
                y[i, j] = e[start + np.uint64(j)] * scale


@cpu_kernel(parallel=False)
def forward_cpu(x: Any, y: Any, logarithm: Any) -> None:
    forward_rows(x, y, logarithm, 0, x.shape[0])


@cpu_kernel
def forward_pool(x: Any, y: Any, logarithm: Any) -> None:
    rows = x.shape[0]
    step = max(1, CHUNK // x.shape[1])
    for k in prange((rows + step - 1) // step):
        forward_rows(x, y, logarithm, k * step, min(rows, (k + 1) * step))


@body
def backward_rows(
    g: Any, y: Any, out: Any, logarithm: Any, first: Any, last: Any
) -> None:
    """Do the rows from `first` to `last` - 1."""
    columns = y.shape[1]
    flat_g = g.reshape(g.size)
    flat_y = y.reshape(y.size)
    flat = out.reshape(out.size)
    start, stop = np.uint64(first * columns), np.uint64(last * columns)
    if logarithm:
        for j in range(start, stop):
            flat[j] = special.exp(flat_y[j])
        for i in range(first, last):
            total = run_total(flat_g, i * columns, (i + 1) * columns)
            for j in range(columns):
                out[i, j] = g[i, j] - out[i, j] * total
    else:
        for j in range(start, stop):
            flat[j] = flat_g[j] * flat_y[j]
        for i in range(first, last):
            total = run_total(flat, i * columns, (i + 1) * columns)
            for j in range(columns):
                out[i, j] -= y[i, j] * total


@cpu_kernel(parallel=False)
def backward_cpu(g: Any, y: Any, out: Any, logarithm: Any) -> None:
    backward_rows(g, y, out, logarithm, 0, y.shape[0])


@cpu_kernel
def backward_pool(g: Any, y: Any, out: Any, logarithm: Any) -> None:
    rows = y.shape[0]
    step = max(1, CHUNK // y.shape[1])
    for k in prange((rows + step - 1) // step):
        backward_rows(g, y, out, logarithm, k * step, min(rows, (k + 1) * step))


def _check_rows(name: str, x: Any) -> Any:
    kind = scalar_type(name, x)
    if x.ndim != 2:
        raise ShapeError(f"{name}: x: expected shape (N, C), got {x.shape}")
    return kind


def _blocks(rows: int, lanes: int) -> int:
    return min(65535, (rows * lanes + THREADS - 1) // THREADS)


def _forward(name: str, x: Any, logarithm: int) -> Any:
    if (
        type(x) is _ndarray
        and x.ndim == 2
        and 0 < x.size <= CHUNK
        and x.dtype in _FLOATS
        and x.flags.c_contiguous
    ):
        # The short way, for small arrays: the checks cost as much as the loop.
        y = np.empty(x.shape, x.dtype)
        forward_cpu.entry(x, y, logarithm)
        return y
    kind = _check_rows(name, x)
    if not x.flags.c_contiguous:
        x = array_module(x).ascontiguousarray(x)
    y = array_module(x).empty(x.shape, x.dtype)
    if not x.size:
        return y
    if on_cuda(x):
        lanes = lanes_for(x.shape[1])
        blocks = _blocks(x.shape[0], lanes)
        softmax_forward_cuda(x, y, logarithm, lanes, kind(1), blocks=blocks)
    else:
        kernel = forward_cpu if x.size <= CHUNK else forward_pool
        kernel(x, y, logarithm)
    return y


def _backward(name: str, g: Any, y: Any, logarithm: int) -> Any:
    kind = _check_rows(name, y)
    if g.shape != y.shape or g.dtype != y.dtype:
        raise ShapeError(
            f"{name}: the gradient is {g.dtype} of shape {g.shape}, expected {y.dtype} "
            f"of shape {y.shape}"
        )
    module = array_module(y)
    if not g.flags.c_contiguous:
        g = module.ascontiguousarray(g)
    if not y.flags.c_contiguous:
        y = module.ascontiguousarray(y)
    out = module.empty(y.shape, y.dtype)
    if not y.size:
        return out
    if on_cuda(y):
        lanes = lanes_for(y.shape[1])
        blocks = _blocks(y.shape[0], lanes)
        softmax_backward_cuda(g, y, out, logarithm, lanes, kind(1), blocks=blocks)
    else:
        kernel = backward_cpu if y.size <= CHUNK else backward_pool
        kernel(g, y, out, logarithm)
    return out


def softmax(x: Any) -> Any:
    """Return the softmax of each row.

    Parameters
    ----------
    x : array, shape (N, C), float32 or float64

    Returns
    -------
    array like `x`, C-contiguous

    Examples
    --------
    >>> softmax(np.zeros((1, 2)))
    array([[0.5, 0.5]])
    """
    return _forward("softmax", x, 0)


def log_softmax(x: Any) -> Any:
    """Return the logarithm of the softmax of each row; see `softmax`.

    Examples
    --------
    >>> log_softmax(np.zeros((1, 2))).round(6)
    array([[-0.693147, -0.693147]])
    """
    return _forward("log_softmax", x, 1)


def softmax_backward(gradient: Any, y: Any) -> Any:
    """Return the gradient of softmax's input.

    Parameters
    ----------
    gradient : array like `y`
    y : array, shape (N, C)
        The output of `softmax`.

    Examples
    --------
    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    return _backward("softmax_backward", gradient, y, 0)


def log_softmax_backward(gradient: Any, y: Any) -> Any:
    """Return the gradient of log_softmax's input, from its output `y`."""
    return _backward("log_softmax_backward", gradient, y, 1)
