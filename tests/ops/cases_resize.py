"""Cases of resizing."""

from __future__ import annotations

from typing import Any

from harness import Case, Sample, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import DTypeError, Error, ShapeError


def shuffle(x: Any, r: int) -> Any:
    n, c, h, w = x.shape
    parts = x.reshape(n, c // r**2, r, r, h, w)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(n, c // r**2, h * r, w * r)


def unshuffle(x: Any, r: int) -> Any:
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // r, r, w // r, r)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(n, c * r**2, h // r, w // r)


def refuse(message: str, error: type[Exception], *shape: int, **kwargs: Any) -> Any:
    return (
        lambda: F.interpolate(nnlib.ones(*shape), **kwargs),
        error,
        f"interpolate: {message}",
    )


X = (1, 1, 4, 4)
CASES = [
    Case(
        "interpolate",
        [
            Sample((normal(2, 3, 4, 5),), {"scale_factor": 2.0, "mode": mode})
            for mode in ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
        ]
        + [
            Sample(
                (normal(1, 2, *size),),
                {"size": 3, "mode": mode, "align_corners": corners},
            )
            for corners in (False, True)
            for mode, size in (
                ("linear", (5,)),
                ("bilinear", (4, 7)),
                ("bicubic", (2, 7)),
                ("trilinear", (2, 4, 3)),
            )
        ]
        + [
            Sample(
                (normal(2, 3, 7, 6),),
                {"size": (3, 9), "mode": mode, "antialias": True, **more},
            )
            for mode in ("bilinear", "bicubic", "lanczos")
            for more in ({}, {"align_corners": mode != "lanczos"})
        ]
        + [
            Sample(
                (normal(1, 2, 9, 5),),
                {"scale_factor": (0.45, 1.7), "mode": mode, "antialias": True},
            )
            for mode in ("bilinear", "lanczos")
        ],
        torch="nn.functional.interpolate",
        call=lambda *args, **kwargs: F.interpolate(*args, **kwargs),
        errors=[
            refuse("input: expected 3 to 5 dim", ShapeError, 2, 2, size=2),
            refuse("expected either size or scale", Error, *X),
            refuse("expected either", Error, *X, size=2, scale_factor=2),
            refuse("antialias: expected im", Error, *X, size=2, antialias=True),
            refuse(
                "recompute_scale_factor: not",
                Error,
                *X,
                size=2,
                recompute_scale_factor=True,
            ),
            refuse("mode: expected", Error, *X, size=2, mode="linear"),
            refuse("align_corners: not used", Error, *X, size=2, align_corners=True),
            refuse("size: expected at least 1", ShapeError, *X, size=0),
            refuse("scale_factor: 0.1 makes", ShapeError, *X, scale_factor=0.1),
            refuse("scale_factor: expected num", DTypeError, *X, scale_factor="2"),
            refuse("scale_factor: expected one", ShapeError, *X, scale_factor=(2,)),
        ],
    ),
    Case(
        "pixel_shuffle",
        [(normal(2, 8, 2, 3), 2), (normal(1, 9, 1, 2), 3)],
        shuffle,
        errors=[
            (
                lambda: nnlib.pixel_shuffle(nnlib.ones(1, 3, 2, 2), 2),
                ShapeError,
                "pixel_shuffle: input: 3 channels are no multiple",
            ),
            (
                lambda: nnlib.pixel_shuffle(nnlib.ones(3, 2), 2),
                ShapeError,
                "pixel_shuffle: input: expected at least 3 dim",
            ),
        ],
    ),
    Case(
        "channel_shuffle",
        [(normal(2, 6, 4, 3), 3), (normal(1, 4, 5), 2)],
        lambda x, groups: (
            x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])
            .swapaxes(1, 2)
            .reshape(x.shape)
        ),
        errors=[
            (
                lambda: nnlib.channel_shuffle(nnlib.ones(1, 3, 2), 2),
                ShapeError,
                "channel_shuffle: groups: 2 does not divide 3 channels",
            )
        ],
    ),
    Case(
        "pixel_unshuffle",
        [(normal(2, 2, 4, 6), 2), (normal(1, 1, 3, 3), 3)],
        unshuffle,
        errors=[
            (
                lambda: nnlib.pixel_unshuffle(nnlib.ones(1, 3, 2, 3), 2),
                ShapeError,
                "pixel_unshuffle: input: 2 x 3 is no multiple",
            )
        ],
    ),
]
