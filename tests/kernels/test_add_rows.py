"""Rows added to chosen rows: values, order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import ShapeError
from nnlib.kernels.add_rows import add_rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "columns", "count"),
    [(1, 1, 1), (7, 3, 100), (100, 2500, 64), (3, 70, 900)],
)
def test_equals_a_loop(rows, columns, count, dtype):
    rng = np.random.default_rng(rows)
    out = rng.standard_normal((rows, columns)).astype(dtype)
    chosen = rng.integers(0, rows, count)
    values = rng.standard_normal((count, columns)).astype(dtype)
    want = out.copy()
    for place, row in enumerate(chosen):
        want[row] += values[place]
    assert add_rows(out, chosen, values) is out
    np.testing.assert_array_equal(out, want)


def test_values_may_have_any_strides():
    values = np.arange(12.0).reshape(3, 4).T
    out = add_rows(np.zeros((2, 3)), np.array([0, 1, 0, 1]), values)
    np.testing.assert_array_equal(out, [values[::2].sum(0), values[1::2].sum(0)])


def test_nothing_to_add():
    out = np.ones((2, 3))
    add_rows(out, np.zeros(0, np.int64), np.zeros((0, 3)))
    assert out.sum() == 6


def test_shapes_and_dtypes_must_fit():
    with pytest.raises(
        ShapeError, match=r"add_rows: values are float64 of shape \(2, "
    ):
        add_rows(np.zeros((2, 3)), np.zeros(1, np.int64), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="add_rows: values are float32"):
        add_rows(np.zeros((2, 3)), np.zeros(1, np.int64), np.zeros((1, 3), "f4"))
