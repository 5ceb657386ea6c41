"""Cases of the losses of class labels, and of those with a margin."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, away_from, booleans, integers, normal, positive

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

NAN = float("nan")


def reduced(values: Any, reduction: str = "mean") -> Any:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def over_reductions(*args: Any, **kwargs: Any) -> list[Sample]:
    """Return one sample per reduction; sum first, because it is defined on nothing."""
    return [
        Sample(args, {**kwargs, "reduction": reduction})
        for reduction in ("sum", "mean", "none")
    ]


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


def multi_margin(
    x: Any,
    t: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Any:
    rows, at = x.reshape(-1, x.shape[-1]), np.ravel(t)
    losses = []
    for row, label in zip(rows, at, strict=True):
        gaps = np.maximum(0, margin - row[label] + row) ** p
        gaps[label] = 0
        factor = 1 if weight is None else weight[label]
        losses.append(gaps.sum() * factor / row.size)
    return reduced(np.array(losses).reshape(np.shape(t)), reduction)


def distance(x: Any, y: Any, p: float = 2.0, eps: float = 1e-6) -> Any:
    return (np.abs(x - y + eps) ** p).sum(-1) ** (1 / p)


def triplet(
    a: Any,
    b: Any,
    c: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    far = distance(a, c, p, eps)
    if swap:
        far = np.minimum(far, distance(b, c, p, eps))
    return reduced(np.maximum(0, distance(a, b, p, eps) - far + margin), reduction)


def cosine_embedding(
    x: Any, y: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    lengths = np.sqrt(((x * x).sum(-1) + 1e-12) * ((y * y).sum(-1) + 1e-12))
    cosine = (x * y).sum(-1) / lengths
    loss = np.where(target == 1, 1 - cosine, np.maximum(0, cosine - margin))
    return reduced(loss, reduction)


def hinge_embedding(
    x: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Any:
    return reduced(np.where(target == 1, x, np.maximum(0, margin - x)), reduction)


def ranking(
    x: Any, y: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    return reduced(np.maximum(0, -target * (x - y) + margin), reduction)


def multilabel_margin(x: Any, t: Any, reduction: str = "mean") -> Any:
    losses = []
    for row, listed in zip(np.atleast_2d(x), np.atleast_2d(t), strict=True):
        ends = np.flatnonzero(listed < 0)
        own = listed[: ends[0]] if ends.size else listed
        others = np.delete(row, own)
        gaps = np.maximum(0, 1 - row[own][:, None] + others)
        losses.append(gaps.sum() / row.size)
    return reduced(np.array(losses).reshape(x.shape[:-1]), reduction)


def multilabel(x: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    loss = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    return reduced((loss if weight is None else loss * weight).mean(-1), reduction)


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
            ShapeError,
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


def case(name: str, samples: list[Any], reference: Any, **options: Any) -> Case:
    options.setdefault("torch", f"nn.functional.{name}")
    return Case(name, samples, reference, **options)


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
                ShapeError,
                "cross_entropy: label_smoothing: expected 0 to 1, got 1.5",
            ),
        ],
    ),
    case(
        "multi_margin_loss",
        [
            *over_reductions(normal(6, 4), labels(6, classes=4)),
            *over_reductions(normal(6, 4), labels(6, classes=4), p=2, margin=0.5),
            *over_reductions(normal(6, 4), labels(6, classes=4), weight=positive(4)),
            *over_reductions(normal(4), np.array(2)),
        ],
        multi_margin,
        errors=[
            *label_errors(F.multi_margin_loss, "multi_margin_loss"),
            (
                lambda: F.multi_margin_loss(
                    nnlib.tensor(normal(1, 2)), nnlib.tensor([1]), p=3
                ),
                ShapeError,
                "multi_margin_loss: p: expected 1 or 2, got 3",
            ),
            (
                lambda: F.multi_margin_loss(
                    nnlib.tensor(normal(1, 2, 2)), nnlib.tensor([[1, 1]])
                ),
                ShapeError,
                r"multi_margin_loss: input: expected shape \(C,\), \(N, C\), got",
            ),
        ],
    ),
    case(
        "hinge_embedding_loss",
        [
            *over_reductions(away_from(3, 5, kinks=(1.0,)), np.tile(SIGNS, (3, 1))),
            Sample((away_from(5, kinks=(0.5,)), SIGNS), {"margin": 0.5}),
        ],
        hinge_embedding,
        errors=[
            (
                lambda: F.hinge_embedding_loss(
                    nnlib.tensor([1.0, 2.0]), nnlib.tensor([1, 0])
                ),
                ArgumentError,
                r"hinge_embedding_loss: target\[1\] is 0, expected 1 or -1",
            ),
        ],
    ),
    case(
        "margin_ranking_loss",
        [
            *over_reductions(normal(5), normal(5), SIGNS),
            Sample((normal(5), normal(5), SIGNS), {"margin": 0.5}),
        ],
        ranking,
        errors=[
            (
                lambda: F.margin_ranking_loss(
                    *[nnlib.tensor([1.0, 2.0])] * 2, nnlib.tensor(1)
                ),
                ShapeError,
                r"margin_ranking_loss: target has shape \(\), input1 has shape \(2,\)",
            ),
        ],
    ),
    case(
        "cosine_embedding_loss",
        [
            *over_reductions(normal(5, 3), normal(5, 3), SIGNS),
            Sample((normal(5, 3), normal(5, 3), SIGNS), {"margin": 0.3}),
            (normal(3), normal(3), np.array(1)),
        ],
        cosine_embedding,
        errors=[
            (
                lambda: F.cosine_embedding_loss(
                    *[nnlib.tensor(normal(2, 3))] * 2, nnlib.tensor([1])
                ),
                ShapeError,
                r"cosine_embedding_loss: target has shape \(1,\), input1 has shape",
            ),
        ],
    ),
    case(
        "triplet_margin_loss",
        [
            *over_reductions(normal(5, 3), normal(5, 3), normal(5, 3)),
            Sample(
                (normal(5, 3), normal(5, 3), normal(5, 3)),
                {"margin": 0.5, "p": 3.0, "swap": True},
            ),
            (normal(3), normal(3), normal(3)),
        ],
        triplet,
        errors=[
            (
                lambda: F.triplet_margin_loss(
                    *[nnlib.tensor(normal(2, 3))] * 2, nnlib.tensor(normal(2, 2))
                ),
                ShapeError,
                r"triplet_margin_loss: negative has shape \(2, 2\), anchor has shape",
            ),
            (
                lambda: F.triplet_margin_loss(
                    *[nnlib.tensor(normal(2, 3))] * 3, margin=0.0
                ),
                ShapeError,
                "triplet_margin_loss: margin: expected more than 0, got 0.0",
            ),
        ],
    ),
    case(
        "triplet_margin_with_distance_loss",
        [
            *over_reductions(normal(5, 3), normal(5, 3), normal(5, 3)),
            Sample((normal(5, 3), normal(5, 3), normal(5, 3)), {"swap": True}),
        ],
        triplet,
    ),
    case(
        "multilabel_margin_loss",
        [
            *over_reductions(
                normal(3, 4), np.array([[3, 0, -1, 1], [-1] * 4, [0, 1, 2, 3]])
            ),
            (normal(3), np.array([2, -1, -1])),
        ],
        multilabel_margin,
        errors=[
            (
                lambda: F.multilabel_margin_loss(
                    nnlib.tensor([[1.0, 2.0]]), nnlib.tensor([[0, 2]])
                ),
                BoundsError,
                r"multilabel_margin_loss: target\[0, 1\] is 2, expected -1 <= class",
            ),
            (
                lambda: F.multilabel_margin_loss(*[nnlib.tensor([1.0, 2.0])] * 2),
                DTypeError,
                "multilabel_margin_loss: target: expected integers, got float32",
            ),
        ],
    ),
    case(
        "multilabel_soft_margin_loss",
        [
            *over_reductions(normal(5, 3), target=booleans(5, 3) * 1.0),
            Sample(
                (normal(5, 3),), {"target": booleans(5, 3) * 1.0, "weight": positive(3)}
            ),
            Sample((normal(3),), {"target": booleans(3) * 1.0}),
        ],
        multilabel,
        empty=False,
    ),
]
