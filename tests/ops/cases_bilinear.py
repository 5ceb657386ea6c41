"""The case of the bilinear form."""

from __future__ import annotations

import numpy as np
from harness import Case, normal

import nnlib
from nnlib.backend.errors import ShapeError


def reference(x, y, weight, bias=0.0):
    return np.einsum("...i,kij,...j->...k", x, weight, y) + bias


def call(*shapes):
    return lambda: nnlib.nn.functional.bilinear(*(nnlib.ones(*s) for s in shapes))


CASES = [
    Case(
        "bilinear",
        [
            (normal(4, 2), normal(4, 3), normal(5, 2, 3), normal(5)),
            (normal(2, 3, 2), normal(2, 3, 3), normal(1, 2, 3)),
            (normal(2), normal(2), normal(3, 2, 2), normal(3)),
        ],
        reference,
        torch="nn.functional.bilinear",
        empty=False,
        errors=[
            (
                call((4, 2), (4, 3), (5, 2, 2)),
                ShapeError,
                r"bilinear: input2 has shape \(4, 3\), weight expects 2 features",
            ),
            (
                call((4, 2), (3, 2), (5, 2, 2)),
                ShapeError,
                "all dimensions but the last must agree",
            ),
            (
                call((4, 2), (4, 2), (2, 2)),
                ShapeError,
                r"bilinear: weight: expected \(out_features, in1_features",
            ),
        ],
    )
]
