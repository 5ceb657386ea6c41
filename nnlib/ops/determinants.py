"""Determinants and their logarithms (`nnlib.linalg`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.ops.linear_systems import check_matrix, linalg_inv, per_matrix
from nnlib.ops.matmul import matmul

# These names PyTorch has at the top level as well.
__all__ = ["det", "slogdet"]


class Cofactor(Function):
    """The matrix of cofactors, which is ``det(A) A^-T`` where A has an inverse."""

    def forward(self, a: Any) -> Any:
        """Return the cofactors, also of a singular matrix.

        From ``A = U diag(s) V^T``: ``det(U V^T) U diag(c) V^T``, each c the product of
        all other singular values.
        """
        u, s, vh = np.linalg.svd(a)
        ones = np.ones_like(s[..., :1])
        below = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
        above = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
        others = (below * above)[..., : s.shape[-1]]
        sign = np.linalg.det(u) * np.linalg.det(vh)
        out = per_matrix(sign) * np.matmul(u * others[..., None, :], vh)
        self.save_for_backward(a, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``sum(grad C) A^-T - C grad^T A^-T`` for the cofactors C."""
        a, out = self.saved
        inverse = linalg_inv(a).swapaxes(-1, -2)
        total = (grad * out).sum((-2, -1))
        turned = matmul(out, grad.swapaxes(-1, -2))
        return per_matrix(total) * inverse - matmul(turned, inverse)


class Determinant(Function):
    """The determinant."""

    def forward(self, a: Any) -> Any:
        """Return the determinant."""
        self.save_for_backward(a)
        return np.linalg.det(a)

    def backward(self, grad: Any) -> Any:
        """Return ``grad`` times the cofactors."""
        (a,) = self.saved
        return per_matrix(grad) * Cofactor.apply(a)


class LogDeterminant(Function):
    """Sign and logarithm of the absolute value of the determinant."""

    def forward(self, a: Any) -> Any:
        """Return sign and logarithm."""
        sign, logarithm = np.linalg.slogdet(a)
        xp = array_module(a)
        sign, logarithm = xp.asarray(sign), xp.asarray(logarithm)
        self.save_for_backward(a)
        self.mark_non_differentiable(sign)
        return sign, logarithm

    def backward(self, grad_sign: Any, grad: Any) -> Any:
        """Return ``grad A^-T``."""
        (a,) = self.saved
        return per_matrix(grad) * linalg_inv(a).swapaxes(-1, -2)


@public(method="det")
def linalg_det(A: Any) -> Tensor:
    """Return the determinants of square matrices (..., N, N).

    It has a gradient for every matrix; second derivatives need invertible ones.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.det(nnlib.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor(8.)
    """
    check_matrix("det", A, square=True)
    return Determinant.apply(A)  # type: ignore[no-any-return]


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


@public(method="slogdet")
def linalg_slogdet(A: Any) -> SlogdetResult:
    """Return sign and logarithm of the absolute value of determinants.

    Parameters
    ----------
    A : Tensor, shape (..., N, N)

    Returns
    -------
    (sign, logabsdet)
        Each of shape (...); (0, -inf) for a singular matrix.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linalg.slogdet(-nnlib.eye(3)).sign
    tensor(-1.)
    """
    check_matrix("slogdet", A, square=True)
    return SlogdetResult(*LogDeterminant.apply(A))


det = linalg_det
slogdet = linalg_slogdet
