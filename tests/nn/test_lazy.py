"""Lazy layers: what they become, when, and what has happened to them before."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib import nn

CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("LazyLinear", (3,), {}, (2, 5)),
    ("LazyLinear", (3,), {"bias": False}, (2, 4, 5)),
    ("LazyConv1d", (4, 3), {"groups": 2}, (2, 6, 7)),
    ("LazyConv2d", (4, (3, 1)), {"padding": 1, "bias": False}, (2, 3, 5, 4)),
    ("LazyConv2d", (4, 2), {"padding_mode": "reflect", "padding": 1}, (3, 5, 4)),
    ("LazyConv3d", (2, 2), {}, (1, 3, 3, 3, 3)),
    ("LazyConvTranspose1d", (4, 3), {"stride": 2, "output_padding": 1}, (2, 3, 5)),
    ("LazyConvTranspose2d", (4, 3), {"groups": 2}, (2, 6, 4, 4)),
    ("LazyConvTranspose3d", (2, 2), {}, (1, 3, 2, 2, 2)),
    ("LazyBatchNorm1d", (), {}, (6, 3)),
    ("LazyBatchNorm2d", (), {"affine": False}, (2, 3, 4, 4)),
    ("LazyBatchNorm3d", (), {"track_running_stats": False}, (2, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), {}, (2, 3, 7)),
    ("LazyInstanceNorm2d", (), {}, (2, 3, 4, 4)),
    ("LazyInstanceNorm3d", (), {"bias": False}, (2, 3, 2, 2, 2)),
]
each_case = pytest.mark.parametrize(
    ("name", "args", "options", "shape"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES]
)


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


@needs_torch
@each_case
def test_against_pytorch(name: str, args: Any, options: Any, shape: Any) -> None:
    mine, theirs = (getattr(lib.nn, name)(*args, **options) for lib in (nnlib, torch))
    x = values(shape)
    theirs(torch.tensor(x))
    state = theirs.state_dict()
    assert mine.has_uninitialized_params()
    assert [k for k, _ in mine.named_parameters()] == [
        k for k, _ in theirs.named_parameters()
    ]
    mine.load_state_dict(state)
    assert type(mine).__name__ == type(theirs).__name__ == name.removeprefix("Lazy")
    mine.eval()
    theirs.eval()
    got, want = mine(nnlib.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(
        got.detach().numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-5
    )


@each_case
def test_the_first_input(name: str, args: Any, options: Any, shape: Any) -> None:
    layer = getattr(nn, name)(*args, **options)
    twin = copy.deepcopy(layer)
    parameters = list(layer.parameters())
    assert all(0 in p.shape for p in parameters[:1])
    y = layer.double()(nnlib.tensor(values(shape)).double())
    assert y.dtype == nnlib.float64
    assert type(layer) is getattr(nn, name.removeprefix("Lazy"))
    assert all(a is b for a, b in zip(parameters, layer.parameters(), strict=True))
    twin(nnlib.tensor(values(shape)))
    assert repr(twin) == repr(layer)
    assert layer.state_dict().keys() == twin.state_dict().keys()


def test_initial_values_are_those_of_the_plain_layer() -> None:
    x = nnlib.zeros(2, 7)
    nnlib.manual_seed(1)
    lazy = nn.LazyLinear(4)
    nnlib.manual_seed(2)
    lazy(x)
    nnlib.manual_seed(2)
    plain = nn.Linear(7, 4)
    assert (lazy.weight == plain.weight).all() and (lazy.bias == plain.bias).all()


def test_an_optimizer_made_before_the_first_input() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    optimizer = nnlib.optim.Adam(model.parameters(), lr=0.05)
    nnlib.manual_seed(0)
    x = nnlib.tensor(values((32, 3)))
    target = x.sum(1, keepdim=True)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_one_sample_and_errors() -> None:
    single = nn.LazyInstanceNorm1d()
    single(nnlib.ones(3, 7))
    assert single.num_features == 3
    with pytest.raises(nnlib.ShapeError, match="in_channels: 3 is not divisible by gr"):
        nn.LazyConv2d(4, 1, groups=2)(nnlib.ones(1, 3, 2, 2))
    with pytest.raises(
        nnlib.ShapeError, match="LazyConv1d: input: expected 2 or 3 dim"
    ):
        nn.LazyConv1d(4, 1)(nnlib.ones(3))
    with pytest.raises(nnlib.ShapeError, match="LazyBatchNorm2d: input: expected 4"):
        nn.LazyBatchNorm2d()(nnlib.ones(3, 2))
    with pytest.raises(nnlib.ShapeError, match="LazyLinear: input: expected at least"):
        nn.LazyLinear(2)(nnlib.tensor(1.0))
    utils = nn.utils
    for make in (
        utils.weight_norm,
        utils.parametrizations.weight_norm,
        lambda layer: utils.prune.l1_unstructured(layer, "weight", 0.5),
    ):
        with pytest.raises(nnlib.Error, match="LazyLinear: weight: something else"):
            make(nn.LazyLinear(3))(nnlib.ones(1, 2))
    for lazy in (nn.LazyLinear(3), nn.LazyConv2d(3, 2)):
        with pytest.raises(nnlib.ShapeError, match=r"weight: expected .* got \(3,\)"):
            lazy.load_state_dict({"weight": nnlib.ones(3), "bias": nnlib.ones(3)})
        assert lazy.has_uninitialized_params()
