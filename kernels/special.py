"""Scalar functions for kernel bodies: exp, log, tanh, erf and their kin.

Each function is a plain Python function with two implementations chosen by the
compiler's target:

- CPU, float32: a polynomial written out in float32 arithmetic, without branches and
  without library calls. That is what lets LLVM turn the loop around it into vector
  instructions; a loop that calls libm stays scalar (twenty times slower here).
- CPU, float64, and CUDA: the target's own library function.

In the CUDA simulator the Python function itself runs, on NumPy scalars.

The polynomials were fitted for this file: minimax in relative error, by iteratively
reweighted least squares in float64, then rounded to float32. Largest relative errors
against float64, measured over every normal float32 of the stated range in the tests:
exp 1.2e-7, log 1.2e-7, expm1 and log1p 2e-7, tanh 2e-7, erf 2e-7.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

INFINITY = math.inf

# Adding and subtracting 1.5 * 2**23 rounds a float32 to the nearest integer, which
# then also stands in the low bits of the sum.
_ROUND = np.float32(12582912.0)
_ROUND_BITS = np.int32(0x4B400000)
_LOG2E = np.float32(1.4426950408889634)
# ln 2 in two parts; the first has 15 significant bits, so that n * _LN2_HIGH is exact.
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(1.42860676533018e-06)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_TINY = np.float32(1.1754944e-38)
_INF = np.float32(np.inf)
# Coefficients, the highest power first: of (exp(r) - 1 - r) / r^2, and of
# (tanh(x) - x) / x^3 in x^2. `nnlib.kernels.wide` reads them too.
EXP_TERMS = (
    np.float32(0.00019790326768998057),
    np.float32(0.0013944681268185377),
    np.float32(0.008333496749401093),
    np.float32(0.04166629537940025),
    np.float32(0.1666666567325592),
    np.float32(0.5),
)
TANH_TERMS = (
    np.float32(-0.005717032589018345),
    np.float32(0.020650574937462807),
    np.float32(-0.05374349281191826),
    np.float32(0.13331490755081177),
    np.float32(-0.3333328366279602),
)

# A caller that may reorder its sums must not reorder these polynomials: the rounding by
# _ROUND would be folded away.
_STRICT = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}


@intrinsic  # type: ignore[untyped-decorator]
def _select(typing_context: Any, condition: Any, a: Any, b: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(types.boolean, a, a), lower


def select(condition: Any, a: Any, b: Any) -> Any:
    """Return `a` where `condition` holds, else `b` (of the same type), by no branch.

    LLVM likes to move the computation of `a` or `b` into the branches of an ordinary
    conditional expression, and does not vectorise the loop any more.
    """
    return a if condition else b


overload(select, strict=False)(
    lambda condition, a, b: lambda condition, a, b: a if condition else b
)
overload(select, target="cpu", strict=False)(
    lambda condition, a, b: lambda condition, a, b: _select(condition, a, b)
)


def _extremum(name: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def extremum(typing_context: Any, a: Any, b: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            function = builder.module.declare_intrinsic(
                name, [kind], ir.FunctionType(kind, [kind, kind])
            )
            return builder.call(function, args)

        return a(a, a), lower

    return extremum


_maximum = _extremum("llvm.maximum")
_minimum = _extremum("llvm.minimum")


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of two floats of one type; NaN if either is NaN.

    On the CPU this is LLVM's own instruction, so that a loop of them, and a reduction
    by them, is vectorised without giving up the NaN.
    """
    return a if (a > b) | (a != a) else b


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of two floats of one type; NaN if either is NaN."""
    return a if (a < b) | (a != a) else b


overload(maximum, strict=False)(
    lambda a, b: lambda a, b: a if (a > b) | (a != a) else b
)
overload(minimum, strict=False)(
    lambda a, b: lambda a, b: a if (a < b) | (a != a) else b
)
overload(maximum, target="cpu", strict=False)(lambda a, b: lambda a, b: _maximum(a, b))
overload(minimum, target="cpu", strict=False)(lambda a, b: lambda a, b: _minimum(a, b))


@intrinsic  # type: ignore[untyped-decorator]
def _divide(typing_context: Any, a: Any, b: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return a(a, a), lower


def _instruction(text: str, count: int) -> Any:
    """Return an intrinsic of `count` float32 that is one instruction of CUDA."""
    kind = ir.FloatType()

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(kind, [kind] * count)
        return builder.asm(function, text, "=f" + ",f" * count, args, False)

    if count == 1:
        return intrinsic(lambda typing_context, a: (a(a), emit))
    return intrinsic(lambda typing_context, a, b: (a(a, a), emit))


_divide_single = _instruction("div.full.f32 $0, $1, $2;", 2)
_sqrt_single = _instruction("sqrt.approx.f32 $0, $1;", 1)


def divide(a: Any, b: Any) -> Any:
    """Return a / b for floats of one type: on CUDA to 2 units in the last place.

    CUDA's exact division of float32 takes 8 instructions and a branch to a function,
    behind which no other load or element of the thread can move; this one takes 6.
    """
    with np.errstate(all="ignore"):
        return a / b


overload(divide, strict=False)(
    lambda a, b: (
        (lambda a, b: _divide_single(a, b))
        if a == types.float32
        else (lambda a, b: _divide(a, b))
    )
)
overload(divide, target="cpu", strict=False)(lambda a, b: lambda a, b: _divide(a, b))


def near_sqrt(x: Any) -> Any:
    """Return the square root of `x`: on CUDA to the last place, not its rounding."""
    return sqrt(x)


overload(near_sqrt, strict=False)(
    lambda x: (
        (lambda x: _sqrt_single(x)) if x == types.float32 else (lambda x: math.sqrt(x))
    )
)
overload(near_sqrt, target="cpu", strict=False)(lambda x: lambda x: math.sqrt(x))


@intrinsic  # type: ignore[untyped-decorator]
def _times_power(typing_context: Any, x: Any, shifted: Any) -> Any:
    """Return x * 2**n for the n in the low bits of `shifted` (see `_ROUND`).

    In two factors: n reaches from -150 (denormal results) to 128. As Numba's casts and
    views these twelve instructions took half of the time to compile an exponential.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        product, exponent = args
        bits = builder.bitcast(exponent, word)
        n = builder.sub(bits, ir.Constant(word, int(_ROUND_BITS)))
        half = builder.ashr(n, ir.Constant(word, 1))
        for part in (half, builder.sub(n, half)):
            biased = builder.add(part, ir.Constant(word, 127))
            power = builder.shl(biased, ir.Constant(word, 23))
            product = builder.fmul(product, builder.bitcast(power, ir.FloatType()))
        return product

    return x(types.float32, types.float32), lower


def _exp_f32(x: Any) -> Any:
    # The clamps keep the exponent arithmetic in range; a NaN passes both.
    x = _select(x > np.float32(89.0), np.float32(89.0), x)
    x = _select(x < np.float32(-104.0), np.float32(-104.0), x)
    shifted = x * _LOG2E + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = EXP_TERMS[0]
    p = p * r + EXP_TERMS[1]
    p = p * r + EXP_TERMS[2]
    p = p * r + EXP_TERMS[3]
    p = p * r + EXP_TERMS[4]
    p = p * r + EXP_TERMS[5]
    p = p * (r * r) + r
    p = p + _ONE
    return _times_power(p, shifted)


def _log_f32(x: Any) -> Any:
    denormal = x < _TINY
    scaled = _select(denormal, x * np.float32(8388608.0), x)
    bits = np.float32(scaled).view(np.int32)
    # Move the split point of the mantissa from 1 to sqrt(1/2).
    shifted = np.int32(bits - np.int32(0x3F3504F3))
    exponent = np.int32(shifted >> np.int32(23))
    mantissa_bits = np.int32(
        np.int32(shifted & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)
    )
    f = np.int32(mantissa_bits).view(np.float32) - _ONE
    n = np.float32(exponent) - _select(denormal, np.float32(23.0), np.float32(0.0))
    p = np.float32(0.06746608018875122)
    p = p * f + np.float32(-0.11675652861595154)
    p = p * f + np.float32(0.11888178437948227)
    p = p * f + np.float32(-0.1240558996796608)
    p = p * f + np.float32(0.14219550788402557)
    p = p * f + np.float32(-0.1666799634695053)
    p = p * f + np.float32(0.2000211924314499)
    p = p * f + np.float32(-0.25000008940696716)
    p = p * f + np.float32(0.3333331346511841)
    square = f * f
    result = n * _LN2_LOW + p * f * square
    result = result - _HALF * square
    result = result + f
    result = n * _LN2_HIGH + result
    result = _select(x == _INF, x, result)
    result = _select(x == np.float32(0.0), -_INF, result)
    # Written so that a NaN fails the comparison and comes out as NaN.
    return _select(x >= np.float32(0.0), result, np.float32(np.nan))


def _expm1_f32(x: Any) -> Any:
    p = np.float32(0.00019992896704934537)
    p = p * x + np.float32(0.00139974569901824)
    p = p * x + np.float32(0.008333072997629642)
    p = p * x + np.float32(0.04166531562805176)
    p = p * x + np.float32(0.1666666865348816)
    p = p * x + _HALF
    near_zero = p * (x * x) + x
    far = exp(x) - _ONE
    return _select(abs(x) < _HALF, near_zero, far)


def _log1p_f32(x: Any) -> Any:
    shifted = _ONE + x
    # The rounding error of 1 + x, to first order in the logarithm.
    correction = (x - (shifted - _ONE)) / shifted
    usable = (shifted > np.float32(0.0)) & (shifted < _INF)
    return log(shifted) + _select(usable, correction, np.float32(0.0))


def _tanh_f32(x: Any) -> Any:
    square = x * x
    p = TANH_TERMS[0]
    p = p * square + TANH_TERMS[1]
    p = p * square + TANH_TERMS[2]
    p = p * square + TANH_TERMS[3]
    p = p * square + TANH_TERMS[4]
    near_zero = p * square * x + x
    size = abs(x)
    far = _ONE - np.float32(2.0) / (exp(size + size) + _ONE)
    far = _select(x < np.float32(0.0), -far, far)
    return _select(size < np.float32(0.625), near_zero, far)


def _erf_f32(x: Any) -> Any:
    square = x * x
    p = np.float32(-0.0006535234861075878)
    p = p * square + np.float32(0.005085130222141743)
    p = p * square + np.float32(-0.02682080678641796)
    p = p * square + np.float32(0.11283113062381744)
    p = p * square + np.float32(-0.3761260211467743)
    p = p * square + np.float32(0.12837916612625122)
    near_zero = p * x + x
    size = abs(x)
    # Beyond 4 the result is 1 to the last bit; the clamp keeps the polynomial small.
    t = min(size, np.float32(4.0))
    q = np.float32(0.00020745489746332169)
    q = q * t + np.float32(-0.0031536174938082695)
    q = q * t + np.float32(0.02265619859099388)
    q = q * t + np.float32(-0.10479872673749924)
    q = q * t + np.float32(-0.6362219452857971)
    q = q * t + np.float32(-1.1282289028167725)
    q = q * t + np.float32(-6.597512401640415e-05)
    far = _ONE - exp(q)
    far = _select(x < np.float32(0.0), -far, far)
    return _select(size < np.float32(0.8), near_zero, far)


def _cos_sin_turns_f32(u: Any) -> Any:
    # u in [0, 1] is a fraction of a full turn; quadrant is the nearest quarter of it.
    n = (u * np.float32(4.0) + _ROUND) - _ROUND
    quadrant = np.int32(n)
    t = (u * np.float32(4.0) - n) * np.float32(1.5707963267948966)
    square = t * t
    p = np.float32(-0.00019517296459525824)
    p = p * square + np.float32(0.008332177996635437)
    p = p * square + np.float32(-0.16666655242443085)
    sine = p * square * t + t
    q = np.float32(2.4438448235741816e-05)
    q = q * square + np.float32(-0.001388736767694354)
    q = q * square + np.float32(0.04166664555668831)
    cosine = q * (square * square) + (_ONE - _HALF * square)
    swap = np.int32(quadrant & np.int32(1)) != np.int32(0)
    c = select(swap, sine, cosine)
    s = select(swap, cosine, sine)
    half = np.int32(np.int32(quadrant + np.int32(1)) & np.int32(2)) != np.int32(0)
    c = select(half, -c, c)
    s = select(np.int32(quadrant & np.int32(2)) != np.int32(0), -s, s)
    return c, s


def exp(x: Any) -> Any:
    """Return e to the power `x`, in the type of `x`.

    Exact at 0, infinite beyond the range, gradual (denormal) below it; NaN stays NaN.
    """
    with np.errstate(all="ignore"):
        return np.exp(x)


def log(x: Any) -> Any:
    """Return the natural logarithm of `x`: -inf at 0, NaN below it."""
    with np.errstate(all="ignore"):
        return np.log(x)


def expm1(x: Any) -> Any:
    """Return exp(x) - 1 without cancellation near 0."""
    with np.errstate(all="ignore"):
        return np.expm1(x)


def log1p(x: Any) -> Any:
    """Return log(1 + x) without cancellation near 0."""
    with np.errstate(all="ignore"):
        return np.log1p(x)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of `x`."""
    return np.tanh(x)


def erf(x: Any) -> Any:
    """Return the error function of `x`."""
    return type(x)(math.erf(x))


def sqrt(x: Any) -> Any:
    """Return the square root of `x`, correctly rounded, in the type of `x`."""
    with np.errstate(all="ignore"):
        return np.sqrt(x)


def cos_sin_turns(u: Any) -> Any:
    """Return the cosine and sine of `u` full turns, for `u` in [0, 1]."""
    angle = u * type(u)(6.283185307179586)
    return np.cos(angle), np.sin(angle)


def _library(name: str) -> Any:
    function = getattr(math, name)

    def typing(x: Any) -> Any:
        return lambda x: function(x)

    return typing


def _vectorised(polynomial: Any, name: str) -> Any:
    function = getattr(math, name)

    def typing(x: Any) -> Any:
        if x == types.float32:
            return polynomial
        return lambda x: function(x)

    return typing


# The CPU's overload is more specific than the generic one, which CUDA falls back to.
for _function, _polynomial in (
    (exp, _exp_f32),
    (log, _log_f32),
    (expm1, _expm1_f32),
    (log1p, _log1p_f32),
    (tanh, _tanh_f32),
    (erf, _erf_f32),
):
    overload(_function, strict=False)(_library(_function.__name__))
    overload(_function, jit_options=_STRICT, target="cpu", strict=False)(
        _vectorised(_polynomial, _function.__name__)
    )
overload(sqrt, strict=False)(_library("sqrt"))


def _cos_sin_turns(u: Any) -> Any:
    if u == types.float32:
        return _cos_sin_turns_f32

    def library(u: Any) -> Any:
        angle = u * type(u)(6.283185307179586)
        return math.cos(angle), math.sin(angle)

    return library


# One definition for both targets: CUDA's own cosine falls back on 64-bit floats.
overload(cos_sin_turns, jit_options={"fastmath": {"contract"}}, strict=False)(
    _cos_sin_turns
)
