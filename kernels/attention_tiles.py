"""The CPU loops of `nnlib.kernels.attention`: tiles of scores, multiplied by BLAS.

Matrices go in as an address and three strides in bytes (batch, head, row), with the
elements of a row adjacent: the heads of one projection are read where they lie.
`shape` is (heads, heads of queries for one of keys, queries, keys, width of a key,
width of a value), `numbers` is scale and causal. Tiles stand on end, a line for each
key: what is added up over the keys of a query is added up by whole vectors of queries.

`mask` is None, or flat, a line for each key too, with the `steps` of batch, head, key
and query; `thin` is None, or dropout's rate, 1 / (1 - rate), seed and offset. A program
without mask or dropout does not compile what they need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.machinery import blas, body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.philox import DROPOUT, stretch, unit_single

__all__ = ["backward_cpu", "forward_cpu"]

# Queries and keys of a tile: 64 KB of float32.
ROWS = 64
COLUMNS = 256
# Multiplications that a thread has at least.
_GRAIN = 1 << 17
_KIND = np.uint64(DROPOUT)


@body
def score_tile(
    s: Any, q: Any, q_step: Any, k: Any, k_step: Any, width: Any, rows: Any,
    columns: Any, i0: Any, j0: Any, mask: Any, steps: Any, mask_at: Any, numbers: Any,
) -> None:  # fmt: skip
    """Write a tile of the scores, mask included."""
    blas.gemm(
        False, True, columns, rows, width, numbers[0], k, k_step, q, q_step,
        s.dtype.type(0), s.ctypes.data, rows,
    )  # fmt: skip
    if mask is not None:
        for c in range(columns):
            line = s[c * rows : (c + 1) * rows]
            at = mask_at + (j0 + c) * steps[2]
            if steps[3] == 0:
                value = mask[at]
                for r in range(line.size):
                    line[r] += value
            else:
                source = mask[at + i0 : at + i0 + rows]
                for r in range(line.size):
                    line[r] += source[r]
    if numbers[1]:
        for c in range(columns):
            hidden = j0 + c - i0
            line = s[c * rows : (c + 1) * rows]
            for r in range(hidden if hidden < rows else rows):
                line[r] = -special.INFINITY


@body
def factor_line(factors: Any, position: Any, thin: Any) -> None:
    """Write the dropout's factors from a position of the scores on."""
    rate, keep, seed, offset = thin
    source, before = stretch(seed, _KIND, offset + np.uint64(position), factors.size)
    for r in range(np.uint64(factors.size)):
        kept = unit_single(source[before + r]) >= rate
        factors[r] = special.select(kept, keep, factors.dtype.type(0))


@cpu_loop
def forward_blocks(
    begin: Any, end: Any, q: Any, k: Any, v: Any, mask: Any, steps: Any, shape: Any,
    numbers: Any, thin: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Do blocks of queries, of all heads one after the other."""
    heads, group, length, keys, width, features = shape
    one, zero = out.dtype.type(1), out.dtype.type(0)
    size = out.itemsize
    s = np.empty(ROWS * COLUMNS, out.dtype)
    tops = np.empty(ROWS, out.dtype)
    bases = np.empty(ROWS, out.dtype)
    totals = np.empty(ROWS, out.dtype)
    factors = np.empty(ROWS, out.dtype)
    blocks = (length + ROWS - 1) // ROWS
    for t in range(begin, end):
        i0 = t % blocks * ROWS
        h = t // blocks % heads
        b = t // blocks // heads
        rows = ROWS if i0 + ROWS < length else length - i0
        limit = i0 + rows if numbers[1] and i0 + rows < keys else keys
        at_out = ((b * length + i0) * heads + h) * features
        for r in range(ROWS):
            tops[r] = -special.INFINITY
            totals[r] = 0
        for j0 in range(0, limit, COLUMNS):
            columns = COLUMNS if j0 + COLUMNS < limit else limit - j0
            score_tile(
                s, q[0] + b * q[1] + h * q[2] + i0 * q[3], q[3] // size,
                k[0] + b * k[1] + h // group * k[2] + j0 * k[3], k[3] // size, width,
                rows, columns, i0, j0, mask, steps, b * steps[0] + h * steps[1],
                numbers,
            )  # fmt: skip
            for r in range(ROWS):
                bases[r] = tops[r]
            for c in range(columns):
                line = s[c * rows : (c + 1) * rows]
                for r in range(line.size):
                    tops[r] = special.maximum(tops[r], line[r])
            for r in range(ROWS):
                # A query that sees nothing yet has no finite top.
                base = special.select(tops[r] == -special.INFINITY, zero, tops[r])
                factors[r] = bases[r] - base
                bases[r] = base
            for c in range(columns):
                line = s[c * rows : (c + 1) * rows]
                for r in range(line.size):
                    line[r] -= bases[r]
            for i in range(np.uint64(columns * rows)):
                s[i] = special.exp(s[i])
            if j0 > 0:
                for r in range(rows):
                    factor = special.exp(factors[r])
                    totals[r] *= factor
                    start = np.uint64(at_out + r * heads * features)
                    for e in range(np.uint64(features)):
                        out[start + e] *= factor
            for c in range(columns):
                line = s[c * rows : (c + 1) * rows]
                for r in range(line.size):
                    totals[r] += line[r]
            if thin is not None:
                for c in range(columns):
                    line = s[c * rows : (c + 1) * rows]
                    position = ((b * heads + h) * keys + j0 + c) * length + i0
                    factor_line(factors[:rows], position, thin)
                    for r in range(line.size):
                        line[r] *= factors[r]
            blas.gemm(
                True, False, rows, features, columns, one, s.ctypes.data, rows,
                v[0] + b * v[1] + h // group * v[2] + j0 * v[3], v[3] // size,
                one if j0 > 0 else zero, out.ctypes.data + size * at_out,
                heads * features,
            )  # fmt: skip
        at_row = (b * heads + h) * length + i0
        for r in range(rows):
            total = totals[r]
            hidden = total == zero
            factor = one / total
            start = np.uint64(at_out + r * heads * features)
            for e in range(np.uint64(features)):
                out[start + e] = special.select(hidden, zero, out[start + e] * factor)
        for r in range(ROWS):
            log = tops[r] + special.log(totals[r])
            infinite = out.dtype.type(special.INFINITY)
            factors[r] = special.select(totals[r] == zero, infinite, log)
        for r in range(rows):
            lse[at_row + r] = factors[r]


@cpu_kernel(shared=True)
def forward_cpu(
    q: Any, k: Any, v: Any, mask: Any, steps: Any, shape: Any, numbers: Any, thin: Any,
    out: Any, lse: Any,
) -> None:  # fmt: skip
    """Write the result and log sum exp of every query, both flat."""
    length, keys = shape[2], shape[3]
    blocks = (length + ROWS - 1) // ROWS
    tasks = lse.size // length * blocks
    work = (length if length < ROWS else ROWS) * keys * (shape[4] + shape[5] + 16)
    spread(
        forward_blocks, tasks, _GRAIN // work + 1,
        (q, k, v, mask, steps, shape, numbers, thin, out, lse),
    )  # fmt: skip


@body(reassociate=True)
def dot(x: Any, y: Any, start: Any, count: Any) -> Any:
    total = x.dtype.type(0)
    for e in range(count):
        total += x[start + e] * y[start + e]
    return total


@cpu_loop
def backward_heads(
    begin: Any, end: Any, g: Any, q: Any, k: Any, v: Any, dq: Any, dk: Any, dv: Any,
    mask: Any, steps: Any, shape: Any, numbers: Any, thin: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Do heads of keys, each with the heads of queries that read it."""
    heads, group, length, keys, width, features = shape
    one, zero = out.dtype.type(1), out.dtype.type(0)
    size = out.itemsize
    s = np.empty(ROWS * COLUMNS, out.dtype)
    ds = np.empty(ROWS * COLUMNS, out.dtype)
    drops = np.empty(ROWS, out.dtype)
    shares = np.empty(length, out.dtype)
    groups = heads // group
    for t in range(begin, end):
        b = t // groups
        n = t % groups
        for h in range(n * group, (n + 1) * group):
            for i in range(length):
                start = np.uint64(((b * length + i) * heads + h) * features)
                shares[i] = dot(g, out, start, np.uint64(features))
            for j0 in range(0, keys, COLUMNS):
                columns = COLUMNS if j0 + COLUMNS < keys else keys - j0
                at_k = k[0] + b * k[1] + n * k[2] + j0 * k[3]
                at_v = v[0] + b * v[1] + n * v[2] + j0 * v[3]
                first = j0 // ROWS * ROWS if numbers[1] else 0
                for i0 in range(first, length, ROWS):
                    rows = ROWS if i0 + ROWS < length else length - i0
                    at_q = q[0] + b * q[1] + h * q[2] + i0 * q[3]
                    at_g = g.ctypes.data + (
                        ((b * length + i0) * heads + h) * features * size
                    )
                    score_tile(
                        s, at_q, q[3] // size, at_k, k[3] // size, width, rows, columns,
                        i0, j0, mask, steps, b * steps[0] + h * steps[1], numbers,
                    )  # fmt: skip
                    at_row = (b * heads + h) * length + i0
                    logs = lse[at_row : at_row + rows]
                    for c in range(columns):
                        line = s[c * rows : (c + 1) * rows]
                        for r in range(line.size):
                            line[r] -= logs[r]
                    for i in range(np.uint64(columns * rows)):
                        s[i] = special.exp(s[i])
                    blas.gemm(
                        False, True, columns, rows, features, one, at_v, v[3] // size,
                        at_g, heads * features, zero, ds.ctypes.data, rows,
                    )  # fmt: skip
                    share = shares[i0 : i0 + rows]
                    for c in range(columns):
                        line = s[c * rows : (c + 1) * rows]
                        slope = ds[c * rows : (c + 1) * rows]
                        if thin is not None:
                            position = ((b * heads + h) * keys + j0 + c) * length + i0
                            factor_line(drops[:rows], position, thin)
                            for r in range(line.size):
                                slope[r] = line[r] * (slope[r] * drops[r] - share[r])
                                line[r] *= drops[r]
                        else:
                            for r in range(line.size):
                                slope[r] = line[r] * (slope[r] - share[r])
                    more = zero if i0 == first and h == n * group else one
                    blas.gemm(
                        False, False, columns, features, rows, one, s.ctypes.data, rows,
                        at_g, heads * features, more,
                        dv[0] + b * dv[1] + n * dv[2] + j0 * dv[3], dv[3] // size,
                    )  # fmt: skip
                    blas.gemm(
                        False, False, columns, width, rows, numbers[0], ds.ctypes.data,
                        rows, at_q, q[3] // size, more,
                        dk[0] + b * dk[1] + n * dk[2] + j0 * dk[3], dk[3] // size,
                    )  # fmt: skip
                    blas.gemm(
                        True, False, rows, width, columns, numbers[0], ds.ctypes.data,
                        rows, at_k, k[3] // size, zero if j0 == 0 else one,
                        dq[0] + b * dq[1] + h * dq[2] + i0 * dq[3], dq[3] // size,
                    )  # fmt: skip


@cpu_kernel(shared=True)
def backward_cpu(
    g: Any, q: Any, k: Any, v: Any, dq: Any, dk: Any, dv: Any, mask: Any, steps: Any,
    shape: Any, numbers: Any, thin: Any, out: Any, lse: Any,
) -> None:  # fmt: skip
    """Write the gradients at the addresses `dq`, `dk` and `dv`."""
    heads, group, length, keys = shape[0], shape[1], shape[2], shape[3]
    tasks = lse.size // length // heads * (heads // group)
    work = group * length * keys * 2 * (shape[4] + shape[5] + 8)
    spread(
        backward_heads, tasks, _GRAIN // work + 1,
        (g, q, k, v, dq, dk, dv, mask, steps, shape, numbers, thin, out, lse),
    )  # fmt: skip
