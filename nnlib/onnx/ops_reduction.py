"""Reductions: sums, means, norms, extremes and their places; the largest k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import axes_of, axis_of, is_floating, sizes
from nnlib.ops.casting import cast

Run = Callable[..., Any]
Reduce = Callable[[Any, tuple[int, ...], bool], Any]


def _prod(x: Any, dims: tuple[int, ...], keep: bool) -> Any:
    for dim in sorted(dims, reverse=True):
        x = ops.prod(x, dim, keep)
    return x


def _mean(x: Any, dims: tuple[int, ...], keep: bool) -> Any:
    if is_floating(x):
        return ops.mean(x, dims, keep)
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return ops.div(ops.sum(x, dims, keep), count, rounding_mode="trunc")


def _extreme(run: Run, empty: Callable[[Any], float]) -> Reduce:
    def reduce(x: Any, dims: tuple[int, ...], keep: bool) -> Any:
        if x.dtype == np.bool_:
            return ops.all(x, dims, keep) if run is ops.amin else ops.any(x, dims, keep)
        if x.numel() == 0:
            # The neutral element: a zero of the right shape, shifted to infinity.
            return ops.sum(x, dims, keep) + empty(x)
        return run(x, dims, keep)

    return reduce


def _l2(x: Any, dims: tuple[int, ...], keep: bool) -> Any:
    if is_floating(x):
        return ops.norm(x, 2, dims, keep)
    return ops.sqrt(cast(ops.sum(x * x, dims, keep), np.dtype(np.float64)))


def _lowest(x: Any) -> Any:
    return -np.inf if is_floating(x) else int(np.iinfo(x.dtype).min)


def _highest(x: Any) -> Any:
    return np.inf if is_floating(x) else int(np.iinfo(x.dtype).max)


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceSum": lambda x, d, k: ops.sum(x, d, k),
    "ReduceMean": _mean,
    "ReduceMax": _extreme(ops.amax, _lowest),
    "ReduceMin": _extreme(ops.amin, _highest),
    "ReduceProd": _prod,
    "ReduceL1": lambda x, d, k: ops.sum(ops.abs(x), d, k),
    "ReduceL2": _l2,
    "ReduceLogSum": lambda x, d, k: ops.log(ops.sum(x, d, k)),
    "ReduceLogSumExp": lambda x, d, k: ops.logsumexp(x, d, k),
    "ReduceSumSquare": lambda x, d, k: ops.sum(x * x, d, k),
}
_OLD = {
    "ReduceSum": (1, 11),
    "ReduceMax": (1, 11, 12, 13),
    "ReduceMin": (1, 11, 12, 13),
}
_NEW = {
    "ReduceSum": (13,),
    "ReduceMax": (18, 20),
    "ReduceMin": (18, 20),
    "ReduceLogSum": (18, 28),
    "ReduceLogSumExp": (18, 28),
}


def _enter(op: str, reduce: Reduce) -> None:
    @operator(op, *_OLD.get(op, (1, 11, 13)))
    def build_attribute(node: Node) -> Run:
        """Reduce over axes in an attribute."""
        axes = node.ints("axes", None)
        keep = bool(node.int("keepdims", 1))

        def run(x: Any) -> Any:
            dims = range(x.ndim) if axes is None else axes
            return cast(reduce(x, axes_of(dims, x.ndim, op), keep), x.dtype)

        return run

    @operator(op, *_NEW.get(op, (18,)), host=(1,))
    def build(node: Node) -> Run:
        """Reduce over axes in an input."""
        keep = bool(node.int("keepdims", 1))
        empty_is_all = not node.int("noop_with_empty_axes", 0)

        def run(x: Any, axes: Any = None) -> Any:
            dims: Any = () if axes is None else sizes(axes)
            if not dims:
                if not empty_is_all:
                    # Each element is a set of its own.
                    single = x.reshape((*x.shape, 1))
                    return cast(reduce(single, (x.ndim,), False), x.dtype)
                dims = range(x.ndim)
            return cast(reduce(x, axes_of(dims, x.ndim, op), keep), x.dtype)

        return run


for _op, _reduce in _REDUCTIONS.items():
    _enter(_op, _reduce)


def _arg(op: str, run: Run) -> None:
    @operator(op, 1, 11, 12, 13)
    def build(node: Node) -> Run:
        """Find the place of an extreme along an axis."""
        axis, keep = node.int("axis", 0), bool(node.int("keepdims", 1))
        last = node.int("select_last_index", 0)

        def place(x: Any) -> Any:
            dim = axis_of(axis, x.ndim, op)
            if not last:
                return run(x, dim, keep)
            return x.shape[dim] - 1 - run(ops.flip(x, dim), dim, keep)

        return place


_arg("ArgMax", ops.argmax)
_arg("ArgMin", ops.argmin)


def _top(x: Any, k: int, axis: int, largest: bool) -> Any:
    dim = axis_of(axis, x.ndim, "TopK")
    if largest and x.dtype.kind == "u":
        order = ops.argsort(cast(x, np.dtype(np.int64)), dim, True, stable=True)
        found = ops.narrow(order, dim, 0, k)
        return ops.gather(x, dim, found), found
    values, places = ops.sort(x, dim, largest, stable=True)
    return ops.narrow(values, dim, 0, k), ops.narrow(places, dim, 0, k)


@operator("TopK", 1)
def top_k_attribute(node: Node) -> Run:
    """Build TopK with k in an attribute."""
    k, axis = node.int("k"), node.int("axis", -1)
    return lambda x: _top(x, k, axis, True)


@operator("TopK", 10, 11, 24, host=(1,))
def top_k(node: Node) -> Run:
    """Build TopK: values are sorted, whether that is asked for or not."""
    axis, largest = node.int("axis", -1), bool(node.int("largest", 1))
    node.int("sorted", 1)
    return lambda x, k: _top(x, int(np.asarray(k).reshape(())), axis, largest)
