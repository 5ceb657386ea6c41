"""Losses of class labels: negative log-likelihood and cross-entropy."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.arrays import FEW
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.labels import (
    Put,
    check_classes,
    check_labels,
    class_weights,
    divisor,
    flat_places,
    label_factors,
    places,
    warn_ignored,
)
from nnlib.ops.loss import check_float, check_reduction, check_values, reduce
from nnlib.ops.softmax import SoftmaxBackward, log_softmax, softmax, sum_over

__all__ = ["cross_entropy", "nll_loss"]


class NllLoss(Function):
    """Minus the entries that labels name, times constant factors, reduced."""

    def forward(
        self, x: Any, labels: Any, *, factor: Any, reduction: str, scale: Any
    ) -> Any:
        """Return the reduced loss; `scale` multiplies a sum."""
        self.labels, self.classes = labels, x.shape[1]
        few = type(x) is np.ndarray and x.size <= FEW
        if few and x.ndim == 2 and factor is None and reduction != "none":
            self.slope = -scale
            total = sum(map(operator.getitem, x.tolist(), labels.tolist()))
            return np.array(-total * scale, x.dtype)
        at = flat_places(x, labels)
        picked = x[places(labels)] if at is None else x.ravel().take(at)
        if factor is None:
            self.slope = -scale
        else:
            self.slope = factor.astype(x.dtype, copy=False) * -scale
            # A row that does not count may hold anything.
            picked = array_module(x).where(factor == 0, 0, picked * factor)
        return -picked if reduction == "none" else -(picked.sum() * scale)

    def backward(self, grad: Any) -> Any:
        """Put the factors where the labels point."""
        return Put.apply(grad * self.slope, self.labels, classes=self.classes), None


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
            flat = labels if labels.ndim == 1 else labels.reshape(-1)
            loss, lse, sums = run(to_rows(x), flat, weight, ignore, smoothing)
        except BoundsError:
            # The kernel has found a bad label: name its place in the target's shape.
            check_labels("cross_entropy", labels, x.shape[x.ndim > 1], ignore)
            raise
        self.save_for_backward(x, labels)
        # A constant: `CrossEntropyBackward` differentiates by the logits in full.
        self.lse = lse
        if reduction == "none":
            return loss.reshape(labels.shape)
        if reduction == "sum":
            return sums[0]
        if type(sums) is np.ndarray:
            cost, count, _, _ = sums.tolist()
            if count == 0:
                warn_ignored("cross_entropy")
                count = 1
            self.count = count
            return np.array(cost / count, x.dtype)
        self.count = sums[3]
        return sums[2]

    def backward(self, grad: Any) -> Any:
        """Return ``softmax(x) - one_hot``, weighted, times the gradient."""
        x, labels = self.saved
        if self.reduction == "mean":
            if type(grad) is np.ndarray or isinstance(grad, Tensor):
                grad = grad / self.count
            else:
                grad = kernels.loss_numbers.quotient(grad, self.count)
        grad = CrossEntropyBackward.apply(
            grad, x, raw(labels), self.lse, params=self.params
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
    if x.ndim == 2 and x.flags.c_contiguous:
        return x
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


@public(method=False, reads=True)
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
        If a label is out of range (named with its position).

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
    scale = 1 / divisor(name, factor, labels.size) if reduction == "mean" else 1
    if not labels.ndim:
        input, safe = input.reshape((1, classes)), safe.reshape(1)
        factor = None if factor is None else factor.reshape(1)
    loss = NllLoss.apply(input, safe, factor=factor, reduction=reduction, scale=scale)
    if reduction == "none" and not labels.ndim:
        return loss.reshape(())  # type: ignore[no-any-return]
    return loss  # type: ignore[no-any-return]


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
        If shapes do not fit, or the mean is asked for over an empty batch.
    ArgumentError
        If a probability is negative or NaN (named with its position), or
        `label_smoothing` is not from 0 to 1.
    DTypeError
        If class indices are no integers, or class probabilities no floats.
    BoundsError
        If a label is out of range (named with its position).

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> cross_entropy(x, nnlib.tensor([0, 1]), reduction="none")
    tensor([0.1269, 0.6931])
    """
    name = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(
            f"{name}: label_smoothing: expected 0 to 1, got {label_smoothing}"
        )
    scores, labels = raw(input), raw(target)
    if getattr(scores, "ndim", 0) and getattr(labels, "shape", ()) == scores.shape:
        return _soft(input, target, weight, reduction, label_smoothing)
    classes = check_classes(name, input, target)
    check_reduction(name, reduction, labels.shape)
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
