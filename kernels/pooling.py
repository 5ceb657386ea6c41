"""Maximum of windows, with the place of the maximum, and its gradient.

A window's elements are numbered row by row; `max_pool` tells the number of the largest
one, in one byte where a window has up to 256. The largest is the first of equals. NaN
counts as larger than anything (the last one of several).

On the CPU an output row is made in two steps, as in `nnlib.kernels.resize`: the maximum
over the input rows that it reads (along whole rows, whatever the number of channels),
then over the pixels of each window. Of equal values the one with the smaller number is
kept, so the order of the steps does not show. The gradient is gathered by input row:
each row is written by one thread, in one order.

On CUDA each thread makes one element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import special
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

__all__ = ["max_pool", "max_pool_backward", "max_pool_values"]


# The CPU loops see flat arrays. Their indices are unsigned (a signed one could count
# from the end, and the loop would not vectorise) and count from an offset: slices would
# multiply the time of compilation.


@body
def max_pool_rows(
    x: Any, shapes: Any, ptr: Any, index: Any, tap: Any, y: Any, out: Any, low: Any,
    high: Any,
) -> None:  # fmt: skip
    """Make the output rows from `low` to `high` - 1."""
    depth, height, width, out_depth, out_height, out_width, c, rows, columns = shapes
    length = np.uint64(width * c)
    channels = np.uint64(c)
    line = np.empty(length, x.dtype)
    numbers = np.empty(length, np.int32)
    start = out_depth + out_height + 2
    extent = np.int32(columns)
    for r in range(low, high):
        plane = r // out_height
        n = plane // out_depth
        d = plane - n * out_depth
        h = out_depth + 1 + r - plane * out_height
        number = np.int32(tap[ptr[d]] * rows + tap[ptr[h]])
        for j in range(length):
            line[j] = -special.INFINITY
            numbers[j] = number
        for i in range(ptr[d], ptr[d + 1]):
            for k in range(ptr[h], ptr[h + 1]):
                number = np.int32(tap[i] * rows + tap[k])
                base = np.uint64((n * depth + index[i]) * height + index[k]) * length
                for j in range(length):
                    value = x[base + j]
                    larger = (value > line[j]) | (value != value)
                    numbers[j] = number if larger else numbers[j]
                    line[j] = value if larger else line[j]
        for w in range(out_width):
            to = np.uint64(r * out_width + w) * channels
            first = ptr[start + w]
            second = min(first + 1, ptr[start + w + 1] - 1)
            a = np.uint64(index[first]) * channels
            b = np.uint64(index[second]) * channels
            number = np.int32(tap[first])
            other = np.int32(tap[second])
            for j in range(channels):
                best = line[a + j]
                value = line[b + j]
                place = np.int32(numbers[a + j] * extent + number)
                mine = np.int32(numbers[b + j] * extent + other)
                # Of equals the first in the window, though rows were done first.
                larger = (value > best) | (value != value)
                larger |= (value == best) & (mine < place)
                out[to + j] = mine if larger else place
                y[to + j] = value if larger else best
            for k in range(second + 1, ptr[start + w + 1]):
                a = np.uint64(index[k]) * channels
                number = np.int32(tap[k])
                for j in range(channels):
                    value = line[a + j]
                    best = y[to + j]
                    place = np.int32(out[to + j])
                    mine = np.int32(numbers[a + j] * extent + number)
                    larger = (value > best) | (value != value)
                    larger |= (value == best) & (mine < place)
                    out[to + j] = mine if larger else place
                    y[to + j] = value if larger else best


@cpu_kernel
def max_pool_cpu(
    x: Any, shapes: Any, ptr: Any, index: Any, tap: Any, y: Any, out: Any, rows: Any
) -> None:
    blocks = min(rows, 4 * num_threads())
    for block in prange(blocks):
        low = block * rows // blocks
        high = (block + 1) * rows // blocks
        max_pool_rows(x, shapes, ptr, index, tap, y, out, low, high)


@body
def max_value_rows(
    x: Any, shapes: Any, ptr: Any, index: Any, y: Any, low: Any, high: Any
) -> None:
    """Do as `max_pool_rows` does, without the places."""
    depth, height, width, out_depth, out_height, out_width, c, _, _ = shapes
    length = np.uint64(width * c)
    channels = np.uint64(c)
    line = np.empty(length, x.dtype)
    start = out_depth + out_height + 2
    for r in range(low, high):
        plane = r // out_height
        n = plane // out_depth
        d = plane - n * out_depth
        h = out_depth + 1 + r - plane * out_height
        for j in range(length):
            line[j] = -special.INFINITY
        for i in range(ptr[d], ptr[d + 1]):
            for k in range(ptr[h], ptr[h + 1]):
                base = np.uint64((n * depth + index[i]) * height + index[k]) * length
                for j in range(length):
                    line[j] = special.maximum(line[j], x[base + j])
        for w in range(out_width):
            to = np.uint64(r * out_width + w) * channels
            first = ptr[start + w]
            a = np.uint64(index[first]) * channels
            for j in range(channels):
                y[to + j] = line[a + j]
            for k in range(first + 1, ptr[start + w + 1]):
                a = np.uint64(index[k]) * channels
                for j in range(channels):
                    y[to + j] = special.maximum(y[to + j], line[a + j])


@cpu_kernel
def max_values_cpu(
    x: Any, shapes: Any, ptr: Any, index: Any, y: Any, rows: Any
) -> None:
    blocks = min(rows, 4 * num_threads())
    for block in prange(blocks):
        low = block * rows // blocks
        high = (block + 1) * rows // blocks
        max_value_rows(x, shapes, ptr, index, y, low, high)


@body
def max_grad_rows(
    grad: Any, places: Any, shapes: Any, tables: Any, turned: Any, y: Any, low: Any,
    high: Any,
) -> None:  # fmt: skip
    """Make the input rows from `low` to `high` - 1.

    `turned` leads from an input row to the output rows that read it, `tables` from an
    output pixel to input pixels.
    """
    ptr, index, tap = tables
    back_ptr, back_index, back_tap = turned
    depth, height, width, out_depth, out_height, out_width, c, rows, columns = shapes
    length = np.uint64(width * c)
    channels = np.uint64(c)
    zero = grad.dtype.type(0)
    start = out_depth + out_height + 2
    for r in range(low, high):
        plane = r // height
        n = plane // depth
        d = plane - n * depth
        h = depth + 1 + r - plane * height
        row = np.uint64(r) * length
        for j in range(length):
            y[row + j] = zero
        for i in range(back_ptr[d], back_ptr[d + 1]):
            for k in range(back_ptr[h], back_ptr[h + 1]):
                number = (back_tap[i] * rows + back_tap[k]) * columns
                base = ((n * out_depth + back_index[i]) * out_height) + back_index[k]
                for w in range(out_width):
                    a = np.uint64(base * out_width + w) * channels
                    for e in range(ptr[start + w], ptr[start + w + 1]):
                        to = row + np.uint64(index[e]) * channels
                        place = places.dtype.type(number + tap[e])
                        for j in range(channels):
                            added = grad[a + j] if places[a + j] == place else zero
                            y[to + j] += added


@cpu_kernel
def max_pool_backward_cpu(
    grad: Any, places: Any, shapes: Any, tables: Any, turned: Any, y: Any, rows: Any
) -> None:
    blocks = min(rows, 4 * num_threads())
    for block in prange(blocks):
        low = block * rows // blocks
        high = (block + 1) * rows // blocks
        max_grad_rows(grad, places, shapes, tables, turned, y, low, high)


@cuda_kernel
def max_pool_cuda(
    x: Any, rows: Any, columns: Any, ptr: Any, index: Any, tap: Any, y: Any, out: Any
) -> None:
    _, depth, height, width, channels = y.shape
    for item in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        pixel = item // channels
        c = item - pixel * channels
        row = pixel // width
        w = depth + height + 2 + pixel - row * width
        plane = row // height
        h = depth + 1 + row - plane * height
        n = plane // depth
        d = plane - n * depth
        best = x[n, index[ptr[d]], index[ptr[h]], index[ptr[w]], c]
        place = (tap[ptr[d]] * rows + tap[ptr[h]]) * columns + tap[ptr[w]]
        for i in range(ptr[d], ptr[d + 1]):
            for j in range(ptr[h], ptr[h + 1]):
                number = (tap[i] * rows + tap[j]) * columns
                for k in range(ptr[w], ptr[w + 1]):
                    value = x[n, index[i], index[j], index[k], c]
                    if value > best or value != value:
                        best = value
                        place = number + tap[k]
        y[n, d, row - plane * height, pixel - row * width, c] = best
        out[n, d, row - plane * height, pixel - row * width, c] = place


@cuda_kernel
def max_pool_backward_cuda(
    grad: Any, places: Any, rows: Any, columns: Any, ptr: Any, index: Any, tap: Any,
    y: Any,
) -> None:  # fmt: skip
    _, depth, height, width, channels = y.shape
    for item in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        pixel = item // channels
        c = item - pixel * channels
        row = pixel // width
        w = depth + height + 2 + pixel - row * width
        plane = row // height
        h = depth + 1 + row - plane * height
        n = plane // depth
        d = plane - n * depth
        total = grad.dtype.type(0)
        for i in range(ptr[d], ptr[d + 1]):
            for j in range(ptr[h], ptr[h + 1]):
                number = (tap[i] * rows + tap[j]) * columns
                for k in range(ptr[w], ptr[w + 1]):
                    if places[n, index[i], index[j], index[k], c] == number + tap[k]:
                        total += grad[n, index[i], index[j], index[k], c]
        y[n, d, row - plane * height, pixel - row * width, c] = total


def _shapes(plan: Plan, channels: int) -> tuple[int, ...]:
    return (*plan.inputs, *plan.outputs, channels, plan.taps[1], plan.taps[2])


def _check(op: str, x: Any, size: Any) -> Any:
    scalar_type(op, x)
    images = images_of(x)
    if images.shape[1:4] != size:
        raise ShapeError(f"{op}: x has the size {images.shape[1:4]}, expected {size}")
    return images


def max_pool(x: Any, plan: Plan) -> tuple[Any, Any]:
    """Return the maximum of each window, and which of its elements that is.

    Parameters
    ----------
    x : array, shape (N, C, *plan.inputs) with 1 to 3 spatial dimensions
        float32 or float64; any strides, fastest channels-last.
    plan : Plan
        Its values are the numbers of the taps; each window holds an input.

    Returns
    -------
    y : array, shape (N, C, *plan.outputs), channels-last memory
    places : array of uint8 or int32, the same shape and memory

    Raises
    ------
    ShapeError
        If `x` does not have the plan's size.

    Examples
    --------
    >>> from nnlib.kernels.windows import plan, sliding
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> max_pool(x, plan(sliding, (4, 2, 2, 2, 0, 1)))
    (array([[[3., 2.]]]), array([[[1, 0]]], dtype=uint8))
    """
    images = _check("max_pool", x, plan.inputs)
    rank = x.ndim - 2
    module = array_module(x)
    shape = (images.shape[0], *plan.outputs, images.shape[4])
    depth, height, width = plan.taps
    small = depth * height * width <= 256
    y = module.empty(shape, x.dtype)
    places = module.empty(shape, np.uint8 if small else np.int32)
    if y.size:
        tables = plan.tables(x, np.int64)
        if on_cuda(x):
            max_pool_cuda(images, height, width, *tables, y, places, items=y.size)
        else:
            max_pool_cpu(
                images.reshape(-1), _shapes(plan, shape[4]), *tables, y.reshape(-1),
                places.reshape(-1), shape[0] * shape[1] * shape[2],
            )  # fmt: skip
    return tensor_of(y, rank), tensor_of(places, rank)


def max_pool_values(x: Any, plan: Plan) -> Any:
    """Return the maximum of each window alone; see `max_pool`.

    Examples
    --------
    >>> from nnlib.kernels.windows import plan, sliding
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> max_pool_values(x, plan(sliding, (4, 2, 2, 2, 0, 1)))
    array([[[3., 2.]]])
    """
    if on_cuda(x):
        return max_pool(x, plan)[0]
    images = _check("max_pool", x, plan.inputs)
    y = np.empty((images.shape[0], *plan.outputs, images.shape[4]), x.dtype)
    if y.size:
        ptr, index, _ = plan.tables(x, np.int64)
        rows = y.shape[0] * y.shape[1] * y.shape[2]
        shapes = _shapes(plan, y.shape[4])
        max_values_cpu(images.reshape(-1), shapes, ptr, index, y.reshape(-1), rows)
    return tensor_of(y, x.ndim - 2)


def max_pool_backward(grad: Any, places: Any, plan: Plan) -> Any:
    """Return the gradient of `max_pool` by its input: each maximum's goes to its place.

    Parameters
    ----------
    grad : array, shape (N, C, *plan.outputs), float32 or float64
    places : array
        From `max_pool`.
    plan : Plan
        The one of the forward pass.

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
    images = _check("max_pool backward", grad, plan.outputs)
    places = images_of(places)
    out = array_module(grad).empty(
        (images.shape[0], *plan.inputs, images.shape[4]), grad.dtype
    )
    if out.size and not images.size:
        out[...] = 0
    elif out.size:
        _, height, width = plan.taps
        turned = plan.turned.tables(grad, np.int64)
        if on_cuda(grad):
            max_pool_backward_cuda(
                images, places, height, width, *turned, out, items=out.size
            )
        else:
            max_pool_backward_cpu(
                images.reshape(-1), places.reshape(-1), _shapes(plan, out.shape[4]),
                plan.tables(grad, np.int64), turned, out.reshape(-1),
                out.shape[0] * out.shape[1] * out.shape[2],
            )  # fmt: skip
    return tensor_of(out, grad.ndim - 2)
