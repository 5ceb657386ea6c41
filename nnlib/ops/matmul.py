"""Matrix products: matmul in every broadcasting form, linear, and their short names.

Floats are multiplied by `nnlib.kernels.gemm`, whose BLAS shares the kernels' threads;
products so small that BLAS stays on one thread anyway go through NumPy, whose call is
cheaper, and so do integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.guarding import retold
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.arrays import SHORT, add_up
from nnlib.ops.dims import raw

__all__ = ["bmm", "dot", "matmul", "mm", "mv"]

_ndarray = np.ndarray
# Up to so many multiplications NumPy's BLAS computes on the calling thread alone.
SMALL = 1 << 13


def product(a: Any, b: Any, bias: Any = None) -> Any:
    """Multiply arrays of two or more dimensions; add a bias to each row.

    Parameters
    ----------
    a : array, shape (..., M, K)
    b : array, shape (..., K, N)
    bias : array, shape (N,), optional
    """
    small = a.size * b.shape[-1] <= SMALL and type(a) is _ndarray
    if small or a.dtype.kind in "biu":
        out = a.dot(b) if a.ndim == b.ndim == 2 else np.matmul(a, b)
        if bias is not None:
            out += bias
        return out
    return kernels.gemm.matmul(a, b, bias=bias)


def as_rows(x: Any) -> Any:
    """Return `x` as one matrix of all its rows: (..., N) -> (M, N)."""
    shape = x.shape
    return x if len(shape) == 2 else x.reshape(math.prod(shape[:-1]), shape[-1])


def _mismatch(op: str, a: Any, b: Any) -> ShapeError:
    return ShapeError(
        f"{op}: input of shape {tuple(a.shape)} and other of shape {tuple(b.shape)} "
        "do not fit: expected (..., M, K) and (..., K, N)"
    )


def check_dtypes(op: str, argument: str, first: Any, second: Any) -> None:
    """Raise unless two operands of a product have one dtype."""
    if first.dtype != second.dtype:
        raise DTypeError(
            f"{op}: {argument}: expected {first.dtype}, got {second.dtype}; "
            "x.to(dtype) casts a tensor, model.to(dtype) a model"
        )


class MatMul(Function):
    """``a @ b`` for two or more dimensions each."""

    def forward(self, a: Any, b: Any) -> Any:
        """Return the product."""
        edges = self.edges
        if edges is not None:
            self.shapes = a.shape, b.shape
            self.save_for_backward(
                None if edges[1] is None else a, None if edges[0] is None else b
            )
        try:
            if a.size * b.shape[-1] <= SMALL and type(a) is _ndarray:
                # For matrices alone `dot` is the same, and half the call.
                return a.dot(b) if a.ndim == b.ndim == 2 else np.matmul(a, b)
            if a.shape[-1] != b.shape[-2]:
                raise _mismatch("matmul", a, b)
            return product(a, b)
        except ValueError:
            raise _mismatch("matmul", a, b) from None

    def backward(self, grad: Any) -> Any:
        """Return ``grad b^T`` and ``a^T grad``, summed over broadcast batches."""
        a, b = self.saved
        shape_a, shape_b = self.shapes
        ga = gb = None
        if self.needs(0):
            ga = sum_to(matmul(grad, b.swapaxes(-1, -2)), shape_a)
        if self.needs(1):
            if len(shape_b) == 2 and len(shape_a) > 2:
                # (..., M, K), (..., M, N) -> (...*M, K), (...*M, N): one product
                # sums over the batch.
                a, grad = as_rows(a), as_rows(grad)
            gb = sum_to(matmul(a.swapaxes(-1, -2), grad), shape_b)
        return ga, gb


class MatVec(Function):
    """A matrix, or a batch of them, by one vector."""

    def forward(self, a: Any, v: Any) -> Any:
        """Return the product, shape (..., M)."""
        self.save_for_backward(a, v)
        if a.shape[-1] != v.shape[0]:
            raise ShapeError(
                f"matmul: a matrix of shape {tuple(a.shape)} and a vector of "
                f"{v.shape[0]} elements do not fit"
            )
        if a.size <= SMALL and type(a) is _ndarray:
            return a.dot(v)
        column = v.reshape(-1, 1)  # (K,) -> (K, 1)
        return product(a, column).reshape(a.shape[:-1])

    def backward(self, grad: Any) -> Any:
        """Return the outer product with `v`, and ``a^T grad`` over all matrices."""
        a, v = self.saved
        ga = gv = None
        if self.needs(0):
            ga = grad.reshape(*grad.shape, 1) * v
        if self.needs(1):
            gv = matmul(as_rows(a).swapaxes(0, 1), grad.reshape(-1))
        return ga, gv


class Dot(Function):
    """The sum of the products of two vectors."""

    def forward(self, a: Any, b: Any) -> Any:
        """Return the dot product."""
        self.save_for_backward(a, b)
        if a.shape != b.shape:
            raise ShapeError(
                f"dot: input has {a.shape[0]} elements, other {b.shape[0]}"
            )
        if a.size <= SMALL:
            return np.array(a.dot(b)) if type(a) is np.ndarray else a.dot(b)
        return product(a.reshape(1, -1), b.reshape(-1, 1)).reshape(())

    def backward(self, grad: Any) -> Any:
        """Return ``grad b`` and ``grad a``."""
        a, b = self.saved
        return (
            grad * b if self.needs(0) else None,
            grad * a if self.needs(1) else None,
        )


def _column_sums(grad: Any) -> Any:
    """Add up the rows of a Tensor, or of a CUDA array."""
    if isinstance(grad, Tensor):
        return grad.sum(0)
    if isinstance(grad, _ndarray) or grad.dtype.char not in "fd" or 0 in grad.shape:
        return add_up(grad, (0,), False)
    return kernels.reduction.sum_columns(grad)


class Linear(Function):
    """``x w^T + b`` over the last dimension."""

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return the rows of `x` mapped; the bias is added in the same pass."""
        edges = self.edges
        if edges is not None:
            self.shape = x.shape
            self.save_for_backward(
                None if edges[1] is None else x, None if edges[0] is None else weight
            )
        out = product(as_rows(x), weight.T, bias)
        if x.ndim == 2:
            return out
        return out.reshape(*x.shape[:-1], weight.shape[0])

    def backward(self, grad: Any) -> Any:
        """Return ``grad w``, ``grad^T x`` and the sum of the rows of ``grad``."""
        x, weight = self.saved
        gx = gw = gb = None
        # Arrays need no door: this is the hottest backward of all.
        multiply = matmul if isinstance(grad, Tensor) else product
        shape = grad.shape
        grad = as_rows(grad)
        if self.needs(0):
            gx = multiply(grad, weight)
            if len(shape) != 2:
                gx = gx.reshape(*shape[:-1], weight.shape[1])
        if self.needs(1):
            gw = multiply(grad.swapaxes(0, 1), as_rows(x))
        if self.needs(2):
            # A large sum is not worth the kernel that `add_up` would compile.
            large = type(grad) is _ndarray and grad.size > SHORT
            gb = grad.sum(0) if large else _column_sums(grad)
        return gx, gw, gb


@public(operators=("__matmul__", "__rmatmul__", "__imatmul__"), direct=True)
def matmul(input: Any, other: Any) -> Tensor:
    """Return the matrix product ``input @ other``.

    Parameters
    ----------
    input : Tensor, shape (..., M, K) or (K,)
    other : Tensor, shape (..., K, N) or (K,)
        Leading dimensions broadcast. A vector stands for one row on the left, one
        column on the right; that dimension is then left out of the result.

    Returns
    -------
    Tensor, shape (..., M, N)

    Raises
    ------
    ShapeError
        If the shapes do not fit, or one operand has no dimensions.
    DTypeError
        If the dtypes differ, or an operand is no tensor.

    Examples
    --------
    >>> import nnlib
    >>> a = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> a @ a
    tensor([[ 7., 10.],
            [15., 22.]])
    >>> a @ nnlib.tensor([1.0, 1.0])
    tensor([3., 7.])
    """
    # The arrays' attributes: a Tensor's are calls of Python functions.
    a, b = getattr(input, "_array", input), getattr(other, "_array", other)
    try:
        left, right = a.ndim, b.ndim
    except AttributeError:
        raise DTypeError(
            f"matmul: expected two tensors, got {type(input).__name__} and "
            f"{type(other).__name__}"
        ) from None
    if a.dtype is not b.dtype:
        check_dtypes("matmul", "other", a, b)
    if left >= 2 and right >= 2:
        return MatMul.apply(input, other)  # type: ignore[no-any-return]
    if left == 0 or right == 0:
        raise ShapeError(
            "matmul: expected at least one dimension each, got shapes "
            f"{tuple(input.shape)} and {tuple(other.shape)}"
        )
    if right == 1:
        function = Dot if left == 1 else MatVec
        return function.apply(input, other)  # type: ignore[no-any-return]
    return MatVec.apply(other.swapaxes(-1, -2), input)  # type: ignore[no-any-return]


def check_ndim(op: str, **operands: tuple[Any, int]) -> None:
    """Raise unless each named operand has its number of dimensions."""
    for argument, (x, ndim) in operands.items():
        if x.ndim != ndim:
            raise ShapeError(
                f"{op}: {argument}: expected {ndim} dimension{'s' * (ndim > 1)}, got "
                f"shape {tuple(x.shape)}"
            )


@public()
def mm(input: Any, mat2: Any) -> Tensor:
    """Return the product of two matrices, without broadcasting.

    Parameters
    ----------
    input : Tensor, shape (M, K)
    mat2 : Tensor, shape (K, N)

    Raises
    ------
    ShapeError
        If one is no matrix or the inner lengths differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.mm(nnlib.ones(1, 2), nnlib.ones(2, 1))
    tensor([[2.]])
    """
    a, b = raw(input), raw(mat2)
    if a.ndim != 2 or b.ndim != 2 or a.dtype is not b.dtype:
        check_ndim("mm", input=(a, 2), mat2=(b, 2))
        check_dtypes("mm", "mat2", a, b)
    return MatMul.apply(input, mat2)  # type: ignore[no-any-return]


@public()
def mv(input: Any, vec: Any) -> Tensor:
    """Return the product of a matrix (M, K) and a vector (K,).

    Examples
    --------
    >>> import nnlib
    >>> nnlib.mv(nnlib.ones(2, 2), nnlib.tensor([1.0, 2.0]))
    tensor([3., 3.])
    """
    a, v = raw(input), raw(vec)
    if a.ndim != 2 or v.ndim != 1 or a.dtype is not v.dtype:
        check_ndim("mv", input=(a, 2), vec=(v, 1))
        check_dtypes("mv", "vec", a, v)
    return MatVec.apply(input, vec)  # type: ignore[no-any-return]


@public()
def bmm(input: Any, mat2: Any) -> Tensor:
    """Return the products of two batches of matrices, (B, M, K) and (B, K, N).

    Raises
    ------
    ShapeError
        If one has not three dimensions, or the batches or inner lengths differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.bmm(nnlib.ones(3, 1, 2), nnlib.ones(3, 2, 1)).shape
    Size([3, 1, 1])
    """
    a, b = raw(input), raw(mat2)
    if a.ndim != 3 or b.ndim != 3 or a.dtype is not b.dtype:
        check_ndim("bmm", input=(a, 3), mat2=(b, 3))
        check_dtypes("bmm", "mat2", a, b)
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"bmm: input is a batch of {a.shape[0]}, mat2 of {b.shape[0]}")
    return MatMul.apply(input, mat2)  # type: ignore[no-any-return]


@public()
def dot(input: Any, tensor: Any) -> Tensor:
    """Return the dot product of two vectors of equal length.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.dot(nnlib.tensor([1.0, 2.0]), nnlib.tensor([3.0, 4.0]))
    tensor(11.)
    """
    a, b = raw(input), raw(tensor)
    if a.ndim != 1 or b.ndim != 1 or a.dtype is not b.dtype:
        check_ndim("dot", input=(a, 1), tensor=(b, 1))
        check_dtypes("dot", "tensor", a, b)
    return Dot.apply(input, tensor)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return ``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor, shape (..., in_features)
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (..., out_features)

    Raises
    ------
    ShapeError
        If the features do not fit.
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib.ops.matmul import linear
    >>> linear(nnlib.ones(2), nnlib.ones(3, 2), nnlib.tensor([0.0, 1.0, 2.0]))
    tensor([2., 3., 4.])
    """
    try:
        _check_linear(input, weight, bias)
    except AttributeError as error:
        raise retold(linear, error, (input, weight, bias)) or error from None
    return Linear.apply(input, weight, bias)  # type: ignore[no-any-return]


def _check_linear(x: Any, weight: Any, bias: Any) -> None:
    # The arrays themselves: a Tensor's shape is built anew each time.
    x, weight = getattr(x, "_array", x), getattr(weight, "_array", weight)
    x_shape, weight_shape = x.shape, weight.shape
    if len(weight_shape) != 2:
        raise ShapeError(
            f"linear: weight: expected (out_features, in_features), got {weight_shape}"
        )
    if not x_shape or x_shape[-1] != weight_shape[1]:
        raise ShapeError(
            f"linear: x has {x_shape[-1] if x_shape else 'no'} features in its last "
            f"dimension, weight expects {weight_shape[1]}"
        )
    dtype = x.dtype
    if weight.dtype is not dtype:
        if dtype.kind in "biu" and weight.dtype.kind not in "biu":
            raise DTypeError(
                f"linear: x: expected {weight.dtype} as the weight, got {dtype}"
            )
        check_dtypes("linear", "weight", x, weight)
    if bias is not None:
        bias = getattr(bias, "_array", bias)
        if bias.shape != weight_shape[:1]:
            raise ShapeError(
                f"linear: bias has shape {tuple(bias.shape)}, expected "
                f"{weight_shape[:1]}"
            )
        if bias.dtype is not dtype:
            check_dtypes("linear", "bias", x, bias)
