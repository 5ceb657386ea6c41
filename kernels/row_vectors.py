"""Rows of floats in vector registers: product, sum with a factor, prefetch.

What a loop over word vectors does with rows that a table of numbers names. The compiler
vectorises such a loop too, but only behind checks, at each entry, that the rows do not
overlap; on a hundred columns these cost as much as the work. Rows are given by address;
any count of columns will do, a multiple of `LINE` is fastest.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.vectors import _FLAGS, WIDTH, count_loop

__all__ = ["LINE", "add_scaled", "dot", "prefetch"]

# Columns of float32 in one line of the cache.
LINE = 16

_WORD = ir.IntType(64)


class _Rows:
    """Emits what touches rows of one element type: float32 or float64."""

    def __init__(self, builder: Any, real: Any) -> None:
        self.builder = builder
        self.real = real
        self.size = 4 if isinstance(real, ir.FloatType) else 8
        self.width = WIDTH * 4 // self.size
        self.wide = ir.VectorType(real, self.width)

    def place(self, address: Any, index: Any, kind: Any) -> Any:
        base = self.builder.inttoptr(address, self.real.as_pointer())
        return self.builder.bitcast(self.builder.gep(base, [index]), kind.as_pointer())

    def load(self, address: Any, index: Any, kind: Any) -> Any:
        value = self.builder.load(self.place(address, index, kind))
        value.align = self.size
        return value

    def zero(self, kind: Any) -> Any:
        """Return a variable that is 0 from here on."""
        number = ir.Constant(self.real, 0.0)
        if kind is self.wide:
            number = ir.Constant(kind, [0.0] * self.width)
        place = cgutils.alloca_once_value(self.builder, number)
        self.builder.store(number, place)
        return place

    def spread_out(self, value: Any) -> Any:
        """Return a vector of one number."""
        undefined = ir.Constant(self.wide, ir.Undefined)
        first = ir.Constant(ir.IntType(32), 0)
        vector = self.builder.insert_element(undefined, value, first)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(vector, undefined, mask)

    def total(self, vector: Any) -> Any:
        """Return the sum of a vector: halves onto halves, always in this order."""
        width = self.width
        while width > 1:
            width //= 2
            none = ir.Constant(vector.type, ir.Undefined)
            kind = ir.VectorType(ir.IntType(32), width)
            parts = [
                self.builder.shuffle_vector(
                    vector, none, ir.Constant(kind, list(range(first, first + width)))
                )
                for first in (0, width)
            ]
            vector = self.builder.fadd(*parts, flags=_FLAGS)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic  # type: ignore[untyped-decorator]
def dot(context: Any, left: Any, right: Any, count: Any, like: Any) -> Any:
    """Return the scalar product of two rows, of elements like `like`, by address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, count, _ = args
        rows = _Rows(builder, context.get_value_type(like))
        sums = {kind: rows.zero(kind) for kind in (rows.wide, rows.real)}

        def accumulate(kind: Any) -> Any:
            def step(index: Any) -> None:
                product = builder.fmul(
                    rows.load(left, index, kind),
                    rows.load(right, index, kind),
                    flags=_FLAGS,
                )
                old = builder.load(sums[kind])
                builder.store(builder.fadd(old, product, flags=_FLAGS), sums[kind])

            return step

        start = ir.Constant(_WORD, 0)
        rest = count_loop(builder, start, count, rows.width, accumulate(rows.wide))
        count_loop(builder, rest, count, 1, accumulate(rows.real))
        whole = rows.total(builder.load(sums[rows.wide]))
        return builder.fadd(whole, builder.load(sums[rows.real]), flags=_FLAGS)

    return like(types.int64, types.int64, types.int64, like), lower


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(context: Any, out: Any, row: Any, count: Any, factor: Any) -> Any:
    """Do ``out += factor * row`` for two rows of elements like `factor`, by address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, row, count, value = args
        rows = _Rows(builder, context.get_value_type(factor))
        factors = {rows.wide: rows.spread_out(value), rows.real: value}

        def add(kind: Any) -> Any:
            def step(index: Any) -> None:
                product = builder.fmul(
                    factors[kind], rows.load(row, index, kind), flags=_FLAGS
                )
                total = builder.fadd(rows.load(out, index, kind), product, flags=_FLAGS)
                store = builder.store(total, rows.place(out, index, kind))
                store.align = rows.size

            return step

        start = ir.Constant(_WORD, 0)
        rest = count_loop(builder, start, count, rows.width, add(rows.wide))
        count_loop(builder, rest, count, 1, add(rows.real))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, factor), lower


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(context: Any, row: Any, count: Any) -> Any:
    """Ask for the lines of `count` bytes, to be read and written soon."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        small = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer],
            ir.FunctionType(ir.VoidType(), [pointer, small, small, small]),
        )

        def step(index: Any) -> None:
            place = builder.inttoptr(builder.add(args[0], index), pointer)
            builder.call(function, [place, small(0), small(3), small(1)])

        count_loop(builder, ir.Constant(_WORD, 0), args[1], 4 * LINE, step)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), lower
