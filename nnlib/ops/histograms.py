"""Histograms over one and several dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.ops.dims import raw
from nnlib.ops.return_types import Histogram, HistogramDD

__all__ = ["histogram", "histogramdd"]


def _points(op: str, input: Any) -> Any:
    array = raw(input)
    if array.dtype not in FLOATING:
        raise DTypeError(f"{op}: input: expected a floating dtype, got {array.dtype}")
    return array


def _limits(op: str, points: Any, given: Any, place: int) -> tuple[float, float]:
    """Return the ends of the bins along one dimension of (M, D) points."""
    if given is not None:
        low, high = given[2 * place : 2 * place + 2]
    elif points.shape[0]:
        low, high = float(points[:, place].min()), float(points[:, place].max())
    else:
        low, high = 0.0, 1.0
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        raise BoundsError(
            f"{op}: range: expected finite limits in ascending order, got {low} to "
            f"{high}"
        )
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def _edges(op: str, bins: Any, points: Any, given: Any, place: int) -> Any:
    """Return the edges of the bins along one dimension, in the points' dtype."""
    module, dtype = array_module(points), points.dtype
    if hasattr(bins, "dtype") and not isinstance(bins, np.integer):
        edges = raw(bins)
        if edges.ndim != 1 or not edges.size:
            raise ShapeError(
                f"{op}: bins: expected edges of shape (n,), got {tuple(edges.shape)}"
            )
        if edges.dtype != dtype:
            raise DTypeError(
                f"{op}: bins: expected {dtype} as input, got {edges.dtype}"
            )
        if bool((edges[1:] < edges[:-1]).any()):
            raise ArgumentError(f"{op}: bins: expected edges in ascending order")
        return edges
    if not isinstance(bins, int | np.integer):
        kind = type(bins).__name__
        raise DTypeError(f"{op}: bins: expected a number or edges, got {kind}")
    if bins < 1:
        raise BoundsError(f"{op}: bins: expected 1 or more, got {bins}")
    low, high = _limits(op, points, given, place)
    return module.linspace(low, high, int(bins) + 1).astype(dtype)


def _count(
    op: str, points: Any, edges: Sequence[Any], weight: Any, density: bool
) -> Any:
    """Return the weight in each bin; (M, D) points, D vectors of edges."""
    module = array_module(points)
    inside = module.ones(points.shape[0], bool)
    flat = module.zeros(points.shape[0], np.int64)
    for place, places in enumerate(edges):
        column, last = points[:, place], places.size - 1
        bin_ = module.searchsorted(places, column, side="right") - 1
        # The last bin has its right edge too.
        bin_ = module.where(column == places[-1], last - 1, bin_)
        inside &= (bin_ >= 0) & (bin_ < last)
        flat = flat * last + bin_
    shape = tuple(places.size - 1 for places in edges)
    weights = None if weight is None else raw(weight).reshape(-1)[inside]
    total = module.bincount(flat[inside], weights, math.prod(shape))
    hist = total.reshape(shape).astype(np.float64)
    if density:
        hist = hist / hist.sum()
        for place, places in enumerate(edges):
            width = (places[1:] - places[:-1]).astype(np.float64)
            hist = hist / width.reshape(-1, *(1,) * (len(edges) - place - 1))
    return hist.astype(points.dtype)


def _check_weight(op: str, weight: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if weight is None:
        return
    if tuple(weight.shape) != shape:
        raise ShapeError(
            f"{op}: weight has shape {tuple(weight.shape)}, expected {shape}"
        )
    if weight.dtype != dtype:
        raise DTypeError(f"{op}: weight is {weight.dtype}, the input {dtype}")


@public(reads=True)
def histogram(
    input: Any,
    bins: Any,
    *,
    range: Any = None,
    weight: Any = None,
    density: bool = False,
) -> Histogram:
    """Add up how many elements, or what weight of them, fall into each bin.

    A bin has its left edge and not its right one; the last one has both.

    Parameters
    ----------
    input : Tensor, floating
        What lies outside all bins, and NaN, does not count.
    bins : int, or Tensor of shape (n + 1,)
        The number of equal bins, or the edges, in ascending order.
    range : (float, float), optional
        Both ends of equal bins. Default: the smallest and the largest element.
    weight : Tensor, shape of `input`, optional
        What each element counts.
    density : bool, default False
        Divide by the total and by the bins' widths: the integral is 1.

    Returns
    -------
    hist : Tensor, shape (n,)
        In the dtype of `input`. No gradient passes.
    bin_edges : Tensor, shape (n + 1,)

    Raises
    ------
    ArgumentError, BoundsError, DTypeError, ShapeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> found = nnlib.histogram(nnlib.tensor([1.0, 2.0, 1.0]), 4, range=(0.0, 3.0))
    >>> found.hist
    tensor([0., 2., 1., 0.])
    """
    op = "histogram"
    array = _points(op, input)
    _check_weight(op, weight, tuple(array.shape), array.dtype)
    points = array.reshape(-1, 1)
    edges = _edges(op, bins, points, _read_range(op, range, 1), 0)
    hist = _count(op, points, [edges], weight, density)
    return Histogram(Tensor._from_array(hist), Tensor._from_array(edges))


def _read_range(op: str, given: Any, dims: int) -> Any:
    if given is None:
        return None
    try:
        limits = [float(limit) for limit in given]
    except (TypeError, ValueError):
        raise DTypeError(
            f"{op}: range: expected {2 * dims} numbers, got {given!r}"
        ) from None
    if len(limits) != 2 * dims:
        raise ShapeError(
            f"{op}: range: expected {2 * dims} numbers, two for each dimension, got "
            f"{len(limits)}"
        )
    return limits


@public(method=False, reads=True)
def histogramdd(
    input: Any,
    bins: Any,
    *,
    range: Any = None,
    weight: Any = None,
    density: bool = False,
) -> HistogramDD:
    """Add up how many points, or what weight of them, fall into each cell of a grid.

    Parameters
    ----------
    input : Tensor, floating, shape (M, D) or (..., D)
        Points of D coordinates. What lies outside the grid does not count.
    bins : int, sequence of D ints, or sequence of D Tensors
        Numbers of equal bins, or their edges, for each dimension.
    range : sequence of 2 D floats, optional
        Left and right end of each dimension's equal bins. Default: the smallest and the
        largest coordinates.
    weight : Tensor, shape (M,) or (...), optional
        What each point counts.
    density : bool, default False
        Divide by the total and by the cells' volumes.

    Returns
    -------
    hist : Tensor, shape (bins[0], ..., bins[D - 1])
        In the dtype of `input`. No gradient passes.
    bin_edges : tuple of D Tensors

    Raises
    ------
    ArgumentError, BoundsError, DTypeError, ShapeError
        As `histogram`.

    Examples
    --------
    >>> import nnlib
    >>> points = nnlib.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    >>> nnlib.histogramdd(points, [3, 3]).hist
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [1., 0., 1.]])
    """
    op = "histogramdd"
    array = _points(op, input)
    if array.ndim < 2:
        raise ShapeError(
            f"{op}: input: expected shape (..., D), got {tuple(array.shape)}"
        )
    *lead, dims = array.shape
    _check_weight(op, weight, tuple(lead), array.dtype)
    several = list(bins) if isinstance(bins, list | tuple) else [bins] * dims
    if len(several) != dims:
        raise ShapeError(
            f"{op}: bins: expected one entry for each of {dims} dimensions, got "
            f"{len(several)}"
        )
    points = array.reshape(math.prod(lead), dims)
    limits = _read_range(op, range, dims)
    edges = [
        _edges(op, entry, points, limits, place) for place, entry in enumerate(several)
    ]
    hist = _count(op, points, edges, weight, density)
    made = tuple(map(Tensor._from_array, edges))
    return HistogramDD(Tensor._from_array(hist), made)
