"""Metrics, histories, the multi-layer perceptron."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend.errors import ShapeError
from nnlib.models import MLP
from nnlib.train import History, accuracy, binary_accuracy
from nnlib.train.history import is_better
from nnlib.train.metrics import RunningMeans


def test_accuracy():
    scores = nnlib.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [5.0, 4.0, 9.0]])
    assert accuracy(scores, nnlib.tensor([0, 1, 0])).item() == pytest.approx(2 / 3)
    soft = nnlib.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    assert accuracy(scores, soft).item() == pytest.approx(2 / 3)
    spatial = nnlib.tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    target = nnlib.tensor(spatial.numpy().argmax(1))
    assert accuracy(spatial, target).item() == 1.0
    with pytest.raises(ShapeError, match=r"target: expected shape \(3,\), got \(2,\)"):
        accuracy(scores, nnlib.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"at least one sample, got shape \(0, 3\)"):
        accuracy(scores[:0], nnlib.tensor([0])[:0])


def test_binary_accuracy():
    logits = nnlib.tensor([-1.0, 2.0, 0.5, -3.0])
    assert binary_accuracy(logits, nnlib.tensor([0, 1, 0, 0])).item() == 0.75
    assert binary_accuracy(logits, nnlib.tensor([-1, 1, 1, 1])).item() == 0.75
    with pytest.raises(ShapeError, match="one shape"):
        binary_accuracy(logits, nnlib.tensor([1]))


def test_running_means():
    means = RunningMeans()
    with pytest.raises(ShapeError, match="at least one sample"):
        means.read()
    means.add({"a": nnlib.tensor(1.0), "b": 10}, 3)
    means.add({"a": nnlib.tensor(5.0), "b": 20.0}, 1)
    assert means.read() == {"a": 2.0, "b": 12.5} and means.samples == 4


def test_history(tmp_path):
    history = History()
    assert history.epochs == 0
    for loss, hits in [(3.0, 0.1), (1.0, 0.5), (2.0, 0.4)]:
        history.append(loss=loss, accuracy=hits)
    assert history.epochs == 3 and history.last("loss") == 2.0
    assert history.best("loss") == (2, 1.0) and history.best("accuracy") == (2, 0.5)
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    with pytest.raises(ShapeError, match="no figure 'f1'; it holds accuracy, loss"):
        history.best("f1")
    assert is_better("loss", 1.0, math.nan) and not is_better("loss", math.nan, 1.0)
    assert not is_better("loss", 0.95, 1.0, min_delta=0.1)


def test_mlp():
    model = MLP([6, 5, 4, 3], activation=nn.Tanh, dropout=0.5)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == [
        "Flatten", "Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear",
    ]  # fmt: skip
    assert tuple(model(nnlib.zeros(7, 2, 3)).shape) == (7, 3)
    for sizes in ([4], [3, 0]):
        with pytest.raises(ShapeError, match="MLP: sizes: expected positive sizes"):
            MLP(sizes)
