"""Training on CUDA follows training on the CPU, with every optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from training import OPTIMIZERS, curve, make_cnn, make_mlp

import nnlib
from nnlib import nn

IDS = [f"{name}-{'-'.join(options) or 'defaults'}" for name, options in OPTIMIZERS]


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_losses_equal_those_of_the_cpu(name, options):
    mine = curve(make_mlp, "cuda", "float64", name, options, 15)
    theirs = curve(make_mlp, "cpu", "float64", name, options, 15)
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("make", [make_mlp, make_cnn])
def test_float32_stays_near(make):
    mine = curve(make, "cuda", "float32", "Adam", {}, 60)
    theirs = curve(make, "cpu", "float32", "Adam", {}, 60)
    np.testing.assert_allclose(mine, theirs, rtol=2e-3)
    assert mine[-1] < 0.75 * mine[0]


@pytest.mark.cuda
def test_a_run_repeats_bit_for_bit():
    runs = [curve(make_cnn, "cuda", "float32", "Adam", {}, 10) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.cuda
def test_mlp_learns_the_digits():
    from nnlib.data import DataLoader, Digits, train_val_test_split
    from nnlib.train import evaluate, fit

    nnlib.manual_seed(0)
    digits = Digits()
    train, _, test = train_val_test_split(
        digits.to_tensors(flatten=True, device="cuda"), 0.0, 0.2, generator=0
    )
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to("cuda")
    fit(
        model,
        DataLoader(train, batch_size=32, shuffle=True),
        optimizer=nnlib.optim.Adam(model.parameters()),
        epochs=15,
        device="cuda",
        progress=False,
    )
    found = evaluate(model, DataLoader(test, batch_size=256))
    assert found["accuracy"] > 0.95


def test_the_runs_themselves():
    """On the CPU, so that the tests above can be trusted unseen."""
    for make in (make_mlp, make_cnn):
        losses = curve(make, "cpu", "float32", "Adam", {}, 20)
        assert losses == curve(make, "cpu", "float32", "Adam", {}, 20)
        assert losses[-1] < losses[0]
