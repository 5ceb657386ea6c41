"""Convolutions, transposed ones, and columns to images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.onnx.errors import OnnxError
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import like_array, shape_of, sizes
from nnlib.onnx.windows import Windows
from nnlib.ops.convolution import Convolution, InputGradient
from nnlib.ops.convolution_arguments import Geometry

Run = Callable[..., Any]
Sizes = tuple[int, ...]


def _check(node: Node, x: Sizes, w: Sizes, channels: int) -> None:
    if not 3 <= len(x) <= 5 or len(w) != len(x):
        raise node.fail(
            f"expected an input of 3 to 5 dimensions and as many of the weight, got "
            f"shapes {x} and {w}"
        )
    if x[1] != channels:
        raise node.fail(f"the input has {x[1]} channels, the weight expects {channels}")


@operator("Conv", 1, 11, 22)
def conv(node: Node) -> Run:
    """Build Conv."""
    windows = Windows.read(node, kernel=False)
    groups = node.int("group", 1)
    known: dict[tuple[Sizes, Sizes], Geometry] = {}

    def run(x: Any, weight: Any, bias: Any = None) -> Any:
        key = x._array.shape, weight._array.shape
        geometry = known.get(key)
        if geometry is None:
            geometry = known[key] = read(*key)
        return Convolution.apply(x, weight, bias, geometry=geometry)

    def read(x: Sizes, w: Sizes) -> Geometry:
        _check(node, x, w, w[1] * groups)
        if groups < 1 or w[0] % groups:
            raise node.fail(f"group {groups} does not divide {w[0]} output channels")
        if windows.kernel is not None and windows.kernel != w[2:]:
            raise node.fail(f"kernel_shape {windows.kernel}, but the weight is {w}")
        found = windows.over(x[2:], w[2:])
        size, out, kernel, stride, before, _, dilation = zip(*found, strict=True)
        return Geometry(size, out, kernel, stride, before, dilation, groups)

    return run


@operator("ConvTranspose", 1, 11, 22)
def conv_transpose(node: Node) -> Run:
    """Build ConvTranspose."""
    windows = Windows.read(node, kernel=False)
    groups = node.int("group", 1)
    more = node.ints("output_padding", None)
    wanted = node.ints("output_shape", None)

    def run(x: Any, weight: Any, bias: Any = None) -> Any:
        shape, w = shape_of(x), shape_of(weight)
        _check(node, shape, w, w[0])
        if groups < 1 or w[0] % groups:
            raise node.fail(f"group {groups} does not divide {w[0]} input channels")
        rank = len(shape) - 2
        stride = windows.strides or (1,) * rank
        dilation = windows.dilations or (1,) * rank
        extra = more or (0,) * rank
        ends = _ends(windows, shape[2:], w[2:], stride, dilation, extra, wanted)
        size, before = zip(*ends, strict=True)
        geometry = Geometry(size, shape[2:], w[2:], stride, before, dilation, groups)
        return InputGradient.apply(x, weight, bias, geometry=geometry)

    return run


def _ends(
    windows: Windows,
    size: Sizes,
    kernel: Sizes,
    stride: Sizes,
    dilation: Sizes,
    extra: Sizes,
    wanted: Sizes | None,
) -> list[tuple[int, int]]:
    """Return the size of the result and what is cut off before it, per dimension."""
    rank = len(size)
    pads = windows.pads or (0,) * (2 * rank)
    found = []
    for d in range(rank):
        full = (size[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 + extra[d]
        out: int | None = None
        if wanted is not None:
            out = wanted[len(wanted) - rank + d]
        elif windows.auto[:4] == "SAME":
            out = size[d] * stride[d]
        if out is None:
            before = 0 if windows.auto == "VALID" else pads[d]
            after = 0 if windows.auto == "VALID" else pads[rank + d]
            out = full - before - after
        else:
            total = max(full - out, 0)
            small = total // 2
            before = total - small if windows.auto == "SAME_LOWER" else small
            if wanted is not None and windows.auto == "NOTSET":
                before = small
        if out < 1:
            raise OnnxError(f"the result would have {out} elements in a dimension")
        found.append((out, before))
    return found


@operator("Col2Im", 18, host=(1, 2))
def col2im(node: Node) -> Run:
    """Build Col2Im: a transposed convolution whose filters have a single one each."""
    windows = Windows.read(node, kernel=False)

    def run(x: Any, image: Any, block: Any) -> Any:
        size, kernel = sizes(image), sizes(block)
        taps = math.prod(kernel)
        found = windows.over(size, kernel)
        _, out, _, stride, before, _, dilation = zip(*found, strict=True)
        n, rows, columns = shape_of(x)
        if rows % taps or columns != math.prod(out):
            raise node.fail(f"shape {(n, rows, columns)} does not fit blocks {kernel}")
        filters = np.tile(np.eye(taps), (rows // taps, 1))
        filters = filters.reshape(rows, 1, *kernel).astype(str(x.dtype))
        groups = rows // taps
        geometry = Geometry(size, out, kernel, stride, before, dilation, groups)
        columns_of = x.reshape(n, rows, *out)
        return InputGradient.apply(
            columns_of, like_array(filters, x), None, geometry=geometry
        )

    return run
