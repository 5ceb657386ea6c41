"""One layer of a recurrent network over whole sequences, in one or two directions.

A layer is one node of the graph: one matrix product for the input of all steps, the
fused kernel of the sequence, and in the backward pass one product for each weight over
all steps. Its second derivative comes from `nnlib.ops.recurrent_composed`, the same
layer made of elementary operations.
"""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ShapeError
from nnlib.ops.recurrent_composed import GATES, derivatives

__all__: list[str] = []


class Recurrent(Function):
    """A layer: ``mode`` is RNN_TANH, RNN_RELU, LSTM or GRU, as in PyTorch."""

    def forward(
        self, x: Any, h: Any, c: Any, *weights: Any, mode: str, steps: Any
    ) -> Any:
        """Return the outputs (total, D * H) and the last states (D, batch, H).

        `x` is (total, I), `h` and `c` (D, batch, H); `weights` are, for each of the D
        directions, W_ih, W_hh, b_ih, b_hh. `c` is None but for the LSTM.
        """
        self.mode, self.steps = mode, steps
        self.set_materialize_grads(False)
        module = array_module(x)
        self.x = x = module.ascontiguousarray(x)
        directions, batch, hidden = h.shape
        check_weights(mode, x.shape[1], hidden, weights)
        # Where all steps have as many rows, the outputs between the initial states are,
        # shifted by one step, what stood before each step.
        around = batch if steps.dense else 0
        rows = module.empty(
            (steps.total + 2 * around, directions * hidden), dtype=x.dtype
        )
        self.rows, self.around = rows, around
        out = rows[around : around + steps.total]
        states, cells, self.kept = [], [], []
        for d in range(directions):
            columns = slice(d * hidden, (d + 1) * hidden)
            if around:
                edge = slice(around + steps.total, None) if d else slice(around)
                rows[edge, columns] = h[d]
            state, cell, kept = run_direction(
                mode, x, h[d], None if c is None else c[d],
                weights[4 * d : 4 * d + 4], steps, d == 1, out[:, columns],
            )  # fmt: skip
            states.append(state)
            cells.append(cell)
            self.kept.append(kept)
        self.save_for_backward(x, h, c, *weights, out)
        if c is None:
            return out, join(states)
        return out, join(states), join(cells)

    def backward(self, *grads: Any) -> Any:
        """Return the gradients by input, states and weights."""
        x, h, c, *weights, out = self.saved
        if any(isinstance(grad, Tensor) for grad in grads):
            return derivatives(self, grads, x, h, c, weights)
        module = array_module(out)
        directions, _, hidden = h.shape
        dy, dh = grads[:2]
        dc = grads[2] if len(grads) == 3 else None
        dx = None
        states, cells, found = [], [], []
        for d in range(directions):
            columns = slice(d * hidden, (d + 1) * hidden)
            given = weights[4 * d : 4 * d + 4]
            zeros = module.zeros(h.shape[1:], h.dtype)
            gates, state, cell = run_back(
                self.mode, self.kept[d], out[:, columns], h[d],
                None if c is None else c[d], given[1], self.steps, d == 1,
                None if dy is None else dy[:, columns],
                zeros if dh is None else dh[d], zeros if dc is None else dc[d],
            )  # fmt: skip
            states.append(state)
            cells.append(cell)
            if self.needs(0):
                dx = input_gradient(self.mode, gates, given[0], dx)
            before = self._before(d, h[d], out[:, columns])
            wanted = [self.needs(3 + 4 * d + k) for k in range(4)]
            found += weight_gradients(self.mode, gates, self.x, before, wanted)
        return (
            dx,
            join(states) if self.needs(1) else None,
            join(cells) if self.needs(2) else None,
            *found,
        )

    def _before(self, d: int, h: Any, out: Any) -> tuple[Any, int]:
        """Return rows with what stood before each output, and their first column."""
        hidden = h.shape[1]
        if not self.around:
            return kernels.recurrent.before(h, self.steps, out, d == 1), 0
        start = 2 * self.around if d else 0
        return self.rows[start : start + self.steps.total], d * hidden


def check_weights(mode: str, inputs: int, hidden: int, weights: Any) -> None:
    """Refuse weights of other shapes, for a layer's parameters can be replaced."""
    rows = GATES[mode] * hidden
    expected = (rows, inputs), (rows, hidden), (rows,), (rows,)
    for i, weight in enumerate(weights):
        if weight is not None and weight.shape != expected[i % 4]:
            name = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[i % 4]
            raise ShapeError(
                f"{mode}: {name} has shape {tuple(weight.shape)}, expected "
                f"{expected[i % 4]}"
            )


def join(parts: list[Any]) -> Any:
    """Return the states of the directions as one array, (D, batch, H)."""
    module = array_module(parts[0])
    if len(parts) == 1:
        return module.ascontiguousarray(parts[0])[None]
    return module.stack(parts)


def run_direction(
    mode: str, x: Any, h: Any, c: Any, weights: Any, steps: Any, reverse: bool, out: Any
) -> tuple[Any, Any, Any]:
    """Run one direction; return the last states and what `run_back` needs."""
    w_ih, w_hh, b_ih, b_hh = weights
    module = array_module(x)
    w_hh = module.ascontiguousarray(w_hh)
    hidden = w_hh.shape[1]
    bias, last = b_ih, None
    if mode == "GRU":
        last = module.zeros(hidden, x.dtype)
        if b_ih is not None:
            bias = b_ih.copy()
            bias[: 2 * hidden] += b_hh[: 2 * hidden]
            last = module.ascontiguousarray(b_hh[2 * hidden :])
    elif b_ih is not None:
        bias = b_ih + b_hh
    gates = kernels.tall.rows_product(x, w_ih, transposed=True, bias=bias)
    if mode == "LSTM":
        state, cell, cells = kernels.lstm.forward(
            gates, h, c, w_hh, steps, reverse, out
        )
        return state, cell, (gates, cells)
    if mode == "GRU":
        state, kept = kernels.gru.forward(gates, last, h, w_hh, steps, reverse, out)
        return state, None, (gates, kept)
    rectified = mode == "RNN_RELU"
    return kernels.rnn.forward(gates, h, w_hh, steps, reverse, rectified, out), None, ()


def run_back(
    mode: str, kept: Any, out: Any, h: Any, c: Any, w_hh: Any, steps: Any,
    reverse: bool, dy: Any, dh: Any, dc: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Return the gradients of the sums (4 H wide for a GRU) and of the states."""
    module = array_module(out)
    w_hh = module.ascontiguousarray(w_hh)
    if mode == "LSTM":
        gates, cells = kept
        c = module.ascontiguousarray(c)
        result: tuple[Any, Any, Any] = kernels.lstm.backward(
            gates, cells, c, w_hh, steps, reverse, dy, dh, dc
        )
        return result
    if mode == "GRU":
        gates, parts = kept
        h = module.ascontiguousarray(h)
        return (
            *kernels.gru.backward(gates, parts, out, h, w_hh, steps, reverse, dy, dh),
            None,
        )
    rectified = mode == "RNN_RELU"
    return (
        *kernels.rnn.backward(out, w_hh, steps, reverse, rectified, dy, dh),
        None,
    )


def input_gradient(mode: str, gates: Any, w_ih: Any, dx: Any) -> Any:
    """Return ``gates W_ih``, added to `dx` if there is one."""
    product = kernels.tall.rows_product
    if mode != "GRU":
        return product(gates, w_ih, dx, transposed=False)
    hidden = gates.shape[1] // 4
    # The kernel's order is n, r, z: its last two are the weight's first two.
    dx = product(gates[:, :hidden], w_ih[2 * hidden :], dx, transposed=False)
    left = gates[:, hidden : 3 * hidden]
    return product(left, w_ih[: 2 * hidden], dx, transposed=False)


def weight_gradients(
    mode: str, gates: Any, x: Any, before: tuple[Any, int], wanted: list[bool]
) -> list[Any]:
    """Return the gradients of W_ih, W_hh, b_ih and b_hh, each one product or sum."""
    module = array_module(gates)
    found: list[Any] = [None] * 4
    blocks = GATES[mode]
    hidden = gates.shape[1] // (4 if mode == "GRU" else blocks)
    given = ((x, 0, x.shape[1]), (*before, hidden))
    for k, (_, _, width) in enumerate(given):
        if wanted[k]:
            found[k] = module.empty((blocks * hidden, width), x.dtype)

    def add_up(first: int, last: int, *rows: int | None) -> None:
        """Take blocks of the gates' columns for the weights' blocks from `rows` on."""
        part = slice(first * hidden, last * hidden)
        pairs = []
        for k, row in enumerate(rows):
            if row is not None and wanted[k]:
                start = row * hidden
                out = found[k][start : start + part.stop - part.start]
                pairs.append((*given[k][:2], out))
        kernels.tall.columns_product(gates, part, pairs)

    if mode == "GRU":
        add_up(1, 3, 0, 0)  # r, z
        add_up(0, 1, 2, None)  # n
        add_up(3, 4, None, 2)  # the recurrent part of n
    else:
        add_up(0, blocks, 0, 0)
    if wanted[2] or wanted[3]:
        total = kernels.reduction.sum_columns(gates)
        if mode == "GRU":
            inner = (total[hidden : 3 * hidden], total[:hidden])
            found[2:] = module.concatenate(inner), total[hidden:]
        else:
            found[2:] = total, total.copy()
    return found
