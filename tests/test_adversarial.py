"""Adversarial losses, the gradient penalty, and the loop that alternates."""

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

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
F64 = {"dtype": nnlib.float64}


def data(*shape, seed=0):
    return nnlib.tensor(np.random.default_rng(seed).normal(size=shape), **F64)


def test_losses_are_cross_entropies():
    real, fake = data(6, 1), data(6, 1, seed=1)
    bce = F.binary_cross_entropy_with_logits
    want = bce(real, nnlib.ones_like(real)) + bce(fake, nnlib.zeros_like(fake))
    assert train.discriminator_loss(real, fake).item() == pytest.approx(want.item())
    want = bce(fake, nnlib.ones_like(fake))
    assert train.generator_loss(fake).item() == pytest.approx(want.item())


def small_critic():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1), nn.Softplus(), nn.Conv2d(3, 4, 3, padding=1),
        nn.Tanh(), nn.Flatten(), nn.Linear(16, 1),
    ).double()  # fmt: skip


def penalty_of(critic, real, fake):
    return train.gradient_penalty(
        critic, real, fake, generator=nnlib.Generator().manual_seed(3)
    )


def test_gradient_penalty_by_gradcheck_through_convolutions():
    critic = small_critic()
    real, fake = data(2, 1, 4, 4), data(2, 1, 4, 4, seed=1)
    names = dict(critic.named_parameters())

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        return penalty_of(
            lambda x: nnlib.func.functional_call(critic, given, (x,)), real, fake
        )

    assert gradcheck(loss, list(names.values()), atol=1e-6)


@needs_torch
def test_gradient_penalty_equals_pytorch():
    critic = models.DCGANDiscriminator(width=4, size=8, batch_norm=False).double()
    real, fake = data(3, 1, 8, 8), data(3, 1, 8, 8, seed=1)
    ours = penalty_of(critic, real, fake)
    ours.backward()
    share = nnlib.rand(
        3, 1, 1, 1, generator=nnlib.Generator().manual_seed(3), **F64
    ).numpy()
    t = torch.nn
    theirs = t.Sequential(
        t.Conv2d(1, 4, 4, 2, 1), t.LeakyReLU(0.2), t.Conv2d(4, 8, 4, 2, 1),
        t.LeakyReLU(0.2), t.Flatten(), t.Linear(32, 1),
    ).double()  # fmt: skip
    for mine, other in zip(critic.parameters(), theirs.parameters(), strict=True):
        other.data = torch.tensor(mine.detach().numpy())
    mixed = real.numpy() + share * (fake.numpy() - real.numpy())
    between = torch.tensor(mixed, requires_grad=True)
    (slope,) = torch.autograd.grad(theirs(between).sum(), between, create_graph=True)
    want = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    want.backward()
    assert ours.item() == pytest.approx(want.item(), rel=1e-6)
    for mine, other in zip(critic.parameters(), theirs.parameters(), strict=True):
        expected = np.zeros(other.shape) if other.grad is None else other.grad.numpy()
        got = np.zeros(other.shape) if mine.grad is None else mine.grad.numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-10)


def ring(count):
    angle = np.random.default_rng(0).uniform(0, 2 * math.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


@pytest.mark.parametrize(
    ("loss", "steps", "betas"),
    [("non_saturating", 1, (0.5, 0.9)), ("wasserstein", 3, (0.0, 0.9))],
)
def test_a_gan_learns_a_ring(loss, steps, betas):
    generator = models.MLP([2, 32, 32, 2])
    critic = models.MLP([2, 32, 32, 1], activation=lambda: nn.LeakyReLU(0.2))
    loader = DataLoader(TensorDataset(ring(2_000)), 100, shuffle=True, generator=0)
    seen = []
    history = train.fit_gan(
        generator, critic, loader,
        generator_optimizer=nnlib.optim.Adam(generator.parameters(), 4e-3, betas),
        discriminator_optimizer=nnlib.optim.Adam(critic.parameters(), 4e-3, betas),
        latents=2, epochs=30, loss=loss, critic_steps=steps, penalty=1.0,
        on_epoch_end=lambda epoch, _: seen.append(epoch), progress=False,
    )  # fmt: skip
    radius = generator(nnlib.randn(1_000, 2)).detach().square().sum(1).sqrt().numpy()
    assert abs(np.median(radius) - 1) < 0.25
    assert seen == list(range(1, 31)) and history.epochs == 30
    assert all(p.requires_grad for p in critic.parameters())
    assert sorted(history) == ["discriminator_loss", "generator_loss"]


def test_dcgan_shapes_and_initial_weights():
    generator, judge = models.DCGANGenerator(), models.DCGANDiscriminator()
    images = generator(nnlib.randn(6, 64))
    assert tuple(images.shape) == (6, 1, 28, 28)
    assert tuple(judge(images).shape) == (6, 1)
    assert images.abs().max().item() <= 1
    assert generator[4].weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: models.DCGANGenerator(size=30), ShapeError, "multiple of 4, got 30"),
        (lambda: train.gradient_penalty(nn.Identity(), data(2, 3), data(2, 4)),
         ShapeError, r"shape of real, \(2, 3\), got \(2, 4\)"),
        (lambda: run([], loss="hinge"), ArgumentError, "'hinge'"),
        (lambda: run([], critic_steps=0), ArgumentError, "critic_steps"),
        (lambda: run([]), ShapeError, "no batch"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def run(loader, **options):
    generator, judge = nn.Linear(2, 2), nn.Linear(2, 1)
    return train.fit_gan(
        generator, judge, loader,
        generator_optimizer=nnlib.optim.SGD(generator.parameters(), 0.1),
        discriminator_optimizer=nnlib.optim.SGD(judge.parameters(), 0.1),
        latents=2, progress=False, **options,
    )  # fmt: skip


def test_divergence_is_named():
    with pytest.raises(train.DivergenceError, match="discriminator_loss became nan"):
        run([nnlib.full((2, 2), math.nan)])
