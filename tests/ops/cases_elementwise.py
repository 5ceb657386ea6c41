"""Cases of the functions of one argument, and atan2, hypot, logaddexp."""

from __future__ import annotations

import math

import numpy as np
from harness import Case, Sample, away_from, integers, normal, positive

import nnlib
from nnlib.backend.errors import ShapeError

INSIDE = np.linspace(-0.9, 0.9, 12).reshape(3, 4)


def unary(name, reference=None, samples=None, **options):
    """Return a case of one argument, on three shapes."""
    if samples is None:
        samples = [normal(3, 4), normal(2, 1, 3), np.array(0.7)]
    reference = reference or getattr(np, name)
    return Case(name, samples=samples, reference=reference, **options)


def inside():
    return [INSIDE, INSIDE[:1] * 0.5]


def bad_pair(name):
    def call():
        getattr(nnlib, name)(nnlib.ones(2, 3), nnlib.ones(2))

    return [(call, ShapeError, rf"{name}: shapes \(2, 3\) and \(2,\) do not")]


STEPS = [away_from(3, 4, kinks=(-3, -2, -1, 0, 1, 2, 3)) * 0.9 + 0.03]
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])

CASES = [
    unary("exp"),
    unary("exp2"),
    unary("expm1"),
    unary("log", samples=[positive(3, 4), positive(2, 1, 3)]),
    unary("log2", samples=[positive(3, 4)]),
    unary("log10", samples=[positive(3, 4)]),
    unary("log1p", samples=[positive(3, 4, low=-0.7)]),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    unary("erf", np.vectorize(math.erf, otypes=[float])),
    Case(
        "logit",
        samples=[
            positive(3, 4, low=0.1, high=0.9),
            Sample((INSIDE,), {"eps": 0.11}),
        ],
        reference=lambda x, eps=0: np.log(
            np.clip(x, eps, 1 - eps) / (1 - np.clip(x, eps, 1 - eps))
        ),
        half=False,
        rtol32=1e-4,
    ),
    unary("sin"),
    unary("cos"),
    unary("tan", samples=[INSIDE, INSIDE[:1] * 1.2]),
    unary("asin", np.arcsin, inside()),
    unary("acos", np.arccos, inside()),
    unary("atan", np.arctan),
    unary("sinh"),
    unary("cosh"),
    unary("tanh"),
    unary("asinh", np.arcsinh),
    unary("acosh", np.arccosh, [positive(3, 4, low=1.2, high=3.0)]),
    unary("atanh", np.arctanh, inside()),
    unary("sinc", np.sinc, [away_from(3, 4, gap=0.3), np.zeros(2)], second=False),
    unary("abs", np.abs, [away_from(3, 4), integers(4, low=-3)]),
    unary("absolute", np.abs, [away_from(3, 4), integers(4, low=-3)]),
    unary("sign", np.sign, [away_from(3, 4), integers(4, low=-3), np.zeros(2)[:0]]),
    unary("floor", np.floor, STEPS),
    unary("ceil", np.ceil, STEPS),
    unary("trunc", np.trunc, STEPS),
    unary("frac", lambda x: x - np.trunc(x), STEPS),
    Case(
        "round",
        samples=[
            away_from(3, 4, kinks=(-1.5, -0.5, 0.5, 1.5), gap=0.12),
            integers(4, low=-3),
            Sample((INSIDE + 0.013,), {"decimals": 1}),
            Sample((normal(5) * 300 + 1.7,), {"decimals": -2}),
        ],
        reference=lambda x, decimals=0: np.round(x, decimals),
        half=False,
    ),
    Case(
        "atan2",
        samples=[(normal(3, 4), away_from(3, 4)), (normal(2, 1, 3), away_from(4, 1))],
        reference=np.arctan2,
        half=False,
        errors=bad_pair("atan2"),
    ),
    Case(
        "hypot",
        samples=[(normal(3, 4), away_from(3, 4)), (normal(2, 1, 3), away_from(4, 1))],
        reference=np.hypot,
        errors=bad_pair("hypot"),
    ),
    Case(
        "logaddexp",
        samples=[(normal(3, 4), normal(3, 4)), (normal(2, 1, 3), normal(4, 1))],
        reference=np.logaddexp,
        errors=bad_pair("logaddexp"),
    ),
]
