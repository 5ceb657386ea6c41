"""The CUDA loops of the backward pass of `nnlib.kernels.attention`.

What they share with the forward pass is in `attention_blocks`.
"""

from __future__ import annotations

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

__all__ = ["keys_cuda", "queries_grad_cuda"]


@cuda_kernel(threads=THREADS)
def queries_grad_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, out: Any,
    lse: Any, share: Any, dq: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the gradient of the queries, and `share`, the sum of g * out over a row."""
    seed, offset = key_of(seed, offset)
    tile = cuda.shared.array(TILE, dtype=q.dtype)
    weights = cuda.shared.array(WEIGHTS, dtype=q.dtype)
    totals = cuda.local.array(64, dtype=q.dtype)
    scores = cuda.local.array(16, dtype=q.dtype)
    slopes = cuda.local.array(16, dtype=q.dtype)
    shares = cuda.local.array(4, dtype=q.dtype)
    logs = cuda.local.array(4, dtype=q.dtype)
    kind = q.dtype.type
    shift = 3 + tag.ndim
    heads, length, keys = q.shape[1], q.shape[2], k.shape[2]
    group = heads // k.shape[1]
    thread = cuda.threadIdx.x
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    blocks = (length + ROWS - 1) // ROWS
    tasks = q.shape[0] * heads * blocks
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        i0 = (blocks - 1 - t % blocks) * ROWS
        h = t // blocks % heads
        b = t // blocks // heads
        queries, lines, values = q[b, h], k[b, h // group], v[b, h // group]
        grads, results = g[b, :, h], out[b, :, h]
        for n in range(64):
            totals[n] = kind(0)
        for r in range(4):
            i = i0 + row + r
            shares[r] = kind(0)
            logs[r] = kind(0)
            if i < length:
                logs[r] = lse[b, h, i]
                for f in range(thread & 7, v.shape[3], 8):
                    shares[r] += grads[i, f] * results[i, f]
        sum_lanes(weights, shares, thread)
        if column == 0:
            for r in range(4):
                if i0 + row + r < length:
                    share[b, h, i0 + row + r] = shares[r]
        for j0 in range(0, min(keys, i0 + ROWS) if causal else keys, COLUMNS):
            for n in range(16):
                scores[n] = kind(0)
                slopes[n] = kind(0)
            add_scores(scores, tile, queries, i0, lines, j0, thread)
            add_scores(slopes, tile, grads, i0, values, j0, thread)
            i, j = i0 + row, j0 + column
            if rate > np.float32(0):
                line = ((b * heads + h) * keys + j) * length + i
                thin(weights, line, 1, length, rate, keep, seed, offset, thread)
            below, right = np.int32(length - i), np.int32(keys - j)
            ahead = np.int32(i - j) if causal else np.int32(COLUMNS)
            for r in range(4):
                for c in range(4):
                    slope = kind(0)
                    if r < below and c < right and c - r <= ahead:
                        s = scale * scores[4 * r + c]
                        if mask.size > 0:
                            s += mask_at(
                                mask, step_b, step_h, step_i, b, h, i + r, j + c
                            )
                        slope = slopes[4 * r + c]
                        if rate > np.float32(0):
                            slope *= weights[np.uint64((column + c) * LINE + row + r)]
                        slope = (slope - shares[r]) * special.exp(s - logs[r])
                    slopes[4 * r + c] = slope
            put_weights(weights, slopes, thread)
            add_weighted(totals, weights, tile, lines, j0, 0, shift, thread)
        for r in range(4):
            i = i0 + row + r
            for c in range(1 << (shift - 3)):
                f = feature_of(c, shift, thread)
                if i < length and f < q.shape[3]:
                    dq[b, h, i, f] = scale * totals[16 * r + c]


@cuda_kernel(threads=THREADS)
def keys_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, share: Any,
    lse: Any, dk: Any, dv: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the gradients of keys and values, some of the features in each block."""
    # Rows are keys here, columns queries.
    seed, offset = key_of(seed, offset)
    tile = cuda.shared.array(TILE, dtype=q.dtype)
    weights = cuda.shared.array(WEIGHTS, dtype=q.dtype)
    by_key = cuda.local.array(64, dtype=q.dtype)
    by_value = cuda.local.array(64, dtype=q.dtype)
    scores = cuda.local.array(16, dtype=q.dtype)
    slopes = cuda.local.array(16, dtype=q.dtype)
    kind = q.dtype.type
    shift = 3 + tag.ndim
    heads, length = q.shape[1], q.shape[2]
    groups, keys = k.shape[1], k.shape[2]
    group = heads // groups
    thread = cuda.threadIdx.x
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    blocks = (keys + ROWS - 1) // ROWS
    parts = (max(k.shape[3], v.shape[3]) + (1 << shift) - 1) >> shift
    tasks = q.shape[0] * groups * blocks * parts
    for t in range(cuda.blockIdx.x, tasks, cuda.gridDim.x):
        start = t % parts << shift
        first = t // parts % blocks * ROWS
        n = t // parts // blocks % groups
        b = t // parts // blocks // groups
        lines, values = k[b, n], v[b, n]
        for m in range(64):
            by_key[m] = kind(0)
            by_value[m] = kind(0)
        for h in range(n * group, (n + 1) * group):
            queries, grads = q[b, h], g[b, :, h]
            for i0 in range(first if causal else 0, length, COLUMNS):
                for m in range(16):
                    scores[m] = kind(0)
                    slopes[m] = kind(0)
                add_scores(scores, tile, lines, first, queries, i0, thread)
                add_scores(slopes, tile, values, first, grads, i0, thread)
                i, j = i0 + column, first + row
                if rate > np.float32(0):
                    line = ((b * heads + h) * keys + j) * length + i
                    thin(weights, line, length, 1, rate, keep, seed, offset, thread)
                below, right = np.int32(keys - j), np.int32(length - i)
                ahead = np.int32(i - j) if causal else np.int32(ROWS)
                for c in range(4):
                    log, part = kind(0), kind(0)
                    if c < right:
                        log, part = lse[b, h, i + c], share[b, h, i + c]
                    for r in range(4):
                        slope = kind(0)
                        weight = kind(0)
                        if r < below and c < right and r - c <= ahead:
                            s = scale * scores[4 * r + c]
                            if mask.size > 0:
                                s += mask_at(
                                    mask, step_b, step_h, step_i, b, h, i + c, j + r
                                )
                            weight = special.exp(s - log)
                            slope = slopes[4 * r + c]
                            if rate > np.float32(0):
                                w = weights[np.uint64((column + c) * LINE + row + r)]
                                slope = weight * (w * slope - part)
                                weight *= w
                            else:
                                slope = weight * (slope - part)
                        scores[4 * r + c] = weight
                        slopes[4 * r + c] = slope
                put_weights(weights, scores, thread)
                add_weighted(by_value, weights, tile, grads, i0, start, shift, thread)
                put_weights(weights, slopes, thread)
                add_weighted(by_key, weights, tile, queries, i0, start, shift, thread)
        for r in range(4):
            j = first + row + r
            for c in range(1 << (shift - 3)):
                f = start + feature_of(c, shift, thread)
                if j < keys and f < k.shape[3]:
                    dk[b, n, j, f] = scale * by_key[16 * r + c]
                if j < keys and f < v.shape[3]:
                    dv[b, n, j, f] = by_value[16 * r + c]
