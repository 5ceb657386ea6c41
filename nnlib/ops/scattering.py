"""Adding at indices that may repeat, on plain arrays, with the same bits every run.

Never by atomics, whose order changes from run to run.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from nnlib.backend.device import array_module
from nnlib.backend.dtypes import HALF, float32, float64, int64

__all__ = ["add_at", "add_rows", "flat_places", "grid", "line", "reduce_at"]


# So many elements NumPy's slow but simple loop adds sooner than a sort begins.
_SMALL = 256
# From so many on a kernel is worth loading; below, NumPy adds row by row.
_LARGE = 1 << 14
_KERNEL = frozenset({float32, float64})


def is_small(values: Any) -> bool:
    """Tell whether NumPy's own loop is the fastest way to add these values."""
    return (
        type(values) is np.ndarray
        and values.size <= _SMALL
        and values.dtype not in HALF
    )


def add_rows(out: Any, rows: Any, values: Any) -> None:
    """Do ``out[rows[i]] += values[i]`` for every i, in order.

    Parameters
    ----------
    out : array, shape (R, C)
    rows : array of int64, shape (N,)
        Within ``[-R, R)``.
    values : array, shape (N, C), dtype of `out`
    """
    count = len(rows)
    if not count or not out.shape[1]:
        return
    if out.dtype in HALF:
        wide = out.astype(float32)
        add_rows(wide, rows, values.astype(float32))
        out[...] = wide.astype(out.dtype)
        return
    module = array_module(out)
    if values.size <= _SMALL and module is np:
        np.add.at(out, rows, values)
        return
    if isinstance(rows, np.ndarray) and rows.min() < 0:
        rows = np.where(rows < 0, rows + len(out), rows)
    elif module is not np:
        rows = module.where(rows < 0, rows + len(out), rows)
    if module is np and out.shape[1] == 1:
        np.add.at(out[:, 0], rows, values[:, 0])
    elif out.dtype in _KERNEL and (module is not np or values.size >= _LARGE):
        from nnlib import kernels

        kernels.add_rows.add_rows(out, rows, values)
    elif module is np:
        for row, value in zip(rows.tolist(), values, strict=True):
            out[row] += value
    else:
        _add_sorted(out, rows, values)


def _add_sorted(out: Any, rows: Any, values: Any) -> None:
    """Add integers on CUDA, whose order does not matter, after a sort."""
    module = array_module(out)
    order = module.argsort(rows)
    ordered = rows[order]
    first = module.ones(len(rows), bool)
    module.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = module.flatnonzero(first)
    sums = module.cumsum(values[order], axis=0)
    stops = module.concatenate([starts[1:], module.asarray([len(rows)])]) - 1
    totals = sums[stops]
    totals[1:] -= sums[stops[:-1]]
    out[ordered[starts]] += totals


def reduce_at(out: Any, key: tuple[Any, ...], values: Any, ufunc: Any) -> None:
    """Do ``out[key] = ufunc(out[key], values)`` for every entry of `key`, in order.

    Parameters
    ----------
    out : array
    key : tuple of integer arrays, not negative, one per dimension
        They broadcast together.
    values : array, of the shape they broadcast to, dtype of `out`
    ufunc : {np.maximum, np.minimum, np.multiply}
    """
    if isinstance(out, np.ndarray):
        ufunc.at(out, key, values)
    elif values.size:
        reduce_sorted(out, key, values, ufunc)


def reduce_sorted(out: Any, key: tuple[Any, ...], values: Any, ufunc: Any) -> None:
    """Do what `reduce_at` does, by operations that every array module has.

    Equal places are brought side by side; there a running result over 1, 2, 4, ...
    neighbours is made, so that the last one of a place holds them all.
    """
    module = array_module(out)
    shape = values.shape
    places = line([module.broadcast_to(part, shape) for part in key], out.shape)
    order = module.argsort(places)
    places, running = places[order], values.reshape(-1)[order]
    step = 1
    while step < len(places):
        same = places[step:] == places[:-step]
        joined = ufunc(running[step:], running[:-step])
        running[step:] = module.where(same, joined, running[step:])
        step *= 2
    last = module.ones(len(places), bool)
    module.not_equal(places[1:], places[:-1], out=last[:-1])
    flat = out.reshape(-1)
    flat[places[last]] = ufunc(flat[places[last]], running[last])
    if not out.flags.c_contiguous:
        out[...] = flat.reshape(out.shape)


def line(arrays: Any, lengths: Any) -> Any:
    """Return the position in C order that index arrays name, in one dimension."""
    total: Any = 0
    for array, length in zip(arrays, lengths, strict=True):
        total = total * length + array
    return total.reshape(-1)


def add_at(shape: tuple[int, ...], key: tuple[Any, ...], values: Any) -> Any:
    """Return zeros of `shape` with `values` added at ``[key]``.

    Parameters
    ----------
    key : tuple of integer arrays (that broadcast together) and full slices
        One entry per dimension.
    values : array, of the shape that ``zeros(shape)[key]`` has
    """
    if is_small(values):
        small = np.zeros(shape, values.dtype)
        np.add.at(small, key, values)
        return small
    module = array_module(values)
    places = [i for i, entry in enumerate(key) if not isinstance(entry, slice)]
    rest = [i for i in range(len(shape)) if i not in places]
    arrays = [key[i] for i in places]
    lengths = [shape[i] for i in places]
    arrays = [
        module.where(array < 0, array + length, array)
        for array, length in zip(arrays, lengths, strict=True)
    ]
    wide = np.broadcast_shapes(*(array.shape for array in arrays))
    arrays = [module.broadcast_to(array, wide) for array in arrays]
    # The indexed dimensions stand where the first of them was if they are
    # neighbours, else in front.
    start = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
    ndim = len(wide)
    front = [*range(start, start + ndim)]
    front += [i for i in range(values.ndim) if i not in front]
    inner = math.prod(shape[i] for i in rest)
    out = module.zeros((math.prod(lengths), inner), values.dtype)
    rows = line(arrays, lengths)
    add_rows(out, rows, values.transpose(front).reshape(len(rows), inner))
    order = places + rest
    inverse = sorted(range(len(shape)), key=order.__getitem__)
    return out.reshape([shape[i] for i in order]).transpose(inverse)


def grid(index: Any, dim: int) -> tuple[Any, ...]:
    """Return the key with which ``x[key]`` takes entries of `dim` by `index`.

    ``x[key][i, j, k] = x[index[i, j, k], j, k]`` for ``dim == 0``.
    """
    if index.ndim <= 1:
        return (index,)
    if type(index) is np.ndarray and index.size <= _SMALL:
        steps = _kept_steps(index.shape, dim)
    else:
        steps = _steps(array_module(index), index.shape, dim)
    return (*steps[:dim], index, *steps[dim + 1 :])


def flat_places(index: Any, x: Any, dim: int) -> Any:
    """Return where ``x[grid(index, dim)]`` is in C order, or None.

    For a short index along the last dimension, where it is faster than the grid.

    Parameters
    ----------
    index : integer array, not negative
    x : array
    """
    if x.ndim == 1:
        return index
    if dim != x.ndim - 1 or type(x) is not np.ndarray or index.size > _SMALL:
        return None
    if index.dtype is not int64 or not x.flags.c_contiguous:
        return None
    return index + _kept_starts(index.shape, x.shape)


@functools.lru_cache(maxsize=64)
def _kept_starts(index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Return where the line of each element of an index begins in C order."""
    starts: Any = np.zeros(index, int64)
    step = shape[-1]
    for place in range(len(shape) - 2, -1, -1):
        starts += np.indices(index)[place] * step
        step *= shape[place]
    return starts


def _steps(module: Any, shape: tuple[int, ...], dim: int) -> tuple[Any, ...]:
    """Return 0, 1, ... along each dimension but `dim`, where None stands."""
    key = []
    for place, length in enumerate(shape):
        steps = [1] * len(shape)
        steps[place] = length
        key.append(None if place == dim else module.arange(length).reshape(steps))
    return tuple(key)


@functools.lru_cache(maxsize=64)
def _kept_steps(shape: tuple[int, ...], dim: int) -> tuple[Any, ...]:
    """Return `_steps` of a small NumPy index: they are asked for again and again."""
    return _steps(np, shape, dim)
