"""Small helpers that the operators' builders share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import device_of, to_device
from nnlib.backend.dtypes import FLOATING
from nnlib.onnx.errors import OnnxError
from nnlib.onnx.node import Node
from nnlib.ops.casting import cast

__all__ = [
    "axes_of",
    "axis_of",
    "like_array",
    "on_arrays",
    "scalar",
    "shape_of",
    "sizes",
]

Array = np.ndarray[Any, Any]


def shape_of(value: Any) -> tuple[int, ...]:
    """Return a shape as a plain tuple."""
    return tuple(getattr(value, "_array", value).shape)


def sizes(value: Any) -> tuple[int, ...]:
    """Return an array of integers as a tuple."""
    return tuple(int(x) for x in np.asarray(value).reshape(-1))


def axis_of(axis: int, rank: int, op: str) -> int:
    """Return an axis counted from the front.

    Examples
    --------
    >>> axis_of(-1, 3, "Softmax")
    2
    """
    if not -max(rank, 1) <= axis < max(rank, 1):
        raise OnnxError(f"{op}: axis {axis} is out of range for {rank} dimensions")
    return axis % max(rank, 1)


def axes_of(axes: Iterable[int], rank: int, op: str) -> tuple[int, ...]:
    """Return several axes, counted from the front."""
    return tuple(axis_of(int(axis), rank, op) for axis in axes)


def scalar(node: Node, position: int) -> Any:
    """Return a constant input of one element as a number, or None."""
    value = node.constant(position)
    if value is None or value.size != 1:
        return None
    return value.reshape(()).item()


def like_array(array: Any, like: Any) -> Any:
    """Return a host array as a Tensor on the device of the Tensor `like`."""
    return Tensor._from_array(to_device(np.asarray(array), device_of(like._array)))


def on_arrays(run: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of arrays into one of Tensors, without gradients."""

    def wrapped(*args: Any) -> Any:
        out = run(*[x._array if isinstance(x, Tensor) else x for x in args])
        if isinstance(out, tuple):
            return tuple(map(Tensor._from_array, out))
        return Tensor._from_array(out)

    return wrapped


def in_dtype(run: Callable[..., Any]) -> Callable[..., Any]:
    """Cast what `run` returns to the dtype of its first argument."""

    def wrapped(x: Any, *rest: Any) -> Any:
        return cast(run(x, *rest), x.dtype)

    return wrapped


def is_floating(x: Any) -> bool:
    """Tell whether a tensor or array is floating (bfloat16 too)."""
    return x.dtype in FLOATING


def product(values: Iterable[int]) -> int:
    """Return the product of integers."""
    return math.prod(values)
