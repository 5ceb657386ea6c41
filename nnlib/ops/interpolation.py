"""Combinations of three tensors: lerp, addcmul, addcdiv."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import DTypeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.dims import raw
from nnlib.ops.selection import where

__all__ = ["addcdiv", "addcmul", "lerp"]


class Lerp(Function):
    """``x + w (y - x)`` for a number w."""

    def forward(self, x: Any, y: Any, *, weight: float) -> Any:
        """Return the mixture, computed from the nearer end."""
        self.weight = weight
        self.shapes = x.shape, y.shape
        try:
            difference = y - x
        except ValueError as error:
            raise operand_error("lerp", error, x, y) from None
        if -0.5 < weight < 0.5:
            return x + difference * weight
        return y - difference * (1 - weight)

    def backward(self, grad: Any) -> Any:
        """Return ``(1 - w) grad`` and ``w grad``."""
        x, y = self.shapes
        return (
            sum_to(grad * (1 - self.weight), x) if self.needs(0) else None,
            sum_to(grad * self.weight, y) if self.needs(1) else None,
        )


@public(inplace=True)
def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """Return ``input + weight * (end - input)``, exact at weights 0 and 1.

    Parameters
    ----------
    input, end : Tensor, shapes that broadcast
    weight : number or Tensor, shape that broadcasts

    Raises
    ------
    DTypeError
        If `input` and `end` differ in dtype.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.lerp(nnlib.tensor([0.0, 2.0]), nnlib.tensor([10.0, 4.0]), 0.5)
    tensor([5., 3.])
    """
    if input.dtype != end.dtype:
        raise DTypeError(f"lerp: end: expected {input.dtype}, got {end.dtype}")
    if raw(input).dtype not in FLOATING:
        raise DTypeError(f"lerp: input: expected a floating dtype, got {input.dtype}")
    if not hasattr(weight, "dtype"):
        return Lerp.apply(input, end, weight=weight)  # type: ignore[no-any-return]
    difference = end - input
    near = (weight < 0.5) & (weight > -0.5)
    from_start = input + difference * weight
    return where(near, from_start, end - difference * (1 - weight))  # type: ignore[no-any-return]


class AddMul(Function):
    """``x + value * y * z``, element by element."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, z: Any, *, value: Any) -> Any:
        """Return the sum."""
        self.shape, self.value = shapes(x), value
        self.save_for_backward(None, y, z)
        if value != 1 and type(value) is float and raw(y).dtype.kind in "biu":
            raise DTypeError(
                f"addcmul: value: expected an integer as the tensors are ({y.dtype}), "
                f"got {value}"
            )
        try:
            out = y * z
            return x + (out if value == 1 else out * value)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("addcmul", error, x, y, z) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad``, ``value grad z`` and ``value grad y``."""
        _, y, z = self.saved
        gx = sum_to(grad, self.shape) if self.needs(0) else None
        gy = gz = None
        if self.value != 1:
            grad = grad * self.value
        if self.needs(1):
            gy = sum_to(grad * z, shapes(y))
        if self.needs(2):
            gz = sum_to(grad * y, shapes(z))
        return gx, gy, gz


class AddDiv(Function):
    """``x + value * y / z``, element by element."""

    promotes = "float"

    def forward(self, x: Any, y: Any, z: Any, *, value: Any) -> Any:
        """Return the sum."""
        self.shape, self.value = shapes(x), value
        self.save_for_backward(None, y, z)
        try:
            out = y / z
            return x + (out if value == 1 else out * value)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("addcdiv", error, x, y, z) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad``, ``value grad / z`` and ``-value grad y / z^2``."""
        _, y, z = self.saved
        gx = sum_to(grad, self.shape) if self.needs(0) else None
        gy = gz = None
        quotient = (grad if self.value == 1 else grad * self.value) / z
        if self.needs(1):
            gy = sum_to(quotient, shapes(y))
        if self.needs(2):
            gz = sum_to(-quotient * y / z, shapes(z))
        return gx, gy, gz


@public(inplace=True)
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """Return ``input + value * tensor1 * tensor2``.

    Examples
    --------
    >>> import nnlib
    >>> one, two = nnlib.tensor([1.0]), nnlib.tensor([2.0])
    >>> nnlib.addcmul(one, two, two, value=0.5)
    tensor([3.])
    """
    return AddMul.apply(input, tensor1, tensor2, value=value)  # type: ignore[no-any-return]


@public(inplace=True)
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """Return ``input + value * tensor1 / tensor2``.

    Raises
    ------
    DTypeError
        If both divided tensors hold integers.

    Examples
    --------
    >>> import nnlib
    >>> one, two = nnlib.tensor([1.0]), nnlib.tensor([2.0])
    >>> nnlib.addcdiv(one, one, two, value=4)
    tensor([3.])
    """
    if raw(tensor1).dtype.kind in "biu" and raw(tensor2).dtype.kind in "biu":
        raise DTypeError("addcdiv: expected floats, got two integer tensors to divide")
    return AddDiv.apply(input, tensor1, tensor2, value=value)  # type: ignore[no-any-return]
