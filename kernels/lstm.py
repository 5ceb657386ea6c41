"""LSTM over a whole sequence, in one direction, forward and backward.

Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000, as PyTorch
has it. With the gates' sums ``x W_ih^T + b_ih + b_hh + h W_hh^T`` in four blocks::

    i, f, o = sigmoid(...), sigmoid(...), sigmoid(...)      g = tanh(...)
    c' = f c + i g                                          h' = o tanh(c')

The part of the input comes ready, for all steps at once, from one matrix product; the
kernel adds the recurrent part. How it runs is told in `nnlib.kernels.recurrent`.
"""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.kernels import gemm, recurrent
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)
from nnlib.kernels.panels import multiply_rows
from nnlib.kernels.recurrent import Steps, first_rows, row_before, step_rows
from nnlib.kernels.wide import row_map, sigmoid, tanh

__all__ = ["backward", "forward"]


@body
def cell(
    i: Any, f: Any, g: Any, o: Any, si: Any, sf: Any, sg: Any, so: Any, c: Any
) -> Any:
    """Return the gates, the new cell state (twice) and output (twice) of one unit."""
    i = sigmoid(i + si)
    f = sigmoid(f + sf)
    g = tanh(g + sg)
    o = sigmoid(o + so)
    c = f * c + i * g
    h = o * tanh(c)
    return i, f, g, o, c, c, h, h


@body
def cell_gradient(
    i: Any, f: Any, g: Any, o: Any, c: Any, before: Any, dy: Any, dh: Any, dc: Any
) -> Any:
    """Return the gradients of the four sums, and of the cell state before."""
    dh = dh + dy
    t = tanh(c)
    dot = dh * t
    dho = dh * o
    dc = dc + (dho - dho * t * t)
    di = dc * g
    df = dc * before
    dg = dc * i
    return (
        di * (i - i * i),
        df * (f - f * f),
        dg - dg * g * g,
        dot * (o - o * o),
        dc * f,
    )


_cell_row = row_map(cell)
_gradient_row = row_map(cell_gradient)


@cpu_loop
def forward_parts(
    first: Any, last: Any, parts: Any, gates: Any, h: Any, c: Any, packed: Any,
    offsets: Any, reverse: Any, sums: Any, cs: Any, out: Any, out_step: Any,
) -> None:  # fmt: skip
    hidden = h.shape[1]
    size = h.itemsize
    wide = sums.shape[1] * size
    run = hidden * size
    like = h.dtype.type(0)
    steps = offsets.size - 1
    for part in range(first, last):
        for s in range(steps):
            t = steps - 1 - s if reverse else s
            rows = step_rows(offsets, t, part, parts)
            if rows <= 0:
                continue
            multiply_rows(
                h.ctypes.data + part * run, parts * run, rows, packed,
                sums.ctypes.data + part * wide, parts * wide, False,
            )  # fmt: skip
            for q in range(rows):
                b = part + q * parts
                row = offsets[t] + b
                g = gates.ctypes.data + row * 4 * run
                x = sums.ctypes.data + b * wide
                state = c.ctypes.data + b * run
                _cell_row(
                    (g, g + run, g + 2 * run, g + 3 * run, x, x + run, x + 2 * run,
                     x + 3 * run, state),
                    (g, g + run, g + 2 * run, g + 3 * run, state,
                     cs.ctypes.data + row * run, h.ctypes.data + b * run,
                     out + row * out_step),
                    hidden, like,
                )  # fmt: skip


@cpu_kernel(shared=True)
def forward_cpu(
    parts: Any, gates: Any, h: Any, c: Any, packed: Any, offsets: Any, reverse: Any,
    sums: Any, cs: Any, out: Any, out_step: Any,
) -> None:  # fmt: skip
    spread(
        forward_parts, parts, 1,
        (parts, gates, h, c, packed, offsets, reverse, sums, cs, out, out_step),
    )  # fmt: skip


@cpu_loop
def backward_parts(
    first: Any, last: Any, parts: Any, gates: Any, cs: Any, c: Any, dy: Any,
    dy_step: Any, packed: Any, offsets: Any, reverse: Any, dh: Any, dc: Any, grads: Any,
) -> None:  # fmt: skip
    hidden = c.shape[1]
    size = c.itemsize
    wide = dh.shape[1] * size
    run = hidden * size
    like = c.dtype.type(0)
    steps = offsets.size - 1
    for part in range(first, last):
        for s in range(steps):
            t = s if reverse else steps - 1 - s
            rows = step_rows(offsets, t, part, parts)
            if rows <= 0:
                continue
            for q in range(rows):
                b = part + q * parts
                row = offsets[t] + b
                known = row_before(offsets, t, b, reverse)
                before = c.ctypes.data + b * run
                if known >= 0:
                    before = cs.ctypes.data + known * run
                g = gates.ctypes.data + row * 4 * run
                d = grads.ctypes.data + row * 4 * run
                state = dc.ctypes.data + b * run
                _gradient_row(
                    (g, g + run, g + 2 * run, g + 3 * run, cs.ctypes.data + row * run,
                     before, dy + row * dy_step, dh.ctypes.data + b * wide, state),
                    (d, d + run, d + 2 * run, d + 3 * run, state),
                    hidden, like,
                )  # fmt: skip
            multiply_rows(
                grads.ctypes.data + (offsets[t] + part) * 4 * run, parts * 4 * run,
                rows, packed, dh.ctypes.data + part * wide, parts * wide, False,
            )  # fmt: skip


@cpu_kernel(shared=True)
def backward_cpu(
    parts: Any, gates: Any, cs: Any, c: Any, dy: Any, dy_step: Any, packed: Any,
    offsets: Any, reverse: Any, dh: Any, dc: Any, grads: Any,
) -> None:  # fmt: skip
    spread(
        backward_parts, parts, 1,
        (parts, gates, cs, c, dy, dy_step, packed, offsets, reverse, dh, dc, grads),
    )  # fmt: skip


@cuda_kernel
def forward_cuda(
    gates: Any, sums: Any, h: Any, c: Any, cs: Any, out: Any, begin: Any, rows: Any
) -> None:
    """Run one step, whose rows start at `begin`."""
    hidden = out.shape[1]
    for n in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = n // hidden
        j = n - b * hidden
        row = begin + b
        (
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            gates[row, 3 * hidden + j], c[b, j], cs[row, j], h[b, j], out[row, j],
        ) = cell(
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            gates[row, 3 * hidden + j], sums[b, j], sums[b, hidden + j],
            sums[b, 2 * hidden + j], sums[b, 3 * hidden + j], c[b, j],
        )  # fmt: skip


@cuda_kernel
def backward_cuda(
    gates: Any, cs: Any, c: Any, dy: Any, dh: Any, dc: Any, grads: Any, begin: Any,
    rows: Any, known: Any, earlier: Any,
) -> None:  # fmt: skip
    """Run one step back; `earlier` rows of the step that ran before start at `known`.

    What stood before the other rows is in `c`.
    """
    hidden = cs.shape[1]
    for n in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = n // hidden
        j = n - b * hidden
        row = begin + b
        before = cs[known + b, j] if b < earlier else c[b, j]
        (
            grads[row, j], grads[row, hidden + j], grads[row, 2 * hidden + j],
            grads[row, 3 * hidden + j], dc[b, j],
        ) = cell_gradient(
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            gates[row, 3 * hidden + j], cs[row, j], before, dy[row, j], dh[b, j],
            dc[b, j],
        )  # fmt: skip


def forward_steps(
    gates: Any, h: Any, c: Any, weight: Any, steps: Steps, reverse: bool, cs: Any,
    out: Any,
) -> None:  # fmt: skip
    """Run the steps on CUDA, each a product by cuBLAS and a kernel."""
    turned, hidden = weight.T, weight.shape[1]
    sums = array_module(h).empty((steps.batch, 4 * hidden), h.dtype)
    for _, begin, end in steps.order(reverse):
        n = end - begin
        gemm.matmul(first_rows(h, n), turned, first_rows(sums, n))
        forward_cuda(gates, sums, h, c, cs, out, begin, n, items=n * hidden)


def backward_steps(
    gates: Any, cs: Any, c: Any, weight: Any, steps: Steps, reverse: bool, dy: Any,
    dh: Any, dc: Any, grads: Any,
) -> None:  # fmt: skip
    """Run the steps back on CUDA, each a kernel and a product by cuBLAS."""
    for begin, n, known, earlier in steps.back(reverse):
        backward_cuda(
            gates, cs, c, dy, dh, dc, grads, begin, n, known, earlier,
            items=n * weight.shape[1],
        )  # fmt: skip
        gemm.matmul(grads[begin : begin + n], weight, first_rows(dh, n))


def forward(
    gates: Any, h: Any, c: Any, weight: Any, steps: Steps, reverse: bool, out: Any
) -> tuple[Any, Any, Any]:
    """Run the layer over all steps.

    Parameters
    ----------
    gates : array, shape (total, 4 * H), contiguous, float32 or float64
        ``x W_ih^T + b_ih + b_hh``; the gates are written over it, for `backward`.
    h, c : array, shape (batch, H)
        The state before each sequence.
    weight : array, shape (4 * H, H), contiguous
        ``W_hh``.
    steps : Steps
    reverse : bool
        Whether time runs backwards.
    out : array, shape (total, H)
        Receives the outputs; rows may be apart, elements of a row not.

    Returns
    -------
    h, c : array, shape (batch, H)
        The state after each sequence.
    cs : array, shape (total, H)
        The cell states, for `backward`.
    """
    module = array_module(gates)
    hidden = weight.shape[1]
    h, c = h.copy(), c.copy()
    cs = module.empty((steps.total, hidden), gates.dtype)
    if not cs.size:
        return h, c, cs
    if on_cuda(gates):
        y = recurrent.contiguous_like(out)
        kernels.lstm_cuda.forward(
            gates, weight, h, c, cs, y, steps, reverse,
            lambda: forward_steps(gates, h, c, weight, steps, reverse, cs, y),
        )  # fmt: skip
        if y is not out:
            out[...] = y
        return h, c, cs
    parts = recurrent.parts_for(steps, weight.size)
    packed, sums = recurrent.packed_and_sums(h, weight, steps)
    forward_cpu(
        parts, gates, h, c, packed, steps.offsets, reverse, sums, cs,
        out.ctypes.data, out.strides[0],
    )  # fmt: skip
    return h, c, cs


def backward(
    gates: Any, cs: Any, c: Any, weight: Any, steps: Steps, reverse: bool, dy: Any,
    dh: Any, dc: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Return the gradients of the gates' sums and of the state before.

    Parameters
    ----------
    gates, cs : array
        From `forward`.
    c : array, shape (batch, H)
        The cell state before each sequence.
    weight, steps, reverse
        As for `forward`.
    dy : array, shape (total, H), or None
        The gradient of the outputs; rows may be apart.
    dh, dc : array, shape (batch, H)
        The gradient of the state after each sequence.

    Returns
    -------
    grads : array, shape (total, 4 * H)
    dh, dc : array, shape (batch, H)
    """
    module = array_module(gates)
    hidden = weight.shape[1]
    grads = module.empty(gates.shape, gates.dtype)
    dc = dc.copy()
    if not gates.size:
        return grads, dh.copy(), dc
    if on_cuda(gates):
        dh = dh.copy()
        dy = recurrent.given_or_zeros(dy, cs)
        kernels.lstm_cuda.backward(
            gates, weight, cs, c, dy, dh, dc, grads, steps, reverse,
            lambda: backward_steps(
                gates, cs, c, weight, steps, reverse, dy, dh, dc, grads
            ),
        )  # fmt: skip
        return grads, dh, dc
    parts = recurrent.parts_for(steps, weight.size)
    rows = recurrent.grow(dh, hidden)
    dy, address, step = recurrent.rows_or_zeros(dy, c)
    backward_cpu(
        parts, gates, cs, c, address, step, recurrent.packed_back(weight, steps),
        steps.offsets, reverse, rows, dc, grads,
    )  # fmt: skip
    dh = recurrent.state_gradient(rows, grads, weight, steps, False)
    return grads, dh, dc
