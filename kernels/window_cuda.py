"""Windows over images on CUDA: four channels of a pixel per thread.

What an output reads comes from one table of 32-bit integers, which holds the tables of
`nnlib.kernels.windows` of all three axes; a pixel's place is 32 bits wide, an
element's 64. Where channels are no multiple of four, or arrays do not begin at 16
bytes, the four are read and written one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.machinery.arrays import home, upload
from nnlib.kernels.machinery.cuda_vectors import aligned, load4, store4
from nnlib.kernels.windows import Plan

__all__ = ["max_pool_backward_cuda", "max_pool_cuda", "over_images", "resample_cuda"]

# Numbers before the tables.
_HEAD = 12
# Items of a launch.
_MOST = (1 << 31) - 1


@body
def item_of(table: Any, i: Any, quads: Any) -> Any:
    """Return image, place and first channel of item `i`."""
    pixel = np.uint32(i // quads)
    c = np.uint32(np.uint32(i - pixel * quads) * np.uint32(4))
    row = np.uint32(pixel // np.uint32(table[2]))
    w = np.uint32(pixel - row * np.uint32(table[2]))
    plane = np.uint32(row // np.uint32(table[1]))
    h = np.uint32(row - plane * np.uint32(table[1]))
    n = np.uint32(plane // np.uint32(table[0]))
    d = np.uint32(plane - n * np.uint32(table[0]))
    return pixel, n, d, h, w, c


@body
def range_of(table: Any, place: Any) -> Any:
    """Return the first and last entry of a row of a table."""
    at = np.uint32(place + np.uint32(_HEAD))
    return np.uint32(table[at]), np.uint32(table[np.uint32(at + np.uint32(1))])


@body
def ranges_of(table: Any, d: Any, h: Any, w: Any) -> Any:
    """Return the entries of an output's three rows."""
    deep = np.uint32(np.uint32(table[0]) + np.uint32(1))
    high = np.uint32(deep + np.uint32(table[1]) + np.uint32(1))
    return (
        range_of(table, d),
        range_of(table, np.uint32(deep + h)),
        range_of(table, np.uint32(high + w)),
    )


@body
def entry(table: Any, which: Any, i: Any) -> Any:
    """Return entry `i` of the joined indices (8) or numbers (9)."""
    return np.uint32(table[np.uint32(np.uint32(table[which]) + i)])


@body
def element(pixel: Any, channels: Any, c: Any) -> Any:
    """Return where a channel of a pixel lies."""
    return np.uint64(pixel) * np.uint64(channels) + np.uint64(c)


@body
def read4(x: Any, place: Any, left: Any, quads: Any) -> Any:
    """Return four channels of a pixel, of which `left` exist."""
    if quads:
        return load4(x, place)
    return (
        x[place],
        x[place + np.uint64(1 if left > np.uint32(1) else 0)],
        x[place + np.uint64(2 if left > np.uint32(2) else 0)],
        x[place + np.uint64(3 if left > np.uint32(3) else 0)],
    )


@body
def write4(
    y: Any, place: Any, left: Any, quads: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Write four channels of a pixel, of which `left` exist."""
    if quads:
        store4(y, place, a, b, c, d)
    else:
        y[place] = a
        if left > np.uint32(1):
            y[place + np.uint64(1)] = b
        if left > np.uint32(2):
            y[place + np.uint64(2)] = c
        if left > np.uint32(3):
            y[place + np.uint64(3)] = d


@body
def larger(value: Any, number: Any, best: Any, place: Any, first: Any) -> Any:
    """Return the larger of two and its number; the last NaN beats all."""
    if first or value > best or value != value:
        return value, number
    return best, place


@cuda_kernel
def max_pool_cuda(
    x: Any, table: Any, channels: Any, items: Any, y: Any, out: Any
) -> None:
    """Write the maximum of each window, and unless `out` is empty its number."""
    kind = out.dtype.type
    per_pixel = np.uint32((channels + 3) >> 2)
    whole = channels & 3 == 0 and aligned(x) and aligned(y) and aligned(out)
    zero = x.dtype.type(0)
    nought = np.uint32(0)
    deep, high, wide = np.uint32(table[3]), np.uint32(table[4]), np.uint32(table[5])
    taps, columns = np.uint32(table[6]), np.uint32(table[7])
    item = np.uint32(cuda.grid(1))
    while item < np.uint32(items):
        pixel, n, d, h, w, c = item_of(table, item, per_pixel)
        left = np.uint32(np.uint32(channels) - c)
        (i0, i1), (j0, j1), (k0, k1) = ranges_of(table, d, h, w)
        b0, b1, b2, b3 = zero, zero, zero, zero
        p0, p1, p2, p3 = nought, nought, nought, nought
        first = True
        i = i0
        while i < i1:
            plane = np.uint32(n * deep + entry(table, 8, i))
            above = np.uint32(entry(table, 9, i) * taps)
            j = j0
            while j < j1:
                row = np.uint32((plane * high + entry(table, 8, j)) * wide)
                number = np.uint32((above + entry(table, 9, j)) * columns)
                k = k0
                while k < k1:
                    at = np.uint32(row + entry(table, 8, k))
                    v0, v1, v2, v3 = read4(x, element(at, channels, c), left, whole)
                    this = np.uint32(number + entry(table, 9, k))
                    b0, p0 = larger(v0, this, b0, p0, first)
                    b1, p1 = larger(v1, this, b1, p1, first)
                    b2, p2 = larger(v2, this, b2, p2, first)
                    b3, p3 = larger(v3, this, b3, p3, first)
                    first = False
                    k = np.uint32(k + np.uint32(1))
                j = np.uint32(j + np.uint32(1))
            i = np.uint32(i + np.uint32(1))
        to = element(pixel, channels, c)
        write4(y, to, left, whole, b0, b1, b2, b3)
        if out.size > 0:
            write4(out, to, left, whole, kind(p0), kind(p1), kind(p2), kind(p3))
        item = np.uint32(item + np.uint32(cuda.gridsize(1)))


@cuda_kernel
def max_pool_backward_cuda(
    grad: Any, places: Any, table: Any, channels: Any, items: Any, y: Any
) -> None:
    """Write the sum of the gradients whose maximum a pixel was."""
    per_pixel = np.uint32((channels + 3) >> 2)
    whole = channels & 3 == 0 and aligned(grad) and aligned(y) and aligned(places)
    zero = grad.dtype.type(0)
    deep, high, wide = np.uint32(table[3]), np.uint32(table[4]), np.uint32(table[5])
    taps, columns = np.uint32(table[6]), np.uint32(table[7])
    item = np.uint32(cuda.grid(1))
    while item < np.uint32(items):
        pixel, n, d, h, w, c = item_of(table, item, per_pixel)
        left = np.uint32(np.uint32(channels) - c)
        (i0, i1), (j0, j1), (k0, k1) = ranges_of(table, d, h, w)
        t0, t1, t2, t3 = zero, zero, zero, zero
        i = i0
        while i < i1:
            plane = np.uint32(n * deep + entry(table, 8, i))
            above = np.uint32(entry(table, 9, i) * taps)
            j = j0
            while j < j1:
                row = np.uint32((plane * high + entry(table, 8, j)) * wide)
                number = np.uint32((above + entry(table, 9, j)) * columns)
                k = k0
                while k < k1:
                    at = element(np.uint32(row + entry(table, 8, k)), channels, c)
                    this = np.uint32(number + entry(table, 9, k))
                    v0, v1, v2, v3 = read4(grad, at, left, whole)
                    q0, q1, q2, q3 = read4(places, at, left, whole)
                    t0 += v0 if np.uint32(q0) == this else zero
                    t1 += v1 if np.uint32(q1) == this else zero
                    t2 += v2 if np.uint32(q2) == this else zero
                    t3 += v3 if np.uint32(q3) == this else zero
                    k = np.uint32(k + np.uint32(1))
                j = np.uint32(j + np.uint32(1))
            i = np.uint32(i + np.uint32(1))
        write4(y, element(pixel, channels, c), left, whole, t0, t1, t2, t3)
        item = np.uint32(item + np.uint32(cuda.gridsize(1)))


@cuda_kernel
def resample_cuda(
    x: Any, table: Any, weight: Any, channels: Any, items: Any, y: Any
) -> None:
    """Write the weighted sum of each window."""
    per_pixel = np.uint32((channels + 3) >> 2)
    whole = channels & 3 == 0 and aligned(x) and aligned(y)
    zero = x.dtype.type(0)
    deep, high, wide = np.uint32(table[3]), np.uint32(table[4]), np.uint32(table[5])
    item = np.uint32(cuda.grid(1))
    while item < np.uint32(items):
        pixel, n, d, h, w, c = item_of(table, item, per_pixel)
        left = np.uint32(np.uint32(channels) - c)
        (i0, i1), (j0, j1), (k0, k1) = ranges_of(table, d, h, w)
        t0, t1, t2, t3 = zero, zero, zero, zero
        i = i0
        while i < i1:
            plane = np.uint32(n * deep + entry(table, 8, i))
            j = j0
            while j < j1:
                row = np.uint32((plane * high + entry(table, 8, j)) * wide)
                r0, r1, r2, r3 = zero, zero, zero, zero
                k = k0
                while k < k1:
                    at = element(np.uint32(row + entry(table, 8, k)), channels, c)
                    v0, v1, v2, v3 = read4(x, at, left, whole)
                    factor = weight[k]
                    r0 += factor * v0
                    r1 += factor * v1
                    r2 += factor * v2
                    r3 += factor * v3
                    k = np.uint32(k + np.uint32(1))
                factor = weight[i] * weight[j]
                t0 += factor * r0
                t1 += factor * r1
                t2 += factor * r2
                t3 += factor * r3
                j = np.uint32(j + np.uint32(1))
            i = np.uint32(i + np.uint32(1))
        write4(y, element(pixel, channels, c), left, whole, t0, t1, t2, t3)
        item = np.uint32(item + np.uint32(cuda.gridsize(1)))


def table_of(plan: Plan, like: Any) -> Any:
    """Return the tables of a plan in one row, where `like` lies; it is kept there."""
    key = "joined", *home(like)
    found = plan.placed.get(key)
    if found is None:
        head: Any = np.zeros(_HEAD, np.int64)
        ptr, index, value = plan.tables(head, np.int64)
        first = _HEAD + ptr.size
        head[:10] = (
            *plan.outputs, *plan.inputs, *plan.taps[1:], first, first + index.size
        )  # fmt: skip
        joined = np.concatenate((head, ptr, index, value)).astype(np.int32)
        found = plan.placed[key] = upload(joined, like, "windows")
    return found


def over_images(kernel: Any, plan: Plan, images: Any, more: tuple[Any, ...]) -> None:
    """Launch a kernel of this module on all images, or on some at a time.

    Parameters
    ----------
    kernel : CudaKernel
    plan : Plan
    images : tuple of array, shape (N, D, H, W, C), C-contiguous
        Inputs and outputs of the kernel.
    more : tuple of int and array
        How many of `images` come before the table, and what follows it.
    """
    before, *rest = more
    y = images[before]
    n, channels = y.shape[0], y.shape[4]
    table = table_of(plan, y)
    pixels = max(a[0] * a[1] * a[2] for a in (plan.inputs, plan.outputs))
    each = max(1, _MOST // (pixels * ((channels + 3) // 4)))
    outputs = plan.outputs[0] * plan.outputs[1] * plan.outputs[2]
    for first in range(0, n, each):
        some = images
        if each < n:
            some = tuple(a[first : first + each] if a.size else a for a in images)
        items = min(each, n - first) * outputs * ((channels + 3) // 4)
        kernel(
            *some[:before], table, *rest, channels, items, *some[before:],
            items=items, flat=True,
        )  # fmt: skip
