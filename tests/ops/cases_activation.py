"""Cases of the activations and of softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from harness import Case, Sample, away_from, normal, positive

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    return np.where(
        x * beta > threshold, x, np.logaddexp(0, np.minimum(x * beta, 700)) / beta
    )


def elu(x: Any, alpha: float = 1.0) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


def softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    e = np.exp(x - x.max(axis=dim, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=dim, keepdims=True)


def log_softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    top = x.max(axis=dim, keepdims=True, initial=-1e300)
    return x - top - np.log(np.exp(x - top).sum(axis=dim, keepdims=True))


def glu(x: Any, dim: int = -1) -> Any:
    a, b = np.split(x, 2, axis=dim)
    return a * sigmoid(b)


def prelu(x: Any, w: Any) -> Any:
    if w.size > 1:
        w = w.reshape(w.shape + (1,) * (x.ndim - 2))
    return np.where(x > 0, x, w * x)


def case(name: str, samples: list[Any], reference: Any, **options: Any) -> Case:
    options.setdefault("torch", f"nn.functional.{name}")
    return Case(name, samples, reference, **options)


def kinked(*kinks: float) -> list[Any]:
    """Return one sample for each of several shapes, away from the kinks."""
    shapes: tuple[tuple[int, ...], ...] = ((3, 4), (2, 1, 3), (5,), ())
    return [np.asarray(away_from(*shape, kinks=kinks)) for shape in shapes]


def with_arguments(x: Any, *calls: dict[str, Any]) -> list[Any]:
    return [*kinked(0.0), *(Sample((x,), kwargs) for kwargs in calls)]


FAR = np.array([-800.0, -90.0, -25.0, -5.0, 5.0, 25.0, 90.0, 800.0])
SMOOTH = [normal(3, 4), normal(2, 1, 3) * 3, np.array(0.7), FAR]

CASES = [
    case(
        "relu",
        [*kinked(0.0), Sample((away_from(3, 2),), {"inplace": False})],
        lambda x, inplace=False: np.maximum(x, 0),
        method=True,
    ),
    case(
        "leaky_relu",
        with_arguments(away_from(2, 3), {"negative_slope": 0.2}),
        lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
    ),
    case(
        "prelu",
        [
            (away_from(2, 3, 4), positive(3)),
            (away_from(2, 3), positive(1)),
            (away_from(4), positive(1)),
            (away_from(2, 3, 2, 2), positive(3)),
        ],
        prelu,
        errors=[
            (
                lambda: F.prelu(nnlib.tensor(normal(2, 3)), nnlib.tensor(normal(2))),
                ShapeError,
                r"prelu: weight has shape \(2,\), expected one slope or one per",
            )
        ],
        empty=False,
    ),
    case(
        "hardtanh",
        [
            *kinked(-1.0, 1.0),
            Sample(
                (away_from(3, 4, kinks=(-0.5, 2.0)),), {"min_val": -0.5, "max_val": 2.0}
            ),
        ],
        lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        errors=[
            (
                lambda: F.hardtanh(nnlib.tensor([1.0]), 2.0, 1.0),
                ArgumentError,
                "hardtanh: min_val 2.0 must not exceed max_val 1.0",
            )
        ],
    ),
    case(
        "relu6",
        [np.asarray(x * 2) for x in kinked(0.0, 3.0)],
        lambda x: np.clip(x, 0, 6),
    ),
    case(
        "hardsigmoid",
        [np.asarray(x * 2) for x in kinked(-1.5, 1.5)],
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
    ),
    case(
        "hardswish",
        [np.asarray(x * 2) for x in kinked(-1.5, 1.5)],
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
    ),
    case(
        "hardshrink",
        [
            *kinked(-0.5, 0.5),
            Sample((away_from(3, 4, kinks=(-1.0, 1.0)),), {"lambd": 1.0}),
        ],
        lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x, 0),
    ),
    case(
        "softshrink",
        [
            *kinked(-0.5, 0.5),
            Sample((away_from(3, 4, kinks=(-1.0, 1.0)),), {"lambd": 1.0}),
        ],
        lambda x, lambd=0.5: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
        errors=[
            (
                lambda: F.softshrink(nnlib.tensor([1.0]), -1.0),
                ArgumentError,
                "softshrink: lambd: expected at least 0, got -1.0",
            )
        ],
    ),
    case(
        "threshold",
        [
            Sample((away_from(3, 4, kinks=(0.5,)), 0.5, -2.0)),
            Sample((away_from(3),), {"threshold": 0.0, "value": 1.0}),
        ],
        lambda x, threshold, value: np.where(x > threshold, x, value),
    ),
    case(
        "elu",
        [*with_arguments(away_from(2, 3), {"alpha": 0.5}), FAR],
        elu,
    ),
    case(
        "selu",
        [*kinked(0.0), FAR],
        lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772),
    ),
    case(
        "celu",
        [*with_arguments(away_from(2, 3), {"alpha": 0.5}), FAR],
        lambda x, alpha=1.0: alpha * elu(x / alpha),
        errors=[
            (
                lambda: F.celu(nnlib.tensor([1.0]), 0.0),
                ArgumentError,
                "celu: alpha: expected a number other than 0, got 0",
            )
        ],
    ),
    case(
        "gelu",
        [*SMOOTH, Sample((normal(3, 5),), {"approximate": "tanh"})],
        gelu,
        errors=[
            (
                lambda: F.gelu(nnlib.tensor([1.0]), "erf"),
                ArgumentError,
                "gelu: approximate: expected 'none' or 'tanh', got 'erf'",
            )
        ],
    ),
    case("silu", SMOOTH[:3], lambda x: x * sigmoid(x)),
    case("mish", SMOOTH, lambda x: x * np.tanh(np.logaddexp(0, x))),
    case(
        "softplus",
        [
            normal(3, 4),
            normal(2, 1, 3),
            Sample((normal(3, 4),), {"beta": 2.0}),
            Sample((away_from(3, 4, kinks=(0.5,)),), {"beta": 2.0, "threshold": 1.0}),
            Sample((away_from(3, 4) - 0.5,), {"beta": -2.0, "threshold": 1.0}),
        ],
        softplus,
    ),
    case("logsigmoid", SMOOTH, lambda x: -np.logaddexp(0, -x)),
    case(
        "softsign",
        [*kinked(0.0), FAR],
        lambda x: x / (1 + np.abs(x)),
    ),
    case("tanhshrink", SMOOTH, lambda x: x - np.tanh(x)),
    Case("exponential", SMOOTH[:3], np.exp, torch="exp"),
    case(
        "glu",
        [
            normal(3, 4),
            Sample((normal(4, 3), 0)),
            Sample((normal(2, 6, 3),), {"dim": 1}),
        ],
        glu,
        errors=[
            (
                lambda: F.glu(nnlib.tensor([1.0, 2.0, 3.0])),
                ShapeError,
                "glu: dimension 0 of input has length 3, expected an even one",
            ),
        ],
        empty=False,
    ),
    case(
        "rrelu",
        [*kinked(0.0), Sample((away_from(3, 4), 0.1, 0.5))],
        lambda x, lower=1 / 8, upper=1 / 3: np.where(x > 0, x, x * (lower + upper) / 2),
        errors=[
            (
                lambda: F.rrelu(nnlib.tensor([1.0]), 0.5, 0.1),
                ShapeError,
                "rrelu: lower 0.5 must not exceed upper 0.1",
            ),
        ],
    ),
    case(
        "softmax",
        [
            Sample((normal(3, 4),), {"dim": 1}),
            Sample((normal(3, 4) * 100,), {"dim": -2}),
            Sample((normal(2, 3, 4),), {"dim": 1}),
            Sample((normal(2, 3, 4), 0)),
            Sample((normal(5),), {"dim": 0}),
            Sample((normal(2, 1),), {"dim": 1}),
        ],
        softmax,
        errors=[
            (
                lambda: nnlib.softmax(nnlib.tensor([1.0])),
                DTypeError,
                "softmax: dim: expected an int",
            ),
            (
                lambda: nnlib.softmax(nnlib.tensor([1.0]), 1),
                BoundsError,
                "softmax: dim 1 is out of range",
            ),
        ],
    ),
    case(
        "log_softmax",
        [
            Sample((normal(3, 4),), {"dim": 1}),
            Sample((normal(3, 4) * 100,), {"dim": -2}),
            Sample((normal(2, 3, 4),), {"dim": 1}),
            Sample((normal(2, 3, 4), 0)),
            Sample((normal(5),), {"dim": 0}),
            Sample((normal(2, 1),), {"dim": 1}),
        ],
        log_softmax,
        rtol32=1e-5,
        errors=[
            (
                lambda: nnlib.log_softmax(nnlib.tensor([1.0]), None),
                DTypeError,
                "log_softmax: dim: expected an int",
            ),
        ],
    ),
    case(
        "softmin",
        [
            Sample((normal(3, 4),), {"dim": 1}),
            Sample((normal(2, 3, 4),), {"dim": 1}),
        ],
        lambda x, dim: softmax(-x, dim),
    ),
]
