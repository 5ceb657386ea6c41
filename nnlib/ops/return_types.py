"""The named tuples that operations with several results return."""

from __future__ import annotations

from typing import NamedTuple

from nnlib.autograd.tensor import Tensor

__all__: list[str] = []


class ValuesIndices(NamedTuple):
    """Values, and where in the reduced or sorted dimension they were."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """The smallest and the largest value."""

    min: Tensor
    max: Tensor


class Histogram(NamedTuple):
    """What fell into the bins, and where they begin and end."""

    hist: Tensor
    bin_edges: Tensor


class HistogramDD(NamedTuple):
    """What fell into the cells, and where these begin and end along each dimension."""

    hist: Tensor
    bin_edges: tuple[Tensor, ...]
