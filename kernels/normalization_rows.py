"""Normalisation of rows: layer normalisation and RMS normalisation, fused.

With m and r the mean and ``1 / sqrt(var + eps)`` of a row, w and b what is learned::

    y  = (x - m) r w + b
    dx = r (g w - mean(g w) - (x - m) r mean(g w (x - m) r))
    dw = sum over rows of g (x - m) r,   db = sum over rows of g

RMS normalisation has m = 0, the mean of the squares for var, and no ``mean(g w)``.

On the CPU a row's sums run over blocks of 1,024 elements, which are put together in
float64; the sums over rows are taken by blocks of `ROWS` rows. On CUDA a block of
threads shares a row, a tree adds up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cuda,
    cuda_kernel,
    on_cuda,
    prange,
)

__all__ = ["backward", "forward"]

# Rows of a block.
ROWS = 64
# Elements that one float32 sum takes before a wider one takes over.
RUN = 1024
# Threads of a CUDA block; a power of two, for the tree.
THREADS = 128


@body(reassociate=True)
def run_sum(x: Any, low: Any, high: Any) -> Any:
    total = x.dtype.type(0)
    for j in range(low, high):
        total += x[j]
    return total


@body(reassociate=True)
def run_squares(x: Any, low: Any, high: Any, middle: Any) -> Any:
    total = x.dtype.type(0)
    rest = x.dtype.type(0)
    for j in range(low, high):
        d = x[j] - middle
        total += d * d
        rest += d
    return total, rest


@body
def forward_row(
    x: Any, a: Any, count: Any, weight: Any, bias: Any, setting: Any, y: Any
) -> Any:
    """Write a row that starts at `a`; return m and r."""
    centred, eps = setting
    kind = x.dtype.type
    total = np.float64(0)
    if centred:
        for s in range(0, count, RUN):
            low = a + np.uint64(s)
            total += np.float64(run_sum(x, low, low + np.uint64(min(RUN, count - s))))
    mean = kind(total / count)
    total = np.float64(0)
    rest = np.float64(0)
    for s in range(0, count, RUN):
        low = a + np.uint64(s)
        high = low + np.uint64(min(RUN, count - s))
        squares, distance = run_squares(x, low, high, mean)
        total += np.float64(squares)
        rest += np.float64(distance)
    if centred:
        # What rounding of a large mean has left over.
        mean = kind(mean + rest / count)
        total -= rest * rest / count
    scale = kind(1 / math.sqrt(total / count + np.float64(eps)))
    for j in range(np.uint64(count)):
        y[a + j] = (x[a + j] - mean) * scale * weight[j] + bias[j]
    return mean, scale


@cpu_kernel
def forward_cpu(
    x: Any, rows: Any, count: Any, weight: Any, bias: Any, setting: Any, y: Any,
    means: Any, scales: Any,
) -> None:  # fmt: skip
    step = max(1, 8192 // count)
    for k in prange((rows + step - 1) // step):
        for r in range(k * step, min(rows, (k + 1) * step)):
            mean, scale = forward_row(
                x, np.uint64(r * count), count, weight, bias, setting, y
            )
            means[r] = mean
            scales[r] = scale


@body(reassociate=True)
def backward_sums(
    g: Any, x: Any, a: Any, count: Any, weight: Any, mean: Any, first: Any,
    second: Any, at: Any, scale: Any,
) -> Any:  # fmt: skip
    """Return sums of ``g w`` and ``g w (x - m)``; add to those over rows."""
    kind = x.dtype.type
    plain = kind(0)
    weighted = kind(0)
    for j in range(np.uint64(count)):
        d = x[a + j] - mean
        p = g[a + j]
        first[at + j] += p * (d * scale)
        second[at + j] += p
    for j in range(np.uint64(count)):
        p = g[a + j] * weight[j]
        plain += p
        weighted += p * (x[a + j] - mean)
    return plain, weighted


@body
def backward_block(
    g: Any, x: Any, block: Any, rows: Any, count: Any, weight: Any, centred: Any,
    means: Any, scales: Any, dx: Any, first: Any, second: Any,
) -> None:  # fmt: skip
    kind = x.dtype.type
    at = np.uint64(block * count)
    share = kind(1) / kind(count)
    for j in range(np.uint64(count)):
        first[at + j] = 0
        second[at + j] = 0
    for r in range(block * ROWS, min(rows, (block + 1) * ROWS)):
        a = np.uint64(r * count)
        mean = means[r]
        scale = scales[r]
        plain, weighted = backward_sums(
            g, x, a, count, weight, mean, first, second, at, scale
        )
        shift = plain * share * scale if centred else kind(0)
        slope = weighted * share * scale * scale * scale
        for j in range(np.uint64(count)):
            d = x[a + j] - mean
            dx[a + j] = scale * (g[a + j] * weight[j]) - slope * d - shift


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


@cpu_kernel
def backward_cpu(
    g: Any, x: Any, rows: Any, count: Any, weight: Any, centred: Any, means: Any,
    scales: Any, dx: Any, parts: Any, sums: Any,
) -> None:  # fmt: skip
    first, second = parts
    blocks = (rows + ROWS - 1) // ROWS
    for block in prange(blocks):
        backward_block(
            g, x, block, rows, count, weight, centred, means, scales, dx, first, second
        )
    join_rows(first, blocks, count, sums[0])
    join_rows(second, blocks, count, sums[1])


@body
def add_threads(shared: Any, value: Any) -> Any:
    """Return the sum of `value` over the threads of a CUDA block."""
    thread = cuda.threadIdx.x
    cuda.syncthreads()
    shared[thread] = value
    step = THREADS // 2
    while step > 0:
        cuda.syncthreads()
        if thread < step:
            shared[thread] += shared[thread + step]
        step //= 2
    cuda.syncthreads()
    return shared[0]


@cuda_kernel(threads=THREADS)
def rows_forward_cuda(
    x: Any, weight: Any, bias: Any, centred: Any, eps: Any, y: Any, means: Any,
    scales: Any,
) -> None:  # fmt: skip
    shared = cuda.shared.array(THREADS, dtype=x.dtype)
    rows, count = x.shape
    kind = x.dtype.type
    thread = cuda.threadIdx.x
    for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
        mean = kind(0)
        if centred:
            part = kind(0)
            for j in range(thread, count, THREADS):
                part += x[r, j]
            mean = add_threads(shared, part) / kind(count)
        part = kind(0)
        other = kind(0)
        for j in range(thread, count, THREADS):
            d = x[r, j] - mean
            part += d * d
            other += d
        total = add_threads(shared, part)
        rest = add_threads(shared, other)
        if centred:
            mean += rest / kind(count)
            total -= rest * (rest / kind(count))
        scale = kind(1) / kind(math.sqrt(total / kind(count) + eps))
        for j in range(thread, count, THREADS):
            y[r, j] = (x[r, j] - mean) * scale * weight[j] + bias[j]
        if thread == 0:
            means[r] = mean
            scales[r] = scale


@cuda_kernel(threads=THREADS)
def rows_backward_cuda(
    g: Any, x: Any, weight: Any, centred: Any, means: Any, scales: Any, dx: Any
) -> None:
    shared = cuda.shared.array(THREADS, dtype=x.dtype)
    rows, count = x.shape
    kind = x.dtype.type
    thread = cuda.threadIdx.x
    for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
        mean = means[r]
        scale = scales[r]
        part = kind(0)
        other = kind(0)
        for j in range(thread, count, THREADS):
            p = g[r, j] * weight[j]
            part += p
            other += p * (x[r, j] - mean)
        plain = add_threads(shared, part)
        weighted = add_threads(shared, other)
        shift = plain / kind(count) * scale if centred else kind(0)
        slope = weighted / kind(count) * scale * scale * scale
        for j in range(thread, count, THREADS):
            d = x[r, j] - mean
            dx[r, j] = scale * (g[r, j] * weight[j]) - slope * d - shift


@cuda_kernel
def row_sums_cuda(
    g: Any, x: Any, means: Any, scales: Any, first: Any, second: Any
) -> None:
    rows, count = x.shape
    kind = x.dtype.type
    for item in range(cuda.grid(1), first.size, cuda.gridsize(1)):
        block = item // count
        j = item - block * count
        a = kind(0)
        b = kind(0)
        for r in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            a += g[r, j] * ((x[r, j] - means[r]) * scales[r])
            b += g[r, j]
        first[item] = a
        second[item] = b


@cuda_kernel
def join_rows_cuda(first: Any, second: Any, blocks: Any, sums: Any) -> None:
    count = sums.shape[1]
    kind = first.dtype.type
    for j in range(cuda.grid(1), count, cuda.gridsize(1)):
        a = kind(0)
        b = kind(0)
        for k in range(blocks):
            a += first[k * count + j]
            b += second[k * count + j]
        sums[0, j] = a
        sums[1, j] = b


def _check(op: str, x: Any, **arrays: Any) -> None:
    scalar_type(op, x)
    shapes = {"g": x.shape, "means": x.shape[:1], "scales": x.shape[:1]}
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
    x: Any, weight: Any, bias: Any, eps: float, centred: bool = True
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
    _check("layer_norm", x, weight=weight, bias=bias)
    module = array_module(x)
    rows, count = x.shape
    y = module.empty(x.shape, x.dtype)
    means, scales = (module.empty(rows, x.dtype) for _ in range(2))
    eps = x.dtype.type(eps)
    if x.size and on_cuda(x):
        rows_forward_cuda(
            x, weight, bias, int(centred), eps, y, means, scales, blocks=rows
        )
    elif x.size:
        forward_cpu(
            x.reshape(-1), rows, count, weight, bias, (int(centred), eps),
            y.reshape(-1), means, scales,
        )  # fmt: skip
    return y, means, scales


def backward(
    g: Any, x: Any, weight: Any, means: Any, scales: Any, centred: bool = True
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
    _check("layer_norm backward", x, g=g, weight=weight, means=means, scales=scales)
    module = array_module(x)
    rows, count = x.shape
    dx = module.empty(x.shape, x.dtype)
    blocks = -(-rows // ROWS)
    sums = module.zeros((2, count), x.dtype)
    first, second = (module.empty(blocks * count, x.dtype) for _ in range(2))
    if x.size and on_cuda(x):
        rows_backward_cuda(g, x, weight, int(centred), means, scales, dx, blocks=rows)
        row_sums_cuda(g, x, means, scales, first, second, items=first.size)
        join_rows_cuda(first, second, blocks, sums, items=count)
    elif x.size:
        backward_cpu(
            g.reshape(-1), x.reshape(-1), rows, count, weight, int(centred), means,
            scales, dx.reshape(-1), (first, second), sums,
        )  # fmt: skip
    return dx, sums[0], sums[1]
