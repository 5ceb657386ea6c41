"""Tiles of sums in registers: the innermost loops of direct convolutions.

A tile is `bases` segments of `rows` neighbouring outputs each. The outputs of a segment
lie at one distance from one another, in the input and in the result, so that a segment
needs one address: ``base + row * step`` is part of the processor's own addressing,
where a table of one address an output costs a load more for each product. The distances
are hidden from the compiler inside the loop (`_opaque`), which would otherwise compute
every address before it and keep them in memory.

Emitted as vector code like `nnlib.kernels.vectors`, one function for each number of
rows; the sizes of a tile follow from the registers of the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.vectors import REGISTER_BYTES, REGISTERS

__all__ = ["BASES", "MOST_ROWS", "run_elementwise_tile", "run_tile"]

_WORD = ir.IntType(64)
_FLAGS = ("contract", "nsz")
# Registers for sums; the others hold what they are made of.
_SUMS = REGISTERS - 4
# Rows of a segment: addresses of more rows need more registers than there are.
MOST_ROWS = min(9, _SUMS // 2)
# Segments of a tile by (vectors - 1, rows); row 0 is never used.
BASES = tuple(
    tuple(
        max(1, min(_SUMS // (vectors * max(rows, 1)), 6))
        for rows in range(MOST_ROWS + 1)
    )
    for vectors in (1, 2)
)
# Row r of a segment is at (odd multiple of the step) times (a power of two).
_PARTS = {1: (1, 0), 2: (1, 1), 3: (3, 0), 4: (1, 2), 5: (5, 0), 6: (3, 1), 7: (7, 0),
          8: (1, 3)}  # fmt: skip


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _opaque(builder: Any, value: Any) -> Any:
    """Return `value` through an empty instruction that the compiler cannot see into."""
    kind = ir.FunctionType(_WORD, [_WORD])
    return builder.asm(kind, "", "=r,0", [value], False)


def _count(builder: Any, stop: Any, carried: list[Any], emit: Any) -> list[Any]:
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
        """Return the function; its arguments are those of `run_tile` but the rows."""
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 14)
        function = ir.Function(module, kind, name=name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        self.builder = builder
        lefts, shift, step, offsets, lines, count, left_step = function.args[:7]
        right, right_step, initial, targets, target_shift, pitch, lanes = function.args[
            7:
        ]
        bases = [
            builder.add(self._entry(lefts, _number(b)), shift)
            for b in range(self.bases)
        ]
        ends = [
            builder.add(self._entry(targets, _number(b)), target_shift)
            for b in range(self.bases)
        ]
        places = [
            builder.add(end, builder.mul(pitch, _number(m)))
            for end in ends
            for m in range(self.rows)
        ]
        masks = self._masks(lanes)
        sums = self._begin(initial, places, masks)
        odd = [k for k in (1, 3, 5, 7) if k < self.rows]
        steps = [builder.mul(step, _number(k)) for k in odd]

        def line(index: Any, carried: list[Any]) -> list[Any]:
            shift = self._entry(offsets, index)
            here = [builder.add(base, shift) for base in bases]
            n = len(here)

            def product(_: Any, inner: list[Any]) -> list[Any]:
                at, right = inner[:n], inner[n]
                steps = [_opaque(builder, s) for s in inner[n + 1 : n + 1 + len(odd)]]
                totals = inner[n + 1 + len(odd) :]
                totals = self._products(at, right, dict(zip(odd, steps)), totals)
                moved = [builder.add(a, left_step) for a in at]
                return [*moved, builder.add(right, right_step), *steps, *totals]

            right, *rest = carried
            last = _count(builder, count, [*here, right, *rest], product)
            return last[n:]

        last = _count(builder, lines, [right, *steps, *sums], line)
        self._end(last[1 + len(odd) :], places, masks)
        builder.ret_void()
        return function

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
        tail = (
            f"v{self.wide.count}f{8 * self.size}.p0v{self.wide.count}f{8 * self.size}"
        )
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.masked.{name}.{tail}"
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
        """Return what the columns are multiplied by: one value for all, or neighbours."""
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
            arguments = [
                value,
                place,
                ir.IntType(32)(self.size),
                masks[i % self.vectors],
            ]
            self._masked("store", kind, arguments)


def _runner(widths: tuple[int, ...], elementwise: bool) -> Any:
    """Make the intrinsic that `run_tile` describes."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        rows, vectors, *rest = args[:-1]
        done = builder.append_basic_block("done")
        width = len(widths)
        key = builder.add(
            builder.mul(rows, _number(width)), builder.sub(vectors, _number(1))
        )
        switch = builder.switch(key, done)
        for m in range(1, MOST_ROWS + 1):
            for v in widths:
                kind = "elementwise" if elementwise else "broadcast"
                size = "float" if isinstance(real, ir.FloatType) else "double"
                name = f"nnlib_tile_{kind}_{size}_{m}_{v}"
                function = builder.module.globals.get(name)
                if function is None:
                    tile = _Tile(real, m, v, elementwise)
                    function = tile.emit(builder.module, name)
                block = builder.append_basic_block()
                switch.add_case(_number(m * width + v - 1), block)
                builder.position_at_end(block)
                builder.call(function, rest)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, rows: Any, vectors: Any, lefts: Any, left_shift: Any, step: Any,
        offsets: Any, lines: Any, count: Any, left_step: Any, right: Any,
        right_step: Any, initial: Any, targets: Any, target_shift: Any, pitch: Any,
        lanes: Any, like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 16, like), lower

    return run


run_tile: Callable[..., None] = _runner((1, 2), False)
run_elementwise_tile: Callable[..., None] = _runner((1,), True)
