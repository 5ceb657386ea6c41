"""Images as rows of channels: (N, C, *spatial) to (N, D, H, W, C) and back.

Memory of images is channels-last (see `nnlib.kernels.convolution`). An array that lies
so is taken as it is; others are copied once, by blocks, so that reads and writes both
run along cache lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.machinery.caches import outgrows_caches

__all__ = [
    "check_out",
    "contiguous",
    "give_back",
    "grain_of",
    "images_of",
    "result_images",
    "stage_of",
    "tensor_of",
    "view_of",
]

# Pixels that a thread moves at a time.
PIXELS = 32
# Bytes that are made in the cache at a time where the result is streamed: so few that
# the processor writes them to memory while it makes the next.
_STAGE = 4096
# Elements that each thread of a loop over images has at least.
GRAIN = 40000


@cpu_loop
def move_images(begin: int, end: int, x: Any, y: Any) -> None:
    """Write blocks of pixels of (N, C, L) to (N, L, C)."""
    _, channels, length = x.shape
    blocks = (length + PIXELS - 1) // PIXELS
    for job in range(begin, end):
        n = job // blocks
        start = (job - n * blocks) * PIXELS
        target = y[n, start : start + PIXELS]
        for c in range(channels):
            source = x[n, c, start : start + PIXELS]
            for i in range(source.size):
                target[i, c] = source[i]


@cpu_kernel(shared=True)
def move_channels(x: Any, y: Any) -> None:
    # (N, C, L) -> (N, L, C)
    images, channels, length = x.shape
    blocks = (length + PIXELS - 1) // PIXELS
    grain = max(1, GRAIN // max(1, channels * min(length, PIXELS)))
    spread(move_images, images * blocks, grain, (x, y))


def view_of(x: Any) -> Any:
    """Return (N, C, *spatial) as a view (N, D, H, W, C).

    Examples
    --------
    >>> view_of(np.zeros((2, 3, 5, 7))).shape
    (2, 1, 5, 7, 3)
    """
    rank = x.ndim - 2
    if rank == 2:
        return x.transpose(0, 2, 3, 1)[:, None]
    moved = x.transpose(0, *range(2, rank + 2), 1)
    if rank == 3:
        return moved
    return moved[:, None, None]


def contiguous(images: Any) -> Any:
    """Return (N, D, H, W, C) as a C-contiguous array: itself, or a copy.

    Examples
    --------
    >>> contiguous(view_of(np.zeros((2, 3, 5, 7)))).flags.c_contiguous
    True
    """
    if images.flags.c_contiguous:
        return images
    first = images.transpose(0, 4, 1, 2, 3)
    movable = first.flags.c_contiguous and images.itemsize >= 4
    if not movable or on_cuda(images):
        return array_module(images).ascontiguousarray(images)
    n, c = first.shape[:2]
    length = math.prod(first.shape[2:])
    moved = np.empty((n, length, c), images.dtype)
    move_channels(first.reshape(n, c, length), moved)
    return moved.reshape(images.shape)


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
    return contiguous(view_of(x))


def tensor_of(y: Any, rank: int) -> Any:
    """Return (N, D, H, W, C) as a view (N, C, *spatial) of `rank` spatial dimensions.

    Examples
    --------
    >>> tensor_of(np.zeros((2, 1, 5, 7, 3)), 2).shape
    (2, 3, 5, 7)
    """
    if rank == 2:
        return y[:, 0].transpose(0, 3, 1, 2)
    y = y.reshape(y.shape[0], *y.shape[4 - rank :])
    return y.transpose(0, rank + 1, *range(1, rank + 1))


def check_out(op: str, out: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise ShapeError unless `out` has this shape and dtype."""
    if out.shape != shape or out.dtype != dtype:
        raise ShapeError(
            f"{op}: out is {out.dtype} of shape {out.shape}, expected {dtype} of shape "
            f"{shape}"
        )


def result_images(
    op: str, like: Any, out: Any, shape: tuple[int, ...], dtype: Any, rank: int
) -> Any:
    """Return where a kernel writes a result of shape (N, D, H, W, C).

    That is `out` itself if it lies channels-last; else a new array, whose content
    `give_back` brings to `out`.

    Raises
    ------
    ShapeError
        If `out` has another shape or dtype.
    """
    if out is None:
        return array_module(like).empty(shape, dtype)
    check_out(op, out, (shape[0], shape[4], *shape[4 - rank : 4]), dtype)
    moved = out.transpose(0, *range(2, rank + 2), 1)
    if moved.flags.c_contiguous:
        return moved.reshape(shape)
    return array_module(like).empty(shape, dtype)


def give_back(images: Any, out: Any, rank: int) -> Any:
    """Return what `result_images` made and a kernel has filled, as (N, C, *spatial).

    Examples
    --------
    >>> out = np.empty((1, 2, 3))
    >>> images = result_images("copy", out, out, (1, 1, 1, 3, 2), out.dtype, 1)
    >>> images[...] = 5.0
    >>> give_back(images, out, 1) is out, out.max().item()
    (True, 5.0)
    """
    if out is None:
        return tensor_of(images, rank)
    moved = out.transpose(0, *range(2, rank + 2), 1)
    if not moved.flags.c_contiguous:
        out[...] = tensor_of(images, rank)
    return out


def grain_of(rows: int, *images: Any) -> int:
    """Return how many of `rows` make `GRAIN` elements of the largest array."""
    result: int = max(1, GRAIN * rows // max(x.size for x in images))
    return result


def stage_of(images: Any) -> int:
    """Return the bytes of a result's pixels to make before they are streamed, or 0.

    Whole pixels; 0 is for a result (..., C) that stays in the caches: each pixel goes
    where it belongs.

    Examples
    --------
    >>> stage_of(np.zeros((1, 1, 2, 2, 3)))
    0
    """
    if not outgrows_caches(images.nbytes):
        return 0
    pixel: int = images.shape[-1] * images.itemsize
    return max(1, _STAGE // pixel) * pixel
