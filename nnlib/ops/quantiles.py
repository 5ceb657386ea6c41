"""Quantiles: of all elements or along a dimension, with or without NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dims import constant, one_dim, raw
from nnlib.ops.gathering import TakeAlong
from nnlib.ops.selection import where
from nnlib.ops.sorting import sort

__all__ = ["nanquantile", "quantile"]

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _fractions(op: str, q: Any, like: Any) -> Any:
    """Return `q` as a NumPy array of float64."""
    fractions = np.asarray(q.tolist() if isinstance(q, Tensor) else q, np.float64)
    if fractions.ndim > 1:
        raise ShapeError(
            f"{op}: q: expected a number or one dimension, got shape {fractions.shape}"
        )
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise ArgumentError(f"{op}: q: expected numbers from 0 to 1, got {q}")
    return fractions


def _quantile(
    op: str, input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str
) -> Any:
    array = raw(input)
    if array.dtype not in FLOATING:
        raise DTypeError(f"{op}: input: expected a floating dtype, got {array.dtype}")
    if interpolation not in _INTERPOLATIONS:
        raise ArgumentError(
            f"{op}: interpolation: expected one of {_INTERPOLATIONS}, got "
            f"{interpolation!r}"
        )
    fractions = _fractions(op, q, input)
    kept = [1] * array.ndim
    if dim is None:
        rows = input.reshape(-1)
    else:
        dim = one_dim(op, dim, array.ndim)
        rows = input.movedim(dim, -1) if array.ndim else input.reshape(1)
        kept = list(array.shape)
        kept[dim : dim + 1] = [1] if array.ndim else []
    if not rows.shape[-1]:
        raise ShapeError(f"{op}: no quantile of no elements")
    learned = q if isinstance(q, Tensor) and q.requires_grad else None
    out = _between(
        sort(rows).values, fractions, interpolation, op == "nanquantile", learned
    )
    out = out.movedim(-1, 0)  # (..., Q) -> (Q, ...)
    lead = list(fractions.shape)
    if keepdim:
        return out.reshape(*lead, *kept)
    return out if lead else out.squeeze(0)


def _between(
    values: Any, fractions: Any, interpolation: str, skip: bool, learned: Any
) -> Any:
    """Return the quantiles of sorted rows: (..., N) and (Q,) -> (..., Q).

    NaN are sorted to the end: they count as no entries (`skip`), or make their row NaN.
    `learned` are the fractions as a Tensor with a gradient, or None.
    """
    array = raw(values)
    module = array_module(array)
    missing = module.isnan(array)
    count = array.shape[-1]
    if skip:
        count = module.maximum(count - missing.sum(axis=-1, keepdims=True), 1)
    places = module.asarray(fractions.reshape(-1)) * (count - 1)
    places = module.broadcast_to(places, (*array.shape[:-1], places.shape[-1]))
    if interpolation == "nearest":
        places = module.rint(places)
    below, above = module.floor(places), module.ceil(places)
    if interpolation == "higher":
        below = above
    share = places - below
    if interpolation == "midpoint":
        share = 0.5 * (share > 0)

    def taken(index: Any) -> Any:
        index = constant(index.astype(np.int64), values)
        return TakeAlong.apply(values, index, dim=array.ndim - 1)

    out = taken(below)
    if interpolation in ("linear", "midpoint"):
        share = constant(module.asarray(share).astype(array.dtype), values)
        if learned is not None and interpolation == "linear":
            # The same number, with a history.
            moved = (learned - learned.detach()).reshape(-1).to(array.dtype)
            share = share + moved * constant(module.asarray(count - 1), values)
        out = out.lerp(taken(above), share)
    if skip:
        return out
    return where(constant(missing[..., -1:], values), values[..., -1:], out)


@public(reads=True)
def quantile(
    input: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """Return the values below which the shares `q` of the elements lie.

    Parameters
    ----------
    input : Tensor, floating
    q : number or Tensor, shape () or (Q,)
        From 0 to 1.
    dim : int, optional
        Default: all elements.
    keepdim : bool, default False
    interpolation : {"linear", "lower", "higher", "midpoint", "nearest"}
        What is taken between two entries.

    Returns
    -------
    Tensor, shape ([Q,] shape of `input` without `dim`)
        NaN where there is a NaN.

    Raises
    ------
    ArgumentError
        If `q` is not from 0 to 1, or `interpolation` unknown.
    DTypeError
        If `input` is not floating.
    ShapeError
        If there are no elements, or `q` has several dimensions.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.quantile(nnlib.tensor([1.0, 2.0, 3.0, 4.0]), 0.5)
    tensor(2.5)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation)  # type: ignore[no-any-return]


@public(reads=True)
def nanquantile(
    input: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """Return the `quantile` of what is not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)  # type: ignore[no-any-return]
