"""Data sets: samples by number, and ways to divide them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, context_of, resolve_device
from nnlib.backend.errors import (
    ArgumentError,
    BoundsError,
    DeviceError,
    DTypeError,
    ShapeError,
)
from nnlib.backend.random import Generator
from nnlib.data.order import as_generator, permutation

__all__ = [
    "BatchDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "Subset",
    "TensorDataset",
    "random_split",
    "train_val_test_split",
]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by number: override ``__getitem__`` and ``__len__``.

    Examples
    --------
    >>> class Squares(Dataset[int]):
    ...     def __getitem__(self, index: int) -> int:
    ...         return index * index
    ...
    ...     def __len__(self) -> int:
    ...         return 4
    >>> list(Squares())
    [0, 1, 4, 9]
    """

    def __getitem__(self, index: int) -> T_co:
        """Return the sample of number `index`."""
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__")

    def __len__(self) -> int:
        """Return the number of samples."""
        raise NotImplementedError(f"{type(self).__name__} defines no __len__")

    def __iter__(self) -> Iterator[T_co]:
        """Yield every sample in order."""
        return (self[index] for index in range(len(self)))

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        """Return this data set and then the other."""
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples that come one after another: override ``__iter__`` alone.

    For what has no numbers and no length: a stream, a file read line by line.

    Examples
    --------
    >>> class Lines(IterableDataset[str]):
    ...     def __iter__(self):
    ...         yield from ("first", "second")
    >>> list(Lines())
    ['first', 'second']
    """

    def __iter__(self) -> Iterator[T_co]:
        """Yield the samples of one epoch."""
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__")

    def __getitem__(self, index: int) -> T_co:
        """Refuse: the samples have no numbers."""
        raise DTypeError(f"{type(self).__name__}: its samples have no numbers")

    def __len__(self) -> int:
        """Refuse, unless a subclass knows how many samples there are."""
        raise DTypeError(f"{type(self).__name__}: it has no length")


class ConcatDataset(Dataset[T_co]):
    """Several data sets, one after the other; ``first + second`` makes one too.

    Raises
    ------
    ArgumentError
        If there is no data set.
    DTypeError
        If one is an `IterableDataset`.

    Examples
    --------
    >>> both = ConcatDataset([TensorDataset(np.arange(3)), TensorDataset(np.arange(9))])
    >>> len(both), both[4][0].item(), both[-1][0].item()
    (12, 1, 8)
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset: datasets: expected at least one")
        for number, dataset in enumerate(self.datasets):
            if isinstance(dataset, IterableDataset):
                raise DTypeError(
                    f"ConcatDataset: datasets: number {number} is a stream, "
                    f"{type(dataset).__name__}, whose samples have no numbers"
                )
        lengths = [len(dataset) for dataset in self.datasets]
        self.cumulative_sizes = np.cumsum(lengths).tolist()

    def __len__(self) -> int:
        """Return the number of samples of all."""
        return int(self.cumulative_sizes[-1])

    def __getitem__(self, index: int) -> T_co:
        """Return sample `index`, counted through all data sets."""
        size = len(self)
        if not -size <= index < size:
            raise BoundsError(
                f"ConcatDataset: index {index} is out of range for {size} samples"
            )
        index %= size
        part = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][index - before]


class BatchDataset(Dataset[T_co]):
    """A data set that hands out whole batches, without a Python loop over samples."""

    def place(self, indices: NDArray[np.int64]) -> Any:
        """Return `indices` where `get_batch` wants them (a CUDA device, perhaps)."""
        return indices

    def get_batch(self, indices: Any) -> tuple[Tensor, ...]:
        """Return the samples of numbers `indices`, stacked along a first axis."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_batch")


class TensorDataset(BatchDataset[tuple[Tensor, ...]]):
    """Tensors that share their first dimension; a sample is one row of each.

    Parameters
    ----------
    *tensors : Tensor or array_like
        Each of shape ``(N, ...)``, all on one device.

    Raises
    ------
    ShapeError
        If there is no tensor, or their first dimensions differ.
    DeviceError
        If they lie on different devices.

    Examples
    --------
    >>> data = TensorDataset(np.arange(6.0).reshape(3, 2), np.array([0, 1, 0]))
    >>> len(data), data[1][0].tolist()
    (3, [2.0, 3.0])
    """

    def __init__(self, *tensors: Tensor | ArrayLike) -> None:
        if not tensors:
            raise ShapeError("TensorDataset: expected at least one tensor, got none")
        self.tensors = tuple(as_tensor(item) for item in tensors)
        shapes = [tuple(item.shape) for item in self.tensors]
        if any(not shape for shape in shapes) or len({s[0] for s in shapes}) != 1:
            raise ShapeError(
                f"TensorDataset: expected tensors of one first dimension, got shapes "
                f"{', '.join(map(str, shapes))}"
            )
        devices = {str(item.device) for item in self.tensors}
        if len(devices) != 1:
            raise DeviceError(
                f"TensorDataset: expected tensors on one device, got "
                f"{' and '.join(sorted(devices))}"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.tensors[0].shape[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return row `index` of each tensor."""
        return tuple(as_tensor(item.array[index]) for item in self.tensors)

    def place(self, indices: NDArray[np.int64]) -> Any:
        """Return `indices` on the tensors' device."""
        return as_tensor(indices).to(self.tensors[0].device).array

    def get_batch(self, indices: Any) -> tuple[Tensor, ...]:
        """Return the rows `indices` of each tensor, copied."""
        with context_of(self.tensors[0].array):
            return tuple(
                as_tensor(item.array.take(indices, 0)) for item in self.tensors
            )

    def to(self, device: str | Device) -> TensorDataset:
        """Return the same data on `device`."""
        target = resolve_device(device)
        return TensorDataset(*(item.to(target) for item in self.tensors))


class Subset(Dataset[T_co]):
    """Some samples of a data set, in the order of `indices`.

    Parameters
    ----------
    dataset : Dataset
        The whole.
    indices : sequence of int
        Numbers of samples in `dataset`.

    Examples
    --------
    >>> len(Subset(TensorDataset(np.arange(5)), [4, 0]))
    2
    """

    def __init__(self, dataset: Dataset[T_co], indices: ArrayLike) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices)
        if self.indices.size == 0:
            self.indices = self.indices.astype(np.int64)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            raise DTypeError(
                f"Subset: indices: expected a sequence of integers, got shape "
                f"{self.indices.shape} of {self.indices.dtype}"
            )
        self.indices = self.indices.astype(np.int64, copy=False)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> T_co:
        """Return sample ``indices[index]`` of the whole."""
        return self.dataset[int(self.indices[index])]


def random_split(
    dataset: Dataset[T_co],
    lengths: Sequence[int | float],
    generator: Generator | int | None = None,
) -> list[Subset[T_co]]:
    """Divide a data set at random into parts that share no sample.

    Parameters
    ----------
    dataset : Dataset
        What to divide.
    lengths : sequence of int or of float
        The parts' sizes, adding up to ``len(dataset)``; or fractions adding up to 1,
        where samples left over by rounding down go to the first parts, one each.
    generator : Generator or int, optional
        The source of the order, or its seed.

    Raises
    ------
    ShapeError
        If the lengths do not add up.

    Examples
    --------
    >>> parts = random_split(TensorDataset(np.arange(10)), [0.7, 0.3], generator=0)
    >>> [len(part) for part in parts]
    [7, 3]
    """
    total = len(dataset)
    sizes = _sizes(lengths, total)
    order = permutation(total, as_generator(generator))
    bounds = np.cumsum(sizes)[:-1]
    return [Subset(dataset, part) for part in np.split(order, bounds)]


def _sizes(lengths: Sequence[int | float], total: int) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ShapeError(f"random_split: lengths: got a negative one in {lengths}")
    if abs(sum(lengths) - 1.0) < 1e-6 and total != 1:
        sizes = [int(total * length) for length in lengths]
        for extra in range(total - sum(sizes)):
            sizes[extra % len(sizes)] += 1
        return sizes
    if sum(lengths) != total or any(length != int(length) for length in lengths):
        raise ShapeError(
            f"random_split: lengths: expected integers that add up to {total}, or "
            f"fractions that add up to 1, got {list(lengths)}"
        )
    return [int(length) for length in lengths]


def train_val_test_split(
    dataset: Dataset[T_co],
    validation: float = 0.1,
    test: float = 0.1,
    *,
    stratify: ArrayLike | None = None,
    generator: Generator | int | None = None,
) -> tuple[Subset[T_co], Subset[T_co], Subset[T_co]]:
    """Divide a data set at random for training, validation and test.

    Parameters
    ----------
    dataset : Dataset
        What to divide.
    validation, test : float, default 0.1
        The fraction of each; training gets the rest.
    stratify : array_like, optional
        The class of each sample, ``(N,)``: every part then holds the classes in the
        proportions of the whole, but for rounding.
    generator : Generator or int, optional
        The source of the order, or its seed.

    Returns
    -------
    train, validation, test : Subset

    Raises
    ------
    ShapeError
        If the fractions leave nothing for training, or `stratify` has another length.

    Examples
    --------
    >>> data = TensorDataset(np.arange(10))
    >>> [len(part) for part in train_val_test_split(data, 0.2, 0.1, generator=0)]
    [7, 2, 1]
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ShapeError(
            f"train_val_test_split: expected fractions from 0 that leave some for "
            f"training, got validation={validation} and test={test}"
        )
    total = len(dataset)
    order = permutation(total, as_generator(generator))
    if stratify is not None:
        order = _spread_classes(order, np.asarray(stratify))
    n_validation, n_test = round(total * validation), round(total * test)
    bounds = [n_test, n_test + n_validation]
    test_part, validation_part, train_part = np.split(order, bounds)
    if stratify is not None:
        train_part = np.sort(train_part)
    return (
        Subset(dataset, train_part),
        Subset(dataset, validation_part),
        Subset(dataset, test_part),
    )


def _spread_classes(
    order: NDArray[np.int64], classes: NDArray[Any]
) -> NDArray[np.int64]:
    """Reorder so that any stretch holds each class in its proportion.

    The k-th of the n samples of a class goes to position ``(k + 1/2) / n`` of the
    whole.
    """
    if classes.shape != order.shape:
        raise ShapeError(
            f"train_val_test_split: stratify: expected shape {order.shape}, got "
            f"{classes.shape}"
        )
    position = np.empty(len(order))
    shuffled = classes[order]
    for value in np.unique(shuffled):
        members = np.flatnonzero(shuffled == value)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(position, kind="stable")]
