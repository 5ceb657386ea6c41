"""Cases of nnlib.kernels.resize."""

from __future__ import annotations

from kernel_cases import Case

from nnlib import kernels
from nnlib.kernels.windows import adaptive_mean, interpolated, plan, sliding_mean


def _resample(dtype, shape, windows):
    def run(rng, put):
        x = put(rng.standard_normal(shape).astype(dtype))
        y = kernels.resize.resample(x, windows)
        return y, kernels.resize.resample(y, windows.turned)

    return run


CASES = [
    Case(f"{name}, {dtype}", _resample(dtype, shape, windows))
    for dtype in ("f4", "f8")
    for name, shape, windows in (
        ("mean", (1, 2, 4, 5), plan(sliding_mean, (4, 2, 3, 2, 1), (5, 2, 2, 2, 0))),
        ("adaptive", (2, 1, 3, 3, 4), plan(adaptive_mean, (3, 2), (3, 1), (4, 3))),
        (
            "bilinear",
            (1, 3, 2, 3),
            plan(
                interpolated,
                (2, 4, "linear", False, None),
                (3, 2, "linear", True, None),
            ),
        ),
    )
]
