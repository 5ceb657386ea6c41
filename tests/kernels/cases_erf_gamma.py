"""Cases of nnlib.kernels.erf_gamma: every map."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import erf_gamma

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 0.999, -2.5, 1e-3, -0.3, 12.5, np.nan, np.inf]


def _map(name, parameter=0.0):
    def run(rng, put):
        x = np.append(NUMBERS, rng.uniform(-1.5, 1.5, 8)).astype("f4")
        return getattr(erf_gamma, name)(put(x), parameter=parameter)

    return run


CASES = [
    *(Case(name, _map(name)) for name in ("erfc", "erfinv", "lgamma", "digamma")),
    Case("polygamma", _map("polygamma", 1.0)),
    Case("polygamma, second", _map("polygamma", 2.0)),
]
