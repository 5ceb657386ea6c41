"""The CUDA loops of `nnlib.kernels.softmax`.

A group of threads holds a row in registers, so that it is read once; rows that are too
long for that are gone along two or three times by a block.
"""

from __future__ import annotations

import functools
from typing import Any

from nnlib.kernels import special
from nnlib.kernels.group_reduction import (
    MAXIMUM,
    SUM,
    WARPS,
    group_reduce,
    row_place,
)
from nnlib.kernels.machinery import CudaKernel, cuda, cuda_kernel
from nnlib.kernels.machinery.groups import Rows, access, kernel_variant, width_of

__all__ = ["backward", "forward"]

# Threads of a block that shares a long row, and their logarithm.
THREADS = 256
SHIFT = 8


@functools.cache
def _forward_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def softmax_forward(
        x: Any, y: Any, rows: Any, count: Any, shift: Any, logarithm: Any
    ) -> None:
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        kind = x.dtype.type
        lane, row, base = row_place(shift, rows, count)
        load(values, x, base, lane, shift, count, kind(-special.INFINITY))
        top = values[0]
        for e in range(1, size):
            top = special.maximum(top, values[e])
        top = group_reduce(MAXIMUM, shared, top, shift)
        total = kind(0)
        for e in range(size):
            power = special.exp(values[e] - top)
            total += power
            values[e] = values[e] - top if logarithm else power
        total = group_reduce(SUM, shared, total, shift)
        if logarithm:
            norm = special.log(total)
            for e in range(size):
                values[e] -= norm
        else:
            scale = kind(1) / total
            for e in range(size):
                values[e] *= scale
        if row < rows:
            store(y, base, values, lane, shift, count)

    return kernel_variant(softmax_forward, width, held)


@functools.cache
def _backward_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def softmax_backward(
        g: Any, y: Any, out: Any, rows: Any, count: Any, shift: Any, logarithm: Any
    ) -> None:
        shared = cuda.shared.array(WARPS, y.dtype)
        values = cuda.local.array(size, y.dtype)
        slopes = cuda.local.array(size, y.dtype)
        kind = y.dtype.type
        lane, row, base = row_place(shift, rows, count)
        load(slopes, g, base, lane, shift, count, kind(0))
        load(values, y, base, lane, shift, count, kind(0))
        total = kind(0)
        for e in range(size):
            total += slopes[e] if logarithm else slopes[e] * values[e]
        total = group_reduce(SUM, shared, total, shift)
        for e in range(size):
            if logarithm:
                slopes[e] -= special.exp(values[e]) * total
            else:
                slopes[e] = values[e] * (slopes[e] - total)
        if row < rows:
            store(out, base, slopes, lane, shift, count)

    return kernel_variant(softmax_backward, width, held)


@cuda_kernel(threads=THREADS)
def softmax_forward_cuda(x: Any, y: Any, count: Any, logarithm: Any) -> None:
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    kind = x.dtype.type
    low = cuda.blockIdx.x * count
    first = low + cuda.threadIdx.x
    high = low + count
    top = kind(-special.INFINITY)
    for j in range(first, high, THREADS):
        top = special.maximum(top, x[j])
    top = group_reduce(MAXIMUM, shared, top, SHIFT)
    total = kind(0)
    for j in range(first, high, THREADS):
        total += special.exp(x[j] - top)
    total = group_reduce(SUM, shared, total, SHIFT)
    norm = special.log(total)
    scale = kind(1) / total
    for j in range(first, high, THREADS):
        value = x[j] - top
        y[j] = value - norm if logarithm else special.exp(value) * scale


@cuda_kernel(threads=THREADS)
def softmax_backward_cuda(g: Any, y: Any, out: Any, count: Any, logarithm: Any) -> None:
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=y.dtype)
    kind = y.dtype.type
    low = cuda.blockIdx.x * count
    first = low + cuda.threadIdx.x
    high = low + count
    total = kind(0)
    for j in range(first, high, THREADS):
        total += g[j] if logarithm else g[j] * y[j]
    total = group_reduce(SUM, shared, total, SHIFT)
    for j in range(first, high, THREADS):
        if logarithm:
            out[j] = g[j] - special.exp(y[j]) * total
        else:
            out[j] = y[j] * (g[j] - total)


def forward(x: Any, y: Any, logarithm: int) -> None:
    """Write the softmax, or its logarithm, of the rows of a C-contiguous matrix."""
    rows, count = x.shape
    plan = Rows.of(count, width_of(x.itemsize, count, x, y))
    if plan is None:
        softmax_forward_cuda(x, y, count, logarithm, blocks=rows, flat=True)
        return
    _forward_kernel(plan.width, plan.held)(
        x, y, rows, count, plan.shift, logarithm,
        blocks=plan.blocks(rows), threads=plan.threads, flat=True,
    )  # fmt: skip


def backward(g: Any, y: Any, out: Any, logarithm: int) -> None:
    """Write the gradient of the input, from that of the output and the output."""
    rows, count = y.shape
    plan = Rows.of(count, width_of(y.itemsize, count, g, y, out), 4)
    if plan is None:
        softmax_backward_cuda(g, y, out, count, logarithm, blocks=rows, flat=True)
        return
    _backward_kernel(plan.width, plan.held)(
        g, y, out, rows, count, plan.shift, logarithm,
        blocks=plan.blocks(rows), threads=plan.threads, flat=True,
    )  # fmt: skip
