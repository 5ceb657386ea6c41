"""`fit` with models of several inputs and with an optimiser that calls back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, DownloadError, TensorDataset
from nnlib.nn.functional import mse_loss
from nnlib.train import evaluate, fit


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 1), nn.Linear(3, 1)

    def forward(self, x: Any, y: Any) -> Any:
        return self.first(x) + self.second(y)


def test_fit_hands_all_inputs_on() -> None:
    rng = np.random.default_rng(0)
    x, y = (nnlib.tensor(rng.random((32, n), dtype=np.float32)) for n in (2, 3))
    data = TensorDataset(x, y, x.sum(1, keepdim=True) - y.sum(1, keepdim=True))
    model, loader = TwoInputs(), DataLoader(data, batch_size=8)
    optimizer = nnlib.optim.Adam(model.parameters(), lr=0.05)
    fit(model, loader, optimizer=optimizer, loss=mse_loss, epochs=40, progress=False)
    assert evaluate(model, loader, loss=mse_loss)["loss"] < 1e-2


def test_fit_with_lbfgs() -> None:
    rng = np.random.default_rng(0)
    x = nnlib.tensor(rng.random((64, 3), dtype=np.float32))
    loader = DataLoader(TensorDataset(x, x @ nnlib.ones(3, 1)), batch_size=64)
    model = nn.Linear(3, 1)
    optimizer = nnlib.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    history = fit(
        model, loader, optimizer=optimizer, loss=mse_loss, epochs=5, progress=False
    )
    assert history["loss"][0] > 1e-3
    assert evaluate(model, loader, loss=mse_loss)["loss"] < 1e-8


def test_mnist_that_may_not_be_downloaded(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path))
    with pytest.raises(DownloadError, match="download=False"):
        MNIST(tmp_path, train=True, download=False)
