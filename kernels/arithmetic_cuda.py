"""Sum, difference and product of CUDA arrays, launched faster than CuPy's operators.

Of two arrays that lie alike, or an array and a number; the rest is CuPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels.elementwise import alike, scalar
from nnlib.kernels.elementwise_cuda import gradient_loop, map_loop
from nnlib.kernels.machinery import CudaKernel, cuda_kernel, empty_like
from nnlib.kernels.machinery.cuda_vectors import quads

__all__ = ["Pairwise", "add", "multiply", "subtract"]

_KINDS: dict[str, type[Any]] = {"f": np.float32, "d": np.float64}
_NOTHING = {char: kind(0) for char, kind in _KINDS.items()}


@scalar
def add_at(x: Any, y: Any, parameter: Any) -> Any:
    return x + y


@scalar
def subtract_at(x: Any, y: Any, parameter: Any) -> Any:
    return x - y


@scalar
def multiply_at(x: Any, y: Any, parameter: Any) -> Any:
    return x * y


@scalar
def add_number_at(x: Any, parameter: Any) -> Any:
    return x + parameter


@scalar
def subtract_number_at(x: Any, parameter: Any) -> Any:
    return x - parameter


@scalar
def multiply_number_at(x: Any, parameter: Any) -> Any:
    return x * parameter


def _kernel(loop: Callable[..., Any], function: Callable[..., Any]) -> CudaKernel:
    name = function.__name__.removesuffix("_at") + "_cuda"
    loop.__name__ = loop.__qualname__ = name
    loop.__module__ = __name__
    return cuda_kernel(loop)


class Pairwise:
    """An operation of two arrays, or of an array and a number.

    Parameters
    ----------
    pair, number : callable
        `scalar` functions ``f(x, y, _)`` and ``f(x, number)``.
    """

    def __init__(self, pair: Callable[..., Any], number: Callable[..., Any]) -> None:
        self.pair = _kernel(gradient_loop(pair), pair)
        self.number = _kernel(map_loop(number), number)

    def __call__(self, x: Any, y: Any, out: Any = None) -> Any:
        """Return the result; None where it is left to CuPy.

        Parameters
        ----------
        x : CUDA array
        y : array or number
        out : array, optional
            Where the result goes; `x` or `y` itself is allowed.
        """
        dtype = x.dtype
        kind = _KINDS.get(dtype.char)
        if kind is None or x.size == 0:
            return None
        if type(y) is float or type(y) is int:
            inputs: tuple[Any, ...] = (x,)
            parameter, kernel = kind(y), self.number
        elif type(y) is type(x) and y.dtype is dtype and y.shape == x.shape:
            inputs = (x, y)
            parameter, kernel = _NOTHING[dtype.char], self.pair
        else:
            return None
        if out is None:
            out = empty_like(x)
        elif out.dtype is not dtype or out.shape != x.shape:
            return None
        if not alike(inputs, out):
            return None
        kernel(*inputs, out, parameter, items=quads(x.size), flat=True)
        return out


add = Pairwise(add_at, add_number_at)
subtract = Pairwise(subtract_at, subtract_number_at)
multiply = Pairwise(multiply_at, multiply_number_at)
