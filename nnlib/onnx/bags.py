"""`embedding_bag` composed of operations that ONNX knows, for an export.

The operation itself finds out on the host where each bag ends; in a file the offsets
are an input like any other.
"""

from __future__ import annotations

import math
from typing import Any

from nnlib.onnx.errors import OnnxError
from nnlib.ops.embedding import embedding, read_padding
from nnlib.ops.joining import cat
from nnlib.ops.selection import where

__all__ = ["composed_bags"]


def composed_bags(
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
) -> Any:
    """Return the bags' sums, means or maxima; the arguments are `embedding_bag`'s."""
    if max_norm is not None:
        raise OnnxError(
            "export: embedding_bag: max_norm changes the table, which ONNX cannot say"
        )
    rows = embedding(input, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    padding = read_padding("embedding_bag", padding_idx, weight.shape[0])
    counts = input != padding if padding >= 0 else None
    if input.ndim == 2:
        return _of_rows(rows, counts, mode)
    if include_last_offset:
        inside = _places(input) < offsets[-1]
        counts = inside if counts is None else counts & inside
        offsets = offsets[:-1]
    begun = _places(input).unsqueeze(0) >= offsets.unsqueeze(1)  # (B, N)
    if mode == "max":
        # What the next bag has begun with is no longer in this one.
        later = cat((begun[1:], begun[:1] & False))
        member = begun & ~later
        if counts is not None:
            member = member & counts
        return _peaks(rows.unsqueeze(0), member)
    if counts is not None:
        rows = where(counts.unsqueeze(-1), rows, 0.0)
    bag = begun.sum(0) - 1  # (N,)
    none = (offsets * 0).to(rows.dtype).unsqueeze(-1)  # (B, 1)
    sums = none.expand(none.shape[0], rows.shape[1]).index_add(0, bag, rows)
    if mode == "sum":
        return sums
    one = (bag == bag) if counts is None else counts
    total = none.index_add(0, bag, one.to(rows.dtype).unsqueeze(-1))
    return sums / total.clamp(min=1)


def _places(input: Any) -> Any:
    """Return 0, 1, 2, ... of the input's length, which may be free."""
    return (input * 0 + 1).cumsum(0) - 1


def _of_rows(rows: Any, counts: Any, mode: str) -> Any:
    """Reduce (B, N, D); `counts`, (B, N), tells the padding from the rest."""
    if counts is None:
        if mode == "max":
            return rows.amax(1)
        return rows.sum(1) if mode == "sum" else rows.mean(1)
    if mode == "max":
        return _peaks(rows, counts)
    sums = where(counts.unsqueeze(-1), rows, 0.0).sum(1)
    if mode == "sum":
        return sums
    return sums / counts.sum(1, keepdim=True).clamp(min=1).to(rows.dtype)


def _peaks(rows: Any, member: Any) -> Any:
    """Return the largest of the member rows, 0 where there is none: (B, D)."""
    peak = where(member.unsqueeze(-1), rows, -math.inf).amax(1)
    return where(member.any(1, keepdim=True), peak, 0.0)
