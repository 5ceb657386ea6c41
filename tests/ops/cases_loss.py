"""Cases of the losses of numbers and of yes-or-no labels, and of the distances."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from harness import Sample, booleans, integers, normal, positive
from losses import case, over_reductions, reduced

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

NAN = float("nan")


def elementwise(loss: Any) -> Any:
    """Make a reference with a reduction from the loss of each element."""

    def reference(*args: Any, reduction: str = "mean", **kwargs: Any) -> Any:
        return reduced(loss(*args, **kwargs), reduction)

    return reference


def weighted(loss: Any) -> Any:
    def reference(
        x: Any, y: Any, reduction: str = "mean", weight: Any = None, **kwargs: Any
    ) -> Any:
        values = loss(x, y, **kwargs)
        if weight is None:
            return reduced(values, reduction)
        total = (values * weight).sum() / (weight.sum() if reduction == "mean" else 1)
        return values * weight if reduction == "none" else total

    return reference


def bad_shapes(function: Any, name: str) -> list[Any]:
    def t(*shape: int) -> Any:
        return nnlib.tensor(np.full(shape, 0.5))

    return [
        (
            lambda: function(t(3, 1), t(3)),
            ShapeError,
            rf"{name}: target has shape \(3,\), input has shape \(3, 1\)",
        ),
        (
            lambda: function(t(3), t(3), reduction="avg"),
            ArgumentError,
            f"{name}: reduction: expected 'none', 'mean'.*got 'avg'",
        ),
        (
            lambda: function(t(0, 3), t(0, 3)),
            ShapeError,
            rf"{name}: the mean over an empty batch \(shape \(0, 3\)\)",
        ),
    ]


def huber(x: Any, y: Any, delta: float = 1.0) -> Any:
    d = np.abs(x - y)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


def poisson(
    x: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Any:
    t = target
    loss = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        n = np.maximum(t, 1)
        stirling = n * np.log(n) - n + 0.5 * np.log(2 * np.pi * n)
        loss = loss + np.where(t > 1, stirling, 0)
    return loss


def gaussian(x: Any, t: Any, var: Any, full: bool = False, eps: float = 1e-6) -> Any:
    if np.ndim(var) and var.shape == x.shape[:-1] != x.shape:
        var = var[..., None]
    var = np.maximum(var, eps)
    constant = 0.5 * math.log(2 * math.pi) if full else 0
    return 0.5 * (np.log(var) + (x - t) ** 2 / var) + constant


def bce(p: Any, target: Any, weight: Any = None) -> Any:
    with np.errstate(divide="ignore"):
        yes, no = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
    return -(target * yes + (1 - target) * no) * (1 if weight is None else weight)


def bce_logits(x: Any, target: Any, weight: Any = None, pos_weight: Any = None) -> Any:
    factor = 1 if pos_weight is None else pos_weight
    loss = factor * target * np.logaddexp(0, -x)
    loss = loss + (1 - target) * np.logaddexp(0, x)
    return loss if weight is None else loss * weight


def kl(x: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    if log_target:
        loss = np.exp(target) * (target - x)
    else:
        loss = target * (np.log(np.where(target > 0, target, 1)) - x)
    if reduction == "batchmean":
        return loss.sum() / len(x)
    return reduced(loss, reduction)


def hinge(x: Any, target: Any, margin: float = 1.0, squared: bool = False) -> Any:
    loss = np.maximum(0, margin - np.where(target > 0, 1, -1) * x)
    return loss**2 if squared else loss


def probabilities(*shape: int) -> Any:
    return positive(*shape, low=0.05, high=0.95)


def quiet(name: str) -> Any:
    """Call PyTorch's function, without its warnings."""

    def call(torch: Any, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(torch.nn.functional, name)(*args, **kwargs)

    return call


LOGITS = np.array([-500.0, -40.0, -15.0, 15.0, 40.0, 500.0])
SIGNS = np.array([1.0, -1.0, -1.0, 1.0, 1.0])

CASES = [
    case(
        "mse_loss",
        [
            *over_reductions(normal(3, 4), normal(3, 4)),
            (normal(5), integers(5)),
            *over_reductions(normal(2, 3), normal(2, 3), weight=positive(2, 3)),
            (np.array(0.3), np.array(-1.0)),
        ],
        weighted(lambda x, y: (x - y) ** 2),
        torch=lambda torch, x, y, **k: torch.nn.functional.mse_loss(x, y.double(), **k),
        errors=[
            *bad_shapes(F.mse_loss, "mse_loss"),
            (
                lambda: F.mse_loss(nnlib.tensor([1.0]), 2.0),
                DTypeError,
                r"mse_loss: target: expected a Tensor, got float",
            ),
            (
                lambda: F.mse_loss(
                    *[nnlib.tensor([1.0, 2.0])] * 2, weight=nnlib.tensor(1.0)
                ),
                ShapeError,
                r"mse_loss: weight has shape \(\), input has shape \(2,\)",
            ),
        ],
    ),
    case(
        "l1_loss",
        [
            *over_reductions(normal(3, 4), normal(3, 4)),
            *over_reductions(normal(2, 3), normal(2, 3), weight=positive(2, 3)),
        ],
        weighted(lambda x, y: np.abs(x - y)),
        errors=bad_shapes(F.l1_loss, "l1_loss"),
    ),
    case(
        "smooth_l1_loss",
        [
            *over_reductions(normal(3, 4) * 2, normal(3, 4)),
            *over_reductions(normal(3, 4), normal(3, 4), beta=0.3),
            *over_reductions(normal(3, 4), normal(3, 4), beta=0.0),
        ],
        elementwise(
            lambda x, y, beta=1.0: huber(x, y, beta) / beta if beta else np.abs(x - y)
        ),
        errors=[
            *bad_shapes(F.smooth_l1_loss, "smooth_l1_loss"),
            (
                lambda: F.smooth_l1_loss(*[nnlib.tensor([1.0])] * 2, beta=-1.0),
                ArgumentError,
                "smooth_l1_loss: beta: expected at least 0, got -1.0",
            ),
        ],
    ),
    case(
        "huber_loss",
        [
            *over_reductions(normal(3, 4) * 2, normal(3, 4)),
            *over_reductions(normal(3, 4), normal(3, 4), delta=0.3),
            *over_reductions(normal(2, 3), normal(2, 3), weight=positive(2, 3)),
        ],
        lambda x, y, reduction="mean", delta=1.0, weight=1.0: reduced(
            huber(x, y, delta) * weight, reduction
        ),
        errors=[
            *bad_shapes(F.huber_loss, "huber_loss"),
            (
                lambda: F.huber_loss(*[nnlib.tensor([1.0])] * 2, delta=0.0),
                ArgumentError,
                "huber_loss: delta: expected more than 0, got 0.0",
            ),
        ],
    ),
    case(
        "poisson_nll_loss",
        [
            *over_reductions(normal(3, 4), positive(3, 4, high=5)),
            *over_reductions(normal(3, 4), positive(3, 4, high=5), full=True),
            *over_reductions(positive(3), positive(3), log_input=False, eps=0.1),
            Sample((normal(6),), {"target": integers(6) * 1.0, "full": True}),
        ],
        elementwise(poisson),
        errors=bad_shapes(F.poisson_nll_loss, "poisson_nll_loss"),
    ),
    case(
        "gaussian_nll_loss",
        [
            *over_reductions(normal(3, 4), normal(3, 4), positive(3, 4)),
            *over_reductions(normal(3, 4), normal(3, 4), positive(3), full=True),
            *over_reductions(normal(3, 4), normal(3, 4), positive(3, 1)),
            Sample((normal(3, 4), normal(3, 4), 0.5)),
            Sample((normal(3, 4), normal(3, 4), 0.0), {"eps": 0.5}),
        ],
        elementwise(gaussian),
        errors=[
            (
                lambda: F.gaussian_nll_loss(*[nnlib.tensor([1.0, -2.0])] * 3),
                ArgumentError,
                r"gaussian_nll_loss: var\[1\] is -2.0, expected at least 0",
            ),
            (
                lambda: F.gaussian_nll_loss(*[nnlib.tensor([1.0])] * 2, -1.0),
                ArgumentError,
                "gaussian_nll_loss: var is -1.0, expected at least 0",
            ),
            (
                lambda: F.gaussian_nll_loss(
                    *[nnlib.tensor(normal(2, 3))] * 2, nnlib.tensor(normal(3))
                ),
                ShapeError,
                r"gaussian_nll_loss: var has shape \(3,\), input \(2, 3\)",
            ),
            (
                lambda: F.gaussian_nll_loss(*[nnlib.tensor([1.0])] * 3, eps=0.0),
                ArgumentError,
                "gaussian_nll_loss: eps: expected more than 0, got 0.0",
            ),
        ],
    ),
    case(
        "binary_cross_entropy",
        [
            *over_reductions(probabilities(3, 4), probabilities(3, 4)),
            *over_reductions(
                probabilities(3, 4), target=booleans(3, 4) * 1.0, weight=positive(4)
            ),
        ],
        elementwise(bce),
        errors=[
            *bad_shapes(F.binary_cross_entropy, "binary_cross_entropy"),
            (
                lambda: F.binary_cross_entropy(
                    nnlib.tensor([[0.5, 1.5]]), nnlib.tensor([[0.0, 1.0]])
                ),
                ArgumentError,
                r"binary_cross_entropy: input\[0, 1\] is 1.5, expected a probability",
            ),
            (
                lambda: F.binary_cross_entropy(
                    nnlib.tensor([0.5, 0.5]), nnlib.tensor([0.0, NAN])
                ),
                ArgumentError,
                r"binary_cross_entropy: target\[1\] is nan, expected a label",
            ),
            (
                lambda: F.binary_cross_entropy(
                    *[nnlib.tensor([0.5, 0.5])] * 2, nnlib.tensor([1.0] * 3)
                ),
                ShapeError,
                r"binary_cross_entropy: weight has shape \(3,\), which does not",
            ),
        ],
    ),
    case(
        "binary_cross_entropy_with_logits",
        [
            *over_reductions(normal(3, 4), probabilities(3, 4)),
            *over_reductions(
                normal(3, 4), target=booleans(3, 4) * 1.0, weight=positive(4)
            ),
            *over_reductions(
                normal(3, 4),
                probabilities(3, 4),
                weight=positive(3, 1),
                pos_weight=positive(4),
            ),
            Sample((LOGITS,), {"target": np.array([0.0, 1, 0, 1, 1, 0])}),
        ],
        elementwise(bce_logits),
        errors=[
            *bad_shapes(
                F.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits"
            ),
            (
                lambda: F.binary_cross_entropy_with_logits(
                    nnlib.tensor([0.5, 1.5]), nnlib.tensor([0, 2])
                ),
                ArgumentError,
                r"binary_cross_entropy_with_logits: target\[1\] is 2, expected a label",
            ),
        ],
    ),
    case(
        "kl_div",
        [
            *over_reductions(normal(3, 4), probabilities(3, 4)),
            Sample((normal(3, 4), probabilities(3, 4)), {"reduction": "batchmean"}),
            *over_reductions(normal(3, 4), normal(3, 4), log_target=True),
            Sample((normal(1, 3),), {"target": np.array([[0.0, 0.4, 0.6]])}),
        ],
        kl,
        torch=quiet("kl_div"),
        errors=[
            *bad_shapes(F.kl_div, "kl_div"),
            (
                lambda: F.kl_div(nnlib.tensor([0.0, 0.0]), nnlib.tensor([1.0, -0.5])),
                ArgumentError,
                r"kl_div: target\[1\] is -0.5, expected a probability",
            ),
        ],
    ),
    case(
        "hinge_loss",
        [
            *over_reductions(normal(3, 4) * 2, integers(3, 4, high=2)),
            *over_reductions(
                normal(3, 4) * 2, target=booleans(3, 4) * 2.0 - 1, squared=True
            ),
            Sample((normal(6), integers(6, high=2)), {"margin": 0.5}),
        ],
        elementwise(hinge),
        torch=None,
        errors=[
            (
                lambda: F.hinge_loss(nnlib.tensor([1.0, 2.0]), nnlib.tensor([1, 3])),
                ArgumentError,
                r"hinge_loss: target\[1\] is 3, expected 1, and 0 or -1",
            ),
            (
                lambda: F.hinge_loss(nnlib.tensor([1.0, 2.0]), nnlib.tensor([0, -1])),
                ArgumentError,
                r"hinge_loss: target\[1\] is -1, expected .* there are zeros too",
            ),
            (
                lambda: F.hinge_loss(
                    nnlib.tensor([1.0, 2.0]), nnlib.tensor([1.0, NAN])
                ),
                ArgumentError,
                r"hinge_loss: target\[1\] is nan, expected 1, and 0 or -1",
            ),
            (
                lambda: F.hinge_loss(nnlib.tensor([1, 2]), nnlib.tensor([1, 1])),
                DTypeError,
                "hinge_loss: input: expected a floating dtype, got int64",
            ),
        ],
    ),
    case(
        "soft_margin_loss",
        [
            *over_reductions(normal(3, 5), target=np.tile(SIGNS, (3, 1))),
            Sample((np.array([-700.0, 700.0, 1.0, 2.0, 3.0]),), {"target": SIGNS}),
        ],
        elementwise(lambda x, target: np.logaddexp(0, -target * x)),
        empty=False,
        errors=[
            (
                lambda: F.soft_margin_loss(nnlib.tensor([1.0]), nnlib.tensor([0])),
                ArgumentError,
                r"soft_margin_loss: target\[0\] is 0, expected 1 or -1",
            ),
        ],
    ),
]
