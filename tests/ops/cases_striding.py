"""Cases of views by strides."""

from __future__ import annotations

import numpy as np
from harness import Case, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError


def reference(x, size, stride, offset=0):
    steps = [step * x.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(x.reshape(-1)[offset:], size, steps)


CASES = [
    Case(
        "as_strided",
        samples=[
            (normal(3, 4), (2, 3), (4, 1)),
            (normal(3, 4), (3, 3), (1, 2), 2),
            (normal(5), (2, 3, 2), (0, 1, 1)),
            (normal(5), (), (), 3),
            (normal(5), (0, 2), (1, 1)),
        ],
        reference=reference,
        # Of memory of its own, whatever that of the argument is.
        call=lambda x, *args: (x * 1).as_strided(*args),
        torch=lambda torch, x, *args: (x * 1).as_strided(*args),
        empty=False,
        errors=[
            (
                lambda: nnlib.ones(4).as_strided((5,), (1,)),
                BoundsError,
                "as_strided: the last element of shape .* would be number 4, the",
            ),
            (
                lambda: nnlib.ones(4).as_strided((2,), (1,), -1),
                BoundsError,
                "as_strided: the last element",
            ),
            (
                lambda: nnlib.ones(4).as_strided((2,), (1, 2)),
                ShapeError,
                "as_strided: size has 1 entries, stride 2",
            ),
            (
                lambda: nnlib.ones(4).as_strided((2,), (-1,)),
                ShapeError,
                "as_strided: stride: expected integers of at least 0",
            ),
            (
                lambda: nnlib.as_strided(nnlib.ones(4), 2, (1,)),
                DTypeError,
                "as_strided: size: expected a sequence of integers, got int",
            ),
        ],
    ),
]
