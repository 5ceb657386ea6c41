"""Blocks of the CUDA loops of attention: tiles in shared memory and their products.

A block of threads has `ROWS` queries of one head (or, for the gradients of keys and
values, `ROWS` keys) and goes through the other side by `COLUMNS` at a time. Scores and
results are products of tiles in shared memory: a thread makes four rows of them by four
columns, then four rows by a share of the features, in registers. Nothing is added by
two threads: the same bits on every run.

A thread's share of the features has to be known when the loop is compiled: `tag` is an
empty array of as many dimensions as tell it, see `dimensions`; `shift` is the logarithm
of the features of a block. Not yet measured on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.machinery import body, cuda
from nnlib.kernels.philox import DROPOUT, unit_single, word_at

__all__ = [
    "COLUMNS",
    "LINE",
    "ROWS",
    "THREADS",
    "TILE",
    "WEIGHTS",
    "add_scores",
    "add_weighted",
    "dimensions",
    "feature_of",
    "key_features",
    "longest",
    "mask_at",
    "put_weights",
    "sum_lanes",
    "thin",
]

# The tile of scores; 8 threads for the columns by 16 for the rows, four of each a
# thread.
ROWS = 64
COLUMNS = 32
THREADS = 128
# Features, or rows of the other side, that are in shared memory at once.
CHUNK = 16
# Elements from line to line: 4 banks on, so that 8 features of 4 rows miss each other.
LINE = ROWS + 4
NARROW = COLUMNS + 4
WIDE = 128 + 4
# Where the second factor of the scores begins.
SECOND = CHUNK * LINE
TILE = CHUNK * WIDE
WEIGHTS = COLUMNS * LINE
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
    step = THREADS >> shift
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
