"""Cases of sampling images on grids."""

from __future__ import annotations

import numpy as np
from harness import RNG, Case, Sample, normal

import nnlib
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

F = nnlib.nn.functional
ones = nnlib.ones


def grid(*shape):
    """Draw places, some outside, none where a slope jumps in the images below."""
    return np.round(RNG.uniform(-1.6, 1.6, shape), 1) + 0.0371


def samples():
    # Small: second derivatives by finite differences take their time.
    image = normal(1, 1, 3, 2)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                yield Sample(
                    (image, grid(1, 1, 2, 2)),
                    {"mode": mode, "padding_mode": padding, "align_corners": align},
                )
    volume = normal(1, 1, 3, 2, 2)
    for mode, padding in (
        ("bilinear", "zeros"),
        ("bilinear", "reflection"),
        ("nearest", "border"),
    ):
        yield Sample(
            (volume, grid(1, 1, 1, 2, 3)),
            {"mode": mode, "padding_mode": padding, "align_corners": False},
        )


def bad(error, message, x=(1, 1, 2, 2), g=(1, 1, 1, 2), dtype="float32", **options):
    def call():
        F.grid_sample(ones(*x), ones(*g, dtype=dtype), **options)

    return (call, error, message)


CASES = [
    Case(
        "grid_sample",
        samples=list(samples()),
        call=F.grid_sample,
        torch="nn.functional.grid_sample",
        half=False,
        rtol32=1e-4,
        atol32=1e-5,
        errors=[
            bad(ArgumentError, "mode: expected one of .* got 'linear'", mode="linear"),
            bad(ArgumentError, "padding_mode: expected one of", padding_mode="wrap"),
            bad(DTypeError, "input of float32 and grid of float64", dtype="float64"),
            bad(ShapeError, r"got \(1, 1, 2, 2\) and \(2, 1, 1, 2\)", g=(2, 1, 1, 2)),
            bad(ShapeError, "input has no pixels", x=(1, 1, 0, 2)),
            bad(
                ShapeError,
                "bicubic takes images",
                x=(1, 1, 2, 2, 2),
                g=(1, 1, 1, 1, 3),
                mode="bicubic",
            ),
        ],
    ),
    Case(
        "affine_grid",
        samples=[
            Sample((normal(2, 2, 3), (2, 1, 3, 4)), {"align_corners": False}),
            Sample((normal(2, 2, 3), (2, 1, 3, 4)), {"align_corners": True}),
            Sample((normal(1, 3, 4), (1, 2, 2, 3, 4)), {"align_corners": False}),
            Sample((normal(1, 3, 4), (1, 2, 2, 3, 4)), {"align_corners": True}),
        ],
        call=F.affine_grid,
        torch="nn.functional.affine_grid",
        rtol32=1e-4,
        errors=[
            (
                lambda: F.affine_grid(ones(1, 2, 3), (2, 1, 3, 4)),
                ShapeError,
                r"affine_grid: expected theta .* got \(1, 2, 3\) and \(2, 1, 3, 4\)",
            ),
            (
                lambda: F.affine_grid(ones(1, 2, 3, dtype="int64"), (1, 1, 3, 4)),
                DTypeError,
                "affine_grid: theta: expected a floating dtype, got int64",
            ),
        ],
    ),
]
