"""Masks and positions: masked_select, masked_scatter, nonzero, one_hot."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    CPU,
    array_module,
    device_context,
    module_of,
    resolve_device,
)
from nnlib.backend.dtypes import bool_, int64, resolve_dtype
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.dims import as_index, check_bounds, constant, raw
from nnlib.ops.expanding import broadcast_shapes, expand
from nnlib.ops.index_parts import FIRST
from nnlib.ops.indexing import Index, index_put
from nnlib.ops.shape import reshape

__all__ = [
    "argwhere",
    "masked_scatter",
    "masked_select",
    "nonzero",
    "tril_indices",
    "triu_indices",
]

# Triangles of matrices of up to so many elements are kept.
_FEW = 1024


def _check_mask(op: str, mask: Any) -> None:
    if raw(mask).dtype != bool_:
        raise DTypeError(f"{op}: mask: expected bool, got {raw(mask).dtype}")


@public()
def masked_select(input: Any, mask: Any) -> Tensor:
    """Return the elements where `mask` is true, in one dimension.

    Parameters
    ----------
    input : Tensor
    mask : bool Tensor, of a shape that broadcasts with `input`

    Raises
    ------
    DTypeError
        If `mask` is not bool.
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1, 2, 3])
    >>> nnlib.masked_select(x, x > 1)
    tensor([2, 3])
    """
    _check_mask("masked_select", mask)
    shape = raw(input).shape
    if shape and shape == raw(mask).shape:
        return Index.apply(input, mask, key=FIRST)  # type: ignore[no-any-return]
    shape = broadcast_shapes(shape, mask.shape)
    if not shape:
        input, mask, shape = reshape(input, (1,)), reshape(mask, (1,)), (1,)
    return Index.apply(  # type: ignore[no-any-return]
        expand(input, shape), expand(mask, shape), key=FIRST
    )


@public(inplace=True, reads=True)
def masked_scatter(input: Any, mask: Any, source: Any) -> Tensor:
    """Return a copy in which the true positions hold the first elements of `source`.

    Raises
    ------
    DTypeError
        If `mask` is not bool, or `source` of another dtype than `input`.
    ShapeError
        If `source` has too few elements.
    """
    _check_mask("masked_scatter", mask)
    shape = broadcast_shapes(input.shape, mask.shape)
    wide = expand(input, shape)
    place = expand(mask, shape)
    count = int(raw(place).sum())
    if raw(source).size < count:
        raise ShapeError(
            f"masked_scatter: source has {raw(source).size} elements, the mask needs "
            f"{count}"
        )
    values = reshape(source, (-1,))[:count]
    if not shape:
        picked = index_put(reshape(wide, (1,)), (reshape(place, (1,)),), values)
        return reshape(picked, ())
    return index_put(wide, (place,), values)


@public(reads=True)
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """Return the positions of the elements that are not zero, in C order.

    Parameters
    ----------
    as_tuple : bool, default False
        Give one index tensor per dimension, to index with, instead of a matrix.

    Returns
    -------
    Tensor, shape (N, number of dimensions), or tuple of Tensor, shape (N,)

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nonzero(nnlib.tensor([0, 7, 8]))
    tensor([[1],
            [2]])
    """
    array = raw(input)
    module = array_module(array)
    if as_tuple:
        found = module.nonzero(array if array.ndim else array.reshape(1))
        return tuple(constant(part, input) for part in found)
    if not array.ndim:
        return constant(module.zeros((int(bool(array)), 0), int64), input)
    places = array.nonzero()
    out = module.empty((places[0].size, array.ndim), int64)
    for column, place in enumerate(places):
        out[:, column] = place
    return constant(out, input)


@public(reads=True)
def argwhere(input: Any) -> Tensor:
    """Return the positions of the elements that are not zero: `nonzero`."""
    return nonzero(input)  # type: ignore[no-any-return]


class OneHot(Function):
    """A 1 in the place that each class number names."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, num_classes: int) -> Any:
        """Return int64 zeros with ones along a new last dimension."""
        module = array_module(x)
        out = module.zeros((x.size, num_classes), int64)
        out[module.arange(x.size), x.reshape(-1)] = 1
        return out.reshape(*x.shape, num_classes)


@public(method=False, reads=True)
def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """Return class numbers as vectors of one 1 among zeros.

    Parameters
    ----------
    tensor : integer Tensor, any shape
    num_classes : int, default -1
        The length of the vectors; -1 takes the largest class number and one.

    Returns
    -------
    Tensor, shape (*tensor.shape, num_classes), int64

    Raises
    ------
    BoundsError
        If a class number is negative or too large.
    ShapeError
        If `tensor` is empty and `num_classes` not given.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.one_hot(nnlib.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    tensor = as_index("one_hot", tensor, tensor, "tensor")
    array = raw(tensor)
    if num_classes == -1:
        if not array.size:
            raise ShapeError("one_hot: an empty tensor needs num_classes")
        num_classes = int(array.max()) + 1
        if num_classes < 1:
            num_classes = 1
    if num_classes < 1 and array.size:
        raise BoundsError(
            f"one_hot: num_classes: expected 1 or more, got {num_classes}"
        )
    check_bounds("one_hot", array, num_classes, argument="tensor")
    return OneHot.apply(tensor, num_classes=num_classes)  # type: ignore[no-any-return]


def _triangle(
    name: str, row: int, col: int, offset: int, dtype: Any, device: Any
) -> Any:
    if row < 0 or col < 0:
        raise ShapeError(f"{name}: row and col must not be negative, got {row}, {col}")
    place = resolve_device(device)
    lower = name == "tril_indices"
    if place is CPU and row * col <= _FEW:
        pair = _positions(row, col, offset, lower)
    else:
        pair = _positions.__wrapped__(row, col, offset, lower)
    if place is not CPU:
        with device_context(place):
            pair = module_of(place).asarray(pair)
    return Tensor._from_array(pair.astype(resolve_dtype(dtype)))


@functools.lru_cache(maxsize=64)
def _positions(row: int, col: int, offset: int, lower: bool) -> Any:
    """Return the positions of a triangle as an array, not to be written into."""
    i = np.arange(row).reshape(row, 1)
    j = np.arange(col).reshape(1, col)
    return np.array(np.nonzero(j - i <= offset if lower else j - i >= offset))


@public(method=False)
def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = int64, device: Any = None
) -> Tensor:
    """Return the positions of a lower triangle, shape (2, N), row by row.

    Parameters
    ----------
    row, col : int
        The shape of the matrix.
    offset : int, default 0
        The diagonal that the triangle ends with.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _triangle("tril_indices", row, col, offset, dtype, device)  # type: ignore[no-any-return]


@public(method=False)
def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = int64, device: Any = None
) -> Tensor:
    """Return the positions of an upper triangle, shape (2, N), row by row."""
    return _triangle("triu_indices", row, col, offset, dtype, device)  # type: ignore[no-any-return]
