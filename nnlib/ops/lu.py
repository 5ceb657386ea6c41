"""LU decompositions and what is solved by them (`nnlib.linalg`).

NumPy has none, so the factorisation is our own, on any array module: by panels of
columns, each eliminated column by column, the rest by products of matrices.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import int32
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.arranging import tril, triu
from nnlib.ops.dims import constant, raw
from nnlib.ops.linear_systems import Solve, check_matrix, identity_like
from nnlib.ops.matmul import matmul
from nnlib.ops.matrix_functions import linalg_solve_triangular

__all__ = ["cholesky_inverse", "cholesky_solve", "lu_solve"]

# So many columns are eliminated before the rest of the matrix is touched.
_PANEL = 32


def _eliminate(a: Any, order: Any, pivots: Any, pivot: bool) -> None:
    """Factor matrices (B, M, N) in place; note swaps (1-based) and the rows' order."""
    module = array_module(a)
    _, m, n = a.shape
    batch = module.arange(len(a))
    steps = min(m, n)
    for begin in range(0, steps, _PANEL):
        end = min(begin + _PANEL, steps)
        for j in range(begin, end):
            if pivot:
                best = module.abs(a[:, j:, j]).argmax(axis=1) + j
                pivots[:, j] = best + 1
                for rows in (a, order):
                    kept = rows[:, j].copy()
                    rows[:, j] = rows[batch, best]
                    rows[batch, best] = kept
            head = a[:, j, j]
            below = a[:, j + 1 :, j]
            # A column of zeros stays: its factors are 0. Without swaps a zero may stand
            # above others: there is no such decomposition, and infinities tell it.
            nothing = (head == 0) & ~below.any(axis=1)
            below /= module.where(nothing, module.ones_like(head), head)[:, None]
            a[:, j + 1 :, j + 1 : end] -= (
                a[:, j + 1 :, j, None] * a[:, j, None, j + 1 : end]
            )
        for j in range(begin, end):
            a[:, j + 1 : end, end:] -= a[:, j + 1 : end, j, None] * a[:, j, None, end:]
        if end < m and end < n:
            a[:, end:, end:] -= module.matmul(
                a[:, end:, begin:end], a[:, begin:end, end:]
            )


class LUFactor(Function):
    """L and U of ``A = P L U`` in one matrix, the swaps, and the order of the rows."""

    def forward(self, a: Any, *, pivot: bool) -> Any:
        """Return LU (..., M, N), pivots (..., min(M, N)) and the order (..., M)."""
        module = array_module(a)
        *batch, m, n = a.shape
        count = int(np.prod(batch, dtype=np.int64))
        lu = a.reshape(count, m, n).copy()
        order = module.tile(module.arange(m), (count, 1))
        pivots = module.tile(module.arange(1, min(m, n) + 1, dtype=int32), (count, 1))
        _eliminate(lu, order, pivots, pivot)
        lu = lu.reshape(a.shape)
        order = order.reshape(*batch, m)
        self.save_for_backward(lu, order)
        return lu, pivots.reshape(*batch, min(m, n)), order

    def backward(self, grad: Any, *_: Any) -> Any:
        """Return ``P L^-T (tril(L^T gL, -1) + triu(gU U^T)) U^-T``.

        Of a wide A the columns beyond the square, of a tall one the rows below it
        depend on L and U linearly: what they add is subtracted from the triangles.
        """
        lu, order = self.saved
        m, n = lu.shape[-2:]
        k = min(m, n)
        square = lu[..., :k, :k]
        lower = tril(square, -1) + identity_like(square, k)
        upper = triu(square)
        inner = grad[..., :k, :k]
        low = matmul(_flip(lower), tril(inner, -1))
        high = matmul(triu(inner), _flip(upper))
        rest = None
        if n > k:
            beyond = grad[..., k:]
            low = low - matmul(beyond, _flip(lu[..., k:]))
            rest = Solve.apply(_flip(lower), beyond)
        elif m > k:
            below = grad[..., k:, :]
            high = high - matmul(_flip(lu[..., k:, :]), below)
            rest = _flip(Solve.apply(upper, _flip(below)))
        core = Solve.apply(_flip(lower), tril(low, -1) + triu(high))
        whole = _flip(Solve.apply(upper, _flip(core)))
        if rest is not None:
            from nnlib.ops.joining import cat

            whole = cat([whole, rest], -1 if n > k else -2)
        return matmul(_permutation(order, grad), whole)


def _flip(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _permutation(order: Any, like: Any) -> Any:
    """Return the matrices P with ``(P X)[order] = X``."""
    array = raw(order)
    eye = array_module(array).eye(array.shape[-1], dtype=raw(like).dtype)
    return constant(eye[array].swapaxes(-1, -2), like)


def _order_of(pivots: Any, rows: int) -> Any:
    """Return the order of rows that swaps (1-based, one after the other) lead to."""
    array = raw(pivots)
    module = array_module(array)
    flat = array.reshape(math.prod(array.shape[:-1]), array.shape[-1])
    order = module.tile(module.arange(rows), (len(flat), 1))
    batch = module.arange(len(flat))
    for j in range(flat.shape[-1]):
        other = flat[:, j] - 1
        kept = order[:, j].copy()
        order[:, j] = order[batch, other]
        order[batch, other] = kept
    return order.reshape(*array.shape[:-1], rows)


class LUFactorResult(NamedTuple):
    """What `lu_factor` returns."""

    LU: Any
    pivots: Any


class LUResult(NamedTuple):
    """What `lu` returns."""

    P: Any
    L: Any
    U: Any


@public(method=False)
def linalg_lu_factor(A: Any, *, pivot: bool = True) -> LUFactorResult:
    """Return the LU decomposition with row swaps, packed for `lu_solve`.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    pivot : bool, default True
        Bring the largest element of each column to the diagonal. Without it the result
        is not finite where a zero turns up there.

    Returns
    -------
    (LU, pivots)
        L below the diagonal (its ones are not stored) and U on and above it; int32,
        shape (..., min(M, N)): row i was exchanged with row ``pivots[i] - 1``.

    Raises
    ------
    ShapeError, DTypeError
        If `A` holds no matrices, or no floats.

    Examples
    --------
    >>> import nnlib
    >>> LU, pivots = nnlib.linalg.lu_factor(nnlib.tensor([[1.0, 2.0], [2.0, 2.0]]))
    >>> LU, pivots
    (tensor([[2. , 2. ],
            [0.5, 1. ]]), tensor([2, 2], dtype=int32))
    """
    check_matrix("lu_factor", A)
    lu, pivots, _ = LUFactor.apply(A, pivot=pivot)
    return LUFactorResult(lu, pivots)


@public(method=False)
@on_its_device
def linalg_lu(A: Any, *, pivot: bool = True) -> LUResult:
    """Return the decomposition ``A = P L U`` as three matrices.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    pivot : bool, default True
        Without it P is empty, and L and U are not finite where a zero turns up on the
        diagonal.

    Returns
    -------
    (P, L, U)
        With K = min(M, N): a permutation (..., M, M), unit lower triangular
        (..., M, K) and upper triangular (..., K, N).

    Raises
    ------
    ShapeError, DTypeError
        If `A` holds no matrices, or no floats.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.lu(nnlib.tensor([[1.0, 2.0], [2.0, 2.0]])).L
    tensor([[1. , 0. ],
            [0.5, 1. ]])
    """
    check_matrix("lu", A)
    lu, _, order = LUFactor.apply(A, pivot=pivot)
    k = min(A.shape[-2:])
    rows = array_module(raw(A)).eye(A.shape[-2], k, dtype=raw(A).dtype)
    lower = tril(lu[..., :k], -1) + constant(rows, A)
    upper = triu(lu[..., :k, :])
    P = _permutation(order, A) if pivot else A.new_zeros(0)
    return LUResult(P, lower, upper)


@public(method=False)
@on_its_device
def linalg_lu_solve(
    LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """Return the X of ``A X = B``, for the A of which `lu_factor` gave `LU`.

    Parameters
    ----------
    LU : Tensor, shape (..., N, N)
    pivots : int32 Tensor, shape (..., N)
    B : Tensor, shape (..., N, K), or (..., K, N) if not `left`
    left : bool, default True
        Otherwise ``X A = B``.
    adjoint : bool, default False
        Take A's transpose.

    Raises
    ------
    LinAlgError
        If a matrix is singular.
    BoundsError
        If a pivot names no row (on the CPU).
    ShapeError, DTypeError
        If the operands do not fit.

    Examples
    --------
    >>> import nnlib
    >>> LU, pivots = nnlib.linalg.lu_factor(nnlib.tensor([[1.0, 2.0], [2.0, 2.0]]))
    >>> nnlib.linalg.lu_solve(LU, pivots, nnlib.tensor([[3.0], [4.0]]))
    tensor([[1.],
            [1.]])
    """
    check_matrix("lu_solve", LU, "LU", square=True)
    wanted = tuple(LU.shape[:-1])
    if raw(pivots).dtype.kind != "i" or tuple(pivots.shape) != wanted:
        raise ShapeError(
            f"linalg.lu_solve: pivots: expected integers of shape {wanted}, got "
            f"{raw(pivots).dtype} of shape {tuple(pivots.shape)}"
        )
    places = raw(pivots)
    if isinstance(places, np.ndarray) and places.size:
        low, high = int(places.min()), int(places.max())
        if low < 1 or high > wanted[-1]:
            raise BoundsError(
                f"linalg.lu_solve: pivots: expected 1 to {wanted[-1]}, got {low} to "
                f"{high}"
            )
    if B.dtype != LU.dtype:
        raise DTypeError(f"linalg.lu_solve: B: expected {LU.dtype}, got {B.dtype}")
    if B.ndim < 2 or B.shape[-2 if left else -1] != LU.shape[-1]:
        raise ShapeError(
            f"linalg.lu_solve: LU of shape {tuple(LU.shape)} and B of shape "
            f"{tuple(B.shape)} do not fit"
        )
    if not left:
        flipped = linalg_lu_solve(LU, pivots, _flip(B), adjoint=not adjoint)
        return _flip(flipped)  # type: ignore[no-any-return]
    permutation = _permutation(_order_of(pivots, LU.shape[-1]), B)
    unit = {"upper": False, "unitriangular": True}
    if adjoint:
        lower = _flip(
            linalg_solve_triangular(LU, identity_like(LU, LU.shape[-1]), **unit)
        )
        inner = linalg_solve_triangular(_flip(triu(LU)), B, upper=False)
        return matmul(permutation, matmul(lower, inner))
    inner = linalg_solve_triangular(LU, matmul(_flip(permutation), B), **unit)
    return linalg_solve_triangular(LU, inner, upper=True)


@public(method=True)
@on_its_device
def lu_solve(b: Any, LU_data: Any, LU_pivots: Any) -> Tensor:
    """Return ``linalg.lu_solve(LU_data, LU_pivots, b)``.

    Examples
    --------
    >>> import nnlib
    >>> LU, pivots = nnlib.linalg.lu_factor(2 * nnlib.eye(1))
    >>> nnlib.lu_solve(nnlib.tensor([[4.0]]), LU, pivots)
    tensor([[2.]])
    """
    return linalg_lu_solve(LU_data, LU_pivots, b)


def _check_factor(op: str, B: Any, L: Any) -> None:
    array = raw(L)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ShapeError(
            f"{op}: expected the triangular factor of square matrices, got shape "
            f"{tuple(array.shape)}"
        )
    if raw(B).dtype != array.dtype:
        raise DTypeError(f"{op}: input is {raw(B).dtype}, the factor {array.dtype}")
    if raw(B).ndim < 2 or raw(B).shape[-2] != array.shape[-1]:
        raise ShapeError(
            f"{op}: input of shape {tuple(raw(B).shape)} and a factor of shape "
            f"{tuple(array.shape)} do not fit"
        )


@public()
def cholesky_solve(input: Any, L: Any, upper: bool = False) -> Tensor:
    """Return the X of ``A X = input`` for the A with the Cholesky factor `L`.

    Parameters
    ----------
    input : Tensor, shape (..., N, K)
    L : Tensor, shape (..., N, N)
        As `linalg.cholesky` returns it.
    upper : bool, default False
        Whether the factor is the upper triangular one.

    Raises
    ------
    ShapeError, DTypeError
        If the operands do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cholesky_solve(nnlib.tensor([[8.0]]), nnlib.tensor([[2.0]]))
    tensor([[2.]])
    """
    _check_factor("cholesky_solve", input, L)
    first, second = (_flip(triu(L)), L) if upper else (L, _flip(tril(L)))
    inner = linalg_solve_triangular(first, input, upper=False)
    return linalg_solve_triangular(second, inner, upper=True)


@public()
@on_its_device
def cholesky_inverse(L: Any, upper: bool = False) -> Tensor:
    """Return the inverse of the matrices with the Cholesky factor `L`.

    Parameters
    ----------
    L : Tensor, shape (..., N, N)
    upper : bool, default False
        Whether the factor is the upper triangular one.

    Raises
    ------
    ShapeError
        If `L` holds no square matrices.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cholesky_inverse(nnlib.tensor([[2.0]]))
    tensor([[0.25]])
    """
    check_matrix("cholesky_inverse", L, "L", square=True)
    return cholesky_solve(identity_like(L, L.shape[-1]), L, upper)
