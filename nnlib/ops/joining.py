"""Joining and cutting: cat, stack, split, chunk, unbind and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dimensions import Narrow
from nnlib.ops.dims import one_dim, raw
from nnlib.ops.expanding import atleast_1d, atleast_2d, atleast_3d

__all__ = [
    "cat",
    "chunk",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "hsplit",
    "split",
    "stack",
    "tensor_split",
    "unbind",
    "vsplit",
    "vstack",
]


class Cat(Function):
    """Join along a dimension."""

    promotes = "arithmetic"
    takes_numbers = False
    upcasts = False
    arithmetic = False

    def forward(self, *arrays: Any, dim: int) -> Any:
        """Return the joined array."""
        self.dim = dim
        try:
            # On CuPy arrays NumPy calls CuPy's function.
            out = np.concatenate(arrays, dim)
        except ValueError:
            raise _unequal("cat", [x.shape for x in arrays], dim) from None
        if self.edges is not None:
            self.lengths = [x.shape[dim] for x in arrays]
        return out

    def backward(self, grad: Any) -> Any:
        """Cut the gradient where the inputs met."""
        grads, start = [], 0
        for place, length in enumerate(self.lengths):
            grads.append(
                Narrow.apply(grad, dim=self.dim, start=start, length=length)
                if self.needs(place)
                else None
            )
            start += length
        return tuple(grads)


class Stack(Function):
    """Join along a new dimension."""

    promotes = "arithmetic"
    takes_numbers = False
    upcasts = False
    arithmetic = False

    def forward(self, *arrays: Any, dim: int) -> Any:
        """Return the stacked array."""
        self.dim = dim
        key = (slice(None),) * dim + (None,)
        try:
            # What stack does, without its checks.
            return np.concatenate([x[key] for x in arrays], dim)
        except ValueError:
            raise _unequal("stack", [x.shape for x in arrays], -1) from None

    def backward(self, grad: Any) -> Any:
        """Take the gradient apart along the dimension."""
        return Unbind.apply(grad, dim=self.dim)


class Unbind(Function):
    """Take a dimension apart."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the entries of `dim` as views."""
        self.dim = dim
        if not dim and x.ndim > 1:
            return tuple(x)
        lead = (slice(None),) * dim
        return tuple([x[(*lead, place, ...)] for place in range(x.shape[dim])])

    def backward(self, *grads: Any) -> Any:
        """Stack the gradients."""
        return Stack.apply(*grads, dim=self.dim)


class Split(Function):
    """Cut a dimension into stretches."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, lengths: tuple[int, ...], dim: int) -> Any:
        """Return the stretches as views."""
        self.dim = dim
        lead = (slice(None),) * dim
        parts, start = [], 0
        for length in lengths:
            parts.append(x[(*lead, slice(start, start + length))])
            start += length
        return tuple(parts)

    def backward(self, *grads: Any) -> Any:
        """Join the gradients."""
        return Cat.apply(*grads, dim=self.dim)


def _unequal(op: str, shapes: list[Any], dim: int) -> ShapeError:
    """Return the error that names the first shape that does not fit."""
    first = shapes[0]
    but = "" if dim < 0 else f": they may differ in dimension {dim} only"
    for place, shape in enumerate(shapes):
        if len(shape) != len(first) or any(
            mine != its and axis != dim
            for axis, (mine, its) in enumerate(zip(shape, first, strict=True))
        ):
            return ShapeError(
                f"{op}: tensor {place} has shape {shape}, tensor 0 has {first}{but}"
            )
    return ShapeError(f"{op}: shapes {shapes} do not fit")


def _checked(op: str, tensors: Any) -> list[Any]:
    if isinstance(tensors, Tensor):
        raise DTypeError(f"{op}: tensors: expected a sequence of tensors, got a Tensor")
    found = list(tensors)
    if not found:
        raise ShapeError(f"{op}: tensors: expected at least one tensor, got none")
    for x in found:
        if type(x) is Tensor:
            continue
        if not hasattr(x, "dtype"):
            place = next(i for i, other in enumerate(found) if other is x)
            raise DTypeError(
                f"{op}: tensors: element {place} is no tensor but {type(x).__name__}"
            )
    return found


@public(method=False, axis=True)
def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Join tensors along an existing dimension.

    Parameters
    ----------
    tensors : sequence of Tensor
        Equal in shape but for `dim`; of several dtypes they are promoted. An empty
        tensor of shape (0,) is left out.
    dim : int, default 0

    Raises
    ------
    ShapeError
        If there is none, or shapes differ elsewhere.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cat([nnlib.tensor([1, 2]), nnlib.tensor([3])])
    tensor([1, 2, 3])
    """
    return _join("cat", _checked("cat", tensors), dim)  # type: ignore[no-any-return]


def _join(op: str, found: list[Any], dim: int) -> Any:
    """Join tensors that are known to be some."""
    dims = [raw(x).ndim for x in found]
    ndim = dims[0]
    if dims.count(ndim) != len(dims):
        # As in PyTorch, an empty vector joins with anything.
        found = [x for x in found if x.shape != (0,)]
        ndim = found[0].ndim
    if not ndim:
        raise ShapeError(
            f"{op}: tensors without dimensions cannot be joined; stack them"
        )
    if type(dim) is not int or not 0 <= dim < ndim:
        dim = one_dim(op, dim, ndim)
    return Cat.apply(*found, dim=dim)


@public(method=False, axis=True)
def concat(tensors: Any, dim: int = 0) -> Tensor:
    """Join tensors along an existing dimension: `cat`."""
    return cat(tensors, dim)


@public(method=False, axis=True)
def concatenate(tensors: Any, dim: int = 0) -> Tensor:
    """Join tensors along an existing dimension: `cat`."""
    return cat(tensors, dim)


@public(method=False, axis=True)
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Join tensors of equal shape along a new dimension.

    Raises
    ------
    ShapeError
        If there is none, or shapes differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.stack([nnlib.tensor([1, 2]), nnlib.tensor([3, 4])], dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    found = _checked("stack", tensors)
    dim = one_dim("stack", dim, raw(found[0]).ndim + 1)
    return Stack.apply(*found, dim=dim)  # type: ignore[no-any-return]


@public(method=False)
def hstack(tensors: Any) -> Tensor:
    """Join along the second dimension (vectors: the first)."""
    found = [x if raw(x).ndim else atleast_1d(x) for x in _checked("hstack", tensors)]
    return _join("hstack", found, 0 if raw(found[0]).ndim == 1 else 1)  # type: ignore[no-any-return]


@public(method=False)
def vstack(tensors: Any) -> Tensor:
    """Join along the first dimension, vectors as rows."""
    found = _checked("vstack", tensors)
    found = [x if raw(x).ndim > 1 else atleast_2d(x) for x in found]
    return _join("vstack", found, 0)  # type: ignore[no-any-return]


@public(method=False)
def dstack(tensors: Any) -> Tensor:
    """Join along the third dimension."""
    return cat([atleast_3d(x) for x in _checked("dstack", tensors)], 2)


@public(method=False)
def column_stack(tensors: Any) -> Tensor:
    """Join along the second dimension, vectors as columns."""
    found = _checked("column_stack", tensors)
    return cat([x if x.ndim > 1 else x.reshape(-1, 1) for x in found], 1)


@public(axis=True)
def unbind(input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Return the entries of a dimension as a tuple of views.

    Raises
    ------
    ShapeError
        If `input` has no dimensions.
    """
    ndim = raw(input).ndim
    if not ndim:
        raise ShapeError("unbind: a tensor without dimensions has no entries")
    return Unbind.apply(  # type: ignore[no-any-return]
        input, dim=one_dim("unbind", dim, ndim)
    )


def _pieces(length: int, size: int) -> tuple[int, ...]:
    if not length:
        return (0,)
    whole, rest = divmod(length, size)
    return (size,) * whole + ((rest,) if rest else ())


@public(axis=True)
def split(input: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into stretches, returned as views.

    Parameters
    ----------
    split_size_or_sections : int or sequence of int
        The length of each stretch (the last may be shorter), or all lengths.

    Raises
    ------
    ShapeError
        If the lengths do not add up to that of the dimension.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.split(nnlib.tensor([1, 2, 3]), 2)
    (tensor([1, 2]), tensor([3]))
    """
    if not input.ndim:
        raise ShapeError("split: a tensor without dimensions cannot be cut")
    dim = one_dim("split", dim, input.ndim)
    length = input.shape[dim]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and length):
            raise ShapeError(f"split: expected a positive size, got {size}")
        lengths = _pieces(length, size)
    else:
        lengths = tuple(int(part) for part in split_size_or_sections)
        if sum(lengths) != length or min(lengths, default=0) < 0:
            raise ShapeError(
                f"split: lengths {lengths} do not add up to {length}, the length of "
                f"dimension {dim}"
            )
    return Split.apply(  # type: ignore[no-any-return]
        input, lengths=lengths, dim=dim
    )


@public(axis=True)
def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into at most `chunks` stretches of equal length.

    The last may be shorter, and there may be fewer than asked for.

    Raises
    ------
    Error
        If `chunks` is less than 1.
    """
    if chunks < 1:
        raise ArgumentError(f"chunk: chunks: expected 1 or more, got {chunks}")
    shape = raw(input).shape
    if not shape:
        raise ShapeError("chunk: a tensor without dimensions cannot be cut")
    dim = one_dim("chunk", dim, len(shape))
    length = shape[dim]
    size = -(-length // chunks)
    lengths = _pieces(length, size) if length else (0,) * chunks
    return Split.apply(input, lengths=lengths, dim=dim)  # type: ignore[no-any-return]


@public()
def tensor_split(
    input: Any, indices_or_sections: Any, dim: int = 0
) -> tuple[Tensor, ...]:
    """Cut a dimension into so many stretches, or before each of these indices.

    The first stretches are one longer where the length does not divide.

    Raises
    ------
    Error
        If the number of sections is less than 1.
    """
    if not input.ndim:
        raise ShapeError("tensor_split: a tensor without dimensions cannot be cut")
    dim = one_dim("tensor_split", dim, input.ndim)
    length = input.shape[dim]
    given = raw(indices_or_sections)
    if hasattr(given, "dtype"):
        given = given.tolist()
    if isinstance(given, int):
        if given < 1:
            raise ArgumentError(
                f"tensor_split: expected 1 or more sections, got {given}"
            )
        size, longer = divmod(length, given)
        lengths = (size + 1,) * longer + (size,) * (given - longer)
        return Split.apply(  # type: ignore[no-any-return]
            input, lengths=lengths, dim=dim
        )
    parts = []
    for start, stop in zip([0, *given], [*given, length], strict=True):
        first, last, _ = slice(start, stop).indices(length)
        parts.append(
            Narrow.apply(input, dim=dim, start=first, length=max(last - first, 0))
        )
    return tuple(parts)


@public()
def hsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Cut along the second dimension (of a vector: the first), as `tensor_split`."""
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


@public()
def vsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Cut along the first dimension, as `tensor_split`."""
    return tensor_split(input, indices_or_sections, 0)
