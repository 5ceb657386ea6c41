"""state_dict and load_state_dict: with NumPy, with PyTorch, and when it cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import array, needs_torch, torch

import nnlib
from nnlib import nn


def build(lib: Any) -> Any:
    return lib.Sequential(
        lib.Linear(4, 5),
        lib.PReLU(),
        lib.ModuleList([lib.Bilinear(2, 3, 4)]),
        lib.ModuleDict({"out": lib.Linear(5, 2, bias=False)}),
    )


@needs_torch
def test_pytorchs_weights_load_as_they_are_and_back() -> None:
    mine, theirs = build(nn), build(torch.nn)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    keys = mine.load_state_dict(state)
    assert keys == ([], [])
    for name, value in mine.state_dict().items():
        np.testing.assert_array_equal(array(value), array(state[name]))
    mine.load_state_dict({name: x.numpy() for name, x in state.items()})
    fresh = build(nn)
    numpy_state = {k: torch.tensor(array(v)) for k, v in fresh.state_dict().items()}
    theirs.load_state_dict(numpy_state)
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(array(value), array(fresh.state_dict()[name]))


@needs_torch
def test_pytorchs_bfloat16_loads() -> None:
    theirs = torch.nn.Linear(2, 3).bfloat16()
    mine = nn.Linear(2, 3).bfloat16()
    mine.load_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(
        array(mine.weight.float()), theirs.weight.detach().float().numpy()
    )


def test_it_shares_memory_and_has_no_history() -> None:
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    assert not state["weight"].requires_grad
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight
    state["weight"].zero_()
    assert float(layer.weight.abs().sum()) == 0
    assert list(layer.state_dict(prefix="net.")) == ["net.weight", "net.bias"]


def test_all_problems_at_once_and_nothing_loaded() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    before = {name: array(x).copy() for name, x in model.state_dict().items()}
    state = {
        "0.weight": nnlib.zeros(3, 2),
        "0.bias": nnlib.zeros(4),
        "1.bias": "text",
        "2.bias": nnlib.zeros(2),
    }
    with pytest.raises(nnlib.ShapeError) as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert "Sequential.load_state_dict: nothing was loaded" in text
    assert "missing: 1.weight" in text
    assert "unexpected: 2.bias" in text
    assert "0.bias: expected shape (3,), got (4,)" in text
    assert "1.bias: expected a tensor or array, got str" in text
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(array(value), before[name])


def test_not_strict() -> None:
    model = nn.Linear(2, 3)
    keys = model.load_state_dict({"weight": nnlib.ones(3, 2), "x": 1}, strict=False)
    assert keys.missing_keys == ["bias"] and keys.unexpected_keys == ["x"]
    assert float(model.weight.sum()) == 6
    with pytest.raises(nnlib.ShapeError, match="weight: expected shape"):
        model.load_state_dict({"weight": nnlib.ones(2, 2)}, strict=False)
    with pytest.raises(nnlib.DTypeError, match="expected a mapping"):
        model.load_state_dict([1, 2])


def test_dtypes_are_cast_and_assign_takes_them() -> None:
    model = nn.Linear(2, 3)
    weight = model.weight
    state = {name: x.double() for name, x in nn.Linear(2, 3).state_dict().items()}
    model.load_state_dict(state)
    assert model.weight is weight and weight.dtype == np.float32
    model.load_state_dict(state, assign=True)
    assert model.weight.dtype == np.float64 and model.weight.requires_grad
    assert model.weight.array.base is not None


def test_hooks_of_the_state_dict() -> None:
    model = nn.Linear(2, 2)
    log: list[str] = []
    model.register_state_dict_pre_hook(lambda module, *rest: log.append("before"))

    def after(module: Any, state: Any, prefix: str, metadata: Any) -> None:
        state[prefix + "extra"] = nnlib.ones(1)

    model.register_state_dict_post_hook(after)
    state = model.state_dict()
    assert log == ["before"] and "extra" in state

    def rename(module: Any, state: Any, prefix: str, *rest: Any) -> None:
        state.pop(prefix + "extra", None)

    model.register_load_state_dict_pre_hook(rename)
    model.register_load_state_dict_post_hook(
        lambda module, keys: log.append(f"loaded {keys.missing_keys}")
    )
    model.load_state_dict(state)
    assert log[-1] == "loaded []" and "extra" in state
