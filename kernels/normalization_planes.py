"""Normalisation of images whose channels are planes: (N, C, P), CUDA only.

`nnlib.kernels.normalization` wants the channels of a pixel side by side. Images that
come from outside hold each channel by itself; to turn them around would cost as much as
to normalise them. Here a group of threads holds a plane in registers; the statistics of
planes are joined by the kernels of that module.
"""

from __future__ import annotations

import functools
from typing import Any

from nnlib.kernels import normalization_cuda, normalization_grad_cuda
from nnlib.kernels.group_reduction import SUM, WARPS, group_reduce, row_place
from nnlib.kernels.machinery import CudaKernel, array_module, cuda, on_cuda
from nnlib.kernels.machinery.groups import (
    Rows,
    access,
    aligned,
    kernel_variant,
    width_of,
)

__all__ = ["fits", "input_gradient", "normalize", "slopes", "statistics"]

# Smaller planes are turned around.
LEAST = 32
# Vectors that a thread holds of each array.
HELD = 8
PAIRS = 4


def fits(x: Any) -> bool:
    """Tell whether an array (N, C, *spatial) should be normalised by planes.

    Examples
    --------
    >>> import numpy as np
    >>> fits(np.zeros((2, 3, 8, 8), np.float32))
    False
    """
    if not on_cuda(x) or x.ndim < 3 or x.dtype.char not in "fd":
        return False
    if x.shape[1] == 1 or not x.flags.c_contiguous or not x.size:
        return False
    size = x.size // (x.shape[0] * x.shape[1])
    return size >= LEAST and _plan(size, PAIRS, x) is not None


def _plan(size: int, most: int, *arrays: Any) -> Rows | None:
    return Rows.of(size, width_of(arrays[0].itemsize, size, *arrays), most)


@functools.cache
def _moments_kernel(width: int, held: int) -> CudaKernel:
    load, _ = access(width, held)
    size = width * held

    def plane_moments(x: Any, rows: Any, count: Any, shift: Any, parts: Any) -> None:
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        kind = x.dtype.type
        lane, row, base = row_place(shift, rows, count)
        load(values, x, base, lane, shift, count, kind(0))
        total = kind(0)
        for e in range(size):
            total += values[e]
        mean = group_reduce(SUM, shared, total, shift) / kind(count)
        total = kind(0)
        rest = kind(0)
        for k in range(held):
            if (lane + (k << shift)) * width < count:
                for e in range(width):
                    d = values[k * width + e] - mean
                    total += d * d
                    rest += d
        total = group_reduce(SUM, shared, total, shift)
        # What rounding of a large mean has left over.
        rest = group_reduce(SUM, shared, rest, shift)
        if lane == 0 and row < rows:
            parts[row] = mean + rest / kind(count)
            spread = max(total - rest * (rest / kind(count)), kind(0))
            parts[rows + row] = spread

    return kernel_variant(plane_moments, width, held)


@functools.cache
def _normalize_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def plane_normalize(
        x: Any, y: Any, rows: Any, count: Any, shift: Any, channels: Any, mean: Any,
        factor: Any, offset: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(size, x.dtype)
        lane, row, _ = row_place(shift, rows, count)
        if row < rows:
            c = row % channels
            place = row if mean.size == rows else c
            middle = mean[place]
            slope = factor[place]
            start = offset[c]
            load(values, x, row * count, lane, shift, count, middle)
            for e in range(size):
                values[e] = (values[e] - middle) * slope + start
            store(y, row * count, values, lane, shift, count)

    return kernel_variant(plane_normalize, width, held)


@functools.cache
def _sums_kernel(width: int, held: int) -> CudaKernel:
    load, _ = access(width, held)
    size = width * held

    def plane_sums(
        g: Any, x: Any, rows: Any, count: Any, shift: Any, channels: Any, mean: Any,
        parts: Any,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(WARPS, x.dtype)
        values = cuda.local.array(size, x.dtype)
        slopes = cuda.local.array(size, x.dtype)
        kind = x.dtype.type
        lane, row, base = row_place(shift, rows, count)
        place = min(row, rows - 1)
        middle = mean[place if mean.size == rows else place % channels]
        load(slopes, g, base, lane, shift, count, kind(0))
        load(values, x, base, lane, shift, count, middle)
        plain = kind(0)
        weighted = kind(0)
        for e in range(size):
            plain += slopes[e]
            weighted += slopes[e] * (values[e] - middle)
        plain = group_reduce(SUM, shared, plain, shift)
        weighted = group_reduce(SUM, shared, weighted, shift)
        if lane == 0 and row < rows:
            parts[row] = plain
            parts[rows + row] = weighted

    return kernel_variant(plane_sums, width, held)


@functools.cache
def _gradient_kernel(width: int, held: int) -> CudaKernel:
    load, store = access(width, held)
    size = width * held

    def plane_gradient(
        g: Any, x: Any, y: Any, rows: Any, count: Any, shift: Any, channels: Any,
        mean: Any, a: Any, k: Any, c: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(size, x.dtype)
        slopes = cuda.local.array(size, x.dtype)
        kind = x.dtype.type
        lane, row, _ = row_place(shift, rows, count)
        if row < rows:
            place = row if mean.size == rows else row % channels
            middle = mean[place]
            factor = a[place]
            slope = k[place]
            start = c[place]
            load(slopes, g, row * count, lane, shift, count, kind(0))
            load(values, x, row * count, lane, shift, count, middle)
            for e in range(size):
                d = slope * (values[e] - middle)
                values[e] = factor * slopes[e] + d + start
            store(y, row * count, values, lane, shift, count)

    return kernel_variant(plane_gradient, width, held)


def _launch(make: Any, most: int, arrays: tuple[Any, ...], *rest: Any) -> None:
    x = arrays[0]
    images, channels, size = x.shape
    rows = images * channels
    plan: Any = _plan(size, most, *arrays)
    if plan is None:
        # It `fits` by vectors, which cannot begin where one of the inputs does.
        arrays = tuple([a if aligned(a) else a.copy() for a in arrays])
        plan = _plan(size, most, *arrays)
    make(plan.width, plan.held)(
        *arrays, rows, size, plan.shift, *rest,
        blocks=plan.blocks(rows), threads=plan.threads, flat=True,
    )  # fmt: skip


def statistics(
    x: Any, weight: Any, eps: float, whole: bool, group: int = 1
) -> tuple[Any, Any, Any, Any]:
    """Return statistics, and the scale that they give.

    Parameters
    ----------
    x : array, shape (N, C, P), C-contiguous, that `fits`
    weight : array, shape (C,), dtype of `x`, or None
    eps : float
    whole : bool
        One set of statistics for all images.
    group : int
        So many neighbouring channels of an image share them.

    Returns
    -------
    mean, var, scale, factor : arrays, shape (B, C)
        As by `nnlib.kernels.normalization.statistics`, B being 1 or N.
    """
    images, channels, size = x.shape
    parts = array_module(x).empty(2 * images * channels, x.dtype)
    _launch(_moments_kernel, HELD, (x,), parts)
    weight = parts[:0] if weight is None else weight
    eps = x.dtype.type(eps)
    if whole:
        # A plane is a slice of its channel.
        return normalization_cuda.join(
            parts, 1, images * size, channels, images, size, weight, eps, group
        )
    return normalization_cuda.join(
        parts, images, size, channels, 1, size, weight, eps, group
    )


def normalize(x: Any, mean: Any, factor: Any, offset: Any) -> Any:
    """Return ``(x - mean) * factor + offset``; `offset` has shape (1, C)."""
    y = array_module(x).empty(x.shape, x.dtype)
    _launch(_normalize_kernel, HELD, (x, y), x.shape[1], mean, factor, offset)
    return y


def slopes(
    g: Any, x: Any, mean: Any, scale: Any, weight: Any, group: int = 1
) -> tuple[Any, Any, Any, Any]:
    """Return what `nnlib.kernels.normalization.slopes` does."""
    images, channels, size = x.shape
    parts = array_module(x).empty(2 * images * channels, x.dtype)
    _launch(_sums_kernel, PAIRS, (g, x), channels, mean, parts)
    weight = parts[:0] if weight is None else weight
    if mean.shape[0] == 1:
        made = normalization_grad_cuda.join(
            parts, 1, images * size, channels, images, weight, scale, group
        )
    else:
        made = normalization_grad_cuda.join(
            parts, images, size, channels, 1, weight, scale, group
        )
    return made[0], made[1], made[2], made[3]


def input_gradient(g: Any, x: Any, mean: Any, a: Any, k: Any, c: Any) -> Any:
    """Return ``a * g + k * (x - mean) + c``, the vectors of shape (B, C)."""
    y = array_module(x).empty(x.shape, x.dtype)
    _launch(_gradient_kernel, PAIRS, (g, x, y), x.shape[1], mean, a, k, c)
    return y
