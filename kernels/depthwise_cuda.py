"""A filter per channel on CUDA: four channels of an output per thread.

The geometry comes from the tables of `nnlib.kernels.plan_table` and
`nnlib.kernels.implicit_grad_cuda`. In the gradient by the weights a block takes one
tap of 32 channels over some of the outputs, and a second launch adds up the parts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.implicit_cuda import start_row, take, take_quad
from nnlib.kernels.implicit_grad_cuda import (
    column_of,
    grad_table,
    next_row,
    place_in,
    split_row,
    three,
)
from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.machinery.cuda_vectors import store4
from nnlib.kernels.plan_table import (
    FIRST_PHASE,
    PHASE,
    number,
    phase_of,
    place_of,
    row_state,
    table_for,
)

__all__ = [
    "depthwise_cuda",
    "depthwise_grad_cuda",
    "depthwise_grad_table",
    "depthwise_table",
]

_THREADS = 256
# In the gradient: channels of a block, and threads that share one.
_LANES, _SHARES = 32, 8
_ADDERS = _LANES * _SHARES


@body
def take_left(x: Any, place: Any, pitch: Any, left: Any, inside: Any) -> Any:
    """Return four channels, of which `left` exist, or zeros."""
    # In 64 bits, which the simulator's numbers do not overflow.
    at, step = np.uint64(place), np.uint64(pitch)
    return (
        take(x, place, inside),
        take(x, np.uint32(at + step), inside and left > 1),
        take(x, np.uint32(at + np.uint64(2) * step), inside and left > 2),
        take(x, np.uint32(at + np.uint64(3) * step), inside and left > 3),
    )


@cuda_kernel(threads=_THREADS)
def depthwise_cuda(
    x: Any, weight: Any, bias: Any, y: Any, table: Any, quads: Any, wide: Any
) -> None:
    """Write the outputs of the plans of a table."""
    p, block = phase_of(table, cuda.blockIdx.x)
    item = np.uint32(np.uint32(block) * np.uint32(_THREADS) + cuda.threadIdx.x)
    m = np.uint32(item // np.uint32(quads))
    c = np.uint32(np.uint32(item - m * np.uint32(quads)) * np.uint32(4))
    if m < np.uint32(number(table, p + 1)):
        base, mask = row_state(table, p, np.int32(m), np.int32(0))
        channels = np.int32(number(table, 19))
        left = np.int32(channels - c)
        pitch = np.uint32(number(table, 8))
        count = np.uint32(number(table, p + 21))
        listed = np.uint32(number(table, p + 22))
        each = np.uint32(number(table, 17))
        b0, b1, b2, b3 = start_row(bias, c, channels)
        t = np.uint32(0)
        while t < count:
            inside = (mask >> np.uint64(t)) & np.uint64(1) != np.uint64(0)
            place = np.uint32(base + number(table, listed + t) + c * pitch)
            if wide:
                v0, v1, v2, v3 = take_quad(x, place, inside)
            else:
                v0, v1, v2, v3 = take_left(x, place, pitch, left, inside)
            at = np.uint32(c * each + number(table, listed + count + t))
            w0, w1, w2, w3 = take_left(weight, at, each, left, True)
            b0 += v0 * w0
            b1 += v1 * w1
            b2 += v2 * w2
            b3 += v3 * w3
            t = np.uint32(t + np.uint32(1))
        to = np.uint32(place_of(table, p, np.int32(m)) + c)
        if wide:
            store4(y, np.uint64(to), b0, b1, b2, b3)
        else:
            y[to] = b0
            if left > 1:
                y[np.uint32(to + np.uint32(1))] = b1
            if left > 2:
                y[np.uint32(to + np.uint32(2))] = b2
            if left > 3:
                y[np.uint32(to + np.uint32(3))] = b3


@cuda_kernel(threads=_ADDERS)
def depthwise_grad_cuda(x: Any, g: Any, parts: Any, table: Any, taps: Any) -> None:
    """Write the parts of the gradient by the weights: (parts, C, taps)."""
    shared = cuda.shared.array(_ADDERS, dtype=x.dtype)
    tid = np.int32(cuda.threadIdx.x)
    share = np.int32(tid // _LANES)
    lane = np.int32(tid - share * _LANES)
    channels = np.int32(table[33])
    tiles = np.uint32(np.uint32(channels + _LANES - 1) // np.uint32(_LANES))
    block = np.uint32(cuda.blockIdx.x)
    rest = np.uint32(block // tiles)
    c = np.int32(np.uint32(block - rest * tiles) * np.uint32(_LANES) + lane)
    part = np.uint32(rest // np.uint32(taps))
    t = np.int32(rest - part * np.uint32(taps))
    total = x.dtype.type(0)
    if c < channels:
        column = column_of(table, t, c)
        grid, stride, image = three(table, 1), three(table, 8), three(table, 20)
        steps_x = (
            np.int32(table[23]), np.int32(table[24]), np.int32(table[25]),
            np.int32(table[26]),
        )  # fmt: skip
        step = (
            np.int32(table[4]), np.int32(table[5]), np.int32(table[6]),
            np.int32(table[7]),
        )  # fmt: skip
        m = np.int32(part * np.uint32(table[34]) + share)
        end = np.int32(min(part * np.uint32(table[34]) + table[34], table[0]))
        row = split_row(table, m)
        while m < end:
            place, inside = place_in(row, column, stride, image, steps_x)
            total += take(x, place, inside) * g[np.uint32(m * channels + c)]
            row = next_row(row[0], row[1], row[2], row[3], grid, step)
            m = np.int32(m + _SHARES)
    shared[tid] = total
    cuda.syncthreads()
    if share == 0 and c < channels:
        for s in range(1, _SHARES):
            total += shared[s * _LANES + lane]
        parts[np.uint32((part * np.uint32(channels) + c) * taps + t)] = total


def depthwise_table(
    plans: tuple[Plan, ...], x: Any, y: Any, weight: tuple[int, ...], transposed: bool
) -> tuple[Any, int]:
    """Return the table of a call and the number of blocks; see `table_for`."""
    channels = y.shape[4]
    quads = (channels + 3) // 4
    table, _ = table_for(plans, x, y, weight, channels, transposed, (1, 1))
    table[19] = channels
    first = 0
    for i, plan in enumerate(plans):
        table[FIRST_PHASE + PHASE * i] = first
        first += math.ceil(x.shape[0] * math.prod(plan.grid) * quads / _THREADS)
    return table, first


def depthwise_grad_table(plan: Plan, x: Any) -> tuple[Any, int, int]:
    """Return the table of a call, the number of blocks, and that of parts."""
    channels = x.shape[4]
    table, _, _ = grad_table(plan, x, channels, channels, (1, 1))
    outputs = int(table[0])
    tiles = math.prod(plan.taps) * ((channels + _LANES - 1) // _LANES)
    parts = max(1, min(2112 // tiles, outputs // 64))
    table[34] = math.ceil(outputs / parts)
    parts = math.ceil(outputs / int(table[34]))
    return table, tiles * parts, parts
