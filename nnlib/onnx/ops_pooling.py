"""Pooling: maxima, means and norms of windows, and of everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import kernels, ops
from nnlib.nn import functional as F
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import is_floating, like_array, shape_of, sizes
from nnlib.onnx.windows import Windows, counted, summed
from nnlib.ops.casting import cast
from nnlib.ops.pooling import MaxPool
from nnlib.ops.resize import Resample

Run = Callable[..., Any]
_SINGLE = np.dtype(np.float32)


def _spatial(node: Node, x: Any) -> tuple[int, ...]:
    shape = shape_of(x)
    if not 3 <= len(shape) <= 5:
        raise node.fail(f"expected an input of 3 to 5 dimensions, got shape {shape}")
    return shape[2:]


@operator("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(node: Node) -> Run:
    """Build MaxPool."""
    windows = Windows.read(node)
    by_columns = node.int("storage_order", 0)
    places_wanted = node.wants(1)
    plan_of = kernels.windows

    def run(x: Any) -> Any:
        found = windows.over(_spatial(node, x))
        plan = plan_of.plan(plan_of.sliding, *((*f[:5], f[6]) for f in found))
        narrow = not is_floating(x)
        wide = cast(x, _SINGLE) if narrow else x
        out = MaxPool.apply(wide, plan=plan, indices=places_wanted)
        if not places_wanted:
            return cast(out, x.dtype)
        y, places = out
        return cast(y, x.dtype), _in_whole(places, shape_of(x), by_columns)

    return run


def _in_whole(places: Any, shape: tuple[int, ...], by_columns: int) -> Any:
    """Return places in a plane as places in the whole tensor."""
    plane = math.prod(shape[2:])
    if by_columns:
        rest: Any = places
        total: Any = 0
        scale = 1
        parts = []
        for length in reversed(shape[2:]):
            parts.append(ops.remainder(rest, length))
            rest = ops.floor_divide(rest, length)
        for part, length in zip(reversed(parts), shape[2:], strict=True):
            total = part * scale + total
            scale *= length
        places = total
    starts = np.arange(math.prod(shape[:2])).reshape(shape[:2]) * plane
    return places + like_array(
        starts.reshape(*shape[:2], *(1,) * (places.ndim - 2)), places
    )


@operator("AveragePool", 7, 10, 11, 19, 22)
def average_pool(node: Node) -> Run:
    """Build AveragePool."""
    windows = Windows.read(node)
    include = bool(node.int("count_include_pad", 0))

    def run(x: Any) -> Any:
        found = windows.over(_spatial(node, x))
        plan = kernels.windows.plan(counted, *((*f, include) for f in found))
        return Resample.apply(x, plan=plan)

    return run


@operator("LpPool", 2, 11, 18, 22)
def lp_pool(node: Node) -> Run:
    """Build LpPool."""
    windows = Windows.read(node)
    p = node.int("p", 2)

    def run(x: Any) -> Any:
        plan = kernels.windows.plan(summed, *windows.over(_spatial(node, x)))
        total = Resample.apply(ops.pow(ops.abs(x), p), plan=plan)
        return ops.pow(total, 1 / p)

    return run


def _global(op: str, versions: tuple[int, ...], over: Callable[..., Any]) -> None:
    @operator(op, *versions)
    def build(node: Node) -> Run:
        """Pool all spatial dimensions."""

        def run(x: Any) -> Any:
            if x.ndim < 2:
                raise node.fail(f"expected (N, C, ...), got shape {shape_of(x)}")
            return over(x, tuple(range(2, x.ndim)), True)

        return run


_global("GlobalAveragePool", (1, 22), ops.mean)
_global("GlobalMaxPool", (1, 22), ops.amax)


@operator("GlobalLpPool", 2, 22)
def global_lp_pool(node: Node) -> Run:
    """Build GlobalLpPool."""
    p = node.int("p", 2)
    return lambda x: ops.norm(x, p, tuple(range(2, x.ndim)), True)


@operator("MaxUnpool", 9, 11, 22, host=(2,))
def max_unpool(node: Node) -> Run:
    """Build MaxUnpool: places count in the whole tensor that was pooled."""
    windows = Windows.read(node)

    def run(x: Any, places: Any, target: Any = None) -> Any:
        shape = shape_of(x)
        rank = len(shape) - 2
        strides = windows.strides or (1,) * rank
        pads = windows.pads or (0,) * (2 * rank)
        kernel = windows.kernel or ()
        plain = [
            (n - 1) * s + k - pads[d] - pads[rank + d]
            for d, (n, s, k) in enumerate(zip(shape[2:], strides, kernel, strict=True))
        ]
        full = (*shape[:2], *plain)
        flat = ops.zeros(math.prod(full), dtype=x.dtype, device=x.device)
        flat = ops.scatter(flat, 0, places.reshape(-1), x.reshape(-1))
        y = flat.reshape(full)
        if target is None:
            return y
        more = [b - a for a, b in zip(full, sizes(target), strict=True)]
        return F.pad(y, [n for extra in reversed(more) for n in (0, extra)])

    return run
