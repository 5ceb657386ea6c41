"""Cases of nnlib.kernels.arithmetic."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _pair(name, dtype, second="array"):
    def run(rng, put):
        function = getattr(kernels.arithmetic, name)
        x = put(rng.standard_normal((3, 7)).astype(dtype))
        if second == "number":
            return function(x, 1.5), function(x, 3)
        y = put(rng.standard_normal((3, 7)).astype(dtype))
        return function(x, y), function(x, y[:1]), function(x.T, y.T)

    return run


def _into(rng, put):
    x, y = (put(rng.standard_normal((3, 7)).astype(np.float32)) for _ in range(2))
    kernels.arithmetic.add(x, y, out=x)
    return x, kernels.arithmetic.add(x, y[0], out=y)


CASES = [
    Case(f"{name}, {second}, {np.dtype(dtype)}", _pair(name, dtype, second))
    for name in ("add", "subtract", "multiply")
    for second in ("array", "number")
    for dtype in (np.float32, np.float64)
] + [Case("add into", _into)]
