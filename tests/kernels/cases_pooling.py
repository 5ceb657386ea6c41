"""Cases of nnlib.kernels.pooling."""

from __future__ import annotations

from kernel_cases import Case

from nnlib import kernels
from nnlib.kernels.windows import adaptive, plan, sliding


def _max(dtype, shape, windows):
    def run(rng, put):
        x = put(rng.standard_normal(shape).astype(dtype))
        y, places = kernels.pooling.max_pool(x, windows)
        size = (*shape[:2], *windows.outputs[5 - len(shape) :])
        grad = put(rng.standard_normal(size).astype(dtype))
        back = kernels.pooling.max_pool_backward(grad, places, windows)
        return y, places, back, kernels.pooling.max_pool_values(x, windows)

    return run


CASES = [
    Case(f"{name}, {dtype}", _max(dtype, shape, windows))
    for dtype in ("f4", "f8")
    for name, shape, windows in (
        ("plain", (1, 2, 4, 4), plan(sliding, (4, 2, 2, 2, 0, 1), (4, 2, 2, 2, 0, 1))),
        ("padded", (2, 1, 5, 3), plan(sliding, (5, 3, 3, 2, 1, 1), (3, 3, 3, 1, 1, 1))),
        # Four channels at a time, and with one left over.
        ("fours", (2, 8, 3, 4), plan(sliding, (3, 1, 2, 2, 0, 1), (4, 4, 2, 1, 1, 1))),
        ("five", (1, 5, 2, 3), plan(sliding, (2, 1, 2, 1, 0, 1), (3, 2, 2, 1, 0, 1))),
        ("volume", (1, 1, 3, 3, 2), plan(adaptive, (3, 2), (3, 1), (2, 2))),
    )
] + [
    Case("signal, 300 taps", _max("f4", (1, 1, 300), plan(adaptive, (300, 1)))),
]
