"""Reductions that skip NaN, and a count: nansum, nanmean, count_nonzero."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, resolve_dtype
from nnlib.backend.errors import DTypeError
from nnlib.ops.arrays import add_up, nonzeros
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, many_dims, raw
from nnlib.ops.reduction import Sum, spread

__all__ = ["count_nonzero", "nanmean", "nansum"]


class NanSum(Function):
    """The sum of what is not NaN."""

    def forward(self, x: Any, *, dims: Any, keepdim: bool) -> Any:
        """Return the sum with zeros for NaN."""
        self.dims = dims
        self.shape, self.dtype = x.shape, x.dtype
        if x.dtype not in FLOATING:
            return add_up(x, dims, keepdim)
        valid = x == x
        self.save_for_backward(valid)
        if type(x) is np.ndarray and nonzeros(valid) == x.size:
            return add_up(x, dims, keepdim)
        return add_up(array_module(x).where(valid, x, 0), dims, keepdim)

    def backward(self, grad: Any) -> Any:
        """Spread the gradient over what was summed."""
        (valid,) = self.saved
        mask = raw(valid).astype(raw(grad).dtype)
        return spread(grad, self.shape, self.dims) * constant(mask, grad)


class CountNonzero(Function):
    """The number of elements that are not zero."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, dims: Any) -> Any:
        """Return the number as int64."""
        if dims is None and type(x) is np.ndarray:
            return nonzeros(x)
        return add_up(x != 0, dims, False)


def _dims(op: str, input: Any, dim: Any) -> Any:
    return None if dim is None else many_dims(op, dim, input.ndim)


@public()
def nansum(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the sum over `dim` of the elements that are not NaN."""
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    return NanSum.apply(  # type: ignore[no-any-return]
        input, dims=_dims("nansum", input, dim), keepdim=keepdim
    )


@public(reads=True)
def nanmean(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the mean over `dim` of the elements that are not NaN.

    Raises
    ------
    DTypeError
        If `input` is not floating.
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    if input.dtype not in FLOATING:
        raise DTypeError(
            f"nanmean: input: expected a floating dtype, got {input.dtype}"
        )
    dims = _dims("nanmean", input, dim)
    values = raw(input)
    valid = constant(values == values, input)
    count = Sum.apply(valid, dims=dims, keepdim=keepdim)
    return NanSum.apply(input, dims=dims, keepdim=keepdim) / cast(count, input.dtype)  # type: ignore[no-any-return]


@public()
def count_nonzero(input: Any, dim: Any = None) -> Tensor:
    """Return how many elements over `dim` are not zero."""
    return CountNonzero.apply(  # type: ignore[no-any-return]
        input, dims=_dims("count_nonzero", input, dim)
    )
