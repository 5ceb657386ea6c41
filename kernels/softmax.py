"""Softmax and its logarithm over rows, forward and backward.

With s the sum over a row of exp(x - max x)::

    softmax        y = exp(x - max x) / s        gradient  y * (g - sum(g * y))
    log_softmax    y = x - max x - log(s)        gradient  g - exp(y) * sum(g)

On the CPU a row is gone along two or three times, in vectors; on CUDA a group of
threads shares each row (`softmax_cuda`). A row that holds a NaN or plus
infinity, or nothing but minus infinity, becomes NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import softmax_cuda, special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.row_passes import row_pass
from nnlib.kernels.softmax_cross_entropy import CHUNK, row_top, row_total

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]

_ndarray = np.ndarray
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def _exponentials(x: Any, top: Any) -> tuple[Any, Any]:
    power = (x - top).exp()
    return power, power


row_powers = row_pass(_exponentials, "+")
row_scaled = row_pass(lambda x, factor: (x * factor,), "")
row_logarithms = row_pass(lambda x, top, norm: (x - top - norm,), "")
row_sum = row_pass(lambda g: (g,), "+")
row_product = row_pass(lambda g, y: (g * y,), "+")
row_gradient = row_pass(lambda g, y, total: ((g - total) * y,), "")
row_log_gradient = row_pass(lambda g, y, total: (g - y.exp() * total,), "")


@cpu_loop
def forward_rows(begin: Any, end: Any, x: Any, y: Any, logarithm: Any) -> None:
    count = x.shape[1]
    pitch = count * x.itemsize
    one = x.dtype.type(1)
    for i in range(begin, end):
        row, to = x.ctypes.data + i * pitch, y.ctypes.data + i * pitch
        (top,) = row_top((row,), (), (), count, x[0, 0])
        if logarithm:
            # A row that holds a NaN makes its total NaN.
            (total,) = row_total((row,), (top,), (), count, x[0, 0])
            norm = special.log(total)
            row_logarithms((row,), (top, norm), (to,), count, x[0, 0])
        else:
            (total,) = row_powers((row,), (top,), (to,), count, x[0, 0])
            row_scaled((to,), (one / total,), (to,), count, x[0, 0])


@cpu_kernel(shared=True)
def forward_cpu(x: Any, y: Any, logarithm: Any) -> None:
    spread(forward_rows, x.shape[0], max(1, CHUNK // x.shape[1]), (x, y, logarithm))


@cpu_loop
def backward_rows(
    begin: Any, end: Any, g: Any, y: Any, out: Any, logarithm: Any
) -> None:
    count = y.shape[1]
    pitch = count * y.itemsize
    for i in range(begin, end):
        grad, row = g.ctypes.data + i * pitch, y.ctypes.data + i * pitch
        to = out.ctypes.data + i * pitch
        if logarithm:
            (total,) = row_sum((grad,), (), (), count, y[0, 0])
            row_log_gradient((grad, row), (total,), (to,), count, y[0, 0])
        else:
            (total,) = row_product((grad, row), (), (), count, y[0, 0])
            row_gradient((grad, row), (total,), (to,), count, y[0, 0])


@cpu_kernel(shared=True)
def backward_cpu(g: Any, y: Any, out: Any, logarithm: Any) -> None:
    grain = max(1, CHUNK // y.shape[1])
    spread(backward_rows, y.shape[0], grain, (g, y, out, logarithm))


def _check_rows(name: str, x: Any) -> None:
    scalar_type(name, x)
    if x.ndim != 2:
        raise ShapeError(f"{name}: x: expected shape (N, C), got {x.shape}")


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
    _check_rows(name, x)
    if not x.flags.c_contiguous:
        x = array_module(x).ascontiguousarray(x)
    y = array_module(x).empty(x.shape, x.dtype)
    if not x.size:
        return y
    if on_cuda(x):
        softmax_cuda.forward(x, y, logarithm)
    else:
        forward_cpu(x, y, logarithm)
    return y


def _backward(name: str, g: Any, y: Any, logarithm: int) -> Any:
    _check_rows(name, y)
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
        softmax_cuda.backward(g, y, out, logarithm)
    else:
        backward_cpu(g, y, out, logarithm)
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
