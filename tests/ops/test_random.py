"""Random operations: distributions, seeds, dtypes, memory, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import Error

COUNT = 20_000


def seeded(seed: int = 3) -> nnlib.Generator:
    return nnlib.Generator().manual_seed(seed)


def near(values: np.ndarray, mean: float, variance: float) -> None:
    """Check mean and variance to five standard errors."""
    values = np.asarray(values, np.float64)
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / values.size)
    assert abs(values.var() - variance) < 0.1 * variance + 1e-12


Fill = Callable[[nnlib.Tensor], nnlib.Tensor]
FILLS: list[tuple[Fill, float, float]] = [
    (lambda x: x.uniform_(-1, 3, generator=seeded()), 1.0, 16 / 12),
    (lambda x: x.normal_(2, 3, generator=seeded()), 2.0, 9.0),
    (lambda x: x.random_(2, 12, generator=seeded()), 6.5, 99 / 12),
    (lambda x: x.bernoulli_(0.2, generator=seeded()), 0.2, 0.16),
    (lambda x: x.exponential_(2, generator=seeded()), 0.5, 0.25),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("fill", "mean", "variance"), FILLS)
def test_in_place_distributions(
    fill: Fill, mean: float, variance: float, dtype: str
) -> None:
    x = nnlib.empty(COUNT // 100, 100, dtype=dtype)
    version = x.version
    assert fill(x) is x
    assert x.version > version
    tolerance_scale = 1 if dtype.startswith("float") and dtype != "float16" else 4
    values = x.double().numpy()
    error = abs(values.mean() - mean)
    assert error < tolerance_scale * 5 * math.sqrt(variance / COUNT)
    assert abs(values.var() - variance) < 0.1 * variance


def test_rand_lies_below_one_in_every_dtype() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = nnlib.rand(COUNT, dtype=dtype, generator=seeded()).double().numpy()
        assert x.min() >= 0
        assert x.max() < 1
        near(x, 0.5, 1 / 12)


def test_a_view_is_filled_where_it_lies() -> None:
    x = nnlib.zeros(4, 6)
    x[:, ::2].uniform_(1, 2)
    assert bool((x[:, ::2] >= 1).all())
    assert bool((x[:, 1::2] == 0).all())


def test_same_seed_same_numbers_and_the_stream_goes_on() -> None:
    whole = nnlib.randn(10, generator=seeded())
    generator = seeded()
    parts = [nnlib.randn(4, generator=generator), nnlib.randn(6, generator=generator)]
    assert nnlib.cat(parts).tolist() == whole.tolist()
    nnlib.manual_seed(11)
    first = nnlib.rand(5).tolist()
    assert first != nnlib.rand(5).tolist()
    nnlib.manual_seed(11)
    assert first == nnlib.rand(5).tolist()


def test_randint_covers_its_range_evenly() -> None:
    x = nnlib.randint(-2, 5, (COUNT,), generator=seeded()).numpy()
    counts = np.bincount(x + 2, minlength=7)
    assert counts.size == 7
    expected = COUNT / 7
    assert float(((counts - expected) ** 2 / expected).sum()) < 30
    assert nnlib.randint(5, (2,), dtype="int32").dtype == np.int32


def test_randperm_is_a_permutation_and_uniform() -> None:
    x = nnlib.randperm(1000, generator=seeded())
    assert sorted(x.tolist()) == list(range(1000))
    generator = seeded()
    firsts = [nnlib.randperm(4, generator=generator)[0].item() for _ in range(2000)]
    counts = np.bincount(firsts, minlength=4)
    assert float(((counts - 500) ** 2 / 500).sum()) < 22


def test_normal_with_tensors() -> None:
    mean = nnlib.tensor([0.0, 100.0])
    x = nnlib.normal(mean, nnlib.ones(COUNT, 1), generator=seeded())
    assert tuple(x.shape) == (COUNT, 2)
    near(x[:, 0].numpy(), 0, 1)
    near(x[:, 1].numpy(), 100, 1)


def test_bernoulli_follows_its_probabilities() -> None:
    p = nnlib.tensor([0.1, 0.9]).expand(COUNT, 2)
    x = nnlib.bernoulli(p, generator=seeded())
    near(x[:, 0].numpy(), 0.1, 0.09)
    near(x[:, 1].numpy(), 0.9, 0.09)
    assert set(x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_follows_its_weights(replacement: bool) -> None:
    weights = nnlib.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]]).repeat(COUNT // 2, 1)
    x = nnlib.multinomial(weights, 1, replacement, generator=seeded()).numpy()
    for row, shares in enumerate(([0.25, 0, 0.75], [0.5, 0.5, 0])):
        counts = np.bincount(x[row::2, 0], minlength=3) / (COUNT // 2)
        assert np.abs(counts - shares).max() < 0.02


def test_gumbel_softmax_draws_classes_and_passes_gradients() -> None:
    logits = nnlib.tensor([0.1, 0.3, 0.6]).log().requires_grad_()
    many = logits.expand(COUNT, 3)
    hard = F.gumbel_softmax(many, hard=True, generator=seeded())
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0}
    shares = hard.detach().mean(0).numpy()
    assert np.abs(shares - [0.1, 0.3, 0.6]).max() < 0.02
    soft = F.gumbel_softmax(many, tau=0.5, generator=seeded())
    np.testing.assert_allclose(soft.detach().sum(1).numpy(), 1, 1e-5)
    (by_hard,) = nnlib.autograd.grad(hard[:, 0].sum(), logits)
    same = F.gumbel_softmax(many, generator=seeded())
    (by_soft,) = nnlib.autograd.grad(same[:, 0].sum(), logits)
    np.testing.assert_allclose(by_hard.numpy(), by_soft.numpy(), 1e-4)


def test_exponential_numbers_have_logarithms() -> None:
    x = nnlib.empty(COUNT, dtype=nnlib.float16).exponential_(generator=seeded())
    assert x.min().item() > 0


def test_multinomial_without_replacement_repeats_nothing() -> None:
    x = nnlib.multinomial(nnlib.rand(50, 6) + 0.1, 6)
    assert all(sorted(row) == list(range(6)) for row in x.tolist())


def test_drawing_into_a_result_cuts_its_history() -> None:
    leaf = nnlib.ones(3, requires_grad=True)
    with pytest.raises(Error, match="uniform_"):
        leaf.uniform_()
    x = leaf * 2
    x.normal_()
    x.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [0.0, 0.0, 0.0]
    with nnlib.no_grad():
        leaf.normal_()


def test_bernoulli_without_dimensions_is_a_tensor() -> None:
    assert nnlib.bernoulli(nnlib.tensor(1.0)).tolist() == 1.0
    assert nnlib.tensor(0.0).bernoulli_(1.0).tolist() == 1.0
    assert repr(nnlib.bernoulli(nnlib.tensor(0.0))) == "tensor(0.)"
