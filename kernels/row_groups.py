"""The totals of several rows at a time, as many as a vector has elements (CPU).

A short row's sum costs as much as its elements do: its running total is a vector, whose
elements are added up in four steps that wait for each other. Sixteen such vectors are
added up together in as many instructions as five of them take alone, and their totals
come as one vector: what is made of them is vector arithmetic, too.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels import vectors
from nnlib.kernels.line_vectors import Rule
from nnlib.kernels.row_passes import Row, join
from nnlib.kernels.vector_access import Access, byte_count, emit_loop, number

__all__ = ["group_pass", "group_size"]

# Bytes within which the processor moves elements of a vector freely.
_LANE = 16


def group_size(item: int) -> int:
    """Return how many rows of elements of `item` bytes are done at a time."""
    return vectors.WIDTH * 4 // item


def _halves(width: int, span: int, unit: int) -> tuple[list[int], list[int]]:
    """Return the even and the odd units of two vectors, span by span."""
    even = [
        source + at + k
        for start in range(0, width, span)
        for source in (0, width)
        for at in range(start, start + span, 2 * unit)
        for k in range(unit)
    ]
    return even, [place + unit for place in even]


def across(builder: Any, which: str, rows: list[Any]) -> Any:
    """Return a vector of the totals of as many vectors as each has elements."""
    kind = rows[0].type
    width = kind.count
    lane = min(width, _LANE // byte_count(kind.element))
    steps = [(lane, 1)] * (lane.bit_length() - 1)
    steps += [(width, lane)] * ((width // lane).bit_length() - 1)
    index = ir.VectorType(ir.IntType(32), width)
    for span, unit in steps:
        masks = [ir.Constant(index, half) for half in _halves(width, span, unit)]
        rows = [
            join(builder, which, *(builder.shuffle_vector(a, b, m) for m in masks))
            for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    return rows[0]


def group_pass(rule: Rule, totals: str, ahead: int | None = None) -> Any:
    """Make an intrinsic that goes along a group of rows (`group_size`) once.

    It is called as ``run(first, pitch, numbers, count, targets, like)``: `first` is the
    address of the first row and `pitch` the bytes from one to the next; `numbers` and
    `targets` are tuples of addresses, of a number for each row that the rule takes and
    of where the rows' totals go. The rest is as for `row_pass`; the rule writes nothing
    but totals.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, pitch, numbers, count, targets, _ = args
        numbers, targets = (
            cgutils.unpack_tuple(builder, pack) for pack in (numbers, targets)
        )
        real = context.get_value_type(signature.args[-1])
        width = group_size(byte_count(real))
        lanes = Access(builder, width)
        kind = lanes.kind(real)
        found = [
            cgutils.alloca_once(builder, ir.ArrayType(kind, width)) for _ in totals
        ]

        def one(r: Any) -> None:
            begin = builder.add(first, builder.mul(r, pitch))
            shift = builder.mul(r, number(byte_count(real)))
            given = [
                builder.load(
                    builder.inttoptr(builder.add(base, shift), real.as_pointer())
                )
                for base in numbers
            ]
            row = Row(builder, real, [begin], given, [], count, totals, ahead)
            for vector, place in zip(row.go(rule), found, strict=True):
                builder.store(vector, builder.gep(place, [number(0), r]))

        emit_loop(builder, number(0), number(width), number(1), one)
        for which, place, target in zip(totals, found, targets, strict=True):
            rows = [
                builder.load(builder.gep(place, [number(0), number(r)]))
                for r in range(width)
            ]
            lanes.store(across(builder, which, rows), target)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, first: Any, pitch: Any, numbers: Any, count: Any, targets: Any,
        like: Any,
    ) -> Any:  # fmt: skip
        word = types.int64
        return types.void(word, word, numbers, word, targets, like), lower

    return run
