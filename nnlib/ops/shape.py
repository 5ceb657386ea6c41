"""Changes of shape that move no data: views, wherever the strides allow them."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.guarding import retold
from nnlib.autograd.registry import op_name, public, sample_by_sample
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import resolve_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.dims import one_dim, raw, sizes

__all__ = [
    "flatten",
    "permute",
    "ravel",
    "reshape",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unflatten",
]


# All dimensions in reverse order, by their number (NumPy's limit is 64).
_REVERSED = tuple(tuple(range(ndim - 1, -1, -1)) for ndim in range(65))
# The orders of up to four dimensions: to find one here is the fastest check.
_ORDERS = frozenset(
    order for ndim in range(5) for order in itertools.permutations(range(ndim))
)


class Reshape(Function):
    """Give the elements another shape."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, shape: tuple[int, ...]) -> Any:
        """Return `x` with `shape`, sharing memory where the strides allow it."""
        self.shape = x.shape
        try:
            return x.reshape(shape)
        except (ValueError, TypeError) as error:
            op = op_name("reshape")
            if isinstance(error, TypeError):
                raise DTypeError(f"{op}: expected integers, got {shape}") from None
            raise ShapeError(
                f"{op}: {x.size} elements of shape {x.shape} do not fit shape {shape}"
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
        if len(dims) > 2:
            # One or two dimensions are exchanged back as they were exchanged.
            dims = tuple(sorted(range(len(dims)), key=dims.__getitem__))
        return Permute.apply(grad, dims=dims)


@public(direct=True)
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
    if len(shape) == 1 and type(shape[0]) is not int:
        shape = sizes("reshape", shape)
    return Reshape.apply(input, shape=shape)  # type: ignore[no-any-return]


@public(method="view", direct=True)
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
    if len(shape) == 1 and type(shape[0]) is not int:
        if isinstance(shape[0], np.dtype | type | str):
            return _reinterpret(input, resolve_dtype(shape[0]))
        shape = sizes("view", shape)
    return Reshape.apply(input, shape=shape)  # type: ignore[no-any-return]


@sample_by_sample
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


@public(direct=True)
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
    try:
        ndim = raw(input).ndim
    except AttributeError as error:
        raise retold(permute, error, (input,)) or error from None
    order = sizes("permute", dims)
    if len(order) == ndim and order in _ORDERS:
        return Permute.apply(input, dims=order)  # type: ignore[no-any-return]
    order = tuple([one_dim("permute", dim, ndim) for dim in order])
    if len(order) != ndim or len(set(order)) != ndim:
        raise ShapeError(
            f"permute: dims {order} do not name each of {ndim} dimensions once"
        )
    return Permute.apply(input, dims=order)  # type: ignore[no-any-return]


@public(inplace="view", direct=True)
def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.transpose(nnlib.zeros(2, 3), 0, 1).shape
    Size([3, 2])
    """
    try:
        ndim = raw(input).ndim
        order = list(range(ndim))
        order[dim0], order[dim1] = order[dim1], order[dim0]
    except AttributeError as error:
        raise retold(transpose, error, (input,)) or error from None
    except (IndexError, TypeError):
        # Out of range, or no integer; a tensor without dimensions knows 0 and -1.
        one_dim("transpose", dim0, ndim)
        one_dim("transpose", dim1, ndim)
    return Permute.apply(input, dims=tuple(order))  # type: ignore[no-any-return]


@public(inplace="view")
def swapaxes(input: Any, axis0: int, axis1: int) -> Tensor:
    """Return a view with two dimensions exchanged: `transpose`."""
    return transpose(input, axis0, axis1)


@public(inplace="view")
def swapdims(input: Any, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged: `transpose`."""
    return transpose(input, dim0, dim1)


@public(inplace="view")
def t(input: Any) -> Tensor:
    """Return the transpose of a matrix; fewer dimensions stay as they are.

    Raises
    ------
    ShapeError
        If `input` has more than two dimensions.
    """
    ndim = raw(input).ndim
    if ndim > 2:
        raise ShapeError(f"t: expected at most 2 dimensions, got shape {input.shape}")
    return Permute.apply(input, dims=_REVERSED[ndim])  # type: ignore[no-any-return]


def reverse_dims(input: Any) -> Tensor:
    """Return a view with all dimensions in reverse order (``x.T``)."""
    return Permute.apply(  # type: ignore[no-any-return]
        input, dims=_REVERSED[raw(input).ndim]
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
    shape = raw(input).shape
    if start_dim == 0 and end_dim == -1 and len(shape) != 1:
        return Reshape.apply(input, shape=(-1,))  # type: ignore[no-any-return]
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


def read_sizes(op: str, sizes: Any) -> tuple[int, ...]:
    """Return the lengths that one dimension is split into, or refuse them."""
    try:
        return tuple(map(operator.index, sizes))
    except TypeError:
        raise DTypeError(
            f"{op}: sizes: expected a tuple of ints, got {sizes!r}"
        ) from None


@public()
def unflatten(input: Any, dim: int, sizes: Any) -> Tensor:
    """Split one dimension into several, of lengths `sizes` (one may be -1)."""
    shape = raw(input).shape
    if not shape:
        raise ShapeError("unflatten: a tensor without dimensions has none to split")
    dim = one_dim("unflatten", dim, len(shape))
    parts = read_sizes("unflatten", sizes)
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
    return Reshape.apply(  # type: ignore[no-any-return]
        input, shape=(*shape[:dim], *parts, *shape[dim + 1 :])
    )


@public()
def ravel(input: Any) -> Tensor:
    """Return all elements in one dimension; a view where the strides allow one."""
    return Reshape.apply(input, shape=(-1,))  # type: ignore[no-any-return]
