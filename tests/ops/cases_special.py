"""Cases of the gamma function's kin and of the error function's."""

from __future__ import annotations

import math

import numpy as np
from harness import Case, Sample, normal, positive

import nnlib
from nnlib.backend.errors import ArgumentError, DTypeError

INSIDE = np.linspace(-0.95, 0.97, 12).reshape(3, 4)


def each(function):
    return np.vectorize(function, otypes=[float])


def special(name, function, samples):
    return Case(
        f"special_{name}",
        samples=samples,
        reference=function,
        torch=f"special.{name}",
        empty=False,
        method=False,
    )


CASES = [
    Case(
        "erfc",
        samples=[normal(3, 4), normal(2, 1, 3)],
        reference=each(math.erfc),
    ),
    Case("erfinv", samples=[INSIDE, INSIDE[:1] * 0.5], half=False),
    Case(
        "lgamma",
        samples=[positive(3, 4), -positive(3, low=0.2, high=0.8)],
        reference=each(math.lgamma),
    ),
    Case("digamma", samples=[positive(3, 4), -positive(3, low=0.2, high=0.8)]),
    Case(
        "polygamma",
        samples=[
            Sample((1, positive(3, 4, high=12.0))),
            (0, positive(4)),
            (2, positive(4)),
            (5, positive(4, low=1.0)),
            (2, -positive(3, low=0.2, high=0.4)),
        ],
        half=False,
        method=False,
        rtol32=5e-5,
        errors=[
            (
                lambda: nnlib.polygamma(-1, nnlib.ones(2)),
                ArgumentError,
                "polygamma: n: expected at least 0, got -1",
            ),
            (
                lambda: nnlib.ones(2).polygamma(0.5),
                DTypeError,
                "polygamma: n: expected an integer, got float",
            ),
        ],
    ),
    Case(
        "mvlgamma",
        samples=[
            Sample((positive(3, 4, low=1.5, high=9.0), 3)),
            (positive(4), 1),
        ],
        errors=[
            (
                lambda: nnlib.mvlgamma(nnlib.ones(2), 0),
                ArgumentError,
                "mvlgamma: p: expected at least 1, got 0",
            )
        ],
    ),
    special("entr", None, [positive(3, 4)]),
    special("ndtr", each(lambda x: math.erfc(-x * math.sqrt(0.5)) / 2), [normal(3, 4)]),
    special(
        "xlog1py",
        lambda x, y: x * np.log1p(y),
        [(normal(3, 4), positive(3, 4, low=-0.7)), (normal(2, 1, 3), positive(4, 1))],
    ),
]
