"""Convolution as it is written: windows times weights, tile by tile, in registers.

A tile of outputs, by one or two vectors of filters, is summed over all taps and
channels in registers (`nnlib.kernels.tiles`). Inputs are read where they lie, or in a
band's frame of zeros (`nnlib.kernels.bands`); weights are packed once a call, filters
together. CPU alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.kernels.bands import (
    GEOMETRY,
    find_offsets,
    frame_of,
    list_segments,
    open_band,
    pitches,
    plan_bands,
)
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.tiles import SPARE, run_tile
from nnlib.kernels.vectors import REGISTER_BYTES, aligned_empty, padded

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


@cpu_loop
def correlate_bands(
    begin: int, end: int, x: Any, y: Any, packed: Any, start: Any, axes: Any, kg: int,
    geo: Any,
) -> None:  # fmt: skip
    """Compute the bands `begin` to `end`."""
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
    x: Any, w: Any, start: Any, y: Any, packed: Any, axes: Any, order: Any, geo: Any
) -> None:
    """Pack the filters, then compute all bands, on the pool."""
    groups, cg, kg, _ = w.shape
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
        real[:, :, :, :, ::1], real[::1], inputs(ints, 2, "C"), inputs(ints, 1, "C"),
        GEOMETRY,
    )  # fmt: skip
    return cpu_kernel(shared=True, signatures=[correlate_types])(correlate_loop)


_KERNELS = {
    np.dtype(np.float32): _kernel(types.float32),
    np.dtype(np.float64): _kernel(types.float64),
}


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
    groups, cg, kg, _ = w.shape
    bands = plan_bands(plans, x, groups, y.shape[4])
    wide = padded(kg, x.itemsize)
    if bias.size and wide == kg:
        start = bias.reshape(groups, kg)
    else:
        start = np.zeros((groups, wide), x.dtype)
        if bias.size:
            start[:, :kg] = bias.reshape(groups, kg)
    packed = aligned_empty((groups * wide * cg * bands.order.size,), x.dtype)
    _KERNELS[x.dtype](x, w, start, y, packed, bands.axes, bands.order, bands.geometry)
