"""A recurrent layer made of elementary operations, step by step.

It can be differentiated any number of times, and has the projections that the fused
layer (`nnlib.ops.recurrent`) has not. Formulas are at the heads of
`nnlib.kernels.lstm`, ``gru`` and ``rnn``.
"""

from __future__ import annotations

from typing import Any

from nnlib.autograd.mode import enable_grad
from nnlib.autograd.tensor import Tensor
from nnlib.ops.activation import relu
from nnlib.ops.exponential import sigmoid
from nnlib.ops.hyperbolic import tanh
from nnlib.ops.joining import cat, stack
from nnlib.ops.matmul import linear

__all__: list[str] = []

# Blocks of rows in a weight.
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def cell(mode: str, x: Any, s: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """Return output and cell state after one step.

    Parameters
    ----------
    mode : str
    x, s : Tensor, shape (N, gates * H)
        The sums of the input and of the state, with their biases.
    h, c : Tensor, shape (N, H)
    """
    if mode == "RNN_TANH":
        return tanh(x + s), None
    if mode == "RNN_RELU":
        return relu(x + s), None
    if mode == "LSTM":
        i, f, g, o = (x + s).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c
    xr, xz, xn = x.chunk(3, 1)
    sr, sz, sn = s.chunk(3, 1)
    z = sigmoid(xz + sz)
    n = tanh(xn + sigmoid(xr + sr) * sn)
    return n + z * (h - n), None


def direction(
    mode: str, x: Any, h: Any, c: Any, weights: Any, steps: Any, reverse: bool
) -> tuple[Any, Any, Any]:
    """Run one direction; return the outputs and the states after each sequence."""
    w_ih, w_hh, b_ih, b_hh, *projection = weights
    sums = linear(x, w_ih, b_ih)
    outputs: list[Any] = []
    for _, begin, end in steps.order(reverse):
        n = end - begin
        rest, rest_c = h[n:], None if c is None else c[n:]
        h = h[:n]
        c = None if c is None else c[:n]
        h, c = cell(mode, sums[begin:end], linear(h, w_hh, b_hh), h, c)
        if projection:
            h = linear(h, projection[0])
        outputs.append(h)
        if rest.shape[0]:
            h = cat((h, rest))
            c = None if c is None else cat((c, rest_c))
    return cat(outputs[::-1] if reverse else outputs), h, c


def layer(
    mode: str, x: Any, h: Any, c: Any, weights: Any, steps: Any
) -> tuple[Any, ...]:
    """Run a layer; arguments and results are those of `recurrent.Recurrent`.

    With projections `weights` has five entries for each direction.
    """
    directions = h.shape[0]
    count = len(weights) // directions
    found = [
        direction(
            mode, x, h[d], None if c is None else c[d],
            weights[count * d : count * (d + 1)], steps, d == 1,
        )
        for d in range(directions)
    ]  # fmt: skip
    outs, states, cells = zip(*found, strict=True)
    out = outs[0] if directions == 1 else cat(outs, 1)
    if c is None:
        return out, stack(states)
    return out, stack(states), stack(cells)


def derivatives(
    node: Any, grads: Any, x: Any, h: Any, c: Any, weights: Any
) -> tuple[Any, ...]:
    """Return the gradients of a fused layer as functions that have derivatives."""
    from nnlib.autograd import grad  # here, for it needs the operations

    given = [x, h, c, *weights]
    with enable_grad():
        # Copies: two arguments may be one tensor, whose gradient would come twice.
        inputs: list[Any] = [
            None if value is None else value.clone() for value in given
        ]
        copy_x, copy_h, copy_c, *copies = inputs
        outputs = layer(node.mode, copy_x, copy_h, copy_c, copies, node.steps)
    pairs = [
        (out, g)
        for out, g in zip(outputs, grads, strict=True)
        if g is not None and out.requires_grad
    ]
    wanted = [k for k, value in enumerate(inputs) if node.needs(k)]
    result: list[Any] = [None] * len(given)
    if pairs:
        found = grad(
            [out for out, _ in pairs],
            [inputs[k] for k in wanted],
            [g if isinstance(g, Tensor) else Tensor._from_array(g) for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
        for k, value in zip(wanted, found, strict=True):
            result[k] = value
    return tuple(result)
