"""Taking entries along a dimension: gather, take_along_dim, index_select, take."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import BoundsError, ShapeError
from nnlib.ops.dims import as_index, check_bounds, one_dim, raw
from nnlib.ops.scattering import add_at, add_rows, grid, is_small

__all__ = ["gather", "index_select", "take", "take_along_dim"]


def take_along(x: Any, index: Any, dim: int) -> Any:
    """Return ``x`` taken along `dim` by an index array of as many dimensions."""
    if x.ndim == 1:
        return x.take(index)
    return x[grid(index, dim)] if x.ndim else x.reshape(1)[index]


class TakeAlong(Function):
    """Take entries along one dimension."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, index: Any, *, dim: int, unique: bool = False) -> Any:
        """Return the entries, in the shape of `index`."""
        self.shape, self.dim, self.unique = x.shape, dim, unique
        self.save_for_backward(index)
        out = take_along(x, index, dim)
        return out if type(out) is type(x) else array_module(x).asarray(out)

    def backward(self, grad: Any) -> Any:
        """Add the gradients up where they were taken."""
        (index,) = self.saved
        put = PutAlong.apply(
            grad, index, shape=self.shape, dim=self.dim, unique=self.unique
        )
        return put, None


class PutAlong(Function):
    """Add entries into zeros along one dimension: the adjoint of `TakeAlong`."""

    upcasts = False

    def forward(
        self, x: Any, index: Any, *, shape: tuple[int, ...], dim: int, unique: bool
    ) -> Any:
        """Return zeros of `shape` with `x` added at the indices."""
        self.dim, self.unique = dim, unique
        self.save_for_backward(index)
        if not x.size:
            # An index without elements may have other dimensions.
            return array_module(x).zeros(shape, x.dtype)
        if not shape:
            return add_at((1,), (index.reshape(-1),), x.reshape(-1)).reshape(())
        if unique:
            out = array_module(x).zeros(shape, x.dtype)
            out[grid(index, dim)] = x
            return out
        return add_at(shape, grid(index, dim), x)

    def backward(self, grad: Any) -> Any:
        """Take the entries again."""
        (index,) = self.saved
        return TakeAlong.apply(grad, index, dim=self.dim, unique=self.unique), None


def place_along(x: Any, index: Any, shape: tuple[int, ...], dim: int) -> Any:
    """Put entries into zeros along `dim`, at indices that do not repeat."""
    return PutAlong.apply(x, index, shape=shape, dim=dim, unique=True)


class IndexSelect(Function):
    """Take whole entries of one dimension."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, index: Any, *, dim: int) -> Any:
        """Return the entries in the order of `index`."""
        self.shape, self.dim = x.shape, dim
        self.save_for_backward(index)
        return x.take(index, axis=dim)

    def backward(self, grad: Any) -> Any:
        """Add the gradients up where they were taken."""
        (index,) = self.saved
        return IndexPlace.apply(grad, index, shape=self.shape, dim=self.dim), None


class Take(Function):
    """Take elements by their positions in C order."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, index: Any) -> Any:
        """Return the elements, in the shape of `index`."""
        self.shape, self.size = x.shape, x.size
        self.save_for_backward(index)
        return x.take(index)

    def backward(self, grad: Any) -> Any:
        """Add the gradients up where they were taken."""
        (index,) = self.saved
        put = IndexPlace.apply(
            grad.reshape(-1), index.reshape(-1), shape=(self.size,), dim=0
        )
        return put.reshape(self.shape), None


class IndexPlace(Function):
    """Add whole entries into zeros: the adjoint of `IndexSelect`."""

    upcasts = False

    def forward(self, x: Any, index: Any, *, shape: tuple[int, ...], dim: int) -> Any:
        """Return zeros of `shape` with the entries of `x` added."""
        self.dim = dim
        self.save_for_backward(index)
        out = array_module(x).zeros(shape, x.dtype)
        index_add_array(out, index, x, dim)
        return out

    def backward(self, grad: Any) -> Any:
        """Take the entries again."""
        (index,) = self.saved
        return IndexSelect.apply(grad, index, dim=self.dim), None


def index_add_array(out: Any, index: Any, source: Any, dim: int) -> None:
    """Add the entries of `source` along `dim` to those of `out`, in place."""
    if is_small(source):
        np.add.at(out, (*(slice(None),) * dim, index), source)
        return
    module = array_module(out)
    moved = module.moveaxis(out, dim, 0)
    values = module.moveaxis(source, dim, 0)
    inner = moved.size // max(len(moved), 1)
    values = values.reshape(len(values), inner) if values.size else values[:0]
    if not values.size:
        return
    if moved.flags.c_contiguous:
        add_rows(moved.reshape(len(moved), inner), index, values)
        return
    rows = module.zeros((len(moved), inner), out.dtype)
    add_rows(rows, index, values)
    moved += rows.reshape(moved.shape)


@public()
def index_select(input: Any, dim: int, index: Any) -> Tensor:
    """Return the entries of dimension `dim` named by `index`, copied.

    Parameters
    ----------
    input : Tensor, shape (..., D, ...)
    dim : int
    index : integer Tensor, shape (N,)

    Returns
    -------
    Tensor, shape (..., N, ...)

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    ShapeError
        If `index` has more than one dimension.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.index_select(nnlib.tensor([5, 6, 7]), 0, nnlib.tensor([2, 0]))
    tensor([7, 5])
    """
    dim = one_dim("index_select", dim, input.ndim)
    index = as_index("index_select", index, input)
    array = raw(index)
    if array.ndim > 1:
        raise ShapeError(
            f"index_select: index: expected one dimension, got shape {array.shape}"
        )
    check_bounds("index_select", array, input.shape[dim] if input.ndim else 1)
    if not input.ndim:
        return input.reshape(1)[0]  # type: ignore[no-any-return]
    if not array.ndim:
        index = index.reshape(1)
    return IndexSelect.apply(input, index, dim=dim)  # type: ignore[no-any-return]


def check_index_shape(
    op: str, input: Any, index: Any, dim: int, *, other: str = "input"
) -> None:
    """Check that `index` has as many dimensions as `input` and none is longer."""
    shape, wanted = index.shape, input.shape
    if shape == wanted:
        return
    if len(shape) != len(wanted) and index.size if hasattr(index, "size") else False:
        raise ShapeError(
            f"{op}: index has {len(shape)} dimensions, {other} has {len(wanted)}"
        )
    for place, (mine, its) in enumerate(zip(shape, wanted, strict=False)):
        if place != dim and mine > its:
            raise ShapeError(
                f"{op}: index of shape {shape} is longer than {other} of shape "
                f"{wanted} in dimension {place}"
            )


@public()
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    """Take one element of dimension `dim` for each entry of `index`.

    ``out[i, j, k] = input[index[i, j, k], j, k]`` for ``dim == 0``.

    Parameters
    ----------
    input : Tensor, n dimensions
    dim : int
    index : integer Tensor, n dimensions, none (but `dim`) longer than in `input`

    Returns
    -------
    Tensor, shape of `index`

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.gather(nnlib.tensor([[1, 2], [3, 4]]), 1, nnlib.tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    source = raw(input)
    dim = one_dim("gather", dim, source.ndim)
    index = as_index("gather", index, input)
    array = raw(index)
    check_index_shape("gather", source, array, dim)
    check_bounds("gather", array, source.shape[dim] if source.ndim else 1)
    return TakeAlong.apply(input, index, dim=dim)  # type: ignore[no-any-return]


@public()
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Tensor:
    """Take elements along `dim`; the other dimensions broadcast.

    Parameters
    ----------
    input : Tensor
    indices : integer Tensor
        Such as `argsort` and `argmax(keepdim=True)` return; may be negative.
    dim : int, optional
        Without it both are flattened.

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    ShapeError
        If the numbers of dimensions differ, or shapes do not broadcast.
    """
    from nnlib.ops.expanding import broadcast_shapes, expand
    from nnlib.ops.shape import reshape

    indices = as_index("take_along_dim", indices, input, "indices")
    if dim is None:
        input, indices, dim = reshape(input, (-1,)), indices.reshape(-1), 0
    source, places = raw(input), raw(indices)
    dim = one_dim("take_along_dim", dim, source.ndim)
    if places.ndim != source.ndim:
        raise ShapeError(
            f"take_along_dim: indices has {places.ndim} dimensions, input has "
            f"{source.ndim}"
        )
    size = source.shape[dim]
    check_bounds("take_along_dim", places, size, negative=True)
    if places.shape == source.shape:
        return TakeAlong.apply(input, indices, dim=dim)  # type: ignore[no-any-return]
    wide = list(broadcast_shapes(_without(input, dim), _without(indices, dim)))
    wide[dim] = size
    input = expand(input, tuple(wide))
    wide[dim] = indices.shape[dim]
    return TakeAlong.apply(  # type: ignore[no-any-return]
        input, expand(indices, tuple(wide)), dim=dim
    )


def _without(x: Any, dim: int) -> tuple[int, ...]:
    shape = list(x.shape)
    shape[dim] = 1
    return tuple(shape)


@public()
def take(input: Any, index: Any) -> Tensor:
    """Return the elements of the flattened `input` at `index`, in its shape.

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    """
    index = as_index("take", index, input)
    array, source = raw(index), raw(input)
    if not source.size and array.size:
        raise BoundsError("take: input has no elements to take from")
    check_bounds("take", array, source.size, negative=True)
    return Take.apply(input, index)  # type: ignore[no-any-return]


def as_positions(array: Any) -> Any:
    """Return an index array as int64 (what NumPy indexes with fastest)."""
    return array if array.dtype == np.int64 else array.astype(np.int64)
