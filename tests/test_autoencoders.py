"""Autoencoders, their penalties, variational ones: values and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib import models, nn, train
from nnlib.autograd import gradcheck
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.data import DataLoader, TensorDataset
from nnlib.nn import functional as F

F64 = {"dtype": nnlib.float64}


def data(*shape, seed=0):
    return nnlib.tensor(np.random.default_rng(seed).normal(size=shape), **F64)


# -- plain -------------------------------------------------------------------------


def test_linear_autoencoder_finds_the_principal_subspace():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 8)) * [
        3
    ] * 8 + 0.1 * rng.normal(size=(400, 8))
    x -= x.mean(0)
    inputs = nnlib.tensor(x, **F64)
    model = models.LinearAutoencoder(8, 2, bias=False).double()
    optimizer = nnlib.optim.LBFGS(
        model.parameters(), max_iter=500, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-15,
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(inputs), inputs)
        loss.backward()
        return loss

    optimizer.step(closure)
    _, values, axes = np.linalg.svd(x, full_matrices=False)
    best = (values[2:] ** 2).sum() / x.size
    assert F.mse_loss(model(inputs), inputs).item() == pytest.approx(best, rel=1e-4)
    found, _ = np.linalg.qr(model.decoder.weight.detach().numpy())
    np.testing.assert_allclose(found @ found.T, axes[:2].T @ axes[:2], atol=1e-3)


def test_fit_trains_an_autoencoder_on_batches_of_one_tensor():
    digits = nnlib.data.Digits().to_arrays(flatten=True, normalize=False)[0][:400]
    model = models.DeepAutoencoder((64, 32, 8), output=nn.Sigmoid)
    history = train.fit(
        model, DataLoader(TensorDataset(digits), 50, shuffle=True, generator=0),
        optimizer=nnlib.optim.Adam(model.parameters(), lr=3e-3), loss=F.mse_loss,
        epochs=12, progress=False,
    )  # fmt: skip
    assert history["loss"][-1] < history["loss"][0] / 2
    assert list(history) == ["loss", "lr"]


def test_tied_weights_are_one_parameter_with_both_gradients():
    model = models.TiedAutoencoder((6, 5, 3), output=nn.Sigmoid).double()
    names = dict(model.named_parameters())
    assert sum(p.numel() for p in names.values()) == 6 * 5 + 5 + 5 * 3 + 3 + 5 + 6
    x = data(4, 6)
    weights = list(names.values())

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        output = nnlib.func.functional_call(model, given, (x,))
        return F.mse_loss(output, x)

    assert gradcheck(loss, weights)
    # The same function with two copies: the tied gradient is the sum of theirs.
    tied = model.layers[0].weight
    down, up = (tied.detach().clone().requires_grad_() for _ in range(2))
    (last, b0, b1) = model.layers[1], model.decoder_bias[0], model.decoder_bias[1]
    hidden = F.linear(x, down, model.layers[0].bias).sigmoid()
    back = F.linear(last(hidden), last.weight.t(), b0).sigmoid()
    F.mse_loss(F.linear(back, up.t(), b1).sigmoid(), x).backward()
    F.mse_loss(model(x), x).backward()
    np.testing.assert_allclose(
        tied.grad.numpy(), (down.grad + up.grad).numpy(), rtol=1e-10
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda noise: models.DeepAutoencoder((784, 20, 4), noise=noise),
        lambda noise: models.TiedAutoencoder((784, 20, 4), noise=noise),
        lambda noise: models.ConvAutoencoder(widths=(4, 8), codes=5, noise=noise),
    ],
)
def test_noise_only_in_training(make):
    model = make(nn.GaussianNoise(0.5))
    x = nnlib.rand(3, 1, 28, 28)
    assert model(x).shape == x.shape
    assert not np.array_equal(model(x).detach().numpy(), model(x).detach().numpy())
    model.eval()
    np.testing.assert_array_equal(model(x).detach().numpy(), model(x).detach().numpy())


def test_masking_noise_does_not_scale():
    noise = nn.MaskingNoise(0.3)
    x = noise(nnlib.full((20_000,), 2.0)).numpy()
    assert set(np.unique(x)) == {0.0, 2.0}
    assert (x == 0).mean() == pytest.approx(0.3, abs=0.02)
    loud = nn.GaussianNoise(0.5)(nnlib.zeros(20_000)).numpy()
    assert loud.std() == pytest.approx(0.5, abs=0.02)


def test_interpolation_ends_at_the_reconstructions():
    model = models.ConvAutoencoder(widths=(4,), codes=3).eval()
    a, b = nnlib.rand(2, 1, 28, 28).unbind(0)
    way = model.interpolate(a, b, 5)
    assert tuple(way.shape) == (5, 1, 28, 28)
    for got, one in ((way[0], a), (way[-1], b)):
        want = model(one.unsqueeze(0))[0]
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), atol=1e-5
        )


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_recurrent_autoencoder_learns_waves(cell):
    nnlib.manual_seed(0)
    rng = np.random.default_rng(0)
    phase, speed = rng.uniform(0, 6, (64, 1)), rng.uniform(0.2, 0.6, (64, 1))
    waves = nnlib.tensor(np.sin(phase + speed * np.arange(12))[:, :, None], **F64)
    model = models.RecurrentAutoencoder(1, 24, 4, cell).double()
    small = models.RecurrentAutoencoder(1, 3, 2, cell).double()
    names = dict(small.named_parameters())

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        output = nnlib.func.functional_call(small, given, (waves[:2, :4],))
        return F.mse_loss(output, waves[:2, :4])

    assert gradcheck(loss, list(names.values()))
    optimizer = nnlib.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        error = F.mse_loss(model(waves), waves)
        error.backward()
        optimizer.step()
    assert error.item() < 0.1
    with pytest.raises(ArgumentError, match="'mgu'"):
        models.RecurrentAutoencoder(1, 2, 3, "mgu")


# -- penalties ---------------------------------------------------------------------


def test_activity_penalties():
    codes = data(5, 4).sigmoid().detach()
    found = models.kl_activity(codes, 0.1).item()
    mean = codes.numpy().mean(0)
    want = (0.1 * np.log(0.1 / mean) + 0.9 * np.log(0.9 / (1 - mean))).sum()
    assert found == pytest.approx(want)
    assert models.l1_activity(codes).item() == pytest.approx(codes.numpy().sum() / 5)
    raw = data(5, 4).requires_grad_()
    assert gradcheck(lambda c: models.kl_activity(c.sigmoid(), 0.1), (raw,))


def test_contractive_penalty_equals_the_closed_form():
    layer = nn.Linear(6, 3).double()
    x = data(4, 6)
    codes = layer(x).sigmoid()
    # Rifai et al. 2011: sum over units of (h (1 - h))^2 |w|^2
    closed = ((codes * (1 - codes)).square() @ layer.weight.square().sum(1)).mean()
    found = models.contractive_penalty(lambda x: layer(x).sigmoid(), x)
    assert found.item() == pytest.approx(closed.item())
    got = nnlib.autograd.grad(found, layer.weight)[0]
    want = nnlib.autograd.grad(closed, layer.weight)[0]
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-8)
    drawn = models.contractive_penalty(
        lambda x: layer(x).sigmoid(), x, projections=4_000
    )
    assert drawn.item() == pytest.approx(closed.item(), rel=0.1)


# -- variational -------------------------------------------------------------------


def test_kl_is_that_of_the_distributions():
    mean, log_variance = data(5, 3), data(5, 3, seed=1)
    ours = models.kl_to_standard_normal(mean, log_variance)
    normal = nnlib.distributions.Normal
    want = nnlib.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()),
        normal(nnlib.zeros(5, 3, **F64), 1.0),
    )
    np.testing.assert_allclose(ours.numpy(), want.numpy(), rtol=1e-9)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_elbo_is_a_lower_bound_of_a_known_likelihood(likelihood):
    # The decoder ignores its code: the likelihood is known, the gap is the KL.
    loss = models.VAELoss(likelihood, std=0.5)
    model = models.VAE.fully_connected((6, 5), 2, loss=loss).double()
    nn.init.zeros_(model.decoder[1].weight)
    x = data(7, 6).sigmoid().detach().round()
    output = model.decode(nnlib.zeros(7, 2, **F64))
    if likelihood == "bernoulli":
        known = nnlib.distributions.Bernoulli(logits=output)
    else:
        known = nnlib.distributions.Normal(output, 0.5)
    likelihoods = known.log_prob(x).sum().item() / 7
    gap = models.kl_to_standard_normal(*model.encode(x)).sum().item() / 7
    assert model.elbo(x, 3).item() == pytest.approx(likelihoods - gap, rel=1e-6)
    assert -loss(model(x), x).item() == pytest.approx(likelihoods - gap, rel=1e-6)


def test_vae_gradients():
    model = models.VAE.fully_connected((5, 4), 2, activation=nn.Tanh).double()
    x = data(3, 5).sigmoid().detach()
    names = dict(model.named_parameters())

    def loss(*values):
        nnlib.manual_seed(5)
        given = dict(zip(names, values, strict=True))
        return model.loss(nnlib.func.functional_call(model, given, (x,)), x)

    assert gradcheck(loss, list(names.values()))


def test_free_bits_and_beta():
    output = models.VAEOutput(
        nnlib.zeros(4, 3), nnlib.zeros(4, 2) + 0.1, nnlib.zeros(4, 2)
    )
    x = nnlib.zeros(4, 3)
    plain = models.VAELoss()(output, x).item()
    cost = 2 * 0.5 * 0.1**2
    assert plain == pytest.approx(3 * math.log(2) + cost)
    assert models.VAELoss(beta=4)(output, x).item() == pytest.approx(plain + 3 * cost)
    free = models.VAELoss(free_bits=0.25)(output, x).item()
    assert free == pytest.approx(3 * math.log(2) + 0.5)


def test_fit_trains_a_vae_and_it_samples_digits():
    digits = nnlib.data.Digits().to_arrays(flatten=True, normalize=False)[0][:600]
    model = models.VAE.fully_connected((64, 48), 6)
    before = model.elbo(nnlib.tensor(digits)).item()
    train.fit(
        model, DataLoader(TensorDataset(digits), 50, shuffle=True, generator=0),
        optimizer=nnlib.optim.Adam(model.parameters(), lr=3e-3), loss=model.loss,
        epochs=10, progress=False,
    )  # fmt: skip
    model.eval()
    assert model.elbo(nnlib.tensor(digits)).item() > before + 10
    with nnlib.no_grad():
        drawn = model.sample(5)
        assert tuple(drawn.shape) == (5, 64) and 0 <= drawn.min() <= drawn.max() <= 1
        way = model.interpolate(*nnlib.tensor(digits[:2]).unbind(0), steps=4)
    assert tuple(way.shape) == (4, 64)


def test_conditional_vae_draws_the_class_asked_for():
    digits = nnlib.data.Digits()
    x, labels = digits.to_arrays(flatten=True, normalize=False)
    chosen = labels < 2
    x, labels = nnlib.tensor(x[chosen]), nnlib.tensor(labels[chosen])
    model = models.ConditionalVAE((64, 48), 2, 2)
    train.fit(
        model, DataLoader(TensorDataset(x, labels, x), 30, shuffle=True, generator=0),
        optimizer=nnlib.optim.Adam(model.parameters(), lr=5e-3), loss=model.loss,
        epochs=15, progress=False,
    )  # fmt: skip
    model.eval()
    means = [x[labels == c].mean(0) for c in range(2)]
    with nnlib.no_grad():
        for c in range(2):
            drawn = model.sample(nnlib.full((40,), c, dtype=nnlib.int64))
            near = [(drawn - mean).square().sum(1) for mean in means]
            assert (near[c] < near[1 - c]).float().mean().item() > 0.9
        assert math.isfinite(model.elbo(x, labels).item())


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: models.DeepAutoencoder((784,)), ShapeError, r"sizes: .*\[784\]"),
        (lambda: models.TiedAutoencoder((784, 0)), ShapeError, "TiedAutoencoder"),
        (lambda: models.ConvAutoencoder(size=30), ShapeError, "multiple of 4.*got 30"),
        (lambda: models.VAELoss("poisson"), ArgumentError, "'poisson'"),
        (lambda: models.VAELoss(beta=-1), ArgumentError, "-1"),
        (lambda: models.VAE(nn.Linear(4, 3), nn.Linear(2, 4), 2)(nnlib.zeros(1, 4)),
         ShapeError, r"must give \(N, 4\).*\(1, 3\)"),
        (lambda: models.kl_activity(nnlib.zeros(2, 2), 1.0), ArgumentError, "rate"),
        (lambda: nn.GaussianNoise(-1), ArgumentError, "GaussianNoise: std"),
        (lambda: nn.MaskingNoise(2), ArgumentError, "MaskingNoise: p"),
        (lambda: models.Autoencoder(nn.Identity(), nn.Identity()).interpolate(
            nnlib.zeros(2), nnlib.zeros(2), 1), ShapeError, "steps"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()
