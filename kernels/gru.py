"""GRU over a whole sequence, in one direction, forward and backward.

Cho et al. 2014, in PyTorch's form, where the reset gate follows the recurrent product::

    r, z = sigmoid(...), sigmoid(...)          of x W_ih^T + b_ih + h W_hh^T + b_hh
    n = tanh(x W_in^T + b_in + r (h W_hn^T + b_hn))
    h' = (1 - z) n + z h = n + z (h - n)

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
def cell(r: Any, z: Any, n: Any, sr: Any, sz: Any, sn: Any, bias: Any, h: Any) -> Any:
    """Return the gates, the recurrent part of n, and the new output (twice)."""
    r = sigmoid(r + sr)
    z = sigmoid(z + sz)
    m = sn + bias
    n = tanh(n + r * m)
    h = n + z * (h - n)
    return r, z, n, m, h, h


@body
def cell_gradient(r: Any, z: Any, n: Any, m: Any, before: Any, dy: Any, dh: Any) -> Any:
    """Return the gradients of the sums: n, r, z, m; and of the output before."""
    dh = dh + dy
    dz = dh * (before - n)
    dhz = dh * z
    dn = dh - dhz
    dn = dn - dn * n * n
    return dn, dn * m * (r - r * r), dz * (z - z * z), dn * r, dhz


_cell_row = row_map(cell)
_gradient_row = row_map(cell_gradient)


@cpu_loop
def forward_parts(
    first: Any, last: Any, parts: Any, gates: Any, bias: Any, h: Any, packed: Any,
    offsets: Any, reverse: Any, sums: Any, ms: Any, out: Any, out_step: Any,
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
                g = gates.ctypes.data + row * 3 * run
                x = sums.ctypes.data + b * wide
                state = h.ctypes.data + b * run
                _cell_row(
                    (g, g + run, g + 2 * run, x, x + run, x + 2 * run,
                     bias.ctypes.data, state),
                    (g, g + run, g + 2 * run, ms.ctypes.data + row * run, state,
                     out + row * out_step),
                    hidden, like,
                )  # fmt: skip


@cpu_kernel(shared=True)
def forward_cpu(
    parts: Any, gates: Any, bias: Any, h: Any, packed: Any, offsets: Any, reverse: Any,
    sums: Any, ms: Any, out: Any, out_step: Any,
) -> None:  # fmt: skip
    spread(
        forward_parts, parts, 1,
        (parts, gates, bias, h, packed, offsets, reverse, sums, ms, out, out_step),
    )  # fmt: skip


@cpu_loop
def backward_parts(
    first: Any, last: Any, parts: Any, gates: Any, ms: Any, hs: Any, hs_step: Any,
    h: Any, dy: Any, dy_step: Any, packed: Any, offsets: Any, reverse: Any, dh: Any,
    grads: Any,
) -> None:  # fmt: skip
    hidden = h.shape[1]
    size = h.itemsize
    wide = dh.shape[1] * size
    run = hidden * size
    like = h.dtype.type(0)
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
                before = h.ctypes.data + b * run
                if known >= 0:
                    before = hs + known * hs_step
                g = gates.ctypes.data + row * 3 * run
                d = grads.ctypes.data + row * 4 * run
                state = dh.ctypes.data + b * wide
                _gradient_row(
                    (g, g + run, g + 2 * run, ms.ctypes.data + row * run, before,
                     dy + row * dy_step, state),
                    (d, d + run, d + 2 * run, d + 3 * run, state),
                    hidden, like,
                )  # fmt: skip
            multiply_rows(
                grads.ctypes.data + ((offsets[t] + part) * 4 + 1) * run,
                parts * 4 * run, rows, packed, dh.ctypes.data + part * wide,
                parts * wide, True,
            )  # fmt: skip


@cpu_kernel(shared=True)
def backward_cpu(
    parts: Any, gates: Any, ms: Any, hs: Any, hs_step: Any, h: Any, dy: Any,
    dy_step: Any, packed: Any, offsets: Any, reverse: Any, dh: Any, grads: Any,
) -> None:  # fmt: skip
    spread(
        backward_parts, parts, 1,
        (parts, gates, ms, hs, hs_step, h, dy, dy_step, packed, offsets, reverse, dh,
         grads),
    )  # fmt: skip


@cuda_kernel
def forward_cuda(
    gates: Any, bias: Any, sums: Any, h: Any, ms: Any, out: Any, begin: Any, rows: Any
) -> None:
    """Run one step, whose rows start at `begin`."""
    hidden = out.shape[1]
    for k in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = k // hidden
        j = k - b * hidden
        row = begin + b
        (
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            ms[row, j], h[b, j], out[row, j],
        ) = cell(
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            sums[b, j], sums[b, hidden + j], sums[b, 2 * hidden + j], bias[j], h[b, j],
        )  # fmt: skip


@cuda_kernel
def backward_cuda(
    gates: Any, ms: Any, hs: Any, h: Any, dy: Any, dh: Any, grads: Any, begin: Any,
    rows: Any, known: Any, earlier: Any,
) -> None:  # fmt: skip
    """Run one step back; `earlier` rows of the step that ran before start at `known`.

    What stood before the other rows is in `h`.
    """
    hidden = ms.shape[1]
    for k in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = k // hidden
        j = k - b * hidden
        row = begin + b
        before = hs[known + b, j] if b < earlier else h[b, j]
        (
            grads[row, j], grads[row, hidden + j], grads[row, 2 * hidden + j],
            grads[row, 3 * hidden + j], dh[b, j],
        ) = cell_gradient(
            gates[row, j], gates[row, hidden + j], gates[row, 2 * hidden + j],
            ms[row, j], before, dy[row, j], dh[b, j],
        )  # fmt: skip


def forward_steps(
    gates: Any, bias: Any, h: Any, weight: Any, steps: Steps, reverse: bool, ms: Any,
    out: Any,
) -> None:  # fmt: skip
    """Run the steps on CUDA, each a product by cuBLAS and a kernel."""
    turned, hidden = weight.T, weight.shape[1]
    sums = array_module(h).empty((steps.batch, 3 * hidden), h.dtype)
    for _, begin, end in steps.order(reverse):
        n = end - begin
        gemm.matmul(first_rows(h, n), turned, first_rows(sums, n))
        forward_cuda(gates, bias, sums, h, ms, out, begin, n, items=n * hidden)


def backward_steps(
    gates: Any, ms: Any, hs: Any, h: Any, weight: Any, steps: Steps, reverse: bool,
    dy: Any, dh: Any, grads: Any,
) -> None:  # fmt: skip
    """Run the steps back on CUDA, each a kernel and a product by cuBLAS."""
    hidden = weight.shape[1]
    for begin, n, known, earlier in steps.back(reverse):
        backward_cuda(
            gates, ms, hs, h, dy, dh, grads, begin, n, known, earlier,
            items=n * hidden,
        )  # fmt: skip
        inner = grads[begin : begin + n, hidden:]
        gemm.matmul(inner, weight, first_rows(dh, n), accumulate=True)


def forward(
    gates: Any, bias: Any, h: Any, weight: Any, steps: Steps, reverse: bool, out: Any
) -> tuple[Any, Any]:
    """Run the layer over all steps.

    Parameters
    ----------
    gates : array, shape (total, 3 * H), contiguous, float32 or float64
        ``x W_ih^T + b_ih``, and ``b_hh`` for r and z; r, z, n are written over it.
    bias : array, shape (H,), contiguous
        ``b_hn``.
    h : array, shape (batch, H)
        The output before each sequence.
    weight : array, shape (3 * H, H), contiguous
        ``W_hh``.
    steps : Steps
    reverse : bool
        Whether time runs backwards.
    out : array, shape (total, H)
        Receives the outputs; rows may be apart, elements of a row not.

    Returns
    -------
    h : array, shape (batch, H)
        The output after each sequence.
    ms : array, shape (total, H)
        ``h W_hn^T + b_hn``, for `backward`.
    """
    module = array_module(gates)
    hidden = weight.shape[1]
    h = h.copy()
    ms = module.empty((steps.total, hidden), gates.dtype)
    if not ms.size:
        return h, ms
    if on_cuda(gates):
        y = recurrent.contiguous_like(out)
        kernels.gru_cuda.forward(
            gates, weight, bias, h, ms, y, steps, reverse,
            lambda: forward_steps(gates, bias, h, weight, steps, reverse, ms, y),
        )  # fmt: skip
        if y is not out:
            out[...] = y
        return h, ms
    parts = recurrent.parts_for(steps, weight.size)
    packed, sums = recurrent.packed_and_sums(h, weight, steps)
    forward_cpu(
        parts, gates, bias, h, packed, steps.offsets, reverse, sums, ms,
        out.ctypes.data, out.strides[0],
    )  # fmt: skip
    return h, ms


def backward(
    gates: Any, ms: Any, hs: Any, h: Any, weight: Any, steps: Steps, reverse: bool,
    dy: Any, dh: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Return the gradients of the sums and of the output before.

    Parameters
    ----------
    gates, ms : array
        From `forward`.
    hs : array, shape (total, H)
        The outputs; rows may be apart.
    h : array, shape (batch, H)
        The output before each sequence.
    weight, steps, reverse
        As for `forward`.
    dy : array, shape (total, H), or None
        The gradient of the outputs; rows may be apart.
    dh : array, shape (batch, H)
        The gradient of the output after each sequence.

    Returns
    -------
    grads : array, shape (total, 4 * H)
        In blocks: of n's sum, r, z, and of the recurrent part of n. So the first three
        belong to ``W_ih`` (n, r, z) and the last three to ``W_hh`` (r, z, n).
    dh : array, shape (batch, H)
    """
    module = array_module(gates)
    hidden = weight.shape[1]
    grads = module.empty((steps.total, 4 * hidden), gates.dtype)
    if not grads.size:
        return grads, dh.copy()
    if on_cuda(gates):
        dh = dh.copy()
        dy = recurrent.given_or_zeros(dy, ms)
        hs = module.ascontiguousarray(hs)
        kernels.gru_cuda.backward(
            gates, weight, ms, hs, h, dy, dh, grads, steps, reverse,
            lambda: backward_steps(
                gates, ms, hs, h, weight, steps, reverse, dy, dh, grads
            ),
        )  # fmt: skip
        return grads, dh
    parts = recurrent.parts_for(steps, weight.size)
    rows = recurrent.grow(dh, hidden)
    dy, address, step = recurrent.rows_or_zeros(dy, h)
    backward_cpu(
        parts, gates, ms, hs.ctypes.data, hs.strides[0], h, address, step,
        recurrent.packed_back(weight, steps), steps.offsets, reverse, rows, grads,
    )  # fmt: skip
    dh = recurrent.state_gradient(rows, grads[:, hidden:], weight, steps, True)
    return grads, dh
