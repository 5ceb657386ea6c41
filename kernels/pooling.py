"""Maximum of windows, with the place of the maximum, and its gradient.

A window's elements are numbered row by row; `max_pool` tells the number of the largest
one, in one byte where a window has up to 256. The largest is the first of equals. NaN
counts as larger than anything (the last one of several).

On the CPU each output pixel takes one walk through its window, in vectors over the
channels. The gradient is gathered: each input pixel walks through the windows that hold
it, with the plan's tables turned round, and is written once, by one thread, in one
order. On CUDA each thread makes four channels of a pixel: `nnlib.kernels.window_cuda`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels.channels import (
    give_back,
    grain_of,
    images_of,
    result_images,
    stage_of,
)
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.vectors import LINE, end_stream, put_alone, stream_bytes
from nnlib.kernels.window_cuda import (
    max_pool_backward_cuda,
    max_pool_cuda,
    over_images,
)
from nnlib.kernels.window_vectors import pick_windows, top_places, top_values
from nnlib.kernels.windows import Plan

__all__ = ["max_pool", "max_pool_backward", "max_pool_values"]


# The CPU loops make output rows of flat arrays; what a window makes of its pixels is in
# `nnlib.kernels.window_vectors`. `shapes` are the plan's inputs and outputs, channels,
# the extents of a window along height and width, and the most rows that one holds.


@body
def find_rows(
    r: Any, shapes: Any, ptr: Any, index: Any, tap: Any, base: Any, pitch: Any,
    rows: Any, numbers: Any,
) -> Any:  # fmt: skip
    """Write the addresses and numbers of what output row `r` reads; return how many."""
    depth, height, _, out_depth, out_height, _, _, taps, columns, _ = shapes
    plane = r // out_height
    n = plane // out_depth
    d = plane - n * out_depth
    h = out_depth + 1 + r - plane * out_height
    count = 0
    for i in range(ptr[d], ptr[d + 1]):
        for k in range(ptr[h], ptr[h + 1]):
            at = base + ((n * depth + index[i]) * height + index[k]) * pitch
            put_alone(rows.ctypes.data, count, at)
            put_alone(numbers.ctypes.data, count, (tap[i] * taps + tap[k]) * columns)
            count += 1
    return count


@cpu_loop
def max_rows(
    begin: Any, end: Any, x: Any, shapes: Any, tables: Any, y: Any, out: Any
) -> None:
    ptr, index, tap = tables
    width, out_width, channels = shapes[2], shapes[5], shapes[6]
    rows = np.empty(shapes[9], np.int64)
    numbers = np.empty(shapes[9], np.int64)
    starts = ptr.ctypes.data + (shapes[3] + shapes[4] + 2) * ptr.itemsize
    pitch = channels * x.itemsize
    dense = 1 if width > out_width else 0
    for r in range(begin, end):
        count = find_rows(
            r, shapes, ptr, index, tap, x.ctypes.data, width * pitch, rows, numbers
        )
        to = r * out_width * channels
        top_places(
            rows.ctypes.data, numbers.ctypes.data, count, index.ctypes.data,
            tap.ctypes.data, starts, 0, out_width, y.ctypes.data + to * y.itemsize,
            out.ctypes.data + to * out.itemsize, 0, channels, channels, dense, y[0],
            out[0],
        )  # fmt: skip


@cpu_kernel(shared=True)
def max_pool_cpu(
    x: Any, shapes: Any, tables: Any, y: Any, out: Any, rows: Any, grain: Any
) -> None:
    spread(max_rows, rows, grain, (x, shapes, tables, y, out))


@cpu_loop
def max_value_rows(
    begin: Any, end: Any, x: Any, shapes: Any, tables: Any, y: Any
) -> None:
    ptr, index, tap = tables
    width, out_width, channels = shapes[2], shapes[5], shapes[6]
    rows = np.empty(shapes[9], np.int64)
    numbers = np.empty(shapes[9], np.int64)
    starts = ptr.ctypes.data + (shapes[3] + shapes[4] + 2) * ptr.itemsize
    pitch = channels * x.itemsize
    dense = 1 if width > out_width else 0
    for r in range(begin, end):
        count = find_rows(
            r, shapes, ptr, index, tap, x.ctypes.data, width * pitch, rows, numbers
        )
        top_values(
            rows.ctypes.data, numbers.ctypes.data, count, index.ctypes.data,
            tap.ctypes.data, starts, 0, out_width,
            y.ctypes.data + r * out_width * pitch, 0, 0, channels, channels, dense,
            y[0], np.uint8(0),
        )  # fmt: skip


@cpu_kernel(shared=True)
def max_values_cpu(
    x: Any, shapes: Any, tables: Any, y: Any, rows: Any, grain: Any
) -> None:
    spread(max_value_rows, rows, grain, (x, shapes, tables, y))


@cpu_loop
def max_grad_rows(
    begin: Any, end: Any, grad: Any, places: Any, shapes: Any, tables: Any, batch: Any,
    y: Any,
) -> None:  # fmt: skip
    """Make input rows: the tables are turned, inputs and outputs change places.

    `batch` bytes are made in the cache before they are streamed to memory: 0, if none
    are.
    """
    ptr, index, tap = tables
    width, out_width, channels = shapes[2], shapes[5], shapes[6]
    rows = np.empty(shapes[9], np.int64)
    numbers = np.empty(shapes[9], np.int64)
    starts = ptr.ctypes.data + (shapes[3] + shapes[4] + 2) * ptr.itemsize
    pitch = channels * y.itemsize
    stage = np.empty(batch + LINE, np.uint8)
    some = batch // pitch if batch else out_width
    base = grad.ctypes.data
    for r in range(begin, end):
        count = find_rows(
            r, shapes, ptr, index, tap, base, width * pitch, rows, numbers
        )
        staged = (stage.ctypes.data + LINE - 1) // LINE * LINE
        target = y.ctypes.data + r * out_width * pitch
        for first in range(0, out_width, some):
            last = min(first + some, out_width)
            pick_windows(
                rows.ctypes.data, numbers.ctypes.data, count, index.ctypes.data,
                tap.ctypes.data, starts, first, last, staged if batch else target,
                places.ctypes.data, base, channels, channels, 0, y[0], places[0],
            )  # fmt: skip
            if batch:
                stream_bytes(target, staged, (last - first) * pitch)
            target += (last - first) * pitch
    if batch:
        end_stream()


@cpu_kernel(shared=True)
def max_pool_backward_cpu(
    grad: Any, places: Any, shapes: Any, tables: Any, batch: Any, y: Any, rows: Any,
    grain: Any,
) -> None:  # fmt: skip
    spread(max_grad_rows, rows, grain, (grad, places, shapes, tables, batch, y))


def _shapes(plan: Plan, channels: int) -> tuple[int, ...]:
    taps = plan.taps
    return (*plan.inputs, *plan.outputs, channels, taps[1], taps[2], plan.rows)


def _check(op: str, x: Any, size: Any) -> Any:
    scalar_type(op, x)
    images = images_of(x)
    if images.shape[1:4] != size:
        raise ShapeError(f"{op}: x has the size {images.shape[1:4]}, expected {size}")
    return images


def max_pool(
    x: Any, plan: Plan, out: tuple[Any, Any] = (None, None)
) -> tuple[Any, Any]:
    """Return the maximum of each window, and which of its elements that is.

    Parameters
    ----------
    x : array, shape (N, C, *plan.inputs) with 1 to 3 spatial dimensions
        float32 or float64; any strides, fastest channels-last.
    plan : Plan
        Its values are the numbers of the taps; each window holds an input.
    out : tuple of two arrays or None, optional
        Where to write what is returned; any strides, fastest channels-last.

    Returns
    -------
    y : array, shape (N, C, *plan.outputs), channels-last memory
    places : array of uint8 or int32, the same shape and memory

    Raises
    ------
    ShapeError
        If `x` does not have the plan's size, or `out` does not fit.

    Examples
    --------
    >>> from nnlib.kernels.windows import plan, sliding
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> max_pool(x, plan(sliding, (4, 2, 2, 2, 0, 1)))
    (array([[[3., 2.]]]), array([[[1, 0]]], dtype=uint8))
    """
    images = _check("max_pool", x, plan.inputs)
    rank = x.ndim - 2
    shape = (images.shape[0], *plan.outputs, images.shape[4])
    depth, height, width = plan.taps
    numbers = np.uint8 if depth * height * width <= 256 else np.int32
    y = result_images("max_pool", x, out[0], shape, x.dtype, rank)
    places = result_images("max_pool", x, out[1], shape, np.dtype(numbers), rank)
    if y.size:
        if on_cuda(x):
            over_images(max_pool_cuda, plan, (images, y, places), (1,))
        else:
            tables = plan.tables(x, np.int64)
            rows = shape[0] * shape[1] * shape[2]
            max_pool_cpu(
                images.reshape(-1), _shapes(plan, shape[4]), tables, y.reshape(-1),
                places.reshape(-1), rows, grain_of(rows, images, y),
            )  # fmt: skip
    return give_back(y, out[0], rank), give_back(places, out[1], rank)


def max_pool_values(x: Any, plan: Plan, out: Any = None) -> Any:
    """Return the maximum of each window alone; see `max_pool`.

    Parameters
    ----------
    x, plan
        As for `max_pool`.
    out : array, shape (N, C, *plan.outputs), dtype of `x`, optional

    Examples
    --------
    >>> from nnlib.kernels.windows import plan, sliding
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> max_pool_values(x, plan(sliding, (4, 2, 2, 2, 0, 1)))
    array([[[3., 2.]]])
    """
    images = _check("max_pool", x, plan.inputs)
    rank = x.ndim - 2
    shape = (images.shape[0], *plan.outputs, images.shape[4])
    y = result_images("max_pool", x, out, shape, x.dtype, rank)
    if y.size and on_cuda(x):
        none = array_module(x).empty(0, np.uint8)
        over_images(max_pool_cuda, plan, (images, y, none), (1,))
    elif y.size:
        rows = shape[0] * shape[1] * shape[2]
        max_values_cpu(
            images.reshape(-1), _shapes(plan, shape[4]), plan.tables(x, np.int64),
            y.reshape(-1), rows, grain_of(rows, images, y),
        )  # fmt: skip
    return give_back(y, out, rank)


def max_pool_backward(grad: Any, places: Any, plan: Plan, out: Any = None) -> Any:
    """Return the gradient of `max_pool` by its input: each maximum's goes to its place.

    Parameters
    ----------
    grad : array, shape (N, C, *plan.outputs), float32 or float64
    places : array
        From `max_pool`.
    plan : Plan
        The one of the forward pass.
    out : array, shape (N, C, *plan.inputs), dtype of `grad`, optional

    Returns
    -------
    array, shape (N, C, *plan.inputs), channels-last memory

    Examples
    --------
    >>> from nnlib.kernels.windows import plan, sliding
    >>> windows = plan(sliding, (4, 2, 2, 2, 0, 1))
    >>> _, places = max_pool(np.array([[[1.0, 3.0, 2.0, 0.0]]]), windows)
    >>> max_pool_backward(np.array([[[5.0, 7.0]]]), places, windows)
    array([[[0., 5., 7., 0.]]])
    """
    op = "max_pool backward"
    images = _check(op, grad, plan.outputs)
    places = images_of(places)
    if places.shape != images.shape:
        raise ShapeError(
            f"{op}: places have the shape {places.shape}, expected {images.shape}"
        )
    rank = grad.ndim - 2
    shape = (images.shape[0], *plan.inputs, images.shape[4])
    y = result_images(op, grad, out, shape, grad.dtype, rank)
    if not images.size:
        y[...] = 0
    elif y.size:
        turned = plan.turned
        if on_cuda(grad):
            over_images(max_pool_backward_cuda, turned, (images, places, y), (2,))
        else:
            tables = turned.tables(grad, np.int64)
            rows = shape[0] * shape[1] * shape[2]
            max_pool_backward_cpu(
                images.reshape(-1), places.reshape(-1), _shapes(turned, shape[4]),
                tables, stage_of(y), y.reshape(-1), rows, grain_of(rows, images, y),
            )  # fmt: skip
    return give_back(y, out, rank)
