"""Cross-entropy of class indices on logits, fused, forward and backward.

With p = softmax(x), class weights w, label smoothing e and C classes, row i with target
t costs (Szegedy et al. 2016, section 7; PyTorch's definition)::

    loss_i = (1 - e) * w_t * -log p_t  +  e / C * sum_j w_j * -log p_j

and its gradient, times the row's factor g::

    g * (p_j * ((1 - e) * w_t + e / C * sum_k w_k)
         - (1 - e) * w_t * [j = t] - e / C * w_j)

The CUDA loops are in `softmax_cross_entropy_cuda`.

A row whose target is `ignore_index` costs nothing and has gradient 0. The forward pass
stores log sum exp of each row and nothing else; the backward pass recomputes p from it.

In the kernels an empty `weight` array stands for weights of 1, without smoothing. Their
`settings` are ignore_index, smoothing and the rows of a run.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.kernels import softmax_cross_entropy_cuda, special
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    faults,
    on_cuda,
    spread,
)
from nnlib.kernels.row_groups import group_pass, group_size
from nnlib.kernels.row_passes import row_pass

__all__ = ["backward", "forward"]

# Logits of one task, about; the rows of one are done by the calling thread alone.
CHUNK = 4096
# Classes up to which a task has a group of rows at least.
LONG = 1024
# Bytes of the totals of a group of rows.
GROUP_BYTES = group_size(1)
# A sum of exponentials whose logarithm is less than this has none that was too large.
_MOST = np.float32(85)

_INT64 = np.dtype(np.int64)
_NO_WEIGHT = {kind: np.empty(0, kind) for kind in (np.float32, np.float64)}


def _odds(x: Any, own: Any) -> tuple[Any]:
    return ((x - own).exp_for_log(),)


# The next task's targets are read before its rows: they come beforehand.
group_odds = group_pass(_odds, "+", ahead=CHUNK)
row_top = row_pass(lambda x: (x,), ">")
add_values = row_pass(lambda x: (x,), "+")
row_total = row_pass(lambda x, top: ((x - top).exp(),), "+", ahead=CHUNK)
row_gradient = row_pass(lambda x, lse, scale: ((x - lse).exp() * scale,), "")


@cpu_loop
def forward_rows(
    begin: Any, end: Any, x: Any, target: Any, weight: Any, settings: Any, loss: Any,
    lse: Any, parts: Any, wrong: Any,
) -> None:  # fmt: skip
    """Do the runs of rows from `begin` to `end` - 1, of a few thousand logits each.

    Each leaves the sums of its losses and weights, and its first bad target or -1.
    """
    kind = x.dtype.type
    classes = x.shape[1]
    pitch = classes * x.itemsize
    group = GROUP_BYTES // x.itemsize
    ignore_index, smoothing, step = settings
    weights = kind(0)
    if smoothing != kind(0):
        for j in range(weight.size):
            weights += weight[j]
    for task in range(begin, end):
        first = task * step
        last = first + step
        last = last if last < x.shape[0] else x.shape[0]
        # Of unsigned numbers the negative ones are large, and no index is looked at for
        # being negative.
        bad: Any = -1
        for i in range(np.uint64(first), np.uint64(last)):
            t = np.uint64(target[i])
            if t >= np.uint64(classes):
                if target[i] != ignore_index and bad < 0:
                    bad = np.int64(i)
                t = np.uint64(0)
            loss[i] = x[i, t]
        whole = first + (last - first) // group * group
        for i in range(first, whole, group):
            group_odds(
                x.ctypes.data + i * pitch, pitch,
                (loss.ctypes.data + i * x.itemsize,), classes,
                (lse.ctypes.data + i * x.itemsize,), x[0, 0],
            )  # fmt: skip
        # Rows that make no group, and those of which a term may have overflowed, take
        # their maxima.
        slow = whole < last
        for i in range(np.uint64(first), np.uint64(whole)):
            cost = special.log(lse[i])
            lse[i] = loss[i] + cost
            loss[i] = cost
            slow |= not cost < _MOST
        if slow:
            for i in range(first, last):
                if i < whole and loss[i] < _MOST:
                    continue
                row = x.ctypes.data + i * pitch
                (top,) = row_top((row,), (), (), classes, x[0, 0])
                # A row that holds a NaN makes its total NaN.
                (total,) = row_total((row,), (top,), (), classes, x[0, 0])
                rest = special.log(total)
                lse[i] = top + rest
                own = target[i] if 0 <= target[i] < classes else 0
                loss[i] = top - x[i, own] + rest
        counted: Any = 0
        for i in range(np.uint64(first), np.uint64(last)):
            # What does not count has cost 0.
            counts = target[i] != ignore_index
            loss[i] = loss[i] if counts else kind(0)
            counted += np.int64(counts)
        (part,) = add_values(
            (loss.ctypes.data + first * x.itemsize,), (), (), last - first, x[0, 0]
        )
        cost_sum = np.float64(part)
        weight_sum = np.float64(counted)
        # Most losses have no weights: the loop above does not look for them.
        if weight.size > 0 and bad < 0:
            cost_sum, weight_sum = np.float64(0), np.float64(0)
            for i in range(np.uint64(first), np.uint64(last)):
                if target[i] != ignore_index:
                    t = np.uint64(target[i])
                    cost = loss[i] * weight[t]
                    weight_sum += np.float64(weight[t])
                    if smoothing != kind(0):
                        rest = weights * lse[i]
                        for j in range(np.uint64(classes)):
                            rest -= weight[j] * x[i, j]
                        cost = (kind(1) - smoothing) * cost
                        cost += smoothing * rest / kind(classes)
                    loss[i] = cost
                    cost_sum += np.float64(cost)
        parts[task, 0] = cost_sum
        parts[task, 1] = weight_sum
        wrong[task] = bad


@cpu_kernel(shared=True)
def forward_cpu(
    x: Any, target: Any, weight: Any, settings: Any, loss: Any, lse: Any, sums: Any
) -> Any:
    """Return the position of the first bad target, or -1 with the losses written."""
    step = settings[2]
    tasks = (x.shape[0] + step - 1) // step
    parts = np.empty((tasks, 2), np.float64)
    wrong = np.empty(tasks, np.int64)
    spread(
        forward_rows, tasks, 1,
        (x, target, weight, settings, loss, lse, parts, wrong),
    )  # fmt: skip
    cost, count = np.float64(0), np.float64(0)
    for task in range(tasks):
        if wrong[task] >= 0:
            return wrong[task]
        cost += parts[task, 0]
        count += parts[task, 1]
    sums[0] = cost
    sums[1] = count
    sums[2] = cost / count if count != 0 else cost
    sums[3] = count if count != 0 else np.float64(1)
    return -1


@cpu_loop
def backward_rows(
    begin: Any, end: Any, x: Any, target: Any, weight: Any, settings: Any, lse: Any,
    factor: Any, grad: Any,
) -> None:  # fmt: skip
    """Do the runs of rows from `begin` to `end` - 1; `grad` is flat."""
    kind = x.dtype.type
    classes = np.uint64(x.shape[1])
    pitch = x.shape[1] * x.itemsize
    ignore_index, smoothing, step = settings
    share = smoothing / kind(x.shape[1])
    weights = kind(0)
    if smoothing != kind(0):
        for j in range(weight.size):
            weights += weight[j]
    for first in range(begin * step, end * step, step):
        last = first + step
        last = last if last < x.shape[0] else x.shape[0]
        for i in range(first, last):
            at = np.uint64(i) * classes
            t = target[i]
            if t == ignore_index:
                for j in range(classes):
                    grad[at + j] = 0
                continue
            g = factor[i] if factor.size > 1 else factor[0]
            own = (kind(1) - smoothing) * g
            if weight.size > 0:
                own *= weight[t]
            scale = own + share * weights * g
            row_gradient(
                (x.ctypes.data + i * pitch,), (lse[i], scale),
                (grad.ctypes.data + i * pitch,), x.shape[1], x[0, 0],
            )  # fmt: skip
            if smoothing != kind(0):
                for j in range(classes):
                    grad[at + j] -= share * g * weight[j]
            grad[at + np.uint64(t)] -= own


@cpu_kernel(shared=True)
def backward_cpu(
    x: Any, target: Any, weight: Any, settings: Any, lse: Any, factor: Any, grad: Any
) -> None:
    step = settings[2]
    tasks = (x.shape[0] + step - 1) // step
    spread(backward_rows, tasks, 1, (x, target, weight, settings, lse, factor, grad))


def _prepare(
    name: str, x: Any, target: Any, weight: Any, smoothing: float
) -> tuple[Any, Any, Any, Any]:
    """Check the arguments; return them as the kernels take them, with the module."""
    kind = scalar_type(name, x)
    module = array_module(x)
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ShapeError(
            f"{name}: expected logits (N, C) and targets (N,), got {x.shape} and "
            f"{target.shape}"
        )
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{name}: targets must be integers, got {target.dtype}")
    if weight is None:
        if module is np and not smoothing:
            weight = _NO_WEIGHT[kind]
        else:
            make = module.ones if smoothing else module.empty
            weight = make(x.shape[1] if smoothing else 0, kind)
    elif weight.shape != x.shape[1:] or weight.dtype != x.dtype:
        raise ShapeError(
            f"{name}: weight is {weight.dtype} of shape {weight.shape}, expected "
            f"{x.dtype} of shape {x.shape[1:]}"
        )
    if not x.flags.c_contiguous:
        x = module.ascontiguousarray(x)
    if target.dtype != _INT64 or not target.flags.c_contiguous:
        target = module.ascontiguousarray(target, dtype=np.int64)
    if not weight.flags.c_contiguous:
        weight = module.ascontiguousarray(weight)
    return x, target, weight, module


@functools.lru_cache(maxsize=64)
def _settings(kind: Any, ignore_index: int, smoothing: float, classes: int) -> Any:
    """Return what the CPU's kernels take as their settings."""
    group = GROUP_BYTES // kind(0).itemsize
    step = max(1, CHUNK // classes // group) * group if classes <= LONG else 1
    return ignore_index, kind(smoothing), step


def forward(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    smoothing: float = 0.0,
) -> tuple[Any, Any, Any]:
    """Return the loss of every row, what `backward` needs, and the sums for a mean.

    Parameters
    ----------
    x : array, shape (N, C), float32 or float64
        The logits.
    target : integer array, shape (N,)
        The class of each row, or `ignore_index`.
    weight : array, shape (C,), dtype of `x`, optional
        A factor for each class.
    ignore_index : int
        Rows with this target do not count.
    smoothing : float
        Label smoothing, from 0 to 1.

    Returns
    -------
    loss : array, shape (N,), dtype of `x`
    lse : array, shape (N,), dtype of `x`
        log sum exp of each row.
    sums : array, shape (4,), dtype of `x`
        The sum of the losses; that of the weights of the rows that count; their
        quotient, PyTorch's mean; its divisor: 1, where no row counts.

    Raises
    ------
    BoundsError
        If a target is no class: at once on the CPU, on CUDA at the next
        synchronisation.

    Examples
    --------
    >>> loss, lse, sums = forward(np.zeros((1, 2)), np.array([1]))
    >>> loss.round(6)
    array([0.693147])
    """
    x, target, weight, module = _prepare("cross_entropy", x, target, weight, smoothing)
    rows, classes = x.shape
    kind = x.dtype.type
    loss = module.empty(rows, x.dtype)
    lse = module.empty(rows, x.dtype)
    ignore_index = int(ignore_index)

    def describe(position: int, value: int) -> BoundsError:
        return BoundsError(
            f"cross_entropy: target {value} at position {position} is no class: "
            f"expected 0 to {classes - 1}, or ignore_index ({ignore_index})"
        )

    if not rows or not classes:
        if rows and not bool((target == ignore_index).all()):
            raise describe(0, int(target[0]))
        lse[...] = -special.INFINITY
        loss[...] = 0
        return loss, lse, module.asarray([0, 0, 0, 1], x.dtype)
    sums = module.empty(4, x.dtype)
    if on_cuda(x):
        slots, slot = faults.open_slot(target, describe)
        softmax_cross_entropy_cuda.forward(
            x, target, weight, ignore_index, kind(smoothing), loss, lse, sums, slots,
            slot,
        )  # fmt: skip
        return loss, lse, sums
    settings = _settings(kind, ignore_index, smoothing, classes)
    # One task does not enter the pool, and need not pass its guard.
    run = (rows <= settings[2] and forward_cpu.dispatcher) or forward_cpu.entry
    wrong = run(x, target, weight, settings, loss, lse, sums)
    if wrong >= 0:
        raise describe(wrong, int(target[wrong]))
    return loss, lse, sums


def backward(
    x: Any,
    target: Any,
    lse: Any,
    factor: Any,
    weight: Any = None,
    ignore_index: int = -100,
    smoothing: float = 0.0,
    out: Any = None,
) -> Any:
    """Return the gradient of the logits.

    Parameters
    ----------
    x, target, weight, ignore_index, smoothing
        As for `forward`, which has checked the targets.
    lse : array, shape (N,)
        From `forward`.
    factor : array, shape (N,), (1,) or (), float
        The gradient of each row's loss, or one for all.
    out : array, shape (N, C), dtype of `x`, C-contiguous, optional
        Where to write; it may be `x` itself.

    Returns
    -------
    array, shape (N, C), dtype of `x`

    Examples
    --------
    >>> x, target = np.zeros((1, 2)), np.array([1])
    >>> backward(x, target, forward(x, target)[1], np.ones(1))
    array([[ 0.5, -0.5]])
    """
    name = "cross_entropy backward"
    x, target, weight, module = _prepare(name, x, target, weight, smoothing)
    rows, classes = x.shape
    kind = x.dtype.type
    factor = factor.reshape(-1)
    if factor.size not in (1, rows):
        raise ShapeError(f"{name}: factor has {factor.size} elements, expected {rows}")
    if factor.dtype != x.dtype or not factor.flags.c_contiguous:
        factor = module.ascontiguousarray(factor, dtype=x.dtype)
    if out is None:
        out = module.empty(x.shape, x.dtype)
    elif out.shape != x.shape or out.dtype != x.dtype or not out.flags.c_contiguous:
        raise ShapeError(
            f"{name}: out is {out.dtype} of shape {out.shape}, expected contiguous "
            f"{x.dtype} of shape {x.shape}"
        )
    if not x.size:
        return out
    if on_cuda(x):
        softmax_cross_entropy_cuda.backward(
            x, target, weight, int(ignore_index), kind(smoothing), lse, factor, out
        )
        return out
    settings = _settings(kind, int(ignore_index), smoothing, classes)
    backward_cpu(x, target, weight, settings, lse, factor, out.reshape(-1))
    return out
