"""Convolutions in one, two and three dimensions, and transposed ones.

Three functions, each bilinear, whose derivatives are one another: the convolution of x
with w, its gradient by x (which is also the transposed convolution) and its gradient by
w. So every order of derivative is made of the same three kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.ops.convolution_arguments import (
    Geometry,
    read_convolution,
    read_transposed,
)

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


class ChannelSum(Function):
    """The sum over all dimensions but the second: the gradient by a bias."""

    def forward(self, x: Any) -> Any:
        """Return the sum of each channel."""
        self.shape = x.shape
        rows = x.swapaxes(1, -1)  # (N, C, ..., W) -> (N, W, ..., C)
        moved = x.transpose(0, *range(2, x.ndim), 1)  # -> (N, ..., W, C)
        if moved.flags.c_contiguous and x.size:
            channels = x.shape[1]
            # On the CPU several pixels are one row of columns: a few channels are no
            # vector. CUDA's kernel takes any number of columns.
            most = 1 << max(0, (128 // channels).bit_length() - 1)
            if array_module(x) is not np:
                most = 1
            pixels = math.gcd(x.size // channels, most)
            sums = kernels.reduction.sum_columns(moved.reshape(-1, pixels * channels))
            return sums.reshape(pixels, channels).sum(0) if pixels > 1 else sums
        return rows.sum(axis=tuple(range(x.ndim - 1)))

    def backward(self, grad: Any) -> Any:
        """Give each element its channel's gradient."""
        column = grad.reshape(1, -1, *(1,) * (len(self.shape) - 2))
        module = array_module(grad) if not isinstance(grad, Tensor) else None
        if module is not None:
            return module.broadcast_to(column, self.shape)
        return column.expand(self.shape)


class Convolution(Function):
    """``y = w * x + b``; `geometry` says how."""

    def forward(self, x: Any, weight: Any, bias: Any, *, geometry: Geometry) -> Any:
        """Return the convolution."""
        self.geometry = geometry
        self.save_for_backward(
            x if self.needs(1) else None, weight if self.needs(0) else None
        )
        g = geometry
        return kernels.convolution.convolve(
            x, weight, bias, g.out, g.stride, g.before, g.dilation, g.groups
        )

    def backward(self, grad: Any) -> Any:
        """Return the gradients by input, weight and bias."""
        x, weight = self.saved
        g = self.geometry
        return (
            InputGradient.apply(grad, weight, None, geometry=g)
            if self.needs(0)
            else None,
            WeightGradient.apply(x, grad, geometry=g) if self.needs(1) else None,
            ChannelSum.apply(grad) if self.needs(2) else None,
        )


class InputGradient(Function):
    """The gradient of a convolution by its input, or a transposed convolution."""

    def forward(self, grad: Any, weight: Any, bias: Any, *, geometry: Geometry) -> Any:
        """Return ``w^T * grad + b``."""
        self.geometry = geometry
        self.save_for_backward(
            grad if self.needs(1) else None, weight if self.needs(0) else None
        )
        g = geometry
        return kernels.convolution.input_grad(
            grad, weight, bias, g.size, g.stride, g.before, g.dilation, g.groups
        )

    def backward(self, grad: Any) -> Any:
        """Return the gradients: a convolution and a weight gradient."""
        inner, weight = self.saved
        g = self.geometry
        return (
            Convolution.apply(grad, weight, None, geometry=g)
            if self.needs(0)
            else None,
            WeightGradient.apply(grad, inner, geometry=g) if self.needs(1) else None,
            ChannelSum.apply(grad) if self.needs(2) else None,
        )


class WeightGradient(Function):
    """The gradient of a convolution by its weight."""

    def forward(self, x: Any, grad: Any, *, geometry: Geometry) -> Any:
        """Return the gradient, of the weight's shape."""
        self.geometry = geometry
        self.save_for_backward(
            x if self.needs(1) else None, grad if self.needs(0) else None
        )
        g = geometry
        return kernels.convolution.weight_grad(
            x, grad, g.kernel, g.stride, g.before, g.dilation, g.groups
        )

    def backward(self, grad: Any) -> Any:
        """Return the gradients: an input gradient and a convolution."""
        x, inner = self.saved
        g = self.geometry
        return (
            InputGradient.apply(inner, grad, None, geometry=g)
            if self.needs(0)
            else None,
            Convolution.apply(x, grad, None, geometry=g) if self.needs(1) else None,
        )


def _convolve(
    op: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Any:
    geometry = read_convolution(
        op, rank, input, weight, bias, stride, padding, dilation, groups
    )
    if input.ndim == rank + 1:
        out = Convolution.apply(input[None], weight, bias, geometry=geometry)
        return out[0]
    return Convolution.apply(input, weight, bias, geometry=geometry)


def _transpose(
    op: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Any:
    geometry = read_transposed(
        op, rank, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    if input.ndim == rank + 1:
        out = InputGradient.apply(input[None], weight, bias, geometry=geometry)
        return out[0]
    return InputGradient.apply(input, weight, bias, geometry=geometry)


@public(method=False)
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve along one dimension; see `conv2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    weight : Tensor, shape (K, C / groups, kernel)
    bias : Tensor, shape (K,), optional
    stride, padding, dilation, groups
        As in `conv2d`.

    Returns
    -------
    Tensor, shape (N, K, L') or (K, L')

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[[1.0, 2.0, 4.0, 8.0]]])
    >>> nnlib.conv1d(x, nnlib.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2., 4.]]])
    """
    return _convolve(  # type: ignore[no-any-return]
        "conv1d", 1, input, weight, bias, stride, padding, dilation, groups
    )


@public(method=False)
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images with filters (cross-correlation, as everywhere in the field).

    ``y[n, k, i, j] = b[k] + sum_{c, a, b} w[k, c, a, b] x[n, c, i s + a d - p,
    j s + b d - p]`` for stride s, dilation d and padding p, zeros outside of x.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
        Any strides. The result is channels-last in memory, whatever the input is; a
        channels-last input saves a copy.
    weight : Tensor, shape (K, C / groups, kh, kw)
    bias : Tensor, shape (K,), optional
    stride, dilation : int or pair of int, default 1
    padding : int, pair of int, "same" or "valid", default 0
        Zeros round the image. "same" (stride 1 alone) keeps its size; where the number
        of zeros is odd, the one more is behind.
    groups : int, default 1
        Cuts the channels into so many groups, each convolved on its own.

    Returns
    -------
    Tensor, shape (N, K, H', W') or (K, H', W')
        ``H' = floor((H + 2 p - d (kh - 1) - 1) / s) + 1``.

    Raises
    ------
    ShapeError
        If ranks, channels or groups do not fit, the kernel is larger than the padded
        input, or a stride or dilation is below 1.
    DTypeError
        If the dtypes differ or are not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.conv2d(nnlib.ones(1, 1, 3, 3), nnlib.ones(1, 1, 2, 2), padding=1)[0, 0]
    tensor([[1., 2., 2., 1.],
            [2., 4., 4., 2.],
            [2., 4., 4., 2.],
            [1., 2., 2., 1.]])
    """
    return _convolve(  # type: ignore[no-any-return]
        "conv2d", 2, input, weight, bias, stride, padding, dilation, groups
    )


@public(method=False)
def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve volumes with filters; see `conv2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    weight : Tensor, shape (K, C / groups, kd, kh, kw)
    bias : Tensor, shape (K,), optional
    stride, padding, dilation, groups
        As in `conv2d`, an int or a triple.

    Returns
    -------
    Tensor, shape (N, K, D', H', W') or (K, D', H', W')

    Examples
    --------
    >>> import nnlib
    >>> nnlib.conv3d(nnlib.ones(1, 1, 2, 2, 2), nnlib.ones(1, 1, 2, 2, 2)).item()
    8.0
    """
    return _convolve(  # type: ignore[no-any-return]
        "conv3d", 3, input, weight, bias, stride, padding, dilation, groups
    )


@public(method=False)
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transpose of `conv1d`; see `conv_transpose2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    weight : Tensor, shape (C, K / groups, kernel)
    bias : Tensor, shape (K,), optional
    stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[[1.0, 2.0]]])
    >>> nnlib.conv_transpose1d(x, nnlib.tensor([[[1.0, 1.0]]]), stride=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return _transpose(  # type: ignore[no-any-return]
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding,
        groups, dilation,
    )  # fmt: skip


@public(method=False)
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transpose of `conv2d`: each input adds its filter to the output.

    The map is that of the gradient of `conv2d` by its input, so it turns the shape of
    that function's result back into the shape of its input.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    weight : Tensor, shape (C, K / groups, kh, kw)
    bias : Tensor, shape (K,), optional
    stride, dilation : int or pair of int, default 1
    padding : int or pair of int, default 0
        Rows and columns cut off each side of the result.
    output_padding : int or pair of int, default 0
        Rows and columns more at the end, less than the stride or the dilation: of the
        sizes that a strided convolution maps to one, picks one.
    groups : int, default 1

    Returns
    -------
    Tensor, shape (N, K, H', W') or (K, H', W')
        ``H' = (H - 1) s - 2 p + d (kh - 1) + output_padding + 1``.

    Raises
    ------
    ShapeError
        If the arguments do not fit, or the result would have a size below 1.
    DTypeError
        If the dtypes differ or are not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.conv_transpose2d(nnlib.ones(1, 1, 2, 2), nnlib.ones(1, 1, 2, 2))[0, 0]
    tensor([[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]])
    """
    return _transpose(  # type: ignore[no-any-return]
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding,
        groups, dilation,
    )  # fmt: skip


@public(method=False)
def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transpose of `conv3d`; see `conv_transpose2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    weight : Tensor, shape (C, K / groups, kd, kh, kw)
    bias : Tensor, shape (K,), optional
    stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.ones(1, 1, 1, 1, 1)
    >>> tuple(nnlib.conv_transpose3d(x, nnlib.ones(1, 2, 2, 2, 2)).shape)
    (1, 2, 2, 2, 2)
    """
    return _transpose(  # type: ignore[no-any-return]
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding,
        groups, dilation,
    )  # fmt: skip
