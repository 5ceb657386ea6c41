"""Word vectors: skip-gram and CBoW with negative sampling, trained in small batches.

T. Mikolov et al., "Distributed representations of words and phrases and their
compositionality", 2013, section 2.2. A position of the text is an example: its input h
is the word's own vector (skip-gram) or the mean of its neighbours' (CBoW), its targets
are the neighbours (or the word itself), each with negatives drawn at random, and::

    g = rate * (label - sigmoid(h . out[target]))
    grad += g * out[target]         out[target] += g * h

The positions of a batch see the vectors as they were before it: first every example is
scored (shared out by example), then the vectors are changed (shared out by column, each
thread taking its columns of all of them, in the order of the text). So no two threads
write to one place, and the bits depend neither on threads nor on chance: the draws
belong to (seed, position). word2vec and gensim let their threads overwrite each other.

The draws are SplitMix64 of a counter (G. Steele, D. Lea, C. Flood 2014): of ten times
Philox's speed, and good enough to pick negatives. They go through an alias table (A. J.
Walker 1977): one draw, one look-up, whatever the distribution.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.row_vectors import LINE, add_scaled, dot, prefetch

__all__ = ["Text", "alias_table", "train"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFFFFFF)
_ZERO = np.uint64(0)
# Examples of one CPU task, at least: some microseconds.
GRAIN = 8


def multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c`` modulo 2**64 (here, in the simulator, NumPy would warn)."""
    return np.uint64((int(a) * int(b) + int(c)) % 2**64)


overload(multiply_add, strict=False)(lambda a, b, c: lambda a, b, c: a * b + c)


@scalar
def mix(seed: Any, counter: Any) -> Any:
    """Return the 64 random bits of a counter; all are uint64."""
    z = multiply_add(counter, _GOLDEN, seed)
    z = multiply_add(z ^ (z >> np.uint64(30)), _MIX_1, _ZERO)
    z = multiply_add(z ^ (z >> np.uint64(27)), _MIX_2, _ZERO)
    return z ^ (z >> np.uint64(31))


@scalar
def draw(table: Any, seed: Any, counter: Any) -> Any:
    """Return a number drawn from an alias table."""
    bits = mix(seed, counter)
    place = np.int64(
        ((bits >> np.uint64(32)) * np.uint64(table.shape[0])) >> np.uint64(32)
    )
    # the table holds (threshold, alias)
    other = np.int64(table[place, 1])
    return special.select((bits & _LOW) < np.uint64(table[place, 0]), place, other)


def alias_table(weights: Any) -> Any:
    """Return a table to draw numbers from, in proportion to `weights`.

    Parameters
    ----------
    weights : array, shape (V,)
        Not negative; their sum is not 0.

    Returns
    -------
    array, shape (V, 2), uint32
        At each place: below which of 2**32 values it is taken, and what is otherwise.

    Raises
    ------
    ShapeError
        If there is no weight, or they are no distribution.

    Examples
    --------
    >>> alias_table(np.array([1.0, 3.0])).tolist()
    [[2147483648, 1], [4294967295, 1]]
    """
    weights = np.asarray(weights, np.float64)
    total = weights.sum() if weights.ndim == 1 else 0.0
    if not 0 < total < np.inf or weights.min() < 0:
        raise ShapeError(
            "alias_table: weights: expected a vector of numbers from 0, not all 0, got "
            f"shape {weights.shape} with sum {total}"
        )
    count = len(weights)
    part = weights * (count / total)
    table = np.empty((count, 2), np.uint32)
    table[:, 1] = np.arange(count)
    small = [int(i) for i in np.flatnonzero(part < 1)]
    large = [int(i) for i in np.flatnonzero(part >= 1)]
    part = part.tolist()
    while small and large:
        low, high = small.pop(), large[-1]
        table[low, 1] = high
        part[high] -= 1 - part[low]
        if part[high] < 1:
            small.append(large.pop())
    # what is left differs from 1 by rounding alone
    for place in (*small, *large):
        part[place] = 1.0
    table[:, 0] = np.minimum(np.array(part) * 2.0**32, 2.0**32 - 1)
    return table


class Text(NamedTuple):
    """Positions to train on, and how their neighbours and negatives are found.

    Attributes
    ----------
    words : array, shape (N,), int32
        The row of the word at each position.
    low, high : array, shape (N,), int32
        The neighbours of position i are ``low[i]`` up to ``high[i]``, without i.
    table : array, shape (V, 2), uint32
        From `alias_table`: what negatives are drawn from.
    window : int
        How far away a neighbour is at most.
    negatives : int
        Drawn for each target.
    cbow : bool
        Predict a word from its neighbours' mean, not the neighbours from the word.
    """

    words: Any
    low: Any
    high: Any
    table: Any
    window: int
    negatives: int
    cbow: bool

    @property
    def slots(self) -> int:
        """How many targets, negatives among them, a position has at most."""
        return (1 if self.cbow else 2 * self.window) * (1 + self.negatives)


@scalar
def fill_targets(
    targets: Any, i: Any, e: Any, words: Any, low: Any, high: Any, table: Any,
    negatives: Any, cbow: Any, seed: Any, position: Any,
) -> Any:  # fmt: skip
    """Write the targets of position i; return how many (0 without neighbours)."""
    count = 0
    if high[i] - low[i] < 2:
        return count
    counter = np.uint64(position) * np.uint64(targets.shape[1])
    first = i if cbow else low[i]
    last = i + 1 if cbow else high[i]
    for j in range(first, last):
        if cbow or j != i:
            targets[e, count] = words[j]
            count += 1
            for _ in range(negatives):
                targets[e, count] = draw(table, seed, counter + np.uint64(count))
                count += 1
    return count


@cpu_loop
def score(
    begin: Any, end: Any, first: Any, inputs: Any, outputs: Any, words: Any, low: Any,
    high: Any, table: Any, negatives: Any, cbow: Any, seed: Any, offset: Any, rate: Any,
    targets: Any, factors: Any, counts: Any, hidden: Any, grads: Any,
) -> None:  # fmt: skip
    columns = outputs.shape[1]
    step = columns * 4
    base = outputs.ctypes.data
    one = np.float32(1.0)
    for e in range(begin, end):
        i = first + e
        count = fill_targets(
            targets, i, e, words, low, high, table, negatives, cbow, seed, offset + i
        )
        counts[e] = count
        if count == 0:
            continue
        mine = targets[e]
        for k in range(count):
            prefetch(base + np.int64(mine[k]) * step, step)
        row = hidden.ctypes.data + e * step
        if cbow:
            hidden[e, :] = np.float32(0.0)
            share = one / np.float32(high[i] - low[i] - 1)
            for j in range(low[i], high[i]):
                if j != i:
                    source = inputs.ctypes.data + np.int64(words[j]) * step
                    add_scaled(row, source, columns, share)
        else:
            row = inputs.ctypes.data + np.int64(words[i]) * step
        g = factors[e]
        for k in range(count):
            g[k] = dot(row, base + np.int64(mine[k]) * step, columns, one)
        for k in range(np.uint64(count)):
            g[k] = -rate / (one + special.exp(-g[k]))
        own = mine[0]
        for k in range(count):
            if k % (negatives + 1) == 0:
                own = mine[k]
                g[k] += rate
            elif mine[k] == own:
                # a negative that is the target itself is none
                g[k] = np.float32(0.0)
        grads[e, :] = np.float32(0.0)
        change = grads.ctypes.data + e * step
        for k in range(count):
            add_scaled(change, base + np.int64(mine[k]) * step, columns, g[k])


@cpu_loop
def apply(
    begin: Any, end: Any, first: Any, size: Any, inputs: Any, outputs: Any, words: Any,
    low: Any, high: Any, cbow: Any, targets: Any, factors: Any, counts: Any,
    hidden: Any, grads: Any,
) -> None:  # fmt: skip
    columns = outputs.shape[1]
    step = columns * 4
    left = begin * LINE
    count = min(end * LINE, columns) - left
    to_inputs = inputs.ctypes.data + left * 4
    to_outputs = outputs.ctypes.data + left * 4
    one = np.float32(1.0)
    for e in range(size):
        if cbow:
            row = hidden.ctypes.data + left * 4 + e * step
        else:
            row = to_inputs + np.int64(words[first + e]) * step
        for k in range(counts[e]):
            target = to_outputs + np.int64(targets[e, k]) * step
            add_scaled(target, row, count, factors[e, k])
    for e in range(size):
        if counts[e] == 0:
            continue
        i = first + e
        change = grads.ctypes.data + left * 4 + e * step
        if cbow:
            for j in range(low[i], high[i]):
                if j != i:
                    add_scaled(
                        to_inputs + np.int64(words[j]) * step, change, count, one
                    )
        else:
            add_scaled(to_inputs + np.int64(words[i]) * step, change, count, one)


@cpu_kernel(shared=True)
def train_cpu(
    inputs: Any, outputs: Any, words: Any, low: Any, high: Any, table: Any,
    negatives: Any, cbow: Any, begin: Any, end: Any, seed: Any, offset: Any,
    rates: Any, targets: Any, factors: Any, counts: Any, hidden: Any, grads: Any,
) -> None:  # fmt: skip
    batch = counts.size
    lines = (outputs.shape[1] + LINE - 1) // LINE
    for number in range(rates.size):
        first = begin + number * batch
        size = min(batch, end - first)
        spread(
            score, size, GRAIN,
            (first, inputs, outputs, words, low, high, table, negatives, cbow, seed,
             offset, rates[number], targets, factors, counts, hidden, grads),
        )  # fmt: skip
        spread(
            apply, lines, 1,
            (first, size, inputs, outputs, words, low, high, cbow, targets, factors,
             counts, hidden, grads),
        )  # fmt: skip


def _check(inputs: Any, outputs: Any, text: Text) -> None:
    for name, matrix in (("inputs", inputs), ("outputs", outputs)):
        if matrix.dtype != np.float32:
            raise DTypeError(f"skipgram: {name}: expected float32, got {matrix.dtype}")
        if matrix.ndim != 2 or matrix.shape != inputs.shape:
            raise ShapeError(
                f"skipgram: {name} has shape {matrix.shape}, expected (V, columns) as "
                f"inputs, which has {inputs.shape}"
            )
        if not matrix.flags.c_contiguous:
            raise ShapeError(f"skipgram: {name} is not C-contiguous")
    shapes = {array.shape for array in (text.words, text.low, text.high)}
    if len(shapes) != 1 or text.words.ndim != 1:
        raise ShapeError(
            f"skipgram: words, low and high: expected vectors of one length, got "
            f"shapes {sorted(shapes)}"
        )


def train(
    inputs: Any,
    outputs: Any,
    text: Text,
    first: int,
    last: int,
    rates: Any,
    *,
    batch: int = 64,
    seed: int = 0,
    offset: int = 0,
) -> None:
    """Train on positions `first` to `last`, in batches; both matrices are changed.

    Parameters
    ----------
    inputs, outputs : array, shape (V, columns), float32
        C-contiguous. A multiple of 16 columns, beginning on a line of the cache, is
        fastest on the CPU.
    text : Text
        Its words must be below V, and neighbours within it: to be checked by the
        caller.
    first, last : int
    rates : array, shape (batches,), float32
        The learning rate of each batch of `batch` positions; the last may have fewer.
    batch : int
        Positions that see the same vectors.
    seed, offset : int
        Position i draws the negatives of (seed, offset + i).

    Raises
    ------
    ShapeError, DTypeError
        If the arrays do not fit.
    """
    from nnlib.kernels import skipgram_cuda

    _check(inputs, outputs, text)
    if len(rates) != -(-(last - first) // batch) or not 0 <= first <= last <= len(
        text.words
    ):
        raise ShapeError(
            f"skipgram: rates: expected one for each batch of {batch} of positions "
            f"{first} to {last} (of {len(text.words)}), got {len(rates)}"
        )
    if first == last:
        return
    if on_cuda(inputs):
        for number, rate in enumerate(rates):
            start = first + number * batch
            skipgram_cuda.train_batch(
                inputs, outputs, text, start, min(batch, last - start), rate, seed,
                offset,
            )  # fmt: skip
        return
    columns = inputs.shape[1]
    module = array_module(inputs)
    slots = text.slots
    train_cpu(
        inputs, outputs, text.words, text.low, text.high, text.table, text.negatives,
        text.cbow, first, last, np.uint64(seed), offset, rates,
        module.empty((batch, slots), np.int32),
        module.empty((batch, slots), np.float32),
        module.zeros(batch, np.int64),
        module.empty((batch, columns), np.float32),
        module.empty((batch, columns), np.float32),
    )  # fmt: skip
