"""Export of images as columns and back, by Gather: no rounding; of grid_sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import writes
from nnlib.onnx.writing import Writer
from nnlib.ops.grid import GridSample
from nnlib.ops.unfolding import Fold, Unfold


def _fixed(g: Writer, record: Record) -> tuple[int, ...]:
    """Return the argument's shape; all of it but the batch has to be fixed."""
    shape = record.shape(0)
    if shape[1:] != g.twin.shape(0)[1:]:
        raise g.depends()
    return shape


def _reads(layout: Any, axis: int) -> Any:
    """Return the place that each tap of each window reads, (taps, windows)."""
    taps = np.arange(layout.kernel[axis])[:, None] * layout.dilation[axis]
    return taps + np.arange(layout.windows[axis]) * layout.stride[axis]


@writes(Unfold)
def unfold(g: Writer, record: Record) -> str:
    """Write Pad and two Gathers: one for the lines, one for the columns."""
    layout = record.params["layout"]
    _, channels, *_ = _fixed(g, record)
    x = g.value(0)
    if any(layout.padding):
        widths = (0, 0, *layout.padding)
        x = g.add("Pad", [x, g.ints(*widths, *widths)])
    # (N, C, H, W) -> (N, C, kh, oh, W) -> (N, C, kh, oh, kw, ow)
    x = g.add("Gather", [x, g.constant(_reads(layout, 0), np.int64)], axis=2)
    x = g.add("Gather", [x, g.constant(_reads(layout, 1), np.int64)], axis=4)
    x = g.add("Transpose", [x], perm=[0, 1, 2, 4, 3, 5])
    rows = channels * int(np.prod(layout.kernel))
    return g.add("Reshape", [x, g.ints(0, rows, int(np.prod(layout.windows)))])


@writes(Fold)
def fold(g: Writer, record: Record) -> str:
    """Write, for each axis, a Gather of what its places get, and a sum over the taps.

    A place gets at most one window's element from each tap; where there is none, the
    zero that was appended to the windows.
    """
    layout = record.params["layout"]
    rows = _fixed(g, record)[1]
    (kh, kw), (oh, ow) = layout.kernel, layout.windows
    channels = rows // (kh * kw)
    x = g.add("Reshape", [g.value(0), g.ints(0, channels, kh, kw, oh, ow)])
    x = g.add("Transpose", [x], perm=[0, 1, 2, 4, 3, 5])
    x = g.add("Pad", [x, g.ints(*[0] * 9, 1, 0, 1)])
    flat = kh * (oh + 1), kw * (ow + 1)
    x = g.add("Reshape", [x, g.ints(0, channels, *flat)])
    # (N, C, kh * (oh + 1), ...) -> (N, C, kh, H, ...) -> (N, C, H, ...)
    x = g.add("Gather", [x, g.constant(_gets(layout, 0), np.int64)], axis=2)
    x = g.reduce("ReduceSum", x, (2,), False)
    x = g.add("Gather", [x, g.constant(_gets(layout, 1), np.int64)], axis=3)
    return g.reduce("ReduceSum", x, (3,), False)


def _gets(layout: Any, axis: int) -> Any:
    """Return where the element of each tap for each place lies, (taps, size)."""
    taps, windows = layout.kernel[axis], layout.windows[axis]
    size, border = layout.size[axis], layout.padding[axis]
    found = np.full((taps, size), windows)
    for tap, reads in enumerate(_reads(layout, axis) - border):
        inside = (reads >= 0) & (reads < size)
        found[tap, reads[inside]] = np.flatnonzero(inside)
    return found + np.arange(taps)[:, None] * (windows + 1)


@writes(GridSample)
def grid_sample(g: Writer, record: Record) -> str:
    """Write GridSample, of images from opset 16 and of volumes from opset 20."""
    volumes = len(record.shape(0)) == 5
    least = 20 if volumes else 16
    if g.opset < least:
        raise g.unknown(f"grid_sample before opset {least}")
    mode = record.params["mode"]
    if g.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return g.add(
        "GridSample",
        [g.value(0), g.value(1)],
        mode=mode,
        padding_mode=record.params["padding"],
        align_corners=int(record.params["align"]),
    )
