"""The CPU loops of `nnlib.kernels.normalization`.

Flat arrays are cut into blocks of ``step`` rows, a block into lines of ``wide``
elements: one or more whole pixels. Vectors over channels are repeated to the length of
a line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.machinery import body, cpu_kernel, prange

__all__ = [
    "gradient_sums_cpu",
    "input_gradient_cpu",
    "moments_cpu",
    "normalize_cpu",
]


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
    """Write mean and variance of each channel."""
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
    """Write ``(x - mean) * scale + shift``."""
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
    """Write the sums of ``g`` and of ``g * (x - mean)``."""
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
    """Write ``a * g + k * (x - mean) + c``."""
    batches, rows, channels, blocks = shape
    for job in prange(batches * blocks):
        b = job // blocks
        row = (job - b * blocks) * step
        block_gradient(
            g, x, mean, vectors, y, np.uint64((b * rows + row) * channels),
            min(step, rows - row) * channels, np.uint64(b * channels), channels, wide,
        )  # fmt: skip
