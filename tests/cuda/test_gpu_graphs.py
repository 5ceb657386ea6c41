"""CUDA graphs on a GPU: replayed steps are the eager ones, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn

F = nn.functional
ROWS, CLASSES = 16, 4


def perceptron() -> Any:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(144, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


def convolutions() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.LayerNorm(32), nn.Linear(32, CLASSES),
    )  # fmt: skip


class Attentive(nn.Module):
    """An LSTM and an encoder's layer, with dropout in the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.2, batch_first=True)
        self.last = nn.Linear(16, CLASSES)

    def forward(self, x: Any) -> Any:
        out, _ = self.lstm(x.squeeze(1))
        return self.last(self.layer(out).mean(1))


class Training:
    """A model, its optimiser and schedule, and tensors that take the batches."""

    def __init__(self, make: Callable[[], Any], name: str, **options: Any) -> None:
        nnlib.manual_seed(3)
        self.model = make().to("cuda")
        kind = getattr(nnlib.optim, name)
        self.optimizer = kind(self.model.parameters(), lr=0.02, **options)
        self.schedule = nnlib.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.8)
        self.x = nnlib.zeros(ROWS, 1, 12, 12, device="cuda")
        self.y = nnlib.zeros(ROWS, dtype="int64", device="cuda")
        self.rng = np.random.default_rng(0)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def run(self, steps: int, step: Callable[[], Any] | None = None) -> list[float]:
        losses = []
        for _ in range(steps):
            images = self.rng.standard_normal(self.x.shape).astype(np.float32)
            self.x.copy_(nnlib.tensor(images).to("cuda"))
            labels = self.rng.integers(0, CLASSES, ROWS)
            self.y.copy_(nnlib.tensor(labels).to("cuda"))
            losses.append((step or self.step)().item())
            self.schedule.step()
        return losses

    def record(self) -> Callable[[], Any]:
        graph = nnlib.cuda.CUDAGraph()
        with nnlib.cuda.graph(graph):
            loss = self.step()

        def replay() -> Any:
            graph.replay()
            return loss

        return replay

    def state(self) -> list[Any]:
        found = [x.cpu().array for x in self.model.state_dict().values()]
        for kept in self.optimizer.state_dict()["state"].values():
            found += [x.cpu().array if hasattr(x, "cpu") else x for x in kept.values()]
        return found


@pytest.mark.cuda
@pytest.mark.parametrize("make", [perceptron, convolutions, Attentive])
@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {}), ("SGD", {"momentum": 0.9}), ("NAdam", {}), ("RMSprop", {})],
)
def test_replayed_steps_are_the_eager_ones(make: Any, name: str, options: Any) -> None:
    eager, graphed = Training(make, name, **options), Training(make, name, **options)
    nnlib.manual_seed(5)
    expected = eager.run(8)
    nnlib.manual_seed(5)
    found = graphed.run(2)
    replay = graphed.record()
    found += graphed.run(2, replay)
    # Memory that nobody but the graph should have.
    for size in (1 << 10, 1 << 14, 1 << 18):
        assert nnlib.full((size,), 7.0, device="cuda").sum().item() == 7 * size
    found += graphed.run(3, replay) + graphed.run(1)
    assert found == expected
    for one, other in zip(eager.state(), graphed.state(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_products_of_every_dtype(dtype: str) -> None:
    # Whole numbers, whose sums are exact in every dtype and order.
    shapes = ((3, 5, 7), (3, 7, 6), (7, 6))
    a, b, c = (nnlib.randint(0, 3, s, device="cuda").to(dtype) for s in shapes)

    def work() -> list[Any]:
        return [a @ b, a @ c, a[0] @ c, a[0].t()[::2] @ a[0]]

    expected = work()
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        found = work()
    a.mul_(2)
    side = nnlib.cuda.Stream()
    nnlib.cuda.synchronize()
    with nnlib.cuda.stream(side):
        graph.replay()
    nnlib.cuda.synchronize()
    for x, factor, y in zip(found, (2, 2, 2, 4), expected, strict=True):
        assert x.tolist() == (y * factor).tolist()


@pytest.mark.cuda
def test_random_numbers_advance() -> None:
    nnlib.manual_seed(9)
    expected = [nnlib.rand(100, device="cuda").tolist() for _ in range(4)]
    nnlib.manual_seed(9)
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        x = nnlib.rand(100, device="cuda")
    for wanted in expected[:3]:
        graph.replay()
        assert x.tolist() == wanted
    assert nnlib.rand(100, device="cuda").tolist() == expected[3]


@pytest.mark.cuda
def test_what_waits_is_refused_and_all_is_well_afterwards() -> None:
    x = nnlib.ones(4, device="cuda")
    y = x + 1
    for work in (
        lambda: x.sum().item(),
        lambda: bool(x[0] > 0),
        lambda: x.cpu(),
        lambda: nnlib.ones(3).to("cuda"),
        lambda: nnlib.tensor([1.0, 2.0], device="cuda"),
        lambda: nnlib.cuda.synchronize(),
        lambda: x.array.get(),
        lambda: x.nonzero(),
    ):
        graph = nnlib.cuda.CUDAGraph()
        with pytest.raises(nnlib.DeviceError), nnlib.cuda.graph(graph):
            work()
        assert (x + 1).tolist() == y.tolist()
    with nnlib.cuda.graph(graph):
        z = x * 3
    graph.replay()
    assert z.tolist() == [3] * 4


@pytest.mark.cuda
def test_bad_labels_are_told_after_a_replay() -> None:
    logits = nnlib.zeros(4, 3, device="cuda")
    labels = nnlib.tensor([0, 1, 2, 2], device="cuda")
    F.cross_entropy(logits, labels)
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        loss = F.cross_entropy(logits, labels)
    for label in (1, 7, 2, 8):
        labels.copy_(nnlib.tensor([0, label, 2, 2]).to("cuda"))
        graph.replay()
        if label > 2:
            with pytest.raises(IndexError, match=str(label)):
                loss.item()
        else:
            assert loss.item() == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.cuda
def test_results_outlive_their_graph() -> None:
    x = nnlib.rand(1 << 16, device="cuda")
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        y = (x + 1).sqrt() * 2
    graph.replay()
    expected = y.tolist()
    del graph
    nnlib.cuda.empty_cache()
    others = [nnlib.zeros(1 << 16, device="cuda") for _ in range(8)]
    assert y.tolist() == expected and len(others) == 8


@pytest.mark.cuda
def test_graphed_callables() -> None:
    models = [Training(convolutions, "Adam").model for _ in range(2)]
    x = nnlib.rand(ROWS, 1, 12, 12, device="cuda")
    # The warm-up moves the running statistics.
    twins = nnlib.cuda.make_graphed_callables(models[1], (x,))
    models[1].load_state_dict(models[0].state_dict())
    for factor in (1.0, 2.0):
        for model in models:
            loss = (model(x * factor) * factor).square().sum()
            loss.backward()
    pairs = zip(models[0].parameters(), twins.parameters(), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.grad.cpu().array, other.grad.cpu().array)
