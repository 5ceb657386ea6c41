"""Addition, subtraction, multiplication, division; how gradients are un-broadcast.

The arrays' own operators do the work, for NumPy and CuPy alike, and a kernel on large
arrays; elsewhere in the operations a NumPy ufunc called on a CuPy array runs CuPy's
(``__array_ufunc__``).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import ARRAYS
from nnlib.backend.dtypes import float32
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.ops.arrays import add_up, constants, stretch_array

__all__ = [
    "add",
    "div",
    "divide",
    "mul",
    "multiply",
    "neg",
    "negative",
    "positive",
    "rsub",
    "sub",
    "subtract",
    "true_divide",
]

_ndarray = np.ndarray
# From so many elements on a kernel's threads are ahead of NumPy's one.
_LARGE = 1 << 18


def shapes(x: Any) -> tuple[int, ...]:
    """Return the shape of a Tensor, array or number."""
    return getattr(x, "shape", ())


def operand_error(op: str, error: Exception, *values: Any) -> Error:
    """Return the error that names the op and what is wrong with its operands."""
    if isinstance(error, OverflowError):
        number = next((x for x in values if not hasattr(x, "dtype")), None)
        dtype = next((x.dtype for x in values if hasattr(x, "dtype")), None)
        return DTypeError(f"{op}: {number} is out of the range of {dtype}")
    if isinstance(error, ValueError):
        found = " and ".join(str(tuple(shapes(x))) for x in values)
        return ShapeError(f"{op}: shapes {found} do not broadcast")
    found = " and ".join(str(getattr(x, "dtype", type(x).__name__)) for x in values)
    return DTypeError(f"{op}: not defined on {found}")


@functools.lru_cache(maxsize=256)
def _stretched_axes(wide: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the dimensions that broadcasting `shape` to `wide` added or stretched."""
    lead = len(wide) - len(shape)
    return tuple(range(lead)) + tuple(
        lead + axis
        for axis, length in enumerate(shape)
        if length == 1 and wide[lead + axis] != 1
    )


def sum_error(op: str, error: Exception, x: Any, out: Any, *factors: Any) -> Error:
    """Return the error that tells what is wrong with ``beta x + alpha out``."""
    if isinstance(error, TypeError) and any(isinstance(f, float) for f in factors):
        beta, alpha = factors
        return DTypeError(
            f"{op}: beta, alpha: expected integers as the tensors are ({out.dtype}), "
            f"got {beta} and {alpha}"
        )
    return operand_error(op, error, x, out)


class SumTo(Function):
    """Sum over the dimensions that broadcasting added or stretched."""

    def forward(self, x: Any, *, shape: tuple[int, ...]) -> Any:
        """Return `x` summed to `shape`."""
        self.shape = x.shape
        if not shape:
            return add_up(x, None, False)
        return add_up(x, _stretched_axes(x.shape, shape), False).reshape(shape)

    def backward(self, grad: Any) -> Any:
        """Spread the gradient over the summed dimensions."""
        return Expand.apply(grad, shape=self.shape)


class Expand(Function):
    """Broadcast to a shape, without a copy."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, shape: tuple[int, ...]) -> Any:
        """Return a view of `x` with `shape`."""
        self.shape = x.shape
        return stretch_array(x, shape)

    def backward(self, grad: Any) -> Any:
        """Sum over the stretched dimensions."""
        return sum_to(grad, self.shape)


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum `x` over broadcast dimensions until it has `shape` (the adjoint of expand).

    Parameters
    ----------
    x : Tensor or array, shape (..., *shape)
    shape : tuple of int
    """
    return x if x.shape == shape else SumTo.apply(x, shape=tuple(shape))


class Add(Function):
    """``x + y``."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the sum."""
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        try:
            if (x.size >= _LARGE) if type(x) is _ndarray else type(x) in ARRAYS:
                return kernels.arithmetic.add(x, y)
            return x + y
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("add", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on, summed to each argument's shape."""
        x, y = self.shapes
        return (
            sum_to(grad, x) if self.needs(0) else None,
            sum_to(grad, y) if self.needs(1) else None,
        )


class Sub(Function):
    """``x - y``."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the difference."""
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        try:
            if (x.size >= _LARGE) if type(x) is _ndarray else type(x) in ARRAYS:
                return kernels.arithmetic.subtract(x, y)
            return x - y
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("sub", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on, negated for the second argument."""
        x, y = self.shapes
        return (
            sum_to(grad, x) if self.needs(0) else None,
            -sum_to(grad, y) if self.needs(1) else None,
        )


class Mul(Function):
    """``x * y``."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the product."""
        edges = self.edges
        if edges is not None:
            # A factor is kept only for the other one's gradient.
            if edges[1] is None:
                self.shape = x.shape
                self.save_for_backward(None, y)
            elif edges[0] is None:
                self.shape = y.shape
                self.save_for_backward(x, None)
            else:
                self.save_for_backward(x, y)
        try:
            if (x.size >= _LARGE) if type(x) is _ndarray else type(x) in ARRAYS:
                return kernels.arithmetic.multiply(x, y)
            return x * y
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("mul", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad * y`` and ``grad * x``."""
        x, y = self.saved
        dx = dy = None
        if self.needs(0):
            dx = sum_to(grad * y, self.shape if x is None else x.shape)
        if self.needs(1):
            dy = sum_to(grad * x, self.shape if y is None else y.shape)
        return dx, dy


class AddScaled(Function):
    """``x + alpha * y``."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, alpha: Any) -> Any:
        """Return the sum."""
        self.shapes, self.alpha = (x.shape, y.shape), alpha
        try:
            if x.dtype.kind == "f":
                (alpha,) = constants(x, alpha)
            return x + y * alpha
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("add", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on, scaled for the second argument."""
        x, y = self.shapes
        return (
            sum_to(grad, x) if self.needs(0) else None,
            sum_to(grad * self.alpha, y) if self.needs(1) else None,
        )


def _scaled(op: Any, input: Any, other: Any, alpha: Any) -> Any:
    """Return ``input + alpha * other``, or the difference, for an alpha that is not 1.

    The number does not change its sign: unsigned integers have none.
    """
    floats = (
        type(alpha) in (int, float)
        and getattr(input, "dtype", None) is float32
        and getattr(other, "dtype", None) is float32
    )
    if floats and raw_size(input) < _LARGE:
        return AddScaled.apply(input, other, alpha=alpha if op is Add else -alpha)
    return op.apply(input, mul(other, alpha))


def raw_size(x: Any) -> int:
    """Return the number of elements of a Tensor or array."""
    return int(getattr(x, "_array", x).size)


class Div(Function):
    """``x / y``, in floats."""

    promotes = "float"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the quotient."""
        self.shape = shapes(x)
        # Only the divisor's gradient needs the dividend.
        self.save_for_backward(x if self.needs(1) else None, y)
        try:
            if getattr(x, "size", 0) >= _LARGE:
                return kernels.arithmetic.divide(x, y)
            return x / y
        except (ValueError, TypeError, OverflowError) as error:
            raise operand_error("div", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad / y`` and ``-grad x / y^2``."""
        x, y = self.saved
        by_y = grad / y
        return (
            sum_to(by_y, self.shape) if self.needs(0) else None,
            sum_to(-by_y * x / y, y.shape) if self.needs(1) else None,
        )


class Neg(Function):
    """``-x``."""

    def forward(self, x: Any) -> Any:
        """Return the negative."""
        try:
            return -x
        except TypeError as error:
            raise operand_error("neg", error, x) from None

    def backward(self, grad: Any) -> Any:
        """Return the negative gradient."""
        return -grad


@public(operators=("__add__", "__radd__", "__iadd__"), inplace=True, direct=True)
def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return ``input + alpha * other``, broadcast and promoted.

    Parameters
    ----------
    input, other : Tensor or number, shapes that broadcast
    alpha : number, default 1

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.add(nnlib.tensor([1.0, 2.0]), 1)
    tensor([2., 3.])
    """
    if alpha != 1:
        return _scaled(Add, input, other, alpha)  # type: ignore[no-any-return]
    return Add.apply(input, other)  # type: ignore[no-any-return]


@public(
    method=("sub", "subtract"),
    operators=("__sub__", "__rsub__", "__isub__"),
    inplace=True,
    direct=True,
)
def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return ``input - alpha * other``, broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> 1 - nnlib.tensor([1.0, 2.0])
    tensor([ 0., -1.])
    """
    if alpha != 1:
        return _scaled(Sub, input, other, alpha)  # type: ignore[no-any-return]
    return Sub.apply(input, other)  # type: ignore[no-any-return]


subtract = sub


@public(
    method=("mul", "multiply"),
    operators=("__mul__", "__rmul__", "__imul__"),
    inplace=True,
)
def mul(input: Any, other: Any) -> Tensor:
    """Return ``input * other``, broadcast and promoted.

    Examples
    --------
    >>> import nnlib
    >>> 2 * nnlib.tensor([1.0, 2.0])
    tensor([2., 4.])
    """
    return Mul.apply(input, other)  # type: ignore[no-any-return]


multiply = mul


@public(
    method=("div", "divide", "true_divide"),
    operators=("__truediv__", "__rtruediv__", "__itruediv__"),
    inplace=True,
    direct=True,
)
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Return ``input / other`` in floats, broadcast and promoted.

    Parameters
    ----------
    input, other : Tensor or number, shapes that broadcast
    rounding_mode : {None, "trunc", "floor"}
        Round the quotient towards zero or down; integers then stay integers.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.
    DTypeError
        If `rounding_mode` is unknown.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1, 2]) / 2
    tensor([0.5, 1. ])
    """
    if rounding_mode is None:
        return Div.apply(input, other)  # type: ignore[no-any-return]
    from nnlib.ops.division import rounded_quotient

    return rounded_quotient(input, other, rounding_mode)  # type: ignore[no-any-return]


divide = div
true_divide = div


@public(method=("neg", "negative"), operators="__neg__", inplace=True)
def neg(input: Any) -> Tensor:
    """Return ``-input``.

    Raises
    ------
    DTypeError
        On a bool tensor: ``~x`` or ``logical_not(x)`` is meant.

    Examples
    --------
    >>> import nnlib
    >>> -nnlib.tensor([1, -2])
    tensor([-1,  2])
    """
    return Neg.apply(input)  # type: ignore[no-any-return]


negative = neg


@public(operators="__pos__")
def positive(input: Any) -> Tensor:
    """Return `input` itself."""
    if not hasattr(input, "dtype"):
        kind = type(input).__name__
        raise DTypeError(f"positive: input: expected a Tensor, got {kind}")
    return input  # type: ignore[no-any-return]


@public()
def rsub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return ``other - alpha * input``: `sub` with its arguments exchanged.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.rsub(nnlib.tensor([1.0, 2.0]), 3)
    tensor([2., 1.])
    """
    return sub(other, input, alpha=alpha)
