"""Softmax, its logarithm, and softmin."""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import resolve_dtype
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.casting import cast
from nnlib.ops.dims import one_dim
from nnlib.ops.exponential import exp

__all__ = ["log_softmax", "softmax", "softmin"]


def sum_over(x: Any, dim: int) -> Any:
    """Return the sum over one dimension, which stays with length 1."""
    shape = list(x.shape)
    if shape:
        shape[dim] = 1
    return sum_to(x, tuple(shape))


def by_rows(kernel: Any, dim: int, *arrays: Any) -> Any:
    """Run a kernel over rows along any dimension."""
    shape = arrays[0].shape
    last = len(shape) - 1
    if dim == last:
        columns = shape[-1]
        if not columns:
            return arrays[0].copy()
        if last == 1:
            return kernel(*arrays)
        rows = [x.reshape(-1, columns) for x in arrays]  # (..., C) -> (N, C)
        return kernel(*rows).reshape(shape)
    if last < 0:
        return kernel(*[x.reshape(1, 1) for x in arrays]).reshape(())
    module = array_module(arrays[0])
    moved = by_rows(kernel, last, *[module.moveaxis(x, dim, -1) for x in arrays])
    return module.moveaxis(moved, -1, dim)


class SoftmaxBackward(Function):
    """``y (grad - sum(grad y))``."""

    def forward(self, grad: Any, y: Any, *, dim: int) -> Any:
        """Return the gradient by softmax's input."""
        self.dim = dim
        self.save_for_backward(grad, y)
        return by_rows(kernels.softmax.softmax_backward, dim, grad, y)

    def backward(self, grad: Any) -> Any:
        """Differentiate by both arguments."""
        outer, y = self.saved
        first = second = None
        if self.needs(0):
            first = SoftmaxBackward.apply(grad, y, dim=self.dim)
        if self.needs(1):
            total = sum_over(outer * y, self.dim)
            second = grad * (outer - total) - outer * sum_over(grad * y, self.dim)
        return first, second


class Softmax(Function):
    """``exp(x) / sum(exp(x))``."""

    promotes = "float"

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the distribution along `dim`."""
        self.dim = dim
        run = kernels.softmax.softmax
        y = run(x) if dim == 1 and x.ndim == 2 else by_rows(run, dim, x)
        self.save_for_backward(y)
        return y

    def backward(self, grad: Any) -> Any:
        """Return ``y (grad - sum(grad y))``."""
        (y,) = self.saved
        return SoftmaxBackward.apply(grad, y, dim=self.dim)


class LogSoftmaxBackward(Function):
    """``grad - exp(y) sum(grad)``."""

    def forward(self, grad: Any, y: Any, *, dim: int) -> Any:
        """Return the gradient by log_softmax's input."""
        self.dim = dim
        self.save_for_backward(grad, y)
        return by_rows(kernels.softmax.log_softmax_backward, dim, grad, y)

    def backward(self, grad: Any) -> Any:
        """Differentiate by both arguments."""
        outer, y = self.saved
        product = grad * exp(y)
        return (
            grad - sum_over(product, self.dim) if self.needs(0) else None,
            -product * sum_over(outer, self.dim) if self.needs(1) else None,
        )


class LogSoftmax(Function):
    """``x - log(sum(exp(x)))``."""

    promotes = "float"

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the logarithm of the distribution along `dim`."""
        self.dim = dim
        run = kernels.softmax.log_softmax
        y = run(x) if dim == 1 and x.ndim == 2 else by_rows(run, dim, x)
        self.save_for_backward(y)
        return y

    def backward(self, grad: Any) -> Any:
        """Return ``grad - exp(y) sum(grad)``."""
        (y,) = self.saved
        return LogSoftmaxBackward.apply(grad, y, dim=self.dim)


@public(axis=True)
def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Return ``exp(input) / sum(exp(input))`` along one dimension, without overflow.

    Parameters
    ----------
    input : Tensor, any shape
    dim : int
        The dimension along which the results add up to 1. PyTorch guesses one
        where none is given; here it must be.
    dtype : numpy.dtype or str, optional
        Cast `input` first.

    Raises
    ------
    DTypeError
        If `dim` is no int.
    BoundsError
        If there is no such dimension.

    Notes
    -----
    A row that is -inf throughout gives NaN.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.softmax(nnlib.tensor([[1.0, 1.0], [0.0, 3.0]]), dim=1)
    tensor([[0.5   , 0.5   ],
            [0.0474, 0.9526]])
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    return Softmax.apply(input, dim=one_dim("softmax", dim, input.ndim))  # type: ignore[no-any-return]


@public(axis=True)
def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Return ``log(softmax(input))``, accurate where the softmax rounds to 0.

    Parameters
    ----------
    input : Tensor, any shape
    dim : int
        The dimension along which the exponentials of the results add up to 1.
    dtype : numpy.dtype or str, optional
        Cast `input` first.

    Raises
    ------
    DTypeError
        If `dim` is no int.
    BoundsError
        If there is no such dimension.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.log_softmax(nnlib.tensor([0.0, 1000.0]), dim=0)
    tensor([-1000.,     0.])
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    return LogSoftmax.apply(  # type: ignore[no-any-return]
        input, dim=one_dim("log_softmax", dim, input.ndim)
    )


@public(method=False)
def softmin(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Return ``softmax(-input)`` along one dimension.

    Parameters
    ----------
    input, dim, dtype
        As for `softmax`.
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    dim = one_dim("softmin", dim, input.ndim)
    return Softmax.apply(-input, dim=dim)  # type: ignore[no-any-return]
