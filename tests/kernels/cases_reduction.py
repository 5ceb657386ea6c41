"""Cases of nnlib.kernels.reduction."""

from __future__ import annotations

from kernel_cases import Case

from nnlib.kernels import reduction


def _all(operation, size):
    def run(rng, put):
        x = put(rng.standard_normal(size).astype("f4"))
        return reduction.reduce_all(x, operation, scale=0.5)

    return run


def _rows(operation, shape):
    def run(rng, put):
        x = put(rng.standard_normal(shape).astype("f4"))
        return reduction.reduce_rows(x, operation, scale=0.5)

    return run


def _columns(shape, dtype):
    def run(rng, put):
        return reduction.sum_columns(put(rng.standard_normal(shape).astype(dtype)))

    return run


CASES = [
    Case("sum of all", _all(reduction.SUM, 300)),
    Case("sum of all, two rounds", _all(reduction.SUM, 3000), rtol=1e-4),
    Case("squares of all, two rounds", _all(reduction.SQUARES, 3000)),
    Case("maximum of all", _all(reduction.MAXIMUM, 300)),
    Case("minimum of rows", _rows(reduction.MINIMUM, (5, 30))),
    Case("sum of rows", _rows(reduction.SUM, (5, 3))),
    Case("sum of long rows", _rows(reduction.SUM, (1, 2053)), rtol=1e-4),
    Case("sum of columns", _columns((9, 4), "f4")),
    Case("sum of columns, two rounds", _columns((300, 3), "f8")),
]
