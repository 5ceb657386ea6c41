"""Muon and Adafactor against PyTorch's, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn, optim
from nnlib.backend import recording
from nnlib.optim import recorded

SHAPES = [(3, 4), (6, 2), (5,), (), (2, 1, 3)]


def train(library: Any, name: str, options: Any, shapes: Any, dtype: str) -> list[Any]:
    if not hasattr(library.optim, name):
        pytest.skip(f"this PyTorch has no {name}")
    rng = np.random.default_rng(0)
    kind = getattr(library, dtype)
    params = [
        library.tensor(np.asarray(rng.normal(size=shape))).to(kind).requires_grad_()
        for shape in shapes
    ]
    optimizer = getattr(library.optim, name)(params, **options)
    for step in range(12):
        optimizer.zero_grad()
        for number, p in enumerate(params):
            # The last one has a gradient later than the others.
            if number != len(params) - 1 or step > 3:
                (p.sin() * (number + 1) + p * p * 0.3).sum().backward()
        optimizer.step()
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.5, "weight_decay": 0.1, "d": 2.0, "maximize": True},
        {"beta2_decay": -0.5, "eps": (1e-4, 0.1)},
    ],
    ids=str,
)
def test_adafactor(options: Any) -> None:
    torch = pytest.importorskip("torch")
    mine = train(nnlib, "Adafactor", options, SHAPES, "float64")
    theirs = train(torch, "Adafactor", options, SHAPES, "float64")
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, 1e-6, 1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.02},
        {"lr": 0.02, "nesterov": False, "momentum": 0.8, "weight_decay": 0.5},
        {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
    ],
    ids=str,
)
def test_muon(options: Any) -> None:
    torch = pytest.importorskip("torch")
    shapes = [(3, 4), (6, 2), (4, 4)]
    mine = train(nnlib, "Muon", options, shapes, "float32")
    theirs = train(torch, "Muon", options, shapes, "float32")
    for a, b in zip(mine, theirs, strict=True):
        # PyTorch makes the matrix orthogonal in bfloat16.
        np.testing.assert_allclose(a, b, 0, 12 * options["lr"] * 2e-2)


def test_muon_makes_steps_orthogonal() -> None:
    p = nnlib.zeros(5, 3, dtype="float64", requires_grad=True)
    optimizer = optim.Muon([p], lr=1.0, ns_coefficients=(1.5, -0.5, 0.0), ns_steps=40)
    p.grad = nnlib.randn(5, 3, dtype="float64")
    u, _, v = nnlib.linalg.svd(p.grad, full_matrices=False)
    optimizer.step()
    step = p.detach() / -np.sqrt(5 / 3)
    np.testing.assert_allclose(step.numpy(), (u @ v).numpy(), 1e-6, 1e-9)


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_state_goes_to_a_file_and_back(name: str) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, name):
        pytest.skip(f"this PyTorch has no {name}")
    layers, optimizers = [], []
    for _ in range(2):
        layer = nn.Linear(3, 4, bias=name == "Adafactor")
        layers.append(layer)
        optimizers.append(getattr(optim, name)(layer.parameters()))

    def step(layer: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        layer(nnlib.ones(2, 3)).square().sum().backward()
        optimizer.step()

    step(layers[0], optimizers[0])
    state = optimizers[0].state_dict()
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers[1].load_state_dict(state)
    for layer, optimizer in zip(layers, optimizers, strict=True):
        step(layer, optimizer)
    assert (layers[0].weight == layers[1].weight).all()
    peer = torch.nn.Linear(3, 4, bias=name == "Adafactor")
    other = getattr(torch.optim, name)(peer.parameters())
    peer(torch.ones(2, 3)).square().sum().backward()
    other.step()
    theirs = other.state_dict()["state"][0]
    assert sorted(state["state"][0]) == sorted(theirs)
    for key, value in theirs.items():
        assert tuple(np.shape(state["state"][0][key])) == tuple(value.shape)


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_a_step_is_no_part_of_a_cuda_graph(name: str, monkeypatch: Any) -> None:
    p = nnlib.ones(2, 2, requires_grad=True)
    optimizer = getattr(optim, name)([p])
    p.sum().backward()
    optimizer.step()
    found = recording.Recording(0, None)
    monkeypatch.setattr(recording.state, "recording", found)
    (batch,) = optimizer._batches[0]
    with pytest.raises(
        nnlib.DeviceError, match=f"^{name}.step: not while a CUDA graph"
    ):
        recorded.record(found, optimizer, batch, optimizer.param_groups[0])


def test_bad_options() -> None:
    matrix, vector = nnlib.ones(2, 2, requires_grad=True), nnlib.ones(2)
    for make, error, message in (
        (lambda: optim.Muon([vector]), nnlib.ShapeError, "parameter 0 has shape"),
        (
            lambda: optim.Muon([matrix], adjust_lr_fn="none"),
            nnlib.ArgumentError,
            "Muon: adjust_lr_fn: expected None",
        ),
        (
            lambda: optim.Muon([matrix], ns_steps=100),
            nnlib.ArgumentError,
            "Muon: ns_steps: expected an integer from 0 to 99",
        ),
        (
            lambda: optim.Muon([matrix], ns_steps=2.5),
            nnlib.ArgumentError,
            "ns_steps: expected an integer from 0 to 99, got 2.5",
        ),
        (
            lambda: optim.Muon([matrix], ns_coefficients=3.0),
            nnlib.ArgumentError,
            "Muon: ns_coefficients: expected three numbers, got 3.0",
        ),
        (
            lambda: optim.Muon([matrix], lr="fast"),
            nnlib.DTypeError,
            "Muon: lr: expected a number, got 'fast'",
        ),
        (
            lambda: optim.Adafactor([matrix], eps=1e-3),
            nnlib.ArgumentError,
            "Adafactor: eps: expected two numbers, got 0.001",
        ),
        (
            lambda: optim.Adafactor([matrix], d=0.5),
            nnlib.ArgumentError,
            "Adafactor: d: expected at least 1",
        ),
        (
            lambda: optim.Adafactor([matrix], beta2_decay=0.8),
            nnlib.ArgumentError,
            "Adafactor: beta2_decay: expected at most 0",
        ),
        (
            lambda: optim.Adafactor([matrix], eps=(-1.0, 0.0)),
            nnlib.ArgumentError,
            "Adafactor: eps: expected numbers of at least 0",
        ),
    ):
        with pytest.raises(error, match=message):
            make()


def test_16_bit_parameters_are_updated_in_32() -> None:
    for name in ("Muon", "Adafactor"):
        p = nnlib.ones(4, 3).bfloat16().requires_grad_()
        optimizer = getattr(optim, name)([p], lr=0.1)
        p.sum().backward()
        optimizer.step()
        assert p.dtype == nnlib.bfloat16 and (p < 1).all()
