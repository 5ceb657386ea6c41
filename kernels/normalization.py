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

`statistics` and `slopes` make the vectors of these maps, which on CUDA come out of the
same kernels.

Accuracy: statistics are taken over blocks of `CHUNK` elements that stay in the cache,
in two passes (the mean, then the distances from it, which also correct it: a large mean
does not cancel); blocks are put together in float64 (Chan, Golub and LeVeque 1979).
On CUDA each thread takes the distances from the first value it sees, and what the
threads have found is put together by the same formula.

Loops run over lines of several pixels where channels are few, so that they vectorise;
blocks are fixed by the shape: results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import ShapeError
from nnlib.kernels import normalization_cuda, normalization_grad_cuda
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import array_module, on_cuda
from nnlib.kernels.normalization_cpu import (
    gradient_sums_cpu,
    input_gradient_cpu,
    moments_cpu,
    normalize_cpu,
)

__all__ = [
    "gradient_sums",
    "input_gradient",
    "moments",
    "move_running",
    "normalize",
    "scales",
    "slopes",
    "statistics",
]

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


def _cut(x: Any) -> tuple[tuple[int, int, int, int], int]:
    """Return (B, R, C, blocks), and the rows of a block."""
    batches, rows, channels = x.shape
    step = max(1, CHUNK // channels)
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


def _nothing(x: Any) -> Any:
    """Return an empty array that lives where `x` does: stands for no vector."""
    return x.reshape(-1)[:0]


def _vector(weight: Any, x: Any) -> Any:
    """Return a vector over channels, or None, as the CUDA kernels take it."""
    if weight is None:
        return _nothing(x)
    if weight.dtype != x.dtype or not weight.flags.c_contiguous:
        return array_module(x).ascontiguousarray(weight, dtype=x.dtype)
    return weight


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
    if on_cuda(x):
        eps = x.dtype.type(0)
        mean, var, *_ = normalization_cuda.statistics(x, _nothing(x), eps, 1)
        return mean, var
    module = array_module(x)
    mean, var = (module.empty((x.shape[0], x.shape[2]), x.dtype) for _ in range(2))
    shape, step = _cut(x)
    parts = shape[0] * shape[3] * shape[2]
    means, spreads = (module.empty(parts, x.dtype) for _ in range(2))
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
    mean, scale : arrays, shape (B, C), dtype of `x`, C-contiguous
    shift : array, shape (B, C) or (1, C)
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
    if shift.shape[0] != x.shape[0] and not on_cuda(x):
        shift = np.ascontiguousarray(np.broadcast_to(shift, mean.shape))
    vectors: dict[str, Any] = {"mean": mean, "scale": scale}
    if shift.shape[0] == x.shape[0]:
        vectors["shift"] = shift
    _check("normalize", x, out=out, **vectors)
    if x.size and on_cuda(x):
        normalization_cuda.normalize(x, mean, scale, shift, out)
    elif x.size:
        shape, step = _cut(x)
        flat = mean.reshape(-1), scale.reshape(-1), shift.reshape(-1)
        normalize_cpu(x.reshape(-1), shape, *_lines(shape, step), flat, out.reshape(-1))
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
    if on_cuda(x):
        none = _nothing(x)
        made = normalization_grad_cuda.gradient_sums(g, x, mean, none, none, 1)
        return made[0], made[1]
    module = array_module(x)
    plain, weighted = (module.empty(mean.shape, x.dtype) for _ in range(2))
    shape, step = _cut(x)
    parts = shape[0] * shape[3] * shape[2]
    first, second = (module.empty(parts, x.dtype) for _ in range(2))
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
        normalization_grad_cuda.input_gradient(g, x, mean, a, k, c, out)
    elif x.size:
        shape, step = _cut(x)
        vectors = (mean.reshape(-1), a.reshape(-1), k.reshape(-1), c.reshape(-1))
        input_gradient_cpu(
            g.reshape(-1), x.reshape(-1), shape, *_lines(shape, step), vectors,
            out.reshape(-1),
        )  # fmt: skip
    return out


def _over(values: Any, group: int) -> Any:
    """Replace (B, C) by the sums over the channels of each group, (B, G, 1)."""
    batches, channels = values.shape
    return values.reshape(batches, channels // group, group).sum(2, keepdims=True)


def _spread(values: Any, group: int) -> Any:
    """Return (B, G, 1) as contiguous (B, C)."""
    return values.repeat(group, 2).reshape(values.shape[0], -1)


def statistics(
    x: Any, weight: Any, eps: float, group: int = 1
) -> tuple[Any, Any, Any, Any]:
    """Return statistics, and the scale that they give.

    Parameters
    ----------
    x : array, shape (B, R, C), float32 or float64, C-contiguous, R and C above 0
    weight : array, shape (C,), or None
    eps : float
        Added to the variance.
    group : int
        So many neighbouring channels share their statistics.

    Returns
    -------
    mean, var : arrays, shape (B, C)
        Of the set that each channel belongs to.
    scale, factor : arrays, shape (B, C)
        ``1 / sqrt(var + eps)``, and that times the weight.

    Examples
    --------
    >>> import numpy as np
    >>> [float(v[0, 0]) for v in statistics(np.array([[[1.0], [5.0]]]), None, 0.0)]
    [3.0, 4.0, 0.5, 0.5]
    """
    eps = x.dtype.type(eps)
    if not on_cuda(x):
        mean, var = moments(x)
        if group > 1:
            middle = _spread(_over(mean, group) / group, group)
            away = mean - middle
            mean, var = middle, _spread(_over(var + away * away, group) / group, group)
        scale = 1 / np.sqrt(var + eps)
        return mean, var, scale, scale if weight is None else scale * weight
    _check("statistics", x)
    return normalization_cuda.statistics(x, _vector(weight, x), eps, group)


def slopes(
    g: Any, x: Any, mean: Any, scale: Any, weight: Any, group: int = 1
) -> tuple[Any, Any, Any, Any]:
    """Return the sums that the gradients of normalisation are made of.

    Parameters
    ----------
    g, x : arrays, shape (B, R, C), float32 or float64, C-contiguous, R and C above 0
    mean, scale : arrays, shape (B, C)
        From `statistics`.
    weight : array, shape (C,), or None
    group : int
        As there.

    Returns
    -------
    plain, normal : arrays, shape (B, C)
        The sums of ``g`` and of ``g * (x - mean) * scale``.
    slope, offset : arrays, shape (B, C)
        The `k` and `c` that `input_gradient` needs for the gradient by `x`.

    Examples
    --------
    >>> import numpy as np
    >>> x, one = np.array([[[1.0], [3.0]]]), np.ones((1, 1))
    >>> [float(v[0, 0]) for v in slopes(x, x, 2 * one, one, None)]
    [4.0, 2.0, -1.0, -2.0]
    """
    if not on_cuda(x):
        plain, weighted = gradient_sums(g, x, mean)
        normal = weighted * scale
        first, second, count = plain, weighted, x.shape[1]
        if weight is not None:
            first, second = plain * weight, weighted * weight
        if group > 1:
            count *= group
            first, second = (_spread(_over(v, group), group) for v in (first, second))
        slope = second * scale * scale * scale / -x.dtype.type(count)
        return plain, normal, slope, first * scale / -x.dtype.type(count)
    _check("slopes", x, g=g, mean=mean)
    made = normalization_grad_cuda.gradient_sums(
        g, x, mean, _vector(weight, x), scale, group
    )
    return made[0], made[1], made[2], made[3]


def scales(var: Any, weight: Any, eps: float) -> tuple[Any, Any]:
    """Return ``1 / sqrt(var + eps)``, and that times the weight, which may be None.

    Examples
    --------
    >>> import numpy as np
    >>> scales(np.array([4.0]), np.array([3.0]), 0.0)
    (array([0.5]), array([1.5]))
    """
    eps = var.dtype.type(eps)
    mixed = weight is not None and weight.dtype != var.dtype
    if not on_cuda(var) or mixed or var.dtype.char not in "fd":
        scale = 1 / array_module(var).sqrt(var + eps)
        return scale, scale if weight is None else scale * weight
    var = array_module(var).ascontiguousarray(var)
    scale = array_module(var).empty(var.shape, var.dtype)
    made = scale[:0] if weight is None else array_module(var).empty_like(var)
    normalization_cuda.scales_cuda(
        var, _vector(weight, var), eps, scale, made, items=var.size
    )
    return scale, scale if weight is None else made


def move_running(
    running_mean: Any,
    running_var: Any,
    mean: Any,
    var: Any,
    count: int,
    momentum: float,
) -> None:
    """Move running statistics towards those of a batch, in place.

    Parameters
    ----------
    running_mean, running_var : array, shape (C,), or None
    mean, var : array, shape (C,), float32 or float64
        Of the batch; the variance is biased, and made unbiased.
    count : int
        How many numbers each is the mean of.
    momentum : float
        The weight of the batch.

    Examples
    --------
    >>> import numpy as np
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> move_running(mean, var, np.ones(1), np.ones(1), 2, 0.5)
    >>> mean, var
    (array([0.5]), array([1.5]))
    """
    unbiased = count / (count - 1) if count > 1 else float("nan")
    moved = [v for v in (running_mean, running_var) if v is not None]
    kind = scalar_type("move_running", mean)
    if on_cuda(mean) and all(
        v.dtype == mean.dtype and v.flags.c_contiguous for v in (*moved, mean, var)
    ):
        none = mean[:0]
        normalization_cuda.move_running_cuda(
            mean, var, kind(momentum), kind(unbiased),
            none if running_mean is None else running_mean,
            none if running_var is None else running_var, items=mean.size,
        )  # fmt: skip
        return
    for running, value, factor in (
        (running_mean, mean, None), (running_var, var, unbiased)
    ):  # fmt: skip
        if running is None:
            continue
        new = value.astype(running.dtype, copy=False)
        if factor is not None:
            new = new * factor
        running *= 1 - momentum
        running += momentum * new
