"""Losses of yes-or-no labels and of distributions: cross-entropies, hinge, KL."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.hidden import readable
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.ops.activation import gate, relu
from nnlib.ops.activation_hard import hardtanh
from nnlib.ops.activation_smooth import logsigmoid
from nnlib.ops.arrays import constants
from nnlib.ops.dims import raw
from nnlib.ops.exponential import exp, log, log1p, sigmoid
from nnlib.ops.loss import (
    PointLoss,
    between,
    check_float,
    check_reduction,
    check_same_shape,
    check_values,
    not_nan,
    not_negative,
    place,
    reduce,
    report,
    signs,
)

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "hinge_loss",
    "kl_div",
    "soft_margin_loss",
]

# The least logarithm of a probability, and the least variance p (1 - p), that
# binary_cross_entropy uses: as in PyTorch.
LEAST_LOG = -100.0
LEAST_VARIANCE = 1e-12
in_unit = between(0, 1)


class BinaryCrossEntropy(PointLoss):
    """``-w (t log p + (1 - t) log(1 - p))``, the logarithms at least -100."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element."""
        weight = self.params["weight"]
        least, one = constants(x, LEAST_LOG, 1)
        yes = np.maximum(np.log(x), least)
        no = np.maximum(np.log1p(-x), least)
        loss = (y - one) * no - y * yes
        return loss if weight is None else loss * weight

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``(p - t) / (p (1 - p))`` and ``log(1 - p) - log p``."""
        weight = self.params["weight"]
        if weight is not None:
            grad = grad * weight
        by_x = by_y = None
        if self.needs(0):
            variance = hardtanh(x * (1 - x), LEAST_VARIANCE, float("inf"))
            by_x = grad * (x - y) / variance
        if self.needs(1):
            no = hardtanh(log1p(-x), LEAST_LOG, 0)
            by_y = grad * (no - hardtanh(log(x), LEAST_LOG, 0))
        return by_x, by_y


class BceSlope(Function):
    """``sigmoid(x) - y``."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the difference."""
        self.save_for_backward(x)
        return kernels.loss.bce_logits_slope(x, y)

    def backward(self, grad: Any) -> Any:
        """Return ``grad s (1 - s)`` and ``-grad``."""
        s = sigmoid(self.saved[0])
        return grad * (s * (1 - s)), -grad if self.needs(1) else None


class BinaryCrossEntropyWithLogits(PointLoss):
    """``w ((1 - t) x + l log(1 + exp(-x)))``, l = 1 + (pos_weight - 1) t."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element, without overflow or cancellation."""
        weight, pos_weight = self.params["weight"], self.params["pos_weight"]
        module = array_module(x)
        if pos_weight is None:
            loss = kernels.loss.bce_logits(x, y)
        else:
            # log(1 + exp(-x)) = max(-x, 0) + log(1 + exp(-|x|))
            tail = kernels.activation.softplus(-module.abs(x), parameter=1.0)
            factor = 1 + (pos_weight - 1) * y
            loss = (1 - y) * x + factor * module.maximum(-x, 0) + factor * tail
        return loss if weight is None else loss * weight

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``sigmoid(x) - t`` and ``-x``, or their weighted forms."""
        weight, pos_weight = self.params["weight"], self.params["pos_weight"]
        if weight is not None:
            grad = grad * weight
        if pos_weight is None:
            return (
                BceSlope.apply(x, y) * grad if self.needs(0) else None,
                -x * grad if self.needs(1) else None,
            )
        by_x = by_y = None
        if self.needs(0):
            by_x = (1 - y - (1 + (pos_weight - 1) * y) * sigmoid(-x)) * grad
        if self.needs(1):
            by_y = (-x - (pos_weight - 1) * logsigmoid(x)) * grad
        return by_x, by_y


class KlDiv(PointLoss):
    """``t (log t - x)``, ``-t x`` at t = 0; or ``e^t (t - x)``."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element."""
        if self.params["log_target"]:
            return np.exp(y) * (y - x)
        zero = y == constants(y, 0)[0]
        return y * np.log(y + zero) - y * x

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``-t`` and ``log t + 1 - x`` (``-x`` at 0); or times ``e^t``."""
        by_y = None
        if self.params["log_target"]:
            weight = exp(y) * grad
            if self.needs(1):
                by_y = weight * (y - x + 1)
            return -weight if self.needs(0) else None, by_y
        if self.needs(1):
            zero = raw(y) == 0
            by_y = gate(grad * (log(y + zero) + 1), ~zero) - x * grad
        return -y * grad if self.needs(0) else None, by_y


class SoftMargin(PointLoss):
    """``log(1 + e^(-t x))``."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element."""
        return -kernels.activation.log_sigmoid(x * y)

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``-t s`` and ``-x s``, s the sigmoid of ``-t x``."""
        share = sigmoid(-(x * y)) * -grad
        return (
            share * y if self.needs(0) else None,
            share * x if self.needs(1) else None,
        )


def constant(op: str, name: str, weight: Any, shape: tuple[int, ...], x: Any) -> Any:
    """Return weights as an array like `x` that broadcasts to `shape`; or raise."""
    if weight is None:
        return None
    array = raw(weight)
    module = array_module(raw(x))
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{op}: {name} has shape {tuple(array.shape)}, which does not broadcast "
            f"to input's {shape}"
        )
    wide = raw(x).dtype if raw(x).dtype.kind == "f" else np.dtype(np.float32)
    with context_of(raw(x)):
        return module.asarray(readable(array), dtype=wide)


@public(method=False)
def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Return ``-(t log p + (1 - t) log(1 - p))`` of probabilities, reduced.

    Logarithms are taken as at least -100, so that the loss stays finite. Where the
    probabilities come from a sigmoid, `binary_cross_entropy_with_logits` is faster
    and more accurate.

    Parameters
    ----------
    input : Tensor, any shape
        Probabilities p, in [0, 1].
    target : Tensor, shape of `input`
        Labels or probabilities t, in [0, 1].
    weight : Tensor, optional
        A constant factor that broadcasts to `input`.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of elements, whatever the weights.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a probability or label is NaN or outside [0, 1]
        (named with its position).

    Examples
    --------
    >>> import nnlib
    >>> p, t = nnlib.tensor([0.5, 0.25]), nnlib.tensor([1.0, 0.0])
    >>> binary_cross_entropy(p, t, reduction="none")
    tensor([0.6931, 0.2877])
    """
    name = "binary_cross_entropy"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    check_reduction(name, reduction, input.shape)
    check_values(name, "input", input, in_unit, "a probability, 0 to 1")
    check_values(name, "target", target, in_unit, "a label or probability, 0 to 1")
    if weight is not None:
        weight = constant(name, "weight", weight, tuple(input.shape), input)
    return BinaryCrossEntropy.apply(input, target, reduction=reduction, weight=weight)  # type: ignore[no-any-return]


@public(method=False)
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Return the binary cross-entropy of ``sigmoid(input)``, fused and stable.

    ``(1 - t) x + (1 + (pos_weight - 1) t) log(1 + exp(-x))``

    Parameters
    ----------
    input : Tensor, any shape
        Logits x.
    target : Tensor, shape of `input`
        Labels or probabilities t, in [0, 1].
    weight : Tensor, optional
        A constant factor that broadcasts to `input`.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of elements, whatever the weights.
    pos_weight : Tensor, optional
        A constant weight of the positive labels that broadcasts to `input`.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is NaN or outside [0, 1] (named with
        its position).

    Examples
    --------
    >>> import nnlib
    >>> x, t = nnlib.tensor([0.0, 100.0]), nnlib.tensor([1.0, 0.0])
    >>> binary_cross_entropy_with_logits(x, t, reduction="none")
    tensor([  0.6931, 100.    ])
    """
    name = "binary_cross_entropy_with_logits"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    shape = tuple(input.shape)
    check_reduction(name, reduction, shape)
    check_values(name, "target", target, in_unit, "a label or probability, 0 to 1")
    return BinaryCrossEntropyWithLogits.apply(  # type: ignore[no-any-return]
        input,
        target,
        reduction=reduction,
        weight=constant(name, "weight", weight, shape, input),
        pos_weight=constant(name, "pos_weight", pos_weight, shape, input),
    )


@public(method=False)
def kl_div(
    input: Any, target: Any, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """Return the Kullback-Leibler divergence ``t (log t - input)``, reduced.

    Parameters
    ----------
    input : Tensor, any shape
        Log-probabilities of the model.
    target : Tensor, shape of `input`
        Probabilities t, or their logarithms.
    reduction : {"batchmean", "sum", "mean", "none"}
        ``"batchmean"``, the sum over the first dimension's length, is the divergence
        as the books define it; ``"mean"`` divides by the number of elements.
    log_target : bool, default False
        Whether `target` holds logarithms.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a probability is negative or NaN (named with
        its position).

    Examples
    --------
    >>> import nnlib
    >>> q = nnlib.tensor([[0.5, 0.5]]).log()
    >>> kl_div(q, nnlib.tensor([[1.0, 0.0]]), "batchmean")
    tensor(0.6931)
    """
    check_float("kl_div", "input", input)
    check_same_shape("kl_div", input=input, target=target)
    shape = tuple(input.shape)
    batch = reduction == "batchmean"
    if not batch and reduction not in ("none", "mean", "sum"):
        raise ArgumentError(
            "kl_div: reduction: expected 'none', 'mean', 'sum' or 'batchmean', got "
            f"{reduction!r}"
        )
    check_reduction("kl_div", "mean" if batch else reduction, shape)
    if log_target:
        check_values("kl_div", "target", target, not_nan, "a log-probability")
    else:
        check_values("kl_div", "target", target, not_negative, "a probability")
    loss = KlDiv.apply(
        input,
        target,
        reduction="sum" if batch else reduction,
        log_target=log_target,
    )
    return loss / (shape[0] if shape else 1) if batch else loss  # type: ignore[no-any-return]


@public(method=False, reads=True)
def hinge_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    squared: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return ``max(0, margin - y * input)``, the hinge loss of a binary classifier.

    Source: Cortes and Vapnik, "Support-vector networks", 1995. PyTorch has no such
    loss.

    Parameters
    ----------
    input : Tensor, any shape
        Scores; positive means yes.
    target : Tensor, shape of `input`
        Labels, 0 and 1 or -1 and 1: y is -1 for both 0 and -1.
    margin : float, default 1
    squared : bool, default False
        Square the loss of each element, which makes it smooth.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is none of these, or 0 and -1 are mixed
        (named with its position).

    Examples
    --------
    >>> import nnlib
    >>> hinge_loss(nnlib.tensor([0.5, 2.0]), nnlib.tensor([1, 0]), reduction="none")
    tensor([0.5, 3. ])
    """
    check_float("hinge_loss", "input", input)
    check_same_shape("hinge_loss", input=input, target=target)
    check_reduction("hinge_loss", reduction, input.shape)
    expected = "1, and 0 or -1"
    check_values(
        "hinge_loss", "target", target, lambda t: signs(t) | (t == 0), expected
    )
    array = raw(target)
    minus = array == -1

    def describe(position: int, value: Any) -> ArgumentError:
        return ArgumentError(
            f"hinge_loss: target{place(position, array.shape)} is {value}, expected "
            f"{expected}, but there are zeros too"
        )

    report(minus & (array == 0).any(), array, describe)
    module = array_module(array)
    kind = raw(input).dtype.type
    sign = module.where(array > 0, kind(1), kind(-1))
    loss = relu(margin - input * sign)
    if squared:
        loss = loss * loss
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False)
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the logistic loss ``log(1 + exp(-y * input))`` of labels y = 1 or -1.

    Parameters
    ----------
    input, target : Tensor, one shape
        Scores and labels.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is neither 1 nor -1 (named with its position).
    """
    check_float("soft_margin_loss", "input", input)
    check_same_shape("soft_margin_loss", input=input, target=target)
    check_reduction("soft_margin_loss", reduction, input.shape)
    check_values("soft_margin_loss", "target", target, signs, "1 or -1")
    return SoftMargin.apply(input, target, reduction=reduction)  # type: ignore[no-any-return]
