"""nnlib.kernels.arithmetic against the arrays' own operators."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from nnlib import kernels

PAIRS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}
SPECIAL = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e-40]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_same_bits_as_the_operator(name: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((41, 53)).astype(dtype) for _ in range(2))
    x[0, :7] = y[1, :7] = x[2, 7:14] = SPECIAL
    y[2, 7:14] = SPECIAL[::-1]
    with np.errstate(all="ignore"):
        want = PAIRS[name](x, y)
    got = getattr(kernels.arithmetic, name)(x, y)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", PAIRS)
def test_what_the_kernel_does_not_serve(name: str) -> None:
    function, plain = getattr(kernels.arithmetic, name), PAIRS[name]
    x = np.arange(1.0, 13.0).reshape(3, 4)
    for a, b in [
        (x, 2.5),
        (2.5, x),
        (x, x[0]),
        (x, x[:, ::-1]),
        (x[:, ::2], x[:, 1::2]),
        (x.astype(int), x.astype(int)),
        (x, x.astype(np.float32)),
        (x.astype(np.float16), x.astype(np.float16)),
    ]:
        np.testing.assert_array_equal(function(a, b), plain(a, b))


def test_the_layout_of_the_first_is_kept() -> None:
    x = np.ones((2, 3, 4, 5)).transpose(0, 3, 1, 2)
    assert kernels.arithmetic.add(x, x).strides == x.strides
