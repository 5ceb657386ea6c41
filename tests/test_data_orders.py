"""Samplers, streams and joined data sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from nnlib.train import fit


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for number in range(5):
            yield np.float32([number]), number % 2


def rows(loader: Any) -> list[Any]:
    return [batch[0].flatten().tolist() for batch in loader]


def test_random_sampler() -> None:
    data = TensorDataset(np.arange(4))
    assert sorted(RandomSampler(data, generator=0)) == [0, 1, 2, 3]
    more = list(RandomSampler(data, num_samples=6, generator=0))
    assert sorted(more[:4]) == [0, 1, 2, 3]
    assert len(more) == 6
    drawn = list(RandomSampler(data, True, 400, 0))
    counts = np.bincount(drawn, minlength=4)
    assert counts.sum() == 400
    assert counts.min() > 60
    assert list(RandomSampler([], generator=0)) == []


def test_weighted_sampler() -> None:
    weights = [1.0, 0.0, 3.0, 4.0]
    sampler = WeightedRandomSampler(weights, 4000, generator=0)
    counts = np.bincount(list(sampler), minlength=4) / 4000
    # Shares of 4,000 draws have a standard deviation of at most 0.008.
    np.testing.assert_allclose(counts, np.array(weights) / 8, atol=0.03)
    first = [list(sampler), list(sampler)]
    assert first[0] != first[1]
    few = WeightedRandomSampler(weights, 3, replacement=False, generator=0)
    starts = np.zeros(4)
    for _ in range(1500):
        order = list(few)
        assert sorted(order) == [0, 2, 3]
        starts[order[0]] += 1 / 1500
    # Shares of 1,500 draws: at most 0.013.
    np.testing.assert_allclose(starts, np.array(weights) / 8, atol=0.05)


def test_samplers_in_a_loader() -> None:
    data = TensorDataset(np.arange(10))
    sampler = SubsetRandomSampler([3, 1, 7], generator=0)
    loader = DataLoader(data, 2, sampler=sampler)
    assert sorted(sum(rows(loader), [])) == [1, 3, 7]
    assert len(loader) == 2
    batches = BatchSampler(range(10), 4, drop_last=True)
    loader = DataLoader(data, batch_sampler=batches)
    assert rows(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(loader) == 2
    assert [len(batch) for batch in BatchSampler(range(5), 4, False)] == [4, 1]
    lists = DataLoader(data, None, sampler=batches)
    assert rows(lists) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(SubsetRandomSampler([])) == []


def test_batch_samplers_take_whole_batches() -> None:
    class Counted(TensorDataset):
        calls = 0

        def get_batch(self, indices: Any) -> Any:
            self.calls += 1
            return super().get_batch(indices)

    data = Counted(np.arange(10))
    loader = DataLoader(Subset(data, [9, 8, 7]), batch_sampler=[[0, 2], [-1, 1]])
    assert rows(loader) == [[9, 7], [7, 8]]
    assert data.calls == 2


def test_samplers_of_ones_own() -> None:
    class Backwards(Sampler[int]):
        def __init__(self, size: int) -> None:
            self.size = size

        def __iter__(self) -> Iterator[int]:
            return iter(range(self.size - 1, -1, -1))

        def __len__(self) -> int:
            return self.size

    data = TensorDataset(np.arange(3))
    assert rows(DataLoader(data, 2, sampler=Backwards(3))) == [[2, 1], [0]]
    assert isinstance(BatchSampler(Backwards(3), 2), Sampler)
    assert list(SequentialSampler(data_source=data)) == [0, 1, 2]


def test_streams() -> None:
    loader = DataLoader(Stream(), batch_size=2)
    assert rows(loader) == [[0, 1], [2, 3], [4]]
    assert rows(DataLoader(Stream(), batch_size=2, drop_last=True)) == [[0, 1], [2, 3]]
    assert len(list(Stream())) == 5
    with pytest.raises(TypeError, match="Stream: it has no length"):
        len(loader)
    model = nn.Linear(1, 2)
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.1)
    for progress in (False, True):
        history = fit(model, loader, optimizer=optimizer, epochs=2, progress=progress)
        assert len(history["loss"]) == 2


def test_single_samples() -> None:
    data = TensorDataset(np.arange(3))
    assert [sample[0].item() for sample in DataLoader(data, None)] == [0, 1, 2]
    arrays = DataLoader([np.ones(2), np.zeros(2)], batch_size=None)
    assert [sample.tolist() for sample in arrays] == [[1, 1], [0, 0]]
    assert len(arrays) == 2
    assert len(list(DataLoader(Stream(), batch_size=None))) == 5


def test_what_workers_would_need_is_taken() -> None:
    loader = DataLoader(
        TensorDataset(np.arange(3)),
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=2,
        worker_init_fn=print,
        timeout=3,
        multiprocessing_context="spawn",
        pin_memory_device="cuda",
        in_order=False,
    )
    assert rows(loader) == [[0], [1], [2]]


def test_joined_data_sets() -> None:
    both = TensorDataset(np.arange(2)) + TensorDataset(np.arange(10, 13))
    assert isinstance(both, ConcatDataset)
    assert len(both) == 5
    assert rows(DataLoader(both, 5)) == [[0, 1, 10, 11, 12]]
    assert both[-1][0].item() == 12
    with pytest.raises(nnlib.BoundsError, match="ConcatDataset: index 5 is out of"):
        both[5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConcatDataset([]), "ConcatDataset: datasets: expected at least one"),
        (lambda: BatchSampler([1], 0, False), "BatchSampler: batch_size: expected a"),
        (lambda: RandomSampler([1], num_samples=0), "num_samples: expected a positive"),
        (lambda: SubsetRandomSampler([0.5]), "indices: expected a sequence of int"),
        (lambda: WeightedRandomSampler([1, -1], 1), r"weights\[1\] is -1.0, expected"),
        (
            lambda: WeightedRandomSampler([0, 0], 1),
            "expected at least 1 above 0, got 0",
        ),
        (
            lambda: WeightedRandomSampler([1, 0], 2, replacement=False),
            "weights: expected at least 2 above 0, got 1",
        ),
        (lambda: WeightedRandomSampler([[1]], 1), r"weights: expected shape \(N,\)"),
        (lambda: DataLoader(Stream(), shuffle=True), "Stream gives its samples in its"),
        (
            lambda: DataLoader([1], 2, batch_sampler=[[0]]),
            "batch_sampler: expected none of batch_size",
        ),
        (lambda: DataLoader([1], None, drop_last=True), "drop_last: expected a batch"),
        (lambda: Stream()[0], "Stream: its samples have no numbers"),
        (
            lambda: list(DataLoader([1, 2], batch_sampler=[[0, 5]])),
            "index 5 at position 1 of the order is out of range for 2 samples",
        ),
        (
            lambda: list(DataLoader([1, 2], batch_sampler=[[0.5]])),
            "DataLoader: batch_sampler: expected numbers of samples: 'float'",
        ),
        (
            lambda: list(DataLoader([1, 2], batch_sampler=[0])),
            "DataLoader: batch_sampler: expected numbers of samples: 'int'",
        ),
        (
            lambda: list(DataLoader([1, 2], sampler=[0.5])),
            "DataLoader: sampler: expected numbers of samples: 'float'",
        ),
        (
            lambda: list(DataLoader([1], 2, sampler=BatchSampler([0], 1))),
            "BatchSampler: expected numbers of samples: 'list'",
        ),
        (
            lambda: WeightedRandomSampler([1.0], None),
            "num_samples: expected a positive integer, got None",
        ),
        (
            lambda: TensorDataset(np.arange(2)) + Stream(),
            "ConcatDataset: datasets: number 1 is a stream, Stream",
        ),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(nnlib.Error, match=message):
        call()
