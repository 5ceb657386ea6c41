"""The CUDA loops of `softmax_cross_entropy` and `softmax`.

They differ from the CPU's in kind: there, blocks of rows pass through the cache and
through vector registers; here a group of threads shares each row and adds up through
shared memory. The formulas are at the heads of those two.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.reduction import MAXIMUM, SUM, THREADS, combine


@body
def group_total(operation: Any, shared: Any, value: Any, lane: Any, lanes: Any) -> Any:
    """Reduce `value` over the `lanes` threads of a row; every one gets it (CUDA)."""
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if lane < step:
            shared[thread] = combine(operation, shared[thread], shared[thread + step])
        cuda.syncthreads()
        step //= 2
    result = shared[thread - lane]
    # The next reduction must not overwrite what a slower thread has yet to read.
    cuda.syncthreads()
    return result


@cuda_kernel(threads=THREADS)
def forward_cuda(
    x: Any, target: Any, weight: Any, ignore_index: Any, smoothing: Any, loss: Any,
    lse: Any, lanes: Any, slots: Any, slot: Any,
) -> None:  # fmt: skip
    """Write loss and log sum exp of every row; `lanes` threads share one."""
    # Every thread meets every synchronisation, those beyond the last row too.
    shared = cuda.shared.array(THREADS, dtype=x.dtype)
    rows, classes = x.shape
    kind = type(smoothing)
    group = cuda.threadIdx.x // lanes
    lane = cuda.threadIdx.x - group * lanes
    groups = cuda.blockDim.x // lanes
    for base in range(cuda.blockIdx.x * groups, rows, cuda.gridDim.x * groups):
        i = base + group
        inside = i < rows
        top = kind(-special.INFINITY)
        if inside:
            for j in range(lane, classes, lanes):
                top = special.maximum(top, x[i, j])
        top = group_total(MAXIMUM, shared, top, lane, lanes)
        part = kind(0)
        if inside:
            for j in range(lane, classes, lanes):
                part += special.exp(x[i, j] - top)
        norm = top + special.log(group_total(SUM, shared, part, lane, lanes))
        rest = kind(0)
        if smoothing != kind(0):
            part = kind(0)
            if inside:
                for j in range(lane, classes, lanes):
                    part += weight[j] * (norm - x[i, j])
            rest = group_total(SUM, shared, part, lane, lanes) / kind(classes)
        if inside and lane == 0:
            lse[i] = norm
            t = target[i]
            cost = kind(0)
            if t != ignore_index:
                if t < 0 or t >= classes:
                    cuda.atomic.min(slots, slot, i)
                else:
                    cost = norm - x[i, t]
                    if weight.size > 0:
                        cost *= weight[t]
                    cost = (kind(1) - smoothing) * cost + smoothing * rest
            loss[i] = cost


@cuda_kernel(threads=THREADS)
def add_up_cuda(
    target: Any, weight: Any, ignore_index: Any, classes: Any, loss: Any, sums: Any
) -> None:
    """Write the sums of losses and weights: a single block."""
    shared = cuda.shared.array(THREADS, dtype=loss.dtype)
    thread = cuda.threadIdx.x
    cost = sums[0] - sums[0]
    count = cost
    one = type(cost)(1)
    for i in range(thread, target.size, cuda.blockDim.x):
        t = target[i]
        if t != ignore_index and t >= 0 and t < classes:
            cost += loss[i]
            count += weight[t] if weight.size > 0 else one
    cost = group_total(SUM, shared, cost, thread, cuda.blockDim.x)
    count = group_total(SUM, shared, count, thread, cuda.blockDim.x)
    if thread == 0:
        sums[0] = cost
        sums[1] = count


@cuda_kernel(threads=THREADS)
def backward_cuda(
    x: Any, target: Any, weight: Any, ignore_index: Any, smoothing: Any, lse: Any,
    factor: Any, grad: Any, lanes: Any,
) -> None:  # fmt: skip
    """Write the gradient of every row; `lanes` threads share one."""
    shared = cuda.shared.array(THREADS, dtype=x.dtype)
    rows, classes = x.shape
    kind = type(smoothing)
    share = smoothing / kind(classes)
    group = cuda.threadIdx.x // lanes
    lane = cuda.threadIdx.x - group * lanes
    groups = cuda.blockDim.x // lanes
    weights = kind(0)
    if smoothing != kind(0):
        for j in range(lane, classes, lanes):
            weights += weight[j]
        weights = group_total(SUM, shared, weights, lane, lanes)
    for i in range(cuda.blockIdx.x * groups + group, rows, cuda.gridDim.x * groups):
        t = target[i]
        counts = t != ignore_index and t >= 0 and t < classes
        g = factor[i] if factor.size > 1 else factor[0]
        own = (kind(1) - smoothing) * g
        if counts and weight.size > 0:
            own *= weight[t]
        scale = own + share * weights * g
        for j in range(lane, classes, lanes):
            value = kind(0)
            if counts:
                value = special.exp(x[i, j] - lse[i]) * scale
                if smoothing != kind(0):
                    value -= share * g * weight[j]
                if j == t:
                    value -= own
            grad[i, j] = value


@cuda_kernel(threads=THREADS)
def softmax_forward_cuda(x: Any, y: Any, logarithm: Any, lanes: Any, one: Any) -> None:
    """Do all rows; `lanes` threads share one."""
    # Every thread meets every synchronisation, those beyond the last row too.
    shared = cuda.shared.array(THREADS, dtype=x.dtype)
    rows, columns = x.shape
    kind = type(one)
    group = cuda.threadIdx.x // lanes
    lane = cuda.threadIdx.x - group * lanes
    groups = cuda.blockDim.x // lanes
    for base in range(cuda.blockIdx.x * groups, rows, cuda.gridDim.x * groups):
        i = base + group
        inside = i < rows
        top = kind(-special.INFINITY)
        if inside:
            for j in range(lane, columns, lanes):
                top = special.maximum(top, x[i, j])
        top = group_total(MAXIMUM, shared, top, lane, lanes)
        total = kind(0)
        if inside:
            for j in range(lane, columns, lanes):
                total += special.exp(x[i, j] - top)
        total = group_total(SUM, shared, total, lane, lanes)
        if inside:
            norm = special.log(total)
            scale = one / total
            for j in range(lane, columns, lanes):
                value = x[i, j] - top
                y[i, j] = value - norm if logarithm else special.exp(value) * scale


@cuda_kernel(threads=THREADS)
def softmax_backward_cuda(
    g: Any, y: Any, out: Any, logarithm: Any, lanes: Any, one: Any
) -> None:
    """Do all rows; `lanes` threads share one."""
    shared = cuda.shared.array(THREADS, dtype=y.dtype)
    rows, columns = y.shape
    kind = type(one)
    group = cuda.threadIdx.x // lanes
    lane = cuda.threadIdx.x - group * lanes
    groups = cuda.blockDim.x // lanes
    for base in range(cuda.blockIdx.x * groups, rows, cuda.gridDim.x * groups):
        i = base + group
        inside = i < rows
        total = kind(0)
        if inside:
            for j in range(lane, columns, lanes):
                total += g[i, j] if logarithm else g[i, j] * y[i, j]
        total = group_total(SUM, shared, total, lane, lanes)
        if inside:
            for j in range(lane, columns, lanes):
                if logarithm:
                    out[i, j] = g[i, j] - special.exp(y[i, j]) * total
                else:
                    out[i, j] = y[i, j] * (g[i, j] - total)
