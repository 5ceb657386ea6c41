"""Activations, softmax and its kin, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnlib import ops
from nnlib.backend.device import array_module
from nnlib.nn import functional as F
from nnlib.onnx.executable import mode
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator, simple
from nnlib.onnx.values import axis_of, on_arrays, scalar, shape_of
from nnlib.ops.casting import cast

Run = Callable[..., Any]

for _name, _versions, _run in (
    ("HardSwish", (14, 22), F.hardswish),
    ("Mish", (18, 22), F.mish),
    ("Sigmoid", (6, 13), ops.sigmoid),
    ("Softplus", (1, 22), F.softplus),
    ("Softsign", (1, 22), F.softsign),
    ("Tanh", (6, 13), ops.tanh),
):
    simple(_name, _versions, _run)


@operator("Relu", 6, 13, 14)
def relu(node: Node) -> Run:
    """Build Relu, of integers too."""
    return lambda x: ops.relu(x) if x.dtype.kind not in "iu" else ops.clamp(x, 0)


@operator("LeakyRelu", 6, 16)
def leaky_relu(node: Node) -> Run:
    """Build LeakyRelu."""
    slope = node.float("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


@operator("PRelu", 7, 9, 16)
def prelu(node: Node) -> Run:
    """Build PRelu: the slopes broadcast to the input."""
    return lambda x, slope: ops.where(x < 0, x * slope, x)


@operator("Elu", 6, 22)
def elu(node: Node) -> Run:
    """Build Elu."""
    alpha = node.float("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Celu", 12, 22, 28)
def celu(node: Node) -> Run:
    """Build Celu."""
    alpha = node.float("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Selu", 6, 22)
def selu(node: Node) -> Run:
    """Build Selu."""
    alpha = node.float("alpha", 1.67326319217681884765625)
    gamma = node.float("gamma", 1.05070102214813232421875)
    return lambda x: F.elu(x, alpha) * gamma


@operator("HardSigmoid", 6, 22)
def hard_sigmoid(node: Node) -> Run:
    """Build HardSigmoid: ``clip(alpha x + beta, 0, 1)``."""
    alpha, beta = node.float("alpha", 0.2), node.float("beta", 0.5)
    return lambda x: ops.clamp(x * alpha + beta, 0.0, 1.0)


@operator("ThresholdedRelu", 10, 22)
def thresholded_relu(node: Node) -> Run:
    """Build ThresholdedRelu."""
    alpha = node.float("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("Shrink", 9)
def shrink(node: Node) -> Run:
    """Build Shrink."""
    bound, bias = node.float("lambd", 0.5), node.float("bias", 0.0)

    def run(x: Any) -> Any:
        low = ops.where(x < -bound, x + bias, ops.zeros_like(x))
        return cast(ops.where(x > bound, x - bias, low), x.dtype)

    return run


@operator("Gelu", 20)
def gelu(node: Node) -> Run:
    """Build Gelu."""
    kind = node.string("approximate", "none", ("none", "tanh"))
    return lambda x: F.gelu(x, approximate=kind)


@operator("Swish", 24)
def swish(node: Node) -> Run:
    """Build Swish: ``x sigmoid(alpha x)``."""
    alpha = node.float("alpha", 1.0)
    return lambda x: F.silu(x) if alpha == 1 else x * ops.sigmoid(x * alpha)


def _softmax(op: str, run: Run) -> None:
    @operator(op, 1, 11)
    def build_flat(node: Node) -> Run:
        """Normalise over all dimensions from an axis on."""
        axis = node.int("axis", 1)

        def flat(x: Any) -> Any:
            shape = shape_of(x)
            dim = axis if axis == len(shape) else axis_of(axis, len(shape), op)
            rows = x.reshape(math.prod(shape[:dim]), math.prod(shape[dim:]))
            return run(rows, 1).reshape(shape)

        return flat

    @operator(op, 13)
    def build(node: Node) -> Run:
        """Normalise along one axis."""
        axis = node.int("axis", -1)
        return lambda x: run(x, axis_of(axis, x.ndim, op))


def _hardmax(x: Any, dim: int) -> Any:
    def run(array: Any) -> Any:
        module = array_module(array)
        best = module.expand_dims(array.argmax(dim), dim)
        out = module.zeros_like(array)
        module.put_along_axis(out, best, 1, dim)
        return out

    return on_arrays(run)(x)


_softmax("Softmax", F.softmax)
_softmax("LogSoftmax", F.log_softmax)
_softmax("Hardmax", _hardmax)


def _dropped(x: Any, ratio: float) -> tuple[Any, Any]:
    ones = F.dropout(ops.ones_like(x), ratio, True)
    return x * ones, ones != 0


@operator("Dropout", 7, 10, pure=False)
def dropout_attribute(node: Node) -> Run:
    """Build Dropout with its ratio in an attribute: it drops in training mode."""
    ratio = node.float("ratio", 0.5)
    mask = node.wants(1)

    def run(x: Any) -> Any:
        if mode.training and ratio:
            return _dropped(x, ratio) if mask else F.dropout(x, ratio, True)
        if not mask:
            return x
        kept = ops.ones_like(x)
        return x, (kept if node.version < 10 else kept != 0)

    return run


@operator("Dropout", 12, 13, 22, host=(1, 2), pure=False)
def dropout(node: Node) -> Run:
    """Build Dropout: it drops in training mode, or where `training_mode` says so."""
    node.int("seed", 0)
    mask = node.wants(1)
    always = scalar(node, 2)

    def run(x: Any, ratio: Any = None, training: Any = None) -> Any:
        p = 0.5 if ratio is None else float(ratio)
        drops = bool(training) if training is not None and always is None else always
        if (drops or mode.training) and p:
            return _dropped(x, p) if mask else F.dropout(x, p, True)
        if not mask:
            return x
        return x, ops.ones_like(x) != 0

    return run
