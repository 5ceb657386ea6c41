"""What windows make of their pixels, in vectors over the channels (CPU).

The loops of pooling and resizing all ask for one thing: for each output pixel of a row,
go through the pixels that its window holds, and reduce them channel by channel. Written
as plain loops, each step would read and write the result in memory; Numba's compiler
keeps a sum over an inner loop of channels nowhere else. Here the result stays in
registers: four vectors of channels at a time, and what is left over one by one, the
last one masked.

The way through the pixels is in `nnlib.kernels.window_walk`; a rule is one of its
`Rule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from nnlib.kernels.vector_access import Access, byte_count, number
from nnlib.kernels.window_walk import (
    AHEAD,
    Small,
    Window,
    next_vector,
    over_pixels,
    read_ahead,
    scaled,
)

__all__ = [
    "add_windows",
    "add_to_windows",
    "pick_windows",
    "top_places",
    "top_values",
]

_WORD = ir.IntType(64)
_INT = ir.IntType(32)
_BIT = ir.IntType(1)
_FLAGS = ("contract", "nsz")


class Sum:
    """The sum of each row's weight times (the sum of the weighted pixels)."""

    shapes: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (1, 2), (2, 2))

    def weight(self, window: Window) -> Any:
        """Return the type of weights."""
        return window.real

    def general(self, window: Window, lanes: Access, count: int, shift: Any) -> None:
        """Write some channels of a window of any extents."""
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
                add(part, read_ahead(window, lanes, address, shift, v), factor)

        def after(factor: Any) -> None:
            wide = lanes.fill(factor)
            for total, part in zip(totals, parts, strict=True):
                add(total, builder.load(part), wide)

        window.walk(real, pixel, before, after)
        for v, total in enumerate(totals):
            value = builder.load(total)
            lanes.store(value, next_vector(window, lanes, window.target, shift, v))

    def small(self, small: Small) -> Callable[[Access, int, Any], Any]:
        """Return what writes some channels of a small window."""
        window, builder = small.window, small.window.builder
        # The products of the weights: one multiplication a pixel.
        weights = [
            builder.fmul(small.factors[m], small.owns[e], flags=_FLAGS)
            for m, e in small.visits()
        ]

        def run(lanes: Access, count: int, shift: Any) -> Any:
            small.fetch(lanes, shift, count)
            wide = [lanes.fill(weight) for weight in weights]
            for v in range(count):
                total = None
                for (m, e), weight in zip(small.visits(), wide, strict=True):
                    value = small.read(lanes, m, e, shift, v)
                    value = builder.fmul(value, weight, flags=_FLAGS)
                    total = (
                        value
                        if total is None
                        else builder.fadd(total, value, flags=_FLAGS)
                    )
                lanes.store(total, next_vector(window, lanes, window.target, shift, v))
            return _BIT(1)

        return run


class Top:
    """The maximum, with its place or alone. The last NaN is the maximum."""

    shapes: tuple[tuple[int, int], ...] = ((2, 2), (3, 3))

    def __init__(self, placed: bool) -> None:
        self.placed = placed

    def weight(self, window: Window) -> Any:
        """Return the type of numbers."""
        return _WORD

    def general(self, window: Window, lanes: Access, count: int, shift: Any) -> None:
        """Write some channels of a window of any extents."""
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
                value = read_ahead(window, lanes, address, shift, v)
                best = builder.load(top)
                larger = builder.or_(
                    builder.fcmp_ordered(">", value, best),
                    builder.fcmp_unordered("uno", value, value),
                )
                builder.store(builder.select(larger, value, best), top)
                if self.placed:
                    old = builder.load(place)
                    builder.store(builder.select(larger, here, old), place)

        window.walk(_WORD, pixel)
        for v, (top, place) in enumerate(zip(tops, places, strict=True)):
            self._write(window, lanes, builder.load(top), builder.load(place), shift, v)

    def _write(
        self, window: Window, lanes: Access, top: Any, place: Any, shift: Any, v: int
    ) -> None:
        builder = window.builder
        lanes.store(top, next_vector(window, lanes, window.target, shift, v))
        if self.placed:
            if window.place.width < 32:
                place = builder.trunc(place, lanes.kind(window.place))
            index = builder.add(shift, number(v * lanes.count))
            index = scaled(builder, index, window.place)
            lanes.store(place, builder.add(window.places, index))

    def small(self, small: Small) -> Callable[[Access, int, Any], Any]:
        """Return what writes some channels of a small window, and tells: no NaN."""
        window, builder = small.window, small.window.builder
        visits = small.visits()
        numbers = [
            builder.trunc(builder.add(small.factors[m], small.owns[e]), _INT)
            for m, e in visits
        ]

        def run(lanes: Access, count: int, shift: Any) -> Any:
            small.fetch(lanes, shift, count)
            here = [lanes.fill(n) for n in numbers]
            odd = None
            for v in range(count):
                values = [small.read(lanes, m, e, shift, v) for m, e in visits]
                top, place = values[0], here[0]
                for value, n in zip(values[1:], here[1:], strict=True):
                    larger = builder.fcmp_ordered(">", value, top)
                    top = builder.select(larger, value, top)
                    place = builder.select(larger, n, place)
                # One comparison finds a NaN in either of two.
                others = [*values[1::2], values[-1]]
                for one, other in zip(values[::2], others, strict=False):
                    found = builder.fcmp_unordered("uno", one, other)
                    odd = found if odd is None else builder.or_(odd, found)
                self._write(window, lanes, top, place, shift, v)
            bits = builder.bitcast(odd, ir.IntType(lanes.count))
            return builder.icmp_signed("==", bits, ir.IntType(lanes.count)(0))

        return run


class Pick:
    """The sum of those pixels whose place is the entry's number."""

    shapes: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 1), (2, 2))

    def weight(self, window: Window) -> Any:
        """Return the type of numbers."""
        return _WORD

    def _places_of(self, window: Window, address: Any) -> Any:
        """Return where the places of a pixel are: they lie as the pixels do."""
        builder = window.builder
        index = builder.sub(address, window.source)
        index = builder.udiv(index, number(byte_count(window.real)))
        return builder.add(window.places_row, scaled(builder, index, window.place))

    def general(self, window: Window, lanes: Access, count: int, shift: Any) -> None:
        """Write some channels of a window of any extents."""
        builder, real = window.builder, window.real
        kind = lanes.kind(real)
        zero = ir.Constant(kind, [0.0] * lanes.count)
        totals = [cgutils.alloca_once(builder, kind) for _ in range(count)]
        for total in totals:
            builder.store(zero, total)

        def pixel(address: Any, factor: Any, own: Any) -> None:
            here = lanes.fill(builder.trunc(builder.add(factor, own), window.place))
            base = self._places_of(window, address)
            for v, total in enumerate(totals):
                value = read_ahead(window, lanes, address, shift, v)
                index = builder.add(shift, number(v * lanes.count))
                index = scaled(builder, index, window.place)
                if not v:
                    lanes.fetch(builder.add(base, builder.add(index, number(AHEAD))))
                place = lanes.load(builder.add(base, index), window.place)
                chosen = builder.icmp_unsigned("==", place, here)
                before = builder.load(total)
                after = builder.fadd(before, value, flags=_FLAGS)
                builder.store(builder.select(chosen, after, before), total)

        window.walk(_WORD, pixel)
        for v, total in enumerate(totals):
            value = builder.load(total)
            lanes.store(value, next_vector(window, lanes, window.target, shift, v))

    def small(self, small: Small) -> Callable[[Access, int, Any], Any]:
        """Return what writes some channels of a small window."""
        window, builder = small.window, small.window.builder
        visits = small.visits()
        numbers = [
            builder.trunc(builder.add(small.factors[m], small.owns[e]), window.place)
            for m, e in visits
        ]
        rows = [self._places_of(window, base) for base in small.bases]

        def place_of(m: int, e: int, index: Any) -> Any:
            index = builder.add(small.entries[e], index)
            return builder.add(rows[m], scaled(builder, index, window.place))

        def run(lanes: Access, count: int, shift: Any) -> Any:
            small.fetch(lanes, shift, count)
            lanes.fetch(builder.add(place_of(*visits[-1], shift), number(AHEAD)))
            here = [lanes.fill(n) for n in numbers]
            kind = lanes.kind(window.real)
            for v in range(count):
                index = builder.add(shift, number(v * lanes.count))
                total = ir.Constant(kind, [0.0] * lanes.count)
                for (m, e), n in zip(visits, here, strict=True):
                    place = lanes.load(place_of(m, e, index), window.place)
                    chosen = builder.icmp_unsigned("==", place, n)
                    value = small.read(lanes, m, e, shift, v)
                    if (m, e) != visits[0]:
                        value = builder.fadd(total, value, flags=_FLAGS)
                    total = builder.select(chosen, value, total)
                lanes.store(total, next_vector(window, lanes, window.target, shift, v))
            return _BIT(1)

        return run


class Spread:
    """A pixel, times the weights of its window's row and entry, is added to those."""

    shapes: tuple[tuple[int, int], ...] = ((2, 2),)

    def weight(self, window: Window) -> Any:
        """Return the type of weights."""
        return window.real

    def _pixel(self, window: Window, lanes: Access, count: int, shift: Any) -> Any:
        return [
            lanes.load(next_vector(window, lanes, window.target, shift, v), window.real)
            for v in range(count)
        ]

    def general(self, window: Window, lanes: Access, count: int, shift: Any) -> None:
        """Add some channels to a window of any extents."""
        builder = window.builder
        given = self._pixel(window, lanes, count, shift)

        def pixel(address: Any, factor: Any, own: Any) -> None:
            weight = lanes.fill(builder.fmul(factor, own, flags=_FLAGS))
            for v, value in enumerate(given):
                at = next_vector(window, lanes, address, shift, v)
                value = builder.fmul(value, weight, flags=_FLAGS)
                value = builder.fadd(lanes.load(at, window.real), value, flags=_FLAGS)
                lanes.store(value, at)

        window.walk(window.real, pixel)

    def small(self, small: Small) -> Callable[[Access, int, Any], Any]:
        """Return what adds some channels to a small window."""
        window, builder = small.window, small.window.builder
        weights = [
            builder.fmul(small.factors[m], small.owns[e], flags=_FLAGS)
            for m, e in small.visits()
        ]

        def run(lanes: Access, count: int, shift: Any) -> Any:
            given = self._pixel(window, lanes, count, shift)
            for (m, e), weight in zip(small.visits(), weights, strict=True):
                wide = lanes.fill(weight)
                for v, value in enumerate(given):
                    at = small.address(lanes, m, e, shift, v)
                    value = builder.fmul(value, wide, flags=_FLAGS)
                    old = lanes.load(at, window.real)
                    lanes.store(builder.fadd(old, value, flags=_FLAGS), at)
            return _BIT(1)

        return run


# Each is called as ``f(rows, factors, count, index, values, starts, first, last,
# target, places, source, channels, width, dense, like, like_place)`` and writes the
# output pixels `first` to `last` - 1 of a row, one after another from `target` on.
# Tables and arrays are addresses: `rows` holds `count` addresses of rows, `factors` a
# number for each, `index` and `values` the plan's entries, of which output pixel p
# takes those from ``starts[p]`` to ``starts[p + 1] - 1``; `channels` of each pixel are
# taken, and `width` elements lie from one to the next; `dense` is 0 where windows
# overlap, so that most pixels were read before; `like` and `like_place` are values of
# the types of elements and places.
#
# ``target = sum of factors[m] * (sum of values[e] * pixel)``: numbers are floats.
add_windows = over_pixels(Sum())
# The maximum, and in `places` ``factors[m] + values[e]``: numbers are integers.
top_places = over_pixels(Top(True))
# The maximum alone.
top_values = over_pixels(Top(False))
# The sum of the pixels whose place (in `places`, which lies as the pixels do from
# `source` on) is ``factors[m] + values[e]``.
pick_windows = over_pixels(Pick())
# To the pixels of windows ``factors[m] * values[e] * target`` is added.
add_to_windows = over_pixels(Spread())
