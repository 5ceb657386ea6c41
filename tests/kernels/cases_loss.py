"""Cases of nnlib.kernels.loss."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels

X = [0.0, -0.0, 1.0, -1.0, 30.0, -30.0, np.nan, 0.25]


def _case(name, dtype):
    def run(rng, put):
        x = put(np.append(rng.standard_normal(8) * 3, X).astype(dtype))
        t = put((rng.random(16) < 0.5).astype(dtype))
        return getattr(kernels.loss, name)(x, t, parameter=0.7)

    return run


CASES = [
    Case(f"{name}, {dtype}", _case(name, dtype), rtol=1e-5)
    for name in kernels.loss.__all__
    for dtype in ("f4", "f8")
]
