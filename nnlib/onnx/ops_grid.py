"""Sampling at grids of places: GridSample and AffineGrid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.onnx import limits
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import shape_of, sizes
from nnlib.ops import grid as grids
from nnlib.ops.casting import cast

Run = Callable[..., Any]
_LONG = np.dtype(np.int64)
_MODES = {
    16: {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"},
    20: {"linear": "linear", "nearest": "nearest", "cubic": "cubic"},
}


def _reflected(place: Any, size: int, corners: bool) -> Any:
    """Return places reflected at the borders until they lie inside."""
    low, length = (0.0, size - 1.0) if corners else (-0.5, float(size))
    if not length:
        return place * 0
    away = ops.remainder(place - low, 2 * length)
    return ops.where(away > length, 2 * length - away, away) + low


class _Sampler:
    """The attributes of GridSample.

    Not `nn.functional.grid_sample`: this takes any number of dimensions, and is
    composed of operations that an export can write for any opset.
    """

    def __init__(self, node: Node) -> None:
        names = _MODES[20 if node.version >= 20 else 16]
        default = "linear" if node.version >= 20 else "bilinear"
        self.mode = names[node.string("mode", default, tuple(names))]
        kinds = ("zeros", "border", "reflection")
        self.padding = node.string("padding_mode", "zeros", kinds)
        self.corners = bool(node.int("align_corners", 0))

    def bounded(self, place: Any, size: int) -> Any:
        """Bring places inside the input, as the padding mode says."""
        if self.padding == "reflection":
            place = _reflected(place, size, self.corners)
        return place if self.padding == "zeros" else ops.clamp(place, 0, size - 1)

    def taps(self, coordinate: Any, size: int) -> list[tuple[Any, Any]]:
        """Return (index, weight) of each neighbour along one dimension.

        Indices are int64 and inside the input; the weight is 0 for one that was not.
        """
        if self.corners:
            place = (coordinate + 1) * ((size - 1) / 2)
        else:
            place = ((coordinate + 1) * size - 1) * 0.5
        if self.mode != "cubic":
            place = self.bounded(place, size)
        if self.mode == "nearest":
            whole = ops.round(place)
            found = [(whole, ops.ones_like(whole))]
        else:
            whole = ops.floor(place)
            part = place - whole
            if self.mode == "linear":
                found = [(whole, 1 - part), (whole + 1, part)]
            else:
                weights = grids.cubic_weights(part)
                found = [
                    (self.bounded(whole + (n - 1), size), weight)
                    for n, weight in enumerate(weights)
                ]
        made = []
        for index, weight in found:
            inside = ops.logical_and(index >= 0, index <= size - 1)
            weight = weight * cast(inside, weight.dtype)
            made.append((cast(ops.clamp(index, 0, size - 1), _LONG), weight))
        return made


@operator("GridSample", 16, 20, 22)
def grid_sample(node: Node) -> Run:
    """Build GridSample: values of images or volumes at places between -1 and 1."""
    sampler = _Sampler(node)

    def run(x: Any, grid: Any) -> Any:
        n, c, *size = shape_of(x)
        where = shape_of(grid)[1:-1]
        rank = len(size)
        if shape_of(grid)[-1] != rank:
            raise node.fail(f"a grid of shape {shape_of(grid)} for {shape_of(x)}")
        flat = x.reshape(n, c, math.prod(size))
        # The last number of a place belongs to the first spatial dimension.
        axes = [
            sampler.taps(grid[..., rank - 1 - d], length)
            for d, length in enumerate(size)
        ]
        total: Any = None
        for corner in itertools.product(*axes):
            index, weight = corner[0]
            for (other, factor), length in zip(corner[1:], size[1:], strict=True):
                index, weight = index * length + other, weight * factor
            # (N, *O) -> (N, C, prod(O))
            index = index.reshape(n, 1, -1).expand(n, c, math.prod(where))
            values = ops.gather(flat, 2, index) * weight.reshape(n, 1, -1)
            total = values if total is None else total + values
        return cast(total, x.dtype).reshape(n, c, *where)

    return run


@operator("AffineGrid", 20, host=(1,))
def affine_grid(node: Node) -> Run:
    """Build AffineGrid: a regular grid mapped by matrices."""
    corners = bool(node.int("align_corners", 0))

    def run(theta: Any, target: Any) -> Any:
        n, _, *size = sizes(target)
        limits.check(node.op, (n, *size, len(size)))
        return grids.affine_grid(theta, (n, 1, *size), corners)

    return run
