"""Choosing by a mask: where, masked_fill, nan_to_num."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.promotion import promote_arguments
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING, bool_, get_default_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.arrays import nonzeros
from nnlib.ops.dims import number_as

__all__ = [
    "masked_fill",
    "nan_to_num",
    "where",
]


_NUMBERS = (float, int, bool)
# Up to so many elements NumPy's one or two calls are ahead of the bitwise way.
SMALL = 1024


class Where(Function):
    """`x` where the condition holds, `y` elsewhere."""

    upcasts = False
    takes_numbers = True

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
            if type(y) in _NUMBERS:
                number_as("where", "other", y, x.dtype)
            elif type(x) in _NUMBERS:
                number_as("where", "input", x, y.dtype)
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
    takes_numbers = True

    def forward(self, x: Any, mask: Any, value: Any) -> Any:
        """Return the filled copy, in the dtype of `x`."""
        self.shapes = x.shape, shapes(value)
        self.value_dtype = getattr(value, "dtype", None)
        self.save_for_backward(mask)
        if self.value_dtype is None:
            try:
                value = x.dtype.type(value)
            except (ValueError, OverflowError):
                number_as("masked_fill", "value", value, x.dtype)
        elif self.value_dtype != x.dtype:
            value = value.astype(x.dtype)
        try:
            few = x.size <= SMALL and type(x) is np.ndarray
            if few and mask.shape == x.shape and not self.shapes[1]:
                # What NumPy's `where` does, in half of its time.
                out = x.copy()
                np.putmask(out, mask, value)
                return out
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


class NanToNum(Function):
    """Numbers in the place of NaN and the infinities."""

    def forward(self, x: Any, *, nan: float, posinf: float, neginf: float) -> Any:
        """Return the finite copy."""
        self.save_for_backward(x)
        if type(x) is np.ndarray and nonzeros(np.isfinite(x)) == x.size:
            return x.copy()
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


@public(direct=True)
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
        if not isinstance(condition, Tensor):
            return np.nonzero(condition)
        from nnlib.ops.masking import nonzero

        return nonzero(condition, as_tuple=True)
    # The arrays' dtypes: a Tensor's is a call of a Python function.
    mask = getattr(condition, "_array", condition)
    if getattr(mask, "dtype", None) is not bool_:
        check_mask("where", "condition", condition)
    kind_x = getattr(getattr(input, "_array", input), "dtype", None)
    kind_y = getattr(getattr(other, "_array", other), "dtype", None)
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
    dtype = input.dtype
    if dtype not in FLOATING:
        return input.clone()  # type: ignore[no-any-return]
    low, high = _limits(dtype)
    return NanToNum.apply(  # type: ignore[no-any-return]
        input,
        nan=0.0 if nan is None else nan,
        posinf=high if posinf is None else posinf,
        neginf=low if neginf is None else neginf,
    )


@functools.cache
def _limits(dtype: Any) -> tuple[float, float]:
    """Return the smallest and the largest number of a floating dtype."""
    from ml_dtypes import finfo

    limits = finfo(dtype)  # type: ignore[no-untyped-call]
    return float(limits.min), float(limits.max)
