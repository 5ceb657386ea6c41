"""Random numbers, from nnlib's generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.onnx import limits
from nnlib.onnx.node import Node
from nnlib.onnx.reading import dtype_of
from nnlib.onnx.table import operator
from nnlib.onnx.values import is_floating, shape_of
from nnlib.ops.casting import cast

Run = Callable[..., Any]


def _dtype(node: Node) -> Any:
    number = node.int("dtype", None)
    return None if number is None else dtype_of(number)


def _draw(node: Node) -> Callable[[tuple[int, ...]], Any]:
    """Return what draws an array: uniform or normal numbers, by the operator's name."""
    node.float("seed", 0.0)
    if "Uniform" in node.op:
        low, high = node.float("low", 0.0), node.float("high", 1.0)
        return lambda shape: ops.rand(*shape) * (high - low) + low
    mean, scale = node.float("mean", 0.0), node.float("scale", 1.0)
    return lambda shape: ops.randn(*shape) * scale + mean


@operator("RandomNormal", 1, 22, pure=False)
@operator("RandomUniform", 1, 22, pure=False)
def random(node: Node) -> Run:
    """Build RandomNormal or RandomUniform."""
    draw, dtype, shape = _draw(node), _dtype(node), node.ints("shape")
    limits.check(node.op, shape)
    return lambda: cast(draw(shape), dtype or np.dtype(np.float32))


@operator("RandomNormalLike", 1, 22, pure=False)
@operator("RandomUniformLike", 1, 22, pure=False)
def random_like(node: Node) -> Run:
    """Build RandomNormalLike or RandomUniformLike."""
    draw, dtype = _draw(node), _dtype(node)

    def run(x: Any) -> Any:
        kind = dtype or (x.dtype if is_floating(x) else np.dtype(np.float32))
        return cast(draw(shape_of(x)), kind).to(x.device)

    return run


@operator("Bernoulli", 15, 22, pure=False)
def bernoulli(node: Node) -> Run:
    """Build Bernoulli."""
    dtype = _dtype(node)
    node.float("seed", 0.0)
    return lambda x: cast(ops.bernoulli(x), dtype or x.dtype)


@operator("Multinomial", 7, 22, pure=False)
def multinomial(node: Node) -> Run:
    """Build Multinomial: its input holds logarithms of probabilities."""
    count = node.int("sample_size", 1)
    dtype = _dtype(node) or np.dtype(np.int32)
    node.float("seed", 0.0)
    return lambda x: cast(ops.multinomial(ops.exp(x), count, True), dtype)
