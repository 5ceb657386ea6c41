"""Cases of random operations; their distributions are checked in test_random.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import DTypeError, Error, ShapeError

ones = nnlib.ones


def seeded() -> nnlib.Generator:
    return nnlib.Generator().manual_seed(5)


def drawn(name: str, samples: Any, errors: Any = (), **options: Any) -> Case:
    """Return a case whose generator is seeded anew for each call."""
    function = nnlib.autograd.registry.OPS[name].function
    options.setdefault("call", lambda *a: function(*a, generator=seeded()))
    return Case(
        name,
        samples=samples,
        torch=None,
        grad=False,
        half=False,
        empty=False,
        errors=list(errors),
        **options,
    )


def in_place(name: str, *args: Any, errors: Any = ()) -> Case:
    """Return a case of a method on a fresh tensor of the argument's shape."""
    return drawn(
        name,
        [(normal(3, 4),), (np.zeros((0, 2)),)],
        errors,
        call=lambda x: getattr(ones(x.shape), name)(*args, generator=seeded()),
    )


def alike(name: str, *args: Any) -> Case:
    function = getattr(nnlib, name)
    return drawn(
        name,
        [(normal(3, 4),), (np.zeros((0, 2)),)],
        call=lambda x: function(ones(x.shape), *args, generator=seeded()),
    )


CASES = [
    drawn(
        "rand",
        [(3, 4), ((2,),), (0,)],
        [
            (lambda: nnlib.rand(2, dtype="int64"), DTypeError, "rand: dtype: expected"),
            (lambda: nnlib.rand(-1), ShapeError, "rand: size: negative"),
            (
                lambda: nnlib.rand(2, generator=3),
                DTypeError,
                "rand: generator: expected a Generator, got int",
            ),
        ],
    ),
    drawn("randn", [(3, 4), ((2,),), (0,)]),
    drawn(
        "randint",
        [(5, (3, 4)), (-2, 3, (4,)), (7, 8, (2,))],
        [
            (
                lambda: nnlib.randint(3, 3, (2,)),
                ShapeError,
                "randint: the range from 3 to 3 is empty",
            ),
            (
                lambda: nnlib.randint(0, 300, (2,), dtype="uint8"),
                DTypeError,
                "randint: numbers from 0 to 299 do not fit into uint8",
            ),
            (lambda: nnlib.randint(3), DTypeError, r"randint: expected randint\(high"),
        ],
    ),
    drawn(
        "randperm",
        [(7,), (0,)],
        [(lambda: nnlib.randperm(-1), ShapeError, "randperm: size: negative")],
    ),
    alike("rand_like"),
    alike("randn_like"),
    alike("randint_like", 2, 9),
    drawn(
        "normal",
        [(1.0, 2.0, (3,)), (0.0, 0.0, (2, 3))],
        [
            (lambda: nnlib.normal(0.0, 1.0), ShapeError, "normal: size: needed where"),
            (lambda: nnlib.normal(0.0, -1.0, (2,)), Error, "normal: std: expected a"),
            (
                lambda: nnlib.normal(ones(2), ones(3)),
                ShapeError,
                r"normal: shapes \(2,\) and \(3,\) do not broadcast",
            ),
        ],
    ),
    drawn(
        "bernoulli",
        [(np.array([0.0, 1.0, 1.0]),), (np.zeros((0, 2)),)],
        [
            (
                lambda: nnlib.bernoulli(nnlib.tensor([0.5, 1.5])),
                Error,
                "bernoulli: expected probabilities from 0 to 1",
            ),
            (
                lambda: nnlib.bernoulli(nnlib.tensor([1])),
                DTypeError,
                "bernoulli: expected floats, got int64",
            ),
        ],
    ),
    drawn(
        "multinomial",
        [(np.array([[0.1, 0.2, 0.7], [0.0, 1.0, 3.0]]), 2), (np.ones(4), 4)],
        [
            (
                lambda: nnlib.multinomial(nnlib.tensor([1.0, -1.0]), 1),
                Error,
                "multinomial: expected finite weights of at least 0",
            ),
            (
                lambda: nnlib.multinomial(nnlib.tensor([1.0, 0.0]), 2),
                Error,
                "a row has fewer than 2 positive weights",
            ),
            (
                lambda: nnlib.multinomial(ones(2, 2, 2), 1),
                ShapeError,
                r"multinomial: expected weights of shape \(C,\) or \(N, C\)",
            ),
            (
                lambda: nnlib.multinomial(nnlib.tensor([1]), 1),
                DTypeError,
                "multinomial: input: expected floats, got int64",
            ),
        ],
    ),
    drawn(
        "gumbel_softmax",
        [(normal(3, 4),), (normal(2, 3), 0.5, True, 1e-10, 0)],
        [
            (
                lambda: F.gumbel_softmax(ones(2), 0),
                Error,
                "gumbel_softmax: tau: expected a positive number, got 0",
            ),
            (
                lambda: F.gumbel_softmax(nnlib.tensor([1])),
                DTypeError,
                "gumbel_softmax: logits: expected a floating dtype, got int64",
            ),
        ],
        # Each dtype has random numbers of its own.
        call=lambda x, *a: F.gumbel_softmax(x.float(), *a, generator=seeded()),
    ),
    in_place(
        "uniform_",
        -1.0,
        3.0,
        errors=[(lambda: ones(2).uniform_(1, 0), Error, "uniform_: the range from 1")],
    ),
    in_place(
        "normal_",
        1.0,
        2.0,
        errors=[(lambda: ones(2).normal_(0, -1), Error, "normal_: std: expected")],
    ),
    in_place("random_", 10),
    in_place(
        "bernoulli_",
        0.3,
        errors=[(lambda: ones(2).bernoulli_(2), Error, "bernoulli_: expected prob")],
    ),
    in_place(
        "exponential_",
        2.0,
        errors=[(lambda: ones(2).exponential_(0), Error, "exponential_: lambd")],
    ),
    in_place(
        "geometric_",
        0.3,
        errors=[(lambda: ones(2).geometric_(1.0), Error, "geometric_: p: expected")],
    ),
    in_place(
        "cauchy_",
        1.0,
        2.0,
        errors=[(lambda: ones(2).cauchy_(0.0, 0.0), Error, "cauchy_: sigma: expected")],
    ),
    in_place(
        "log_normal_",
        0.5,
        0.25,
        errors=[(lambda: ones(2).log_normal_(0.0, 0.0), Error, "log_normal_: std")],
    ),
]
