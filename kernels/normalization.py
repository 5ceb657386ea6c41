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

import math
from typing import Any

from nnlib.backend.errors import ShapeError
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import array_module, on_cuda
from nnlib.kernels.normalization_cpu import (
    gradient_sums_cpu,
    input_gradient_cpu,
    moments_cpu,
    normalize_cpu,
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
# Elements of a line, if pixels are so short: four vectors of AVX-512, which a loop over
# lines keeps in registers. Where it can be a line is made of pairs of whole vectors.
LINE = 64
VECTORS = 32
# Lines of more than twice as much are taken so many at a time.
GROUP = 8
# Elements that each thread has at least.
GRAIN = 40000
# Rows that one CUDA thread adds up.
CUDA_ROWS = 64


def _cut(x: Any) -> tuple[tuple[int, int, int, int], int]:
    """Return (B, R, C, blocks), and the rows of a block."""
    batches, rows, channels = x.shape
    step = max(1, CUDA_ROWS if on_cuda(x) else CHUNK // channels)
    return (batches, rows, channels, -(-rows // step)), step


def _lines(shape: tuple[int, int, int, int], step: int) -> tuple[Any, int]:
    """Return (rows of a block, line, group) for the CPU's loops, and their grain."""
    _, rows, channels, _ = shape
    wide = math.lcm(channels, VECTORS)
    if wide > 2 * LINE:
        wide = channels
    wide *= max(1, LINE // wide)
    group = GROUP if wide > 2 * LINE else step
    grain = -(-GRAIN // (min(step, rows) * channels))
    return (step, wide, group), grain


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
    >>> import numpy as np
    >>> moments(np.array([[[1.0], [3.0]]]))
    (array([[2.]]), array([[1.]]))
    """
    _check("moments", x)
    module = array_module(x)
    shape, step = _cut(x)
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
            x.reshape(-1), shape, *_lines(shape, step), means, spreads,
            mean.reshape(-1), var.reshape(-1),
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
    >>> import numpy as np
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
        shape, step = _cut(x)
        vectors = mean.reshape(-1), scale.reshape(-1), shift.reshape(-1)
        normalize_cpu(
            x.reshape(-1), shape, *_lines(shape, step), vectors, out.reshape(-1)
        )
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
    >>> import numpy as np
    >>> x = np.array([[[1.0], [3.0]]])
    >>> gradient_sums(x, x, np.ones((1, 1)))
    (array([[4.]]), array([[6.]]))
    """
    _check("gradient_sums", x, g=g, mean=mean)
    module = array_module(x)
    shape, step = _cut(x)
    plain, weighted = (module.empty((shape[0], shape[2]), x.dtype) for _ in range(2))
    parts = shape[0] * shape[3] * shape[2]
    first, second = (module.empty(parts, x.dtype) for _ in range(2))
    if on_cuda(x):
        gradient_sums_cuda(g, x, mean, step, shape[3], first, second, items=parts)
        join_sums_cuda(first, second, shape[3], plain, weighted, items=plain.size)
    else:
        gradient_sums_cpu(
            g.reshape(-1), x.reshape(-1), shape, *_lines(shape, step),
            mean.reshape(-1), (first, second), plain.reshape(-1),
            weighted.reshape(-1),
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
    >>> import numpy as np
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
        shape, step = _cut(x)
        vectors = (mean.reshape(-1), a.reshape(-1), k.reshape(-1), c.reshape(-1))
        input_gradient_cpu(
            g.reshape(-1), x.reshape(-1), shape, *_lines(shape, step), vectors,
            out.reshape(-1),
        )  # fmt: skip
    return out
