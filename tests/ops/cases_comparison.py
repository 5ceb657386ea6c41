"""Cases of comparisons, tests, logical and bitwise operations, any and all."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, booleans, integers, normal

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError

SPECIAL = np.array([1.0, np.nan, np.inf, -np.inf, 0.0])
x34 = normal(3, 4).round(1)
PAIRS = [
    (x34, np.where(booleans(3, 4), x34, 0.5)),
    (normal(2, 1, 3), normal(4, 1)),
    (integers(2, 3), 2),
    (integers(2, 3), 2.5),
    (integers(2, 3), normal(3)),
]


def plain(name, samples, reference, errors=(), **options):
    options.setdefault("half", False)
    return Case(
        name,
        samples=samples,
        reference=reference,
        grad=False,
        errors=list(errors),
        **options,
    )


def compare(name, reference):
    def call():
        getattr(nnlib, name)(nnlib.ones(2, 3), nnlib.ones(2))

    pattern = rf"{reference.__name__}: shapes \(2, 3\) and \(2,\) do not broadcast"
    return plain(name, PAIRS, reference, [(call, ShapeError, pattern)])


def logical(name):
    samples = [(integers(3, 4, high=2), integers(3, 4, high=2)), (x34, booleans(3, 4))]
    return plain(name, samples, getattr(np, name))


def bitwise(name, reference=None):
    samples = [
        (integers(3, 4), integers(3, 4)),
        (integers(3, 1), integers(4)),
        (booleans(3), booleans(3)),
        (integers(3), 3),
        (booleans(3), integers(3)),
    ]
    error = (
        lambda: getattr(nnlib, name)(nnlib.ones(2), 1),
        DTypeError,
        f"{name}: expected integers or bool, got float32 and int",
    )
    return plain(name, samples, reference or getattr(np, name), [error])


def shift(name, reference):
    samples = [(integers(3, 4, low=1), integers(3, 4)), (integers(3), 2)]
    return plain(name, samples, reference)


def reduction(name):
    samples = [
        booleans(3, 4),
        Sample((booleans(2, 3, 4),), {"dim": 1}),
        Sample((integers(2, 3, high=2),), {"dim": -1, "keepdim": True}),
        Sample((booleans(2, 3, 4),), {"dim": (0, 2)}),
        normal(2, 3),
    ]
    function = getattr(np, name)

    def reference(x, dim=None, keepdim=False):
        return function(x, axis=dim, keepdims=keepdim)

    errors = [
        (
            lambda: getattr(nnlib, name)(nnlib.ones(2, 3), dim=2),
            ShapeError,
            f"{name}: dim: expected different dimensions of a tensor with 2, got 2",
        )
    ]
    return plain(name, samples, reference, errors)


close = (
    np.array([1.0, 2.0, np.inf, np.nan]),
    np.array([1.0 + 1e-9, 2.1, np.inf, np.nan]),
)
CLOSE = [
    close,
    Sample(close, {"rtol": 0.2, "equal_nan": True}),
    (integers(3), integers(3)),
    Sample((np.array([1, 100]), np.array([2, 103])), {"atol": 1.5}),
]
WRONG = (nnlib.ones(2), nnlib.tensor([1, 2]))

CASES = [
    compare("eq", np.equal),
    compare("ne", np.not_equal),
    compare("lt", np.less),
    compare("le", np.less_equal),
    compare("gt", np.greater),
    compare("ge", np.greater_equal),
    plain("isnan", [SPECIAL, integers(3)], np.isnan, half=True),
    plain("isinf", [SPECIAL, integers(3)], np.isinf, half=True),
    plain("isfinite", [SPECIAL, integers(3)], np.isfinite, half=True),
    plain(
        "isclose",
        CLOSE,
        np.isclose,
        [
            (
                lambda: nnlib.isclose(*WRONG),
                DTypeError,
                "isclose: other: expected float32, got int64",
            )
        ],
    ),
    plain("allclose", CLOSE, np.allclose, empty=False),
    plain(
        "equal",
        [(x34, x34.copy()), (x34, x34 + 1), (x34, x34[:2]), (integers(3), integers(3))],
        np.array_equal,
        [
            (
                lambda: nnlib.equal(*WRONG),
                DTypeError,
                "equal: other: expected float32, got int64",
            )
        ],
    ),
    logical("logical_and"),
    logical("logical_or"),
    logical("logical_xor"),
    plain("logical_not", [x34, booleans(3), integers(3)], np.logical_not),
    bitwise("bitwise_and"),
    bitwise("bitwise_or"),
    bitwise("bitwise_xor"),
    plain("bitwise_not", [integers(3, 4), booleans(3)], np.invert),
    shift("bitwise_left_shift", np.left_shift),
    shift("bitwise_right_shift", np.right_shift),
    reduction("any"),
    reduction("all"),
]
