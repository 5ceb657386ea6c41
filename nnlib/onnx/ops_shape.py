"""Shapes: what they are, and changes of them; constants; joining, cutting, padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.backend.device import array_module
from nnlib.onnx import limits
from nnlib.onnx.node import Node
from nnlib.onnx.reading import dtype_of
from nnlib.onnx.table import operator
from nnlib.onnx.values import axes_of, axis_of, like_array, on_arrays, shape_of, sizes
from nnlib.ops.padding import pad as pad_borders

Run = Callable[..., Any]


@operator("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(node: Node) -> Run:
    """Build Constant: its attribute as an array on the host."""
    if node.given("value"):
        value = node.tensor("value")
    elif node.given("value_float"):
        value = np.array(node.float("value_float"), np.float32)
    elif node.given("value_int"):
        value = np.array(node.int("value_int"), np.int64)
    elif node.given("value_floats"):
        value = np.array(node.floats("value_floats"), np.float32)
    elif node.given("value_ints"):
        value = np.array(node.ints("value_ints"), np.int64)
    else:
        raise node.fail("expected a dense tensor of numbers")
    return lambda: value


@operator("Shape", 1, 13, 15, 19, 21, 23, 24, 25, raw=True)
def shape(node: Node) -> Run:
    """Build Shape."""
    start, end = node.int("start", 0), node.int("end", None)
    return lambda x: np.array(shape_of(x)[start:end], np.int64)


@operator("Size", 1, 13, 19, 21, 23, 24, 25, raw=True)
def size(node: Node) -> Run:
    """Build Size."""
    return lambda x: np.array(math.prod(shape_of(x)), np.int64)


@operator("Reshape", 5, 13, 14, 19, 21, 23, 24, 25, host=(1,))
def reshape(node: Node) -> Run:
    """Build Reshape: 0 keeps a dimension (unless `allowzero`), -1 is inferred."""
    keeps = not node.int("allowzero", 0)

    def run(x: Any, target: Any) -> Any:
        wanted = list(sizes(target))
        if keeps:
            old = shape_of(x)
            for place, length in enumerate(wanted):
                if length == 0:
                    if place >= len(old):
                        raise node.fail(f"no dimension {place} to keep in shape {old}")
                    wanted[place] = old[place]
        return x.reshape(*wanted) if wanted else x.reshape(())

    return run


@operator("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(node: Node) -> Run:
    """Build Flatten: to a matrix."""
    axis = node.int("axis", 1)

    def run(x: Any) -> Any:
        old = shape_of(x)
        dim = axis if axis == len(old) else axis_of(axis, len(old), "Flatten")
        return x.reshape(math.prod(old[:dim]), math.prod(old[dim:]))

    return run


def _squeeze(x: Any, axes: Any) -> Any:
    old = shape_of(x)
    if axes is None:
        dims = tuple(dim for dim, length in enumerate(old) if length == 1)
    else:
        dims = axes_of(axes, len(old), "Squeeze")
    for dim in dims:
        if old[dim] != 1:
            raise ValueError(f"axis {dim} of shape {old} is not 1")
    return x.reshape(tuple(n for dim, n in enumerate(old) if dim not in dims))


def _unsqueeze(x: Any, axes: Any) -> Any:
    old = list(shape_of(x))
    dims = axes_of(axes, len(old) + len(axes), "Unsqueeze")
    if len(set(dims)) != len(dims):
        raise ValueError(f"axes {tuple(axes)} repeat")
    for dim in sorted(dims):
        old.insert(dim, 1)
    return x.reshape(tuple(old))


@operator("Squeeze", 1, 11)
def squeeze_attribute(node: Node) -> Run:
    """Build Squeeze with its axes in an attribute."""
    axes = node.ints("axes", None)
    return lambda x: _squeeze(x, axes)


@operator("Squeeze", 13, 21, 23, 24, 25, host=(1,))
def squeeze(node: Node) -> Run:
    """Build Squeeze with its axes in an input."""
    return lambda x, axes=None: _squeeze(x, None if axes is None else sizes(axes))


@operator("Unsqueeze", 1, 11)
def unsqueeze_attribute(node: Node) -> Run:
    """Build Unsqueeze with its axes in an attribute."""
    axes = node.ints("axes")
    return lambda x: _unsqueeze(x, axes)


@operator("Unsqueeze", 13, 21, 23, 24, 25, host=(1,))
def unsqueeze(node: Node) -> Run:
    """Build Unsqueeze with its axes in an input."""
    return lambda x, axes: _unsqueeze(x, sizes(axes))


@operator("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(node: Node) -> Run:
    """Build Transpose."""
    order = node.ints("perm", None)
    return lambda x: ops.permute(x, order or tuple(range(x.ndim))[::-1])


@operator("Concat", 4, 11, 13)
def concat(node: Node) -> Run:
    """Build Concat."""
    axis = node.int("axis")
    return lambda *values: ops.cat(values, axis)


def _split(node: Node, x: Any, lengths: Any, count: int, axis: int) -> Any:
    dim = axis_of(axis, x.ndim, "Split")
    total = x.shape[dim]
    if lengths is None:
        piece = -(-total // count)
        starts = [min(piece * i, total) for i in range(count + 1)]
        lengths = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    if sum(lengths) != total or len(lengths) != count:
        raise node.fail(f"cannot cut {total} into {len(node.outputs)}: {lengths}")
    return tuple(ops.split(x, list(lengths), dim))


@operator("Split", 2, 11)
def split_attribute(node: Node) -> Run:
    """Build Split with its lengths in an attribute."""
    lengths, axis = node.ints("split", None), node.int("axis", 0)
    return lambda x: _split(node, x, lengths, len(node.outputs), axis)


@operator("Split", 13, 18, host=(1,))
def split(node: Node) -> Run:
    """Build Split with its lengths in an input, or equal ones."""
    axis = node.int("axis", 0)
    count = node.int("num_outputs", len(node.outputs))

    def run(x: Any, lengths: Any = None) -> Any:
        given = None if lengths is None else list(sizes(lengths))
        return _split(node, x, given, count if given is None else len(given), axis)

    return run


def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    dims = range(len(starts)) if axes is None else axes
    dims = axes_of(dims, x.ndim, "Slice")
    jumps = (1,) * len(starts) if steps is None else steps
    key: list[slice] = [slice(None)] * x.ndim
    for dim, start, end, step in zip(dims, starts, ends, jumps, strict=True):
        length = x.shape[dim]
        # slice() counts an end of -1 from the back: what lies before the first element
        # has to be said otherwise.
        stop: int | None = end
        if step < 0 and end < -length:
            stop = None
        key[dim] = slice(start, stop, step)
    return x[tuple(key)]


@operator("Slice", 1)
def slice_attributes(node: Node) -> Run:
    """Build Slice with everything in attributes."""
    starts, ends = node.ints("starts"), node.ints("ends")
    axes = node.ints("axes", None)
    return lambda x: _slice(x, starts, ends, axes)


@operator("Slice", 10, 11, 13, host=(1, 2, 3, 4))
def slice_inputs(node: Node) -> Run:
    """Build Slice with everything in inputs."""

    def run(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
        return _slice(
            x,
            sizes(starts),
            sizes(ends),
            None if axes is None else sizes(axes),
            None if steps is None else sizes(steps),
        )

    return run


@operator("Expand", 8, 13, host=(1,))
def expand(node: Node) -> Run:
    """Build Expand: broadcast with a shape."""

    def run(x: Any, target: Any) -> Any:
        wanted = np.broadcast_shapes(shape_of(x), sizes(target))
        limits.check("Expand", wanted)
        return x.expand(wanted)

    return run


@operator("Tile", 6, 13, host=(1,))
def tile(node: Node) -> Run:
    """Build Tile."""

    def run(x: Any, repeats: Any) -> Any:
        counts = sizes(repeats)
        old = shape_of(x)
        limits.check("Tile", [n * k for n, k in zip(old, counts, strict=True)])
        return x.repeat(counts)

    return run


def _pad(x: Any, kind: str, pads: Any, value: Any, axes: Any) -> Any:
    rank = x.ndim
    dims = range(rank) if axes is None else axes_of(axes, rank, "Pad")
    half = len(pads) // 2
    if half != len(dims) or len(pads) % 2:
        raise ValueError(f"pads: expected {2 * len(dims)} values, got {len(pads)}")
    width = [(0, 0)] * rank
    for place, dim in enumerate(dims):
        width[dim] = (pads[place], pads[place + half])
    limits.check(
        "Pad", [n + a + b for n, (a, b) in zip(shape_of(x), width, strict=True)]
    )
    cut = tuple(
        slice(max(-a, 0), max(n - max(-b, 0), 0))
        for n, (a, b) in zip(shape_of(x), width, strict=True)
    )
    if any(min(pair) < 0 for pair in width):
        x = x[cut]
    width = [(max(a, 0), max(b, 0)) for a, b in width]
    if kind == "constant":
        flat = [n for pair in reversed(width) for n in pair]
        return pad_borders(x, flat, value=value)
    for dim, (before, after) in enumerate(width):
        if before or after:
            x = ops.index_select(x, dim, _border(kind, x, x.shape[dim], before, after))
    return x


def _border(kind: str, x: Any, length: int, before: int, after: int) -> Any:
    """Return which elements stand along a padded dimension."""
    places = np.arange(-before, length + after)
    if not length:
        raise ValueError(f"cannot pad an empty dimension in mode {kind}")
    if kind == "edge":
        places = places.clip(0, length - 1)
    elif kind == "wrap":
        places %= length
    else:
        period = max(2 * (length - 1), 1)
        places = abs((places + length - 1) % period - (length - 1))
    return like_array(places, x)


@operator("Pad", 2)
def pad_attributes(node: Node) -> Run:
    """Build Pad with its widths in an attribute."""
    kind = node.string("mode", "constant", ("constant", "reflect", "edge"))
    pads, value = node.ints("pads"), node.float("value", 0.0)
    return lambda x: _pad(x, kind, pads, value, None)


@operator("Pad", 11, 13, 18, 19, 21, 23, 24, 25, host=(1, 2, 3))
def pad(node: Node) -> Run:
    """Build Pad with its widths in inputs."""
    kind = node.string("mode", "constant", ("constant", "reflect", "edge", "wrap"))

    def run(x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
        number = 0 if value is None else value.reshape(()).item()
        return _pad(x, kind, sizes(pads), number, None if axes is None else sizes(axes))

    return run


@operator("ConstantOfShape", 9, 20, 21, 23, 24, 25, host=(0,))
def constant_of_shape(node: Node) -> Run:
    """Build ConstantOfShape."""
    value = node.tensor("value", None)
    fill = np.zeros(1, np.float32) if value is None else value

    def run(target: Any) -> Any:
        limits.check("ConstantOfShape", sizes(target))
        return np.full(sizes(target), fill.reshape(())[()], fill.dtype)

    return run


@operator("Range", 11, 27, host=(0, 1, 2))
def range_(node: Node) -> Run:
    """Build Range."""

    def run(start: Any, limit: Any, delta: Any) -> Any:
        first, last, step = (x.reshape(())[()] for x in (start, limit, delta))
        count = max(math.ceil((float(last) - float(first)) / float(step)), 0)
        limits.check("Range", (count,))
        places = np.arange(count)
        return (first + places * step).astype(start.dtype)

    return run


@operator("EyeLike", 9, 22)
def eye_like(node: Node) -> Run:
    """Build EyeLike."""
    number, k = node.int("dtype", None), node.int("k", 0)
    dtype = None if number is None else dtype_of(number)

    def run(x: Any) -> Any:
        rows, columns = x.shape
        return array_module(x).eye(rows, columns, k, dtype or x.dtype)

    return on_arrays(run)


@operator("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(node: Node) -> Run:
    """Build DepthToSpace."""
    r = node.int("blocksize")
    columns_first = node.string("mode", "DCR", ("DCR", "CRD")) == "CRD"

    def run(x: Any) -> Any:
        n, c, h, w = shape_of(x)
        if columns_first:
            # (N, C, r, r, H, W) -> (N, C, H, r, W, r)
            parts = x.reshape(n, c // r**2, r, r, h, w).permute(0, 1, 4, 2, 5, 3)
        else:
            # (N, r, r, C, H, W) -> (N, C, H, r, W, r)
            parts = x.reshape(n, r, r, c // r**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // r**2, h * r, w * r)

    return run


@operator("SpaceToDepth", 1, 13, 28)
def space_to_depth(node: Node) -> Run:
    """Build SpaceToDepth."""
    r = node.int("blocksize")
    mode = "DCR"
    if node.version >= 28:
        mode = node.string("mode", "DCR", ("DCR", "CRD"))
    # (N, C, H, r, W, r) -> (N, r, r, C, H, W), or -> (N, C, r, r, H, W)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)

    def run(x: Any) -> Any:
        n, c, h, w = shape_of(x)
        parts = x.reshape(n, c, h // r, r, w // r, r).permute(*order)
        return parts.reshape(n, c * r * r, h // r, w // r)

    return run


@operator("CenterCropPad", 18, host=(1,))
def center_crop_pad(node: Node) -> Run:
    """Build CenterCropPad: each dimension cut or padded evenly to a length."""
    axes = node.ints("axes", None)

    def run(x: Any, target: Any) -> Any:
        dims = range(x.ndim) if axes is None else axes_of(axes, x.ndim, node.op)
        pads = []
        for dim, wanted in zip(dims, sizes(target), strict=True):
            more = wanted - x.shape[dim]
            before = more // 2 if more >= 0 else -(-more // 2)
            pads.append((before, more - before))
        flat = [a for a, _ in pads] + [b for _, b in pads]
        return _pad(x, "constant", flat, 0, dims)

    return run
