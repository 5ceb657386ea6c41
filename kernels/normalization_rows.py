"""Normalisation of rows: layer normalisation and RMS normalisation, fused.

With m and r the mean and ``1 / sqrt(var + eps)`` of a row, w and b what is learned::

    y  = (x - m) r w + b
    dx = r (g w - mean(g w) - (x - m) r mean(g w (x - m) r))
    dw = sum over rows of g (x - m) r,   db = sum over rows of g

RMS normalisation has m = 0, the mean of the squares for var, and no ``mean(g w)``.

On the CPU a row's sums run over blocks of 1,024 elements, which are put together in
float64, and short rows are summed up in groups (`row_groups`); the sums over rows are
taken by blocks of `ROWS` rows. On CUDA a group of threads shares a row
(`normalization_rows_cuda`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import normalization_rows_cuda
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    on_cuda,
    spread,
)
from nnlib.kernels.row_groups import group_pass, group_size
from nnlib.kernels.row_passes import row_pass
from nnlib.kernels.vectors import clear_bytes

__all__ = ["backward", "forward"]

# Rows of a block.
ROWS = 64
# Elements that one float32 sum takes before a wider one takes over.
RUN = 1024
# Bytes of a row up to which rows are done in groups: of longer ones a group is more
# than is well fetched at a time.
SHORT = 512
# Bytes of the totals of a group of rows, and rows of a group of longer ones.
GROUP_BYTES = group_size(1)
FEW = 4
# How many elements ahead memory is fetched.
AHEAD = 2048
# Elements that each thread has at least.
GRAIN = 40000


def _squares(x: Any, middle: Any) -> tuple[Any, Any]:
    distance = x - middle
    return distance * distance, distance


def _weighted(
    g: Any, x: Any, weight: Any, first: Any, second: Any, middle: Any, scale: Any
) -> tuple[Any, ...]:
    distance, p = x - middle, g * weight
    return first + g * (distance * scale), second + g, p, p * distance


add_values = row_pass(lambda x: (x,), "+", ahead=AHEAD)
add_squares = row_pass(_squares, "++", ahead=0)
group_values = group_pass(lambda x: (x,), "+", ahead=AHEAD)
group_squares = group_pass(_squares, "++", ahead=0)
write_normal = row_pass(
    lambda x, weight, bias, middle, scale: ((x - middle) * scale * weight + bias,),
    "",
    ahead=0,
)
# The sums over rows go on, those along the row are returned.
add_weighted = row_pass(_weighted, "++")
write_gradient = row_pass(
    lambda g, x, weight, middle, scale, slope, shift: (
        scale * (g * weight) - slope * (x - middle) - shift,
    ),
    "",
)


@cpu_loop
def forward_rows(
    begin: Any, end: Any, x: Any, count: Any, group: Any, weight: Any, bias: Any,
    setting: Any, y: Any, means: Any, scales: Any,
) -> None:  # fmt: skip
    """Do the groups of rows from `begin` to `end` - 1."""
    centred, eps = setting
    kind = x.dtype.type
    size = x.itemsize
    pitch = count * size
    share = 1 / np.float64(count)
    rests = np.empty(group, x.dtype)
    for first in range(begin * group, end * group, group):
        last = min(first + group, means.size)
        together = pitch <= SHORT and last - first == group
        base = x.ctypes.data + first * pitch
        mean, scale = (
            means.ctypes.data + first * size,
            scales.ctypes.data + first * size,
        )
        # Sums stand where the means and scales will be.
        if not centred:
            means[first:last] = kind(0)
        elif together:
            group_values(base, pitch, (), count, (mean,), x[0])
        else:
            for r in range(first, last):
                total = np.float64(0)
                for s in range(0, count, RUN):
                    (part,) = add_values(
                        (x.ctypes.data + r * pitch + s * size,), (), (),
                        min(RUN, count - s), x[0],
                    )  # fmt: skip
                    total += np.float64(part)
                means[r] = total
        for r in range(np.uint64(first), np.uint64(last)):
            means[r] = kind(np.float64(means[r]) * share)
        if together:
            group_squares(base, pitch, (mean,), count, (scale, rests.ctypes.data), x[0])
        else:
            for r in range(first, last):
                total, rest = np.float64(0), np.float64(0)
                for s in range(0, count, RUN):
                    squares, distance = add_squares(
                        (x.ctypes.data + r * pitch + s * size,), (means[r],), (),
                        min(RUN, count - s), x[0],
                    )  # fmt: skip
                    total += np.float64(squares)
                    rest += np.float64(distance)
                scales[r], rests[r - first] = total, rest
        for r in range(np.uint64(first), np.uint64(last)):
            # What rounding of a large mean has left over.
            rest = np.float64(rests[r - np.uint64(first)]) * share
            rest = rest if centred else np.float64(0)
            variance = np.float64(scales[r]) * share - rest * rest
            # Of large equal numbers less than 0 may be left; a NaN stays one.
            variance = np.float64(0) if variance < 0 else variance
            means[r] = kind(np.float64(means[r]) + rest)
            scales[r] = kind(1 / math.sqrt(variance + np.float64(eps)))
        for r in range(first, last):
            write_normal(
                (x.ctypes.data + r * pitch, weight.ctypes.data, bias.ctypes.data),
                (means[r], scales[r]), (y.ctypes.data + r * pitch,), count, x[0],
            )  # fmt: skip


@cpu_kernel(shared=True)
def forward_cpu(
    x: Any, rows: Any, count: Any, grain: Any, weight: Any, bias: Any, setting: Any,
    y: Any, means: Any, scales: Any,
) -> None:  # fmt: skip
    # Groups begin at the same rows whatever the threads are.
    group = GROUP_BYTES // x.itemsize if count * x.itemsize <= SHORT else FEW
    spread(
        forward_rows, (rows + group - 1) // group, max(1, grain // group),
        (x, count, group, weight, bias, setting, y, means, scales),
    )  # fmt: skip


@cpu_loop
def backward_blocks(
    begin: Any, end: Any, g: Any, x: Any, rows: Any, count: Any, weight: Any,
    centred: Any, means: Any, scales: Any, dx: Any, parts: Any,
) -> None:  # fmt: skip
    kind = x.dtype.type
    size = x.itemsize
    share = kind(1) / kind(count)
    for block in range(begin, end):
        first = parts[0].ctypes.data + block * count * size
        second = parts[1].ctypes.data + block * count * size
        clear_bytes(first, count * size)
        clear_bytes(second, count * size)
        for r in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            at = r * count * size
            mean = means[r]
            scale = scales[r]
            plain, weighted = add_weighted(
                (g.ctypes.data + at, x.ctypes.data + at, weight.ctypes.data, first,
                 second),
                (mean, scale), (first, second), count, x[0],
            )  # fmt: skip
            shift = plain * share * scale if centred else kind(0)
            slope = weighted * share * scale * scale * scale
            write_gradient(
                (g.ctypes.data + at, x.ctypes.data + at, weight.ctypes.data),
                (mean, scale, slope, shift), (dx.ctypes.data + at,), count, x[0],
            )  # fmt: skip


@body
def join_rows(parts: Any, blocks: Any, count: Any, out: Any) -> None:
    total = np.empty(count, np.float64)
    for j in range(count):
        total[j] = 0
    for k in range(blocks):
        base = np.uint64(k * count)
        for j in range(np.uint64(count)):
            total[j] += np.float64(parts[base + j])
    for j in range(count):
        out[j] = total[j]


@cpu_kernel(shared=True)
def backward_cpu(
    g: Any, x: Any, rows: Any, count: Any, grain: Any, weight: Any, centred: Any,
    means: Any, scales: Any, dx: Any, parts: Any, sums: Any,
) -> None:  # fmt: skip
    blocks = (rows + ROWS - 1) // ROWS
    spread(
        backward_blocks, blocks, grain,
        (g, x, rows, count, weight, centred, means, scales, dx, parts),
    )  # fmt: skip
    for k in range(2):
        join_rows(parts[k], blocks, count, sums[k])


def _check(op: str, x: Any, **arrays: Any) -> None:
    scalar_type(op, x)
    shapes = {"g": x.shape, "out": x.shape, "means": x.shape[:1], "scales": x.shape[:1]}
    for name, array in {"x": x, **arrays}.items():
        shape = x.shape if name == "x" else shapes.get(name, x.shape[1:])
        if (
            x.ndim != 2
            or array.shape != shape
            or array.dtype != x.dtype
            or not array.flags.c_contiguous
        ):
            raise ShapeError(
                f"{op}: {name} is {array.dtype} of shape {array.shape}, expected "
                f"contiguous {x.dtype} of shape {shape if x.ndim == 2 else '(N, C)'}"
            )


def forward(
    x: Any, weight: Any, bias: Any, eps: float, centred: bool = True, out: Any = None
) -> tuple[Any, Any, Any]:
    """Return the normalised rows, and the mean and scale of each.

    Parameters
    ----------
    x : array, shape (N, C), float32 or float64, C-contiguous
    weight, bias : arrays, shape (C,), dtype of `x`
    eps : float
        Added to the variance.
    centred : bool
        False for RMS normalisation.
    out : array like `x`, C-contiguous, optional
        Where to write y; it may be `x` itself.

    Returns
    -------
    y : array, shape (N, C)
    means, scales : arrays, shape (N,)
        m and r of the module's text.

    Examples
    --------
    >>> forward(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), 0.0)[0]
    array([[-1.,  1.]])
    """
    module = array_module(x)
    y = module.empty(x.shape, x.dtype) if out is None else out
    _check("layer_norm", x, weight=weight, bias=bias, out=y)
    rows, count = x.shape
    means, scales = (module.empty(rows, x.dtype) for _ in range(2))
    eps = x.dtype.type(eps)
    if x.size and on_cuda(x):
        normalization_rows_cuda.forward(
            x, weight, bias, int(centred), eps, y, means, scales
        )
    elif x.size:
        forward_cpu(
            x.reshape(-1), rows, count, max(1, GRAIN // count), weight, bias,
            (int(centred), eps), y.reshape(-1), means, scales,
        )  # fmt: skip
    return y, means, scales


def backward(
    g: Any,
    x: Any,
    weight: Any,
    means: Any,
    scales: Any,
    centred: bool = True,
    out: Any = None,
) -> tuple[Any, Any, Any]:
    """Return the gradients by `x`, `weight` and the bias.

    Parameters
    ----------
    g, x : arrays, shape (N, C), float32 or float64, C-contiguous
    weight : array, shape (C,)
    means, scales : arrays, shape (N,)
        From `forward`.
    centred : bool
        As in `forward`.
    out : array like `x`, C-contiguous, optional
        Where to write dx; it may be `g` itself.

    Returns
    -------
    dx : array, shape (N, C)
    dweight, dbias : arrays, shape (C,)

    Examples
    --------
    >>> x = np.array([[1.0, 3.0]])
    >>> y, means, scales = forward(x, np.ones(2), np.zeros(2), 0.0)
    >>> backward(x, x, np.ones(2), means, scales)[0]
    array([[0., 0.]])
    """
    module = array_module(x)
    dx = module.empty(x.shape, x.dtype) if out is None else out
    _check(
        "layer_norm backward", x, g=g, weight=weight, means=means, scales=scales, out=dx
    )
    rows, count = x.shape
    if not x.size:
        sums = module.zeros((2, count), x.dtype)
        return dx, sums[0], sums[1]
    if on_cuda(x):
        sums = module.empty((2, count), x.dtype)
        normalization_rows_cuda.backward(
            g, x, weight, int(centred), means, scales, dx, sums
        )
    else:
        blocks = -(-rows // ROWS)
        sums = module.zeros((2, count), x.dtype)
        first, second = (module.empty(blocks * count, x.dtype) for _ in range(2))
        backward_cpu(
            g.reshape(-1), x.reshape(-1), rows, count, max(1, GRAIN // (ROWS * count)),
            weight, int(centred), means, scales, dx.reshape(-1), (first, second), sums,
        )  # fmt: skip
    return dx, sums[0], sums[1]
