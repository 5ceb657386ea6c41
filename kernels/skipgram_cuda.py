"""`skipgram` on CUDA: a batch in six launches and a sort, without atomics.

The CPU's way, a thread for some columns of all examples, would leave a GPU idle. Here
targets are drawn, scored and applied by launches over (example, target) and (example,
column); before rows are changed, the targets are sorted (stably, by the array module),
and one thread adds all that goes to an element, in the order of the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels import special
from nnlib.kernels.machinery import array_module, cuda, cuda_kernel
from nnlib.kernels.skipgram import fill_targets

__all__ = ["train_batch"]


@cuda_kernel(threads=64)
def targets_cuda(
    targets: Any, counts: Any, sources: Any, first: Any, words: Any, low: Any,
    high: Any, table: Any, negatives: Any, cbow: Any, seed: Any, offset: Any,
) -> None:  # fmt: skip
    for e in range(cuda.grid(1), counts.size, cuda.gridsize(1)):
        i = first + e
        count = fill_targets(
            targets, i, e, words, low, high, table, negatives, cbow, seed, offset + i
        )
        counts[e] = count
        for k in range(count, targets.shape[1]):
            targets[e, k] = -1
        # where the change of the input goes: the word itself, or its neighbours
        used = 0
        if count > 0 and cbow:
            for j in range(low[i], high[i]):
                if j != i:
                    sources[e, used] = words[j]
                    used += 1
        elif count > 0:
            sources[e, 0] = words[i]
            used = 1
        for k in range(used, sources.shape[1]):
            sources[e, k] = -1


@cuda_kernel
def hidden_cuda(hidden: Any, sources: Any, inputs: Any) -> None:
    columns = hidden.shape[1]
    for t in range(cuda.grid(1), hidden.size, cuda.gridsize(1)):
        e = t // columns
        c = t - e * columns
        total = np.float32(0.0)
        used = 0
        while used < sources.shape[1] and sources[e, used] >= 0:
            used += 1
        if used > 0:
            share = np.float32(1.0) / np.float32(used)
            for k in range(used):
                total += share * inputs[sources[e, k], c]
        hidden[e, c] = total


@cuda_kernel
def factors_cuda(
    factors: Any, targets: Any, hidden: Any, outputs: Any, negatives: Any, rate: Any
) -> None:
    slots = targets.shape[1]
    one = np.float32(1.0)
    zero = np.float32(0.0)
    for t in range(cuda.grid(1), factors.size, cuda.gridsize(1)):
        e = t // slots
        k = t - e * slots
        row = targets[e, k]
        own = k // (negatives + 1) * (negatives + 1)
        factor = zero
        # a negative that is the target itself is none
        if row >= 0 and (k == own or row != targets[e, own]):
            score = zero
            for c in range(hidden.shape[1]):
                score += hidden[e, c] * outputs[row, c]
            factor = -rate / (one + special.exp(-score))
            if k == own:
                factor += rate
        factors[e, k] = factor


@cuda_kernel
def grads_cuda(
    grads: Any, factors: Any, targets: Any, counts: Any, outputs: Any
) -> None:
    columns = grads.shape[1]
    for t in range(cuda.grid(1), grads.size, cuda.gridsize(1)):
        e = t // columns
        c = t - e * columns
        total = np.float32(0.0)
        for k in range(counts[e]):
            total += factors[e, k] * outputs[targets[e, k], c]
        grads[e, c] = total


@cuda_kernel
def add_runs_cuda(
    out: Any, rows: Any, order: Any, factors: Any, values: Any, each: Any
) -> None:
    # A thread per place in the order and column: that of a run's first place adds the
    # whole run. `each` places in a row belong to one row of values.
    columns = out.shape[1]
    for t in range(cuda.grid(1), rows.size * columns, cuda.gridsize(1)):
        first = t // columns
        c = t - first * columns
        row = rows[first]
        if row >= 0 and (first == 0 or rows[first - 1] != row):
            total = out[row, c]
            k = first
            while k < rows.size and rows[k] == row:
                total += factors[order[k]] * values[order[k] // each, c]
                k += 1
            out[row, c] = total


def _add(out: Any, rows: Any, factors: Any, values: Any) -> None:
    """Do ``out[rows[e, k]] += factors[e, k] * values[e]``, in order; skip rows -1."""
    flat = rows.reshape(-1)
    order = array_module(out).argsort(flat, kind="stable")
    add_runs_cuda(
        out, flat[order], order, factors.reshape(-1), values, rows.shape[1],
        items=flat.size * out.shape[1],
    )  # fmt: skip


def train_batch(
    inputs: Any, outputs: Any, text: Any, first: int, size: int, rate: Any, seed: int,
    offset: int,
) -> None:  # fmt: skip
    """Train on `size` positions from `first`; see `skipgram.train`."""
    module = array_module(inputs)
    columns = inputs.shape[1]
    rate = np.float32(rate)
    each = 2 * text.window if text.cbow else 1
    targets = module.empty((size, text.slots), np.int32)
    sources = module.empty((size, each), np.int32)
    counts = module.empty(size, np.int32)
    hidden = module.empty((size, columns), np.float32)
    grads = module.empty((size, columns), np.float32)
    factors = module.empty((size, text.slots), np.float32)
    targets_cuda(
        targets, counts, sources, first, text.words, text.low, text.high, text.table,
        text.negatives, text.cbow, np.uint64(seed), offset, items=size,
    )  # fmt: skip
    hidden_cuda(hidden, sources, inputs, items=hidden.size)
    factors_cuda(
        factors, targets, hidden, outputs, text.negatives, rate, items=factors.size
    )
    grads_cuda(grads, factors, targets, counts, outputs, items=grads.size)
    _add(outputs, targets, factors, hidden)
    ones = module.ones((size, each), np.float32)
    _add(inputs, sources, ones, grads)
