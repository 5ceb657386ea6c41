"""Batches from a data set, in order or shuffled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import get_default_dtype
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.dataset import BatchDataset, Dataset, IterableDataset, Subset
from nnlib.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    numbers_of,
)

__all__ = ["DataLoader", "default_collate"]

T = TypeVar("T")


class DataLoader(Generic[T]):
    """Iterate over a data set in batches; each iteration is one epoch.

    Parameters
    ----------
    dataset : Dataset, IterableDataset or sequence
        Anything with ``__getitem__`` and ``__len__``; or a stream of samples, which are
        taken as they come.
    batch_size : int or None, default 1
        Samples per batch; the last batch may have fewer. None: single samples.
    shuffle : bool, default False
        Visit the samples in a new random order in each epoch.
    sampler : iterable of int, optional
        The order of samples, instead of `shuffle`; iterated anew in each epoch. With
        ``batch_size=None`` a `BatchSampler`, too: the data set is indexed by lists.
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
    batch_sampler : iterable of sequences of int, optional
        The numbers of each batch, instead of `batch_size`, `shuffle`, `sampler` and
        `drop_last`.
    num_workers : int, default 0
    pin_memory, persistent_workers : bool, default False
    worker_init_fn, prefetch_factor, timeout, multiprocessing_context : optional
    pin_memory_device, in_order : optional
        Taken, so that PyTorch code runs, and without effect: the batches are the same,
        made in this process.

    Raises
    ------
    ShapeError
        If the batch size is not positive, or the data set is empty.
    ArgumentError
        If arguments exclude each other.
    BoundsError
        While iterating, if a number of the order is no sample's.

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
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[T]], Any] | None = None,
        generator: Generator | int | None = None,
        transform: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        persistent_workers: bool = False,
        worker_init_fn: Any = None,
        prefetch_factor: int | None = None,
        timeout: float = 0,
        multiprocessing_context: Any = None,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_size(batch_size)
        if shuffle and sampler is not None:
            raise ShapeError("DataLoader: expected shuffle or a sampler, got both")
        chosen = shuffle or sampler is not None or drop_last
        if batch_sampler is not None and (batch_size != 1 or chosen):
            raise ArgumentError(
                "DataLoader: batch_sampler: expected none of batch_size, shuffle, "
                "sampler and drop_last beside it"
            )
        if batch_size is None and drop_last:
            raise ArgumentError("DataLoader: drop_last: expected a batch_size with it")
        self._streams = isinstance(dataset, IterableDataset)
        ordered = shuffle or sampler is not None or batch_sampler is not None
        if self._streams and ordered:
            raise ArgumentError(
                f"DataLoader: {type(dataset).__name__} gives its samples in its own "
                "order: expected no shuffle, sampler or batch_sampler"
            )
        if not self._streams and len(dataset) == 0:
            raise ShapeError("DataLoader: the data set is empty")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform
        self.batch_sampler = batch_sampler
        self.sampler: Iterable[int]
        if sampler is not None:
            self.sampler = sampler
        elif shuffle:
            self.sampler = RandomSampler(dataset, generator=generator)
        else:
            self.sampler = SequentialSampler(dataset)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        order = self.sampler if self.batch_sampler is None else self.batch_sampler
        if not isinstance(order, Sized):
            raise DTypeError("DataLoader: the sampler has no length")
        count = len(order)
        if self.batch_sampler is not None or self.batch_size is None:
            return count
        full, rest = divmod(count, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of one epoch."""
        batches: Iterator[Any]
        if self._streams:
            batches = self._of_stream()
        elif self.batch_sampler is not None:
            batches = map(self._batch, self.batch_sampler)
        elif self.batch_size is None:
            batches = map(self._convert, map(self._item, self._keys()))
        else:
            batches = self._in_order(self.batch_size)
        return batches if self.transform is None else map(self.transform, batches)

    def _convert(self, sample: Any) -> Any:
        if self.collate_fn is not None:
            return self.collate_fn(sample)
        return as_tensor(sample) if isinstance(sample, np.ndarray) else sample

    def _keys(self) -> Iterator[Any]:
        """Yield what the data set is indexed by where there are no batches."""
        if not isinstance(self.sampler, BatchSampler):
            yield from self._order().tolist()
            return
        for numbers in self.sampler:
            order = numbers_of("DataLoader: sampler", numbers)
            _check_range(order, len(self.dataset))
            yield order.tolist()

    def _item(self, key: Any) -> Any:
        return self.dataset[key]

    def _batch(self, numbers: Iterable[int]) -> Any:
        """Return the batch of these numbers."""
        order = numbers_of("DataLoader: batch_sampler", numbers)
        _check_range(order, len(self.dataset))
        base, order = self._chosen(order)
        _check_range(order, len(base))
        if self.collate_fn is None and isinstance(base, BatchDataset):
            return base.get_batch(base.place(order))
        collate = self.collate_fn or default_collate
        return collate([base[number] for number in order.tolist()])

    def _chosen(self, order: NDArray[np.int64]) -> tuple[Any, NDArray[np.int64]]:
        """Return the data set that subsets choose from, and the order in it."""
        base: Any = self.dataset
        # exactly Subset: a subclass may do more than choose
        while type(base) is Subset:
            order, base = base.indices[order], base.dataset
        return base, order

    def _of_stream(self) -> Iterator[Any]:
        """Yield batches of a stream."""
        collate = self.collate_fn or default_collate
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self._convert, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield collate(batch)

    def _in_order(self, size: int) -> Iterator[Any]:
        """Return batches of `size` in the sampler's order."""
        order = self._order()
        stop = len(order)
        if self.drop_last:
            stop -= stop % size
        base, order = self._chosen(order)
        _check_range(order, len(base))
        if self.collate_fn is None and isinstance(base, BatchDataset):
            return self._whole_batches(base, base.place(order), stop, size)
        return self._by_sample(base, order, stop, size)

    def _order(self) -> NDArray[np.int64]:
        if isinstance(self.sampler, Sampler):
            order = self.sampler.epoch()
        else:
            order = numbers_of("DataLoader: sampler", self.sampler)
        _check_range(order, len(self.dataset))
        return order

    def _whole_batches(
        self, data: BatchDataset[Any], order: Any, stop: int, size: int
    ) -> Iterator[Any]:
        for start in range(0, stop, size):
            yield data.get_batch(order[start : start + size])

    def _by_sample(
        self, data: Dataset[Any], order: NDArray[np.int64], stop: int, size: int
    ) -> Iterator[Any]:
        collate = self.collate_fn or default_collate
        for start in range(0, stop, size):
            numbers = order[start : start + size].tolist()
            yield collate([data[number] for number in numbers])


def _check_size(batch_size: int | None) -> None:
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
        raise DTypeError(
            f"DataLoader: batch_size: expected an integer or None, got {batch_size!r}"
        )
    if batch_size < 1:
        raise ShapeError(
            f"DataLoader: batch_size: expected at least 1, got {batch_size}"
        )


def _check_range(order: NDArray[np.int64], size: int) -> None:
    # once per epoch and on the host: CuPy would wrap an index without a word
    bad = np.flatnonzero((order < -size) | (order >= size))
    if len(bad):
        raise BoundsError(
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
        with context_of(first.array):
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
