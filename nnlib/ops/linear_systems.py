"""Inverse, linear systems, powers of matrices (`nnlib.linalg`).

The functions are registered as ``linalg_<name>``: several share their name with a
different function of the top level. Matrices are the last two dimensions; all others
are batches. LAPACK (NumPy) or cuSOLVER (CuPy) does the factorisations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.mode import no_grad
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import DTypeError, LinAlgError, ShapeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.matmul import matmul

# These names PyTorch has at the top level as well.
__all__ = ["inverse", "matrix_power", "pinverse"]


def check_matrix(op: str, x: Any, argument: str = "A", *, square: bool = False) -> None:
    """Raise unless `x` is a floating tensor of (square) matrices."""
    kind = getattr(x, "dtype", type(x).__name__)
    if kind not in FLOATING:
        raise DTypeError(
            f"linalg.{op}: {argument}: expected a floating tensor, got {kind}"
        )
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices" if square else "matrices"
        raise ShapeError(
            f"linalg.{op}: {argument}: expected {kind}, got shape {tuple(x.shape)}"
        )


def lapack(op: str, function: Any, *args: Any, **options: Any) -> Any:
    """Call a function of ``numpy.linalg``; name the op where it fails."""
    try:
        return function(*args, **options)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{op}: {str(error).lower()}") from None


def per_matrix(x: Any) -> Any:
    """Give one number per matrix two dimensions: (...) -> (..., 1, 1)."""
    return x.reshape(*x.shape, 1, 1)


def identity_like(x: Any, n: int) -> Any:
    """Return the identity matrix of `n` rows, of the dtype and place of `x`."""
    array = x._array if isinstance(x, Tensor) else x
    with context_of(array):
        eye = array_module(array).eye(n, dtype=array.dtype)
    return Tensor._from_array(eye) if array is not x else eye


class Inverse(Function):
    """``A^-1``."""

    def forward(self, a: Any) -> Any:
        """Return the inverse."""
        out = lapack("inv", np.linalg.inv, a)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``-A^-T grad A^-T``."""
        (out,) = self.saved
        flipped = out.swapaxes(-1, -2)
        return -matmul(matmul(flipped, grad), flipped)


def _same_batch(a: Any, b: Any) -> tuple[Any, Any]:
    """Broadcast the batches of matrices: CuPy's solver does not."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    xp = array_module(a)
    return (
        xp.broadcast_to(a, batch + a.shape[-2:]),
        xp.broadcast_to(b, batch + b.shape[-2:]),
    )


class Solve(Function):
    """``A^-1 B`` for matrices B."""

    def forward(self, a: Any, b: Any) -> Any:
        """Return the solution."""
        self.shapes = a.shape, b.shape
        try:
            if b.ndim != 1 and type(a) is not np.ndarray:
                a, b = _same_batch(a, b)
            out = lapack("solve", np.linalg.solve, a, b)
        except ValueError:
            raise ShapeError(
                f"linalg.solve: A of shape {a.shape} and B of shape {b.shape} do not "
                "fit"
            ) from None
        self.save_for_backward(a, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``-A^-T grad X^T`` and ``A^-T grad``."""
        a, out = self.saved
        gb = Solve.apply(a.swapaxes(-1, -2), grad)
        ga = None
        if self.needs(0):
            ga = sum_to(-matmul(gb, out.swapaxes(-1, -2)), self.shapes[0])
        return ga, sum_to(gb, self.shapes[1])


class PseudoInverse(Function):
    """The Moore-Penrose inverse."""

    def forward(self, a: Any, *, rtol: float) -> Any:
        """Return the pseudoinverse by the SVD; small singular values count as 0."""
        out = lapack("pinv", np.linalg.pinv, a, rcond=rtol)
        self.save_for_backward(a, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return the gradient for a constant rank (Golub and Pereyra 1973, eq. 4.12).

        With P the pseudoinverse: ``-P^T G P^T + (I - A P) G^T P P^T +
        P^T P G^T (I - P A)``.
        """
        a, p = self.saved
        pt, gt = p.swapaxes(-1, -2), grad.swapaxes(-1, -2)
        m, n = a.shape[-2:]
        outside = identity_like(a, m) - matmul(a, p)
        inside = identity_like(a, n) - matmul(p, a)
        first = matmul(matmul(pt, grad), pt)
        second = matmul(matmul(outside, gt), matmul(p, pt))
        third = matmul(matmul(pt, p), matmul(gt, inside))
        return second + third - first


@public(method="inverse")
def linalg_inv(A: Any) -> Tensor:
    """Return the inverse of square matrices.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)

    Raises
    ------
    LinAlgError
        If a matrix is singular.
    ShapeError, DTypeError
        If `A` holds no square matrices, or no floats.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.inv(nnlib.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    check_matrix("inv", A, square=True)
    return Inverse.apply(A)  # type: ignore[no-any-return]


@public(method=False)
def linalg_solve(A: Any, B: Any, *, left: bool = True) -> Tensor:
    """Return the solution X of ``A X = B`` (of ``X A = B`` if not `left`).

    Parameters
    ----------
    A : Tensor, shape (..., N, N)
    B : Tensor, shape (..., N, K), or (..., N) where that is A's batch and rows
    left : bool, default True

    Raises
    ------
    LinAlgError
        If a matrix is singular.
    ShapeError, DTypeError
        If the operands do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.solve(2 * nnlib.eye(2), nnlib.tensor([2.0, 4.0]))
    tensor([1., 2.])
    """
    check_matrix("solve", A, square=True)
    if B.dtype != A.dtype:
        raise DTypeError(f"linalg.solve: B: expected {A.dtype}, got {B.dtype}")
    if B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1]):
        if not left:
            A = A.swapaxes(-1, -2)
        column = B.reshape(*B.shape, 1)  # (..., N) -> (..., N, 1)
        solution = Solve.apply(A, column)
        return solution.reshape(solution.shape[:-1])  # type: ignore[no-any-return]
    if left:
        return Solve.apply(A, B)  # type: ignore[no-any-return]
    flipped = Solve.apply(A.swapaxes(-1, -2), B.swapaxes(-1, -2))
    return flipped.swapaxes(-1, -2)  # type: ignore[no-any-return]


@public(method=False)
def linalg_diagonal(
    A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> Tensor:
    """Return a diagonal of each matrix as a view: `nnlib.diagonal`, of the last two.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.diagonal(nnlib.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    from nnlib.ops.arranging import diagonal

    return diagonal(A, offset, dim1, dim2)


@public(method="pinverse")
def linalg_pinv(A: Any, rtol: float | None = None) -> Tensor:
    """Return the Moore-Penrose inverses of matrices.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    rtol : float, optional
        Singular values below `rtol` times the largest count as zero; default the
        larger side times the dtype's epsilon.

    Returns
    -------
    Tensor, shape (..., N, M)

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.pinv(nnlib.tensor([[2.0], [0.0]]))
    tensor([[0.5, 0. ]])
    """
    check_matrix("pinv", A)
    return PseudoInverse.apply(A, rtol=_tolerance(A, rtol))  # type: ignore[no-any-return]


def _tolerance(x: Any, rtol: float | None) -> float:
    if rtol is not None:
        return rtol
    epsilon = 2.0**-52 if x.dtype == np.float64 else 2.0**-23
    return float(max(x.shape[-2:]) * epsilon)


@public(method=False, reads=True)
@on_its_device
def linalg_matrix_rank(
    A: Any, *, atol: float | None = None, rtol: float | None = None
) -> Tensor:
    """Return the numbers of singular values above ``max(atol, rtol * largest)``.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    atol : float, optional
        Default 0.
    rtol : float, optional
        Default the larger side times the dtype's epsilon; 0 if `atol` is given.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.matrix_rank(nnlib.ones(3, 3))
    tensor(1)
    """
    check_matrix("matrix_rank", A)
    from nnlib.ops.decompositions import linalg_svdvals

    with no_grad():
        values = linalg_svdvals(A)._array
    if rtol is None and atol is not None:
        rtol = 0.0
    largest = values[..., :1]
    limit = np.maximum(atol or 0.0, _tolerance(A, rtol) * largest)
    rank = (values > limit).sum(axis=-1)
    return Tensor._from_array(array_module(values).asarray(rank))


class LstsqResult(NamedTuple):
    """What `lstsq` returns."""

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


@public(method=False, reads=True)
def linalg_lstsq(A: Any, B: Any, rcond: float | None = None) -> LstsqResult:
    """Return the X that minimises ``|A X - B|``, of least norm if there are several.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    B : Tensor, shape (..., M, K) or (M,)
    rcond : float, optional
        As `rtol` of `pinv`.

    Returns
    -------
    (solution, residuals, rank, singular_values)
        Shapes (..., N, K), (..., K) (empty unless M > N and the rank is N), (...)
        and (..., min(M, N)).

    Examples
    --------
    >>> import nnlib
    >>> A = nnlib.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> nnlib.linalg.lstsq(A, nnlib.tensor([1.0, 3.0, 5.0])).solution
    tensor([1., 2.])
    """
    from nnlib.ops.decompositions import linalg_svdvals

    check_matrix("lstsq", A)
    if B.dtype != A.dtype:
        raise DTypeError(f"linalg.lstsq: B: expected {A.dtype}, got {B.dtype}")
    vector = B.ndim == 1
    rows = B.shape[0] if vector else B.shape[-2]
    if rows != A.shape[-2]:
        raise ShapeError(f"linalg.lstsq: A has {A.shape[-2]} rows, B {rows}")
    solution = matmul(linalg_pinv(A, rcond), B)
    rank = linalg_matrix_rank(A, rtol=rcond)
    m, n = A.shape[-2:]
    if m > n and bool((rank._array == n).all()):
        residuals = (matmul(A, solution) - B).square().sum(0 if vector else -2)
    else:
        residuals = A.new_zeros(0)
    return LstsqResult(solution, residuals, rank, linalg_svdvals(A))


@public(method="matrix_power")
def linalg_matrix_power(A: Any, n: int) -> Tensor:
    """Return square matrices to an integer power; a negative one inverts first.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.matrix_power(nnlib.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    check_matrix("matrix_power", A, square=True)
    if n < 0:
        return linalg_matrix_power(linalg_inv(A), -n)
    if n == 0:
        return identity_like(A, A.shape[-1]).expand(*A.shape).clone()  # type: ignore[no-any-return]
    square = A
    while not n & 1:
        square, n = matmul(square, square), n >> 1
    result, n = square, n >> 1
    while n:
        square = matmul(square, square)
        if n & 1:
            result = matmul(result, square)
        n >>= 1
    return result.clone() if result is A else result  # type: ignore[no-any-return]


inverse = linalg_inv
matrix_power = linalg_matrix_power
pinverse = linalg_pinv
