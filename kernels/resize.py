"""Weighted sums over windows: resizing, average pooling, and their gradients.

All are linear maps that act on each axis on its own. The transposed map, the gradient,
is the same loop with the tables of `nnlib.kernels.windows` turned round.

On the CPU each output pixel takes one walk through its window, in vectors over the
channels. Where windows are large and overlap, output row (d, h) is made in two steps:
the input rows that it reads are added up, each with its weight, into one row; then each
pixel adds up pixels of that row. Either way a sum runs along a row and over the rows:
its error grows with the longer side of a window, not with its area.

On CUDA each thread makes four channels of a pixel: `nnlib.kernels.window_cuda`.
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
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.vectors import LINE, end_stream, put_alone, stream_bytes
from nnlib.kernels.window_cuda import over_images, resample_cuda
from nnlib.kernels.window_vectors import add_windows
from nnlib.kernels.windows import Plan

__all__ = ["resample"]


@cpu_loop
def resample_rows(
    begin: Any, end: Any, x: Any, shapes: Any, tables: Any, y: Any
) -> None:
    """Make output rows of flat arrays, as `nnlib.kernels.pooling` does.

    The last two of `shapes` tell whether the rows are added up first, and how many
    bytes are made in the cache before they are streamed to memory: 0, if none are.
    """
    ptr, index, weight = tables
    depth, height, width, out_depth, out_height, out_width, c, most, apart, batch = (
        shapes
    )
    rows = np.empty(most, np.int64)
    factors = np.empty(most, x.dtype)
    line = np.empty((width * c if apart else 0) * x.itemsize + LINE, np.uint8)
    stage = np.empty(batch + LINE, np.uint8)
    one = np.ones(1, x.dtype)
    whole = np.arange(2)
    starts = ptr.ctypes.data + (out_depth + out_height + 2) * ptr.itemsize
    pitch = c * x.itemsize
    some = batch // pitch if batch else out_width
    dense = 1 if width > out_width else 0
    for r in range(begin, end):
        plane = r // out_height
        n = plane // out_depth
        d = plane - n * out_depth
        h = out_depth + 1 + r - plane * out_height
        count = 0
        for i in range(ptr[d], ptr[d + 1]):
            for k in range(ptr[h], ptr[h + 1]):
                at = ((n * depth + index[i]) * height + index[k]) * width
                put_alone(rows.ctypes.data, count, x.ctypes.data + at * pitch)
                put_alone(factors.ctypes.data, count, weight[i] * weight[k])
                count += 1
        if apart:
            # A row is a pixel, too.
            added = (line.ctypes.data + LINE - 1) // LINE * LINE
            add_windows(
                rows.ctypes.data, factors.ctypes.data, count, whole.ctypes.data,
                one.ctypes.data, whole.ctypes.data, 0, 1, added, 0, 0, width * c, c, 0,
                x[0], np.uint8(0),
            )  # fmt: skip
            rows[0] = added
            factors[0] = 1
            count = 1
        staged = (stage.ctypes.data + LINE - 1) // LINE * LINE
        target = y.ctypes.data + r * out_width * pitch
        for first in range(0, out_width, some):
            last = min(first + some, out_width)
            add_windows(
                rows.ctypes.data, factors.ctypes.data, count, index.ctypes.data,
                weight.ctypes.data, starts, first, last, staged if batch else target,
                0, 0, c, c, dense, x[0], np.uint8(0),
            )  # fmt: skip
            if batch:
                stream_bytes(target, staged, (last - first) * pitch)
            target += (last - first) * pitch
    if batch:
        end_stream()


@cpu_kernel(shared=True)
def resample_cpu(
    x: Any, shapes: Any, tables: Any, y: Any, rows: Any, grain: Any
) -> None:
    spread(resample_rows, rows, grain, (x, shapes, tables, y))


def resample(x: Any, plan: Plan, out: Any = None) -> Any:
    """Return the weighted sums of the windows of a plan.

    Parameters
    ----------
    x : array, shape (N, C, *plan.inputs) with 1 to 3 spatial dimensions
        float32 or float64; any strides, fastest channels-last.
    plan : Plan
        Its values are the weights; ``plan.turned`` gives the gradient.
    out : array, shape (N, C, *plan.outputs), dtype of `x`, optional
        Any strides, fastest channels-last.

    Returns
    -------
    array, shape (N, C, *plan.outputs), channels-last memory

    Raises
    ------
    ShapeError
        If `x` does not have the plan's size, or `out` does not fit.

    Examples
    --------
    >>> from nnlib.kernels.windows import adaptive_mean, plan
    >>> resample(np.arange(4.0).reshape(1, 1, 4), plan(adaptive_mean, (4, 2)))
    array([[[0.5, 2.5]]])
    """
    scalar_type("resample", x)
    rank = x.ndim - 2
    images = images_of(x)
    if images.shape[1:4] != plan.inputs:
        raise ShapeError(
            f"resample: x has the size {images.shape[1:4]}, expected {plan.inputs}"
        )
    count, channels = images.shape[0], images.shape[4]
    shape = (count, *plan.outputs, channels)
    y = result_images("resample", x, out, shape, x.dtype, rank)
    if y.size and not images.size:
        y[...] = 0
    elif y.size:
        tables = plan.tables(images, x.dtype)
        if on_cuda(x):
            over_images(resample_cuda, plan, (images, y), (1, tables[2]))
        else:
            rows = count * plan.outputs[0] * plan.outputs[1]
            sizes = *plan.inputs, *plan.outputs, channels
            shapes = *sizes, plan.rows, plan.apart, stage_of(y)
            resample_cpu(
                images.reshape(-1), shapes, tables, y.reshape(-1), rows,
                grain_of(rows, images, y),
            )  # fmt: skip
    return give_back(y, out, rank)
