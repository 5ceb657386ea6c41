"""Choosing between values: where, masked_fill, maximum, minimum, clamp."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.promotion import promote_arguments
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING, get_default_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to

__all__ = [
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "fmax",
    "fmin",
    "masked_fill",
    "maximum",
    "minimum",
    "nan_to_num",
    "where",
]


_NUMBERS = (float, int, bool)


class Where(Function):
    """`x` where the condition holds, `y` elsewhere."""

    upcasts = False

    def forward(self, condition: Any, x: Any, y: Any) -> Any:
        """Return the chosen elements."""
        self.shapes = shapes(x), shapes(y)
        self.save_for_backward(condition)
        try:
            # A bare number would make NumPy widen bfloat16.
            if type(y) in _NUMBERS:
                y = x.dtype.type(y)
            elif type(x) in _NUMBERS:
                x = y.dtype.type(x)
            return kernels.selection.where(condition, x, y)
        except (ValueError, OverflowError) as error:
            raise operand_error("where", error, condition, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return the gradient where each was chosen, 0 elsewhere."""
        (condition,) = self.saved
        x, y = self.shapes
        return (
            None,
            sum_to(where(condition, grad, 0.0), x) if self.needs(1) else None,
            sum_to(where(condition, 0.0, grad), y) if self.needs(2) else None,
        )


class MaskedFill(Function):
    """A value where the mask holds, `x` elsewhere."""

    upcasts = False

    def forward(self, x: Any, mask: Any, value: Any) -> Any:
        """Return the filled copy, in the dtype of `x`."""
        self.shapes = x.shape, shapes(value)
        self.value_dtype = getattr(value, "dtype", None)
        self.save_for_backward(mask)
        if self.value_dtype is None:
            value = x.dtype.type(value)
        elif self.value_dtype != x.dtype:
            value = value.astype(x.dtype)
        try:
            return kernels.selection.where(mask, value, x)
        except ValueError as error:
            raise operand_error("masked_fill", error, x, mask) from None

    def backward(self, grad: Any) -> Any:
        """Return the gradient outside the mask, and its sum inside."""
        (mask,) = self.saved
        x, value = self.shapes
        inside = None
        if self.needs(2):
            inside = sum_to(where(mask, grad, 0.0), value)
            if inside.dtype != self.value_dtype:
                from nnlib.ops.casting import cast

                inside = cast(inside, self.value_dtype)
        return sum_to(where(mask, 0.0, grad), x), None, inside


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


class NanToNum(Function):
    """Numbers in the place of NaN and the infinities."""

    def forward(self, x: Any, *, nan: float, posinf: float, neginf: float) -> Any:
        """Return the finite copy."""
        self.save_for_backward(x)
        return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)

    def backward(self, grad: Any) -> Any:
        """Return the gradient where `x` was finite."""
        (x,) = self.saved
        # Only a finite number less itself is zero.
        return where(x - x == 0, grad, 0.0)


def promoted(op: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Bring two operands to a common dtype by PyTorch's table."""
    for value in (x, y):
        if not (hasattr(value, "dtype") or isinstance(value, bool | int | float)):
            raise DTypeError(
                f"{op}: expected tensors or numbers, got {type(value).__name__}"
            )
    if not hasattr(x, "dtype") and not hasattr(y, "dtype"):
        if isinstance(x, float) or isinstance(y, float):
            dtype = get_default_dtype()
        else:
            dtype = np.result_type(type(x), type(y))
        return np.asarray(x, dtype), y
    pair = promote_arguments("arithmetic", (x, y))
    return (x, y) if pair is None else (pair[0], pair[1])


def check_mask(op: str, argument: str, mask: Any) -> None:
    """Raise unless `mask` holds booleans."""
    dtype = getattr(mask, "dtype", None)
    if dtype is None or dtype.kind != "b":
        got = type(mask).__name__ if dtype is None else dtype
        raise DTypeError(f"{op}: {argument}: expected a bool tensor, got {got}")


@public()
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Return `input` where `condition` holds, else `other`, broadcast and promoted.

    Parameters
    ----------
    condition : Tensor of bool
    input, other : Tensor or number, shapes that broadcast
        Without both: the indices where `condition` holds, one tensor per dimension.

    Raises
    ------
    DTypeError
        If `condition` is not bool, or one of the other two is missing.
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([-1.0, 2.0])
    >>> nnlib.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    if input is None and other is None:
        array = condition._array if isinstance(condition, Tensor) else condition
        found = np.nonzero(array)
        if array is condition:
            return found
        return tuple(Tensor._from_array(index) for index in found)
    check_mask("where", "condition", condition)
    kind_x, kind_y = getattr(input, "dtype", None), getattr(other, "dtype", None)
    if kind_x is None or kind_x is not kind_y:
        weak = input if kind_x is None else other
        if type(weak) is not float or (kind_y or kind_x) not in FLOATING:
            input, other = promoted("where", input, other)
    return Where.apply(condition, input, other)


@public(inplace=True)
def masked_fill(input: Any, mask: Any, value: Any) -> Tensor:
    """Return `input` with `value` where `mask` holds.

    Parameters
    ----------
    input : Tensor
    mask : Tensor of bool, shape that broadcasts with `input`
    value : number or Tensor without dimensions

    Raises
    ------
    DTypeError
        If `mask` is not bool, or a float is to fill an integer tensor.
    ShapeError
        If `value` has dimensions or the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]).masked_fill(nnlib.tensor([True, False]), 9)
    tensor([9., 2.])
    """
    check_mask("masked_fill", "mask", mask)
    if getattr(value, "ndim", 0):
        raise ShapeError(
            f"masked_fill: value: expected a number or a tensor without dimensions, "
            f"got shape {tuple(value.shape)}"
        )
    if input.dtype not in FLOATING and isinstance(value, float):
        raise DTypeError(
            f"masked_fill: value: the float {value} cannot fill a tensor of "
            f"{input.dtype}"
        )
    return MaskedFill.apply(input, mask, value)  # type: ignore[no-any-return]


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


@public(inplace=True)
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


@public(inplace=True)
def nan_to_num(
    input: Any,
    nan: float | None = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """Return `input` with numbers in the place of NaN and the infinities.

    Parameters
    ----------
    input : Tensor
    nan : float, default 0
    posinf, neginf : float, optional
        Default: the largest and the smallest number of the dtype.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nan_to_num(nnlib.tensor([1.0, float("nan"), float("inf")]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    if input.dtype not in FLOATING:
        return input.clone()  # type: ignore[no-any-return]
    from ml_dtypes import finfo

    limits = finfo(input.dtype)  # type: ignore[no-untyped-call]
    return NanToNum.apply(  # type: ignore[no-any-return]
        input,
        nan=0.0 if nan is None else nan,
        posinf=float(limits.max) if posinf is None else posinf,
        neginf=float(limits.min) if neginf is None else neginf,
    )
