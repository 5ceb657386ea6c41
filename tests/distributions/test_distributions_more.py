"""Distributions: support, expansion, modes, edges, and divergences of two families."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib import distributions as D  # noqa: N812
from nnlib.autograd import gradcheck
from nnlib.backend.errors import ArgumentError, ShapeError

stats = pytest.importorskip("scipy.stats")
F64 = {"dtype": nnlib.float64}


def numbers(low, high, *shape):
    values = np.random.default_rng(5).uniform(low, high, shape)
    return nnlib.tensor(values, **F64)


def test_normal_quantile_equals_scipy():
    p = np.concatenate([10.0 ** -np.arange(1, 300, 7.0), np.linspace(0.01, 0.99, 33)])
    got = D.Normal(nnlib.tensor(1.0, **F64), 2.0).icdf(nnlib.tensor(p))
    np.testing.assert_allclose(got.numpy(), stats.norm(1, 2).ppf(p), rtol=1e-14)
    ends = D.Normal(0.0, 1.0).icdf(nnlib.tensor([0.0, 1.0, 2.0])).numpy()
    assert ends[0] == -math.inf and ends[1] == math.inf and math.isnan(ends[2])
    x = numbers(0.02, 0.98, 7).requires_grad_()
    assert gradcheck(lambda p: D.Normal(nnlib.zeros(1, **F64), 1.0).icdf(p), (x,))


PAIRS = [
    ("Normal", "Laplace"),
    ("Normal", "Gumbel"),
    ("Gumbel", "Normal"),
    ("Uniform", "Gumbel"),
    ("Laplace", "Normal"),
    ("Uniform", "Normal"),
]
SCIPY = {
    "Normal": stats.norm,
    "Laplace": stats.laplace,
    "Gumbel": stats.gumbel_r,
    "Uniform": stats.uniform,
}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_divergence_of_two_families_equals_an_integral(one, other):
    a, b, c, d = 0.3, 1.1, -0.4, 2.3
    p = getattr(D, one)(nnlib.tensor(a, **F64), a + b if one == "Uniform" else b)
    q = getattr(D, other)(nnlib.tensor(c, **F64), d)
    known = SCIPY[one](a, b)
    x = known.ppf((np.arange(200_000) + 0.5) / 200_000)
    value = nnlib.tensor(x)
    want = (p.log_prob(value) - q.log_prob(value)).mean().item()
    assert D.kl_divergence(p, q).item() == pytest.approx(want, rel=2e-4)


@pytest.mark.parametrize("name", ["Normal", "Laplace", "Gumbel"])
def test_divergence_from_an_interval_is_infinite(name):
    p = getattr(D, name)(nnlib.zeros(2, 1), 1.0)
    value = D.kl_divergence(p, D.Uniform(nnlib.zeros(3), 1.0))
    assert tuple(value.shape) == (2, 3) and bool(value.isinf().all())


def test_bernoulli_divergence_where_one_side_is_sure():
    p = D.Bernoulli(nnlib.tensor([0.0, 1.0, 0.5, 0.0, 1.0, 0.5]))
    q = D.Bernoulli(nnlib.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    got = D.kl_divergence(p, q).numpy()
    np.testing.assert_array_equal(got, [0, 0] + [math.inf] * 4)


def test_relaxed_ones_have_no_entropy_and_no_divergence():
    relaxed = D.RelaxedBernoulli(0.5, logits=nnlib.zeros(2))
    with pytest.raises(ArgumentError, match="no closed form"):
        D.kl_divergence(relaxed, relaxed)
    with pytest.raises(ArgumentError, match="no closed form"):
        D.kl_divergence(D.Bernoulli(logits=nnlib.zeros(2)), relaxed)
    with pytest.raises(ArgumentError, match="no entropy"):
        D.RelaxedOneHotCategorical(0.5, logits=nnlib.zeros(3)).entropy()


def test_a_class_that_cannot_come_leaves_the_others_alone():
    choice = D.OneHotCategorical(logits=nnlib.tensor([0.0, -math.inf, 1.0]))
    got = choice.log_prob(nnlib.tensor([1.0, 0.0, 0.0])).item()
    assert got == pytest.approx(-math.log(1 + math.e))


@pytest.mark.parametrize("dtype", [nnlib.float16, nnlib.bfloat16])
@pytest.mark.parametrize("name", ["Gumbel", "Laplace"])
def test_draws_of_16_bits_are_finite(name, dtype):
    like = getattr(D, name)(nnlib.zeros((), dtype=dtype), 1.0)
    drawn = like.sample((50_000,))
    assert drawn.dtype == dtype
    values = drawn.float().numpy()
    assert np.isfinite(values).all()
    known = SCIPY[name]()
    assert abs(values.mean() - known.mean()) < 0.05
    assert abs(values.std() - known.std()) < 0.05


def test_expand():
    normal = D.Normal(nnlib.arange(3.0), 1.0).expand((4, 3))
    assert tuple(normal.batch_shape) == tuple(normal.sample().shape) == (4, 3)
    choice = D.Categorical(logits=nnlib.zeros(2, 5)).expand((7, 2))
    assert tuple(choice.sample((3,)).shape) == (3, 7, 2)
    assert tuple(choice.log_prob(choice.sample()).shape) == (7, 2)
    vector = D.Independent(D.Normal(nnlib.zeros(3), 1.0), 1).expand((6,))
    assert (tuple(vector.batch_shape), tuple(vector.event_shape)) == ((6,), (3,))
    assert tuple(vector.log_prob(vector.sample()).shape) == (6,)
    relaxed = D.RelaxedBernoulli(0.5, logits=nnlib.zeros(3)).expand((2, 3))
    assert tuple(relaxed.rsample().shape) == (2, 3)
    with pytest.raises(ShapeError):
        normal.expand((4, 2))


def test_enumerated_probabilities_sum_to_one():
    for one in (
        D.Bernoulli(numbers(0, 1, 2, 3)),
        D.Categorical(numbers(0, 1, 2, 3, 4)),
        D.OneHotCategorical(numbers(0, 1, 2, 3, 4)),
    ):
        values = one.enumerate_support()
        assert tuple(values.shape[1:]) == (*one.batch_shape, *one.event_shape)
        total = one.log_prob(values).exp().sum(0)
        np.testing.assert_allclose(total.numpy(), np.ones((2, 3)))
        narrow = one.enumerate_support(expand=False)
        assert tuple(narrow.shape[1:3]) == (1, 1)
    with pytest.raises(ArgumentError, match="enumerate_support"):
        D.Normal(0.0, 1.0).enumerate_support()
    with pytest.raises(ArgumentError, match="enumerate_support"):
        D.RelaxedBernoulli(0.5, logits=nnlib.zeros(1)).enumerate_support()


def test_modes():
    assert D.Gumbel(2.0, 3.0).mode.item() == 2.0
    got = D.Bernoulli(nnlib.tensor([0.2, 0.5, 0.7])).mode.numpy()
    np.testing.assert_array_equal(got, [0.0, math.nan, 1.0])
    one_hot = D.OneHotCategorical(nnlib.tensor([[0.2, 0.7, 0.1]])).mode
    assert one_hot.tolist() == [[0.0, 1.0, 0.0]]
    with pytest.raises(ArgumentError, match="no mode"):
        D.Uniform(0.0, 1.0).mode.item()


def test_classes_are_whole_numbers():
    with pytest.raises(ArgumentError, match="a class from 0 to 2"):
        D.Categorical(nnlib.ones(3)).log_prob(nnlib.tensor(1.5))
