"""The loss of skip-gram with negatives, and its gradient, in a pass over the rows each.

    loss[n] = softplus(-h . out[t]) + sum_k softplus(h . out[neg_k]),   h = in[word[n]]

Composed of look-ups and products it copies every row several times; here a row is read
where it lies. The gradient of the targets' table is added up by row at once: the rows
are numbered in ascending order by a mark for each row of the table, which for tables of
this size is quicker than a sort. The threads share out columns, so that each element
has one writer and one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.embedding import first_bad
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    faults,
    on_cuda,
    spread,
)
from nnlib.kernels.row_vectors import LINE, add_scaled, dot, prefetch

__all__ = ["backward", "forward"]

# Words of one CPU task, at least: some ten microseconds.
GRAIN = 32


@cpu_loop
def score(
    begin: Any, end: Any, inputs: Any, outputs: Any, words: Any, targets: Any,
    losses: Any, factors: Any,
) -> None:  # fmt: skip
    columns, size = outputs.shape[1], outputs.itemsize
    step = columns * size
    base, first = outputs.ctypes.data, inputs.ctypes.data
    slots = targets.shape[1]
    zero = losses.dtype.type(0)
    one = losses.dtype.type(1)
    for n in range(begin, end):
        if n + 1 < end:
            prefetch(first + words[n + 1] * step, step)
            for k in range(slots):
                prefetch(base + targets[n + 1, k] * step, step)
        g = factors[n]
        row = first + words[n] * step
        for k in range(slots):
            g[k] = dot(row, base + targets[n, k] * step, columns, zero)
        g[0] = -g[0]
        total = zero
        for k in range(slots):
            x = g[k]
            # softplus(x), and its slope sigmoid(x)
            total += special.maximum(x, zero) + special.log1p(special.exp(-abs(x)))
            g[k] = one / (one + special.exp(-x))
        g[0] = -g[0]
        losses[n] = total


@cpu_kernel(shared=True)
def score_cpu(
    inputs: Any, outputs: Any, words: Any, targets: Any, losses: Any, factors: Any
) -> Any:
    """Return which list holds a number that is no row (1, 2), and where; else 0."""
    wrong = first_bad(words, inputs.shape[0])
    if wrong >= 0:
        return 1, wrong
    wrong = first_bad(targets.reshape(-1), outputs.shape[0])
    if wrong >= 0:
        return 2, wrong
    spread(score, words.size, GRAIN, (inputs, outputs, words, targets, losses, factors))
    return 0, 0


@cpu_kernel(parallel=False)
def number_cpu(ids: Any, marks: Any, places: Any) -> Any:
    """Write the place of each number among the different ones; return how many."""
    for i in range(ids.size):
        marks[ids[i]] = 1
    count = 0
    for row in range(marks.size):
        if marks[row]:
            marks[row] = count
            count += 1
    for i in range(ids.size):
        places[i] = marks[ids[i]]
    return count


@cpu_loop
def spread_gradient(
    begin: Any, end: Any, inputs: Any, outputs: Any, words: Any, targets: Any,
    factors: Any, scale: Any, places_in: Any, places_out: Any, grad_in: Any,
    grad_out: Any,
) -> None:  # fmt: skip
    size = outputs.itemsize
    step = outputs.shape[1] * size
    left = begin * LINE
    count = min(end * LINE, outputs.shape[1]) - left
    shift = left * size
    slots = targets.shape[1]
    source, base = inputs.ctypes.data + shift, outputs.ctypes.data + shift
    to_in, to_out = grad_in.ctypes.data + shift, grad_out.ctypes.data + shift
    for n in range(words.size):
        row = source + words[n] * step
        change = to_in + places_in[n] * step
        if n + 1 < words.size:
            prefetch(source + words[n + 1] * step, count * size)
            for k in range(slots):
                prefetch(base + targets[n + 1, k] * step, count * size)
        for k in range(slots):
            factor = factors[n, k] * scale[n]
            add_scaled(change, base + targets[n, k] * step, count, factor)
            target = to_out + places_out[n * slots + k] * step
            add_scaled(target, row, count, factor)


@cpu_kernel(shared=True)
def gradient_cpu(
    inputs: Any, outputs: Any, words: Any, targets: Any, factors: Any, scale: Any,
    places_in: Any, places_out: Any, grad_in: Any, grad_out: Any,
) -> None:  # fmt: skip
    lines = (outputs.shape[1] + LINE - 1) // LINE
    spread(
        spread_gradient, lines, 1,
        (inputs, outputs, words, targets, factors, scale, places_in, places_out,
         grad_in, grad_out),
    )  # fmt: skip


@cuda_kernel
def score_cuda(
    inputs: Any, outputs: Any, words: Any, targets: Any, losses: Any, factors: Any,
    slots_in: Any, slot_in: Any, slots_out: Any, slot_out: Any,
) -> None:  # fmt: skip
    zero = losses.dtype.type(0)
    one = losses.dtype.type(1)
    width = targets.shape[1]
    for t in range(cuda.grid(1), targets.size, cuda.gridsize(1)):
        n = t // width
        k = t - n * width
        word, row = words[n], targets[n, k]
        if word < 0 or word >= inputs.shape[0]:
            cuda.atomic.min(slots_in, slot_in, n)
        elif row < 0 or row >= outputs.shape[0]:
            cuda.atomic.min(slots_out, slot_out, t)
        else:
            x = zero
            for c in range(inputs.shape[1]):
                x += inputs[word, c] * outputs[row, c]
            sign = -one if k == 0 else one
            x *= sign
            losses[n, k] = special.maximum(x, zero) + special.log1p(
                special.exp(-abs(x))
            )
            factors[n, k] = sign / (one + special.exp(-x))


@cuda_kernel
def rows_cuda(rows: Any, outputs: Any, targets: Any, factors: Any, scale: Any) -> None:
    columns = rows.shape[1]
    for t in range(cuda.grid(1), rows.size, cuda.gridsize(1)):
        n = t // columns
        c = t - n * columns
        total = rows.dtype.type(0)
        for k in range(targets.shape[1]):
            row = targets[n, k]
            if row >= 0 and row < outputs.shape[0]:
                total += factors[n, k] * outputs[row, c]
        rows[n, c] = total * scale[n]


def _describe(which: int, rows: int, width: int) -> Any:
    def describe(position: int, value: int) -> Exception:
        n, k = divmod(int(position), width)
        place = f"words[{position}]"
        if which:
            place = f"negatives[{n}, {k - 1}]" if k else f"targets[{n}]"
        return BoundsError(
            f"skipgram_loss: {place} is {value}, expected 0 <= id < {rows}"
        )

    return describe


def _check(inputs: Any, outputs: Any, words: Any, targets: Any) -> None:
    kind = scalar_type("skipgram_loss", inputs)
    if outputs.dtype != kind:
        raise DTypeError(
            f"skipgram_loss: outputs: expected {inputs.dtype}, got {outputs.dtype}"
        )
    if words.dtype != np.int64 or targets.dtype != np.int64:
        raise DTypeError(
            f"skipgram_loss: expected int64 words and targets, got {words.dtype} and "
            f"{targets.dtype}"
        )
    if targets.ndim != 2 or words.shape != targets.shape[:1] or not targets.shape[1]:
        raise ShapeError(
            f"skipgram_loss: expected words (N,) and targets (N, K), got {words.shape} "
            f"and {targets.shape}"
        )


def forward(inputs: Any, outputs: Any, words: Any, targets: Any) -> tuple[Any, Any]:
    """Return the loss of each word, and by how much each score moves it.

    Parameters
    ----------
    inputs : array, shape (V, D), float32 or float64, C-contiguous
    outputs : array, shape (W, D), dtype of `inputs`, C-contiguous
    words : array, shape (N,), int64
    targets : array, shape (N, 1 + K), int64
        The target of each word, then its negatives.

    Returns
    -------
    losses : array, shape (N,)
    factors : array, shape (N, 1 + K)
        ``sigmoid(score) - label``.

    Raises
    ------
    BoundsError
        If a number is no row: on the CPU at once, on CUDA at the next synchronisation.
    ShapeError, DTypeError
        If the arrays do not fit.

    Examples
    --------
    >>> table = np.zeros((2, 3))
    >>> losses, factors = forward(table, table, np.array([0]), np.array([[1, 0]]))
    >>> losses.round(4).tolist(), factors.tolist()
    ([1.3863], [[-0.5, 0.5]])
    """
    _check(inputs, outputs, words, targets)
    module = array_module(inputs)
    factors = module.empty(targets.shape, inputs.dtype)
    width = targets.shape[1]
    lists = ((inputs, words), (outputs, targets))
    if on_cuda(inputs):
        losses = module.zeros(targets.shape, inputs.dtype)
        factors.fill(0)
        found: list[Any] = []
        for number, (table, ids) in enumerate(lists):
            describe = _describe(number, len(table), width)
            found += faults.open_slot(ids, describe, more=1 - number)
        score_cuda(
            inputs, outputs, words, targets, losses, factors, *found,
            items=targets.size,
        )  # fmt: skip
        return losses.sum(1), factors
    losses = module.empty(len(words), inputs.dtype)
    which, where = score_cpu(inputs, outputs, words, targets, losses, factors)
    if which:
        table, ids = lists[which - 1]
        value = int(ids.reshape(-1)[where])
        raise _describe(which - 1, len(table), width)(int(where), value)
    return losses, factors


def _numbered(ids: Any, rows: int) -> tuple[Any, Any]:
    """Return the different numbers in ascending order, and the place of each."""
    flat = ids.reshape(-1)
    if rows > 64 * flat.size + 4096:
        unique, places = np.unique(flat, return_inverse=True)
        return unique, places.reshape(-1)
    marks = np.zeros(rows, np.int32)
    places = np.empty(flat.size, np.int64)
    count = number_cpu(flat, marks, places)
    unique = np.empty(count, np.int64)
    unique[places] = flat
    return unique, places


def backward(
    inputs: Any, outputs: Any, words: Any, targets: Any, factors: Any, scale: Any
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the gradients of both tables, as (rows, values) each.

    Parameters
    ----------
    inputs, outputs, words, targets, factors
        As for `forward`, and from it.
    scale : array, shape (N,)
        The gradient of each loss.

    Returns
    -------
    (rows, values), (rows, values)
        On the CPU each row once, in ascending order; on CUDA as they come.
    """
    module = array_module(inputs)
    columns = inputs.shape[1]
    if on_cuda(inputs):
        values = module.empty((len(words), columns), inputs.dtype)
        rows_cuda(values, outputs, targets, factors, scale, items=values.size)
        scaled = factors * scale[:, None]
        # (N, K, 1) * (N, 1, D) -> (N * K, D)
        theirs = scaled[:, :, None] * inputs[words][:, None, :]
        return (words, values), (targets.reshape(-1), theirs.reshape(-1, columns))
    rows_in, places_in = _numbered(words, len(inputs))
    rows_out, places_out = _numbered(targets, len(outputs))
    grad_in = np.zeros((len(rows_in), columns), inputs.dtype)
    grad_out = np.zeros((len(rows_out), columns), inputs.dtype)
    gradient_cpu(
        inputs, outputs, words, targets, factors, scale, places_in, places_out,
        grad_in, grad_out,
    )  # fmt: skip
    return (rows_in, grad_in), (rows_out, grad_out)
