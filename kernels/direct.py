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
    SPARE,
    find_offsets,
    frame_of,
    list_segments,
    open_band,
    pitches,
    plan_bands,
)
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, prange, spread
from nnlib.kernels.tiles import BASES, run_tile
from nnlib.kernels.vectors import COLUMNS, REGISTER_BYTES, aligned_empty, padded

__all__ = ["correlate", "pack"]


@body
def correlate_tiles(
    x: Any, y: Any, packed: Any, start: Any, depth: int, offsets: Any, lines: int,
    lefts: Any, targets: Any, segments: int, pitch: int, kg: int, geo: Any,
) -> None:  # fmt: skip
    """Compute all segments of a band, for all filters.

    `packed` holds (groups, depth * filters), filters rounded up to vectors, and strip
    by strip; `start` the sums' first values (groups, filters).
    """
    size = x.itemsize
    groups, wide = start.shape
    cg = x.shape[4] // groups
    vector = REGISTER_BYTES // size
    count = depth // max(lines, 1)
    for g in range(groups):
        for j in range(0, kg, 2 * vector):
            vectors = 2 if kg - j > vector else 1
            bases = BASES[vectors - 1][geo.segment]
            right = packed.ctypes.data + (g * wide + j) * depth * size
            for i in range(0, segments, bases):
                run_tile(
                    geo.segment, vectors, lefts.ctypes.data + 8 * i, g * cg * size,
                    geo.stride_w * x.shape[4] * size, offsets.ctypes.data, lines, count,
                    size, right, vectors * vector * size, start[g, j:].ctypes.data,
                    targets.ctypes.data + 8 * i, (g * kg + j) * size, pitch, kg - j,
                    x.dtype.type(0),
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
    offsets = np.empty((axes.shape[0], geo.span_d * geo.span_h * geo.span_w), np.int64)
    lines = np.empty(axes.shape[0], np.int64)
    for p in range(axes.shape[0]):
        lines[p] = find_offsets(axes[p], plane, row, pixel, geo.merged, offsets[p])
    for job in range(begin, end):
        place = open_band(x, job, geo, frame)
        for p in range(axes.shape[0]):
            segments = list_segments(x, y, place, axes[p], geo, lefts, targets)
            depth = axes[p, 9] * axes[p, 10] * axes[p, 11] * cg
            correlate_tiles(
                x, y, packed[groups * wide * axes[p, 18] * cg :], start, depth,
                offsets[p], lines[p], lefts, targets, segments,
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


@body
def pack_line(w: Any, tap: int, strip: int, packed: Any) -> None:
    """Write one tap of (in, out, taps) to (in, columns), zeros behind the last."""
    columns = packed.shape[1]
    left = min(columns, w.shape[1] - strip * columns)
    for i in range(packed.shape[0]):
        for j in range(left):
            packed[i, j] = w[i, strip * columns + j, tap]


def pack_loop(w: Any, order: Any, packed: Any) -> None:
    """Write (groups, in, out, taps) to (groups, strips, taps * in, columns)."""
    cg, taps, strips = w.shape[1], order.size, packed.shape[1]
    for job in prange(w.shape[0] * strips * taps):
        t = job % taps
        s = job // taps % strips
        g = job // taps // strips
        pack_line(w[g], order[t], s, packed[g, s, t * cg : (t + 1) * cg])


def _kernels(real: Any) -> tuple[Any, Any]:
    def inputs(kind: Any, ndim: int, layout: str) -> Any:
        return types.Array(kind, ndim, layout, readonly=True, aligned=layout == "C")

    ints = types.int64
    weights = inputs(real, 4, "A")
    correlate_types = types.void(
        inputs(real, 5, "A"), weights, inputs(real, 2, "C"), real[:, :, :, :, ::1],
        real[::1], inputs(ints, 2, "C"), inputs(ints, 1, "C"), GEOMETRY,
    )  # fmt: skip
    pack_types = types.void(weights, inputs(ints, 1, "C"), real[:, :, :, ::1])
    return (
        cpu_kernel(shared=True, signatures=[correlate_types])(correlate_loop),
        cpu_kernel(signatures=[pack_types])(pack_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def pack(w: Any, order: Any) -> Any:
    """Pack weights (groups, in, out, taps) of any strides for Winograd's kernels."""
    groups, cg, kg, _ = w.shape
    columns = COLUMNS[w.dtype.itemsize]
    shape = (groups, -(-kg // columns), order.size * cg, columns)
    packed = aligned_empty(shape, w.dtype)
    if kg % columns:
        packed[:, -1] = 0
    _KERNELS[w.dtype][1](w, order, packed)
    return packed


def correlate(plans: tuple[Plan, ...], x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plans` to `y`.

    Parameters
    ----------
    plans : tuple of Plan
        All of one stride.
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    w : numpy.ndarray, shape (groups, C / groups, K / groups, taps), any strides
    bias : array, shape (K,) or (0,)
    y : C-contiguous array, shape (N, D', H', W', K)
    """
    plans = tuple(plan for plan in plans if min(plan.grid))
    if not plans or not y.size:
        return
    groups, cg, kg, _ = w.shape
    bands = plan_bands(plans, x, groups, y.shape[4])
    wide = padded(kg, x.itemsize)
    start = np.zeros((groups, wide), x.dtype)
    if bias.size:
        start[:, :kg] = bias.reshape(groups, kg)
    packed = aligned_empty((groups * wide * cg * bands.order.size,), x.dtype)
    _KERNELS[x.dtype][0](
        x, w, start, y, packed, bands.axes, bands.order, bands.geometry
    )
