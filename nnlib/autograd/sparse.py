"""Gradients of which most rows are zero: `RowSparse`.

The gradient of an embedding touches the rows that were looked up. Where a leaf asks for
it (``Embedding(sparse=True)``), its ``grad`` is a `RowSparse`: row numbers and values.
What knows it (accumulation, clipping, the optimisers SGD, Adagrad and SparseAdam) works
on those; to all else it is a Tensor like any other: its values lie in a dense array
from the moment it is first looked into, and its row numbers are still known.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np

from nnlib.autograd.attributes import Size
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of, resolve_device, to_device
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.layouts import preserve_format

__all__ = ["RowSparse", "is_row_sparse"]


class RowSparse(Tensor):
    """A Tensor of which only some rows are kept, the others being zero.

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
    is_sparse = True

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
        """The dense array, which holds the values from now on."""
        if self._dense is None:
            with context_of(self._values):
                module, dtype = array_module(self._values), self._values.dtype
                dense = module.zeros(self._size, dtype)
                add_rows(dense, self._rows, self._values)
            self._dense = dense
            self._values = None
        return self._dense

    @_array.setter
    def _array(self, value: Any) -> None:
        self._dense = value
        self._values = None

    @property
    def shape(self) -> Size:
        """The lengths of the dimensions, zero rows included."""
        return Size(self._size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self._kept().dtype  # type: ignore[no-any-return]

    def _kept(self) -> Any:
        return self._values if self._dense is None else self._dense

    def parts(self) -> tuple[Any, Any]:
        """Return row numbers, each once, and the values of these rows, as arrays."""
        with context_of(self._kept()):
            return self._parts()

    def _parts(self) -> tuple[Any, Any]:
        if self._dense is None:
            if not self._unique:
                flat = self._values.reshape(len(self._rows), math.prod(self._size[1:]))
                self._rows, flat = _coalesce(self._rows, flat)
                self._values = flat.reshape(len(flat), *self._size[1:])
                self._unique = True
            return self._rows, self._values
        # Who looked into it may have written to other rows.
        module = array_module(self._dense)
        kept = (self._dense != 0).reshape(self._size[0], -1).any(axis=1)
        kept[self._rows] = True
        rows = module.flatnonzero(kept)
        return rows, self._dense[rows]

    def coalesce(self) -> RowSparse:
        """Add up the values of equal rows; return itself."""
        if self._dense is None:
            self.parts()
        return self

    def indices(self) -> Tensor:
        """Return the row numbers, shape (1, N), as PyTorch's sparse tensors do."""
        rows = self._rows if self._dense is None else self.parts()[0]
        return Tensor._from_array(rows[None])

    def values(self) -> Tensor:
        """Return the values of the rows, shape (N, ...)."""
        values = self._values if self._dense is None else self.parts()[1]
        return Tensor._from_array(values)

    def to_dense(self) -> Tensor:
        """Return a dense copy."""
        return Tensor._from_array(self.clone()._array)

    def __repr__(self) -> str:
        rows = self._rows if self._dense is None else self.parts()[0]
        return (
            f"RowSparse({len(rows)} rows of shape {self._size[1:]}, in a tensor "
            f"of shape {self._size}, dtype={self.dtype})"
        )

    def detach(self) -> Tensor:
        """Return itself, for it has no history."""
        return self

    def clone(self, *, memory_format: Any = preserve_format) -> Tensor:
        """Return a copy."""
        with context_of(self._kept()):
            values = None if self._values is None else self._values.copy()
            copy = RowSparse(self._rows.copy(), values, self._size)
            copy._dense = None if self._dense is None else self._dense.copy()
        copy._unique = self._unique
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = memo[id(self)] = self.clone()
        return copy

    def __reduce__(self) -> Any:
        cpu = resolve_device("cpu")
        rows, values = (to_device(part, cpu) for part in self.parts())
        return _rebuild, (rows, values, self._size, str(self.device))

    def zero_(self) -> Tensor:
        """Drop all rows."""
        self._rows = self._rows[:0]
        if self._dense is None:
            self._values = self._values[:0]
        else:
            with context_of(self._dense):
                self._dense.fill(0)
            self._bump()
        return self

    # -- what the engine does with it ------------------------------------------------

    def plus(self, other: Any) -> Any:
        """Return the sum with a `RowSparse`, or with an array (a new array)."""
        if is_row_sparse(other) and is_row_sparse(self):
            module = array_module(self._values)
            return RowSparse(
                module.concatenate([self._rows, other._rows]),
                module.concatenate([self._values, other._values]),
                self._size,
            )
        total = Tensor._from_array(
            (other._array if isinstance(other, Tensor) else other).copy()
        )
        self.add_to(total)
        return total._array

    def add_to(self, total: Tensor) -> None:
        """Add to a gradient that is dense, or was looked into, in place."""
        dense = total._array
        if self._dense is not None:
            dense += self._dense
        else:
            add_rows(dense, self._rows, self._values)
        if isinstance(total, RowSparse):
            rows = [total._rows, self._rows]
            total._rows = array_module(dense).concatenate(rows)
            total._unique = False


def _rebuild(rows: Any, values: Any, shape: tuple[int, ...], place: str) -> RowSparse:
    device = resolve_device(place)
    return RowSparse(to_device(rows, device), to_device(values, device), shape)


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
    """Tell whether a gradient is a `RowSparse` that nobody has looked into."""
    return type(value) is RowSparse and value._dense is None
