"""Cases of dropout: each call starts from the same seed, so that it can be repeated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Sample, normal

import nnlib
import nnlib.nn.functional as F
from nnlib import kernels
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator

SATURATION = 1.7580993408473766


def seeded(name: str) -> Callable[..., Any]:
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        generator = Generator().manual_seed(7)
        return getattr(F, name)(x, *args, generator=generator, **kwargs)

    return call


def kept(shape: tuple[int, ...], p: float) -> Any:
    """Return 1 where `dropout` keeps, else 0."""
    ones = np.ones(shape, np.float32)
    return (kernels.dropout.forward(ones, p, 7, 0) != 0).astype(np.float64)


def channels(lead: dict[int, int]) -> Callable[..., Any]:
    """Return the reference; `lead` maps a number of dimensions to those of the mask."""

    def reference(x: Any, p: float = 0.5, training: bool = True) -> Any:
        if not training or p == 0:
            return x
        count = lead.get(x.ndim, x.ndim)
        mask = kept(x.shape[:count] + (1,) * (x.ndim - count), p)
        return x * mask / (1 - p) if p < 1 else x * 0

    return reference


def alpha(lead: int | None) -> Callable[..., Any]:
    def reference(x: Any, p: float = 0.5, training: bool = False) -> Any:
        if not training or p == 0:
            return x
        shape = x.shape if lead is None else x.shape[:lead] + (1,) * (x.ndim - lead)
        mask = kept(shape, p)
        a = 1 / math.sqrt((SATURATION**2 * p + 1) * (1 - p))
        return a * (x * mask - SATURATION * (1 - mask)) + SATURATION * a * p

    return reference


def case(name: str, samples: list[Any], reference: Any, bad: Any = None) -> Case:
    function = getattr(F, name)
    errors = [
        (
            lambda: function(nnlib.tensor(normal(2, 3, 4, 1)), 1.5),
            ArgumentError,
            f"{name}: p: expected a probability, 0 to 1, got 1.5",
        ),
        (
            lambda: function(nnlib.tensor([1, 2])),
            DTypeError,
            f"{name}: input: expected a floating dtype, got int64",
        ),
    ]
    if bad is not None:
        message = rf"{name}: input: expected .*got.* \(3,\)"
        errors.append((lambda: function(nnlib.tensor(bad)), ShapeError, message))
    return Case(name, samples, reference, torch=None, call=seeded(name), errors=errors)


CASES = [
    case(
        "dropout",
        [
            normal(5, 6),
            Sample((normal(2, 3, 4), 0.2)),
            Sample((normal(4), 1.0)),
            Sample((normal(4), 0.0)),
            Sample((normal(4), 0.5, False)),
        ],
        channels({}),
    ),
    case(
        "dropout1d",
        [normal(3, 4, 5), (normal(5, 4), 0.3)],
        channels({3: 2, 2: 1}),
        normal(3),
    ),
    case(
        "dropout2d",
        [normal(3, 4, 2, 3), (normal(5, 4, 2), 0.3)],
        channels({4: 2, 3: 2}),
        normal(3),
    ),
    case(
        "dropout3d",
        [normal(2, 3, 2, 1, 3), (normal(5, 2, 2, 2), 0.3)],
        channels({5: 2, 4: 1}),
        normal(3),
    ),
    case(
        "alpha_dropout",
        [
            Sample((normal(5, 6),), {"training": True}),
            Sample((normal(5, 6), 0.2), {"training": True}),
            normal(4),
        ],
        alpha(None),
    ),
    case(
        "feature_alpha_dropout",
        [
            Sample((normal(3, 4, 5),), {"training": True}),
            Sample((normal(3, 4), 0.2), {"training": True}),
            normal(2, 3),
        ],
        alpha(2),
        normal(3),
    ),
]
