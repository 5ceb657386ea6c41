"""Products with a matrix that stays: packed once, multiplied many times.

A recurrent network multiplies a few rows by the same weights at every step. OpenBLAS
packs them anew in each call, which for a few rows costs more than the product. Here
they are packed once into panels as wide as a tile of sums in registers; `multiply_rows`
then runs inside a kernel's loop, on the thread that owns the rows.

Each sum runs over the inner dimension in order, whatever the number of rows: the same
bits for any batch and any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread
from nnlib.kernels.vectors import COLUMNS, REGISTER_BYTES, aligned_empty, count_loop

__all__ = [
    "TALL",
    "copy_tall",
    "multiply_packed",
    "multiply_rows",
    "pack",
    "panels_of",
]

# Rows of a tile of sums, two registers wide: 16 of the 32 registers of AVX-512, 8 of
# the 16 of AVX2. The second serves a batch's last rows.
TALL = 8 if REGISTER_BYTES != 32 else 4
_SHORT = 4 if TALL == 8 else 2
_WORD = ir.IntType(64)
_FLAGS = ("contract", "nsz")
# Elements of a panel that one thread packs at least.
_GRAIN = 40000


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _tile(rows: int, *, together: bool = False) -> Any:
    """Make the intrinsic for a tile of `rows` rows and two registers.

    ``tile(left, left_step, last, panel, depth, target, target_step, add, like)``, with
    addresses and with steps in bytes. Rows beyond `last` repeat it, and are written
    with the same sums again; `add` keeps what the target holds. With `together` the
    rows' elements of one depth lie side by side, `left_step` is the size of one.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        size = 4 if isinstance(real, ir.FloatType) else 8
        wide = ir.VectorType(real, REGISTER_BYTES // size)
        undefined = ir.Constant(wide, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), wide.count), [0] * wide.count)
        left, left_step, last, panel, depth, target, target_step, add = args[:8]
        columns = (0, wide.count)

        def row(base: Any, step: Any, number: int) -> Any:
            index = _number(number)
            index = builder.select(builder.icmp_signed("<", index, last), index, last)
            address = builder.add(base, builder.mul(index, step))
            return builder.inttoptr(address, real.as_pointer())

        def vector(base: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(base, [index]), wide.as_pointer())

        def load(place: Any) -> Any:
            value = builder.load(place)
            value.align = size
            return value

        lefts = [row(left, left_step, m) for m in range(rows)]
        targets = [row(target, target_step, m) for m in range(rows)]
        right = builder.inttoptr(panel, real.as_pointer())
        sums = [[cgutils.alloca_once(builder, wide) for _ in columns] for _ in lefts]
        zero = ir.Constant(wide, [0.0] * wide.count)
        with builder.if_else(add) as (then, otherwise):
            with then:
                for m in range(rows):
                    for v, column in enumerate(columns):
                        value = load(vector(targets[m], _number(column)))
                        builder.store(value, sums[m][v])
            with otherwise:
                for m in range(rows):
                    for v in range(2):
                        builder.store(zero, sums[m][v])

        def one_product(k: Any) -> None:
            at = builder.mul(k, _number(2 * wide.count))
            down = builder.mul(k, _number(rows)) if together else k
            factors = [
                load(vector(right, builder.add(at, _number(c)))) for c in columns
            ]
            for m in range(rows):
                value = load(builder.gep(lefts[m], [down]))
                value = builder.insert_element(undefined, value, _number(0))
                value = builder.shuffle_vector(value, undefined, lanes)
                for v in range(2):
                    product = builder.fmul(value, factors[v], flags=_FLAGS)
                    total = builder.load(sums[m][v])
                    total = builder.fadd(total, product, flags=_FLAGS)
                    builder.store(total, sums[m][v])

        count_loop(builder, _number(0), depth, 1, one_product)
        for m in range(rows):
            for v, column in enumerate(columns):
                place = vector(targets[m], _number(column))
                builder.store(builder.load(sums[m][v]), place).align = size
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        context: Any, left: Any, left_step: Any, last: Any, panel: Any, depth: Any,
        target: Any, target_step: Any, add: Any, like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*(types.int64,) * 7, types.boolean, like), lower

    return tile


_tall = _tile(TALL)
_short = _tile(_SHORT)
# For rows that are packed as well: their elements of one depth side by side.
multiply_packed = _tile(TALL, together=True)


@intrinsic  # type: ignore[untyped-decorator]
def copy_tall(context: Any, target: Any, source: Any, like: Any) -> Any:
    """Copy as many neighbouring elements as a tile has rows, by address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        size = 4 if isinstance(real, ir.FloatType) else 8
        pointer = ir.VectorType(real, TALL).as_pointer()
        value = builder.load(builder.inttoptr(args[1], pointer))
        value.align = size
        builder.store(value, builder.inttoptr(args[0], pointer)).align = size
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, like), lower


@body
def multiply_rows(
    left: int, left_step: int, rows: int, packed: Any, target: int, target_step: int,
    add: bool,
) -> None:  # fmt: skip
    """Write ``left @ packed`` to `rows` rows of the target, or add it to them.

    `left` and `target` are addresses, the steps bytes from row to row. A target row is
    as wide as all panels together.
    """
    panels, depth, columns = packed.shape
    like = packed.dtype.type(0)
    size = packed.itemsize
    for j in range(panels):
        panel = packed.ctypes.data + j * depth * columns * size
        for first in range(0, rows, TALL):
            count = min(rows - first, TALL)
            a = left + first * left_step
            c = target + first * target_step + j * columns * size
            if count > _SHORT:
                _tall(a, left_step, count - 1, panel, depth, c, target_step, add, like)
            else:
                _short(
                    a, left_step, min(count, _SHORT) - 1, panel, depth, c, target_step,
                    add, like,
                )  # fmt: skip


@cpu_loop
def pack_panels(first: Any, last: Any, weight: Any, packed: Any) -> None:
    depth, columns = packed.shape[1:]
    width = weight.shape[1]
    for j in range(first, last):
        start = j * columns
        count = min(columns, width - start)
        # A few rows at a time: a transposed weight's lines stay in the cache.
        for block in range(0, depth, 16):
            for c in range(columns):
                for k in range(block, min(block + 16, depth)):
                    packed[j, k, c] = weight[k, start + c] if c < count else 0


def pack_cpu(weight: Any, packed: Any) -> None:
    """Share the panels out."""
    panels, depth, columns = packed.shape
    grain = max(1, _GRAIN // (depth * columns))
    spread(pack_panels, panels, grain, (weight, packed))


def _per_dtype() -> Any:
    """Compile `pack_cpu` for float32 and for float64: any strides, read-only or not."""
    kernels = {}
    for real in (types.float32, types.float64):
        operand = types.Array(real, 2, "A", readonly=True)
        kernels[np.dtype(real.name)] = cpu_kernel(
            shared=True, signatures=[types.void(operand, real[:, :, ::1])]
        )(pack_cpu)
    return kernels


_pack = _per_dtype()


def panels_of(columns: int, dtype: Any) -> int:
    """Return how many panels hold so many columns."""
    return -(-columns // COLUMNS[dtype.itemsize])


def pack(weight: Any, transposed: bool) -> Any:
    """Pack a contiguous matrix for `multiply_rows`.

    Parameters
    ----------
    weight : numpy.ndarray, shape (K, N), or (N, K) if `transposed`
        float32 or float64.
    transposed : bool
        Whether to multiply by the transpose.

    Returns
    -------
    numpy.ndarray, shape (panels, K, columns)
        Padded with zeros; on a cache line.

    Examples
    --------
    >>> import numpy as np
    >>> packed = pack(np.ones((2, 3), np.float32), transposed=False)
    >>> packed.shape[:2], float(packed.sum())
    ((1, 2), 6.0)
    """
    depth, width = weight.shape[::-1] if transposed else weight.shape
    dtype = weight.dtype
    shape = (panels_of(width, dtype), depth, COLUMNS[dtype.itemsize])
    packed = aligned_empty(shape, dtype)
    if packed.size:
        _pack[dtype](weight.T if transposed else weight, packed)
    return packed
