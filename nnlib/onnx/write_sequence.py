"""Export of recurrent layers and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.onnx.tracing import Record, Traced
from nnlib.onnx.writers import dtype_at, writes
from nnlib.onnx.writing import Writer, to_proto
from nnlib.ops.attention import Attention, PackedAttention
from nnlib.ops.recurrent import Recurrent

# nnlib's order of the gates, by ONNX's: LSTM i f g o to i o f c, GRU r z n to z r h.
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}


def _gates(g: Writer, name: str, order: tuple[int, ...], hidden: int) -> str:
    """Return a weight or bias with its gates in another order."""
    if len(order) == 1:
        return name
    lengths = g.ints(*(hidden,) * len(order))
    parts = g.several("Split", [name, lengths], len(order), axis=0)
    return g.add("Concat", [parts[n] for n in order], axis=0)


def _per_direction(g: Writer, names: list[str]) -> str:
    """Return the tensors of the directions as one, in a new first dimension."""
    tall = [g.add("Unsqueeze", [name, g.ints(0)]) for name in names]
    return tall[0] if len(tall) == 1 else g.add("Concat", tall, axis=0)


def _state(g: Writer, record: Record, position: int) -> str:
    """Return an initial state; zeros need no mention."""
    x = record.args[position]
    if isinstance(x, Tensor) and type(x) is not Traced and not x._array.any():
        return ""
    return g.value(position)


@writes(Recurrent)
def recurrent(g: Writer, record: Record) -> list[str]:
    """Write LSTM, GRU or RNN of one layer."""
    kind, steps = record.params["mode"], record.params["steps"]
    other = g.twin.params["steps"]
    if not steps.dense:
        raise g.unknown("sequences of different lengths")
    order = _ORDER[kind]
    hidden = record.shape(4)[1]
    width = record.shape(0)[1]
    weights: list[list[str]] = [[], [], []]
    for d in range((len(record.args) - 3) // 4):
        w, r, b, c = (g.value(3 + 4 * d + k) for k in range(4))
        weights[0].append(_gates(g, w, order, hidden))
        weights[1].append(_gates(g, r, order, hidden))
        if b:
            both = [_gates(g, x, order, hidden) for x in (b, c)]
            weights[2].append(g.add("Concat", both, axis=0))
    directions = len(weights[0])
    shapes = [(s.total // max(s.batch, 1), s.batch, width) for s in (steps, other)]
    x = g.add("Reshape", [g.value(0), g.inferred(*shapes)])
    inputs = [x, *(_per_direction(g, names) if names else "" for names in weights)]
    inputs += ["", _state(g, record, 1)]
    if kind == "LSTM":
        inputs.append(_state(g, record, 2))
    act = "Relu" if kind == "RNN_RELU" else None
    outputs = g.several(
        kind[:3] if kind[:3] == "RNN" else kind,
        inputs,
        3 if kind == "LSTM" else 2,
        hidden_size=hidden,
        direction="bidirectional" if directions == 2 else None,
        linear_before_reset=1 if kind == "GRU" else None,
        activations=[act] * directions if act else None,
    )
    # (T, D, N, H) -> (T, N, D, H) -> (T * N, D * H)
    turned = g.add("Transpose", [outputs[0]], perm=[0, 2, 1, 3])
    rows = g.add("Reshape", [turned, g.ints(-1, directions * hidden)])
    return [rows, *outputs[1:]]


def _attend(
    g: Writer,
    parts: tuple[str, str, str],
    mask: str,
    setting: Any,
    dtype: Any,
    shape: str,
) -> str:
    """Write attention of (B, H, L, E); `shape` names (L, S)."""
    q, k, v = parts
    if setting.rate:
        raise g.unknown("attention with dropout")
    turned = g.add("Transpose", [k], perm=[0, 1, 3, 2])
    scores = g.add("MatMul", [q, turned])
    scores = g.add("Mul", [scores, g.constant(setting.scale, dtype)])
    if setting.causal:
        if g.opset < 14:
            raise g.unknown("causal attention before opset 14")
        low = to_proto(np.array([-math.inf], dtype), "value")
        full = g.add("ConstantOfShape", [shape], value=low)
        ban = g.add("Trilu", [full, g.constant(1, np.int64)], upper=1)
        scores = g.add("Add", [scores, ban])
    if mask:
        scores = g.add("Add", [scores, mask])
    share = g.add("Softmax", [scores], axis=-1)
    if mask:
        # A query that may read nothing gets zeros.
        gone = g.add("IsNaN", [share])
        share = g.add("Where", [gone, g.constant(0, dtype), share])
    return g.add("MatMul", [share, v])


@writes(Attention)
def attention(g: Writer, record: Record) -> str:
    """Write attention as products and a softmax."""
    q, k = record.shape(0), record.shape(1)
    other = g.twin.shape(0), g.twin.shape(1)
    heads = [g.value(0), g.value(1), g.value(2)]
    if q[1] != k[1]:
        times = q[1] // k[1]
        heads[1:] = [_repeated(g, x, times, k[1]) for x in heads[1:]]
    sizes = g.sizes((q[2], k[2]), (other[0][2], other[1][2]))
    parts = heads[0], heads[1], heads[2]
    mask = g.value(3)
    return _attend(g, parts, mask, record.params["setting"], dtype_at(record), sizes)


def _repeated(g: Writer, x: str, times: int, groups: int) -> str:
    """Repeat each head of keys for the queries that share it."""
    picked = g.ints(*np.repeat(np.arange(groups), times))
    return g.add("Gather", [x, picked], axis=1)


@writes(PackedAttention)
def packed(g: Writer, record: Record) -> str:
    """Write attention of queries, keys and values side by side."""
    heads = record.params["heads"]
    (_, length, width), (_, other, _) = record.shape(0), g.twin.shape(0)
    apart = g.add("Reshape", [g.value(0), g.ints(0, 0, 3, heads, width // (3 * heads))])
    # (B, L, 3, H, D) -> (3, B, H, L, D)
    turned = g.add("Transpose", [apart], perm=[2, 0, 3, 1, 4])
    q, k, v = (
        g.add("Gather", [turned, g.constant(n, np.int64)], axis=0) for n in range(3)
    )
    sizes = g.sizes((length, length), (other, other))
    mask = g.value(1)
    y = _attend(g, (q, k, v), mask, record.params["setting"], dtype_at(record), sizes)
    y = g.add("Transpose", [y], perm=[0, 2, 1, 3])  # (B, H, L, D) -> (B, L, H, D)
    return g.add("Reshape", [y, g.ints(0, 0, width // 3)])
