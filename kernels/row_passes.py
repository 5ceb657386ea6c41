"""One pass over a row: a map, sums and maxima along it, in vectors (CPU).

Numba's compiler turns a plain loop with a sum into vectors, too, but with so much
around it (several versions of the loop, checks for overlap) that a row of 64 elements
costs three times what its arithmetic does.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels import vectors
from nnlib.kernels.line_vectors import Rule
from nnlib.kernels.special import _LN2_HIGH, _LN2_LOW, _LOG2E, _ROUND
from nnlib.kernels.vector_access import Access, byte_count, emit_loop, number

__all__ = ["Numbers", "row_pass"]

# Vectors at a time: as many as possible.
_BLOCKS = (4, 2)
_FLAGS = ("contract", "nsz", "reassoc")
# The least number whose exponential is a normal one.
_LOWEST = -87.33654
_LN2 = math.log(2.0)
# exp(r) for |r| up to half of ln 2, the highest power first: of the polynomials of
# degree 6 that are 1 at 0 the one with the least relative error, 2e-9 (fitted; as
# float32 1.8e-8). `special` has one of degree 7: here each term counts.
_EXP_TERMS = (
    0.0013843607157468796,
    0.008374195545911789,
    0.04166800528764725,
    0.16666430234909058,
    0.4999999403953552,
    1.0,
    1.0,
)
# How far ahead memory is fetched, in bytes.
_AHEAD = 2048


# Where running totals begin, and LLVM's names for them.
_START = {"+": 0.0, ">": -math.inf}
_NAME = {"+": "fadd", ">": "fmax"}


class Numbers(vectors.Lanes):
    """A vector of values in a rule: knows ``+ - *`` and `exp`."""

    def _do(self, operation: str, left: Any, right: Any) -> Numbers:
        value = getattr(self.builder, operation)(left, right, flags=("contract", "nsz"))
        return Numbers(self.builder, value)

    def exp(self, *, beside_one: bool = False) -> Numbers:
        """Return the exponential; for float32 up to 88, and 0 below the normal numbers.

        Parameters
        ----------
        beside_one : bool
            The result is for a sum that is 1 or more: of one far below 1 fewer digits
            count, and the least normal number stands for 0. Two instructions less.
        """
        builder, kind = self.builder, self.value.type
        if isinstance(kind.element, ir.DoubleType):
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind]),
                f"llvm.exp.v{kind.count}f64",
            )
            return Numbers(builder, builder.call(function, [self.value]))
        x = self
        lowest = self._other(_LOWEST)
        low = builder.fcmp_ordered("<", x.value, lowest)
        if beside_one:
            x = Numbers(builder, builder.select(low, lowest, x.value))
        shifted = x * _LOG2E + _ROUND
        n = shifted - _ROUND
        if beside_one:
            r = x - n * _LN2
        else:
            r = x - n * _LN2_HIGH
            r = r - n * _LN2_LOW
        p = r * _EXP_TERMS[0] + _EXP_TERMS[1]
        for term in _EXP_TERMS[2:]:
            p = p * r + term
        # What was added for rounding leaves n in the low bits.
        word = ir.VectorType(ir.IntType(32), kind.count)
        bits = builder.shl(
            builder.bitcast(shifted.value, word), word([23] * kind.count)
        )
        power = builder.add(bits, word([127 << 23] * kind.count))
        p = p * Numbers(builder, builder.bitcast(power, kind))
        if beside_one:
            return p
        return Numbers(builder, builder.select(low, self._other(0.0), p.value))


class _Row:
    """The arguments of a pass: addresses, numbers, running sums and maxima."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, args: Any, kinds: str,
        ahead: int | None,
    ) -> None:  # fmt: skip
        inputs, numbers, targets, self.count, _ = args
        self.inputs, self.numbers, self.targets = (
            cgutils.unpack_tuple(builder, pack) for pack in (inputs, numbers, targets)
        )
        self.builder = builder
        self.real = context.get_value_type(signature.args[-1])
        self.width = vectors.WIDTH * 4 // byte_count(self.real)
        self.whole = Access(builder, self.width)
        kind = self.whole.kind(self.real)
        self.kinds = kinds
        self.ahead = _AHEAD if ahead is None else ahead * byte_count(self.real)
        # One for each vector of a block, so that none waits for another.
        self.totals = [
            [cgutils.alloca_once(builder, kind) for _ in range(_BLOCKS[0])]
            for _ in kinds
        ]
        for which, slots in zip(kinds, self.totals, strict=True):
            for slot in slots:
                builder.store(kind([_START[which]] * self.width), slot)

    def run(self, rule: Rule, lanes: Access, count: int, shift: Any) -> None:
        """Emit the pass over `count` vectors from element `shift` on."""
        builder = self.builder
        wide = [Numbers(builder, lanes.fill(value)) for value in self.numbers]
        kind = lanes.kind(self.real)
        for v in range(count):
            at = builder.add(shift, number(v * lanes.count))
            at = builder.mul(at, number(byte_count(self.real)))
            given = []
            for k, base in enumerate(self.inputs):
                address = builder.add(base, at)
                if k < 2:
                    # Behind them are what belongs to columns: it is at hand.
                    lanes.fetch(builder.add(address, number(self.ahead)))
                given.append(Numbers(builder, lanes.load(address, self.real)))
            results = rule(*given, *wide)
            for result, target in zip(results, self.targets, strict=False):
                lanes.store(result.value, builder.add(target, at))
            for which, result, slots in zip(
                self.kinds, results[len(self.targets) :], self.totals, strict=True
            ):
                value = result.value
                if lanes.mask is not None:
                    nothing = kind([_START[which]] * lanes.count)
                    value = builder.select(lanes.mask, value, nothing)
                total = self.join(which, builder.load(slots[v]), value)
                builder.store(total, slots[v])

    def join(self, which: str, a: Any, b: Any) -> Any:
        """Add, or take the larger; a NaN `b` is not larger."""
        builder = self.builder
        if which == "+":
            return builder.fadd(a, b, flags=_FLAGS)
        return builder.select(builder.fcmp_ordered(">", b, a), b, a)

    def total(self, which: str, slots: list[Any]) -> Any:
        """Return the sum or maximum of all elements of the running ones."""
        builder = self.builder
        parts = [builder.load(slot) for slot in slots]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.join(which, a, b) for a, b in pairs]
        kind = parts[0].type
        letter = "f32" if byte_count(self.real) == 4 else "f64"
        name = f"llvm.vector.reduce.{_NAME[which]}.v{self.width}{letter}"
        given = [self.real(0.0)] if which == "+" else []
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.real, [*(x.type for x in given), kind]),
            name,
        )
        # A running maximum is never NaN.
        flags = _FLAGS if which == "+" else ("nnan",)
        return builder.call(function, [*given, parts[0]], fastmath=flags)


def row_pass(rule: Rule, totals: str, ahead: int | None = None) -> Any:
    """Make an intrinsic that goes along a row once.

    It is called as ``run(inputs, numbers, targets, count, like)`` and returns the
    totals in a tuple: `inputs` and `targets` are tuples of addresses, `numbers` a tuple
    of values, `count` the elements of the row, `like` a value of their type. The first
    two inputs are taken to go on behind the row.

    Parameters
    ----------
    rule : callable
        Given an element of each input, and the numbers (`Numbers`), returns one for
        each target, then one for each total.
    totals : str
        A letter for each: "+" is a sum along the row, ">" the maximum of all that are
        no NaN, or minus infinity.
    ahead : int, optional
        How many elements ahead memory is fetched; by default `_AHEAD` bytes.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = _Row(context, builder, signature, args, totals, ahead)
        done = number(0)
        for count in _BLOCKS:
            block = number(row.width * count)
            stop = builder.mul(builder.udiv(row.count, block), block)
            run = functools.partial(row.run, rule, row.whole, count)
            emit_loop(builder, done, stop, block, run)
            done = stop

        def part(shift: Any) -> None:
            rest = builder.sub(row.count, shift)
            row.run(rule, Access(builder, row.width, rest), 1, shift)

        emit_loop(builder, done, row.count, number(row.width), part)
        found = [
            row.total(which, slots)
            for which, slots in zip(totals, row.totals, strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, found)

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, inputs: Any, numbers: Any, targets: Any, count: Any, like: Any
    ) -> Any:
        result = types.UniTuple(like, len(totals))
        return result(inputs, numbers, targets, types.int64, like), lower

    return run
