"""The regularised incomplete gamma functions.

Below ``a + 1`` a power series gives the lower one, above it a continued fraction the
upper one (DLMF 8.7.1, 8.9.2); the other is what is left to 1. What both are multiplied
by, ``x^a e^-x / gamma(a + 1)``, is computed for a large `a` from how far `x` is from
it, so that no digits are lost. For `x` near `a` both take about ``6 sqrt(a)`` terms:
from ``a = 1e6`` on an expansion takes their place (DLMF 8.12.3). The upper one of a
small `a` and `x` is no difference to 1 either. All of it in float64.
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
from nnlib.backend.dtypes import float64
from nnlib.backend.errors import Error
from nnlib.ops.arithmetic import operand_error, sum_to
from nnlib.ops.casting import cast
from nnlib.ops.exponential import exp, log
from nnlib.ops.special_functions import lgamma

__all__ = ["igamma", "igammac"]

_EPSILON = 2.0**-54
_TINY = 1e-300
_EULER = 0.5772156649015329
_LARGE = 1e6
# lgamma(a + 1) beyond Stirling's formula, in odd powers of 1 / a.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
# The coefficients of 1 and of 1 / a in the expansion for a large `a`, in powers of eta.
_FIRST = (-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600, 1 / 25515)
_SECOND = (-1 / 540, -1 / 288, 1 / 378)


def _bend(mu: Any, ratio: Any) -> Any:
    """Return ``log(1 + mu) - mu``, where `ratio` is 1 + mu."""
    module = array_module(mu)
    # For a small mu by the series of atanh.
    r = mu / (2 + mu)
    square = r * r
    series = module.zeros_like(r)
    for k in range(24, -1, -1):
        series = series * square + 1 / (2 * k + 3)
    near = module.abs(mu) < 0.5
    far = module.log(module.where(near, 1.0, ratio)) - mu
    return module.where(near, r * (2 * square * series - mu), far)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    total = array_module(x).zeros_like(x)
    for term in reversed(coefficients):
        total = total * x + term
    return total


def _scale(a: Any, x: Any) -> Any:
    """Return ``x^a e^-x / gamma(a + 1)``."""
    module = array_module(x)
    large = a >= 16
    b = module.where(large, a, 16.0)
    bend = _bend((x - b) / b, x / b)
    rest = _polynomial(_STIRLING, 1 / (b * b))
    far = module.exp(b * bend - rest / b) / module.sqrt(2 * math.pi * b)
    c = module.where(large, 1.0, a)
    plain = module.exp(c * module.log(x) - x - kernels.erf_gamma.lgamma(c + 1))
    return module.where(large, far, plain)


def _series(a: Any, x: Any) -> Any:
    """Return ``1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ...``."""
    total = array_module(x).ones_like(x)
    term, n = total, a
    while True:
        n = n + 1
        term = term * (x / n)
        total = total + term
        if not bool((term > total * _EPSILON).any()):
            return total


def _fraction(a: Any, x: Any) -> Any:
    """Return ``1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - ...))``, by Lentz's method."""
    module = array_module(x)
    b = x + 1 - a
    c = module.full_like(x, 1 / _TINY)
    d = 1 / b
    out, i = d, 0
    while True:
        i += 1
        step = -i * (i - a)
        b = b + 2
        d = step * d + b
        d = 1 / module.where(module.abs(d) < _TINY, _TINY, d)
        c = b + step / c
        c = module.where(module.abs(c) < _TINY, _TINY, c)
        change = c * d
        out = out * change
        if not bool((module.abs(change - 1) > 1e-15).any()):
            return out


def _small(a: Any, x: Any) -> Any:
    """Return the upper function of an `a` below 1/2 and an `x` below 1.1.

    With ``e^s = x^a / gamma(a + 1)`` it is
    ``1 - e^s (1 + a (-x / (a + 1) + x^2 / (2 (a + 2)) - ...))``.
    """
    module = array_module(x)
    b = a + 1
    # What is rounded off in a + 1 is made up for by the slope of lgamma at 1.
    s = a * module.log(x) - kernels.erf_gamma.lgamma(b) + _EULER * (a - (b - 1))
    term, total = module.ones_like(x), module.zeros_like(x)
    for n in range(1, 21):
        term = term * (-x / n)
        total = total + term / (a + n)
    return -module.expm1(s) - module.exp(s) * a * total


def _large(a: Any, x: Any, upper: bool) -> Any:
    """Return the function for a large `a`: the normal distribution's, corrected."""
    module = array_module(x)
    mu = (x - a) / a
    half = -_bend(mu, x / a)  # eta^2 / 2
    eta = module.copysign(module.sqrt(2 * half), mu)
    # Further away the correction is 0.
    near = module.clip(eta, -1.0, 1.0)
    rest = _polynomial(_FIRST, near) + _polynomial(_SECOND, near) / a
    rest = rest * module.exp(-a * half) / module.sqrt(2 * math.pi * a)
    sign = 1.0 if upper else -1.0
    tail = kernels.erf_gamma.erfc(sign * eta * module.sqrt(a / 2))
    return 0.5 * tail + sign * rest


def _incomplete(a: Any, x: Any, upper: bool) -> Any:
    """Return the lower or the upper function, of float64 arrays of one shape."""
    module = array_module(x)
    valid = (a >= 0) & (x >= 0) & ~((a == 0) & (x == 0))
    valid &= ~(module.isinf(a) & module.isinf(x))
    # At the edges nothing, or everything, is below x.
    below = (a == 0) | module.isinf(x)
    out = module.where(below, 0.0, 1.0) if upper else module.where(below, 1.0, 0.0)
    inner = valid & (a > 0) & (x > 0) & module.isfinite(a) & module.isfinite(x)
    large = inner & (a >= _LARGE)
    p, q = a[large], x[large]
    if p.size:
        out[large] = _large(p, q, upper)
    inner &= ~large
    small = inner & (a < 0.5) & (x < 1.1) & upper
    p, q = a[small], x[small]
    if p.size:
        out[small] = _small(p, q)
    inner &= ~small
    left = inner & (x < a + 1)
    p, q = a[left], x[left]
    if p.size:
        value = _scale(p, q) * _series(p, q)
        out[left] = 1 - value if upper else value
    right = inner & ~left
    p, q = a[right], x[right]
    if p.size:
        value = _scale(p, q) * p * _fraction(p, q)
        out[right] = value if upper else 1 - value
    return module.where(valid, out, math.nan)


class IncompleteGamma(Function):
    """The regularised lower or upper incomplete gamma function."""

    promotes = "float"
    upcasts = True

    def forward(self, a: Any, x: Any, *, upper: bool) -> Any:
        """Return the function's values, computed in float64."""
        if self.needs(0):
            name = "igammac" if upper else "igamma"
            raise Error(
                f"{name}: input: the derivative by it is not known; detach it, or "
                "differentiate by other alone"
            )
        self.upper = upper
        self.save_for_backward(a, x)
        like = a if hasattr(a, "dtype") else x
        module = array_module(like)
        try:
            p, q = module.broadcast_arrays(
                module.asarray(a, np.float64), module.asarray(x, np.float64)
            )
        except ValueError as error:
            op = "igammac" if upper else "igamma"
            raise operand_error(op, error, a, x) from None
        return _incomplete(p, q, upper).astype(like.dtype)

    def backward(self, grad: Any) -> Any:
        """Return ``grad x^(a - 1) e^-x / gamma(a)``."""
        # Differences of large numbers: float32 would leave few digits of them.
        a, x = (cast(v, float64) if hasattr(v, "dtype") else v for v in self.saved)
        slope = cast(exp((a - 1) * log(x) - x - lgamma(a + x * 0)), grad.dtype)
        by_x = grad * (-slope if self.upper else slope)
        return None, sum_to(by_x, getattr(x, "shape", ()))


@public(inplace=True)
def igamma(input: Any, other: Any) -> Tensor:
    """Return the regularised lower incomplete gamma function ``P(input, other)``.

    ``P(a, x) = integral from 0 to x of t^(a - 1) e^-t dt / gamma(a)``: the probability
    that a gamma variable of shape a is below x. Also `nnlib.special.gammainc`.

    Parameters
    ----------
    input, other : Tensor or number, at least one a Tensor, shapes that broadcast
        Not negative (there is NaN). Gradients pass to `other` alone.

    Raises
    ------
    Error
        If `input` wants a gradient.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.igamma(nnlib.tensor([1.0, 4.0]), nnlib.tensor([1.0, 4.0]))
    tensor([0.6321, 0.5665])
    """
    return IncompleteGamma.apply(input, other, upper=False)  # type: ignore[no-any-return]


@public(inplace=True)
def igammac(input: Any, other: Any) -> Tensor:
    """Return the regularised upper incomplete gamma function ``1 - P(input, other)``.

    Exact also where it is small. Also `nnlib.special.gammaincc`; see `igamma`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.igammac(nnlib.tensor([1.0, 4.0]), nnlib.tensor([1.0, 4.0]))
    tensor([0.3679, 0.4335])
    """
    return IncompleteGamma.apply(input, other, upper=True)  # type: ignore[no-any-return]
