"""Clipping, parameters as a vector, weight and spectral normalisation."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from compare import array, compare, copy_weights, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.nn import utils

GRADIENTS = [np.arange(6.0).reshape(2, 3) - 2, np.array(0.5), np.array([-3.0, 1.0])]


def with_gradients(library: Any, scale: float = 1.0) -> list[Any]:
    made = []
    for value in GRADIENTS:
        p = library.tensor(np.zeros_like(value)).requires_grad_()
        p.grad = library.tensor(np.asarray(value * scale))
        made.append(p)
    return [*made, library.tensor(np.zeros(2)).requires_grad_()]


@needs_torch
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.7, 100.0])
def test_clip_by_norm(norm_type: float, max_norm: float) -> None:
    mine, theirs = with_gradients(nnlib), with_gradients(torch)
    norm = utils.clip_grad_norm_(mine, max_norm, norm_type)
    want = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(norm.item(), want.item(), 1e-12)
    for a, b in zip(mine, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(array(a.grad), array(b.grad), 1e-12)


def test_clip_by_value() -> None:
    params = with_gradients(nnlib)
    utils.clip_grad_value_(params, 1.5)
    for p, value in zip(params, GRADIENTS, strict=False):
        np.testing.assert_array_equal(p.grad.numpy(), np.clip(value, -1.5, 1.5))
    with pytest.raises(nnlib.Error, match="clip_value: expected at least 0"):
        utils.clip_grad_value_(params, -1)


def test_norms_that_are_not_finite() -> None:
    params = with_gradients(nnlib)
    params[0].grad[0, 0] = math.inf
    assert math.isinf(utils.clip_grad_norm_(params[1:2] + params[:1], 1.0).item())
    with pytest.raises(nnlib.Error, match="a gradient is NaN or infinite"):
        utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    with pytest.raises(nnlib.Error, match="norm_type: expected a positive number"):
        utils.clip_grad_norm_(params, 1.0, 0)
    assert utils.clip_grad_norm_([], 1.0).item() == 0


def test_large_and_narrow_gradients() -> None:
    p = nnlib.zeros(100_000, dtype="float32", requires_grad=True)
    p.grad = nnlib.full((100_000,), 3.0)
    norm = utils.clip_grad_norm_([p, p], 1.0)
    np.testing.assert_allclose(norm.item(), 3 * math.sqrt(100_000), 1e-6)
    np.testing.assert_allclose(float((p.grad * p.grad).sum()), 1, 1e-4)
    half = nnlib.zeros(10, dtype="float16", requires_grad=True)
    half.grad = nnlib.full((10,), 300.0, dtype="float16")
    norm = utils.clip_grad_norm_(half, 1.0)
    np.testing.assert_allclose(norm.item(), 300 * math.sqrt(10), 1e-3)
    assert half.grad.dtype == np.float16


def test_vector_of_parameters() -> None:
    layer = nn.Linear(3, 2)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (8,) and vector.requires_grad
    utils.vector_to_parameters(nnlib.arange(8.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert layer.bias.tolist() == [6, 7]
    with pytest.raises(nnlib.ShapeError, match=r"expected shape \(8,\), got \(9,\)"):
        utils.vector_to_parameters(nnlib.arange(9.0), layer.parameters())


X = np.random.default_rng(0).normal(size=(4, 3))


@needs_torch
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.filterwarnings("ignore")
def test_weight_norm(dim: int | None) -> None:
    mine = utils.weight_norm(nn.Linear(3, 5), dim=dim)
    theirs = torch.nn.utils.weight_norm(torch.nn.Linear(3, 5), dim=dim)
    assert set(mine.state_dict()) == set(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert tuple(mine.state_dict()[name].shape) == tuple(value.shape)
    compare(mine, theirs, X)
    before = array(mine(nnlib.tensor(X)))
    copy.deepcopy(mine)
    utils.remove_weight_norm(mine)
    assert sorted(mine.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(array(mine(nnlib.tensor(X))), before, 1e-12)
    with pytest.raises(nnlib.Error, match="Linear.weight is not normalised"):
        utils.remove_weight_norm(mine)


@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_spectral_norm() -> None:
    mine = utils.spectral_norm(nn.Linear(3, 5), n_power_iterations=2)
    theirs = torch.nn.utils.spectral_norm(torch.nn.Linear(3, 5), n_power_iterations=2)
    assert set(mine.state_dict()) == set(theirs.state_dict())
    for _ in range(3):
        compare(mine, theirs, X)
    mine.eval()
    theirs.eval()
    compare(mine, theirs, X)
    singular = np.linalg.svd(array(mine.weight), compute_uv=False)
    np.testing.assert_allclose(singular[0], 1, 0.02)
    copy_weights(mine, theirs)
    before = array(mine(nnlib.tensor(X)))
    copy.deepcopy(mine)
    utils.remove_spectral_norm(mine)
    assert sorted(mine.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(array(mine(nnlib.tensor(X))), before, 1e-12)


def test_weight_norm_counts_dimensions_from_the_end() -> None:
    layer = utils.weight_norm(nn.Linear(3, 5), dim=-1)
    assert layer.weight_g.shape == (1, 3)


def test_bad_normalisations() -> None:
    layer = utils.weight_norm(nn.Linear(2, 2))
    with pytest.raises(nnlib.Error, match="Linear.weight is normalised already"):
        utils.spectral_norm(layer)
    with pytest.raises(nnlib.Error, match="Linear has no parameter 'gain'"):
        utils.weight_norm(nn.Linear(2, 2), "gain")
    with pytest.raises(nnlib.ShapeError, match="dim: 5 is out of range"):
        utils.weight_norm(nn.Linear(2, 2), dim=5)
