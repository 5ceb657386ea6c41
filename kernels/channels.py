"""Images as rows of channels: (N, C, *spatial) to (N, D, H, W, C) and back.

Memory of images is channels-last (see `nnlib.kernels.convolution`). An array that lies
so is taken as it is; others are copied once, by blocks, so that reads and writes both
run along cache lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.kernels.machinery import array_module, cpu_kernel, on_cuda, prange

__all__ = ["images_of", "tensor_of"]

# Pixels that a thread moves at a time.
PIXELS = 32


@cpu_kernel
def move_channels(x: Any, y: Any) -> None:
    # (N, C, L) -> (N, L, C)
    images, channels, length = x.shape
    blocks = (length + PIXELS - 1) // PIXELS
    for job in prange(images * blocks):
        n = job // blocks
        start = (job - n * blocks) * PIXELS
        target = y[n, start : start + PIXELS]
        for c in range(channels):
            source = x[n, c, start : start + PIXELS]
            for i in range(source.size):
                target[i, c] = source[i]


def images_of(x: Any) -> Any:
    """Return (N, C, *spatial) as a C-contiguous (N, D, H, W, C) array.

    Parameters
    ----------
    x : array, 3 to 5 dimensions, any strides
        Nothing is copied where the channels of a pixel lie together already.

    Examples
    --------
    >>> images_of(np.zeros((2, 3, 5, 7))).shape
    (2, 1, 5, 7, 3)
    """
    shape = x.shape
    rank = x.ndim - 2
    moved = x.transpose(0, *range(2, rank + 2), 1)
    if not moved.flags.c_contiguous:
        if x.flags.c_contiguous and not on_cuda(x):
            moved = np.empty(moved.shape, x.dtype)
            length = math.prod(shape[2:])
            move_channels(
                x.reshape(shape[0], shape[1], length),
                moved.reshape(shape[0], length, shape[1]),
            )
        else:
            moved = array_module(x).ascontiguousarray(moved)
    return moved.reshape(shape[0], *(1,) * (3 - rank), *shape[2:], shape[1])


def tensor_of(y: Any, rank: int) -> Any:
    """Return (N, D, H, W, C) as a view (N, C, *spatial) of `rank` spatial dimensions.

    Examples
    --------
    >>> tensor_of(np.zeros((2, 1, 5, 7, 3)), 2).shape
    (2, 3, 5, 7)
    """
    y = y.reshape(y.shape[0], *y.shape[4 - rank :])
    return y.transpose(0, rank + 1, *range(1, rank + 1))
