"""Softmax kernels against float64 formulas."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import softmax as kernel

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "rows,columns", [(1, 1), (3, 10), (128, 10), (37, 1001), (1, 9000), (0, 3)]
)
def test_values(rng, dtype, rows, columns):
    x = (10 * rng.standard_normal((rows, columns))).astype(dtype)
    g = rng.standard_normal((rows, columns)).astype(dtype)
    z = x.astype(np.float64)
    z = z - z.max(1, keepdims=True, initial=-1e300)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    tol = TOLERANCE[dtype]
    y = kernel.softmax(x)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, p, 10 * tol, tol)
    expected = p * (g - (g * p).sum(1, keepdims=True))
    np.testing.assert_allclose(kernel.softmax_backward(g, y), expected, 0, 10 * tol)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    y = kernel.log_softmax(x)
    np.testing.assert_allclose(y, logp, 2 * tol, 5 * tol)
    expected = g - p * g.sum(1, keepdims=True)
    got = kernel.log_softmax_backward(g, y)
    np.testing.assert_allclose(got, expected, 0, 200 * tol)


def test_strides_and_special_values():
    x = np.array([[0.0, np.inf], [np.nan, 0], [-np.inf, 0], [-np.inf, -np.inf]])
    want = [[np.nan] * 2, [np.nan] * 2, [0, 1], [np.nan] * 2]
    np.testing.assert_array_equal(kernel.softmax(x), want)
    np.testing.assert_array_equal(kernel.softmax(x.T.copy().T), want)
    y = np.ones((2, 3)) / 3
    g = np.arange(6.0).reshape(3, 2).T
    np.testing.assert_array_equal(
        kernel.softmax_backward(g, y), kernel.softmax_backward(g.copy(), y)
    )


def test_nothing():
    assert kernel.softmax(np.zeros((3, 0))).shape == (3, 0)
    assert kernel.log_softmax_backward(*[np.zeros((3, 0))] * 2).shape == (3, 0)


def test_bad_calls():
    with pytest.raises(ShapeError, match=r"softmax: x: expected shape \(N, C\)"):
        kernel.softmax(np.zeros(3))
    with pytest.raises(DTypeError, match="softmax: expected float32 or float64"):
        kernel.softmax(np.zeros((3, 2), np.int64))
    with pytest.raises(ShapeError, match="softmax_backward: the gradient is float64"):
        kernel.softmax_backward(np.zeros((3, 2)), np.zeros((3, 2), np.float32))
