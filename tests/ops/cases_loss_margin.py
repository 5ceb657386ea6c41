"""Cases of the losses with a margin, and of several labels at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases_loss_classification import label_errors, labels
from harness import Sample, away_from, booleans, normal, positive
from losses import case, over_reductions, reduced

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

NAN = float("nan")
SIGNS = np.array([1, -1, -1, 1, 1])


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


CASES = [
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
                ArgumentError,
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
                ArgumentError,
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
