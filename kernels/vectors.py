"""Machine words and vectors for CPU loops that the compiler does not vectorise well.

Numba's compiler makes vectors of a plain loop only after it has proved, or checked at
each entry, that its arrays do not overlap. A transform that reads 36 arrays and writes
36 others is beyond it. Here such a transform is written as Python arithmetic on
`Lanes`: traced once, it becomes straight vector code for 16 neighbouring elements, and
again, for what is left over, for one. Blocks of memory are copied and cleared by the C
library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["Lanes", "clear_bytes", "copy_bytes", "tile_transform"]

# Elements of a vector: one register of AVX-512, two of AVX2, four of NEON.
WIDTH = 16
_FLAGS = ("contract", "nsz")


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes from one address to another (no overlap)."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        word = ir.IntType(64)
        function = builder.module.declare_intrinsic(
            "llvm.memcpy", [pointer, pointer, word]
        )
        to, source_ = (builder.inttoptr(address, pointer) for address in args[:2])
        builder.call(function, [to, source_, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), lower


@intrinsic  # type: ignore[untyped-decorator]
def clear_bytes(context: Any, target: Any, count: Any) -> Any:
    """Write `count` zero bytes."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        word = ir.IntType(64)
        function = builder.module.declare_intrinsic("llvm.memset", [pointer, word])
        to = builder.inttoptr(args[0], pointer)
        zero = ir.Constant(ir.IntType(8), 0)
        builder.call(function, [to, zero, args[1], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), lower


class Lanes:
    """A vector of values inside a traced transform: knows ``+ - *`` and negation."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def _other(self, other: Any) -> Any:
        if isinstance(other, Lanes):
            return other.value
        kind = self.value.type
        if isinstance(kind, ir.VectorType):
            return ir.Constant(kind, [float(other)] * kind.count)
        return ir.Constant(kind, float(other))

    def _do(self, operation: str, left: Any, right: Any) -> Lanes:
        value = getattr(self.builder, operation)(left, right, flags=_FLAGS)
        return Lanes(self.builder, value)

    def __add__(self, other: Any) -> Lanes:
        return self._do("fadd", self.value, self._other(other))

    def __sub__(self, other: Any) -> Lanes:
        return self._do("fsub", self.value, self._other(other))

    def __mul__(self, other: Any) -> Lanes:
        return self._do("fmul", self.value, self._other(other))

    __rmul__ = __mul__


def _loop(builder: Any, start: Any, stop: Any, step: int, emit: Any) -> Any:
    """Emit ``for i in range(start, stop, step)`` of whole steps; return the last i."""
    word = ir.IntType(64)
    before = builder.block
    head = builder.append_basic_block("head")
    body = builder.append_basic_block("body")
    done = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(word)
    index.add_incoming(start, before)
    after = builder.add(index, ir.Constant(word, step))
    builder.cbranch(builder.icmp_signed("<=", after, stop), body, done)
    builder.position_at_end(body)
    emit(index)
    index.add_incoming(after, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return index


def tile_transform(
    inputs: int, outputs: int, transform: Callable[[Sequence[Any]], Sequence[Any]]
) -> Any:
    """Make an intrinsic that runs `transform` over neighbouring channels.

    The intrinsic is called in a kernel as ``run(sources, targets, count, like)``:
    `sources` is the address of a table of `inputs` addresses, `targets` that of a table
    of `outputs` addresses, `count` the number of neighbouring elements, `like` a value
    of their type.

    Parameters
    ----------
    inputs, outputs : int
        How many values `transform` takes and returns.
    transform : callable
        Given a list of values, returns a list: ``+``, ``-`` and ``*`` alone.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[3])
        word = ir.IntType(64)
        tables = [builder.inttoptr(address, word.as_pointer()) for address in args[:2]]

        def emit(kind: Any) -> Any:
            def at(table: Any, number: int, index: Any) -> Any:
                place = builder.gep(table, [ir.Constant(word, number)])
                base = builder.inttoptr(builder.load(place), real.as_pointer())
                return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())

            def body(index: Any) -> None:
                values = []
                for number in range(inputs):
                    load = builder.load(at(tables[0], number, index))
                    load.align = real_bytes
                    values.append(Lanes(builder, load))
                for number, result in enumerate(transform(values)):
                    store = builder.store(result.value, at(tables[1], number, index))
                    store.align = real_bytes

            return body

        real_bytes = 4 if isinstance(real, ir.FloatType) else 8
        start = ir.Constant(word, 0)
        wide = ir.VectorType(real, WIDTH * 4 // real_bytes)
        left = _loop(builder, start, args[2], wide.count, emit(wide))
        _loop(builder, left, args[2], 1, emit(real))
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(context: Any, sources: Any, targets: Any, count: Any, like: Any) -> Any:
        return types.void(types.int64, types.int64, types.int64, like), lower

    return run
