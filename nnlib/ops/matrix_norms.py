"""Norms of vectors and matrices, and the cross product (`nnlib.linalg`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import operand_error, shapes, sum_to
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.moments import norm as flat_norm

__all__: list[str] = []


class Cross(Function):
    """The cross product along one axis of length 3."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any, *, axis: int) -> Any:
        """Return the product; `axis` counts from the end, for broadcasting."""
        self.axis = axis
        self.save_for_backward(x, y)
        try:
            # The two cyclic shifts of each operand; np.cross broadcasts slowly.
            x1, x2 = np.roll(x, -1, axis), np.roll(x, -2, axis)
            y1, y2 = np.roll(y, -1, axis), np.roll(y, -2, axis)
            return x1 * y2 - x2 * y1
        except ValueError as error:
            raise operand_error("linalg.cross", error, x, y) from None

    def backward(self, grad: Any) -> Any:
        """Return ``y x grad`` and ``grad x x``."""
        x, y = self.saved
        gx = gy = None
        if self.needs(0):
            gx = sum_to(Cross.apply(y, grad, axis=self.axis), shapes(x))
        if self.needs(1):
            gy = sum_to(Cross.apply(grad, x, axis=self.axis), shapes(y))
        return gx, gy


def _floating(op: str, x: Any, dtype: Any) -> Any:
    if dtype is not None:
        x = cast(x, np.dtype(dtype))
    found = raw(x).dtype
    if found not in FLOATING:
        raise DTypeError(f"linalg.{op}: expected a floating tensor, got {found}")
    return x


@public(method=False)
def linalg_vector_norm(
    x: Any,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """Return ``sum(|x|^ord)^(1/ord)`` over dimensions, taken as one vector.

    Parameters
    ----------
    x : Tensor
    ord : number, default 2
        inf and -inf give the largest and smallest absolute value, 0 the number of
        elements other than zero.
    dim : int or tuple of int, optional
        Default: all.
    keepdim : bool, default False
    dtype : numpy.dtype or str, optional
        Convert to it first.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.vector_norm(nnlib.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if isinstance(ord, str):
        raise DTypeError(f"linalg.vector_norm: ord: expected a number, got {ord!r}")
    return flat_norm(_floating("vector_norm", x, dtype), ord, dim, keepdim)


@public(method=False)
def linalg_matrix_norm(
    A: Any,
    ord: float | str = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """Return a norm of the matrices in two dimensions.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    ord : {"fro", "nuc", inf, -inf, 1, -1, 2, -2}
        The root of the sum of squares; the sum of singular values; the largest or
        smallest sum of absolute values over a row (inf) or column (1); the largest
        or smallest singular value.
    dim : pair of int, default (-2, -1)
    keepdim : bool, default False
    dtype : numpy.dtype or str, optional
        Convert to it first.

    Raises
    ------
    DTypeError
        If `ord` is none of these.
    ShapeError
        If `dim` is no pair of different dimensions of `A`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.matrix_norm(nnlib.tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    tensor(6.)
    """
    A = _floating("matrix_norm", A, dtype)
    rows, columns = _two_dims(A, dim)
    if ord == "fro":
        return flat_norm(A, 2, (rows, columns), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        along, across = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = A.abs().sum(along, True)
        out = sums.amax(across, True) if ord > 0 else sums.amin(across, True)
    elif ord in ("nuc", 2, -2):
        from nnlib.ops.decompositions import linalg_svdvals

        values = linalg_svdvals(A.movedim((rows, columns), (-2, -1)))
        if ord == "nuc":
            out = values.sum(-1)
        else:
            out = values.amax(-1) if ord == 2 else values.amin(-1)
        for axis in sorted((rows, columns)):
            out = out.unsqueeze(axis)
    else:
        raise DTypeError(
            "linalg.matrix_norm: ord: expected 'fro', 'nuc', 1, -1, 2, -2, inf or "
            f"-inf, got {ord!r}"
        )
    return out if keepdim else out.squeeze((rows, columns))  # type: ignore[no-any-return]


def _two_dims(A: Any, dim: Any) -> tuple[int, int]:
    pair = tuple(dim) if isinstance(dim, list | tuple) else (dim,)
    inside = all(isinstance(d, int) and -A.ndim <= d < A.ndim for d in pair)
    if len(pair) != 2 or not inside or pair[0] % A.ndim == pair[1] % A.ndim:
        raise ShapeError(
            "linalg.matrix_norm: dim: expected two different dimensions of a tensor "
            f"of shape {tuple(A.shape)}, got {dim}"
        )
    return pair[0] % A.ndim, pair[1] % A.ndim


@public(method=False)
def linalg_norm(
    A: Any,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """Return a norm of a vector or of matrices, by the number of dimensions.

    Parameters
    ----------
    A : Tensor
    ord : number or str, optional
        As for `vector_norm` or `matrix_norm`; default the 2-norm of all elements.
    dim : int or pair of int, optional
        One dimension gives vector norms, two matrix norms (if `ord` is given).
        Default: all of `A`, which with an `ord` must have one or two dimensions.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.norm(nnlib.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
    tensor(7.)
    """
    if ord is None:
        return linalg_vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if A.ndim not in (1, 2):
            raise ShapeError(
                f"linalg.norm: ord={ord!r} without dim needs one or two dimensions, "
                f"got shape {tuple(A.shape)}"
            )
        dim = 0 if A.ndim == 1 else (0, 1)
    if isinstance(dim, int) or len(dim) == 1:
        return linalg_vector_norm(A, ord, dim, keepdim, dtype=dtype)
    return linalg_matrix_norm(A, ord, dim, keepdim, dtype=dtype)


@public(method=False)
def linalg_cross(input: Any, other: Any, *, dim: int = -1) -> Tensor:
    """Return the cross products of vectors of three elements along `dim`.

    Parameters
    ----------
    input, other : Tensor, one number of dimensions, shapes that broadcast
    dim : int, default -1

    Raises
    ------
    ShapeError
        If the dimension has another length than 3.

    Examples
    --------
    >>> import nnlib
    >>> x, y = nnlib.tensor([1.0, 0.0, 0.0]), nnlib.tensor([0.0, 1.0, 0.0])
    >>> nnlib.linalg.cross(x, y)
    tensor([0., 0., 1.])
    """
    if input.ndim != other.ndim or not -input.ndim <= dim < input.ndim:
        raise ShapeError(
            f"linalg.cross: input of shape {tuple(input.shape)} and other of shape "
            f"{tuple(other.shape)}: expected equally many dimensions, with dim {dim}"
        )
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise ShapeError(
            f"linalg.cross: dimension {dim}: expected length 3, got "
            f"{input.shape[dim]} and {other.shape[dim]}"
        )
    axis = dim if dim < 0 else dim - input.ndim
    return Cross.apply(input, other, axis=axis)  # type: ignore[no-any-return]
