"""Hyperbolic functions and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import float32
from nnlib.ops.power import rsqrt

__all__ = [
    "acosh",
    "arccosh",
    "arcsinh",
    "arctanh",
    "asinh",
    "atanh",
    "cosh",
    "sinh",
    "tanh",
]

# From so many elements on the kernel is ahead of three passes of NumPy.
_LARGE = 1 << 14


class Sinh(Function):
    """Hyperbolic sine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the hyperbolic sine."""
        self.save_for_backward(x)
        return np.sinh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad cosh(x)``."""
        (x,) = self.saved
        return grad * cosh(x)


class Cosh(Function):
    """Hyperbolic cosine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the hyperbolic cosine."""
        self.save_for_backward(x)
        return np.cosh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad sinh(x)``."""
        (x,) = self.saved
        return grad * sinh(x)


class Tanh(Function):
    """Hyperbolic tangent."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the hyperbolic tangent."""
        out = np.tanh(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad (1 - y^2)``."""
        (out,) = self.saved
        return TanhBackward.apply(grad, out)


class TanhBackward(Function):
    """``g (1 - y^2)``."""

    def forward(self, grad: Any, y: Any) -> Any:
        """Return the gradient of tanh from its output."""
        self.save_for_backward(grad, y)
        if y.size >= _LARGE and y.dtype == grad.dtype == float32:
            return kernels.activation.tanh_backward(grad, y)
        return grad * (1 - y * y)

    def backward(self, grad: Any) -> Any:
        """Return the derivative by the gradient and by the output."""
        g, y = self.saved
        return grad * (1 - y * y), grad * g * (y * -2)


class Asinh(Function):
    """Inverse hyperbolic sine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the inverse hyperbolic sine."""
        self.save_for_backward(x)
        return np.arcsinh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / sqrt(x^2 + 1)``."""
        (x,) = self.saved
        return grad * rsqrt(x * x + 1)


class Acosh(Function):
    """Inverse hyperbolic cosine."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the inverse hyperbolic cosine."""
        self.save_for_backward(x)
        return np.arccosh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / sqrt(x^2 - 1)``."""
        (x,) = self.saved
        return grad * (rsqrt(x - 1) * rsqrt(x + 1))


class Atanh(Function):
    """Inverse hyperbolic tangent."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the inverse hyperbolic tangent."""
        self.save_for_backward(x)
        return np.arctanh(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (1 - x^2)``."""
        (x,) = self.saved
        return grad / (1 - x * x)


@public(inplace=True)
def sinh(input: Any) -> Tensor:
    """Return the hyperbolic sine.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sinh(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 1.1752])
    """
    return Sinh.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def cosh(input: Any) -> Tensor:
    """Return the hyperbolic cosine.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cosh(nnlib.tensor([0.0, 1.0]))
    tensor([1.    , 1.5431])
    """
    return Cosh.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def tanh(input: Any) -> Tensor:
    """Return the hyperbolic tangent.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tanh(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.7616])
    """
    return Tanh.apply(input)  # type: ignore[no-any-return]


@public(method=("asinh", "arcsinh"), inplace=True)
def asinh(input: Any) -> Tensor:
    """Return the inverse hyperbolic sine.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.asinh(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.8814])
    """
    return Asinh.apply(input)  # type: ignore[no-any-return]


arcsinh = asinh


@public(method=("acosh", "arccosh"), inplace=True)
def acosh(input: Any) -> Tensor:
    """Return the inverse hyperbolic cosine; NaN below 1.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.acosh(nnlib.tensor([1.0, 2.0]))
    tensor([0.   , 1.317])
    """
    return Acosh.apply(input)  # type: ignore[no-any-return]


arccosh = acosh


@public(method=("atanh", "arctanh"), inplace=True)
def atanh(input: Any) -> Tensor:
    """Return the inverse hyperbolic tangent; NaN outside [-1, 1].

    Examples
    --------
    >>> import nnlib
    >>> nnlib.atanh(nnlib.tensor([0.0, 0.5]))
    tensor([0.    , 0.5493])
    """
    return Atanh.apply(input)  # type: ignore[no-any-return]


arctanh = atanh
