"""Covariances, numerical derivatives and integrals, norms kept below a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING, get_default_dtype
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, many_dims, one_dim, raw
from nnlib.ops.joining import cat
from nnlib.ops.matmul import matmul
from nnlib.ops.pairs import areas
from nnlib.ops.scan import cumsum

__all__ = ["corrcoef", "cov", "cumulative_trapezoid", "gradient", "renorm"]


@public()
def cov(
    input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None
) -> Tensor:
    """Return the covariances of variables (rows) over observations (columns).

    Parameters
    ----------
    input : Tensor, shape (V, N) or (N,)
    correction : int, default 1
        What is subtracted from the number of observations.
    fweights : integer Tensor, shape (N,), optional
        How often each observation was made.
    aweights : Tensor, shape (N,), optional
        How much each observation counts.

    Returns
    -------
    Tensor, shape (V, V), or () of one variable

    Raises
    ------
    ShapeError
        If there are more dimensions, or weights do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cov(nnlib.tensor([[0.0, 2.0], [2.0, 0.0]]))
    tensor([[ 2., -2.],
            [-2.,  2.]])
    """
    if input.ndim > 2:
        raise ShapeError(
            f"cov: expected at most two dimensions, got shape {tuple(input.shape)}"
        )
    if raw(input).dtype not in FLOATING:
        input = cast(input, get_default_dtype())
    rows = input.reshape(1, -1) if input.ndim < 2 else input
    count = rows.shape[1]
    weights = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        if tuple(given.shape) != (count,):
            raise ShapeError(
                f"cov: {name}: expected shape ({count},), got {tuple(given.shape)}"
            )
        weights = given if weights is None else weights * given
    if weights is None:
        mean = rows.mean(1, keepdim=True) if count else rows.sum(1, keepdim=True)
        total: Any = count
        free = total - correction
        spread = rows - mean
        scaled = spread
    else:
        total = weights.sum()
        mean = (rows * weights).sum(1, keepdim=True) / total
        free = total
        if correction and aweights is not None:
            free = total - correction * (weights * aweights).sum() / total
        elif correction:
            free = total - correction
        spread = rows - mean
        scaled = spread * weights
    product = matmul(scaled, spread.swapaxes(0, 1))
    if isinstance(free, Tensor):
        out = product / free.clamp(min=0).to(product.dtype)
    else:
        out = product * (1 / free if free > 0 else math.inf)
    return out.reshape(()) if len(rows) == 1 else out


@public()
def corrcoef(input: Any) -> Tensor:
    """Return the correlation coefficients of variables (rows).

    Parameters
    ----------
    input : Tensor, shape (V, N) or (N,)

    Returns
    -------
    Tensor, shape (V, V), or () of one variable

    Examples
    --------
    >>> import nnlib
    >>> nnlib.corrcoef(nnlib.tensor([[0.0, 2.0], [2.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    found = cov(input)
    if not found.ndim:
        return found / found
    deviation = found.diagonal().sqrt()
    out = found / deviation.reshape(-1, 1) / deviation
    return out.clamp(-1, 1)


@public(method=False)
def cumulative_trapezoid(
    y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1
) -> Tensor:
    """Return the running integral of samples along `dim` by the trapezoidal rule.

    Parameters
    ----------
    y, x, dx, dim
        As in `trapezoid`.

    Returns
    -------
    Tensor
        One shorter than `y` along `dim`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cumulative_trapezoid(nnlib.tensor([1.0, 2.0, 3.0]))
    tensor([1.5, 4. ])
    """
    parts, dim = areas("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(parts, dim)


def _slopes(x: Any, spacing: Any, dim: int, edge_order: int) -> Any:
    """Return the derivative along `dim`; `spacing` is a step or the places."""
    n = x.shape[dim]
    if n <= edge_order:
        raise ShapeError(
            f"gradient: dimension {dim} has length {n}, edge_order={edge_order} needs "
            f"{edge_order + 1} or more"
        )

    def cut(start: int, length: int) -> Any:
        return x.narrow(dim, start, length)

    widths: Any = None
    if not isinstance(spacing, Real):
        if not hasattr(spacing, "shape"):
            raise DTypeError(
                "gradient: spacing: expected a number or a Tensor for dimension "
                f"{dim}, got {type(spacing).__name__}"
            )
        if tuple(spacing.shape) != (n,):
            raise ShapeError(
                f"gradient: spacing: expected {n} places for dimension {dim}, got "
                f"shape {tuple(spacing.shape)}"
            )
        widths = spacing.diff().to(x.dtype)
    if widths is None:
        step = float(spacing)
        inner = (cut(2, n - 2) - cut(0, n - 2)) / (2 * step) if n > 2 else None
        ends = [[step, step], [step, step]]
    else:
        line = [-1 if place == dim else 1 for place in range(x.ndim)]
        inner = None
        if n > 2:
            a, b = widths[:-1].reshape(line), widths[1:].reshape(line)
            inner = (
                -b / (a * (a + b)) * cut(0, n - 2)
                + (b - a) / (a * b) * cut(1, n - 2)
                + a / (b * (a + b)) * cut(2, n - 2)
            )
        parts = [widths[:1], widths[1:2], widths[-1:], widths[-2:-1]]
        first, second, last, before = (part.reshape(line) for part in parts)
        ends = [[first, second], [last, before]]
    edges = []
    for (near, far), place, turn in ((ends[0], 0, 1), (ends[1], n - 1, -1)):
        first, second = cut(place, 1), cut(place + turn, 1)
        if edge_order == 1:
            edges.append((second - first) * turn / near)
            continue
        third = cut(place + 2 * turn, 1)
        both = near + far
        slope = (
            -(near + both) / (near * both) * first
            + both / (near * far) * second
            - near / (far * both) * third
        )
        edges.append(slope * turn)
    parts = [edges[0], inner, edges[1]] if inner is not None else edges
    return cat(parts, dim)


@public(method=False)
def gradient(
    input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """Return the derivatives of samples along dimensions, by differences.

    Second order inside; first or second order at the ends.

    Parameters
    ----------
    input : Tensor
    spacing : number, or sequence of numbers or Tensors, default 1
        The distance of neighbours, in all dimensions or in each; or their places, a
        vector for each dimension.
    dim : int or tuple of int, optional
        Default: all dimensions.
    edge_order : {1, 2}

    Returns
    -------
    tuple of Tensor, one for each dimension, shape of `input`

    Raises
    ------
    ArgumentError
        If `edge_order` is unknown, or `spacing` does not fit `dim`.
    DTypeError
        If an entry of `spacing` is neither a number nor a Tensor.
    ShapeError
        If a dimension is too short, or places do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.gradient(nnlib.tensor([0.0, 1.0, 4.0]))
    (tensor([1., 2., 3.]),)
    """
    if edge_order not in (1, 2):
        raise ArgumentError(f"gradient: edge_order: expected 1 or 2, got {edge_order}")
    dims = many_dims("gradient", dim, input.ndim)
    if raw(input).dtype not in FLOATING:
        input = cast(input, get_default_dtype())
    if isinstance(spacing, Tensor):
        spacing = [spacing]
    if isinstance(spacing, Sequence):
        steps = list(spacing)
        if len(steps) != len(dims):
            raise ArgumentError(
                f"gradient: spacing: expected {len(dims)} entries, got {len(steps)}"
            )
    else:
        steps = [1 if spacing is None else spacing] * len(dims)
    return tuple(
        _slopes(input, step, place, edge_order)
        for step, place in zip(steps, dims, strict=True)
    )


@public(inplace=True)
@on_its_device
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Tensor:
    """Return `input` with each entry of `dim` scaled down to a p-norm of `maxnorm`.

    Parameters
    ----------
    input : Tensor, at least two dimensions
    p : float
    dim : int
    maxnorm : float

    Raises
    ------
    ArgumentError
        If `p` is not positive or `maxnorm` negative.
    ShapeError
        If there are fewer dimensions.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.renorm(nnlib.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]])
    """
    from nnlib.ops.matrix_norms import linalg_vector_norm
    from nnlib.ops.selection import where

    if p <= 0 or maxnorm < 0:
        raise ArgumentError(
            f"renorm: expected p above 0 and maxnorm of at least 0, got p={p} and "
            f"maxnorm={maxnorm}"
        )
    if input.ndim < 2:
        raise ShapeError(
            f"renorm: expected two dimensions or more, got shape {tuple(input.shape)}"
        )
    kept = one_dim("renorm", dim, input.ndim)
    dims = tuple(place for place in range(input.ndim) if place != kept)
    norms = linalg_vector_norm(input, p, dims, True)
    over = constant(raw(norms) > maxnorm, input)
    # PyTorch's epsilon, so that the result does not exceed the bound by rounding.
    factor = where(over, maxnorm / (where(over, norms, 1.0) + 1e-7), 1.0)
    return input * factor  # type: ignore[no-any-return]
