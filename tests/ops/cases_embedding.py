"""Cases of looking up embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

IDS = integers(2, 3, low=0, high=6)
FLAT = integers(8, low=0, high=6)
OFFSETS = np.array([0, 3, 3, 6])


def bags(ids: Any, w: Any, offsets: Any = None, mode: str = "mean", **_: Any) -> Any:
    parts = list(ids) if offsets is None else np.split(ids, offsets[1:])
    reduce = {"mean": np.mean, "sum": np.sum, "max": np.max}[mode]
    empty = np.zeros(w.shape[1])
    return np.stack([reduce(w[p], 0) if len(p) else empty for p in parts])


CASES = [
    Case(
        "embedding",
        samples=[
            Sample((IDS, normal(6, 4))),
            Sample((integers(low=0, high=6), normal(6, 4))),
            Sample((FLAT, normal(6, 1))),
        ],
        reference=lambda ids, w: w[ids],
        torch="nn.functional.embedding",
        call=F.embedding,
        empty=False,
        errors=[
            (
                lambda: F.embedding(nnlib.tensor([[0, 1], [7, 2]]), nnlib.ones(6, 2)),
                BoundsError,
                r"embedding: input\[1, 0\] is 7, expected 0 <= id < 6",
            ),
            (
                lambda: F.embedding(nnlib.tensor([0, -1]), nnlib.ones(6, 2)),
                BoundsError,
                r"embedding: input\[1\] is -1",
            ),
            (
                lambda: F.embedding(nnlib.tensor([0.5]), nnlib.ones(6, 2)),
                DTypeError,
                "embedding: input: expected integers",
            ),
            (
                lambda: F.embedding(nnlib.tensor([0]), nnlib.ones(6)),
                ShapeError,
                "embedding: weight: expected shape",
            ),
            (
                lambda: F.embedding(nnlib.tensor([0]), nnlib.ones(6, 2), 6),
                ArgumentError,
                "embedding: padding_idx: expected -6 to 5",
            ),
        ],
    ),
    Case(
        "embedding_bag",
        samples=[
            Sample((IDS, normal(6, 4))),
            Sample((FLAT, normal(6, 4), OFFSETS), {"mode": "sum"}),
            Sample((FLAT, normal(6, 4), OFFSETS), {"mode": "mean"}),
            Sample((FLAT, normal(6, 4), OFFSETS), {"mode": "max"}),
        ],
        reference=bags,
        torch="nn.functional.embedding_bag",
        call=F.embedding_bag,
        empty=False,
        errors=[
            (
                lambda: F.embedding_bag(nnlib.tensor([[0, 6]]), nnlib.ones(6, 2)),
                BoundsError,
                "embedding_bag: input: value 6 at position",
            ),
            (
                lambda: F.embedding_bag(
                    nnlib.tensor([0, 1]), nnlib.ones(6, 2), nnlib.tensor([0, 3])
                ),
                ArgumentError,
                "embedding_bag: offsets: expected to begin at 0",
            ),
            (
                lambda: F.embedding_bag(nnlib.tensor([0, 1]), nnlib.ones(6, 2)),
                ArgumentError,
                "embedding_bag: offsets: needed",
            ),
            (
                lambda: F.embedding_bag(
                    nnlib.tensor([[0, 1]]), nnlib.ones(6, 2), mode="median"
                ),
                ArgumentError,
                "embedding_bag: mode",
            ),
        ],
    ),
]
