"""Cases of nnlib.kernels.softmax."""

from __future__ import annotations

from kernel_cases import Case

from nnlib import kernels


def _case(rows, columns, dtype, name):
    def run(rng, put):
        kernel = kernels.softmax
        x = put(rng.standard_normal((rows, columns)).astype(dtype))
        g = put(rng.standard_normal((rows, columns)).astype(dtype))
        y = getattr(kernel, name)(x)
        return y, getattr(kernel, f"{name}_backward")(g, y)

    return run


CASES = [
    Case(f"{name}, {dtype}, {rows} x {columns}", _case(rows, columns, dtype, name))
    for name in ("softmax", "log_softmax")
    for dtype, rows, columns in (("f4", 5, 10), ("f4", 3, 37), ("f8", 3, 4))
] + [
    # Rows that registers cannot hold, and one that a warp cannot.
    Case("softmax, long rows", _case(1, 2053, "f4", "softmax")),
    Case("log_softmax, 516", _case(1, 516, "f4", "log_softmax"), 1e-4),
]
