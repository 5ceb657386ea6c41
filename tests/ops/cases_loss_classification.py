"""Cases of the losses of class labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Sample, booleans, integers, normal, positive
from losses import case, over_reductions, reduced

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

NAN = float("nan")


def log_softmax(x: Any, dim: int) -> Any:
    top = x.max(axis=dim, keepdims=True, initial=-1e300)
    return x - top - np.log(np.exp(x - top).sum(axis=dim, keepdims=True))


def nll(
    x: Any,
    t: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    spread: float = 0.0,
) -> Any:
    """Return the loss row by row; `spread` is the label smoothing."""
    dim = 1 if x.ndim > 1 else 0
    classes = x.shape[dim]
    rows = np.moveaxis(x, dim, -1).reshape(-1, classes)
    weight = np.ones(classes) if weight is None else weight
    labels = np.ravel(t)
    losses, count = np.zeros(labels.size), 0.0
    for i, label in enumerate(labels):
        if label != ignore_index:
            losses[i] = -(1 - spread) * weight[label] * rows[i, label]
            losses[i] -= spread / classes * (weight * rows[i]).sum()
            count += weight[label]
    if reduction == "mean":
        return losses.sum() / count
    return losses.sum() if reduction == "sum" else losses.reshape(np.shape(t))


def cross_entropy(
    x: Any,
    t: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    dim = 1 if x.ndim > 1 else 0
    logp = log_softmax(x, dim)
    if t.dtype.kind != "f":
        return nll(logp, t, weight, ignore_index, reduction, label_smoothing)
    classes = x.shape[dim]
    q = t * (1 - label_smoothing) + label_smoothing / classes
    weight = np.ones(classes) if weight is None else weight
    weight = weight.reshape(-1, *(1,) * (x.ndim - dim - 1))
    return reduced(-(weight * q * logp).sum(axis=dim), reduction)


def distribution(*shape: int, dim: int = 1) -> np.ndarray:
    x = positive(*shape)
    return x / x.sum(axis=dim, keepdims=True)


def labels(*shape: int, classes: int, ignored: Any = None) -> np.ndarray:
    """Draw labels; some are `ignored`, and the first is not."""
    t = integers(*shape, high=classes)
    if ignored is not None:
        hidden = booleans(*shape)
        hidden.flat[0] = False
        t.flat[0] = int(ignored == 0)
        t = np.where(hidden, ignored, t)
    return t


def label_errors(function: Any, name: str) -> list[Any]:
    def call(x: Any, t: Any, **kwargs: Any) -> Any:
        return lambda: function(nnlib.tensor(x), nnlib.tensor(t), **kwargs)

    x = np.zeros((4, 10))
    return [
        (
            call(x, [1, 2, 3, 12]),
            BoundsError,
            rf"{name}: target\[3\] is 12, expected 0 <= class < 10",
        ),
        (
            call(x, [1, -1, 3, 2]),
            BoundsError,
            rf"{name}: target\[1\] is -1, expected 0 <= class < 10",
        ),
        (
            call(x, [1.0, 2.0, 3.0, NAN]),
            DTypeError,
            f"{name}: target: expected integer class indices, got float32",
        ),
        (
            call(x, [1, 2, 3]),
            ShapeError,
            rf"{name}: target has shape \(3,\), input has shape \(4, 10\): expected",
        ),
        (
            call(x, [1, 2, 3, 4], weight=nnlib.tensor([1.0])),
            ShapeError,
            rf"{name}: weight has shape \(1,\), expected \(10,\)",
        ),
        (
            call(x, [1, 2, 3, 4], reduction="avg"),
            ArgumentError,
            f"{name}: reduction: expected 'none', 'mean'.*got 'avg'",
        ),
        (
            call(x[:0], np.zeros(0, int)),
            ShapeError,
            rf"{name}: the mean over an empty batch",
        ),
        (
            call(np.zeros((4, 10), int), [1, 2, 3, 4]),
            DTypeError,
            f"{name}: input: expected a floating dtype, got int64",
        ),
        (
            lambda: function(nnlib.tensor(x), [1, 2, 3, 4]),
            DTypeError,
            f"{name}: target: expected a Tensor, got list",
        ),
    ]


SPATIAL = (2, 4, 3, 2)
SIGNS = np.array([1, -1, -1, 1, 1])

CASES = [
    case(
        "nll_loss",
        [
            *over_reductions(normal(6, 4), labels(6, classes=4)),
            *over_reductions(normal(6, 4), labels(6, classes=4), weight=positive(4)),
            *over_reductions(
                normal(*SPATIAL),
                labels(2, 3, 2, classes=4, ignored=-100),
                weight=positive(4),
            ),
            *over_reductions(
                normal(6, 4), labels(6, classes=4, ignored=2), ignore_index=2
            ),
            *over_reductions(normal(4), np.array(2)),
            (normal(2, 4, 3), labels(2, 3, classes=4)),
        ],
        nll,
        errors=label_errors(F.nll_loss, "nll_loss"),
    ),
    case(
        "cross_entropy",
        [
            *over_reductions(normal(6, 4), labels(6, classes=4)),
            *over_reductions(normal(6, 4), labels(6, classes=4), weight=positive(4)),
            *over_reductions(
                normal(6, 4),
                labels(6, classes=4, ignored=-100),
                weight=positive(4),
                label_smoothing=0.2,
            ),
            *over_reductions(
                normal(*SPATIAL), labels(2, 3, 2, classes=4), label_smoothing=0.1
            ),
            *over_reductions(
                normal(6, 4), labels(6, classes=4, ignored=2), ignore_index=2
            ),
            *over_reductions(normal(4), np.array(2), label_smoothing=0.1),
            (normal(2, 4, 3), labels(2, 3, classes=4, ignored=-100)),
            *over_reductions(normal(6, 4), distribution(6, 4)),
            *over_reductions(
                normal(*SPATIAL),
                distribution(*SPATIAL),
                weight=positive(4),
                label_smoothing=0.3,
            ),
            (normal(4), distribution(4, dim=0)),
            Sample((normal(3, 4) * 300, labels(3, classes=4)), {"reduction": "none"}),
        ],
        cross_entropy,
        errors=[
            *label_errors(F.cross_entropy, "cross_entropy"),
            (
                lambda: F.cross_entropy(
                    nnlib.tensor(normal(2, 3, 2)),
                    nnlib.tensor([[0, 1], [2, 3]]),
                    ignore_index=-1,
                ),
                BoundsError,
                r"cross_entropy: target\[1, 1\] is 3, expected 0 <= class < 3 or "
                "ignore_index -1",
            ),
            (
                lambda: F.cross_entropy(
                    nnlib.tensor(normal(1, 2)), nnlib.tensor([[0, 1]])
                ),
                DTypeError,
                "cross_entropy: target has the shape of input.*got int64; convert one",
            ),
            (
                lambda: F.cross_entropy(
                    nnlib.tensor(normal(1, 2)), nnlib.tensor([[0.5, NAN]])
                ),
                ArgumentError,
                r"cross_entropy: target\[0, 1\] is nan, expected a class probability",
            ),
            (
                lambda: F.cross_entropy(
                    nnlib.tensor(normal(1, 2)), nnlib.tensor([1]), label_smoothing=1.5
                ),
                ArgumentError,
                "cross_entropy: label_smoothing: expected 0 to 1, got 1.5",
            ),
        ],
    ),
]
