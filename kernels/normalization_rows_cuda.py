"""The CUDA loops of `nnlib.kernels.normalization_rows`.

A group of threads holds a row in registers, so that it is read once; rows that are too
long for that are gone along three times by a block. In the backward pass a group goes
through several rows and adds up what the gradients by weight and bias need.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from nnlib.kernels.column_sum_cuda import column_sums
from nnlib.kernels.group_reduction import SUM, WARPS, group_reduce, row_place
from nnlib.kernels.machinery import CudaKernel, array_module, cuda, cuda_kernel
from nnlib.kernels.machinery.groups import (
    Rows,
    access,
    kernel_variant,
    move_vector,
    width_of,
)

__all__ = ["backward", "forward"]

# Threads of a block that shares a long row, and their logarithm.
THREADS = 256
SHIFT = 8
# Threads of the backward pass altogether, and the fewest rows that one goes through.
MOST = 1 << 17
LEAST = 4
# Rows of a block of `row_sums_cuda`.
ROWS = 64


@functools.cache
def _forward_kernel(width: int, held: int) -> CudaKernel:
    load, _ = access(width, held)
    size = width * held

    def rows_forward(
        x: Any, rows: Any, count: Any, shift: Any, weight: Any, bias: Any, centred: Any,
        eps: Any, y: Any, means: Any, scales: Any,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        factor = cuda.local.array(width, x.dtype)
        offset = cuda.local.array(width, x.dtype)
        kind = x.dtype.type
        lane, row, base = row_place(shift, rows, count)
        load(values, x, base, lane, shift, count, kind(0))
        mean = kind(0)
        if centred:
            total = kind(0)
            for e in range(size):
                total += values[e]
            mean = group_reduce(SUM, shared, total, shift) / kind(count)
        total = kind(0)
        rest = kind(0)
        for k in range(held):
            if (lane + (k << shift)) * width < count:
                for e in range(width):
                    d = values[k * width + e] - mean
                    values[k * width + e] = d
                    total += d * d
                    rest += d
        total = group_reduce(SUM, shared, total, shift)
        over = kind(0)
        if centred:
            # What rounding of a large mean has left over.
            rest = group_reduce(SUM, shared, rest, shift)
            over = rest / kind(count)
            total -= rest * over
        scale = kind(1) / kind(math.sqrt(total / kind(count) + eps))
        if row < rows:
            for k in range(held):
                j = (lane + (k << shift)) * width
                if j < count:
                    move_vector(factor, 0, weight, j, width)
                    move_vector(offset, 0, bias, j, width)
                    for e in range(width):
                        d = (values[k * width + e] - over) * scale
                        values[k * width + e] = d * factor[e] + offset[e]
                    move_vector(y, base + j, values, k * width, width)
            if lane == 0:
                means[row] = mean + over
                scales[row] = scale

    return kernel_variant(rows_forward, width, held)


@cuda_kernel(threads=THREADS)
def rows_forward_cuda(
    x: Any, count: Any, weight: Any, bias: Any, centred: Any, eps: Any, y: Any,
    means: Any, scales: Any,
) -> None:  # fmt: skip
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    kind = x.dtype.type
    thread = cuda.threadIdx.x
    row = cuda.blockIdx.x
    base = row * count
    mean = kind(0)
    if centred:
        total = kind(0)
        for j in range(thread, count, THREADS):
            total += x[base + j]
        mean = group_reduce(SUM, shared, total, SHIFT) / kind(count)
    total = kind(0)
    rest = kind(0)
    for j in range(thread, count, THREADS):
        d = x[base + j] - mean
        total += d * d
        rest += d
    total = group_reduce(SUM, shared, total, SHIFT)
    rest = group_reduce(SUM, shared, rest, SHIFT)
    if centred:
        mean += rest / kind(count)
        total -= rest * (rest / kind(count))
    scale = kind(1) / kind(math.sqrt(total / kind(count) + eps))
    for j in range(thread, count, THREADS):
        y[base + j] = (x[base + j] - mean) * scale * weight[j] + bias[j]
    if thread == 0:
        means[row] = mean
        scales[row] = scale


@functools.cache
def _backward_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def rows_backward(
        g: Any, x: Any, rows: Any, count: Any, shift: Any, turns: Any, weight: Any,
        centred: Any, means: Any, scales: Any, dx: Any, first: Any, second: Any,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        slopes = cuda.local.array(size, x.dtype)
        by_weight = cuda.local.array(size, x.dtype)
        by_bias = cuda.local.array(size, x.dtype)
        factor = cuda.local.array(width, x.dtype)
        kind = x.dtype.type
        thread = cuda.threadIdx.x
        lane = thread & ((1 << shift) - 1)
        group = (cuda.blockIdx.x * cuda.blockDim.x + thread) >> shift
        groups = (cuda.gridDim.x * cuda.blockDim.x) >> shift
        for e in range(size):
            by_weight[e] = by_bias[e] = kind(0)
        for turn in range(turns):
            row = group + turn * groups
            inside = row < rows
            place = min(row, rows - 1)
            base = place * count
            load(slopes, g, base, lane, shift, count, kind(0))
            load(values, x, base, lane, shift, count, kind(0))
            mean = means[place]
            scale = scales[place]
            plain = kind(0)
            weighted = kind(0)
            for k in range(held):
                j = (lane + (k << shift)) * width
                if j < count:
                    move_vector(factor, 0, weight, j, width)
                    for e in range(width):
                        d = values[k * width + e] - mean
                        slope = slopes[k * width + e]
                        if inside:
                            by_weight[k * width + e] += slope * (d * scale)
                            by_bias[k * width + e] += slope
                        p = slope * factor[e]
                        plain += p
                        weighted += p * d
                        values[k * width + e] = d
                        slopes[k * width + e] = p
            weighted = group_reduce(SUM, shared, weighted, shift)
            offset = kind(0)
            if centred:
                plain = group_reduce(SUM, shared, plain, shift)
                offset = plain / kind(count) * scale
            slope = weighted / kind(count) * scale * scale * scale
            for e in range(size):
                slopes[e] = scale * slopes[e] - slope * values[e] - offset
            if inside:
                store(dx, base, slopes, lane, shift, count)
        store(first, group * count, by_weight, lane, shift, count)
        store(second, group * count, by_bias, lane, shift, count)

    return kernel_variant(rows_backward, width, held)


@cuda_kernel(threads=THREADS)
def rows_backward_cuda(
    g: Any, x: Any, count: Any, weight: Any, centred: Any, means: Any, scales: Any,
    dx: Any,
) -> None:  # fmt: skip
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    kind = x.dtype.type
    thread = cuda.threadIdx.x
    base = cuda.blockIdx.x * count
    mean = means[cuda.blockIdx.x]
    scale = scales[cuda.blockIdx.x]
    plain = kind(0)
    weighted = kind(0)
    for j in range(thread, count, THREADS):
        p = g[base + j] * weight[j]
        plain += p
        weighted += p * (x[base + j] - mean)
    plain = group_reduce(SUM, shared, plain, SHIFT)
    weighted = group_reduce(SUM, shared, weighted, SHIFT)
    offset = plain / kind(count) * scale if centred else kind(0)
    slope = weighted / kind(count) * scale * scale * scale
    for j in range(thread, count, THREADS):
        d = x[base + j] - mean
        dx[base + j] = scale * (g[base + j] * weight[j]) - slope * d - offset


@cuda_kernel
def row_sums_cuda(
    g: Any, x: Any, rows: Any, count: Any, means: Any, scales: Any, first: Any,
    second: Any,
) -> None:  # fmt: skip
    """Add up, over blocks of long rows, what weight and bias need."""
    kind = x.dtype.type
    for item in range(cuda.grid(1), first.size, cuda.gridsize(1)):
        block = item // count
        j = item - block * count
        a = kind(0)
        b = kind(0)
        for r in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            slope = g[r * count + j]
            a += slope * ((x[r * count + j] - means[r]) * scales[r])
            b += slope
        first[item] = a
        second[item] = b


def forward(
    x: Any, weight: Any, bias: Any, centred: int, eps: Any, y: Any, means: Any,
    scales: Any,
) -> None:  # fmt: skip
    """Write the normalised rows of a matrix, not empty, and their statistics."""
    rows, count = x.shape
    rest = (weight, bias, centred, eps, y, means, scales)
    plan = Rows.of(count, width_of(x.itemsize, count, x, y, weight, bias))
    if plan is None:
        rows_forward_cuda(x, count, *rest, blocks=rows, flat=True)
        return
    _forward_kernel(plan.width, plan.held)(
        x, rows, count, plan.shift, *rest,
        blocks=plan.blocks(rows), threads=plan.threads, flat=True,
    )  # fmt: skip


def backward(
    g: Any, x: Any, weight: Any, centred: int, means: Any, scales: Any, dx: Any,
    sums: Any,
) -> None:  # fmt: skip
    """Write the gradients by a matrix, not empty, and by weight and bias (`sums`)."""
    rows, count = x.shape
    empty = array_module(x).empty
    plan = Rows.of(count, width_of(x.itemsize, count, g, x, weight, dx), 4)
    if plan is None:
        parts = empty((2, -(-rows // ROWS), count), x.dtype)
        first, second = parts.reshape(2, -1)
        # Before dx, which may be written over g.
        row_sums_cuda(
            g, x, rows, count, means, scales, first, second,
            items=first.size, flat=True,
        )  # fmt: skip
        rows_backward_cuda(
            g, x, count, weight, centred, means, scales, dx, blocks=rows, flat=True
        )
    else:
        blocks = plan.blocks(min(-(-rows // LEAST), max(1, MOST >> plan.shift)))
        groups = blocks * plan.threads >> plan.shift
        parts = empty((2, groups, count), x.dtype)
        first, second = parts.reshape(2, -1)
        _backward_kernel(plan.width, plan.held)(
            g, x, rows, count, plan.shift, -(-rows // groups), weight, centred, means,
            scales, dx, first, second, blocks=blocks, threads=plan.threads, flat=True,
        )  # fmt: skip
    column_sums(parts, sums)
