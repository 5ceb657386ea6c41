"""How CUDA blocks share images seen as (B, R, C), channels contiguous.

A block takes a tile: some neighbouring channels, in vectors of up to 16 bytes, of a
slice of the rows, which its threads go through side by side. The slices depend on the
shape alone: equal input gives equal bits on every GPU.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from nnlib.kernels.machinery import body, cuda
from nnlib.kernels.machinery.groups import width_of

__all__ = ["AHEAD", "SHIFT", "THREADS", "Tiles", "map_tiles", "tile_place"]

# Threads of a block, and their logarithm.
THREADS = 256
SHIFT = 8
# Vectors of each array that a thread asks for before it uses the first.
AHEAD = 4
# The most vectors of a tile's row, as a logarithm: 512 bytes.
WIDEST = 5
# Blocks that fill a large GPU, and the fewest rows that a thread goes through.
BLOCKS = 1024
LEAST = 8


class Tiles(NamedTuple):
    """How blocks share (B, R, C).

    Attributes
    ----------
    width : int
        Channels of a vector.
    shift : int
        The logarithm to base 2 of a tile's vectors.
    tiles : int
        Tiles of a row.
    slices, step : int
        Slices of the rows of each set, and the rows of one.
    """

    width: int
    shift: int
    tiles: int
    slices: int
    step: int

    @classmethod
    def of(cls, x: Any, *others: Any) -> Tiles:
        """Return the tiles for (B, R, C) arrays that are used together."""
        return _plan(*x.shape, width_of(x.itemsize, x.shape[2], x, *others))


@functools.lru_cache(maxsize=1024)
def _plan(batches: int, rows: int, channels: int, width: int) -> Tiles:
    vectors = channels // width
    shift = WIDEST
    # Narrower tiles, where a quarter of the threads would have no channel.
    while shift > 0 and -(-vectors >> shift) << shift > vectors + vectors // 4:
        shift -= 1
    tiles = -(-vectors >> shift)
    lanes = THREADS >> shift
    slices = max(1, min(BLOCKS // (batches * tiles), -(-rows // (lanes * LEAST))))
    # Every thread has a whole number of turns.
    turn = lanes * AHEAD
    step = -(-rows // slices)
    step = -(-step // turn) * turn
    return Tiles(width, shift, tiles, -(-rows // step), step)


@body
def tile_place(shift: Any, tiles: Any, slices: Any, width: Any) -> Any:
    """Return set, slice and channel of this thread, and its place among the rows."""
    job = cuda.blockIdx.x // tiles
    tile = cuda.blockIdx.x - job * tiles
    b = job // slices
    thread = cuda.threadIdx.x
    c = ((tile << shift) + (thread & ((1 << shift) - 1))) * width
    return b, job - b * slices, c, thread >> shift


def map_tiles(x: Any, *others: Any) -> tuple[Tiles, int]:
    """Return tiles for a kernel that keeps nothing from slice to slice."""
    tiles = Tiles.of(x, *others)
    # Short slices, for many blocks.
    step = (THREADS >> tiles.shift) * AHEAD
    step *= 2 if x.size > 1 << 24 else 1
    slices = -(-x.shape[1] // step)
    tiles = tiles._replace(step=step, slices=slices)
    return tiles, x.shape[0] * slices * tiles.tiles
