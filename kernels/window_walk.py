"""The walk through the pixels of windows, in vectors over the channels (CPU).

What a window makes of its pixels is told by a rule (`nnlib.kernels.window_vectors`);
here is the way through them, and the intrinsic that takes it. Windows are given as a
table of rows (addresses, and a number or factor for each) and runs of the plan's
entries along a row (`nnlib.kernels.windows`). The walk through such a table takes more
instructions than the few pixels of a small window do: the smallest windows have code of
their own, without loops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.vector_access import Access, byte_count, emit_loop, number
from nnlib.kernels.vectors import WIDTH

__all__ = [
    "AHEAD",
    "Small",
    "Window",
    "next_vector",
    "over_pixels",
    "read_ahead",
    "scaled",
]

_WORD = ir.IntType(64)
_BIT = ir.IntType(1)
# Vectors of channels that are reduced at a time: as many as possible.
_BLOCKS = (4, 2)
# How far ahead pixels are fetched, in bytes. A window takes so many instructions that
# the processor sees only a few windows ahead: too few for memory's latency.
AHEAD = 2048


def scaled(builder: Any, index: Any, element: Any) -> Any:
    """Return the bytes of some elements."""
    return builder.mul(index, number(byte_count(element)))


class Window:
    """The arguments of a reduction, and the walk through the pixels of a window.

    Attributes
    ----------
    real, place : LLVM types
        The elements that are reduced, and the numbers of their places.
    low, high : LLVM values
        The window's entries: from `low` to `high` - 1.
    target, places : LLVM values
        Addresses of the output pixel, and of its places.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        (self.rows, self.factors, self.count, self.index, self.values, self.starts,
         self.first, self.last, self.target_row, self.places_row, self.source,
         self.channels, self.width, dense, _, _) = args  # fmt: skip
        self.builder = builder
        self.real = context.get_value_type(signature.args[-2])
        self.place = context.get_value_type(signature.args[-1])
        self.pitch = scaled(builder, self.width, self.real)
        self.dense = builder.icmp_signed("!=", dense, number(0))

    def begin(self, pixel: Any) -> None:
        """Take the window of an output pixel."""
        builder = self.builder
        self.low = self.at(self.starts, pixel, _WORD)
        self.high = self.at(self.starts, builder.add(pixel, number(1)), _WORD)
        done = builder.mul(builder.sub(pixel, self.first), self.width)
        self.target = builder.add(self.target_row, scaled(builder, done, self.real))
        self.places = builder.add(self.places_row, scaled(builder, done, self.place))

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


class Small:
    """A window of known extents: what all its channels share is found once.

    Attributes
    ----------
    window : Window
    lanes : Access
        How a vector of channels is read and written.
    bases, factors : list
        Address and weight of each row.
    entries, owns : list
        For each pixel of a row the elements before it, and its weight.
    """

    def __init__(self, window: Window, rows: int, entries: int, weight: Any) -> None:
        builder = window.builder
        self.window = window
        self.bases = [window.at(window.rows, number(m), _WORD) for m in range(rows)]
        self.factors = [
            window.at(window.factors, number(m), weight) for m in range(rows)
        ]
        self.entries, self.owns = [], []
        for e in range(entries):
            entry = builder.add(window.low, number(e))
            index = window.at(window.index, entry, _WORD)
            self.entries.append(builder.mul(index, window.width))
            self.owns.append(window.at(window.values, entry, weight))

    def visits(self) -> list[tuple[int, int]]:
        """Return the (row, entry) of all pixels."""
        return [
            (m, e) for m in range(len(self.bases)) for e in range(len(self.entries))
        ]

    def read(self, lanes: Access, m: int, e: int, shift: Any, v: int) -> Any:
        """Read a vector of a pixel."""
        return lanes.load(self.address(lanes, m, e, shift, v), self.window.real)

    def address(self, lanes: Access, m: int, e: int, shift: Any, v: int) -> Any:
        """Return the address of a vector of a pixel."""
        builder = self.window.builder
        index = builder.add(self.entries[e], shift)
        at = builder.add(self.bases[m], scaled(builder, index, self.window.real))
        return builder.add(at, number(v * lanes.count * byte_count(self.window.real)))

    def fetch(self, lanes: Access, shift: Any, count: int) -> None:
        """Fetch what will be read soon.

        Of windows that overlap the last pixel alone was not read before.
        """
        builder = self.window.builder

        def one(m: int, e: int) -> None:
            for v in range(count):
                at = self.address(lanes, m, e, shift, v)
                lanes.fetch(builder.add(at, number(AHEAD)))

        *others, last = self.visits()
        one(*last)
        if others:
            with builder.if_then(self.window.dense):
                for m, e in others:
                    one(m, e)


def next_vector(window: Window, lanes: Access, address: Any, shift: Any, v: int) -> Any:
    """Return the address of a vector: `shift` channels and `v` vectors further."""
    builder = window.builder
    index = builder.add(shift, number(v * lanes.count))
    return builder.add(address, scaled(builder, index, window.real))


def read_ahead(window: Window, lanes: Access, address: Any, shift: Any, v: int) -> Any:
    """Read a vector of a pixel, and fetch one that will be read soon."""
    builder = window.builder
    at = next_vector(window, lanes, address, shift, v)
    lanes.fetch(builder.add(at, number(AHEAD)))
    return lanes.load(at, window.real)


class Rule(Protocol):
    """What a window makes of its pixels.

    Attributes
    ----------
    shapes : tuple of (int, int)
        The rows and columns of windows that have code of their own.
    """

    shapes: tuple[tuple[int, int], ...]

    def weight(self, window: Window) -> Any:
        """Return the type of the numbers of rows and entries."""

    def general(self, window: Window, lanes: Access, count: int, shift: Any) -> None:
        """Write `count` vectors of channels of a window of any extents."""

    def small(self, small: Small) -> Callable[[Access, int, Any], Any]:
        """Return what does so for a small window, and tells whether it is done.

        What is not is left to `general`.
        """


def _over_channels(window: Window, blocks: Any, run: Any) -> None:
    """Emit ``run(lanes, count, shift)`` for all channels, in blocks of vectors."""
    builder = window.builder
    width = WIDTH * 4 // byte_count(window.real)
    whole = Access(builder, width)
    done = number(0)
    for count in blocks:
        block = number(width * count)
        stop = builder.mul(builder.udiv(window.channels, block), block)
        emit_loop(builder, done, stop, block, functools.partial(run, whole, count))
        done = stop

    def part(shift: Any) -> None:
        rest = builder.sub(window.channels, shift)
        run(Access(builder, width, rest), 1, shift)

    emit_loop(builder, done, window.channels, number(width), part)


def _small_window(
    rule: Rule, window: Window, shape: tuple[int, int], made: Any
) -> None:
    """Reduce a window of known extents; set `made` if that is the result."""
    builder = window.builder
    run = rule.small(Small(window, *shape, rule.weight(window)))

    def some(lanes: Access, count: int, shift: Any) -> None:
        good = run(lanes, count, shift)
        builder.store(builder.and_(builder.load(made), good), made)

    builder.store(_BIT(1), made)
    _over_channels(window, _BLOCKS[:1], some)


def over_pixels(rule: Rule) -> Any:
    """Make the intrinsic that runs a reduction over all channels of some pixels."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        window = Window(context, builder, signature, args)
        made = cgutils.alloca_once(builder, _BIT)

        def pixel(index: Any) -> None:
            window.begin(index)
            builder.store(_BIT(0), made)
            entries = builder.sub(window.high, window.low)
            extents = builder.or_(builder.shl(window.count, number(32)), entries)
            done = builder.append_basic_block("made")
            others = builder.append_basic_block("others")
            switch = builder.switch(extents, others)
            for rows, columns in rule.shapes:
                block = builder.append_basic_block("small")
                switch.add_case(_WORD(rows << 32 | columns), block)
                builder.position_at_end(block)
                _small_window(rule, window, (rows, columns), made)
                builder.cbranch(builder.load(made), done, others)
            builder.position_at_end(others)
            _over_channels(window, _BLOCKS, functools.partial(rule.general, window))
            builder.branch(done)
            builder.position_at_end(done)

        emit_loop(builder, window.first, window.last, number(1), pixel)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def reduce(
        context: Any, rows: Any, factors: Any, count: Any, index: Any, values: Any,
        starts: Any, first: Any, last: Any, target: Any, places: Any, source: Any,
        channels: Any, width: Any, dense: Any, like: Any, like_place: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 14, like, like_place), lower

    return reduce
