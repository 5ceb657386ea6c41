"""The CUDA loops of `nnlib.kernels.attention`.

A block of threads has `ROWS` queries of one head (or, for the gradients of keys and
values, `ROWS` keys) and goes through the other side by `COLUMNS` at a time. Scores and
results are products of tiles in shared memory: a thread makes four rows of them by four
columns, then four rows by a share of the features, in registers. Nothing is added by
two threads: the same bits on every run.

A thread's share of the features has to be known when the loop is compiled: `tag` is an
empty array of as many dimensions as tell it, see `dimensions`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.philox import DROPOUT, unit_single, word_at

__all__ = [
    "ROWS",
    "dimensions",
    "key_features",
    "keys_cuda",
    "longest",
    "queries_cuda",
    "queries_grad_cuda",
]

# The tile of scores; 8 threads for the columns by 16 for the rows, four of each a
# thread.
ROWS = 64
COLUMNS = 32
_THREADS = 128
# Features, or rows of the other side, that are in shared memory at once.
CHUNK = 16
# Elements from line to line: 4 banks on, so that 8 features of 4 rows miss each other.
LINE = ROWS + 4
NARROW = COLUMNS + 4
WIDE = 128 + 4
# Where the second factor of the scores begins.
SECOND = CHUNK * LINE
_TILE = CHUNK * WIDE
_WEIGHTS = COLUMNS * LINE
_KIND = np.uint64(DROPOUT)


def longest(dtype: Any) -> int:
    """Return how many features of a head fit: a thread's share into its registers."""
    return 512 // int(dtype.itemsize)


def dimensions(features: int) -> int:
    """Return the dimensions of `tag`: 1 to 4 for up to 16, 32, 64 and 128 features."""
    return max(1, (max(features, 1) - 1).bit_length() - 3)


def key_features(features: int, dtype: Any) -> int:
    """Return how many features of keys and values a block adds up.

    Both gradients at once leave a thread registers for half the features.
    """
    return max(1, min(features, longest(dtype) // 2))


@body
def factor_at(position: Any, rate: Any, keep: Any, seed: Any, offset: Any) -> Any:
    """Return the dropout's factor of a score."""
    if rate <= np.float32(0):
        return keep
    word = np.uint32(word_at(seed, _KIND, offset + np.uint64(position)))
    return special.select(unit_single(word) < rate, type(keep)(0), keep)


@body
def stand(
    tile: Any, at: Any, line: Any, parts: Any, x: Any, first: Any, start: Any,
    thread: Any,
) -> None:  # fmt: skip
    """Lay `CHUNK` features of 16 * `parts` rows of `x` into `tile`, a feature a line.

    Eight neighbouring threads read neighbouring features. Beyond the edges are zeros.
    """
    low = thread & 7
    lane = (thread >> 3) & 15
    # Rows and features from the thread's first to the end, in 32 bits.
    height = np.int32(x.shape[0] - first - lane)
    width = np.int32(x.shape[1] - start - low)
    for high in range(CHUNK // 8):
        for part in range(parts):
            value = x.dtype.type(0)
            if 16 * part < height and 8 * high < width:
                value = x[
                    np.uint64(first + lane + 16 * part),
                    np.uint64(start + low + 8 * high),
                ]
            tile[np.uint64(at + (low + 8 * high) * line + lane + 16 * part)] = value


@body
def lie(tile: Any, x: Any, first: Any, start: Any, shift: Any, thread: Any) -> None:
    """Lay up to ``2**shift`` features of `CHUNK` rows of `x` into `tile`."""
    at = thread & ((1 << shift) - 1)
    f = start + at
    lane = (thread >> shift) & 15
    step = _THREADS >> shift
    height = np.int32(x.shape[0] - first - lane)
    if f >= x.shape[1]:
        height = np.int32(0)
    for part in range(CHUNK // step):
        value = x.dtype.type(0)
        if step * part < height:
            value = x[np.uint64(first + lane + step * part), np.uint64(f)]
        tile[np.uint64((lane + step * part) * WIDE + at)] = value


@body
def add_scores(
    scores: Any, tile: Any, x: Any, i0: Any, y: Any, j0: Any, thread: Any
) -> None:
    """Add the products of rows of `x` from `i0` and of `y` from `j0` to `scores`."""
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    for start in range(0, x.shape[1], CHUNK):
        stand(tile, 0, LINE, ROWS // 16, x, i0, start, thread)
        stand(tile, SECOND, NARROW, COLUMNS // 16, y, j0, start, thread)
        cuda.syncthreads()
        # In two loops: the inner one is short enough to be unrolled.
        for begin in range(0, CHUNK, 4):
            for e in range(begin, begin + 4):
                for r in range(4):
                    value = tile[np.uint64(e * LINE + row + r)]
                    for c in range(4):
                        at = np.uint64(SECOND + e * NARROW + column + c)
                        scores[4 * r + c] += value * tile[at]
        cuda.syncthreads()


@body
def add_weighted(
    totals: Any, weights: Any, tile: Any, x: Any, first: Any, start: Any, shift: Any,
    thread: Any,
) -> None:  # fmt: skip
    """Add `COLUMNS` rows of `x` from `first`, weighted, to `totals`.

    The totals are those of four rows, and of the features that `feature_of` tells,
    counted from `start`.
    """
    row = ((thread >> 3) & 15) * 4
    lane = thread & 7
    share = 1 << (shift - 3)
    side = min(share, 4)
    for begin in range(0, COLUMNS, CHUNK):
        lie(tile, x, first + begin, start, shift, thread)
        cuda.syncthreads()
        for pair in range(0, CHUNK, 2):
            for j in range(pair, pair + 2):
                for c in range(share):
                    at = (c // side) * 8 * side + lane * side + c % side
                    value = tile[np.uint64(j * WIDE + at)]
                    for r in range(4):
                        weight = weights[np.uint64((begin + j) * LINE + row + r)]
                        totals[16 * r + c] += weight * value
        cuda.syncthreads()


@body
def put_weights(weights: Any, values: Any, thread: Any) -> None:
    """Lay the thread's four rows by four columns into the shared tile."""
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    for c in range(4):
        for r in range(4):
            weights[np.uint64((column + c) * LINE + row + r)] = values[4 * r + c]


@body
def sum_lanes(weights: Any, parts: Any, thread: Any) -> None:
    """Replace the parts of four rows' sums by the sums over the eight threads."""
    row = ((thread >> 3) & 15) * 4
    for r in range(4):
        weights[np.uint64((thread & 7) * LINE + row + r)] = parts[r]
    cuda.syncthreads()
    for r in range(4):
        total = weights[row + r]
        for k in range(1, 8):
            total += weights[np.uint64(k * LINE + row + r)]
        parts[r] = total
    cuda.syncthreads()


@body
def feature_of(c: Any, shift: Any, thread: Any) -> Any:
    """Return the feature that is the thread's total `c`."""
    side = min(1 << (shift - 3), 4)
    return (c // side) * 8 * side + (thread & 7) * side + c % side


@body
def mask_at(
    mask: Any, step_b: Any, step_h: Any, step_i: Any, b: Any, h: Any, i: Any, j: Any
) -> Any:
    """Return what the mask adds to the score of query `i` and key `j`."""
    return mask[np.uint64(b * step_b + h * step_h + i * step_i + j)]


@body
def thin(
    weights: Any, line: Any, step_r: Any, step_c: Any, rate: Any, keep: Any,
    seed: Any, offset: Any, thread: Any,
) -> None:  # fmt: skip
    """Lay the dropout's factors of the thread's scores into the shared tile.

    `line` is the position of the first, a row and a column are steps from it.
    """
    row = ((thread >> 3) & 15) * 4
    column = (thread & 7) * 4
    # A loop of its own, and not unrolled: the random words are much code.
    for m in range(16):
        r, c = m & 3, m >> 2
        weights[np.uint64((column + c) * LINE + row + r)] = factor_at(
            line + r * step_r + c * step_c, rate, keep, seed, offset
        )


@cuda_kernel(threads=_THREADS)
def queries_cuda(
    q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, out: Any,
    lse: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the result and log sum exp of every query."""
    tile = cuda.shared.array(_TILE, dtype=q.dtype)
    weights = cuda.shared.array(_WEIGHTS, dtype=q.dtype)
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


@cuda_kernel(threads=_THREADS)
def queries_grad_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, out: Any,
    lse: Any, share: Any, dq: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the gradient of the queries, and `share`, the sum of g * out over a row."""
    tile = cuda.shared.array(_TILE, dtype=q.dtype)
    weights = cuda.shared.array(_WEIGHTS, dtype=q.dtype)
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


@cuda_kernel(threads=_THREADS)
def keys_cuda(
    g: Any, q: Any, k: Any, v: Any, mask: Any, step_b: Any, step_h: Any, step_i: Any,
    scale: Any, causal: Any, rate: Any, keep: Any, seed: Any, offset: Any, share: Any,
    lse: Any, dk: Any, dv: Any, tag: Any,
) -> None:  # fmt: skip
    """Write the gradients of keys and values, some of the features in each block."""
    # Rows are keys here, columns queries.
    tile = cuda.shared.array(_TILE, dtype=q.dtype)
    weights = cuda.shared.array(_WEIGHTS, dtype=q.dtype)
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
