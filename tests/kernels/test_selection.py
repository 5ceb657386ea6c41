"""nnlib.kernels.selection against NumPy's own where."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from nnlib import kernels

DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int64,
    np.int8,
    bool,
]
SHAPES = [
    ((40, 50), (40, 50), (40, 50)),
    ((40, 1), (40, 50), (50,)),
    ((2, 40, 50), (), (40, 50)),
    ((40, 50), (40, 50), ()),
    ((50,), (1, 50), (40, 1)),
    ((3, 4), (3, 4), ()),
    ((0, 5000), (), (1, 5000)),
]


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_where_equals_numpy_to_the_bit(shapes, dtype) -> None:
    rng = np.random.default_rng(1)
    condition = rng.random(shapes[0]) < 0.5
    x, y = (
        np.asarray(rng.standard_normal(shape) * 9).astype(dtype) for shape in shapes[1:]
    )
    assert equal_bits(
        kernels.selection.where(condition, x, y), np.where(condition, x, y)
    )


def test_where_with_zeros_and_special_values() -> None:
    rng = np.random.default_rng(2)
    condition = rng.random((64, 64)) < 0.5
    x = rng.standard_normal((64, 64)).astype(np.float32)
    x[0] = np.nan
    x[1] = np.inf
    for value in (0.0, -0.0, np.inf, np.nan, 2.5):
        number = np.float32(value)
        got = kernels.selection.where(condition, x, number)
        assert equal_bits(got, np.where(condition, x, number))
        got = kernels.selection.where(condition, number, x)
        assert equal_bits(got, np.where(condition, number, x))


def test_where_of_strided_arrays() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 90))
    condition = rng.random((90, 80)) < 0.5
    got = kernels.selection.where(condition.T, x, x[::-1, ::-1])
    assert equal_bits(got, np.where(condition.T, x, x[::-1, ::-1]))


def test_where_that_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        kernels.selection.where(np.ones((40, 50), bool), np.ones((3, 1)), np.ones(7))
