"""The bilinear form of two vectors."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.ops.matmul import linear

__all__ = ["bilinear"]


@public(method=False)
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return ``y_k = x1^T A_k x2 + b_k``.

    Parameters
    ----------
    input1 : Tensor, shape (..., I)
    input2 : Tensor, shape (..., J)
    weight : Tensor, shape (K, I, J)
        The matrices ``A_k``.
    bias : Tensor, shape (K,), optional

    Returns
    -------
    Tensor, shape (..., K)

    Raises
    ------
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib.nn.functional import bilinear
    >>> bilinear(nnlib.ones(2), nnlib.ones(3), nnlib.ones(1, 2, 3))
    tensor([6.])
    """
    lead, wanted = tuple(input1.shape[:-1]), tuple(weight.shape)
    if len(wanted) != 3:
        raise ShapeError(
            "bilinear: weight: expected (out_features, in1_features, in2_features), "
            f"got {wanted}"
        )
    for name, x, features in (("1", input1, wanted[1]), ("2", input2, wanted[2])):
        if x.ndim == 0 or x.shape[-1] != features:
            raise ShapeError(
                f"bilinear: input{name} has shape {tuple(x.shape)}, weight expects "
                f"{features} features in its last dimension"
            )
    if tuple(input2.shape[:-1]) != lead:
        raise ShapeError(
            f"bilinear: input1 has shape {tuple(input1.shape)}, input2 "
            f"{tuple(input2.shape)}: all dimensions but the last must agree"
        )
    # The products of all pairs of elements, (..., I, J) -> (..., I * J), make it one
    # matrix product.
    pairs = input1.reshape(*lead, wanted[1], 1) * input2.reshape(*lead, 1, wanted[2])
    return linear(
        pairs.reshape(*lead, wanted[1] * wanted[2]),
        weight.reshape(wanted[0], wanted[1] * wanted[2]),
        bias,
    )
