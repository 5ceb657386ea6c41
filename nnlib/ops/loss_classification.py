"""Losses of class labels: negative log-likelihood and cross-entropy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_of
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import BoundsError, DeviceError, DTypeError, ShapeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.loss import check_float, check_reduction, check_values, reduce
from nnlib.ops.softmax import SoftmaxBackward, log_softmax, softmax, sum_over

__all__ = ["cross_entropy", "nll_loss"]


# -- labels ------------------------------------------------------------------------


def check_classes(op: str, input: Any, target: Any, most: int | None = None) -> int:
    """Check the shapes of scores and labels; return the number of classes.

    Parameters
    ----------
    input : shape (C,), (N, C) or (N, C, d1, ...), at most `most` dimensions
    target : shape (), (N,) or (N, d1, ...), integers
    """
    check_float(op, "input", input)
    shape, labels = tuple(input.shape), raw(target)
    if not hasattr(labels, "dtype"):
        raise DTypeError(
            f"{op}: target: expected a Tensor, got {type(target).__name__}"
        )
    if not shape or (most is not None and len(shape) > most):
        raise ShapeError(
            f"{op}: input: expected shape (C,), (N, C)"
            f"{'' if most else ' or (N, C, d1, ...)'}, got {shape}"
        )
    expected = () if len(shape) == 1 else (shape[0], *shape[2:])
    if labels.shape != expected:
        raise ShapeError(
            f"{op}: target has shape {labels.shape}, input has shape {shape}: expected "
            f"class indices of shape {expected}"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{op}: target: expected integer class indices, got {labels.dtype}"
        )
    if type(labels) is not type(raw(input)):
        raise DeviceError(
            f"{op}: target is on {device_of(labels)}, input on "
            f"{device_of(raw(input))}; move it with .to('{device_of(raw(input))}')"
        )
    return shape[0] if len(shape) == 1 else shape[1]


def check_labels(op: str, labels: Any, classes: int, ignore: int | None) -> bool:
    """Raise for the first label that is no class and not `ignore` (CPU only).

    Returns
    -------
    bool
        Whether some labels may be ignored, or may be bad (on CUDA).
    """
    if type(labels) is not np.ndarray:
        return True
    if not labels.size:
        return False
    if labels.min() >= 0 and labels.max() < classes:
        if ignore is None or not 0 <= ignore < classes:
            return False
        return bool((labels == ignore).any())
    bad = (labels < 0) | (labels >= classes)
    if ignore is not None:
        bad &= labels != ignore
    if bad.any():
        raise_label(op, labels, int(np.argmax(bad)), classes, ignore)
    return True


def raise_label(
    op: str, labels: Any, position: int, classes: int, ignore: int | None
) -> None:
    """Raise the error that names the label at a flat position."""
    place = np.unravel_index(position, labels.shape)
    where = ", ".join(str(int(index)) for index in place)
    where = f"[{where}]" if where else ""
    also = "" if ignore is None else f" or ignore_index {ignore}"
    raise BoundsError(
        f"{op}: target{where} is {labels[place].item()}, expected 0 <= class < "
        f"{classes}{also}"
    )


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
    return array_module(raw(input)).asarray(array, dtype=raw(input).dtype)


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
    module = array_module(labels)
    if not check_labels(op, labels, classes, ignore):
        return labels, None if weights is None else weights[labels]
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
    """Warn that a mean has nothing to be taken over."""
    warnings.warn(
        f"{op}: every target is ignored or has weight 0: the mean is taken as 0",
        stacklevel=4,
    )


def _places(labels: Any) -> tuple[Any, ...]:
    """Return the index of each label's entry in scores of shape (N, C, ...)."""
    module, ndim = array_module(labels), labels.ndim
    first, *rest = (
        module.arange(length).reshape((-1, *(1,) * (ndim - 1 - axis)))
        for axis, length in enumerate(labels.shape)
    )
    return first, labels, *rest


class Pick(Function):
    """Along dimension 1, the entry that each label names: (N, C, ...) -> (N, ...)."""

    upcasts = False

    def forward(self, x: Any, labels: Any) -> Any:
        """Return ``x[i, labels[i]]``."""
        self.labels, self.classes = labels, x.shape[1]
        return x[_places(labels)]

    def backward(self, grad: Any) -> Any:
        """Put the gradient back."""
        return Put.apply(grad, self.labels, classes=self.classes), None


class Put(Function):
    """Zeros but for the entries that labels name: (N, ...) -> (N, C, ...)."""

    upcasts = False

    def forward(self, x: Any, labels: Any, *, classes: int) -> Any:
        """Return y with ``y[i, labels[i]] = x[i]``."""
        self.labels = labels
        module = array_module(x)
        y = module.zeros((x.shape[0], classes, *x.shape[1:]), x.dtype)
        y[_places(labels)] = x
        return y

    def backward(self, grad: Any) -> Any:
        """Pick the gradient."""
        return Pick.apply(grad, self.labels), None


def pick(x: Any, labels: Any) -> Any:
    """Return ``x[i, labels[i]]`` along dimension 1, for an array of labels."""
    return Pick.apply(x, labels)


class CrossEntropy(Function):
    """Cross-entropy of class indices on logits, reduced, in one kernel each way."""

    def forward(
        self,
        x: Any,
        labels: Any,
        *,
        weight: Any,
        ignore: int,
        reduction: str,
        smoothing: float,
    ) -> Any:
        """Return the reduced loss."""
        weight = None if weight is None else weight.astype(x.dtype, copy=False)
        self.params = weight, ignore, smoothing
        self.reduction = reduction
        run = kernels.softmax_cross_entropy.forward
        try:
            loss, lse, sums = run(
                to_rows(x), labels.reshape(-1), weight, ignore, smoothing
            )
        except BoundsError:
            # The kernel has found a bad label: name its place in the target's shape.
            check_labels("cross_entropy", labels, x.shape[x.ndim > 1], ignore)
            raise
        self.save_for_backward(x, labels, lse)
        if reduction == "none":
            return loss.reshape(labels.shape)
        if reduction == "sum":
            return sums[0]
        self.count = count = sums[1]
        if not isinstance(count, np.floating):
            self.count = array_module(x).where(count == 0, 1, count)
        elif count == 0:
            warn_ignored("cross_entropy")
            self.count = 1
        return sums[0] / self.count

    def backward(self, grad: Any) -> Any:
        """Return ``softmax(x) - one_hot``, weighted, times the gradient."""
        x, labels, lse = self.saved
        if self.reduction == "mean":
            grad = grad / self.count
        grad = CrossEntropyBackward.apply(
            grad, x, raw(labels), raw(lse), params=self.params
        )
        return grad, None


class CrossEntropyBackward(Function):
    """The derivative of the cross-entropy: ``grad * (softmax(x) * a - b)``.

    The constants are ``b = (1 - e) w_t one_hot + e w / C`` (e the label smoothing), 0
    in ignored rows, and its sums over the classes ``a``.
    """

    def forward(self, grad: Any, x: Any, labels: Any, lse: Any, *, params: Any) -> Any:
        """Return the gradient by the logits; `grad` is that of each row, or of all."""
        self.labels, self.params = labels, params
        self.save_for_backward(grad, x)
        run = kernels.softmax_cross_entropy.backward
        rows = run(to_rows(x), labels.reshape(-1), lse, grad, *params)
        return from_rows(rows, x.shape)

    def backward(self, grad: Any) -> Any:
        """Differentiate by the gradient and by the logits."""
        outer, x = self.saved
        dim = 1 if len(x.shape) > 1 else 0
        a, b = self.constants(raw(x), dim)
        p = softmax(x, dim)
        first = second = None
        if self.needs(0):
            first = sum_over(grad * (p * a - b), dim).reshape(self.labels.shape)
            first = sum_to(first, outer.shape)
        if self.needs(1):
            if len(outer.shape):
                outer = outer.reshape(a.shape)
            second = SoftmaxBackward.apply(grad * (outer * a), p, dim=dim)
        return first, second, None, None

    def constants(self, x: Any, dim: int) -> tuple[Any, Any]:
        """Return a and b of the formula, as arrays."""
        weight, ignore, smoothing = self.params
        module, classes = array_module(x), x.shape[dim]
        labels = module.expand_dims(self.labels, dim)
        column = (classes, *(1,) * (x.ndim - dim - 1))
        own = (labels == module.arange(classes).reshape(column)).astype(x.dtype)
        shares = module.full(column, smoothing / classes, x.dtype)
        own *= 1 - smoothing
        if weight is not None:
            own *= weight.reshape(column)
            shares *= weight.reshape(column)
        b = module.where(labels != ignore, own + shares, 0)
        return b.sum(axis=dim, keepdims=True), b


def to_rows(x: Any) -> Any:
    """Return array scores (C,), (N, C) or (N, C, d1, ...) as contiguous rows."""
    module = array_module(x)
    if x.ndim > 2:
        x = module.moveaxis(x, 1, -1)  # (N, C, d1, ...) -> (N, d1, ..., C)
    return module.ascontiguousarray(x).reshape(-1, x.shape[-1])


def from_rows(rows: Any, shape: tuple[int, ...]) -> Any:
    """Return rows to the shape of the scores they were made from."""
    if len(shape) < 3:
        return rows.reshape(shape)
    rows = rows.reshape(shape[0], *shape[2:], shape[1])
    return array_module(rows).moveaxis(
        rows, -1, 1
    )  # (N, d1, ..., C) -> (N, C, d1, ...)


@public(method=False)
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood ``-weight_t * input_t`` of labels, reduced.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Log-probabilities, as `log_softmax` gives them.
    target : integer Tensor, shape (), (N,) or (N, d1, ...)
        The class t of each row.
    weight : Tensor, shape (C,), optional
        A constant weight per class. The mean divides by the sum of the weights of the
        targets.
    ignore_index : int, default -100
        Rows with this label cost nothing and do not count. Where every row is so, the
        mean is 0, with a warning (PyTorch: NaN).
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If shapes do not fit, or the mean is asked for over an empty batch.
    DTypeError
        If `target` holds no integers.
    BoundsError
        If a label is out of range (on the CPU; named with its position).

    Examples
    --------
    >>> import nnlib
    >>> logp = nnlib.tensor([[-0.1, -2.3], [-1.2, -0.4]])
    >>> nll_loss(logp, nnlib.tensor([0, 1]))
    tensor(0.25)
    """
    name = "nll_loss"
    classes = check_classes(name, input, target)
    labels = raw(target)
    check_reduction(name, reduction, labels.shape)
    weights = class_weights(name, weight, classes, input)
    safe, factor = label_factors(
        name, labels, classes, ignore_index, weights, raw(input).dtype
    )
    if not labels.ndim:
        picked = pick(input.reshape((1, classes)), safe.reshape(1)).reshape(())
    else:
        picked = pick(input, safe)
    loss = -picked if factor is None else picked * -factor
    if reduction != "mean":
        return reduce(loss, reduction)  # type: ignore[no-any-return]
    return reduce(loss, "sum") / divisor(name, factor, labels.size)  # type: ignore[no-any-return]


@public(method=False)
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of ``softmax(input)`` with labels, fused and stable.

    With label smoothing e and class weights w, a row of logits x with p = softmax(x)
    and label t costs ::

        -(1 - e) * w_t * log p_t - e / C * sum_j w_j * log p_j

    and one with class probabilities q costs ::

        -sum_j w_j * ((1 - e) * q_j + e / C) * log p_j

    Source of label smoothing: Szegedy et al., "Rethinking the Inception architecture
    for computer vision", 2016, section 7.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Logits.
    target : Tensor
        Class indices, integers of shape (), (N,) or (N, d1, ...); or class
        probabilities, floats of the shape of `input`.
    weight : Tensor, shape (C,), optional
        A constant weight per class. The mean divides by the sum of the weights of the
        targets; with class probabilities by the number of rows.
    ignore_index : int, default -100
        Rows with this label cost nothing and do not count. Where every row is so, the
        mean is 0, with a warning (PyTorch: NaN). Not used with probabilities.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, default 0
        How much of each label is spread over all classes, 0 to 1.

    Raises
    ------
    ShapeError
        If shapes do not fit, the mean is asked for over an empty batch, or a
        probability is negative or NaN (on the CPU; named with its position).
    DTypeError
        If class indices are no integers, or class probabilities no floats.
    BoundsError
        If a label is out of range (on the CPU; named with its position).

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> cross_entropy(x, nnlib.tensor([0, 1]), reduction="none")
    tensor([0.1269, 0.6931])
    """
    name = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ShapeError(
            f"{name}: label_smoothing: expected 0 to 1, got {label_smoothing}"
        )
    shape = tuple(input.shape)
    if shape and tuple(getattr(target, "shape", ())) == shape:
        return _soft(input, target, weight, reduction, label_smoothing)
    classes = check_classes(name, input, target)
    check_reduction(name, reduction, target.shape)
    return CrossEntropy.apply(  # type: ignore[no-any-return]
        input,
        target,
        weight=class_weights(name, weight, classes, input),
        ignore=ignore_index,
        reduction=reduction,
        smoothing=label_smoothing,
    )


def _soft(
    input: Any, target: Any, weight: Any, reduction: str, smoothing: float
) -> Tensor:
    """Return the cross-entropy with class probabilities."""
    name = "cross_entropy"
    check_float(name, "input", input)
    if raw(target).dtype not in FLOATING:
        raise DTypeError(
            f"{name}: target has the shape of input, {tuple(input.shape)}: expected "
            f"class probabilities in floats, got {raw(target).dtype}; convert one-hot "
            "labels with .to(input.dtype)"
        )
    shape = tuple(input.shape)
    dim = 1 if len(shape) > 1 else 0
    rows = shape[:dim] + shape[dim + 1 :]
    check_reduction(name, reduction, rows)
    check_values(name, "target", target, lambda q: q >= 0, "a class probability")
    weights = class_weights(name, weight, shape[dim], input)
    target = cast(target, raw(input).dtype)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / shape[dim]
    if weights is not None:
        target = target * weights.reshape(-1, *(1,) * (len(shape) - dim - 1))
    loss = -sum_over(log_softmax(input, dim) * target, dim).reshape(rows)
    return reduce(loss, reduction)  # type: ignore[no-any-return]
