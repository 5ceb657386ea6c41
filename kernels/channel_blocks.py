"""Blocks of neighbouring outputs, channel by channel: the loops of `depthwise`.

A block is a few neighbouring outputs of a row, or of several, for a vector of channels.
Its sums, or the sums for the taps, stay in registers; each input of a line is read once
for all the outputs whose windows hold it. Columns outside the image are read from a
vector of zeros, lines outside are not listed or are zeros themselves, so that no image
is copied into a frame.

Emitted as vector code like `nnlib.kernels.tiles`: one function for each form of block,
which is compiled when it is first needed and called by its address.
"""

from __future__ import annotations

import functools
import platform
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnlib.kernels.machinery import cpu_kernel
from nnlib.kernels.machinery.cache import compiles_for_host
from nnlib.kernels.tiles import count_turns, opaque
from nnlib.kernels.vectors import REGISTER_BYTES, REGISTERS

__all__ = ["MOST_OUTPUTS", "ROWS", "Form", "block_of", "run_block"]

_WORD = ir.IntType(64)
_FLAGS = ("contract", "nsz")
# Of 32 registers 8 hold sums, beside the weights of a line and what is read; of 16, 4.
MOST_OUTPUTS = REGISTERS // 4
# Rows, and outputs in each, of a block of several rows: as many sums, or gradients, as
# leave room for nine weights, or their sums.
ROWS = 4 if REGISTERS > 16 else 2
_ARGUMENTS = 12


def _vector_register() -> str | None:
    """Return the letter for a register that holds a vector of ours, if it is known."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        # Code for another processor than this may have smaller registers.
        return "v" if REGISTER_BYTES > 16 and compiles_for_host() else None
    return "w" if machine in ("aarch64", "arm64") else None


_REGISTER = _vector_register()


class Form(NamedTuple):
    """What a block's function is compiled for.

    Attributes
    ----------
    outputs : int
        Neighbouring outputs, at most `MOST_OUTPUTS`.
    taps, stride : int
        Taps of a line, which are neighbours; the distance of two outputs' inputs.
    outside : int
        Columns at either end that may lie outside the image.
    grad : int
        0: outputs are summed; 1: the gradient by the weights.
    rows : int
        Neighbouring rows of outputs; with more than one, windows have as many lines as
        taps of a line, and stride 1.
    fetch : int
        1: a block of several rows asks for the memory of the one below. It costs a
        fourth of the time where that is in the caches, and saves half where it is not.
    """

    outputs: int
    taps: int
    stride: int
    outside: int
    grad: int
    rows: int = 1
    fetch: int = 0

    @property
    def columns(self) -> int:
        """How many columns there are from the first input to the last."""
        return (self.outputs - 1) * self.stride + self.taps


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


class _Block:
    """Emits the function of one form of block."""

    def __init__(self, real: Any, form: Form) -> None:
        size = 4 if isinstance(real, ir.FloatType) else 8
        self.size = size
        self.wide = ir.VectorType(real, REGISTER_BYTES // size)
        self.form = form
        # Column k is at (odd multiple of a pixel) times (a power of two up to 8: the
        # processor's own addressing).
        self.parts = {}
        for k in range(1, form.columns):
            power = min((k & -k).bit_length() - 1, 3)
            self.parts[k] = (k >> power, power)
        self.odd = sorted({odd for odd, _ in self.parts.values()})

    def emit(self, module: Any, name: str) -> Any:
        """Return the function; its arguments are those of `run_block` but the first."""
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * _ARGUMENTS)
        function = ir.Function(module, kind, name=name)
        function.linkage = "internal"
        builder = self.builder = ir.IRBuilder(function.append_basic_block())
        # fmt: off
        (self.table, self.lines, self.shift, self.pixel, self.lead, self.tail,
         self.zeros, self.tap, target, pitch, channels, self.below) = function.args
        # fmt: on
        steps = [builder.mul(self.pixel, _number(odd)) for odd in self.odd]
        rows = [
            builder.add(target, builder.mul(self.below, _number(r)))
            for r in range(self.form.rows)
        ]
        places = [
            builder.add(row, builder.mul(pitch, _number(u)))
            for row in rows
            for u in range(self.form.outputs)
        ]
        end = builder.sub(channels, _number(REGISTER_BYTES))
        vectors = builder.add(channels, _number(REGISTER_BYTES - 1))
        vectors = builder.sdiv(vectors, _number(REGISTER_BYTES))

        def vector(index: Any, carried: list[Any]) -> list[Any]:
            slot = builder.mul(index, _number(REGISTER_BYTES))
            # The last vector begins early, and computes some channels again.
            early = builder.icmp_signed("<", slot, end)
            at = builder.select(early, slot, end)
            here = [builder.add(place, at) for place in places]
            if self.form.rows > 1:
                work = self._square_weights if self.form.grad else self._square_outputs
            else:
                work = self._weights if self.form.grad else self._outputs
            return work(here, at, slot, carried)

        count_turns(builder, vectors, steps, vector)
        builder.ret_void()
        return function

    def _outputs(self, here: Any, at: Any, slot: Any, steps: list[Any]) -> list[Any]:
        """Sum the outputs of a vector over all lines; they begin with a row's entry."""
        builder = self.builder
        first = self._load(builder.add(self._entry(self.table, _number(0)), at))

        def line(index: Any, carried: list[Any]) -> list[Any]:
            left, right = self._line(index)
            right = builder.add(right, at)
            weights = []
            for _ in range(self.form.taps):
                weights.append(self._load(right))
                right = builder.add(right, self.tap)
            hidden, sums = self._hide(carried)
            for value, pairs in self._columns(builder.add(left, at), hidden):
                for u, e in pairs:
                    sums[u] = self._fma(value, weights[e], sums[u])
            return [*hidden, *sums]

        sums = [first] * self.form.outputs
        after = count_turns(builder, self.lines, [*steps, *sums], line)
        for place, total in zip(here, after[len(steps) :], strict=True):
            self._store(total, place)
        return after[: len(steps)]

    def _weights(self, here: Any, at: Any, slot: Any, steps: list[Any]) -> list[Any]:
        """Add to the sums of all taps, line by line: they lie in slots of vectors."""
        builder = self.builder
        grads = [self._load(place) for place in here]

        def line(index: Any, carried: list[Any]) -> list[Any]:
            left, right = self._line(index)
            right = builder.add(right, slot)
            places = []
            for _ in range(self.form.taps):
                places.append(right)
                right = builder.add(right, self.tap)
            hidden, _ = self._hide(carried)
            # Chains of sums, so that no product waits for the one before.
            chains: dict[tuple[int, int], Any] = {
                (e, 0): self._load(place) for e, place in enumerate(places)
            }
            for value, pairs in self._columns(builder.add(left, at), hidden):
                for u, e in pairs:
                    key = (e, u % 3)
                    if key in chains:
                        chains[key] = self._fma(value, grads[u], chains[key])
                    else:
                        chains[key] = builder.fmul(value, grads[u], flags=_FLAGS)
            for e, place in enumerate(places):
                total = chains[e, 0]
                for chain in (1, 2):
                    if (e, chain) in chains:
                        total = builder.fadd(total, chains[e, chain], flags=_FLAGS)
                self._store(total, place)
            return hidden

        return count_turns(builder, self.lines, steps, line)

    def _square_outputs(
        self, here: list[Any], at: Any, slot: Any, steps: list[Any]
    ) -> list[Any]:
        """Sum the outputs of some rows, line by line."""
        builder, form = self.builder, self.form
        first = self._load(builder.add(self._entry(self.table, _number(0)), at))
        weights = [self._load(place) for place in self._taps(at)]
        hidden, _ = self._hide(steps)
        sums = [first] * len(here)
        self._fetch_rows(here)
        for line in range(form.rows + form.taps - 1):
            sums = self._pin(sums)
            self._fetch_line(line, at)
            for value, r, tap, u in self._products(line, at, hidden):
                number = r * form.outputs + u
                sums[number] = self._fma(value, weights[tap], sums[number])
        for place, total in zip(here, sums, strict=True):
            self._store(total, place)
        return hidden

    def _square_weights(
        self, here: list[Any], at: Any, slot: Any, steps: list[Any]
    ) -> list[Any]:
        """Add to the sums of all taps, over some rows."""
        form = self.form
        places = self._taps(slot)
        sums = [self._load(place) for place in places]
        grads = [self._load(place) for place in here]
        hidden, _ = self._hide(steps)
        self._fetch_rows(here)
        for line in range(form.rows + form.taps - 1):
            sums = self._pin(sums)
            self._fetch_line(line, at)
            for value, r, tap, u in self._products(line, at, hidden):
                grad = grads[r * form.outputs + u]
                sums[tap] = self._fma(value, grad, sums[tap])
        for place, total in zip(places, sums, strict=True):
            self._store(total, place)
        return hidden

    def _fetch_rows(self, here: list[Any]) -> None:
        """Ask for what the block of rows below will write, or read its gradients."""
        ahead = self.builder.mul(self.below, _number(self.form.rows))
        self._fetch([self.builder.add(x, ahead) for x in here], 1 - self.form.grad)

    def _fetch_line(self, line: int, at: Any) -> None:
        """Ask for a line of the block of rows below, that this one does not read."""
        # Lines are taken to be as far apart as rows of outputs: where they are not, or
        # this block's is outside of the image, other memory is asked for.
        builder, form = self.builder, self.form
        if line < form.taps - 1:
            return
        ahead = builder.mul(self.below, _number(form.rows))
        start = builder.add(self._entry(self.table, _number(1 + 2 * line)), ahead)
        start = builder.add(start, builder.add(self.shift, at))
        columns = range(form.taps // 2, form.taps // 2 + form.outputs)
        steps = [builder.mul(self.pixel, _number(k)) for k in columns]
        self._fetch([builder.add(start, step) for step in steps], 0)

    def _fetch(self, places: list[Any], write: int) -> None:
        """Ask for lines of memory, if the form says so."""
        if not self.form.fetch:
            return
        builder = self.builder
        small, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, small, small, small])
        function = cgutils.get_or_insert_function(
            builder.module, kind, "llvm.prefetch.p0i8"
        )
        for place in places:
            address = builder.inttoptr(place, pointer)
            builder.call(function, [address, small(write), small(3), small(1)])

    def _taps(self, at: Any) -> list[Any]:
        """Return where the weights of all taps are, or their sums."""
        builder = self.builder
        first = builder.add(self._entry(self.table, _number(2)), at)
        return [
            builder.add(first, builder.mul(self.tap, _number(t)))
            for t in range(self.form.taps**2)
        ]

    def _products(self, line: int, at: Any, steps: list[Any]) -> Any:
        """Yield the inputs of a line with the row, tap and output that each is for."""
        builder, form = self.builder, self.form
        entry = self._entry(self.table, _number(1 + 2 * line))
        inside = builder.icmp_signed("!=", entry, _number(0))
        start = builder.select(inside, builder.add(entry, self.shift), self.zeros)
        for value, pairs in self._columns(builder.add(start, at), steps):
            for r in range(form.rows):
                if 0 <= line - r < form.taps:
                    for u, e in pairs:
                        yield value, r, (line - r) * form.taps + e, u

    def _pin(self, values: list[Any]) -> list[Any]:
        """Return values through an empty instruction that needs them all.

        The compiler would read all lines first, and keep what it read in memory.
        """
        if _REGISTER is None:
            return values
        kinds = [value.type for value in values]
        count = len(values)
        told = [f"={_REGISTER}"] * count + [str(i) for i in range(count)]
        kind = ir.FunctionType(ir.LiteralStructType(kinds), kinds)
        constraints = ",".join([*told, "~{memory}"])
        found = self.builder.asm(kind, "", constraints, values, True)
        return [self.builder.extract_value(found, i) for i in range(count)]

    def _line(self, index: Any) -> tuple[Any, Any]:
        """Return where a line of inputs and one of weights begin."""
        builder = self.builder
        entry = builder.add(builder.mul(index, _number(2)), _number(1))
        left = self._entry(self.table, entry)
        right = self._entry(self.table, builder.add(entry, _number(1)))
        return builder.add(left, self.shift), right

    def _hide(self, carried: list[Any]) -> tuple[list[Any], list[Any]]:
        """Keep the compiler from computing each column's address before the loop."""
        count = len(self.odd)
        hidden = [opaque(self.builder, step) for step in carried[:count]]
        return hidden, list(carried[count:])

    def _columns(self, left: Any, steps: list[Any]) -> Any:
        """Yield each column's vector with the outputs and taps it belongs to."""
        builder, form = self.builder, self.form
        distances = dict(zip(self.odd, steps, strict=True))
        for k in range(form.columns):
            pairs = [
                ((k - e) // form.stride, e)
                for e in range(form.taps)
                if (k - e) % form.stride == 0
                and 0 <= (k - e) // form.stride < form.outputs
            ]
            if not pairs:
                continue
            address = left
            if k:
                odd, power = self.parts[k]
                step = builder.shl(distances[odd], _number(power))
                address = builder.add(left, step)
            if k < form.outside:
                outside = builder.icmp_signed("<", _number(k), self.lead)
                address = builder.select(outside, self.zeros, address)
            if k >= form.columns - form.outside:
                beyond = _number(form.columns - 1 - k)
                outside = builder.icmp_signed("<", beyond, self.tail)
                address = builder.select(outside, self.zeros, address)
            yield self._load(address), pairs

    def _fma(self, a: Any, b: Any, total: Any) -> Any:
        product = self.builder.fmul(a, b, flags=_FLAGS)
        return self.builder.fadd(total, product, flags=_FLAGS)

    def _entry(self, table: Any, index: Any) -> Any:
        pointer = self.builder.inttoptr(table, _WORD.as_pointer())
        return self.builder.load(self.builder.gep(pointer, [index]))

    def _load(self, address: Any) -> Any:
        pointer = self.builder.inttoptr(address, self.wide.as_pointer())
        value = self.builder.load(pointer)
        value.align = self.size
        return value

    def _store(self, value: Any, address: Any) -> None:
        pointer = self.builder.inttoptr(address, self.wide.as_pointer())
        self.builder.store(value, pointer).align = self.size


@intrinsic  # type: ignore[untyped-decorator]
def _place_block(
    typing: Any, outputs: Any, taps: Any, stride: Any, outside: Any, grad: Any,
    rows: Any, fetch: Any,
) -> Any:  # fmt: skip
    """Emit a block's function, return its address: tuples of one more tell the form."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[0].dtype)
        form = Form(*(kind.count - 1 for kind in signature.args))
        function = _Block(real, form).emit(builder.module, "nnlib_channel_block")
        return builder.ptrtoint(function, _WORD)

    kinds = outputs, taps, stride, outside, grad, rows, fetch
    return types.int64(*kinds), lower


def place_block(
    outputs: Any, taps: Any, stride: Any, outside: Any, grad: Any, rows: Any, fetch: Any
) -> Any:
    """Return the address of a block's function; each form is a signature of its own."""
    return _place_block(outputs, taps, stride, outside, grad, rows, fetch)


_PLACE = cpu_kernel(parallel=False)(place_block)


@functools.cache
def block_of(form: Form, dtype: Any) -> int:
    """Return the address of a form's function for `run_block`, compiled at first use.

    Parameters
    ----------
    form : Form
        With at most `MOST_OUTPUTS` outputs.
    dtype : numpy.dtype
        float32 or float64.
    """
    zero = dtype.type(0)
    return int(_PLACE(*((zero,) * (1 + number) for number in form)))


@intrinsic  # type: ignore[untyped-decorator]
def run_block(
    typing: Any, block: Any, table: Any, lines: Any, shift: Any, pixel: Any, lead: Any,
    tail: Any, zeros: Any, tap: Any, target: Any, pitch: Any, channels: Any, below: Any,
) -> Any:  # fmt: skip
    """Compute a block, by the function `block_of` returned.

    For each output u and channel c, over all lines l and taps e::

        target[u * pitch + c] = table[0][c] + sum over l and e of
            left[l][shift + (u * stride + e) * pixel + c] * right[l][e * tap + c]

    where ``left[l], right[l] = table[1 + 2 * l], table[2 + 2 * l]``; for a gradient,
    for each tap, where c counts in whole vectors (see `depthwise.weight_grad`)::

        right[l][e * tap + c] += sum over u of
            left[l][shift + (u * stride + e) * pixel + c] * target[u * pitch + c]

    A block of several rows writes, or reads, the row r at ``target + r * below``, whose
    windows begin with line r: `lines` is not read, the lines are the table's, 0 for one
    of zeros, and the weights of all taps lie behind one another at ``table[2]``.

    All are bytes and addresses. `lead` and `tail` columns at the ends of the block are
    zeros, read from a vector at `zeros`; as many pixels of zeros as a block of several
    rows has columns lie there. There is at least one vector of `channels`.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * _ARGUMENTS)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * (_ARGUMENTS + 1)), lower
