"""Order: sort, argsort, topk, kthvalue, median, mode."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import int64
from nnlib.backend.errors import BoundsError, ShapeError
from nnlib.ops.arrays import FEW, constants, kept_shape
from nnlib.ops.dims import one_dim, raw
from nnlib.ops.gathering import place_along, take_along
from nnlib.ops.return_types import ValuesIndices
from nnlib.ops.scan import accumulate
from nnlib.ops.scattering import flat_places

__all__ = [
    "argsort",
    "kthvalue",
    "median",
    "mode",
    "msort",
    "nanmedian",
    "sort",
    "topk",
]

_ndarray = np.ndarray
# Up to so many elements a sort takes less time than a search for NaN.
_SHORT = 256


@functools.lru_cache(maxsize=64)
def _reversed(dim: int, count: int | None) -> tuple[slice, ...]:
    """Return the key that reverses `dim`, and keeps the first `count` entries."""
    last = None if count is None else -count - 1
    return (slice(None),) * dim + (slice(None, last, -1),)


def order(
    x: Any, dim: int, descending: bool, stable: bool, count: int | None = None
) -> Any:
    """Return the (first `count`) int64 positions that sort an array.

    NaN counts as the largest.
    """
    kind = "stable" if stable else None
    # On CuPy arrays NumPy calls CuPy's function.
    argsort: Any = _ndarray.argsort if type(x) is _ndarray else np.argsort
    if not descending:
        places = argsort(x, dim, kind)
        if count is None:
            return places
        return places[(slice(None),) * dim + (slice(0, count),)]
    if not stable and type(x) is _ndarray:
        return argsort(x, dim)[_reversed(dim, count)]
    # The reverse of an ascending sort of the reversed array keeps equals in order.
    places = argsort(x[_reversed(dim, None)], dim, kind)[_reversed(dim, count)]
    if type(x) is not _ndarray:
        return x.shape[dim] - 1 - places
    return constants(places, x.shape[dim] - 1)[0] - places


class Picked(Function):
    """Base of operations that return some entries of a dimension and their places."""

    # The shape of what was flattened first.
    flattened: tuple[int, ...] | None = None

    def keep(self, x: Any, where: Any, dim: int, keepdim: bool = True) -> Any:
        """Return the entries at `where`; remember what `backward` needs."""
        self.shape, self.dim, self.kept = x.shape, dim, where.shape
        at = flat_places(where, x, dim)
        values = take_along(x, where, dim) if at is None else x.take(at)
        if not keepdim:
            shape = x.shape[:dim] + x.shape[dim + 1 :]
            values, where = values.reshape(shape), where.reshape(shape)
        self.save_for_backward(where)
        return values, where

    def keep_one(self, x: Any, place: Any, keepdim: bool) -> Any:
        """Return the entry of a NumPy vector at a place; do as `keep`."""
        self.shape, self.dim, self.kept = x.shape, 0, (1,)
        value, where = np.array(x[place]), np.array(place)
        if keepdim:
            value, where = value.reshape(1), where.reshape(1)
        self.save_for_backward(where)
        return value, where

    def alone(self, x: Any) -> Any:
        """Return the answer for an array without dimensions."""
        self.shape = ()
        return x.copy(), array_module(x).zeros((), int64)

    def backward(self, grad: Any, _: Any = None) -> Any:
        """Give the gradient to the entries that were picked."""
        if not self.shape:
            return grad
        (where,) = self.saved
        found = place_along(
            grad.reshape(self.kept), where.reshape(self.kept), self.shape, self.dim
        )
        return found if self.flattened is None else found.reshape(self.flattened)


class Sort(Picked):
    """All entries of a dimension in order."""

    def forward(self, x: Any, *, dim: int, descending: bool, stable: bool) -> Any:
        """Return values and their places."""
        if not x.ndim:
            return self.alone(x)
        return self.keep(x, order(x, dim, descending, stable), dim)


@public(axis=True)
def sort(
    input: Any, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> ValuesIndices:
    """Sort along `dim`; NaN counts as the largest.

    Parameters
    ----------
    input : Tensor
    dim : int, default -1
    descending : bool, default False
    stable : bool, default False
        Keep equal entries in their order (slower).

    Returns
    -------
    (values, indices)
        ``values = take_along_dim(input, indices, dim)``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sort(nnlib.tensor([3, 1, 2])).indices
    tensor([1, 2, 0])
    """
    dim = one_dim("sort", dim, input.ndim)
    return ValuesIndices(
        *Sort.apply(input, dim=dim, descending=descending, stable=stable)
    )


@public(axis=True)
def argsort(
    input: Any, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """Return the positions that sort along `dim`."""
    return sort(input, dim, descending, stable=stable).indices


@public()
def msort(input: Any) -> Tensor:
    """Return the values sorted along the first dimension."""
    return sort(input, 0).values


class TopK(Picked):
    """The k largest or smallest entries of a dimension."""

    def forward(self, x: Any, *, k: int, dim: int, largest: bool, ordered: bool) -> Any:
        """Return values and their places."""
        if not x.ndim:
            return self.alone(x)
        module = array_module(x)
        length = x.shape[dim]
        lead = (slice(None),) * dim
        if 4 * k > length or length < 64:
            where = order(x, dim, largest, False, k)
            return self.keep(x, module.ascontiguousarray(where), dim)
        pivot = length - k if largest else k - 1
        places = module.argpartition(x, pivot, axis=dim)
        side = slice(length - k, None) if largest else slice(0, k)
        where = module.ascontiguousarray(places[(*lead, side)])
        if ordered and k:
            inner = order(take_along(x, where, dim), dim, largest, False)
            where = take_along(where, inner, dim)
        return self.keep(x, where, dim)


@public(axis=True)
def topk(
    input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """Return the `k` largest (or smallest) entries along `dim` and their places.

    Parameters
    ----------
    k : int
    dim : int, default -1
    largest : bool, default True
        NaN counts as the largest.
    sorted : bool, default True
        In order, best first.

    Raises
    ------
    BoundsError
        If there are fewer than `k` entries.
    """
    shape = raw(input).shape
    dim = one_dim("topk", dim, len(shape))
    k = int(k)
    if not 0 <= k <= (shape[dim] if shape else 1):
        raise BoundsError(
            f"topk: k={k} is out of range for dimension {dim} of shape {shape}"
        )
    return ValuesIndices(
        *TopK.apply(input, k=k, dim=dim, largest=largest, ordered=sorted)
    )


class Kth(Picked):
    """The k-th smallest entry of a dimension (the first is number 0)."""

    def forward(self, x: Any, *, k: int, dim: int, keepdim: bool) -> Any:
        """Return the value and its place."""
        if not x.ndim:
            return self.alone(x)
        module = array_module(x)
        places = module.argpartition(x, k, axis=dim)
        where = places[(slice(None),) * dim + (slice(k, k + 1),)]
        return self.keep(x, module.ascontiguousarray(where), dim, keepdim)


@public()
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the `k`-th smallest entry along `dim` (from 1) and its place.

    Raises
    ------
    BoundsError
        If there are fewer than `k` entries.
    """
    dim = one_dim("kthvalue", dim, input.ndim)
    length = input.shape[dim] if input.ndim else 1
    if not 1 <= k <= length:
        raise BoundsError(
            f"kthvalue: k={k} is out of range for dimension {dim} of length {length}"
        )
    return ValuesIndices(*Kth.apply(input, k=k - 1, dim=dim, keepdim=keepdim))


class Median(Picked):
    """The middle entry of a dimension: the lower of two."""

    def forward(self, x: Any, *, dim: int | None, keepdim: bool, skip: bool) -> Any:
        """Return the value and, along a dimension, its place.

        A NaN wins unless NaN are skipped.
        """
        if dim is None:
            self.flattened = x.shape
            return self.middle(x.reshape(-1), 0, False, skip)[0]
        return self.middle(x, dim, keepdim, skip) if x.ndim else self.alone(x)

    def middle(self, x: Any, dim: int, keepdim: bool, skip: bool) -> Any:
        """Return the value and its place in an array with dimensions."""
        module = array_module(x)
        length = x.shape[dim]
        half = (length - 1) // 2
        if x.ndim == 1 and length <= _SHORT and type(x) is _ndarray:
            # NaN are sorted to the end: without one there, there is none.
            places = x.argsort()
            last = x[places[-1]]
            if last == last:
                return self.keep_one(x, places[half], keepdim)
        missing = x != x
        if not np.count_nonzero(missing):
            lead = (slice(None),) * dim
            # On CuPy arrays NumPy calls CuPy's function.
            split: Any = (
                _ndarray.argpartition if type(x) is _ndarray else (np.argpartition)
            )
            where = split(x, half, axis=dim)[(*lead, slice(half, half + 1))]
            return self.keep(x, module.ascontiguousarray(where), dim, keepdim)
        places = order(x, dim, False, False)
        count = length - missing.sum(axis=dim, keepdims=True)
        if skip:
            middle = (count - 1).clip(0) // 2
        else:
            # NaN are sorted to the end: the first of them is number `count`.
            middle = module.where(count < length, count, half)
        return self.keep(x, take_along(places, middle, dim), dim, keepdim)


def _median(op: str, input: Any, dim: Any, keepdim: bool, skip: bool) -> Any:
    if dim is None:
        if not raw(input).size:
            raise ShapeError(f"{op}: no median of no elements")
        return Median.apply(input, dim=None, keepdim=False, skip=skip)
    dim = one_dim(op, dim, input.ndim)
    if input.ndim and not input.shape[dim]:
        raise ShapeError(
            f"{op}: dimension {dim} of shape {tuple(input.shape)} has no entries"
        )
    return ValuesIndices(*Median.apply(input, dim=dim, keepdim=keepdim, skip=skip))


@public(axis=True)
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median of all elements, or along `dim` with its place.

    The lower of the two middle entries where their number is even; NaN if there is
    one.

    Raises
    ------
    ShapeError
        If there are no elements.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.median(nnlib.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    """
    return _median("median", input, dim, keepdim, False)


@public()
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the `median` of what is not NaN."""
    return _median("nanmedian", input, dim, keepdim, True)


def _few_modes(x: Any, dim: int) -> Any:
    """Return where the modes of few elements are, by Python; None if one is NaN."""
    # (..., N, ...) -> (..., N) -> (lines, N)
    moved = x.swapaxes(dim, -1)
    count = moved.shape[-1]
    places = []
    for line in moved.reshape(-1, count).tolist():
        if len(set(line)) == count:
            value = min(line)
        else:
            value = min(line, key=lambda entry: (-line.count(entry), entry))
        places.append(count - 1 - line[::-1].index(value))
    largest = x.item(x.argmax())
    if largest != largest:
        return None
    return np.array(places).reshape(*moved.shape[:-1], 1).swapaxes(dim, -1)


class Mode(Picked):
    """The entry of a dimension that occurs most often."""

    def forward(self, x: Any, *, dim: int, keepdim: bool) -> Any:
        """Return the value (the smallest of equals) and the last of its places."""
        if not x.ndim:
            return self.alone(x)
        module = array_module(x)
        if type(x) is _ndarray and 0 < x.size <= FEW:
            where = _few_modes(x, dim)
            if where is not None:
                return self.keep(x, where, dim, keepdim)
        places = order(x, dim, False, True)
        values = take_along(x, places, dim)
        line = module.arange(x.shape[dim]).reshape(kept_line(x.ndim, dim))
        lead = (slice(None),) * dim
        tail = (*lead, slice(1, None))
        # Where a run of equals begins, its position; 0 elsewhere.
        begins = module.zeros(x.shape, int64)
        begins[tail] = line[tail] * (values[tail] != values[(*lead, slice(-1))])
        start = accumulate("maximum", begins, dim)
        longest = (line - start).argmax(axis=dim).reshape(kept_shape(x.shape, (dim,)))
        return self.keep(x, take_along(places, longest, dim), dim, keepdim)


def kept_line(ndim: int, dim: int) -> list[int]:
    """Return the shape that lays a vector along `dim`."""
    return [-1 if place == dim else 1 for place in range(ndim)]


@public()
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the entry along `dim` that occurs most often, and the last of its places.

    Of several the smallest.

    Raises
    ------
    ShapeError
        If there are no entries.
    """
    dim = one_dim("mode", dim, input.ndim)
    if input.ndim and not input.shape[dim]:
        raise ShapeError(
            f"mode: dimension {dim} of shape {tuple(input.shape)} has no entries"
        )
    return ValuesIndices(*Mode.apply(input, dim=dim, keepdim=keepdim))
