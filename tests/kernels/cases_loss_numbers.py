"""Cases of nnlib.kernels.loss_numbers."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _quotient(dtype):
    def run(rng, put):
        a, b = put(np.array([7.5], dtype)), put(np.array(2.5, dtype))
        return kernels.loss_numbers.quotient(a, b), kernels.loss_numbers.quotient(b, a)

    return run


CASES = [
    Case("quotient", _quotient(np.float32)),
    Case("quotient, float64", _quotient(np.float64)),
]
