"""Trigonometric functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING, get_default_dtype
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.arrays import constants, nonzeros
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.power import rsqrt
from nnlib.ops.selection import where

__all__ = [
    "acos",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "asin",
    "atan",
    "atan2",
    "cos",
    "deg2rad",
    "hypot",
    "rad2deg",
    "sin",
    "sinc",
    "tan",
]


class Sin(Function):
    """Sine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the sine."""
        self.save_for_backward(x)
        return np.sin(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad cos(x)``."""
        (x,) = self.saved
        return grad * cos(x)


class Cos(Function):
    """Cosine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the cosine."""
        self.save_for_backward(x)
        return np.cos(x)

    def backward(self, grad: Any) -> Any:
        """Return ``-grad sin(x)``."""
        (x,) = self.saved
        return -grad * sin(x)


class Tan(Function):
    """Tangent."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the tangent."""
        out = np.tan(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad (1 + tan(x)^2)``."""
        (out,) = self.saved
        return grad * (out * out + 1)


class Asin(Function):
    """Arc sine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the arc sine."""
        self.save_for_backward(x)
        return np.arcsin(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / sqrt(1 - x^2)``."""
        (x,) = self.saved
        return grad * rsqrt(1 - x * x)


class Acos(Function):
    """Arc cosine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the arc cosine."""
        self.save_for_backward(x)
        return np.arccos(x)

    def backward(self, grad: Any) -> Any:
        """Return ``-grad / sqrt(1 - x^2)``."""
        (x,) = self.saved
        return -grad * rsqrt(1 - x * x)


class Atan(Function):
    """Arc tangent."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the arc tangent."""
        self.save_for_backward(x)
        return np.arctan(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (1 + x^2)``."""
        (x,) = self.saved
        return grad / (x * x + 1)


class Sinc(Function):
    """``sin(pi x) / (pi x)``, 1 at zero."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the normalised sinc."""
        self.save_for_backward(x)
        if type(x) is not np.ndarray or not x.ndim or x.dtype.kind != "f":
            return np.sinc(x)
        pi, zero, tiny = constants(x, math.pi, 0, 1e-20)
        y = x * pi
        # sin(tiny) / tiny is 1.
        if nonzeros(y) != y.size:
            np.putmask(y, y == zero, tiny)
        out = np.sin(y)
        out /= y
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad (cos(pi x) - sinc(x)) / x``, 0 at zero."""
        (x,) = self.saved
        zero = x == 0
        safe = where(zero, 1.0, x)
        slope = (cos(x * math.pi) - sinc(x)) / safe
        # Near zero the slope is -pi^2 x / 3; this keeps its own slope right there.
        return grad * where(zero, x * (-(math.pi**2) / 3), slope)


class Atan2(Function):
    """The angle of the point (x, y)."""

    promotes = "float"

    def forward(self, y: Any, x: Any) -> Any:
        """Return the angle."""
        self.save_for_backward(y, x)
        try:
            return np.arctan2(y, x)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("atan2", error, y, x) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad x / r^2`` and ``-grad y / r^2``; 0 at the origin."""
        y, x = self.saved
        square = x * x + y * y
        by_square = grad / where(square == 0, 1.0, square)
        return (
            sum_to(by_square * x, shapes(y)) if self.needs(0) else None,
            sum_to(-by_square * y, shapes(x)) if self.needs(1) else None,
        )


class Hypot(Function):
    """``sqrt(x^2 + y^2)``."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the length of the hypotenuse."""
        try:
            out = np.hypot(x, y)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("hypot", error, x, y) from None
        self.save_for_backward(x, y, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad x / r`` and ``grad y / r``."""
        x, y, out = self.saved
        by_length = grad / out
        return (
            sum_to(by_length * x, shapes(x)) if self.needs(0) else None,
            sum_to(by_length * y, shapes(y)) if self.needs(1) else None,
        )


@public(inplace=True)
def sin(input: Any) -> Tensor:
    """Return the sine of angles in radians.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sin(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.8415])
    """
    return Sin.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def cos(input: Any) -> Tensor:
    """Return the cosine of angles in radians.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cos(nnlib.tensor([0.0, 1.0]))
    tensor([1.    , 0.5403])
    """
    return Cos.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def tan(input: Any) -> Tensor:
    """Return the tangent of angles in radians.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tan(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 1.5574])
    """
    return Tan.apply(input)  # type: ignore[no-any-return]


@public(method=("asin", "arcsin"), inplace=True)
def asin(input: Any) -> Tensor:
    """Return the angle whose sine is each element; NaN outside [-1, 1].

    Examples
    --------
    >>> import nnlib
    >>> nnlib.asin(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 1.5708])
    """
    return Asin.apply(input)  # type: ignore[no-any-return]


arcsin = asin


@public(method=("acos", "arccos"), inplace=True)
def acos(input: Any) -> Tensor:
    """Return the angle whose cosine is each element; NaN outside [-1, 1].

    Examples
    --------
    >>> import nnlib
    >>> nnlib.acos(nnlib.tensor([0.0, 1.0]))
    tensor([1.5708, 0.    ])
    """
    return Acos.apply(input)  # type: ignore[no-any-return]


arccos = acos


@public(method=("atan", "arctan"), inplace=True)
def atan(input: Any) -> Tensor:
    """Return the angle whose tangent is each element.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.atan(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.7854])
    """
    return Atan.apply(input)  # type: ignore[no-any-return]


arctan = atan


@public(inplace=True)
def sinc(input: Any) -> Tensor:
    """Return ``sin(pi x) / (pi x)``, and 1 at zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sinc(nnlib.tensor([0.0, 0.5]))
    tensor([1.    , 0.6366])
    """
    return Sinc.apply(input)  # type: ignore[no-any-return]


@public(method=("atan2", "arctan2"), inplace=True)
def atan2(input: Any, other: Any) -> Tensor:
    """Return the angle of the point with y = `input` and x = `other`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.atan2(nnlib.tensor([1.0]), nnlib.tensor([-1.0]))
    tensor([2.3562])
    """
    return Atan2.apply(input, other)  # type: ignore[no-any-return]


arctan2 = atan2


@public(inplace=True)
def hypot(input: Any, other: Any) -> Tensor:
    """Return ``sqrt(input^2 + other^2)`` without overflow.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.hypot(nnlib.tensor([3.0]), nnlib.tensor([4.0]))
    tensor([5.])
    """
    return Hypot.apply(input, other)  # type: ignore[no-any-return]


def _float(x: Any) -> Any:
    """Return `x`, integers in the default dtype."""
    return x if raw(x).dtype in FLOATING else cast(x, get_default_dtype())


@public(inplace=True)
def deg2rad(input: Any) -> Tensor:
    """Return angles given in degrees in radians.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.deg2rad(nnlib.tensor([0.0, 180.0]))
    tensor([0.    , 3.1416])
    """
    return _float(input) * (math.pi / 180)  # type: ignore[no-any-return]


@public(inplace=True)
def rad2deg(input: Any) -> Tensor:
    """Return angles given in radians in degrees.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.rad2deg(nnlib.tensor([0.0, 3.1415927]))
    tensor([  0., 180.])
    """
    return _float(input) * (180 / math.pi)  # type: ignore[no-any-return]
