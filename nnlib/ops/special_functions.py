"""The gamma function and its kin, the error function's complement and inverse.

Their values come from `nnlib.kernels.erf_gamma`, which tells how, and how exactly.
"""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import get_default_dtype
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.ops.dims import constant, raw
from nnlib.ops.exponential import exp, log, log1p

__all__ = ["digamma", "erfc", "erfinv", "lgamma", "mvlgamma", "polygamma"]


class Erfc(Function):
    """``1 - erf(x)``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the complement of the error function."""
        self.save_for_backward(x)
        return kernels.erf_gamma.erfc(x)

    def backward(self, grad: Any) -> Any:
        """Return ``-grad 2 / sqrt(pi) e^(-x^2)``."""
        (x,) = self.saved
        return grad * (exp(-x * x) * (-2 / math.sqrt(math.pi)))


class Erfinv(Function):
    """The inverse of the error function."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the inverse."""
        out = kernels.erf_gamma.erfinv(x)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad sqrt(pi) / 2 e^(y^2)``."""
        (out,) = self.saved
        return grad * (exp(out * out) * (math.sqrt(math.pi) / 2))


class LogGamma(Function):
    """``log |gamma(x)|``."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the logarithm."""
        self.save_for_backward(x)
        return kernels.erf_gamma.lgamma(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad digamma(x)``."""
        (x,) = self.saved
        return grad * Digamma.apply(x)


class Digamma(Function):
    """The derivative of `LogGamma`."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return the derivative."""
        self.save_for_backward(x)
        return kernels.erf_gamma.digamma(x)

    def backward(self, grad: Any) -> Any:
        """Return ``grad polygamma(1, x)``."""
        (x,) = self.saved
        return grad * Polygamma.apply(x, n=1)


class Polygamma(Function):
    """Derivative number n >= 1 of `Digamma`."""

    promotes = "float"

    def forward(self, x: Any, *, n: int) -> Any:
        """Return the derivative."""
        self.n = n
        self.save_for_backward(x)
        return kernels.erf_gamma.polygamma(x, parameter=float(n))

    def backward(self, grad: Any) -> Any:
        """Return ``grad polygamma(n + 1, x)``."""
        (x,) = self.saved
        return grad * Polygamma.apply(x, n=self.n + 1)


@public(inplace=True)
def erfc(input: Any) -> Tensor:
    """Return ``1 - erf(input)``, exact also where the error function is near 1.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.erfc(nnlib.tensor([0.0, 3.0]))
    tensor([1.000e+00, 2.209e-05])
    """
    return Erfc.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def erfinv(input: Any) -> Tensor:
    """Return the inverse of the error function: infinite at -1 and 1, NaN beyond.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.erfinv(nnlib.tensor([0.0, 0.5]))
    tensor([0.    , 0.4769])
    """
    return Erfinv.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def lgamma(input: Any) -> Tensor:
    """Return the logarithm of the absolute value of the gamma function.

    Infinite at 0 and the negative integers; ``lgamma(n + 1)`` is ``log(n!)``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.lgamma(nnlib.tensor([1.0, 4.0]))
    tensor([0.    , 1.7918])
    """
    return LogGamma.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def digamma(input: Any) -> Tensor:
    """Return the derivative of `lgamma`: -inf at 0, NaN at the negative integers.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.digamma(nnlib.tensor([1.0, 2.0]))
    tensor([-0.5772,  0.4228])
    """
    return Digamma.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def polygamma(n: Any, input: Any) -> Tensor:
    """Return derivative number `n` of `digamma`; as a method ``x.polygamma(n)``.

    Parameters
    ----------
    n : int
        0 for `digamma` itself.
    input : Tensor

    Raises
    ------
    ArgumentError
        If `n` is negative.
    DTypeError
        If `n` is no integer.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.polygamma(1, nnlib.tensor([1.0, 2.0]))
    tensor([1.6449, 0.6449])
    """
    if hasattr(n, "dtype"):
        n, input = input, n
    if type(n) is not int:
        raise DTypeError(f"polygamma: n: expected an integer, got {type(n).__name__}")
    if n < 0:
        raise ArgumentError(f"polygamma: n: expected at least 0, got {n}")
    return Polygamma.apply(input, n=n) if n else digamma(input)


@public(inplace=True)
def mvlgamma(input: Any, p: int) -> Tensor:
    """Return the logarithm of the multivariate gamma function of dimension `p`.

    ``sum_j lgamma(x - j / 2) + p (p - 1) / 4 log(pi)`` for j = 0 to p - 1.

    Parameters
    ----------
    input : Tensor
        Above ``(p - 1) / 2``.
    p : int, at least 1

    Raises
    ------
    ArgumentError
        If `p` is less than 1.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.mvlgamma(nnlib.tensor([2.0]), 2)
    tensor([0.4516])
    """
    if p < 1:
        raise ArgumentError(f"mvlgamma: p: expected at least 1, got {p}")
    total = lgamma(input) + p * (p - 1) / 4 * math.log(math.pi)
    for j in range(1, p):
        total = total + lgamma(input - j / 2)
    return total


@public(method=False, reads=True)
def special_entr(input: Any) -> Tensor:
    """Return ``-input log(input)``: 0 at 0, minus infinity below.

    At 0 its slope is infinite; it is taken as 0, as that of `xlogy` is.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.special.entr(nnlib.tensor([0.0, 0.5]))
    tensor([0.    , 0.3466])
    """
    from nnlib.ops.selection import where

    x = raw(input)
    zero = constant(x == 0, input)
    value = (0.0 - input) * log(where(zero, 1.0, input))
    return where(constant(x < 0, input), -math.inf, value)  # type: ignore[no-any-return]


@public(method=False)
def special_ndtr(input: Any) -> Tensor:
    """Return the normal distribution's cumulative probability at `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.special.ndtr(nnlib.tensor([0.0, 1.96]))
    tensor([0.5  , 0.975])
    """
    return erfc(input * -math.sqrt(0.5)) * 0.5


@public(method=False, reads=True)
def special_xlog1py(input: Any, other: Any) -> Tensor:
    """Return ``input * log(1 + other)``, and 0 where `input` is 0 and `other` not NaN.

    Parameters
    ----------
    input, other : Tensor or number, at least one a Tensor, shapes that broadcast

    Examples
    --------
    >>> import nnlib
    >>> nnlib.special.xlog1py(nnlib.tensor([0.0, 2.0]), nnlib.tensor([-1.0, 0.0]))
    tensor([0., 0.])
    """
    from nnlib.backend.device import array_module
    from nnlib.backend.dtypes import FLOATING
    from nnlib.ops.selection import where

    like = input if isinstance(input, Tensor) else other
    x, y = raw(input), raw(other)
    # Where the logarithm is not finite; NaN stays.
    nothing = constant((x == 0) & ((y <= -1) | (y == math.inf)), like)
    if not isinstance(other, Tensor):
        kind = x.dtype if x.dtype in FLOATING else get_default_dtype()
        other = constant(array_module(x).asarray(other, kind), like)
    return input * log1p(where(nothing, 0.0, other))  # type: ignore[no-any-return]
