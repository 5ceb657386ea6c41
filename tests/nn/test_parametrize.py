"""Parametrised tensors: computed, assigned, removed, saved, copied."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from compare import array, compare, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.nn.utils import parametrizations, parametrize

X = np.random.default_rng(0).normal(size=(4, 3))


class Doubled(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2

    def right_inverse(self, x: Any) -> Any:
        return x / 2


class Transposed(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.transpose(0, 1)


def test_a_tensor_is_computed_at_every_use() -> None:
    layer = nn.Linear(3, 3)
    before = array(layer.weight).copy()
    assert parametrize.register_parametrization(layer, "weight", Doubled()) is layer
    np.testing.assert_allclose(array(layer.weight), before, 1e-6)
    original = layer.parametrizations.weight.original
    np.testing.assert_allclose(array(original), before / 2)
    layer(nnlib.ones(2, 3)).sum().backward()
    np.testing.assert_allclose(array(original.grad), 4)
    parametrize.register_parametrization(layer, "weight", Transposed())
    np.testing.assert_allclose(array(layer.weight), before.T, 1e-6)
    assert parametrize.is_parametrized(layer, "weight")
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_allclose(array(twin.weight), before.T, 1e-6)
    parametrize.remove_parametrizations(layer, "weight")
    assert list(layer.state_dict()) == ["bias", "weight"]
    assert layer.weight.is_leaf and not parametrize.is_parametrized(layer)
    np.testing.assert_allclose(array(layer.weight), before.T, 1e-6)


def test_assignment_goes_back_through_the_chain() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "bias", Doubled())
    layer.bias = nnlib.tensor([4.0, 6.0])
    assert layer.parametrizations.bias.original.tolist() == [2, 3]
    parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert layer.bias.tolist() == [2, 3]


def test_bad_parametrisations() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(nnlib.Error, match="Linear has no parameter or buffer 'gain'"):
        parametrize.register_parametrization(layer, "gain", Doubled())
    with pytest.raises(nnlib.ShapeError, match=r"weight: expected shape \(3, 2\)"):
        parametrize.register_parametrization(layer, "weight", Transposed())
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    with pytest.raises(nnlib.Error, match="Linear.bias is not parametrised"):
        parametrize.remove_parametrizations(layer, "bias")
    parametrizations.weight_norm(layer)
    with pytest.raises(nnlib.Error, match="several originals"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


@needs_torch
@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm(dim: int) -> None:
    mine = parametrizations.weight_norm(nn.Linear(3, 5), dim=dim)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 5), dim=dim)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    compare(mine, theirs, X)


def test_weight_norm_reads_what_the_older_one_has_saved() -> None:
    older = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 5)), nn.Linear(5, 2))
    newer = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 5)), nn.Linear(5, 2)
    )
    copied = pickle.loads(pickle.dumps(newer))
    for net in (newer, copy.deepcopy(newer), copied):
        net.load_state_dict(older.state_dict())
        x = nnlib.tensor(X, dtype="float32")
        np.testing.assert_allclose(array(net(x)), array(older(x)), 1e-6)
        assert net.load_state_dict(net.state_dict()) == ([], [])
    back = nn.utils.weight_norm(parametrize.remove_parametrizations(newer[0], "weight"))
    assert back.load_state_dict(older[0].state_dict()) == ([], [])


@needs_torch
def test_spectral_norm() -> None:
    mine = parametrizations.spectral_norm(nn.Linear(3, 5))
    theirs = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 5))
    assert set(mine.state_dict()) == set(theirs.state_dict())
    compare(mine, theirs, X)
    compare(mine.eval(), theirs.eval(), X)
    np.testing.assert_allclose(
        np.linalg.svd(array(mine.weight), compute_uv=False)[0], 1, 1e-2
    )
