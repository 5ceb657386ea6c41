"""Copies with a part replaced, and a few names of PyTorch's for cuts and sums.

The gradient goes to what was kept and to what was put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.ops.arranging import diagonal
from nnlib.ops.casting import cast
from nnlib.ops.dims import check_bounds, constant, one_dim, raw
from nnlib.ops.indexing import SetIndex
from nnlib.ops.joining import split, tensor_split, vstack
from nnlib.ops.products import AddProduct, same_dtypes, scales

__all__ = [
    "addbmm",
    "diagonal_scatter",
    "dsplit",
    "row_stack",
    "select_scatter",
    "slice_scatter",
    "split_with_sizes",
    "unravel_index",
]


def _check(op: str, part: Any, src: Any) -> None:
    if tuple(part.shape) != tuple(src.shape):
        raise ShapeError(
            f"{op}: src has shape {tuple(src.shape)}, expected {tuple(part.shape)}"
        )


def _replaced(op: str, input: Any, key: tuple[Any, ...], src: Any) -> Tensor:
    """Return a copy of `input` with `src` at a key of slices and numbers."""
    _check(op, input[key], src)
    value = cast(src, raw(input).dtype)
    return SetIndex.apply(  # type: ignore[no-any-return]
        input, value, key=key, accumulate=False, inplace=False
    )


@public()
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Tensor:
    """Return a copy of `input` with entry `index` of dimension `dim` replaced.

    Parameters
    ----------
    input : Tensor, shape (..., D, ...)
    src : Tensor, shape of ``input.select(dim, index)``
    dim, index : int

    Raises
    ------
    BoundsError
        If there is no such dimension or entry.
    ShapeError
        If `src` has another shape.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.select_scatter(nnlib.zeros(2, 2), nnlib.ones(2), 0, 1)
    tensor([[0., 0.],
            [1., 1.]])
    """
    dim = one_dim("select_scatter", dim, input.ndim)
    input.select(dim, index)  # which says what is wrong with the index
    return _replaced("select_scatter", input, (*(slice(None),) * dim, index), src)


@public()
def slice_scatter(
    input: Any,
    src: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """Return a copy of `input` with ``start:end:step`` of dimension `dim` replaced.

    Parameters
    ----------
    input : Tensor
    src : Tensor, shape of that part
    dim : int, default 0
    start, end : int, optional
        As in a slice.
    step : int, at least 1

    Raises
    ------
    ArgumentError
        If `step` is less than 1.
    ShapeError
        If `src` has another shape.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.slice_scatter(nnlib.zeros(4), nnlib.ones(2), start=1, step=2)
    tensor([0., 1., 0., 1.])
    """
    if step < 1:
        raise ArgumentError(f"slice_scatter: step: expected at least 1, got {step}")
    dim = one_dim("slice_scatter", dim, input.ndim)
    key = (*(slice(None),) * dim, slice(start, end, step))
    return _replaced("slice_scatter", input, key, src)


@public()
def diagonal_scatter(
    input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """Return a copy of `input` with a diagonal replaced.

    Parameters
    ----------
    input : Tensor
    src : Tensor, shape of ``input.diagonal(offset, dim1, dim2)``
    offset, dim1, dim2 : int
        As in `diagonal`.

    Raises
    ------
    ShapeError
        If `src` has another shape.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.diagonal_scatter(nnlib.zeros(2, 2), nnlib.ones(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    copy = input.clone()
    part = diagonal(copy, offset, dim1, dim2)
    _check("diagonal_scatter", part, src)
    part.copy_(src)
    return copy  # type: ignore[no-any-return]


@public(method="fill_diagonal_")
@on_its_device
def fill_diagonal_(input: Any, fill_value: float, wrap: bool = False) -> Tensor:
    """Write a number on the main diagonal, in place.

    Parameters
    ----------
    input : Tensor, two dimensions or more; of more, all equally long
    fill_value : number
    wrap : bool, default False
        Begin again below in a matrix with more than N + 1 rows.

    Raises
    ------
    ShapeError
        If the dimensions do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.zeros(2, 2).fill_diagonal_(3.0)
    tensor([[3., 0.],
            [0., 3.]])
    """
    shape = tuple(input.shape)
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) != 1):
        raise ShapeError(
            "fill_diagonal_: expected a matrix, or equally long dimensions, got shape "
            f"{shape}"
        )
    rows, columns = shape[0], shape[1]
    lines = np.arange(rows if wrap and len(shape) == 2 else min(shape))
    places = lines % (columns + 1) if wrap and len(shape) == 2 else lines
    lines, places = lines[places < columns], places[places < columns]
    key = [constant(array_module(raw(input)).asarray(lines), input)]
    key += [constant(array_module(raw(input)).asarray(places), input)]
    key += key[:1] * (len(shape) - 2)
    input[tuple(key)] = fill_value
    return input  # type: ignore[no-any-return]


@public(method=False)
@on_its_device
def unravel_index(indices: Any, shape: Any) -> tuple[Tensor, ...]:
    """Return the coordinates of flat positions in an array of `shape`.

    Parameters
    ----------
    indices : integer Tensor
        Negative ones count from the end.
    shape : int or sequence of int

    Returns
    -------
    tuple of int64 Tensor, one for each dimension, shape of `indices`

    Raises
    ------
    BoundsError
        If a position is out of range (on the CPU).
    DTypeError
        If `indices` holds no integers.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.unravel_index(nnlib.tensor([5, 0]), (2, 3))
    (tensor([1, 0]), tensor([2, 0]))
    """
    array = raw(indices)
    if array.dtype.kind not in "iu":
        raise DTypeError(
            f"unravel_index: indices: expected integers, got {array.dtype}"
        )
    lengths = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    if min(lengths, default=0) < 0:
        raise BoundsError(f"unravel_index: shape: negative lengths in {lengths}")
    size = int(np.prod(lengths, dtype=np.int64))
    check_bounds("unravel_index", array, size, negative=True, argument="indices")
    rest, parts = array.astype(np.int64), []
    for length in reversed(lengths):
        parts.append(constant(rest % max(length, 1), indices))
        rest = rest // max(length, 1)
    return tuple(reversed(parts))


@public()
def dsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Cut along the third dimension, as `tensor_split`.

    Raises
    ------
    ShapeError
        If there are fewer dimensions.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"dsplit: expected three dimensions or more, got shape {tuple(input.shape)}"
        )
    return tensor_split(input, indices_or_sections, 2)


@public()
def split_with_sizes(
    input: Any, split_sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Cut a dimension into stretches of the given lengths: `split`."""
    return split(input, tuple(split_sizes), dim)


@public(method=False)
def row_stack(tensors: Any) -> Tensor:
    """Put tensors below one another: another name of `vstack`."""
    return vstack(tensors)


@public(inplace=True)
def addbmm(
    input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return ``beta input + alpha sum_b(batch1[b] @ batch2[b])``.

    Parameters
    ----------
    input : Tensor, a shape that broadcasts to (M, P)
    batch1, batch2 : Tensor, shapes (B, M, N) and (B, N, P)
    beta, alpha : number, default 1

    Raises
    ------
    ShapeError, DTypeError
        If the shapes or the dtypes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.addbmm(nnlib.zeros(1, 1), nnlib.ones(2, 1, 3), nnlib.ones(2, 3, 1))
    tensor([[6.]])
    """
    a, b = raw(batch1), raw(batch2)
    fits = a.ndim == b.ndim == 3 and (a.shape[0], a.shape[2]) == b.shape[:2]
    if not fits:
        raise ShapeError(
            f"addbmm: expected shapes (B, M, N) and (B, N, P), got {a.shape} and "
            f"{b.shape}"
        )
    same_dtypes("addbmm", input, a, b)
    count, m, n = a.shape
    # The sum of the products is one product: of (M, B * N) and (B * N, P).
    left = batch1.swapaxes(0, 1).reshape(m, count * n)
    right = batch2.reshape(count * n, b.shape[2])
    return AddProduct.apply(input, left, right, **scales(beta, alpha))  # type: ignore[no-any-return]
