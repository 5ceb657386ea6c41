"""Bands of rows: what the direct convolutions share.

An image is worked on by bands of a few rows of outputs. Where windows reach over its
edge, or its memory is not channels-last, the rows of the input that a band reads are
first copied into a frame of zeros of the thread's own (at most `_FRAME` bytes, but for
a single row of outputs). In the frame, or in the image itself, neighbouring outputs
read at one distance: `nnlib.kernels.tiles` takes them by segments. CPU alone.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body
from nnlib.kernels.machinery.caches import level2_bytes
from nnlib.kernels.tiles import MOST_ROWS, SPARE, tile_cost, tile_of
from nnlib.kernels.vectors import (
    REGISTER_BYTES,
    clear_bytes,
    copy_bytes,
    copy_element,
    keep_small,
)

__all__ = [
    "GEOMETRY",
    "Bands",
    "Geometry",
    "copy_band",
    "band_start",
    "find_offsets",
    "frame_of",
    "list_segments",
    "plan_bands",
    "segment_for",
    "with_segment",
]

# Bytes that a frame should have, and may have where it then repeats few rows: an eighth
# and a quarter of the level-2 cache, of which the filters take the rest.
_CACHED, _FRAME = level2_bytes() // 8, level2_bytes() // 4
# Jobs for each thread, so that none waits long for the last.
_JOBS = 4


class Geometry(NamedTuple):
    """The numbers of a band. All are ints; a kernel reads them by name.

    Attributes
    ----------
    rows, bands : int
        Rows of outputs in a band, and bands in an image's slice of depth.
    depth, height, width : int
        The grid of outputs (the largest of several plans).
    stride_d, stride_h, stride_w : int
        Distance of the inputs of two neighbouring outputs.
    low_d, low_h, low_w, span_d, span_h, span_w : int
        The first input of output 0, and how many there are up to its last.
    framed : int
        Whether inputs are copied into a frame.
    repeat : int
        How often the frame holds each channel.
    segment : int
        Outputs of a segment.
    merged : int
        Outputs of a row that one window adds to (see `nnlib.kernels.direct`), else 1.
    tile, wide_tile : int
        The functions for tiles of one vector and of two, where needed.
    """

    rows: int
    bands: int
    depth: int
    height: int
    width: int
    stride_d: int
    stride_h: int
    stride_w: int
    low_d: int
    low_h: int
    low_w: int
    span_d: int
    span_h: int
    span_w: int
    framed: int
    repeat: int
    segment: int
    merged: int
    tile: int
    wide_tile: int


GEOMETRY = types.NamedUniTuple(types.int64, len(Geometry._fields), Geometry)


class Bands(NamedTuple):
    """A convolution cut into bands.

    Attributes
    ----------
    geometry : Geometry
    axes : numpy.ndarray of int64, shape (plans, 19)
        A plan in a row: its grid, start, step, taps, first and gap, three each, and
        the number of taps of the plans before.
    order : numpy.ndarray of int64
        The order of the taps of all plans, one behind the other.
    """

    geometry: Geometry
    axes: Any
    order: Any


def segment_for(length: int, lines: int, depth: int, vectors: int) -> int:
    """Return the best length of the segments of `lines` runs of some `length`."""

    def cost(segment: int) -> float:
        segments = lines * -(-length // segment)
        return tile_cost(segment, vectors, segments, depth)

    return min(range(min(length, MOST_ROWS), 0, -1), key=cost)


@functools.lru_cache(maxsize=512)
def with_segment(
    geometry: Geometry, segment: int, filters: int, elementwise: bool, dtype: Any
) -> Geometry:
    """Set the length of the segments, and the tiles for some filters in a group."""
    vector = REGISTER_BYTES // dtype.itemsize
    wide = filters > vector and not elementwise
    last = (filters - 1) % (2 * vector) + 1
    narrow = elementwise or last <= vector
    return geometry._replace(
        segment=segment,
        tile=tile_of(segment, 1, elementwise, dtype) if narrow else 0,
        wide_tile=tile_of(segment, 2, False, dtype) if wide else 0,
    )


@functools.lru_cache(maxsize=512)
def _cut(
    keys: tuple[tuple[Any, ...], ...], shape: tuple[int, ...], contiguous: bool,
    dtype: Any, groups: int, filters: int, repeat: int, elementwise: bool,
    merged: int, threads: int,
) -> Bands:  # fmt: skip
    """Cut plans (without order) over an input (N, D, H, W, C)."""
    plans = [Plan._make((*key[:7], np.frombuffer(key[7], np.int64))) for key in keys]
    used = [plan for plan in plans if plan.order.size] or [
        plans[0]._replace(taps=(1, 1, 1), first=(0, 0, 0))
    ]
    itemsize = dtype.itemsize
    stride = plans[0].stride
    grid = tuple(max(plan.grid[i] for plan in plans) for i in range(3))
    low = tuple(min(plan.first[i] for plan in used) for i in range(3))
    span = tuple(
        max(plan.first[i] + (plan.taps[i] - 1) * plan.gap[i] for plan in used)
        - low[i]
        + 1
        for i in range(3)
    )
    outside = min(low) < 0 or any(
        (n - 1) * s + a + b > size
        for n, s, a, b, size in zip(grid, stride, low, span, shape[1:4], strict=True)
    )
    ragged = elementwise and filters % (REGISTER_BYTES // itemsize) != 0
    framed = outside or not contiguous or repeat > 1 or ragged
    channels = shape[4] * repeat
    row = span[0] * ((grid[2] - 1) * stride[2] + span[2]) * channels * itemsize

    def fit(size: int) -> int:
        result: int = (size // row - span[1]) // stride[1] + 1
        return result

    rows = max(fit(_CACHED), min(fit(_FRAME), 4 * span[1] // stride[1]), 1)
    share = -(-shape[0] * grid[0] * grid[1] // (_JOBS * threads))
    rows = min(rows, max(share, 1), grid[1])
    bands = -(-grid[1] // rows)
    rows = -(-grid[1] // bands)
    depth = max(plan.order.size for plan in plans)
    vectors = 1
    if not elementwise:
        depth *= shape[4] // groups
        vectors += filters // groups * itemsize > REGISTER_BYTES
    length = 1 if merged > 1 else min(p.grid[2] for p in plans)
    segment = segment_for(length, rows, depth, vectors)
    geometry = Geometry._make(
        (rows, bands, *grid, *stride, *low, *span, int(framed), repeat, segment)
        + (merged, 0, 0)
    )
    geometry = with_segment(geometry, segment, filters // groups, elementwise, dtype)
    before = np.cumsum([0] + [plan.order.size for plan in plans])
    axes = np.array(
        [
            [*p.grid, *p.start, *p.step, *p.taps, *p.first, *p.gap, b]
            for p, b in zip(plans, before, strict=False)
        ],
        np.int64,
    )
    return Bands(geometry, axes, np.concatenate([plan.order for plan in plans]))


def plan_bands(
    plans: tuple[Plan, ...], x: Any, groups: int, filters: int, *, repeat: int = 1,
    elementwise: bool = False, merged: int = 1,
) -> Bands:  # fmt: skip
    """Cut `plans`, which share their stride, into bands.

    Parameters
    ----------
    plans : tuple of Plan
        None with an empty grid.
    x : numpy.ndarray, shape (N, D, H, W, C), any strides
    groups, filters : int
        Groups, and channels of the output.
    repeat : int
        How often the frame holds each channel.
    elementwise : bool
        Whether each channel has filters of its own, and vectors run over channels.
    merged : int
        Outputs of a row that one window adds to; segments are then of one window.
    """
    keys = tuple(plan.key for plan in plans)
    return _cut(
        keys, x.shape, x.flags.c_contiguous, x.dtype, groups, filters, repeat,
        elementwise, merged, get_num_threads(),
    )  # fmt: skip


@body
def frame_of(x: Any, geo: Any) -> Any:
    """Return an array for a frame that begins on a cache line, with room behind it."""
    keep_small()
    if not geo.framed:
        return np.empty(0, x.dtype)
    rows = (geo.rows - 1) * geo.stride_h + geo.span_h
    wide = (geo.width - 1) * geo.stride_w + geo.span_w
    count = geo.span_d * rows * wide * x.shape[4] * geo.repeat + 64
    raw = np.empty(count + 16, x.dtype)
    clear_bytes(raw.ctypes.data, raw.size * x.itemsize)
    start = -raw.ctypes.data % 64 // x.itemsize
    return raw[start : start + count]


@body
def pitches(x: Any, geo: Any) -> Any:
    """Return the bytes from one slice, row and pixel to the next, as they are read."""
    pixel = x.shape[4] * geo.repeat * x.itemsize
    if geo.framed:
        row = ((geo.width - 1) * geo.stride_w + geo.span_w) * pixel
        return ((geo.rows - 1) * geo.stride_h + geo.span_h) * row, row, pixel
    return x.shape[2] * x.shape[3] * pixel, x.shape[3] * pixel, pixel


@body
def copy_row(
    source: int, count: int, strides: Any, deep: int, repeat: int, to: int, like: Any
) -> None:
    """Copy a row (pixels, channels) of any strides to `deep` channels each.

    By addresses: slices of an array, whose bounds are checked for being negative, made
    this a fifth of the code of a convolution.
    """
    keep_small()
    pixel = deep * like.itemsize
    for i in range(deep):
        first = source + i // repeat * strides[4]
        for w in range(count):
            copy_element(
                to + w * pixel + i * like.itemsize, first + w * strides[3], like[0]
            )


@body
def copy_band(
    x: Any, n: int, d0: int, h0: int, rows: int, geo: Any, frame: Any
) -> None:
    """Copy what `rows` rows of outputs read; the first input row is at `d0`, `h0`.

    The borders at left and right are zero already.
    """
    keep_small()
    _, depth, height, width, c = x.shape
    size = x.itemsize
    plane, pitch, pixel = pitches(x, geo)
    w0 = max(geo.low_w, 0)
    left = frame.ctypes.data + (w0 - geo.low_w) * pixel
    # Windows of few outputs far apart may all lie beside the image: nothing to copy.
    stop = min((geo.width - 1) * geo.stride_w + geo.span_w + geo.low_w, width)
    count = max(stop - w0, 0)
    tight = (
        (x.strides[4] == size or c == 1)
        and x.strides[3] == c * size
        and geo.repeat == 1
    )
    for a in range(geo.span_d):
        d = d0 + a
        for r in range((rows - 1) * geo.stride_h + geo.span_h):
            h = h0 + r
            to = a * plane + r * pitch
            start = n * x.strides[0] + d * x.strides[1] + h * x.strides[2]
            start += x.ctypes.data + w0 * x.strides[3]
            if not (0 <= d < depth and 0 <= h < height):
                clear_bytes(frame.ctypes.data + to, pitch)
            elif tight:
                copy_bytes(left + to, start, count * pixel)
            else:
                copy_row(
                    start, count, x.strides, c * geo.repeat, geo.repeat, left + to,
                    frame,
                )  # fmt: skip


@body
def find_offsets(
    axes: Any, plane: int, row: int, pixel: int, channels: int, size: int, offsets: Any
) -> None:
    """Write the distance of each tap's channels from a window's first input."""
    keep_small()
    t = 0
    for a in range(axes[9]):
        for b in range(axes[10]):
            for e in range(axes[11]):
                at = a * axes[15] * plane + b * axes[16] * row + e * axes[17] * pixel
                for c in range(channels):
                    offsets[t] = at + c * size
                    t += 1


@body
def open_band(x: Any, job: int, geo: Any, frame: Any) -> Any:
    """Make a band ready; return its place and the address of input (0, 0, 0).

    The place is image, slice, first row of outputs and the one behind the last.
    """
    keep_small()
    band = job % geo.bands
    d = job // geo.bands % geo.depth
    n = job // geo.bands // geo.depth
    q0 = band * geo.rows
    q1 = min(geo.height, q0 + geo.rows)
    plane, row, pixel = pitches(x, geo)
    if geo.framed:
        d0 = d * geo.stride_d + geo.low_d
        h0 = q0 * geo.stride_h + geo.low_h
        copy_band(x, n, d0, h0, q1 - q0, geo, frame)
        return (
            n,
            d,
            q0,
            q1,
            frame.ctypes.data - d0 * plane - h0 * row - (geo.low_w * pixel),
        )
    return n, d, q0, q1, x.ctypes.data + n * x.shape[1] * plane


@body
def band_start(x: Any, place: Any, axes: Any, geo: Any) -> int:
    """Return the address of the first input of a band's first window."""
    _, d, q0, _, origin = place
    plane, row, pixel = pitches(x, geo)
    first = origin + (d * geo.stride_d + axes[12]) * plane
    result: int = first + (q0 * geo.stride_h + axes[13]) * row + axes[14] * pixel
    return result


@body
def list_segments(
    x: Any, y: Any, place: Any, axes: Any, geo: Any, lefts: Any, targets: Any
) -> int:
    """Write where the segments of a band read and write; return how many there are."""
    keep_small()
    n, d, q0, q1, _ = place
    if d >= axes[0]:
        return 0
    plane, row, pixel = pitches(x, geo)
    first = band_start(x, place, axes, geo)
    out = y.shape[4] * y.itemsize
    length = geo.segment
    count = 0
    for q in range(q0, min(q1, axes[1])):
        left = first + (q - q0) * geo.stride_h * row
        line = (n * y.shape[1] + d * axes[6] + axes[3]) * y.shape[2]
        line = (line + q * axes[7] + axes[4]) * y.shape[3] + axes[5]
        for i in range((axes[2] + length - 1) // length):
            # The last begins early, and computes some outputs again.
            at = min(i * length, axes[2] - length)
            lefts[count] = left + at * geo.stride_w * pixel
            targets[count] = y.ctypes.data + (line + at * axes[8]) * out
            count += 1
    for i in range(count, min(count + SPARE, lefts.size)):
        lefts[i] = lefts[count - 1]
        targets[i] = targets[count - 1]
    return count
