"""LSTM on CUDA with the product inside the step, forward and backward.

The formulas are at the head of `nnlib.kernels.lstm`, the way of working at that of
`nnlib.kernels.persistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels.lstm import cell, cell_gradient
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
    weight: Any, gates: Any, h: Any, c: Any, cs: Any, out: Any, hidden: Any,
    offsets: Any, reverse: Any, units: Any, groups: Any, exchange: Any, counters: Any,
    slots: Any, slot: Any, since: Any, until: Any, fresh: Any,
) -> None:  # fmt: skip
    """Run some steps; a thread makes the four sums of one unit."""
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
    limit = 4 * hidden if unit < hidden else 0
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
    for step in range(since, until):
        t = steps - 1 - step if reverse else step
        count = step_rows(offsets, t, group, groups)
        for first in range(0, count, ROWS):
            i = first + s
            owner = s < ROWS and i < count and unit < hidden
            b = group + i * groups
            row = offsets[np.uint64(t)] + b
            xi, xf, xg, xo, state = kind(0), kind(0), kind(0), kind(0), kind(0)
            place = np.uint64(row * 4 * hidden + unit)
            of_state = np.uint64(b * hidden + unit)
            if owner:
                xi = gates[place]
                xf = gates[place + line]
                xg = gates[place + line + line]
                xo = gates[place + line + line + line]
                state = c[of_state]
            if first == 0 and waiting:
                wait(counters, group, target, slots, slot)
            half = (step & 1) * batch
            products(
                exchange, half, w, partial, first, count, group, groups, start, depth
            )
            cuda.syncthreads()
            if owner:
                at = np.uint64(LANES * s * threads + u)
                si = partial_sum(partial, at, near, slices)
                at += wide
                sf = partial_sum(partial, at, near, slices)
                at += wide
                sg = partial_sum(partial, at, near, slices)
                at += wide
                so = partial_sum(partial, at, near, slices)
                xi, xf, xg, xo, state, _, value, _ = cell(
                    xi, xf, xg, xo, si, sf, sg, so, state
                )
                gates[place] = xi
                gates[place + line] = xf
                gates[place + line + line] = xg
                gates[place + line + line + line] = xo
                c[of_state] = state
                h[of_state] = value
                of_row = np.uint64(row * hidden + unit)
                cs[of_row] = state
                out[of_row] = value
                to = (((step + 1) & 1) * batch + b) * depth + unit
                exchange[np.uint64(to)] = value
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts


@cuda_kernel(threads=256)
def backward_all_cuda(
    weight: Any, gates: Any, cs: Any, c: Any, dy: Any, dh: Any, dc: Any, grads: Any,
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
    hold(w, weight, column, units, hidden, start, 4 * hidden, 1, hidden)
    # Of the sums, the thread adds up those of row `own` and of this column.
    own = thread // (LANES * units)
    column = thread - own * LANES * units
    of_partial = LANES * own * threads
    of_partial += column // units * threads + column % units
    column += part * LANES * units
    if fresh and part == 0:
        hand_out(exchange, dh, 0, depth, group, groups, 4 * hidden, depth)
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
            gi, gf, gg, go, state = kind(0), kind(0), kind(0), kind(0), kind(0)
            last, slope, ds, dd = kind(0), kind(0), kind(0), kind(0)
            of_state = np.uint64(b * hidden + column)
            if now:
                row = offsets[np.uint64(t)] + b
                place = np.uint64(row * 4 * hidden + column)
                gi = gates[place]
                gf = gates[place + line]
                gg = gates[place + line + line]
                go = gates[place + line + line + line]
                place = np.uint64(row * hidden + column)
                state = cs[place]
                slope = dy[place]
                dd = dc[of_state]
                known = row_before(offsets, t, b, reverse)
                if known >= 0:
                    last = cs[np.uint64(known * hidden + column)]
                else:
                    last = c[of_state]
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
                gi, gf, gg, go, dd = cell_gradient(
                    gi, gf, gg, go, state, last, slope, ds, dd
                )
                place = np.uint64(row * 4 * hidden + column)
                grads[place] = gi
                grads[place + line] = gf
                grads[place + line + line] = gg
                grads[place + line + line + line] = go
                dc[of_state] = dd
                to = np.uint64((((step + 1) & 1) * batch + b) * depth + column)
                exchange[to] = gi
                exchange[to + line] = gf
                exchange[to + line + line] = gg
                exchange[to + line + line + line] = go
            cuda.syncthreads()
        if count > 0 and waiting:
            arrive(counters, group)
            target += parts
        before = count


def forward(
    gates: Any, weight: Any, h: Any, c: Any, cs: Any, out: Any, steps: Steps,
    reverse: bool, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way forward of `nnlib.kernels.lstm`; `plain` does it step by step.

    The gates are written over their sums, the last states over `h` and `c`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, hidden, hidden, ROWS)
    given = (weight, gates, h, c, cs, out)
    run(forward_all_cuda, layout, given, (hidden,), steps, reverse, 5, plain)


def backward(
    gates: Any, weight: Any, cs: Any, c: Any, dy: Any, dh: Any, dc: Any, grads: Any,
    steps: Steps, reverse: bool, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run the way back of `nnlib.kernels.lstm`; `plain` does it step by step.

    The gradients of the states before are written over `dh` and `dc`.
    """
    hidden = weight.shape[1]
    layout = None
    if worth(weight, steps):
        layout = plan(steps.batch, -(-hidden // LANES), 4 * hidden, COLUMNS)
    given = (weight, gates, cs, c, dy, dh, dc, grads)
    run(backward_all_cuda, layout, given, (hidden,), steps, reverse, 3, plain)
