"""Resizing without aliasing: a filter that is as wide as the image shrinks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from nnlib import kernels

__all__ = ["FILTERS", "antialiased"]


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _cubic(x: float) -> float:
    # Keys 1981 with a = -0.5, as PIL has it; the plain bicubic mode has -0.75.
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    a = math.pi * x
    return 3 * math.sin(a) * math.sin(a / 3) / (a * a) if abs(x) < 3 else 0.0


# The filter of each mode, and how far it reaches.
FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


@functools.lru_cache(1024)
def antialiased(
    size: int, out: int, mode: str, align_corners: bool, factor: float | None
) -> Any:
    """Return the table of one axis, for `nnlib.kernels.windows.plan`.

    Output o is the mean of the inputs around ``(o + 1/2) scale - 1/2``, weighted by the
    mode's filter, stretched by `scale` where that is above 1.

    Parameters
    ----------
    size, out : int
        Lengths of input and output.
    mode : {"bilinear", "bicubic", "lanczos"}
    align_corners : bool
        Whether the scale is ``(size - 1) / (out - 1)``.
    factor : float, optional
        Otherwise it is 1 / `factor`; default ``size / out``.

    Examples
    --------
    >>> antialiased(4, 2, "bilinear", False, None).value.round(3)
    array([0.429, 0.429, 0.143, 0.143, 0.429, 0.429])
    """
    axis = kernels.windows.axis_from_rows
    if size == out:
        return axis(size, [[(o, 1.0)] for o in range(out)], 1)
    scale = 1 / factor if factor is not None else size / out
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    weigh, reach = FILTERS[mode]
    stretch = max(scale, 1.0)
    rows = []
    for o in range(out):
        middle = (o + 0.5) * scale
        first = max(int(middle - reach * stretch + 0.5), 0)
        stop = min(int(middle + reach * stretch + 0.5), size)
        weights = [weigh((i - middle + 0.5) / stretch) for i in range(first, stop)]
        total = sum(weights)
        rows.append([(first + n, w / total) for n, w in enumerate(weights) if w])
    return axis(size, rows, 1)
