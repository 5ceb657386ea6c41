"""Sums and what is made of them: sum, mean, prod, logsumexp."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, int64, resolve_dtype
from nnlib.backend.errors import DTypeError
from nnlib.ops.arrays import add_up, kept_shape, spread_array
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, many_dims, raw

__all__ = ["logsumexp", "mean", "prod", "sum"]


class Spread(Function):
    """Broadcast a reduced tensor back over the reduced dimensions."""

    upcasts = False
    is_view = True

    def forward(self, x: Any, *, shape: tuple[int, ...], dims: Any) -> Any:
        """Return `x` with `shape`, constant along `dims`."""
        self.shape, self.dims = x.shape, dims
        return spread_array(x, shape, dims)

    def backward(self, grad: Any) -> Any:
        """Sum over the dimensions."""
        total = Sum.apply(grad, dims=self.dims, keepdim=False)
        return total if total.shape == self.shape else total.reshape(self.shape)


def spread(x: Any, shape: tuple[int, ...], dims: Any) -> Any:
    """Broadcast a reduced Tensor or array back over `dims` (None: all)."""
    if isinstance(x, Tensor):
        return Spread.apply(x, shape=shape, dims=dims)
    return spread_array(x, shape, dims)


class Sum(Function):
    """The sum over some dimensions."""

    def forward(self, x: Any, *, dims: Any, keepdim: bool) -> Any:
        """Return the sum."""
        self.shape, self.dims = x.shape, dims
        return add_up(x, dims, keepdim)

    def backward(self, grad: Any) -> Any:
        """Spread the gradient."""
        return spread(grad, self.shape, self.dims)


class Mean(Function):
    """The mean over some dimensions."""

    def forward(self, x: Any, *, dims: Any, keepdim: bool) -> Any:
        """Return the mean."""
        self.shape, self.dims = x.shape, dims
        count = x.size
        if dims is not None:
            count = 1
            for dim in dims:
                count *= x.shape[dim]
        self.count = count
        total = add_up(x, dims, keepdim)
        if not count:
            return total * np.nan
        total /= count
        return total

    def backward(self, grad: Any) -> Any:
        """Spread the gradient, divided by the number of elements."""
        return spread(grad / (self.count or 1), self.shape, self.dims)


class Prod(Function):
    """The product over one dimension (None: all)."""

    def forward(self, x: Any, *, dim: int | None, keepdim: bool) -> Any:
        """Return the product."""
        self.dim = dim
        self.save_for_backward(x)
        if type(x) is np.ndarray:
            reduce: Any = np.multiply.reduce
            # Without a dtype NumPy widens short integers.
            return reduce(x, dim, dtype=x.dtype, keepdims=keepdim)
        out = x.prod(axis=dim, dtype=x.dtype, keepdims=keepdim)
        return array_module(x).asarray(out)

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` times the product of all other elements.

        They are multiplied from both sides, which is right with zeros too.
        """
        from nnlib.ops.scan import exclusive_product

        (x,) = self.saved
        shape, dim = tuple(x.shape), self.dim
        if dim is None:
            x, dim = x.reshape(-1), 0
        before = exclusive_product(x, dim)
        after = exclusive_product(x, dim, reverse=True)
        out = spread(grad, tuple(x.shape), (dim,)) * before * after
        return out if self.dim is not None else out.reshape(shape)


class LogSumExp(Function):
    """The logarithm of a sum of exponentials."""

    promotes = "float"

    def forward(self, x: Any, *, dims: Any, keepdim: bool) -> Any:
        """Return ``m + log(sum(exp(x - m)))`` with the maximum ``m``."""
        self.dims = dims
        self.kept = kept_shape(x.shape, dims)
        module = array_module(x)
        if any_zero(x.shape, dims):
            top = module.zeros(self.kept, x.dtype)
        else:
            top = x.max(axis=dims, keepdims=True)
            top = module.where(module.isfinite(top), top, 0)
        out = module.log(add_up(module.exp(x - top), dims, True)) + top
        if not keepdim:
            out = out.reshape([n for i, n in enumerate(x.shape) if i not in dims])
        self.save_for_backward(x, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad * exp(x - out)``: the softmax, times the gradient."""
        from nnlib.ops.exponential import exp
        from nnlib.ops.selection import masked_fill

        x, out = self.saved
        shape = tuple(x.shape)
        # Where all elements are -inf, so is the result; 0 in its place makes the
        # shares exp(-inf) = 0 instead of exp(-inf + inf).
        values = raw(out)
        dead = values == -np.inf
        if isinstance(out, Tensor):
            out = masked_fill(out, constant(dead, out), 0)
        else:
            out = array_module(values).where(dead, values.dtype.type(0), values)
        share = exp(x - spread(out, shape, self.dims))
        return spread(grad, shape, self.dims) * share


def any_zero(shape: tuple[int, ...], dims: Any) -> bool:
    """Tell whether a reduction over `dims` meets no element."""
    return 0 in (shape[dim] for dim in dims)


@public(axis=True)
def sum(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the sum over all dimensions, or over `dim`.

    Parameters
    ----------
    input : Tensor, any shape
        Integers and bool are summed in int64.
    dim : int or tuple of int, optional
    keepdim : bool, default False
        Keep the summed dimensions, with length 1.
    dtype : numpy.dtype, optional
        Cast `input` to it first.

    Returns
    -------
    Tensor
        The sum of nothing is 0.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sum(nnlib.tensor([[1, 2], [3, 4]]), dim=1)
    tensor([3, 7])
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    out = Sum.apply(
        input,
        dims=None if dim is None else many_dims("sum", dim, input.ndim),
        keepdim=keepdim,
    )
    if dtype is not None and out.dtype != resolve_dtype(dtype):
        return cast(out, resolve_dtype(dtype))  # type: ignore[no-any-return]
    return out  # type: ignore[no-any-return]


@public(axis=True)
def mean(
    input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the mean over all dimensions, or over `dim`; of nothing, NaN.

    Raises
    ------
    DTypeError
        If `input` is not floating and no floating `dtype` is given.
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    if input.dtype not in FLOATING:
        raise DTypeError(
            f"mean: input: expected a floating dtype, got {input.dtype}; pass dtype="
        )
    return Mean.apply(  # type: ignore[no-any-return]
        input,
        dims=None if dim is None else many_dims("mean", dim, input.ndim),
        keepdim=keepdim,
    )


@public(axis=True)
def prod(
    input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Return the product of all elements, or over one dimension; of nothing, 1.

    Its gradient is right with zeros among the elements.
    """
    wanted = None if dtype is None else resolve_dtype(dtype)
    if wanted is None and raw(input).dtype not in FLOATING:
        wanted = int64
    if wanted is not None:
        input = cast(input, wanted)
    if dim is None:
        return Prod.apply(input, dim=None, keepdim=False)  # type: ignore[no-any-return]
    (dim,) = many_dims("prod", dim, input.ndim) or (None,)
    if dim is None:
        return prod(input)
    return Prod.apply(input, dim=dim, keepdim=keepdim)  # type: ignore[no-any-return]


@public(axis=True)
def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """Return ``log(sum(exp(input)))`` over `dim` without overflow.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logsumexp(nnlib.tensor([1000.0, 0.0]), 0)
    tensor(1000.)
    """
    return LogSumExp.apply(  # type: ignore[no-any-return]
        input, dims=many_dims("logsumexp", dim, input.ndim), keepdim=keepdim
    )
