"""Sums, means and maxima of bags of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import int64
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dims import as_index, check_bounds, constant, raw
from nnlib.ops.embedding import (
    EmbeddingRows,
    check_table,
    read_padding,
    renormalise,
    table_gradient,
)
from nnlib.ops.gathering import TakeAlong
from nnlib.ops.selection import where

__all__ = ["embedding_bag"]


class BagSum(Function):
    """``out[b] = sum over k in bag b of factors[k] * weight[ids[k]]``."""

    def forward(
        self, weight: Any, factors: Any, ids: Any, *, offsets: Any, options: Any
    ) -> Any:
        """Return the sums, shape (B, D)."""
        self.options = options
        module = array_module(weight)
        lengths = offsets[1:] - offsets[:-1]
        self.bags = module.repeat(module.arange(lengths.size), lengths)
        self.save_for_backward(weight, factors, ids)
        return kernels.embedding.bag(weight, ids, offsets, factors)

    def backward(self, grad: Any) -> Any:
        """Return the gradients by the table and by the factors."""
        weight, factors, ids = self.saved
        look = {"padding": -1, "by_freq": False, "sparse": False}
        # (B, D) -> (N, D): each element of a bag has the bag's gradient.
        rows = EmbeddingRows.apply(grad, constant(self.bags, grad), **look)
        by_weight = by_factors = None
        if self.needs(0):
            scaled = rows * factors.reshape(-1, 1)
            by_weight = table_gradient(scaled, ids, weight.shape, *self.options)
        if self.needs(1):
            by_factors = (rows * EmbeddingRows.apply(weight, ids, **look)).sum(-1)
        return by_weight, by_factors, None


def _read_offsets(
    input: Any, offsets: Any, include_last_offset: bool
) -> tuple[Any, Any]:
    """Return flat row numbers, and where each bag begins and the last one ends."""
    op = "embedding_bag"
    array = raw(input)
    module = array_module(array)
    if array.ndim == 2:
        if offsets is not None:
            raise ArgumentError(
                f"{op}: offsets: not with an input of two dimensions, whose rows are "
                "the bags"
            )
        bags, length = array.shape
        return input.reshape(-1), module.arange(bags + 1, dtype=int64) * length
    if array.ndim != 1:
        raise ShapeError(
            f"{op}: input: expected shape (N,) with offsets, or (B, N), got "
            f"{tuple(array.shape)}"
        )
    if offsets is None:
        raise ArgumentError(f"{op}: offsets: needed for an input of one dimension")
    starts = given = raw(as_index(op, offsets, input, "offsets"))
    if starts.ndim != 1 or (include_last_offset and not starts.size):
        raise ShapeError(f"{op}: offsets: expected shape (B,), got {starts.shape}")
    if not include_last_offset:
        end = module.asarray([array.size], dtype=int64)
        starts = module.concatenate([starts.astype(int64), end])
    steps = starts[1:] - starts[:-1]
    if bool(starts[0] != 0) or bool((steps < 0).any()) or starts[-1] > array.size:
        raise ArgumentError(
            f"{op}: offsets: expected to begin at 0, not to fall, and not to exceed "
            f"{array.size} (the length of input), got {given.tolist()}"
        )
    return input[: int(starts[-1])], starts


def _without_padding(
    ids: Any, offsets: Any, factors: Any, padding: int
) -> tuple[Any, Any, Any]:
    """Drop the padding's row from the bags."""
    array = raw(ids)
    module = array_module(array)
    kept = array != padding
    if bool(kept.all()):
        return ids, offsets, factors
    before = module.zeros(array.size + 1, int64)
    module.cumsum(kept, out=before[1:])
    places = constant(module.flatnonzero(kept), ids)
    if factors is not None:
        factors = factors[places]
    return ids[places], before[offsets], factors


def _peaks(weight: Any, ids: Any, offsets: Any, padding: int) -> Any:
    """Return the largest element of each column and bag; 0 for an empty bag."""
    table = raw(weight)
    wide = table if table.dtype.name in ("float32", "float64") else table.astype("f4")
    rows = kernels.embedding.peak(wide, raw(ids), offsets, padding)
    module = array_module(table)
    none = rows < 0
    chosen = constant(module.where(none, 0, rows), weight)
    if not len(table):
        return weight.sum() * constant(module.zeros(rows.shape, table.dtype), weight)
    out = TakeAlong.apply(weight, chosen, dim=0)
    return where(constant(none, weight), 0.0, out) if bool(none.any()) else out


@public(method=False, reads=True)
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Return the sum, mean or maximum of the rows of each bag.

    As ``embedding`` and a reduction, without the rows in memory.

    Parameters
    ----------
    input : integer Tensor, shape (B, N), or (N,) with `offsets`
        Row numbers; a row is a bag, or what lies between two offsets.
    weight : Tensor, shape (V, D), floating
    offsets : integer Tensor, shape (B,), optional
        Where each bag begins.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for `embedding`; the last two not for the maximum.
    mode : {"mean", "sum", "max"}
        A bag without rows gives zeros.
    per_sample_weights : Tensor, shape of `input`, optional
        A factor for each row, in a sum.
    include_last_offset : bool, default False
        `offsets` has the end of the last bag too, shape (B + 1,).
    padding_idx : int, optional
        A row that does not count, in no mode, and gets no gradient.

    Returns
    -------
    Tensor, shape (B, D)

    Raises
    ------
    BoundsError
        As `embedding`.
    ArgumentError, DTypeError, ShapeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> table = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> F.embedding_bag(nnlib.tensor([[0, 1], [1, 1]]), table, mode="sum")
    tensor([[4., 6.],
            [6., 8.]])
    """
    op = "embedding_bag"
    if mode not in ("mean", "sum", "max"):
        raise ArgumentError(
            f"{op}: mode: expected 'mean', 'sum' or 'max', got {mode!r}"
        )
    input = as_index(op, input, weight, "input")
    check_table(op, weight, input)
    given = tuple(input.shape)
    ids, starts = _read_offsets(input, offsets, include_last_offset)
    check_bounds(op, raw(ids), weight.shape[0], argument="input")
    padding = read_padding(op, padding_idx, weight.shape[0])
    if max_norm is not None:
        renormalise(op, weight, ids, float(max_norm), float(norm_type))
    if mode == "max":
        if sparse or scale_grad_by_freq or per_sample_weights is not None:
            raise ArgumentError(
                f"{op}: mode='max' goes with none of sparse, scale_grad_by_freq and "
                "per_sample_weights"
            )
        return _peaks(weight, ids, starts, padding)  # type: ignore[no-any-return]
    factors = _factors(mode, given, ids, weight, per_sample_weights)
    if padding >= 0:
        ids, starts, factors = _without_padding(ids, starts, factors, padding)
    module = array_module(starts)
    if factors is None:
        lengths = starts[1:] - starts[:-1]
        one = module.ones(int(raw(ids).size), weight.dtype)
        if mode == "mean":
            one /= module.repeat(module.maximum(lengths, 1), lengths).astype(one.dtype)
        factors = constant(one, weight)
    options = padding, scale_grad_by_freq, sparse
    return BagSum.apply(  # type: ignore[no-any-return]
        weight, factors, ids, offsets=starts, options=options
    )


def _factors(
    mode: str, shape: tuple[int, ...], ids: Any, weight: Any, given: Any
) -> Any:
    """Return the factors that the user gave, flat; None without any."""
    op = "embedding_bag"
    if given is None:
        return None
    if mode != "sum":
        raise ArgumentError(
            f"{op}: per_sample_weights: only for mode='sum', not for {mode!r}"
        )
    if tuple(given.shape) != shape:
        raise ShapeError(
            f"{op}: per_sample_weights has shape {tuple(given.shape)}, expected the "
            f"shape of input, {shape}"
        )
    if given.dtype != weight.dtype:
        raise DTypeError(
            f"{op}: per_sample_weights is {given.dtype}, expected {weight.dtype} as "
            "the weight"
        )
    return given.reshape(-1)[: np.prod(raw(ids).shape, dtype=int)]
