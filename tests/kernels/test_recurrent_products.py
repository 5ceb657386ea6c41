"""nnlib.kernels.panels and nnlib.kernels.tall against NumPy, at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.kernels import panels, recurrent, tall
from nnlib.kernels.vectors import COLUMNS

TOLERANCE = {"f4": 1e-4, "f8": 1e-12}


def draw(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("turned", [True, False])
def test_packing_keeps_every_element(dtype, turned):
    rng = np.random.default_rng(0)
    for depth, width in ((1, 1), (19, 33), (40, 64)):
        weight = draw(rng, dtype, depth, width)
        given = np.ascontiguousarray(weight.T) if turned else weight
        packed = panels.pack(given, turned)
        flat = packed.transpose(1, 0, 2).reshape(depth, -1)
        np.testing.assert_array_equal(flat[:, :width], weight)
        assert not flat[:, width:].any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [64, 71, 200])
def test_rows_product(dtype, rows):
    rng = np.random.default_rng(rows)
    width = 2 * COLUMNS[np.dtype(dtype).itemsize]
    wide = draw(rng, dtype, rows, 50)
    left = wide[:, 7:20]
    weight, bias = draw(rng, dtype, width, 13), draw(rng, dtype, width)
    out = tall.rows_product(left, weight, transposed=True, bias=bias)
    expected = left @ weight.T + bias
    np.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])
    again = tall.rows_product(
        left, np.ascontiguousarray(weight.T), out, transposed=False
    )
    assert again is out
    expected = expected + left @ weight.T
    np.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("depth", "rows", "columns", "more"),
    [(64, 1, 1, 1), (300, 13, 5, 37), (257, 64, 32, 64), (513, 8, 70, 0)],
)
def test_columns_product(dtype, depth, rows, columns, more):
    rng = np.random.default_rng(depth)
    left = draw(rng, dtype, depth, rows + 9)
    part = slice(4, 4 + rows)
    pairs = []
    for at, width in ((3, columns), (0, more))[: 1 + (more > 0)]:
        out = np.full((rows, width), np.nan, dtype)
        pairs.append((draw(rng, dtype, depth, at + width), at, out))
    tall.columns_product(left, part, pairs)
    for right, at, out in pairs:
        expected = left[:, part].T @ right[:, at:]
        np.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


def test_an_infinity_stays_in_its_column():
    left, right = np.ones((70, 9), "f4"), np.ones((70, 5), "f4")
    left[3, 2], right[9, 4] = np.inf, np.nan
    out = np.empty((9, 5), "f4")
    tall.columns_product(left, slice(0, 9), [(right, 0, out)])
    assert np.isinf(out[2, :4]).all() and np.isnan(out[:, 4]).all()
    rest = np.delete(out[:, :4], 2, 0)
    assert (rest == 70).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [[3], [2, 2, 2], [4, 3, 3, 1, 1]])
def test_what_stood_before_is_gathered_as_it_is_copied(sizes, reverse):
    steps = recurrent.steps_of(sizes)
    rng = np.random.default_rng(0)
    state, x = rng.standard_normal((sizes[0], 3)), rng.standard_normal((steps.total, 3))
    both = np.concatenate((x, state))
    np.testing.assert_array_equal(
        both[recurrent.places_before(steps, reverse)],
        recurrent.before(state, steps, x, reverse),
    )
