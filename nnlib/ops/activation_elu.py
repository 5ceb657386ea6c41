"""Activations that are exponential below 0 (elu, selu, celu), and exp itself."""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.ops.activation import Slope, gate, relu
from nnlib.ops.arrays import constants
from nnlib.ops.dims import raw
from nnlib.ops.exponential import exp

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "exponential",
    "selu",
    "selu_",
]

# Klambauer et al., "Self-normalizing neural networks", 2017, section 2.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


class EluBackward(Slope):
    """The derivative of elu."""

    kernel = "elu_backward"

    def second(self, x: Any) -> Any:
        """Return ``alpha exp(x)`` below 0, 0 above."""
        return gate(self.parameter * exp(-relu(-x)), ~(raw(x) > 0))


class Elu(Function):
    """``x`` above 0, ``alpha (exp(x) - 1)`` below."""

    promotes = "float"

    def forward(self, x: Any, *, alpha: float) -> Any:
        """Return the exponential linear unit."""
        self.alpha = alpha
        self.save_for_backward(x)
        return kernels.activation.elu(x, parameter=alpha)

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` above 0, ``grad alpha exp(x)`` below."""
        (x,) = self.saved
        return EluBackward.apply(grad, x, parameter=self.alpha)


class Selu(Elu):
    """A scaled elu."""

    def forward(self, x: Any, *, alpha: float = SELU_ALPHA) -> Any:
        """Return the scaled elu."""
        self.alpha = alpha
        self.save_for_backward(x)
        y = kernels.activation.elu(x, parameter=alpha)
        y *= constants(y, SELU_SCALE)[0]
        return y

    def backward(self, grad: Any) -> Any:
        """Return elu's derivative, scaled."""
        return super().backward(grad * SELU_SCALE)


class Celu(Function):
    """``x`` above 0, ``alpha (exp(x / alpha) - 1)`` below."""

    promotes = "float"

    def forward(self, x: Any, *, alpha: float) -> Any:
        """Return the continuously differentiable elu."""
        self.alpha = alpha
        self.save_for_backward(x)
        if alpha == 1:
            return kernels.activation.elu(x, parameter=1.0)
        y = kernels.activation.elu(x / alpha, parameter=1.0)
        y *= alpha
        return y

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` above 0, ``grad exp(x / alpha)`` below."""
        (x,) = self.saved
        return EluBackward.apply(grad, x / self.alpha, parameter=1.0)


@public(method=False, direct=True)
def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return `input` above 0 and ``alpha * (exp(input) - 1)`` below.

    Source: Clevert et al., "Fast and accurate deep network learning by exponential
    linear units", 2016, equation 15.

    Parameters
    ----------
    input : Tensor, any shape
    alpha : float, default 1
    inplace : bool, default False
        Write the result into `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.elu(nnlib.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    if inplace:
        return elu_(input, alpha)
    return Elu.apply(input, alpha=alpha)  # type: ignore[no-any-return]


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Do `elu` in place; return `input`."""
    return run_inplace("elu_", elu, input, (alpha,), {})  # type: ignore[no-any-return]


@public(method=False, direct=True)
def selu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``1.0507 * elu(input, 1.6733)``, which keeps mean 0 and variance 1.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017, equation 2.
    """
    if inplace:
        return selu_(input)
    return Selu.apply(input)  # type: ignore[no-any-return]


def selu_(input: Tensor) -> Tensor:
    """Do `selu` in place; return `input`."""
    return run_inplace("selu_", selu, input, (), {})  # type: ignore[no-any-return]


@public(method=False, direct=True)
def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``max(0, input) + min(0, alpha * (exp(input / alpha) - 1))``.

    Source: Barron, "Continuously differentiable exponential linear units", 2017.

    Raises
    ------
    ArgumentError
        If `alpha` is 0.
    """
    if not alpha:
        raise ArgumentError("celu: alpha: expected a number other than 0, got 0")
    if inplace:
        return celu_(input, alpha)
    return Celu.apply(input, alpha=alpha)  # type: ignore[no-any-return]


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Do `celu` in place; return `input`."""
    return run_inplace("celu_", celu, input, (alpha,), {})  # type: ignore[no-any-return]


@public(method=False)
def exponential(input: Any) -> Tensor:
    """Return ``exp(input)`` as an output unit, for a positive quantity such as a rate.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.exponential(nnlib.tensor([0.0, 1.0]))
    tensor([1.    , 2.7183])
    """
    return exp(input)
