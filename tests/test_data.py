"""Data sets, splits, loaders, scaling."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.random import Generator, default_generator, manual_seed
from nnlib.data import (
    DataLoader,
    Dataset,
    Digits,
    RandomSampler,
    SequentialSampler,
    Standardizer,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
    scale_images,
    train_val_test_split,
)
from nnlib.data.order import permutation


class Squares(Dataset):
    """Sample by sample: the slow path."""

    def __init__(self, count=10):
        self.count = count

    def __getitem__(self, index):
        return np.float32(index), index * index

    def __len__(self):
        return self.count


def numbers(loader):
    return [batch[0].tolist() for batch in loader]


def rows(count=10):
    return TensorDataset(np.arange(count), np.arange(count * 2.0).reshape(count, 2))


@pytest.mark.parametrize("data", [rows(), Squares()], ids=["whole", "by sample"])
def test_batches_in_order(data):
    assert numbers(DataLoader(data, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert numbers(DataLoader(data, 4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (
        len(DataLoader(data, 4)) == 3 and len(DataLoader(data, 4, drop_last=True)) == 2
    )
    assert numbers(DataLoader(data, 100)) == [list(range(10))]
    assert len(numbers(DataLoader(data, 11, drop_last=True))) == 0


def test_workers_are_taken_and_change_nothing():
    data = TensorDataset(nnlib.arange(5))
    loader = DataLoader(data, 2, num_workers=2, pin_memory=True)
    assert [batch.tolist() for (batch,) in loader] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("data", [rows(100), Squares(100)], ids=["whole", "by sample"])
def test_shuffle(data):
    first = DataLoader(data, 7, shuffle=True, generator=3)
    again = DataLoader(data, 7, shuffle=True, generator=Generator().manual_seed(3))
    one, two = (sum(numbers(first), []) for _ in range(2))
    assert sorted(one) == sorted(two) == list(range(100))
    assert one != two != list(range(100))
    assert [sum(numbers(again), []) for _ in range(2)] == [one, two]
    other = DataLoader(data, 7, shuffle=True, generator=4)
    assert sum(numbers(other), []) != one


def test_manual_seed_decides_the_order():
    orders = []
    for _ in range(2):
        manual_seed(5)
        loader = DataLoader(rows(), 10, shuffle=True)
        orders.append(numbers(loader) + numbers(loader))
        other = DataLoader(rows(), 10, shuffle=True)
        assert numbers(other) != numbers(loader)
    assert orders[0] == orders[1]


def test_a_loader_leaves_the_default_generator_alone():
    manual_seed(5)
    loader = DataLoader(rows(), 3, shuffle=True)
    state = default_generator.get_state()
    numbers(loader)
    assert default_generator.get_state() == state


def test_a_loader_can_be_copied_in_the_middle_of_its_orders():
    loader = DataLoader(rows(), 3, shuffle=True, generator=7)
    numbers(loader)
    copies = [copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))]
    following = numbers(loader)
    assert [numbers(other) for other in copies] == [following, following]


def test_permutations_are_uniform():
    generator = Generator().manual_seed(0)
    first = np.array([permutation(5, generator) for _ in range(5000)])
    counts = np.array([np.bincount(first[:, k], minlength=5) for k in range(5)])
    assert abs(counts - 1000).max() < 150  # five standard deviations
    # fixed for all time: NumPy promises the words of Philox
    assert permutation(6, Generator().manual_seed(1)).tolist() == [3, 5, 2, 0, 1, 4]


def test_rows_are_copied():
    data = rows()
    (batch, _) = next(iter(DataLoader(data, 4)))
    batch.array[:] = -1
    assert data.tensors[0].tolist() == list(range(10))


def test_samplers():
    data = rows()
    assert numbers(DataLoader(data, 3, sampler=[4, 4, 1])) == [[4, 4, 1]]
    assert list(SequentialSampler(data)) == list(range(10))
    sampler = RandomSampler(data, generator=0)
    assert sorted(sampler) == list(range(10)) and len(sampler) == 10
    assert numbers(DataLoader(data, 3, sampler=[-1])) == [[9]]
    generated = DataLoader(data, 3, sampler=(i for i in [1, 2]))
    with pytest.raises(DTypeError, match="sampler has no length"):
        len(generated)
    assert numbers(generated) == [[1, 2]]


@pytest.mark.parametrize("data", [rows(), Squares(), Subset(rows(20), range(10))])
def test_bad_index_of_a_sampler(data):
    with pytest.raises(IndexError, match="index 10 at position 1 .* 10 samples"):
        numbers(DataLoader(data, 2, sampler=[0, 10]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size: expected an integer or None, got 2.0"),
        ({"shuffle": True, "sampler": [1]}, "shuffle or a sampler, got both"),
        ({"shuffle": True, "generator": "x"}, "expected a Generator, a seed or None"),
    ],
)
def test_bad_loader(arguments, message):
    with pytest.raises((ShapeError, DTypeError), match=message):
        DataLoader(rows(), **arguments)


def test_empty_data_set():
    with pytest.raises(ShapeError, match="the data set is empty"):
        DataLoader(rows(0))


def test_bad_tensor_dataset():
    with pytest.raises(ShapeError, match="at least one tensor"):
        TensorDataset()
    with pytest.raises(ShapeError, match=r"first dimension, got shapes \(3,\), \(2,\)"):
        TensorDataset(np.zeros(3), np.zeros(2))
    with pytest.raises(ShapeError, match="one first dimension"):
        TensorDataset(np.zeros(()))


def test_subset_of_subset_takes_whole_batches():
    outer = Subset(rows(20), np.arange(5, 20))
    inner = Subset(outer, [0, 2, 14])
    assert numbers(DataLoader(inner, 2)) == [[5, 7], [19]]
    assert inner[1][0].item() == 7
    by_sample = Subset(Squares(20), [3, 4])
    assert numbers(DataLoader(by_sample, 2)) == [[3, 4]]
    with pytest.raises(DTypeError, match="sequence of integers"):
        Subset(rows(), [0.5])
    with pytest.raises(DTypeError, match="sequence of integers"):
        Subset(rows(), np.array([True, False]))


def test_images_as_batches():
    images, labels = next(iter(DataLoader(Digits(), 5)))
    assert images.dtype == np.uint8 and tuple(images.shape) == (5, 8, 8)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 2, 3, 4]


def test_random_split():
    parts = random_split(rows(), [5, 3, 2], generator=1)
    assert [len(part) for part in parts] == [5, 3, 2]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(10))
    again = random_split(rows(), [5, 3, 2], generator=1)
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]
    sizes = [len(part) for part in random_split(rows(), [1 / 3, 1 / 3, 1 / 3])]
    assert sizes == [4, 3, 3]
    for lengths in ([5, 4], [0.5, 0.4], [11, -1], [5.5, 4.5]):
        with pytest.raises(ShapeError, match="lengths"):
            random_split(rows(), lengths)


def test_train_val_test_split():
    data = rows(100)
    parts = train_val_test_split(data, 0.2, 0.1, generator=0)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(100))
    with pytest.raises(ShapeError, match="leave some for training"):
        train_val_test_split(data, 0.5, 0.5)


def test_stratified_split_keeps_the_proportions():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    parts = train_val_test_split(rows(100), 0.2, 0.1, stratify=labels, generator=0)
    for part, wanted in zip(parts, [(35, 21, 14), (10, 6, 4), (5, 3, 2)], strict=True):
        assert abs(np.bincount(labels[part.indices]) - wanted).max() <= 1
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(100))
    with pytest.raises(ShapeError, match=r"stratify: expected shape \(100,\)"):
        train_val_test_split(rows(100), stratify=labels[:5])


Point = namedtuple("Point", "x y")


def test_default_collate():
    tensors = default_collate([nnlib.tensor([1.0, 2.0]), nnlib.tensor([3.0, 4.0])])
    assert tensors.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert default_collate([1.5, 2.5]).dtype == np.float32
    assert default_collate([np.float64(1.5)]).dtype == np.float64
    assert default_collate([1, 2]).dtype == np.int64
    assert default_collate([True, False]).dtype == np.bool_
    assert default_collate(["a", "b"]) == ["a", "b"]
    batch = default_collate([{"x": 1, "y": (2, [3.0])}, {"x": 4, "y": (5, [6.0])}])
    assert batch["x"].tolist() == [1, 4]
    assert batch["y"][0].tolist() == [2, 5] and batch["y"][1][0].tolist() == [3.0, 6.0]
    point = default_collate([Point(1, 2), Point(3, 4)])
    assert isinstance(point, Point) and point.y.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "the batch is empty"),
        ([np.zeros(2), np.zeros(3)], r"different shapes: \(2,\), \(3,\)"),
        ([(1, 2), (1,)], r"samples have \[1, 2\] fields"),
        ([object()], "got object; pass a collate_fn"),
    ],
)
def test_bad_collate(samples, message):
    with pytest.raises((ShapeError, DTypeError), match=message):
        default_collate(samples)


def test_collate_fn():
    loader = DataLoader(rows(), 4, collate_fn=len)
    assert list(loader) == [4, 4, 2]


def test_dataset_names_what_is_missing():
    with pytest.raises(NotImplementedError, match="Bare defines no __getitem__"):
        type("Bare", (Dataset,), {})()[0]
    with pytest.raises(NotImplementedError, match="Bare defines no __len__"):
        len(type("Bare", (Dataset,), {})())


def test_scaling():
    pixels = np.array([[0, 255], [51, 102]], np.uint8)
    np.testing.assert_allclose(scale_images(pixels), [[0, 1], [0.2, 0.4]], rtol=1e-6)
    got = scale_images(pixels, mean=0.5, std=0.25)
    np.testing.assert_allclose(got, [[-2, 2], [-1.2, -0.4]], rtol=1e-5)
    assert got.dtype == np.float32


def test_standardizer():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, [1.0, 5.0, 0.0], (200, 3)).astype(np.float32)
    scaler = Standardizer().fit(values)
    scaled = scaler(values)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(scaler.inverse(scaled), values, rtol=1e-4)
    images = rng.integers(0, 255, (5, 3, 4, 4)).astype(np.uint8)
    per_channel = Standardizer(axis=(0, 2, 3)).fit(images)
    assert per_channel.mean.shape == (1, 3, 1, 1)
    with pytest.raises(RuntimeError, match="call fit"):
        Standardizer()(values)
    with pytest.raises(ShapeError, match="at least one value"):
        Standardizer().fit(np.zeros((0, 3)))


@pytest.mark.cuda
def test_batches_are_cut_on_the_device():
    data = rows(100).to("cuda")
    loader = DataLoader(data, 32, shuffle=True, generator=3)
    batches = list(loader)
    assert all(part.is_cuda for batch in batches for part in batch)
    on_cpu = list(DataLoader(rows(100), 32, shuffle=True, generator=3))
    for mine, theirs in zip(batches, on_cpu, strict=True):
        assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]
    with pytest.raises(nnlib.DeviceError, match="on one device, got cpu and cuda:0"):
        TensorDataset(data.tensors[0], np.arange(100))
