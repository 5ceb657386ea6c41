"""Sums and broadcasts of plain arrays, on which operations are built."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from nnlib.backend.device import array_module
from nnlib.backend.dtypes import HALF, float32, float64, int64

__all__ = [
    "FEW",
    "SHORT",
    "add_up",
    "add_up_squares",
    "constants",
    "euclidean",
    "kept_shape",
    "line_moments",
    "moments",
    "nonzeros",
    "spread_array",
    "stretch_array",
]

_ndarray = np.ndarray
_reduce: Any = np.add.reduce
# Up to so many elements Python has added them up before NumPy has begun.
FEW = 32
# Below so many elements NumPy's own reduction is faster than entering a kernel.
_KERNEL_SIZE = 1 << 15


# Up to so many floats a product adds up squares: half of a reduction's time.
SHORT = 1024
_DOT = frozenset({float32, float64})


def find_count() -> Any:
    """Return the C function behind NumPy's `count_nonzero`, at a quarter of its time.

    NumPy has no public name for it; where it is not found, its own does the same.
    """
    try:
        from numpy._core import multiarray
    except ImportError:
        return np.count_nonzero
    return vars(multiarray).get("count_nonzero", np.count_nonzero)


# How many elements of a NumPy array are not zero.
nonzeros = find_count()

_constants: dict[Any, tuple[Any, ...]] = {}


def constants(like: Any, *values: float) -> tuple[Any, ...]:
    """Return numbers as NumPy arrays of the dtype of `like`, if that is NumPy's.

    From a bare number NumPy makes an array at every call: as long as a small sum.
    """
    if type(like) is not _ndarray:
        return values
    key = (like.dtype, values)
    found = _constants.get(key)
    if found is None:
        if len(_constants) >= 256:
            # Numbers that change from step to step must not fill the memory.
            _constants.clear()
        found = tuple(np.array(value, like.dtype) for value in values)
        _constants[key] = found
    return found


@functools.lru_cache(maxsize=256)
def kept_shape(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape` with 1 in each of `dims`: what ``keepdim=True`` gives."""
    kept = list(shape)
    for dim in dims:
        kept[dim] = 1
    return tuple(kept)


@functools.lru_cache(maxsize=64)
def _ones(size: Any, dtype: Any) -> Any:
    return np.ones(size, dtype)


def add_up(x: Any, dims: Any, keepdim: bool) -> Any:
    """Return the sum of an array over `dims` (None: all), an array in any case.

    16-bit floats are accumulated in float32, integers in int64.
    """
    if type(x) is not _ndarray:
        if isinstance(x, np.generic):
            # What NumPy makes of an array without dimensions.
            return add_up(np.asarray(x), dims, keepdim)
        if x.size and x.dtype in _DOT and not isinstance(x, _ndarray):
            out = _by_kernel(x, dims, keepdim)
            if out is not None:
                return out
        out = x.sum(axis=dims, keepdims=keepdim, dtype=_wide(x.dtype))
        return out.astype(x.dtype) if x.dtype in HALF else out
    dtype = x.dtype
    if x.size <= SHORT and dtype in _DOT:
        whole = dims is None or len(dims) == x.ndim
        if whole and x.size <= FEW and not keepdim:
            return np.array(sum(x.ravel().tolist()), dtype)
        if not whole and len(dims) == 1 and x.ndim == 2:
            # A product with ones takes half of a reduction's time.
            (dim,) = dims
            ones = _ones(x.shape[dim], dtype)
            if dim:
                out = x.dot(ones)
                return out[:, None] if keepdim else out
            out = ones.dot(x)
            return out[None] if keepdim else out
    if dtype is float32:
        if x.size >= _KERNEL_SIZE:
            out = _by_kernel(x, dims, keepdim)
            if out is not None:
                return out
        out = _reduce(x, dims, None, None, keepdim) if keepdim else _reduce(x, dims)
        return out if type(out) is _ndarray else np.array(out)
    if dtype in HALF:
        total = _reduce(x.astype(np.float32), axis=dims, keepdims=keepdim)
        return np.asarray(total).astype(dtype)
    if dtype.kind == "f":
        out = _reduce(x, dims, None, None, keepdim) if keepdim else _reduce(x, dims)
    else:
        out = _reduce(x, axis=dims, keepdims=keepdim, dtype=int64)
    return out if type(out) is _ndarray else np.array(out)


def add_up_squares(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Return the sum of the squares of a floating array over `dims`."""
    if type(x) is _ndarray and x.size <= SHORT and x.dtype in _DOT:
        if len(dims) == x.ndim and not keepdim:
            flat = x.ravel()
            return np.array(flat.dot(flat))
    large = x.size >= _KERNEL_SIZE and len(dims) == x.ndim and x.flags.c_contiguous
    if large and x.dtype in (float32, float64):
        from nnlib import kernels

        out = kernels.reduction.reduce_all(x, kernels.reduction.SQUARES)
        return out.reshape((1,) * x.ndim) if keepdim else out
    return add_up(x * x, dims, keepdim)


def euclidean(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Return the root of `add_up_squares`."""
    if type(x) is _ndarray and x.size <= SHORT and x.dtype in _DOT:
        if len(dims) == x.ndim and not keepdim:
            # Of a number Python's root is faster, and rounded to the same float.
            flat = x.ravel()
            return np.array(math.sqrt(flat.dot(flat)), x.dtype)
    out = add_up_squares(x, dims, keepdim)
    # On CuPy arrays NumPy calls CuPy's function.
    return np.sqrt(out, out if type(out) is _ndarray else None)


def moments(x: Any, free: float, root: bool) -> tuple[Any, Any] | None:
    """Return variance (or its root) and mean of all of a short array, or None.

    Parameters
    ----------
    x : array, floating
    free : float
        What the sum of the squares is divided by.
    root : bool
    """
    if type(x) is not _ndarray or not 0 < x.size <= SHORT or x.dtype not in _DOT:
        return None
    flat, dtype = x.ravel(), x.dtype
    middle = np.array(flat.dot(_ones(flat.size, dtype)) / flat.size, dtype)
    distance = flat - middle
    total = float(distance.dot(distance))
    if free:
        total /= free
    else:
        total = total * math.inf if total else math.nan
    return np.array(math.sqrt(total) if root else total, dtype), middle


# Up to so many entries a product with a matrix of ones is faster than a reduction and
# a broadcast.
_NARROW = 16


@functools.lru_cache(maxsize=64)
def _averaging(length: int, free: float, dtype: Any) -> tuple[Any, Any, Any] | None:
    """Return ones, `length` in an array, and weights that divide a sum by `free`.

    None for lines that are not short, and dtypes without fast products.
    """
    if not 0 < length <= _NARROW or dtype not in _DOT:
        return None
    weights = np.full(length, 1 / free, dtype)
    return np.ones((length, length), dtype), np.array(length, dtype), weights


def line_moments(x: Any, dim: int, free: float, root: bool) -> Any:
    """Return variances (or their roots) and means of lines of a matrix, or None.

    Parameters
    ----------
    x : array, floating
        None is returned if it is no short matrix.
    dim : int
    free : float, not 0
        What the sums of the squares are divided by.
    root : bool
    """
    if type(x) is not _ndarray or x.ndim != 2 or x.size > SHORT:
        return None
    found = _averaging(x.shape[dim], free, x.dtype)
    if found is None:
        return None
    ones, number, weights = found
    middle = x.dot(ones) if dim else ones.dot(x)
    middle /= number
    distance = x - middle
    distance *= distance
    out = distance.dot(weights) if dim else weights.dot(distance)
    return np.sqrt(out, out) if root else out, middle[:, 0] if dim else middle[0]


def _wide(dtype: Any) -> Any:
    if dtype in HALF:
        return float32
    return dtype if dtype.kind == "f" else int64


def _without(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([n for dim, n in enumerate(shape) if dim not in dims])


def _by_kernel(x: Any, dims: Any, keepdim: bool) -> Any:
    """Sum an array by a kernel: all, leading or trailing dimensions; or return None."""
    from nnlib import kernels

    ndim = x.ndim
    count = ndim if dims is None else len(dims)
    ordered = tuple(range(ndim)) if dims is None else tuple(sorted(dims))
    if not x.flags.c_contiguous:
        return None
    if count == ndim:
        out = kernels.reduction.reduce_all(x)
    elif ordered == tuple(range(count)):
        rest = x.shape[count:]
        out = kernels.reduction.sum_columns(x.reshape(-1, math.prod(rest)))
        out = out.reshape(rest)
    elif ordered == tuple(range(ndim - count, ndim)):
        rest = x.shape[: ndim - count]
        out = kernels.reduction.reduce_rows(x.reshape(math.prod(rest), -1))
        out = out.reshape(rest)
    elif type(x) is not _ndarray and ordered[0] == 0 and ordered[-1] == ndim - 1:
        # The first and the last dimensions: in two steps.
        first = next(k for k, dim in enumerate(ordered) if k != dim)
        inner = add_up(x, ordered[first:], False)
        return add_up(inner, ordered[:first], False).reshape(
            kept_shape(x.shape, ordered) if keepdim else _without(x.shape, ordered)
        )
    else:
        return None
    return out.reshape(kept_shape(x.shape, ordered)) if keepdim else out


def spread_array(x: Any, shape: tuple[int, ...], dims: Any) -> Any:
    """Broadcast a reduced array back over `dims` of `shape`; not to be written into."""
    kept = (1,) * len(shape) if dims is None else kept_shape(shape, dims)
    if type(x) is _ndarray and x.flags.c_contiguous and 0 not in shape:
        # The same as broadcast_to, which costs 2 us more.
        steps, step = [], x.itemsize
        for place in range(len(shape) - 1, -1, -1):
            if dims is None or place in dims:
                steps.append(0)
            else:
                steps.append(step)
                step *= shape[place]
        out = _ndarray(shape, x.dtype, x, 0, steps[::-1])
        out.setflags(False)  # type: ignore[call-arg]
        return out
    return array_module(x).broadcast_to(x.reshape(kept), shape)


def stretch_array(x: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast an array to `shape`, without a copy; not to be written into."""
    if type(x) is not _ndarray or not x.flags.c_contiguous or 0 in shape:
        return array_module(x).broadcast_to(x, shape)
    steps = _stretched(x.shape, x.strides, shape)
    if steps is None:
        return np.broadcast_to(x, shape)
    out = _ndarray(shape, x.dtype, x, 0, steps)
    out.setflags(False)  # type: ignore[call-arg]
    return out


@functools.lru_cache(maxsize=256)
def _stretched(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the strides of the broadcast view; None where there is none."""
    lead = len(wanted) - len(shape)
    if lead < 0:
        return None
    steps = [0] * lead + list(strides)
    for place, mine in enumerate(shape, lead):
        if wanted[place] != mine:
            if mine != 1:
                return None
            steps[place] = 0
    return tuple(steps)
