"""Maximum of windows whose places are drawn at random: fractional pooling.

B. Graham, "Fractional Max-Pooling", 2014. The windows of one image and channel lie at
``floor((i + u) alpha) - floor(u alpha)`` with
``alpha = (size - kernel) / (outputs - 1)`` and one random ``u`` for each dimension: on
average so far apart that the outputs cover the input, whatever the ratio of both sizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.backend.device import array_module, device_of
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.convolution_arguments import per_dim
from nnlib.ops.dims import constant, raw
from nnlib.ops.gathering import TakeAlong
from nnlib.ops.random_tensors import rand

__all__ = ["fractional_max_pool2d", "fractional_max_pool3d"]


def _starts(samples: Any, size: int, kernel: int, outputs: int) -> Any:
    """Return where the windows of each sample begin: samples' shape + (outputs,)."""
    module = array_module(samples)
    places = module.arange(outputs)
    if outputs > 1:
        alpha = samples.dtype.type((size - kernel) / (outputs - 1))
        shifted = (places + samples[..., None]) * alpha
        first = module.floor(samples * alpha)[..., None]
        starts = (module.floor(shifted) - first).astype(np.int64)
    else:
        starts = module.zeros((*samples.shape, 1), np.int64)
    # The last window ends with the input, whatever the rounding.
    starts[..., -1] = size - kernel
    return starts


def _window_index(starts: list[Any], sizes: Any, kernel: Any) -> Any:
    """Return the elements of each window in the flattened plane.

    ``starts`` holds (N, C, outputs) for each dimension; the result has shape
    (N, C, *outputs, taps).
    """
    module = array_module(starts[0])
    rank = len(sizes)
    index: Any = 0
    for dim, (begin, size, taps) in enumerate(zip(starts, sizes, kernel, strict=True)):
        places = begin[..., None] + module.arange(taps)  # (N, C, out, taps)
        shape = [*begin.shape[:2], *[1] * (2 * rank)]
        shape[2 + dim], shape[2 + rank + dim] = begin.shape[2], taps
        index = index * size + places.reshape(shape)
    lead = index.shape[: 2 + rank]
    return index.reshape(*lead, math.prod(kernel))


def _output_size(
    op: str, sizes: Any, kernel: Any, output_size: Any, output_ratio: Any
) -> tuple[int, ...]:
    rank = len(sizes)
    if (output_size is None) == (output_ratio is None):
        raise ArgumentError(f"{op}: expected output_size or output_ratio, one of them")
    if output_size is None:
        ratios = (
            [output_ratio] * rank
            if isinstance(output_ratio, int | float | np.floating)
            else list(output_ratio)
        )
        if len(ratios) != rank or not all(0 < ratio < 1 for ratio in ratios):
            raise ArgumentError(
                f"{op}: output_ratio: expected {rank} numbers between 0 and 1, got "
                f"{output_ratio}"
            )
        wanted = tuple(int(n * ratio) for n, ratio in zip(sizes, ratios, strict=True))
    else:
        wanted = tuple(per_dim(op, "output_size", output_size, rank, 1))
    for size, taps, outputs in zip(sizes, kernel, wanted, strict=True):
        if not 1 <= outputs <= size - taps + 1:
            raise ShapeError(
                f"{op}: {outputs} windows of {taps} do not fit a dimension of {size}: "
                f"expected 1 to {size - taps + 1}"
            )
    return wanted


def _pool(
    op: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    samples: Any,
) -> Any:
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{op}: input: expected {rank + 2} dimensions, or {rank + 1} without a "
            f"batch, got shape {tuple(input.shape)}"
        )
    batched = input.ndim == rank + 2
    x = input if batched else input[None]
    count, channels, *sizes = x.shape
    kernel = per_dim(op, "kernel_size", kernel_size, rank, 1)
    outputs = _output_size(op, sizes, kernel, output_size, output_ratio)
    if samples is None:
        dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float32
        samples = rand(count, channels, rank, dtype=dtype, device=device_of(raw(x)))
    drawn = raw(samples)
    if tuple(drawn.shape) != (count, channels, rank):
        raise ShapeError(
            f"{op}: _random_samples: expected shape {(count, channels, rank)}, got "
            f"{tuple(drawn.shape)}"
        )
    if drawn.dtype.kind != "f":
        raise DTypeError(
            f"{op}: _random_samples: expected a floating dtype, got {drawn.dtype}"
        )
    # As in PyTorch the width of images comes first, and last of volumes.
    order = (1, 0) if rank == 2 else (0, 1, 2)
    starts = [
        _starts(drawn[:, :, place], size, taps, wanted)
        for place, size, taps, wanted in zip(order, sizes, kernel, outputs, strict=True)
    ]
    index = _window_index(starts, sizes, kernel)
    flat = x.reshape(count, channels, math.prod(sizes))
    module = array_module(index)
    values = raw(flat)
    windows = module.take_along_axis(
        values, index.reshape(count, channels, math.prod(index.shape[2:])), 2
    ).reshape(index.shape)
    best = module.argmax(windows, -1)[..., None]
    chosen = module.take_along_axis(index, best, -1)
    chosen = chosen.reshape(count, channels, math.prod(outputs))
    places = constant(chosen, input)
    shape = (count, channels, *outputs)
    pooled = TakeAlong.apply(flat, places, dim=2).reshape(shape)
    found = (pooled, places.reshape(shape)) if return_indices else (pooled,)
    found = found if batched else tuple(part[0] for part in found)
    return found if return_indices else found[0]


@public(method=False, reads=True)
def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Return the maximum of windows of images at random places, of a wanted number.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size : int or pair of int
        The size of a window.
    output_size : int or pair of int, optional
        The number of windows along each dimension.
    output_ratio : float or pair of float, optional
        The same as a share of the input's size, between 0 and 1.
    return_indices : bool, default False
        Return the places of the maxima too, as `max_unpool2d` takes them.
    _random_samples : Tensor, shape (N, C, 2), optional
        The random numbers, width first, in place of new ones.

    Returns
    -------
    Tensor, shape (N, C, *output_size) or (C, *output_size), or a pair of such

    Raises
    ------
    ArgumentError, ShapeError
        If not one of `output_size` and `output_ratio` is given, or it does not fit.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib.nn import functional as F
    >>> tuple(F.fractional_max_pool2d(nnlib.zeros(1, 3, 10, 9), 2, (7, 6)).shape)
    (1, 3, 7, 6)
    """
    return _pool(
        "fractional_max_pool2d",
        2,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
    )


@public(method=False, reads=True)
def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Return the maximum of windows of volumes at random places.

    As `fractional_max_pool2d`, for shape (N, C, D, H, W) or (C, D, H, W), with three
    random numbers for each volume, the first of them for the depth.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib.nn import functional as F
    >>> tuple(F.fractional_max_pool3d(nnlib.zeros(3, 5, 6, 7), 2, 3).shape)
    (3, 3, 3, 3)
    """
    return _pool(
        "fractional_max_pool3d",
        3,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
    )
