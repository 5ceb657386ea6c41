"""The largest and the smallest: amax, amin, max, min, argmax, argmin, aminmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import int64
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arrays import kept_shape
from nnlib.ops.dims import constant, many_dims, one_dim, raw
from nnlib.ops.gathering import place_along
from nnlib.ops.reduction import spread
from nnlib.ops.return_types import MinMax, ValuesIndices

__all__ = ["amax", "amin", "aminmax", "argmax", "argmin", "max", "min"]

# Up to so many elements the largest is found by its place.
_SHORT = 64
_maximum, _minimum = np.maximum.reduce, np.minimum.reduce


def check_not_empty(op: str, shape: tuple[int, ...], dims: Any) -> None:
    """Raise for a reduction over no element, which has no answer."""
    lengths = shape if dims is None else [shape[dim] for dim in dims]
    if 0 in lengths:
        raise ShapeError(
            f"{op}: no largest or smallest of no elements (input has shape "
            f"{tuple(shape)})"
        )


def extreme_array(x: Any, dims: Any, keepdim: bool, largest: bool) -> Any:
    """Return the largest or smallest values of an array, as an array in any case."""
    if type(x) is np.ndarray:
        if dims is None and not keepdim and 0 < x.size <= _SHORT:
            # A search takes half of a reduction's time; it too prefers a NaN.
            flat = x.ravel()
            return np.array(flat[flat.argmax() if largest else flat.argmin()])
        reduce: Any = _maximum if largest else _minimum
        out = reduce(x, dims, None, None, keepdim) if keepdim else reduce(x, dims)
        return out if type(out) is np.ndarray else np.asarray(out)
    return (x.max if largest else x.min)(axis=dims, keepdims=keepdim)


def shared(grad: Any, x: Any, out: Any, dims: Any) -> Any:
    """Return the gradient of extremes `out` of `x`, shared evenly among equals."""
    shape = tuple(x.shape)
    won = raw(x) == spread(raw(out), shape, dims)
    kept = (1,) * len(shape) if dims is None else kept_shape(shape, dims)
    count = won.sum(axis=dims, keepdims=True).reshape(kept)
    share = (won / count).astype(raw(grad).dtype)
    return spread(grad, shape, dims) * constant(share, grad)


class Extreme(Function):
    """The largest or smallest value over some dimensions."""

    def forward(self, x: Any, *, dims: Any, keepdim: bool, largest: bool) -> Any:
        """Return the values; a NaN wins."""
        self.dims = dims
        out = extreme_array(x, dims, keepdim, largest)
        self.save_for_backward(x, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Share the gradient evenly among equal extremes."""
        x, out = self.saved
        return shared(grad, x, out, self.dims)


class Both(Function):
    """The smallest and the largest value over some dimensions."""

    def forward(self, x: Any, *, dims: Any, keepdim: bool) -> Any:
        """Return both; a NaN wins."""
        self.dims = dims
        low = extreme_array(x, dims, keepdim, False)
        high = extreme_array(x, dims, keepdim, True)
        self.save_for_backward(x, low, high)
        return low, high

    def backward(self, low: Any, high: Any) -> Any:
        """Share each gradient evenly among equal extremes."""
        x, smallest, largest = self.saved
        share = shared(low, x, smallest, self.dims)
        return share + shared(high, x, largest, self.dims)


class ExtremeAt(Function):
    """The largest or smallest value along one dimension, and where it is."""

    def forward(self, x: Any, *, dim: int, keepdim: bool, largest: bool) -> Any:
        """Return values and indices: the first of equals, or the first NaN."""
        self.shape, self.dim, self.keepdim = x.shape, dim, keepdim
        if not x.ndim:
            return x.copy(), array_module(x).zeros((), int64)
        if keepdim:
            where = (x.argmax if largest else x.argmin)(axis=dim, keepdims=True)
        else:
            where = (x.argmax if largest else x.argmin)(dim)
        if x.ndim == 1:
            where = array_module(x).asarray(where)
        self.save_for_backward(where)
        return extreme_array(x, dim, keepdim, largest), where

    def backward(self, grad: Any, _: Any) -> Any:
        """Give the gradient to the chosen elements."""
        if not self.shape:
            return grad
        (where,) = self.saved
        kept = kept_shape(self.shape, (self.dim,))
        return place_along(
            grad.reshape(kept), where.reshape(kept), self.shape, self.dim
        )


def _best(op: str, input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    shape = raw(input).shape
    dim = one_dim(op, dim, len(shape))
    if 0 in shape:
        check_not_empty(op, shape, (dim,))
    return ValuesIndices(
        *ExtremeAt.apply(input, dim=dim, keepdim=keepdim, largest=largest)
    )


def _extreme(op: str, input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    dims = None
    shape = raw(input).shape
    if dim is not None:
        dims = many_dims(op, dim, len(shape)) or None
    if 0 in shape:
        check_not_empty(op, shape, dims)
    return Extreme.apply(input, dims=dims, keepdim=keepdim, largest=largest)


@public(axis=True)
def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Return the largest value over `dim`; equal ones share the gradient evenly.

    Raises
    ------
    ShapeError
        If there are no elements.
    """
    return _extreme("amax", input, dim, keepdim, True)  # type: ignore[no-any-return]


@public(axis=True)
def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Return the smallest value over `dim`; equal ones share the gradient evenly.

    Raises
    ------
    ShapeError
        If there are no elements.
    """
    return _extreme("amin", input, dim, keepdim, False)  # type: ignore[no-any-return]


@public(axis=True)
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """Return ``(min, max)`` over all elements or one dimension."""
    array = raw(input)
    dims = None if dim is None else many_dims("aminmax", dim, array.ndim) or None
    if 0 in array.shape:
        check_not_empty("aminmax", array.shape, dims)
    return MinMax(*Both.apply(input, dims=dims, keepdim=keepdim))


def _is_other(dim: Any) -> bool:
    return isinstance(dim, Tensor) or hasattr(dim, "dtype")


@public(axis=True)
def max(
    input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None
) -> Any:
    """Return the largest value; or per dimension, with its index; or of two tensors.

    Parameters
    ----------
    input : Tensor
    dim : int or Tensor, optional
        Without it the largest of all elements (equal ones share the gradient).
        An integer: the largest along that dimension, with its index, which alone
        gets the gradient. A Tensor: the larger of two, elementwise (`maximum`).
    keepdim : bool, default False

    Returns
    -------
    Tensor or (values, indices)
        A NaN counts as the largest.

    Raises
    ------
    ShapeError
        If there are no elements.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.max(nnlib.tensor([[1, 5], [7, 2]]), dim=1).indices
    tensor([1, 0])
    """
    if dim is None and other is None:
        return _extreme("max", input, None, False, True)
    if other is not None or _is_other(dim):
        from nnlib.ops.bounds import maximum

        return maximum(input, dim if other is None else other)
    return _best("max", input, dim, keepdim, True)


@public(axis=True)
def min(
    input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None
) -> Any:
    """Return the smallest value; or per dimension, with its index; or of two tensors.

    As `max`; a NaN counts as the smallest.
    """
    if dim is None and other is None:
        return _extreme("min", input, None, False, False)
    if other is not None or _is_other(dim):
        from nnlib.ops.bounds import minimum

        return minimum(input, dim if other is None else other)
    return _best("min", input, dim, keepdim, False)


class ArgExtreme(Function):
    """Where the largest or smallest element is."""

    def forward(self, x: Any, *, dim: int | None, keepdim: bool, largest: bool) -> Any:
        """Return int64 positions: the first of equals, or the first NaN."""
        out = (x.argmax if largest else x.argmin)(dim if x.ndim else None)
        if type(out) is not type(x):
            out = array_module(x).asarray(out)
        if keepdim:
            dims = range(x.ndim) if dim is None or not x.ndim else (dim,)
            return out.reshape(kept_shape(x.shape, tuple(dims)))
        return out


def _arg(op: str, input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    array = raw(input)
    shape = array.shape
    if array.dtype.kind == "b":
        raise DTypeError(f"{op}: not defined on bool; cast input to an integer dtype")
    if dim is not None:
        dim = one_dim(op, dim, len(shape))
    if 0 in shape:
        check_not_empty(op, shape, None if dim is None else (dim,))
    return ArgExtreme.apply(input, dim=dim, keepdim=keepdim, largest=largest)


@public(axis=True)
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return where the largest element is: along `dim`, or in the flattened tensor.

    Raises
    ------
    ShapeError
        If there are no elements.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.argmax(nnlib.tensor([[1, 5], [7, 2]]), dim=1)
    tensor([1, 0])
    """
    return _arg("argmax", input, dim, keepdim, True)  # type: ignore[no-any-return]


@public(axis=True)
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return where the smallest element is: along `dim`, or in the flattened tensor.

    Raises
    ------
    ShapeError
        If there are no elements.
    """
    return _arg("argmin", input, dim, keepdim, False)  # type: ignore[no-any-return]
