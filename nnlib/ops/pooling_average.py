"""Averages of windows: plain, weighted by distance, adaptive; and power averages."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.ops.convolution_arguments import per_dim
from nnlib.ops.pooling import max_pool1d, max_pool2d, max_pool3d
from nnlib.ops.pooling_arguments import (
    adaptive_sizes,
    over_batch,
    sliding_sizes,
)
from nnlib.ops.resize import Resample
from nnlib.ops.selection import masked_fill

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "gaussian_avg_pool2d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
]


def _avg_pool(
    op: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
    sigma: tuple[float, ...] | None = None,
) -> Any:
    sizes = sliding_sizes(op, input, rank, kernel_size, stride, padding, 1, ceil_mode)
    windows = kernels.windows
    axes = []
    for number, size in enumerate(sizes):
        # The divisor of the whole window, once.
        share = divisor if divisor is None or not number else 1
        width = None if sigma is None else sigma[number]
        axes.append((*size[:5], share, bool(count_include_pad), width))
    plan = windows.plan(windows.sliding_mean, *axes)
    return over_batch(input, rank, lambda x: Resample.apply(x, plan=plan))


def _divisor(op: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DTypeError(f"{op}: divisor_override: expected an int, got {value!r}")
    if not value:
        raise ArgumentError(f"{op}: divisor_override: expected another number than 0")
    return int(value)


def _adaptive(op: str, rank: int, input: Any, output_size: Any) -> Any:
    sizes = adaptive_sizes(op, input, rank, output_size)
    windows = kernels.windows
    plan = windows.plan(windows.adaptive_mean, *sizes)
    return over_batch(input, rank, lambda x: Resample.apply(x, plan=plan))


@public(method=False)
def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window of a signal; see `avg_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    kernel_size, stride, padding : int
    ceil_mode, count_include_pad : bool
        As for `avg_pool2d`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.avg_pool1d(nnlib.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2)
    tensor([[[2., 1.]]])
    """
    return _avg_pool(  # type: ignore[no-any-return]
        "avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode,
        count_include_pad,
    )  # fmt: skip


@public(method=False, direct=True)
def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of an image.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W), floating
    kernel_size : int or pair of int
    stride : int or pair of int, default `kernel_size`
    padding : int or pair of int, default 0
        Zeros on each side; at most half the kernel.
    ceil_mode : bool, default False
        Also take windows that reach beyond the padding, if they start before its end.
    count_include_pad : bool, default True
        Whether zeros of the padding count in the mean.
    divisor_override : int, optional
        Divide the sum of a window by this.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (C, H', W')
        ``H' = (H + 2 padding - kernel_size) / stride + 1``, rounded down, or up with
        `ceil_mode`. Memory is channels-last.

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
    >>> import nnlib.nn.functional as F
    >>> F.avg_pool2d(nnlib.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    tensor([[ 2.5,  4.5],
            [10.5, 12.5]])
    """
    return _avg_pool(  # type: ignore[no-any-return]
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode,
        count_include_pad, _divisor("avg_pool2d", divisor_override),
    )  # fmt: skip


@public(method=False)
def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window of a volume; see `avg_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    kernel_size, stride, padding : int or triple of int
    ceil_mode, count_include_pad, divisor_override
        As for `avg_pool2d`.
    """
    return _avg_pool(  # type: ignore[no-any-return]
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode,
        count_include_pad, _divisor("avg_pool3d", divisor_override),
    )  # fmt: skip


@public(method=False)
def gaussian_avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    sigma: float | tuple[float, float] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tensor:
    """Return the mean of each window, weighted by the distance from its middle.

    The weight at distance d is ``exp(-d^2 / (2 sigma^2))``; weights of a window add up
    to 1.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode
        As for `avg_pool2d`.
    sigma : float or pair of float, optional
        Default: a quarter of `kernel_size`.
    count_include_pad : bool, default False
        Whether weights of the padding count.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (C, H', W')

    Raises
    ------
    Error
        If `sigma` is not positive.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> x = nnlib.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]])
    >>> round(F.gaussian_avg_pool2d(x, 3, sigma=1.0).item(), 4)
    0.2042
    """
    op = "gaussian_avg_pool2d"
    if sigma is None:
        width = tuple(k / 4 for k in per_dim(op, "kernel_size", kernel_size, 2, 1))
    else:
        given = sigma if isinstance(sigma, tuple | list) else (sigma, sigma)
        width = tuple(map(float, given))
    if len(width) != 2 or not all(w > 0 and math.isfinite(w) for w in width):
        raise ArgumentError(
            f"{op}: sigma: expected one or two positive numbers, got {sigma!r}"
        )
    return _avg_pool(  # type: ignore[no-any-return]
        op, 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        None, width,
    )  # fmt: skip


def _lp_pool(
    op: str,
    rank: int,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any,
    ceil_mode: bool,
) -> Any:
    if isinstance(norm_type, str) or not hasattr(norm_type, "__float__"):
        raise DTypeError(f"{op}: norm_type: expected a number, got {norm_type!r}")
    if norm_type == 0:
        raise ArgumentError(f"{op}: norm_type: expected another number than 0")
    count = math.prod(per_dim(op, "kernel_size", kernel_size, rank, 1))
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        pool = (max_pool1d, max_pool2d, max_pool3d)[rank - 1]
        peaks = pool(abs(input) * sign, kernel_size, stride, ceil_mode=ceil_mode)
        return peaks * sign
    powers = input**norm_type
    mean = _avg_pool(op, rank, powers, kernel_size, stride, 0, ceil_mode, True)
    # The slope of a root is infinite at 0: such windows pass no gradient on.
    nothing = mean == 0
    root = (masked_fill(mean, nothing, 1) * count) ** (1.0 / norm_type)
    return masked_fill(root, nothing, 0)


@public(method=False)
def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the p-norm of each window of a signal; see `lp_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    norm_type : float
    kernel_size, stride : int
    ceil_mode : bool, default False
    """
    return _lp_pool(  # type: ignore[no-any-return]
        "lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode
    )


@public(method=False)
def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return ``(sum x^p)^(1/p)`` over each window of an image.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W), floating
    norm_type : float
        The power p: 1 gives sums, 2 the root of the sum of squares, infinity the
        largest absolute value.
    kernel_size : int or pair of int
    stride : int or pair of int, default `kernel_size`
    ceil_mode : bool, default False
        As for `avg_pool2d`; a window that reaches beyond the input counts as if its
        mean held for all of it.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (C, H', W')

    Raises
    ------
    ArgumentError
        If `norm_type` is 0.
    ShapeError, DTypeError
        As for `avg_pool2d`.

    Notes
    -----
    Where the sum of a window is 0, its gradient is 0; where it is negative (of an odd
    power), the root is NaN, but for p = 1.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.lp_pool2d(nnlib.tensor([[[[3.0, 4.0]]]]), 2, (1, 2)).item()
    5.0
    """
    return _lp_pool(  # type: ignore[no-any-return]
        "lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode
    )


@public(method=False)
def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the p-norm of each window of a volume; see `lp_pool2d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    norm_type : float
    kernel_size, stride : int or triple of int
    ceil_mode : bool, default False
    """
    return _lp_pool(  # type: ignore[no-any-return]
        "lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode
    )


@public(method=False)
def adaptive_avg_pool1d(input: Any, output_size: Any) -> Tensor:
    """Return the means of windows that split the input evenly.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L), floating
    output_size : int
        The size of the result; the windows are those of `adaptive_max_pool1d`.

    Raises
    ------
    ShapeError
        If the rank or the size is wrong.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.adaptive_avg_pool1d(nnlib.ones(2, 3, 4), 1).flatten()
    tensor([1., 1., 1., 1., 1., 1.])
    """
    return _adaptive("adaptive_avg_pool1d", 1, input, output_size)  # type: ignore[no-any-return]


@public(method=False)
def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """Return the means of windows that split the input evenly.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W), floating
    output_size : int or pair of int or None
        The size of the result; the windows are those of `adaptive_max_pool2d`.

    Raises
    ------
    ShapeError
        If the rank or the size is wrong.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.adaptive_avg_pool2d(nnlib.ones(2, 3, 4, 4), 1).flatten()
    tensor([1., 1., 1., 1., 1., 1.])
    """
    return _adaptive("adaptive_avg_pool2d", 2, input, output_size)  # type: ignore[no-any-return]


@public(method=False)
def adaptive_avg_pool3d(input: Any, output_size: Any) -> Tensor:
    """Return the means of windows that split the input evenly.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W), floating
    output_size : int or triple of int or None
        The size of the result; the windows are those of `adaptive_max_pool3d`.

    Raises
    ------
    ShapeError
        If the rank or the size is wrong.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.adaptive_avg_pool3d(nnlib.ones(2, 3, 4, 4, 4), 1).flatten()
    tensor([1., 1., 1., 1., 1., 1.])
    """
    return _adaptive("adaptive_avg_pool3d", 3, input, output_size)  # type: ignore[no-any-return]
