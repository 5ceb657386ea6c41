"""Resize and Upsample: each axis is a linear map of its own.

The rows of the map (which inputs an output weighs, and how) follow the operator's
definition; what applies them is nnlib's resampling, or, where it knows the layout not,
a product with a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nnlib import kernels, ops
from nnlib.onnx import limits
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import axes_of, is_floating, like_array, shape_of, sizes
from nnlib.ops.casting import cast
from nnlib.ops.resize import Resample

Run = Callable[..., Any]
Rows = tuple[tuple[tuple[int, float], ...], ...]


class Rule(NamedTuple):
    """How an output's place is found, and its neighbours weighed."""

    mode: str
    transform: str
    nearest: str
    cubic: float
    exclude: bool
    antialias: bool


_TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _place(
    rule: Rule, o: int, size: int, out: int, scale: float, roi: tuple[float, float]
) -> float:
    """Return where output `o` lies among the inputs."""
    kind = rule.transform
    if kind == "align_corners":
        wide = scale * size
        return 0.0 if wide == 1 else o * (size - 1) / (wide - 1)
    if kind == "asymmetric":
        return o / scale
    if kind == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    if kind == "pytorch_half_pixel" and out == 1:
        return -0.5
    if kind == "tf_crop_and_resize":
        start, end = roi
        if out == 1:
            return (start + end) * (size - 1) / 2
        return start * (size - 1) + o * (end - start) * (size - 1) / (out - 1)
    place = (o + 0.5) / scale - 0.5
    if kind == "half_pixel_symmetric":
        # The centres of input and result meet, whatever the rounding of the size.
        share = out / (scale * size)
        place = size / 2 * (1 - share) + place
    return place


def _round(kind: str, place: float) -> int:
    if kind == "round_prefer_floor":
        return math.ceil(place - 0.5)
    if kind == "round_prefer_ceil":
        return math.floor(place + 0.5)
    return math.floor(place) if kind == "floor" else math.ceil(place)


def _cubic(distance: float, a: float) -> float:
    d = abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


@lru_cache(256)
def _rows(
    rule: Rule, size: int, out: int, scale: float, roi: tuple[float, float]
) -> tuple[Rows, tuple[bool, ...]]:
    """Return the map of one axis, and which outputs lie outside the input."""
    rows: list[tuple[tuple[int, float], ...]] = []
    outside: list[bool] = []
    for o in range(out):
        place = _place(rule, o, size, out, scale, roi)
        outside.append(
            rule.transform == "tf_crop_and_resize" and not 0 <= place <= size - 1
        )
        if rule.mode == "nearest":
            index = min(max(_round(rule.nearest, place), 0), size - 1)
            rows.append(((index, 1.0),))
            continue
        # Shrinking with antialias widens the filter by the scale.
        narrow = min(scale, 1.0) if rule.antialias else 1.0
        reach = (2 if rule.mode == "cubic" else 1) / narrow
        first = math.floor(place - reach) + 1
        last = math.ceil(place + reach) - 1
        if not rule.antialias:
            first = math.floor(place) - (1 if rule.mode == "cubic" else 0)
            last = first + (3 if rule.mode == "cubic" else 1)
        weights: dict[int, float] = {}
        total = 0.0
        for i in range(first, last + 1):
            distance = (place - i) * narrow
            if rule.mode == "cubic":
                w = _cubic(distance, rule.cubic)
            else:
                w = max(1 - abs(distance), 0.0)
            if rule.exclude and not 0 <= i < size:
                continue
            total += w
            at = min(max(i, 0), size - 1)
            weights[at] = weights.get(at, 0.0) + w
        if rule.exclude or rule.antialias:
            weights = {i: w / total for i, w in weights.items()}
        rows.append(tuple((i, w) for i, w in weights.items() if w))
    return tuple(rows), tuple(outside)


@lru_cache(256)
def _axis(size: int, outputs: int, rows: Rows) -> Any:
    # Plans are told the lengths of an axis first.
    return kernels.windows.axis_from_rows(size, [list(row) for row in rows], 1)


def _apply(x: Any, rows: dict[int, Rows]) -> Any:
    """Apply the maps of some axes."""
    shape = shape_of(x)
    spatial = 3 <= len(shape) <= 5 and min(rows) >= 2
    if spatial and is_floating(x) and 0 not in shape:
        stay = [tuple(((i, 1.0),) for i in range(n)) for n in shape]
        maps = [rows.get(d, stay[d]) for d in range(len(shape))]
        axes = [(n, len(map_), map_) for n, map_ in zip(shape, maps, strict=True)]
        return Resample.apply(x, plan=kernels.windows.plan(_axis, *axes[2:]))
    wide = x if is_floating(x) else cast(x, np.dtype(np.float32))
    for dim, table in rows.items():
        matrix = np.zeros((shape[dim], len(table)), np.float64)
        for o, row in enumerate(table):
            for i, weight in row:
                matrix[i, o] += weight
        moved = ops.movedim(wide, dim, -1)
        out = ops.matmul(moved, like_array(matrix.astype(str(wide.dtype)), wide))
        wide = ops.movedim(out, -1, dim)
    return cast(wide, x.dtype)


def _resize(
    x: Any, rule: Rule, out: list[int], scales: list[float], rois: Any, fill: float
) -> Any:
    shape = shape_of(x)
    limits.check("Resize", out)
    rows: dict[int, Rows] = {}
    gone = None
    for dim, (size, length, scale) in enumerate(zip(shape, out, scales, strict=True)):
        crops = rule.transform == "tf_crop_and_resize" and rois[dim] != (0.0, 1.0)
        if size == length and scale == 1 and not crops:
            continue
        table, outside = _rows(rule, size, length, scale, rois[dim])
        rows[dim] = table
        if any(outside):
            mask = np.array(outside).reshape(
                [-1 if d == dim else 1 for d in range(len(shape))]
            )
            gone = mask if gone is None else gone | mask
    y = _apply(x, rows) if rows else x
    if gone is not None:
        y = ops.where(like_array(gone, x), fill, y)
    return y


@operator("Upsample", 7, 9, host=(1,))
def upsample(node: Node) -> Run:
    """Build Upsample, what Resize was before opset 10."""
    rule = _old_rule(node)
    factors = node.floats("scales") if node.version < 9 else None

    def run(x: Any, given: Any = None) -> Any:
        return _by_scales(x, rule, factors if given is None else given)

    return run


def _old_rule(node: Node) -> Rule:
    mode = node.string("mode", "nearest", ("nearest", "linear", "bilinear"))
    mode = "linear" if mode == "bilinear" else mode
    return Rule(mode, "asymmetric", "floor", -0.75, False, False)


def _by_scales(x: Any, rule: Rule, given: Any) -> Any:
    scales = [float(s) for s in given]
    shape = shape_of(x)
    out = [math.floor(n * s) for n, s in zip(shape, scales, strict=True)]
    return _resize(x, rule, out, scales, [(0.0, 1.0)] * len(shape), 0.0)


@operator("Resize", 10, host=(1,))
def resize_scales(node: Node) -> Run:
    """Build Resize with scales alone."""
    rule = _old_rule(node)
    return lambda x, given: _by_scales(x, rule, given)


@operator("Resize", 11, 13, 18, 19, host=(1, 2, 3))
def resize(node: Node) -> Run:
    """Build Resize."""
    mode = node.string("mode", "nearest", ("nearest", "linear", "cubic"))
    rule = Rule(
        mode,
        node.string("coordinate_transformation_mode", "half_pixel", _TRANSFORMS),
        node.string("nearest_mode", "round_prefer_floor", _ROUNDINGS),
        node.float("cubic_coeff_a", -0.75),
        bool(node.int("exclude_outside", 0)),
        bool(node.int("antialias", 0)) and mode != "nearest",
    )
    fill = node.float("extrapolation_value", 0.0)
    axes = node.ints("axes", None)
    policy = node.string(
        "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
    )

    def run(x: Any, roi: Any = None, scales: Any = None, target: Any = None) -> Any:
        shape = shape_of(x)
        dims = (
            tuple(range(len(shape)))
            if axes is None
            else axes_of(axes, len(shape), node.op)
        )
        out, factors = list(shape), [1.0] * len(shape)
        rois = [(0.0, 1.0)] * len(shape)
        if roi is not None and len(roi) == 2 * len(dims):
            for place, dim in enumerate(dims):
                rois[dim] = (float(roi[place]), float(roi[place + len(dims)]))
        if target is not None and len(target):
            _to_size(shape, dims, sizes(target), policy, out, factors)
        elif scales is not None and len(scales) == len(dims):
            for dim, factor in zip(dims, scales, strict=True):
                start, end = rois[dim]
                crop = rule.transform == "tf_crop_and_resize"
                part = (end - start) if crop else 1.0
                factors[dim] = float(factor)
                out[dim] = math.floor(shape[dim] * part * float(factor))
        else:
            raise node.fail("expected scales or sizes, one for each axis")
        return _resize(x, rule, out, factors, rois, fill)

    return run


def _to_size(
    shape: tuple[int, ...],
    dims: tuple[int, ...],
    target: tuple[int, ...],
    policy: str,
    out: list[int],
    factors: list[float],
) -> None:
    ratios = [n / shape[dim] for dim, n in zip(dims, target, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(dims)
        target = tuple(math.floor(shape[dim] * ratio + 0.5) for dim in dims)
    for dim, n, ratio in zip(dims, target, ratios, strict=True):
        out[dim], factors[dim] = n, ratio
