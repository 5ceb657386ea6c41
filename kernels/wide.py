"""Scalar bodies with exponentials as vector code: `row_map`, `sigmoid`, `tanh`, `relu`.

A body such as an LSTM cell reads nine arrays and writes eight: the compiler would have
to check at each entry that no two of them overlap, and gives up. `row_map` traces the
body on `Wide` values instead, which are registers full of neighbouring elements; the
same Python function is the scalar body of the CUDA loop.

Such a body is arithmetic (``+ - *``) and the functions below. It holds no constants,
which in CUDA would make a 64-bit float of a float32: ``y - y * y`` for ``y * (1 - y)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from nnlib.kernels import special
from nnlib.kernels.vectors import REGISTER_BYTES, Lanes, count_loop

__all__ = ["Wide", "relu", "relu_gradient", "row_map", "sigmoid", "tanh"]

_INT = ir.IntType(32)
# The shift that rounds to an integer, and its bits: see `special`.
_SHIFT = 12582912.0
_SHIFT_BITS = 0x4B400000


class Wide(Lanes):
    """Lanes that know division, comparison and the exponential family."""

    def __truediv__(self, other: Any) -> Self:
        return self._do("fdiv", self.value, self._other(other))

    def constant(self, value: float) -> Wide:
        """Return `value` in every lane."""
        return Wide(self.builder, self._other(float(value)))

    def where(self, comparison: str, bound: float, yes: Any, no: Any) -> Wide:
        """Return `yes` in the lanes that compare so with `bound`, else `no`."""
        builder = self.builder
        test = builder.fcmp_ordered(comparison, self.value, self._other(bound))
        return Wide(builder, builder.select(test, yes.value, no.value))

    def double(self) -> bool:
        """Tell whether the elements are float64."""
        kind = self.value.type
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        return isinstance(element, ir.DoubleType)

    def library(self, name: str) -> Wide:
        """Call the C library's function of float64 in each lane."""
        kind = self.value.type
        lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind, [kind]),
            f"llvm.{name}.{lanes}f64",
        )
        return Wide(self.builder, self.builder.call(function, [self.value]))

    def exp(self) -> Wide:
        """Return the exponential: the polynomial of `special.exp`."""
        if self.double():
            return self.library("exp")
        x = self.where(">", 89.0, self.constant(89.0), self)
        x = x.where("<", -104.0, self.constant(-104.0), x)
        shifted = x * float(special._LOG2E) + _SHIFT
        n = shifted - _SHIFT
        r = x - n * float(special._LN2_HIGH)
        r = r - n * float(special._LN2_LOW)
        p = polynomial(special.EXP_TERMS, r)
        return (p * (r * r) + r + 1.0).times_power(shifted)

    def times_power(self, shifted: Wide) -> Wide:
        """Multiply by two to the power in the low bits of `shifted`, in two factors."""
        builder, kind = self.builder, self.value.type
        wide = isinstance(kind, ir.VectorType)
        word = ir.VectorType(_INT, kind.count) if wide else _INT

        def constant(value: int) -> Any:
            return ir.Constant(word, [value] * kind.count if wide else value)

        bits = builder.bitcast(shifted.value, word)
        n = builder.sub(bits, constant(_SHIFT_BITS))
        half = builder.ashr(n, constant(1))
        product = self
        for part in (half, builder.sub(n, half)):
            power = builder.shl(builder.add(part, constant(127)), constant(23))
            product = product * Wide(builder, builder.bitcast(power, kind))
        return product

    def sigmoid(self) -> Wide:
        """Return the logistic function."""
        one = self.constant(1.0)
        return one / ((self * -1.0).exp() + 1.0)

    def tanh(self) -> Wide:
        """Return the hyperbolic tangent: the two forms of `special.tanh`."""
        if self.double():
            return self.library("tanh")
        square = self * self
        near = polynomial(special.TANH_TERMS, square) * square * self + self
        negative = self * -1.0
        size = self.where("<", 0.0, negative, self)
        one = self.constant(1.0)
        far = one - self.constant(2.0) / ((size + size).exp() + 1.0)
        far = self.where("<", 0.0, far * -1.0, far)
        return size.where("<", 0.625, near, far)


def polynomial(terms: Any, x: Wide) -> Wide:
    """Evaluate a polynomial, the highest power first."""
    result = x.constant(terms[0])
    for term in terms[1:]:
        result = result * x + float(term)
    return result


def sigmoid(x: Any) -> Any:
    """Return ``1 / (1 + exp(-x))`` in a body."""
    if isinstance(x, Wide):
        return x.sigmoid()
    one = type(x)(1)
    return one / (one + special.exp(-x))


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent in a body."""
    return x.tanh() if isinstance(x, Wide) else special.tanh(x)


def relu(x: Any) -> Any:
    """Return ``max(x, 0)`` in a body; NaN stays NaN."""
    if isinstance(x, Wide):
        return x.where("<", 0.0, x.constant(0.0), x)
    return special.maximum(x, type(x)(0))


def relu_gradient(grad: Any, y: Any) -> Any:
    """Return `grad` where ``y > 0`` (or is NaN), else 0, in a body."""
    if isinstance(y, Wide):
        return y.where("<=", 0.0, y.constant(0.0), grad)
    return special.select(y <= type(y)(0), type(grad)(0), grad)


@overload(sigmoid, strict=False)  # type: ignore[untyped-decorator]
def _sigmoid(x: Any) -> Any:
    def scalar(x: Any) -> Any:
        one = type(x)(1)
        return one / (one + special.exp(-x))

    return scalar


overload(tanh, strict=False)(lambda x: lambda x: special.tanh(x))
overload(relu, strict=False)(lambda x: lambda x: special.maximum(x, type(x)(0)))
overload(relu_gradient, strict=False)(
    lambda grad, y: lambda grad, y: special.select(y <= type(y)(0), type(grad)(0), grad)
)


def row_map(function: Callable[..., Any]) -> Any:
    """Make an intrinsic that runs a body over rows of neighbouring elements.

    It is called in a kernel as ``run(sources, targets, count, like)``: `sources` and
    `targets` are tuples of addresses, one for each argument and each result of the
    body, `count` the length of the rows, `like` a value of their type. Each register's
    worth is read before it is written: a target may be a source.

    Parameters
    ----------
    function : callable
        A body as the head of this file describes it.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(signature.args[3])
        size = 4 if isinstance(real, ir.FloatType) else 8
        sources, targets = (
            [
                builder.inttoptr(address, real.as_pointer())
                for address in cgutils.unpack_tuple(builder, packed)
            ]
            for packed in args[:2]
        )

        def emit(kind: Any) -> Any:
            def place(base: Any, index: Any) -> Any:
                return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())

            def body(index: Any) -> None:
                values = []
                for base in sources:
                    load = builder.load(place(base, index))
                    load.align = size
                    values.append(Wide(builder, load))
                results = function(*values)
                if not isinstance(results, tuple):
                    results = (results,)
                for base, result in zip(targets, results, strict=True):
                    builder.store(result.value, place(base, index)).align = size

            return body

        wide = ir.VectorType(real, REGISTER_BYTES // size)
        start = ir.Constant(ir.IntType(64), 0)
        left = count_loop(builder, start, args[2], wide.count, emit(wide))
        count_loop(builder, left, args[2], 1, emit(real))
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def run(context: Any, sources: Any, targets: Any, count: Any, like: Any) -> Any:
        return types.void(sources, targets, types.int64, like), lower

    return run
