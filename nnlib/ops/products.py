"""Products built on matmul: outer, inner, tensordot, kron, addmm and its kin."""

from __future__ import annotations

import functools
import math
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import op_name, public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import sum_error, sum_to
from nnlib.ops.dims import raw
from nnlib.ops.matmul import SMALL, check_dtypes, check_ndim, matmul, product

__all__ = [
    "addmm",
    "addmv",
    "addr",
    "baddbmm",
    "ger",
    "inner",
    "kron",
    "outer",
    "tensordot",
]


class Outer(Function):
    """Each element of one vector times each of another."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the products, shape (M, N)."""
        self.save_for_backward(x, y)
        return x.reshape(-1, 1) * y  # (M, 1) * (N,) -> (M, N)

    def backward(self, grad: Any) -> Any:
        """Return ``grad y`` and ``grad^T x``."""
        x, y = self.saved
        return (
            matmul(grad, y) if self.needs(0) else None,
            matmul(grad.swapaxes(0, 1), x) if self.needs(1) else None,
        )


class AddProduct(Function):
    """``beta x + alpha a b`` for matrices, or batches of them."""

    def forward(self, x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        """Return the sum; a beta of 0 ignores even NaN in `x`."""
        self.shape, self.beta, self.alpha = x.shape, beta, alpha
        edges = self.edges
        if edges is not None:
            self.save_for_backward(
                None if edges[2] is None else a, None if edges[1] is None else b
            )
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"{op_name('addmm')}: matrices of shapes {a.shape} and {b.shape} do "
                "not fit"
            )
        out = product(a, b)
        try:
            if alpha != 1:
                out *= alpha
            if beta != 0:
                out += x if beta == 1 else x * beta
        except (ValueError, TypeError) as error:
            raise sum_error(op_name("addmm"), error, x, out, beta, alpha) from None
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``beta grad``, ``alpha grad b^T`` and ``alpha a^T grad``."""
        a, b = self.saved
        gx = ga = gb = None
        if self.needs(0):
            gx = sum_to(grad if self.beta == 1 else grad * self.beta, self.shape)
        if self.alpha != 1:
            grad = grad * self.alpha
        if self.needs(1):
            ga = matmul(grad, b.swapaxes(-1, -2))
        if self.needs(2):
            gb = matmul(a.swapaxes(-1, -2), grad)
        return gx, ga, gb


class AddMatVec(Function):
    """``beta * x + alpha * a v`` for a matrix and a vector."""

    def forward(self, x: Any, a: Any, v: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        """Return the sum; a beta of 0 ignores even NaN in `x`."""
        self.shape, self.beta, self.alpha = x.shape, beta, alpha
        self.save_for_backward(None, a, v)
        if a.shape[1] != v.shape[0]:
            raise ShapeError(
                f"addmv: a matrix of shape {a.shape} and a vector of {v.shape[0]} "
                "elements do not fit"
            )
        if a.size <= SMALL:
            out = a.dot(v)
        else:
            out = product(a, v.reshape(-1, 1)).reshape(-1)  # (M, K), (K, 1) -> (M,)
        return _combine("addmv", x, out, beta, alpha)

    def backward(self, grad: Any) -> Any:
        """Return ``beta grad``, and the gradients of the product."""
        _, a, v = self.saved
        gx = ga = gv = None
        if self.needs(0):
            gx = sum_to(grad if self.beta == 1 else grad * self.beta, self.shape)
        if self.alpha != 1:
            grad = grad * self.alpha
        if self.needs(1):
            ga = grad.reshape((-1, 1)) * v
        if self.needs(2):
            gv = matmul(a.swapaxes(0, 1), grad)
        return gx, ga, gv


def _combine(op: str, x: Any, out: Any, beta: Any, alpha: Any) -> Any:
    """Return ``beta * x + alpha * out``, in the memory of `out` where it fits."""
    try:
        if alpha != 1:
            out *= alpha
        if beta == 0:
            return out
        x = x if beta == 1 else x * beta
        if x.shape == out.shape:
            out += x
            return out
        return x + out
    except (ValueError, TypeError) as error:
        raise sum_error(op, error, x, out, beta, alpha) from None


class AddOuter(Function):
    """``beta * x + alpha * v w^T`` for two vectors."""

    def forward(self, x: Any, v: Any, w: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        """Return the sum; a beta of 0 ignores even NaN in `x`."""
        self.shape, self.beta, self.alpha = x.shape, beta, alpha
        self.save_for_backward(None, v, w)
        out = v.reshape(-1, 1) * w  # (M, 1) * (N,) -> (M, N)
        return _combine("addr", x, out, beta, alpha)

    def backward(self, grad: Any) -> Any:
        """Return ``beta grad``, ``alpha grad w`` and ``alpha grad^T v``."""
        _, v, w = self.saved
        gx = gv = gw = None
        if self.needs(0):
            gx = sum_to(grad if self.beta == 1 else grad * self.beta, self.shape)
        if self.alpha != 1:
            grad = grad * self.alpha
        if self.needs(1):
            gv = matmul(grad, w)
        if self.needs(2):
            gw = matmul(grad.swapaxes(0, 1), v)
        return gx, gv, gw


class Kron(Function):
    """The Kronecker product of two tensors with as many dimensions."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the product of each element of `x` with all of `y`."""
        self.save_for_backward(x, y)
        wide_x, wide_y, shape = interleaved(x.shape, y.shape)
        return (x.reshape(wide_x) * y.reshape(wide_y)).reshape(shape)

    def backward(self, grad: Any) -> Any:
        """Return the products of the gradient with the other factor, summed."""
        x, y = self.saved
        first, second = tuple(x.shape), tuple(y.shape)
        wide_x, wide_y, _ = interleaved(first, second)
        # (n m, ...) -> (n, m, ...)
        grad = grad.reshape(tuple([n for pair in zip(first, second) for n in pair]))  # noqa: B905
        gx = gy = None
        if self.needs(0):
            gx = sum_to(grad * y.reshape(wide_y), wide_x).reshape(first)
        if self.needs(1):
            gy = sum_to(grad * x.reshape(wide_x), wide_y).reshape(second)
        return gx, gy


@functools.lru_cache(maxsize=64)
def interleaved(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return the shapes in which factors of a Kronecker product meet; and its own."""
    wide_a = tuple([length for n in a for length in (n, 1)])
    wide_b = tuple([length for n in b for length in (1, n)])
    return wide_a, wide_b, tuple([n * m for n, m in zip(a, b, strict=True)])


@public(method=("outer", "ger"))
def outer(input: Any, vec2: Any) -> Tensor:
    """Return the product of each element of one vector with each of another.

    Parameters
    ----------
    input : Tensor, shape (M,)
    vec2 : Tensor, shape (N,)

    Returns
    -------
    Tensor, shape (M, N)

    Examples
    --------
    >>> import nnlib
    >>> nnlib.outer(nnlib.tensor([1, 2]), nnlib.tensor([3, 4]))
    tensor([[3, 4],
            [6, 8]])
    """
    x, y = raw(input), raw(vec2)
    if x.ndim != 1 or y.ndim != 1:
        check_ndim("outer", input=(x, 1), vec2=(y, 1))
    return Outer.apply(input, vec2)  # type: ignore[no-any-return]


ger = outer


@public()
def inner(input: Any, other: Any) -> Tensor:
    """Return the dot products along the last dimensions.

    Parameters
    ----------
    input : Tensor, shape (..., K)
    other : Tensor, shape (*, K)

    Returns
    -------
    Tensor, shape (..., *)

    Examples
    --------
    >>> import nnlib
    >>> nnlib.inner(nnlib.ones(2, 3), nnlib.ones(3))
    tensor([3., 3.])
    """
    if input.ndim == 0 or other.ndim == 0:
        return input * other  # type: ignore[no-any-return]
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(
            f"inner: input has {input.shape[-1]} elements in its last dimension, "
            f"other {other.shape[-1]}"
        )
    if other.ndim <= 2:
        return matmul(input, other if other.ndim == 1 else other.transpose(0, 1))
    return tensordot(input, other, ([-1], [-1]))


@public()
def tensordot(input: Any, other: Any, dims: Any = 2) -> Tensor:
    """Return the sum of products over pairs of dimensions.

    Parameters
    ----------
    input, other : Tensor
    dims : int or pair of sequences of int, default 2
        How many of the last dimensions of `input` go with the first of `other`; or
        the dimensions of each.

    Returns
    -------
    Tensor
        The other dimensions of `input`, then those of `other`.

    Raises
    ------
    ShapeError
        If paired dimensions differ in length, or do not exist.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensordot(nnlib.ones(2, 3), nnlib.ones(3, 4), dims=1).shape
    Size([2, 4])
    """
    shape, others = raw(input).shape, raw(other).shape
    left, right = _pairs(len(shape), len(others), dims)
    for i, j in zip(left, right, strict=True):
        if shape[i] != others[j]:
            raise ShapeError(
                f"tensordot: dimension {i} of input has length {shape[i]}, "
                f"dimension {j} of other {others[j]}"
            )
    free_left = [i for i in range(len(shape)) if i not in left]
    free_right = [j for j in range(len(others)) if j not in right]
    rows = [shape[i] for i in free_left]
    columns = [others[j] for j in free_right]
    summed = math.prod([shape[i] for i in left])
    a, b = input, other
    # A permutation that leaves the order as it is would be a step for nothing.
    if (first := [*free_left, *left]) != sorted(first):
        a = a.permute(*first)
    if (second := [*right, *free_right]) != sorted(second):
        b = b.permute(*second)
    a = a.reshape(math.prod(rows), summed)
    b = b.reshape(summed, math.prod(columns))
    return matmul(a, b).reshape(*rows, *columns)


def _pairs(left: int, right: int, dims: Any) -> tuple[list[int], list[int]]:
    if isinstance(dims, int):
        if not 0 <= dims <= min(left, right):
            raise ShapeError(
                f"tensordot: dims: expected 0 to {min(left, right)}, got {dims}"
            )
        return list(range(left - dims, left)), list(range(dims))
    try:
        first, second = ([int(dim) for dim in part] for part in dims)
    except (TypeError, ValueError):
        raise DTypeError(
            f"tensordot: dims: expected a number or two lists of dimensions, got {dims}"
        ) from None
    if len(first) != len(second):
        raise ShapeError(
            f"tensordot: dims: {len(first)} dimensions of input, {len(second)} of other"
        )
    for part, ndim, name in ((first, left, "input"), (second, right, "other")):
        for dim in part:
            if not -ndim <= dim < ndim:
                raise ShapeError(
                    f"tensordot: dims: {name} has {ndim} dimensions, got {dim}"
                )
    return [dim % left for dim in first], [dim % right for dim in second]


@public()
def kron(input: Any, other: Any) -> Tensor:
    """Return the Kronecker product: each element of `input` times all of `other`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.kron(nnlib.tensor([1, 10]), nnlib.tensor([1, 2]))
    tensor([ 1,  2, 10, 20])
    """
    a, b = raw(input).shape, raw(other).shape
    if len(a) < len(b):
        input = input.reshape((1,) * (len(b) - len(a)) + a)
    elif len(b) < len(a):
        other = other.reshape((1,) * (len(a) - len(b)) + b)
    return Kron.apply(input, other)  # type: ignore[no-any-return]


def same_dtypes(op: str, input: Any, a: Any, b: Any) -> None:
    """Raise unless a Tensor and two arrays have one dtype."""
    if not a.dtype is b.dtype is raw(input).dtype:
        check_dtypes(op, "the second factor", a, b)
        check_dtypes(op, "input", a, input)


def scales(beta: Any, alpha: Any) -> dict[str, Any]:
    """Return the parameters for these factors: none, which is faster, for 1 and 1."""
    return {} if beta == 1 == alpha else {"beta": beta, "alpha": alpha}


@public(inplace=True)
def addmm(
    input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * input + alpha * (mat1 @ mat2)`` for matrices.

    Parameters
    ----------
    input : Tensor, shape that broadcasts to (M, N)
    mat1 : Tensor, shape (M, K)
    mat2 : Tensor, shape (K, N)
    beta, alpha : number, default 1

    Examples
    --------
    >>> import nnlib
    >>> nnlib.addmm(nnlib.ones(2), nnlib.ones(1, 3), nnlib.ones(3, 2), beta=2)
    tensor([[5., 5.]])
    """
    a, b = raw(mat1), raw(mat2)
    if a.ndim != 2 or b.ndim != 2:
        check_ndim("addmm", mat1=(a, 2), mat2=(b, 2))
    same_dtypes("addmm", input, a, b)
    return AddProduct.apply(input, mat1, mat2, **scales(beta, alpha))  # type: ignore[no-any-return]


@public(inplace=True)
def addmv(
    input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * input + alpha * (mat @ vec)``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.addmv(nnlib.ones(1), nnlib.ones(1, 3), nnlib.ones(3))
    tensor([4.])
    """
    a, v = raw(mat), raw(vec)
    if a.ndim != 2 or v.ndim != 1:
        check_ndim("addmv", mat=(a, 2), vec=(v, 1))
    same_dtypes("addmv", input, a, v)
    return AddMatVec.apply(input, mat, vec, **scales(beta, alpha))  # type: ignore[no-any-return]


@public(inplace=True)
def addr(
    input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * input + alpha * outer(vec1, vec2)``.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.addr(nnlib.ones(1), nnlib.ones(1), nnlib.ones(2))
    tensor([[2., 2.]])
    """
    v, w = raw(vec1), raw(vec2)
    if v.ndim != 1 or w.ndim != 1:
        check_ndim("addr", vec1=(v, 1), vec2=(w, 1))
    same_dtypes("addr", input, v, w)
    return AddOuter.apply(input, vec1, vec2, **scales(beta, alpha))  # type: ignore[no-any-return]


@public(inplace=True)
def baddbmm(
    input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta * input + alpha * (batch1 @ batch2)`` for batches of matrices.

    Examples
    --------
    >>> import nnlib
    >>> one = nnlib.ones(1, 1, 1)
    >>> nnlib.baddbmm(one, one, one, alpha=3)
    tensor([[[4.]]])
    """
    a, b = raw(batch1), raw(batch2)
    if a.ndim != 3 or b.ndim != 3:
        check_ndim("baddbmm", batch1=(a, 3), batch2=(b, 3))
    if a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"baddbmm: batch1 is a batch of {a.shape[0]}, batch2 of {b.shape[0]}"
        )
    same_dtypes("baddbmm", input, a, b)
    return AddProduct.apply(input, batch1, batch2, **scales(beta, alpha))  # type: ignore[no-any-return]
