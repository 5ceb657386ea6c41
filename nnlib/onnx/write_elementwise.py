"""Export of arithmetic, comparison and logic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import dtype_at, named, writes
from nnlib.onnx.writing import Writer, element_type
from nnlib.ops.arithmetic import Add, Div, Mul, Neg, Sub
from nnlib.ops.bounds import Clamp, Extremum
from nnlib.ops.casting import Cast, Clone, Contiguous
from nnlib.ops.comparison import (
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    NotEqual,
    Test,
)
from nnlib.ops.division import Remainder, RoundedQuotient
from nnlib.ops.exponential import Erf, Exp, Exp2, Expm1, Log, Log1p, LogBase, Sigmoid
from nnlib.ops.hyperbolic import Acosh, Asinh, Atanh, Cosh, Sinh, Tanh
from nnlib.ops.interpolation import Lerp
from nnlib.ops.logic import Bitwise, Logical
from nnlib.ops.matmul import Dot, Linear, MatMul, MatVec
from nnlib.ops.power import Pow, PowScalar, Reciprocal, Rsqrt, Sqrt, Square
from nnlib.ops.products import AddProduct
from nnlib.ops.rounding import Abs, Round, Step
from nnlib.ops.selection import MaskedFill, Where
from nnlib.ops.trigonometric import Acos, Asin, Atan, Cos, Sin, Tan

for _op, _cls in (
    ("Add", Add),
    ("Sub", Sub),
    ("Mul", Mul),
    ("Div", Div),
    ("Neg", Neg),
    ("Abs", Abs),
    ("Exp", Exp),
    ("Log", Log),
    ("Erf", Erf),
    ("Sigmoid", Sigmoid),
    ("Sinh", Sinh),
    ("Cosh", Cosh),
    ("Tanh", Tanh),
    ("Asinh", Asinh),
    ("Acosh", Acosh),
    ("Atanh", Atanh),
    ("Sin", Sin),
    ("Cos", Cos),
    ("Tan", Tan),
    ("Asin", Asin),
    ("Acos", Acos),
    ("Atan", Atan),
    ("Sqrt", Sqrt),
    ("Reciprocal", Reciprocal),
    ("Pow", Pow),
    ("PowScalar", PowScalar),
    ("Equal", Equal),
    ("Less", Less),
    ("LessOrEqual", LessEqual),
    ("Greater", Greater),
    ("GreaterOrEqual", GreaterEqual),
    ("MatMul", MatMul),
    ("MatMul", MatVec),
    ("MatMul", Dot),
    ("Identity", Clone),
    ("Identity", Contiguous),
):
    named("Pow" if _op == "PowScalar" else _op, _cls)


@writes(NotEqual)
def not_equal(g: Writer, record: Record) -> str:
    """Write ``not (x == y)``."""
    dtype = dtype_at(record)
    return g.add("Not", [g.add("Equal", [g.value(0, dtype), g.value(1, dtype)])])


@writes(Cast)
def cast(g: Writer, record: Record) -> str:
    """Write Cast."""
    return g.add("Cast", [g.value(0)], to=element_type(record.params["dtype"]))


def of_ufunc(table: dict[Any, str], g: Writer, record: Record) -> str:
    """Write the node that a ufunc stands for."""
    op = table.get(record.params["ufunc"])
    if op is None:
        raise g.unknown(record.params["ufunc"].__name__)
    dtype = dtype_at(record)
    return g.add(op, [g.value(n, dtype) for n in range(len(record.args))])


@writes(Step)
def step(g: Writer, record: Record) -> str:
    """Write Floor, Ceil, Sign, or trunc as the sign times the floor of ``|x|``."""
    if record.params["ufunc"] is np.trunc:
        x = g.value(0)
        whole = g.add("Floor", [g.add("Abs", [x])])
        return g.add("Mul", [g.add("Sign", [x]), whole])
    table = {np.floor: "Floor", np.ceil: "Ceil", np.sign: "Sign"}
    return of_ufunc(table, g, record)


@writes(Round)
def rounded(g: Writer, record: Record) -> str:
    """Write Round."""
    if record.params["decimals"]:
        raise g.unknown("round with decimals")
    return g.add("Round", [g.value(0)])


@writes(Test)
def test(g: Writer, record: Record) -> str:
    """Write IsNaN or IsInf."""
    x = g.value(0)
    if record.params["ufunc"] is np.isfinite:
        bad = g.add("Or", [g.add("IsNaN", [x]), g.add("IsInf", [x])])
        return g.add("Not", [bad])
    return of_ufunc({np.isnan: "IsNaN", np.isinf: "IsInf"}, g, record)


@writes(Logical)
def logical(g: Writer, record: Record) -> str:
    """Write And, Or, Xor, Not of bools."""
    if any(getattr(x, "dtype", np.bool_) != np.bool_ for x in record.args):
        raise g.unknown("logic of numbers")
    names = {
        np.logical_and: "And",
        np.logical_or: "Or",
        np.logical_xor: "Xor",
        np.logical_not: "Not",
    }
    return of_ufunc(names, g, record)


@writes(Bitwise)
def bitwise(g: Writer, record: Record) -> str:
    """Write the bitwise operations; of bools, the logical ones."""
    bools = dtype_at(record) == np.bool_
    prefix = "" if bools else "Bitwise"
    if not bools and g.opset < 18:
        raise g.unknown("bitwise operations before opset 18")
    names = {
        np.bitwise_and: "And",
        np.bitwise_or: "Or",
        np.bitwise_xor: "Xor",
        np.invert: "Not",
        np.bitwise_not: "Not",
    }
    return of_ufunc({key: prefix + op for key, op in names.items()}, g, record)


@writes(Extremum)
def extremum(g: Writer, record: Record) -> str:
    """Write Max or Min."""
    return of_ufunc({np.maximum: "Max", np.minimum: "Min"}, g, record)


@writes(Clamp)
def clamp(g: Writer, record: Record) -> str:
    """Write Clip, or Max and Min where the bounds have dimensions."""
    dtype = dtype_at(record)
    x, low, high = (g.value(n, dtype) for n in range(3))
    if not record.shape(1) and not record.shape(2):
        return g.add("Clip", [x, low, high])
    x = g.add("Max", [x, low]) if low else x
    return g.add("Min", [x, high]) if high else x


@writes(Square)
def square(g: Writer, record: Record) -> str:
    """Write ``x x``."""
    return g.add("Mul", [g.value(0), g.value(0)])


@writes(Rsqrt)
def rsqrt(g: Writer, record: Record) -> str:
    """Write ``1 / sqrt(x)``."""
    return g.add("Reciprocal", [g.add("Sqrt", [g.value(0)])])


@writes(Exp2, Expm1, Log1p, LogBase)
def exponentials(g: Writer, record: Record) -> str:
    """Write the kin of exp and log by these."""
    x, dtype = g.value(0), dtype_at(record)
    one = g.constant(1, dtype)
    if record.cls is Exp2:
        return g.add("Exp", [g.add("Mul", [x, g.constant(math.log(2), dtype)])])
    if record.cls is Expm1:
        return g.add("Sub", [g.add("Exp", [x]), one])
    if record.cls is Log1p:
        return g.add("Log", [g.add("Add", [x, one])])
    base = g.constant(math.log(record.params["base"]), dtype)
    return g.add("Div", [g.add("Log", [x]), base])


@writes(RoundedQuotient)
def quotient(g: Writer, record: Record) -> str:
    """Write a division that is rounded: floats alone, or towards zero."""
    dtype = dtype_at(record)
    floating = dtype.kind not in "iu"
    y = g.add("Div", [g.value(0, dtype), g.value(1, dtype)])
    if floating and record.params["mode"] == "floor":
        return g.add("Floor", [y])
    if floating or record.params["mode"] == "floor":
        raise g.unknown(f"a quotient rounded by {record.params['mode']}")
    return y


@writes(Remainder)
def remainder(g: Writer, record: Record) -> str:
    """Write Mod."""
    dtype = dtype_at(record)
    x, y = g.value(0, dtype), g.value(1, dtype)
    if record.params["mode"] != "floor":
        return g.add("Mod", [x, y], fmod=1)
    if dtype.kind in "iu":
        return g.add("Mod", [x, y])
    whole = g.add("Floor", [g.add("Div", [x, y])])
    return g.add("Sub", [x, g.add("Mul", [whole, y])])


@writes(Where)
def where(g: Writer, record: Record) -> str:
    """Write Where."""
    dtype = record.out[0].dtype
    return g.add("Where", [g.value(0), g.value(1, dtype), g.value(2, dtype)])


@writes(MaskedFill)
def masked_fill(g: Writer, record: Record) -> str:
    """Write Where with one value."""
    value = g.value(2, dtype_at(record))
    return g.add("Where", [g.value(1), value, g.value(0)])


@writes(Lerp)
def lerp(g: Writer, record: Record) -> str:
    """Write ``x + weight (y - x)``."""
    x, y = g.value(0), g.value(1)
    weight = g.constant(record.params["weight"], dtype_at(record))
    return g.add("Add", [x, g.add("Mul", [g.add("Sub", [y, x]), weight])])


@writes(Linear)
def linear(g: Writer, record: Record) -> str:
    """Write Gemm, or a product of matrices for more dimensions."""
    x, weight, bias = (g.value(n) for n in range(3))
    if len(record.shape(0)) == 2:
        return g.add("Gemm", [x, weight, bias], transB=1)
    turned = g.add("Transpose", [weight], perm=[1, 0])
    y = g.add("MatMul", [x, turned])
    return g.add("Add", [y, bias]) if bias else y


@writes(AddProduct)
def add_product(g: Writer, record: Record) -> str:
    """Write ``beta x + alpha a b``."""
    dtype = dtype_at(record)
    y = g.add("MatMul", [g.value(1), g.value(2)])
    alpha, beta = record.params.get("alpha", 1), record.params.get("beta", 1)
    if alpha != 1:
        y = g.add("Mul", [y, g.constant(alpha, dtype)])
    x = g.value(0)
    if beta != 1:
        x = g.add("Mul", [x, g.constant(beta, dtype)])
    return g.add("Add", [x, y])
