"""RNN on CUDA with the product inside the step, forward and backward.

The formulas are at the head of `nnlib.kernels.rnn`, the way of working at that of
`nnlib.kernels.persistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels.machinery import cuda, cuda_kernel
from nnlib.kernels.persistent import (
    COLUMNS,
    DEPTH,
    HELD,
    LANES,
    PARTIALS,
    ROWS,
    arrive,
    hand_out,
    hold,
    partial_sum,
    place_of_thread,
    plan,
    products,
    run,
    wait,
    worth,
)
from nnlib.kernels.recurrent import Steps, step_rows
from nnlib.kernels.rnn import (
    relu_cell,
    relu_cell_gradient,
    tanh_cell,
    tanh_gradient,
)

__all__ = ["backward", "forward"]


@cuda_kernel(threads=256)
def forward_all_cuda(
    weight: Any, x: Any, h: Any, out: Any, rectified: Any, hidden: Any, offsets: Any,
    reverse: Any, units: Any, groups: Any, exchange: Any, counters: Any, slots: Any,
    slot: Any, since: Any, until: Any, fresh: Any,
) -> None:  # fmt: skip
    """Run some steps; a thread makes the sums of `LANES` units."""
    partial = cuda.shared.array(PARTIALS, dtype=weight.dtype)
    w = cuda.local.array(HELD, dtype=weight.dtype)
    kind = weight.dtype.type
    batch = h.size // hidden
    depth = exchange.size // (2 * batch)
    steps = offsets.size - 1
    group, part, parts, s, u = place_of_thread(units, groups)
    threads = cuda.blockDim.x
    start = s * DEPTH
    begin = part * LANES * units
    if until > since:
        hold(w, weight, begin + u, units, hidden, start, hidden, hidden, 1)
    end = depth if part == parts - 1 else min(depth, begin + LANES * units)
    if fresh:
        hand_out(exchange, h, hidden, depth, group, groups, begin, end)
    # Of the sums, the thread adds up those of row `own` and of this column.
    own = cuda.threadIdx.x // (LANES * units)
    column = cuda.threadIdx.x - own * LANES * units
    of_partial = LANES * own * threads
    of_partial += column // units * threads + column % units
    column += begin
    waiting = until - since > 1
    if waiting:
        arrive(counters, group)
    target = parts
    near = np.uint64(units)
    slices = threads // units
    for step in range(since, until):
        t = steps - 1 - step if reverse else step
        count = step_rows(offsets, t, group, groups)
        for first in range(0, count, ROWS):
            i = first + own
            owner = own < ROWS and i < count and column < hidden
            b = group + i * groups
            place = np.uint64((offsets[np.uint64(t)] + b) * hidden + column)
            value = kind(0)
            if owner:
                value = x[place]
            if first == 0 and waiting:
                wait(counters, group, target, slots, slot)
            half = (step & 1) * batch
            products(
                exchange, half, w, partial, first, count, group, groups, start, depth
            )
            cuda.syncthreads()
            if owner:
                total = partial_sum(partial, np.uint64(of_partial), near, slices)
                if rectified:
                    value, _ = relu_cell(value, total)
                else:
                    value, _ = tanh_cell(value, total)
                h[np.uint64(b * hidden + column)] = value
                out[place] = value
                to = (((step + 1) & 1) * batch + b) * depth + column
                exchange[np.uint64(to)] = value
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts


@cuda_kernel(threads=256)
def backward_all_cuda(
    weight: Any, hs: Any, dy: Any, dh: Any, grads: Any, rectified: Any, hidden: Any,
    offsets: Any, reverse: Any, units: Any, groups: Any, exchange: Any, counters: Any,
    slots: Any, slot: Any, since: Any, until: Any, fresh: Any,
) -> None:  # fmt: skip
    """Run some steps, the last first; a thread makes the sums of `LANES` units."""
    partial = cuda.shared.array(PARTIALS, dtype=weight.dtype)
    w = cuda.local.array(HELD, dtype=weight.dtype)
    kind = weight.dtype.type
    batch = dh.size // hidden
    depth = exchange.size // (2 * batch)
    steps = offsets.size - 1
    group, part, parts, s, u = place_of_thread(units, groups)
    threads = cuda.blockDim.x
    start = s * DEPTH
    begin = part * LANES * units
    hold(w, weight, begin + u, units, hidden, start, hidden, 1, hidden)
    if fresh and part == 0:
        hand_out(exchange, dh, 0, depth, group, groups, hidden, depth)
    own = cuda.threadIdx.x // (LANES * units)
    column = cuda.threadIdx.x - own * LANES * units
    of_partial = LANES * own * threads
    of_partial += column // units * threads + column % units
    column += begin
    waiting = until - since > 1
    target = 0
    before = 0
    if since > 0:
        t = since - 1 if reverse else steps - since
        before = step_rows(offsets, t, group, groups)
    near = np.uint64(units)
    slices = threads // units
    for step in range(since, until):
        t = step if reverse else steps - 1 - step
        count = 0
        if step < steps:
            count = step_rows(offsets, t, group, groups)
        for first in range(0, max(count, before), ROWS):
            i = first + own
            b = group + i * groups
            owner = own < ROWS and column < hidden
            now = owner and i < count
            earlier = owner and i < before
            value, slope, ds = kind(0), kind(0), kind(0)
            place = np.uint64(0)
            of_state = np.uint64(b * hidden + column)
            if now:
                place = np.uint64((offsets[np.uint64(t)] + b) * hidden + column)
                value = hs[place]
                slope = dy[place]
                if not earlier:
                    ds = dh[of_state]
            if first == 0 and before > 0 and waiting:
                wait(counters, group, target, slots, slot)
            half = (step & 1) * batch
            products(
                exchange, half, w, partial, first, before, group, groups, start, depth
            )
            cuda.syncthreads()
            if earlier:
                ds = partial_sum(partial, np.uint64(of_partial), near, slices)
                if not now:
                    dh[of_state] = ds
            if now:
                if rectified:
                    ds = relu_cell_gradient(value, slope, ds)
                else:
                    ds = tanh_gradient(value, slope, ds)
                grads[place] = ds
                to = (((step + 1) & 1) * batch + b) * depth + column
                exchange[np.uint64(to)] = ds
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts
        before = count


def forward(
    x: Any, weight: Any, h: Any, out: Any, steps: Steps, reverse: bool, rectified: bool,
    plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way forward of `nnlib.kernels.rnn`; `plain` does it step by step.

    The last states are written over `h`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, -(-hidden // LANES), hidden, COLUMNS)
    options = (rectified, hidden)
    run(
        forward_all_cuda, layout, (weight, x, h, out), options, steps, reverse, 2, plain
    )


def backward(
    hs: Any, weight: Any, dy: Any, dh: Any, grads: Any, steps: Steps, reverse: bool,
    rectified: bool, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way back of `nnlib.kernels.rnn`; `plain` does it step by step.

    The gradient of the state before is written over `dh`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, -(-hidden // LANES), hidden, COLUMNS)
    given, options = (weight, hs, dy, dh, grads), (rectified, hidden)
    run(backward_all_cuda, layout, given, options, steps, reverse, 2, plain)
