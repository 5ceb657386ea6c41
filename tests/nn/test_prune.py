"""Pruning against PyTorch: masks, repeated and global, and the way back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.nn.utils import prune

if torch is not None:
    import torch.nn.utils.prune as peer

SCORES = np.random.default_rng(2).standard_normal((6, 5))
STEPS: list[list[tuple[str, tuple[Any, ...]]]] = [
    [("l1_unstructured", ("weight", 0.3))],
    [("l1_unstructured", ("weight", 4)), ("l1_unstructured", ("weight", 0.5))],
    [("ln_structured", ("weight", 2, 2, 0)), ("ln_structured", ("weight", 0.5, 1, 1))],
    [("ln_structured", ("weight", 0.4, 2, -1)), ("l1_unstructured", ("weight", 3))],
    [("identity", ("bias",)), ("l1_unstructured", ("bias", 0.5))],
]


def layers() -> tuple[Any, Any]:
    mine = nn.Linear(5, 6)
    theirs = torch.nn.Linear(5, 6)
    state = {k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()}
    theirs.load_state_dict(state)
    return mine, theirs


def same(mine: Any, theirs: Any) -> None:
    theirs = theirs.state_dict()
    found = mine.state_dict()
    assert found.keys() == theirs.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value.numpy(), theirs[name].numpy())


@needs_torch
@pytest.mark.parametrize("steps", STEPS)
def test_masks(steps: Any) -> None:
    mine, theirs = layers()
    for name, args in steps:
        assert getattr(prune, name)(mine, *args) is mine
        getattr(peer, name)(theirs, *args)
        same(mine, theirs)
    assert prune.is_pruned(mine) and prune.is_pruned(nn.Sequential(mine))
    x = np.float32(SCORES[:, :5])
    y, want = mine(nnlib.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), 1e-5, 1e-6)
    y.square().sum().backward()
    want.square().sum().backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), 1e-4, 1e-5)
    name = steps[0][1][0]
    original = getattr(mine, name + "_orig")
    prune.remove(mine, name)
    peer.remove(theirs, name)
    assert getattr(mine, name) is original and not prune.is_pruned(mine)
    assert mine.state_dict().keys() == theirs.state_dict().keys()


@needs_torch
def test_given_scores_and_global_pruning() -> None:
    mine, theirs = layers()
    scores = SCORES.astype(np.float32)
    prune.l1_unstructured(mine, "weight", 5, importance_scores=nnlib.tensor(scores))
    peer.l1_unstructured(theirs, "weight", 5, torch.tensor(scores))
    same(mine, theirs)
    for library, layer, module in (
        (nnlib, mine, prune),
        (torch, theirs, peer),
    ):
        pairs = [(layer, "weight"), (layer, "bias")]
        given = {pairs[1]: library.ones(6)}
        module.global_unstructured(pairs, module.L1Unstructured, amount=0.4)
        module.global_unstructured(pairs, module.L1Unstructured, given, amount=3)
    same(mine, theirs)


def test_random_choices() -> None:
    layer = nn.Conv2d(4, 8, 3)
    prune.random_unstructured(layer, "weight", 0.25)
    assert int(layer.weight_mask.sum()) == 216
    prune.random_structured(layer, "weight", 2, 0)
    assert int((layer.weight_mask.sum((1, 2, 3)) == 0).sum()) == 2
    twin = copy.deepcopy(layer)
    assert twin(nnlib.ones(1, 4, 5, 5)).shape == (1, 8, 3, 3)
    prune.custom_from_mask(layer, "bias", nnlib.tensor([0.0, 1.0] * 4))
    assert layer.bias.tolist()[::2] == [0] * 4


def test_errors() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(nnlib.Error, match="prune: Linear has no parameter 'w'"):
        prune.identity(layer, "w")
    with pytest.raises(nnlib.Error, match="prune.remove: Linear.weight is not pruned"):
        prune.remove(layer, "weight")
    with pytest.raises(nnlib.ArgumentError, match="prune: amount: 7 of 6 cannot be"):
        prune.l1_unstructured(layer, "weight", 7)
    with pytest.raises(nnlib.ArgumentError, match="a share from 0 to 1, got 1.5"):
        prune.l1_unstructured(layer, "weight", 1.5)
    with pytest.raises(nnlib.ShapeError, match="prune: dim 0 is no dimension of"):
        prune.ln_structured(layer, "bias", 1, 2, 0)
    with pytest.raises(nnlib.ArgumentError, match="expected an unstructured one, got"):
        prune.global_unstructured(
            [(layer, "weight")], prune.LnStructured, amount=1, n=2
        )
    assert not prune.is_pruned(layer) and len(list(layer.parameters())) == 2


@needs_torch
def test_methods_that_prune_one_after_the_other_are_a_container() -> None:
    mine, theirs = layers()
    for layer, room in ((mine, prune), (theirs, peer)):
        room.l1_unstructured(layer, "weight", 0.3)
        room.ln_structured(layer, "weight", 2, 2, 0)
        last = room.L1Unstructured.apply(layer, "weight", 3)
        assert type(last).__name__ == "PruningContainer"
        assert [type(method).__name__ for method in last] == [
            "L1Unstructured",
            "LnStructured",
            "L1Unstructured",
        ]
        assert len(last) == 3 and last[0].amount == 0.3
        room.l1_unstructured(layer, "bias", 2)
        assert len(layer._forward_pre_hooks) == 2
    same(mine, theirs)
    container, other = (hook for hook, _ in mine._forward_pre_hooks.values())
    with pytest.raises(nnlib.ArgumentError, match="expected one that prunes 'weight'"):
        container.add_pruning_method(other)
    with pytest.raises(nnlib.DTypeError, match="expected a BasePruningMethod, got int"):
        container.add_pruning_method(3)
    container.remove(mine)
    assert "weight" in mine._parameters and len(mine._forward_pre_hooks) == 1


def test_amounts_of_numpy() -> None:
    for amount in (np.int64(2), np.float32(0.5)):
        assert prune.L1Unstructured(amount).prune(nnlib.arange(4.0)).tolist() == [
            0.0, 0.0, 2.0, 3.0
        ]  # fmt: skip


def test_a_method_prunes_a_tensor_by_itself() -> None:
    t = nnlib.tensor([3.0, -1.0, 2.0, 0.5])
    method = prune.L1Unstructured(2)
    assert method.prune(t).tolist() == [3.0, 0.0, 2.0, 0.0]
    left = nnlib.tensor([0.0, 1.0, 1.0, 1.0])
    assert method.prune(t, left).tolist() == [0.0, 0.0, 2.0, 0.0]
    assert method.prune(t, importance_scores=-t).tolist() == [3.0, 0.0, 2.0, 0.0]
    with pytest.raises(nnlib.Error, match="L1Unstructured: apply_mask: it has pruned"):
        method.apply_mask(nn.Linear(1, 1))
