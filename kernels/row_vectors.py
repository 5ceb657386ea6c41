"""Rows of float32 in vector registers: product, sum with a factor, prefetch.

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

# Columns of one line of the cache.
LINE = 16

_WORD = ir.IntType(64)
_REAL = ir.FloatType()
_WIDE = ir.VectorType(_REAL, WIDTH)


def _place(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    base = builder.inttoptr(address, _REAL.as_pointer())
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


def _load(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    value = builder.load(_place(builder, address, index, kind))
    value.align = 4
    return value


def _spread_out(builder: Any, value: Any) -> Any:
    """Return a vector of one number."""
    undefined = ir.Constant(_WIDE, ir.Undefined)
    vector = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(vector, undefined, mask)


@intrinsic  # type: ignore[untyped-decorator]
def dot(context: Any, left: Any, right: Any, count: Any) -> Any:
    """Return the scalar product of two rows of float32, given by address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, count = args
        zero = ir.Constant(_WIDE, [0.0] * WIDTH)
        total = cgutils.alloca_once_value(builder, zero)
        builder.store(zero, total)
        tail = cgutils.alloca_once_value(builder, ir.Constant(_REAL, 0.0))
        builder.store(ir.Constant(_REAL, 0.0), tail)

        def accumulate(kind: Any, into: Any) -> Any:
            def step(index: Any) -> None:
                product = builder.fmul(
                    _load(builder, left, index, kind),
                    _load(builder, right, index, kind),
                    flags=_FLAGS,
                )
                builder.store(
                    builder.fadd(builder.load(into), product, flags=_FLAGS), into
                )

            return step

        start = ir.Constant(_WORD, 0)
        rest = count_loop(builder, start, count, WIDTH, accumulate(_WIDE, total))
        count_loop(builder, rest, count, 1, accumulate(_REAL, tail))
        # halves onto halves: a fixed order, unlike the compiler's own reduction
        vector, width = builder.load(total), WIDTH
        while width > 1:
            width //= 2
            parts = [
                builder.shuffle_vector(
                    vector,
                    ir.Constant(vector.type, ir.Undefined),
                    ir.Constant(
                        ir.VectorType(ir.IntType(32), width),
                        list(range(first, first + width)),
                    ),
                )
                for first in (0, width)
            ]
            vector = builder.fadd(*parts, flags=_FLAGS)
        whole = builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
        return builder.fadd(whole, builder.load(tail), flags=_FLAGS)

    return types.float32(types.int64, types.int64, types.int64), lower


@intrinsic  # type: ignore[untyped-decorator]
def add_scaled(context: Any, out: Any, row: Any, count: Any, factor: Any) -> Any:
    """Do ``out += factor * row`` for two rows of float32, given by address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, row, count, factor = args
        factors = {_WIDE: _spread_out(builder, factor), _REAL: factor}

        def add(kind: Any) -> Any:
            def step(index: Any) -> None:
                product = builder.fmul(
                    factors[kind], _load(builder, row, index, kind), flags=_FLAGS
                )
                place = _place(builder, out, index, kind)
                old = builder.load(place)
                old.align = 4
                store = builder.store(builder.fadd(old, product, flags=_FLAGS), place)
                store.align = 4

            return step

        rest = count_loop(builder, ir.Constant(_WORD, 0), count, WIDTH, add(_WIDE))
        count_loop(builder, rest, count, 1, add(_REAL))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float32), lower


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(context: Any, row: Any, count: Any) -> Any:
    """Ask for the lines of a row of `count` float32, to be read and written soon."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        small = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer],
            ir.FunctionType(ir.VoidType(), [pointer, small, small, small]),
        )

        def step(index: Any) -> None:
            place = builder.bitcast(_place(builder, args[0], index, _REAL), pointer)
            builder.call(function, [place, small(0), small(3), small(1)])

        count_loop(builder, ir.Constant(_WORD, 0), args[1], LINE, step)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), lower
