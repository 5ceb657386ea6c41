"""Maximum of windows.

The place of a window's maximum is a constant of the derivative: gradients of every
order move numbers to and from these places.
"""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.backend.device import array_module
from nnlib.ops.pooling_arguments import adaptive_sizes, over_batch, sliding_sizes

__all__ = [
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]


def plane_index(places: Any, plan: Any) -> Any:
    """Return places within windows as positions within the flattened plane (int64)."""
    module = array_module(places)
    rank = places.ndim - 2
    rest = places.astype("int64")
    result = 0
    scale = 1
    # From the last dimension to the first: the number of a tap is row by row.
    for axis in range(2, 2 - rank, -1):
        table = module.asarray(plan.positions(axis))
        taps = plan.taps[axis]
        number = rest % taps
        rest = rest // taps
        shape = [1] * places.ndim
        shape[axis - 3 + places.ndim] = -1
        output = module.arange(table.shape[0]).reshape(shape)
        result = result + table[output, number] * scale
        scale *= plan.inputs[axis]
    return result


class MaxPool(Function):
    """The maximum of each window."""

    def forward(self, x: Any, *, plan: Any, indices: bool) -> Any:
        """Return the maxima, with `indices` also their positions in the plane."""
        if self.edges is None and not indices:
            return kernels.pooling.max_pool_values(x, plan)
        self.plan = plan
        y, places = kernels.pooling.max_pool(x, plan)
        self.save_for_backward(places)
        return (y, plane_index(places, plan)) if indices else y

    def backward(self, grad: Any, *_: Any) -> Any:
        """Move each gradient to the place of the maximum."""
        (places,) = self.saved
        return MaxScatter.apply(grad, places, plan=self.plan)


class MaxScatter(Function):
    """Numbers added up at places within windows: the transpose of `MaxGather`."""

    def forward(self, grad: Any, places: Any, *, plan: Any) -> Any:
        """Return an array of the input's shape."""
        self.plan = plan
        self.save_for_backward(places)
        return kernels.pooling.max_pool_backward(grad, places, plan)

    def backward(self, grad: Any) -> Any:
        """Pick the numbers at those places."""
        (places,) = self.saved
        return MaxGather.apply(grad, places, plan=self.plan), None


class MaxGather(Function):
    """The number at a place of each window."""

    def forward(self, x: Any, places: Any, *, plan: Any) -> Any:
        """Return one number per window."""
        self.plan = plan
        self.save_for_backward(places)
        lead = x.shape[:2]
        # (N, C, *spatial) -> (N, C, L)
        flat = x.reshape(*lead, math.prod(x.shape[2:]))
        index = plane_index(places, plan).reshape(*lead, math.prod(places.shape[2:]))
        return array_module(x).take_along_axis(flat, index, 2).reshape(places.shape)

    def backward(self, grad: Any) -> Any:
        """Move the numbers to their places."""
        (places,) = self.saved
        return MaxScatter.apply(grad, places, plan=self.plan), None


def _max_pool(
    op: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    sizes = sliding_sizes(
        op, input, rank, kernel_size, stride, padding, dilation, ceil_mode
    )
    windows = kernels.windows
    plan = windows.plan(windows.sliding, *sizes)
    indices = bool(return_indices)
    return over_batch(
        input, rank, lambda x: MaxPool.apply(x, plan=plan, indices=indices)
    )


def _adaptive(
    op: str, rank: int, input: Any, output_size: Any, return_indices: bool
) -> Any:
    sizes = adaptive_sizes(op, input, rank, output_size)
    windows = kernels.windows
    plan = windows.plan(windows.adaptive, *sizes)
    indices = bool(return_indices)
    return over_batch(
        input, rank, lambda x: MaxPool.apply(x, plan=plan, indices=indices)
    )


@public(method=False)
def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of each window of a signal; see `max_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    kernel_size, stride, padding, dilation : int
    ceil_mode, return_indices : bool
        As for `max_pool2d`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.max_pool1d(nnlib.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    tensor([[[3., 2.]]])
    """
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


@public(method=False, direct=True)
def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of each window of an image.

    A NaN within a window makes its maximum NaN. Of equal maxima the first, row by row,
    is the one that the gradient goes to.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W), floating
    kernel_size : int or pair of int
    stride : int or pair of int, default `kernel_size`
    padding : int or pair of int, default 0
        Elements that never are a maximum, on each side; at most half the kernel.
    dilation : int or pair of int, default 1
        The distance of a window's elements.
    ceil_mode : bool, default False
        Also take windows that reach beyond the padding, if they start before its end.
    return_indices : bool, default False
        Also return where the maxima are: positions in the flattened plane, int64, as
        `max_unpool2d` takes them.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (C, H', W'), or a tuple of two
        ``H' = (H + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1``, rounded
        down, or up with `ceil_mode`. Memory is channels-last.

    Raises
    ------
    ShapeError
        If the rank is wrong, the kernel larger than the padded input, the padding above
        half the kernel, or a stride below 1.
    DTypeError
        If `input` is not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.max_pool2d(nnlib.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    tensor([[ 5.,  7.],
            [13., 15.]])
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


@public(method=False)
def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of each window of a volume; see `max_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    kernel_size, stride, padding, dilation : int or triple of int
    ceil_mode, return_indices : bool
        As for `max_pool2d`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.max_pool3d(nnlib.arange(8.0).reshape(1, 1, 2, 2, 2), 2).item()
    7.0
    """
    return _max_pool(
        "max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


@public(method=False)
def adaptive_max_pool1d(
    input: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """Return the maxima of `output_size` windows; see `adaptive_max_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    output_size : int
    return_indices : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> nnlib.adaptive_max_pool1d(nnlib.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 1)
    tensor([[[3.]]])
    """
    return _adaptive("adaptive_max_pool1d", 1, input, output_size, return_indices)


@public(method=False)
def adaptive_max_pool2d(
    input: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """Return the maxima of windows that split an image evenly.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W), floating
    output_size : int or pair of int or None
        The size of the result, whatever that of the input; None keeps the input's.
        Window o of a dimension runs from ``floor(o H / H')`` to
        ``ceil((o + 1) H / H')``.
    return_indices : bool, default False
        As for `max_pool2d`.

    Returns
    -------
    Tensor, shape (N, C, *output_size), or a tuple of two

    Raises
    ------
    ShapeError
        If the rank or the size is wrong.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.adaptive_max_pool2d(nnlib.arange(16.0).reshape(1, 1, 4, 4), 1).item()
    15.0
    """
    return _adaptive("adaptive_max_pool2d", 2, input, output_size, return_indices)


@public(method=False)
def adaptive_max_pool3d(
    input: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """Return the maxima of windows of a volume; see `adaptive_max_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    output_size : int or triple of int or None
    return_indices : bool, default False
    """
    return _adaptive("adaptive_max_pool3d", 3, input, output_size, return_indices)
