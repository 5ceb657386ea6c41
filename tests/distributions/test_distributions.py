"""Distributions: values against SciPy and PyTorch, moments of samples, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib import distributions as D  # noqa: N812
from nnlib.autograd import gradcheck
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

stats = pytest.importorskip("scipy.stats")
try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
F64 = {"dtype": nnlib.float64}


def tensors(*arrays):
    return [nnlib.tensor(np.asarray(a), **F64) for a in arrays]


def rng():
    return np.random.default_rng(3)


def positive(*shape):
    return rng().uniform(0.3, 2.0, shape)


def weights(*shape):
    p = rng().uniform(0.05, 1.0, shape)
    return p / p.sum(-1, keepdims=True)


# name: arguments, values, SciPy's frozen distribution
CONTINUOUS = {
    "Normal": lambda a, b: stats.norm(a, b),
    "Laplace": lambda a, b: stats.laplace(a, b),
    "Gumbel": lambda a, b: stats.gumbel_r(a, b),
    "Uniform": lambda a, b: stats.uniform(a, b - a),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_equals_scipy(name):
    a = rng().normal(size=(3, 4))
    b = a + positive(3, 4) if name == "Uniform" else positive(3, 4)
    ours, theirs = getattr(D, name)(*tensors(a, b)), CONTINUOUS[name](a, b)
    x = theirs.rvs(size=(5, 3, 4), random_state=1)
    (value,) = tensors(x)
    for got, want in (
        (ours.log_prob(value), theirs.logpdf(x)),
        (ours.cdf(value), theirs.cdf(x)),
        (ours.entropy(), theirs.entropy()),
        (ours.mean, theirs.mean()),
        (ours.variance, theirs.var()),
        (ours.stddev, theirs.std()),
        (ours.perplexity(), np.exp(theirs.entropy())),
    ):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-10, atol=1e-12)
    if name != "Normal":
        (p,) = tensors(rng().uniform(0.01, 0.99, (3, 4)))
        np.testing.assert_allclose(
            ours.icdf(p).numpy(), theirs.ppf(p.numpy()), rtol=1e-10
        )
    assert tuple(ours.batch_shape) == (3, 4) and tuple(ours.event_shape) == ()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_samples_follow_the_distribution(name):
    low, high = 0.5, 2.0
    ours, theirs = getattr(D, name)(low, high), CONTINUOUS[name](low, high)
    generator = nnlib.Generator().manual_seed(4)
    x = ours.sample((20_000,), generator=generator).numpy()
    assert stats.kstest(x, theirs.cdf).pvalue > 1e-3
    again = ours.sample((20_000,), generator=generator.manual_seed(4)).numpy()
    np.testing.assert_array_equal(x, again)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_rsample_carries_gradients(name):
    a, b = (t.requires_grad_() for t in tensors([0.1, -0.3], [0.9, 1.4]))

    def draw(a, b):
        generator = nnlib.Generator().manual_seed(0)
        return getattr(D, name)(a, b).rsample((3,), generator=generator)

    assert gradcheck(draw, (a, b))
    assert not getattr(D, name)(a, b).sample().requires_grad


@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_prob_and_entropy_have_gradients(name):
    a, b, x = (t.requires_grad_() for t in tensors([0.1, -0.3], [0.9, 1.4], [0.4, 0.2]))
    make = getattr(D, name)
    assert gradcheck(lambda a, b, x: make(a, b).log_prob(x), (a, b, x))
    assert gradcheck(lambda a, b: make(a, b).entropy(), (a, b))


def test_bernoulli_equals_scipy():
    p = rng().uniform(0.1, 0.9, 6)
    ours, theirs = D.Bernoulli(*tensors(p)), stats.bernoulli(p)
    x = np.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        ours.log_prob(*tensors(x)).numpy(), theirs.logpmf(x), rtol=1e-9
    )
    np.testing.assert_allclose(ours.entropy().numpy(), theirs.entropy(), rtol=1e-9)
    np.testing.assert_allclose(ours.variance.numpy(), theirs.var(), rtol=1e-12)
    logits = D.Bernoulli(logits=ours.logits)
    np.testing.assert_allclose(logits.probs.numpy(), p, rtol=1e-9)
    drawn = ours.sample((20_000,)).numpy().mean(0)
    # A frequency's standard error is at most 0.5 / sqrt(20,000) = 0.0035: 5.7 of them.
    np.testing.assert_allclose(drawn, p, atol=0.02)


def test_certain_events():
    sure = D.Bernoulli(nnlib.tensor([0.0, 1.0], **F64))
    assert sure.sample((50,)).numpy().mean(0).tolist() == [0.0, 1.0]
    assert sure.entropy().numpy() == pytest.approx([0, 0], abs=1e-12)
    one = D.Categorical(probs=nnlib.tensor([0.0, 1.0, 0.0], **F64))
    assert one.entropy().item() == pytest.approx(0, abs=1e-12)
    assert (one.sample((50,)).numpy() == 1).all()
    two = D.Categorical(probs=nnlib.tensor([0.5, 0.5, 0.0], **F64))
    assert D.kl_divergence(two, one).item() == math.inf
    assert math.isfinite(D.kl_divergence(one, two).item())


@needs_torch
@pytest.mark.parametrize("by", ["probs", "logits"])
def test_categorical_equals_pytorch(by):
    p = weights(2, 3, 5)
    given = p * 3 if by == "probs" else np.log(p) + 1.5
    ours = D.Categorical(**{by: tensors(given)[0]})
    theirs = torch.distributions.Categorical(**{by: torch.tensor(given)})
    x = rng().integers(0, 5, (4, 2, 3))
    np.testing.assert_allclose(
        ours.log_prob(nnlib.tensor(x)).numpy(),
        theirs.log_prob(torch.tensor(x)).numpy(),
        rtol=1e-10,
    )
    np.testing.assert_allclose(
        ours.entropy().numpy(), theirs.entropy().numpy(), rtol=1e-10
    )
    np.testing.assert_allclose(ours.probs.numpy(), p, rtol=1e-10)
    drawn = ours.sample((8_000,)).numpy()
    assert drawn.shape == (8_000, 2, 3)
    found = (drawn[..., None] == np.arange(5)).mean(0)
    # 5.4 standard errors, each at most 0.5 / sqrt(8,000) = 0.0056.
    np.testing.assert_allclose(found, p, atol=0.03)
    hot = D.OneHotCategorical(**{by: tensors(given)[0]})
    eye = nnlib.tensor(np.eye(5)[x], **F64)
    np.testing.assert_allclose(
        hot.log_prob(eye).numpy(), ours.log_prob(nnlib.tensor(x)).numpy(), rtol=1e-10
    )
    assert tuple(hot.sample((7,)).shape) == (7, 2, 3, 5)
    assert (hot.sample((7,)).sum(-1).numpy() == 1).all()


def test_multinomial_equals_scipy():
    p = weights(3, 4)
    ours = D.Multinomial(6, probs=tensors(p)[0])
    for row in range(3):
        theirs = stats.multinomial(6, p[row])
        x = theirs.rvs(5, random_state=2)
        one = D.Multinomial(6, probs=tensors(p[row])[0])
        np.testing.assert_allclose(
            one.log_prob(*tensors(x)).numpy(), theirs.logpmf(x), rtol=1e-9
        )
        np.testing.assert_allclose(
            ours.entropy()[row].item(), theirs.entropy(), rtol=1e-9
        )
    drawn = ours.sample((4_000,)).numpy()
    assert (drawn.sum(-1) == 6).all() and drawn.shape == (4_000, 3, 4)
    # A count's variance v = 6 p (1 - p) is at most 1.5. Standard errors: of the mean
    # sqrt(v / 4,000), at most 0.0194 (0.1 is 5.2 of them); of the variance
    # sqrt((v + v^2) / 4,000), at most 0.0306 (0.15 is 4.9 of them).
    np.testing.assert_allclose(drawn.mean(0), ours.mean.numpy(), atol=0.1)
    np.testing.assert_allclose(drawn.var(0), ours.variance.numpy(), atol=0.15)
    never = D.Multinomial(2, probs=nnlib.tensor([0.0, 1.0], **F64))
    assert never.log_prob(nnlib.tensor([0.0, 2.0], **F64)).item() == pytest.approx(0)


@needs_torch
@pytest.mark.parametrize("name", ["RelaxedBernoulli", "RelaxedOneHotCategorical"])
def test_relaxed_equals_pytorch(name):
    p = weights(3, 4)
    ours = getattr(D, name)(0.7, probs=tensors(p)[0])
    theirs = getattr(torch.distributions, name)(
        torch.tensor(0.7, dtype=torch.float64), probs=torch.tensor(p)
    )
    generator = nnlib.Generator().manual_seed(1)
    x = ours.rsample((5,), generator=generator)
    np.testing.assert_allclose(
        ours.log_prob(x).numpy(),
        theirs.log_prob(torch.tensor(x.numpy())).numpy(),
        rtol=1e-6,
    )
    (logits,) = tensors(np.log(p))
    logits.requires_grad_()

    def draw(logits):
        fixed = nnlib.Generator().manual_seed(1)
        return getattr(D, name)(0.7, logits=logits).rsample(generator=fixed)

    assert gradcheck(draw, (logits,))


def test_relaxed_samples_reach_their_classes():
    p = weights(4)
    sharp = D.RelaxedOneHotCategorical(0.05, probs=tensors(p)[0])
    found = sharp.sample((20_000,)).argmax(-1).numpy()
    # 5.7 standard errors, each at most 0.5 / sqrt(20,000) = 0.0035.
    np.testing.assert_allclose((found[:, None] == np.arange(4)).mean(0), p, atol=0.02)


def pair(name):
    a, b = rng().normal(size=(2, 5)), positive(2, 5)
    if name == "Uniform":
        return (a, a + b), (a - 0.5, a + b + 0.25)
    if name in ("Bernoulli", "Categorical", "OneHotCategorical"):
        return (weights(2, 5),), (weights(2, 5)[::-1].copy(),)
    return (a, b), (a[::-1].copy(), b[::-1].copy())


PAIRS = [
    *((name, name) for name in (
        "Normal", "Laplace", "Gumbel", "Uniform", "Bernoulli", "Categorical",
        "OneHotCategorical",
    )),
    ("Laplace", "Normal"),
    ("Uniform", "Normal"),
]  # fmt: skip


@needs_torch
@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_kl_divergence_equals_pytorch(p, q):
    of_p, of_q = pair(p)[0], pair(q)[1]
    if (p, q) == ("Bernoulli", "Bernoulli"):
        of_q = (of_q[0] * 0.7,)
    got = D.kl_divergence(
        getattr(D, p)(*tensors(*of_p)), getattr(D, q)(*tensors(*of_q))
    )
    want = torch.distributions.kl_divergence(
        getattr(torch.distributions, p)(*map(torch.tensor, of_p)),
        getattr(torch.distributions, q)(*map(torch.tensor, of_q)),
    )
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-8, atol=1e-12)


def test_kl_divergence_is_its_expectation():
    p, q = D.Gumbel(0.3, 0.8), D.Gumbel(0.0, 1.1)
    x = p.sample((200_000,))
    drawn = (p.log_prob(x) - q.log_prob(x)).mean().item()
    # 12 standard errors: the difference deviates by 0.37, its mean by 0.0008.
    assert D.kl_divergence(p, q).item() == pytest.approx(drawn, abs=0.01)


@needs_torch
def test_independent_sums_events():
    loc, scale = tensors(rng().normal(size=(2, 3)), positive(2, 3))
    base = D.Normal(loc, scale)
    whole = D.Independent(base, 1)
    theirs = torch.distributions.Independent(
        torch.distributions.Normal(
            torch.tensor(loc.numpy()), torch.tensor(scale.numpy())
        ),
        1,
    )
    x = whole.rsample((4,))
    assert tuple(whole.batch_shape) == (2,) and tuple(whole.event_shape) == (3,)
    np.testing.assert_allclose(
        whole.log_prob(x).numpy(), theirs.log_prob(torch.tensor(x.numpy())).numpy()
    )
    np.testing.assert_allclose(whole.entropy().numpy(), theirs.entropy().numpy())
    other = D.Independent(D.Normal(nnlib.zeros(2, 3, **F64), 1.0), 1)
    np.testing.assert_allclose(
        D.kl_divergence(whole, other).numpy(),
        D.kl_divergence(base, other.base_dist).sum(-1).numpy(),
    )


def test_registered_kl_is_used_for_subclasses():
    class Mine(D.Normal):
        pass

    @D.register_kl(Mine, D.Gumbel)
    def _formula(p, q):
        return p.loc * 0 + 7

    assert D.kl_divergence(Mine(0.0, 1.0), D.Gumbel(0.0, 1.0)).item() == 7
    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 0


def test_empty_batches():
    none = nnlib.zeros(0, 3)
    assert tuple(D.Normal(none, 1.0).sample((2,)).shape) == (2, 0, 3)
    assert tuple(D.Categorical(logits=none).sample((2,)).shape) == (2, 0)
    assert tuple(D.Normal(none, 1.0).log_prob(none).shape) == (0, 3)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: D.Normal(0.0, -1.0), ArgumentError,
         r"Normal: scale: expected a positive number, got -1.0"),
        (lambda: D.Normal(0.0, nnlib.tensor([1.0, 0.0])), ArgumentError,
         r"got 0.0 at \(1,\)"),
        (lambda: D.Normal(math.nan, 1.0), ArgumentError, "Normal: loc"),
        (lambda: D.Uniform(1.0, 1.0), ArgumentError, "Uniform: high"),
        (lambda: D.Normal(nnlib.zeros(2), nnlib.ones(3)), ShapeError,
         r"loc \(2,\), scale \(3,\)"),
        (lambda: D.Normal(nnlib.zeros(2, dtype=nnlib.int64), 1.0), DTypeError,
         "Normal: loc: expected a floating dtype, got int64"),
        (lambda: D.Bernoulli(), ArgumentError, "expected either probs or logits"),
        (lambda: D.Bernoulli(1.5), ArgumentError, "Bernoulli: probs.*1.5"),
        (lambda: D.Categorical(nnlib.tensor([-1.0, 2.0])), ArgumentError,
         r"Categorical: probs: .*got -1.0 at \(0,\)"),
        (lambda: D.Categorical(nnlib.tensor(1.0)), ShapeError, "Categorical: probs"),
        (lambda: D.Categorical(nnlib.ones(3)).log_prob(nnlib.tensor(3)), ArgumentError,
         "a class from 0 to 2, got 3"),
        (lambda: D.Bernoulli(0.5).log_prob(nnlib.tensor(0.5)), ArgumentError, "0 or 1"),
        (lambda: D.Normal(nnlib.zeros(2), 1.0).log_prob(nnlib.zeros(3)), ShapeError,
         r"Normal: value: expected a shape"),
        (lambda: D.Normal(0.0, 1.0).log_prob(0.5), DTypeError, "value: expected a Ten"),
        (lambda: D.Multinomial(-1, nnlib.ones(2)), ArgumentError, "total_count"),
        (lambda: D.Multinomial(3, nnlib.ones(2)).log_prob(nnlib.ones(2)),
         ArgumentError, "with the sum 3, got 2.0"),
        (lambda: D.Categorical(nnlib.ones(2)).rsample(), ArgumentError, "rsample"),
        (lambda: D.RelaxedBernoulli(0.0, 0.5), ArgumentError, "temperature"),
        (lambda: D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5)), ArgumentError,
         "no closed form of Normal from Bernoulli"),
        (lambda: D.Independent(D.Normal(0.0, 1.0), 1), ShapeError, "0 to 0"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_unchecked_on_demand():
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
