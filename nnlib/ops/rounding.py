"""Absolute value, sign and rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.ops.arithmetic import operand_error
from nnlib.ops.division import zeros_like

__all__ = [
    "abs",
    "absolute",
    "ceil",
    "fix",
    "floor",
    "frac",
    "round",
    "sign",
    "signbit",
    "trunc",
]


class Abs(Function):
    """``|x|``."""

    def forward(self, x: Any) -> Any:
        """Return the absolute value."""
        self.save_for_backward(x)
        return np.abs(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad sign(x)``: 0 at the kink."""
        (x,) = self.saved
        return grad * sign(x)


class Step(Function):
    """A function that is constant in pieces: its derivative is zero."""

    def forward(self, x: Any, *, ufunc: Any) -> Any:
        """Return the function's value."""
        try:
            return ufunc(x)
        except TypeError as error:
            raise operand_error(ufunc.__name__, error, x) from None

    def backward(self, grad: Any) -> Any:
        """Return zeros."""
        return zeros_like(grad)


class Round(Function):
    """Round to the nearest, halves to the even neighbour."""

    def forward(self, x: Any, *, decimals: int) -> Any:
        """Return the rounded value."""
        return np.rint(x) if decimals == 0 else np.round(x, decimals)

    def backward(self, grad: Any) -> Any:
        """Return zeros."""
        return zeros_like(grad)


class Frac(Function):
    """``x - trunc(x)``."""

    def forward(self, x: Any) -> Any:
        """Return the part behind the point, with the sign of `x`."""
        return x - np.trunc(x)

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on."""
        return grad


@public(operators="__abs__", inplace=True)
def abs(input: Any) -> Tensor:
    """Return the absolute value; its gradient at zero is zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.abs(nnlib.tensor([-2, 3]))
    tensor([2, 3])
    """
    return Abs.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def absolute(input: Any) -> Tensor:
    """Return the absolute value: another name of `abs`."""
    return abs(input)


@public(inplace=True)
def sign(input: Any) -> Tensor:
    """Return -1, 0 or 1 by the sign; its gradient is zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sign(nnlib.tensor([-2.0, 0.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    return Step.apply(input, ufunc=np.sign)  # type: ignore[no-any-return]


@public(inplace=True)
def floor(input: Any) -> Tensor:
    """Return the largest integer not above each element; its gradient is zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.floor(nnlib.tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    return Step.apply(input, ufunc=np.floor)  # type: ignore[no-any-return]


@public(inplace=True)
def ceil(input: Any) -> Tensor:
    """Return the smallest integer not below each element; its gradient is zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.ceil(nnlib.tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    return Step.apply(input, ufunc=np.ceil)  # type: ignore[no-any-return]


@public(method=("trunc", "fix"), inplace=True)
def trunc(input: Any) -> Tensor:
    """Return each element rounded towards zero; its gradient is zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.trunc(nnlib.tensor([-1.5, 1.5]))
    tensor([-1.,  1.])
    """
    return Step.apply(input, ufunc=np.trunc)  # type: ignore[no-any-return]


fix = trunc


@public(operators="__round__", inplace=True)
def round(input: Any, decimals: int | None = 0) -> Tensor:
    """Return each element rounded, halves to the even neighbour; zero gradient.

    Parameters
    ----------
    input : Tensor
    decimals : int, default 0
        How many digits behind the point to keep; negative: zeros before it.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.round(nnlib.tensor([0.5, 1.5, -2.6]))
    tensor([ 0.,  2., -3.])
    """
    if input.dtype.kind in "biu":
        return Step.apply(input, ufunc=np.positive)  # type: ignore[no-any-return]
    return Round.apply(input, decimals=decimals or 0)  # type: ignore[no-any-return]


@public(inplace=True)
def frac(input: Any) -> Tensor:
    """Return the part of each element behind the point, with its sign.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.frac(nnlib.tensor([-1.5, 2.25]))
    tensor([-0.5 ,  0.25])
    """
    return Frac.apply(input)  # type: ignore[no-any-return]


class SignBit(Function):
    """Whether a number is negative, -0 included."""

    arithmetic = False

    def forward(self, x: Any) -> Any:
        """Return the truth of each element."""
        return np.signbit(x) if x.dtype in FLOATING else x < 0


@public()
def signbit(input: Any) -> Tensor:
    """Tell where elements are negative; -0 is.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.signbit(nnlib.tensor([-0.0, 0.0, -2.0]))
    tensor([ True, False,  True])
    """
    return SignBit.apply(input)  # type: ignore[no-any-return]
