"""Convolution on CUDA as a product of matrices of which the left one is never written.

The rows of the left matrix are outputs of a `Plan`, its columns the pairs of a channel
and a tap; its elements are read from the images as they are needed. A block computes a
tile of rows and filters: eight columns at a time go to shared memory, while those
before are multiplied, and each thread keeps a small tile of sums in registers.

A block's geometry comes from a table on the device (`nnlib.kernels.plan_table`), made
once for each shape. Index arithmetic is 32 bits wide; larger arrays go another way.

Where channels lie together and are a multiple of eight, a thread reads four of them at
once ("wide"); else one by one, for any strides of the images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.machinery import body, cuda, cuda_kernel
from nnlib.kernels.machinery.cuda_vectors import aligned, load4, store4
from nnlib.kernels.plan_table import number, phase_of, place_of, row_state

__all__ = [
    "MOST_TAPS",
    "correlate_kernels",
    "tile_of",
]

# Taps that fit the mask of those inside the image, and columns of a step.
MOST_TAPS = 64
_STEP = 8
# Where the second four of eight numbers lie behind the first.
FAR = np.uint64(4)


@body
def take_quad(x: Any, place: Any, inside: Any) -> Any:
    """Return four neighbours, or zeros."""
    if inside:
        return load4(x, np.uint64(place))
    zero = x.dtype.type(0)
    return zero, zero, zero, zero


@body
def take(x: Any, place: Any, inside: Any) -> Any:
    """Return an element, or zero."""
    return x[place] if inside else x.dtype.type(0)


@body
def add_row(r: Any, a: Any, b: Any) -> Any:
    """Return ``r + a * b`` of four."""
    return r[0] + a * b[0], r[1] + a * b[1], r[2] + a * b[2], r[3] + a * b[3]


@body
def outer44(r: Any, a: Any, b: Any) -> Any:
    """Add the product of a column and a row to a tile of sums."""
    return (
        add_row(r[0], a[0], b), add_row(r[1], a[1], b),
        add_row(r[2], a[2], b), add_row(r[3], a[3], b),
    )  # fmt: skip


@body
def outer84(r: Any, a: Any, b: Any) -> Any:
    """Add the product of a column and a row to a tile of sums."""
    return (
        add_row(r[0], a[0], b), add_row(r[1], a[1], b),
        add_row(r[2], a[2], b), add_row(r[3], a[3], b),
        add_row(r[4], a[4], b), add_row(r[5], a[5], b),
        add_row(r[6], a[6], b), add_row(r[7], a[7], b),
    )  # fmt: skip


@body
def column4(s: Any, place: Any) -> Any:
    """Read four numbers of a tile in shared memory."""
    return load4(s, place)


@body
def column8(s: Any, place: Any) -> Any:
    """Read eight numbers of a tile in shared memory."""
    a, b, c, d = load4(s, place)
    e, f, g, h = load4(s, place + FAR)
    return a, b, c, d, e, f, g, h


@body
def put_column(s: Any, place: Any, pitch: Any, values: Any) -> None:
    """Write four neighbours of a row one below the other."""
    s[place] = values[0]
    s[np.uint64(place + pitch)] = values[1]
    s[np.uint64(place + np.uint64(2) * pitch)] = values[2]
    s[np.uint64(place + np.uint64(3) * pitch)] = values[3]


def _products_of(outer: Any, read: Any) -> Any:
    """Return what multiplies the eight columns of a step by their rows."""

    @body
    def products(
        r: Any, a: Any, b: Any, u: Any, v: Any, next_a: Any, next_b: Any
    ) -> Any:  # fmt: skip
        # Written out: nothing is left to what the compiler unrolls.
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        r = outer(r, read(a, u), load4(b, v))
        u, v = np.uint64(u + next_a), np.uint64(v + next_b)
        return outer(r, read(a, u), load4(b, v))

    return products


PRODUCTS = {4: _products_of(outer44, column4), 8: _products_of(outer84, column8)}


@body
def put_row(y: Any, place: Any, left: Any, quads: Any, r: Any) -> None:
    """Write up to four of the `left` outputs of a row."""
    if quads and left >= 4:
        store4(y, np.uint64(place), r[0], r[1], r[2], r[3])
    else:
        for j in range(4):
            if j < left:
                y[np.uint32(place + np.uint32(j))] = r[j]


@body
def start_row(bias: Any, n: Any, most: Any) -> Any:
    """Return what four sums begin with."""
    some = bias.size > 0
    n = np.uint32(n)
    return (
        take(bias, n, some and n < most),
        take(bias, np.uint32(n + np.uint32(1)), some and n + 1 < most),
        take(bias, np.uint32(n + np.uint32(2)), some and n + 2 < most),
        take(bias, np.uint32(n + np.uint32(3)), some and n + 3 < most),
    )


@body
def four(r: Any) -> Any:
    """Return a tile of four equal rows."""
    return r, r, r, r


@body
def eight(r: Any) -> Any:
    """Return a tile of eight equal rows."""
    return r, r, r, r, r, r, r, r


TILE = {4: four, 8: eight}


def make_correlate(rows: int, deep: int, wide: bool) -> Any:
    """Return the kernel of tiles of `rows` outputs and ``4 * deep`` filters.

    A block has `rows` threads, each with `deep` times four sums.
    """
    columns = 4 * deep
    pitch_a, pitch_b = rows + 4, columns + 4
    size_a, size_b = _STEP * pitch_a, _STEP * pitch_b
    room_a, room_b, room_taps = 2 * size_a, 2 * size_b, 2 * MOST_TAPS
    loads = _STEP * columns // rows
    products, tile = PRODUCTS[deep], TILE[deep]
    half = rows // 2
    next_a, next_b = np.uint64(pitch_a), np.uint64(pitch_b)

    def correlate(x: Any, w: Any, bias: Any, y: Any, table: Any) -> None:
        a_tile = cuda.shared.array(room_a, dtype=x.dtype)
        b_tile = cuda.shared.array(room_b, dtype=x.dtype)
        taps = cuda.shared.array(room_taps, dtype=np.int32)
        ahead = cuda.local.array(loads, dtype=x.dtype)
        tid = np.int32(cuda.threadIdx.x)
        p, block = phase_of(table, cuda.blockIdx.x)
        count = np.int32(number(table, p + 21))
        tile_m = np.int32(np.uint32(block) // np.uint32(number(table, 15)))
        rest = np.int32(block - tile_m * number(table, 15))
        group = np.int32(np.uint32(rest) // np.uint32(number(table, 20)))
        n0 = np.int32((rest - group * number(table, 20)) * columns)
        cg, kg = np.int32(number(table, 9)), np.int32(number(table, 10))
        n_pitch, c_pitch = np.int32(number(table, 11)), np.int32(number(table, 12))
        x_pitch = np.int32(number(table, 8))
        # Which rows and columns of the left tile this thread reads,
        kq = np.int32(tid & 1)
        row = np.int32(tid >> 1)
        m0 = np.int32(tile_m * rows)
        base0, mask0 = row_state(table, p, np.int32(m0 + row), group)
        base1, mask1 = row_state(table, p, np.int32(m0 + row + half), group)
        a_place = np.uint32(kq * 4 * pitch_a + row)
        # and which of the right one: neighbours are columns or filters.
        if number(table, 14):
            kb = np.int32(tid & (_STEP - 1))
            nb = np.int32(tid >> 3)
            n_step, k_step = np.int32(rows // _STEP), np.int32(0)
        else:
            kb = np.int32(tid // columns)
            nb = np.int32(tid - kb * columns)
            n_step, k_step = np.int32(0), np.int32(rows // columns)
        b_place = np.uint32(kb * pitch_b + nb)
        b_step = np.uint32(n_step + k_step * pitch_b)
        b_left = np.int32(kg - n0 - nb)
        b_base = np.int32((n0 + nb) * n_pitch + group * number(table, 17))
        w_step = np.int32(n_step * n_pitch + k_step * c_pitch)
        tx = np.int32(tid % deep)
        ty = np.int32(tid // deep)
        listed = np.int32(number(table, p + 22))
        for i in range(tid, 2 * count, rows):
            taps[np.uint32(i)] = number(table, listed + i)
        r = tile(start_row(bias, group * kg + n0 + tx * 4, group * kg + kg))
        cuda.syncthreads()

        if wide:
            steps = np.int32(count * (np.uint32(cg) >> np.uint32(3)))
        else:
            steps = np.int32((np.uint32(count * cg) + np.uint32(7)) >> np.uint32(3))
        depth = np.int32(count * cg)
        t = np.uint32(0)
        c = np.int32(0)
        buffer = np.uint32(0)
        zero = x.dtype.type(0)
        p0 = (zero, zero, zero, zero)
        p1 = (zero, zero, zero, zero)
        # The first round reads, the last one multiplies, those between do both.
        for s in range(steps + 1):
            if s < steps:
                if wide:
                    at = np.int32(taps[t] + c + kq * 4)
                    p0 = take_quad(
                        x, np.uint32(base0 + at), (mask0 >> np.uint64(t)) & np.uint64(1)
                    )
                    p1 = take_quad(
                        x, np.uint32(base1 + at), (mask1 >> np.uint64(t)) & np.uint64(1)
                    )
                    b_at = np.int32(
                        b_base + (c + kb) * c_pitch + taps[np.uint32(count + t)]
                    )
                    for i in range(loads):
                        ahead[i] = take(
                            w, np.uint32(b_at + i * w_step), i * n_step < b_left
                        )
                    t = np.uint32(t + np.uint32(1))
                    if t == np.uint32(count):
                        t = np.uint32(0)
                        c = np.int32(c + _STEP)
                else:
                    k = np.int32(s * _STEP + kq * 4)
                    p0, p1 = take_singles(
                        x, taps, k, depth, count, x_pitch, base0, mask0, base1, mask1
                    )
                    for i in range(loads):
                        k = np.int32(s * _STEP + kb + i * k_step)
                        ch = np.uint32(np.uint32(k) // np.uint32(count))
                        tap = np.uint32(np.uint32(k) - ch * np.uint32(count))
                        b_at = np.int32(
                            b_base + i * n_step * n_pitch + ch * c_pitch
                            + taps[np.uint32(count + tap)]
                        )  # fmt: skip
                        ahead[i] = take(
                            w, np.uint32(b_at), k < depth and i * n_step < b_left
                        )
            if s > 0:
                u = np.uint64(buffer * np.uint32(size_a) + np.uint32(ty * deep))
                v = np.uint64(buffer * np.uint32(size_b) + np.uint32(tx * 4))
                r = products(r, a_tile, b_tile, u, v, next_a, next_b)
            if s < steps:
                if s > 0:
                    buffer = np.uint32(np.uint32(1) - buffer)
                to = np.uint64(buffer * np.uint32(size_a) + a_place)
                put_column(a_tile, to, next_a, p0)
                put_column(a_tile, np.uint64(to + np.uint64(half)), next_a, p1)
                at_b = np.uint32(buffer * np.uint32(size_b) + b_place)
                for q in range(loads):
                    b_tile[np.uint32(at_b + np.uint32(q) * b_step)] = ahead[q]
            cuda.syncthreads()

        left = np.int32(kg - n0 - tx * 4)
        quads = bool(number(table, 18)) and aligned(y)
        for i in range(deep):
            m = np.int32(m0 + ty * deep + i)
            if m < number(table, p + 1) and left > 0:
                place = place_of(table, p, m)
                place = np.uint32(place + np.uint32(group * kg + n0 + tx * 4))
                put_row(y, place, left, quads, r[i])

    name = f"correlate_{'wide' if wide else 'any'}_{rows}_{columns}"
    correlate.__name__ = correlate.__qualname__ = name
    return cuda_kernel(threads=rows)(correlate)


@body
def take_singles(
    x: Any, taps: Any, k: Any, depth: Any, count: Any, pitch: Any, base0: Any,
    mask0: Any, base1: Any, mask1: Any,
) -> Any:  # fmt: skip
    """Return columns k to k + 3 of two rows."""
    a0, b0 = take_pair(x, taps, k, depth, count, pitch, base0, mask0, base1, mask1)
    a1, b1 = take_pair(x, taps, k + 1, depth, count, pitch, base0, mask0, base1, mask1)
    a2, b2 = take_pair(x, taps, k + 2, depth, count, pitch, base0, mask0, base1, mask1)
    a3, b3 = take_pair(x, taps, k + 3, depth, count, pitch, base0, mask0, base1, mask1)
    return (a0, a1, a2, a3), (b0, b1, b2, b3)


@body
def take_pair(
    x: Any, taps: Any, k: Any, depth: Any, count: Any, pitch: Any, base0: Any,
    mask0: Any, base1: Any, mask1: Any,
) -> Any:  # fmt: skip
    """Return column `k`, the tap ``k % count`` of a channel, of two rows."""
    if k >= depth:
        return x.dtype.type(0), x.dtype.type(0)
    c = np.uint32(np.uint32(k) // np.uint32(count))
    t = np.uint32(np.uint32(k) - c * np.uint32(count))
    at = np.int32(taps[t] + c * pitch)
    return (
        take(x, np.uint32(base0 + at), (mask0 >> np.uint64(t)) & np.uint64(1)),
        take(x, np.uint32(base1 + at), (mask1 >> np.uint64(t)) & np.uint64(1)),
    )


# By the number of outputs and a quarter of the filters of a tile, and whether channels
# are read by fours.
correlate_kernels = {
    (rows, deep, wide): make_correlate(rows, deep, wide)
    for rows, deep in ((64, 8), (128, 4))
    for wide in (False, True)
}


def tile_of(filters: int) -> tuple[int, int]:
    """Return the outputs, and a quarter of the filters, of a block's tile.

    Examples
    --------
    >>> tile_of(6), tile_of(64)
    ((128, 4), (64, 8))
    """
    return (128, 4) if filters <= 16 else (64, 8)
