"""Relu and its leaky kin, and what all activations share: `Gate` and `Slope`.

The other activations are in `activation_hard` (straight pieces), `activation_elu`,
`activation_smooth` and `softmax`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import float32
from nnlib.backend.errors import ShapeError
from nnlib.backend.random import Generator, default_generator
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.arrays import constants
from nnlib.ops.dims import raw

__all__ = [
    "leaky_relu",
    "leaky_relu_",
    "prelu",
    "relu",
    "relu_",
    "rrelu",
    "rrelu_",
]

# Up to this many elements NumPy is done before a kernel has started.
SMALL = 8192
# Up to so many elements two simple calls of NumPy are faster than its `where`.
_FEW = 1024


class Gate(Function):
    """``x`` where a mask holds, 0 elsewhere (whatever `x` is there, NaN included)."""

    def forward(self, x: Any, mask: Any) -> Any:
        """Return the masked array."""
        self.save_for_backward(mask)
        alike = x.shape == mask.shape
        if alike and x.size <= _FEW and type(x) is np.ndarray:
            # What NumPy's `where` does, in half of its time.
            out = np.zeros(x.shape, x.dtype)
            np.putmask(out, mask, x)
            return out
        if x.size <= SMALL or x.dtype.kind != "f" or not alike:
            return array_module(x).where(mask, x, 0)
        # NumPy's `where` pays for every wrong guess at a random mask.
        return kernels.loss.gate(x, mask.astype(x.dtype))

    def backward(self, grad: Any) -> Any:
        """Mask the gradient."""
        (mask,) = self.saved
        return Gate.apply(grad, raw(mask)), None


def gate(x: Any, mask: Any) -> Any:
    """Return `x` where the array `mask` holds, 0 elsewhere."""
    return Gate.apply(x, mask)


class Slope(Function):
    """``grad * f'(x)`` in one kernel: the derivative of an activation ``f``.

    A subclass names the kernel and gives ``f''`` in public ops; None where it is 0.
    """

    kernel = ""

    def forward(self, grad: Any, x: Any, *, parameter: float = 0.0) -> Any:
        """Return the gradient by the activation's input."""
        self.parameter = parameter
        self.save_for_backward(grad, x)
        run = getattr(kernels.activation, self.kernel)
        return run(grad, x, parameter=parameter)

    def backward(self, grad: Any) -> Any:
        """Return ``grad * f'(x)`` and ``grad * outer * f''(x)``."""
        outer, x = self.saved
        first = second = None
        if self.needs(0):
            first = type(self).apply(grad, x, parameter=self.parameter)
        if self.needs(1):
            bend = self.second(x)
            second = None if bend is None else grad * outer * bend
        return first, second

    def second(self, x: Any) -> Any:
        """Return ``f''(x)``."""
        return None


class ReluBackward(Slope):
    """The derivative of relu, from its output."""

    kernel = "relu_backward"


class Relu(Function):
    """``max(x, 0)``."""

    def forward(self, x: Any) -> Any:
        """Return the positive part."""
        if x.size <= SMALL and type(x) is np.ndarray:
            y = np.maximum(x, *constants(x, 0))
        elif x.dtype.kind in "biu":
            y = array_module(x).maximum(x, 0)
        else:
            y = kernels.activation.relu(x)
        self.save_for_backward(y)
        return y

    def backward(self, grad: Any) -> Any:
        """Pass the gradient where the output is positive."""
        (y,) = self.saved
        return ReluBackward.apply(grad, y)


class LeakyReluBackward(Slope):
    """The derivative of leaky relu."""

    kernel = "leaky_relu_backward"


class LeakyRelu(Function):
    """``x`` above 0, ``slope * x`` below."""

    promotes = "float"

    def forward(self, x: Any, *, slope: float) -> Any:
        """Return the two half-lines."""
        self.slope = slope
        self.save_for_backward(x)
        return kernels.activation.leaky_relu(x, parameter=slope)

    def backward(self, grad: Any) -> Any:
        """Scale the gradient below 0."""
        (x,) = self.saved
        return LeakyReluBackward.apply(grad, x, parameter=self.slope)


class PRelu(Function):
    """``x`` above 0, ``weight * x`` below; `weight` broadcasts."""

    def forward(self, x: Any, weight: Any) -> Any:
        """Return the two half-lines."""
        self.save_for_backward(x, weight)
        below, above = weight * x, x > constants(x, 0)[0]
        if type(below) is not np.ndarray or below.dtype != x.dtype:
            return np.where(above, x, below)
        # What NumPy's `where` does, in a third of its time.
        np.putmask(below, above, x)
        return below

    def backward(self, grad: Any) -> Any:
        """Return the gradients by input and slope."""
        x, weight = self.saved
        above = raw(x) > 0
        below = gate(grad, ~above)
        return (
            gate(grad, above) + below * weight if self.needs(0) else None,
            sum_to(below * x, weight.shape) if self.needs(1) else None,
        )


@public(inplace=True, direct=True)
def relu(input: Any, inplace: bool = False) -> Tensor:
    """Return the rectified linear unit ``max(input, 0)``.

    Parameters
    ----------
    input : Tensor, any shape and dtype
    inplace : bool, default False
        Write the result into `input`, as `relu_` does.

    Notes
    -----
    The derivative at 0 is taken as 0. A NaN passes through.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.relu(nnlib.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if inplace:
        return run_inplace("relu_", relu, input, (), {})  # type: ignore[no-any-return]
    return Relu.apply(input)  # type: ignore[no-any-return]


def relu_(input: Tensor) -> Tensor:
    """Do `relu` in place; return `input`."""
    return run_inplace("relu_", relu, input, (), {})  # type: ignore[no-any-return]


@public(method=False, direct=True)
def leaky_relu(
    input: Any, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    """Return `input` above 0 and ``negative_slope * input`` below.

    Source: Maas et al., "Rectifier nonlinearities improve neural network acoustic
    models", 2013.

    Parameters
    ----------
    input : Tensor, any shape
    negative_slope : float, default 0.01
    inplace : bool, default False
        Write the result into `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.leaky_relu(nnlib.tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1,  2. ])
    """
    if inplace:
        return leaky_relu_(input, negative_slope)
    return LeakyRelu.apply(input, slope=negative_slope)  # type: ignore[no-any-return]


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Do `leaky_relu` in place; return `input`."""
    return run_inplace("leaky_relu_", leaky_relu, input, (negative_slope,), {})  # type: ignore[no-any-return]


@public()
def prelu(input: Any, weight: Any) -> Tensor:
    """Return `input` above 0 and ``weight * input`` below, with learnt slopes.

    Source: He et al., "Delving deep into rectifiers", 2015, equation 1.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...)
    weight : Tensor, shape (C,) or one element
        One slope per channel (dimension 1), or one for all.

    Raises
    ------
    ShapeError
        If there are neither one nor C slopes.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.prelu(nnlib.tensor([-1.0, 2.0]), nnlib.tensor([0.5]))
    tensor([-0.5,  2. ])
    """
    shape = tuple(input.shape)
    count = tuple(weight.shape)
    if count in ((), (1,)):
        slopes: tuple[int, ...] = (1,) * len(shape)
        if shape:
            # It broadcasts as it is.
            slopes = count
    elif len(count) != 1 or len(shape) < 2 or count[0] != shape[1]:
        raise ShapeError(
            f"prelu: weight has shape {count}, expected one slope or one per channel "
            f"(dimension 1) of input, which has shape {shape}"
        )
    else:
        slopes = (*count, *(1,) * (len(shape) - 2))  # (C,) -> (C, 1, ...)
    if slopes != count:
        weight = weight.reshape(slopes)
    return PRelu.apply(input, weight)  # type: ignore[no-any-return]


@public(method=False)
def rrelu(
    input: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return `input` above 0 and a random slope times it below.

    Source: Xu et al., "Empirical evaluation of rectified activations in convolutional
    network", 2015.

    Parameters
    ----------
    input : Tensor, any shape, floating
    lower, upper : float
        The slopes are drawn between these; outside of training the slope is their
        mean.
    training : bool, default False
    inplace : bool, default False
        Write the result into `input`.
    generator : Generator, optional
        Where the random numbers come from; default: the one that `manual_seed` seeds.

    Raises
    ------
    ShapeError
        If `lower` exceeds `upper`.
    """
    if lower > upper:
        raise ShapeError(f"rrelu: lower {lower} must not exceed upper {upper}")
    if inplace:
        options = {"generator": generator}
        return run_inplace("rrelu_", rrelu, input, (lower, upper, training), options)  # type: ignore[no-any-return]
    if not training:
        return LeakyRelu.apply(input, slope=(lower + upper) / 2)  # type: ignore[no-any-return]
    array = raw(input)
    wide = float32 if array.dtype.itemsize < 4 else array.dtype
    seed, offset = (generator or default_generator).reserve(array.size)
    with context_of(array):
        slopes = array_module(array).empty(array.shape, wide)
        kernels.philox.uniform(slopes, seed, offset, lower, upper)
        slopes = slopes.astype(array.dtype, copy=False)
    return PRelu.apply(input, slopes)  # type: ignore[no-any-return]


def rrelu_(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    """Do `rrelu` in place; return `input`."""
    return run_inplace("rrelu_", rrelu, input, (lower, upper, training), {})  # type: ignore[no-any-return]
