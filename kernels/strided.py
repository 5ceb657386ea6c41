"""3x3 convolution of stride 2 by minimal filtering of its phases.

In one dimension two outputs read five inputs, of which the even ones meet the outer
weights and the odd ones the middle one::

    y0 = w0 x0 + w1 x1 + w2 x2 = w0 (x0 - x2) + w1 x1 + (w0 + w2) x2
    y1 = w0 x2 + w1 x3 + w2 x4 = w2 (x4 - x2) + w1 x3 + (w0 + w2) x2

which takes five products in place of six (S. Winograd, "Arithmetic complexity of
computations", 1980: F(2, 2) for the even phase). In two dimensions a tile of 5x5 inputs
gives 2x2 outputs with 25 products per pair of channels in place of 36. The products
that belong to the same outputs are summed at once: nine sums a tile, of which four
added up are an output.

Memory is channels-last. Each thread takes a block of tiles through three stages while
it is in its level-2 cache: the differences of the inputs, the sums
(`nnlib.kernels.tiles`), the outputs. Images are read where they lie. CPU alone. The
error in float32 is that of the direct sum. A value that is not finite reaches all
outputs whose window holds it, and may reach others of its tile.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from nnlib.backend.threads import get_num_threads
from nnlib.kernels.bands import segment_for
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.machinery.caches import level2_bytes
from nnlib.kernels.strided_tiles import gather_square, scatter_square
from nnlib.kernels.tiles import SPARE, run_tile, tile_of
from nnlib.kernels.vectors import (
    REGISTER_BYTES,
    clear_bytes,
    copy_bytes,
    copy_element,
    keep_small,
    padded,
    tile_transform,
)
from nnlib.kernels.winograd import CHANNELS, apply_both, strips_of

__all__ = ["correlate", "fits"]

# Bytes of a thread's block of tiles.
_BLOCK_BYTES = level2_bytes() // 4
# A line's five values go into three sums: two values into the first, from the first
# on, and so forth.
_COUNTS, _FIRST = (2, 1, 2), (0, 2, 3)


def _places() -> list[int]:
    """Return where each of 5x5 values goes, so that those of a sum are together."""
    found = [0] * 25
    place = 0
    for a in range(3):
        for b in range(3):
            for i in range(_FIRST[a], _FIRST[a] + _COUNTS[a]):
                for j in range(_FIRST[b], _FIRST[b] + _COUNTS[b]):
                    found[5 * i + j] = place
                    place += 1
    return found


_PLACES = _places()


def _input_line(x: Sequence[Any]) -> list[Any]:
    return [x[0] - x[2], x[1], x[2], x[4] - x[2], x[3]]


def _weight_line(w: Sequence[Any]) -> list[Any]:
    return [w[0], w[1], w[0] + w[2], w[2], w[1]]


def _output_line(m: Sequence[Any]) -> list[Any]:
    return [m[0] + m[1], m[1] + m[2]]


def _weights(values: Sequence[Any]) -> list[Any]:
    found = apply_both(_weight_line, values, 3)
    return [found[_PLACES.index(place)] for place in range(25)]


input_tile = gather_square(5, _input_line, _PLACES)
weight_tile = tile_transform(9, 25, _weights, overlap=True)
output_tile = scatter_square(3, 2, _output_line)


class Blocks(NamedTuple):
    """How the tiles are cut. All are ints; a kernel reads them by name.

    Attributes
    ----------
    parts, size : int
        Parts of all tiles, for a thread each, and tiles of a block.
    segment : int
        Tiles of a segment of `nnlib.kernels.tiles`.
    columns : int
        Filters of a strip.
    deep, wide : int
        Elements from one tile to the next, of its values and of its sums.
    tile : int
        The function of a tile of sums.
    top, left : int
        The first input of the first output.
    """

    parts: int
    size: int
    segment: int
    columns: int
    deep: int
    wide: int
    tile: int
    top: int
    left: int


@cpu_loop
def weights_part(begin: int, end: int, w: Any, columns: int, u: Any) -> None:
    """Transform the filters of some strips and input channels."""
    keep_small()
    channels, k, _ = w.shape
    filters = np.empty((9, columns), u.dtype)
    clear_bytes(filters.ctypes.data, filters.size * u.itemsize)
    table = np.empty((2, 25), np.int64)
    for t in range(9):
        table[0, t] = filters[t].ctypes.data
    for job in range(begin, end):
        c = job % channels
        strip = job // channels
        for j in range(min(columns, k - strip * columns)):
            source = w.ctypes.data + c * w.strides[0]
            source += (strip * columns + j) * w.strides[1]
            for t in range(9):
                copy_element(table[0, t] + j * u.itemsize, source, u[0])
                source += w.strides[2]
        for q in range(25):
            to = ((strip * 25 + q) * channels + c) * columns
            table[1, q] = u.ctypes.data + to * u.itemsize
        weight_tile(
            table[0].ctypes.data, table[1].ctypes.data, columns, u.dtype.type(0)
        )


@body
def next_tile(n: int, i: int, j: int, down: int, across: int) -> Any:
    """Return the image, line and column of tiles behind those of a tile."""
    if j + 1 < across:
        return n, i, j + 1
    return (n, i + 1, 0) if i + 1 < down else (n + 1, 0, 0)


@body
def transform_inputs(
    x: Any, v: Any, zeros: Any, t0: int, t1: int, down: int, across: int, geo: Any
) -> None:
    """Write the differences of the tiles `t0` to `t1`: (tiles, channels, 25)."""
    keep_small()
    _, height, width, c = x.shape
    pixel = c * x.itemsize
    n, i, j = t0 // (down * across), t0 // across % down, t0 % across
    for t in range(t1 - t0):
        h0, w0 = i * 4 + geo.top, j * 4 + geo.left
        input_tile(
            x.ctypes.data + ((n * height + h0) * width + w0) * pixel, width * pixel,
            -h0, h0 + 5 - height, -w0, w0 + 5 - width, zeros.ctypes.data,
            v.ctypes.data + t * geo.deep * v.itemsize, c, x.dtype.type(0),
        )  # fmt: skip
        n, i, j = next_tile(n, i, j, down, across)


@body
def sum_block(
    v: Any, u: Any, start: Any, m: Any, offsets: Any, lefts: Any, targets: Any,
    tiles: int, c: int, strips: int, geo: Any,
) -> None:  # fmt: skip
    """Write the sums of each tile: (tiles, 9, filters)."""
    keep_small()
    size = v.itemsize
    count = (tiles + geo.segment - 1) // geo.segment
    for i in range(count + SPARE):
        # The last begins early, and computes some tiles again.
        at = max(min(i * geo.segment, tiles - geo.segment), 0)
        lefts[i] = v.ctypes.data + at * geo.deep * size
        targets[i] = m.ctypes.data + at * geo.wide * size
    row = geo.columns * size
    first = 0
    for g in range(9):
        values = (2 - g // 3 % 2) * (2 - g % 3 % 2) * c
        for s in range(strips):
            run_tile(
                geo.tile, count, lefts.ctypes.data, 0, geo.deep * size,
                offsets[first:].ctypes.data, values,
                u.ctypes.data + (s * 25 * c + first) * row, row,
                # The sums that all outputs of a tile share begin with the bias.
                start[1 if g == 4 else 0, s * geo.columns :].ctypes.data,
                targets.ctypes.data, (g * strips + s) * row, geo.wide * size,
                geo.columns,
            )  # fmt: skip
        first += values


@body
def transform_outputs(
    m: Any, y: Any, square: Any, t0: int, t1: int, down: int, across: int, wide: int,
    geo: Any,
) -> None:  # fmt: skip
    """Add the sums of the tiles `t0` to `t1` up to outputs."""
    keep_small()
    _, height, width, k = y.shape
    pixel = k * y.itemsize
    n, i, j = t0 // (down * across), t0 // across % down, t0 % across
    for t in range(t1 - t0):
        corner = y.ctypes.data + ((n * height + 2 * i) * width + 2 * j) * pixel
        whole = 2 * i + 1 < height and 2 * j + 1 < width
        # Both signed: the two kinds of integers would be joined to a float.
        to = corner if whole else square.ctypes.data + 0
        output_tile(
            m.ctypes.data + t * geo.wide * m.itemsize, wide * m.itemsize, to,
            (width if whole else 2) * pixel, pixel, k, y.dtype.type(0),
        )  # fmt: skip
        for line in range(0 if whole else min(2, height - 2 * i)):
            copy_bytes(
                corner + line * width * pixel, square.ctypes.data + line * 2 * pixel,
                min(2, width - 2 * j) * pixel,
            )  # fmt: skip
        n, i, j = next_tile(n, i, j, down, across)


@body
def cache_lines(count: int, like: Any) -> Any:
    """Return an array that begins on a cache line."""
    raw = np.empty(count + 16, like.dtype)
    start = -raw.ctypes.data % 64 // like.itemsize
    return raw[start : start + count]


@cpu_loop
def forward_parts(
    begin: int, end: int, x: Any, u: Any, start: Any, y: Any, offsets: Any, geo: Any
) -> None:
    """Take some parts of the tiles, block by block, through the three stages."""
    keep_small()
    images, height, width, k = y.shape
    c = x.shape[3]
    down, across = (height + 1) // 2, (width + 1) // 2
    tiles = images * down * across
    strips = (k + geo.columns - 1) // geo.columns
    wide = strips * geo.columns
    zeros = np.empty(5 * c, x.dtype)
    clear_bytes(zeros.ctypes.data, zeros.size * x.itemsize)
    square = np.empty(4 * k, x.dtype)
    v, m = cache_lines(geo.size * geo.deep, x), cache_lines(geo.size * geo.wide, x)
    lefts = np.empty(geo.size + SPARE, np.int64)
    targets = np.empty(geo.size + SPARE, np.int64)
    for part in range(begin, end):
        last = (part + 1) * tiles // geo.parts
        for t0 in range(part * tiles // geo.parts, last, geo.size):
            t1 = min(last, t0 + geo.size)
            transform_inputs(x, v, zeros, t0, t1, down, across, geo)
            sum_block(v, u, start, m, offsets, lefts, targets, t1 - t0, c, strips, geo)
            transform_outputs(m, y, square, t0, t1, down, across, wide, geo)


def forward_loop(x: Any, w: Any, start: Any, y: Any, offsets: Any, geo: Any) -> None:
    """Transform the weights, then convolve all tiles, on the pool."""
    keep_small()
    strips = (w.shape[1] + geo.columns - 1) // geo.columns
    u = cache_lines(strips * 25 * w.shape[0] * geo.columns, x)
    spread(weights_part, strips * w.shape[0], 8, (w, geo.columns, u))
    spread(forward_parts, geo.parts, 1, (x, u, start, y, offsets, geo))


def _kernel(real: Any) -> Any:
    def inputs(kind: Any, ndim: int, layout: str = "C") -> Any:
        return types.Array(kind, ndim, layout, readonly=True, aligned=layout == "C")

    ints = inputs(types.int64, 1)
    blocks = types.NamedUniTuple(types.int64, len(Blocks._fields), Blocks)
    forward = types.void(
        inputs(real, 4), inputs(real, 3, "A"), inputs(real, 2),
        real[:, :, :, ::1], ints, blocks,
    )  # fmt: skip
    return cpu_kernel(shared=True, signatures=[forward])(forward_loop)


_KERNELS = {
    np.dtype(np.float32): _kernel(types.float32),
    np.dtype(np.float64): _kernel(types.float64),
}


def _tiles(plan: Plan, images: int) -> int:
    return images * -(-plan.grid[1] // 2) * -(-plan.grid[2] // 2)


def fits(plan: Plan, x: Any, k: int) -> bool:
    """Tell whether `correlate` can do this, and pays.

    Parameters
    ----------
    plan : Plan
    x : array, shape (N, D, H, W, C)
    k : int
        Channels of the output.
    """
    c = x.shape[4]
    if (
        plan.taps != (1, 3, 3)
        or plan.stride != (1, 2, 2)
        or plan.step != (1, 1, 1)
        or plan.gap != (1, 1, 1)
        or plan.first[0] != 0
        or plan.grid[0] != x.shape[1]
        or not x.size
        or min(c, k) < CHANNELS
    ):
        return False
    # Cycles: what is saved in the products of a tile, what its transforms take beyond
    # the frames of the direct form; the transform of a weight, and what is done once.
    # Of a tile at the edge, the direct form leaves out what is outside.
    size = x.dtype.itemsize
    strips, columns = strips_of(k, size)
    wide = strips * columns
    tiles = _tiles(plan, x.shape[0] * x.shape[1])
    inside = x.shape[0] * math.prod(plan.grid) / (4 * tiles)
    saved = c * (36 * inside * padded(k, size) - 25 * wide) / 2
    saved -= 25 * padded(c, size) + 20 * wide
    pays: bool = tiles * saved * size / REGISTER_BYTES > 12 * c * k + 2000
    return pays


def _odd_lines(count: int, itemsize: int) -> int:
    """Round elements up to an odd number of cache lines.

    At a power of two, neighbouring tiles would share few places of the level-1 cache.
    """
    return (-(-count * itemsize // 64) | 1) * 64 // itemsize


@functools.lru_cache(maxsize=512)
def _offsets(c: int, itemsize: int) -> Any:
    """Return where a tile's value q of channel i is, for each q and i, in bytes."""
    lanes = REGISTER_BYTES // itemsize
    i = np.arange(c)
    slot = i // lanes
    lane = i - np.minimum(slot * lanes, c - lanes)
    values = np.arange(25)[:, None] * REGISTER_BYTES
    offsets = slot * 25 * REGISTER_BYTES + values + lane * itemsize
    return offsets.astype(np.int64).ravel()


@functools.lru_cache(maxsize=512)
def _cut(
    tiles: int, c: int, k: int, top: int, left: int, dtype: Any, threads: int
) -> Blocks:
    """Cut the tiles into blocks."""
    size = dtype.itemsize
    strips, columns = strips_of(k, size)
    deep = _odd_lines(25 * padded(c, size), size)
    wide = _odd_lines(9 * strips * columns, size)
    parts = min(threads, -(-tiles // 16))
    vectors = columns * size // REGISTER_BYTES
    block = max(_BLOCK_BYTES // ((deep + wide) * size), 16)
    block = min(block, -(-tiles // parts))
    segment = segment_for(block, 1, c, vectors)
    # Blocks of whole segments, all of about one length.
    share = -(-tiles // parts // segment) * segment
    block = -(-share // -(-share // block) // segment) * segment
    tile = tile_of(segment, vectors, False, dtype)
    return Blocks(parts, block, segment, columns, deep, wide, tile, top, left)


def correlate(plan: Plan, x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`.

    Parameters
    ----------
    x, y : C-contiguous numpy.ndarray, shapes (N, D, H, W, C) and (N, D, P, Q, K)
    w : array of any strides, shape (C, K, 9)
    bias : array, shape (K,) or (0,)
    """
    dtype = x.dtype
    c, k = x.shape[4], y.shape[4]
    images = y.shape[0] * y.shape[1]
    geo = _cut(
        _tiles(plan, images), c, k, plan.first[1], plan.first[2], dtype,
        get_num_threads(),
    )  # fmt: skip
    start = np.zeros((2, -(-k // geo.columns) * geo.columns), dtype)
    if bias.size:
        start[1, :k] = bias
    _KERNELS[dtype](
        x.reshape(images, *x.shape[2:]), w, start,
        y.reshape(images, *y.shape[2:]), _offsets(c, dtype.itemsize), geo,
    )  # fmt: skip
