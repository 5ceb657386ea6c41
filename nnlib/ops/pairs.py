"""Functions of several tensors, composed of others: cdist, block_diag, cross, ..."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.errors import ShapeError
from nnlib.ops.arranging import diag
from nnlib.ops.dims import constant, one_dim, raw
from nnlib.ops.gathering import index_select
from nnlib.ops.joining import cat, stack
from nnlib.ops.loss import check_float
from nnlib.ops.matmul import dot
from nnlib.ops.matrix_norms import linalg_cross
from nnlib.ops.moments import norm
from nnlib.ops.ranges import meshgrid

__all__ = [
    "block_diag",
    "cartesian_prod",
    "cdist",
    "combinations",
    "cross",
    "diagflat",
    "dist",
    "pdist",
    "trapezoid",
    "trapz",
    "vdot",
]


@public(method=False)
def cdist(x1: Any, x2: Any, p: float = 2.0) -> Tensor:
    """Return the p-norm distance of each row of `x1` from each row of `x2`.

    Parameters
    ----------
    x1 : Tensor, shape (..., P, M)
    x2 : Tensor, shape (..., R, M)
    p : float, default 2

    Returns
    -------
    Tensor, shape (..., P, R)

    Raises
    ------
    ShapeError
        If the rows differ in length.

    Notes
    -----
    All P R M differences are in memory at once: exact where vectors nearly agree, as
    the expansion ``|x|^2 - 2 x y + |y|^2`` is not.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cdist(nnlib.tensor([[0.0, 0.0]]), nnlib.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    a, b = raw(x1), raw(x2)
    check_float("cdist", "x1", x1)
    check_float("cdist", "x2", x2)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            "cdist: expected x1 (..., P, M) and x2 (..., R, M), got shapes "
            f"{a.shape} and {b.shape}"
        )
    return norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


@public(method=False)
def pdist(input: Any, p: float = 2.0) -> Tensor:
    """Return the p-norm distances of all pairs of rows, each pair once.

    The upper triangle of ``cdist(input, input)``, row by row.

    Parameters
    ----------
    input : Tensor, shape (N, M), floating
    p : float, default 2

    Returns
    -------
    Tensor, shape (N (N - 1) / 2,)

    Raises
    ------
    ShapeError
        If `input` is no matrix.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.pdist(nnlib.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    tensor([5.    , 1.    , 4.2426])
    """
    check_float("pdist", "input", input)
    rows = raw(input)
    if rows.ndim != 2:
        raise ShapeError(f"pdist: input: expected shape (N, M), got {rows.shape}")
    with context_of(rows):
        first, second = array_module(rows).triu_indices(rows.shape[0], 1)
    a = index_select(input, 0, constant(first, input))
    b = index_select(input, 0, constant(second, input))
    return norm(a - b, p, -1)


@public()
def dist(input: Any, other: Any, p: float = 2) -> Tensor:
    """Return the p-norm of ``input - other``, of all elements.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.dist(nnlib.tensor([1.0, 2.0]), nnlib.tensor([4.0, 6.0]))
    tensor(5.)
    """
    difference = input - other
    check_float("dist", "input - other", difference)
    return norm(difference, p)


@public()
def vdot(input: Any, other: Any) -> Tensor:
    """Return the dot product of two vectors: `dot`, for there are no complex numbers.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.vdot(nnlib.tensor([1.0, 2.0]), nnlib.tensor([3.0, 4.0]))
    tensor(11.)
    """
    return dot(input, other)


@public()
def cross(input: Any, other: Any, dim: int | None = None) -> Tensor:
    """Return the cross products of vectors of three elements; see `linalg.cross`.

    Parameters
    ----------
    dim : int, optional
        Default: the first dimension of length 3.

    Raises
    ------
    ShapeError
        If there is none.

    Examples
    --------
    >>> import nnlib
    >>> x, y = nnlib.tensor([1.0, 0.0, 0.0]), nnlib.tensor([0.0, 1.0, 0.0])
    >>> nnlib.cross(x, y)
    tensor([0., 0., 1.])
    """
    if dim is None:
        shape = tuple(input.shape)
        if 3 not in shape:
            raise ShapeError(f"cross: no dimension of shape {shape} has length 3")
        dim = shape.index(3)
    return linalg_cross(input, other, dim=dim)


@public(method=False)
def block_diag(*tensors: Any) -> Tensor:
    """Return the matrix with the given ones on its diagonal, and zeros elsewhere.

    Parameters
    ----------
    *tensors : Tensor, at most two dimensions
        A vector is a row.

    Raises
    ------
    ShapeError
        If there is none, or one has more dimensions.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.block_diag(nnlib.ones(1, 2), nnlib.tensor([[3.0]]))
    tensor([[1., 1., 0.],
            [0., 0., 3.]])
    """
    from nnlib.ops.padding import PadConstant

    shapes = [tuple(x.shape) for x in tensors]
    if not shapes or max(map(len, shapes)) > 2:
        raise ShapeError(
            "block_diag: expected one or more tensors of at most two dimensions, got "
            f"shapes {shapes}"
        )
    blocks = [x.reshape((1,) * (2 - x.ndim) + tuple(x.shape)) for x in tensors]
    width, start, rows = sum(x.shape[1] for x in blocks), 0, []
    for block in blocks:
        stop = start + block.shape[1]
        widths = ((0, 0), (start, width - stop))
        rows.append(PadConstant.apply(block, widths=widths, value=0.0))
        start = stop
    return cat(rows, 0)


@public()
def diagflat(input: Any, offset: int = 0) -> Tensor:
    """Return a matrix with all elements of `input` on a diagonal.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.diagflat(nnlib.tensor([[1], [2]]))
    tensor([[1, 0],
            [0, 2]])
    """
    return diag(input.reshape(-1), offset)


@public(method=False)
def cartesian_prod(*tensors: Any) -> Tensor:
    """Return all ways to take one element of each vector, as rows.

    Raises
    ------
    ShapeError
        If one is no vector.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cartesian_prod(nnlib.tensor([1, 2]), nnlib.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    shapes = [tuple(x.shape) for x in tensors]
    if not shapes or any(len(shape) != 1 for shape in shapes):
        raise ShapeError(f"cartesian_prod: expected vectors, got shapes {shapes}")
    if len(tensors) == 1:
        return tensors[0].clone()  # type: ignore[no-any-return]
    grids = meshgrid(*tensors, indexing="ij")
    return stack([grid.reshape(-1) for grid in grids], 1)


@public()
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Return all choices of `r` elements of a vector, in order, as rows.

    Parameters
    ----------
    input : Tensor, shape (N,)
    r : int, default 2
    with_replacement : bool, default False
        An element may be chosen again.

    Raises
    ------
    ShapeError
        If `input` is no vector, or `r` negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.combinations(nnlib.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if input.ndim != 1 or r < 0:
        raise ShapeError(
            "combinations: expected a vector and r of at least 0, got shape "
            f"{tuple(input.shape)} and r={r}"
        )
    choose: Any = itertools.combinations
    if with_replacement:
        choose = itertools.combinations_with_replacement
    rows = list(choose(range(input.shape[0]), r))
    if not r:
        return input.new_zeros(0)  # type: ignore[no-any-return]
    return input[np.array(rows, np.int64).reshape(-1, r)]  # type: ignore[no-any-return]


def areas(op: str, y: Any, x: Any, dx: float, dim: int) -> tuple[Any, int]:
    """Return the areas of the trapezoids between neighbours, and `dim` from the front.

    The arguments are those of `trapezoid`, which says what is wrong with them.
    """
    check_float(op, "y", y)
    dim = one_dim(op, dim, y.ndim)
    count = y.shape[dim]
    if x is not None:
        place = 0 if x.ndim == 1 else dim - y.ndim
        if x.ndim < -place or x.ndim == 0 or x.shape[place] != count:
            raise ShapeError(
                f"{op}: x: expected {count} places along dimension {dim} of y, "
                f"got shape {tuple(x.shape)}"
            )
    if not count:
        return y, dim
    middle = (y.narrow(dim, 1, count - 1) + y.narrow(dim, 0, count - 1)) * 0.5
    if x is None:
        return middle * dx, dim
    if x.ndim == 1:
        x = x.reshape([-1 if place == dim else 1 for place in range(y.ndim)])
    along = dim - y.ndim
    width = x.narrow(along, 1, count - 1) - x.narrow(along, 0, count - 1)
    return middle * width, dim


@public(method=False)
def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """Return the integral of samples along `dim` by the trapezoidal rule.

    Parameters
    ----------
    y : Tensor, floating
        Values.
    x : Tensor, shape of `y`, or (length of `dim`,), optional
        Where they were taken.
    dx : float, default 1
        The distance between neighbours, without `x`.
    dim : int, default -1

    Raises
    ------
    DTypeError
        If `y` is not floating.
    ShapeError
        If `x` has not as many places as `y` has values along `dim`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.trapezoid(nnlib.tensor([1.0, 2.0, 3.0]), dx=2.0)
    tensor(8.)
    """
    parts, dim = areas("trapezoid", y, x, dx, dim)
    return parts.sum(dim)  # type: ignore[no-any-return]


trapz = trapezoid
