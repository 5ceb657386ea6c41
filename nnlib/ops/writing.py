"""Writing along a dimension: scatter, index_add, index_copy, index_fill, put_."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_direct
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.ops.arrays import constants
from nnlib.ops.dims import as_index, check_bounds, number_as, one_dim, raw
from nnlib.ops.gathering import (
    IndexSelect,
    TakeAlong,
    check_index_shape,
    index_add_array,
)
from nnlib.ops.index_parts import FIRST, FULL
from nnlib.ops.indexing import SetIndex, index_put
from nnlib.ops.scattering import add_at, flat_places, grid, is_small

__all__ = [
    "index_add",
    "index_copy",
    "index_fill",
    "scatter",
    "scatter_add",
]


class Scatter(Function):
    """Write, add or multiply entries along one dimension, in place or on a copy."""

    upcasts = False

    def forward(
        self, x: Any, index: Any, src: Any, *, dim: int, reduce: Any, inplace: bool
    ) -> Any:
        """Return the changed array."""
        self.dim, self.reduce = dim, reduce
        self.src_shape = getattr(src, "shape", None)
        self.save_for_backward(index)
        out = x[...] if inplace else x.copy()
        if not index.size:
            return out
        target = out if out.ndim else out.reshape(1)
        index = index if index.ndim else index.reshape(1)
        if self.src_shape is not None:
            src = src if src.ndim else src.reshape(1)
            if src.shape != index.shape:
                src = src[tuple(map(slice, index.shape))]
        at = None
        if reduce is None and target.ndim > 1:
            at = flat_places(index, target, dim)
        if at is not None:
            target.put(at, src)
            return out
        key = grid(index, dim)
        if reduce is None:
            target[key] = src
        elif reduce == "add":
            values = src
            if getattr(src, "shape", None) != index.shape or src.dtype != x.dtype:
                values = array_module(x).broadcast_to(src, index.shape).astype(x.dtype)
            if is_small(values):
                np.add.at(target, key, values)
            else:
                target += add_at(target.shape, key, values)
        else:
            array_module(x).multiply.at(target, key, src)
        return out

    def backward(self, grad: Any) -> Any:
        """Split the gradient between what was kept and what was written."""
        if self.reduce == "multiply":
            raise Error(
                "scatter: reduce='multiply' has no derivative; use gather and mul"
            )
        (index,) = self.saved
        kept = written = None
        if self.needs(0):
            kept = grad
            if self.reduce is None:
                kept = Scatter.apply(
                    grad, index, 0, dim=self.dim, reduce=None, inplace=False
                )
        if self.needs(2):
            written = TakeAlong.apply(grad, index, dim=self.dim)
            if tuple(written.shape) != self.src_shape:
                written = _embed(written, self.src_shape)
        return kept, None, written


def _embed(x: Any, shape: Any) -> Any:
    """Put `x` into the front corner of zeros of `shape`."""
    from nnlib.ops.indexing import PutIndex

    return PutIndex.apply(x, shape=shape, key=tuple(map(slice, x.shape)))


_REDUCTIONS = (None, "add", "multiply")


def _scatter_arguments(
    op: str, input: Any, dim: Any, index: Any, src: Any, value: Any, reduce: Any
) -> tuple[int, Any, Any]:
    target = raw(input)
    dim = one_dim(op, dim, target.ndim)
    index = as_index(op, index, input)
    array = raw(index)
    if reduce not in _REDUCTIONS:
        raise ArgumentError(
            f"{op}: reduce: expected one of {_REDUCTIONS}, got {reduce!r}"
        )
    source = value if src is None else src
    if source is None:
        raise DTypeError(f"{op}: neither src nor value is given")
    values = raw(source)
    if hasattr(values, "dtype"):
        if values.dtype != target.dtype:
            raise DTypeError(
                f"{op}: src is {values.dtype}, the input is {target.dtype}"
            )
        check_index_shape(op, values, array, -1, other="src")
    elif reduce is None:
        number_as(op, "value", source, target.dtype)
    check_index_shape(op, target, array, dim)
    check_bounds(op, array, target.shape[dim] if target.ndim else 1)
    return dim, index, source


def _scatter_(
    input: Tensor,
    dim: int,
    index: Any,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """Do `scatter` in place; return this tensor."""
    dim, index, source = _scatter_arguments(
        "scatter_", input, dim, index, src, value, reduce
    )
    return run_direct(
        "scatter_", Scatter, input, index, source, dim=dim, reduce=reduce, inplace=True
    )


@public(inplace=_scatter_)
def scatter(
    input: Any,
    dim: int,
    index: Any,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """Return a copy with ``out[index[i, j], j] = src[i, j]`` (for ``dim == 0``).

    Parameters
    ----------
    input : Tensor, n dimensions
    dim : int
    index : integer Tensor, n dimensions
        None longer than in `src`, nor (but for `dim`) than in `input`.
    src : Tensor or number
        Of an index that repeats, the last entry stays; its gradient goes to all.
    value : number, optional
        Instead of `src`.
    reduce : {None, "add", "multiply"}

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.scatter(nnlib.zeros(1, 3), 1, nnlib.tensor([[2]]), 5.0)
    tensor([[0., 0., 5.]])
    """
    dim, index, source = _scatter_arguments(
        "scatter", input, dim, index, src, value, reduce
    )
    return Scatter.apply(  # type: ignore[no-any-return]
        input, index, source, dim=dim, reduce=reduce, inplace=False
    )


def _scatter_add_(input: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """Do `scatter_add` in place; return this tensor."""
    dim, index, source = _scatter_arguments(
        "scatter_add_", input, dim, index, src, None, "add"
    )
    return run_direct(
        "scatter_add_",
        Scatter,
        input,
        index,
        source,
        dim=dim,
        reduce="add",
        inplace=True,
    )


@public(inplace=_scatter_add_)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """Return a copy with ``out[index[i, j], j] += src[i, j]`` (for ``dim == 0``).

    Entries of an index that repeats add up, in the same order every run.
    """
    dim, index, source = _scatter_arguments(
        "scatter_add", input, dim, index, src, None, "add"
    )
    return Scatter.apply(  # type: ignore[no-any-return]
        input, index, source, dim=dim, reduce="add", inplace=False
    )


class IndexAdd(Function):
    """Add whole entries along one dimension, in place or on a copy."""

    upcasts = False

    def forward(
        self, x: Any, index: Any, source: Any, *, dim: int, alpha: Any, inplace: bool
    ) -> Any:
        """Return the changed array."""
        self.dim, self.alpha, self.shape = dim, alpha, source.shape
        self.save_for_backward(index)
        out = x[...] if inplace else x.copy()
        scaled = source if alpha == 1 else (source * alpha).astype(x.dtype)
        if x.ndim:
            index_add_array(out, index, scaled, dim)
        else:
            index_add_array(out.reshape(1), index, scaled.reshape(-1), 0)
        return out

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on; take it at the indices for the source."""
        (index,) = self.saved
        taken = None
        if self.needs(2):
            if grad.shape:
                taken = IndexSelect.apply(grad, index, dim=self.dim)
            else:
                taken = grad.reshape(self.shape)
            taken = taken if self.alpha == 1 else taken * self.alpha
        return grad, None, taken


def _add_arguments(
    op: str, input: Any, dim: Any, index: Any, source: Any
) -> tuple[int, Any]:
    target, values = raw(input), raw(source)
    dim = one_dim(op, dim, target.ndim)
    index = as_index(op, index, input)
    array = raw(index)
    if array.ndim > 1:
        raise ShapeError(f"{op}: index: expected one dimension, got {array.shape}")
    if values.dtype != target.dtype:
        raise DTypeError(f"{op}: source is {values.dtype}, the input is {target.dtype}")
    if not array.ndim:
        index = index.reshape(1)
    wanted = list(target.shape)
    if wanted:
        wanted[dim] = array.size
    if values.shape != tuple(wanted) and values.ndim + target.ndim:
        raise ShapeError(
            f"{op}: source has shape {values.shape}, expected {tuple(wanted)}"
        )
    check_bounds(op, array, target.shape[dim] if target.ndim else 1)
    return dim, index


def _index_add_(
    input: Tensor, dim: int, index: Any, source: Any, *, alpha: Any = 1
) -> Tensor:
    """Do `index_add` in place; return this tensor."""
    dim, index = _add_arguments("index_add_", input, dim, index, source)
    return run_direct(
        "index_add_", IndexAdd, input, index, source, dim=dim, alpha=alpha, inplace=True
    )


@public(inplace=_index_add_)
def index_add(
    input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1
) -> Tensor:
    """Return a copy with ``copy[index[i]] += alpha * source[i]`` along `dim`.

    Parameters
    ----------
    input : Tensor, shape (..., D, ...)
    index : integer Tensor, shape (N,)
        Entries that repeat add up, in the same order every run.
    source : Tensor, shape (..., N, ...), dtype of `input`
    alpha : number, default 1

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    ShapeError
        If the shapes do not fit.
    """
    dim, index = _add_arguments("index_add", input, dim, index, source)
    return IndexAdd.apply(  # type: ignore[no-any-return]
        input, index, source, dim=dim, alpha=alpha, inplace=False
    )


def _along(dim: int, index: Any) -> tuple[Any, ...]:
    return (None,) * dim + (index,)


def _assign(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """Return a copy with a value at the indices (not negative) of a dimension."""
    return SetIndex.apply(  # type: ignore[no-any-return]
        input,
        value,
        index,
        key=FIRST if not dim else (*(FULL,) * dim, *FIRST),
        accumulate=False,
        inplace=False,
    )


def _index_copy_(input: Tensor, dim: int, index: Any, source: Any) -> Tensor:
    """Do `index_copy` in place; return this tensor."""
    dim, index = _add_arguments("index_copy_", input, dim, index, source)
    if not input.ndim:
        _index_copy_(input.reshape(1), 0, index, source.reshape(-1))
        return input
    put: Callable[..., Tensor] = input.index_put_
    return put(_along(dim, index), source)


@public(inplace=_index_copy_)
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Tensor:
    """Return a copy with ``copy[index[i]] = source[i]`` along `dim`."""
    dim, index = _add_arguments("index_copy", input, dim, index, source)
    if not raw(input).ndim:
        copy = _assign(input.reshape(1), 0, index, source.reshape(-1))
        return copy.reshape(())
    return _assign(input, dim, index, source)


def _fill_value(op: str, input: Any, value: Any) -> Any:
    if hasattr(value, "dtype"):
        if value.ndim:
            raise ShapeError(
                f"{op}: value: expected a number or a tensor without dimensions, got "
                f"shape {tuple(value.shape)}"
            )
        from nnlib.ops.casting import cast

        return cast(value, raw(input).dtype)
    value = number_as(op, "value", value, raw(input).dtype)
    return array_module(raw(input)).asarray(value)


def _fill_index(op: str, input: Any, dim: Any, index: Any) -> tuple[int, Any]:
    shape = raw(input).shape
    dim = one_dim(op, dim, len(shape))
    index = as_index(op, index, input)
    check_bounds(op, raw(index), shape[dim] if shape else 1, negative=True)
    return dim, index


def _index_fill_(input: Tensor, dim: int, index: Any, value: Any) -> Tensor:
    """Do `index_fill` in place; return this tensor."""
    key = _along(*_fill_index("index_fill_", input, dim, index))
    # A tensor without dimensions is changed through a view of one.
    target = input if input.ndim else input.reshape(1)
    put: Callable[..., Tensor] = target.index_put_
    put(key, _fill_value("index_fill_", input, value))
    return input


@public(inplace=_index_fill_)
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """Return a copy with `value` in the entries of `dim` named by `index`."""
    dim, index = _fill_index("index_fill", input, dim, index)
    if not raw(input).ndim:
        copy = index_fill(input.reshape(1), dim, index, value)
        return copy.reshape(())
    if type(value) is float and raw(input).dtype in FLOATING:
        (value,) = constants(raw(input), value)
    else:
        value = _fill_value("index_fill", input, value)
    if raw(index).ndim != 1:
        return index_put(input, _along(dim, index), value)
    return _assign(input, dim, index, value)


@public(method="put_")
@on_its_device
def put_(input: Any, index: Any, source: Any, accumulate: bool = False) -> Tensor:
    """Write `source` at the flat positions `index`, in place.

    Raises
    ------
    BoundsError
        If an index is out of range (on the CPU; CuPy wraps it).
    """
    index = as_index("put_", index, input)
    check_bounds("put_", raw(index), raw(input).size, negative=True)
    rest, parts = index, []
    for length in reversed(tuple(input.shape)):
        parts.append(raw(rest) % length)
        rest = raw(rest) // length
    key = tuple(Tensor._from_array(part) for part in reversed(parts))
    if raw(source).size != raw(index).size:
        raise ShapeError(
            f"put_: source has {raw(source).size} elements, index {raw(index).size}"
        )
    source = source.reshape(tuple(index.shape))
    put: Callable[..., Tensor] = input.index_put_
    return put(key, source, accumulate)
