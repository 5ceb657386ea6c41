"""Maxima back in their places: the partial inverse of max pooling."""

from __future__ import annotations

import math
from typing import Any

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.convolution_arguments import per_dim, read_output_size
from nnlib.ops.dims import raw
from nnlib.ops.gathering import place_along
from nnlib.ops.pooling_arguments import check_input

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def _unpooled(
    op: str,
    input: Any,
    rank: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    size: Any,
) -> tuple[int, ...]:
    shape = check_input(op, input, rank)[-rank:]
    kernel = per_dim(op, "kernel_size", kernel_size, rank, 1)
    steps = kernel if stride is None else per_dim(op, "stride", stride, rank, 1)
    border = per_dim(op, "padding", padding, rank, 0)
    default = tuple(
        (n - 1) * s + k - 2 * p
        for n, k, s, p in zip(shape, kernel, steps, border, strict=True)
    )
    if size is None:
        return default
    wanted = read_output_size(op, size, rank, len(input.shape))
    for given, middle, s in zip(wanted, default, steps, strict=True):
        if not middle - s < given < middle + s:
            raise ShapeError(
                f"{op}: output_size: expected each within one stride of {default}, "
                f"got {wanted}"
            )
    return wanted


def _max_unpool(
    op: str,
    rank: int,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Any:
    size = _unpooled(op, input, rank, kernel_size, stride, padding, output_size)
    shape = tuple(input.shape)
    if tuple(indices.shape) != shape:
        raise ShapeError(
            f"{op}: indices have shape {tuple(indices.shape)}, expected {shape}"
        )
    index = raw(indices)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"{op}: indices: expected integers, got {index.dtype}")
    length = math.prod(size)
    if type(index).__module__ == "numpy" and index.size:
        wrong = index.min() if index.min() < 0 else index.max()
        if not 0 <= wrong < length:
            raise BoundsError(
                f"{op}: indices: {wrong} is outside of the output's {length} elements"
            )
    lead = shape[:-rank]
    flat = input.reshape(*lead, math.prod(shape[-rank:]))
    index = index.reshape(flat.shape)
    out = place_along(flat, index, (*lead, length), len(lead))
    return out.reshape(*lead, *size)


@public(method=False, reads=True)
def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put maxima back to where `max_pool1d` found them; see `max_unpool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    indices : integer Tensor of the same shape
    kernel_size, stride, padding : int
    output_size : tuple of int, optional
        As for `max_unpool2d`.
    """
    return _max_unpool(  # type: ignore[no-any-return]
        "max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size
    )


@public(method=False, reads=True)
def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put maxima back to where `max_pool2d` found them; all else is 0.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
        The maxima.
    indices : integer Tensor of the same shape
        From ``max_pool2d(..., return_indices=True)``. Where one occurs twice, the last
        number stays.
    kernel_size, stride, padding : int or pair of int
        As they were for `max_pool2d`: they tell the size of the result.
    output_size : tuple of int, optional
        Its size, where several lead to that of `input`.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (C, H', W')
        ``H' = (H - 1) stride + kernel_size - 2 padding``, unless given.

    Raises
    ------
    ShapeError
        If shapes do not fit, or `output_size` is a stride or more away.
    BoundsError
        If an index is outside of the result (on the CPU).

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> x = nnlib.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, places = F.max_pool2d(x, 2, return_indices=True)
    >>> F.max_unpool2d(y, places, 2)[0, 0]
    tensor([[0., 0.],
            [0., 3.]])
    """
    return _max_unpool(  # type: ignore[no-any-return]
        "max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size
    )


@public(method=False, reads=True)
def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put maxima back to where `max_pool3d` found them; see `max_unpool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    indices : integer Tensor of the same shape
    kernel_size, stride, padding : int or triple of int
    output_size : tuple of int, optional
        As for `max_unpool2d`.
    """
    return _max_unpool(  # type: ignore[no-any-return]
        "max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size
    )
