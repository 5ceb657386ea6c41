"""In-place methods that do not read the old values: zero_, fill_, copy_."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.inplace import is_plain, run_direct
from nnlib.autograd.mode import state
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import device_of
from nnlib.backend.errors import ShapeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.casting import Transfer, cast
from nnlib.ops.dims import number_as

__all__ = ["fill_", "zero_"]


class Overwrite(Function):
    """Write a value over every element."""

    upcasts = False

    def forward(self, x: Any, value: Any) -> Any:
        """Write `value`, which broadcasts, into `x` and return it."""
        self.shape = getattr(value, "shape", ())
        self.mine = x.shape, x.dtype
        try:
            if len(self.shape) > x.ndim:
                raise ValueError
            x[...] = value
        except (ValueError, OverflowError):
            number_as("fill_", "value", value, x.dtype)
            raise ShapeError(
                f"copy_: shape {self.shape} does not broadcast to {x.shape}"
            ) from None
        return x[...]

    def backward(self, grad: Any) -> Any:
        """Give the gradient to the value: nothing is left of what was there."""
        lost = grad * 0 if self.needs(0) else None
        if self.needs(0) and isinstance(grad, np.ndarray):
            lost = np.zeros_like(grad)
        return lost, sum_to(grad, self.shape) if self.needs(1) else None


def _counted(target: Tensor) -> Tensor:
    """Count a change of a plain tensor (see `is_plain`)."""
    holder = target if target._owner is None else target._owner
    holder._version += 1
    holder._entangled = True
    return target


def _holds(target: Tensor, value: float) -> bool:
    """Tell whether a number can be written without a warning or an error."""
    return target._array.dtype.kind == "f" and -65504 <= value <= 65504


@public(direct=True)
def zero_(input: Any) -> Tensor:
    """Set every element to 0, in place."""
    if is_plain(input):
        input._array.fill(0)
        return _counted(input)
    return run_direct("zero_", Overwrite, input, 0)


@public()
def fill_(input: Any, value: Any) -> Tensor:
    """Set every element to `value` (a number or a tensor of no dimensions), in place.

    Raises
    ------
    ShapeError
        If `value` has dimensions.
    """
    if type(value) in (int, float) and is_plain(input) and _holds(input, value):
        input._array.fill(value)
        return _counted(input)
    if isinstance(value, Tensor):
        if value.ndim:
            raise ShapeError(
                f"fill_: value: expected no dimensions, got shape {tuple(value.shape)}"
            )
        value = cast(value, input.dtype)
    return run_direct("fill_", Overwrite, input, value)


@public(direct=True)
def copy_(input: Any, src: Any, non_blocking: bool = False) -> Tensor:
    """Copy `src` into this tensor, in place, across dtypes and devices.

    Parameters
    ----------
    src : Tensor of a shape that broadcasts to this one's
    non_blocking : bool, default False
        Do not wait for a copy between host and CUDA.

    Raises
    ------
    ShapeError
        If `src` does not broadcast.
    """
    if type(src) is Tensor and is_plain(input):
        array, source = input._array, src._array
        alike = array.dtype is source.dtype and array.shape == source.shape
        tracked = src._requires_grad or src._base is not None
        if alike and type(source) is np.ndarray and not (tracked and state.modes.grad):
            array[...] = source
            return _counted(input)
    if not isinstance(src, Tensor):
        src = Tensor._from_array(np.asarray(src))
    if src._array.dtype != input._array.dtype:
        src = cast(src, input._array.dtype)
    place = device_of(input._array)
    if device_of(src._array) != place:
        src = Transfer.apply(src, device=place, non_blocking=non_blocking)
    return run_direct("copy_", Overwrite, input, src)
