"""Data sets side by side and one after another, and small helpers of PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nnlib.autograd.construct import as_tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.data.dataset import Dataset, IterableDataset

__all__ = ["ChainDataset", "StackDataset", "default_convert", "get_worker_info"]


class ChainDataset(IterableDataset[Any]):
    """Several streams, one after the other.

    Parameters
    ----------
    datasets : iterable of IterableDataset

    Raises
    ------
    DTypeError
        If one is no `IterableDataset` (when it is its turn).

    Examples
    --------
    >>> class Lines(IterableDataset[str]):
    ...     def __iter__(self):
    ...         yield from ("first", "second")
    >>> list(ChainDataset([Lines(), Lines()]))
    ['first', 'second', 'first', 'second']
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def _streams(self) -> Iterator[Any]:
        for number, dataset in enumerate(self.datasets):
            if not isinstance(dataset, IterableDataset):
                raise DTypeError(
                    f"ChainDataset: datasets: number {number}: expected an "
                    f"IterableDataset, got {type(dataset).__name__}"
                )
            yield dataset

    def __iter__(self) -> Iterator[Any]:
        """Yield the samples of all."""
        for dataset in self._streams():
            yield from dataset

    def __len__(self) -> int:
        """Return the number of samples, where all streams know theirs."""
        return sum(len(dataset) for dataset in self._streams())


class StackDataset(Dataset[Any]):
    """Several data sets side by side: a sample has one part of each.

    Parameters
    ----------
    *args : Dataset
        Samples are tuples.
    **kwargs : Dataset
        Samples are dicts; either these or `args`.

    Raises
    ------
    ArgumentError
        If there is no data set, or some have names and others have none.
    ShapeError
        If their lengths differ.

    Examples
    --------
    >>> pairs = StackDataset(images=["a", "b"], labels=[0, 1])
    >>> pairs[1]
    {'images': 'b', 'labels': 1}
    """

    datasets: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ArgumentError(
                "StackDataset: expected data sets, either all with names or all without"
            )
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in args or kwargs.values()]
        if len(set(lengths)) > 1:
            raise ShapeError(
                f"StackDataset: expected as many samples in each, got {lengths}"
            )
        self._length = lengths[0]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Return sample `index` of all, as a tuple or a dict."""
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)


def default_convert(data: Any) -> Any:
    """Turn arrays into Tensors, in lists, tuples and dicts too; leave the rest.

    What a `DataLoader` without batches (``batch_size=None``) does in PyTorch.

    Examples
    --------
    >>> default_convert({"x": np.arange(2), "y": [3, "name"]})
    {'x': tensor([0, 1]), 'y': [3, 'name']}
    """
    if isinstance(data, np.ndarray | np.generic):
        return data if data.dtype.kind in "USO" else as_tensor(data)
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple | list):
        return type(data)(map(default_convert, data))
    return data


def get_worker_info() -> None:
    """Return None: samples are read by the process itself, there are no workers."""
    return None
