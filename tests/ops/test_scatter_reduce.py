"""Products with zeros, and the way of devices without NumPy's `ufunc.at`."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.ops import scattering


def test_gradient_of_products_with_zeros() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, src = rng.integers(-1, 3, 3) * 0.5, rng.integers(-1, 3, 6) * 0.5
        index = rng.integers(0, 3, 6)
        for include in (True, False):
            found = []
            for lib in (nnlib, torch):
                leaves = [lib.tensor(v).requires_grad_() for v in (x, src)]
                out = leaves[0].scatter_reduce(
                    0, lib.tensor(index), leaves[1], "prod", include_self=include
                )
                (out * lib.tensor([1.0, 2.0, 3.0])).sum().backward()
                found.append([leaf.grad.numpy() for leaf in leaves])
            for mine, theirs in zip(*found, strict=True):
                np.testing.assert_allclose(mine, theirs)


def test_second_derivatives_of_products_with_zeros() -> None:
    index = nnlib.tensor([0, 1, 1, 2, 2, 2, 0])
    x = nnlib.tensor([0.0, 2, 3], dtype="float64", requires_grad=True)
    values = [3.0, 0, 4, 0, 0, 2, 5]
    src = nnlib.tensor(values, dtype="float64", requires_grad=True)
    nnlib.autograd.gradgradcheck(
        lambda a, b: a.scatter_reduce(0, index, b, "prod"), (x, src)
    )


def test_in_place_and_without_dimensions() -> None:
    x = nnlib.zeros(2)
    index = nnlib.tensor([1, 1])
    assert x.scatter_reduce_(0, index, nnlib.tensor([2.0, 4.0]), "mean") is x
    assert x.tolist() == [0, 2]
    x.index_reduce_(0, index, nnlib.tensor([5.0, 3.0]), "amin", include_self=False)
    assert x.tolist() == [0, 3]
    number = nnlib.tensor(2.0)
    got = number.scatter_reduce(0, nnlib.tensor(0), nnlib.tensor(3.0), "prod")
    assert (got.shape, got.item()) == ((), 6)


@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum, np.multiply])
def test_reduction_by_sorting(ufunc: np.ufunc) -> None:
    rng = np.random.default_rng(0)
    out, values = rng.standard_normal((4, 3)), rng.standard_normal((9, 3))
    key = (rng.integers(0, 4, (9, 1)), np.arange(3))
    want = out.copy()
    scattering.reduce_at(want, key, values, ufunc)
    for turned in (out.copy(), np.asfortranarray(out)):
        scattering.reduce_sorted(turned, key, values, ufunc)
        # Products and sums of float64 numbers, in another order.
        np.testing.assert_allclose(turned, want, rtol=1e-14)
