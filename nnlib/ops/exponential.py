"""Exponentials, logarithms, the logistic function, the error function.

Small arrays go through NumPy's ufuncs. Large float32 arrays go through the kernels
where those are faster (they run on all threads); NumPy's float64 loops are faster.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, float32, get_default_dtype
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.dims import constant, raw

__all__ = [
    "erf",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logit",
    "sigmoid",
    "xlogy",
]

# From so many elements on the kernels were ahead on two cores with AVX-512; for the
# sigmoid, four passes in NumPy, much earlier.
_LARGE = 1 << 16
_LARGE_SIGMOID = 1 << 11
# An array of the array's own type spares NumPy the making of one.
_ONE = {dtype: np.array(1, dtype) for dtype in FLOATING}
_ndarray, _exp, _reciprocal = np.ndarray, np.exp, np.reciprocal


class Exp(Function):
    """``e^x``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the exponential."""
        if x.size >= _LARGE and x.dtype == float32:
            out = kernels.activation.exp(x)
        else:
            out = np.exp(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad e^x``."""
        (out,) = self.saved
        return grad * out


class Exp2(Function):
    """``2^x``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the power of two."""
        out = np.exp2(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad ln(2) 2^x``."""
        (out,) = self.saved
        return grad * (out * math.log(2))


class Expm1(Function):
    """``e^x - 1``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the exponential less one."""
        out = np.expm1(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad e^x``."""
        (out,) = self.saved
        return grad * (out + 1)


class Log(Function):
    """Natural logarithm."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the logarithm."""
        self.save_for_backward(x)
        if x.size >= _LARGE and x.dtype == float32:
            return kernels.activation.log(x)
        return np.log(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / x``."""
        (x,) = self.saved
        return grad / x


class LogBase(Function):
    """Logarithm to the base 2 or 10."""

    promotes = "float"

    def forward(self, x: Any, *, base: int) -> Any:
        """Return the logarithm."""
        self.base = base
        self.save_for_backward(x)
        return np.log2(x) if base == 2 else np.log10(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (x ln(base))``."""
        (x,) = self.saved
        return grad / (x * math.log(self.base))


class Log1p(Function):
    """``log(1 + x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the logarithm of 1 + x."""
        self.save_for_backward(x)
        return np.log1p(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (1 + x)``."""
        (x,) = self.saved
        return grad / (x + 1)


class LogAddExp(Function):
    """``log(e^x + e^y)``."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the logarithm of the sum."""
        self.save_for_backward(x, y)
        try:
            return np.logaddexp(x, y)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("logaddexp", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad sigmoid(x - y)`` and ``grad sigmoid(y - x)``."""
        x, y = self.saved
        return (
            sum_to(grad * sigmoid(x - y), shapes(x)) if self.needs(0) else None,
            sum_to(grad * sigmoid(y - x), shapes(y)) if self.needs(1) else None,
        )


class Logit(Function):
    """``log(x / (1 - x))``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the log-odds."""
        self.save_for_backward(x)
        return np.log(x / (1 - x))

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (x (1 - x))``; NaN outside [0, 1], where the value is."""
        from nnlib.ops.selection import where

        (x,) = self.saved
        inside = (x >= 0) & (x <= 1)
        return where(inside, grad / (x * (1 - x)), math.nan)


class Sigmoid(Function):
    """``1 / (1 + e^-x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the logistic function."""
        if x.size >= _LARGE_SIGMOID and x.dtype == float32:
            out = kernels.activation.sigmoid(x)
        else:
            out = -x
            if type(out) is _ndarray:
                # One array serves all the steps.
                _exp(out, out)
                out += _ONE[x.dtype]
                _reciprocal(out, out)
            else:
                out = np.reciprocal(np.exp(out) + 1)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad y (1 - y)``."""
        (out,) = self.saved
        return SigmoidBackward.apply(grad, out)


class SigmoidBackward(Function):
    """``g y (1 - y)`` in one pass."""

    def forward(self, grad: Any, y: Any) -> Any:
        """Return the gradient of the logistic function from its output."""
        self.save_for_backward(grad, y)
        if y.size >= _LARGE_SIGMOID and y.dtype == grad.dtype == float32:
            return kernels.activation.sigmoid_backward(grad, y)
        return grad * (y - y * y)

    def backward(self, grad: Any) -> Any:
        """Return the derivative by the gradient and by the output."""
        g, y = self.saved
        return grad * (y - y * y), grad * g * (1 - y * 2)


class Erf(Function):
    """The error function."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the error function."""
        self.save_for_backward(x)
        return kernels.activation.erf(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad 2 / sqrt(pi) e^(-x^2)``."""
        (x,) = self.saved
        return grad * (exp(-x * x) * (2 / math.sqrt(math.pi)))


@public(inplace=True)
def exp(input: Any) -> Tensor:
    """Return e to the power of each element.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.exp(nnlib.tensor([0.0, 1.0]))
    tensor([1.    , 2.7183])
    """
    return Exp.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def exp2(input: Any) -> Tensor:
    """Return 2 to the power of each element.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.exp2(nnlib.tensor([0.0, 3.0]))
    tensor([1., 8.])
    """
    return Exp2.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def expm1(input: Any) -> Tensor:
    """Return ``exp(input) - 1`` without cancellation near zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.expm1(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 1.7183])
    """
    return Expm1.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def log(input: Any) -> Tensor:
    """Return the natural logarithm: -inf at zero, NaN below.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.log(nnlib.tensor([1.0, 2.0]))
    tensor([0.    , 0.6931])
    """
    return Log.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def log2(input: Any) -> Tensor:
    """Return the logarithm to the base 2.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.log2(nnlib.tensor([1.0, 8.0]))
    tensor([0., 3.])
    """
    return LogBase.apply(input, base=2)  # type: ignore[no-any-return]


@public(inplace=True)
def log10(input: Any) -> Tensor:
    """Return the logarithm to the base 10.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.log10(nnlib.tensor([1.0, 100.0]))
    tensor([0., 2.])
    """
    return LogBase.apply(input, base=10)  # type: ignore[no-any-return]


@public(inplace=True)
def log1p(input: Any) -> Tensor:
    """Return ``log(1 + input)`` without cancellation near zero.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.log1p(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.6931])
    """
    return Log1p.apply(input)  # type: ignore[no-any-return]


@public()
def logaddexp(input: Any, other: Any) -> Tensor:
    """Return ``log(exp(input) + exp(other))`` without overflow.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logaddexp(nnlib.tensor([0.0]), nnlib.tensor([0.0]))
    tensor([0.6931])
    """
    return LogAddExp.apply(input, other)  # type: ignore[no-any-return]


@public(inplace=True)
def sigmoid(input: Any) -> Tensor:
    """Return the logistic function ``1 / (1 + exp(-input))``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sigmoid(nnlib.tensor([0.0, 2.0]))
    tensor([0.5   , 0.8808])
    """
    return Sigmoid.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def logit(input: Any, eps: float | None = None) -> Tensor:
    """Return ``log(input / (1 - input))``, the inverse of the logistic function.

    Parameters
    ----------
    input : Tensor
    eps : float, optional
        Clamp `input` to ``[eps, 1 - eps]`` first.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logit(nnlib.tensor([0.5, 0.75]))
    tensor([0.    , 1.0986])
    """
    if eps is not None:
        from nnlib.ops.bounds import clamp

        input = clamp(input, eps, 1 - eps)
    return Logit.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def erf(input: Any) -> Tensor:
    """Return the error function ``2 / sqrt(pi) * integral of exp(-t^2), 0 to input``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.erf(nnlib.tensor([0.0, 1.0]))
    tensor([0.    , 0.8427])
    """
    return Erf.apply(input)  # type: ignore[no-any-return]


@public(inplace=True, reads=True)
def xlogy(input: Any, other: Any) -> Tensor:
    """Return ``input * log(other)``, and 0 where `input` is 0 and `other` not NaN.

    Parameters
    ----------
    input, other : Tensor or number, at least one a Tensor, shapes that broadcast

    Examples
    --------
    >>> import nnlib
    >>> nnlib.xlogy(nnlib.tensor([0.0, 2.0]), nnlib.tensor([0.0, 1.0]))
    tensor([0., 0.])
    """
    from nnlib.ops.selection import where

    like = input if isinstance(input, Tensor) else other
    x, y = raw(input), raw(other)
    # Where log(y) is not finite; NaN stays.
    nothing = constant((x == 0) & ((y <= 0) | (y == math.inf)), like)
    if not isinstance(other, Tensor):
        kind = x.dtype if x.dtype in FLOATING else get_default_dtype()
        other = constant(array_module(x).asarray(other, kind), like)
    return input * log(where(nothing, 1.0, other))  # type: ignore[no-any-return]
