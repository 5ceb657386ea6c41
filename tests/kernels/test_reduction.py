"""Reductions against float64 sums: accuracy, shapes, layouts, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend import threads
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels.reduction import (
    MAXIMUM,
    MINIMUM,
    SQUARES,
    SUM,
    reduce_all,
    reduce_rows,
    sum_columns,
)

SHAPES = [(1, 1), (7, 5), (300, 3), (1000, 100), (2, 50_000), (9000, 9), (513, 129)]
NUMPY = {
    SUM: np.add.reduce,
    SQUARES: lambda a, axis: np.add.reduce(a * a, axis),
    MAXIMUM: np.maximum.reduce,
    MINIMUM: np.minimum.reduce,
}


@pytest.mark.parametrize("dtype,eps", [("f4", 6e-8), ("f8", 1.2e-16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(rng, shape, dtype, eps):
    x = rng.standard_normal(shape).astype(dtype)
    wide = x.astype(np.longdouble)
    for operation, function in NUMPY.items():
        # The error of a sum is measured by the sum of the sizes.
        size = np.abs(wide) ** (2 if operation == SQUARES else 1)
        value = reduce_all(x, operation)
        assert value.shape == () and value.dtype == x.dtype
        exact = function(wide.reshape(-1), 0)
        assert abs(value - exact) <= 10 * eps * size.sum()
        rows = reduce_rows(x, operation)
        exact = function(wide, 1)
        assert (np.abs(rows - exact) <= 10 * eps * size.sum(1)).all()
        np.testing.assert_allclose(
            reduce_rows(x.T, operation), function(wide.T, 1), rtol=1e-3, atol=1e-3
        )
    columns = sum_columns(x)
    assert (np.abs(columns - wide.sum(0)) <= 80 * eps * np.abs(wide).sum(0)).all()
    np.testing.assert_allclose(sum_columns(x.T), wide.T.sum(0), rtol=1e-3, atol=1e-3)


def test_long_float32_sum_stays_exact():
    x = np.full(3_000_001, 0.1, np.float32)
    exact = x.astype("f8").sum()
    assert abs(float(reduce_all(x)) / exact - 1) < 2e-7
    assert abs(float(reduce_rows(x[None])[0]) / exact - 1) < 2e-7
    assert abs(float(sum_columns(x[:, None])[0]) / exact - 1) < 3e-6


def test_scale_and_out(rng):
    x = rng.standard_normal((40, 30))
    np.testing.assert_allclose(reduce_all(x, scale=1 / x.size), x.mean(), rtol=1e-12)
    out = np.empty(40)
    assert reduce_rows(x, out=out, scale=1 / 30) is out
    np.testing.assert_allclose(out, x.mean(1), rtol=1e-12, atol=1e-15)
    out = np.empty(30)
    assert sum_columns(x, out=out) is out
    total = np.empty(())
    assert reduce_all(x, out=total) is total
    np.testing.assert_allclose(total, x.sum(), rtol=1e-10)


@pytest.mark.parametrize("operation", NUMPY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite(rng, operation, bad):
    for position in (0, 5, 99):
        x = rng.standard_normal((10, 10)).astype("f4")
        x.reshape(-1)[position] = bad
        with np.errstate(all="ignore"):
            expected = NUMPY[operation](x.reshape(-1), 0)
            rows = NUMPY[operation](x, 1)
            columns = x.sum(0)
        np.testing.assert_allclose(reduce_all(x, operation), expected, rtol=1e-5)
        np.testing.assert_allclose(reduce_rows(x, operation), rows, rtol=1e-4)
        np.testing.assert_allclose(sum_columns(x), columns, rtol=1e-4)


def test_empty():
    assert reduce_all(np.empty((0, 3))) == 0
    np.testing.assert_array_equal(reduce_rows(np.empty((3, 0))), np.zeros(3))
    np.testing.assert_array_equal(sum_columns(np.empty((0, 3))), np.zeros(3))
    assert reduce_rows(np.empty((0, 3)), MAXIMUM).shape == (0,)
    assert sum_columns(np.empty((3, 0))).shape == (0,)
    with pytest.raises(ShapeError, match="no extremum"):
        reduce_all(np.empty(0), MINIMUM)
    with pytest.raises(ShapeError, match="no extremum"):
        reduce_rows(np.empty((3, 0)), MAXIMUM)


def test_independent_of_threads(rng):
    x = rng.standard_normal((1001, 203)).astype("f4")
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, before):
            threads.set_num_threads(count)
            results.append((reduce_all(x), reduce_rows(x), sum_columns(x)))
    finally:
        threads.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_refused():
    with pytest.raises(DTypeError, match="reduce_all: expected float32 or float64"):
        reduce_all(np.ones(3, int))
    with pytest.raises(ShapeError, match="expected two dimensions"):
        reduce_rows(np.ones(3))
    with pytest.raises(ShapeError, match="sum_columns: out is float64"):
        sum_columns(np.ones((2, 3)), out=np.ones(2))
    with pytest.raises(ShapeError, match=r"of shape \(\)"):
        reduce_all(np.ones(3), out=np.ones(1))
