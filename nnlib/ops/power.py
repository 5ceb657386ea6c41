"""Powers and roots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.division import zeros_like

__all__ = ["pow", "reciprocal", "rsqrt", "sqrt", "square"]


def _raised(x: Any, y: Any) -> Any:
    try:
        return x**y
    except (ValueError, TypeError, OverflowError) as error:
        if "negative integer powers" in str(error):
            raise DTypeError(
                "pow: an integer tensor has no negative integer powers; convert it to "
                "floats first"
            ) from None
        raise operand_error("pow", error, x, y) from None


class PowScalar(Function):
    """``x ** p`` for a Python number p."""

    promotes = "arithmetic"

    def forward(self, x: Any, p: float) -> Any:
        """Return the power; small integers by multiplication."""
        self.save_for_backward(x)
        self.p = p
        # libm's pow costs tens of times a product.
        if p == 2:
            return x * x
        if p == 3:
            return x * x * x
        if p == 4:
            square = x * x
            return square * square
        return _raised(x, p)

    def backward(self, grad: Any) -> Any:
        """Return ``grad * p * x^(p - 1)``; zero for p = 0."""
        (x,) = self.saved
        p = self.p
        if p == 0:
            return zeros_like(grad), None
        if p == 1:
            return grad, None
        if p == 2:
            return grad * (x * 2), None
        return grad * (pow(x, p - 1) * p), None


class Pow(Function):
    """``x ** y`` with a tensor as the exponent."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the power."""
        out = _raised(x, y)
        self.save_for_backward(x, y, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad y x^(y - 1)`` and ``grad x^y log(x)``; 0 for 0/0."""
        from nnlib.ops.exponential import log
        from nnlib.ops.selection import where

        x, y, out = self.saved
        gx = gy = None
        if self.needs(0):
            slope = y * pow(x, y - 1)
            gx = sum_to(grad * where(y == 0, 0.0, slope), shapes(x))
        if self.needs(1):
            if hasattr(x, "dtype"):
                slope = where((x == 0) & (y >= 0), 0.0, out * log(x))
            elif x == 0:
                slope = where(y >= 0, 0.0, out * -math.inf)
            else:
                slope = out * (math.log(x) if x > 0 else math.nan)
            gy = sum_to(grad * slope, shapes(y))
        return gx, gy


class Square(Function):
    """``x * x``."""

    def forward(self, x: Any) -> Any:
        """Return the square."""
        self.save_for_backward(x)
        return x * x

    def backward(self, grad: Any) -> Any:
        """Return ``2 x grad``."""
        (x,) = self.saved
        return grad * (x * 2)


class Sqrt(Function):
    """Square root."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the root."""
        out = np.sqrt(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (2 sqrt(x))``."""
        (out,) = self.saved
        return grad / (out * 2)


class Rsqrt(Function):
    """``1 / sqrt(x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the reciprocal root."""
        out = 1 / np.sqrt(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``-grad / (2 x sqrt(x))``."""
        (out,) = self.saved
        return grad * (out * out * out * -0.5)


class Reciprocal(Function):
    """``1 / x``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the reciprocal."""
        out = 1 / x
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``-grad / x^2``."""
        (out,) = self.saved
        return -grad * out * out


@public(operators=("__pow__", "__rpow__", "__ipow__"), inplace=True, direct=True)
def pow(input: Any, exponent: Any) -> Tensor:
    """Return ``input ** exponent``, broadcast and promoted.

    Parameters
    ----------
    input, exponent : Tensor or number, shapes that broadcast

    Raises
    ------
    DTypeError
        For a negative integer power of an integer tensor.
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) ** 3
    tensor([1., 8.])
    >>> 2 ** nnlib.tensor([1, 2])
    tensor([2, 4])
    """
    if isinstance(exponent, int | float) and hasattr(input, "dtype"):
        return PowScalar.apply(input, exponent)  # type: ignore[no-any-return]
    return Pow.apply(input, exponent)  # type: ignore[no-any-return]


@public(inplace=True)
def square(input: Any) -> Tensor:
    """Return ``input * input``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.square(nnlib.tensor([1.0, -3.0]))
    tensor([1., 9.])
    """
    return Square.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def sqrt(input: Any) -> Tensor:
    """Return the square root; NaN below zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sqrt(nnlib.tensor([4.0, 9.0]))
    tensor([2., 3.])
    """
    return Sqrt.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def rsqrt(input: Any) -> Tensor:
    """Return ``1 / sqrt(input)``; inf at zero, NaN below.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.rsqrt(nnlib.tensor([4.0]))
    tensor([0.5])
    """
    return Rsqrt.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def reciprocal(input: Any) -> Tensor:
    """Return ``1 / input``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.reciprocal(nnlib.tensor([4.0]))
    tensor([0.25])
    """
    return Reciprocal.apply(input)  # type: ignore[no-any-return]
