"""Element-wise arithmetic, comparison and logic; casts; products of matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.nn import functional as F
from nnlib.onnx.node import Node
from nnlib.onnx.reading import dtype_of
from nnlib.onnx.table import operator, simple
from nnlib.onnx.values import axis_of, in_dtype, is_floating, on_arrays, scalar
from nnlib.ops.casting import cast

Run = Callable[..., Any]

for _name, _versions, _run in (
    ("Abs", (6, 13), ops.abs),
    ("Acos", (7, 22), ops.acos),
    ("Acosh", (9, 22), ops.acosh),
    ("Add", (7, 13, 14), ops.add),
    ("And", (7,), ops.logical_and),
    ("Asin", (7, 22), ops.asin),
    ("Asinh", (9, 22), ops.asinh),
    ("Atan", (7, 22), ops.atan),
    ("Atanh", (9, 22), ops.atanh),
    ("BitwiseAnd", (18,), ops.bitwise_and),
    ("BitwiseNot", (18,), ops.bitwise_not),
    ("BitwiseOr", (18,), ops.bitwise_or),
    ("BitwiseXor", (18,), ops.bitwise_xor),
    ("Ceil", (6, 13), ops.ceil),
    ("Cos", (7, 22), ops.cos),
    ("Cosh", (9, 22), ops.cosh),
    ("Det", (11, 22), ops.det),
    ("Equal", (7, 11, 13, 19), ops.eq),
    ("Erf", (9, 13), ops.erf),
    ("Exp", (6, 13), ops.exp),
    ("Floor", (6, 13), ops.floor),
    ("Greater", (7, 9, 13), ops.gt),
    ("GreaterOrEqual", (12, 16), ops.ge),
    ("IsNaN", (9, 13, 20), ops.isnan),
    ("Less", (7, 9, 13), ops.lt),
    ("LessOrEqual", (12, 16), ops.le),
    ("Log", (6, 13), ops.log),
    ("MatMul", (1, 9, 13), ops.matmul),
    ("Mul", (7, 13, 14), ops.mul),
    ("Neg", (6, 13), ops.neg),
    ("Not", (1,), ops.logical_not),
    ("Or", (7,), ops.logical_or),
    ("Reciprocal", (6, 13), ops.reciprocal),
    ("Round", (11, 22), ops.round),
    ("Sign", (9, 13), ops.sign),
    ("Sin", (7, 22), ops.sin),
    ("Sinh", (9, 22), ops.sinh),
    ("Sqrt", (6, 13), ops.sqrt),
    ("Sub", (7, 13, 14), ops.sub),
    ("Tan", (7, 22), ops.tan),
    ("Where", (9, 16), ops.where),
    ("Xor", (7,), ops.logical_xor),
):
    simple(_name, _versions, _run)


@operator("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25, raw=True)
def identity(node: Node) -> Run:
    """Build Identity."""
    return lambda x: x


@operator("Div", 7, 13, 14)
def div(node: Node) -> Run:
    """Build Div: integers are divided towards zero."""

    def run(x: Any, y: Any) -> Any:
        if is_floating(x):
            return ops.div(x, y)
        return ops.div(x, y, rounding_mode="trunc")

    return run


@operator("Mod", 10, 13, 28)
def mod(node: Node) -> Run:
    """Build Mod: with the sign of the divisor, or of the dividend (fmod)."""
    return ops.fmod if node.int("fmod", 0) else ops.remainder


@operator("Pow", 7, 12, 13, 15)
def power(node: Node) -> Run:
    """Build Pow: the result has the dtype of the base."""
    exponent = scalar(node, 1)

    def run(x: Any, y: Any) -> Any:
        if is_floating(x):
            if exponent is not None and not y.ndim:
                return ops.pow(x, exponent)
            return cast(ops.pow(x, y), x.dtype)
        if not is_floating(y):
            return on_arrays(np.power)(x, cast(y, x.dtype))
        return cast(ops.pow(cast(x, np.dtype(np.float64)), y), x.dtype)

    return run


@operator("BitShift", 11, 28)
def bit_shift(node: Node) -> Run:
    """Build BitShift."""
    left = node.string("direction", allowed=("LEFT", "RIGHT")) == "LEFT"
    return ops.bitwise_left_shift if left else ops.bitwise_right_shift


def _variadic(op: str, versions: tuple[int, ...], pair: Run, mean: bool) -> None:
    def build(node: Node) -> Run:
        count = len(node.inputs)
        if not count:
            raise node.fail("expected at least one input")

        def run(*values: Any) -> Any:
            total = functools.reduce(pair, values)
            return total / count if mean else total

        return run

    operator(op, *versions)(build)


_variadic("Sum", (6, 8, 13), ops.add, False)
_variadic("Mean", (6, 8, 13), ops.add, True)
_variadic("Max", (6, 8, 12, 13), ops.maximum, False)
_variadic("Min", (6, 8, 12, 13), ops.minimum, False)


@operator("IsInf", 10, 20)
def is_inf(node: Node) -> Run:
    """Build IsInf."""
    low, high = node.int("detect_negative", 1), node.int("detect_positive", 1)

    def run(x: Any) -> Any:
        found = ops.isinf(x)
        if not high:
            found = ops.logical_and(found, x < 0)
        if not low:
            found = ops.logical_and(found, x > 0)
        return found

    return run


@operator("Clip", 6)
def clip_attributes(node: Node) -> Run:
    """Build Clip with its bounds in attributes."""
    low, high = node.float("min", None), node.float("max", None)
    if low is None and high is None:
        return lambda x: x
    return lambda x: ops.clamp(x, low, high)


@operator("Clip", 11, 12, 13)
def clip(node: Node) -> Run:
    """Build Clip with its bounds in inputs."""
    low, high = scalar(node, 1), scalar(node, 2)

    def run(x: Any, least: Any = None, most: Any = None) -> Any:
        if least is None and most is None:
            return x
        if is_floating(x):
            least = least if low is None else low
            most = most if high is None else high
        return cast(ops.clamp(x, least, most), x.dtype)

    return run


@operator("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast_to(node: Node) -> Run:
    """Build Cast."""
    # Both say how 8-bit floats are rounded, which no tensor here holds.
    node.int("saturate", 1)
    node.string("round_mode", "up")
    try:
        dtype = dtype_of(node.int("to"))
    except ValueError as error:
        raise node.fail(str(error)) from None
    return lambda x: cast(x, dtype)


@operator("CastLike", 15, 19, 21, 23, 24, 25, 28)
def cast_like(node: Node) -> Run:
    """Build CastLike."""
    node.int("saturate", 1)
    node.string("round_mode", "up")
    return lambda x, like: cast(x, like.dtype)


@operator("BitCast", 26)
def bit_cast(node: Node) -> Run:
    """Build BitCast: the same bits as another dtype of the same width."""
    dtype = dtype_of(node.int("to"))

    def run(x: Any) -> Any:
        if x.itemsize != dtype.itemsize:
            raise node.fail(f"{x.dtype} and {dtype} differ in width")
        return x.view(dtype)

    return on_arrays(run)


@operator("Gemm", 7, 9, 11, 13)
def gemm(node: Node) -> Run:
    """Build Gemm: ``alpha A' B' + beta C``."""
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    left, right = node.int("transA", 0), node.int("transB", 0)

    def run(a: Any, b: Any, c: Any = None) -> Any:
        if a.ndim != 2 or b.ndim != 2:
            raise node.fail(
                f"expected matrices, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
            )
        if left:
            a = a.permute(1, 0)
        if right and alpha == 1 and beta == 1 and c is not None and c.ndim == 1:
            if c.shape[0] == b.shape[0] and is_floating(a):
                return F.linear(a, b, c)
        y = ops.matmul(a, b.permute(1, 0) if right else b)
        if alpha != 1:
            y = y * alpha if is_floating(y) else y * int(alpha)
        if c is not None and beta != 0:
            if beta != 1:
                c = c * beta if is_floating(c) else c * int(beta)
            y = y + c
        return y

    return run


@operator("Einsum", 12, 28)
def einsum(node: Node) -> Run:
    """Build Einsum."""
    equation = node.string("equation").replace(" ", "")
    return lambda *values: ops.einsum(equation, *values)


def _scan(op: str, versions: tuple[int, ...], along: Run, first: int) -> None:
    def build(node: Node) -> Run:
        exclusive, reverse = node.int("exclusive", 0), node.int("reverse", 0)

        def run(x: Any, axis: Any) -> Any:
            dim = axis_of(int(axis), x.ndim, op)
            if reverse:
                x = ops.flip(x, dim)
            if exclusive and x.shape[dim]:
                start = ops.narrow(x, dim, 0, 1) * 0 + first
                rest = ops.narrow(x, dim, 0, x.shape[dim] - 1)
                x = ops.cat((cast(start, x.dtype), rest), dim)
            y = in_dtype(lambda v: along(v, dim))(x)
            return ops.flip(y, dim) if reverse else y

        return run

    operator(op, *versions, host=(1,))(build)


_scan("CumSum", (11, 14), ops.cumsum, 0)
_scan("CumProd", (26,), ops.cumprod, 1)


@operator("Trilu", 14, host=(1,))
def trilu(node: Node) -> Run:
    """Build Trilu: a triangle of each matrix."""
    upper = node.int("upper", 1)
    run = ops.triu if upper else ops.tril
    return lambda x, k=None: run(x, 0 if k is None else int(k))


def _window(op: str, terms: Callable[[Any, Any], Any]) -> None:
    def build(node: Node) -> Run:
        dtype = dtype_of(node.int("output_datatype", 1))
        periodic = node.int("periodic", 1)

        def run(size: Any) -> Any:
            count = int(size)
            places = np.arange(count, dtype=np.float64)
            angle = 2 * np.pi * places / (count if periodic else count - 1)
            return terms(np, angle).astype(dtype)

        return run

    operator(op, 17, host=(0,))(build)


_window("HannWindow", lambda m, t: 0.5 - 0.5 * m.cos(t))
_window("HammingWindow", lambda m, t: 25 / 46 - 21 / 46 * m.cos(t))
_window("BlackmanWindow", lambda m, t: 0.42 - 0.5 * m.cos(t) + 0.08 * m.cos(2 * t))
