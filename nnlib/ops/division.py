"""Division with rounding, and its remainders."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error
from nnlib.ops.arithmetic import operand_error, shapes, sum_to

__all__ = ["floor_divide", "fmod", "remainder"]


def _kind(x: Any, y: Any) -> str:
    return (x if hasattr(x, "dtype") else y).dtype.kind  # type: ignore[no-any-return]


def _divide(op: str, function: Any, x: Any, y: Any) -> Any:
    """Call a dividing ufunc; integers divided by zero are an error.

    NumPy would return 0. Its own flag tells, so that nothing is searched for zeros.
    """
    try:
        if _kind(x, y) != "f":
            with np.errstate(divide="raise"):
                return function(x, y)
        return function(x, y)
    except FloatingPointError:
        raise Error(f"{op}: integer division by zero") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise operand_error(op, error, x, y) from None


def _trunc_divide(x: Any, y: Any) -> Any:
    """Return the quotient rounded towards zero."""
    if _kind(x, y) == "f":
        return np.trunc(x / y)
    quotient = np.floor_divide(x, y)
    # Rounded down where the signs differ and the division leaves a rest.
    return quotient + ((quotient < 0) & (quotient * y != x))


class RoundedQuotient(Function):
    """``x / y`` rounded down or towards zero; its derivative is zero."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, mode: str, op: str) -> Any:
        """Return the rounded quotient."""
        self.shapes = shapes(x), shapes(y)
        return _divide(op, np.floor_divide if mode == "floor" else _trunc_divide, x, y)

    def backward(self, grad: Any) -> Any:
        """Return zeros."""
        x, y = self.shapes
        zeros = zeros_like(grad)
        return (
            sum_to(zeros, x) if self.needs(0) else None,
            sum_to(zeros, y) if self.needs(1) else None,
        )


class Remainder(Function):
    """``x - y * floor(x / y)``, or with trunc; the sign of `y`, or of `x`."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, mode: str) -> Any:
        """Return the remainder."""
        self.mode = mode
        self.save_for_backward(x, y)
        if mode == "floor":
            return _divide("remainder", np.remainder, x, y)
        return _divide("fmod", np.fmod, x, y)

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` and ``-grad * floor(x / y)``."""
        x, y = self.saved
        gx = sum_to(grad, shapes(x)) if self.needs(0) else None
        gy = None
        if self.needs(1):
            gy = sum_to(-grad * rounded_quotient(x, y, self.mode), shapes(y))
        return gx, gy


def zeros_like(x: Any) -> Any:
    """Return zeros like an array or Tensor: the gradient of a step function."""
    if isinstance(x, Tensor):
        return Tensor._from_array(np.zeros_like(x._array))
    return np.zeros_like(x)


def rounded_quotient(x: Any, y: Any, mode: str, op: str = "div") -> Any:
    """Return ``x / y`` rounded by `mode`: ``floor`` or ``trunc``."""
    if mode not in ("floor", "trunc"):
        raise DTypeError(
            f"{op}: rounding_mode: expected None, 'trunc' or 'floor', got {mode!r}"
        )
    return RoundedQuotient.apply(x, y, mode=mode, op=op)


@public(
    operators=("__floordiv__", "__rfloordiv__", "__ifloordiv__"),
    inplace=True,
    direct=True,
)
def floor_divide(input: Any, other: Any) -> Tensor:
    """Return ``floor(input / other)``; integers stay integers. Its gradient is zero.

    Raises
    ------
    Error
        If integers are divided by zero (on the CPU).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([7, -7]) // 2
    tensor([ 3, -4])
    """
    return rounded_quotient(input, other, "floor", "floor_divide")  # type: ignore[no-any-return]


@public(operators=("__mod__", "__rmod__", "__imod__"), inplace=True)
def remainder(input: Any, other: Any) -> Tensor:
    """Return ``input - other * floor(input / other)``: the sign of `other`.

    Raises
    ------
    Error
        If integers are divided by zero (on the CPU).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([7, -7]) % 3
    tensor([1, 2])
    """
    return Remainder.apply(input, other, mode="floor")  # type: ignore[no-any-return]


@public(inplace=True)
def fmod(input: Any, other: Any) -> Tensor:
    """Return ``input - other * trunc(input / other)``: the sign of `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.fmod(nnlib.tensor([7, -7]), 3)
    tensor([ 1, -1])
    """
    return Remainder.apply(input, other, mode="trunc")  # type: ignore[no-any-return]
