"""Signs, exponents, divisors and neighbours of numbers: copysign, frexp, gcd, ..."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, float64, get_default_dtype, int32
from nnlib.backend.errors import DTypeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.division import zeros_like
from nnlib.ops.exponential import sigmoid
from nnlib.ops.power import pow
from nnlib.ops.rounding import sign

__all__ = [
    "copysign",
    "float_power",
    "frexp",
    "gcd",
    "heaviside",
    "lcm",
    "ldexp",
    "logaddexp2",
    "nextafter",
    "sgn",
]


class CopySign(Function):
    """The size of x with the sign of y."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the numbers with the signs."""
        try:
            out = np.copysign(x, y)
        except (ValueError, TypeError) as error:
            raise operand_error("copysign", error, x, y) from None
        self.shapes = shapes(x), shapes(y)
        # The slope is 1 or -1, and 0 where x is.
        self.save_for_backward(np.sign(x) * np.copysign(1.0, y).astype(out.dtype))
        return out.astype(x.dtype) if hasattr(x, "dtype") else out

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` where the sign was kept, ``-grad`` where it was turned."""
        (slope,) = self.saved
        dx = sum_to(grad * slope, self.shapes[0]) if self.needs(0) else None
        dy = sum_to(zeros_like(grad), self.shapes[1]) if self.needs(1) else None
        return dx, dy


class LogAddExp2(Function):
    """``log2(2^x + 2^y)``."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the logarithm of the sum."""
        self.save_for_backward(x, y)
        try:
            return np.logaddexp2(x, y)
        except (ValueError, TypeError) as error:
            raise operand_error("logaddexp2", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad / (1 + 2^(y - x))`` and ``grad / (1 + 2^(x - y))``."""
        x, y = self.saved
        away = (y - x) * math.log(2)
        return (
            sum_to(grad * sigmoid(-away), shapes(x)) if self.needs(0) else None,
            sum_to(grad * sigmoid(away), shapes(y)) if self.needs(1) else None,
        )


class Pairwise(Function):
    """A ufunc of two arguments without a derivative."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, op: str, ufunc: Any) -> Any:
        """Return the ufunc's values."""
        try:
            out = ufunc(x, y)
        except (ValueError, TypeError) as error:
            raise operand_error(op, error, x, y) from None
        out = out if hasattr(out, "reshape") and out.shape else np.asarray(out)
        self.mark_non_differentiable(out)
        return out


class NextAfter(Pairwise):
    """The neighbour of a float, among those of its own dtype."""

    upcasts = False


class Frexp(Function):
    """A fraction in [0.5, 1) and a power of two."""

    promotes = "float"

    def forward(self, x: Any) -> Any:
        """Return fractions and exponents."""
        fraction, exponent = np.frexp(x)
        module = array_module(x)
        exponent = module.asarray(exponent, dtype=int32)
        self.save_for_backward(exponent)
        return module.asarray(fraction), exponent

    def backward(self, grad: Any, _: Any) -> Any:
        """Return ``grad / 2^exponent``."""
        (exponent,) = self.saved
        return Ldexp.apply(grad, -exponent)


# No float becomes another one by more than so many powers of two: then it is 0 or inf.
_MOST = 4096


class Ldexp(Function):
    """``x 2^n`` for whole n, where 2^n alone may be out of the dtype's range."""

    def forward(self, x: Any, n: Any) -> Any:
        """Return the product."""
        self.shape = shapes(x)
        self.save_for_backward(None, n)
        try:
            return np.ldexp(x, np.clip(n, -_MOST, _MOST).astype(int32))
        except ValueError as error:
            raise operand_error("ldexp", error, x, n) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad 2^n``."""
        _, n = self.saved
        return sum_to(Ldexp.apply(grad, n), self.shape), None


@public(inplace=True)
def copysign(input: Any, other: Any) -> Tensor:
    """Return the sizes of `input` with the signs of `other`, that of -0 included.

    Parameters
    ----------
    input : Tensor
    other : Tensor or number, a shape that broadcasts

    Examples
    --------
    >>> import nnlib
    >>> nnlib.copysign(nnlib.tensor([1.0, -2.0]), nnlib.tensor([-3.0, 0.0]))
    tensor([-1.,  2.])
    """
    return CopySign.apply(input, other)  # type: ignore[no-any-return]


@public(inplace=True)
def heaviside(input: Any, values: Any) -> Tensor:
    """Return 0 below zero, 1 above, and `values` at zero; without a gradient.

    Parameters
    ----------
    input, values : Tensor, shapes that broadcast

    Examples
    --------
    >>> import nnlib
    >>> nnlib.heaviside(nnlib.tensor([-2.0, 0.0, 3.0]), nnlib.tensor([0.5]))
    tensor([0. , 0.5, 1. ])
    """

    def step(x: Any, y: Any) -> Any:
        kind = x.dtype if hasattr(x, "dtype") else y.dtype
        where = array_module(x).where
        # NaN stays, as in NumPy.
        return where(x == 0, y, where(x != x, x, x > 0)).astype(kind)

    return Pairwise.apply(input, values, op="heaviside", ufunc=step)  # type: ignore[no-any-return]


@public(inplace=True)
def nextafter(input: Any, other: Any) -> Tensor:
    """Return the float next to `input` in the direction of `other`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nextafter(nnlib.tensor([1.0]), nnlib.tensor([2.0])) - 1
    tensor([1.1921e-07])
    """
    return NextAfter.apply(input, other, op="nextafter", ufunc=np.nextafter)  # type: ignore[no-any-return]


def _check_whole(op: str, *values: Any) -> None:
    for value in values:
        kind = getattr(raw(value), "dtype", np.dtype(type(value)))
        if kind.kind not in "iu":
            raise DTypeError(f"{op}: expected integers, got {kind}")


@public(inplace=True)
def gcd(input: Any, other: Any) -> Tensor:
    """Return the greatest common divisors of integers.

    Raises
    ------
    DTypeError
        If an argument holds no integers.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.gcd(nnlib.tensor([12, 7]), nnlib.tensor([18, 0]))
    tensor([6, 7])
    """
    _check_whole("gcd", input, other)
    return Pairwise.apply(input, other, op="gcd", ufunc=np.gcd)  # type: ignore[no-any-return]


@public(inplace=True)
def lcm(input: Any, other: Any) -> Tensor:
    """Return the least common multiples of integers.

    Raises
    ------
    DTypeError
        If an argument holds no integers.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.lcm(nnlib.tensor([4, 7]), nnlib.tensor([6, 0]))
    tensor([12,  0])
    """
    _check_whole("lcm", input, other)
    return Pairwise.apply(input, other, op="lcm", ufunc=np.lcm)  # type: ignore[no-any-return]


@public()
def frexp(input: Any) -> tuple[Tensor, Tensor]:
    """Return fractions in [0.5, 1) and int32 exponents: ``input = f 2^e``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.frexp(nnlib.tensor([3.0, -0.25]))
    (tensor([ 0.75, -0.5 ]), tensor([ 2, -1], dtype=int32))
    """
    return Frexp.apply(input)  # type: ignore[no-any-return]


@public(inplace=True)
def ldexp(input: Any, other: Any) -> Tensor:
    """Return ``input * 2^other``; for whole `other` in the dtype of `input`.

    Parameters
    ----------
    input : Tensor
    other : Tensor or number, a shape that broadcasts

    Examples
    --------
    >>> import nnlib
    >>> nnlib.ldexp(nnlib.tensor([3.0]), nnlib.tensor([2]))
    tensor([12.])
    """
    if type(other) is int:
        other = array_module(raw(input)).asarray(other)
    kind = getattr(raw(other), "dtype", None)
    if isinstance(input, Tensor) and kind is not None and kind.kind in "iu":
        if input.dtype not in FLOATING:
            input = cast(input, get_default_dtype())
        return Ldexp.apply(input, other)  # type: ignore[no-any-return]
    return input * pow(2.0, other)  # type: ignore[no-any-return]


@public(inplace=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """Return ``input^exponent``, computed in float64.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.float_power(nnlib.tensor([2, 3]), -1)
    tensor([0.5   , 0.3333], dtype=float64)
    """
    wide = [
        x.to(float64) if isinstance(x, Tensor) else float(x) for x in (input, exponent)
    ]
    return pow(*wide)


@public()
def logaddexp2(input: Any, other: Any) -> Tensor:
    """Return ``log2(2^input + 2^other)`` without overflow.

    Raises
    ------
    DTypeError
        If an argument is not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logaddexp2(nnlib.tensor([3.0]), nnlib.tensor([3.0]))
    tensor([4.])
    """
    for x in (input, other):
        if raw(x).dtype not in FLOATING:
            raise DTypeError(f"logaddexp2: expected floating tensors, got {x.dtype}")
    return LogAddExp2.apply(input, other)  # type: ignore[no-any-return]


@public(inplace=True)
def sgn(input: Any) -> Tensor:
    """Return the sign: of real numbers `sign`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.sgn(nnlib.tensor([-2.0, 0.0]))
    tensor([-1.,  0.])
    """
    return sign(input)
