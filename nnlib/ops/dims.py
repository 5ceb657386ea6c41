"""Readers of arguments that name dimensions, shapes and indices."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.hidden import Hidden
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError

__all__: list[str] = []

# Up to so many elements Python is done before NumPy has begun.
_FEW = 32
# Up to so long a dimension keeps the set of its positions.
_SHORT = 256
# All dimensions in order, by their number (NumPy's limit is 64).
ALL_DIMS = tuple(tuple(range(ndim)) for ndim in range(65))
_SEQUENCES = (tuple, list)


def number_as(op: str, argument: str, value: Any, dtype: Any) -> Any:
    """Return a Python number as `dtype` has it; anything with a dtype as it is.

    Raises
    ------
    DTypeError
        If `dtype` cannot hold it: too large, or NaN among the integers.
    """
    if hasattr(value, "dtype"):
        return value
    try:
        return dtype.type(value)
    except (OverflowError, ValueError):
        raise DTypeError(
            f"{op}: {argument}: {value} is out of the range of {dtype}"
        ) from None


def raw(x: Any) -> Any:
    """Return the array of a Tensor; anything else as it is."""
    return x._array if isinstance(x, Tensor) else x


def constant(array: Any, like: Any) -> Any:
    """Return `array` as a Tensor where `like` is one: a factor without history."""
    if not isinstance(like, Tensor):
        return array
    return Tensor._from_array(
        np.asarray(array) if isinstance(array, np.generic) else array
    )


def one_dim(op: str, dim: Any, ndim: int) -> int:
    """Return `dim` counted from the front.

    Raises
    ------
    BoundsError
        If a tensor of `ndim` dimensions has no such dimension.
    DTypeError
        If `dim` is no integer.
    """
    if type(dim) is int:
        if 0 <= dim < ndim:
            return dim
    else:
        try:
            dim = operator.index(dim)
        except TypeError:
            raise DTypeError(
                f"{op}: dim: expected an integer, got {type(dim).__name__}"
            ) from None
    place: int = dim
    length = ndim or 1
    if not -length <= dim < length:
        raise BoundsError(
            f"{op}: dim {dim} is out of range for a tensor of {ndim} dimensions "
            f"(expected {-length} to {length - 1})"
        )
    return place + length if place < 0 else place


def many_dims(op: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """Return one, several or (None, or an empty list) all dimensions, from the front.

    Raises
    ------
    BoundsError
        If one is out of range.
    ShapeError
        If one is named twice.
    """
    if dim is None:
        return ALL_DIMS[ndim]
    if type(dim) is int and 0 <= dim < ndim:
        return (dim,)
    if not isinstance(dim, _SEQUENCES):
        return (one_dim(op, dim, ndim),) if ndim else (one_dim(op, dim, ndim),)[:0]
    if not dim:
        return ALL_DIMS[ndim]
    dims = tuple(one_dim(op, each, ndim) for each in dim)
    if len(set(dims)) != len(dims):
        raise ShapeError(f"{op}: dim: {tuple(dim)} names a dimension twice")
    return dims if ndim else ()


def sizes(op: str, given: Sequence[Any]) -> tuple[int, ...]:
    """Read a shape given as ``(2, 3)``, ``[2, 3]`` or ``2, 3``."""
    if len(given) == 1 and isinstance(given[0], _SEQUENCES):
        given = given[0]
    try:
        return tuple(map(operator.index, given))
    except TypeError:
        raise DTypeError(f"{op}: expected integers, got {tuple(given)}") from None


def as_index(op: str, index: Any, like: Any, argument: str = "index") -> Any:
    """Return an index tensor as it is, lists and other arrays beside `like`.

    Raises
    ------
    DTypeError
        If it holds no integers.
    """
    array = raw(index)
    if not hasattr(array, "dtype"):
        module = _module(raw(like))
        array = module.asarray(array)
        if array.size == 0:
            array = array.astype(np.int64)
        index = constant(array, like)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{op}: {argument}: expected integers, got {array.dtype}")
    return index


def _module(array: Any) -> Any:
    from nnlib.backend.device import array_module

    return array_module(array)


def within(index: Any, low: int, high: int) -> bool:
    """Tell whether all elements of a NumPy array, not empty, lie in ``[low, high)``."""
    if index.size > _FEW:
        return bool(index.min() >= low and index.max() < high)
    values = index.ravel().tolist()
    if high <= _SHORT:
        # Asking a set is faster than the smallest and the largest.
        return _numbers(low, high).issuperset(values)
    return bool(low <= min(values) and max(values) < high)


@functools.lru_cache(maxsize=64)
def _numbers(low: int, high: int) -> frozenset[int]:
    return frozenset(range(low, high))


def check_bounds(
    op: str, index: Any, size: int, *, negative: bool = False, argument: str = "index"
) -> None:
    """Check that an index array lies in ``[0, size)`` (or ``[-size, size)``).

    On CUDA nothing is checked, because reading the answer would stop the stream;
    CuPy wraps indices that are out of range. Inside `vmap` there is nothing to read.

    Raises
    ------
    BoundsError
        With the first bad value and its position.
    """
    if not isinstance(index, np.ndarray) or not index.size or type(index) is Hidden:
        return
    low = -size if negative else 0
    if size <= _SHORT and index.size <= _FEW:
        # As `within`, without a call.
        if _numbers(low, size).issuperset(index.ravel().tolist()):
            return
    elif within(index, low, size):
        return
    bad = (index < low) | (index >= size)
    position = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(bad)))
    value = np.atleast_1d(index)[position]
    raise BoundsError(
        f"{op}: {argument}: value {value} at position {position[: index.ndim]} is out "
        f"of range for a dimension of size {size}"
    )
