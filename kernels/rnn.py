"""Simple (Elman) recurrent layer over a sequence, in one direction, both ways.

``h' = tanh(x W_ih^T + b_ih + b_hh + h W_hh^T)``, or with max(., 0) in place of tanh.

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
from nnlib.kernels.recurrent import Steps, first_rows, step_rows
from nnlib.kernels.wide import relu, relu_gradient, row_map, tanh

__all__ = ["backward", "forward"]


@body
def tanh_cell(x: Any, s: Any) -> Any:
    """Return the new output, twice."""
    h = tanh(x + s)
    return h, h


@body
def relu_cell(x: Any, s: Any) -> Any:
    """Return the new output, twice."""
    h = relu(x + s)
    return h, h


@body
def tanh_gradient(h: Any, dy: Any, dh: Any) -> Any:
    """Return the gradient of the sum."""
    dh = dh + dy
    return dh - dh * h * h


@body
def relu_cell_gradient(h: Any, dy: Any, dh: Any) -> Any:
    """Return the gradient of the sum."""
    return relu_gradient(dh + dy, h)


_tanh_row = row_map(tanh_cell)
_relu_row = row_map(relu_cell)
_tanh_gradient_row = row_map(tanh_gradient)
_relu_gradient_row = row_map(relu_cell_gradient)


@cpu_loop
def forward_parts(
    first: Any, last: Any, parts: Any, rectified: Any, x: Any, h: Any, packed: Any,
    offsets: Any, reverse: Any, sums: Any, out: Any, out_step: Any,
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
                read = (x.ctypes.data + row * run, sums.ctypes.data + b * wide)
                written = (h.ctypes.data + b * run, out + row * out_step)
                if rectified:
                    _relu_row(read, written, hidden, like)
                else:
                    _tanh_row(read, written, hidden, like)


@cpu_kernel(shared=True)
def forward_cpu(
    parts: Any, rectified: Any, x: Any, h: Any, packed: Any, offsets: Any,
    reverse: Any, sums: Any, out: Any, out_step: Any,
) -> None:  # fmt: skip
    spread(
        forward_parts, parts, 1,
        (parts, rectified, x, h, packed, offsets, reverse, sums, out, out_step),
    )  # fmt: skip


@cpu_loop
def backward_parts(
    first: Any, last: Any, parts: Any, rectified: Any, hs: Any, hs_step: Any, dy: Any,
    dy_step: Any, packed: Any, offsets: Any, reverse: Any, dh: Any, grads: Any,
) -> None:  # fmt: skip
    hidden = grads.shape[1]
    size = grads.itemsize
    wide = dh.shape[1] * size
    run = hidden * size
    like = grads.dtype.type(0)
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
                read = (
                    hs + row * hs_step,
                    dy + row * dy_step,
                    dh.ctypes.data + b * wide,
                )
                written = (grads.ctypes.data + row * run,)
                if rectified:
                    _relu_gradient_row(read, written, hidden, like)
                else:
                    _tanh_gradient_row(read, written, hidden, like)
            multiply_rows(
                grads.ctypes.data + (offsets[t] + part) * run, parts * run, rows,
                packed, dh.ctypes.data + part * wide, parts * wide, False,
            )  # fmt: skip


@cpu_kernel(shared=True)
def backward_cpu(
    parts: Any, rectified: Any, hs: Any, hs_step: Any, dy: Any, dy_step: Any,
    packed: Any, offsets: Any, reverse: Any, dh: Any, grads: Any,
) -> None:  # fmt: skip
    spread(
        backward_parts, parts, 1,
        (parts, rectified, hs, hs_step, dy, dy_step, packed, offsets, reverse, dh,
         grads),
    )  # fmt: skip


@cuda_kernel
def forward_cuda(
    rectified: Any, x: Any, sums: Any, h: Any, out: Any, begin: Any, rows: Any
) -> None:
    """Run one step, whose rows start at `begin`."""
    hidden = out.shape[1]
    for n in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = n // hidden
        j = n - b * hidden
        row = begin + b
        if rectified:
            h[b, j], out[row, j] = relu_cell(x[row, j], sums[b, j])
        else:
            h[b, j], out[row, j] = tanh_cell(x[row, j], sums[b, j])


@cuda_kernel
def backward_cuda(
    rectified: Any, hs: Any, dy: Any, dh: Any, grads: Any, begin: Any, rows: Any
) -> None:
    """Run one step back, whose rows start at `begin`."""
    hidden = hs.shape[1]
    for n in range(cuda.grid(1), rows * hidden, cuda.gridsize(1)):
        b = n // hidden
        j = n - b * hidden
        row = begin + b
        if rectified:
            grads[row, j] = relu_cell_gradient(hs[row, j], dy[row, j], dh[b, j])
        else:
            grads[row, j] = tanh_gradient(hs[row, j], dy[row, j], dh[b, j])


def forward_steps(
    x: Any, h: Any, weight: Any, steps: Steps, reverse: bool, rectified: bool, out: Any
) -> None:
    """Run the steps on CUDA, each a product by cuBLAS and a kernel."""
    turned, hidden = weight.T, weight.shape[1]
    sums = array_module(h).empty((steps.batch, hidden), h.dtype)
    for _, begin, end in steps.order(reverse):
        n = end - begin
        gemm.matmul(first_rows(h, n), turned, first_rows(sums, n))
        forward_cuda(rectified, x, sums, h, out, begin, n, items=n * hidden)


def backward_steps(
    hs: Any, weight: Any, steps: Steps, reverse: bool, rectified: bool, dy: Any,
    dh: Any, grads: Any,
) -> None:  # fmt: skip
    """Run the steps back on CUDA, each a kernel and a product by cuBLAS."""
    for begin, n, _, _ in steps.back(reverse):
        items = n * weight.shape[1]
        backward_cuda(rectified, hs, dy, dh, grads, begin, n, items=items)
        gemm.matmul(grads[begin : begin + n], weight, first_rows(dh, n))


def forward(
    x: Any, h: Any, weight: Any, steps: Steps, reverse: bool, rectified: bool, out: Any
) -> Any:
    """Run the layer over all steps; return the output after each sequence.

    Parameters
    ----------
    x : array, shape (total, H), contiguous, float32 or float64
        ``x W_ih^T + b_ih + b_hh``.
    h : array, shape (batch, H)
        The output before each sequence.
    weight : array, shape (H, H), contiguous
        ``W_hh``.
    steps : Steps
    reverse : bool
        Whether time runs backwards.
    rectified : bool
        max(., 0) in place of tanh.
    out : array, shape (total, H)
        Receives the outputs; rows may be apart, elements of a row not.
    """
    h = h.copy()
    if not x.size:
        return h
    if on_cuda(x):
        y = recurrent.contiguous_like(out)
        kernels.rnn_cuda.forward(
            x, weight, h, y, steps, reverse, rectified,
            lambda: forward_steps(x, h, weight, steps, reverse, rectified, y),
        )  # fmt: skip
        if y is not out:
            out[...] = y
        return h
    parts = recurrent.parts_for(steps, weight.size)
    packed, sums = recurrent.packed_and_sums(h, weight, steps)
    forward_cpu(
        parts, rectified, x, h, packed, steps.offsets, reverse,
        sums, out.ctypes.data,
        out.strides[0],
    )  # fmt: skip
    return h


def backward(
    hs: Any, weight: Any, steps: Steps, reverse: bool, rectified: bool, dy: Any, dh: Any
) -> tuple[Any, Any]:
    """Return the gradients of the sums and of the output before.

    Parameters
    ----------
    hs : array, shape (total, H)
        The outputs; rows may be apart.
    weight, steps, reverse, rectified
        As for `forward`.
    dy : array, shape (total, H), or None
        The gradient of the outputs; rows may be apart.
    dh : array, shape (batch, H)
        The gradient of the output after each sequence.

    Returns
    -------
    grads : array, shape (total, H)
    dh : array, shape (batch, H)
    """
    module = array_module(hs)
    hidden = weight.shape[1]
    grads = module.empty(hs.shape, hs.dtype)
    if not grads.size:
        return grads, dh.copy()
    if on_cuda(hs):
        dh = dh.copy()
        hs = module.ascontiguousarray(hs)
        dy = recurrent.given_or_zeros(dy, hs)
        kernels.rnn_cuda.backward(
            hs, weight, dy, dh, grads, steps, reverse, rectified,
            lambda: backward_steps(
                hs, weight, steps, reverse, rectified, dy, dh, grads
            ),
        )  # fmt: skip
        return grads, dh
    parts = recurrent.parts_for(steps, weight.size)
    rows = recurrent.grow(dh, hidden)
    dy, address, step = recurrent.rows_or_zeros(dy, grads)
    backward_cpu(
        parts, rectified, hs.ctypes.data, hs.strides[0], address, step,
        recurrent.packed_back(weight, steps), steps.offsets, reverse, rows, grads,
    )  # fmt: skip
    dh = recurrent.state_gradient(rows, grads, weight, steps, False)
    return grads, dh
