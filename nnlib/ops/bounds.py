"""Bounds: maximum, minimum, clamp and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.inplace import is_plain, run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.arrays import constants
from nnlib.ops.selection import where

__all__ = [
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "fmax",
    "fmin",
    "maximum",
    "minimum",
]

_NUMBERS = (float, int, type(None))


class Extremum(Function):
    """The larger or smaller of two; NaN if either is NaN."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, ufunc: Any) -> Any:
        """Return the extremum."""
        self.larger = ufunc is np.maximum
        self.save_for_backward(x, y)
        try:
            return ufunc(x, y)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error(ufunc.__name__, error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return the gradient to the one taken; half to each of two equal ones."""
        x, y = self.saved
        shared = where(x == y, grad * 0.5, grad)
        x_less, y_less = (x < y, y < x) if self.larger else (x > y, y > x)
        return (
            sum_to(where(x_less, 0.0, shared), shapes(x)) if self.needs(0) else None,
            sum_to(where(y_less, 0.0, shared), shapes(y)) if self.needs(1) else None,
        )


class FExtremum(Function):
    """The larger or smaller of two; a NaN gives way to a number."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, ufunc: Any) -> Any:
        """Return the extremum."""
        self.larger = ufunc is np.fmax
        self.save_for_backward(x, y)
        try:
            return ufunc(x, y)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error(ufunc.__name__, error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return the gradient to the one taken; of two equal ones to the first."""
        x, y = self.saved
        first = (x >= y if self.larger else x <= y) | (y != y)
        return (
            sum_to(where(first, grad, 0.0), shapes(x)) if self.needs(0) else None,
            sum_to(where(first, 0.0, grad), shapes(y)) if self.needs(1) else None,
        )


class Clamp(Function):
    """``min(max(x, low), high)``; either bound may be None."""

    promotes = "arithmetic"

    def forward(self, x: Any, low: Any, high: Any) -> Any:
        """Return `x` moved into the bounds."""
        self.save_for_backward(x, low, high)
        out = x
        try:
            # From a bare number NumPy makes an array at every call.
            if type(low) is float or (type(low) is int and x.dtype.kind == "f"):
                (low,) = constants(x, low)
            if type(high) is float or (type(high) is int and x.dtype.kind == "f"):
                (high,) = constants(x, high)
            if low is not None:
                out = np.maximum(out, low)
            return out if high is None else np.minimum(out, high)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("clamp", error, x, low, high) from None

    def backward(self, grad: Any) -> Any:
        """Return the gradient where `x` lay within, to the bound where it did not."""
        x, low, high = self.saved
        gx = g_low = g_high = None
        if self.needs(0):
            inside = True if low is None else x >= low
            inside = inside if high is None else inside & (x <= high)
            gx = sum_to(where(inside, grad, 0.0), x.shape)
        if self.needs(1):
            below = x < low
            below = below if high is None else below & (low < high)
            g_low = sum_to(where(below, grad, 0.0), low.shape)
        if self.needs(2):
            above = x > high
            above = above if low is None else above | (high < low)
            g_high = sum_to(where(above, grad, 0.0), high.shape)
        return gx, g_low, g_high


@public()
def maximum(input: Any, other: Any) -> Tensor:
    """Return the larger of two, element by element; NaN if either is NaN.

    Where both are equal, each gets half of the gradient.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.maximum(nnlib.tensor([1.0, 5.0]), nnlib.tensor([2.0, 4.0]))
    tensor([2., 5.])
    """
    return Extremum.apply(input, other, ufunc=np.maximum)  # type: ignore[no-any-return]


@public()
def minimum(input: Any, other: Any) -> Tensor:
    """Return the smaller of two, element by element; NaN if either is NaN.

    Where both are equal, each gets half of the gradient.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.minimum(nnlib.tensor([1.0, 5.0]), nnlib.tensor([2.0, 4.0]))
    tensor([1., 4.])
    """
    return Extremum.apply(input, other, ufunc=np.minimum)  # type: ignore[no-any-return]


@public()
def fmax(input: Any, other: Any) -> Tensor:
    """Return the larger of two; a NaN gives way to the other.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.fmax(nnlib.tensor([1.0, float("nan")]), nnlib.tensor([2.0, 4.0]))
    tensor([2., 4.])
    """
    return FExtremum.apply(input, other, ufunc=np.fmax)  # type: ignore[no-any-return]


@public()
def fmin(input: Any, other: Any) -> Tensor:
    """Return the smaller of two; a NaN gives way to the other.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.fmin(nnlib.tensor([1.0, float("nan")]), nnlib.tensor([2.0, 4.0]))
    tensor([1., 4.])
    """
    return FExtremum.apply(input, other, ufunc=np.fmin)  # type: ignore[no-any-return]


def _clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Do `clamp` in place; return this tensor."""
    numbers = type(min) in _NUMBERS and type(max) in _NUMBERS
    if numbers and is_plain(input) and input._array.dtype.kind == "f":
        if max is not None or min is not None:
            array = input._array
            low, high = constants(array, min, max)
            if min is None:
                low = None
            if max is None:
                high = None
            array.clip(low, high, array)
            input._bump()
            return input
    return run_inplace("clamp_", clamp, input, (min, max), {})  # type: ignore[no-any-return]


@public(inplace=_clamp_)
def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Return ``min(max(input, min), max)``.

    Parameters
    ----------
    input : Tensor
    min, max : number or Tensor, shapes that broadcast, optional
        The bounds; at least one. Where `min` exceeds `max` the result is `max`.

    Raises
    ------
    DTypeError
        Without a bound.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.clamp(nnlib.tensor([-2.0, 0.5, 3.0]), 0, 1)
    tensor([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        raise DTypeError("clamp: expected min, max or both, got neither")
    return Clamp.apply(input, min, max)  # type: ignore[no-any-return]


@public(inplace=True)
def clip(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Return ``min(max(input, min), max)``: another name of `clamp`."""
    return clamp(input, min, max)


@public(inplace=True)
def clamp_min(input: Any, min: Any) -> Tensor:
    """Return ``max(input, min)``."""
    return clamp(input, min, None)


@public(inplace=True)
def clamp_max(input: Any, max: Any) -> Tensor:
    """Return ``min(input, max)``."""
    return clamp(input, None, max)
