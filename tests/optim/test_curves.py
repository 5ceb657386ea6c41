"""Loss curves of an MLP on real digits, equal to PyTorch's with every optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import data

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

STEPS, BATCH = 100, 64
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}),
    ("Adagrad", {"lr": 0.05}),
    ("Adadelta", {}),
    ("RMSprop", {"lr": 1e-3}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 1e-3}),
    ("AdamW", {"lr": 3e-3}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {"lr": 3e-3}),
    ("ASGD", {"lr": 0.1, "t0": 20}),
    ("LBFGS", {"lr": 0.05, "max_iter": 2, "history_size": 5}),
]


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    tensors = data.Digits().to_tensors(flatten=True)
    images, labels = (np.asarray(part) for part in tensors.tensors)
    return images.astype(np.float64), labels.astype(np.int64)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"0": (32, 64), "2": (24, 32), "4": (10, 24)}
    found = {}
    for name, (n_out, n_in) in sizes.items():
        bound = 1 / np.sqrt(n_in)
        found[f"{name}.weight"] = rng.uniform(-bound, bound, (n_out, n_in))
        found[f"{name}.bias"] = rng.uniform(-bound, bound, n_out)
    return found


def curve(
    library: Any, digits: Any, weights: Any, name: str, options: dict[str, Any]
) -> list[float]:
    nn = library.nn
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 10)
    ).double()
    model.load_state_dict({k: library.tensor(v) for k, v in weights.items()})
    optimizer = getattr(library.optim, name)(model.parameters(), **options)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for step in range(STEPS):
        # L-BFGS is made for the loss of one and the same batch.
        start = 0 if name == "LBFGS" else step * BATCH % 1600
        part = slice(start, start + BATCH)
        x, y = (library.tensor(values[part]) for values in digits)

        def closure(x: Any = x, y: Any = y) -> Any:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_curves(digits: Any, weights: Any, name: str, options: dict[str, Any]) -> None:
    mine = curve(nnlib, digits, weights, name, options)
    theirs = curve(torch, digits, weights, name, options)
    np.testing.assert_allclose(mine, theirs, 1e-5)
    assert mine[-1] < mine[0]
