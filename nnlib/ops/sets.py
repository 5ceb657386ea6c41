"""Distinct values, places and counts: unique, isin, searchsorted, bincount, histc."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, HALF, float32, int64
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.arrays import nonzeros
from nnlib.ops.dims import as_index, constant, one_dim, raw
from nnlib.ops.extremes import extreme_array

__all__ = [
    "bincount",
    "bucketize",
    "histc",
    "isin",
    "searchsorted",
    "unique",
    "unique_consecutive",
]


def _rows(array: Any, dim: int) -> Any:
    """Return an array as a matrix with the entries of `dim` as rows."""
    moved = array_module(array).moveaxis(array, dim, 0)
    inner = moved.size // len(moved) if len(moved) else 0
    return moved.reshape(len(moved), inner)


def _results(input: Any, values: Any, inverse: Any, counts: Any, ask: Any) -> Any:
    found = [constant(values, input)]
    if ask[0]:
        found.append(constant(inverse, input))
    if ask[1]:
        found.append(constant(counts, input))
    return found[0] if len(found) == 1 else tuple(found)


def _starts(module: Any, rows: Any) -> Any:
    """Tell which rows differ from the one before."""
    new = module.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return new


def _distinct(
    input: Any, array: Any, dim: int | None, ask: Any, sort_first: bool
) -> Any:
    module = array_module(array)
    flat = dim is None
    rows = array.reshape(-1, 1) if dim is None else _rows(array, dim)
    length = len(rows)
    places = module.arange(length)
    if sort_first and length:
        if rows.shape[1] == 1:
            places = module.argsort(rows[:, 0], kind="stable")
        elif rows.shape[1]:
            places = module.lexsort(rows.T[::-1])
    ordered = rows[places]
    new = _starts(module, ordered)
    group = module.cumsum(new) - 1
    inverse = module.empty(length, int64)
    inverse[places] = group
    starts = module.flatnonzero(new)
    counts = module.diff(module.concatenate([starts, module.asarray([length])]))
    if flat:
        values = ordered[starts, 0]
        return _results(input, values, inverse.reshape(array.shape), counts, ask)
    values = module.moveaxis(array, dim, 0)[places[starts]]
    values = module.ascontiguousarray(module.moveaxis(values, 0, dim))
    return _results(input, values, inverse, counts.astype(int64), ask)


def _distinct_values(array: Any) -> Any:
    """Return the distinct elements of a NumPy array, sorted; each NaN is distinct."""
    ordered = array.flatten()
    ordered.sort()
    if ordered.size < 2:
        return ordered
    new = np.empty(ordered.size, bool)
    new[0] = True
    np.not_equal(ordered[1:], ordered[:-1], new[1:])
    return ordered[new]


def _widened(input: Any) -> Any:
    array = raw(input)
    return array.astype(float32) if array.dtype in HALF else array


def _narrowed(result: Any, dtype: Any) -> Any:
    """Give the values (the first of several results) their 16-bit dtype back."""
    if dtype not in HALF:
        return result
    values = result[0] if isinstance(result, tuple) else result
    narrow = constant(raw(values).astype(dtype), values)
    return (narrow, *result[1:]) if isinstance(result, tuple) else narrow


@public(reads=True)
def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the distinct elements (or entries of `dim`), sorted.

    Parameters
    ----------
    sorted : bool, default True
        Sorted in any case.
    return_inverse : bool, default False
        Also where each element is among the distinct ones.
    return_counts : bool, default False
        Also how often each occurs.
    dim : int, optional
        Without it the elements of the flattened tensor. Each NaN is distinct.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.unique(nnlib.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    if dim is not None:
        dim = one_dim("unique", dim, input.ndim)
    elif not (return_inverse or return_counts):
        array = raw(input)
        if type(array) is np.ndarray and array.dtype not in HALF:
            return constant(_distinct_values(array), input)
    result = _distinct(
        input, _widened(input), dim, (return_inverse, return_counts), True
    )
    return _narrowed(result, raw(input).dtype)


@public(reads=True)
def unique_consecutive(
    input: Any,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the elements (or entries of `dim`) without immediate repetitions."""
    if dim is not None:
        dim = one_dim("unique_consecutive", dim, input.ndim)
    result = _distinct(
        input, _widened(input), dim, (return_inverse, return_counts), False
    )
    return _narrowed(result, raw(input).dtype)


@public(method=False, reads=True)
def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Tensor:
    """Return where each value would be inserted in a sorted sequence.

    Parameters
    ----------
    sorted_sequence : Tensor, shape (N,), or (*leading dimensions of `input`, N)
    input : number or Tensor
    out_int32 : bool, default False
        Give int32 instead of int64.
    right : bool, default False
        After equal elements instead of before them; as ``side="right"``.
    sorter : integer Tensor, shape of `sorted_sequence`, optional
        The positions that sort it, if it is not sorted.

    Raises
    ------
    ShapeError
        If the leading dimensions differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.searchsorted(nnlib.tensor([1, 3, 5]), nnlib.tensor([3, 4]))
    tensor([1, 2])
    """
    edges = raw(sorted_sequence)
    module = array_module(edges)
    values = raw(input)
    if not hasattr(values, "dtype"):
        values = module.asarray(values)
    if sorter is not None:
        edges = module.take_along_axis(edges, raw(sorter), axis=-1)
    where: Any = "right" if right or side == "right" else "left"
    if edges.dtype in HALF:
        edges = edges.astype(float32)
    if values.dtype in HALF:
        values = values.astype(float32)
    if edges.ndim == 1:
        if type(edges) is np.ndarray:
            found = edges.searchsorted(values, where)
        else:
            found = module.searchsorted(edges, values, side=where)
        found = module.asarray(found)
    else:
        if edges.shape[:-1] != values.shape[:-1]:
            raise ShapeError(
                f"searchsorted: sorted_sequence of shape {edges.shape} and input of "
                f"shape {values.shape} differ in the leading dimensions"
            )
        found = module.empty(values.shape, int64)
        for place in np.ndindex(*edges.shape[:-1]):
            found[place] = module.searchsorted(edges[place], values[place], side=where)
    wanted = np.dtype(np.int32) if out_int32 else int64
    if found.dtype != wanted:
        found = found.astype(wanted)
    return Tensor._from_array(found)


@public(method=False, reads=True)
def bucketize(
    input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Return the number of the interval between `boundaries` that holds each value."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


class BinCount(Function):
    """How often each number occurs, or the sum of its weights."""

    upcasts = False

    def forward(self, x: Any, weights: Any, *, minlength: int) -> Any:
        """Return the counts (int64) or sums (of the weights' dtype)."""
        counts = array_module(x).bincount(x, weights, minlength)
        if weights is None:
            return counts.astype(int64)
        keep = weights.dtype == float32
        return counts.astype(float32) if keep else counts


@public(reads=True)
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """Count how often each number 0, 1, 2, ... occurs.

    Parameters
    ----------
    input : integer Tensor, shape (N,), not negative
    weights : Tensor, shape (N,), optional
        Add these up instead of ones.
    minlength : int, default 0

    Raises
    ------
    ShapeError
        If `input` has not one dimension, or `weights` another length.
    BoundsError
        If a number is negative.
    """
    input = as_index("bincount", input, input, "input")
    array = raw(input)
    if array.ndim != 1:
        raise ShapeError(f"bincount: expected one dimension, got shape {array.shape}")
    if isinstance(array, np.ndarray) and array.size and array.min() < 0:
        raise BoundsError(f"bincount: input holds a negative number, {array.min()}")
    if weights is not None and raw(weights).shape != array.shape:
        raise ShapeError(
            f"bincount: weights of shape {raw(weights).shape}, input of {array.shape}"
        )
    return BinCount.apply(  # type: ignore[no-any-return]
        input, weights, minlength=int(minlength)
    )


class HistC(Function):
    """A histogram of equal bins."""

    def forward(self, x: Any, *, bins: int, low: float, high: float) -> Any:
        """Return the counts in the dtype of `x`."""
        module = array_module(x)
        # As arrays: from a bare number NumPy makes one at every call.
        least, most, width, count = (
            module.asarray(value, x.dtype) for value in (low, high, high - low, bins)
        )
        inside = (x >= least) & (x <= most)
        all_inside = type(x) is np.ndarray and nonzeros(inside) == x.size
        inside = x.ravel() if all_inside else x[inside]
        # As PyTorch counts: position of each value, the upper edge in the last bin.
        places = ((inside - least) / width * count).astype(int64)
        places = module.minimum(places, bins - 1)
        return module.bincount(places, minlength=bins).astype(x.dtype)


@public(reads=True)
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Count the elements in `bins` equal bins from `min` to `max`, both included.

    Parameters
    ----------
    min, max : float, default 0
        If equal, the smallest and largest element.

    Raises
    ------
    DTypeError
        If `input` is not floating.
    BoundsError
        If `bins` is less than 1, `max` below `min`, or a limit not finite.
    """
    array = raw(input)
    if array.dtype not in FLOATING:
        raise DTypeError(f"histc: input: expected a floating dtype, got {array.dtype}")
    low, high = float(min), float(max)
    if low == high and array.size:
        low = float(extreme_array(array, None, False, False))
        high = float(extreme_array(array, None, False, True))
    if low == high:
        low, high = low - 1, high + 1
    if bins < 1 or not low < high or not (math.isfinite(low) and math.isfinite(high)):
        raise BoundsError(
            f"histc: expected 1 or more bins between finite limits, got {bins} from "
            f"{low} to {high}"
        )
    return HistC.apply(  # type: ignore[no-any-return]
        input, bins=int(bins), low=low, high=high
    )


@public(method=False, reads=True)
def isin(
    elements: Any,
    test_elements: Any,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Tell which elements are among others.

    Parameters
    ----------
    elements, test_elements : Tensor or number, at least one a Tensor
    assume_unique : bool, default False
        Neither repeats an element: may be faster.
    invert : bool, default False
        Tell which are not.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isin(nnlib.tensor([1, 2, 3]), nnlib.tensor([2, 5]))
    tensor([False,  True, False])
    """
    x, others = raw(elements), raw(test_elements)
    module = array_module(x if hasattr(x, "dtype") else others)
    found = module.isin(
        module.asarray(x),
        module.asarray(others),
        assume_unique=assume_unique,
        invert=invert,
    )
    return Tensor._from_array(module.asarray(found))
