"""Images sampled at places of a grid, and the gradients of that (CPU).

A place has taps along each axis, the pixels around it with their weights; what it reads
is the weighted sum over the window that is their product, as in `nnlib.kernels.resize`,
but for windows that are found place by place. Taps outside the image are left out.

The gradient by the images goes through the places of an image in their order, one
thread for all of some channels, and so is the same whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.addresses import load
from nnlib.kernels.channels import images_of, tensor_of
from nnlib.kernels.grid_taps import (
    BATCH,
    END,
    NUMBERS,
    WEIGHTS,
    find_rows,
    find_windows,
    set_flat,
    tables_of,
)
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, on_cuda, spread
from nnlib.kernels.vectors import clear_bytes
from nnlib.kernels.window_vectors import add_to_windows, add_windows

__all__ = ["MODES", "PADDINGS", "fits", "grid_gradient", "input_gradient", "sample"]

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
# Places that a thread samples at least, and channels that one adds to at least.
_PLACES = 256
_CHANNELS = 16
# Jobs for the gradient by the images: enough for the threads of most machines.
_JOBS = 16


@cpu_loop
def sample_places(begin: Any, end: Any, x: Any, grid: Any, shapes: Any, y: Any) -> None:
    depth, height, width, channels, places = shapes[:5]
    numbers = np.zeros(NUMBERS, np.int64)
    weights = np.empty(WEIGHTS, x.dtype)
    pitch = channels * x.itemsize
    base = x.ctypes.data, width * pitch
    image = begin // places
    for first in range(begin, end, BATCH):
        last = min(first + BATCH, end)
        tables, rows = tables_of(numbers, weights)
        if first == begin:
            set_flat(tables, x[0])
        find_windows(first, last, grid, shapes, tables)
        for p in range(first, last):
            if p >= (image + 1) * places:
                image += 1
            j = p - first
            count = find_rows(j, image, base, depth, height, tables, x[0], rows)
            wide = 2 * BATCH + j
            numbers[END] = load(tables[0], wide, 0)
            add_windows(
                *rows, count, tables[1] + 32 * wide,
                tables[2] + 4 * x.itemsize * wide, rows[0] + 128, 0, 1,
                y.ctypes.data + p * pitch, 0, 0, channels, channels, 0, x[0],
                np.uint8(0),
            )  # fmt: skip


@cpu_kernel(shared=True)
def sample_cpu(x: Any, grid: Any, shapes: Any, y: Any, items: Any, grain: Any) -> None:
    spread(sample_places, items, grain, (x, grid, shapes, y))


@cpu_loop
def spread_places(
    begin: Any, end: Any, grad: Any, grid: Any, shapes: Any, block: Any, y: Any
) -> None:
    """Add the gradients of an image's places to its pixels, `block` channels a job."""
    depth, height, width, channels, places = shapes[:5]
    jobs = (channels + block - 1) // block
    pixels = depth * height * width
    numbers = np.zeros(NUMBERS, np.int64)
    weights = np.empty(WEIGHTS, y.dtype)
    pitch = channels * y.itemsize
    for job in range(begin, end):
        image = job // jobs
        start = (job - image * jobs) * block
        some = min(block, channels - start)
        base = y.ctypes.data + start * y.itemsize, width * pitch
        for pixel in range(image * pixels, (image + 1) * pixels):
            clear_bytes(base[0] + pixel * pitch, some * y.itemsize)
        tables, rows = tables_of(numbers, weights)
        set_flat(tables, y[0])
        stop = (image + 1) * places
        for first in range(image * places, stop, BATCH):
            last = min(first + BATCH, stop)
            find_windows(first, last, grid, shapes, tables)
            for p in range(first, last):
                j = p - first
                count = find_rows(j, image, base, depth, height, tables, y[0], rows)
                wide = 2 * BATCH + j
                numbers[END] = load(tables[0], wide, 0)
                add_to_windows(
                    *rows, count, tables[1] + 32 * wide,
                    tables[2] + 4 * y.itemsize * wide, rows[0] + 128, 0, 1,
                    grad.ctypes.data + p * pitch + start * y.itemsize, 0, 0, some,
                    channels, 0, y[0], np.uint8(0),
                )  # fmt: skip


@cpu_kernel(shared=True)
def input_gradient_cpu(
    grad: Any, grid: Any, shapes: Any, block: Any, y: Any, jobs: Any
) -> None:
    spread(spread_places, jobs, 1, (grad, grid, shapes, block, y))


@body(reassociate=True)
def product(a: Any, b: Any, count: Any, like: Any) -> Any:
    """Return the scalar product of the vectors at two addresses."""
    total = type(like)(0)
    for i in range(count):
        total += load(a, i, like) * load(b, i, like)
    return total


@cpu_loop
def slope_places(
    begin: Any, end: Any, grad: Any, x: Any, grid: Any, shapes: Any, y: Any
) -> None:
    depth, height, width, channels, places, rank = shapes[:6]
    numbers = np.zeros(NUMBERS, np.int64)
    weights = np.empty(WEIGHTS, x.dtype)
    like = x[0]
    pitch = channels * x.itemsize
    base = x.ctypes.data, width * pitch
    image = begin // places
    for first in range(begin, end, BATCH):
        last = min(first + BATCH, end)
        tables, rows = tables_of(numbers, weights)
        counts, index, weight, slope = tables
        if first == begin:
            set_flat(tables, like)
        find_windows(first, last, grid, shapes, tables)
        for p in range(first, last):
            if p >= (image + 1) * places:
                image += 1
            j = p - first
            find_rows(j, image, base, depth, height, tables, like, rows)
            high, wide = j + BATCH, j + 2 * BATCH
            given = grad.ctypes.data + p * pitch
            dx = dy = dz = type(like)(0)
            row = 0
            for i in range(4 * j, 4 * j + load(counts, j, 0)):
                for k in range(4 * high, 4 * high + load(counts, high, 0)):
                    start = load(rows[0], row, 0)
                    row += 1
                    along = across = type(like)(0)
                    for e in range(4 * wide, 4 * wide + load(counts, wide, 0)):
                        pixel = start + load(index, e, 0) * pitch
                        found = product(given, pixel, channels, like)
                        along += found * load(weight, e, like)
                        across += found * load(slope, e, like)
                    dx += across * (load(weight, i, like) * load(weight, k, like))
                    dy += along * (load(weight, i, like) * load(slope, k, like))
                    dz += along * (load(slope, i, like) * load(weight, k, like))
            y[p * rank] = dx
            y[p * rank + 1] = dy
            if rank == 3:
                y[p * rank + 2] = dz


@cpu_kernel(shared=True)
def grid_gradient_cpu(
    grad: Any, x: Any, grid: Any, shapes: Any, y: Any, items: Any, grain: Any
) -> None:
    spread(slope_places, items, grain, (grad, x, grid, shapes, y))


def fits(x: Any) -> bool:
    """Tell whether these kernels take an array: they have no CUDA form."""
    return not on_cuda(x)


def _shapes(
    images: tuple[int, ...], grid: Any, mode: str, padding: str, align: bool
) -> tuple[int, ...]:
    places = int(np.prod(grid.shape[1:-1]))
    setting = MODES.index(mode), PADDINGS.index(padding), int(align)
    return (*images[1:], places, grid.shape[-1], *setting)


def _grain(channels: int) -> int:
    return max(1, _PLACES * _CHANNELS // max(channels, _CHANNELS))


def sample(x: Any, grid: Any, mode: str, padding: str, align: bool) -> Any:
    """Return the values of images at places; see `nnlib.nn.functional.grid_sample`.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, D, H, W)
        float32 or float64; any strides, fastest channels-last. At least one pixel.
    grid : array, shape (N, H', W', 2) or (N, D', H', W', 3), dtype of `x`
    mode : {"bilinear", "nearest", "bicubic"}
    padding : {"zeros", "border", "reflection"}
    align : bool

    Returns
    -------
    array, shape (N, C, H', W') or (N, C, D', H', W'), channels-last memory

    Examples
    --------
    >>> x, grid = np.array([[[[1.0, 3.0]]]]), np.zeros((1, 1, 1, 2))
    >>> sample(x, grid, "bilinear", "zeros", False)
    array([[[[2.]]]])
    """
    images, grid = images_of(x), np.ascontiguousarray(grid)
    shapes = _shapes(images.shape, grid, mode, padding, align)
    channels = images.shape[4]
    made = (1,) * (5 - grid.ndim) + grid.shape[1:-1]
    y = np.empty((len(x), *made, channels), x.dtype)
    if y.size:
        sample_cpu(
            images.reshape(-1), grid.reshape(-1), shapes, y.reshape(-1),
            grid.size // grid.shape[-1], _grain(channels),
        )  # fmt: skip
    return tensor_of(y, x.ndim - 2)


def input_gradient(
    grad: Any, grid: Any, size: tuple[int, ...], mode: str, padding: str, align: bool
) -> Any:
    """Return the gradient of `sample` by the images.

    Parameters
    ----------
    grad : array, shape (N, C, H', W') or (N, C, D', H', W')
        float32 or float64; any strides, fastest channels-last.
    grid, mode, padding, align
        As for `sample`.
    size : tuple of int
        The shape of the images.

    Returns
    -------
    array, shape `size`, channels-last memory

    Examples
    --------
    >>> grad, grid = np.array([[[[4.0]]]]), np.zeros((1, 1, 1, 2))
    >>> input_gradient(grad, grid, (1, 1, 1, 2), "bilinear", "zeros", False)
    array([[[[2., 2.]]]])
    """
    grads, grid = images_of(grad), np.ascontiguousarray(grid)
    count, channels, *spatial = size
    y = np.empty((count, *[1] * (3 - len(spatial)), *spatial, channels), grad.dtype)
    if y.size:
        shapes = _shapes(y.shape, grid, mode, padding, align)
        most = max(1, min(_JOBS // count, channels // _CHANNELS))
        block = -(-channels // most)
        input_gradient_cpu(
            grads.reshape(-1), grid.reshape(-1), shapes, block, y.reshape(-1),
            count * -(-channels // block),
        )  # fmt: skip
    return tensor_of(y, len(spatial))


def grid_gradient(
    grad: Any, x: Any, grid: Any, mode: str, padding: str, align: bool
) -> Any:
    """Return the gradient of `sample` by the places.

    Parameters
    ----------
    grad : array, shape (N, C, H', W') or (N, C, D', H', W')
    x, grid, mode, padding, align
        As for `sample`.

    Returns
    -------
    array, shape of `grid`

    Examples
    --------
    >>> x, grid = np.array([[[[1.0, 3.0]]]]), np.zeros((1, 1, 1, 2))
    >>> grid_gradient(np.ones((1, 1, 1, 1)), x, grid, "bilinear", "zeros", False)
    array([[[[ 2., -1.]]]])
    """
    images, grads, grid = images_of(x), images_of(grad), np.ascontiguousarray(grid)
    y = np.zeros(grid.shape, grid.dtype)
    if images.size and grads.size:
        shapes = _shapes(images.shape, grid, mode, padding, align)
        grid_gradient_cpu(
            grads.reshape(-1), images.reshape(-1), grid.reshape(-1), shapes,
            y.reshape(-1), grid.size // grid.shape[-1], _grain(shapes[3]),
        )  # fmt: skip
    return y
