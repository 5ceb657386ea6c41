"""The CUDA loops of `nnlib.kernels.normalization`: the backward pass.

Blocks take tiles (`nnlib.kernels.channel_tiles`).
"""

from __future__ import annotations

import functools
from typing import Any

from nnlib.kernels.channel_tiles import (
    AHEAD,
    SHIFT,
    THREADS,
    Tiles,
    map_tiles,
    tile_place,
)
from nnlib.kernels.machinery import CudaKernel, array_module, cuda, cuda_kernel
from nnlib.kernels.machinery.groups import kernel_variant, move_vector
from nnlib.kernels.normalization_cuda import join_grid

__all__ = ["gradient_sums", "group_slopes_cuda", "input_gradient", "join"]


@functools.cache
def _gradient_sums_kernel(width: int) -> CudaKernel:
    held = width * AHEAD
    size = width * THREADS

    def gradient_sums(
        g: Any, x: Any, rows: Any, channels: Any, shift: Any, tiles: Any, slices: Any,
        step: Any, mean: Any, parts: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(held, x.dtype)
        slopes = cuda.local.array(held, x.dtype)
        middle = cuda.local.array(width, x.dtype)
        plain = cuda.local.array(width, x.dtype)
        weighted = cuda.local.array(width, x.dtype)
        left = cuda.shared.array(size, x.dtype)
        right = cuda.shared.array(size, x.dtype)
        kind = x.dtype.type
        b, k, c, lane = tile_place(shift, tiles, slices, width)
        thread = cuda.threadIdx.x
        lanes = THREADS >> shift
        low = k * step
        high = min(low + step, rows)
        for e in range(width):
            plain[e] = weighted[e] = kind(0)
        if c < channels:
            base = b * rows * channels + c
            for e in range(width):
                middle[e] = mean[b * channels + c + e]
            r = low + lane
            while r < high:
                for u in range(AHEAD):
                    at = base + min(r + u * lanes, high - 1) * channels
                    move_vector(slopes, u * width, g, at, width)
                    move_vector(values, u * width, x, at, width)
                for u in range(AHEAD):
                    inside = r + u * lanes < high
                    for e in range(width):
                        slope = slopes[u * width + e] if inside else kind(0)
                        d = values[u * width + e] - middle[e] if inside else kind(0)
                        plain[e] += slope
                        weighted[e] += slope * d
                r += AHEAD * lanes
        for e in range(width):
            left[e * THREADS + thread] = plain[e]
            right[e * THREADS + thread] = weighted[e]
        half = lanes >> 1
        while half > 0:
            cuda.syncthreads()
            if lane < half:
                for e in range(width):
                    here = e * THREADS + thread
                    left[here] += left[here + (half << shift)]
                    right[here] += right[here + (half << shift)]
            half >>= 1
        if lane == 0 and c < channels:
            place = (b * slices + k) * channels + c
            second = parts.size >> 1
            for e in range(width):
                parts[place + e] = left[e * THREADS + thread]
                parts[second + place + e] = right[e * THREADS + thread]

    return kernel_variant(gradient_sums, width)


@cuda_kernel(threads=THREADS)
def join_sums_cuda(
    parts: Any, rows: Any, channels: Any, slices: Any, shift: Any, weight: Any,
    scale: Any, items: Any, made: Any,
) -> None:  # fmt: skip
    """Add the slices' sums up, ``1 << shift`` threads a channel.

    `made` holds both sums, slope and offset of all `items`, one after the other.
    """
    left = cuda.shared.array(THREADS, dtype=parts.dtype)
    right = cuda.shared.array(THREADS, dtype=parts.dtype)
    kind = parts.dtype.type
    second = parts.size >> 1
    thread = cuda.threadIdx.x
    across = SHIFT - shift
    lane = thread >> across
    item = (cuda.blockIdx.x << across) + (thread & ((1 << across) - 1))
    b = item // channels
    c = item - b * channels
    here = kind(0)
    there = kind(0)
    if item < items:
        for k in range(lane, slices, 1 << shift):
            place = (b * slices + k) * channels + c
            here += parts[place]
            there += parts[second + place]
    left[thread] = here
    right[thread] = there
    half = 1 << shift >> 1
    while half > 0:
        cuda.syncthreads()
        if lane < half:
            left[thread] += left[thread + (half << across)]
            right[thread] += right[thread + (half << across)]
        half >>= 1
    if lane == 0 and item < items:
        here = left[thread]
        there = right[thread]
        made[item] = here
        if scale.size == 0:
            made[items + item] = there
        else:
            value = scale[item]
            there *= value
            made[items + item] = there
            value /= -kind(rows)
            if weight.size > 0:
                value *= weight[c]
            made[2 * items + item] = there * value * scale[item]
            made[3 * items + item] = here * value


@cuda_kernel
def group_slopes_cuda(
    group: Any, rows: Any, channels: Any, weight: Any, scale: Any, items: Any,
    made: Any,
) -> None:  # fmt: skip
    """Write slopes and offsets of channels that share statistics.

    `made` and `items` are those of `join_sums_cuda`.
    """
    kind = scale.dtype.type
    for number in range(cuda.grid(1), items // group, cuda.gridsize(1)):
        low = number * group
        here = kind(0)
        there = kind(0)
        for item in range(low, low + group):
            factor = weight[item % channels] if weight.size > 0 else kind(1)
            here += made[item] * factor
            there += made[items + item] * factor
        value = scale[low] / -kind(rows * group)
        for item in range(low, low + group):
            made[2 * items + item] = there * value * scale[low]
            made[3 * items + item] = here * value


@functools.cache
def _input_gradient_kernel(width: int) -> CudaKernel:
    held = width * AHEAD

    def input_gradient(
        g: Any, x: Any, rows: Any, channels: Any, shift: Any, tiles: Any, slices: Any,
        step: Any, mean: Any, a: Any, k: Any, c: Any, y: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(held, x.dtype)
        slopes = cuda.local.array(held, x.dtype)
        middle = cuda.local.array(width, x.dtype)
        factor = cuda.local.array(width, x.dtype)
        slope = cuda.local.array(width, x.dtype)
        start = cuda.local.array(width, x.dtype)
        b, part, first, lane = tile_place(shift, tiles, slices, width)
        lanes = THREADS >> shift
        low = part * step
        high = min(low + step, rows)
        if first < channels:
            base = b * rows * channels + first
            for e in range(width):
                place = b * channels + first + e
                middle[e] = mean[place]
                factor[e] = a[place]
                slope[e] = k[place]
                start[e] = c[place]
            r = low + lane
            while r < high:
                for u in range(AHEAD):
                    at = base + min(r + u * lanes, high - 1) * channels
                    move_vector(slopes, u * width, g, at, width)
                    move_vector(values, u * width, x, at, width)
                for u in range(AHEAD):
                    for e in range(width):
                        d = slope[e] * (values[u * width + e] - middle[e])
                        grad = factor[e] * slopes[u * width + e]
                        values[u * width + e] = grad + d + start[e]
                for u in range(AHEAD):
                    at = r + u * lanes
                    if at < high:
                        move_vector(y, base + at * channels, values, u * width, width)
                r += AHEAD * lanes

    return kernel_variant(input_gradient, width)


def gradient_sums(
    g: Any, x: Any, mean: Any, weight: Any, scale: Any, group: int
) -> Any:
    """Return the sums of ``g`` and of ``g * (x - mean) * scale``, slope and offset.

    All are (B, C). With an empty `scale` it counts as 1, and there are the sums alone.
    """
    batches, rows, channels = x.shape
    tiles = Tiles.of(x, g)
    slices = tiles.slices
    parts = array_module(x).empty(2 * batches * slices * channels, x.dtype)
    _gradient_sums_kernel(tiles.width)(
        g, x, rows, channels, *tiles[1:], mean, parts,
        blocks=batches * slices * tiles.tiles, threads=THREADS, flat=True,
    )  # fmt: skip
    return join(parts, batches, rows, channels, slices, weight, scale, group)


def join(
    parts: Any, batches: int, rows: int, channels: int, slices: int, weight: Any,
    scale: Any, group: int,
) -> Any:  # fmt: skip
    """Add sums of slices up; `rows` are those of all slices. See `gradient_sums`.

    `parts` holds both sums, (B, slices, C) each.
    """
    items = batches * channels
    made = array_module(parts).empty((4 if scale.size else 2) * items, parts.dtype)
    shift, blocks = join_grid(items, slices)
    join_sums_cuda(
        parts, rows, channels, slices, shift, weight, scale, items, made,
        blocks=blocks, flat=True,
    )  # fmt: skip
    if group > 1:
        group_slopes_cuda(
            group, rows, channels, weight, scale, items, made,
            items=items // group, flat=True,
        )  # fmt: skip
    return made.reshape(-1, batches, channels)


def input_gradient(g: Any, x: Any, mean: Any, a: Any, k: Any, c: Any, out: Any) -> None:
    """Write ``a * g + k * (x - mean) + c``."""
    _, rows, channels = x.shape
    tiles, blocks = map_tiles(x, g, out)
    _input_gradient_kernel(tiles.width)(
        g, x, rows, channels, *tiles[1:], mean, a, k, c, out,
        blocks=blocks, threads=THREADS, flat=True,
    )  # fmt: skip
