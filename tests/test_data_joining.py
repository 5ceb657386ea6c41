"""Data sets side by side and one after another; PyTorch's small helpers."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.data import (
    ChainDataset,
    DataLoader,
    IterableDataset,
    StackDataset,
    TensorDataset,
    default_convert,
    get_worker_info,
)


class Count(IterableDataset[int]):
    def __init__(self, start: int, end: int) -> None:
        self.numbers = range(start, end)

    def __iter__(self):
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def test_streams_follow_each_other() -> None:
    chained = ChainDataset([Count(0, 3), Count(10, 12)])
    assert list(chained) == [0, 1, 2, 10, 11] and len(chained) == 5
    two = np.int64(2)
    batches = [batch.tolist() for batch in DataLoader(chained, batch_size=two)]
    assert batches == [[0, 1], [2, 10], [11]]
    with pytest.raises(nnlib.DTypeError, match="number 1: expected an IterableDataset"):
        list(ChainDataset([Count(0, 1), [1, 2]]))


def test_data_sets_side_by_side() -> None:
    x, y = TensorDataset(nnlib.arange(4.0)), [7, 8, 9, 10]
    (first,), label = StackDataset(x, y)[2]
    assert first.item() == 2.0 and label == 9
    named = StackDataset(numbers=y, squares=[n * n for n in y])
    assert len(named) == 4 and named[1] == {"numbers": 8, "squares": 64}
    (batch,) = DataLoader(named, batch_size=4)
    assert batch["squares"].tolist() == [49, 64, 81, 100]
    with pytest.raises(
        nnlib.ShapeError, match=r"as many samples in each, got \[4, 3\]"
    ):
        StackDataset(y, [1, 2, 3])
    for wrong in (lambda: StackDataset(), lambda: StackDataset(y, z=y)):
        with pytest.raises(nnlib.ArgumentError, match="either all with names"):
            wrong()


def test_arrays_become_tensors() -> None:
    made = default_convert([np.ones(2), {"a": (np.float32(1), "text")}, 3])
    assert made[0].tolist() == [1.0, 1.0] and made[2] == 3
    assert made[1]["a"][0].item() == 1.0 and made[1]["a"][1] == "text"
    assert default_convert(np.array(["a"])).dtype.kind == "U"
    assert get_worker_info() is None
    from nnlib.utils import data

    assert data.StackDataset is StackDataset


def test_gradients_are_scaled_by_a_norm_known_before() -> None:
    torch = pytest.importorskip("torch")

    def run(lib, utils):
        p = lib.tensor([3.0, 4.0], requires_grad=True)
        (p * p).sum().backward()
        utils.clip_grads_with_norm_([p], 2.0, lib.tensor(10.0))
        once = p.grad.tolist()
        utils.clip_grads_with_norm_(p, 100.0, utils.get_total_norm([p.grad]))
        return once, p.grad.tolist()

    for mine, theirs in zip(
        run(nnlib, nn.utils), run(torch, torch.nn.utils), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, 1e-6)


def test_further_random_numbers() -> None:
    nnlib.manual_seed(3)
    x = nnlib.empty(40000)
    assert abs(x.geometric_(0.25).mean().item() - 4) < 0.1 and x.min().item() == 1
    assert abs(x.log_normal_(0.5, 0.25).log().mean().item() - 0.5) < 0.01
    assert abs(x.cauchy_(2.0, 0.5).median().item() - 2) < 0.02
    share = ((x > 1.5) & (x < 2.5)).float().mean().item()
    assert abs(share - 0.5) < 0.01
    assert nnlib.empty(5, dtype="int64").geometric_(0.5).dtype == nnlib.int64
    with pytest.raises(nnlib.DTypeError, match="cauchy_: expected a floating dtype"):
        nnlib.empty(5, dtype="int64").cauchy_()
    with pytest.raises(nnlib.DTypeError, match="geometric_: p: expected a number, got"):
        nnlib.empty(5).geometric_("half")
