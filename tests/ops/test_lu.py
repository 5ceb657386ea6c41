"""LU decompositions larger than a panel, singular ones, and without swaps."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib


@pytest.mark.parametrize("shape", [(70, 70), (90, 40), (40, 90), (2, 33, 35), (3, 0)])
@pytest.mark.parametrize("pivot", [True, False])
def test_product_of_the_factors(shape: tuple[int, ...], pivot: bool) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal(shape)
    if not pivot:
        a += 20 * np.eye(*shape[-2:])
    x = nnlib.from_numpy(a)
    P, L, U = nnlib.linalg.lu(x, pivot=pivot)
    product = L @ U
    if pivot:
        assert (abs(L.numpy()) <= 1).all()
        product = P @ product
    # Without row exchanges small pivots enlarge the rounding.
    np.testing.assert_allclose(product.numpy(), a, rtol=1e-9, atol=1e-11)


def test_a_singular_matrix_is_factored() -> None:
    torch = pytest.importorskip("torch")
    a = np.ones((3, 3))
    got = nnlib.linalg.lu_factor(nnlib.from_numpy(a))
    want = torch.linalg.lu_factor_ex(torch.tensor(a))
    np.testing.assert_allclose(got.LU.numpy(), want.LU.numpy())
    assert got.pivots.tolist() == want.pivots.tolist()
    with pytest.raises(nnlib.linalg.LinAlgError):
        nnlib.linalg.lu_solve(*got, nnlib.ones(3, 1, dtype="float64"))


def test_without_swaps_a_zero_above_others_leaves_nothing_finite() -> None:
    a = nnlib.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]])
    _, lower, upper = nnlib.linalg.lu(a, pivot=False)
    assert not np.isfinite(upper[0].numpy()).all()
    np.testing.assert_array_equal((lower[1] @ upper[1]).numpy(), a[1].numpy())


@pytest.mark.parametrize("bad", [-1, 0, 3])
def test_swaps_with_rows_that_are_not_there(bad: int) -> None:
    pivots = nnlib.tensor([bad, 2], dtype="int32")
    with pytest.raises(nnlib.BoundsError, match="lu_solve: pivots: expected 1 to 2"):
        nnlib.linalg.lu_solve(nnlib.eye(2), pivots, nnlib.ones(2, 1))
