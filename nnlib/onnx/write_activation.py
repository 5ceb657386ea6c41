"""Export of activations and softmax."""

from __future__ import annotations

import math

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import dtype_at, named, writes
from nnlib.onnx.writing import Writer
from nnlib.ops.activation import Gate, LeakyRelu, PRelu, Relu
from nnlib.ops.activation_elu import Celu, Elu, Selu
from nnlib.ops.activation_hard import (
    Clip,
    HardShrink,
    HardSigmoid,
    HardSwish,
    SoftShrink,
    Threshold,
)
from nnlib.ops.activation_smooth import (
    Gelu,
    GeluTanh,
    Glu,
    LogSigmoid,
    Mish,
    Silu,
    Softplus,
    Softsign,
    TanhShrink,
)
from nnlib.ops.softmax import LogSoftmax, Softmax

named("Relu", Relu)
named("Softsign", Softsign)


@writes(LeakyRelu)
def leaky_relu(g: Writer, record: Record) -> str:
    """Write LeakyRelu."""
    return g.add("LeakyRelu", [g.value(0)], alpha=float(record.params["slope"]))


@writes(PRelu)
def prelu(g: Writer, record: Record) -> str:
    """Write PRelu: its slopes are one per channel."""
    slope = g.value(1)
    rank = len(record.shape(0))
    if rank > 2 and record.shape(1) != (1,):
        slope = g.add("Reshape", [slope, g.ints(-1, *(1,) * (rank - 2))])
    return g.add("PRelu", [g.value(0), slope])


@writes(Gate)
def gate(g: Writer, record: Record) -> str:
    """Write Where: 0 outside the mask."""
    return g.add("Where", [g.value(1), g.value(0), g.constant(0, dtype_at(record))])


@writes(Elu)
def elu(g: Writer, record: Record) -> str:
    """Write Elu."""
    return g.add("Elu", [g.value(0)], alpha=float(record.params["alpha"]))


@writes(Selu)
def selu(g: Writer, record: Record) -> str:
    """Write Selu."""
    return g.add("Selu", [g.value(0)])


@writes(Celu)
def celu(g: Writer, record: Record) -> str:
    """Write Celu."""
    return g.add("Celu", [g.value(0)], alpha=float(record.params["alpha"]))


@writes(Clip)
def clip(g: Writer, record: Record) -> str:
    """Write Clip."""
    p, dtype, x = record.params, dtype_at(record), g.value(0)
    return g.add("Clip", [x, g.constant(p["low"], dtype), g.constant(p["high"], dtype)])


@writes(HardSigmoid)
def hard_sigmoid(g: Writer, record: Record) -> str:
    """Write HardSigmoid."""
    return g.add("HardSigmoid", [g.value(0)], alpha=1 / 6, beta=0.5)


@writes(HardSwish)
def hard_swish(g: Writer, record: Record) -> str:
    """Write HardSwish, or what it is made of before opset 14."""
    x = g.value(0)
    if g.opset >= 14:
        return g.add("HardSwish", [x])
    return g.add("Mul", [x, g.add("HardSigmoid", [x], alpha=1 / 6, beta=0.5)])


@writes(HardShrink, SoftShrink)
def shrink(g: Writer, record: Record) -> str:
    """Write Shrink."""
    bound = float(record.params["bound"])
    bias = bound if record.cls is SoftShrink else 0.0
    return g.add("Shrink", [g.value(0)], lambd=bound, bias=bias)


@writes(Threshold)
def threshold(g: Writer, record: Record) -> str:
    """Write Where: a value up to the threshold."""
    p, dtype, x = record.params, dtype_at(record), g.value(0)
    above = g.add("Greater", [x, g.constant(p["threshold"], dtype)])
    return g.add("Where", [above, x, g.constant(p["value"], dtype)])


@writes(Gelu, GeluTanh)
def gelu(g: Writer, record: Record) -> str:
    """Write Gelu, or what it is made of before opset 20."""
    x, dtype = g.value(0), dtype_at(record)
    by_tanh = record.cls is GeluTanh
    if g.opset >= 20:
        return g.add("Gelu", [x], approximate="tanh" if by_tanh else "none")
    if by_tanh:
        cube = g.add("Mul", [g.add("Mul", [x, x]), x])
        part = g.add("Mul", [cube, g.constant(0.044715, dtype)])
        inner = g.add("Add", [x, part])
        scaled = g.add("Mul", [inner, g.constant(math.sqrt(2 / math.pi), dtype)])
        bell = g.add("Tanh", [scaled])
    else:
        scaled = g.add("Mul", [x, g.constant(math.sqrt(0.5), dtype)])
        bell = g.add("Erf", [scaled])
    half = g.add("Mul", [x, g.constant(0.5, dtype)])
    return g.add("Mul", [half, g.add("Add", [bell, g.constant(1, dtype)])])


@writes(Silu)
def silu(g: Writer, record: Record) -> str:
    """Write ``x sigmoid(x)``."""
    x = g.value(0)
    return g.add("Mul", [x, g.add("Sigmoid", [x])])


@writes(Mish)
def mish(g: Writer, record: Record) -> str:
    """Write ``x tanh(softplus(x))``."""
    x = g.value(0)
    return g.add("Mul", [x, g.add("Tanh", [g.add("Softplus", [x])])])


@writes(Softplus)
def softplus(g: Writer, record: Record) -> str:
    """Write Softplus, its input and output scaled; Where if it turns linear early."""
    x, dtype, p = g.value(0), dtype_at(record), record.params
    beta, scaled = p["beta"], x
    if beta != 1:
        factor = g.constant(beta, dtype)
        scaled = g.add("Mul", [x, factor])
    result = g.add("Softplus", [scaled])
    if beta != 1:
        result = g.add("Div", [result, factor])
    if p["threshold"] >= 20:  # above, both are the same number
        return result
    linear = g.add("Greater", [scaled, g.constant(p["threshold"], dtype)])
    return g.add("Where", [linear, x, result])


@writes(LogSigmoid)
def log_sigmoid(g: Writer, record: Record) -> str:
    """Write ``-softplus(-x)``."""
    return g.add("Neg", [g.add("Softplus", [g.add("Neg", [g.value(0)])])])


@writes(TanhShrink)
def tanh_shrink(g: Writer, record: Record) -> str:
    """Write ``x - tanh(x)``."""
    x = g.value(0)
    return g.add("Sub", [x, g.add("Tanh", [x])])


@writes(Glu)
def glu(g: Writer, record: Record) -> str:
    """Write the first half times the sigmoid of the second."""
    dim = record.params["dim"]
    half = record.shape(0)[dim] // 2
    parts = g.several("Split", [g.value(0), g.ints(half, half)], 2, axis=dim)
    return g.add("Mul", [parts[0], g.add("Sigmoid", [parts[1]])])


@writes(Softmax)
def softmax_(g: Writer, record: Record) -> str:
    """Write Softmax."""
    return g.add("Softmax", [g.value(0)], axis=record.params["dim"])


@writes(LogSoftmax)
def log_softmax(g: Writer, record: Record) -> str:
    """Write LogSoftmax."""
    return g.add("LogSoftmax", [g.value(0)], axis=record.params["dim"])
