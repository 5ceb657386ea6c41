"""Cases of nnlib.kernels.gemm: its epilogue on CUDA (the product is cuBLAS's)."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _run(activation, bias, dtype=np.float32):
    def run(rng, put):
        a = put(rng.standard_normal((3, 4, 5)).astype(dtype))
        b = put(rng.standard_normal((5, 7)).astype(dtype))
        row = put(rng.standard_normal(7).astype(dtype)) if bias else None
        return kernels.gemm.matmul(a, b, bias=row, activation=activation)

    return run


CASES = [
    Case(f"{activation}, bias {bias}", _run(activation, bias))
    for activation in (None, "relu", "sigmoid", "tanh", "gelu", "silu")
    for bias in (True, False)
] + [Case("float64", _run("relu", True, np.float64))]
