"""The CUDA loops of `nnlib.kernels.normalization`: the forward pass.

Blocks take tiles (`nnlib.kernels.channel_tiles`). What the slices of a channel add up
to is put together by a second kernel, threads sharing each channel. All sums run in a
fixed order: equal input gives equal bits.
"""

from __future__ import annotations

import functools
import math
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

__all__ = [
    "group_statistics_cuda",
    "join",
    "join_grid",
    "move_running_cuda",
    "normalize",
    "scales_cuda",
    "statistics",
]


@functools.cache
def _moments_kernel(width: int) -> CudaKernel:
    held = width * AHEAD
    size = width * THREADS

    def moments(
        x: Any, rows: Any, channels: Any, shift: Any, tiles: Any, slices: Any,
        step: Any, parts: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(held, x.dtype)
        first = cuda.local.array(width, x.dtype)
        total = cuda.local.array(width, x.dtype)
        squares = cuda.local.array(width, x.dtype)
        counts = cuda.shared.array(THREADS, x.dtype)
        centres = cuda.shared.array(size, x.dtype)
        around = cuda.shared.array(size, x.dtype)
        kind = x.dtype.type
        b, k, c, lane = tile_place(shift, tiles, slices, width)
        thread = cuda.threadIdx.x
        lanes = THREADS >> shift
        low = k * step
        high = min(low + step, rows)
        for e in range(width):
            first[e] = total[e] = squares[e] = kind(0)
        r = low + lane
        seen = kind(0)
        if c < channels and r < high:
            base = b * rows * channels + c
            seen = kind((high - r + lanes - 1) >> (SHIFT - shift))
            # Distances from a value of its own: a large mean does not cancel.
            move_vector(first, 0, x, base + r * channels, width)
            while r < high:
                for u in range(AHEAD):
                    at = min(r + u * lanes, high - 1)
                    move_vector(values, u * width, x, base + at * channels, width)
                for u in range(AHEAD):
                    inside = kind(1) if r + u * lanes < high else kind(0)
                    for e in range(width):
                        d = (values[u * width + e] - first[e]) * inside
                        total[e] += d
                        squares[e] += d * d
                r += AHEAD * lanes
            for e in range(width):
                part = total[e] / seen
                first[e] += part
                squares[e] = max(squares[e] - total[e] * part, kind(0))
        counts[thread] = seen
        for e in range(width):
            centres[e * THREADS + thread] = first[e]
            around[e * THREADS + thread] = squares[e]
        half = lanes >> 1
        while half > 0:
            cuda.syncthreads()
            other = thread + (half << shift)
            if lane < half and counts[other] > kind(0):
                both = counts[thread] + counts[other]
                part = counts[other] / both
                for e in range(width):
                    here = e * THREADS + thread
                    there = e * THREADS + other
                    delta = centres[there] - centres[here]
                    centres[here] += delta * part
                    around[here] += around[there] + delta * delta * (
                        counts[thread] * part
                    )
                counts[thread] = both
            half >>= 1
        if lane == 0 and c < channels:
            place = (b * slices + k) * channels + c
            second = parts.size >> 1
            for e in range(width):
                parts[place + e] = centres[e * THREADS + thread]
                parts[second + place + e] = around[e * THREADS + thread]

    return kernel_variant(moments, width)


@cuda_kernel(threads=THREADS)
def join_moments_cuda(
    parts: Any, rows: Any, channels: Any, slices: Any, step: Any, shift: Any,
    weight: Any, eps: Any, items: Any, made: Any,
) -> None:  # fmt: skip
    """Put the slices' statistics together, ``1 << shift`` threads a channel.

    `made` holds mean, variance, scale and factor of all `items`, one after the other.
    """
    counts = cuda.shared.array(THREADS, dtype=parts.dtype)
    centres = cuda.shared.array(THREADS, dtype=parts.dtype)
    around = cuda.shared.array(THREADS, dtype=parts.dtype)
    kind = parts.dtype.type
    second = parts.size >> 1
    thread = cuda.threadIdx.x
    # Neighbouring threads have neighbouring channels.
    across = SHIFT - shift
    lane = thread >> across
    item = (cuda.blockIdx.x << across) + (thread & ((1 << across) - 1))
    b = item // channels
    c = item - b * channels
    seen = 0
    middle = kind(0)
    total = kind(0)
    if item < items:
        for k in range(lane, slices, 1 << shift):
            count = min(step, rows - k * step)
            part = kind(count) / kind(seen + count)
            place = (b * slices + k) * channels + c
            delta = parts[place] - middle
            middle += delta * part
            total += parts[second + place] + delta * delta * (kind(seen) * part)
            seen += count
    counts[thread] = kind(seen)
    centres[thread] = middle
    around[thread] = total
    half = 1 << shift >> 1
    while half > 0:
        cuda.syncthreads()
        other = thread + (half << across)
        if lane < half and counts[other] > kind(0):
            both = counts[thread] + counts[other]
            part = counts[other] / both
            delta = centres[other] - centres[thread]
            centres[thread] += delta * part
            around[thread] += around[other] + delta * delta * (counts[thread] * part)
            counts[thread] = both
        half >>= 1
    if lane == 0 and item < items:
        spread = around[thread] / kind(rows)
        made[item] = centres[thread]
        made[items + item] = spread
        value = kind(1) / kind(math.sqrt(spread + eps))
        made[2 * items + item] = value
        if weight.size > 0:
            made[3 * items + item] = value * weight[c]


@cuda_kernel
def group_statistics_cuda(
    group: Any, channels: Any, weight: Any, eps: Any, items: Any, made: Any
) -> None:
    """Replace the statistics of channels by those of groups of them.

    `made` and `items` are those of `join_moments_cuda`.
    """
    kind = made.dtype.type
    for number in range(cuda.grid(1), items // group, cuda.gridsize(1)):
        low = number * group
        middle = kind(0)
        for item in range(low, low + group):
            middle += made[item]
        middle /= kind(group)
        spread = kind(0)
        for item in range(low, low + group):
            away = made[item] - middle
            spread += made[items + item] + away * away
        spread /= kind(group)
        value = kind(1) / kind(math.sqrt(spread + eps))
        for item in range(low, low + group):
            made[item] = middle
            made[items + item] = spread
            made[2 * items + item] = value
            if weight.size > 0:
                made[3 * items + item] = value * weight[item % channels]


@cuda_kernel
def scales_cuda(var: Any, weight: Any, eps: Any, scale: Any, factor: Any) -> None:
    """Write ``1 / sqrt(var + eps)``, and that times the weight."""
    kind = var.dtype.type
    for c in range(cuda.grid(1), var.size, cuda.gridsize(1)):
        value = kind(1) / kind(math.sqrt(var[c] + eps))
        scale[c] = value
        if weight.size > 0:
            factor[c] = value * weight[c]


@cuda_kernel
def move_running_cuda(
    mean: Any, var: Any, momentum: Any, unbiased: Any, running_mean: Any,
    running_var: Any,
) -> None:  # fmt: skip
    """Move running statistics, of which either may be empty."""
    kind = mean.dtype.type
    keep = kind(1) - momentum
    for c in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        if running_mean.size > 0:
            running_mean[c] = keep * running_mean[c] + momentum * mean[c]
        if running_var.size > 0:
            new = var[c] * unbiased
            running_var[c] = keep * running_var[c] + momentum * new


@functools.cache
def _normalize_kernel(width: int) -> CudaKernel:
    held = width * AHEAD

    def normalize(
        x: Any, rows: Any, channels: Any, shift: Any, tiles: Any, slices: Any,
        step: Any, mean: Any, factor: Any, offset: Any, pitch: Any, y: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(held, x.dtype)
        middle = cuda.local.array(width, x.dtype)
        slope = cuda.local.array(width, x.dtype)
        start = cuda.local.array(width, x.dtype)
        b, k, c, lane = tile_place(shift, tiles, slices, width)
        lanes = THREADS >> shift
        low = k * step
        high = min(low + step, rows)
        if c < channels:
            base = b * rows * channels + c
            for e in range(width):
                middle[e] = mean[b * channels + c + e]
                slope[e] = factor[b * channels + c + e]
                start[e] = offset[b * pitch + c + e]
            r = low + lane
            while r < high:
                for u in range(AHEAD):
                    at = min(r + u * lanes, high - 1)
                    move_vector(values, u * width, x, base + at * channels, width)
                for u in range(AHEAD):
                    for e in range(width):
                        d = values[u * width + e] - middle[e]
                        values[u * width + e] = d * slope[e] + start[e]
                for u in range(AHEAD):
                    at = r + u * lanes
                    if at < high:
                        move_vector(y, base + at * channels, values, u * width, width)
                r += AHEAD * lanes

    return kernel_variant(normalize, width)


def join_grid(items: int, slices: int) -> tuple[int, int]:
    """Return the logarithm of the threads that share a channel, and the blocks."""
    shift = min(6, (slices - 1).bit_length())
    return shift, -(-items // (THREADS >> shift))


def statistics(x: Any, weight: Any, eps: Any, group: int) -> tuple[Any, Any, Any, Any]:
    """Return mean, variance, ``1 / sqrt(var + eps)`` and that times the weight.

    An empty `weight` stands for none; `group` channels share their statistics.
    """
    batches, rows, channels = x.shape
    tiles = Tiles.of(x)
    slices = tiles.slices
    parts = array_module(x).empty(2 * batches * slices * channels, x.dtype)
    _moments_kernel(tiles.width)(
        x, rows, channels, *tiles[1:], parts,
        blocks=batches * slices * tiles.tiles, threads=THREADS, flat=True,
    )  # fmt: skip
    return join(parts, batches, rows, channels, slices, tiles.step, weight, eps, group)


def join(
    parts: Any, batches: int, rows: int, channels: int, slices: int, step: int,
    weight: Any, eps: Any, group: int,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Put statistics of slices of `step` rows together; see `statistics`.

    `parts` holds the means and the sums of squared distances, both (B, slices, C).
    """
    items = batches * channels
    made = array_module(parts).empty((4 if weight.size else 3) * items, parts.dtype)
    shift, blocks = join_grid(items, slices)
    join_moments_cuda(
        parts, rows, channels, slices, step, shift, weight, eps, items, made,
        blocks=blocks,
    )  # fmt: skip
    if group > 1:
        group_statistics_cuda(
            group, channels, weight, eps, items, made, items=items // group
        )
    vectors = made.reshape(-1, batches, channels)
    return vectors[0], vectors[1], vectors[2], vectors[-1]


def normalize(x: Any, mean: Any, factor: Any, offset: Any, out: Any) -> None:
    """Write ``(x - mean) * factor + offset``."""
    _, rows, channels = x.shape
    tiles, blocks = map_tiles(x, out)
    pitch = channels if offset.shape[0] > 1 else 0
    _normalize_kernel(tiles.width)(
        x, rows, channels, *tiles[1:], mean, factor, offset, pitch, out,
        blocks=blocks, threads=THREADS, flat=True,
    )  # fmt: skip
