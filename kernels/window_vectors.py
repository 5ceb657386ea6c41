"""What a window makes of its pixels, in vectors over the channels (CPU).

The loops of pooling and resizing all ask for one thing: go through the pixels that a
window holds, row by row, and reduce them channel by channel. Written as plain loops,
each step would read and write the result in memory; Numba's compiler keeps a sum over
an inner loop of channels nowhere else. Here the result stays in registers: four vectors
of channels at a time, and what is left over one by one, the last one masked.

A window is given as a table of rows (addresses, and a number or factor for each) and a
run of the plan's entries along a row (`nnlib.kernels.windows`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.vector_access import Access, byte_count, emit_loop, number
from nnlib.kernels.vectors import WIDTH

__all__ = [
    "add_window",
    "pick_window",
    "top_place",
    "top_value",
]

_WORD = ir.IntType(64)
_INT = ir.IntType(32)
_FLAGS = ("contract", "nsz")
# Vectors of channels that are reduced at a time: as many as possible.
_BLOCKS = (4, 2)
# How far ahead pixels are fetched, in bytes. A window takes so many instructions that
# the processor sees only two or three windows ahead: too few for memory's latency.
_AHEAD = 2048


def _scaled(builder: Any, index: Any, element: Any) -> Any:
    return builder.mul(index, number(byte_count(element)))


class Window:
    """The arguments of a reduction, and the walk through the pixels of a window.

    Attributes
    ----------
    real, place : LLVM types
        The elements that are reduced, and the numbers of their places.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        (self.rows, self.factors, self.count, self.index, self.values, self.low,
         self.high, self.pitch, self.target, self.places, self.source, self.channels,
         _, _) = args  # fmt: skip
        self.builder = builder
        self.real = context.get_value_type(signature.args[-2])
        self.place = context.get_value_type(signature.args[-1])

    def at(self, table: Any, index: Any, element: Any) -> Any:
        """Return an element of a table that begins at an address."""
        pointer = self.builder.inttoptr(table, element.as_pointer())
        return self.builder.load(self.builder.gep(pointer, [index]))

    def walk(
        self,
        weight: Any,
        pixel: Callable[[Any, Any, Any], None],
        before: Callable[[], None] | None = None,
        after: Callable[[Any], None] | None = None,
    ) -> None:
        """Emit the loops: ``pixel(address, the row's weight, its own)`` for each."""
        builder = self.builder

        def one_row(row: Any) -> None:
            base = self.at(self.rows, row, _WORD)
            factor = self.at(self.factors, row, weight)
            if before is not None:
                before()

            def one_entry(entry: Any) -> None:
                step = builder.mul(self.at(self.index, entry, _WORD), self.pitch)
                own = self.at(self.values, entry, weight)
                pixel(builder.add(base, step), factor, own)

            emit_loop(builder, self.low, self.high, number(1), one_entry)
            if after is not None:
                after(factor)

        emit_loop(builder, number(0), self.count, number(1), one_row)


def _sum(window: Window, lanes: Access, count: int, shift: Any) -> None:
    """Write the sum of each row's weight times (the sum of the weighted pixels)."""
    builder, real = window.builder, window.real
    kind = lanes.kind(real)
    zero = ir.Constant(kind, [0.0] * lanes.count)
    totals = [cgutils.alloca_once(builder, kind) for _ in range(count)]
    parts = [cgutils.alloca_once(builder, kind) for _ in range(count)]
    for total in totals:
        builder.store(zero, total)

    def before() -> None:
        for part in parts:
            builder.store(zero, part)

    def add(to: Any, value: Any, factor: Any) -> None:
        value = builder.fmul(value, factor, flags=_FLAGS)
        builder.store(builder.fadd(builder.load(to), value, flags=_FLAGS), to)

    def pixel(address: Any, _: Any, own: Any) -> None:
        factor = lanes.fill(own)
        for v, part in enumerate(parts):
            add(part, _read(window, lanes, address, shift, v), factor)

    def after(factor: Any) -> None:
        wide = lanes.fill(factor)
        for total, part in zip(totals, parts, strict=True):
            add(total, builder.load(part), wide)

    def general() -> None:
        window.walk(real, pixel, before, after)
        for v, total in enumerate(totals):
            value = builder.load(total)
            lanes.store(value, _next(window, lanes, window.target, shift, v))

    if count < _BLOCKS[0]:
        general()
        return
    two = number(2)
    entries = builder.sub(window.high, window.low)
    square = builder.and_(
        builder.icmp_signed("==", window.count, two),
        builder.icmp_signed("==", entries, two),
    )
    with builder.if_else(square) as (then, otherwise):
        with then:
            _sum_square(window, lanes, count, shift)
        with otherwise:
            general()


def _sum_square(window: Window, lanes: Access, count: int, shift: Any) -> None:
    """Do as `_sum` for two rows of two entries, as bilinear resizing has: no loops."""
    builder, real = window.builder, window.real
    rows = [window.at(window.rows, number(m), _WORD) for m in (0, 1)]
    factors = [lanes.fill(window.at(window.factors, number(m), real)) for m in (0, 1)]
    steps, owns = [], []
    for e in (0, 1):
        entry = builder.add(window.low, number(e))
        steps.append(builder.mul(window.at(window.index, entry, _WORD), window.pitch))
        owns.append(lanes.fill(window.at(window.values, entry, real)))
    for v in range(count):
        parts = []
        for row in rows:
            first, second = (
                builder.fmul(
                    _read(window, lanes, builder.add(row, step), shift, v), own,
                    flags=_FLAGS,
                )
                for step, own in zip(steps, owns, strict=True)
            )  # fmt: skip
            parts.append(builder.fadd(first, second, flags=_FLAGS))
        low, high = (
            builder.fmul(part, factor, flags=_FLAGS)
            for part, factor in zip(parts, factors, strict=True)
        )
        total = builder.fadd(low, high, flags=_FLAGS)
        lanes.store(total, _next(window, lanes, window.target, shift, v))


def _next(window: Window, lanes: Access, address: Any, shift: Any, v: int) -> Any:
    """Return the address of a vector: `shift` channels and `v` vectors further."""
    builder = window.builder
    index = builder.add(shift, number(v * lanes.count))
    return builder.add(address, _scaled(builder, index, window.real))


def _read(window: Window, lanes: Access, address: Any, shift: Any, v: int) -> Any:
    """Read a vector of a pixel, and fetch one that will be read soon."""
    builder = window.builder
    at = _next(window, lanes, address, shift, v)
    lanes.fetch(builder.add(at, number(_AHEAD)))
    return lanes.load(at, window.real)


def _top(placed: bool) -> Any:
    """Make the maximum, with its place or alone. The last NaN is the maximum."""

    def emit(window: Window, lanes: Access, count: int, shift: Any) -> None:
        builder, real = window.builder, window.real
        kind, numbers = lanes.kind(real), lanes.kind(_INT)
        tops = [cgutils.alloca_once(builder, kind) for _ in range(count)]
        places = [cgutils.alloca_once(builder, numbers) for _ in range(count)]
        first = builder.add(
            window.at(window.factors, number(0), _WORD),
            window.at(window.values, window.low, _WORD),
        )
        start = lanes.fill(builder.trunc(first, _INT))
        for top, place in zip(tops, places, strict=True):
            builder.store(ir.Constant(kind, [float("-inf")] * lanes.count), top)
            builder.store(start, place)

        def pixel(address: Any, factor: Any, own: Any) -> None:
            here = lanes.fill(builder.trunc(builder.add(factor, own), _INT))
            for v, (top, place) in enumerate(zip(tops, places, strict=True)):
                value = _read(window, lanes, address, shift, v)
                best = builder.load(top)
                larger = builder.or_(
                    builder.fcmp_ordered(">", value, best),
                    builder.fcmp_unordered("uno", value, value),
                )
                builder.store(builder.select(larger, value, best), top)
                if placed:
                    old = builder.load(place)
                    builder.store(builder.select(larger, here, old), place)

        window.walk(_WORD, pixel)
        small = lanes.kind(window.place)
        for v, (top, place) in enumerate(zip(tops, places, strict=True)):
            lanes.store(
                builder.load(top), _next(window, lanes, window.target, shift, v)
            )
            if placed:
                found = builder.load(place)
                if window.place.width < 32:
                    found = builder.trunc(found, small)
                index = builder.add(shift, number(v * lanes.count))
                index = _scaled(builder, index, window.place)
                lanes.store(found, builder.add(window.places, index))

    return emit


def _pick(window: Window, lanes: Access, count: int, shift: Any) -> None:
    """Write the sum of those pixels whose place is the entry's number."""
    builder, real = window.builder, window.real
    kind = lanes.kind(real)
    zero = ir.Constant(kind, [0.0] * lanes.count)
    totals = [cgutils.alloca_once(builder, kind) for _ in range(count)]
    for total in totals:
        builder.store(zero, total)

    def pixel(address: Any, factor: Any, own: Any) -> None:
        here = lanes.fill(builder.trunc(builder.add(factor, own), window.place))
        # Places lie as the pixels do.
        index = builder.sub(address, window.source)
        index = builder.udiv(index, number(byte_count(real)))
        base = builder.add(window.places, _scaled(builder, index, window.place))
        for v, total in enumerate(totals):
            value = _read(window, lanes, address, shift, v)
            index = builder.add(shift, number(v * lanes.count))
            index = _scaled(builder, index, window.place)
            if not v:
                lanes.fetch(builder.add(base, builder.add(index, number(_AHEAD))))
            place = lanes.load(builder.add(base, index), window.place)
            chosen = builder.icmp_unsigned("==", place, here)
            value = builder.select(chosen, value, zero)
            builder.store(builder.fadd(builder.load(total), value, flags=_FLAGS), total)

    window.walk(_WORD, pixel)
    for v, total in enumerate(totals):
        lanes.store(builder.load(total), _next(window, lanes, window.target, shift, v))


def _over_channels(emit: Any) -> Any:
    """Make the intrinsic that runs a reduction over all channels of a pixel."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        window = Window(context, builder, signature, args)
        width = WIDTH * 4 // byte_count(window.real)
        whole = Access(builder, width)
        done = number(0)
        for count in _BLOCKS:
            block = number(width * count)
            stop = builder.mul(builder.udiv(window.channels, block), block)
            run = functools.partial(emit, window, whole, count)
            emit_loop(builder, done, stop, block, run)
            done = stop

        def part(shift: Any) -> None:
            rest = builder.sub(window.channels, shift)
            emit(window, Access(builder, width, rest), 1, shift)

        emit_loop(builder, done, window.channels, number(width), part)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def reduce(
        context: Any, rows: Any, factors: Any, count: Any, index: Any, values: Any,
        low: Any, high: Any, pitch: Any, target: Any, places: Any, source: Any,
        channels: Any, like: Any, like_place: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 12, like, like_place), lower

    return reduce


# Each is called as ``f(rows, factors, count, index, values, low, high, pitch, target,
# places, source, channels, like, like_place)``. Tables and arrays are addresses: `rows`
# holds `count` addresses of rows, `factors` a number for each, `index` and `values` the
# plan's entries, of which those from `low` to `high` - 1 are taken; `pitch` is the
# bytes of a pixel; `like` and `like_place` are values of the types of elements and
# places.
#
# ``target = sum of factors[m] * (sum of values[e] * pixel)``: numbers are floats.
add_window = _over_channels(_sum)
# The maximum, and in `places` ``factors[m] + values[e]``: numbers are integers.
top_place = _over_channels(_top(True))
# The maximum alone.
top_value = _over_channels(_top(False))
# The sum of the pixels whose place (in `places`, which lies as the pixels do from
# `source` on) is ``factors[m] + values[e]``.
pick_window = _over_channels(_pick)
