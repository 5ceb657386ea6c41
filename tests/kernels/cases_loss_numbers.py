"""Cases of nnlib.kernels.loss_numbers."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _mean(count, dtype=np.float32):
    def run(rng, put):
        return kernels.loss_numbers.mean_of(put(np.array([7.5, count], dtype)))

    return run


def _quotient(dtype):
    def run(rng, put):
        a, b = put(np.array([7.5], dtype)), put(np.array(2.5, dtype))
        return kernels.loss_numbers.quotient(a, b), kernels.loss_numbers.quotient(b, a)

    return run


CASES = [
    Case("mean", _mean(3)),
    Case("mean of nothing", _mean(0)),
    Case("mean, float64", _mean(3, np.float64)),
    Case("quotient", _quotient(np.float32)),
    Case("quotient, float64", _quotient(np.float64)),
]
