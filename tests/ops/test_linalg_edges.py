"""Linear algebra: singular, rank-deficient and empty matrices, missing gradients."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import Error

L = nnlib.linalg


def test_singular_matrices() -> None:
    x = nnlib.ones(2, 2)
    assert L.det(x).item() == 0
    sign, logarithm = L.slogdet(x)
    assert (sign.item(), logarithm.item()) == (0.0, -np.inf)
    for call in (lambda: L.inv(x), lambda: L.solve(x, nnlib.ones(2))):
        with pytest.raises(Error, match="singular"):
            call()


def test_the_determinant_has_a_gradient_at_singular_matrices() -> None:
    rng = np.random.default_rng(2)
    half, line = rng.normal(size=(3, 2)), rng.normal(size=(3, 1))
    x = np.stack([half @ half.T, line @ line.T, np.zeros((3, 3)), np.eye(3)])
    tensor = nnlib.tensor(x, requires_grad=True)
    L.det(tensor).sum().backward()
    cofactors = np.empty_like(x)
    for i in range(3):
        for j in range(3):
            minor = np.delete(np.delete(x, i, 1), j, 2)
            cofactors[:, i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    np.testing.assert_allclose(tensor.grad.numpy(), cofactors, atol=1e-12)
    (first,) = nnlib.autograd.grad(L.det(tensor).sum(), tensor, create_graph=True)
    with pytest.raises(Error, match="inv: singular"):
        first.sum().backward()


def test_what_has_no_gradient_says_so() -> None:
    x = nnlib.rand(4, 3, requires_grad=True)
    u = L.svd(x).U
    with pytest.raises(Error, match="full_matrices=True has no gradient for M != N"):
        u.sum().backward()
    q = L.qr(x, mode="complete").Q
    with pytest.raises(Error, match="mode='complete' has no gradient for M > N"):
        q.sum().backward()


def test_singular_values_alone_have_a_gradient_where_they_are_equal() -> None:
    x = nnlib.eye(3).requires_grad_()
    L.svdvals(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), np.eye(3), atol=1e-6)


def test_modes_of_qr() -> None:
    x = nnlib.rand(4, 3)
    q, r = L.qr(x, mode="r")
    assert q.numel() == 0
    np.testing.assert_allclose(r.numpy(), L.qr(x).R.numpy())
    q, r = L.qr(x, mode="complete")
    assert tuple(q.shape) == (4, 4)
    np.testing.assert_allclose((q @ r).numpy(), x.numpy(), atol=1e-6)


def test_lstsq_tells_rank_and_residuals() -> None:
    a = nnlib.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    found = L.lstsq(a, nnlib.tensor([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found.solution.numpy(), [1.0, 1.0], atol=1e-5)
    assert found.rank.item() == 1
    assert found.residuals.numel() == 0
    full = L.lstsq(nnlib.eye(3)[:, :2], nnlib.tensor([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(full.residuals.numpy(), 9.0, rtol=1e-5)


def test_results_have_names() -> None:
    x = nnlib.eye(2)
    assert L.svd(x)._fields == ("U", "S", "Vh")
    assert L.eigh(x)._fields == ("eigenvalues", "eigenvectors")
    assert L.qr(x)._fields == ("Q", "R")
    assert L.slogdet(x)._fields == ("sign", "logabsdet")


def test_batches_without_elements() -> None:
    x = nnlib.zeros(0, 3, 3)
    assert tuple(L.inv(x).shape) == (0, 3, 3)
    assert tuple(L.det(x).shape) == (0,)


def test_top_level_names() -> None:
    assert nnlib.det is L.det
    assert nnlib.inverse is L.inv
    assert nnlib.eye(2).inverse().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_condition_of_singular_matrices_is_infinite() -> None:
    x = nnlib.stack((nnlib.ones(2, 2), nnlib.eye(2)))
    for p in ("fro", 1, -np.inf):
        first, second = L.cond(x, p).tolist()
        assert (first, second < 3) == (np.inf, True)
    assert L.cond(nnlib.diag(nnlib.tensor([1.0, 0.0]))).item() == np.inf


def test_a_singular_matrix_raises_the_error_of_linear_algebra() -> None:
    with pytest.raises(L.LinAlgError, match="inv: singular"):
        L.inv(nnlib.ones(2, 2))
    assert nnlib.logdet(nnlib.ones(2, 2)).item() == -np.inf
    assert np.isnan(nnlib.logdet(nnlib.diag(nnlib.tensor([1.0, -1.0]))).item())


def test_the_triangle_alone_is_read_and_has_a_gradient() -> None:
    a = nnlib.tensor([[2.0, 5.0], [1.0, 4.0]], requires_grad=True)
    L.solve_triangular(a, nnlib.ones(2, 1), upper=False).sum().backward()
    assert a.grad is not None
    assert a.grad[0, 1].item() == 0


def test_the_product_of_several_multiplies_least() -> None:
    from nnlib.ops.matrix_functions import _best_splits

    # Cormen et al., figure 15.5.
    splits = _best_splits([30, 35, 15, 5, 10, 20, 25])
    assert (splits[0, 5], splits[0, 2], splits[3, 5]) == (2, 0, 4)


@pytest.mark.parametrize("dtype", [nnlib.float16, nnlib.bfloat16])
def test_the_exponential_of_16_bit_matrices_is_computed_in_float32(dtype) -> None:
    a = nnlib.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    out = L.matrix_exp(a)
    assert out.dtype == dtype
    expected = nnlib.tensor([[1, np.e - 1], [0, np.e]], dtype=dtype)
    assert out.tolist() == expected.tolist()
    out.sum().backward()
    assert a.grad is not None
    assert a.grad.dtype == dtype
