"""The CUDA loops of `nnlib.kernels.attention`.

A block of threads does `ROWS` queries (or, for the gradients of keys and values, `ROWS`
keys) of one head. It goes through the other side by `COLUMNS` at a time: first each
thread makes the scores of one column with all rows, then each thread adds up one
feature of the result, with the weights that the others left in shared memory. Nothing
is added by two threads: the same bits on every run.

Heads of more than `LONGEST` features do not fit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.philox import DROPOUT, unit_single, word_at

__all__ = [
    "COLUMNS",
    "LONGEST",
    "ROWS",
    "keys_cuda",
    "queries_cuda",
    "queries_grad_cuda",
]

# Rows of a block, and its threads: one for each column, and one for each feature.
ROWS = 4
COLUMNS = 128
LONGEST = COLUMNS
_KIND = np.uint64(DROPOUT)
_TILE = ROWS * COLUMNS


@body
def factor_at(position: Any, rate: Any, keep: Any, seed: Any, offset: Any) -> Any:
    """Return the dropout's factor of a score."""
    if rate <= np.float32(0):
        return keep
    word = np.uint32(word_at(seed, _KIND, offset + np.uint64(position)))
    return special.select(unit_single(word) < rate, type(keep)(0), keep)


@body
def product(x: Any, y: Any, b: Any, h: Any, i: Any, g: Any, j: Any, width: Any) -> Any:
    """Return the product of row (b, h, i) of `x` and row (b, g, j) of `y`."""
    total = x.dtype.type(0)
    for e in range(width):
        total += x[b, h, i, e] * y[b, g, j, e]
    return total


@cuda_kernel(threads=COLUMNS)
def queries_cuda(
    q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, out: Any,
    lse: Any,
) -> None:  # fmt: skip
    """Write the result and log sum exp of every query."""
    weights = cuda.shared.array(_TILE, dtype=q.dtype)
    tree = cuda.shared.array(_TILE, dtype=q.dtype)
    totals = cuda.local.array(ROWS, dtype=q.dtype)
    tops = cuda.local.array(ROWS, dtype=q.dtype)
    norms = cuda.local.array(ROWS, dtype=q.dtype)
    kind = q.dtype.type
    lowest = kind(-special.INFINITY)
    heads, length, width = q.shape[1], q.shape[2], q.shape[3]
    keys, features = k.shape[2], v.shape[3]
    group = heads // k.shape[1]
    thread = cuda.threadIdx.x
    blocks = (length + ROWS - 1) // ROWS
    tasks = q.shape[0] * heads * blocks
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        i0 = t % blocks * ROWS
        h = t // blocks % heads
        b = t // blocks // heads
        for r in range(ROWS):
            totals[r] = kind(0)
            norms[r] = kind(0)
            tops[r] = lowest
        for j0 in range(0, keys, COLUMNS):
            j = j0 + thread
            for r in range(ROWS):
                i = i0 + r
                s = lowest
                if i < length and j < keys and not (causal and j > i):
                    s = scale * product(q, k, b, h, i, h // group, j, width)
                    if mask.size > 0:
                        s += mask[b * step_b + h * step_h + i * step_i + j]
                weights[r * COLUMNS + thread] = s
                tree[r * COLUMNS + thread] = s
            half = COLUMNS // 2
            while half > 0:
                cuda.syncthreads()
                if thread < half:
                    for r in range(ROWS):
                        at = r * COLUMNS + thread
                        tree[at] = special.maximum(tree[at], tree[at + half])
                half //= 2
            cuda.syncthreads()
            for r in range(ROWS):
                top = special.maximum(tops[r], tree[r * COLUMNS])
                base = kind(0) if top == lowest else top
                factor = special.exp(tops[r] - base)
                tops[r] = top
                totals[r] *= factor
                norms[r] *= factor
                at = r * COLUMNS + thread
                weights[at] = special.exp(weights[at] - base)
            cuda.syncthreads()
            columns = COLUMNS if j0 + COLUMNS < keys else keys - j0
            for r in range(ROWS):
                for c in range(columns):
                    norms[r] += weights[r * COLUMNS + c]
            if rate > np.float32(0):
                # All threads have added the weights up before they are thinned.
                cuda.syncthreads()
                for r in range(ROWS):
                    line = (b * heads + h) * keys + j
                    weights[r * COLUMNS + thread] *= factor_at(
                        line * length + i0 + r, rate, keep, seed, offset
                    )
                cuda.syncthreads()
            if thread < features:
                for c in range(columns):
                    value = v[b, h // group, j0 + c, thread]
                    for r in range(ROWS):
                        totals[r] += weights[r * COLUMNS + c] * value
            cuda.syncthreads()
        for r in range(ROWS):
            i = i0 + r
            if i < length:
                hidden = norms[r] == kind(0)
                if thread < features:
                    out[b, i, h, thread] = kind(0) if hidden else totals[r] / norms[r]
                if thread == 0:
                    log = kind(special.INFINITY)
                    if not hidden:
                        log = tops[r] + kind(math.log(norms[r]))
                    lse[b, h, i] = log


@body
def weight_at(
    q: Any, k: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any, scale: Any,
    causal: Any, lse: Any, b: Any, h: Any, i: Any, g: Any, j: Any,
) -> Any:  # fmt: skip
    """Return the weight of key j for query i, made again."""
    kind = q.dtype.type
    if i >= q.shape[2] or j >= k.shape[2] or (causal and j > i):
        return kind(0)
    s = scale * product(q, k, b, h, i, g, j, q.shape[3])
    if mask.size > 0:
        s += mask[b * step_b + h * step_h + i * step_i + j]
    return special.exp(s - lse[b, h, i])


@body
def value_product(g: Any, v: Any, b: Any, h: Any, i: Any, n: Any, j: Any) -> Any:
    """Return the product of the gradient of query i and value j."""
    total = g.dtype.type(0)
    if i < g.shape[1] and j < v.shape[2]:
        for e in range(v.shape[3]):
            total += g[b, i, h, e] * v[b, n, j, e]
    return total


@cuda_kernel(threads=COLUMNS)
def queries_grad_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, share: Any,
    lse: Any, dq: Any,
) -> None:  # fmt: skip
    """Write the gradient of the queries."""
    slopes = cuda.shared.array(_TILE, dtype=q.dtype)
    totals = cuda.local.array(ROWS, dtype=q.dtype)
    kind = q.dtype.type
    heads, length, width = q.shape[1], q.shape[2], q.shape[3]
    keys = k.shape[2]
    group = heads // k.shape[1]
    thread = cuda.threadIdx.x
    blocks = (length + ROWS - 1) // ROWS
    tasks = q.shape[0] * heads * blocks
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        i0 = t % blocks * ROWS
        h = t // blocks % heads
        b = t // blocks // heads
        n = h // group
        for r in range(ROWS):
            totals[r] = kind(0)
        for j0 in range(0, keys, COLUMNS):
            j = j0 + thread
            for r in range(ROWS):
                i = i0 + r
                slope = kind(0)
                if i < length and j < keys:
                    p = weight_at(
                        q, k, mask, step_b, step_h, step_i, scale, causal, lse, b, h,
                        i, n, j,
                    )  # fmt: skip
                    line = (b * heads + h) * keys + j
                    w = factor_at(line * length + i, rate, keep, seed, offset)
                    x = value_product(g, v, b, h, i, n, j)
                    slope = p * (w * x - share[b, h, i])
                slopes[r * COLUMNS + thread] = slope
            cuda.syncthreads()
            if thread < width:
                for c in range(COLUMNS if j0 + COLUMNS < keys else keys - j0):
                    key = k[b, n, j0 + c, thread]
                    for r in range(ROWS):
                        totals[r] += slopes[r * COLUMNS + c] * key
            cuda.syncthreads()
        for r in range(ROWS):
            if thread < width and i0 + r < length:
                dq[b, h, i0 + r, thread] = scale * totals[r]


@cuda_kernel(threads=COLUMNS)
def keys_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, share: Any,
    lse: Any, dk: Any, dv: Any,
) -> None:  # fmt: skip
    """Write the gradients of keys and values."""
    # Rows are keys here, columns queries.
    slopes = cuda.shared.array(_TILE, dtype=q.dtype)
    weights = cuda.shared.array(_TILE, dtype=q.dtype)
    by_key = cuda.local.array(ROWS, dtype=q.dtype)
    by_value = cuda.local.array(ROWS, dtype=q.dtype)
    kind = q.dtype.type
    heads, length, width = q.shape[1], q.shape[2], q.shape[3]
    groups, keys, features = k.shape[1], k.shape[2], v.shape[3]
    group = heads // groups
    thread = cuda.threadIdx.x
    blocks = (keys + ROWS - 1) // ROWS
    tasks = q.shape[0] * groups * blocks
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        first = t % blocks * ROWS
        n = t // blocks % groups
        b = t // blocks // groups
        for r in range(ROWS):
            by_key[r] = kind(0)
            by_value[r] = kind(0)
        for h in range(n * group, (n + 1) * group):
            for i0 in range(0, length, COLUMNS):
                i = i0 + thread
                for r in range(ROWS):
                    j = first + r
                    slope = kind(0)
                    weight = kind(0)
                    if i < length and j < keys:
                        p = weight_at(
                            q, k, mask, step_b, step_h, step_i, scale, causal, lse, b,
                            h, i, n, j,
                        )  # fmt: skip
                        line = (b * heads + h) * keys + j
                        w = factor_at(line * length + i, rate, keep, seed, offset)
                        x = value_product(g, v, b, h, i, n, j)
                        slope = p * (w * x - share[b, h, i])
                        weight = p * w
                    slopes[r * COLUMNS + thread] = slope
                    weights[r * COLUMNS + thread] = weight
                cuda.syncthreads()
                for c in range(COLUMNS if i0 + COLUMNS < length else length - i0):
                    if thread < width:
                        query = q[b, h, i0 + c, thread]
                        for r in range(ROWS):
                            by_key[r] += slopes[r * COLUMNS + c] * query
                    if thread < features:
                        grad = g[b, i0 + c, h, thread]
                        for r in range(ROWS):
                            by_value[r] += weights[r * COLUMNS + c] * grad
                cuda.syncthreads()
        for r in range(ROWS):
            j = first + r
            if j < keys:
                if thread < width:
                    dk[b, n, j, thread] = scale * by_key[r]
                if thread < features:
                    dv[b, n, j, thread] = by_value[r]
