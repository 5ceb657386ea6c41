"""Orders of samples: which numbers an epoch visits, one by one or in batches."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.order import as_generator, permutation, uniforms

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


T_co = TypeVar("T_co", covariant=True)


def numbers_of(where: str, order: Iterable[Any]) -> NDArray[np.int64]:
    """Return an order as an array; a float in it is an error, not rounded.

    Raises
    ------
    DTypeError
        If it is no iterable of integers.
    """
    try:
        return np.fromiter(map(operator.index, order), dtype=np.int64)
    except TypeError as error:
        raise DTypeError(f"{where}: expected numbers of samples: {error}") from error


class Sampler(Generic[T_co]):
    """An order of samples: override ``__iter__`` (numbers) and ``__len__``."""

    def __iter__(self) -> Iterator[T_co]:
        """Yield the numbers of one epoch's samples."""
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__")

    def __len__(self) -> int:
        """Return how many numbers one epoch has."""
        raise NotImplementedError(f"{type(self).__name__} defines no __len__")

    def epoch(self) -> NDArray[np.int64]:
        """Return the numbers of one epoch as an array."""
        return numbers_of(type(self).__name__, self)


class SequentialSampler(Sampler[int]):
    """Every sample once, in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data = data_source

    def __iter__(self) -> Iterator[int]:
        """Yield 0, 1, 2, ..."""
        return iter(range(len(self.data)))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def epoch(self) -> NDArray[np.int64]:
        """Return 0, 1, 2, ... as an array."""
        return np.arange(len(self.data), dtype=np.int64)


class RandomSampler(Sampler[int]):
    """Every sample once, in an order that is new in each epoch.

    Parameters
    ----------
    data_source : Sized
        The data set.
    replacement : bool, default False
        Draw each number among all samples, so that some come several times.
    num_samples : int, optional
        How many numbers an epoch has; default as many as samples.
    generator : Generator or int, optional
        The source of the orders, or its seed. Without it the sampler seeds one of its
        own from the default generator, so that ``nnlib.manual_seed`` decides.

    Raises
    ------
    ArgumentError
        If `num_samples` is not positive.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | int | None = None,
    ) -> None:
        if num_samples is not None:
            _check_count("RandomSampler", "num_samples", num_samples)
        self.data = data_source
        self.replacement = replacement
        self._count = num_samples
        self.generator = as_generator(generator)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of a new order."""
        return iter(self.epoch().tolist())

    def __len__(self) -> int:
        """Return how many numbers one epoch has."""
        return len(self.data) if self._count is None else self._count

    def epoch(self) -> NDArray[np.int64]:
        """Return a new order as an array."""
        count, size = len(self), len(self.data)
        if not size:
            return np.empty(0, dtype=np.int64)
        if self.replacement:
            return (uniforms(count, self.generator) * size).astype(np.int64)
        orders = [permutation(size, self.generator) for _ in range(-(-count // size))]
        return orders[0] if count == size else np.concatenate(orders)[:count]


class SubsetRandomSampler(Sampler[int]):
    """The given samples once, in an order that is new in each epoch.

    Parameters
    ----------
    indices : sequence of int
    generator : Generator or int, optional
        As for `RandomSampler`.

    Examples
    --------
    >>> sorted(SubsetRandomSampler([7, 2, 5], generator=0))
    [2, 5, 7]
    """

    def __init__(
        self, indices: ArrayLike, generator: Generator | int | None = None
    ) -> None:
        self.indices = np.asarray(indices)
        if not self.indices.size:  # of no dtype: NumPy makes it float64
            self.indices = self.indices.astype(np.int64)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            raise DTypeError(
                "SubsetRandomSampler: indices: expected a sequence of integers, got "
                f"shape {self.indices.shape} of {self.indices.dtype}"
            )
        self.generator = as_generator(generator)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of a new order."""
        return iter(self.epoch().tolist())

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def epoch(self) -> NDArray[np.int64]:
        """Return a new order as an array."""
        order = self.indices[permutation(len(self.indices), self.generator)]
        return order.astype(np.int64, copy=False)


class WeightedRandomSampler(Sampler[int]):
    """Samples drawn with probabilities in proportion to weights.

    For classes of unequal size: give each sample the reciprocal of its class's size.

    Parameters
    ----------
    weights : sequence of float, shape (N,)
        At least 0, not all 0.
    num_samples : int
        How many numbers an epoch has.
    replacement : bool, default True
        Whether a sample may come several times.
    generator : Generator or int, optional
        As for `RandomSampler`.

    Raises
    ------
    ArgumentError
        If a weight is negative or not finite, or, without replacement, fewer than
        `num_samples` are positive.

    Examples
    --------
    >>> set(WeightedRandomSampler([0.0, 1.0, 3.0], 50, generator=0)) == {1, 2}
    True
    """

    def __init__(
        self,
        weights: ArrayLike,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | int | None = None,
    ) -> None:
        name = type(self).__name__
        _check_count(name, "num_samples", num_samples)
        self.weights = np.asarray(weights, dtype=np.float64)
        if self.weights.ndim != 1:
            raise ShapeError(
                f"{name}: weights: expected shape (N,), got {self.weights.shape}"
            )
        bad = np.flatnonzero(~(self.weights >= 0) | np.isinf(self.weights))
        if len(bad):
            raise ArgumentError(
                f"{name}: weights[{bad[0]}] is {self.weights[bad[0]]}, expected a "
                "finite number of at least 0"
            )
        positive = int(np.count_nonzero(self.weights))
        needed = 1 if replacement else num_samples
        if positive < needed:
            raise ArgumentError(
                f"{name}: weights: expected at least {needed} above 0, got {positive}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = as_generator(generator)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of a new draw."""
        return iter(self.epoch().tolist())

    def __len__(self) -> int:
        """Return how many numbers one epoch has."""
        return self.num_samples

    def epoch(self) -> NDArray[np.int64]:
        """Return a new draw as an array."""
        chosen = np.flatnonzero(self.weights).astype(np.int64, copy=False)
        weights = self.weights[chosen]
        if self.replacement:
            drawn = uniforms(self.num_samples, self.generator)
            sums = np.cumsum(weights)
            places = np.searchsorted(sums, drawn * sums[-1], side="right")
            picked = np.minimum(places, len(chosen) - 1)
        else:
            # The first of independent exponential clocks with these rates.
            clocks = -np.log1p(-uniforms(len(chosen), self.generator)) / weights
            picked = np.argsort(clocks)[: self.num_samples]
        order: NDArray[np.int64] = chosen[picked]
        return order


class BatchSampler(Sampler[list[int]]):
    """The numbers of another sampler, in lists of one length.

    Parameters
    ----------
    sampler : iterable of int
    batch_size : int
    drop_last : bool, default False
        Leave out a last list that is shorter.

    Examples
    --------
    >>> list(BatchSampler(range(5), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, sampler: Iterable[int], batch_size: int, drop_last: bool = False
    ) -> None:
        _check_count("BatchSampler", "batch_size", batch_size)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the numbers of each batch."""
        batch: list[int] = []
        for number in self.sampler:
            batch.append(number)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        if not isinstance(self.sampler, Sized):
            raise DTypeError("BatchSampler: the sampler has no length")
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest > 0 and not self.drop_last)


def _check_count(name: str, argument: str, count: int) -> None:
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not whole or count < 1:
        raise ArgumentError(
            f"{name}: {argument}: expected a positive integer, got {count!r}"
        )
