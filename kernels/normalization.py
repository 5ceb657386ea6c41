"""Statistics by channel, and the maps that normalise with them, forward and backward.

Batch, group and instance normalisation are all made of four passes over images seen as
(B, R, C): B sets of statistics, R pixels, C channels, contiguous (channels-last). For
batch normalisation B is 1, for the others the number of images; groups of channels are
put together from the channels' statistics, which are few numbers.

======================  ================================================
`moments`               mean and variance of each (b, c)
`normalize`             ``y = (x - mean) * scale + shift``
`gradient_sums`         sums of ``g`` and of ``g * (x - mean)``
`input_gradient`        ``dx = a * g + k * (x - mean) + c``
======================  ================================================

Accuracy: statistics are taken over blocks of `CHUNK` elements that stay in the cache,
in two passes (the mean, then the distances from it, which also correct it: a large mean
does not cancel); blocks are put together in float64 (Chan, Golub and LeVeque 1979).
On CUDA each thread takes the distances from the first value it sees.

Loops run over lines of several pixels where channels are few, so that they vectorise;
blocks are fixed by the shape: results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    on_cuda,
    prange,
)
from nnlib.kernels.normalization_cuda import (
    gradient_sums_cuda,
    input_gradient_cuda,
    join_moments_cuda,
    join_sums_cuda,
    moments_cuda,
    normalize_cuda,
)

__all__ = ["gradient_sums", "input_gradient", "moments", "normalize"]

# Elements of a block: 128 KB of float32, well inside the second-level cache.
CHUNK = 32768
# Elements of a line, at least.
LINE = 512
# Rows that one CUDA thread adds up.
CUDA_ROWS = 64


@body
def fold(line: Any, channels: Any, out: Any, at: Any, factor: Any) -> None:
    """Add the pixels of a line up, times `factor`."""
    count = np.uint64(channels)
    for c in range(count):
        out[at + c] = line[c]
    for k in range(1, line.size // channels):
        base = np.uint64(k) * count
        for c in range(count):
            out[at + c] += line[base + c]
    for c in range(count):
        out[at + c] *= factor


@body
def tile(values: Any, at: Any, channels: Any, line: Any) -> None:
    """Fill a line with the values of the channels, pixel by pixel."""
    count = np.uint64(channels)
    for k in range(line.size // channels):
        base = np.uint64(k) * count
        for c in range(count):
            line[base + c] = values[at + c]


@body(reassociate=True)
def block_moments(
    x: Any, start: Any, size: Any, channels: Any, mean: Any, spread: Any, at: Any,
    line: Any, middle: Any, rest: Any,
) -> None:  # fmt: skip
    """Write mean and sum of squared distances of each channel of a block."""
    wide = np.uint64(line.size)
    kind = x.dtype.type
    whole = size // (4 * line.size)
    for j in range(wide):
        line[j] = 0
    for s in range(whole):
        a = start + np.uint64(4 * s) * wide
        for j in range(wide):
            i = a + j
            line[j] += (x[i] + x[i + wide]) + (
                x[i + wide + wide] + x[i + wide + wide + wide]
            )
    for s in range(4 * whole * line.size, size, line.size):
        a = start + np.uint64(s)
        for j in range(np.uint64(min(line.size, size - s))):
            line[j] += x[a + j]
    fold(line, channels, mean, at, kind(1) / kind(size // channels))
    tile(mean, at, channels, middle)
    for j in range(wide):
        line[j] = 0
        rest[j] = 0
    for s in range(whole):
        a = start + np.uint64(4 * s) * wide
        for j in range(wide):
            i = a + j
            m = middle[j]
            p = x[i] - m
            q = x[i + wide] - m
            r = x[i + wide + wide] - m
            t = x[i + wide + wide + wide] - m
            line[j] += (p * p + q * q) + (r * r + t * t)
            rest[j] += (p + q) + (r + t)
    for s in range(4 * whole * line.size, size, line.size):
        a = start + np.uint64(s)
        for j in range(np.uint64(min(line.size, size - s))):
            p = x[a + j] - middle[j]
            line[j] += p * p
            rest[j] += p
    fold(line, channels, spread, at, kind(1))
    fold(rest, channels, middle, np.uint64(0), kind(1) / kind(size // channels))
    for c in range(np.uint64(channels)):
        mean[at + c] += middle[c]
        spread[at + c] -= middle[c] * middle[c] * kind(size // channels)


@body
def join_moments(
    means: Any, spreads: Any, shape: Any, step: Any, mean: Any, var: Any
) -> None:
    """Put the blocks' statistics together, in float64."""
    batches, rows, channels, blocks = shape
    middle = np.empty(channels, np.float64)
    total = np.empty(channels, np.float64)
    for b in range(batches):
        for c in range(channels):
            middle[c] = 0
            total[c] = 0
        seen = 0
        for k in range(blocks):
            count = min(step, rows - k * step)
            part = np.float64(count) / np.float64(seen + count)
            cross = np.float64(seen) * part
            base = np.uint64((b * blocks + k) * channels)
            for c in range(np.uint64(channels)):
                delta = np.float64(means[base + c]) - middle[c]
                middle[c] += delta * part
                total[c] += np.float64(spreads[base + c]) + delta * delta * cross
            seen += count
        for c in range(np.uint64(channels)):
            mean[np.uint64(b * channels) + c] = middle[c]
            var[np.uint64(b * channels) + c] = total[c] / rows


@cpu_kernel
def moments_cpu(
    x: Any, shape: Any, step: Any, wide: Any, means: Any, spreads: Any, mean: Any,
    var: Any,
) -> None:  # fmt: skip
    batches, rows, channels, blocks = shape
    for job in prange(batches * blocks):
        b = job // blocks
        row = (job - b * blocks) * step
        line = np.empty(wide, x.dtype)
        middle = np.empty(wide, x.dtype)
        rest = np.empty(wide, x.dtype)
        block_moments(
            x, np.uint64((b * rows + row) * channels),
            min(step, rows - row) * channels, channels, means, spreads,
            np.uint64(job * channels), line, middle, rest,
        )  # fmt: skip
    join_moments(means, spreads, shape, step, mean, var)


@body
def block_map(
    x: Any, mean: Any, scale: Any, shift: Any, y: Any, start: Any, size: Any, at: Any,
    channels: Any, wide: Any,
) -> None:  # fmt: skip
    middle = np.empty(wide, x.dtype)
    factor = np.empty(wide, x.dtype)
    offset = np.empty(wide, x.dtype)
    tile(mean, at, channels, middle)
    tile(scale, at, channels, factor)
    tile(shift, at, channels, offset)
    for s in range(0, size, wide):
        a = start + np.uint64(s)
        for j in range(np.uint64(min(wide, size - s))):
            y[a + j] = (x[a + j] - middle[j]) * factor[j] + offset[j]


@cpu_kernel
def normalize_cpu(
    x: Any, shape: Any, step: Any, wide: Any, mean: Any, scale: Any, shift: Any, y: Any
) -> None:
    batches, rows, channels, blocks = shape
    for job in prange(batches * blocks):
        b = job // blocks
        row = (job - b * blocks) * step
        block_map(
            x, mean, scale, shift, y, np.uint64((b * rows + row) * channels),
            min(step, rows - row) * channels, np.uint64(b * channels), channels, wide,
        )  # fmt: skip


@body(reassociate=True)
def block_sums(
    g: Any, x: Any, mean: Any, start: Any, size: Any, at: Any, channels: Any,
    first: Any, second: Any, to: Any, wide: Any,
) -> None:  # fmt: skip
    middle = np.empty(wide, x.dtype)
    plain = np.empty(wide, x.dtype)
    weighted = np.empty(wide, x.dtype)
    tile(mean, at, channels, middle)
    length = np.uint64(wide)
    for j in range(length):
        plain[j] = 0
        weighted[j] = 0
    whole = size // (2 * wide)
    for s in range(whole):
        a = start + np.uint64(2 * s) * length
        for j in range(length):
            i = a + j
            m = middle[j]
            p = g[i]
            q = g[i + length]
            plain[j] += p + q
            weighted[j] += p * (x[i] - m) + q * (x[i + length] - m)
    for s in range(2 * whole * wide, size, wide):
        a = start + np.uint64(s)
        for j in range(np.uint64(min(wide, size - s))):
            plain[j] += g[a + j]
            weighted[j] += g[a + j] * (x[a + j] - middle[j])
    one = x.dtype.type(1)
    fold(plain, channels, first, to, one)
    fold(weighted, channels, second, to, one)


@body
def join_sums(first: Any, second: Any, shape: Any, plain: Any, weighted: Any) -> None:
    batches, _, channels, blocks = shape
    a = np.empty(channels, np.float64)
    d = np.empty(channels, np.float64)
    for b in range(batches):
        for c in range(channels):
            a[c] = 0
            d[c] = 0
        for k in range(blocks):
            base = np.uint64((b * blocks + k) * channels)
            for c in range(np.uint64(channels)):
                a[c] += np.float64(first[base + c])
                d[c] += np.float64(second[base + c])
        for c in range(np.uint64(channels)):
            plain[np.uint64(b * channels) + c] = a[c]
            weighted[np.uint64(b * channels) + c] = d[c]


@cpu_kernel
def gradient_sums_cpu(
    g: Any, x: Any, shape: Any, step: Any, wide: Any, mean: Any, first: Any,
    second: Any, plain: Any, weighted: Any,
) -> None:  # fmt: skip
    batches, rows, channels, blocks = shape
    for job in prange(batches * blocks):
        b = job // blocks
        row = (job - b * blocks) * step
        block_sums(
            g, x, mean, np.uint64((b * rows + row) * channels),
            min(step, rows - row) * channels, np.uint64(b * channels), channels,
            first, second, np.uint64(job * channels), wide,
        )  # fmt: skip
    join_sums(first, second, shape, plain, weighted)


@body
def block_gradient(
    g: Any, x: Any, mean: Any, vectors: Any, y: Any, start: Any, size: Any, at: Any,
    channels: Any, wide: Any,
) -> None:  # fmt: skip
    a, k, c = vectors
    middle = np.empty(wide, x.dtype)
    factor = np.empty(wide, x.dtype)
    slope = np.empty(wide, x.dtype)
    offset = np.empty(wide, x.dtype)
    tile(mean, at, channels, middle)
    tile(a, at, channels, factor)
    tile(k, at, channels, slope)
    tile(c, at, channels, offset)
    for s in range(0, size, wide):
        i = start + np.uint64(s)
        for j in range(np.uint64(min(wide, size - s))):
            y[i + j] = (
                factor[j] * g[i + j] + slope[j] * (x[i + j] - middle[j]) + offset[j]
            )


@cpu_kernel
def input_gradient_cpu(
    g: Any, x: Any, shape: Any, step: Any, wide: Any, mean: Any, vectors: Any, y: Any
) -> None:
    batches, rows, channels, blocks = shape
    for job in prange(batches * blocks):
        b = job // blocks
        row = (job - b * blocks) * step
        block_gradient(
            g, x, mean, vectors, y, np.uint64((b * rows + row) * channels),
            min(step, rows - row) * channels, np.uint64(b * channels), channels, wide,
        )  # fmt: skip


def _cut(x: Any) -> tuple[tuple[int, int, int, int], int, int]:
    """Return (B, R, C, blocks), the rows of a block, and the elements of a line."""
    batches, rows, channels = x.shape
    step = max(1, CUDA_ROWS if on_cuda(x) else CHUNK // channels)
    wide = max(1, LINE // channels) * channels
    return (batches, rows, channels, -(-rows // step)), step, wide


def _check(op: str, x: Any, **vectors: Any) -> None:
    scalar_type(op, x)
    if x.ndim != 3 or not x.flags.c_contiguous:
        raise ShapeError(f"{op}: x: expected contiguous (B, R, C), got {x.shape}")
    for name, vector in vectors.items():
        shape = x.shape if name in ("g", "out") else (x.shape[0], x.shape[2])
        if (
            vector.shape != shape
            or vector.dtype != x.dtype
            or not vector.flags.c_contiguous
        ):
            raise ShapeError(
                f"{op}: {name} is {vector.dtype} of shape {vector.shape}, expected "
                f"contiguous {x.dtype} of shape {shape}"
            )


def moments(x: Any) -> tuple[Any, Any]:
    """Return mean and (biased) variance of each channel.

    Parameters
    ----------
    x : array, shape (B, R, C), float32 or float64, C-contiguous, R and C above 0

    Returns
    -------
    mean, var : arrays, shape (B, C), dtype of `x`

    Examples
    --------
    >>> moments(np.array([[[1.0], [3.0]]]))
    (array([[2.]]), array([[1.]]))
    """
    _check("moments", x)
    module = array_module(x)
    shape, step, wide = _cut(x)
    mean, var = (module.empty((shape[0], shape[2]), x.dtype) for _ in range(2))
    parts = shape[0] * shape[3] * shape[2]
    means, spreads = (module.empty(parts, x.dtype) for _ in range(2))
    if on_cuda(x):
        moments_cuda(x, step, shape[3], means, spreads, items=parts)
        join_moments_cuda(
            means, spreads, shape[1], shape[3], step, mean, var, items=mean.size
        )
    else:
        moments_cpu(
            x.reshape(-1), shape, step, wide, means, spreads, mean.reshape(-1),
            var.reshape(-1),
        )  # fmt: skip
    return mean, var


def normalize(x: Any, mean: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    """Return ``(x - mean) * scale + shift`` by channel.

    Parameters
    ----------
    x : array, shape (B, R, C), float32 or float64, C-contiguous
    mean, scale, shift : arrays, shape (B, C), dtype of `x`, C-contiguous
    out : array like `x`, optional

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> normalize(np.array([[[1.0], [3.0]]]), one, 2 * one, one)[0, :, 0]
    array([1., 5.])
    """
    if out is None:
        out = array_module(x).empty(x.shape, x.dtype)
    _check("normalize", x, mean=mean, scale=scale, shift=shift, out=out)
    if x.size and on_cuda(x):
        normalize_cuda(x, mean, scale, shift, out, items=x.size)
    elif x.size:
        normalize_cpu(
            x.reshape(-1), *_cut(x), mean.reshape(-1), scale.reshape(-1),
            shift.reshape(-1), out.reshape(-1),
        )  # fmt: skip
    return out


def gradient_sums(g: Any, x: Any, mean: Any) -> tuple[Any, Any]:
    """Return the sums of ``g`` and of ``g * (x - mean)`` by channel.

    Parameters
    ----------
    g, x : arrays, shape (B, R, C), float32 or float64, C-contiguous, R and C above 0
    mean : array, shape (B, C), dtype of `x`

    Returns
    -------
    plain, weighted : arrays, shape (B, C)

    Examples
    --------
    >>> x = np.array([[[1.0], [3.0]]])
    >>> gradient_sums(x, x, np.ones((1, 1)))
    (array([[4.]]), array([[6.]]))
    """
    _check("gradient_sums", x, g=g, mean=mean)
    module = array_module(x)
    shape, step, wide = _cut(x)
    plain, weighted = (module.empty((shape[0], shape[2]), x.dtype) for _ in range(2))
    parts = shape[0] * shape[3] * shape[2]
    first, second = (module.empty(parts, x.dtype) for _ in range(2))
    if on_cuda(x):
        gradient_sums_cuda(g, x, mean, step, shape[3], first, second, items=parts)
        join_sums_cuda(first, second, shape[3], plain, weighted, items=plain.size)
    else:
        gradient_sums_cpu(
            g.reshape(-1), x.reshape(-1), shape, step, wide, mean.reshape(-1), first,
            second, plain.reshape(-1), weighted.reshape(-1),
        )  # fmt: skip
    return plain, weighted


def input_gradient(
    g: Any, x: Any, mean: Any, a: Any, k: Any, c: Any, out: Any = None
) -> Any:
    """Return ``a * g + k * (x - mean) + c`` by channel.

    Parameters
    ----------
    g, x : arrays, shape (B, R, C), float32 or float64, C-contiguous
    mean, a, k, c : arrays, shape (B, C), dtype of `x`, C-contiguous
    out : array like `x`, optional

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> x = np.array([[[1.0], [3.0]]])
    >>> input_gradient(x, x, one, one, one, one)[0, :, 0]
    array([2., 6.])
    """
    if out is None:
        out = array_module(x).empty(x.shape, x.dtype)
    _check("input_gradient", x, g=g, mean=mean, a=a, k=k, c=c, out=out)
    if x.size and on_cuda(x):
        input_gradient_cuda(g, x, mean, a, k, c, out, items=x.size)
    elif x.size:
        vectors = (a.reshape(-1), k.reshape(-1), c.reshape(-1))
        input_gradient_cpu(
            g.reshape(-1), x.reshape(-1), *_cut(x), mean.reshape(-1), vectors,
            out.reshape(-1),
        )  # fmt: skip
    return out
