"""Sums of gradients that meet in a backward pass, on the device where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import ARRAYS, context_of, use_device_of

__all__ = ["add_into", "sum_of", "use_device_of_any"]

# Bytes from which a sum is shared among the threads.
_LARGE = 1 << 18
_ndarray = np.ndarray


def add_into(total: Any, value: Any) -> Any:
    """Add `value` to `total` in place."""
    kind = type(total)
    if kind is not _ndarray and kind in ARRAYS:
        with context_of(total):
            return kernels.arithmetic.add(total, value, out=total)
    if kind is _ndarray and total.nbytes >= _LARGE:
        return kernels.arithmetic.add(total, value, out=total)
    total += value
    return total


def sum_of(x: Any, y: Any) -> Any:
    """Return the sum of two gradients."""
    if type(x) is not _ndarray and type(x) in ARRAYS:
        with context_of(x):
            return kernels.arithmetic.add(x, y)
    return x + y


def use_device_of_any(grads: Iterable[Any]) -> None:
    """Make the CUDA device of a node's gradients the current one: it computes there."""
    for value in grads:
        array = value._array if isinstance(value, Tensor) else value
        if type(array) is not _ndarray and type(array) in ARRAYS:
            use_device_of(array)
            return
