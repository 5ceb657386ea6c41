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

__all__ = ["Numbers", "Row", "join", "row_pass"]

# Vectors at a time: as many as possible.
_BLOCKS = (4, 2)
_FLAGS = ("contract", "nsz", "reassoc")
# The least number whose exponential is a normal one.
_LOWEST = -87.33654
_HIGHEST = 88.0
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
# 2^r for |r| up to a half, fitted in the same way: degree 5, 1 at 0, error 9.4e-8.
_EXP2_TERMS = (
    0.0013269406044855714,
    0.009671294130384922,
    0.0555071122944355,
    0.24022246897220612,
    0.6931470036506653,
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

    def exp(self) -> Numbers:
        """Return the exponential; float32: to 88, and 0 below the normal numbers."""
        builder, kind = self.builder, self.value.type
        if isinstance(kind.element, ir.DoubleType):
            return self._library_exp()
        lowest = self._other(_LOWEST)
        low = builder.fcmp_ordered("<", self.value, lowest)
        shifted = self * _LOG2E + _ROUND
        n = shifted - _ROUND
        r = self - n * _LN2_HIGH
        r = r - n * _LN2_LOW
        p = r.polynomial(_EXP_TERMS).times_power(shifted)
        return Numbers(builder, builder.select(low, self._other(0.0), p.value))

    def exp_for_log(self) -> Numbers:
        """Return the exponential for a sum whose logarithm is wanted.

        In float32 the relative error is 1e-7 and 6e-8 times the number: as much as the
        logarithm, which is about as large as the largest number, is rounded by. Below
        -87.3 it is at most 1.2e-38, from 88 on at least 1.6e38; of infinite numbers it
        may be NaN.
        """
        builder, kind = self.builder, self.value.type
        if isinstance(kind.element, ir.DoubleType):
            return self._library_exp()
        if vectors.SCALES:
            power = self * _LOG2E
            n = power.rounded()
            return (power - n).polynomial(_EXP2_TERMS).scaled(n)
        low, high = self._other(_LOWEST), self._other(_HIGHEST)
        below = builder.fcmp_ordered("<", self.value, low)
        value = builder.select(below, low, self.value)
        above = builder.fcmp_ordered(">", value, high)
        power = Numbers(builder, builder.select(above, high, value)) * _LOG2E
        shifted = power + _ROUND
        r = power - (shifted - _ROUND)
        return r.polynomial(_EXP2_TERMS).times_power(shifted)

    def rounded(self) -> Numbers:
        """Return the nearest integers."""
        builder, kind = self.builder, self.value.type
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), f"llvm.rint.v{kind.count}f32"
        )
        return Numbers(builder, builder.call(function, [self.value]))

    def scaled(self, n: Numbers) -> Numbers:
        """Return the product with 2^n, infinite or 0 beyond: one instruction."""
        builder, kind = self.builder, self.value.type
        mask, mode = ir.IntType(16), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind, kind, kind, mask, mode]),
            "llvm.x86.avx512.mask.scalef.ps.512",
        )
        # All lanes, rounded as usual.
        given = [self.value, n.value, self.value, mask(-1), mode(4)]
        return Numbers(builder, builder.call(function, given))

    def _library_exp(self) -> Numbers:
        kind = self.value.type
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [kind]),
            f"llvm.exp.v{kind.count}f64",
        )
        return Numbers(self.builder, self.builder.call(function, [self.value]))

    def polynomial(self, terms: tuple[float, ...]) -> Numbers:
        """Return the polynomial with these coefficients, the highest power first."""
        p = self * terms[0] + terms[1]
        for term in terms[2:]:
            p = p * self + term
        return p

    def times_power(self, shifted: Numbers) -> Numbers:
        """Return the product with 2^n, of n from -126 to 127.

        `shifted` is n + `_ROUND`: n in its low bits. Those of a NaN may be any; added
        to the product's own exponent they would make a number of it.
        """
        builder = self.builder
        word = ir.VectorType(ir.IntType(32), self.value.type.count)
        bits = builder.shl(
            builder.bitcast(shifted.value, word), word([23] * word.count)
        )
        bits = builder.add(bits, word([127 << 23] * word.count))
        return self * Numbers(builder, builder.bitcast(bits, self.value.type))


class Row:
    """What a pass along a row works with.

    Parameters
    ----------
    builder : IRBuilder
    real : ir.Type
        Of an element.
    inputs, numbers, targets : sequence
        Addresses, values, addresses.
    count : ir.Value
        The elements of the row.
    totals : str
    ahead : int or None
        As for `row_pass`.
    """

    def __init__(
        self, builder: Any, real: Any, inputs: Any, numbers: Any, targets: Any,
        count: Any, totals: str, ahead: int | None,
    ) -> None:  # fmt: skip
        self.builder = builder
        self.real = real
        self.inputs, self.numbers, self.targets = inputs, numbers, targets
        self.count = count
        self.width = vectors.WIDTH * 4 // byte_count(real)
        self.whole = Access(builder, self.width)
        kind = self.whole.kind(real)
        self.kinds = totals
        self.ahead = _AHEAD if ahead is None else ahead * byte_count(real)
        # One for each vector of a block, so that none waits for another.
        self.totals = [
            [cgutils.alloca_once(builder, kind) for _ in range(_BLOCKS[0])]
            for _ in totals
        ]
        for which, slots in zip(totals, self.totals, strict=True):
            for slot in slots:
                builder.store(kind([_START[which]] * self.width), slot)

    def go(self, rule: Rule) -> list[Any]:
        """Emit the whole pass; return the totals of each kind as one vector."""
        builder = self.builder
        done = number(0)
        for count in _BLOCKS:
            block = number(self.width * count)
            stop = builder.mul(builder.udiv(self.count, block), block)
            run = functools.partial(self.run, rule, self.whole, count)
            emit_loop(builder, done, stop, block, run)
            done = stop

        def part(shift: Any) -> None:
            rest = builder.sub(self.count, shift)
            self.run(rule, Access(builder, self.width, rest), 1, shift)

        emit_loop(builder, done, self.count, number(self.width), part)
        return [
            self.joined(which, slots)
            for which, slots in zip(self.kinds, self.totals, strict=True)
        ]

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
                if k < 2 and self.ahead:
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
                total = join(builder, which, builder.load(slots[v]), value)
                builder.store(total, slots[v])

    def joined(self, which: str, slots: list[Any]) -> Any:
        """Return the vector of the running totals of all vectors of a block."""
        parts = [self.builder.load(slot) for slot in slots]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [join(self.builder, which, a, b) for a, b in pairs]
        return parts[0]


def join(builder: Any, which: str, a: Any, b: Any) -> Any:
    """Add, or take the larger; a NaN `b` is not larger."""
    if which == "+":
        return builder.fadd(a, b, flags=_FLAGS)
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _across(builder: Any, which: str, vector: Any) -> Any:
    """Return the sum or maximum of a vector's elements."""
    kind = vector.type
    real = kind.element
    letter = "f32" if byte_count(real) == 4 else "f64"
    name = f"llvm.vector.reduce.{_NAME[which]}.v{kind.count}{letter}"
    given = [real(0.0)] if which == "+" else []
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(real, [*(x.type for x in given), kind]),
        name,
    )
    # A running maximum is never NaN.
    flags = _FLAGS if which == "+" else ("nnan",)
    return builder.call(function, [*given, vector], fastmath=flags)


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
        How many elements ahead memory is fetched; by default `_AHEAD` bytes. 0: it is
        in the cache.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        inputs, numbers, targets = (
            cgutils.unpack_tuple(builder, pack) for pack in args[:3]
        )
        row = Row(builder, real, inputs, numbers, targets, args[3], totals, ahead)
        found = [
            _across(builder, which, vector)
            for which, vector in zip(totals, row.go(rule), strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, found)

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, inputs: Any, numbers: Any, targets: Any, count: Any, like: Any
    ) -> Any:
        result = types.UniTuple(like, len(totals))
        return result(inputs, numbers, targets, types.int64, like), lower

    return run
