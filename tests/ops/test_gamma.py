"""Special functions at their edges, and their exactness against SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.kernels import erf_gamma
from nnlib.ops import incomplete_gamma

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "points", "values"),
    [
        ("erfc", [-INF, INF, NAN, 0], [2, 0, NAN, 1]),
        ("erfinv", [-1, 1, 1.5, NAN, -0.0, INF], [-INF, INF, NAN, NAN, -0.0, NAN]),
        ("lgamma", [0, -1, -7, INF, -INF, NAN], [INF, INF, INF, INF, INF, NAN]),
        ("digamma", [0, -0.0, -1, INF, -INF, NAN], [-INF, INF, NAN, INF, NAN, NAN]),
    ],
)
def test_edges(name: str, points: list, values: list, dtype: str) -> None:
    got = getattr(nnlib, name)(nnlib.tensor(points, dtype=dtype)).numpy()
    np.testing.assert_array_equal(got, np.array(values, dtype))
    zero = np.array(values) == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(values)[zero])


def test_polygamma_at_its_poles() -> None:
    x = nnlib.tensor([0.0, -0.0, -3.0, INF, NAN])
    assert nnlib.polygamma(1, x).tolist()[:4] == [INF, INF, INF, 0]
    assert x.polygamma(2).tolist()[:4] == [-INF, -INF, -INF, 0]
    assert np.isnan(nnlib.polygamma(2, x).numpy()[4])
    tiny = nnlib.tensor([-1e-12], dtype="float64")
    np.testing.assert_allclose(nnlib.polygamma(1, tiny).numpy(), 1e24)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exactness(dtype: str) -> None:
    scipy = pytest.importorskip("scipy.special")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0.1, 40, 2000), 10 ** rng.uniform(-9, 8, 500)])
    inside = np.concatenate(
        [rng.uniform(-1, 1, 2000), 1 - 10 ** -rng.uniform(0, 6, 500), x[2000:] * 1e-9]
    )
    x, inside = x.astype(dtype), inside.astype(dtype)
    epsilon = np.finfo(dtype).eps

    def error(got: np.ndarray, want: np.ndarray, least: float = 0.0) -> float:
        return float((abs(got - want) / np.maximum(abs(want), least)).max() / epsilon)

    exact = scipy.erfinv(inside.astype("f8"))
    assert error(erf_gamma.erfinv(inside), exact) < 4
    assert error(erf_gamma.digamma(x), scipy.psi(x.astype("f8")), 1) < 12
    for order in (1, 2, 3):
        exact = scipy.polygamma(order, x.astype("f8"))
        known = (abs(exact) < 1e30) & (abs(exact) > 1e-30)
        got = erf_gamma.polygamma(x, parameter=float(order))
        assert error(got[known], exact[known]) < 12


def test_names_of_torch_special() -> None:
    special = pytest.importorskip("torch").special
    x = nnlib.tensor([0.3, 0.6], dtype="float64")
    for name in nnlib.special.__all__:
        assert hasattr(special, name)
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(x.numpy())
    for name in ("expit", "gammaln", "psi", "ndtr", "entr", "logit", "erfinv"):
        want = getattr(special, name)(theirs).numpy()
        np.testing.assert_allclose(getattr(nnlib.special, name)(x).numpy(), want, 1e-12)
    edges = nnlib.special.entr(nnlib.tensor([0.0, -1.0, NAN])).numpy()
    np.testing.assert_array_equal(edges, np.array([0, -INF, NAN], np.float32))


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma_functions_of_all_sizes(name: str) -> None:
    scipy = pytest.importorskip("scipy.special")
    function, exact = getattr(nnlib.special, name), getattr(scipy, name)
    rng = np.random.default_rng(6)
    for low, high in ((1e-3, 1.0), (1.0, 20.0), (20.0, 1e3), (1e3, 1e5)):
        a = rng.uniform(low, high, 400)
        near = np.abs(a + np.sqrt(a) * rng.standard_normal(400))
        for x in (near, a * rng.uniform(0, 3, 400)):
            found = function(nnlib.tensor(a), nnlib.tensor(x)).numpy()
            np.testing.assert_allclose(found, exact(a, x), 1e-10, 3e-14)
    a = 10 ** rng.uniform(6, 15, 400)
    # Further away SciPy's series end too soon.
    x = a + np.sqrt(a) * rng.uniform(-4, 4, 400)
    found = function(nnlib.tensor(a), nnlib.tensor(x)).numpy()
    np.testing.assert_allclose(found, exact(a, x), 1e-10)
    if name == "gammaincc":
        a, x = 10 ** rng.uniform(-12, -0.31, 400), 10 ** rng.uniform(-6, 0.04, 400)
        found = function(nnlib.tensor(a), nnlib.tensor(x)).numpy()
        np.testing.assert_allclose(found, exact(a, x), 1e-12)
    ends = np.array([0.0, 1.0, 2.0, np.inf, -1.0])
    a, x = np.meshgrid(ends, ends)
    found = function(nnlib.tensor(a), nnlib.tensor(x)).numpy()
    np.testing.assert_allclose(found, exact(a, x), 1e-14)
    assert np.isnan(function(nnlib.tensor(np.nan), nnlib.ones(()))).all()
    for order in (0.3, 3.0, 1e7):  # without dimensions
        one = function(nnlib.tensor(order), nnlib.tensor(1.0)).item()
        np.testing.assert_allclose(one, exact(order, 1.0), 1e-6)
    # One end or the other, and no search for it.
    ends = function(nnlib.tensor(1e20), nnlib.tensor([1e19, 1e21])).tolist()
    assert ends == ([0.0, 1.0] if name == "gammainc" else [1.0, 0.0])


@pytest.mark.parametrize("function", [nnlib.igamma, nnlib.igammac])
def test_both_ways_to_a_large_order_agree(function: Any, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    order = rng.uniform(1e5, 2e5, 400)
    place = order + np.sqrt(order) * rng.uniform(-9, 9, 400)
    a, x = nnlib.tensor(order), nnlib.tensor(place)
    want = function(a, x).numpy()
    monkeypatch.setattr(incomplete_gamma, "_LARGE", 1e5)
    found = function(a, x).numpy()
    np.testing.assert_allclose(found, want, 1e-9, 1e-14)
    assert (found != want).any()


def test_gradient_of_an_incomplete_gamma_function_in_float32() -> None:
    stats = pytest.importorskip("scipy.stats")
    a, x = np.float32([1e4, 1e5, 2.5]), np.float32([1.01e4, 9.95e4, 3.0])
    leaf = nnlib.tensor(x, requires_grad=True)
    nnlib.igamma(nnlib.tensor(a), leaf).sum().backward()
    want = stats.gamma.pdf(x.astype(np.float64), a.astype(np.float64))
    np.testing.assert_allclose(leaf.grad.numpy(), want, 1e-6)
