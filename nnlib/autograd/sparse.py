"""Gradients of which most rows are zero: `RowSparse`.

The gradient of an embedding touches the rows that were looked up. Where a leaf asks for
it (``Embedding(sparse=True)``), its ``grad`` is a `RowSparse`: row numbers and values.
What knows it (accumulation, clipping, the optimisers SGD, Adagrad and SparseAdam) works
on those; to all else it is a Tensor like any other, which becomes dense when it is
first looked into.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np

from nnlib.autograd.attributes import Size
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.layouts import preserve_format

__all__ = ["RowSparse", "is_row_sparse"]


class RowSparse(Tensor):
    """A Tensor of which only some rows are kept, the others being zero.

    Attributes
    ----------
    is_sparse : bool
        False once it has become dense.

    Examples
    --------
    >>> import nnlib
    >>> layer = nnlib.nn.Embedding(1000, 2, sparse=True)
    >>> layer(nnlib.tensor([7, 7])).sum().backward()
    >>> layer.weight.grad.coalesce().indices()
    tensor([[7]])
    >>> layer.weight.grad.coalesce().values()
    tensor([[2., 2.]])
    """

    # The engine asks what it adds to whether it is a view.
    base = None
    # Whether there ever was one: the optimisers need not look for them till then.
    made = False

    def __init__(self, rows: Any, values: Any, shape: tuple[int, ...]) -> None:
        RowSparse.made = True
        self._rows = rows
        self._values = values
        self._size = tuple(shape)
        self._dense: Any = None
        self._unique = False

    # -- what it is ----------------------------------------------------------------

    @property
    def _array(self) -> Any:
        """The dense array: from now on this is what the gradient is."""
        if self._dense is None:
            dense = array_module(self._values).zeros(self._size, self._values.dtype)
            add_rows(dense, self._rows, self._values)
            self._dense = dense
            self._rows = self._values = None
        return self._dense

    @_array.setter
    def _array(self, value: Any) -> None:
        self._dense = value
        self._rows = self._values = None

    @property
    def is_sparse(self) -> bool:
        """Whether only some rows are kept."""
        return self._dense is None

    @property
    def shape(self) -> Size:
        """The lengths of the dimensions, zero rows included."""
        return Size(self._size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        kept = self._values if self._dense is None else self._dense
        return kept.dtype  # type: ignore[no-any-return]

    def coalesce(self) -> RowSparse:
        """Add up the values of equal rows; return itself."""
        if self._dense is None and not self._unique:
            values = self._values.reshape(len(self._rows), math.prod(self._size[1:]))
            self._rows, values = _coalesce(self._rows, values)
            self._values = values.reshape(len(values), *self._size[1:])
            self._unique = True
        return self

    def indices(self) -> Tensor:
        """Return the row numbers, shape (1, N), as PyTorch's sparse tensors do."""
        if self._dense is not None:
            return Tensor._from_array(
                array_module(self._dense).arange(self._size[0])[None]
            )
        return Tensor._from_array(self._rows[None])

    def values(self) -> Tensor:
        """Return the values of the rows, shape (N, ...)."""
        return Tensor._from_array(self._values if self._dense is None else self._dense)

    def to_dense(self) -> Tensor:
        """Return a dense copy; the gradient itself stays sparse."""
        if self._dense is not None:
            return Tensor._from_array(self._dense.copy())
        copy = RowSparse(self._rows, self._values, self._size)
        return Tensor._from_array(copy._array)

    def __repr__(self) -> str:
        if self._dense is not None:
            return super().__repr__()
        return (
            f"RowSparse({len(self._rows)} rows of shape {self._size[1:]}, in a tensor "
            f"of shape {self._size}, dtype={self.dtype})"
        )

    def detach(self) -> Tensor:
        """Return a tensor without history, sparse if this one is."""
        if self._dense is not None:
            return super().detach()
        return self

    def clone(self, *, memory_format: Any = preserve_format) -> Tensor:
        """Return a copy, sparse if this one is."""
        if self._dense is not None:
            return Tensor._from_array(self._dense.copy())
        copy = RowSparse(self._rows.copy(), self._values.copy(), self._size)
        copy._unique = self._unique
        return copy

    def zero_(self) -> Tensor:
        """Drop all rows."""
        if self._dense is not None:
            self._dense.fill(0)
            self._bump()
        else:
            self._rows, self._values = self._rows[:0], self._values[:0]
        return self

    # -- what the engine does with it ------------------------------------------------

    def plus(self, other: Any) -> Any:
        """Return the sum with a `RowSparse`, or with an array (a new array)."""
        if isinstance(other, RowSparse) and other.is_sparse and self.is_sparse:
            module = array_module(self._values)
            return RowSparse(
                module.concatenate([self._rows, other._rows]),
                module.concatenate([self._values, other._values]),
                self._size,
            )
        dense = other._array if isinstance(other, Tensor) else other
        total = dense.copy()
        self.add_to(total)
        return total

    def add_to(self, dense: Any) -> None:
        """Add to an array, in place."""
        if self._dense is not None:
            dense += self._dense
        else:
            add_rows(dense, self._rows, self._values)


def _coalesce(rows: Any, values: Any) -> tuple[Any, Any]:
    from nnlib import kernels

    if values.dtype not in HALF:
        return kernels.sparse_rows.coalesce(rows, values)  # type: ignore[no-any-return]
    rows, wide = kernels.sparse_rows.coalesce(rows, values.astype(float32))
    return rows, wide.astype(values.dtype)


def add_rows(dense: Any, rows: Any, values: Any) -> None:
    """Do ``dense[rows[i]] += values[i]``, in the order of i within a row."""
    if not values.size:
        return
    shape = dense.shape[1:]
    rows, values = _coalesce(rows, values.reshape(len(rows), math.prod(shape)))
    dense[rows] += values.reshape(len(rows), *shape)


def is_row_sparse(value: Any) -> TypeGuard[RowSparse]:
    """Tell whether a gradient is a `RowSparse` that has not become dense."""
    return type(value) is RowSparse and value._dense is None
