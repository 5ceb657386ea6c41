"""Functions composed of others: triangular systems, exponential, condition number, ...

The functions of `nnlib.linalg` here are written with operations that have gradients,
and so have theirs, of any order. Matrices are the last two dimensions; all others are
batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arranging import tril, triu
from nnlib.ops.casting import cast
from nnlib.ops.creation import ones_like
from nnlib.ops.determinants import linalg_slogdet
from nnlib.ops.dims import raw
from nnlib.ops.joining import cat
from nnlib.ops.linear_systems import (
    Solve,
    check_matrix,
    identity_like,
    linalg_inv,
    linalg_solve,
    per_matrix,
)
from nnlib.ops.matmul import matmul
from nnlib.ops.matrix_norms import linalg_matrix_norm
from nnlib.ops.selection import where

# These names PyTorch has at the top level as well.
__all__ = ["logdet", "matrix_exp", "vander"]

# Coefficients of the Pade approximant of degree 13, and the largest norm for which its
# error is below the rounding of float64: Higham, "The Scaling and Squaring Method for
# the Matrix Exponential Revisited" (2005), table 2.3 and (2.8).
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
    129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0,
    40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_PADE_NORM = 5.371920351148152


@public(method=False)
@on_its_device
def linalg_solve_triangular(
    A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Return the X of ``A X = B`` (``X A = B`` if not `left`) for a triangular A.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)
        Only the triangle is read.
    B : Tensor, shape (..., N, K), or (..., K, N) if not `left`
    upper : bool
        Whether A is upper or lower triangular.
    left : bool, default True
    unitriangular : bool, default False
        Take A's diagonal as ones, without reading it.

    Raises
    ------
    LinAlgError
        If a matrix is singular (PyTorch returns infinities).
    ShapeError, DTypeError
        If the operands do not fit.

    Examples
    --------
    >>> import nnlib
    >>> A = nnlib.tensor([[2.0, 0.0], [1.0, 1.0]])
    >>> B = nnlib.tensor([[2.0], [3.0]])
    >>> nnlib.linalg.solve_triangular(A, B, upper=False)
    tensor([[1.],
            [2.]])
    """
    check_matrix("solve_triangular", A, square=True)
    if B.dtype != A.dtype:
        raise DTypeError(
            f"linalg.solve_triangular: B: expected {A.dtype}, got {B.dtype}"
        )
    rows = B.shape[-2 if left else -1] if B.ndim > 1 else None
    if rows != A.shape[-1]:
        raise ShapeError(
            f"linalg.solve_triangular: A of shape {tuple(A.shape)} and B of shape "
            f"{tuple(B.shape)} do not fit"
        )
    offset = 1 if unitriangular else 0
    A = triu(A, offset) if upper else tril(A, -offset)
    if unitriangular:
        A = A + identity_like(A, A.shape[-1])
    if left:
        return Solve.apply(A, B)  # type: ignore[no-any-return]
    flipped = Solve.apply(A.swapaxes(-1, -2), B.swapaxes(-1, -2))
    return flipped.swapaxes(-1, -2)  # type: ignore[no-any-return]


@public(method=False, reads=True)
def linalg_cond(A: Any, p: Any = None) -> Tensor:
    """Return the condition numbers ``|A| |A^-1|`` of matrices; inf if singular.

    Parameters
    ----------
    A : Tensor, shape (..., N, N), or (..., M, N) for the 2-norms
    p : {None, 2, -2, "fro", "nuc", 1, -1, inf, -inf}
        The norm, as in `matrix_norm`; None as 2: the largest singular value divided
        by the smallest.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.cond(nnlib.tensor([[4.0, 0.0], [0.0, 0.5]]))
    tensor(8.)
    """
    if p in (None, 2, -2):
        from nnlib.ops.decompositions import linalg_svdvals

        check_matrix("cond", A)
        values = linalg_svdvals(A)
        largest, smallest = values.select(-1, 0), values.select(-1, -1)
        return smallest / largest if p == -2 else largest / smallest
    check_matrix("cond", A, square=True)
    with no_grad():
        singular = linalg_slogdet(A).sign == 0
    if bool(singular.any()):
        A = where(per_matrix(singular), identity_like(A, A.shape[-1]), A)
    out = linalg_matrix_norm(A, p) * linalg_matrix_norm(linalg_inv(A), p)
    return out.masked_fill(singular, math.inf)


@public(method="matrix_exp", reads=True)
def linalg_matrix_exp(A: Any) -> Tensor:
    """Return the exponentials of square matrices, ``I + A + A^2 / 2 + ...``.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)

    Raises
    ------
    ShapeError, DTypeError
        If `A` holds no square matrices, or no floats.

    Notes
    -----
    A is halved until the Pade approximant of degree 13 is exact to rounding, and the
    result squared as often: Higham, "The Scaling and Squaring Method for the Matrix
    Exponential Revisited" (2005).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.matrix_exp(nnlib.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    check_matrix("matrix_exp", A, square=True)
    if not raw(A).size:
        return A.clone()  # type: ignore[no-any-return]
    if A.dtype in HALF:
        # The coefficients are beyond float16, the sums beyond bfloat16's digits.
        return cast(linalg_matrix_exp(cast(A, float32)), A.dtype)  # type: ignore[no-any-return]
    largest = float(abs(raw(A)).sum(axis=-2).max())
    halvings = 0
    if _PADE_NORM < largest < math.inf:
        halvings = math.ceil(math.log2(largest / _PADE_NORM))
    A = A * 0.5**halvings
    eye = identity_like(A, A.shape[-1])
    a2 = matmul(A, A)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)

    def half(first: int) -> Any:
        """Return every second term of the polynomial, from the coefficient `first`."""
        c = _PADE[first::2]
        high = matmul(a6, a6 * c[6] + a4 * c[5] + a2 * c[4])
        return high + a6 * c[3] + a4 * c[2] + a2 * c[1] + eye * c[0]

    odd, even = matmul(A, half(1)), half(0)
    out = Solve.apply(even - odd, even + odd)
    for _ in range(halvings):
        out = matmul(out, out)
    return out  # type: ignore[no-any-return]


@public(method="logdet")
def logdet(input: Any) -> Tensor:
    """Return the logarithms of determinants: NaN where negative, -inf where zero.

    Parameters
    ----------
    input : Tensor, shape (..., N, N)

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logdet(2 * nnlib.eye(2))
    tensor(1.3863)
    """
    sign, logarithm = linalg_slogdet(input)
    return logarithm.masked_fill(sign < 0, math.nan)  # type: ignore[no-any-return]


@public(method=False)
def linalg_vander(x: Any, *, N: int | None = None) -> Tensor:
    """Return the powers ``x^0, x^1, ..., x^(N-1)`` in a new last dimension.

    Parameters
    ----------
    x : Tensor, shape (..., n)
    N : int, optional
        Default n.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.vander(nnlib.tensor([2.0, 3.0]), N=3)
    tensor([[1., 2., 4.],
            [1., 3., 9.]])
    """
    if not x.ndim:
        raise ShapeError("linalg.vander: x: expected at least one dimension")
    count = x.shape[-1] if N is None else N
    if count < 1:
        raise ShapeError(f"linalg.vander: N: expected at least 1, got {count}")
    column = x.unsqueeze(-1)
    powers = column.expand(*x.shape, count - 1).cumprod(-1)
    return cat((ones_like(column), powers), -1)


@public(method=False)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """Return the powers of a vector's elements as rows, the highest power first.

    Parameters
    ----------
    x : Tensor, shape (n,)
    N : int, optional
        The number of columns; default n.
    increasing : bool, default False
        Begin with the power 0.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.vander(nnlib.tensor([2, 3]), 3)
    tensor([[4, 2, 1],
            [9, 3, 1]])
    """
    if x.ndim != 1:
        raise ShapeError(f"vander: x: expected a vector, got shape {tuple(x.shape)}")
    powers = linalg_vander(x, N=N)
    return powers if increasing else powers.flip(-1)


@public(method=False)
def linalg_vecdot(x: Any, y: Any, *, dim: int = -1) -> Tensor:
    """Return the sums of products along one dimension; the others broadcast.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> nnlib.linalg.vecdot(x, x)
    tensor([ 5., 25.])
    """
    return (x * y).sum(dim)  # type: ignore[no-any-return]


@public(method=False)
def linalg_multi_dot(tensors: Sequence[Any]) -> Tensor:
    """Return the product of several matrices, in the order that multiplies least.

    Parameters
    ----------
    tensors : sequence of Tensor
        Two or more matrices; the first and the last may be vectors.

    Raises
    ------
    ShapeError
        If there are fewer than two, or they do not fit.

    Notes
    -----
    The order is found by dynamic programming: Cormen et al., "Introduction to
    Algorithms", 15.2.

    Examples
    --------
    >>> import nnlib
    >>> a, b = nnlib.ones(2, 3), nnlib.ones(3, 4)
    >>> nnlib.linalg.multi_dot([a, b, nnlib.ones(4)])
    tensor([12., 12.])
    """
    count = len(tensors)
    allowed = [(1, 2) if place in (0, count - 1) else (2,) for place in range(count)]
    if count < 2 or any(
        x.ndim not in dims for x, dims in zip(tensors, allowed, strict=True)
    ):
        raise ShapeError(
            "linalg.multi_dot: expected two or more matrices (the first and the last "
            f"may be vectors), got shapes {[tuple(x.shape) for x in tensors]}"
        )
    sides = [x.shape[0] for x in tensors] + [tensors[-1].shape[-1]]
    if tensors[0].ndim == 1:
        sides[0] = 1
    if tensors[-1].ndim == 1:
        sides[-1] = 1
    return _multiply(tensors, _best_splits(sides), 0, count - 1)  # type: ignore[no-any-return]


def _best_splits(sides: list[int]) -> dict[tuple[int, int], int]:
    """Return where to split each run of matrices (first, last): after which one."""
    count = len(sides) - 1
    cost = {(place, place): 0 for place in range(count)}
    splits: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for first in range(count - length):
            last = first + length
            cost[first, last], splits[first, last] = min(
                (
                    cost[first, split]
                    + cost[split + 1, last]
                    + sides[first] * sides[split + 1] * sides[last + 1],
                    split,
                )
                for split in range(first, last)
            )
    return splits


def _multiply(tensors: Any, splits: Any, first: int, last: int) -> Any:
    if first == last:
        return tensors[first]
    split = splits[first, last]
    return matmul(
        _multiply(tensors, splits, first, split),
        _multiply(tensors, splits, split + 1, last),
    )


@public(method=False)
def linalg_tensorinv(A: Any, ind: int = 2) -> Tensor:
    """Return the inverse of `tensordot` with `A` over its last dimensions.

    Parameters
    ----------
    A : Tensor
        The product of its first `ind` lengths is that of the others.
    ind : int, default 2

    Raises
    ------
    ShapeError
        If the two products differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.tensorinv(nnlib.eye(6).reshape(2, 3, 6)).shape
    Size([6, 2, 3])
    """
    rows, columns = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if ind < 1 or math.prod(rows) != math.prod(columns):
        raise ShapeError(
            f"linalg.tensorinv: ind={ind} does not split shape {tuple(A.shape)} into "
            "two equal products"
        )
    flat = A.reshape(math.prod(rows), -1)
    return linalg_inv(flat).reshape(*columns, *rows)


@public(method=False)
def linalg_tensorsolve(A: Any, B: Any, dims: Any = None) -> Tensor:
    """Return the X for which ``tensordot(A, X, X.ndim)`` is `B`.

    Parameters
    ----------
    A : Tensor, shape (*B.shape, *X.shape)
    B : Tensor
    dims : tuple of int, optional
        Dimensions of `A` to move to its end first.

    Raises
    ------
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> A, B = nnlib.eye(6).reshape(2, 3, 6), nnlib.ones(2, 3)
    >>> nnlib.linalg.tensorsolve(A, B)
    tensor([1., 1., 1., 1., 1., 1.])
    """
    if dims is not None:
        moved = tuple(dim % A.ndim for dim in dims)
        rest = [dim for dim in range(A.ndim) if dim not in moved]
        A = A.permute(*rest, *moved)
    rows, columns = tuple(A.shape[: B.ndim]), tuple(A.shape[B.ndim :])
    if rows != tuple(B.shape) or math.prod(rows) != math.prod(columns):
        raise ShapeError(
            f"linalg.tensorsolve: A of shape {tuple(A.shape)} and B of shape "
            f"{tuple(B.shape)} do not fit"
        )
    size = math.prod(rows)
    solution = linalg_solve(A.reshape(size, size), B.reshape(size))
    return solution.reshape(columns)


matrix_exp = linalg_matrix_exp
