"""Cases of nnlib.kernels.ctc."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import ctc


def _case(dtype):
    def run(rng, put):
        x = rng.standard_normal((6, 3, 4))
        y = put((x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(dtype))
        targets = put(rng.integers(1, 4, 9))
        plan = [put(np.array(v)) for v in ([0, 3, 6], [6, 5, 4], [2, 3, 0])]
        loss, alpha = ctc.forward(y, targets, *plan, 0)
        factor = put(np.array([1.0, 0.5, 2.0], dtype))
        return loss, ctc.backward(y, targets, *plan, 0, loss, alpha, factor)

    return run


CASES = [
    Case("float32", _case("f4"), rtol=1e-4, atol=1e-5),
    Case("float64", _case("f8")),
]
