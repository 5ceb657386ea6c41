"""Activations with curves: gelu, silu, mish, softplus, softsign, ...

The derivative of most is an operation of its own with a fused kernel (`Slope`), which
knows the second derivative in public ops: all higher ones follow.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.ops.activation import Slope, gate
from nnlib.ops.arrays import constants
from nnlib.ops.dims import one_dim, raw
from nnlib.ops.exponential import exp, sigmoid
from nnlib.ops.hyperbolic import tanh
from nnlib.ops.joining import cat

__all__ = [
    "gelu",
    "glu",
    "logsigmoid",
    "mish",
    "silu",
    "softplus",
    "softsign",
    "tanhshrink",
]

DENSITY_AT_0 = 0.3989422804014327  # 1 / sqrt(2 pi)
GELU_SLOPE = 0.7978845608028654  # sqrt(2 / pi)
GELU_CUBIC = 0.044715


class GeluBackward(Slope):
    """The derivative of gelu."""

    kernel = "gelu_backward"

    def second(self, x: Any) -> Any:
        """Return ``phi(x) (2 - x^2)``."""
        square = x * x
        return exp(square * -0.5) * DENSITY_AT_0 * (2 - square)


class Gelu(Function):
    """``x Phi(x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the Gaussian error linear unit."""
        self.save_for_backward(x)
        return kernels.activation.gelu(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad (Phi(x) + x phi(x))``."""
        (x,) = self.saved
        return GeluBackward.apply(grad, x)


class GeluTanhBackward(Slope):
    """The derivative of gelu's tanh form."""

    kernel = "gelu_tanh_backward"

    def second(self, x: Any) -> Any:
        """Differentiate ``x (1 + tanh(u)) / 2`` twice, u = c (x + a x^3)."""
        square = x * x
        u1 = GELU_SLOPE * (1 + 3 * GELU_CUBIC * square)
        u2 = 6 * GELU_SLOPE * GELU_CUBIC * x
        t = tanh(GELU_SLOPE * x * (1 + GELU_CUBIC * square))
        return (1 - t * t) * (u1 + 0.5 * x * (u2 - 2 * t * u1 * u1))


class GeluTanh(Function):
    """``x (1 + tanh(c (x + a x^3))) / 2``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return gelu's tanh form."""
        self.save_for_backward(x)
        return kernels.activation.gelu_tanh(x)

    def backward(self, grad: Any) -> Any:
        """Return the gradient by the input."""
        (x,) = self.saved
        return GeluTanhBackward.apply(grad, x)


class SiluBackward(Slope):
    """The derivative of silu."""

    kernel = "silu_backward"

    def second(self, x: Any) -> Any:
        """Return ``s (1 - s) (2 + x (1 - 2 s))``, s the sigmoid of x."""
        s = sigmoid(x)
        return s * (1 - s) * (2 + x * (1 - 2 * s))


class Silu(Function):
    """``x sigmoid(x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the sigmoid linear unit."""
        self.save_for_backward(x)
        return kernels.activation.silu(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad s (1 + x (1 - s))``."""
        (x,) = self.saved
        return SiluBackward.apply(grad, x)


class MishBackward(Slope):
    """The derivative of mish."""

    kernel = "mish_backward"

    def second(self, x: Any) -> Any:
        """Return ``2 w' + x w''``, w = tanh(softplus(x))."""
        s = sigmoid(x)
        w = tanh(softplus(x))
        rest = 1 - w * w
        return s * rest * (2 + x * (1 - s - 2 * w * s))


class Mish(Function):
    """``x tanh(softplus(x))``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return mish."""
        self.save_for_backward(x)
        return kernels.activation.mish(x)

    def backward(self, grad: Any) -> Any:
        """Return the gradient by the input."""
        (x,) = self.saved
        return MishBackward.apply(grad, x)


class SoftplusBackward(Slope):
    """The derivative of softplus."""

    kernel = "softplus_backward"

    def second(self, x: Any) -> Any:
        """Return ``beta s (1 - s)``, s the sigmoid of ``beta x``."""
        s = sigmoid(x * self.parameter)
        return s * (1 - s) * self.parameter


class Softplus(Function):
    """``log(1 + exp(beta x)) / beta``; x where ``beta x`` exceeds a threshold."""

    promotes = "float"

    def forward(self, x: Any, *, beta: float, threshold: float) -> Any:
        """Return the smooth rectifier."""
        self.beta, self.threshold = beta, threshold
        self.save_for_backward(x)
        y = kernels.activation.softplus(x, parameter=beta)
        # The kernel's own threshold is 20: there the logarithm is x to the last bit
        # of a float32, so that a higher one changes nothing.
        if threshold < 20:
            linear = x * beta > threshold
            y[linear] = x[linear]
        return y

    def backward(self, grad: Any) -> Any:
        """Return ``grad sigmoid(beta x)``; `grad` where the output is linear."""
        (x,) = self.saved
        if self.threshold >= 20:
            return SoftplusBackward.apply(grad, x, parameter=self.beta)
        linear = raw(x) * self.beta > self.threshold
        curved = SoftplusBackward.apply(gate(grad, ~linear), x, parameter=self.beta)
        return gate(grad, linear) + curved


class LogSigmoidBackward(Slope):
    """The derivative of logsigmoid."""

    kernel = "log_sigmoid_backward"

    def second(self, x: Any) -> Any:
        """Return ``-s (1 - s)``, s the sigmoid of x."""
        s = sigmoid(x)
        return s * (s - 1)


class LogSigmoid(Function):
    """``log(sigmoid(x))``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the logarithm of the sigmoid, without overflow."""
        self.save_for_backward(x)
        return kernels.activation.log_sigmoid(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad sigmoid(-x)``."""
        (x,) = self.saved
        return LogSigmoidBackward.apply(grad, x)


class Softsign(Function):
    """``x / (1 + |x|)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the quotient."""
        self.save_for_backward(x)
        return x / (1 + abs(x))

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (1 + |x|)^2``."""
        (x,) = self.saved
        below = 1 + abs(x)
        return grad / (below * below)


class TanhShrink(Function):
    """``x - tanh(x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the difference."""
        self.save_for_backward(x)
        return x - tanh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad tanh(x)^2``."""
        t = tanh(self.saved[0])
        return grad * (t * t)


class Glu(Function):
    """``a sigmoid(b)``, a and b the halves of the input along a dimension."""

    promotes = "float"

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the gated half."""
        self.dim = dim
        self.save_for_backward(x)
        a, b = halves(x, dim)
        y = np.exp(-b)
        y += constants(b, 1)[0]
        return np.divide(a, y, y if type(y) is np.ndarray else None)

    def backward(self, grad: Any) -> Any:
        """Return ``grad s`` and ``grad a s (1 - s)``, s the sigmoid of b."""
        a, b = halves(self.saved[0], self.dim)
        gate = sigmoid(b)
        first = grad * gate
        return cat((first, first * a * (1 - gate)), self.dim)


def halves(x: Any, dim: int) -> tuple[Any, Any]:
    """Return the two halves of a Tensor or array along `dim`."""
    front, back = _sides(x.shape[dim] // 2, dim)
    return x[front], x[back]


@functools.lru_cache(maxsize=64)
def _sides(half: int, dim: int) -> tuple[Any, Any]:
    lead = (slice(None),) * dim
    return (*lead, slice(half)), (*lead, slice(half, None))


@public(method=False)
def gelu(input: Any, approximate: str = "none") -> Tensor:
    """Return the Gaussian error linear unit ``input * Phi(input)``.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    Parameters
    ----------
    input : Tensor, any shape
    approximate : {"none", "tanh"}
        ``"tanh"`` gives ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    Raises
    ------
    ArgumentError
        If `approximate` is neither.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.gelu(nnlib.tensor([-1.0, 2.0]))
    tensor([-0.1587,  1.9545])
    """
    if approximate == "none":
        return Gelu.apply(input)  # type: ignore[no-any-return]
    if approximate != "tanh":
        raise ArgumentError(
            f"gelu: approximate: expected 'none' or 'tanh', got {approximate!r}"
        )
    return GeluTanh.apply(input)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def silu(input: Any, inplace: bool = False) -> Tensor:
    """Return the sigmoid linear unit (swish) ``input * sigmoid(input)``.

    Source: Elfwing et al., "Sigmoid-weighted linear units", 2018.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.silu(nnlib.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    if inplace:
        return run_inplace("silu_", silu, input, (), {})  # type: ignore[no-any-return]
    return Silu.apply(input)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def mish(input: Any, inplace: bool = False) -> Tensor:
    """Return ``input * tanh(softplus(input))``.

    Source: Misra, "Mish: a self regularized non-monotonic activation", 2019.
    """
    if inplace:
        return run_inplace("mish_", mish, input, (), {})  # type: ignore[no-any-return]
    return Mish.apply(input)  # type: ignore[no-any-return]


@public(method=False)
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return the smooth rectifier ``log(1 + exp(beta * input)) / beta``.

    Parameters
    ----------
    input : Tensor, any shape
    beta : float, default 1
        How sharp the bend is.
    threshold : float, default 20
        Where ``beta * input`` exceeds it, the result is `input` itself. From 20 on
        the difference is below a float32's last bit, and 20 is used.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.softplus(nnlib.tensor([0.0, 30.0]))
    tensor([ 0.6931, 30.    ])
    """
    return Softplus.apply(input, beta=beta, threshold=threshold)  # type: ignore[no-any-return]


@public(method=False)
def logsigmoid(input: Any) -> Tensor:
    """Return ``log(sigmoid(input))``, finite for every finite input."""
    return LogSigmoid.apply(input)  # type: ignore[no-any-return]


@public(method=False)
def softsign(input: Any) -> Tensor:
    """Return ``input / (1 + |input|)``.

    Source: Bergstra et al., "Quadratic polynomials learn better image features", 2009.
    """
    return Softsign.apply(input)  # type: ignore[no-any-return]


@public(method=False)
def tanhshrink(input: Any) -> Tensor:
    """Return ``input - tanh(input)``."""
    return TanhShrink.apply(input)  # type: ignore[no-any-return]


@public(method=False)
def glu(input: Any, dim: int = -1) -> Tensor:
    """Return ``a * sigmoid(b)``, a and b the halves of `input` along `dim`.

    Source: Dauphin et al., "Language modeling with gated convolutional networks", 2017.

    Raises
    ------
    ShapeError
        If the dimension has an odd length.
    BoundsError
        If there is no such dimension.

    Examples
    --------
    >>> import nnlib
    >>> glu(nnlib.tensor([3.0, 0.0]))
    tensor([1.5])
    """
    shape = raw(input).shape
    dim = one_dim("glu", dim, len(shape))
    length = shape[dim] if shape else 1
    if length % 2:
        raise ShapeError(
            f"glu: dimension {dim} of input has length {length}, expected an even one"
        )
    return Glu.apply(input, dim=dim)  # type: ignore[no-any-return]
