"""Changes of shape that move no data: views, wherever the strides allow them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import resolve_dtype
from nnlib.backend.errors import BoundsError, ShapeError
from nnlib.ops.dims import many_dims, one_dim, raw, sizes

__all__ = [
    "flatten",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "reshape",
    "select",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
]


class Reshape(Function):
    """Give the elements another shape."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, shape: tuple[int, ...]) -> Any:
        """Return `x` with `shape`, sharing memory where the strides allow it."""
        self.shape = x.shape
        try:
            return x.reshape(shape)
        except ValueError:
            raise ShapeError(
                f"reshape: {x.size} elements of shape {x.shape} do not fit shape "
                f"{shape}"
            ) from None

    def backward(self, grad: Any) -> Any:
        """Give the gradient the old shape."""
        return Reshape.apply(grad, shape=self.shape)


class Permute(Function):
    """Put the dimensions in another order."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, dims: tuple[int, ...]) -> Any:
        """Return a transposed view."""
        self.dims = dims
        return x.transpose(dims)

    def backward(self, grad: Any) -> Any:
        """Put them back."""
        dims = self.dims
        inverse = tuple(sorted(range(len(dims)), key=dims.__getitem__))
        return Permute.apply(grad, dims=inverse)


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
        from nnlib.backend.device import array_module

        self.dim, self.start, self.length = dim, start, length
        out = array_module(x).zeros(shape, x.dtype)
        last = start if length is None else slice(start, start + length)
        out[(slice(None),) * dim + (last,)] = x
        return out

    def backward(self, grad: Any) -> Any:
        """Cut the stretch out."""
        return Narrow.apply(grad, dim=self.dim, start=self.start, length=self.length)


@public()
def reshape(input: Any, *shape: Any) -> Tensor:
    """Return the elements in another shape; a view where the strides allow one.

    Parameters
    ----------
    input : Tensor, any shape
    *shape : int, or one tuple of int
        One of them may be -1: what is left over.

    Raises
    ------
    ShapeError
        If the number of elements differs.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.reshape(nnlib.tensor([1, 2, 3, 4]), (2, -1))
    tensor([[1, 2],
            [3, 4]])
    """
    if not (len(shape) == 1 and type(shape[0]) is tuple):
        shape = (sizes("reshape", shape),)
    return Reshape.apply(input, shape=shape[0])  # type: ignore[no-any-return]


@public(method="view")
def view(input: Any, *shape: Any) -> Tensor:
    """Return the elements in another shape, or read the memory as another dtype.

    Unlike PyTorch's it falls back to a copy where the strides do not allow a view.

    Parameters
    ----------
    *shape : int, one tuple of int, or one dtype
        A dtype reads the same bytes anew; its size must divide the last dimension.

    Raises
    ------
    ShapeError
        If the elements do not fit.
    """
    if len(shape) == 1 and not isinstance(shape[0], tuple | list | int):
        if isinstance(shape[0], np.dtype | type | str):
            return _reinterpret(input, resolve_dtype(shape[0]))
    return reshape(input, *shape)


def _reinterpret(input: Any, dtype: Any) -> Tensor:
    array = raw(input)
    try:
        return Tensor._from_array(array.view(dtype))
    except ValueError as error:
        raise ShapeError(f"view: {array.dtype} as {dtype}: {error}") from None


@public(method=("view_as", "reshape_as"))
def view_as(input: Any, other: Any) -> Tensor:
    """Return `input` in the shape of `other`."""
    return reshape(input, tuple(other.shape))


@public()
def permute(input: Any, *dims: Any) -> Tensor:
    """Return a view with the dimensions in the order `dims`.

    Parameters
    ----------
    *dims : int, or one tuple of int
        Each dimension once.

    Raises
    ------
    ShapeError
        If not every dimension is named once.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.permute(nnlib.zeros(2, 3, 4), (2, 0, 1)).shape
    Size([4, 2, 3])
    """
    order = sizes("permute", dims)
    ndim = input.ndim
    order = tuple(one_dim("permute", dim, ndim) for dim in order)
    if len(order) != ndim or len(set(order)) != ndim:
        raise ShapeError(
            f"permute: dims {order} do not name each of {ndim} dimensions once"
        )
    return Permute.apply(input, dims=order)  # type: ignore[no-any-return]


@public()
def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.transpose(nnlib.zeros(2, 3), 0, 1).shape
    Size([3, 2])
    """
    ndim = input.ndim
    first = one_dim("transpose", dim0, ndim)
    second = one_dim("transpose", dim1, ndim)
    order = list(range(ndim))
    if ndim:
        order[first], order[second] = second, first
    return Permute.apply(input, dims=tuple(order))  # type: ignore[no-any-return]


@public()
def swapaxes(input: Any, axis0: int, axis1: int) -> Tensor:
    """Return a view with two dimensions exchanged: `transpose`."""
    return transpose(input, axis0, axis1)


@public()
def swapdims(input: Any, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged: `transpose`."""
    return transpose(input, dim0, dim1)


@public()
def t(input: Any) -> Tensor:
    """Return the transpose of a matrix; fewer dimensions stay as they are.

    Raises
    ------
    ShapeError
        If `input` has more than two dimensions.
    """
    if input.ndim > 2:
        raise ShapeError(f"t: expected at most 2 dimensions, got shape {input.shape}")
    return Permute.apply(  # type: ignore[no-any-return]
        input, dims=tuple(range(input.ndim))[::-1]
    )


def reverse_dims(input: Any) -> Tensor:
    """Return a view with all dimensions in reverse order (``x.T``)."""
    return Permute.apply(  # type: ignore[no-any-return]
        input, dims=tuple(range(input.ndim))[::-1]
    )


def transpose_matrices(input: Any) -> Tensor:
    """Return a view with the last two dimensions exchanged (``x.mT``)."""
    if input.ndim < 2:
        raise ShapeError(f"mT: expected 2 or more dimensions, got shape {input.shape}")
    return transpose(input, -2, -1)


Tensor.T = property(reverse_dims)  # type: ignore[attr-defined]
Tensor.mT = property(transpose_matrices)  # type: ignore[attr-defined]


@public()
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the dimensions from `start_dim` to `end_dim` into one.

    Raises
    ------
    ShapeError
        If `start_dim` comes after `end_dim`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.flatten(nnlib.zeros(2, 3, 4), 1).shape
    Size([2, 12])
    """
    shape = tuple(input.shape)
    first = one_dim("flatten", start_dim, len(shape))
    last = one_dim("flatten", end_dim, len(shape))
    if first > last:
        raise ShapeError(
            f"flatten: start_dim {start_dim} comes after end_dim {end_dim}"
        )
    if first == last and shape:
        return input  # type: ignore[no-any-return]
    joined = 1
    for length in shape[first : last + 1]:
        joined *= length
    return Reshape.apply(  # type: ignore[no-any-return]
        input, shape=(*shape[:first], joined, *shape[last + 1 :])
    )


@public()
def unflatten(input: Any, dim: int, sizes: Any) -> Tensor:
    """Split one dimension into several, of lengths `sizes` (one may be -1)."""
    shape = tuple(input.shape)
    if not shape:
        raise ShapeError("unflatten: a tensor without dimensions has none to split")
    dim = one_dim("unflatten", dim, len(shape))
    parts = tuple(sizes)
    known = 1
    for length in parts:
        known *= 1 if length == -1 else length
    if parts.count(-1) == 1 and known and shape[dim] % known == 0:
        parts = tuple(shape[dim] // known if part == -1 else part for part in parts)
        known = shape[dim]
    if known != shape[dim] or -1 in parts:
        raise ShapeError(
            f"unflatten: sizes {tuple(sizes)} do not multiply to the length "
            f"{shape[dim]} of dimension {dim}"
        )
    return reshape(input, (*shape[:dim], *parts, *shape[dim + 1 :]))


@public()
def ravel(input: Any) -> Tensor:
    """Return all elements in one dimension; a view where the strides allow one."""
    return Reshape.apply(input, shape=(-1,))  # type: ignore[no-any-return]


@public()
def squeeze(input: Any, dim: Any = None) -> Tensor:
    """Drop dimensions of length 1: all, or those of `dim` that have it."""
    shape = tuple(input.shape)
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


@public()
def unsqueeze(input: Any, dim: int) -> Tensor:
    """Insert a dimension of length 1 at `dim`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.unsqueeze(nnlib.zeros(2, 3), -1).shape
    Size([2, 3, 1])
    """
    shape = tuple(input.shape)
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
    ndim = input.ndim
    taken = many_dims("movedim", source, ndim) if source != () else ()
    placed = many_dims("movedim", destination, ndim) if destination != () else ()
    if len(taken) != len(placed):
        raise ShapeError(
            f"movedim: source {source} and destination {destination} differ in length"
        )
    rest = iter(dim for dim in range(ndim) if dim not in taken)
    where = dict(zip(placed, taken, strict=True))
    order = tuple(where[dim] if dim in where else next(rest) for dim in range(ndim))
    return Permute.apply(input, dims=order)  # type: ignore[no-any-return]


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
