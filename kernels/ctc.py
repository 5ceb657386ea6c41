"""Connectionist temporal classification: the loss of all alignments together.

Source: Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal
classification", ICML 2006, section 4.1. With the blanks between, before and after the
labels, a target of S labels has 2 S + 1 states; alpha(t, s) is the log-probability of
all prefixes that end in state s at step t, beta(t, s) that of what follows::

    alpha(t, s) = y(t, label s) + log(sum of exp alpha(t - 1, s'), s' = s, s - 1, s - 2)
    loss        = -log(exp alpha(T - 1, last) + exp alpha(T - 1, last - 1))
    gradient    = -sum over states s of label k of exp(alpha + beta + loss)   at (t, k)

where s - 2 counts only if it is another label and no blank. The gradient is that of the
log-probabilities as independent numbers.

One sample is one task of the CPU, and one block of threads on CUDA, where the threads
share the states of a step; no two threads add to one number.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)

__all__ = ["backward", "forward"]

# Threads of a CUDA block.
THREADS = 64


@body
def add_logs(a: Any, b: Any, c: Any) -> Any:
    """Return log(exp a + exp b + exp c)."""
    top = a if a > b else b
    top = c if c > top else top
    if top == -special.INFINITY:
        return top
    total = special.exp(a - top) + special.exp(b - top) + special.exp(c - top)
    return top + special.log(total)


@body
def label_at(targets: Any, first: Any, s: Any, blank: Any) -> Any:
    """Return the label of state `s` of a sample whose targets begin at `first`."""
    return targets[first + s // 2] if s % 2 else blank


@body
def skips(targets: Any, first: Any, s: Any) -> Any:
    """Tell whether state `s` can follow state ``s - 2``."""
    if s % 2 == 0 or s < 3:
        return False
    return targets[first + s // 2] != targets[first + s // 2 - 1]


@body
def alpha_at(
    y: Any, targets: Any, first: Any, blank: Any, alpha: Any, n: Any, t: Any, s: Any
) -> Any:
    """Return alpha of a step from that of the step before."""
    lowest = y.dtype.type(-special.INFINITY)
    own = y[t, n, label_at(targets, first, s, blank)]
    if t == 0:
        return own if s < 2 else lowest
    a = alpha[n, t - 1, s]
    b = alpha[n, t - 1, s - 1] if s > 0 else lowest
    c = alpha[n, t - 1, s - 2] if skips(targets, first, s) else lowest
    return add_logs(a, b, c) + own


@body
def beta_at(
    y: Any, targets: Any, first: Any, blank: Any, beta: Any, n: Any, t: Any, s: Any,
    steps: Any, states: Any,
) -> Any:  # fmt: skip
    """Return the log-probability of what follows state `s` of step `t`."""
    kind = y.dtype.type
    lowest = kind(-special.INFINITY)
    if t == steps - 1:
        return kind(0) if s >= states - 2 else lowest
    now = (t + 1) % 2
    a = beta[n, now, s] + y[t + 1, n, label_at(targets, first, s, blank)]
    b = lowest
    c = lowest
    if s + 1 < states:
        label = label_at(targets, first, s + 1, blank)
        b = beta[n, now, s + 1] + y[t + 1, n, label]
    if s + 2 < states and skips(targets, first, s + 2):
        label = label_at(targets, first, s + 2, blank)
        c = beta[n, now, s + 2] + y[t + 1, n, label]
    return add_logs(a, b, c)


@body
def loss_of(alpha: Any, n: Any, steps: Any, states: Any) -> Any:
    """Return the loss of a sample from its last alphas."""
    kind = alpha.dtype.type
    if steps == 0:
        return kind(0) if states == 1 else kind(special.INFINITY)
    lowest = kind(-special.INFINITY)
    last = alpha[n, steps - 1, states - 1]
    before = alpha[n, steps - 1, states - 2] if states > 1 else lowest
    return -add_logs(last, before, lowest)


@cpu_loop
def forward_samples(
    begin: Any, end: Any, y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any,
    blank: Any, alpha: Any, loss: Any,
) -> None:  # fmt: skip
    for n in range(begin, end):
        states = 2 * labels[n] + 1
        for t in range(lengths[n]):
            for s in range(states):
                alpha[n, t, s] = alpha_at(y, targets, firsts[n], blank, alpha, n, t, s)
        loss[n] = loss_of(alpha, n, lengths[n], states)


@cpu_kernel(shared=True)
def forward_cpu(
    y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any, blank: Any,
    alpha: Any, loss: Any,
) -> None:  # fmt: skip
    spread(
        forward_samples, loss.size, 1,
        (y, targets, firsts, lengths, labels, blank, alpha, loss),
    )  # fmt: skip


@cpu_loop
def backward_samples(
    begin: Any, end: Any, y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any,
    blank: Any, alpha: Any, loss: Any, factor: Any, beta: Any, grad: Any,
) -> None:  # fmt: skip
    for n in range(begin, end):
        if factor[n] == 0:
            continue
        states = 2 * labels[n] + 1
        for t in range(lengths[n] - 1, -1, -1):
            for s in range(states):
                value = beta_at(
                    y, targets, firsts[n], blank, beta, n, t, s, lengths[n], states
                )
                beta[n, t % 2, s] = value
                weight = special.exp(alpha[n, t, s] + value + loss[n])
                label = label_at(targets, firsts[n], s, blank)
                grad[t, n, label] -= factor[n] * weight


@cpu_kernel(shared=True)
def backward_cpu(
    y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any, blank: Any,
    alpha: Any, loss: Any, factor: Any, beta: Any, grad: Any,
) -> None:  # fmt: skip
    spread(
        backward_samples, loss.size, 1,
        (y, targets, firsts, lengths, labels, blank, alpha, loss, factor, beta, grad),
    )  # fmt: skip


@cuda_kernel(threads=THREADS)
def forward_cuda(
    y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any, blank: Any,
    alpha: Any, loss: Any,
) -> None:  # fmt: skip
    thread = cuda.threadIdx.x
    for n in range(cuda.blockIdx.x, loss.size, cuda.gridDim.x):
        states = 2 * labels[n] + 1
        for t in range(lengths[n]):
            for s in range(thread, states, THREADS):
                alpha[n, t, s] = alpha_at(y, targets, firsts[n], blank, alpha, n, t, s)
            cuda.syncthreads()
        if thread == 0:
            loss[n] = loss_of(alpha, n, lengths[n], states)


@cuda_kernel(threads=THREADS)
def backward_cuda(
    y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any, blank: Any,
    alpha: Any, loss: Any, factor: Any, beta: Any, grad: Any,
) -> None:  # fmt: skip
    thread = cuda.threadIdx.x
    for n in range(cuda.blockIdx.x, loss.size, cuda.gridDim.x):
        states = 2 * labels[n] + 1
        if factor[n] != 0:
            for t in range(lengths[n] - 1, -1, -1):
                for s in range(thread, states, THREADS):
                    value = beta_at(
                        y, targets, firsts[n], blank, beta, n, t, s, lengths[n], states
                    )
                    beta[n, t % 2, s] = value
                    weight = special.exp(alpha[n, t, s] + value + loss[n])
                    # What was alpha of this state is its share of the gradient now.
                    alpha[n, t, s] = factor[n] * weight
                cuda.syncthreads()
            # A thread adds up whole steps: labels repeat within a step.
            for t in range(thread, lengths[n], THREADS):
                for s in range(states):
                    label = label_at(targets, firsts[n], s, blank)
                    grad[t, n, label] -= alpha[n, t, s]


def forward(
    y: Any, targets: Any, firsts: Any, lengths: Any, labels: Any, blank: int
) -> tuple[Any, Any]:
    """Return the loss of each sample, and alpha.

    Parameters
    ----------
    y : array, shape (T, N, C), float32 or float64
        Log-probabilities.
    targets : int64 array, one dimension
        Labels of all samples, each within ``[0, C)``: checked by the caller.
    firsts, lengths, labels : int64 arrays, shape (N,)
        Where a sample's labels begin, how many steps it has, and how many labels.
    blank : int

    Returns
    -------
    loss : array, shape (N,)
        Infinite where no alignment exists.
    alpha : array, shape (N, T, 2 S + 1), S the largest number of labels

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1, np.int64)
    >>> y = np.log(np.array([[[0.25, 0.75]]]))
    >>> loss, _ = forward(y, one, 0 * one, one, one, 0)
    >>> np.exp(-loss)
    array([0.75])
    """
    scalar_type("ctc_loss", y)
    module = array_module(y)
    count = lengths.size
    most = int(labels.max()) if count else 0
    alpha = module.empty((count, y.shape[0], 2 * most + 1), y.dtype)
    loss = module.empty(count, y.dtype)
    args = (module.ascontiguousarray(y), targets, firsts, lengths, labels, int(blank))
    if on_cuda(y):
        forward_cuda(*args, alpha, loss, blocks=count)
    elif count:
        forward_cpu(*args, alpha, loss)
    return loss, alpha


def backward(
    y: Any,
    targets: Any,
    firsts: Any,
    lengths: Any,
    labels: Any,
    blank: int,
    loss: Any,
    alpha: Any,
    factor: Any,
) -> Any:
    """Return the gradient of the log-probabilities.

    Parameters
    ----------
    y, targets, firsts, lengths, labels, blank
        As for `forward`.
    loss, alpha : arrays
        From `forward`.
    factor : array, shape (N,)
        The gradient of each sample's loss; with 0 it is left out.

    Returns
    -------
    array, shape (T, N, C)
    """
    module = array_module(y)
    grad = module.zeros(y.shape, y.dtype)
    count = lengths.size
    beta = module.empty((count, 2, alpha.shape[2]), y.dtype)
    factor = module.ascontiguousarray(factor, dtype=y.dtype)
    args = (module.ascontiguousarray(y), targets, firsts, lengths, labels, int(blank))
    if on_cuda(y):
        # The kernel keeps its shares where alpha was: a second pass needs alpha whole.
        share = alpha.copy()
        backward_cuda(*args, share, loss, factor, beta, grad, blocks=count)
    elif count:
        backward_cpu(*args, alpha, loss, factor, beta, grad)
    return grad
