"""The CUDA loop of the forward pass of `nnlib.kernels.attention`.

What it shares with the backward pass is in `attention_blocks`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.attention_blocks import (
    COLUMNS,
    LINE,
    ROWS,
    THREADS,
    TILE,
    WEIGHTS,
    add_scores,
    add_weighted,
    feature_of,
    mask_at,
    put_weights,
    sum_lanes,
    thin,
)
from nnlib.kernels.machinery import cuda, cuda_kernel
from nnlib.kernels.random_keys import key_of

__all__ = ["queries_cuda"]


@cuda_kernel(threads=THREADS)
def queries_cuda(
    q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, out: Any,
    lse: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the result and log sum exp of every query."""
    seed, offset = key_of(seed, offset)
    tile = cuda.shared.array(TILE, dtype=q.dtype)
    weights = cuda.shared.array(WEIGHTS, dtype=q.dtype)
    tops = cuda.shared.array(ROWS, dtype=q.dtype)
    factors = cuda.shared.array(ROWS, dtype=q.dtype)
    totals = cuda.local.array(64, dtype=q.dtype)
    scores = cuda.local.array(16, dtype=q.dtype)
    norms = cuda.local.array(4, dtype=q.dtype)
    kind = q.dtype.type
    lowest = kind(-special.INFINITY)
    shift = 3 + tag.ndim
    heads, length, keys = q.shape[1], q.shape[2], k.shape[2]
    group = heads // k.shape[1]
    thread = cuda.threadIdx.x
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    blocks = (length + ROWS - 1) // ROWS
    tasks = q.shape[0] * heads * blocks
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        # The last queries first: with a causal mask they have most to do.
        i0 = (blocks - 1 - t % blocks) * ROWS
        h = t // blocks % heads
        b = t // blocks // heads
        queries, lines, values = q[b, h], k[b, h // group], v[b, h // group]
        for n in range(64):
            totals[n] = kind(0)
        for r in range(4):
            norms[r] = kind(0)
        if thread < ROWS:
            tops[thread] = lowest
        for j0 in range(0, min(keys, i0 + ROWS) if causal else keys, COLUMNS):
            for n in range(16):
                scores[n] = kind(0)
            add_scores(scores, tile, queries, i0, lines, j0, thread)
            i, j = i0 + row, j0 + column
            below, right = np.int32(length - i), np.int32(keys - j)
            # Key j + c comes after query i + r where c - r is more than this.
            ahead = np.int32(i - j) if causal else np.int32(COLUMNS)
            for r in range(4):
                top = lowest
                for c in range(4):
                    s = lowest
                    if r < below and c < right and c - r <= ahead:
                        s = scale * scores[4 * r + c]
                        if mask.size > 0:
                            s += mask_at(
                                mask, step_b, step_h, step_i, b, h, i + r, j + c
                            )
                    scores[4 * r + c] = s
                    top = special.maximum(top, s)
                weights[np.uint64((thread & 7) * LINE + row + r)] = top
            cuda.syncthreads()
            if thread < ROWS:
                before = tops[thread]
                top = before
                for n in range(8):
                    top = special.maximum(top, weights[np.uint64(n * LINE + thread)])
                tops[thread] = top
                base = kind(0) if top == lowest else top
                factors[thread] = special.exp(before - base)
            cuda.syncthreads()
            if rate > np.float32(0):
                line = ((b * heads + h) * keys + j) * length + i
                thin(weights, line, 1, length, rate, keep, seed, offset, thread)
            for r in range(4):
                top = tops[np.uint64(row + r)]
                base = kind(0) if top == lowest else top
                factor = factors[np.uint64(row + r)]
                norms[r] *= factor
                for c in range(1 << (shift - 3)):
                    totals[16 * r + c] *= factor
                for c in range(4):
                    p = special.exp(scores[4 * r + c] - base)
                    norms[r] += p
                    if rate > np.float32(0):
                        p *= weights[np.uint64((column + c) * LINE + row + r)]
                    scores[4 * r + c] = p
            put_weights(weights, scores, thread)
            add_weighted(totals, weights, tile, values, j0, 0, shift, thread)
        sum_lanes(weights, norms, thread)
        for r in range(4):
            i = i0 + row + r
            if i < length:
                hidden = norms[r] == kind(0)
                for c in range(1 << (shift - 3)):
                    f = feature_of(c, shift, thread)
                    if f < v.shape[3]:
                        value = kind(0) if hidden else totals[16 * r + c] / norms[r]
                        out[b, i, h, f] = value
                if column == 0:
                    log = kind(special.INFINITY)
                    if not hidden:
                        log = tops[np.uint64(row + r)] + kind(math.log(norms[r]))
                    lse[b, h, i] = log
        cuda.syncthreads()
