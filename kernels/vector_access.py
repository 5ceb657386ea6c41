"""Reading and writing neighbouring elements as vectors, and plain loops, in LLVM.

Pieces that `nnlib.kernels.window_walk` and `nnlib.kernels.line_vectors` are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["Access", "byte_count", "emit_loop", "number"]

_WORD = ir.IntType(64)
_INT = ir.IntType(32)


def number(value: int) -> Any:
    """Return a constant machine word."""
    return ir.Constant(_WORD, value)


class Access:
    """How a vector of neighbouring channels is read and written, whole or in part."""

    def __init__(self, builder: Any, count: int, rest: Any = None) -> None:
        self.builder = builder
        self.count = count
        self.mask = None
        if rest is not None:
            kind = ir.VectorType(_INT, count)
            numbers = ir.Constant(kind, list(range(count)))
            wide = self.fill(builder.trunc(rest, _INT))
            self.mask = builder.icmp_signed("<", numbers, wide)

    def kind(self, element: Any) -> Any:
        """Return the type of a vector of these elements."""
        return ir.VectorType(element, self.count)

    def fill(self, value: Any) -> Any:
        """Return a vector of equal elements."""
        empty = ir.Constant(self.kind(value.type), ir.Undefined)
        first = ir.Constant(self.kind(_INT), [0] * self.count)
        one = self.builder.insert_element(empty, value, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(one, empty, first)

    def _masked(self, name: str, element: Any, result: Any, *between: Any) -> Any:
        mask = ir.VectorType(ir.IntType(1), self.count)
        pointer = self.kind(element).as_pointer()
        letter = {ir.FloatType: "f32", ir.DoubleType: "f64"}.get(type(element))
        letter = letter or f"i{element.width}"
        last = [mask] if name == "store" else [mask, self.kind(element)]
        return cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(result, [*between, pointer, _INT, *last]),
            f"llvm.masked.{name}.v{self.count}{letter}.p0",
        )

    def fetch(self, address: Any) -> None:
        """Ask for the cache line at an address, which need not be valid."""
        builder = self.builder
        pointer = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT]),
            "llvm.prefetch.p0",
        )
        place = builder.inttoptr(address, pointer)
        # To read, into the first cache, data.
        builder.call(function, [place, *(ir.Constant(_INT, n) for n in (0, 3, 1))])

    def load(self, address: Any, element: Any) -> Any:
        """Read neighbouring elements; what is masked is 0 and not touched."""
        builder, kind = self.builder, self.kind(element)
        place = builder.inttoptr(address, kind.as_pointer())
        size = byte_count(element)
        if self.mask is None:
            value = builder.load(place)
            value.align = size
            return value
        function = self._masked("load", element, kind)
        zeros = ir.Constant(kind, None)
        return builder.call(
            function, [place, ir.Constant(_INT, size), self.mask, zeros]
        )

    def store(self, value: Any, address: Any) -> None:
        """Write neighbouring elements."""
        builder, element = self.builder, value.type.element
        place = builder.inttoptr(address, value.type.as_pointer())
        size = byte_count(element)
        if self.mask is None:
            builder.store(value, place).align = size
            return
        function = self._masked("store", element, ir.VoidType(), value.type)
        builder.call(function, [value, place, ir.Constant(_INT, size), self.mask])


def byte_count(element: Any) -> int:
    """Return the size of an LLVM scalar."""
    if isinstance(element, ir.IntType):
        return int(element.width) // 8
    return 4 if isinstance(element, ir.FloatType) else 8


def emit_loop(
    builder: Any, start: Any, stop: Any, step: Any, emit: Callable[[Any], None]
) -> None:
    """Emit ``for i in range(start, stop, step)``, for few rounds: not unrolled."""
    before = builder.block
    head, body, done = (
        builder.append_basic_block(name) for name in ("head", "body", "done")
    )
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_WORD)
    index.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, done)
    builder.position_at_end(body)
    emit(index)
    index.add_incoming(builder.add(index, step), builder.block)
    back = builder.branch(head)
    module = builder.module
    flag = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    # The first operand of a loop's metadata is the metadata itself.
    mark = module.add_metadata([ir.Constant(_WORD, len(module.metadata)), flag])
    mark.operands = (mark, flag)
    back.set_metadata("llvm.loop", mark)
    builder.position_at_end(done)
