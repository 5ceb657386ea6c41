"""Tiles of sums in registers: the innermost loops of direct convolutions.

A tile is `bases` segments of `rows` neighbouring outputs each. The outputs of a segment
lie at one distance from one another, in the input and in the result, so that a segment
needs one address: ``base + row * step`` is part of the processor's own addressing,
where a table of one address an output costs a load more for each product. The distances
are hidden from the compiler inside the loop (`opaque`), which would otherwise compute
every address before it and keep them in memory.

Emitted as vector code like `nnlib.kernels.vectors`, one function for each size, which
is compiled when it is first needed and called by its address: all kernels share it.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.machinery import cpu_kernel
from nnlib.kernels.vectors import REGISTER_BYTES, REGISTERS

__all__ = ["MOST_ROWS", "SPARE", "run_tile", "tile_cost", "tile_of"]

_WORD = ir.IntType(64)
_FLAGS = ("contract", "nsz")
# Registers for sums; the others hold what they are made of.
_SUMS = REGISTERS - 4
# Rows of a segment: addresses of more rows need more registers than there are.
MOST_ROWS = min(8, _SUMS // 2)
# Segments of a tile by (vectors - 1, rows); row 0 is never used.
BASES = tuple(
    tuple(
        max(1, min(_SUMS // (vectors * max(rows, 1)), 6 if vectors == 1 else 4))
        for rows in range(MOST_ROWS + 1)
    )
    for vectors in (1, 2)
)
# The most segments that a table lacks to whole tiles.
SPARE = max(map(max, BASES)) - 1
# Row r of a segment is at (odd multiple of the step) times (a power of two).
_PARTS = {1: (1, 0), 2: (1, 1), 3: (3, 0), 4: (1, 2), 5: (5, 0), 6: (3, 1), 7: (7, 0),
          8: (1, 3)}  # fmt: skip


def tile_cost(rows: int, vectors: int, segments: int, depth: int) -> float:
    """Estimate the cycles of so many segments, two products a cycle."""
    bases = BASES[vectors - 1][rows]
    outputs = bases * rows
    turn = max(outputs * vectors, outputs + vectors, 8) / 2 + 0.3
    return -(-segments // bases) * (depth * turn + 2 * outputs * vectors + 40)


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def opaque(builder: Any, value: Any) -> Any:
    """Return `value` through an empty instruction that the compiler cannot see into."""
    kind = ir.FunctionType(_WORD, [_WORD])
    return builder.asm(kind, "", "=r,0", [value], False)


def count_turns(builder: Any, stop: Any, carried: list[Any], emit: Any) -> list[Any]:
    """Emit `stop` turns of a loop; `emit` returns the carried values of the next."""
    before = builder.block
    head = builder.append_basic_block("head")
    body = builder.append_basic_block("body")
    done = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_WORD)
    index.add_incoming(_number(0), before)
    phis = []
    for value in carried:
        phis.append(builder.phi(value.type))
        phis[-1].add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, done)
    builder.position_at_end(body)
    after = emit(index, phis)
    index.add_incoming(builder.add(index, _number(1)), builder.block)
    for phi, value in zip(phis, after, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return phis


class _Tile:
    """Emits the function of one tile: `rows` rows in each segment, `vectors` wide."""

    def __init__(self, real: Any, rows: int, vectors: int, elementwise: bool) -> None:
        self.real = real
        self.size = 4 if isinstance(real, ir.FloatType) else 8
        self.wide = ir.VectorType(real, REGISTER_BYTES // self.size)
        self.rows, self.vectors = rows, vectors
        self.bases = BASES[vectors - 1][rows]
        self.elementwise = elementwise

    def emit(self, module: Any, name: str) -> Any:
        """Return the function; its arguments are those of `run_tile` but the kind."""
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 13)
        function = ir.Function(module, kind, name=name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        self.builder = builder
        segments, lefts, shift, step, offsets, depth = function.args[:6]
        right, right_step, initial, targets, target_shift, pitch, lanes = function.args[
            6:
        ]
        masks = self._masks(lanes)
        odd = [k for k in (1, 3, 5, 7) if k < self.rows]
        steps = [builder.mul(step, _number(k)) for k in odd]
        several = _number(self.bases)
        last = builder.sub(several, _number(1))
        tiles = builder.sdiv(builder.add(segments, last), several)

        def tile(index: Any, carried: list[Any]) -> list[Any]:
            first = builder.mul(index, several)
            bases = self._addresses(lefts, first, shift)
            places = [
                builder.add(end, builder.mul(pitch, _number(m)))
                for end in self._addresses(targets, first, target_shift)
                for m in range(self.rows)
            ]
            sums = self._begin(initial, places, masks)
            self._prefetch(places)

            def product(index: Any, inner: list[Any]) -> list[Any]:
                shift = self._entry(offsets, index)
                at = [builder.add(base, shift) for base in bases]
                hidden = [opaque(builder, s) for s in inner[1 : 1 + len(odd)]]
                distances = dict(zip(odd, hidden, strict=True))
                totals = self._products(at, inner[0], distances, inner[1 + len(odd) :])
                return [builder.add(inner[0], right_step), *hidden, *totals]

            after = count_turns(builder, depth, [right, *carried, *sums], product)
            self._end(after[1 + len(odd) :], places, masks)
            return after[1 : 1 + len(odd)]

        count_turns(builder, tiles, steps, tile)
        builder.ret_void()
        return function

    def _addresses(self, table: Any, first: Any, shift: Any) -> list[Any]:
        builder = self.builder
        return [
            builder.add(self._entry(table, builder.add(first, _number(b))), shift)
            for b in range(self.bases)
        ]

    def _entry(self, table: Any, index: Any) -> Any:
        pointer = self.builder.inttoptr(table, _WORD.as_pointer())
        return self.builder.load(self.builder.gep(pointer, [index]))

    def _vector(self, address: Any, number: int) -> Any:
        builder = self.builder
        pointer = builder.inttoptr(address, self.wide.as_pointer())
        return builder.gep(pointer, [_number(number)])

    def _load(self, address: Any, number: int = 0) -> Any:
        value = self.builder.load(self._vector(address, number))
        value.align = self.size
        return value

    def _masks(self, lanes: Any) -> list[Any]:
        """Return for each vector which of its elements are among the first `lanes`."""
        builder, count = self.builder, self.wide.count
        small = ir.VectorType(ir.IntType(32), count)
        lanes = builder.trunc(lanes, ir.IntType(32))
        spread = builder.insert_element(
            ir.Constant(small, ir.Undefined), lanes, _number(0)
        )
        spread = builder.shuffle_vector(
            spread, ir.Constant(small, ir.Undefined), ir.Constant(small, [0] * count)
        )
        return [
            builder.icmp_signed(
                ">", spread, ir.Constant(small, list(range(v * count, (v + 1) * count)))
            )
            for v in range(self.vectors)
        ]

    def _masked(self, name: str, kind: Any, arguments: list[Any]) -> Any:
        kept = f"v{self.wide.count}f{8 * self.size}"
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.masked.{name}.{kept}.p0{kept}"
        )
        return self.builder.call(function, arguments)

    def _begin(self, initial: Any, places: list[Any], masks: list[Any]) -> list[Any]:
        """Return the first sums: a row for all, or what stands where they will go."""
        builder, wide = self.builder, self.wide
        first, second, join = (builder.append_basic_block() for _ in range(3))
        given = builder.icmp_signed("!=", initial, _number(0))
        builder.cbranch(given, first, second)
        builder.position_at_end(first)
        row = [self._load(initial, v) for v in range(self.vectors)]
        builder.branch(join)
        builder.position_at_end(second)
        flags = ir.VectorType(ir.IntType(1), wide.count)
        kind = ir.FunctionType(wide, [wide.as_pointer(), ir.IntType(32), flags, wide])
        old = [
            self._masked(
                "load", kind,
                [self._vector(place, v), ir.IntType(32)(self.size), masks[v],
                 ir.Constant(wide, [0.0] * wide.count)],
            )
            for place in places
            for v in range(self.vectors)
        ]  # fmt: skip
        builder.branch(join)
        builder.position_at_end(join)
        sums = []
        for i, value in enumerate(old):
            phi = builder.phi(wide)
            phi.add_incoming(row[i % self.vectors], first)
            phi.add_incoming(value, second)
            sums.append(phi)
        return sums

    def _prefetch(self, places: list[Any]) -> None:
        """Ask for the lines that the sums will be written to."""
        builder = self.builder
        small, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, small, small, small])
        function = cgutils.get_or_insert_function(
            builder.module, kind, "llvm.prefetch.p0i8"
        )
        for place in places:
            for v in range(self.vectors):
                address = builder.bitcast(self._vector(place, v), pointer)
                builder.call(function, [address, small(1), small(3), small(1)])

    def _products(
        self, at: list[Any], right: Any, steps: dict[int, Any], totals: list[Any]
    ) -> list[Any]:
        builder = self.builder
        columns = [self._load(right, v) for v in range(self.vectors)]
        found = []
        for b, m in ((b, m) for b in range(self.bases) for m in range(self.rows)):
            address = at[b]
            if m:
                odd, power = _PARTS[m]
                shift = builder.shl(steps[odd], _number(power))
                address = builder.add(address, shift)
            values = self._left(address)
            for v in range(self.vectors):
                product = builder.fmul(values[v], columns[v], flags=_FLAGS)
                total = totals[(b * self.rows + m) * self.vectors + v]
                found.append(builder.fadd(total, product, flags=_FLAGS))
        return found

    def _left(self, address: Any) -> list[Any]:
        """Return what the columns are multiplied by: one value, or neighbours."""
        builder = self.builder
        if self.elementwise:
            return [self._load(address, v) for v in range(self.vectors)]
        undefined = ir.Constant(self.wide, ir.Undefined)
        value = builder.load(builder.inttoptr(address, self.real.as_pointer()))
        value.align = self.size
        value = builder.insert_element(undefined, value, _number(0))
        zeros = ir.Constant(
            ir.VectorType(ir.IntType(32), self.wide.count), [0] * self.wide.count
        )
        return [builder.shuffle_vector(value, undefined, zeros)] * self.vectors

    def _end(self, sums: list[Any], places: list[Any], masks: list[Any]) -> None:
        wide = self.wide
        flags = ir.VectorType(ir.IntType(1), wide.count)
        kind = ir.FunctionType(
            ir.VoidType(), [wide, wide.as_pointer(), ir.IntType(32), flags]
        )
        for i, value in enumerate(sums):
            place = self._vector(places[i // self.vectors], i % self.vectors)
            mask = masks[i % self.vectors]
            self._masked("store", kind, [value, place, ir.IntType(32)(self.size), mask])


@intrinsic  # type: ignore[untyped-decorator]
def _place_tile(typing: Any, rows: Any, vectors: Any, elementwise: Any) -> Any:
    """Emit a tile's function, return its address: its sizes are those of the tuples."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, vectors, elementwise = signature.args
        real = context.get_value_type(rows.dtype)
        tile = _Tile(real, rows.count, vectors.count, elementwise.count > 1)
        return builder.ptrtoint(tile.emit(builder.module, "nnlib_tile"), _WORD)

    return types.int64(rows, vectors, elementwise), lower


def place_tile(rows: Any, vectors: Any, elementwise: Any) -> Any:
    """Return the address of a tile's function; each size is a signature of its own."""
    return _place_tile(rows, vectors, elementwise)


_PLACE = cpu_kernel(parallel=False)(place_tile)


@functools.cache
def tile_of(rows: int, vectors: int, elementwise: bool, dtype: Any) -> int:
    """Return the address of a tile's function for `run_tile`, compiled at first use.

    Parameters
    ----------
    rows : int
        Outputs of a segment, at most `MOST_ROWS`.
    vectors : int
        1 or 2 vectors of columns; 1 if `elementwise`.
    elementwise : bool
        Whether the left factor is a vector too.
    dtype : numpy.dtype
        float32 or float64.
    """
    zero = dtype.type(0)
    return int(_PLACE((zero,) * rows, (zero,) * vectors, (zero,) * (1 + elementwise)))


@intrinsic  # type: ignore[untyped-decorator]
def run_tile(
    typing: Any, tile: Any, segments: Any, lefts: Any, left_shift: Any, step: Any,
    offsets: Any, depth: Any, right: Any, right_step: Any, initial: Any, targets: Any,
    target_shift: Any, pitch: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Sum the tiles of some segments, by the function `tile_of` returned.

    For each segment s, row m and column j::

        targets[s][m * pitch + j] = start[j] + sum over t of
            lefts[s][m * step + offsets[t]] * right[t * right_step + j]

    where start is the row at `initial` or, where that is 0, what stands in the target;
    where the tile is elementwise, the left factor is at ``... + offsets[t] + j``.
    All places are bytes: `lefts`, `targets` and `offsets` are addresses of tables of
    addresses and distances, the shifts are added to each. The tables of segments hold
    `SPARE` more than `segments`, all like the last. Columns from `lanes` on are not
    written.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 13)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 14), lower
