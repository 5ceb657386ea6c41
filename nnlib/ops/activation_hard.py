"""Activations made of straight pieces: hardtanh, hardswish, softshrink, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError
from nnlib.ops.activation import gate
from nnlib.ops.arrays import constants
from nnlib.ops.dims import raw

__all__ = [
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "relu6",
    "softshrink",
    "threshold",
    "threshold_",
]


def find_clip() -> Any:
    """Return the ufunc behind NumPy's `clip`: the checks take twice its time.

    NumPy has no public name for it; where it is not found, two ufuncs do the same.
    """
    try:
        from numpy._core import umath
    except ImportError:
        return _two_passes
    return vars(umath).get("clip", _two_passes)


def _two_passes(x: Any, low: Any, high: Any, out: Any = None) -> Any:
    return np.minimum(np.maximum(x, low), high, out=out)


_clip = find_clip()


def bounded(x: Any, low: Any, high: Any, out: Any = None) -> Any:
    """Return an array within bounds: what NumPy's `clip` does, in half its time."""
    if type(x) is not np.ndarray or not x.ndim:
        return np.minimum(np.maximum(x, low), high)
    return _clip(x, low, high) if out is None else _clip(x, low, high, out)


class Clip(Function):
    """``x`` between two bounds."""

    def forward(self, x: Any, *, low: float, high: float) -> Any:
        """Return the bounded input."""
        if x.dtype.kind in "iu":
            low, high = int(low), int(high)
        self.low, self.high = low, high
        self.save_for_backward(x)
        return bounded(x, *constants(x, low, high))

    def backward(self, grad: Any) -> Any:
        """Pass the gradient strictly between the bounds."""
        x = raw(self.saved[0])
        return gate(grad, ~((x <= self.low) | (x >= self.high)))


class HardSigmoid(Function):
    """``x / 6 + 1/2`` between 0 and 1."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the bounded line."""
        self.save_for_backward(x)
        zero, one, sixth, half = constants(x, 0, 1, 1 / 6, 0.5)
        y = x * sixth
        y += half
        return bounded(y, zero, one, y)

    def backward(self, grad: Any) -> Any:
        """Return a sixth of the gradient strictly between the bounds."""
        line = raw(self.saved[0]) * (1 / 6) + 0.5
        return gate(grad, ~((line <= 0) | (line >= 1))) * (1 / 6)


class HardSwish(Function):
    """``x * min(max(x + 3, 0), 6) / 6``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the gated input."""
        self.save_for_backward(x)
        zero, three, six = constants(x, 0, 3, 6)
        y = x + three
        y = bounded(y, zero, six, y)
        y *= x
        y /= six
        return y

    def backward(self, grad: Any) -> Any:
        """Return ``grad * (x / 3 + 1/2)`` in the middle, `grad` to its right."""
        (x,) = self.saved
        array = raw(x)
        right = array >= 3
        middle = ~(right | (array <= -3))
        return gate(grad, right) + gate(grad * (x * (1 / 3) + 0.5), middle)


class HardShrink(Function):
    """``x`` outside ``[-bound, bound]``, 0 inside."""

    promotes = "float"

    def forward(self, x: Any, *, bound: float) -> Any:
        """Return the input without its small elements."""
        self.save_for_backward(x)
        self.bound = bound
        edge, zero = constants(x, bound, 0)
        inside = np.abs(x) <= edge
        if type(x) is not np.ndarray:
            return np.where(inside, zero, x)
        # What NumPy's `where` does, in half of its time.
        y = x.copy()
        np.putmask(y, inside, zero)
        return y

    def backward(self, grad: Any) -> Any:
        """Pass the gradient outside the interval."""
        x = raw(self.saved[0])
        return gate(grad, ~(array_module(x).abs(x) <= self.bound))


class SoftShrink(HardShrink):
    """``x - bound * sign(x)`` outside ``[-bound, bound]``, 0 inside."""

    def forward(self, x: Any, *, bound: float) -> Any:
        """Return the input without the stretch that `bounded` keeps; NaN stays."""
        self.save_for_backward(x)
        self.bound = bound
        return x - bounded(x, *constants(x, -bound, bound))


class Threshold(Function):
    """``x`` above a threshold, a constant elsewhere."""

    def forward(self, x: Any, *, threshold: float, value: float) -> Any:
        """Return the thresholded input."""
        self.save_for_backward(x)
        self.threshold = threshold
        return array_module(x).where(x <= threshold, x.dtype.type(value), x)

    def backward(self, grad: Any) -> Any:
        """Pass the gradient above the threshold."""
        return gate(grad, ~(raw(self.saved[0]) <= self.threshold))


@public(method=False, direct=True)
def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Return `input` bounded to ``[min_val, max_val]``; flat outside.

    Parameters
    ----------
    input : Tensor, any shape
    min_val, max_val : float
    inplace : bool, default False
        Write the result into `input`.

    Raises
    ------
    ArgumentError
        If `min_val` exceeds `max_val`.
    """
    if min_val > max_val:
        raise ArgumentError(
            f"hardtanh: min_val {min_val} must not exceed max_val {max_val}"
        )
    if inplace:
        return hardtanh_(input, min_val, max_val)
    return Clip.apply(input, low=min_val, high=max_val)  # type: ignore[no-any-return]


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Do `hardtanh` in place; return `input`."""
    return run_inplace("hardtanh_", hardtanh, input, (min_val, max_val), {})  # type: ignore[no-any-return]


@public(method=False)
def relu6(input: Any, inplace: bool = False) -> Tensor:
    """Return ``min(max(input, 0), 6)``.

    Source: Howard et al., "MobileNets", 2017.
    """
    return hardtanh(input, 0, 6, inplace)


@public(method=False)
def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """Return ``min(max(input / 6 + 1/2, 0), 1)``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.hardsigmoid(nnlib.tensor([-4.0, 0.0, 1.5]))
    tensor([0.  , 0.5 , 0.75])
    """
    if inplace:
        return run_inplace("hardsigmoid_", hardsigmoid, input, (), {})  # type: ignore[no-any-return]
    return HardSigmoid.apply(input)  # type: ignore[no-any-return]


@public(method=False)
def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """Return ``input * relu6(input + 3) / 6``.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.
    """
    if inplace:
        return run_inplace("hardswish_", hardswish, input, (), {})  # type: ignore[no-any-return]
    return HardSwish.apply(input)  # type: ignore[no-any-return]


@public()
def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """Return `input` where ``|input| > lambd``, 0 elsewhere."""
    return HardShrink.apply(input, bound=lambd)  # type: ignore[no-any-return]


@public(method=False)
def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """Return `input` moved towards 0 by `lambd`, 0 where ``|input| <= lambd``.

    Raises
    ------
    ArgumentError
        If `lambd` is negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.softshrink(nnlib.tensor([-1.0, 0.2, 2.0]))
    tensor([-0.5,  0. ,  1.5])
    """
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd: expected at least 0, got {lambd}")
    return SoftShrink.apply(input, bound=lambd)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def threshold(
    input: Any, threshold: float, value: float, inplace: bool = False
) -> Tensor:
    """Return `input` where it is above `threshold`, `value` elsewhere.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.threshold(nnlib.tensor([0.5, 2.0]), 1.0, -1.0)
    tensor([-1.,  2.])
    """
    if inplace:
        return threshold_(input, threshold, value)
    return Threshold.apply(input, threshold=threshold, value=value)  # type: ignore[no-any-return]


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """Do `threshold` in place; return `input`."""
    return run_inplace("threshold_", _threshold, input, (threshold, value), {})  # type: ignore[no-any-return]


# In `threshold_` a parameter hides the function.
_threshold = threshold
