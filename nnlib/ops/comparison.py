"""Comparisons: element-wise, and of whole tensors."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.mode import state
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.ops.arithmetic import operand_error
from nnlib.ops.arrays import nonzeros

__all__ = [
    "allclose",
    "eq",
    "equal",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "le",
    "less",
    "less_equal",
    "lt",
    "ne",
    "not_equal",
]


class Compare(Function):
    """A comparison: bool, and no gradient. A subclass names the ufunc."""

    promotes = "arithmetic"
    arithmetic = False
    ufunc: ClassVar[Any]

    def forward(self, x: Any, y: Any) -> Any:
        """Return the truth of each element."""
        try:
            return self.ufunc(x, y)
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error(self.ufunc.__name__, error, x, y) from None


class Equal(Compare):
    """``x == y``."""

    ufunc = np.equal


class NotEqual(Compare):
    """``x != y``."""

    ufunc = np.not_equal


class Less(Compare):
    """``x < y``."""

    ufunc = np.less


class LessEqual(Compare):
    """``x <= y``."""

    ufunc = np.less_equal


class Greater(Compare):
    """``x > y``."""

    ufunc = np.greater


class GreaterEqual(Compare):
    """``x >= y``."""

    ufunc = np.greater_equal


class Test(Function):
    """A test of each element: bool, and no gradient."""

    arithmetic = False

    def forward(self, x: Any, *, ufunc: Any) -> Any:
        """Return the truth of each element."""
        return ufunc(x)


@public(operators="__eq__", inplace=True, direct=True)
def eq(input: Any, other: Any) -> Tensor:
    """Tell where `input` equals `other` (``==``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) == 2
    tensor([False,  True])
    """
    if other is None or isinstance(other, str):
        return NotImplemented  # type: ignore[no-any-return]
    return Equal.apply(input, other)  # type: ignore[no-any-return]


@public(method=("ne", "not_equal"), operators="__ne__", inplace=True, direct=True)
def ne(input: Any, other: Any) -> Tensor:
    """Tell where `input` differs from `other` (``!=``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) != 2
    tensor([ True, False])
    """
    if other is None or isinstance(other, str):
        return NotImplemented  # type: ignore[no-any-return]
    return NotEqual.apply(input, other)  # type: ignore[no-any-return]


not_equal = ne


@public(method=("lt", "less"), operators="__lt__", inplace=True)
def lt(input: Any, other: Any) -> Tensor:
    """Tell where `input` is less than `other` (``<``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) < 2
    tensor([ True, False])
    """
    return Less.apply(input, other)  # type: ignore[no-any-return]


less = lt


@public(method=("le", "less_equal"), operators="__le__", inplace=True)
def le(input: Any, other: Any) -> Tensor:
    """Tell where `input` is at most `other` (``<=``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) <= 2
    tensor([ True,  True])
    """
    return LessEqual.apply(input, other)  # type: ignore[no-any-return]


less_equal = le


@public(method=("gt", "greater"), operators="__gt__", inplace=True)
def gt(input: Any, other: Any) -> Tensor:
    """Tell where `input` is greater than `other` (``>``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) > 2
    tensor([False, False])
    """
    return Greater.apply(input, other)  # type: ignore[no-any-return]


greater = gt


@public(method=("ge", "greater_equal"), operators="__ge__", inplace=True)
def ge(input: Any, other: Any) -> Tensor:
    """Tell where `input` is at least `other` (``>=``), broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0, 2.0]) >= 2
    tensor([False,  True])
    """
    return GreaterEqual.apply(input, other)  # type: ignore[no-any-return]


greater_equal = ge


@public()
def isnan(input: Any) -> Tensor:
    """Tell where `input` is NaN.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isnan(nnlib.tensor([1.0, float("nan"), float("inf")]))
    tensor([False,  True, False])
    """
    return Test.apply(input, ufunc=np.isnan)  # type: ignore[no-any-return]


@public()
def isinf(input: Any) -> Tensor:
    """Tell where `input` is inf or -inf.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isinf(nnlib.tensor([1.0, float("nan"), float("inf")]))
    tensor([False, False,  True])
    """
    return Test.apply(input, ufunc=np.isinf)  # type: ignore[no-any-return]


@public()
def isfinite(input: Any) -> Tensor:
    """Tell where `input` is neither NaN nor infinite.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isfinite(nnlib.tensor([1.0, float("nan"), float("inf")]))
    tensor([ True, False, False])
    """
    return Test.apply(input, ufunc=np.isfinite)  # type: ignore[no-any-return]


class Close(Function):
    """Where two arrays differ little."""

    def forward(
        self, x: Any, y: Any, *, rtol: float, atol: float, equal_nan: bool
    ) -> Any:
        """Return the truth of each element."""
        try:
            close = np.equal(x, y)
        except ValueError as error:
            raise operand_error("isclose", error, x, y) from None
        if x.dtype.kind == "b":
            return close
        difference = abs(x - y)
        near = difference <= atol + rtol * abs(y)
        if x.dtype.kind != "f":
            return close | near
        # The tolerance is compared with a finite difference only: inf is close to
        # itself alone.
        close |= near & np.isfinite(difference)
        if equal_nan:
            close |= np.isnan(x) & np.isnan(y)
        return close


@public()
def isclose(
    input: Any,
    other: Any,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> Tensor:
    """Tell where ``|input - other| <= atol + rtol * |other|``.

    Parameters
    ----------
    input, other : Tensor, one dtype, shapes that broadcast
    rtol, atol : float
    equal_nan : bool, default False
        Whether NaN is close to NaN.

    Raises
    ------
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isclose(nnlib.tensor([1.0, 2.0]), nnlib.tensor([1.000001, 2.1]))
    tensor([ True, False])
    """
    if input.dtype != other.dtype:
        raise DTypeError(f"isclose: other: expected {input.dtype}, got {other.dtype}")
    if not (rtol >= 0 and atol >= 0):
        raise ArgumentError(
            f"isclose: expected rtol and atol of at least 0, got {rtol} and {atol}"
        )
    return Close.apply(  # type: ignore[no-any-return]
        input, other, rtol=rtol, atol=atol, equal_nan=equal_nan
    )


@public()
@on_its_device
def allclose(
    input: Any,
    other: Any,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Tell whether all elements are close, in the sense of `isclose`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.allclose(nnlib.tensor([1.0]), nnlib.tensor([1.1]), rtol=0.2)
    True
    """
    return bool(isclose(input, other, rtol, atol, equal_nan)._array.all())


@public()
@on_its_device
def equal(input: Any, other: Any) -> bool:
    """Tell whether two tensors have the same shape and equal elements.

    Raises
    ------
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.equal(nnlib.tensor([1, 2]), nnlib.tensor([1, 2]))
    True
    """
    # The arrays' attributes: a Tensor's are calls of Python functions.
    a, b = getattr(input, "_array", input), getattr(other, "_array", other)
    if a.dtype is not b.dtype and a.dtype != b.dtype:
        raise DTypeError(f"equal: other: expected {a.dtype}, got {b.dtype}")
    if a.shape != b.shape:
        return False
    modes = state.modes
    if type(a) is type(b) is np.ndarray and modes.watcher is modes.interpreter is None:
        # As `eq`, but without a Tensor; a NaN differs from itself.
        return not nonzeros(a != b)
    return bool(eq(input, other)._array.all())


@public()
def isposinf(input: Any) -> Tensor:
    """Tell where elements are +inf.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isposinf(nnlib.tensor([-math.inf, math.inf, 1.0]))
    tensor([False,  True, False])
    """
    return Equal.apply(input, math.inf)  # type: ignore[no-any-return]


@public()
def isneginf(input: Any) -> Tensor:
    """Tell where elements are -inf.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.isneginf(nnlib.tensor([-math.inf, math.inf, 1.0]))
    tensor([ True, False, False])
    """
    return Equal.apply(input, -math.inf)  # type: ignore[no-any-return]
