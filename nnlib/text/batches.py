"""Batches of sequences: padding, and batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import get_default_dtype
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.loader import default_collate
from nnlib.data.order import as_generator, permutation
from nnlib.data.samplers import Sampler
from nnlib.ops.dims import number_as

__all__ = ["BucketSampler", "PadCollate", "one_hot", "pad"]


def pad(
    sequences: Sequence[ArrayLike], value: float = 0, *, batch_first: bool = True
) -> tuple[Tensor, Tensor]:
    """Put sequences of different lengths side by side.

    Parameters
    ----------
    sequences : sequence of array_like
        Each of shape ``(length, ...)``, alike but for the lengths.
    value : float, default 0
        What the rest is filled with.
    batch_first : bool, default True
        ``(N, longest, ...)``; otherwise ``(longest, N, ...)``.

    Returns
    -------
    padded : Tensor
    lengths : Tensor
        int64, ``(N,)``.

    Raises
    ------
    ShapeError
        If there is no sequence, or they differ in more than length.
    ArgumentError
        If `value` is a fraction beside integers.
    DTypeError
        If it is beyond the sequences' dtype.

    Examples
    --------
    >>> padded, lengths = pad([[5, 6, 7], [8]])
    >>> padded.tolist(), lengths.tolist()
    ([[5, 6, 7], [8, 0, 0]], [3, 1])
    """
    try:
        arrays = [_as_array(item) for item in sequences]
    except ValueError:
        raise ShapeError(
            "pad: a sequence holds sequences of different lengths; the fields of a "
            "sample are a tuple, not a list"
        ) from None
    if not arrays:
        raise ShapeError("pad: the batch is empty")
    tails = {array.shape[1:] if array.ndim else None for array in arrays}
    if len(tails) != 1 or None in tails:
        shapes = ", ".join(sorted({str(array.shape) for array in arrays}))
        raise ShapeError(
            f"pad: expected sequences that differ in length alone, got shapes {shapes}"
        )
    lengths = np.array([len(array) for array in arrays], np.int64)
    # an empty sequence of no dtype of its own must not make integers floats
    dtype = np.result_type(*([a for a in arrays if a.size] or arrays))
    if dtype.kind in "iu" and value != value // 1:
        raise ArgumentError(f"pad: value: expected an integer for {dtype}, got {value}")
    longest = int(lengths.max())
    shape = len(arrays), longest, *arrays[0].shape[1:]
    padded = np.full(shape, number_as("pad", "value", value, dtype), dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    if not batch_first:
        padded = np.ascontiguousarray(padded.swapaxes(0, 1))  # (N, T) -> (T, N)
    return as_tensor(padded), as_tensor(lengths)


def _as_array(item: Any) -> NDArray[Any]:
    return np.asarray(item.detach().cpu().array if isinstance(item, Tensor) else item)


class PadCollate:
    """A ``collate_fn`` for samples that hold sequences: pads them and adds lengths.

    Parameters
    ----------
    value : float, default 0
        The padding.
    fields : sequence of int, default (0,)
        Which fields of a sample are sequences; the others are stacked as usual.
    batch_first : bool, default True

    Returns
    -------
    tuple
        The sample's fields, each sequence replaced by (padded, lengths).

    Examples
    --------
    >>> (ids, lengths), label = PadCollate()([([1, 2], 0), ([3], 1)])
    >>> ids.tolist(), lengths.tolist(), label.tolist()
    ([[1, 2], [3, 0]], [2, 1], [0, 1])
    """

    def __init__(
        self,
        value: float = 0,
        fields: Sequence[int] = (0,),
        *,
        batch_first: bool = True,
    ) -> None:
        self.value = value
        self.fields = frozenset(fields)
        self.batch_first = batch_first

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch of a list of samples."""
        if not samples:
            raise ShapeError("PadCollate: the batch is empty")
        if not isinstance(samples[0], tuple):
            return pad(samples, self.value, batch_first=self.batch_first)
        counts = sorted({len(sample) for sample in samples})
        if len(counts) > 1:
            raise ShapeError(
                f"PadCollate: samples have different numbers of fields: {counts}"
            )
        if not self.fields <= set(range(counts[0])):
            raise ArgumentError(
                f"PadCollate: fields: expected numbers from 0 to {counts[0] - 1}, got "
                f"{sorted(self.fields)}"
            )
        columns = list(zip(*samples, strict=True))
        return tuple(
            pad(column, self.value, batch_first=self.batch_first)
            if number in self.fields
            else default_collate(list(column))
            for number, column in enumerate(columns)
        )


class BucketSampler(Sampler[int]):
    """An order in which each batch has sequences of about one length.

    The samples are shuffled and cut into pools of `pool` batches; each pool is sorted
    by length and cut into batches; the batches of all pools are shuffled. A last batch
    that is not full stays last, so that a `DataLoader` of this batch size cuts where
    the sampler did.

    Parameters
    ----------
    lengths : array_like
        The length of each sample, ``(N,)``.
    batch_size : int
        As the loader's.
    pool : int, default 50
        Larger: less padding, less chance.
    shuffle : bool, default True
        Otherwise all samples are sorted by length, the order of equal ones kept.
    generator : Generator or int, optional
        The source of the orders, or its seed.

    Raises
    ------
    ShapeError
        If there is no sample, or `lengths` is no vector.
    ArgumentError
        If `batch_size` or `pool` is no integer or below 1.
    DTypeError
        If `lengths` are no integers.

    Examples
    --------
    >>> sampler = BucketSampler([5, 1, 4, 2, 6, 3], 2, generator=0)
    >>> sorted(sampler.epoch().tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        lengths: ArrayLike,
        batch_size: int,
        *,
        pool: int = 50,
        shuffle: bool = True,
        generator: Generator | int | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1 or not len(self.lengths):
            raise ShapeError(
                f"BucketSampler: lengths: expected a vector of at least one, got shape "
                f"{self.lengths.shape}"
            )
        if self.lengths.dtype.kind not in "iu":
            raise DTypeError(
                f"BucketSampler: lengths: expected integers, got {self.lengths.dtype}"
            )
        for name, value in (("batch_size", batch_size), ("pool", pool)):
            if not hasattr(value, "__index__") or value < 1:
                raise ArgumentError(
                    f"BucketSampler: {name}: expected an integer of at least 1, got "
                    f"{value}"
                )
        self.batch_size = int(batch_size)
        self.pool = int(pool)
        self.shuffle = shuffle
        self.generator = as_generator(generator) if shuffle else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of a new order."""
        return iter(self.epoch().tolist())

    def epoch(self) -> NDArray[np.int64]:
        """Return a new order as an array."""
        if self.generator is None:
            return np.argsort(self.lengths, kind="stable").astype(np.int64, copy=False)
        order = permutation(len(self), self.generator)
        step = self.batch_size * self.pool
        pools = [order[start : start + step] for start in range(0, len(order), step)]
        by_length = np.concatenate(
            [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        )
        full = len(order) // self.batch_size
        whole = by_length[: full * self.batch_size].reshape(full, self.batch_size)
        mixed = whole[permutation(full, self.generator)].reshape(-1)
        return np.concatenate([mixed, by_length[full * self.batch_size :]])


def one_hot(ids: ArrayLike | Tensor, size: int) -> Tensor:
    """Return vectors with a one at each number and zeros elsewhere.

    Parameters
    ----------
    ids : array_like of int, any shape
    size : int
        Of the vocabulary.

    Returns
    -------
    Tensor
        In the default dtype, the shape of `ids` and ``(size,)``.

    Raises
    ------
    BoundsError
        If a number is out of range; the value and its position are named.

    Examples
    --------
    >>> one_hot([1, 0], 3).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    numbers = _as_array(ids)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: ids: expected integers, got {numbers.dtype}")
    flat = numbers.reshape(-1).astype(np.int64)
    bad = np.flatnonzero((flat < 0) | (flat >= size))
    if bad.size:
        position = tuple(int(i) for i in np.unravel_index(bad[0], numbers.shape))
        raise BoundsError(
            f"one_hot: ids: {flat[bad[0]]} at {position} is out of range for a "
            f"vocabulary of {size}"
        )
    out = np.zeros((flat.size, size), get_default_dtype())
    out[np.arange(flat.size), flat] = 1
    return as_tensor(out.reshape(*numbers.shape, size))
