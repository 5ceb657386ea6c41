"""Logical and bitwise operations, any and all."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import operand_error

__all__ = [
    "all",
    "any",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
]


class Logical(Function):
    """A logical operation on the truth of elements of any dtype."""

    def forward(self, *values: Any, ufunc: Any) -> Any:
        """Return the truth of each element."""
        try:
            return ufunc(*values)
        except (ValueError, TypeError) as error:
            raise operand_error(ufunc.__name__, error, *values) from None


class Bitwise(Function):
    """An operation on the bits of integers, or on bools."""

    promotes = "arithmetic"
    upcasts = False
    arithmetic = False

    def forward(self, *values: Any, ufunc: Any) -> Any:
        """Return the result, in the common dtype."""
        try:
            return ufunc(*values)
        except TypeError:
            found = " and ".join(
                str(getattr(x, "dtype", type(x).__name__)) for x in values
            )
            raise DTypeError(
                f"{ufunc.__name__}: expected integers or bool, got {found}"
            ) from None
        except (ValueError, OverflowError) as error:
            raise operand_error(ufunc.__name__, error, *values) from None


class Reduce(Function):
    """Whether any or all elements along dimensions are true."""

    def forward(self, x: Any, *, name: str, axis: Any, keepdim: bool) -> Any:
        """Return the truth of each slice."""
        if type(x) is np.ndarray:
            # What the methods call, without a detour through Python.
            ufunc: Any = np.logical_or if name == "any" else np.logical_and
            return ufunc.reduce(x, axis, None, None, keepdim)
        reduce = x.any if name == "any" else x.all
        return reduce(axis=axis, keepdims=keepdim)


@public(inplace=True)
def logical_and(input: Any, other: Any) -> Tensor:
    """Return the logical and of the truth of two elements, as bool.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logical_and(nnlib.tensor([1, 0]), nnlib.tensor([2, 3]))
    tensor([ True, False])
    """
    return Logical.apply(input, other, ufunc=np.logical_and)  # type: ignore[no-any-return]


@public(inplace=True)
def logical_or(input: Any, other: Any) -> Tensor:
    """Return the logical or of the truth of two elements, as bool.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logical_or(nnlib.tensor([1, 0]), nnlib.tensor([2, 3]))
    tensor([ True,  True])
    """
    return Logical.apply(input, other, ufunc=np.logical_or)  # type: ignore[no-any-return]


@public(inplace=True)
def logical_xor(input: Any, other: Any) -> Tensor:
    """Return the logical xor of the truth of two elements, as bool.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logical_xor(nnlib.tensor([1, 0]), nnlib.tensor([2, 3]))
    tensor([False,  True])
    """
    return Logical.apply(input, other, ufunc=np.logical_xor)  # type: ignore[no-any-return]


@public(inplace=True)
def logical_not(input: Any) -> Tensor:
    """Tell where an element is zero or False.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logical_not(nnlib.tensor([2, 0]))
    tensor([False,  True])
    """
    return Logical.apply(input, ufunc=np.logical_not)  # type: ignore[no-any-return]


@public(operators=("__and__", "__rand__", "__iand__"), inplace=True)
def bitwise_and(input: Any, other: Any) -> Tensor:
    """Return the bitwise and of integers, the logical one of bools (``&``).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([6]) & 3
    tensor([2])
    """
    return Bitwise.apply(input, other, ufunc=np.bitwise_and)  # type: ignore[no-any-return]


@public(operators=("__or__", "__ror__", "__ior__"), inplace=True)
def bitwise_or(input: Any, other: Any) -> Tensor:
    """Return the bitwise or of integers, the logical one of bools (``|``).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([6]) | 3
    tensor([7])
    """
    return Bitwise.apply(input, other, ufunc=np.bitwise_or)  # type: ignore[no-any-return]


@public(operators=("__xor__", "__rxor__", "__ixor__"), inplace=True)
def bitwise_xor(input: Any, other: Any) -> Tensor:
    """Return the bitwise xor of integers, the logical one of bools (``^``).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([6]) ^ 3
    tensor([5])
    """
    return Bitwise.apply(input, other, ufunc=np.bitwise_xor)  # type: ignore[no-any-return]


@public(operators="__invert__", inplace=True)
def bitwise_not(input: Any) -> Tensor:
    """Return the bits inverted; of bools the logical not (``~``).

    Examples
    --------
    >>> import nnlib
    >>> ~nnlib.tensor([0, 5])
    tensor([-1, -6])
    """
    return Bitwise.apply(input, ufunc=np.invert)  # type: ignore[no-any-return]


@public(operators=("__lshift__", "__rlshift__", "__ilshift__"), inplace=True)
def bitwise_left_shift(input: Any, other: Any) -> Tensor:
    """Return integers shifted to the left by `other` bits (``<<``).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([3]) << 2
    tensor([12])
    """
    return Bitwise.apply(input, other, ufunc=np.left_shift)  # type: ignore[no-any-return]


@public(operators=("__rshift__", "__rrshift__", "__irshift__"), inplace=True)
def bitwise_right_shift(input: Any, other: Any) -> Tensor:
    """Return integers shifted to the right by `other` bits (``>>``).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([3]) >> 2
    tensor([0])
    """
    return Bitwise.apply(input, other, ufunc=np.right_shift)  # type: ignore[no-any-return]


@public(axis=True)
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Tell whether any element along `dim` is true (not zero).

    Parameters
    ----------
    input : Tensor
    dim : int or tuple of int, optional
        The dimensions to reduce; default all.
    keepdim : bool, default False
        Keep them with length 1.

    Raises
    ------
    ShapeError
        If a dimension does not exist or is named twice.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.any(nnlib.tensor([[0, 1], [0, 0]]), dim=1)
    tensor([ True, False])
    """
    return _reduce("any", input, dim, keepdim)  # type: ignore[no-any-return]


@public(axis=True)
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Tell whether all elements along `dim` are true (not zero).

    Parameters
    ----------
    input : Tensor
    dim : int or tuple of int, optional
        The dimensions to reduce; default all.
    keepdim : bool, default False
        Keep them with length 1.

    Raises
    ------
    ShapeError
        If a dimension does not exist or is named twice.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.all(nnlib.tensor([[0, 1], [0, 0]]), dim=1)
    tensor([False, False])
    """
    return _reduce("all", input, dim, keepdim)  # type: ignore[no-any-return]


def _reduce(op: str, input: Any, dim: Any, keepdim: bool) -> Any:
    axis = tuple(dim) if isinstance(dim, list | tuple) else dim
    try:
        return Reduce.apply(input, name=op, axis=axis, keepdim=keepdim)
    except ValueError:
        raise ShapeError(
            f"{op}: dim: expected different dimensions of a tensor with {input.ndim}, "
            f"got {dim}"
        ) from None
