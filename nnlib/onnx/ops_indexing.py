"""Reading and writing at indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.backend.device import array_module
from nnlib.onnx import limits
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator, simple
from nnlib.onnx.values import axis_of, like_array, on_arrays, shape_of
from nnlib.ops.casting import cast

Run = Callable[..., Any]
_LONG = np.dtype(np.int64)


def _from_front(index: Any, length: int) -> Any:
    """Return indices of which negative ones count from the back, checked."""
    array = index._array
    if array.size and (array.min() < -length or array.max() >= length):
        raise IndexError(f"an index is out of range for {length} elements")
    wide = array.astype(np.int64, copy=False)
    if array.size and array.min() < 0:
        wide = array_module(array).where(wide < 0, wide + length, wide)
    return type(index)._from_array(wide)


@operator("Gather", 1, 11, 13)
def gather(node: Node) -> Run:
    """Build Gather: whole slices, along one axis."""
    axis = node.int("axis", 0)

    def run(x: Any, index: Any) -> Any:
        old = shape_of(x)
        dim = axis_of(axis, len(old), node.op)
        where = shape_of(index)
        flat = _from_front(index, old[dim]).reshape(math.prod(where))
        out = ops.index_select(x, dim, flat)
        return out.reshape((*old[:dim], *where, *old[dim + 1 :]))

    return run


@operator("GatherElements", 11, 13)
def gather_elements(node: Node) -> Run:
    """Build GatherElements: single elements, along one axis."""
    axis = node.int("axis", 0)

    def run(x: Any, index: Any) -> Any:
        dim = axis_of(axis, x.ndim, node.op)
        return ops.gather(x, dim, _from_front(index, x.shape[dim]))

    return run


@operator("GatherND", 11, 12, 13)
def gather_nd(node: Node) -> Run:
    """Build GatherND: slices at tuples of indices."""
    batch = node.int("batch_dims", 0)

    def run(x: Any, index: Any) -> Any:
        key = _tuples(index, shape_of(x), batch)
        return x[key]

    return run


def _tuples(index: Any, shape: tuple[int, ...], batch: int = 0) -> tuple[Any, ...]:
    """Return the last dimension of `index` as a key, after `batch` own dimensions."""
    where = shape_of(index)
    parts: list[Any] = []
    for dim in range(batch):
        places = np.arange(shape[dim]).reshape(-1, *(1,) * (len(where) - 2 - dim))
        parts.append(like_array(places, index))
    for number in range(where[-1]):
        parts.append(_from_front(index[..., number], shape[batch + number]))
    return tuple(parts)


def _reduced(x: Any, dim: int, index: Any, values: Any, how: str) -> Any:
    if how == "none":
        return ops.scatter(x, dim, index, values)
    if how == "add":
        return ops.scatter_add(x, dim, index, values)
    return ops.scatter_reduce(x, dim, index, values, _REDUCTIONS[how])


_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}
_KINDS = ("none", "add", *_REDUCTIONS)


@operator("Scatter", 9)
@operator("ScatterElements", 11, 13, 16, 18)
def scatter_elements(node: Node) -> Run:
    """Build ScatterElements: single elements, along one axis."""
    axis = node.int("axis", 0)
    how = node.string("reduction", "none", _KINDS)

    def run(x: Any, index: Any, values: Any) -> Any:
        dim = axis_of(axis, x.ndim, node.op)
        return _reduced(x, dim, _from_front(index, x.shape[dim]), values, how)

    return run


@operator("ScatterND", 11, 13, 16, 18)
def scatter_nd(node: Node) -> Run:
    """Build ScatterND: slices at tuples of indices."""
    how = node.string("reduction", "none", _KINDS)

    def run(x: Any, index: Any, values: Any) -> Any:
        key = _tuples(index, shape_of(x))
        if how == "none":
            return ops.index_put(x, key, values)
        if how == "add":
            return ops.index_put(x, key, values, True)
        # As single elements: each slice's elements have places in the flat tensor.
        shape = shape_of(x)
        numbers = like_array(np.arange(math.prod(shape)).reshape(shape), x)[key]
        flat = numbers.reshape(-1)
        out = _reduced(x.reshape(-1), 0, flat, values.reshape(-1), how)
        return out.reshape(shape)

    return run


@operator("TensorScatter", 24)
def tensor_scatter(node: Node) -> Run:
    """Build TensorScatter: an update of a cache, from a place per sample on."""
    axis = node.int("axis", -2)
    circular = node.string("mode", "linear", ("linear", "circular")) == "circular"

    def run(past: Any, update: Any, starts: Any = None) -> Any:
        dim = axis_of(axis, past.ndim, node.op)
        length = past.shape[dim]
        shape = shape_of(update)
        first = np.zeros(shape[0], np.int64) if starts is None else starts._array
        lead = (-1, *(1,) * (len(shape) - 1))
        along = np.arange(shape[dim]).reshape(
            [-1 if d == dim else 1 for d in range(len(shape))]
        )
        places = first.reshape(lead) + along
        if circular:
            places = places % length
        index = like_array(np.broadcast_to(places, shape).astype(np.int64), past)
        return ops.scatter(past, dim, index, update)

    return run


@operator("OneHot", 9, 11, 28, host=(1,))
def one_hot(node: Node) -> Run:
    """Build OneHot: an index outside the range gives no one."""
    axis = node.int("axis", -1)

    def run(index: Any, depth: Any, values: Any) -> Any:
        count = int(np.asarray(depth).reshape(()))
        rank = index.ndim + 1
        limits.check("OneHot", (*shape_of(index), count))
        dim = axis_of(axis, rank, node.op)
        places = cast(index, _LONG)
        places = ops.where(places < 0, places + count, places).unsqueeze(dim)
        along = np.arange(count).reshape([-1 if d == dim else 1 for d in range(rank)])
        hit = places == like_array(along, index)
        return ops.where(hit, values[1], values[0])

    return run


def _nonzero(x: Any) -> Any:
    module = array_module(x)
    return module.stack(module.nonzero(module.atleast_1d(x))).astype(np.int64)


simple("NonZero", (9, 13), on_arrays(_nonzero))


@operator("Compress", 9, 11, 28, host=(1,))
def compress(node: Node) -> Run:
    """Build Compress: the slices where a condition holds."""
    axis = node.int("axis", None)

    def run(x: Any, condition: Any) -> Any:
        places = like_array(np.flatnonzero(condition), x)
        if axis is None:
            return ops.index_select(x.reshape(-1), 0, places)
        return ops.index_select(x, axis_of(axis, x.ndim, node.op), places)

    return run


@operator("ReverseSequence", 10, 28, host=(1,))
def reverse_sequence(node: Node) -> Run:
    """Build ReverseSequence: the first steps of each sequence, reversed."""
    batch, time = node.int("batch_axis", 1), node.int("time_axis", 0)

    def run(x: Any, lengths: Any) -> Any:
        return reversed_steps(x, lengths, batch, time)

    return run


def reversed_steps(x: Any, lengths: Any, batch: int = 1, time: int = 0) -> Any:
    """Return x with the first ``lengths[n]`` steps of sample n reversed."""
    shape = shape_of(x)
    steps = np.arange(shape[time])[:, None]
    ends = np.asarray(lengths, np.int64)[None, :]
    places = np.where(steps < ends, ends - 1 - steps, steps)  # (T, N)
    if batch < time:
        places = places.T
    view = [shape[d] if d in (batch, time) else 1 for d in range(len(shape))]
    index = np.broadcast_to(places.reshape(view), shape)
    return ops.gather(x, time, like_array(np.ascontiguousarray(index), x))


@operator("Unique", 11, 28)
def unique(node: Node) -> Run:
    """Build Unique: distinct elements or slices, sorted or in order of appearance."""
    axis, in_order = node.int("axis", None), not node.int("sorted", 1)

    def run(x: Any) -> Any:
        values, first, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        inverse = inverse.reshape(-1)
        if in_order:
            order = np.argsort(first)
            rank = np.argsort(order)
            values = np.take(values, order, 0 if axis is None else axis)
            first, inverse, counts = first[order], rank[inverse], counts[order]
        return (values, *(v.astype(np.int64) for v in (first, inverse, counts)))

    return on_arrays(run)
