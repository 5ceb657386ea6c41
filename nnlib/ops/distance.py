"""Distances and likenesses of vectors, and vectors of length 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.ops.activation import gate
from nnlib.ops.activation_hard import hardtanh
from nnlib.ops.arithmetic import Expand, operand_error, shapes, sum_to
from nnlib.ops.arrays import add_up, add_up_squares, constants
from nnlib.ops.bounds import clamp
from nnlib.ops.dims import one_dim, raw
from nnlib.ops.loss import check_float
from nnlib.ops.moments import norm
from nnlib.ops.reduction import Sum

__all__ = ["cosine_similarity", "normalize", "pairwise_distance"]

INFINITY = float("inf")


class CosineSimilarity(Function):
    """The cosine of the angle between vectors along one dimension."""

    promotes = "float"

    def forward(self, x: Any, y: Any, *, back: int, eps: float) -> Any:
        """Return the cosines; `back` is the dimension, counted from the end."""
        self.back, self.eps = back, eps
        self.save_for_backward(x, y)
        try:
            products = x * y
        except ValueError as error:
            raise operand_error("cosine_similarity", error, x, y) from None
        out = add_up(products, (products.ndim + back,), False)
        for factor in (x, y):
            dim = (factor.ndim + back,)
            # On CuPy arrays NumPy calls CuPy's function.
            length = np.sqrt(add_up_squares(factor, dim, False))
            out = out / np.maximum(length, *constants(length, eps))
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad (v - cos u) / |x|`` for x = |x| u and y = |y| v."""
        x, y = self.saved
        back = self.back
        u, long_u, free_u = self.unit(x)
        v, long_v, free_v = self.unit(y)
        product = u * v
        dim = len(product.shape) + back
        cosine = Sum.apply(product, dims=(dim,), keepdim=True)
        grad = grad.reshape(tuple(cosine.shape))
        gx = gy = None
        if self.needs(0):
            gx = sum_to(grad * (v - cosine * gate(u, free_u)) / long_u, shapes(x))
        if self.needs(1):
            gy = sum_to(grad * (u - cosine * gate(v, free_v)) / long_v, shapes(y))
        return gx, gy

    def unit(self, x: Any) -> tuple[Any, Any, Any]:
        """Return unit vectors, lengths of at least eps, and where they are free."""
        length = norm(x, 2.0, len(x.shape) + self.back, True)
        free = np.broadcast_to(raw(length) > self.eps, x.shape)
        long = clamp(length, self.eps)
        return x / long, long, free


def _length(x: Any, back: int) -> int:
    """Return the length of a dimension counted from the end; 1 if it is missing."""
    shape = raw(x).shape
    return shape[back] if len(shape) >= -back else 1


def _stretched(x: Any, back: int, length: int) -> Any:
    """Broadcast `x` along the dimension of the vectors, whose length counts."""
    shape = tuple(raw(x).shape)
    if len(shape) < -back:
        shape = (1,) * (-back - len(shape)) + shape
        x = x.reshape(shape)
    if shape[back] == length or shape[back] != 1:
        return x
    wanted = list(shape)
    wanted[back] = length
    return Expand.apply(x, shape=tuple(wanted))


@public(method=False)
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return ``x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))`` along one dimension.

    Parameters
    ----------
    x1, x2 : Tensor, shapes that broadcast
    dim : int, default 1
        The dimension of the vectors, which goes.
    eps : float, default 1e-8
        Lower bound of a length: a vector of zeros has likeness 0 to all.

    Raises
    ------
    BoundsError
        If there is no such dimension.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1.0, 0.0], [1.0, 1.0]])
    >>> cosine_similarity(x, nnlib.tensor([[2.0, 0.0]]))
    tensor([1.    , 0.7071])
    """
    check_float("cosine_similarity", "x1", x1)
    check_float("cosine_similarity", "x2", x2)
    count = max(raw(x1).ndim, raw(x2).ndim)
    if not count:
        return cosine_similarity(x1.reshape(1), x2.reshape(1), dim, eps)
    back = one_dim("cosine_similarity", dim, count) - count
    length = max(_length(x1, back), _length(x2, back))
    x1, x2 = _stretched(x1, back, length), _stretched(x2, back, length)
    return CosineSimilarity.apply(x1, x2, back=back, eps=eps)  # type: ignore[no-any-return]


def _unit(x: Any, p: float, dim: int, eps: float) -> Any:
    """Return `x` divided by its norm, or by `eps` where that is larger."""
    if len(x.shape) < -dim:
        # A vector dimension that only broadcasting would add has length 1.
        return x / hardtanh(abs(x), eps, INFINITY)
    return x / hardtanh(norm(x, p, dim, True), eps, INFINITY)


@public(method=False)
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """Return the p-norm of ``x1 - x2 + eps`` over the last dimension.

    Parameters
    ----------
    x1, x2 : Tensor, shapes (..., D) that broadcast
    p : float, default 2
    eps : float, default 1e-6
        Added to each difference, so that equal vectors have a gradient.
    keepdim : bool, default False
        Keep the last dimension, with length 1.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import nnlib
    >>> pairwise_distance(nnlib.tensor([[3.0, 4.0]]), nnlib.tensor([[0.0, 0.0]]))
    tensor([5.])
    """
    check_float("pairwise_distance", "x1", x1)
    if not len(x1.shape) or not len(x2.shape):
        raise ShapeError("pairwise_distance: x1, x2: expected at least one dimension")
    return norm(x1 - x2 + eps, p, -1, keepdim)


@public(method=False)
def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Return ``input / max(norm(input), eps)`` along one dimension.

    Parameters
    ----------
    input : Tensor, any shape
    p : float, default 2
        Which norm.
    dim : int, default 1
        The dimension of the vectors.
    eps : float, default 1e-12
        Lower bound of the norm.

    Raises
    ------
    BoundsError
        If there is no such dimension.

    Examples
    --------
    >>> import nnlib
    >>> normalize(nnlib.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    check_float("normalize", "input", input)
    count = len(input.shape)
    return _unit(input, p, one_dim("normalize", dim, count) - max(count, 1), eps)  # type: ignore[no-any-return]
