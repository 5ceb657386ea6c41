"""The CUDA loops of `nnlib.kernels.reduction`."""

from __future__ import annotations

import functools
from typing import Any

from nnlib.kernels.group_reduction import (
    SQUARES,
    SUM,
    WARPS,
    combine,
    entering,
    group_reduce,
    row_place,
    start,
)
from nnlib.kernels.machinery import CudaKernel, array_module, cuda, cuda_kernel
from nnlib.kernels.machinery.groups import (
    Rows,
    access,
    kernel_variant,
    move_vector,
    width_of,
)

__all__ = ["all_of", "rows_of"]

# Threads of a block, and their logarithm.
THREADS = 256
SHIFT = 8
# Vectors that a thread asks for before it adds the first up.
AHEAD = 4
# The most partial results of a first round.
PARTS = 1024


@functools.cache
def _all_kernel(operation: int, width: int) -> CudaKernel:
    held = AHEAD * width

    def reduce_all(x: Any, size: Any, step: Any, out: Any, scale: Any) -> None:
        # A block's elements are neighbours; one result per block.
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(held, x.dtype)
        kind = x.dtype.type
        thread = cuda.threadIdx.x
        low = cuda.blockIdx.x * step
        high = min(low + step, size)
        none = start(operation, kind(0))
        total = none
        other = none
        j = low + thread * width
        stride = cuda.blockDim.x * width
        last = high - width
        while j + (AHEAD - 1) * stride <= last:
            for u in range(AHEAD):
                move_vector(values, u * width, x, j + u * stride, width)
            for e in range(0, held, 2):
                total = combine(operation, total, entering(operation, values[e]))
                other = combine(operation, other, entering(operation, values[e + 1]))
            j += AHEAD * stride
        while j <= last:
            move_vector(values, 0, x, j, width)
            for e in range(width):
                total = combine(operation, total, entering(operation, values[e]))
            j += stride
        # What does not fill a vector.
        if width > 1 and j < high:
            for e in range(width):
                if j + e < high:
                    total = combine(operation, total, entering(operation, x[j + e]))
        total = combine(operation, total, other)
        total = group_reduce(operation, shared, total, SHIFT)
        if thread == 0:
            out[cuda.blockIdx.x] = total * scale

    return kernel_variant(reduce_all, operation, width)


@functools.cache
def _rows_kernel(operation: int, width: int, held: int) -> CudaKernel:
    load, _ = access(width, held)
    size = width * held

    def reduce_rows(
        x: Any, rows: Any, count: Any, shift: Any, out: Any, scale: Any
    ) -> None:
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        lane, row, base = row_place(shift, rows, count)
        none = start(operation, scale)
        load(values, x, base, lane, shift, count, none)
        total = none
        for e in range(size):
            total = combine(operation, total, entering(operation, values[e]))
        total = group_reduce(operation, shared, total, shift)
        if lane == 0 and row < rows:
            out[row] = total * scale

    return kernel_variant(reduce_rows, operation, width, held)


@cuda_kernel(threads=THREADS)
def reduce_rows_cuda(operation: Any, x: Any, count: Any, out: Any, scale: Any) -> None:
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    thread = cuda.threadIdx.x
    low = cuda.blockIdx.x * count
    total = start(operation, scale)
    for j in range(low + thread, low + count, THREADS):
        total = combine(operation, total, entering(operation, x[j]))
    total = group_reduce(operation, shared, total, SHIFT)
    if thread == 0:
        out[cuda.blockIdx.x] = total * scale


def all_of(operation: int, x: Any, out: Any, scale: Any) -> None:
    """Reduce a flat array, not empty, to the one element of `out`."""
    kind = type(scale)
    # Vectors begin at multiples of their width; what is left over is read singly.
    width = width_of(x.itemsize, 0, x)
    kernel = _all_kernel(operation, width)
    turn = THREADS * width * AHEAD
    # The number of partial results depends on the size alone: equal bits on every GPU.
    step = -(-x.size // PARTS)
    step = max(1, -(-step // turn)) * turn
    blocks = -(-x.size // step)
    if blocks == 1:
        kernel(x, x.size, step, out, scale, blocks=1, threads=THREADS)
        return
    partial = array_module(x).empty(blocks, x.dtype)
    kernel(x, x.size, step, partial, kind(1), blocks=blocks, threads=THREADS)
    second = SUM if operation == SQUARES else operation
    kernel = _all_kernel(second, width_of(x.itemsize, 0, partial))
    kernel(partial, blocks, blocks, out, scale, blocks=1, threads=THREADS)


def rows_of(operation: int, x: Any, out: Any, scale: Any) -> None:
    """Reduce each row of a C-contiguous matrix to an element of `out`."""
    rows, count = x.shape
    plan = Rows.of(count, width_of(x.itemsize, count, x))
    if plan is None:
        reduce_rows_cuda(operation, x, count, out, scale, blocks=rows, flat=True)
        return
    _rows_kernel(operation, plan.width, plan.held)(
        x, rows, count, plan.shift, out, scale,
        blocks=plan.blocks(rows), threads=plan.threads, flat=True,
    )  # fmt: skip
