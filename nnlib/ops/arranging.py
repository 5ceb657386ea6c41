"""Rearrangements: flip, roll, rot90, triangles and diagonals."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ShapeError
from nnlib.ops.arithmetic import Expand
from nnlib.ops.arrays import add_up
from nnlib.ops.dims import many_dims, one_dim, raw

__all__ = [
    "diag",
    "diag_embed",
    "diagonal",
    "flip",
    "fliplr",
    "flipud",
    "roll",
    "rot90",
    "trace",
    "tril",
    "triu",
]

# Up to so many elements the mask of a triangle is kept for the next call.
_SMALL = 1 << 12


class Flip(Function):
    """Reverse some dimensions."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, dims: tuple[int, ...]) -> Any:
        """Return a reversed copy."""
        self.dims = dims
        return x[_reversing(x.ndim, dims)].copy()

    def backward(self, grad: Any) -> Any:
        """Reverse the gradient."""
        return Flip.apply(grad, dims=self.dims)


@functools.lru_cache(maxsize=64)
def _reversing(ndim: int, dims: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the key that reverses `dims`."""
    return tuple(
        [slice(None, None, -1 if place in dims else None) for place in range(ndim)]
    )


@public()
def flip(input: Any, *dims: Any) -> Tensor:
    """Return a copy with the order of some dimensions reversed.

    Parameters
    ----------
    *dims : int, or one tuple of int

    Examples
    --------
    >>> import nnlib
    >>> nnlib.flip(nnlib.tensor([1, 2, 3]), 0)
    tensor([3, 2, 1])
    """
    if len(dims) == 1 and isinstance(dims[0], tuple | list):
        dims = tuple(dims[0])
    chosen = many_dims("flip", dims, input.ndim) if dims else ()
    return Flip.apply(input, dims=chosen)  # type: ignore[no-any-return]


@public()
def fliplr(input: Any) -> Tensor:
    """Return a copy with the second dimension reversed."""
    if input.ndim < 2:
        raise ShapeError(f"fliplr: expected 2 or more dimensions, got {input.ndim}")
    return flip(input, 1)


@public()
def flipud(input: Any) -> Tensor:
    """Return a copy with the first dimension reversed."""
    if input.ndim < 1:
        raise ShapeError("flipud: expected 1 or more dimensions, got 0")
    return flip(input, 0)


class Roll(Function):
    """Shift entries round along some dimensions."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, shifts: Any, dims: Any) -> Any:
        """Return a shifted copy."""
        self.shifts, self.dims = shifts, dims
        if dims is not None and len(dims) == 1 and x.shape and x.shape[dims[0]]:
            # What roll does, without its checks.
            (dim,), (shift,) = dims, shifts
            start = -shift % x.shape[dim]
            lead = (slice(None),) * dim
            head, tail = x[(*lead, slice(start))], x[(*lead, slice(start, None))]
            return np.concatenate((tail, head), dim)
        return array_module(x).roll(x, shifts, axis=dims)

    def backward(self, grad: Any) -> Any:
        """Shift the gradient back."""
        back = tuple(-shift for shift in self.shifts)
        if self.dims is None:
            return Roll.apply(grad, shifts=back, dims=None)
        return Roll.apply(grad, shifts=back, dims=self.dims)


@public()
def roll(input: Any, shifts: Any, dims: Any = None) -> Tensor:
    """Shift entries along `dims`; what leaves at one end comes in at the other.

    Parameters
    ----------
    shifts : int or tuple of int
    dims : int or tuple of int, optional
        Without it the flattened elements are shifted.

    Raises
    ------
    ShapeError
        If the numbers of shifts and dimensions differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.roll(nnlib.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    steps = (shifts,) if isinstance(shifts, int) else tuple(int(s) for s in shifts)
    if dims is None or (isinstance(dims, tuple | list) and not dims):
        if len(steps) != 1:
            raise ShapeError(f"roll: {len(steps)} shifts need as many dims, got none")
        return Roll.apply(input, shifts=steps, dims=None)  # type: ignore[no-any-return]
    named = (dims,) if isinstance(dims, int) else tuple(dims)
    ndim = raw(input).ndim
    if not ndim:
        raise ShapeError(f"roll: dims: a tensor of shape () has none, got {dims}")
    places = tuple([one_dim("roll", dim, ndim) for dim in named])
    if len(places) != len(steps):
        raise ShapeError(f"roll: {len(steps)} shifts, but {len(places)} dims")
    return Roll.apply(input, shifts=steps, dims=places)  # type: ignore[no-any-return]


class Rotate(Function):
    """Turn quarters in the plane of two dimensions."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, turns: int, first: int, second: int) -> Any:
        """Return a turned copy."""
        self.turns, self.plane = turns, {"first": first, "second": second}
        if turns == 2:
            return x[_reversing(x.ndim, (first, second))].copy()
        if turns:
            # One turn reverses the second dimension, and exchanges it with the first.
            x = x[_reversing(x.ndim, (second if turns == 1 else first,))]
            x = x.swapaxes(first, second)
        return x.copy()

    def backward(self, grad: Any) -> Any:
        """Turn the gradient back."""
        return Rotate.apply(grad, turns=-self.turns % 4, **self.plane)


@public()
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turn `k` quarters in the plane of two dimensions, from the first to the second.

    Raises
    ------
    ShapeError
        If `dims` are not two different dimensions.
    """
    if len(dims) != 2:
        raise ShapeError(f"rot90: dims: expected two dimensions, got {tuple(dims)}")
    first, second = many_dims("rot90", dims, input.ndim)
    return Rotate.apply(input, turns=k % 4, first=first, second=second)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=64)
def _masks(
    shape: tuple[int, ...], dtype: Any, k: int, lower: bool
) -> tuple[Any, Any, Any]:
    """Return the triangle of a small matrix, the flat positions outside it, and 0."""
    rows, columns = shape
    i, j = np.arange(rows).reshape(rows, 1), np.arange(columns)
    inside = j <= i + k if lower else j >= i + k
    return inside, np.flatnonzero(~inside), np.zeros((), dtype)


def triangle(x: Any, k: int, lower: bool) -> Any:
    """Return a copy of an array of matrices with zeros outside a triangle."""
    shape = x.shape[-2:]
    rows, columns = shape
    if rows * columns <= _SMALL and type(x) is np.ndarray:
        inside, outside, zero = _masks(shape, x.dtype, k, lower)
        if x.ndim > 2:
            return np.where(inside, x, zero)
        out = x.copy()
        out.put(outside, zero)
        return out
    module = array_module(x)
    i = module.arange(rows).reshape(rows, 1)
    j = module.arange(columns)
    inside = j <= i + k if lower else j >= i + k
    return module.where(inside, x, x.dtype.type(0))


class Triangle(Function):
    """Keep a triangle of each matrix."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, k: int, lower: bool) -> Any:
        """Return a copy with zeros outside the triangle."""
        self.k, self.lower = k, lower
        return triangle(x, k, lower)

    def backward(self, grad: Any) -> Any:
        """Keep the same triangle of the gradient."""
        return Triangle.apply(grad, k=self.k, lower=self.lower)


def _triangle(op: str, input: Any, k: int, lower: bool) -> Any:
    ndim = raw(input).ndim
    if ndim < 2:
        raise ShapeError(f"{op}: expected 2 or more dimensions, got {ndim}")
    return Triangle.apply(input, k=int(k), lower=lower)


@public(inplace=True)
def tril(input: Any, diagonal: int = 0) -> Tensor:
    """Return matrices with zeros above a diagonal.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tril(nnlib.ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle("tril", input, diagonal, True)  # type: ignore[no-any-return]


@public(inplace=True)
def triu(input: Any, diagonal: int = 0) -> Tensor:
    """Return matrices with zeros below a diagonal."""
    return _triangle("triu", input, diagonal, False)  # type: ignore[no-any-return]


class Diagonal(Function):
    """A diagonal of each matrix, as a view."""

    is_view = True
    upcasts = False

    def forward(self, x: Any, *, place: tuple[int, int, int]) -> Any:
        """Return the view, with the diagonal as the last dimension.

        `place` is what NumPy's `diagonal` is given: the offset and two dimensions.
        """
        self.shape, self.place = x.shape, place
        view = x.diagonal(*place)
        if type(view) is np.ndarray and x.flags.writeable:
            view.setflags(True)  # type: ignore[call-arg]
        return view

    def backward(self, grad: Any) -> Any:
        """Put the gradient on the diagonal of zeros."""
        return DiagonalPlace.apply(grad, shape=self.shape, place=self.place)


class DiagonalCopy(Diagonal):
    """The same, as a copy."""

    is_view = False
    arithmetic = False

    def forward(self, x: Any, *, place: tuple[int, int, int]) -> Any:
        """Return the copy."""
        self.shape, self.place = x.shape, place
        return x.diagonal(*place).copy()


class DiagonalPlace(Function):
    """Put entries on a diagonal of zeros: the adjoint of `Diagonal`."""

    upcasts = False

    def forward(
        self, x: Any, *, shape: tuple[int, ...], place: tuple[int, int, int]
    ) -> Any:
        """Return zeros of `shape` with `x` on the diagonal."""
        self.place = place
        out = array_module(x).zeros(shape, x.dtype)
        view = out.diagonal(*place)
        if isinstance(view, np.ndarray):
            view.setflags(True)  # type: ignore[call-arg]
        view[...] = x
        return out

    def backward(self, grad: Any) -> Any:
        """Take the diagonal."""
        return Diagonal.apply(grad, place=self.place)


@public()
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of a diagonal, as the last dimension.

    Parameters
    ----------
    offset : int, default 0
        Above (positive) or below the main diagonal.
    dim1, dim2 : int
        The rows and columns of the matrices.

    Raises
    ------
    ShapeError
        If the two dimensions are one.
    """
    ndim = raw(input).ndim
    if ndim < 2 or dim1 != 0 or dim2 != 1:
        dim1, dim2 = one_dim("diagonal", dim1, ndim), one_dim("diagonal", dim2, ndim)
    if dim1 == dim2:
        raise ShapeError(f"diagonal: dim1 and dim2 are both {dim1}")
    return Diagonal.apply(input, place=(int(offset), dim1, dim2))  # type: ignore[no-any-return]


@public()
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Put the last dimension on the diagonal of new matrices.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.diag_embed(nnlib.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    ndim = input.ndim + 1
    dim1 = one_dim("diag_embed", dim1, ndim)
    dim2 = one_dim("diag_embed", dim2, ndim)
    if dim1 == dim2:
        raise ShapeError(f"diag_embed: dim1 and dim2 are both {dim1}")
    side = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for dim in sorted((dim1, dim2)):
        shape.insert(dim, side)
    return DiagonalPlace.apply(  # type: ignore[no-any-return]
        input, shape=tuple(shape), place=(int(offset), dim1, dim2)
    )


@public()
def diag(input: Any, diagonal: int = 0) -> Tensor:
    """Return the diagonal of a matrix (a copy), or a matrix with that diagonal.

    Raises
    ------
    ShapeError
        If `input` has neither one nor two dimensions.
    """
    ndim = raw(input).ndim
    if ndim == 1:
        return diag_embed(input, diagonal)
    if ndim != 2:
        raise ShapeError(f"diag: expected 1 or 2 dimensions, got {ndim}")
    return DiagonalCopy.apply(input, place=(int(diagonal), 0, 1))  # type: ignore[no-any-return]


class Trace(Function):
    """The sum of the diagonal of a matrix."""

    def forward(self, x: Any) -> Any:
        """Return the sum."""
        self.shape = x.shape
        return add_up(x.diagonal(), None, False)

    def backward(self, grad: Any) -> Any:
        """Put the gradient on each place of the diagonal of zeros."""
        length = min(self.shape)
        wide = Expand.apply(grad, shape=(length,))
        return DiagonalPlace.apply(wide, shape=self.shape, place=(0, 0, 1))


@public()
def trace(input: Any) -> Tensor:
    """Return the sum of the diagonal of a matrix.

    Raises
    ------
    ShapeError
        If `input` is no matrix.
    """
    array = raw(input)
    if array.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, got shape {array.shape}")
    return Trace.apply(input)  # type: ignore[no-any-return]
