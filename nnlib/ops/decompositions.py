"""Cholesky, QR, SVD, eigenvalues of symmetric matrices (`nnlib.linalg`).

The gradients are those of Giles, "An extended collection of matrix derivative results"
(2008), Walter, Lehmann and Lamour (QR, 2012) and Townsend (SVD, 2016). They need
distinct singular values or eigenvalues where the gradient of a vector is asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error
from nnlib.ops.arranging import triangle, tril
from nnlib.ops.dims import raw
from nnlib.ops.linear_systems import check_matrix, identity_like, lapack
from nnlib.ops.matmul import matmul

__all__ = ["qr", "svd"]


def _row(values: Any) -> Any:
    """Return vectors as matrices of one row: (..., N) -> (..., 1, N)."""
    return values.reshape(*values.shape[:-1], 1, values.shape[-1])


def _inverse_gaps(values: Any) -> Any:
    """Return ``1 / (v_j - v_i)``, 0 on the diagonal: (..., N) -> (..., N, N)."""
    gaps = _row(values) - values.reshape(*values.shape, 1)
    eye = identity_like(values, values.shape[-1])
    return (1 - eye) / (gaps + eye)


def _scaled(x: Any, values: Any) -> Any:
    """Multiply the columns of `x` by `values`: ``x diag(v)``."""
    return x * _row(values)


class Cholesky(Function):
    """The lower triangular L with ``L L^T = A``."""

    def forward(self, a: Any) -> Any:
        """Return L."""
        out = lapack("cholesky", np.linalg.cholesky, a)
        self.save_for_backward(out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return the symmetric part of ``L^-T Phi(L^T grad) L^-1``.

        Phi takes the lower triangle, with half of the diagonal.
        """
        from nnlib.ops.linear_systems import Solve

        (lower,) = self.saved
        flipped = lower.swapaxes(-1, -2)
        product = matmul(flipped, grad)
        half = (tril(product) + tril(product, -1)) * 0.5
        inner = Solve.apply(flipped, half)
        whole = Solve.apply(flipped, inner.swapaxes(-1, -2))
        return (whole + whole.swapaxes(-1, -2)) * 0.5


def find_qr() -> tuple[Any, Any] | None:
    """Return the two ufuncs behind NumPy's `qr`: its checks take twice their time.

    NumPy has no public names for them; where they are not found, its `qr` does it.
    """
    try:
        from numpy.linalg import _umath_linalg
    except ImportError:
        return None
    known = vars(_umath_linalg)
    if "qr_r_raw" not in known or "qr_reduced" not in known:
        return None
    return known["qr_r_raw"], known["qr_reduced"]


_qr = find_qr()


def reduced_qr(a: Any) -> tuple[Any, Any]:
    """Return Q (..., M, N) and R (..., N, N) of an array, M >= N."""
    if _qr is None or type(a) is not np.ndarray or not a.size:
        q, r = lapack("qr", np.linalg.qr, a)
        return q, r
    decompose, build = _qr
    # LAPACK writes over it: R, and below R what Q is built of. In float64, as NumPy.
    both = a.astype(np.float64)
    q = build(both, decompose(both))
    upper = triangle(both[..., : a.shape[-1], :], 0, False)
    return q.astype(a.dtype, copy=False), upper.astype(a.dtype, copy=False)


class QR(Function):
    """``A = Q R`` with M >= N, in the reduced form."""

    def forward(self, a: Any) -> Any:
        """Return Q (..., M, N) and R (..., N, N)."""
        q, r = reduced_qr(a)
        self.save_for_backward(q, r)
        return q, r

    def backward(self, grad_q: Any, grad_r: Any) -> Any:
        """Return ``(grad_q + Q copyltu(M)) R^-T``, ``M = R grad_r^T - grad_q^T Q``.

        copyltu mirrors the lower triangle to the upper one.
        """
        from nnlib.ops.linear_systems import Solve

        q, r = self.saved
        m = matmul(r, grad_r.swapaxes(-1, -2)) - matmul(grad_q.swapaxes(-1, -2), q)
        mirrored = tril(m) + tril(m, -1).swapaxes(-1, -2)
        whole = grad_q + matmul(q, mirrored)
        return Solve.apply(r, whole.swapaxes(-1, -2)).swapaxes(-1, -2)


class CompleteQR(Function):
    """``A = Q R`` with a square Q."""

    def forward(self, a: Any) -> Any:
        """Return Q (..., M, M) and R (..., M, N)."""
        return tuple(lapack("qr", np.linalg.qr, a, mode="complete"))

    def backward(self, *grads: Any) -> Any:
        """Refuse: columns of Q outside A's range are not determined by A."""
        raise Error(
            "linalg.qr: mode='complete' has no gradient for M > N; use mode='reduced'"
        )


class SVD(Function):
    """``A = U diag(S) V^T`` with min(M, N) columns of U and V."""

    materialize_grads = False

    def forward(self, a: Any) -> Any:
        """Return U, S and V^T."""
        u, s, vh = lapack("svd", np.linalg.svd, a, full_matrices=False)
        self.save_for_backward(u, s, vh)
        self.square = a.shape[-2] == s.shape[-1], a.shape[-1] == s.shape[-1]
        return u, s, vh

    def backward(self, grad_u: Any, grad_s: Any, grad_vh: Any) -> Any:
        """Return the gradient by Townsend (2016), with F the inverse gaps of S^2."""
        u, s, vh = self.saved
        v, ut = vh.swapaxes(-1, -2), u.swapaxes(-1, -2)
        eye = identity_like(s, s.shape[-1])
        inner = None if grad_s is None else eye * _row(grad_s)
        outer = None
        gaps = None
        if grad_u is not None or grad_vh is not None:
            gaps = _inverse_gaps(s * s)
        if grad_u is not None:
            twist = gaps * matmul(ut, grad_u)
            part = _scaled(twist + twist.swapaxes(-1, -2), s)
            inner = part if inner is None else inner + part
            if not self.square[0]:
                rest = _scaled(grad_u - matmul(u, matmul(ut, grad_u)), 1 / s)
                outer = matmul(rest, vh)
        if grad_vh is not None:
            grad_v = grad_vh.swapaxes(-1, -2)
            twist = gaps * matmul(vh, grad_v)
            part = _scaled(twist + twist.swapaxes(-1, -2), s).swapaxes(-1, -2)
            inner = part if inner is None else inner + part
            if not self.square[1]:
                rest = grad_vh - matmul(matmul(grad_vh, v), vh)
                extra = matmul(_scaled(u, 1 / s), rest)
                outer = extra if outer is None else outer + extra
        whole = matmul(matmul(u, inner), vh)
        return whole if outer is None else whole + outer


class FullSVD(Function):
    """``A = U diag(S) V^T`` with square U and V."""

    def forward(self, a: Any) -> Any:
        """Return U, S and V^T."""
        return tuple(lapack("svd", np.linalg.svd, a, full_matrices=True))

    def backward(self, *grads: Any) -> Any:
        """Refuse: vectors outside A's range are not determined by A."""
        raise Error(
            "linalg.svd: full_matrices=True has no gradient for M != N; use "
            "full_matrices=False, or svdvals"
        )


class Eigh(Function):
    """``A = V diag(w) V^T`` of a symmetric A."""

    materialize_grads = False

    def forward(self, a: Any, *, uplo: str) -> Any:
        """Return the eigenvalues, ascending, and the eigenvectors in columns."""
        w, v = lapack("eigh", np.linalg.eigh, a, UPLO=uplo)
        self.save_for_backward(w, v)
        return w, v

    def backward(self, grad_w: Any, grad_v: Any) -> Any:
        """Return ``V (diag(grad_w) + F * V^T grad_v) V^T``, F the inverse gaps."""
        w, v = self.saved
        vt = v.swapaxes(-1, -2)
        inner = None
        if grad_w is not None:
            eye = identity_like(w, w.shape[-1])
            inner = eye * _row(grad_w)
        if grad_v is not None:
            part = _inverse_gaps(w) * matmul(vt, grad_v)
            inner = part if inner is None else inner + part
        return matmul(matmul(v, inner), vt)


@public(method="cholesky")
def linalg_cholesky(A: Any, *, upper: bool = False) -> Tensor:
    """Return the lower triangular L with ``L L^T = A``; its transpose if `upper`.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)
        Symmetric and positive definite; only the lower triangle is read.
    upper : bool, default False

    Raises
    ------
    Error
        If a matrix is not positive definite.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.cholesky(4 * nnlib.eye(2))
    tensor([[2., 0.],
            [0., 2.]])
    """
    check_matrix("cholesky", A, square=True)
    lower = Cholesky.apply(A)
    return lower.swapaxes(-1, -2) if upper else lower  # type: ignore[no-any-return]


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


@public(method=False)
def linalg_qr(A: Any, mode: str = "reduced") -> QRResult:
    """Return the QR decomposition: Q has orthonormal columns, R is upper triangular.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    mode : {"reduced", "complete", "r"}
        With K = min(M, N): Q (..., M, K) and R (..., K, N); Q (..., M, M) and
        R (..., M, N); or an empty Q and R (..., K, N).

    Raises
    ------
    DTypeError
        If `mode` is unknown.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.qr(nnlib.ones(3, 2)).Q.shape
    Size([3, 2])
    """
    check_matrix("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise DTypeError(
            f"linalg.qr: mode: expected 'reduced', 'complete' or 'r', got {mode!r}"
        )
    m, n = raw(A).shape[-2:]
    if mode == "complete" and m > n:
        return QRResult(*CompleteQR.apply(A))
    if m >= n:
        q, r = QR.apply(A)
    else:
        # The first M columns determine Q; the others follow by a product.
        q, first = QR.apply(A.narrow(-1, 0, m))
        rest = matmul(q.swapaxes(-1, -2), A.narrow(-1, m, n - m))
        from nnlib.ops.joining import cat

        r = cat([first, rest], -1)
    return QRResult(A.new_zeros(0) if mode == "r" else q, r)


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


@public(method=False)
def linalg_svd(A: Any, full_matrices: bool = True) -> SVDResult:
    """Return the singular value decomposition ``A = U diag(S) Vh``.

    Parameters
    ----------
    A : Tensor, shape (..., M, N)
    full_matrices : bool, default True
        Whether U and Vh are square; otherwise they have min(M, N) columns and rows.
        Gradients need False where M and N differ.

    Returns
    -------
    (U, S, Vh)
        S of shape (..., min(M, N)), descending.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.svd(nnlib.tensor([[3.0, 0.0], [0.0, 4.0]])).S
    tensor([4., 3.])
    """
    check_matrix("svd", A)
    square = A.shape[-1] == A.shape[-2]
    function = FullSVD if full_matrices and not square else SVD
    return SVDResult(*function.apply(A))


@public(method=False)
def linalg_svdvals(A: Any) -> Tensor:
    """Return the singular values of matrices (..., M, N), descending.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.svdvals(nnlib.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor([4., 3.])
    """
    check_matrix("svdvals", A)
    return SVD.apply(A)[1]  # type: ignore[no-any-return]


class OldSVDResult(NamedTuple):
    """What `nnlib.svd` returns."""

    U: Any
    S: Any
    V: Any


@public(method="svd")
def svd(input: Any, some: bool = True, compute_uv: bool = True) -> OldSVDResult:
    """Return the singular value decomposition ``input = U diag(S) V^T``.

    PyTorch's older function, which gives V; `linalg.svd` gives its transpose.

    Parameters
    ----------
    input : Tensor, shape (..., M, N)
    some : bool, default True
        Whether U and V have min(M, N) columns, or are square.
    compute_uv : bool, default True
        Without it U and V are zeros.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.svd(nnlib.tensor([[3.0, 0.0], [0.0, 4.0]])).S
    tensor([4., 3.])
    """
    check_matrix("svd", input)
    if not compute_uv:
        (m, n), batch = input.shape[-2:], input.shape[:-2]
        U, V = input.new_zeros(*batch, m, m), input.new_zeros(*batch, n, n)
        return OldSVDResult(U, linalg_svdvals(input), V)
    found = linalg_svd(input, full_matrices=not some)
    return OldSVDResult(found.U, found.S, found.Vh.swapaxes(-1, -2))


@public(method="qr")
def qr(input: Any, some: bool = True) -> QRResult:
    """Return ``linalg.qr(input)``, of mode "complete" if not `some`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.qr(nnlib.ones(3, 2)).R.shape
    Size([2, 2])
    """
    return linalg_qr(input, "reduced" if some else "complete")


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


@public(method=False)
def linalg_eigh(A: Any, UPLO: str = "L") -> EighResult:
    """Return eigenvalues, ascending, and eigenvectors of symmetric matrices.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)
    UPLO : {"L", "U"}
        Which triangle to read.

    Returns
    -------
    (eigenvalues, eigenvectors)
        Shapes (..., N) and (..., N, N), the vectors in columns.

    Raises
    ------
    DTypeError
        If `UPLO` is unknown.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.eigh(nnlib.tensor([[0.0, 1.0], [1.0, 0.0]])).eigenvalues
    tensor([-1.,  1.])
    """
    check_matrix("eigh", A, square=True)
    if UPLO not in ("L", "U"):
        raise DTypeError(f"linalg.eigh: UPLO: expected 'L' or 'U', got {UPLO!r}")
    return EighResult(*Eigh.apply(A, uplo=UPLO))


@public(method=False)
def linalg_eigvalsh(A: Any, UPLO: str = "L") -> Tensor:
    """Return the eigenvalues of symmetric matrices, ascending.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.eigvalsh(nnlib.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([-1.,  1.])
    """
    return linalg_eigh(A, UPLO).eigenvalues  # type: ignore[no-any-return]
