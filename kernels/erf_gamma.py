"""The error function's complement and inverse; the gamma function and its derivatives.

Each function is one scalar definition for both targets; `elementwise` makes the loops.
These loops are not vectorised: they branch, and call the target's library.

Largest relative errors, in units of the dtype's epsilon, as the tests measure them
against SciPy: erfinv 4, polygamma of up to the third order 12; digamma 12, near its
zeros relative to 1. erfc and lgamma are the library's own.

Examples
--------
>>> import numpy as np
>>> erfc(np.array([0.0, 10.0]))
array([1.00000000e+00, 2.08848758e-45])
>>> lgamma(np.array([1.0, 5.0])).round(6)
array([0.      , 3.178054])
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import overload

from nnlib.kernels import special
from nnlib.kernels.elementwise import Map, scalar

_INVERSE_NEAR = (
    2.8532706894839067e-08,
    3.437346666645681e-07,
    -3.528841805765744e-06,
    -4.396873171654292e-06,
    0.00021860216985299924,
    -0.0012537071763808784,
    -0.00417770776370965,
    0.24664072578711646,
    1.5014094215104212,
)
_INVERSE_FAR = (
    1.7531406531467688e-05,
    -5.3669592062138225e-05,
    9.03278804824541e-06,
    2.4393272970548646e-05,
    0.0002574879388649469,
    -0.0007621265876840771,
    0.0008352742044672465,
    1.0098917418194309,
    4.021425157382494,
)
# B(2j) / (2j), the highest j first, and B(2j) / (2j)!, the lowest j first.
_DIGAMMA_TERMS = (
    1 / 12,
    -691 / 32760,
    1 / 132,
    -1 / 240,
    1 / 252,
    -1 / 120,
    1 / 12,
)
_ZETA_TERMS = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
    -3617 / 10670622842880000,
)


def _erfc(x: Any) -> Any:
    """Return 1 - erf(x) without cancellation."""
    return type(x)(math.erfc(x))


def _lgamma(x: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function."""
    if not math.isfinite(x) or (x <= 0 and x == math.floor(x)):
        return type(x)(x if math.isnan(x) else math.inf)
    return type(x)(math.lgamma(x))


def _floor(x: Any) -> Any:
    """Return the largest whole number not above `x`; on CUDA, of less than 2^63."""
    return np.floor(x)


# Above is what the simulator runs; as in `special`, the target's own library here.
overload(_erfc, strict=False)(lambda x: lambda x: math.erfc(x))
overload(_lgamma, strict=False)(lambda x: lambda x: math.lgamma(x))
overload(_floor, strict=False)(lambda x: lambda x: type(x)(math.floor(x)))
overload(_floor, target="cpu", strict=False)(lambda x: lambda x: np.floor(x))


@scalar
def erfc_at(x: Any, parameter: Any) -> Any:
    """Complement of the error function: 1 - erf(x), without cancellation."""
    return _erfc(x)


@scalar
def erfinv_at(x: Any, parameter: Any) -> Any:
    """Inverse of the error function; infinite at -1 and 1, NaN beyond.

    A polynomial in w = -log(1 - x^2), or in its root, to seven digits (fitted for this
    file, minimax in relative error, by reweighted least squares), and one of Halley's
    steps, which triples them. The variable is Giles's ("Approximating the erfinv
    function", 2010).
    """
    kind = type(x)
    one = kind(1)
    size = abs(x)
    if not size < one:
        return x * kind(math.inf) if size == one else kind(math.nan)
    if size == kind(0):
        return x
    w = -special.log((one - size) * (one + size))
    if w < kind(5):
        t = w - kind(2.5)
        p = kind(_INVERSE_NEAR[0])
        for i in range(1, 9):
            p = p * t + kind(_INVERSE_NEAR[i])
    else:
        t = special.sqrt(w) - kind(4.1798961672288675)
        p = kind(_INVERSE_FAR[0])
        for i in range(1, 9):
            p = p * t + kind(_INVERSE_FAR[i])
    y = p * size
    # Of what is left the complement keeps the digits where x is near 1.
    if size > kind(0.5):
        rest = (one - size) - _erfc(y)
    else:
        rest = special.erf(y) - size
    slope = kind(1.1283791670955126) * special.exp(-y * y)
    step = rest / slope
    y = y - step / (one + y * step)
    return -y if x < kind(0) else y


@scalar
def lgamma_at(x: Any, parameter: Any) -> Any:
    """Logarithm of the absolute value of the gamma function."""
    return _lgamma(x)


@scalar
def digamma_at(x: Any, parameter: Any) -> Any:
    """Logarithmic derivative of the gamma function: NaN at negative integers.

    By reflection below 0, by recurrence below 10, then by the asymptotic series
    (Abramowitz and Stegun, 6.3.7, 6.3.6, 6.3.18).
    """
    kind = type(x)
    one = kind(1)
    if x == kind(0):
        return -one / x
    t = x
    result = kind(0)
    if x < kind(0):
        t = one - x
        # The distance to the nearest integer keeps the digits of a small x.
        near = x - _floor(x + kind(0.5))
        size = abs(near)
        if near == kind(0) or not size <= kind(0.5):
            return kind(math.nan)
        c, s = special.cos_sin_turns(size * kind(0.5))
        result = kind(-math.pi) * c / s
        result = -result if near < kind(0) else result
    while t < kind(10):
        result = result - one / t
        t = t + one
    z = one / (t * t)
    p = kind(_DIGAMMA_TERMS[0])
    for i in range(1, 7):
        p = p * z + kind(_DIGAMMA_TERMS[i])
    return result + (special.log(t) - kind(0.5) / t - p * z)


@scalar
def _inverse_power(t: Any, n: Any) -> Any:
    """Return ``n! / t^(n + 1)``."""
    kind = type(t)
    r = kind(1) / t
    product = r
    i = kind(1)
    while i <= n:
        product = product * (i * r)
        i = i + kind(1)
    return product


@scalar
def _zeta(q: Any, n: Any) -> Any:
    """Return ``n! zeta(n + 1, q)`` for q >= 0, by Euler and Maclaurin's sum.

    DLMF 25.11.5, with the last place summed by itself far enough for its series.
    """
    kind = type(q)
    total = kind(0)
    t = q
    while t < kind(10) + n * kind(0.5):
        total = total + _inverse_power(t, n)
        t = t + kind(1)
    last = _inverse_power(t, n)
    total = total + last * (t / n + kind(0.5))
    factor = last * (n + kind(1)) / t
    rise = n + kind(2)
    for j in range(8):
        total = total + kind(_ZETA_TERMS[j]) * factor
        factor = factor * (rise / t) * ((rise + kind(1)) / t)
        rise = rise + kind(2)
    return total


@scalar
def polygamma_at(x: Any, n: Any) -> Any:
    """Polygamma function of order n >= 1: ``(-1)^(n + 1) n! zeta(n + 1, x)``.

    Below 0 the terms on either side of it are two sums of their own.
    """
    kind = type(x)
    zero = kind(0)
    if x == kind(math.inf):
        return zero
    even = n - kind(2) * _floor(n * kind(0.5)) == zero
    first = x
    if x < zero:
        first = x - _floor(x)
        if not first <= kind(1):
            return kind(math.nan)
    if first == zero:
        return kind(-math.inf) if even else kind(math.inf)
    total = _zeta(first, n)
    if x < zero:
        mirrored = -x - _floor(-x)
        below = _zeta(mirrored, n) - _zeta(kind(1) - x, n)
        total = total - below if even else total + below
    return -total if even else total


erfc = Map(erfc_at)
erfinv = Map(erfinv_at)
lgamma = Map(lgamma_at)
digamma = Map(digamma_at)
polygamma = Map(polygamma_at)
