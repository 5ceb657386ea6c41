"""The transforms of `nnlib.kernels.strided`: both sides of a small square at once.

Each runs over a vector of channels at a time, with all values in registers. Addresses
are a row's and multiples of one distance, where a table of addresses
(`vectors.tile_transform`) would cost as much as the few additions it serves. Emitted as
vector code like `nnlib.kernels.tiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.tiles import count_turns
from nnlib.kernels.vectors import REGISTER_BYTES, Lanes

__all__ = ["gather_square", "scatter_square"]

_WORD = ir.IntType(64)
_SMALL = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()
Line = Callable[[Sequence[Any]], list[Any]]


class _Vectors:
    """Emits loads and stores of vectors of some channels."""

    def __init__(self, context: Any, builder: Any, like: Any, channels: Any) -> None:
        real = context.get_value_type(like)
        self.builder = builder
        self.size = 4 if isinstance(real, ir.FloatType) else 8
        self.wide = ir.VectorType(real, REGISTER_BYTES // self.size)
        self.bytes = builder.mul(channels, _WORD(self.size))

    def run(self, emit: Callable[[Any, Any], None]) -> None:
        """Emit a loop; `emit` gets a vector's first byte, and that of its slot.

        The last vector begins early, and computes some channels again.
        """
        builder = self.builder
        end = builder.sub(self.bytes, _WORD(REGISTER_BYTES))
        vectors = builder.add(self.bytes, _WORD(REGISTER_BYTES - 1))
        vectors = builder.sdiv(vectors, _WORD(REGISTER_BYTES))

        def vector(index: Any, carried: list[Any]) -> list[Any]:
            slot = builder.mul(index, _WORD(REGISTER_BYTES))
            early = builder.icmp_signed("<", slot, end)
            emit(builder.select(early, slot, end), slot)
            return carried

        count_turns(builder, vectors, [], vector)

    def load(self, address: Any, mask: Any = None) -> Lanes:
        """Load a vector; zeros, unread, where a mask's elements are false."""
        builder, wide = self.builder, self.wide
        place = builder.inttoptr(address, wide.as_pointer())
        if mask is None:
            value = builder.load(place)
            value.align = self.size
            return Lanes(builder, value)
        kind = ir.FunctionType(wide, [place.type, _SMALL, mask.type, wide])
        name = f"v{wide.count}f{8 * self.size}"
        function = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.masked.load.{name}.p0{name}"
        )
        zeros = ir.Constant(wide, [0.0] * wide.count)
        arguments = [place, _SMALL(self.size), mask, zeros]
        return Lanes(builder, builder.call(function, arguments))

    def mask(self, condition: Any) -> Any:
        """Return a mask whose elements are all one condition."""
        builder, count = self.builder, self.wide.count
        flags = ir.VectorType(condition.type, count)
        undefined = ir.Constant(flags, ir.Undefined)
        first = builder.insert_element(undefined, condition, _SMALL(0))
        lanes = ir.Constant(ir.VectorType(_SMALL, count), [0] * count)
        return builder.shuffle_vector(first, undefined, lanes)

    def store(self, value: Lanes, address: Any) -> None:
        """Store a vector."""
        place = self.builder.inttoptr(address, self.wide.as_pointer())
        self.builder.store(value.value, place).align = self.size

    def fetch(self, start: Any, columns: Sequence[Any], write: int) -> None:
        """Ask for the lines of memory at some columns of a row, to read or write."""
        builder = self.builder
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _SMALL, _SMALL, _SMALL])
        function = cgutils.get_or_insert_function(
            builder.module, kind, "llvm.prefetch.p0i8"
        )
        for column in columns:
            place = builder.inttoptr(builder.add(start, column), _BYTES)
            builder.call(function, [place, _SMALL(write), _SMALL(3), _SMALL(1)])


def gather_square(side: int, line: Line, order: Sequence[int]) -> Any:
    """Make an intrinsic that transforms the lines and columns of a square of pixels.

    The intrinsic is called in a kernel as ``run(corner, row, above, below, before,
    behind, zeros, target, channels, like)``. The pixels of `channels` elements of the
    type of `like` are neighbours, their lines `row` bytes apart; `above` and `below`
    lines, `before` and `behind` columns at the ends are zeros, and not read: a line of
    zeros lies at `zeros`. The lines of the square below, `side` - 1 further, are
    fetched ahead. Results are vectors one behind the other, all values of a vector of
    channels, then all of the next: of the last vector, which begins early so that it is
    whole, some channels are in two of them.

    Parameters
    ----------
    side : int
        Of the square, and of that of the results.
    line : callable
        Given `side` values, returns as many: ``+``, ``-`` and ``*`` alone.
    order : sequence of int
        Where each of the results goes.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        corner, row, above, below, before, behind, zeros, target, channels, _ = args
        vectors = _Vectors(context, builder, signature.args[-1], channels)

        def inside(number: int, first: Any, last: Any) -> Any:
            late = builder.icmp_signed(">=", _WORD(number), first)
            return builder.and_(
                late, builder.icmp_signed(">=", _WORD(side - 1 - number), last)
            )

        starts = [
            builder.select(
                inside(i, above, below),
                builder.add(corner, builder.mul(row, _WORD(i))),
                zeros,
            )
            for i in range(side)
        ]
        masks = [vectors.mask(inside(j, before, behind)) for j in range(side)]
        columns = [builder.mul(vectors.bytes, _WORD(j)) for j in range(side)]
        nexts = [
            builder.add(corner, builder.mul(row, _WORD(side + i)))
            for i in range(side - 1)
        ]

        def vector(at: Any, slot: Any) -> None:
            for start in nexts:
                vectors.fetch(builder.add(start, at), columns[1:], 0)
            lines = []
            for start in starts:
                first = builder.add(start, at)
                values = [
                    vectors.load(builder.add(first, column), mask)
                    for column, mask in zip(columns, masks, strict=True)
                ]
                lines.append(line(values))
            first = builder.add(target, builder.mul(slot, _WORD(side**2)))
            for j in range(side):
                for i, value in enumerate(line([found[j] for found in lines])):
                    number = order[side * i + j] * REGISTER_BYTES
                    vectors.store(value, builder.add(first, _WORD(number)))

        vectors.run(vector)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, corner: Any, row: Any, above: Any, below: Any, before: Any,
        behind: Any, zeros: Any, target: Any, channels: Any, like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 9, like), lower

    return run


def scatter_square(inputs: int, outputs: int, line: Line) -> Any:
    """Make an intrinsic that transforms a square of values to pixels.

    The intrinsic is called in a kernel as ``run(source, step, corner, row, right,
    channels, like)``: values of so many channels are `step` bytes apart, the result's
    lines `row` and its pixels `right`. The lines below are fetched ahead.

    Parameters
    ----------
    inputs, outputs : int
        Sides of the two squares.
    line : callable
        Given `inputs` values, returns `outputs`: ``+``, ``-`` and ``*`` alone.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, step, corner, row, right, channels, _ = args
        vectors = _Vectors(context, builder, signature.args[-1], channels)
        steps = [builder.mul(step, _WORD(i)) for i in range(inputs**2)]
        lines = [builder.mul(row, _WORD(i)) for i in range(outputs)]
        nexts = [builder.mul(row, _WORD(outputs + i)) for i in range(outputs)]
        columns = [builder.mul(right, _WORD(j)) for j in range(outputs)]

        def vector(at: Any, slot: Any) -> None:
            first, to = builder.add(source, at), builder.add(corner, at)
            values = [vectors.load(builder.add(first, place)) for place in steps]
            found = [line(values[j::inputs]) for j in range(inputs)]
            for start in nexts:
                vectors.fetch(builder.add(to, start), columns, 1)
            for i, start in enumerate(lines):
                totals = line([column[i] for column in found])
                for total, column in zip(totals, columns, strict=True):
                    place = builder.add(start, column)
                    vectors.store(total, builder.add(to, place))

        vectors.run(vector)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, source: Any, step: Any, corner: Any, row: Any, right: Any,
        channels: Any, like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 6, like), lower

    return run
