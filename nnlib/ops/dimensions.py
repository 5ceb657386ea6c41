"""Dimensions dropped, added, moved and cut: squeeze, unsqueeze, movedim, narrow."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import BoundsError, ShapeError
from nnlib.ops.dims import many_dims, one_dim, raw
from nnlib.ops.shape import Permute, Reshape

__all__ = [
    "moveaxis",
    "movedim",
    "narrow",
    "select",
    "squeeze",
    "unsqueeze",
]


class Narrow(Function):
    """Cut a stretch out of one dimension, or one entry of it."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, dim: int, start: int, length: int | None) -> Any:
        """Return ``x[start:start + length]`` along `dim`, or ``x[start]`` for None."""
        self.shape = x.shape
        self.dim, self.start, self.length = dim, start, length
        last = start if length is None else slice(start, start + length)
        return x[(slice(None),) * dim + (last, ...)]

    def backward(self, grad: Any) -> Any:
        """Put the gradient back among zeros."""
        return Place.apply(
            grad, shape=self.shape, dim=self.dim, start=self.start, length=self.length
        )


class Place(Function):
    """Put a stretch into zeros: the adjoint of `Narrow`."""

    upcasts = False

    def forward(
        self,
        x: Any,
        *,
        shape: tuple[int, ...],
        dim: int,
        start: int,
        length: int | None,
    ) -> Any:
        """Return zeros of `shape` with `x` in its place."""
        self.dim, self.start, self.length = dim, start, length
        out = array_module(x).zeros(shape, x.dtype)
        last = start if length is None else slice(start, start + length)
        out[(slice(None),) * dim + (last,)] = x
        return out

    def backward(self, grad: Any) -> Any:
        """Cut the stretch out."""
        return Narrow.apply(grad, dim=self.dim, start=self.start, length=self.length)


@public(inplace="view")
def squeeze(input: Any, dim: Any = None) -> Tensor:
    """Drop dimensions of length 1: all, or those of `dim` that have it."""
    shape = raw(input).shape
    if dim is None:
        # Mostly there is nothing to drop: asking is cheaper than a new tuple.
        kept = shape
        if 1 in shape:
            kept = tuple([length for length in shape if length != 1])
        return Reshape.apply(input, shape=kept)  # type: ignore[no-any-return]
    if type(dim) is int and shape:
        dim = one_dim("squeeze", dim, len(shape))
        kept = shape[:dim] + shape[dim + 1 :] if shape[dim] == 1 else shape
        return Reshape.apply(input, shape=kept)  # type: ignore[no-any-return]
    dims = set(many_dims("squeeze", dim, len(shape)))
    if isinstance(dim, tuple | list) and not dim:
        dims = set()
    return Reshape.apply(  # type: ignore[no-any-return]
        input,
        shape=tuple(
            length
            for place, length in enumerate(shape)
            if length != 1 or place not in dims
        ),
    )


@public(inplace="view")
def unsqueeze(input: Any, dim: int) -> Tensor:
    """Insert a dimension of length 1 at `dim`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.unsqueeze(nnlib.zeros(2, 3), -1).shape
    Size([2, 3, 1])
    """
    shape = raw(input).shape
    if type(dim) is not int or not 0 <= dim <= len(shape):
        dim = one_dim("unsqueeze", dim, len(shape) + 1)
    return Reshape.apply(  # type: ignore[no-any-return]
        input, shape=(*shape[:dim], 1, *shape[dim:])
    )


@public()
def movedim(input: Any, source: Any, destination: Any) -> Tensor:
    """Move dimensions from `source` to `destination`; the others keep their order.

    Raises
    ------
    ShapeError
        If the two name different numbers of dimensions, or one twice.
    """
    ndim = raw(input).ndim
    if type(source) is int and type(destination) is int:
        dim = one_dim("movedim", source, ndim)
        place = one_dim("movedim", destination, ndim)
        order = list(range(ndim))
        if ndim:
            order.insert(place, order.pop(dim))
        return Permute.apply(input, dims=tuple(order))  # type: ignore[no-any-return]
    taken = many_dims("movedim", source, ndim) if source != () else ()
    placed = many_dims("movedim", destination, ndim) if destination != () else ()
    if len(taken) != len(placed):
        raise ShapeError(
            f"movedim: source {source} and destination {destination} differ in length"
        )
    order = [dim for dim in range(ndim) if dim not in taken]
    # From the front on, each lands where it stays.
    for place, dim in sorted(zip(placed, taken, strict=True)):
        order.insert(place, dim)
    return Permute.apply(input, dims=tuple(order))  # type: ignore[no-any-return]


@public()
def moveaxis(input: Any, source: Any, destination: Any) -> Tensor:
    """Move dimensions: `movedim` under NumPy's name."""
    return movedim(input, source, destination)


@public()
def narrow(input: Any, dim: int, start: Any, length: int) -> Tensor:
    """Return a view of `length` entries of dimension `dim` from `start` on.

    Raises
    ------
    BoundsError
        If the stretch leaves the dimension.
    """
    if not input.ndim:
        raise ShapeError("narrow: a tensor without dimensions cannot be cut")
    dim = one_dim("narrow", dim, input.ndim)
    size = input.shape[dim]
    start = int(start)
    first = start + size if start < 0 else start
    if length < 0 or not 0 <= first <= size - length:
        raise BoundsError(
            f"narrow: start {start} and length {length} leave dimension {dim} of size "
            f"{size}"
        )
    return Narrow.apply(  # type: ignore[no-any-return]
        input, dim=dim, start=first, length=length
    )


@public()
def select(input: Any, dim: int, index: int) -> Tensor:
    """Return a view of one entry of dimension `dim`, which is dropped.

    Raises
    ------
    BoundsError
        If `index` is out of range.
    """
    if not input.ndim:
        raise ShapeError("select: a tensor without dimensions has no entries")
    dim = one_dim("select", dim, input.ndim)
    size = input.shape[dim]
    index = int(index)
    if not -size <= index < size:
        raise BoundsError(
            f"select: index {index} is out of range for dimension {dim} of size {size}"
        )
    return Narrow.apply(  # type: ignore[no-any-return]
        input, dim=dim, start=index % size, length=None
    )
