"""Cases of distances and similarities between vectors."""

from __future__ import annotations

import numpy as np
from harness import Sample, normal
from losses import case

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import BoundsError, ShapeError

CASES = [
    case(
        "pairwise_distance",
        [
            (normal(3, 4), normal(3, 4)),
            Sample((normal(3, 4), normal(3, 4)), {"p": 1.0, "keepdim": True}),
            Sample((normal(3, 4), normal(4)), {"p": 3.0, "eps": 0.0}),
            (normal(4), normal(4)),
        ],
        lambda x, y, p=2.0, eps=1e-6, keepdim=False: (
            (np.abs(x - y + eps) ** p).sum(-1, keepdims=keepdim) ** (1 / p)
        ),
        errors=[
            (
                lambda: F.pairwise_distance(
                    nnlib.tensor([1.0, 2.0]), nnlib.tensor([1.0, 2.0, 3.0])
                ),
                ShapeError,
                r"shapes \(2,\) and \(3,\) do not broadcast",
            ),
        ],
    ),
    case(
        "cosine_similarity",
        [
            (normal(3, 4), normal(3, 4)),
            Sample((normal(3, 4), normal(3, 4)), {"dim": 0}),
            Sample((normal(2, 3, 4), normal(1, 4)), {"dim": -1}),
            Sample((normal(4), normal(4)), {"dim": 0, "eps": 1e-3}),
        ],
        lambda x, y, dim=1, eps=1e-8: (
            (x * y).sum(dim)
            / np.maximum(np.sqrt((x * x).sum(dim)), eps)
            / np.maximum(np.sqrt((y * y).sum(dim)), eps)
        ),
        errors=[
            (
                lambda: F.cosine_similarity(*[nnlib.tensor([1.0])] * 2),
                BoundsError,
                "cosine_similarity: dim 1 is out of range",
            ),
        ],
    ),
    case(
        "normalize",
        [
            normal(3, 4),
            Sample((normal(3, 4),), {"p": 1.0, "dim": 0}),
            Sample((normal(3, 4),), {"p": 3.0, "dim": -1, "eps": 0.5}),
        ],
        lambda x, p=2.0, dim=1, eps=1e-12: (
            x / np.maximum((np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p), eps)
        ),
        errors=[
            (
                lambda: F.normalize(nnlib.tensor([1.0])),
                BoundsError,
                "normalize: dim 1 is out of range",
            ),
        ],
    ),
]
