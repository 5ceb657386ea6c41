"""Windows of images as columns, and back: unfold and fold."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.convolution_arguments import per_dim

__all__ = ["fold", "unfold"]


class _Windows(NamedTuple):
    """Which windows of an image of `size` are meant; pairs of height and width."""

    size: Any
    windows: Any
    kernel: Any
    stride: Any
    padding: Any
    dilation: Any


class Unfold(Function):
    """Images to columns."""

    def forward(self, x: Any, *, layout: _Windows) -> Any:
        """Return (N, C * kh * kw, L)."""
        self.layout = layout
        return kernels.unfold.unfold(x, *layout[1:])

    def backward(self, grad: Any) -> Any:
        """Add the columns up."""
        return Fold.apply(grad, layout=self.layout)


class Fold(Function):
    """Columns to images: the transpose."""

    def forward(self, columns: Any, *, layout: _Windows) -> Any:
        """Return (N, C, H, W)."""
        self.layout = layout
        return kernels.unfold.fold(columns, *layout)

    def backward(self, grad: Any) -> Any:
        """Give each copy the gradient."""
        return Unfold.apply(grad, layout=self.layout)


def _read(
    op: str, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> _Windows:
    kernel = per_dim(op, "kernel_size", kernel_size, 2, 1)
    gaps = per_dim(op, "dilation", dilation, 2, 1)
    border = per_dim(op, "padding", padding, 2, 0)
    steps = per_dim(op, "stride", stride, 2, 1)
    windows = tuple(
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, d, p, s in zip(size, kernel, gaps, border, steps, strict=True)
    )
    if min(windows) < 1:
        raise ShapeError(
            f"{op}: kernel_size {kernel} with dilation {gaps} is larger than the image "
            f"{tuple(size)} padded by {border}"
        )
    return _Windows(tuple(size), windows, kernel, steps, border, gaps)


def _check_floating(op: str, input: Any) -> None:
    if input.dtype.kind != "f" and input.dtype.name != "bfloat16":
        raise DTypeError(f"{op}: input: expected a floating dtype, got {input.dtype}")


@public(method=False)
def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Return the windows that a convolution would read, one per column.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or pair of int
        As in `nnlib.conv2d`.

    Returns
    -------
    Tensor, shape (N, C * kh * kw, L) or (C * kh * kw, L)
        For L windows, row by row.

    Raises
    ------
    ShapeError
        If the kernel is larger than the padded image, or an argument does not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.unfold(nnlib.arange(4.0).reshape(1, 2, 2), 2)
    tensor([[0.],
            [1.],
            [2.],
            [3.]])
    """
    if input.ndim not in (3, 4):
        raise ShapeError(
            "unfold: input: expected (N, C, H, W) or (C, H, W), got shape "
            f"{tuple(input.shape)}"
        )
    _check_floating("unfold", input)
    layout = _read("unfold", input.shape[-2:], kernel_size, dilation, padding, stride)
    if input.ndim == 3:
        out = Unfold.apply(input[None], layout=layout)
        return out[0]  # type: ignore[no-any-return]
    return Unfold.apply(input, layout=layout)  # type: ignore[no-any-return]


@public(method=False)
def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Add the columns of `unfold` up where they came from.

    Parameters
    ----------
    input : Tensor, shape (N, C * kh * kw, L) or (C * kh * kw, L)
    output_size : int or pair of int
        Height and width of the images.
    kernel_size, dilation, padding, stride : int or pair of int
        As in `unfold`.

    Returns
    -------
    Tensor, shape (N, C, H, W) or (C, H, W)

    Raises
    ------
    ShapeError
        If the number of rows or columns is not that of `unfold`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.fold(nnlib.ones(2, 2), (1, 3), (1, 2))
    tensor([[[1., 2., 1.]]])
    """
    if input.ndim not in (2, 3):
        raise ShapeError(
            "fold: input: expected (N, C * kh * kw, L) or (C * kh * kw, L), got shape "
            f"{tuple(input.shape)}"
        )
    _check_floating("fold", input)
    size = per_dim("fold", "output_size", output_size, 2, 1)
    layout = _read("fold", size, kernel_size, dilation, padding, stride)
    taps, length = math.prod(layout.kernel), math.prod(layout.windows)
    rows, columns = input.shape[-2:]
    if rows % taps or columns != length:
        raise ShapeError(
            f"fold: input has {rows} rows and {columns} columns, expected a multiple "
            f"of {taps} rows and {length} columns"
        )
    if input.ndim == 2:
        out = Fold.apply(input[None], layout=layout)
        return out[0]  # type: ignore[no-any-return]
    return Fold.apply(input, layout=layout)  # type: ignore[no-any-return]
