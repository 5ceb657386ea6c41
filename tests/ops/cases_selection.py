"""Cases of where, masked_fill, maximum, minimum, clamp and the interpolations."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, away_from, booleans, distinct, integers, normal

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError

mask34 = booleans(3, 4)
TIES = (np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 3.0]))
NANS = (np.array([np.nan, 2.0, np.nan]), np.array([1.0, np.nan, np.nan]))
pool = distinct(2, 3, 4)
PAIRS = [(pool[0], pool[1]), (pool[0][:, None], pool[1]), (integers(3), integers(2, 3))]


def bad_pair(name):
    def call():
        getattr(nnlib, name)(nnlib.ones(2, 3), nnlib.ones(2))

    return (call, ShapeError, rf"{name}: shapes \(2, 3\) and \(2,\) do not")


def extremum(name, samples):
    return Case(
        name,
        samples=samples,
        reference=getattr(np, name),
        errors=[bad_pair(name)],
    )


def clamp_reference(x, min=None, max=None):
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


inner = away_from(3, 4, kinks=(-0.5, 0.5))

CASES = [
    Case(
        "where",
        samples=[
            (mask34, normal(3, 4), normal(3, 4)),
            (booleans(3, 1), normal(2, 1, 4), normal(3, 4)),
            (mask34, normal(3, 4), 0.5),
            (mask34, -1.0, normal(4)),
            (mask34, integers(3, 4), 2),
        ],
        reference=np.where,
        method=False,
        errors=[
            (
                lambda: nnlib.where(nnlib.ones(2), 1.0, 2.0),
                DTypeError,
                "where: condition: expected a bool tensor, got float32",
            ),
            (
                lambda: nnlib.where(nnlib.ones(2) > 0, nnlib.ones(3), 0.0),
                ShapeError,
                "where: shapes",
            ),
            (
                lambda: nnlib.where(nnlib.ones(2) > 0, nnlib.ones(2)),
                DTypeError,
                "where: expected tensors or numbers, got NoneType",
            ),
        ],
    ),
    Case(
        "masked_fill",
        samples=[
            (normal(3, 4), mask34, 0.5),
            (normal(3, 4), booleans(4), -7),
            (normal(3, 4), booleans(3, 1), np.array(0.7)),
            (integers(3, 4), mask34, 7),
        ],
        reference=lambda x, mask, value: np.where(mask, value, x),
        half=False,
        errors=[
            (
                lambda: nnlib.ones(2).masked_fill(nnlib.ones(2), 1),
                DTypeError,
                "masked_fill: mask: expected a bool tensor, got float32",
            ),
            (
                lambda: nnlib.ones(2).masked_fill(nnlib.ones(2) > 0, nnlib.ones(2)),
                ShapeError,
                "masked_fill: value: expected a number or a tensor without dim",
            ),
            (
                lambda: nnlib.tensor([1]).masked_fill(nnlib.tensor([True]), 0.5),
                DTypeError,
                "the float 0.5 cannot fill a tensor of int64",
            ),
        ],
    ),
    extremum("maximum", PAIRS),
    extremum("minimum", PAIRS),
    extremum("fmax", PAIRS),
    extremum("fmin", PAIRS),
    Case(
        "clamp",
        samples=[
            (inner, -0.5, 0.5),
            Sample((inner,), {"min": -0.5}),
            Sample((inner,), {"max": 0.5}),
            (pool[0], pool[1] - 0.35, pool[1] + 0.25),
            (pool[0], pool[1] + 0.35, pool[1] - 0.25),
            (pool[0], pool[1][:1]),
            (integers(3, 4), 1, 3),
            (integers(3, 4), 1.5),
        ],
        reference=clamp_reference,
        half=False,
        errors=[
            (
                lambda: nnlib.clamp(nnlib.ones(2)),
                DTypeError,
                "clamp: expected min, max or both",
            ),
            (
                lambda: nnlib.clamp(nnlib.ones(2), nnlib.ones(3)),
                ShapeError,
                "clamp: shapes",
            ),
        ],
    ),
    Case(
        "clip",
        samples=[(inner, -0.5, 0.5)],
        reference=clamp_reference,
        half=False,
    ),
    Case(
        "clamp_min",
        samples=[(inner, -0.5)],
        reference=np.maximum,
        half=False,
    ),
    Case(
        "clamp_max",
        samples=[(inner, 0.5)],
        reference=np.minimum,
        half=False,
    ),
    Case(
        "nan_to_num",
        samples=[
            normal(3, 4),
            Sample((normal(3),), {"nan": 2.0, "posinf": 3.0, "neginf": -1.0}),
            integers(3),
        ],
        reference=np.nan_to_num,
    ),
    Case(
        "lerp",
        samples=[
            (normal(3, 4), normal(3, 4), 0.3),
            (normal(3, 4), normal(4), 0.8),
            (normal(3, 4), normal(3, 4), normal(4)),
        ],
        reference=lambda x, end, weight: x + weight * (end - x),
        half=False,
        errors=[
            (
                lambda: nnlib.lerp(nnlib.ones(2), nnlib.tensor([1, 2]), 0.5),
                DTypeError,
                "lerp: end: expected float32, got int64",
            )
        ],
    ),
    Case(
        "addcmul",
        samples=[
            (normal(3, 4), normal(3, 4), normal(3, 4)),
            Sample((normal(3, 4), normal(3, 4), normal(3, 1)), {"value": 0.5}),
        ],
        reference=lambda x, a, b, value=1: x + value * a * b,
        half=False,
    ),
    Case(
        "addcdiv",
        samples=[
            (normal(3, 4), normal(3, 4), away_from(3, 4, gap=0.5)),
            Sample((normal(3, 4), normal(3, 4), away_from(3, 1)), {"value": 0.5}),
        ],
        reference=lambda x, a, b, value=1: x + value * a / b,
        half=False,
        errors=[
            (
                lambda: nnlib.addcdiv(
                    nnlib.ones(1), nnlib.tensor([1]), nnlib.tensor([1])
                ),
                DTypeError,
                "addcdiv: expected floats",
            )
        ],
    ),
]
