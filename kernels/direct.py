"""Convolution as it is written: windows times weights, tile by tile, in registers.

A tile of outputs, by one or two vectors of filters, is summed over all taps and
channels in registers (`nnlib.kernels.tiles`). Inputs are read where they lie, or in a
band's frame of zeros (`nnlib.kernels.bands`); weights are packed once a call, filters
together. CPU alone.

With fewer filters than a vector has elements, most of each product would be wasted.
Where outputs reach as far as the windows do (the gradient by an unpadded input), the
taps of a line are then filters too: a row of inputs times the weights of all its taps
is added to as many neighbouring outputs, which lie together in memory.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from nnlib.kernels.bands import (
    GEOMETRY,
    band_start,
    find_offsets,
    frame_of,
    list_segments,
    open_band,
    pitches,
    plan_bands,
    segment_for,
)
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.tiles import SPARE, run_tile, tile_cost
from nnlib.kernels.vectors import REGISTER_BYTES, keep_small, padded

__all__ = ["correlate"]


@body
def correlate_tiles(
    x: Any, packed: Any, start: Any, offsets: Any, lefts: Any, targets: Any,
    segments: int, pitch: int, kg: int, geo: Any,
) -> None:  # fmt: skip
    """Compute all segments of a band, for all filters.

    `packed` holds (groups, depth * filters), filters rounded up to vectors, and strip
    by strip; `start` the sums' first values (groups, filters).
    """
    keep_small()
    size = x.itemsize
    groups, wide = start.shape
    cg = x.shape[4] // groups
    vector = REGISTER_BYTES // size
    depth = offsets.size
    for g in range(groups):
        for j in range(0, kg, 2 * vector):
            vectors = 2 if kg - j > vector else 1
            run_tile(
                geo.wide_tile if vectors == 2 else geo.tile, segments,
                lefts.ctypes.data, g * cg * size, geo.stride_w * x.shape[4] * size,
                offsets.ctypes.data, depth,
                packed.ctypes.data + (g * wide + j) * depth * size,
                vectors * vector * size, start[g, j:].ctypes.data, targets.ctypes.data,
                (g * kg + j) * size, pitch, kg - j,
            )  # fmt: skip


@body
def add_lines(
    x: Any, y: Any, place: Any, packed: Any, offsets: Any, lefts: Any, targets: Any,
    axes: Any, kg: int, geo: Any,
) -> None:  # fmt: skip
    """Add each input of a band to the `geo.merged` outputs of the row that read it.

    Inputs at a distance of so many pixels add to outputs of their own, so they may be
    in one tile.
    """
    keep_small()
    n, d, q0, q1, _ = place
    size = x.itemsize
    _, row, pixel = pitches(x, geo)
    out = y.shape[4] * size
    first = band_start(x, place, axes, geo)
    line = (n * y.shape[1] + d) * y.shape[2] + q0
    line = y.ctypes.data + line * y.shape[3] * out
    vector = REGISTER_BYTES // size
    for phase in range(geo.merged):
        count = 0
        for q in range(q1 - q0):
            for i in range(phase, geo.width, geo.merged):
                lefts[count] = first + q * geo.stride_h * row + i * pixel
                targets[count] = line + (q * y.shape[3] + i) * out
                count += 1
        for i in range(count, min(count + SPARE, lefts.size) if count else 0):
            lefts[i] = lefts[count - 1]
            targets[i] = targets[count - 1]
        for j in range(0, kg, 2 * vector):
            vectors = 2 if kg - j > vector else 1
            run_tile(
                geo.wide_tile if vectors == 2 else geo.tile, count, lefts.ctypes.data,
                0, 0, offsets.ctypes.data, offsets.size,
                packed.ctypes.data + j * offsets.size * size, vectors * vector * size,
                0, targets.ctypes.data, j * size, 0, kg - j,
            )  # fmt: skip


@cpu_loop
def correlate_bands(
    begin: int, end: int, x: Any, y: Any, packed: Any, start: Any, axes: Any, kg: int,
    geo: Any,
) -> None:  # fmt: skip
    """Compute the bands `begin` to `end`."""
    keep_small()
    groups, wide = start.shape
    cg = x.shape[4] // groups
    plane, row, pixel = pitches(x, geo)
    frame = frame_of(x, geo)
    across = (geo.width + geo.segment - 1) // geo.segment
    lefts = np.empty(geo.rows * across + SPARE, np.int64)
    targets = np.empty(lefts.size, np.int64)
    offsets = np.empty(packed.size // (groups * wide), np.int64)
    for p in range(axes.shape[0]):
        at = axes[p, 18] * cg
        find_offsets(axes[p], plane, row, pixel, cg, x.itemsize, offsets[at:])
    for job in range(begin, end):
        place = open_band(x, job, geo, frame)
        if geo.merged > 1:
            add_lines(x, y, place, packed, offsets, lefts, targets, axes[0], kg, geo)
            continue
        for p in range(axes.shape[0]):
            segments = list_segments(x, y, place, axes[p], geo, lefts, targets)
            first = axes[p, 18] * cg
            depth = axes[p, 9] * axes[p, 10] * axes[p, 11] * cg
            correlate_tiles(
                x, packed[groups * wide * first :], start,
                offsets[first : first + depth], lefts, targets, segments,
                axes[p, 8] * y.shape[4] * y.itemsize, kg, geo,
            )  # fmt: skip


@cpu_loop
def pack_filters(
    begin: int, end: int, w: Any, order: Any, axes: Any, packed: Any, wide: int
) -> None:
    """Write rows of (groups, in, out, taps) for each plan: see `correlate_tiles`."""
    keep_small()
    groups, cg, kg, _ = w.shape
    vector = REGISTER_BYTES // w.itemsize
    zero = w.dtype.type(0)
    for job in range(begin, end):
        i = job % cg
        g = job // cg
        for p in range(axes.shape[0]):
            taps = axes[p, 9] * axes[p, 10] * axes[p, 11]
            first = axes[p, 18]
            base = groups * wide * first * cg + g * wide * taps * cg
            for j in range(0, kg, 2 * vector):
                columns = 2 * vector if kg - j > vector else vector
                left = min(columns, kg - j)
                for t in range(taps):
                    at = base + j * taps * cg + (t * cg + i) * columns
                    row = packed[at : at + columns]
                    tap = order[first + t]
                    for m in range(left):
                        row[m] = w[g, i, j + m, tap]
                    for m in range(left, columns):
                        row[m] = zero


def correlate_loop(
    x: Any, w: Any, start: Any, y: Any, axes: Any, order: Any, geo: Any
) -> None:
    """Pack the filters, then compute all bands, on the pool."""
    keep_small()
    groups, cg, kg, _ = w.shape
    # Begins on a cache line.
    count = start.size * cg * order.size
    room = np.empty(count + 16, x.dtype)
    shift = -room.ctypes.data % 64 // x.itemsize
    packed = room[shift : shift + count]
    rows = max(order.size * kg, 1)
    spread(
        pack_filters, groups * cg, max(1, 4096 // rows),
        (w, order, axes, packed, start.shape[1]),
    )  # fmt: skip
    jobs = x.shape[0] * geo.depth * geo.bands
    spread(correlate_bands, jobs, 1, (x, y, packed, start, axes, kg, geo))


def _kernel(real: Any) -> Any:
    def inputs(kind: Any, ndim: int, layout: str) -> Any:
        return types.Array(kind, ndim, layout, readonly=True, aligned=layout == "C")

    ints = types.int64
    correlate_types = types.void(
        inputs(real, 5, "A"), inputs(real, 4, "A"), inputs(real, 2, "C"),
        real[:, :, :, :, ::1], inputs(ints, 2, "C"), inputs(ints, 1, "C"), GEOMETRY,
    )  # fmt: skip
    return cpu_kernel(shared=True, signatures=[correlate_types])(correlate_loop)


_KERNELS = {
    np.dtype(np.float32): _kernel(types.float32),
    np.dtype(np.float64): _kernel(types.float64),
}


@functools.lru_cache(maxsize=512)
def _merge(key: tuple[Any, ...], shape: tuple[int, ...], k: int, dtype: Any) -> Any:
    """Return a plan whose filters are the taps of a line times `k`, if that is better.

    With it, the order of the taps in those filters, (taps of a line, other taps).
    """
    plan = Plan._make((*key[:7], np.frombuffer(key[7], np.int64)))
    width, taps = shape[3], plan.taps[2]
    if (
        taps == 1
        or (plan.stride[2], plan.gap[2], plan.first[2]) != (1, 1, 1 - taps)
        or plan.step != (1, 1, 1)
        or plan.grid[2] != width + taps - 1
    ):
        return None
    vector = REGISTER_BYTES // dtype.itemsize
    others = math.prod(plan.taps[:2])
    depth = others * shape[4]

    def cost(filters: int, segment: int, segments: int, depth: int) -> float:
        vectors = 1 if filters <= vector else 2
        strips = -(-filters // (vectors * vector))
        result: float = strips * tile_cost(segment, vectors, segments, depth)
        return result

    # A band is of some 16 rows.
    segment = segment_for(plan.grid[2], 16, depth * taps, 1 if k <= vector else 2)
    usual = cost(k, segment, 16 * -(-plan.grid[2] // segment), depth * taps)
    merged = taps * cost(k * taps, 1, 16 * -(-width // taps), depth)
    if merged > 0.8 * usual:
        return None
    order = plan.order.reshape(others, taps)
    plan = plan._replace(
        grid=(*plan.grid[:2], width), taps=(*plan.taps[:2], 1),
        first=(*plan.first[:2], 0), order=np.arange(others, dtype=np.int64),
    )  # fmt: skip
    return plan, order[:, ::-1].T


def _merge_taps(plans: tuple[Plan, ...], x: Any, w: Any, k: int) -> Any:
    """Return bands and weights with the taps of a line as filters, or None."""
    first, taps = plans[0].first[2], plans[0].taps[2]
    alone = len(plans) == w.shape[0] == 1 < taps
    if not alone or first != 1 - taps or not x.size:
        return None
    found = _merge(plans[0].key, x.shape, k, x.dtype)
    if found is None:
        return None
    plan, order = found
    taps = order.shape[0]
    # (1, in, out, all taps) -> (1, in, taps of a line * out, other taps)
    w = w[:, :, :, order].swapaxes(2, 3).reshape(1, w.shape[1], taps * k, -1)
    return plan_bands((plan,), x, 1, taps * k, merged=taps), w


def correlate(plans: tuple[Plan, ...], x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plans` to `y`.

    Parameters
    ----------
    plans : tuple of Plan
        All of one stride, none with an empty grid.
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    w : numpy.ndarray, shape (groups, C / groups, K / groups, taps), any strides
    bias : array, shape (K,) or (0,)
    y : C-contiguous array, shape (N, D', H', W', K)
    """
    if not y.size:
        return
    if not w.shape[1]:
        y[...] = bias if bias.size else 0
        return
    merged = _merge_taps(plans, x, w, y.shape[4])
    if merged is not None:
        bands, w = merged
        y[...] = bias if bias.size else 0
        bias = bias[:0]
    else:
        bands = plan_bands(plans, x, w.shape[0], y.shape[4])
    groups, _, kg, _ = w.shape
    wide = padded(kg, x.itemsize)
    if bias.size and wide == kg:
        start = bias.reshape(groups, kg)
    else:
        start = np.zeros((groups, wide), x.dtype)
        if bias.size:
            start[:, :kg] = bias.reshape(groups, kg)
    _KERNELS[x.dtype](x, w, start, y, bands.axes, bands.order, bands.geometry)
