"""Short training runs on a device, from the same weights and batches."""

from __future__ import annotations

from typing import Any

import numpy as np

import nnlib
from nnlib import nn
from nnlib.data import Digits

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}),
    ("Adagrad", {"lr": 0.05}),
    ("Adadelta", {}),
    ("RMSprop", {"lr": 1e-3}),
    ("RMSprop", {"lr": 1e-3, "momentum": 0.9, "centered": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 1e-3}),
    ("AdamW", {"lr": 3e-3}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {"lr": 3e-3}),
    ("Rprop", {"lr": 1e-3}),
    ("ASGD", {"lr": 0.1, "t0": 5}),
    ("LBFGS", {"lr": 0.05, "max_iter": 2, "history_size": 5}),
]


def make_mlp() -> Any:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make_cnn() -> Any:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Flatten(),
        nn.Linear(72, 10),
    )


def curve(
    make: Any, device: str, dtype: str, name: str, options: dict[str, Any], steps: int
) -> list[float]:
    """Return the losses of `steps` batches of real digits."""
    nnlib.manual_seed(2)
    model = make().to(dtype).to(device)
    images, labels = Digits().to_arrays(flatten=True)
    optimizer = getattr(nnlib.optim, name)(model.parameters(), **options)
    losses = []
    for step in range(steps):
        part = slice(64 * (step % 20), 64 * (step % 20) + 64)
        x = nnlib.tensor(images[part]).to(dtype).to(device)
        y = nnlib.tensor(labels[part]).to(device)

        def closure(x: Any = x, y: Any = y) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure).item()))
    assert np.isfinite(losses).all()
    return losses


def numbers(*shape: int, seed: int = 3) -> nnlib.Tensor:
    return nnlib.tensor(np.random.default_rng(seed).standard_normal(shape))


def mlp(device: str) -> Any:
    """Return a float64 network with statistics, of the same weights everywhere."""
    nnlib.manual_seed(1)
    layers = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    return nn.Sequential(*layers).double().to(device)


def samples() -> tuple[nnlib.Tensor, nnlib.Tensor]:
    labels = np.random.default_rng(4).integers(0, 3, 48)
    return numbers(48, 6), nnlib.tensor(labels)


def weights(model: Any) -> list[Any]:
    return [x.detach() for x in model.state_dict().values()]


def train_some(model: Any, optimizer: Any, device: str, steps: int = 4) -> list[Any]:
    x, y = (part.to(device) for part in samples())
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses
