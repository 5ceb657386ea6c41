"""Views by strides of one's own."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.backend.layouts import elements_before, may_share, strided_view
from nnlib.ops.dims import constant, raw
from nnlib.ops.gathering import index_select
from nnlib.ops.writing import index_add

__all__ = ["as_strided"]


def _places(module: Any, shape: Any, strides: Any, start: int) -> Any:
    """Return where in memory each element lies, as a vector, counted in elements."""
    places = module.full((1,) * len(shape), start, np.int64)
    for dim, (length, step) in enumerate(zip(shape, strides, strict=True)):
        along = [1] * len(shape)
        along[dim] = length
        places = places + (module.arange(length) * step).reshape(along)
    return places.reshape(-1)


class AsStrided(Function):
    """Elements of the memory that a tensor lies in."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, shape: Any, strides: Any, offset: int) -> Any:
        """Return the view; `offset` counts from the first element of `x`."""
        self.view = shape, strides, offset
        self.shape = x.shape
        self.strides = tuple(step // x.itemsize for step in x.strides)
        return strided_view(x, shape, strides, offset)

    def backward(self, grad: Any) -> Any:
        """Add the gradients up in such a memory, and take those of the input."""
        module = array_module(raw(grad))
        taken = _places(module, *self.view)
        own = _places(module, self.shape, self.strides, 0)
        if not own.size or not taken.size:
            return grad.sum() * constant(
                module.zeros(self.shape, raw(grad).dtype), grad
            )
        lowest = min(int(own.min()), int(taken.min()))
        size = max(int(own.max()), int(taken.max())) - lowest + 1
        memory = constant(module.zeros(size, raw(grad).dtype), grad)
        memory = index_add(memory, 0, constant(taken - lowest, grad), grad.reshape(-1))
        found = index_select(memory, 0, constant(own - lowest, grad))
        if may_share(self.shape, self.strides):
            # Where the input names an element several times, each has its part.
            counts = module.bincount(own - lowest)[own - lowest]
            found = found * constant((1 / counts).astype(raw(grad).dtype), grad)
        return found.reshape(self.shape)


def _whole(op: str, name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        kind = type(values).__name__
        raise DTypeError(f"{op}: {name}: expected a sequence of integers, got {kind}")
    numbers = tuple(values)
    for number in numbers:
        if not isinstance(number, int | np.integer) or number < 0:
            raise ShapeError(
                f"{op}: {name}: expected integers of at least 0, got {numbers}"
            )
    return tuple(map(int, numbers))


def _offset(op: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise DTypeError(
            f"{op}: storage_offset: expected an integer, got {kind}"
        ) from None


@public(inplace="view")
def as_strided(
    input: Any, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """Return a view of the memory that `input` lies in, by a shape and strides.

    Elements may be named several times. Where there is a named function for what is
    wanted (`Tensor.unfold`, `diagonal`, slices), it is easier to read.

    Parameters
    ----------
    input : Tensor
    size : sequence of int
        The shape.
    stride : sequence of int
        For each dimension, from one element to the next, in elements.
    storage_offset : int, optional
        The first element, counted from the beginning of the memory. Default: that of
        `input`.

    Raises
    ------
    BoundsError
        If an element would lie outside the memory.
    ShapeError
        If `size` and `stride` differ in length, or a number is negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.arange(5).as_strided((3, 3), (1, 1))
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    op = "as_strided"
    shape, strides = _whole(op, "size", size), _whole(op, "stride", stride)
    if len(shape) != len(strides):
        raise ShapeError(
            f"{op}: size has {len(shape)} entries, stride {len(strides)}: expected as "
            "many"
        )
    array = raw(input)
    before, total = elements_before(array)
    start = before if storage_offset is None else _offset(op, storage_offset)
    last = start + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if start < 0 or (all(shape) and last >= total):
        raise BoundsError(
            f"{op}: the last element of shape {shape}, strides {strides} from "
            f"{start} on would be number {last}, the memory has {total}"
        )
    return AsStrided.apply(  # type: ignore[no-any-return]
        input, shape=shape, strides=strides, offset=start - before
    )
