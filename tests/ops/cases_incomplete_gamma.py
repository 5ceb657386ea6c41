"""Cases of the incomplete gamma functions, differentiated by their second argument."""

from __future__ import annotations

import numpy as np
from harness import Case, positive

import nnlib
from nnlib.backend.errors import Error, ShapeError

ORDERS = {4: np.array([0.3, 1.0, 2.5, 7.0]), 3: np.array([20.0, 18.0, 30.0])}


def case(name):
    function = getattr(nnlib, name)
    return Case(
        name,
        samples=[
            positive(3, 4, high=6.0),
            positive(2, 3, 4, low=0.01, high=20.0),
            positive(3, high=40.0),
        ],
        call=lambda x: function(nnlib.tensor(ORDERS[x.shape[-1]], dtype=x.dtype), x),
        torch=lambda torch, x: getattr(torch, name)(
            torch.tensor(ORDERS[x.shape[-1]]), x
        ),
        errors=[
            (
                lambda: function(nnlib.ones(2, requires_grad=True), nnlib.ones(2)),
                Error,
                f"{name}: input: the derivative by it is not known",
            ),
            (
                lambda: function(nnlib.ones(2), nnlib.ones(3)),
                ShapeError,
                f"{name}: shapes",
            ),
        ],
    )


CASES = [case("igamma"), case("igammac")]
