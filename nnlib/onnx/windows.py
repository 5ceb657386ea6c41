"""Where the windows of convolutions and pools lie: padding, strides, sizes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from nnlib import kernels
from nnlib.onnx.errors import OnnxError
from nnlib.onnx.node import Node

__all__ = ["Windows", "counted", "summed"]

Sizes = tuple[int, ...]
_AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


class Windows(NamedTuple):
    """The attributes that sliding windows have in common."""

    kernel: Sizes | None
    strides: Sizes | None
    dilations: Sizes | None
    pads: Sizes | None
    auto: str
    ceil: bool

    @staticmethod
    def read(node: Node, kernel: bool = True) -> Windows:
        """Read them from a node; `kernel`: the size of the window must be given."""
        size = node.ints("kernel_shape") if kernel else node.ints("kernel_shape", None)
        pads = node.ints("pads", None)
        if pads is not None and min(pads, default=0) < 0:
            raise node.fail(f"attribute pads: expected at least 0, got {pads}")
        for name in ("strides", "dilations", "kernel_shape"):
            values = node.ints(name, None) if node.given(name) else None
            if values is not None and min(values, default=1) < 1:
                raise node.fail(f"attribute {name}: expected at least 1, got {values}")
        return Windows(
            size,
            node.ints("strides", None),
            node.ints("dilations", None) if node.given("dilations") else None,
            pads,
            node.string("auto_pad", "NOTSET", _AUTO),
            bool(node.int("ceil_mode", 0)),
        )

    def over(self, size: Sizes, kernel: Sizes | None = None) -> list[Sizes]:
        """Return (size, out, kernel, stride, before, after, dilation) per dimension.

        Raises
        ------
        OnnxError
            If the window is larger than the padded input.
        """
        rank = len(size)
        kernel = kernel or self.kernel or ()
        strides = self.strides or (1,) * rank
        dilations = self.dilations or (1,) * rank
        pads = self.pads or (0,) * (2 * rank)
        found = []
        for values in (kernel, strides, dilations):
            if len(values) != rank:
                raise OnnxError(
                    f"expected {rank} sizes for an input with {rank} spatial "
                    f"dimensions, got {values}"
                )
        if len(pads) != 2 * rank:
            raise OnnxError(f"pads: expected {2 * rank} values, got {pads}")
        for n, k, s, d, before, after in zip(
            size, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
        ):
            found.append(self._along(n, k, s, d, before, after))
        return found

    def _along(self, n: int, k: int, s: int, d: int, before: int, after: int) -> Sizes:
        span = d * (k - 1) + 1
        if self.auto[:4] == "SAME":
            out = -(-n // s)
            total = max((out - 1) * s + span - n, 0)
            before = total // 2 if self.auto == "SAME_UPPER" else total - total // 2
            return n, out, k, s, before, total - before, d
        if self.auto == "VALID":
            before = after = 0
        free = n + before + after - span
        if free < 0:
            raise OnnxError(
                f"the window spans {span} elements, the padded input has "
                f"{n + before + after}"
            )
        out = free // s + 1
        if self.ceil:
            out = -(-free // s) + 1
            if (out - 1) * s >= n + before:
                out -= 1
        return n, out, k, s, before, after, d


def _rows(
    size: int, out: int, kernel: int, stride: int, before: int, dilation: int
) -> list[list[int]]:
    return [
        [o * stride - before + t * dilation for t in range(kernel)] for o in range(out)
    ]


@lru_cache(256)
def counted(
    size: int,
    out: int,
    kernel: int,
    stride: int,
    before: int,
    after: int,
    dilation: int,
    include_pad: bool,
) -> Any:
    """Return the table (see `nnlib.kernels.windows`) of the means over windows."""
    rows = []
    for places in _rows(size, out, kernel, stride, before, dilation):
        held = [i for i in places if 0 <= i < size]
        count = sum(i < size + after for i in places) if include_pad else len(held)
        rows.append([(i, 1.0 / count) for i in held])
    return kernels.windows.axis_from_rows(size, rows, kernel)


@lru_cache(256)
def summed(
    size: int,
    out: int,
    kernel: int,
    stride: int,
    before: int,
    after: int,
    dilation: int,
) -> Any:
    """Return the table of the sums over windows."""
    rows = [
        [(i, 1.0) for i in places if 0 <= i < size]
        for places in _rows(size, out, kernel, stride, before, dilation)
    ]
    return kernels.windows.axis_from_rows(size, rows, kernel)
