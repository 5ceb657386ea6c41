"""Reducing along a dimension at places named by an index: scatter_reduce, index_reduce.

The sum and the mean are composed of others. A product's or an extreme's gradient needs
to know the old values, the new ones, and what they became.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, iinfo, int64
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dims import as_index, check_bounds, constant, one_dim, raw
from nnlib.ops.gathering import check_index_shape, gather
from nnlib.ops.scattering import grid, reduce_at
from nnlib.ops.writing import scatter, scatter_add

__all__ = ["index_reduce", "scatter_reduce"]

_KINDS = ("sum", "prod", "mean", "amax", "amin")


class ScatterExtreme(Function):
    """The largest or smallest of an element and all that is sent to its place."""

    arithmetic = False
    upcasts = False

    def forward(self, x: Any, index: Any, src: Any, *, dim: int, largest: bool) -> Any:
        """Return the extremes; a NaN wins."""
        self.dim = dim
        out = x.copy()
        reduce_at(out, grid(index, dim), src, np.maximum if largest else np.minimum)
        self.save_for_backward(x, index, src, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Share the gradient evenly among equal extremes."""
        x, index, src, out = self.saved
        dim, kind = self.dim, raw(grad).dtype
        mine = constant((raw(x) == raw(out)).astype(kind), grad)
        theirs = raw(src) == raw(gather(out, dim, index))
        theirs = constant(theirs.astype(kind), grad)
        share = grad / scatter_add(mine, dim, index, theirs)
        return share * mine, None, gather(share, dim, index) * theirs


class ScatterProd(Function):
    """The product of an element and all that is sent to its place."""

    def forward(self, x: Any, index: Any, src: Any, *, dim: int) -> Any:
        """Return the products."""
        self.dim = dim
        out = x.copy()
        reduce_at(out, grid(index, dim), src, np.multiply)
        self.save_for_backward(x, index, src)
        return out

    def backward(self, grad: Any) -> Any:
        """Return the gradient times the product of all other factors.

        The product without its zeros is divided by each factor. A zero among the others
        stays in as what it is, a factor of value 0, for the second derivative's sake;
        of two or more that is 0 as well.
        """
        from nnlib.ops.selection import where

        x, index, src = self.saved
        dim, kind = self.dim, raw(grad).dtype
        zeros = [constant(raw(v) == 0, grad) for v in (x, src)]
        counts = [constant(raw(zero).astype(kind), grad) for zero in zeros]
        factors = [where(z, 1.0, v) for z, v in zip(zeros, (x, src), strict=True)]
        nothings = [where(z, v, 0.0) for z, v in zip(zeros, (x, src), strict=True)]
        many = scatter_add(counts[0], dim, index, counts[1])
        nothing = scatter_add(nothings[0], dim, index, nothings[1])
        rest = grad * ScatterProd.apply(factors[0], index, factors[1], dim=dim)
        found = []
        for place, factor in enumerate(factors):
            totals: tuple[Any, ...] = (many, nothing, rest)
            if place:
                totals = tuple(gather(total, dim, index) for total in totals)
            others = raw(totals[0] - counts[place])
            left = where(constant(others == 1, grad), totals[1] - nothings[place], 0.0)
            left = where(constant(others == 0, grad), 1.0, left)
            found.append(totals[2] / factor * left)
        return found[0], None, found[1]


def _identity(array: Any, reduce: str) -> Any:
    """Return what changes nothing in a reduction."""
    if reduce in ("prod", "sum", "mean"):
        return float(reduce == "prod")
    if array.dtype in FLOATING:
        return -np.inf if reduce == "amax" else np.inf
    if array.dtype.kind == "b":
        return reduce == "amin"
    limits = iinfo(array.dtype)
    return limits.min if reduce == "amax" else limits.max


def _average(total: Any, input: Any, dim: int, index: Any, include_self: bool) -> Any:
    """Divide by how many values met in each place; whole numbers round down."""
    from nnlib.ops.division import floor_divide

    array, places = raw(input), raw(index)
    kind = array.dtype if array.dtype in FLOATING else int64
    module = array_module(array)
    ones = constant(module.ones(places.shape, kind), total)
    start = module.ones(array.shape, kind)
    if not include_self:
        start[grid(places, dim)] = 0
    count = raw(scatter_add(constant(start, total), dim, index, ones))
    if not include_self:
        count = np.maximum(count, 1)
    count = constant(count.astype(array.dtype), total)
    return total / count if array.dtype in FLOATING else floor_divide(total, count)


def _reduced(
    input: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool
) -> Any:
    """Reduce where all arguments are known to fit, with at least one dimension."""
    start = input
    if not include_self and raw(index).size:
        start = scatter(input, dim, index, _identity(raw(input), reduce))
    if reduce in ("sum", "mean"):
        total = scatter_add(start, dim, index, src)
        if reduce == "sum":
            return total
        return _average(total, input, dim, index, include_self)
    if reduce == "prod":
        return ScatterProd.apply(start, index, src, dim=dim)
    return ScatterExtreme.apply(start, index, src, dim=dim, largest=reduce == "amax")


def _check(op: str, input: Any, source: Any, argument: str, reduce: Any) -> None:
    kinds = _KINDS if op == "scatter_reduce" else _KINDS[1:]
    if reduce not in kinds:
        raise ArgumentError(f"{op}: reduce: expected one of {kinds}, got {reduce!r}")
    if not hasattr(source, "dtype"):
        raise DTypeError(
            f"{op}: {argument}: expected a tensor, got {type(source).__name__}"
        )
    if raw(source).dtype != raw(input).dtype:
        raise DTypeError(
            f"{op}: {argument} is {raw(source).dtype}, the input is {raw(input).dtype}"
        )


@public(inplace=True)
@on_its_device
def scatter_reduce(
    input: Any,
    dim: int,
    index: Any,
    src: Any,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """Return a copy in which ``src[i, j]`` is reduced into ``[index[i, j], j]``.

    So for ``dim == 0``; for others accordingly.

    Parameters
    ----------
    input : Tensor, n dimensions
    dim : int
    index : integer Tensor, n dimensions
        None longer than in `src`, nor (but for `dim`) than in `input`.
    src : Tensor, dtype of `input`
    reduce : {"sum", "prod", "mean", "amax", "amin"}
        Means of integers are rounded down. Extremes that are equal share the gradient.
    include_self : bool, default True
        Whether the old element takes part where something is sent to.

    Raises
    ------
    ArgumentError
        If `reduce` is unknown.
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    DTypeError, ShapeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> index = nnlib.tensor([0, 1, 0])
    >>> src = nnlib.tensor([1.0, 2.0, 3.0])
    >>> nnlib.zeros(2).scatter_reduce(0, index, src, "amax")
    tensor([3., 2.])
    >>> nnlib.ones(2).scatter_reduce(0, index, src, "mean", include_self=False)
    tensor([2., 2.])
    """
    op = "scatter_reduce"
    _check(op, input, src, "src", reduce)
    index = as_index(op, index, input)
    dim = one_dim(op, dim, raw(input).ndim)
    if not raw(input).ndim:
        input, index, src = input.reshape(1), index.reshape(-1), src.reshape(-1)
        out = scatter_reduce(input, 0, index, src, reduce, include_self=include_self)
        return out.reshape(())
    places = raw(index)
    check_index_shape(op, raw(src), places, -1, other="src")
    check_index_shape(op, raw(input), places, dim)
    check_bounds(op, places, raw(input).shape[dim])
    if tuple(src.shape) != places.shape:
        src = src[tuple(map(slice, places.shape))]
    return _reduced(input, dim, index, src, reduce, include_self)  # type: ignore[no-any-return]


@public(inplace=True)
@on_its_device
def index_reduce(
    input: Any,
    dim: int,
    index: Any,
    source: Any,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """Return a copy in which ``source[i]`` is reduced into ``[index[i]]`` along `dim`.

    Parameters
    ----------
    input : Tensor, shape (..., D, ...)
    dim : int
    index : integer Tensor, shape (N,)
    source : Tensor, shape (..., N, ...), dtype of `input`
    reduce : {"prod", "mean", "amax", "amin"}
        As in `scatter_reduce`; for sums there is `index_add`.
    include_self : bool, default True
        Whether the old entry takes part where something is sent to.

    Raises
    ------
    ArgumentError
        If `reduce` is unknown.
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    DTypeError, ShapeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> rows = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> nnlib.ones(2, 2).index_reduce(0, nnlib.tensor([1, 1]), rows, "prod")
    tensor([[1., 1.],
            [3., 8.]])
    """
    from nnlib.ops.expanding import expand

    op = "index_reduce"
    _check(op, input, source, "source", reduce)
    index = as_index(op, index, input)
    array, places = raw(input), raw(index)
    dim = one_dim(op, dim, array.ndim)
    if places.ndim > 1:
        raise ShapeError(f"{op}: index: expected one dimension, got {places.shape}")
    if not array.ndim:
        out = index_reduce(
            input.reshape(1),
            0,
            index.reshape(-1),
            source.reshape(-1),
            reduce,
            include_self=include_self,
        )
        return out.reshape(())
    wanted = (*array.shape[:dim], places.size, *array.shape[dim + 1 :])
    if tuple(source.shape) != wanted:
        raise ShapeError(
            f"{op}: source has shape {tuple(source.shape)}, expected {wanted}"
        )
    check_bounds(op, places, array.shape[dim])
    line = index.reshape((1,) * dim + (-1,) + (1,) * (array.ndim - dim - 1))
    wide = expand(line, wanted)
    return _reduced(input, dim, wide, source, reduce, include_self)  # type: ignore[no-any-return]
