"""The gradient of a convolution by its weights, tile by tile, in registers.

A tile of input channels (of neighbouring taps, where these lie together) by filters is
summed over the outputs of a band: see `nnlib.kernels.bands` and
`nnlib.kernels.tiles`. Each thread sums over its own bands; the sums are added in the
order of the threads. CPU alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.bands import (
    GEOMETRY,
    band_start,
    frame_of,
    open_band,
    pitches,
    plan_bands,
    segment_for,
    with_segment,
)
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.tiles import SPARE, run_tile
from nnlib.kernels.vectors import REGISTER_BYTES, copy_bytes, keep_small, padded

__all__ = [
    "PARTIAL_SUMS",
    "band_of_gradient",
    "list_outputs",
    "list_runs",
    "weight_grad",
]

# Bytes of partial sums, over all threads.
PARTIAL_SUMS = 1 << 27


@body
def list_runs(
    base: int, axes: Any, pitches: Any, merged: int, length: int, step: int,
    segment: int, sums: Any, lefts: Any, targets: Any,
) -> int:  # fmt: skip
    """Write where segments of runs of taps are read and summed; return their number.

    `merged` taps of a line make a run of some `length`; `step` is the distance of two
    rows of a segment, `sums` (segments, rows, filters).
    """
    keep_small()
    plane, row, pixel = pitches
    count = 0
    pitch = sums.shape[1] * sums.shape[2] * sums.itemsize
    for t in range(axes[9] * axes[10] * axes[11] // merged):
        e = t * merged % axes[11]
        b = t * merged // axes[11]
        run = base + b // axes[10] * axes[15] * plane + b % axes[10] * axes[16] * row
        run += e * axes[17] * pixel
        for i in range((length + segment - 1) // segment):
            at = min(i * segment, length - segment)
            lefts[count] = run + at * step
            targets[count] = sums.ctypes.data + count * pitch
            count += 1
    for i in range(count, count + SPARE):
        lefts[i] = lefts[count - 1]
        targets[i] = targets[count - 1]
    return count


@body
def list_outputs(stride: Any, row: int, pixel: int, width: int, offsets: Any) -> None:
    """Write the distance of the input of each output of a band from the first's."""
    keep_small()
    for i in range(offsets.size):
        offsets[i] = i // width * stride[0] * row + i % width * stride[1] * pixel


@body
def band_of_gradient(g: Any, place: Any, ragged: bool, buffer: Any) -> int:
    """Return the address of a band of the gradient.

    Tiles read whole vectors, also beyond the band: where the array ends sooner, the
    band is copied to where they may.
    """
    keep_small()
    n, d, q0, q1, _ = place
    row = g.shape[3] * g.shape[4] * g.itemsize
    first = (n * g.shape[1] + d) * g.shape[2] + q0
    address = g.ctypes.data + first * row
    behind = (g.shape[0] * g.shape[1] * g.shape[2] - first - (q1 - q0)) * row
    if ragged and behind < 2 * REGISTER_BYTES:
        copy_bytes(buffer.ctypes.data, address, (q1 - q0) * row)
        address = buffer.ctypes.data
    result: int = address
    return result


@body
def grad_part(
    part: int, parts: int, x: Any, g: Any, sums: Any, axes: Any, cg: int, kg: int,
    merged: int, geo: Any,
) -> None:  # fmt: skip
    """Sum over one part of the bands: (groups, segments, rows, filters)."""
    keep_small()
    groups, segments, _, wide = sums.shape
    size = x.itemsize
    vector = REGISTER_BYTES // size
    plane, row, pixel = pitches(x, geo)
    frame = frame_of(x, geo)
    k = g.shape[4]
    buffer = np.empty(geo.rows * geo.width * k + 2 * vector, x.dtype)
    lefts = np.empty(segments + SPARE, np.int64)
    targets = np.empty(segments + SPARE, np.int64)
    offsets = np.empty(geo.rows * geo.width, np.int64)
    list_outputs((geo.stride_h, geo.stride_w), row, pixel, geo.width, offsets)
    jobs = x.shape[0] * geo.depth * geo.bands
    for job in range(part * jobs // parts, (part + 1) * jobs // parts):
        place = open_band(x, job, geo, frame)
        right = band_of_gradient(g, place, kg % vector != 0, buffer)
        list_runs(
            band_start(x, place, axes[0], geo), axes[0], (plane, row, pixel), merged,
            merged * cg, size, geo.segment, sums[0], lefts, targets,
        )  # fmt: skip
        for group in range(groups):
            for j in range(0, kg, 2 * vector):
                run_tile(
                    geo.wide_tile if kg - j > vector else geo.tile, segments,
                    lefts.ctypes.data, group * cg * size, size, offsets.ctypes.data,
                    (place[3] - place[2]) * geo.width, right + (group * kg + j) * size,
                    k * size, 0, targets.ctypes.data,
                    (group * segments * geo.segment * wide + j) * size, wide * size,
                    2 * vector,
                )  # fmt: skip


@cpu_loop
def grad_parts(
    begin: int, end: int, x: Any, g: Any, sums: Any, axes: Any, cg: int, kg: int,
    merged: int, geo: Any,
) -> None:  # fmt: skip
    """Sum the parts `begin` to `end`."""
    keep_small()
    for part in range(begin, end):
        grad_part(part, sums.shape[0], x, g, sums[part], axes, cg, kg, merged, geo)


@cpu_loop
def fold_channels(begin: int, end: int, sums: Any, dw: Any, merged: int) -> None:
    """Add the parts up, in their order; `merged` taps of a line are one run."""
    keep_small()
    parts, _, _, segment, _ = sums.shape
    _, kg, cg, taps = dw.shape
    length = merged * cg
    each = (length + segment - 1) // segment
    for job in range(begin, end):
        group = job // cg
        i = job % cg
        for t in range(taps):
            at = t % merged * cg + i
            s = at // segment
            m = at - min(s * segment, length - segment)
            s += t // merged * each
            for j in range(kg):
                total = sums[0, group, s, m, j]
                for part in range(1, parts):
                    total += sums[part, group, s, m, j]
                dw[group, j, i, t] = total


def grad_loop(
    x: Any, g: Any, sums: Any, axes: Any, dw: Any, merged: int, geo: Any
) -> None:
    """Sum by parts, on the pool, and fold."""
    keep_small()
    groups, kg, cg, taps = dw.shape
    spread(grad_parts, sums.shape[0], 1, (x, g, sums, axes, cg, kg, merged, geo))
    spread(fold_channels, groups * cg, max(1, 4096 // (taps * kg)), (sums, dw, merged))


def _kernel(real: Any) -> Any:
    def inputs(kind: Any, ndim: int, layout: str) -> Any:
        return types.Array(kind, ndim, layout, readonly=True, aligned=layout == "C")

    grad_types = types.void(
        inputs(real, 5, "A"), types.Array(real, 5, "C", readonly=True),
        real[:, :, :, :, ::1], inputs(types.int64, 2, "C"), real[:, :, :, ::1],
        types.int64, GEOMETRY,
    )  # fmt: skip
    return cpu_kernel(shared=True, signatures=[grad_types])(grad_loop)


_KERNELS = {
    np.dtype(np.float32): _kernel(types.float32),
    np.dtype(np.float64): _kernel(types.float64),
}


def runs_of(plan: Plan, channels: int, groups: int) -> tuple[int, int, int]:
    """Return how many taps make a run, how many runs there are, and their length.

    Taps that are neighbours, in memory, of one line.
    """
    merged = plan.taps[2] if groups == 1 and plan.gap[2] == 1 else 1
    return merged, math.prod(plan.taps) // merged, merged * channels


def weight_grad(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights of a convolution by `plan`.

    Parameters
    ----------
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    g : C-contiguous numpy.ndarray, shape (N, *grid, K)
    dw : C-contiguous array, shape (groups, K / groups, C / groups, taps)
    """
    groups, kg, cg, _ = dw.shape
    if not g.size or not dw.size:
        dw[...] = 0
        return
    bands = plan_bands((plan,), x, groups, g.shape[4])
    merged, runs, length = runs_of(plan, cg, groups)
    geometry = bands.geometry
    vectors = 1 if kg * x.itemsize <= REGISTER_BYTES else 2
    segment = segment_for(length, runs, geometry.rows * geometry.width, vectors)
    geometry = with_segment(geometry, segment, kg, False, x.dtype)
    segments = runs * -(-length // segment)
    shape = (groups, segments, geometry.segment, padded(kg, x.itemsize))
    most = max(1, PARTIAL_SUMS // (math.prod(shape) * x.itemsize))
    jobs = x.shape[0] * geometry.depth * geometry.bands
    parts = min(get_num_threads(), jobs, most)
    sums = np.zeros((parts, *shape), x.dtype)
    _KERNELS[x.dtype](x, g, sums, bands.axes, dw, merged, geometry)
