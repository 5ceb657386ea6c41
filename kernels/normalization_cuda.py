"""The CUDA loops of `nnlib.kernels.normalization`.

Neighbouring threads take neighbouring channels. A thread adds up the rows of one block
of one channel; a second kernel puts the blocks together in their order, so that equal
input gives equal bits.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels.machinery import cuda, cuda_kernel

__all__ = [
    "gradient_sums_cuda",
    "input_gradient_cuda",
    "join_moments_cuda",
    "join_sums_cuda",
    "moments_cuda",
    "normalize_cuda",
]


@cuda_kernel
def moments_cuda(x: Any, step: Any, blocks: Any, means: Any, spreads: Any) -> None:
    """Write mean and sum of squared distances of each block of rows."""
    _, rows, channels = x.shape
    kind = x.dtype.type
    for item in range(cuda.grid(1), means.size, cuda.gridsize(1)):
        job = item // channels
        c = item - job * channels
        b = job // blocks
        low = (job - b * blocks) * step
        high = min(low + step, rows)
        # Distances from a value of the block: a large mean does not cancel.
        first = x[b, low, c]
        total = kind(0)
        squares = kind(0)
        for r in range(low, high):
            d = x[b, r, c] - first
            total += d
            squares += d * d
        count = kind(high - low)
        means[item] = first + total / count
        spreads[item] = max(squares - total * (total / count), kind(0))


@cuda_kernel
def join_moments_cuda(
    means: Any, spreads: Any, rows: Any, blocks: Any, step: Any, mean: Any, var: Any
) -> None:
    """Put the blocks' statistics together."""
    channels = mean.shape[1]
    kind = means.dtype.type
    for item in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        b = item // channels
        c = item - b * channels
        middle = kind(0)
        total = kind(0)
        seen = 0
        for k in range(blocks):
            count = min(step, rows - k * step)
            part = kind(count) / kind(seen + count)
            delta = means[(b * blocks + k) * channels + c] - middle
            middle += delta * part
            spread = spreads[(b * blocks + k) * channels + c]
            total += spread + delta * delta * kind(seen) * part
            seen += count
        mean[b, c] = middle
        var[b, c] = total / kind(rows)


@cuda_kernel
def normalize_cuda(x: Any, mean: Any, scale: Any, shift: Any, y: Any) -> None:
    """Write ``(x - mean) * scale + shift``."""
    _, rows, channels = x.shape
    for item in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        row = item // channels
        c = item - row * channels
        b = row // rows
        r = row - b * rows
        y[b, r, c] = (x[b, r, c] - mean[b, c]) * scale[b, c] + shift[b, c]


@cuda_kernel
def gradient_sums_cuda(
    g: Any, x: Any, mean: Any, step: Any, blocks: Any, first: Any, second: Any
) -> None:
    """Write the sums of each block of rows."""
    _, rows, channels = x.shape
    kind = x.dtype.type
    for item in range(cuda.grid(1), first.size, cuda.gridsize(1)):
        job = item // channels
        c = item - job * channels
        b = job // blocks
        low = (job - b * blocks) * step
        plain = kind(0)
        weighted = kind(0)
        for r in range(low, min(low + step, rows)):
            plain += g[b, r, c]
            weighted += g[b, r, c] * (x[b, r, c] - mean[b, c])
        first[item] = plain
        second[item] = weighted


@cuda_kernel
def join_sums_cuda(
    first: Any, second: Any, blocks: Any, plain: Any, weighted: Any
) -> None:
    """Add the blocks' sums up."""
    channels = plain.shape[1]
    kind = first.dtype.type
    for item in range(cuda.grid(1), plain.size, cuda.gridsize(1)):
        b = item // channels
        c = item - b * channels
        a = kind(0)
        d = kind(0)
        for k in range(blocks):
            a += first[(b * blocks + k) * channels + c]
            d += second[(b * blocks + k) * channels + c]
        plain[b, c] = a
        weighted[b, c] = d


@cuda_kernel
def input_gradient_cuda(
    g: Any, x: Any, mean: Any, a: Any, k: Any, c: Any, y: Any
) -> None:
    """Write ``a * g + k * (x - mean) + c``."""
    _, rows, channels = x.shape
    for item in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        row = item // channels
        n = item - row * channels
        b = row // rows
        r = row - b * rows
        slope = k[b, n] * (x[b, r, n] - mean[b, n])
        y[b, r, n] = a[b, n] * g[b, r, n] + slope + c[b, n]
