"""Maps and sums over the lines of a block, in vectors along the line (CPU).

A block is some lines of equal length in a row; a line is one or more pixels with all
their channels, and what belongs to a channel (its mean, its factor) is laid out along a
line, too. For a few vectors of columns at a time these stay in registers while the
lines go by; so do the sums. Written as plain loops each line would read and write them
in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels import vectors
from nnlib.kernels.vector_access import Access, byte_count, emit_loop, number

__all__ = ["line_map", "line_sums"]

Rule = Callable[..., Sequence[Any]]

# Vectors of columns at a time: as many as possible.
_BLOCKS = (4, 2)
# How many lines ahead memory is fetched.
_AHEAD = 8


class _Lines:
    """The arguments of a loop over lines."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        inputs, vectors_, targets, self.pitch, self.lines, self.columns, _ = args
        self.inputs, self.vectors, self.targets = (
            cgutils.unpack_tuple(builder, pack) for pack in (inputs, vectors_, targets)
        )
        self.builder = builder
        self.real = context.get_value_type(signature.args[-1])

    def shifted(self, lanes: Access, shift: Any, v: int) -> Any:
        """Return the bytes from the beginning of a line to a vector of columns."""
        columns = self.builder.add(shift, number(v * lanes.count))
        return self.builder.mul(columns, number(byte_count(self.real)))

    def read(self, lanes: Access, addresses: Any, offset: Any) -> list[Any]:
        """Read a vector at an offset from each address."""
        builder = self.builder
        return [
            vectors.Lanes(builder, lanes.load(builder.add(a, offset), self.real))
            for a in addresses
        ]


def _maps(rule: Rule, lines: _Lines, lanes: Access, count: int, shift: Any) -> None:
    """Write ``rule(inputs, vectors)`` of some columns of all lines."""
    builder = lines.builder
    offsets = [lines.shifted(lanes, shift, v) for v in range(count)]
    kept = [lines.read(lanes, lines.vectors, offset) for offset in offsets]
    ahead = builder.mul(lines.pitch, number(_AHEAD))

    def one_line(line: Any) -> None:
        start = builder.mul(line, lines.pitch)
        for offset, values in zip(offsets, kept, strict=True):
            at = builder.add(start, offset)
            for address in lines.inputs:
                lanes.fetch(builder.add(address, builder.add(at, ahead)))
            given = lines.read(lanes, lines.inputs, at)
            for result, target in zip(
                rule(*given, *values), lines.targets, strict=True
            ):
                lanes.store(result.value, builder.add(target, at))

    emit_loop(builder, number(0), lines.lines, number(1), one_line)


def _sums(rule: Rule, lines: _Lines, lanes: Access, count: int, shift: Any) -> None:
    """Add ``rule(inputs, vectors)`` of some columns of all lines to the targets."""
    builder = lines.builder
    offsets = [lines.shifted(lanes, shift, v) for v in range(count)]
    kept = [lines.read(lanes, lines.vectors, offset) for offset in offsets]
    ahead = builder.mul(lines.pitch, number(_AHEAD))
    kind = lanes.kind(lines.real)
    totals = []
    for offset in offsets:
        found = lines.read(lanes, lines.targets, offset)
        slots = [cgutils.alloca_once(builder, kind) for _ in found]
        for slot, value in zip(slots, found, strict=True):
            builder.store(value.value, slot)
        totals.append(slots)

    def one_line(line: Any) -> None:
        start = builder.mul(line, lines.pitch)
        for offset, values, slots in zip(offsets, kept, totals, strict=True):
            at = builder.add(start, offset)
            for address in lines.inputs:
                lanes.fetch(builder.add(address, builder.add(at, ahead)))
            given = lines.read(lanes, lines.inputs, at)
            for result, slot in zip(rule(*given, *values), slots, strict=True):
                total = vectors.Lanes(builder, builder.load(slot))
                builder.store((total + result).value, slot)

    emit_loop(builder, number(0), lines.lines, number(1), one_line)
    for offset, slots in zip(offsets, totals, strict=True):
        for slot, target in zip(slots, lines.targets, strict=True):
            lanes.store(builder.load(slot), builder.add(target, offset))


def _over_columns(emit: Any, rule: Rule) -> Any:
    """Make the intrinsic that goes through all columns."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = _Lines(context, builder, signature, args)
        width = vectors.WIDTH * 4 // byte_count(lines.real)
        whole = Access(builder, width)
        done = number(0)
        for count in _BLOCKS:
            block = number(width * count)
            stop = builder.mul(builder.udiv(lines.columns, block), block)
            run = functools.partial(emit, rule, lines, whole, count)
            emit_loop(builder, done, stop, block, run)
            done = stop

        def part(shift: Any) -> None:
            rest = builder.sub(lines.columns, shift)
            emit(rule, lines, Access(builder, width, rest), 1, shift)

        emit_loop(builder, done, lines.columns, number(width), part)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, inputs: Any, vectors: Any, targets: Any, pitch: Any, lines: Any,
        columns: Any, like: Any,
    ) -> Any:  # fmt: skip
        word = types.int64
        return types.void(inputs, vectors, targets, word, word, word, like), lower

    return run


def line_map(rule: Rule) -> Any:
    """Make an intrinsic that writes a function of the elements of lines.

    It is called as ``run(inputs, vectors, targets, pitch, lines, columns, like)``:
    `inputs` and `targets` are tuples of addresses of blocks, `vectors` of what is laid
    out along a line; `pitch` is the bytes of a line, `lines` their number, `columns`
    the elements of one to take; `like` is a value of their type.

    Parameters
    ----------
    rule : callable
        Given an element of each input and vector, returns one for each target: ``+``,
        ``-`` and ``*`` alone.
    """
    return _over_columns(_maps, rule)


def line_sums(rule: Rule) -> Any:
    """Make an intrinsic as `line_map` does; results are summed over the lines.

    `targets` are lines, too; what they hold is added to.
    """
    return _over_columns(_sums, rule)
