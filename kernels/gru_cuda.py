"""GRU on CUDA with the product inside the step, forward and backward.

The formulas are at the head of `nnlib.kernels.gru`, the way of working at that of
`nnlib.kernels.persistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels.gru import cell, cell_gradient
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
from nnlib.kernels.recurrent import Steps, row_before, step_rows

__all__ = ["backward", "forward"]


@cuda_kernel(threads=256)
def forward_all_cuda(
    weight: Any, bias: Any, gates: Any, h: Any, ms: Any, out: Any, hidden: Any,
    offsets: Any, reverse: Any, units: Any, groups: Any, exchange: Any, counters: Any,
    slots: Any, slot: Any, since: Any, until: Any, fresh: Any,
) -> None:  # fmt: skip
    """Run some steps; a thread makes the three sums of one unit."""
    partial = cuda.shared.array(PARTIALS, dtype=weight.dtype)
    w = cuda.local.array(HELD, dtype=weight.dtype)
    kind = weight.dtype.type
    batch = h.size // hidden
    depth = exchange.size // (2 * batch)
    steps = offsets.size - 1
    group, part, parts, s, u = place_of_thread(units, groups)
    threads = cuda.blockDim.x
    unit = part * units + u
    start = s * DEPTH
    limit = 3 * hidden if unit < hidden else 0
    if until > since:
        hold(w, weight, unit, hidden, limit, start, hidden, hidden, 1)
    begin = part * units
    end = depth if part == parts - 1 else min(depth, begin + units)
    if fresh:
        hand_out(exchange, h, hidden, depth, group, groups, begin, end)
    waiting = until - since > 1
    if waiting:
        arrive(counters, group)
    target = parts
    line = np.uint64(hidden)
    wide = np.uint64(threads)
    near = np.uint64(units)
    slices = threads // units
    constant = bias[np.uint64(unit)] if unit < hidden else kind(0)
    for step in range(since, until):
        t = steps - 1 - step if reverse else step
        count = step_rows(offsets, t, group, groups)
        for first in range(0, count, ROWS):
            i = first + s
            owner = s < ROWS and i < count and unit < hidden
            b = group + i * groups
            row = offsets[np.uint64(t)] + b
            xr, xz, xn, state = kind(0), kind(0), kind(0), kind(0)
            place = np.uint64(row * 3 * hidden + unit)
            of_state = np.uint64(b * hidden + unit)
            if owner:
                xr = gates[place]
                xz = gates[place + line]
                xn = gates[place + line + line]
                state = h[of_state]
            if first == 0 and waiting:
                wait(counters, group, target, slots, slot)
            half = (step & 1) * batch
            products(
                exchange, half, w, partial, first, count, group, groups, start, depth
            )
            cuda.syncthreads()
            if owner:
                at = np.uint64(LANES * s * threads + u)
                sr = partial_sum(partial, at, near, slices)
                at += wide
                sz = partial_sum(partial, at, near, slices)
                at += wide
                sn = partial_sum(partial, at, near, slices)
                xr, xz, xn, m, state, _ = cell(xr, xz, xn, sr, sz, sn, constant, state)
                gates[place] = xr
                gates[place + line] = xz
                gates[place + line + line] = xn
                h[of_state] = state
                of_row = np.uint64(row * hidden + unit)
                ms[of_row] = m
                out[of_row] = state
                to = (((step + 1) & 1) * batch + b) * depth + unit
                exchange[np.uint64(to)] = state
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts


@cuda_kernel(threads=256)
def backward_all_cuda(
    weight: Any, gates: Any, ms: Any, hs: Any, h: Any, dy: Any, dh: Any, grads: Any,
    hidden: Any, offsets: Any, reverse: Any, units: Any, groups: Any, exchange: Any,
    counters: Any, slots: Any, slot: Any, since: Any, until: Any, fresh: Any,
) -> None:  # fmt: skip
    """Run some steps, the last first; a thread makes the sums of `LANES` units."""
    partial = cuda.shared.array(PARTIALS, dtype=weight.dtype)
    w = cuda.local.array(HELD, dtype=weight.dtype)
    kind = weight.dtype.type
    batch = dh.size // hidden
    depth = exchange.size // (2 * batch)
    steps = offsets.size - 1
    group, part, parts, s, u = place_of_thread(units, groups)
    thread = cuda.threadIdx.x
    threads = cuda.blockDim.x
    start = s * DEPTH
    column = part * LANES * units + u
    hold(w, weight, column, units, hidden, start, 3 * hidden, 1, hidden)
    # Of the sums, the thread adds up those of row `own` and of this column.
    own = thread // (LANES * units)
    column = thread - own * LANES * units
    of_partial = LANES * own * threads
    of_partial += column // units * threads + column % units
    column += part * LANES * units
    if fresh and part == 0:
        hand_out(exchange, dh, 0, depth, group, groups, 3 * hidden, depth)
    waiting = until - since > 1
    target = 0
    before = 0
    if since > 0:
        t = since - 1 if reverse else steps - since
        before = step_rows(offsets, t, group, groups)
    line = np.uint64(hidden)
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
            row = 0
            gr, gz, gn, m = kind(0), kind(0), kind(0), kind(0)
            last, slope, ds = kind(0), kind(0), kind(0)
            of_state = np.uint64(b * hidden + column)
            if now or earlier:
                ds = dh[of_state]
            if now:
                row = offsets[np.uint64(t)] + b
                place = np.uint64(row * 3 * hidden + column)
                gr = gates[place]
                gz = gates[place + line]
                gn = gates[place + line + line]
                place = np.uint64(row * hidden + column)
                m = ms[place]
                slope = dy[place]
                known = row_before(offsets, t, b, reverse)
                if known >= 0:
                    last = hs[np.uint64(known * hidden + column)]
                else:
                    last = h[of_state]
            if first == 0 and before > 0 and waiting:
                wait(counters, group, target, slots, slot)
            half = (step & 1) * batch
            products(
                exchange, half, w, partial, first, before, group, groups, start, depth
            )
            cuda.syncthreads()
            if earlier:
                ds += partial_sum(partial, np.uint64(of_partial), near, slices)
            if now:
                gn, gr, gz, m, ds = cell_gradient(gr, gz, gn, m, last, slope, ds)
                place = np.uint64(row * 4 * hidden + column)
                grads[place] = gn
                grads[place + line] = gr
                grads[place + line + line] = gz
                grads[place + line + line + line] = m
                to = np.uint64((((step + 1) & 1) * batch + b) * depth + column)
                exchange[to] = gr
                exchange[to + line] = gz
                exchange[to + line + line] = m
            if now or earlier:
                dh[of_state] = ds
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts
        before = count


def forward(
    gates: Any, weight: Any, bias: Any, h: Any, ms: Any, out: Any, steps: Steps,
    reverse: bool, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way forward of `nnlib.kernels.gru`; `plain` does it step by step.

    The gates are written over their sums, the last states over `h`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, hidden, hidden, ROWS)
    given = (weight, bias, gates, h, ms, out)
    run(forward_all_cuda, layout, given, (hidden,), steps, reverse, 4, plain)


def backward(
    gates: Any, weight: Any, ms: Any, hs: Any, h: Any, dy: Any, dh: Any, grads: Any,
    steps: Steps, reverse: bool, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way back of `nnlib.kernels.gru`; `plain` does it step by step.

    The gradient of the states before is written over `dh`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, -(-hidden // LANES), 3 * hidden, COLUMNS)
    given = (weight, gates, ms, hs, h, dy, dh, grads)
    run(backward_all_cuda, layout, given, (hidden,), steps, reverse, 2, plain)
