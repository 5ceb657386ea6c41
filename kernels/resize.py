"""Weighted sums over windows: resizing, average pooling, and their gradients.

All are linear maps that act on each axis on its own. Output row (d, h) is made in two
steps: the input rows that it reads are added up, each with its weight, into one row
(along whole rows, whatever the number of channels); then each pixel adds up pixels of
that row. The transposed map, the gradient, is the same loop with the tables of
`nnlib.kernels.windows` turned round. A sum runs over rows first, then along the row:
its error grows with the longer side of a window, not with its area.

On CUDA each thread makes one element of the output; neighbours are channels of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels.channels import images_of, tensor_of
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cuda,
    cuda_kernel,
    num_threads,
    on_cuda,
    prange,
)
from nnlib.kernels.windows import Plan

__all__ = ["resample"]


@body
def resample_rows(
    x: Any, shapes: Any, ptr: Any, index: Any, weight: Any, y: Any, low: Any, high: Any
) -> None:
    """Make the output rows from `low` to `high` - 1 of flat arrays.

    Indices are unsigned and count from an offset, as in `nnlib.kernels.pooling`.
    """
    depth, height, width, out_depth, out_height, out_width, c = shapes
    length = np.uint64(width * c)
    channels = np.uint64(c)
    line = np.empty(length, x.dtype)
    zero = x.dtype.type(0)
    start = out_depth + out_height + 2
    for r in range(low, high):
        plane = r // out_height
        n = plane // out_depth
        d = plane - n * out_depth
        h = out_depth + 1 + r - plane * out_height
        for j in range(length):
            line[j] = zero
        for i in range(ptr[d], ptr[d + 1]):
            for k in range(ptr[h], ptr[h + 1]):
                factor = weight[i] * weight[k]
                base = np.uint64((n * depth + index[i]) * height + index[k]) * length
                for j in range(length):
                    line[j] += factor * x[base + j]
        for w in range(out_width):
            to = np.uint64(r * out_width + w) * channels
            k = ptr[start + w]
            last = ptr[start + w + 1] - 1
            if k >= last:
                # One input or none: one pass.
                factor = weight[last] if k == last else zero
                a = np.uint64(index[last] if k == last else 0) * channels
                for j in range(channels):
                    y[to + j] = factor * line[a + j]
                continue
            a = np.uint64(index[k]) * channels
            b = np.uint64(index[k + 1]) * channels
            factor = weight[k]
            second = weight[k + 1]
            for j in range(channels):
                y[to + j] = factor * line[a + j] + second * line[b + j]
            for e in range(k + 2, last + 1):
                a = np.uint64(index[e]) * channels
                factor = weight[e]
                for j in range(channels):
                    y[to + j] += factor * line[a + j]


@cpu_kernel
def resample_cpu(
    x: Any, shapes: Any, ptr: Any, index: Any, weight: Any, y: Any, rows: Any
) -> None:
    blocks = min(rows, 4 * num_threads())
    for block in prange(blocks):
        low = block * rows // blocks
        high = (block + 1) * rows // blocks
        resample_rows(x, shapes, ptr, index, weight, y, low, high)


@body
def resample_at(
    x: Any, ptr: Any, index: Any, weight: Any, n: Any, d: Any, h: Any, w: Any, c: Any
) -> Any:
    total = x.dtype.type(0)
    for i in range(ptr[d], ptr[d + 1]):
        for j in range(ptr[h], ptr[h + 1]):
            row = x.dtype.type(0)
            for k in range(ptr[w], ptr[w + 1]):
                row += weight[k] * x[n, index[i], index[j], index[k], c]
            total += weight[i] * weight[j] * row
    return total


@cuda_kernel
def resample_cuda(x: Any, ptr: Any, index: Any, weight: Any, y: Any) -> None:
    _, depth, height, width, channels = y.shape
    for item in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        pixel = item // channels
        c = item - pixel * channels
        row = pixel // width
        w = pixel - row * width
        plane = row // height
        h = row - plane * height
        n = plane // depth
        d = plane - n * depth
        y[n, d, h, w, c] = resample_at(
            x, ptr, index, weight, n, d, h + depth + 1, w + depth + height + 2, c
        )


def resample(x: Any, plan: Plan) -> Any:
    """Return the weighted sums of the windows of a plan.

    Parameters
    ----------
    x : array, shape (N, C, *plan.inputs) with 1 to 3 spatial dimensions
        float32 or float64; any strides, fastest channels-last.
    plan : Plan
        Its values are the weights; ``plan.turned`` gives the gradient.

    Returns
    -------
    array, shape (N, C, *plan.outputs), channels-last memory

    Raises
    ------
    ShapeError
        If `x` does not have the plan's size.

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
    out = array_module(x).empty((count, *plan.outputs, channels), x.dtype)
    if out.size and not images.size:
        out[...] = 0
    elif out.size:
        tables = plan.tables(images, x.dtype)
        if on_cuda(x):
            resample_cuda(images, *tables, out, items=out.size)
        else:
            resample_cpu(
                images.reshape(-1), (*plan.inputs, *plan.outputs, channels), *tables,
                out.reshape(-1), count * plan.outputs[0] * plan.outputs[1],
            )  # fmt: skip
    return tensor_of(out, rank)
