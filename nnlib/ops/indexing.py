"""``x[index]`` and ``x[index] = value``, with PyTorch's reading of the index.

Integers, slices, None and Ellipsis are applied first and give a view. Integer arrays
and boolean masks are applied to that view: they broadcast together, and their common
dimensions stand where the first of them stood if they are neighbours, else in front.
(NumPy counts a plain integer among the arrays and so may order dimensions otherwise.)
"""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_direct
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.casting import cast
from nnlib.ops.dims import number_as, raw
from nnlib.ops.index_parts import (
    FIRST,
    FULL,
    PLAIN,
    as_part,
    basic_key,
    explained,
    fill,
    integer_key,
    may_repeat,
    parse,
    separate,
)
from nnlib.ops.scattering import add_at, add_rows

__all__ = ["index_put"]


class Slice(Function):
    """``x[key]`` for integers, slices, None and Ellipsis: a view."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, key: tuple[Any, ...]) -> Any:
        """Return the view."""
        self.shape, self.key = x.shape, key
        try:
            return x[key]
        except IndexError as error:
            raise BoundsError(f"index: {error}; the shape is {x.shape}") from None

    def backward(self, grad: Any) -> Any:
        """Put the gradient back among zeros."""
        return PutIndex.apply(grad, shape=self.shape, key=self.key)


class Index(Function):
    """``x[key]`` for a key with index arrays or masks: a copy."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *arrays: Any, key: tuple[Any, ...]) -> Any:
        """Return the picked elements."""
        self.shape, self.key = x.shape, key
        self.save_for_backward(*arrays)
        try:
            return x[fill(key, arrays)]
        except IndexError as error:
            raise explained(error, x.shape, key, arrays) from None

    def backward(self, grad: Any) -> Any:
        """Add the gradients up where they were picked."""
        arrays = self.saved
        put = PutIndex.apply(grad, *arrays, shape=self.shape, key=self.key)
        return (put, *[None] * len(arrays))


class PutIndex(Function):
    """Add values into zeros at a key: the adjoint of `Slice` and `Index`."""

    upcasts = False

    def forward(
        self, x: Any, *arrays: Any, shape: tuple[int, ...], key: tuple[Any, ...]
    ) -> Any:
        """Return zeros of `shape` with `x` added at the key."""
        self.key, self.count = key, len(arrays)
        self.save_for_backward(*arrays)
        if key is FIRST and arrays[0].dtype.kind != "b":
            out = array_module(x).zeros(shape, x.dtype)
            inner = x.size // max(arrays[0].size, 1)
            rows = arrays[0].reshape(-1)
            if x.size:
                add_rows(out.reshape(-1, inner), rows, x.reshape(-1, inner))
            return out
        if may_repeat(arrays):
            return add_at(shape, integer_key(fill(key, arrays), len(shape)), x)
        out = array_module(x).zeros(shape, x.dtype)
        out[fill(key, arrays)] = x
        return out

    def backward(self, grad: Any) -> Any:
        """Pick the elements again."""
        arrays = self.saved
        if not self.count:
            return Slice.apply(grad, key=self.key)
        return (Index.apply(grad, *arrays, key=self.key), *[None] * self.count)


class ZeroIndex(Function):
    """A copy with zeros at a key."""

    upcasts = False

    def forward(self, x: Any, *arrays: Any, key: tuple[Any, ...]) -> Any:
        """Return the copy."""
        self.key = key
        self.save_for_backward(*arrays)
        out = x.copy()
        out[fill(key, arrays)] = 0
        return out

    def backward(self, grad: Any) -> Any:
        """Do the same to the gradient (a projection is its own adjoint)."""
        arrays = self.saved
        return (
            ZeroIndex.apply(grad, *arrays, key=self.key),
            *[None] * len(arrays),
        )


class SetIndex(Function):
    """``x[key] = value`` or ``x[key] += value``, in place or on a copy."""

    upcasts = False

    def forward(
        self,
        x: Any,
        value: Any,
        *arrays: Any,
        key: tuple[Any, ...],
        accumulate: bool,
        inplace: bool,
    ) -> Any:
        """Return the changed array."""
        self.key, self.accumulate = key, accumulate
        self.value_shape = getattr(value, "shape", ())
        self.save_for_backward(*arrays)
        out = x[...] if inplace else x.copy()
        full = fill(key, arrays)
        try:
            if accumulate and may_repeat(arrays):
                region = out[full]
                full_value = array_module(x).broadcast_to(value, region.shape)
                out += add_at(
                    x.shape, integer_key(full, x.ndim), full_value.astype(x.dtype)
                )
            elif accumulate:
                out[full] += value
            else:
                out[full] = value
        except IndexError as error:
            raise explained(error, x.shape, key, arrays) from None
        except (ValueError, OverflowError):
            number_as("index assignment", "value", value, x.dtype)
            raise ShapeError(
                f"index assignment: a value of shape {self.value_shape} does not fit "
                f"the region of shape {out[full].shape}"
            ) from None
        return out

    def backward(self, grad: Any) -> Any:
        """Split the gradient between what was kept and what was written."""
        arrays = self.saved
        kept = written = None
        if self.needs(0):
            kept = grad
            if not self.accumulate:
                kept = ZeroIndex.apply(grad, *arrays, key=self.key)
        if self.needs(1):
            if arrays:
                written = Index.apply(grad, *arrays, key=self.key)
            else:
                written = Slice.apply(grad, key=self.key)
            shape = self.value_shape
            surplus = max(len(shape) - written.ndim, 0)
            written = sum_to(written, shape[surplus:])
            if surplus:
                written = written.reshape(shape)
        return (kept, written, *[None] * len(arrays))


@public(method=False, operators="__getitem__", direct=True)
def getitem(input: Any, index: Any) -> Any:
    """Return ``input[index]``.

    Parameters
    ----------
    index : int, slice, None, Ellipsis, integer or boolean Tensor (or list), or a tuple
        Without a tensor the result is a view. Gradients of elements that are picked
        several times add up. A slice may have a negative step.

    Raises
    ------
    BoundsError
        If an index is out of range (an IndexError); CuPy wraps those of tensors.
    DTypeError
        If an index is no integer.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1, 2], [3, 4]])
    >>> x[:, 0], x[x > 2]
    (tensor([1, 3]), tensor([3, 4]))
    """
    basic = basic_key(index)
    if basic is not None:
        return Slice.apply(input, key=basic)
    if type(index) is Tensor and index._array.dtype in PLAIN and index._array.ndim:
        return Index.apply(input, index, key=FIRST)
    basic, key, arrays = parse(input, index)
    if basic is not None:
        input = Slice.apply(input, key=basic)
    return Index.apply(input, *arrays, key=key) if arrays else input


@public(method=False, operators="__setitem__", direct=True)
def setitem(input: Any, index: Any, value: Any) -> None:
    """Do ``input[index] = value`` in place; gradients reach `input` and `value`.

    Parameters
    ----------
    index
        As for reading.
    value : number or Tensor of a shape that broadcasts to the region
        Cast to the dtype of `input`.

    Raises
    ------
    BoundsError
        If an index is out of range.
    ShapeError
        If the value does not fit the region.
    Error
        If `input` is a leaf that requires a gradient.
    """
    array = input._array
    if isinstance(value, Tensor):
        if value._array.dtype != array.dtype:
            value = cast(value, array.dtype)
    elif not isinstance(value, int | float):
        try:
            value = array_module(array).asarray(value, dtype=array.dtype)
        except (TypeError, ValueError):
            raise DTypeError(
                "index assignment: value: expected a Tensor, numbers or an array, got "
                f"{type(value).__name__}"
            ) from None
    basic = basic_key(index)
    key: Any = ()
    arrays: list[Any] = []
    if basic is not None:
        pass
    elif type(index) is Tensor and index._array.dtype in PLAIN and index._array.ndim:
        key, arrays = FIRST, [index]
    else:
        basic, key, arrays = parse(input, index)
    if arrays and basic is not None:
        input, basic = Slice.apply(input, key=basic), None
    run_direct(
        "index assignment",
        SetIndex,
        input,
        value,
        *arrays,
        key=key if basic is None else basic,
        accumulate=False,
        inplace=True,
    )


def _put_arguments(op: str, input: Any, indices: Any, values: Any) -> Any:
    if not isinstance(indices, tuple | list):
        raise DTypeError(
            f"{op}: indices: expected a tuple of tensors, got {type(indices).__name__}"
        )
    dtype = raw(input).dtype
    if raw(values).dtype != dtype:
        raise DTypeError(f"{op}: values are {raw(values).dtype}, the input is {dtype}")
    parts = [FULL if part is None else as_part(part, input) for part in indices]
    return separate(input, parts)[1:]


def _index_put_(
    input: Tensor, indices: Any, values: Any, accumulate: bool = False
) -> Tensor:
    """Do `index_put` in place; return this tensor."""
    key, arrays = _put_arguments("index_put_", input, indices, values)
    return run_direct(
        "index_put_",
        SetIndex,
        input,
        values,
        *arrays,
        key=key,
        accumulate=accumulate,
        inplace=True,
    )


@public(inplace=_index_put_)
def index_put(
    input: Any, indices: Any, values: Any, accumulate: bool = False
) -> Tensor:
    """Return a copy with ``copy[indices] = values``, or ``+=`` with `accumulate`.

    Parameters
    ----------
    indices : tuple of integer or boolean Tensors
    values : Tensor of a shape that broadcasts to the region, dtype of `input`
    accumulate : bool, default False
        Add; values at an index named several times add up.

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    """
    key, arrays = _put_arguments("index_put", input, indices, values)
    return SetIndex.apply(  # type: ignore[no-any-return]
        input, values, *arrays, key=key, accumulate=accumulate, inplace=False
    )
