"""Freezing without parameters, through `fit`, after a step; what ends in which mode."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib import models, nn
from nnlib.backend.errors import ArgumentError
from nnlib.train import (
    GradualUnfreezing,
    evaluate,
    extract_features,
    fit,
    fit_gan,
    freeze,
    unfreeze,
)


def network(affine=True):
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, affine=affine), nn.ReLU(), nn.Linear(5, 3)
    )


def batches():
    return [(nnlib.randn(8, 4), nnlib.randint(0, 3, (8,))) for _ in range(3)]


def sgd(model):
    return nnlib.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("what", ["1", "all", "module"])
def test_statistics_without_parameters_are_frozen_too(what):
    model = network(affine=False)
    freeze(model, *{"1": ["1"], "all": [], "module": [model[1]]}[what])
    if what == "all":
        unfreeze(model, "3.*")
    before = model[1].running_mean.numpy().copy()
    fit(model, batches(), optimizer=sgd(model), epochs=1, progress=False)
    assert not model.train()[1].training
    np.testing.assert_array_equal(model[1].running_mean.numpy(), before)
    unfreeze(model, "1")
    assert model.train()[1].training


def test_what_is_frozen_in_training_stays_in_evaluation_after_it():
    model = network()
    wake = GradualUnfreezing([model[0], model[1], model[3]])
    fit(
        model, batches(), optimizer=sgd(model), epochs=1, callbacks=[wake],
        progress=False,
    )  # fmt: skip
    assert model.training and model[3].training and not model[1].training
    before = model[1].running_mean.numpy().copy()
    evaluate(model, batches())
    extract_features(model, batches(), "2")
    model(nnlib.randn(8, 4))
    np.testing.assert_array_equal(model[1].running_mean.numpy(), before)


def test_freezing_drops_old_gradients():
    model = network()
    optimizer = sgd(model)
    model(nnlib.randn(8, 4)).sum().backward()
    freeze(model, "0")
    before = model[0].weight.detach().numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), before)


def test_fit_gan_restores_modes_and_means_only_over_steps():
    maker, judge = models.MLP([2, 4]).eval(), models.MLP([4, 1])
    history = fit_gan(
        maker,
        judge,
        [nnlib.randn(5, 4)] * 3,
        generator_optimizer=sgd(maker),
        discriminator_optimizer=sgd(judge),
        latents=2,
        epochs=2,
        critic_steps=5,
        progress=False,
    )
    assert not maker.training and judge.training
    first, second = history["generator_loss"]
    assert math.isnan(first) and 0.2 < second < 3


def test_interpolation_keeps_the_shape_of_inputs():
    a, b = nnlib.rand(1, 4, 4), nnlib.rand(1, 4, 4)
    for model in (
        models.DeepAutoencoder((16, 3)),
        models.TiedAutoencoder((16, 3)),
        models.VAE.fully_connected((16, 8), 2),
    ):
        model.eval()
        way = model.interpolate(a, b, 5)
        assert tuple(way.shape) == (5, 1, 4, 4)
    conditional = models.ConditionalVAE((16, 8), 2, 3).eval()
    labels = nnlib.tensor([2, 0])
    way = conditional.interpolate(a, b, labels, 5)
    assert tuple(way.shape) == (5, 1, 4, 4)
    both = nnlib.stack([a, b])
    ends = conditional.expected(conditional(both, labels).reconstruction)
    for at, end in ((0, 0), (-1, 1)):
        np.testing.assert_allclose(
            way[at].detach().numpy(), ends[end].detach().numpy(), rtol=1e-5
        )
    assert tuple(conditional.posterior(both, labels).batch_shape) == (2,)


def test_elbo_needs_a_sample():
    with pytest.raises(ArgumentError, match="samples"):
        models.VAE.fully_connected((4,), 2).elbo(nnlib.zeros(3, 4), samples=0)
    conditional = models.ConditionalVAE((4,), 2, 3)
    with pytest.raises(ArgumentError, match="samples"):
        conditional.elbo(nnlib.zeros(1, 4), nnlib.tensor([1]), samples=0)
