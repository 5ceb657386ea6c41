"""Batches from a data set, in order or shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import get_default_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.dataset import BatchDataset, Dataset, Subset
from nnlib.data.order import as_generator, permutation

__all__ = [
    "DataLoader",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "default_collate",
]

T = TypeVar("T")


class Sampler:
    """An order of samples: override ``__iter__`` (numbers) and ``__len__``."""

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of one epoch's samples."""
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__")

    def __len__(self) -> int:
        """Return how many numbers one epoch has."""
        raise NotImplementedError(f"{type(self).__name__} defines no __len__")

    def epoch(self) -> NDArray[np.int64]:
        """Return the numbers of one epoch as an array."""
        return np.fromiter(self, dtype=np.int64)


class SequentialSampler(Sampler):
    """Every sample once, in order."""

    def __init__(self, data: Sized) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        """Yield 0, 1, 2, ..."""
        return iter(range(len(self.data)))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def epoch(self) -> NDArray[np.int64]:
        """Return 0, 1, 2, ... as an array."""
        return np.arange(len(self.data), dtype=np.int64)


class RandomSampler(Sampler):
    """Every sample once, in an order that is new in each epoch.

    Parameters
    ----------
    data : Sized
        The data set.
    generator : Generator or int, optional
        The source of the orders, or its seed. Without it the sampler seeds one of its
        own from the default generator, so that ``nnlib.manual_seed`` decides.
    """

    def __init__(self, data: Sized, generator: Generator | int | None = None) -> None:
        self.data = data
        self.generator = as_generator(generator)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of a new order."""
        return iter(self.epoch().tolist())

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def epoch(self) -> NDArray[np.int64]:
        """Return a new order as an array."""
        return permutation(len(self.data), self.generator)


class DataLoader(Generic[T]):
    """Iterate over a data set in batches; each iteration is one epoch.

    Parameters
    ----------
    dataset : Dataset or sequence
        Anything with ``__getitem__`` and ``__len__``.
    batch_size : int, default 1
        Samples per batch; the last batch may have fewer.
    shuffle : bool, default False
        Visit the samples in a new random order in each epoch.
    sampler : iterable of int, optional
        The order of samples, instead of `shuffle`; iterated anew in each epoch.
    drop_last : bool, default False
        Leave out a last batch that is not full.
    collate_fn : callable, optional
        From a list of samples to a batch. By default tensors, arrays and numbers are
        stacked into Tensors, within tuples and dicts as well; a data set of tensors is
        indexed once per batch instead.
    generator : Generator or int, optional
        The source of the shuffled orders, or its seed (see `RandomSampler`).
    transform : callable, optional
        From a batch to the batch that is handed out: `nnlib.data.augment` has some.
    num_workers : int, default 0
    pin_memory : bool, default False
        Taken, so that PyTorch code runs, and without effect: the batches are the same,
        made in this process.

    Raises
    ------
    ShapeError
        If the batch size is not positive, or the data set is empty.

    Examples
    --------
    >>> from nnlib.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2)
    >>> [batch.tolist() for (batch,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset[T],
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[T]], Any] | None = None,
        generator: Generator | int | None = None,
        transform: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise DTypeError(
                f"DataLoader: batch_size: expected an integer, got {batch_size!r}"
            )
        if batch_size < 1:
            raise ShapeError(
                f"DataLoader: batch_size: expected at least 1, got {batch_size}"
            )
        if shuffle and sampler is not None:
            raise ShapeError("DataLoader: expected shuffle or a sampler, got both")
        if len(dataset) == 0:
            raise ShapeError("DataLoader: the data set is empty")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform
        self.sampler: Iterable[int]
        if sampler is not None:
            self.sampler = sampler
        elif shuffle:
            self.sampler = RandomSampler(dataset, generator)
        else:
            self.sampler = SequentialSampler(dataset)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        if not isinstance(self.sampler, Sized):
            raise DTypeError("DataLoader: the sampler has no length")
        samples = len(self.sampler)
        return samples // self.batch_size if self.drop_last else self._ceil(samples)

    def _ceil(self, samples: int) -> int:
        return -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of one epoch."""
        order = self._order()
        stop = len(order)
        if self.drop_last:
            stop -= stop % self.batch_size
        base: Any = self.dataset
        # exactly Subset: a subclass may do more than choose
        while type(base) is Subset:
            order, base = base.indices[order], base.dataset
        _check_range(order, len(base))
        if self.collate_fn is None and isinstance(base, BatchDataset):
            batches = self._whole_batches(base, base.place(order), stop)
        else:
            batches = self._by_sample(base, order, stop)
        return batches if self.transform is None else map(self.transform, batches)

    def _order(self) -> NDArray[np.int64]:
        if isinstance(self.sampler, Sampler):
            order = self.sampler.epoch()
        else:
            order = np.fromiter(self.sampler, dtype=np.int64)
        _check_range(order, len(self.dataset))
        return order

    def _whole_batches(
        self, data: BatchDataset[Any], order: Any, stop: int
    ) -> Iterator[Any]:
        for start in range(0, stop, self.batch_size):
            yield data.get_batch(order[start : start + self.batch_size])

    def _by_sample(
        self, data: Dataset[Any], order: NDArray[np.int64], stop: int
    ) -> Iterator[Any]:
        collate = self.collate_fn or default_collate
        for start in range(0, stop, self.batch_size):
            numbers = order[start : start + self.batch_size].tolist()
            yield collate([data[number] for number in numbers])


def _check_range(order: NDArray[np.int64], size: int) -> None:
    # once per epoch and on the host: CuPy would wrap an index without a word
    bad = np.flatnonzero((order < -size) | (order >= size))
    if len(bad):
        raise IndexError(
            f"DataLoader: index {order[bad[0]]} at position {bad[0]} of the order is "
            f"out of range for {size} samples"
        )


def default_collate(samples: list[Any]) -> Any:
    """Stack a list of samples into a batch.

    Tensors, arrays and numbers become one Tensor with a new first axis (Python floats
    in the default dtype); tuples, lists and dicts are stacked item by item; strings
    are kept as a list.

    Raises
    ------
    ShapeError
        If there is no sample, or shapes or lengths differ between samples.
    DTypeError
        If a sample is of another type.

    Examples
    --------
    >>> x, y = default_collate([(1.5, 0), (2.5, 1)])
    >>> x.tolist(), y.tolist()
    ([1.5, 2.5], [0, 1])
    """
    if not samples:
        raise ShapeError("default_collate: the batch is empty")
    first = samples[0]
    if isinstance(first, Tensor):
        xp = array_module(first.array)
        return as_tensor(_stack(xp, [sample.array for sample in samples]))
    if isinstance(first, np.ndarray):
        return as_tensor(_stack(np, samples))
    if isinstance(first, bool | int | np.generic):
        return as_tensor(np.asarray(samples))
    if isinstance(first, float):
        return as_tensor(np.asarray(samples, dtype=get_default_dtype()))
    if isinstance(first, str | bytes):
        return list(samples)
    if isinstance(first, dict):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, tuple | list):
        return _collate_fields(samples, first)
    raise DTypeError(
        f"default_collate: expected tensors, arrays, numbers, strings, or tuples, "
        f"lists and dicts of these, got {type(first).__name__}; pass a collate_fn"
    )


def _collate_fields(samples: list[Any], first: tuple[Any, ...] | list[Any]) -> Any:
    lengths = {len(sample) for sample in samples}
    if len(lengths) != 1:
        raise ShapeError(
            f"default_collate: samples have {sorted(lengths)} fields; expected as many "
            f"in each"
        )
    fields = [default_collate(list(field)) for field in zip(*samples, strict=True)]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*fields)
    return type(first)(fields)


def _stack(xp: Any, arrays: list[Any]) -> Any:
    shapes = {tuple(array.shape) for array in arrays}
    if len(shapes) != 1:
        raise ShapeError(
            f"default_collate: samples have different shapes: "
            f"{', '.join(map(str, sorted(shapes)))}; pass a collate_fn that pads them"
        )
    return xp.stack(arrays)
