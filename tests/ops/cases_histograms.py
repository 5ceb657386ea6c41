"""Cases of histograms, over one dimension and several."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, normal, positive

import nnlib
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

EDGES = np.array([-1.0, -0.25, 0.0, 0.75, 0.75, 2.0])
GRID = [np.array([-1.0, 0.0, 0.5, 2.0]), np.array([-0.5, 0.5, 1.5])]


def call(*args, **kwargs):
    return Sample(args, kwargs)


def one(x, bins, *, range=None, weight=None, density=False):
    return np.histogram(x, bins, range, density, weight)


def flat(found):
    return found[0], *found[1]


CASES = [
    Case(
        "histogram",
        samples=[
            call(normal(4, 5), 6),
            call(np.array([1.0, 2.0, 1.0, 3.0]), np.int64(4), range=(0.0, 3.0)),
            call(normal(4, 5), EDGES),
            call(normal(4, 5), 5, weight=positive(4, 5), density=True),
            call(np.full(3, 2.0), 4),
        ],
        reference=one,
        grad=False,
        half=False,
        empty=False,
        errors=[
            (
                lambda: nnlib.histogram(nnlib.ones(3), 0),
                BoundsError,
                "histogram: bins: expected 1 or more, got 0",
            ),
            (
                lambda: nnlib.histogram(nnlib.tensor([1]), 2),
                DTypeError,
                "histogram: input: expected a floating dtype, got int64",
            ),
            (
                lambda: nnlib.histogram(nnlib.ones(3), nnlib.tensor([1.0, 0.0])),
                ArgumentError,
                "histogram: bins: expected edges in ascending order",
            ),
            (
                lambda: nnlib.histogram(nnlib.ones(3), 2, weight=nnlib.ones(2)),
                ShapeError,
                "histogram: weight has shape",
            ),
            (
                lambda: nnlib.histogram(nnlib.ones(3), 2, range=(1.0, nnlib.nan)),
                BoundsError,
                "histogram: range: expected finite limits in ascending order",
            ),
            (
                lambda: nnlib.histogram(nnlib.ones(3), 2, range=("low", 1)),
                DTypeError,
                "histogram: range: expected 2 numbers, got",
            ),
            (
                lambda: nnlib.ones(3).histogram("two"),
                DTypeError,
                "histogram: bins: expected a number or edges, got str",
            ),
        ],
    ),
    Case(
        "histogramdd",
        samples=[
            call(normal(20, 2), [3, 4]),
            call(normal(20, 2), 2, range=(-1.0, 1.0, 0.0, 2.0)),
            call(normal(20, 2), list(GRID)),
            call(normal(4, 5, 3), [2, 3, 1], weight=positive(4, 5), density=True),
        ],
        call=lambda *args, **kwargs: flat(nnlib.histogramdd(*args, **kwargs)),
        torch=lambda torch, *args, **kwargs: flat(torch.histogramdd(*args, **kwargs)),
        grad=False,
        half=False,
        empty=False,
        errors=[
            (
                lambda: nnlib.histogramdd(nnlib.ones(3), 2),
                ShapeError,
                r"histogramdd: input: expected shape \(..., D\), got",
            ),
            (
                lambda: nnlib.histogramdd(nnlib.ones(3, 2), [2]),
                ShapeError,
                "histogramdd: bins: expected one entry for each of 2 dimensions",
            ),
            (
                lambda: nnlib.histogramdd(nnlib.ones(3, 2), 2, range=(0.0, 1.0)),
                ShapeError,
                "histogramdd: range: expected 4 numbers, two for each dimension",
            ),
        ],
    ),
]
