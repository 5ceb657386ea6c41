"""Attention and rotary embeddings of transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.nn import functional as F
from nnlib.onnx.node import Node
from nnlib.onnx.reading import dtype_of
from nnlib.onnx.table import operator
from nnlib.onnx.values import like_array, shape_of
from nnlib.ops.casting import cast

Run = Callable[..., Any]


def _heads(x: Any, count: int | None, node: Node, name: str) -> Any:
    """Return (N, L, heads * D) as (N, heads, L, D)."""
    if x.ndim == 4:
        return x
    if x.ndim != 3 or not count or x.shape[2] % count:
        raise node.fail(f"cannot cut shape {shape_of(x)} into heads; {name} is {count}")
    n, length, width = shape_of(x)
    return ops.permute(x.reshape(n, length, count, width // count), (0, 2, 1, 3))


@operator("Attention", 23, 24, 25, pure=False)
def attention(node: Node) -> Run:
    """Build Attention: ``softmax(Q K' scale + mask) V``, with a cache and groups."""
    causal = node.int("is_causal", 0)
    q_heads, kv_heads = node.int("q_num_heads", None), node.int("kv_num_heads", None)
    scale, cap = node.float("scale", None), node.float("softcap", 0.0)
    stage = node.int("qk_matmul_output_mode", 0)
    number = node.int("softmax_precision", None)
    precision = None if number is None else dtype_of(number)
    scores_wanted = node.wants(3)
    left = node.int("left_window_size", -1) if node.version >= 25 else -1
    right = node.int("right_window_size", -1) if node.version >= 25 else -1
    if causal:
        right = 0 if right < 0 else min(right, 0)

    def run(
        q: Any,
        k: Any,
        v: Any,
        mask: Any = None,
        past_k: Any = None,
        past_v: Any = None,
        lengths: Any = None,
    ) -> Any:
        flat = q.ndim == 3
        q = _heads(q, q_heads, node, "q_num_heads")
        k = _heads(k, kv_heads, node, "kv_num_heads")
        v = _heads(v, kv_heads, node, "kv_num_heads")
        before = 0 if past_k is None else past_k.shape[2]
        if past_k is not None:
            k, v = ops.cat((past_k, k), 2), ops.cat((past_v, v), 2)
        present = k, v
        groups = q.shape[1] // k.shape[1]
        if groups != 1:
            k = ops.repeat_interleave(k, groups, 1)
            v = ops.repeat_interleave(v, groups, 1)
        factor = 1 / math.sqrt(q.shape[3]) if scale is None else scale
        root = math.sqrt(factor)
        scores = ops.matmul(q * root, ops.permute(k, (0, 1, 3, 2)) * root)
        stages = [scores]
        added = _bias(q, k, mask, (left, right), before, lengths)
        masked = scores if added is None else scores + cast(added, scores.dtype)
        capped = cap * ops.tanh(scores / cap) if cap else scores
        if cap:
            masked = capped if added is None else capped + cast(added, scores.dtype)
        stages += [capped, masked]
        wide = masked if precision is None else cast(masked, precision)
        share = cast(_softmax(wide), v.dtype)
        stages.append(share)
        y = ops.matmul(share, v)
        if flat:
            n, heads, length, width = shape_of(y)
            y = ops.permute(y, (0, 2, 1, 3)).reshape(n, length, heads * width)
        return y, *present, (stages[stage] if scores_wanted else None)

    return run


def _softmax(x: Any) -> Any:
    """Return the softmax of rows; one that is masked altogether gives zeros."""
    share = F.softmax(x, -1)
    if not x.numel():
        return share
    gone = ops.amax(x, -1, True) == -math.inf
    return ops.where(gone, ops.zeros_like(share), share)


def _bias(
    q: Any, k: Any, mask: Any, window: tuple[int, int], before: int, lengths: Any
) -> Any:
    """Return what is added to the scores: 0, or minus infinity where none may look.

    Query i of a sequence stands at the place `first` + i among the keys; it sees
    ``window[0]`` keys before its own place and ``window[1]`` behind (-1: all).
    """
    rows, columns = q.shape[2], k.shape[2]
    left, right = window
    added: Any = None
    if mask is not None:
        if mask.dtype == np.bool_:
            zeros = ops.zeros(mask.shape, dtype=q.dtype, device=q.device)
            mask = ops.where(mask, zeros, -math.inf)
        missing = columns - mask.shape[-1]
        if missing > 0:
            mask = F.pad(mask, (0, missing), value=-math.inf)
        added = mask
    keys = np.arange(columns)
    hidden = np.zeros((1, 1, rows, columns), np.bool_)
    first: Any = before
    if lengths is not None:
        ends = np.asarray(lengths.numpy()).reshape(-1, 1, 1, 1)
        hidden = hidden | (keys >= ends)
        first = ends - rows
    places = np.arange(rows)[:, None] + first
    if left >= 0:
        hidden = hidden | (keys < places - left)
    if right >= 0:
        hidden = hidden | (keys > places + right)
    if hidden.any():
        table = np.where(hidden, -np.inf, 0.0).astype(np.float32)
        extra = cast(like_array(table, q), q.dtype)
        added = extra if added is None else added + extra
    return added


@operator("RotaryEmbedding", 23)
def rotary(node: Node) -> Run:
    """Build RotaryEmbedding: pairs of features turned by angles of the position."""
    interleaved = node.int("interleaved", 0)
    heads, width = node.int("num_heads", 0), node.int("rotary_embedding_dim", 0)

    def run(x: Any, cos: Any, sin: Any, places: Any = None) -> Any:
        flat = x.ndim == 3
        shape = shape_of(x)
        if flat:
            x = _heads(x, heads, node, "num_heads")
        x = ops.permute(x, (0, 2, 1, 3))  # (N, heads, L, D) -> (N, L, heads, D)
        size = width or x.shape[3]
        turned, rest = x[..., :size], x[..., size:]
        if places is not None:
            cos, sin = _rows(cos, places), _rows(sin, places)
        cos = cos[..., : size // 2].unsqueeze(2)
        sin = sin[..., : size // 2].unsqueeze(2)
        if interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
        else:
            a, b = turned[..., : size // 2], turned[..., size // 2 :]
        real, other = cos * a - sin * b, sin * a + cos * b
        if interleaved:
            turned = ops.stack((real, other), -1).reshape(turned.shape)
        else:
            turned = ops.cat((real, other), -1)
        y = ops.cat((turned, rest), -1) if rest.shape[3] else turned
        if flat:
            return y.reshape(shape)
        return ops.permute(y, (0, 2, 1, 3))

    return run


def _rows(table: Any, places: Any) -> Any:
    where = shape_of(places)
    flat = ops.index_select(table, 0, cast(places.reshape(-1), np.dtype(np.int64)))
    return flat.reshape((*where, shape_of(table)[-1]))
