"""Export of convolutions, pools, resizing and normalisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import dtype_at, writes
from nnlib.onnx.writing import Writer
from nnlib.ops.convolution import Convolution, InputGradient
from nnlib.ops.normalization_rows import NormalizeRows
from nnlib.ops.normalize import BATCH, Normalize, Standardize
from nnlib.ops.pooling import MaxPool
from nnlib.ops.resize import Resample


@writes(Convolution)
def conv(g: Writer, record: Record) -> str:
    """Write Conv."""
    q = record.params["geometry"]
    before, after = [], []
    for n, out, k, s, b, d in zip(
        q.size, q.out, q.kernel, q.stride, q.before, q.dilation, strict=True
    ):
        before.append(b)
        after.append(max((out - 1) * s + d * (k - 1) + 1 - n - b, 0))
    return g.add(
        "Conv",
        [g.value(0), g.value(1), g.value(2)],
        kernel_shape=list(q.kernel),
        strides=list(q.stride),
        dilations=list(q.dilation),
        group=q.groups,
        pads=_pads(g, q, before, after),
    )


def _pads(g: Writer, q: Any, before: list[int], after: list[int]) -> list[int]:
    """Return the padding; what is behind is that before wherever that does as well.

    With a stride, the last window may leave elements over, and then the number of zeros
    behind the input cannot be told from sizes; equal ones hold for every size.
    """
    same = []
    for n, out, k, s, b, a, d in zip(
        q.size, q.out, q.kernel, q.stride, before, after, q.dilation, strict=True
    ):
        fits = (n + 2 * b - d * (k - 1) - 1) // s + 1 == out
        same.append(b if fits else a)
    return before + same


@writes(InputGradient)
def conv_transpose(g: Writer, record: Record) -> str:
    """Write ConvTranspose."""
    q = record.params["geometry"]
    extra, after = [], []
    for n, out, k, s, b, d in zip(
        q.size, q.out, q.kernel, q.stride, q.before, q.dilation, strict=True
    ):
        more = n - ((out - 1) * s + d * (k - 1) + 1 - 2 * b)
        extra.append(max(more, 0))
        after.append(b - min(more, 0))
    return g.add(
        "ConvTranspose",
        [g.value(0), g.value(1), g.value(2)],
        kernel_shape=list(q.kernel),
        strides=list(q.stride),
        dilations=list(q.dilation),
        group=q.groups,
        pads=[*q.before, *after],
        output_padding=extra,
    )


class Slide(NamedTuple):
    """The sliding window that an axis's table is."""

    kernel: int
    stride: int
    before: int
    after: int
    dilation: int
    weighs: str


def _starts(axis: Any) -> list[tuple[list[int], list[float]]]:
    return [
        (list(axis.index[a:b]), list(axis.value[a:b]))
        for a, b in zip(axis.ptr[:-1], axis.ptr[1:], strict=True)
    ]


def slide_of(axis: Any, numbers: bool) -> Slide | None:
    """Read a table as a sliding window, or return None.

    Parameters
    ----------
    axis : nnlib.kernels.windows.Axis
    numbers : bool
        Whether values are the taps' numbers (a maximum), else weights (a mean).
    """
    rows = _starts(axis)
    size, kernel = axis.size, axis.taps
    for dilation in range(1, max(size, 1) + 1):
        found = _try(rows, size, kernel, dilation, numbers)
        if found is not None:
            return found
        if not numbers:
            break
    return None


def _try(
    rows: Any, size: int, kernel: int, dilation: int, numbers: bool
) -> Slide | None:
    """Fit stride and padding to the first and the last full windows."""
    full = [n for n, (index, _) in enumerate(rows) if len(index) == kernel]
    if not full:
        return None
    first = full[0]
    strides = {
        (rows[b][0][0] - rows[a][0][0]) // (b - a)
        for a, b in zip(full, full[1:], strict=False)
    }
    if len(strides) > 1:
        return None
    choices = strides or set(range(1, size + kernel + 1))
    for stride in sorted(choices):
        before = first * stride - int(rows[first][0][0])
        if stride < 1 or before < 0:
            continue
        ends = len(rows) * stride - stride + dilation * (kernel - 1) + 1
        after = max(ends - before - size, 0)
        weighs = _fits(rows, size, kernel, stride, before, after, dilation, numbers)
        if weighs:
            return Slide(kernel, stride, before, after, dilation, weighs)
    return None


def _fits(
    rows: Any,
    size: int,
    kernel: int,
    stride: int,
    before: int,
    after: int,
    dilation: int,
    numbers: bool,
) -> str:
    """Return how the elements of windows weigh ("" if the windows are others)."""
    kinds = {"held", "all"}
    for o, (index, value) in enumerate(rows):
        places = [o * stride - before + t * dilation for t in range(kernel)]
        held = [(t, i) for t, i in enumerate(places) if 0 <= i < size]
        if [i for _, i in held] != [int(i) for i in index]:
            return ""
        if numbers:
            if [float(t) for t, _ in held] != [float(v) for v in value]:
                return ""
            continue
        if not np.allclose(value, 1 / max(len(held), 1)):
            kinds.discard("held")
        if not np.allclose(value, 1 / kernel):
            kinds.discard("all")
    return "held" if "held" in kinds else ("all" if "all" in kinds else "")


def _window_attributes(slides: list[Slide]) -> dict[str, Any]:
    return {
        "kernel_shape": [s.kernel for s in slides],
        "strides": [s.stride for s in slides],
        "pads": [s.before for s in slides] + [s.after for s in slides],
    }


def _spatial(record: Record, plan: Any) -> list[Any]:
    return list(plan.axes)[3 - (len(record.shape(0)) - 2) :]


@writes(MaxPool)
def max_pool(g: Writer, record: Record) -> str:
    """Write MaxPool, or GlobalMaxPool."""
    if record.params["indices"]:
        raise g.unknown("max pooling with indices")
    axes = _spatial(record, record.params["plan"])
    if all(len(a.ptr) == 2 and len(a.index) == a.size for a in axes):
        return g.add("GlobalMaxPool", [g.value(0)])
    slides = [slide_of(axis, True) for axis in axes]
    if None in slides:
        raise g.unknown("adaptive pooling into uneven windows")
    found = [s for s in slides if s is not None]
    return g.add(
        "MaxPool",
        [g.value(0)],
        dilations=[s.dilation for s in found],
        **_window_attributes(found),
    )


@writes(Resample)
def resample(g: Writer, record: Record) -> str:
    """Write AveragePool, or GlobalAveragePool, or one product per axis."""
    axes = _spatial(record, record.params["plan"])
    x = g.value(0)
    if all(
        len(a.ptr) == 2 and len(a.index) == a.size and np.allclose(a.value, 1 / a.size)
        for a in axes
    ):
        return g.add("GlobalAveragePool", [x])
    slides = [slide_of(axis, False) for axis in axes]
    if None not in slides and len({s.weighs for s in slides if s}) == 1:
        found = [s for s in slides if s is not None]
        include = int(found[0].weighs == "all" and any(s.before for s in found))
        return g.add(
            "AveragePool", [x], count_include_pad=include, **_window_attributes(found)
        )
    rank = len(axes)
    for number, axis in enumerate(axes):
        matrix = np.zeros((axis.size, len(axis.ptr) - 1))
        for o, (index, value) in enumerate(_starts(axis)):
            np.add.at(matrix[:, o], np.array(index, np.int64), value)
        if matrix.shape[0] == matrix.shape[1] and (matrix == np.eye(len(matrix))).all():
            continue
        x = _product(g, x, matrix.astype(str(dtype_at(record))), number + 2, rank + 2)
    return x


def _product(g: Writer, x: str, matrix: Any, dim: int, rank: int) -> str:
    """Write a product with a matrix along one dimension."""
    if dim == rank - 1:
        return g.add("MatMul", [x, g.constant(matrix)])
    if dim == rank - 2:
        return g.add("MatMul", [g.constant(np.ascontiguousarray(matrix.T)), x])
    order = [d for d in range(rank) if d != dim] + [dim]
    turned = g.add("Transpose", [x], perm=order)
    out = g.add("MatMul", [turned, g.constant(matrix)])
    return g.add("Transpose", [out], perm=[order.index(d) for d in range(rank)])


@writes(Standardize)
def standardize(g: Writer, record: Record) -> str:
    """Write BatchNormalization with given statistics."""
    channels, dtype = record.shape(0)[1], dtype_at(record)
    weight = g.value(1) or g.constant(np.ones(channels, str(dtype)))
    bias = g.value(2) or g.constant(np.zeros(channels, str(dtype)))
    return g.add(
        "BatchNormalization",
        [g.value(0), weight, bias, g.value(3), g.value(4)],
        epsilon=float(record.params["eps"]),
    )


@writes(Normalize)
def group_norm(g: Writer, record: Record) -> list[str]:
    """Write InstanceNormalization, of groups as of channels."""
    groups, eps = record.params["groups"], float(record.params["eps"])
    if groups == BATCH:
        raise g.unknown("batch normalisation with the batch's statistics")
    shape, dtype, x = record.shape(0), str(dtype_at(record)), g.value(0)
    channels = shape[1]
    weight = g.value(1) or g.constant(np.ones(channels, dtype))
    bias = g.value(2) or g.constant(np.zeros(channels, dtype))
    if groups == channels and len(shape) > 2:
        y = g.add("InstanceNormalization", [x, weight, bias], epsilon=eps)
        return [y, "", ""]
    flat = g.add("Reshape", [x, g.ints(0, groups, -1)])
    ones, zeros = (
        g.constant(np.ones(groups, dtype)),
        g.constant(np.zeros(groups, dtype)),
    )
    y = g.add("InstanceNormalization", [flat, ones, zeros], epsilon=eps)
    y = g.add("Reshape", [y, g.add("Shape", [x])])
    column = g.ints(-1, *(1,) * (len(shape) - 2))
    y = g.add("Mul", [y, g.add("Reshape", [weight, column])])
    return [g.add("Add", [y, g.add("Reshape", [bias, column])]), "", ""]


@writes(NormalizeRows)
def layer_norm(g: Writer, record: Record) -> str:
    """Write LayerNormalization, or what it is made of."""
    p, dtype, x = record.params, str(dtype_at(record)), g.value(0)
    dims = p["dims"]
    last = record.shape(0)[-dims:]
    weight, bias = g.value(1), g.value(2)
    if p["centred"] and g.opset >= 17:
        scale = weight or g.constant(np.ones(last, dtype))
        return g.add(
            "LayerNormalization", [x, scale, bias], axis=-dims, epsilon=float(p["eps"])
        )
    over = tuple(range(-dims, 0))
    if p["centred"]:
        x = g.add("Sub", [x, g.reduce("ReduceMean", x, over, True)])
    square = g.reduce("ReduceMean", g.add("Mul", [x, x]), over, True)
    spread = g.add("Sqrt", [g.add("Add", [square, g.constant(p["eps"], dtype)])])
    y = g.add("Div", [x, spread])
    y = g.add("Mul", [y, weight]) if weight else y
    return g.add("Add", [y, bias]) if bias else y
