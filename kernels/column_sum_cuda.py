"""The CUDA loop of `nnlib.kernels.column_sum`, for several matrices at once."""

from __future__ import annotations

import functools
from typing import Any

from nnlib.kernels.channel_tiles import AHEAD, THREADS, Tiles, tile_place
from nnlib.kernels.machinery import CudaKernel, array_module, cuda
from nnlib.kernels.machinery.groups import kernel_variant, move_vector

__all__ = ["column_sums"]


@functools.cache
def _kernel(width: int) -> CudaKernel:
    held = width * AHEAD
    size = width * THREADS

    def sum_columns(
        x: Any, rows: Any, channels: Any, shift: Any, tiles: Any, slices: Any,
        step: Any, out: Any,
    ) -> None:  # fmt: skip
        values = cuda.local.array(held, x.dtype)
        total = cuda.local.array(width, x.dtype)
        shared = cuda.shared.array(size, x.dtype)
        kind = x.dtype.type
        b, k, c, lane = tile_place(shift, tiles, slices, width)
        thread = cuda.threadIdx.x
        lanes = THREADS >> shift
        low = k * step
        high = min(low + step, rows)
        for e in range(width):
            total[e] = kind(0)
        if c < channels:
            base = b * rows * channels + c
            r = low + lane
            while r < high:
                for u in range(AHEAD):
                    at = base + min(r + u * lanes, high - 1) * channels
                    move_vector(values, u * width, x, at, width)
                for u in range(AHEAD):
                    inside = r + u * lanes < high
                    for e in range(width):
                        total[e] += values[u * width + e] if inside else kind(0)
                r += AHEAD * lanes
        for e in range(width):
            shared[e * THREADS + thread] = total[e]
        half = lanes >> 1
        while half > 0:
            cuda.syncthreads()
            if lane < half:
                for e in range(width):
                    here = e * THREADS + thread
                    shared[here] += shared[here + (half << shift)]
            half >>= 1
        if lane == 0 and c < channels:
            place = (b * slices + k) * channels + c
            for e in range(width):
                out[place + e] = shared[e * THREADS + thread]

    return kernel_variant(sum_columns, width)


def column_sums(x: Any, out: Any) -> None:
    """Write the sums of the rows of (B, R, C), not empty, to (B, C), all contiguous."""
    batches, rows, channels = x.shape
    tiles = Tiles.of(x)
    slices = tiles.slices
    if slices > 1:
        parts = array_module(x).empty((batches, slices, channels), x.dtype)
    else:
        parts = out
    _kernel(tiles.width)(
        x, rows, channels, *tiles[1:], parts,
        blocks=batches * slices * tiles.tiles, threads=THREADS, flat=True,
    )  # fmt: skip
    if slices > 1:
        # One slice, of all that is left.
        tiles = Tiles.of(parts)._replace(slices=1, step=slices)
        _kernel(tiles.width)(
            parts, slices, channels, *tiles[1:], out,
            blocks=batches * tiles.tiles, threads=THREADS, flat=True,
        )  # fmt: skip
