"""Cases of arithmetic, division and powers."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, away_from, booleans, integers, normal, positive

import nnlib
from nnlib.backend.errors import DTypeError, Error, ShapeError

a34, b34 = normal(3, 4), normal(3, 4)
BROADCAST = [
    (a34, b34),
    (normal(2, 1, 3), normal(4, 1)),
    (normal(3), 2.5),
    (normal(2, 3), integers(3, low=1)),
    (integers(2, 3), 3),
]


def bad_shapes(name):
    def call():
        getattr(nnlib, name)(nnlib.ones(2, 3), nnlib.ones(2))

    return call, ShapeError, rf"{name}: shapes \(2, 3\) and \(2,\) do not broadcast"


def bad_type(name):
    def call():
        getattr(nnlib, name)(nnlib.ones(2), "text")

    return (
        call,
        DTypeError,
        f"{name}: (other|exponent): expected a Tensor or a number, got str",
    )


def nonzero_pairs():
    return [
        (normal(3, 4), away_from(3, 4, gap=0.4)),
        (normal(2, 1, 3), away_from(4, 1, gap=0.4)),
        (normal(3), 2.5),
        (2.5, positive(3)),
    ]


def off_steps(pairs):
    """Move quotients away from the integers, where rounding jumps."""
    moved = []
    for x, y in pairs:
        quotient = np.round(np.asarray(x) / y) + 0.3
        moved.append((quotient * y, y))
    return moved


def div_reference(x, y, rounding_mode=None):
    q = x / y
    return {None: lambda v: v, "trunc": np.trunc, "floor": np.floor}[rounding_mode](q)


FLOAT_PAIRS = off_steps(nonzero_pairs()[:3])

CASES = [
    Case(
        "add",
        samples=[*BROADCAST, (2.5, normal(3)), Sample((a34, b34), {"alpha": -0.5})],
        reference=lambda x, y, alpha=1: x + alpha * y,
        errors=[
            bad_shapes("add"),
            bad_type("add"),
            (
                lambda: nnlib.tensor([1], dtype="uint8") + 300,
                DTypeError,
                "add: 300 is out of the range of uint8",
            ),
        ],
    ),
    Case(
        "sub",
        samples=[*BROADCAST, (2.5, normal(3)), Sample((a34, b34), {"alpha": 3})],
        reference=lambda x, y, alpha=1: x - alpha * y,
        errors=[
            bad_shapes("sub"),
            bad_type("sub"),
            (
                lambda: nnlib.tensor([True]) - nnlib.tensor([True]),
                DTypeError,
                "sub: not defined on bool and bool",
            ),
        ],
    ),
    Case(
        "rsub",
        samples=[(a34, b34), Sample((a34, 3), {"alpha": 2})],
        reference=lambda x, y, alpha=1: y - alpha * x,
        errors=[(lambda: nnlib.rsub(nnlib.ones(2), nnlib.ones(3)), ShapeError, "sub:")],
    ),
    Case(
        "mul",
        samples=[*BROADCAST, (2.5, normal(3)), (booleans(3), booleans(3))],
        reference=lambda x, y: x * y,
        errors=[bad_shapes("mul"), bad_type("mul")],
    ),
    Case(
        "div",
        samples=[
            *nonzero_pairs(),
            Sample(FLOAT_PAIRS[0], {"rounding_mode": "floor"}),
            Sample(FLOAT_PAIRS[1], {"rounding_mode": "trunc"}),
        ],
        reference=div_reference,
        half=False,
        errors=[
            bad_shapes("div"),
            bad_type("div"),
            (
                lambda: nnlib.div(nnlib.ones(2), 2, rounding_mode="up"),
                DTypeError,
                "rounding_mode: expected None, 'trunc' or 'floor', got 'up'",
            ),
        ],
    ),
    Case(
        "neg",
        samples=[normal(3, 4), integers(3), np.array(0.7)],
        reference=np.negative,
        errors=[
            (lambda: -nnlib.tensor([True]), DTypeError, "neg: not defined on bool")
        ],
    ),
    Case("positive", samples=[normal(3, 4)], reference=np.positive),
    Case(
        "floor_divide",
        samples=[
            *FLOAT_PAIRS,
            (integers(2, 3, low=-5), integers(3, low=1)),
            (-7, integers(3, low=1)),
        ],
        reference=lambda x, y: x // y,
        half=False,
        grad=False,
        errors=[
            bad_shapes("floor_divide")[:2] + (r"floor_divide: shapes",),
            (
                lambda: nnlib.tensor([1, 2]) // nnlib.tensor([1, 0]),
                Error,
                "floor_divide: integer division by zero",
            ),
        ],
    ),
    Case(
        "remainder",
        samples=[*FLOAT_PAIRS, (integers(2, 3, low=-5), integers(3, low=1))],
        reference=lambda x, y: x % y,
        half=False,
        errors=[
            bad_shapes("remainder"),
            (
                lambda: nnlib.tensor([1, 2]) % 0,
                Error,
                "remainder: integer division by zero",
            ),
        ],
    ),
    Case(
        "fmod",
        samples=[*FLOAT_PAIRS, (integers(2, 3, low=-5), integers(3, low=1))],
        reference=np.fmod,
        half=False,
        errors=[bad_shapes("fmod")],
    ),
    Case(
        "pow",
        samples=[
            (positive(3, 4), normal(3, 4)),
            (positive(2, 1, 3), normal(4, 1)),
            *[(normal(3), p) for p in (0, 1, 2, 3, 4, 5)],
            *[(positive(3), p) for p in (0.5, -1, -2.5, 1.5)],
            (2.5, normal(3)),
            (integers(2, 3), 3),
            (integers(2, 3), integers(3)),
        ],
        reference=lambda x, y: np.power(x, y),
        rtol32=1e-5,
        errors=[
            bad_shapes("pow"),
            bad_type("pow"),
            (
                lambda: nnlib.tensor([2, 3]) ** -1,
                DTypeError,
                "pow: an integer tensor has no negative integer powers",
            ),
        ],
    ),
    Case("square", samples=[normal(3, 4), integers(3)], reference=np.square),
    Case("sqrt", samples=[positive(3, 4)], reference=np.sqrt),
    Case("rsqrt", samples=[positive(3, 4)], reference=lambda x: 1 / np.sqrt(x)),
    Case("reciprocal", samples=[positive(3, 4)], reference=lambda x: 1 / x),
]
