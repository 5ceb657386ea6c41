"""Dimensions dropped, added, moved and cut: squeeze, unsqueeze, movedim, narrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, BoundsError, ShapeError
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


@public(inplace="view", axis=True)
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


@public(inplace="view", axis=True)
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


class SlidingWindows(Function):
    """Windows of one dimension as a view, each laid out in a new last one."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, dim: int, size: int, step: int) -> Any:
        """Return the view; windows that overlap are not to be written into."""
        self.shape, self.place = x.shape, {"dim": dim, "size": size, "step": step}
        shape, strides = list(x.shape), list(x.strides)
        shape[dim] = (shape[dim] - size) // step + 1
        strides.append(strides[dim])
        strides[dim] *= step
        view = array_module(x).lib.stride_tricks.as_strided(
            x, (*shape, size), tuple(strides)
        )
        if step < size and shape[dim] > 1 and isinstance(view, np.ndarray):
            view.flags.writeable = False
        return view

    def backward(self, grad: Any) -> Any:
        """Add the gradients of the windows up."""
        return SlidingPlace.apply(grad, shape=self.shape, **self.place)


class SlidingPlace(Function):
    """Add windows up where they lie in zeros: the adjoint of `SlidingWindows`."""

    def forward(
        self, x: Any, *, shape: tuple[int, ...], dim: int, size: int, step: int
    ) -> Any:
        """Return zeros of `shape` with the windows added, in order."""
        self.place = {"dim": dim, "size": size, "step": step}
        out = array_module(x).zeros(shape, x.dtype)
        lead, count = (slice(None),) * dim, x.shape[dim]
        if count < size:
            last = x.ndim - 1
            for k in range(count):
                part = x[(*lead, k)]  # (..., size), in place of dim in `out`
                part = array_module(x).moveaxis(part, last - 1, dim)
                out[(*lead, slice(k * step, k * step + size))] += part
        else:
            stretch = (count - 1) * step + 1
            for k in range(size):
                out[(*lead, slice(k, k + stretch, step))] += x[..., k]
        return out

    def backward(self, grad: Any) -> Any:
        """Take the windows again."""
        return SlidingWindows.apply(grad, **self.place)


@public(method="unfold")
def unfold_dimension(input: Any, dimension: int, size: int, step: int) -> Tensor:
    """Return all windows of `size` neighbours along a dimension, `step` apart: a view.

    Of a tensor this is the method ``x.unfold(dimension, size, step)``; for images see
    `nn.functional.unfold`.

    Parameters
    ----------
    input : Tensor, shape (..., L, ...)
    dimension : int
    size : int, at most L
    step : int, at least 1

    Returns
    -------
    Tensor, shape (..., (L - size) // step + 1, ..., size)

    Raises
    ------
    ShapeError
        If there is no window of that size.
    ArgumentError
        If `size` is negative or `step` less than 1.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    ndim = raw(input).ndim
    dim = one_dim("unfold", dimension, ndim)
    if size < 0 or step < 1:
        raise ArgumentError(
            f"unfold: expected size of at least 0 and step of at least 1, got {size} "
            f"and {step}"
        )
    if not ndim:
        input = input.reshape(1)
    length = raw(input).shape[dim]
    if size > length:
        raise ShapeError(
            f"unfold: no window of {size} in dimension {dim} of length {length}"
        )
    if not ndim:
        return input[:size]  # type: ignore[no-any-return]
    return SlidingWindows.apply(input, dim=dim, size=size, step=step)  # type: ignore[no-any-return]
