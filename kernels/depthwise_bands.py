"""Convolution of each channel with filters of its own, by bands in frames of zeros.

What `nnlib.kernels.depthwise` does not do by itself. Vectors run over neighbouring
channels. A tile of outputs is summed over the taps in registers, each weight read once
for all of its outputs; the gradient by the weights holds the sums of all taps and runs
over the outputs. Where a channel has several filters, it is repeated in the bands'
frames (`nnlib.kernels.bands`). CPU alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
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
    with_segment,
)
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.direct_grad import (
    PARTIAL_SUMS,
    band_of_gradient,
    list_outputs,
    list_runs,
)
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.tiles import SPARE, run_tile
from nnlib.kernels.vectors import REGISTER_BYTES, aligned_empty, padded

__all__ = ["correlate", "weight_grad"]


@cpu_loop
def correlate_bands(
    begin: int, end: int, x: Any, w: Any, start: Any, y: Any, axes: Any, geo: Any
) -> None:
    """Compute the bands `begin` to `end`."""
    size = x.itemsize
    plane, row, pixel = pitches(x, geo)
    frame = frame_of(x, geo)
    across = (geo.width + geo.segment - 1) // geo.segment
    lefts = np.empty(geo.rows * across + SPARE, np.int64)
    targets = np.empty(lefts.size, np.int64)
    offsets = np.empty(w.shape[0], np.int64)
    for p in range(axes.shape[0]):
        find_offsets(axes[p], plane, row, pixel, 1, size, offsets[axes[p, 18] :])
    for job in range(begin, end):
        place = open_band(x, job, geo, frame)
        for p in range(axes.shape[0]):
            segments = list_segments(x, y, place, axes[p], geo, lefts, targets)
            taps = axes[p, 9] * axes[p, 10] * axes[p, 11]
            for j in range(0, y.shape[4], REGISTER_BYTES // size):
                run_tile(
                    geo.tile, segments, lefts.ctypes.data, j * size,
                    geo.stride_w * pixel, offsets[axes[p, 18] :].ctypes.data, taps,
                    w.ctypes.data + (axes[p, 18] * w.shape[1] + j) * size,
                    w.shape[1] * size, start[j:].ctypes.data, targets.ctypes.data,
                    j * size, axes[p, 8] * y.shape[4] * size, y.shape[4] - j,
                )  # fmt: skip


def correlate_loop(x: Any, w: Any, start: Any, y: Any, axes: Any, geo: Any) -> None:
    """Compute all bands, on the pool."""
    jobs = x.shape[0] * geo.depth * geo.bands
    spread(correlate_bands, jobs, 1, (x, w, start, y, axes, geo))


@body
def grad_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, axes: Any, geo: Any
) -> None:
    """Sum over one part of the bands: (segments, rows, channels)."""
    segments, _, wide = sums.shape
    size = x.itemsize
    k = g.shape[4]
    vector = REGISTER_BYTES // size
    plane, row, pixel = pitches(x, geo)
    frame = frame_of(x, geo)
    buffer = np.empty(geo.rows * geo.width * k + vector, x.dtype)
    lefts = np.empty(segments + SPARE, np.int64)
    targets = np.empty(segments + SPARE, np.int64)
    offsets = np.empty(geo.rows * geo.width, np.int64)
    list_outputs((geo.stride_h, geo.stride_w), row, pixel, geo.width, offsets)
    jobs = x.shape[0] * geo.depth * geo.bands
    for job in range(part * jobs // parts, (part + 1) * jobs // parts):
        place = open_band(x, job, geo, frame)
        right = band_of_gradient(g, place, k % vector != 0, buffer)
        step = axes[0, 17] * pixel
        list_runs(
            band_start(x, place, axes[0], geo), axes[0], (plane, row, pixel),
            axes[0, 11], axes[0, 11], step, geo.segment, sums, lefts, targets,
        )  # fmt: skip
        for j in range(0, k, vector):
            run_tile(
                geo.tile, segments, lefts.ctypes.data, j * size, step,
                offsets.ctypes.data, (place[3] - place[2]) * geo.width,
                right + j * size, k * size, 0, targets.ctypes.data, j * size,
                wide * size, vector,
            )  # fmt: skip


@cpu_loop
def grad_parts(
    begin: int, end: int, x: Any, g: Any, sums: Any, axes: Any, geo: Any
) -> None:
    """Sum the parts `begin` to `end`."""
    for part in range(begin, end):
        grad_part(part, sums.shape[0], x, g, sums[part], axes, geo)


def grad_loop(x: Any, g: Any, sums: Any, axes: Any, geo: Any) -> None:
    """Sum by parts, on the pool."""
    spread(grad_parts, sums.shape[0], 1, (x, g, sums, axes, geo))


def _kernels(real: Any) -> tuple[Any, Any]:
    def inputs(kind: Any, ndim: int, layout: str = "C") -> Any:
        return types.Array(kind, ndim, layout, readonly=True)

    images, axes = inputs(real, 5, "A"), inputs(types.int64, 2)
    correlate_types = types.void(
        images, inputs(real, 2), inputs(real, 1), real[:, :, :, :, ::1], axes, GEOMETRY
    )
    grad_types = types.void(
        images, inputs(real, 5), real[:, :, :, ::1], axes, GEOMETRY
    )  # fmt: skip
    return (
        cpu_kernel(shared=True, signatures=[correlate_types])(correlate_loop),
        cpu_kernel(shared=True, signatures=[grad_types])(grad_loop),
    )


_KERNELS = {
    np.dtype(np.float32): _kernels(types.float32),
    np.dtype(np.float64): _kernels(types.float64),
}


def correlate(
    plans: tuple[Plan, ...], x: Any, w: Any, bias: Any, y: Any, repeat: int
) -> None:
    """Write the outputs of `plans` to `y`.

    Parameters
    ----------
    plans : tuple of Plan
        All of one stride, none with an empty grid.
    x : numpy.ndarray, shape (N, D, H, W, K / repeat), any strides
    w : array, shape (K, taps)
    bias : array, shape (K,) or (0,)
    y : C-contiguous array, shape (N, D', H', W', K)
    repeat : int
        Filters of each channel.
    """
    if not y.size:
        return
    k = y.shape[4]
    bands = plan_bands(plans, x, k, k, repeat=repeat, elementwise=True)
    wide = padded(k, x.itemsize)
    packed = aligned_empty((bands.order.size, wide), x.dtype)
    packed[:, :k] = w.T[bands.order]
    start = np.zeros(wide, x.dtype)
    if bias.size:
        start[:k] = bias
    _KERNELS[x.dtype][0](x, packed, start, y, bands.axes, bands.geometry)


def weight_grad(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    g : C-contiguous numpy.ndarray, shape (N, *grid, K)
    dw : C-contiguous array, shape (K, taps)
    """
    k, taps = dw.shape
    if not g.size:
        dw[...] = 0
        return
    repeat = k // x.shape[4]
    bands = plan_bands((plan,), x, k, k, repeat=repeat, elementwise=True)
    geometry, across = bands.geometry, plan.taps[2]
    lines = taps // across
    depth = geometry.rows * geometry.width
    segment = segment_for(across, lines, depth, 1)
    geometry = with_segment(geometry, segment, k, True, x.dtype)
    each = -(-across // segment)
    wide = padded(k, x.itemsize)
    jobs = x.shape[0] * geometry.depth * geometry.bands
    most = max(1, PARTIAL_SUMS // (lines * each * segment * wide * x.itemsize))
    parts = min(get_num_threads(), jobs, most)
    sums = np.zeros((parts, lines * each, segment, wide), x.dtype)
    _KERNELS[x.dtype][1](x, g, sums, bands.axes, geometry)
    total = sums[0]
    for part in sums[1:]:
        total += part
    tap = np.arange(taps)
    run, e = tap // across, tap % across
    row = e - np.minimum(e // segment * segment, across - segment)
    dw[...] = total[run * each + e // segment, row, :k].T
