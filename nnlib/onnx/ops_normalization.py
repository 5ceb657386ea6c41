"""Normalisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib import ops
from nnlib.nn import functional as F
from nnlib.onnx.executable import mode
from nnlib.onnx.node import Node
from nnlib.onnx.reading import dtype_of
from nnlib.onnx.table import operator
from nnlib.onnx.values import axes_of, axis_of, shape_of
from nnlib.ops.casting import cast

Run = Callable[..., Any]


@operator("BatchNormalization", 7, 9, 14, 15, state=(3, 4), pure=False)
def batch_norm(node: Node) -> Run:
    """Build BatchNormalization.

    In training mode the batch's statistics are taken and the running ones updated,
    unless scale and bias are frozen. `training_mode` of the node asks for the same, and
    the new statistics are outputs.
    """
    eps, keep = node.float("epsilon", 1e-5), node.float("momentum", 0.9)
    if node.version < 9 and node.int("spatial", 1) != 1:
        raise node.fail("attribute spatial: 0 is not supported")
    trains = node.version >= 14 and node.int("training_mode", 0)
    if not trains and any(node.wants(n) for n in (1, 2, 3, 4)):
        raise node.fail("its statistics are outputs only in training_mode")

    def run(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        if trains:
            return statistics(x, scale, bias, mean, var)
        learns = mode.training and (scale.requires_grad or bias.requires_grad)
        return F.batch_norm(x, mean, var, scale, bias, learns, 1 - keep, eps)

    def statistics(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        y = F.batch_norm(x, None, None, scale, bias, True, 0.0, eps)
        dims = (0, *range(2, x.ndim))
        middle = ops.mean(x, dims)
        away = x - middle.reshape(-1, *(1,) * (x.ndim - 2))
        spread = ops.mean(away * away, dims)
        return (
            y,
            cast(mean * keep + middle * (1 - keep), mean.dtype),
            cast(var * keep + spread * (1 - keep), var.dtype),
        )

    return run


@operator("InstanceNormalization", 6, 22)
def instance_norm(node: Node) -> Run:
    """Build InstanceNormalization."""
    eps = node.float("epsilon", 1e-5)

    def run(x: Any, scale: Any, bias: Any) -> Any:
        return F.group_norm(x, x.shape[1], scale, bias, eps)

    return run


@operator("GroupNormalization", 18, 21)
def group_norm(node: Node) -> Run:
    """Build GroupNormalization: scale and bias per channel, or (18) per group."""
    groups, eps = node.int("num_groups"), node.float("epsilon", 1e-5)
    if node.version >= 21:
        node.int("stash_type", 1)

    def run(x: Any, scale: Any, bias: Any) -> Any:
        channels = x.shape[1]
        if node.version < 21 and scale.shape[0] == groups != channels:
            scale = ops.repeat_interleave(scale, channels // groups)
            bias = ops.repeat_interleave(bias, channels // groups)
        return F.group_norm(x, groups, scale, bias, eps)

    return run


def _single(x: Any, stash: Any) -> Any:
    """Return x in the precision in which statistics are taken."""
    wide = x.dtype.itemsize < stash.itemsize
    return cast(x, stash) if wide else x


@operator("LayerNormalization", 17)
def layer_norm(node: Node) -> Run:
    """Build LayerNormalization: over the last dimensions, from an axis on."""
    axis, eps = node.int("axis", -1), node.float("epsilon", 1e-5)
    stash = dtype_of(node.int("stash_type", 1))
    several = node.wants(1) or node.wants(2)

    def run(x: Any, scale: Any, bias: Any = None) -> Any:
        dim = axis_of(axis, x.ndim, node.op)
        last = shape_of(x)[dim:]
        if not several and shape_of(scale) == last:
            if bias is None or shape_of(bias) == last:
                return F.layer_norm(x, last, scale, bias, eps)
        dims = tuple(range(dim, x.ndim))
        wide = _single(x, stash)
        mean = ops.mean(wide, dims, True)
        away = wide - mean
        factor = ops.rsqrt(ops.mean(away * away, dims, True) + eps)
        y = cast(away * factor, x.dtype) * scale
        if bias is not None:
            y = y + bias
        return (y, mean, factor) if several else y

    return run


@operator("RMSNormalization", 23)
def rms_norm(node: Node) -> Run:
    """Build RMSNormalization: over the last dimensions, from an axis on."""
    axis, eps = node.int("axis", -1), node.float("epsilon", 1e-5)
    stash = dtype_of(node.int("stash_type", 1))

    def run(x: Any, scale: Any) -> Any:
        dim = axis_of(axis, x.ndim, node.op)
        last = shape_of(x)[dim:]
        if shape_of(scale) == last:
            return F.rms_norm(x, last, scale, eps)
        wide = _single(x, stash)
        square = ops.mean(wide * wide, tuple(range(dim, x.ndim)), True)
        return cast(wide * ops.rsqrt(square + eps), x.dtype) * scale

    return run


@operator("LRN", 1, 13)
def local_response(node: Node) -> Run:
    """Build LRN."""
    alpha, beta = node.float("alpha", 1e-4), node.float("beta", 0.75)
    k, size = node.float("bias", 1.0), node.int("size")

    def run(x: Any) -> Any:
        channels = x.shape[1]
        # Windows of an even size reach further behind than before.
        before = (size - 1) // 2
        square = x * x
        borders = [0, 0] * (x.ndim - 2) + [before, size - 1 - before]
        padded = F.pad(square, borders)
        total = ops.narrow(padded, 1, 0, channels)
        for shift in range(1, size):
            total = total + ops.narrow(padded, 1, shift, channels)
        return x / ops.pow(total * (alpha / size) + k, beta)

    return run


@operator("LpNormalization", 1, 22)
def lp_norm(node: Node) -> Run:
    """Build LpNormalization; a vector of zeros stays."""
    axis, p = node.int("axis", -1), node.int("p", 2)

    def run(x: Any) -> Any:
        length = ops.norm(x, p, axis_of(axis, x.ndim, node.op), True)
        return x / ops.where(length == 0, ops.ones_like(length), length)

    return run


@operator("MeanVarianceNormalization", 9, 13)
def mean_variance(node: Node) -> Run:
    """Build MeanVarianceNormalization."""
    axes = node.ints("axes", (0, 2, 3))

    def run(x: Any) -> Any:
        dims = axes_of(axes, x.ndim, node.op)
        away = x - ops.mean(x, dims, True)
        spread = ops.sqrt(ops.mean(away * away, dims, True))
        return away / (spread + 1e-9)

    return run
