"""Looking rows of a table up by their numbers: embedding, embedding_bag."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.sparse import RowSparse
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_of
from nnlib.backend.dtypes import FLOATING, HALF, float32, int64
from nnlib.backend.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    ShapeError,
)
from nnlib.ops.dims import as_index, raw
from nnlib.ops.scattering import add_rows

__all__ = ["embedding"]


class EmbeddingRows(Function):
    """Rows of a table, by numbers: (V, D), (...) -> (..., D)."""

    upcasts = False

    def forward(
        self, weight: Any, ids: Any, *, padding: int, by_freq: bool, sparse: bool
    ) -> Any:
        """Return the rows."""
        self.shape, self.padding, self.by_freq = weight.shape, padding, by_freq
        self.sparse = sparse
        self.save_for_backward(ids)
        return kernels.embedding.gather(weight, ids)

    def backward(self, grad: Any) -> Any:
        """Add the gradients up where the rows came from."""
        (ids,) = self.saved
        options = self.padding, self.by_freq, self.sparse
        return table_gradient(grad, ids, self.shape, *options), None


def table_gradient(
    grad: Any, ids: Any, shape: Any, padding: int, by_freq: bool, sparse: bool
) -> Any:
    """Return the gradient of a table from that of the rows looked up.

    A `RowSparse` if `sparse`, but dense where a second derivative may follow.
    """
    if not sparse or isinstance(grad, Tensor):
        return EmbeddingGrad.apply(
            grad, ids, shape=shape, padding=padding, by_freq=by_freq
        )
    flat = ids.reshape(-1)
    values = grad.reshape(flat.size, shape[1])
    factor = factors(flat, shape[0], padding, by_freq, grad.dtype)
    if factor is None:
        # The buffer may be that of another gradient.
        values = values.copy()
    elif by_freq:
        values = values * factor[:, None]
    else:
        kept = factor != 0
        flat, values = flat[kept], values[kept]
    return RowSparse(array_module(flat).asarray(flat, dtype=int64), values, shape)


def factors(flat: Any, rows: int, padding: int, by_freq: bool, dtype: Any) -> Any:
    """Return what each looked-up row's gradient is multiplied by; None for 1."""
    if padding < 0 and not by_freq:
        return None
    module = array_module(flat)
    if not by_freq:
        return (flat != padding).astype(dtype)
    # A bad number, which CUDA's kernel has noted, must not be counted either.
    safe = module.clip(flat, 0, max(rows - 1, 0))
    counts = module.bincount(safe, minlength=rows)
    factor = 1 / counts[safe].astype(float32 if dtype in HALF else dtype)
    if padding >= 0:
        factor *= flat != padding
    return factor.astype(dtype)


class EmbeddingGrad(Function):
    """The gradient of `EmbeddingRows`, linear in that of its output."""

    upcasts = False

    def forward(
        self, grad: Any, ids: Any, *, shape: Any, padding: int, by_freq: bool
    ) -> Any:
        """Return the sum of the gradients of each row, shape (V, D)."""
        self.padding, self.by_freq = padding, by_freq
        self.save_for_backward(ids)
        flat = ids.reshape(-1)
        module = array_module(grad)
        out = module.zeros(shape, grad.dtype)
        values = grad.reshape(flat.size, shape[1])
        if by_freq:
            values = (
                values * factors(flat, shape[0], padding, True, grad.dtype)[:, None]
            )
        if values.size:
            flat = flat.astype(int64, copy=False)
            if module is not np:
                # The kernel that looked bad numbers up has noted them.
                flat = module.clip(flat, 0, shape[0] - 1)
            add_rows(out, flat, values)
        if padding >= 0:
            out[padding] = 0
        return out

    def backward(self, grad: Any) -> Any:
        """Look the rows up again, with the same factors."""
        (ids,) = self.saved
        rows = EmbeddingRows.apply(grad, ids, padding=-1, by_freq=False, sparse=False)
        array = raw(ids)
        factor = factors(
            array.reshape(-1), grad.shape[0], self.padding, self.by_freq, grad.dtype
        )
        if factor is not None:
            factor = factor.reshape(*array.shape, 1)
            wrapped = isinstance(rows, Tensor)
            rows = rows * (Tensor._from_array(factor) if wrapped else factor)
        return rows, None


def check_table(op: str, weight: Any, ids: Any, floating: bool = True) -> None:
    """Check the dtypes, dimensions and devices of a table and of row numbers."""
    table, array = raw(weight), raw(ids)
    if table.ndim != 2:
        raise ShapeError(
            f"{op}: weight: expected shape (rows, features), got {tuple(table.shape)}"
        )
    if floating and table.dtype not in FLOATING:
        raise DTypeError(f"{op}: weight: expected a floating dtype, got {table.dtype}")
    if type(array) is not type(table) and device_of(array) != device_of(table):
        raise DeviceError(
            f"{op}: input is on {device_of(array)}, weight on {device_of(table)}; move "
            f"it with .to('{device_of(table)}')"
        )


def read_padding(op: str, padding_idx: int | None, rows: int) -> int:
    """Return `padding_idx` counted from the front; -1 for None."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise ArgumentError(
            f"{op}: padding_idx: expected {-rows} to {rows - 1} (the weight has {rows} "
            f"rows), got {padding_idx}"
        )
    return padding_idx % rows


def renormalise(
    op: str, weight: Any, ids: Any, max_norm: float, norm_type: float
) -> None:
    """Scale the rows looked up, in place, to a norm of at most `max_norm`."""
    if not norm_type > 0:
        raise ArgumentError(f"{op}: norm_type: expected above 0, got {norm_type}")
    table, array = raw(weight), raw(ids)
    module = array_module(table)
    # Nothing is changed where a number is bad.
    kernels.embedding.gather(table[:, :1], array)
    rows = module.unique(array.reshape(-1))
    chosen = table[rows].astype(float32 if table.dtype in HALF else table.dtype)
    if norm_type == float("inf"):
        norms = module.abs(chosen).max(axis=1, keepdims=True, initial=0)
    else:
        powers = (module.abs(chosen) ** norm_type).sum(axis=1, keepdims=True)
        norms = powers ** (1.0 / norm_type)
    large = norms[:, 0] > max_norm
    table[rows[large]] = (chosen * (max_norm / (norms + 1e-7)))[large].astype(
        table.dtype
    )
    if isinstance(weight, Tensor):
        weight._bump()


@public(method=False)
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows of `weight` numbered `input`.

    ``out[i, j] = weight[input[i, j]]``

    Parameters
    ----------
    input : integer Tensor, shape (...)
        Row numbers.
    weight : Tensor, shape (V, D)
        The table; floating for gradients and `max_norm`.
    padding_idx : int, optional
        A row that gets no gradient; from the back if negative.
    max_norm : float, optional
        Rows that are looked up are first scaled, in place and without history, to a
        norm of at most this.
    norm_type : float, default 2.0
        The order of that norm.
    scale_grad_by_freq : bool, default False
        Divide the gradient of a row by how often it was looked up.
    sparse : bool, default False
        Give a leaf `weight` a `RowSparse` gradient: for SGD, Adagrad and SparseAdam.

    Returns
    -------
    Tensor, shape (..., D)

    Raises
    ------
    BoundsError
        With the first number that is no row and its position: at once on the CPU, on
        CUDA at the next synchronisation.
    DTypeError, ShapeError, DeviceError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.embedding(nnlib.tensor([1, 0]), nnlib.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    op = "embedding"
    input = as_index(op, input, weight, "input")
    check_table(op, weight, input, floating=max_norm is not None)
    padding = read_padding(op, padding_idx, weight.shape[0])
    if max_norm is not None:
        renormalise(op, weight, input, float(max_norm), float(norm_type))
    return EmbeddingRows.apply(  # type: ignore[no-any-return]
        weight, input, padding=padding, by_freq=scale_grad_by_freq, sparse=sparse
    )
