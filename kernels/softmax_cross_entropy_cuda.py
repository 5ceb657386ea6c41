"""The CUDA loops of `nnlib.kernels.softmax_cross_entropy`.

They differ from the CPU's in kind: there, blocks of rows pass through the cache and
through vector registers; here a group of threads holds each row in registers and adds
up by exchanging them. Rows that are too long for that are gone along several times by
a block. The formulas are at the head of that module.
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
from nnlib.kernels.machinery import CudaKernel, array_module, body, cuda, cuda_kernel
from nnlib.kernels.machinery.groups import Rows, access, kernel_variant, width_of

__all__ = ["backward", "forward"]

# Threads of a block that shares a long row, and their logarithm.
THREADS = 256
SHIFT = 8
# Rows that a block of `add_up_cuda` adds up.
RUN = 1024


@body
def finish_row(
    x: Any, base: Any, count: Any, norm: Any, rest: Any, target: Any, weight: Any,
    ignore_index: Any, smoothing: Any, loss: Any, lse: Any, row: Any, slots: Any,
    slot: Any,
) -> None:  # fmt: skip
    """Write loss and log sum exp of a row."""
    kind = x.dtype.type
    lse[row] = norm
    t = target[row]
    cost = kind(0)
    if t != ignore_index:
        if t < 0 or t >= count:
            cuda.atomic.min(slots, slot, row)
        else:
            cost = norm - x[base + t]
            if weight.size > 0:
                cost *= weight[t]
            cost = (kind(1) - smoothing) * cost + smoothing * rest / kind(count)
    loss[row] = cost


@functools.cache
def _forward_kernel(width: int, held: int) -> CudaKernel:
    load, _ = access(width, held)
    size = width * held

    def cross_entropy_forward(
        x: Any, rows: Any, count: Any, shift: Any, target: Any, weight: Any,
        ignore_index: Any, smoothing: Any, loss: Any, lse: Any, slots: Any, slot: Any,
    ) -> None:  # fmt: skip
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
            total += special.exp(values[e] - top)
        total = group_reduce(SUM, shared, total, shift)
        norm = top + special.log(total)
        rest = kind(0)
        if smoothing != kind(0):
            for k in range(held):
                j = (lane + (k << shift)) * width
                if j < count:
                    for e in range(width):
                        rest += weight[j + e] * (norm - values[k * width + e])
            rest = group_reduce(SUM, shared, rest, shift)
        if lane == 0 and row < rows:
            finish_row(
                x, base, count, norm, rest, target, weight, ignore_index, smoothing,
                loss, lse, row, slots, slot,
            )  # fmt: skip

    return kernel_variant(cross_entropy_forward, width, held)


@cuda_kernel(threads=THREADS)
def forward_cuda(
    x: Any, count: Any, target: Any, weight: Any, ignore_index: Any, smoothing: Any,
    loss: Any, lse: Any, slots: Any, slot: Any,
) -> None:  # fmt: skip
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    kind = x.dtype.type
    row = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    base = row * count
    top = kind(-special.INFINITY)
    for j in range(base + thread, base + count, THREADS):
        top = special.maximum(top, x[j])
    top = group_reduce(MAXIMUM, shared, top, SHIFT)
    total = kind(0)
    for j in range(base + thread, base + count, THREADS):
        total += special.exp(x[j] - top)
    norm = top + special.log(group_reduce(SUM, shared, total, SHIFT))
    rest = kind(0)
    if smoothing != kind(0):
        for j in range(thread, count, THREADS):
            rest += weight[j] * (norm - x[base + j])
        rest = group_reduce(SUM, shared, rest, SHIFT)
    if thread == 0:
        finish_row(
            x, base, count, norm, rest, target, weight, ignore_index, smoothing, loss,
            lse, row, slots, slot,
        )  # fmt: skip


@body
def write_mean(sums: Any) -> None:
    """Write the quotient of the two sums, and what it was divided by."""
    kind = sums.dtype.type
    divisor = sums[1] if sums[1] != kind(0) else kind(1)
    sums[2] = sums[0] / divisor
    sums[3] = divisor


@cuda_kernel(threads=THREADS)
def add_up_cuda(
    target: Any, weight: Any, ignore_index: Any, count: Any, loss: Any, sums: Any
) -> None:
    """Write each block's sums of losses and weights."""
    shared = cuda.shared.array(WARPS, dtype=loss.dtype)
    kind = loss.dtype.type
    thread = cuda.threadIdx.x
    low = cuda.blockIdx.x * RUN
    cost = kind(0)
    counted = kind(0)
    for i in range(low + thread, min(low + RUN, target.size), THREADS):
        t = target[i]
        # What does not count has cost 0.
        cost += loss[i]
        if t != ignore_index and t >= 0 and t < count:
            counted += weight[t] if weight.size > 0 else kind(1)
    cost = group_reduce(SUM, shared, cost, SHIFT)
    counted = group_reduce(SUM, shared, counted, SHIFT)
    if thread == 0:
        sums[2 * cuda.blockIdx.x] = cost
        sums[2 * cuda.blockIdx.x + 1] = counted
        if cuda.gridDim.x == 1:
            write_mean(sums)


@cuda_kernel(threads=THREADS)
def join_up_cuda(parts: Any, sums: Any) -> None:
    """Add the blocks' pairs of sums up: a single block."""
    shared = cuda.shared.array(WARPS, dtype=parts.dtype)
    kind = parts.dtype.type
    thread = cuda.threadIdx.x
    cost = kind(0)
    counted = kind(0)
    for i in range(thread, parts.size // 2, THREADS):
        cost += parts[2 * i]
        counted += parts[2 * i + 1]
    cost = group_reduce(SUM, shared, cost, SHIFT)
    counted = group_reduce(SUM, shared, counted, SHIFT)
    if thread == 0:
        sums[0] = cost
        sums[1] = counted
        write_mean(sums)


@functools.cache
def _backward_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def cross_entropy_backward(
        x: Any, rows: Any, count: Any, shift: Any, target: Any, weight: Any,
        ignore_index: Any, smoothing: Any, lse: Any, factor: Any, grad: Any,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        kind = x.dtype.type
        share = smoothing / kind(count)
        lane, row, base = row_place(shift, rows, count)
        load(values, x, base, lane, shift, count, kind(0))
        weights = kind(0)
        if smoothing != kind(0):
            for j in range(lane, count, 1 << shift):
                weights += weight[j]
            weights = group_reduce(SUM, shared, weights, shift)
        if row >= rows:
            return
        t = target[row]
        g = factor[row] if factor.size > 1 else factor[0]
        norm = lse[row]
        if t == ignore_index or t < 0 or t >= count:
            for e in range(size):
                values[e] = kind(0)
        else:
            own = (kind(1) - smoothing) * g
            if weight.size > 0:
                own *= weight[t]
            scale = own + share * weights * g
            for k in range(held):
                j = (lane + (k << shift)) * width
                for e in range(width):
                    value = special.exp(values[k * width + e] - norm) * scale
                    if j + e == t:
                        value -= own
                    values[k * width + e] = value
                if smoothing != kind(0) and j < count:
                    for e in range(width):
                        values[k * width + e] -= share * g * weight[j + e]
        store(grad, base, values, lane, shift, count)

    return kernel_variant(cross_entropy_backward, width, held)


@cuda_kernel(threads=THREADS)
def backward_cuda(
    x: Any, count: Any, target: Any, weight: Any, ignore_index: Any, smoothing: Any,
    lse: Any, factor: Any, grad: Any,
) -> None:  # fmt: skip
    """Do long rows, a block each."""
    shared = cuda.shared.array(WARPS, dtype=x.dtype)
    kind = x.dtype.type
    share = smoothing / kind(count)
    row = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    base = row * count
    weights = kind(0)
    if smoothing != kind(0):
        for j in range(thread, count, THREADS):
            weights += weight[j]
        weights = group_reduce(SUM, shared, weights, SHIFT)
    t = target[row]
    counts = t != ignore_index and t >= 0 and t < count
    g = factor[row] if factor.size > 1 else factor[0]
    own = (kind(1) - smoothing) * g
    if counts and weight.size > 0:
        own *= weight[t]
    scale = own + share * weights * g
    for j in range(thread, count, THREADS):
        value = kind(0)
        if counts:
            value = special.exp(x[base + j] - lse[row]) * scale
            if smoothing != kind(0):
                value -= share * g * weight[j]
            if j == t:
                value -= own
        grad[base + j] = value


def forward(
    x: Any, target: Any, weight: Any, ignore_index: int, smoothing: Any, loss: Any,
    lse: Any, sums: Any, slots: Any, slot: int,
) -> None:  # fmt: skip
    """Write losses, log sum exp and the two sums of a C-contiguous matrix, not empty.

    The place of a bad target is left in ``slots[slot]``.
    """
    rows, count = x.shape
    rest = (target, weight, ignore_index, smoothing, loss, lse, slots, slot)
    plan = Rows.of(count, width_of(x.itemsize, count, x))
    if plan is None:
        forward_cuda(x, count, *rest, blocks=rows, flat=True)
    else:
        _forward_kernel(plan.width, plan.held)(
            x, rows, count, plan.shift, *rest,
            blocks=plan.blocks(rows), threads=plan.threads, flat=True,
        )  # fmt: skip
    blocks = -(-rows // RUN)
    # A single block finishes the sums.
    parts = sums if blocks == 1 else array_module(x).empty(2 * blocks, x.dtype)
    add_up_cuda(target, weight, ignore_index, count, loss, parts, blocks=blocks)
    if blocks > 1:
        join_up_cuda(parts, sums, blocks=1)


def backward(
    x: Any, target: Any, weight: Any, ignore_index: int, smoothing: Any, lse: Any,
    factor: Any, out: Any,
) -> None:  # fmt: skip
    """Write the gradient of the logits, a C-contiguous matrix, not empty."""
    rows, count = x.shape
    rest = (target, weight, ignore_index, smoothing, lse, factor, out)
    plan = Rows.of(count, width_of(x.itemsize, count, x, out))
    if plan is None:
        backward_cuda(x, count, *rest, blocks=rows, flat=True)
    else:
        _backward_kernel(plan.width, plan.held)(
            x, rows, count, plan.shift, *rest,
            blocks=plan.blocks(rows), threads=plan.threads, flat=True,
        )  # fmt: skip
