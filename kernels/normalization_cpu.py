"""The CPU loops of `nnlib.kernels.normalization`.

Flat arrays are cut into blocks of ``step`` rows, a block into lines of ``wide``
elements: one or more whole pixels. Vectors over channels are repeated to the length of
a line. What happens along lines is in `nnlib.kernels.line_vectors`.

Lines of many channels are taken a few (``group``) at a time, so that memory is read
nearly in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels.line_vectors import line_map, line_sums
from nnlib.kernels.machinery import body, cpu_kernel, cpu_loop, spread

__all__ = [
    "gradient_sums_cpu",
    "input_gradient_cpu",
    "moments_cpu",
    "normalize_cpu",
]


def _squares(x: Any, middle: Any) -> tuple[Any, Any]:
    distance = x - middle
    return distance * distance, distance


add_values = line_sums(lambda x: (x,))
add_squares = line_sums(_squares)
add_gradients = line_sums(lambda g, x, middle: (g, g * (x - middle)))
write_normal = line_map(
    lambda x, middle, factor, offset: ((x - middle) * factor + offset,)
)
write_gradient = line_map(
    lambda g, x, middle, factor, slope, offset: (
        factor * g + slope * (x - middle) + offset,
    )
)


# Plain and scalar: vectors would take longer to compile than they save.
@body
def fold(line: Any, channels: Any, out: Any, at: Any, factor: Any) -> None:
    """Add the pixels of a line up, times `factor`."""
    count = np.uint64(channels)
    pixels = np.uint64(line.size // channels)
    for c in range(count):
        total = line[c]
        for k in range(np.uint64(1), pixels):
            total += line[k * count + c]
        out[at + c] = total * factor


@body
def tile(values: Any, at: Any, channels: Any, line: Any) -> None:
    """Fill a line with the values of the channels, pixel by pixel."""
    count = np.uint64(channels)
    for k in range(line.size // channels):
        base = np.uint64(k) * count
        for c in range(count):
            line[base + c] = values[at + c]


@body
def clear(line: Any) -> None:
    for j in range(np.uint64(line.size)):
        line[j] = 0


@body
def block_of(job: Any, shape: Any, step: Any) -> Any:
    """Return the set of a block, its first element, and its number of rows."""
    _, rows, channels, blocks = shape
    b = job // blocks
    row = (job - b * blocks) * step
    return b, (b * rows + row) * channels, min(step, rows - row)


@body
def parts_of(size: Any, cut: Any) -> Any:
    """Return into how many parts the lines of a block of `size` elements are cut."""
    _, wide, group = cut
    whole = size // wide
    return (whole + group - 1) // group + (1 if size > whole * wide else 0)


@body
def part_of(k: Any, size: Any, cut: Any) -> Any:
    """Return first element, lines and columns of a part; the last may be cut short."""
    _, wide, group = cut
    whole = size // wide
    first = k * group
    if first < whole:
        return first * wide, min(group, whole - first), wide
    return whole * wide, 1, size - whole * wide


@cpu_loop
def moments_blocks(
    begin: Any, end: Any, x: Any, shape: Any, cut: Any, means: Any, spreads: Any
) -> None:
    """Write mean and sum of squared distances of each channel of blocks."""
    channels = shape[2]
    step, wide, _ = cut
    lines = np.empty((3, wide), x.dtype)
    total, middle, rest = lines
    kind = x.dtype.type
    pitch = wide * x.itemsize
    for job in range(begin, end):
        _, first, count = block_of(job, shape, step)
        start = x.ctypes.data + first * x.itemsize
        size = count * channels
        at = np.uint64(job * channels)
        clear(total)
        for k in range(parts_of(size, cut)):
            offset, height, columns = part_of(k, size, cut)
            add_values(
                (start + offset * x.itemsize,), (), (total.ctypes.data,), pitch,
                height, columns, x[0],
            )  # fmt: skip
        fold(total, channels, means, at, kind(1) / kind(count))
        tile(means, at, channels, middle)
        clear(total)
        clear(rest)
        for k in range(parts_of(size, cut)):
            offset, height, columns = part_of(k, size, cut)
            add_squares(
                (start + offset * x.itemsize,), (middle.ctypes.data,),
                (total.ctypes.data, rest.ctypes.data), pitch, height, columns, x[0],
            )  # fmt: skip
        fold(total, channels, spreads, at, kind(1))
        fold(rest, channels, middle, np.uint64(0), kind(1) / kind(count))
        for c in range(np.uint64(channels)):
            means[at + c] += middle[c]
            spreads[at + c] -= middle[c] * middle[c] * kind(count)


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


@cpu_kernel(shared=True)
def moments_cpu(
    x: Any, shape: Any, cut: Any, grain: Any, means: Any, spreads: Any, mean: Any,
    var: Any,
) -> None:  # fmt: skip
    """Write mean and variance of each channel."""
    spread(moments_blocks, shape[0] * shape[3], grain, (x, shape, cut, means, spreads))
    join_moments(means, spreads, shape, cut[0], mean, var)


@cpu_loop
def normalize_blocks(
    begin: Any, end: Any, x: Any, shape: Any, cut: Any, vectors: Any, y: Any
) -> None:
    mean, scale, shift = vectors
    channels = shape[2]
    step, wide, _ = cut
    lines = np.empty((3, wide), x.dtype)
    middle, factor, offsets = lines
    pitch = wide * x.itemsize
    for job in range(begin, end):
        b, first, count = block_of(job, shape, step)
        at = np.uint64(b * channels)
        tile(mean, at, channels, middle)
        tile(scale, at, channels, factor)
        tile(shift, at, channels, offsets)
        size = count * channels
        for k in range(parts_of(size, cut)):
            offset, height, columns = part_of(k, size, cut)
            i = (first + offset) * x.itemsize
            write_normal(
                (x.ctypes.data + i,),
                (middle.ctypes.data, factor.ctypes.data, offsets.ctypes.data),
                (y.ctypes.data + i,), pitch, height, columns, x[0],
            )  # fmt: skip


@cpu_kernel(shared=True)
def normalize_cpu(
    x: Any, shape: Any, cut: Any, grain: Any, vectors: Any, y: Any
) -> None:
    """Write ``(x - mean) * scale + shift``."""
    spread(normalize_blocks, shape[0] * shape[3], grain, (x, shape, cut, vectors, y))


@cpu_loop
def gradient_blocks(
    begin: Any, end: Any, g: Any, x: Any, shape: Any, cut: Any, mean: Any, parts: Any
) -> None:
    channels = shape[2]
    step, wide, _ = cut
    lines = np.empty((3, wide), x.dtype)
    middle, plain, weighted = lines
    pitch = wide * x.itemsize
    one = x.dtype.type(1)
    for job in range(begin, end):
        b, first, count = block_of(job, shape, step)
        tile(mean, np.uint64(b * channels), channels, middle)
        clear(plain)
        clear(weighted)
        size = count * channels
        for k in range(parts_of(size, cut)):
            offset, height, columns = part_of(k, size, cut)
            i = (first + offset) * x.itemsize
            add_gradients(
                (g.ctypes.data + i, x.ctypes.data + i), (middle.ctypes.data,),
                (plain.ctypes.data, weighted.ctypes.data), pitch, height, columns,
                x[0],
            )  # fmt: skip
        at = np.uint64(job * channels)
        fold(plain, channels, parts[0], at, one)
        fold(weighted, channels, parts[1], at, one)


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


@cpu_kernel(shared=True)
def gradient_sums_cpu(
    g: Any, x: Any, shape: Any, cut: Any, grain: Any, mean: Any, parts: Any,
    plain: Any, weighted: Any,
) -> None:  # fmt: skip
    """Write the sums of ``g`` and of ``g * (x - mean)``."""
    spread(gradient_blocks, shape[0] * shape[3], grain, (g, x, shape, cut, mean, parts))
    join_sums(parts[0], parts[1], shape, plain, weighted)


@cpu_loop
def input_gradient_blocks(
    begin: Any, end: Any, g: Any, x: Any, shape: Any, cut: Any, vectors: Any, y: Any
) -> None:
    mean, a, k, c = vectors
    channels = shape[2]
    step, wide, _ = cut
    lines = np.empty((4, wide), x.dtype)
    middle, factor, slope, offsets = lines
    pitch = wide * x.itemsize
    for job in range(begin, end):
        b, first, count = block_of(job, shape, step)
        at = np.uint64(b * channels)
        tile(mean, at, channels, middle)
        tile(a, at, channels, factor)
        tile(k, at, channels, slope)
        tile(c, at, channels, offsets)
        size = count * channels
        for part in range(parts_of(size, cut)):
            offset, height, columns = part_of(part, size, cut)
            i = (first + offset) * x.itemsize
            write_gradient(
                (g.ctypes.data + i, x.ctypes.data + i),
                (
                    middle.ctypes.data, factor.ctypes.data, slope.ctypes.data,
                    offsets.ctypes.data,
                ),
                (y.ctypes.data + i,), pitch, height, columns, x[0],
            )  # fmt: skip


@cpu_kernel(shared=True)
def input_gradient_cpu(
    g: Any, x: Any, shape: Any, cut: Any, grain: Any, vectors: Any, y: Any
) -> None:
    """Write ``a * g + k * (x - mean) + c``."""
    spread(
        input_gradient_blocks, shape[0] * shape[3], grain,
        (g, x, shape, cut, vectors, y),
    )  # fmt: skip
