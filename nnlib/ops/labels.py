"""Class labels: checks, weights, and the entries of scores that they name."""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.hidden import readable
from nnlib.backend.device import array_module, context_of, device_of
from nnlib.backend.dtypes import int64
from nnlib.backend.errors import BoundsError, DeviceError, DTypeError, ShapeError
from nnlib.ops.activation import SMALL
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.dims import raw, within
from nnlib.ops.loss import check_float, place, report

__all__: list[str] = []


def check_classes(op: str, input: Any, target: Any, most: int | None = None) -> int:
    """Check the shapes of scores and labels; return the number of classes.

    Parameters
    ----------
    input : shape (C,), (N, C) or (N, C, d1, ...), at most `most` dimensions
    target : shape (), (N,) or (N, d1, ...), integers
    """
    scores, labels = raw(input), raw(target)
    check_float(op, "input", scores)
    shape = scores.shape
    if (
        len(shape) == 2
        and type(labels) is type(scores)
        and labels.shape == shape[:1]
        and labels.dtype.kind in "iu"
    ):
        # A label for each row: by far the most frequent case.
        return int(shape[1])
    if not hasattr(labels, "dtype"):
        raise DTypeError(
            f"{op}: target: expected a Tensor, got {type(target).__name__}"
        )
    if not shape or (most is not None and len(shape) > most):
        raise ShapeError(
            f"{op}: input: expected shape (C,), (N, C)"
            f"{'' if most else ' or (N, C, d1, ...)'}, got {shape}"
        )
    expected = () if len(shape) == 1 else shape[:1] + shape[2:]
    if labels.shape != expected:
        raise ShapeError(
            f"{op}: target has shape {labels.shape}, input has shape {shape}: expected "
            f"class indices of shape {expected}"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{op}: target: expected integer class indices, got {labels.dtype}"
        )
    if type(labels) is not type(scores) and device_of(labels) != device_of(scores):
        raise DeviceError(
            f"{op}: target is on {device_of(labels)}, input on "
            f"{device_of(raw(input))}; move it with .to('{device_of(raw(input))}')"
        )
    return int(shape[0] if len(shape) == 1 else shape[1])


def check_labels(op: str, labels: Any, classes: int, ignore: int | None) -> bool:
    """Raise for the first label that is no class and not `ignore`.

    At once on the CPU; on CUDA at the next synchronisation.

    Returns
    -------
    bool
        Whether some labels may be ignored, or may be bad (on CUDA).
    """
    if type(labels) is np.ndarray:
        if not labels.size:
            return False
        if within(labels, 0, classes):
            if ignore is None or not 0 <= ignore < classes:
                return False
            return bool((labels == ignore).any())
    bad = (labels < 0) | (labels >= classes)
    if ignore is not None:
        bad &= labels != ignore
    also = "" if ignore is None else f" or ignore_index {ignore}"

    def describe(position: int, value: int) -> BoundsError:
        return BoundsError(
            f"{op}: target{place(position, labels.shape)} is {value}, expected 0 <= "
            f"class < {classes}{also}"
        )

    report(bad, labels, describe)
    return True


def class_weights(op: str, weight: Any, classes: int, input: Any) -> Any:
    """Return class weights as an array like `input`'s; or None."""
    if weight is None:
        return None
    array = raw(weight)
    if array.shape != (classes,):
        raise ShapeError(
            f"{op}: weight has shape {tuple(array.shape)}, expected ({classes},): one "
            "weight per class"
        )
    like = raw(input)
    with context_of(like):
        return array_module(like).asarray(readable(array), dtype=like.dtype)


def one_hot_mask(labels: Any, classes: int) -> Any:
    """Return booleans of shape (N, C), true at each row's label."""
    return labels[:, None] == array_module(labels).arange(classes)


def label_factors(
    op: str, labels: Any, classes: int, ignore: int, weights: Any, dtype: Any
) -> tuple[Any, Any]:
    """Return labels that are all classes, and each one's factor (None: 1 for all).

    The factor is the class weight, and 0 where the label was `ignore`. On CUDA, where
    nothing was checked, a bad label has the factor NaN.
    """
    if not check_labels(op, labels, classes, ignore):
        return labels, None if weights is None else weights[labels]
    module = array_module(labels)
    ignored = labels == ignore
    good = (labels >= 0) & (labels < classes)
    safe = module.where(good, labels, 0)
    counted = dtype.type(1) if weights is None else weights[safe]
    factor = module.where(good, counted, dtype.type("nan"))
    return safe, module.where(ignored, dtype.type(0), factor).astype(dtype, copy=False)


def divisor(op: str, factor: Any, count: int) -> Any:
    """Return what the sum of the losses is divided by: the sum of the factors.

    Where that is 0, because every target is ignored, it is 1: the mean is 0, and not
    PyTorch's NaN. On the CPU a warning says so.
    """
    if factor is None:
        return count
    total = factor.sum()
    if type(factor) is not np.ndarray:
        return array_module(factor).where(total == 0, 1, total)
    if total == 0:
        warn_ignored(op)
        return 1
    return total


def warn_ignored(op: str) -> None:
    """Warn that a mean has nothing to be taken over, at the line outside nnlib."""
    level, frame = 1, sys._getframe()
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("nnlib."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{op}: every target is ignored or has weight 0: the mean is taken as 0",
        stacklevel=level,
    )


def places(labels: Any) -> tuple[Any, ...]:
    """Return the index of each label's entry in scores of shape (N, C, ...)."""
    module, ndim = array_module(labels), labels.ndim
    if ndim == 1:
        return module.arange(labels.size), labels
    first, *rest = (
        module.arange(length).reshape((-1, *(1,) * (ndim - 1 - axis)))
        for axis, length in enumerate(labels.shape)
    )
    return first, labels, *rest


def flat_places(x: Any, labels: Any) -> Any:
    """Return the entries of `places` as positions in flat scores.

    None where that is no shorter way: for scores that are not small and (N, C), and
    off the CPU.
    """
    small = type(x) is np.ndarray and 0 < x.size <= SMALL
    if small and x.ndim == 2 and labels.dtype is int64:
        return labels + _starts(*x.shape)
    return None


@functools.lru_cache(maxsize=64)
def _starts(rows: int, classes: int) -> Any:
    """Return where each row of a table begins."""
    return np.arange(0, rows * classes, classes)


class Pick(Function):
    """Along dimension 1, the entry that each label names: (N, C, ...) -> (N, ...)."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, labels: Any) -> Any:
        """Return ``x[i, labels[i]]``."""
        self.labels, self.classes = labels, x.shape[1]
        return x[places(labels)]

    def backward(self, grad: Any) -> Any:
        """Put the gradient back."""
        return Put.apply(grad, self.labels, classes=self.classes), None


class Put(Function):
    """Zeros but for the entries that labels name: (N, ...) or () -> (N, C, ...)."""

    upcasts = False

    def forward(self, x: Any, labels: Any, *, classes: int) -> Any:
        """Return y with ``y[i, labels[i]] = x[i]``."""
        self.labels, self.shape = labels, x.shape
        module = array_module(x)
        y = module.zeros((labels.shape[0], classes, *labels.shape[1:]), x.dtype)
        y[places(labels)] = x
        return y

    def backward(self, grad: Any) -> Any:
        """Pick the gradient."""
        return sum_to(Pick.apply(grad, self.labels), self.shape), None


def pick(x: Any, labels: Any) -> Any:
    """Return ``x[i, labels[i]]`` along dimension 1, for an array of labels."""
    return Pick.apply(x, labels)
