"""Machine words and vectors for CPU loops that the compiler does not vectorise well.

Numba's compiler makes vectors of a plain loop only after it has proved, or checked at
each entry, that its arrays do not overlap. A transform that reads 36 arrays and writes
36 others is beyond it. Here such a transform is written as Python arithmetic on
`Lanes`: traced once, it becomes straight vector code for a register of neighbouring
elements, and again, for what is left over, for one. Blocks of memory are copied and
cleared by the C library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.machinery.cache import compiles_for_host

__all__ = [
    "COLUMNS",
    "LINE",
    "REGISTERS",
    "REGISTER_BYTES",
    "ROWS",
    "SCALES",
    "WIDTH",
    "Lanes",
    "aligned_empty",
    "clear_bytes",
    "copy_bytes",
    "copy_element",
    "keep_small",
    "count_loop",
    "end_stream",
    "multiply_narrow",
    "multiply_tile",
    "padded",
    "put_alone",
    "stream_bytes",
    "tile_transform",
]


def _register_plan() -> tuple[int, int]:
    """Return the bytes of a vector register, and rows of a tile of sums held in them.

    Two registers wide, a tile leaves room for its operands: of 32 registers of
    AVX-512 it takes 24, of 16 of AVX2 12, of 32 of NEON 16.
    """
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 12
    if features.get("avx2"):
        return 32, 6
    return 16, 8


REGISTER_BYTES, ROWS = _register_plan()
# Whether vectors can be multiplied by powers of 2 in one instruction.
SCALES = REGISTER_BYTES == 64 and compiles_for_host()
# How many vector registers there are.
REGISTERS = 16 if ROWS == 6 else 32
# Bytes of a line of the cache.
LINE = 64
# Elements of a vector of float32.
WIDTH = REGISTER_BYTES // 4
# Columns of a tile, by itemsize.
COLUMNS = {4: 2 * WIDTH, 8: WIDTH}
_FLAGS = ("contract", "nsz")


def padded(count: int, itemsize: int) -> int:
    """Return a number of elements rounded up to whole vectors."""
    vector = REGISTER_BYTES // itemsize
    return -(-count // vector) * vector


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an uninitialised array that begins on a cache line.

    A vector that straddles two lines costs twice; NumPy aligns to 16 bytes.
    """
    raw = np.empty(math.prod(shape) * dtype.itemsize + LINE, np.uint8)
    return np.ndarray(shape, dtype, raw, -raw.ctypes.data % LINE)


@intrinsic  # type: ignore[untyped-decorator]
def keep_small(context: Any) -> Any:
    """Have the function that calls this compiled for size.

    For what prepares the work of tiles: the compiler would unroll and split its loops,
    which takes it twice as long and gains nothing.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("optsize")
        return context.get_dummy_value()

    return types.void(), lower


@intrinsic  # type: ignore[untyped-decorator]
def copy_element(context: Any, target: Any, source: Any, like: Any) -> Any:
    """Copy one element of the type of `like` from one address to another."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = context.get_value_type(like).as_pointer()
        to, source_ = (builder.inttoptr(address, pointer) for address in args[:2])
        builder.store(builder.load(source_), to)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, like), lower


@intrinsic  # type: ignore[untyped-decorator]
def put_alone(context: Any, target: Any, index: Any, value: Any) -> Any:
    """Write element `index` of the array at an address, in a loop of few rounds.

    The compiler makes no vectors of a loop with such a store. For a table of some rows
    they would take it longer than the loop ever runs.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.inttoptr(args[0], args[2].type.as_pointer())
        size = 4 if isinstance(args[2].type, ir.FloatType) else 8
        builder.store_atomic(args[2], builder.gep(base, [args[1]]), "unordered", size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), lower


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


@intrinsic  # type: ignore[untyped-decorator]
def stream_bytes(context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy `count` bytes to memory past the caches (no overlap).

    A line that is written the usual way is read before: for what outgrows the caches
    this way is faster. A thread must call `end_stream` after its last copy.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source, count = args
        byte, word = ir.IntType(8), ir.IntType(64)
        wide = ir.VectorType(byte, REGISTER_BYTES)
        mark = builder.module.add_metadata([ir.IntType(32)(1)])

        def copy(start: Any, size: Any) -> None:
            kinds = [byte.as_pointer(), byte.as_pointer(), word]
            function = builder.module.declare_intrinsic("llvm.memcpy", kinds)
            to, source_ = (
                builder.inttoptr(builder.add(x, start), kinds[0])
                for x in (target, source)
            )
            builder.call(function, [to, source_, size, ir.IntType(1)(0)])

        def line(index: Any) -> None:
            for part in range(0, LINE, REGISTER_BYTES):
                at = builder.add(index, word(part))
                load = builder.load(
                    builder.inttoptr(builder.add(source, at), wide.as_pointer())
                )
                load.align = 1
                store = builder.store(
                    load, builder.inttoptr(builder.add(target, at), wide.as_pointer())
                )
                store.align = REGISTER_BYTES
                store.set_metadata("nontemporal", mark)

        head = builder.and_(builder.neg(target), word(LINE - 1))
        short = builder.icmp_signed("<", count, head)
        head = builder.select(short, count, head)
        copy(word(0), head)
        last = count_loop(builder, head, count, LINE, line)
        copy(last, builder.sub(count, last))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), lower


@intrinsic  # type: ignore[untyped-decorator]
def end_stream(context: Any) -> Any:
    """Wait until all threads see what `stream_bytes` wrote."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), lower


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

    def _do(self, operation: str, left: Any, right: Any) -> Self:
        value = getattr(self.builder, operation)(left, right, flags=_FLAGS)
        return type(self)(self.builder, value)

    def __add__(self, other: Any) -> Self:
        return self._do("fadd", self.value, self._other(other))

    def __sub__(self, other: Any) -> Self:
        return self._do("fsub", self.value, self._other(other))

    def __mul__(self, other: Any) -> Self:
        return self._do("fmul", self.value, self._other(other))

    __rmul__ = __mul__


def count_loop(builder: Any, start: Any, stop: Any, step: int, emit: Any) -> Any:
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
    inputs: int,
    outputs: int,
    transform: Callable[[Sequence[Any]], Sequence[Any]],
    *,
    overlap: bool = False,
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
    overlap : bool, default False
        For `count` of a vector register at least and targets that are no sources: the
        last vector overlaps the one before it, so that no code is compiled for what is
        left over.
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
        wide = ir.VectorType(real, REGISTER_BYTES // real_bytes)
        if not overlap:
            left = count_loop(builder, start, args[2], wide.count, emit(wide))
            count_loop(builder, left, args[2], 1, emit(real))
            return context.get_dummy_value()
        last = builder.sub(args[2], ir.Constant(word, wide.count))
        stop = builder.add(last, ir.Constant(word, 2 * wide.count - 1))
        step = emit(wide)

        def whole(index: Any) -> None:
            before = builder.icmp_signed("<", index, last)
            step(builder.select(before, index, last))

        count_loop(builder, start, stop, wide.count, whole)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(context: Any, sources: Any, targets: Any, count: Any, like: Any) -> Any:
        return types.void(types.int64, types.int64, types.int64, like), lower

    return run


def _tile(vectors: int) -> Any:
    """Make the intrinsic that `multiply_tile` describes, `vectors` registers wide."""
    word = ir.IntType(64)
    rows, parts = range(ROWS), range(vectors)

    def number(value: int) -> Any:
        return ir.Constant(word, value)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        size = 4 if isinstance(real, ir.FloatType) else 8
        wide = ir.VectorType(real, REGISTER_BYTES // size)
        undefined = ir.Constant(wide, ir.Undefined)
        first_lane = ir.Constant(
            ir.VectorType(ir.IntType(32), wide.count), [0] * wide.count
        )
        lefts, left_shift, left_step, rights, right_shift, right_step = args[:6]
        lines, count, initial, pitch, targets, target_shift = args[6:12]

        def table(address: Any, index: Any, shift: Any) -> Any:
            pointer = builder.inttoptr(address, word.as_pointer())
            address = builder.load(builder.gep(pointer, [index]))
            return builder.inttoptr(builder.add(address, shift), real.as_pointer())

        def vector(base: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(base, [index]), wide.as_pointer())

        def load(place: Any) -> Any:
            value = builder.load(place)
            value.align = size
            return value

        sums = [[cgutils.alloca_once(builder, wide) for _ in parts] for _ in rows]
        for m in rows:
            shift = builder.mul(pitch, number(m))
            base = builder.inttoptr(builder.add(initial, shift), real.as_pointer())
            for v in parts:
                builder.store(load(vector(base, number(v * wide.count))), sums[m][v])

        def one_line(line: Any) -> None:
            at = builder.mul(line, number(ROWS))
            left = [table(lefts, builder.add(at, number(m)), left_shift) for m in rows]
            right = table(rights, line, right_shift)

            def one_product(c: Any) -> None:
                at_left = builder.mul(c, left_step)
                at_right = builder.mul(c, right_step)
                columns = [
                    load(vector(right, builder.add(at_right, number(v * wide.count))))
                    for v in parts
                ]
                for m in rows:
                    value = load(builder.gep(left[m], [at_left]))
                    value = builder.insert_element(undefined, value, number(0))
                    value = builder.shuffle_vector(value, undefined, first_lane)
                    for v in parts:
                        product = builder.fmul(value, columns[v], flags=_FLAGS)
                        total = builder.load(sums[m][v])
                        total = builder.fadd(total, product, flags=_FLAGS)
                        builder.store(total, sums[m][v])

            count_loop(builder, number(0), count, 1, one_product)

        count_loop(builder, number(0), lines, 1, one_line)
        for m in rows:
            base = table(targets, number(m), target_shift)
            for v in parts:
                place = vector(base, number(v * wide.count))
                store = builder.store(builder.load(sums[m][v]), place)
                store.align = size
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply(
        context: Any, lefts: Any, left_shift: Any, left_step: Any, rights: Any,
        right_shift: Any, right_step: Any, lines: Any, count: Any, initial: Any,
        pitch: Any, targets: Any, target_shift: Any, like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 12, like), lower

    return multiply


# The heart of a matrix product whose factors lie scattered: writes, for `ROWS` rows
# and `COLUMNS` columns that stay in registers,
#
#     initial[m] + sum over lines l, c of lefts[l][m][c * left_step]
#                                         * rights[l][c * right_step + column]
#
# Tables hold addresses: `lefts` (lines, `ROWS`), `rights` (lines), `targets` (`ROWS`);
# the shifts are bytes added to each, `pitch` the bytes from one initial row to the
# next; steps are elements. The last argument is a value of the element type.
multiply_tile = _tile(2)
# The same for half the columns.
multiply_narrow = _tile(1)
