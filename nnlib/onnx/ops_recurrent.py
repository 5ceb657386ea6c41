"""LSTM, GRU and RNN: all directions, sequence lengths, peepholes, clipping.

Layouts: x is (T, N, I), weights are (D, gates * H, I) with one D per direction, states
are (D, N, H), outputs (T, D, N, H); with ``layout=1`` the batch comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import kernels, ops
from nnlib.nn import functional as F
from nnlib.onnx.node import Node
from nnlib.onnx.ops_indexing import reversed_steps
from nnlib.onnx.table import operator
from nnlib.onnx.values import like_array, shape_of, sizes
from nnlib.ops.recurrent import Recurrent

Run = Callable[..., Any]

# Activations by their lower-case names: a function of x, alpha and beta, and the
# defaults of the two.
_ACTIVATIONS: dict[str, tuple[Callable[[Any, float, float], Any], float, float]] = {
    "relu": (lambda x, a, b: ops.relu(x), 0, 0),
    "tanh": (lambda x, a, b: ops.tanh(x), 0, 0),
    "sigmoid": (lambda x, a, b: ops.sigmoid(x), 0, 0),
    "affine": (lambda x, a, b: x * a + b, 1, 0),
    "leakyrelu": (lambda x, a, b: F.leaky_relu(x, a), 0.01, 0),
    "thresholdedrelu": (lambda x, a, b: F.threshold(x, a, 0.0), 1, 0),
    "scaledtanh": (lambda x, a, b: ops.tanh(x * b) * a, 1, 1),
    "hardsigmoid": (lambda x, a, b: ops.clamp(x * a + b, 0.0, 1.0), 0.2, 0.5),
    "elu": (lambda x, a, b: F.elu(x, a), 1, 0),
    "softsign": (lambda x, a, b: F.softsign(x), 0, 0),
    "softplus": (lambda x, a, b: F.softplus(x), 0, 0),
}


# nnlib's order of the gates, in numbers of ONNX's: LSTM i o f c, GRU z r h.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


class _Cell:
    """What the three operators' attributes have in common."""

    def __init__(self, node: Node, gates: int, defaults: tuple[str, ...]) -> None:
        self.node = node
        self.gates = gates
        self.hidden = node.int("hidden_size", None)
        kind = node.string(
            "direction", "forward", ("forward", "reverse", "bidirectional")
        )
        self.reversed = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}[
            kind
        ]
        self.clip = node.float("clip", None)
        self.batch_first = bool(node.int("layout", 0)) if node.version >= 14 else False
        names = node.strings("activations", defaults * len(self.reversed))
        self.plain = [name.lower() for name in names] == [
            name.lower() for name in defaults * len(self.reversed)
        ]
        alphas = list(node.floats("activation_alpha", ()))
        betas = list(node.floats("activation_beta", ()))
        if len(names) != len(defaults) * len(self.reversed):
            raise node.fail(f"attribute activations: got {len(names)}")
        made = []
        for name in names:
            if name.lower() not in _ACTIVATIONS:
                raise node.fail(f"attribute activations: {name} is not supported")
            run, alpha, beta = _ACTIVATIONS[name.lower()]
            # The lists hold values for those alone that have one.
            if alpha and alphas:
                alpha = alphas.pop(0)
            if beta and betas:
                beta = betas.pop(0)
            made.append(lambda x, run=run, a=alpha, b=beta: run(x, a, b))
        step = len(defaults)
        self.activations = [
            made[i : i + step] for i in range(0, len(made), step)
        ]  # one list per direction

    def clipped(self, x: Any) -> Any:
        """Bound the input of an activation."""
        return x if self.clip is None else ops.clamp(x, -self.clip, self.clip)


def _mask(lengths: Any, t: int, like: Any) -> Any:
    """Return (N, 1) of whether step `t` belongs to each sequence; None: to all."""
    running = np.asarray(lengths) > t
    return None if running.all() else like_array(running[:, None], like)


def _directions(cell: _Cell, x: Any, lengths: Any, run: Run) -> tuple[Any, list[Any]]:
    """Run each direction; return outputs (T, D, N, H) and the last states."""
    steps, batch = shape_of(x)[:2]
    ends = None if lengths is None else sizes(lengths)
    if ends is not None and all(n == steps for n in ends):
        ends = None
    outputs, states = [], []
    for number, backwards in enumerate(cell.reversed):
        turned = x
        if backwards:
            turned = ops.flip(x, 0) if ends is None else reversed_steps(x, ends)
        y, last = run(number, turned, ends)
        if backwards:
            y = ops.flip(y, 0) if ends is None else reversed_steps(y, ends)
        outputs.append(y)
        states.append(last)
    del batch
    joined = [ops.stack(parts) for parts in zip(*states, strict=True)]  # (D, N, H)
    return ops.stack(outputs, 1), joined


def _steps(
    x: Any, ends: Any, state: tuple[Any, ...], step: Callable[[int, Any], Any]
) -> tuple[Any, tuple[Any, ...]]:
    """Run over time; beyond a sequence's end, states stay and outputs are 0."""
    outputs = []
    for t in range(shape_of(x)[0]):
        new = step(t, state)
        y = new[0]
        mask = None if ends is None else _mask(ends, t, y)
        if mask is not None:
            y = ops.where(mask, y, 0.0)
            new = tuple(ops.where(mask, a, b) for a, b in zip(new, state, strict=True))
        state = new
        outputs.append(y)
    if not outputs:
        batch, hidden = shape_of(state[0])
        return ops.zeros(0, batch, hidden, dtype=x.dtype), state
    return ops.stack(outputs), state


def _fused(
    cell: _Cell, kind: str, x: Any, w: Any, r: Any, b: Any, start: list[Any]
) -> Any:
    """Run all directions as one operation of nnlib's, where it means the same."""
    steps, batch, width = shape_of(x)
    hidden = shape_of(r)[2]
    order = _ORDER[kind.partition("_")[0]]

    def gates(value: Any) -> Any:
        if len(order) == 1:
            return value
        parts = [value[n * hidden : (n + 1) * hidden] for n in order]
        return ops.cat(parts)

    rows = cell.gates * hidden
    weights = []
    for d in range(len(cell.reversed)):
        weights += [gates(w[d]), gates(r[d])]
        both = (None, None) if b is None else (b[d][:rows], b[d][rows:])
        weights += [None if part is None else gates(part) for part in both]
    backwards = cell.reversed == (1,)
    flat = (ops.flip(x, 0) if backwards else x).reshape(steps * batch, width)
    out, *last = Recurrent.apply(
        flat,
        start[0],
        start[1] if len(start) > 1 else None,
        *weights,
        mode=kind,
        steps=kernels.recurrent.equal_steps(steps, batch),
    )
    # (T * N, D * H) -> (T, D, N, H)
    y = out.reshape(steps, batch, len(cell.reversed), hidden).permute(0, 2, 1, 3)
    return ops.flip(y, 0) if backwards else y, last


def _build(
    cell: _Cell,
    states: int,
    make: Callable[..., Callable[[int, Any], Any]],
    kind: str | None,
) -> Run:
    """Return what runs the operator; `make` builds one direction's step.

    `kind` names the operation of nnlib's own that means the same, if there is one.
    """
    node = cell.node

    def run(
        x: Any,
        w: Any,
        r: Any,
        b: Any = None,
        lengths: Any = None,
        h0: Any = None,
        *more: Any,
    ) -> Any:
        c0 = more[0] if states == 2 and more else None
        peep = more[1] if states == 2 and len(more) > 1 else None
        first = cell.batch_first
        if first:
            x = ops.movedim(x, 0, 1)
        directions, rows, hidden = shape_of(r)
        if directions != len(cell.reversed) or rows != cell.gates * hidden:
            raise node.fail(
                f"R: expected ({len(cell.reversed)}, {cell.gates} * hidden, hidden), "
                f"got {shape_of(r)}"
            )
        if cell.hidden not in (None, hidden):
            raise node.fail(f"hidden_size is {cell.hidden}, but R is {shape_of(r)}")
        steps, batch = shape_of(x)[:2]
        start = []
        for given in (h0, c0)[:states]:
            if given is None:
                given = ops.zeros(
                    directions, batch, hidden, dtype=x.dtype, device=x.device
                )
            elif first:
                given = ops.movedim(given, 0, 1)
            start.append(given)

        def one(number: int, turned: Any, ends: Any) -> Any:
            bias = None if b is None else b[number]
            peeps = None if peep is None else peep[number]
            step = make(
                cell.activations[number], turned, w[number], r[number], bias, peeps
            )
            state = tuple(s[number] for s in start)
            return _steps(turned, ends, state, step)

        equal = lengths is None or all(n == steps for n in sizes(lengths))
        if kind and equal and peep is None and steps > 1 and batch:
            y, last = _fused(cell, kind, x, w, r, b, start)
        else:
            y, last = _directions(cell, x, lengths, one)  # (T, D, N, H), (D, N, H)
        if first:
            y = ops.permute(y, (2, 0, 1, 3))  # (T, D, N, H) -> (N, T, D, H)
            last = [ops.movedim(s, 0, 1) for s in last]
        return (y, *last)

    return run


def _inputs(x: Any, w: Any, bias: Any, rows: int) -> tuple[Any, Any]:
    """Return the input's part of all gates at all steps, and the recurrent bias."""
    if bias is None:
        return F.linear(x, w), None
    return F.linear(x, w, bias[:rows]), bias[rows:]


@operator("RNN", 7, 14, 22, host=(4,))
def rnn(node: Node) -> Run:
    """Build RNN: ``h' = f(W x + R h + b)``."""
    cell = _Cell(node, 1, ("Tanh",))

    def make(acts: Any, x: Any, w: Any, r: Any, b: Any, _: Any) -> Any:
        (f,) = acts
        inputs, rb = _inputs(x, w, b, shape_of(r)[1])

        def step(t: int, state: Any) -> Any:
            return (f(cell.clipped(inputs[t] + F.linear(state[0], r, rb))),)

        return step

    plain = cell.plain and cell.clip is None
    return _build(cell, 1, make, "RNN_TANH" if plain else None)


@operator("GRU", 7, 14, 22, host=(4,))
def gru(node: Node) -> Run:
    """Build GRU: gates in the order update, reset, hidden."""
    cell = _Cell(node, 3, ("Sigmoid", "Tanh"))
    late = node.int("linear_before_reset", 0)

    def make(acts: Any, x: Any, w: Any, r: Any, b: Any, _: Any) -> Any:
        f, g = acts
        n = shape_of(r)[1]
        inputs, rb = _inputs(x, w, b, 3 * n)
        r_gates, r_new = r[: 2 * n], r[2 * n :]
        b_gates = None if rb is None else rb[: 2 * n]
        b_new = None if rb is None else rb[2 * n :]

        def step(t: int, state: Any) -> Any:
            (h,) = state
            gates = inputs[t][:, : 2 * n] + F.linear(h, r_gates, b_gates)
            gates = f(cell.clipped(gates))
            update, reset = gates[:, :n], gates[:, n:]
            if late:
                part = reset * F.linear(h, r_new, b_new)
            else:
                part = F.linear(reset * h, r_new, b_new)
            new = g(cell.clipped(inputs[t][:, 2 * n :] + part))
            return (new + update * (h - new),)

        return step

    plain = cell.plain and cell.clip is None and late
    return _build(cell, 1, make, "GRU" if plain else None)


@operator("LSTM", 7, 14, 22, host=(4,))
def lstm(node: Node) -> Run:
    """Build LSTM: gates in the order input, output, forget, cell."""
    cell = _Cell(node, 4, ("Sigmoid", "Tanh", "Tanh"))
    coupled = node.int("input_forget", 0)

    def make(acts: Any, x: Any, w: Any, r: Any, b: Any, p: Any) -> Any:
        f, g, k = acts
        n = shape_of(r)[1]
        inputs, rb = _inputs(x, w, b, 4 * n)
        clipped = cell.clipped

        def step(t: int, state: Any) -> Any:
            h, c = state
            gates = inputs[t] + F.linear(h, r, rb)
            i, o, e, new = (gates[:, j * n : (j + 1) * n] for j in range(4))
            if p is not None:
                i, e = i + p[:n] * c, e + p[2 * n :] * c
            i = f(clipped(i))
            e = 1 - i if coupled else f(clipped(e))
            c = e * c + i * g(clipped(new))
            if p is not None:
                o = o + p[n : 2 * n] * c
            return f(clipped(o)) * k(c), c

        return step

    plain = cell.plain and cell.clip is None and not coupled
    return _build(cell, 2, make, "LSTM" if plain else None)
