"""Broadcasting and repetition."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arithmetic import Expand
from nnlib.ops.dims import constant, one_dim, raw, sizes
from nnlib.ops.shape import Reshape, reshape

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "numel",
    "repeat_interleave",
    "tile",
]


def numel(input: Any) -> int:
    """Return the number of elements."""
    return int(raw(input).size)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """Return the shape that arrays of these shapes broadcast to.

    Parameters
    ----------
    *shapes : tuple of int, or int
        A number is the length of one dimension.

    Raises
    ------
    ShapeError
        If they do not broadcast.
    """
    shapes = tuple(
        (shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes
    )
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        found = " and ".join(str(shape) for shape in shapes)
        raise ShapeError(f"broadcast: shapes {found} do not broadcast") from None


@public()
def expand(input: Any, *shape: Any) -> Tensor:
    """Return a view in which dimensions of length 1 are stretched, without a copy.

    Parameters
    ----------
    *shape : int, or one tuple of int
        The new lengths; -1 keeps one; new dimensions come in front.

    Raises
    ------
    ShapeError
        If a dimension of another length than 1 would change.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([[1], [2]]).expand(-1, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    full = _expanded(raw(input).shape, sizes("expand", shape))
    return Expand.apply(input, shape=full)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256)
def _expanded(old: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that `expand` gives."""
    lead = len(wanted) - len(old)
    if lead >= 0:
        full = list(wanted)
        fits = True
        for place, mine in enumerate(old, lead):
            length = full[place]
            if length == -1:
                full[place] = mine
            elif length != mine != 1:
                fits = False
        if fits and (not full or min(full) >= 0):
            return tuple(full)
    raise ShapeError(f"expand: shape {old} cannot be expanded to {wanted}")


@public()
def expand_as(input: Any, other: Any) -> Tensor:
    """Return `input` expanded to the shape of `other`."""
    return expand(input, tuple(other.shape))


@public()
def broadcast_to(input: Any, size: Any) -> Tensor:
    """Return a view of `input` broadcast to shape `size`: `expand`."""
    full = _expanded(raw(input).shape, sizes("broadcast_to", (tuple(size),)))
    return Expand.apply(input, shape=full)  # type: ignore[no-any-return]


@public(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return all tensors expanded to their common shape.

    Raises
    ------
    ShapeError
        If they do not broadcast.
    """
    shape = broadcast_shapes(*(x.shape for x in tensors))
    return tuple(expand(x, shape) for x in tensors)


@public()
def repeat(input: Any, *repeats: Any) -> Tensor:
    """Return copies of `input` side by side, `repeats` times along each dimension.

    Parameters
    ----------
    *repeats : int, or one tuple of int
        At least one per dimension; more add dimensions in front.

    Raises
    ------
    ShapeError
        If there are fewer numbers than dimensions, or a negative one.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    counts = sizes("repeat", repeats)
    if len(counts) < input.ndim or any(count < 0 for count in counts):
        raise ShapeError(
            f"repeat: expected a count (not negative) for each of {input.ndim} "
            f"dimensions, got {counts}"
        )
    shape = (1,) * (len(counts) - input.ndim) + tuple(input.shape)
    # (s0, s1, ...) -> (1, s0, 1, s1, ...) -> (r0, s0, r1, s1, ...) -> (r0 * s0, ...)
    split = [length for size in shape for length in (1, size)]
    wide = [
        length
        for count, size in zip(counts, shape, strict=True)
        for length in (count, size)
    ]
    joined = tuple(count * size for count, size in zip(counts, shape, strict=True))
    stretched = Expand.apply(reshape(input, tuple(split)), shape=tuple(wide))
    # A stretched view reshaped to itself would stay a view of shared elements.
    if joined == tuple(input.shape):
        from nnlib.ops.casting import clone

        return clone(reshape(stretched, joined))
    return Reshape.apply(stretched, shape=joined)  # type: ignore[no-any-return]


@public()
def tile(input: Any, *dims: Any) -> Tensor:
    """Repeat `input` like `numpy.tile`: missing counts in front are 1."""
    counts = sizes("tile", dims)
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


@public(reads=True)
def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: Any = None
) -> Tensor:
    """Repeat each element (or each entry of `dim`) several times in a row.

    Parameters
    ----------
    repeats : int or integer Tensor of shape (length of `dim`,) or (1,)
        How often; without it, `input` holds counts and the result is the indices.
    dim : int, optional
        Without it the elements are flattened first.
    output_size : int, optional
        The length of the result, where known; only checked here.

    Raises
    ------
    ShapeError
        If the number of counts does not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.repeat_interleave(nnlib.tensor([1, 2]), nnlib.tensor([1, 2]))
    tensor([1, 2, 2])
    """
    from nnlib.ops.gathering import IndexSelect, index_select

    if repeats is None:
        counts = raw(input)
        if counts.dtype.kind not in "iu" or counts.ndim != 1:
            raise DTypeError(
                "repeat_interleave: input: expected a vector of integers where repeats "
                f"is left out, got {counts.dtype} of shape {counts.shape}"
            )
        module = array_module(counts)
        return constant(module.repeat(module.arange(len(counts)), counts), input)  # type: ignore[no-any-return]
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    shape = raw(input).shape
    dim = one_dim("repeat_interleave", dim, len(shape))
    length = shape[dim] if shape else 1
    if type(repeats) is int and repeats >= 0 and output_size is None and shape:
        # What follows, for a number that needs no checks.
        places = array_module(raw(input)).arange(length).repeat(repeats)
        return IndexSelect.apply(input, constant(places, input), dim=dim)  # type: ignore[no-any-return]
    counts = raw(repeats)
    if not hasattr(counts, "dtype"):
        try:
            given = np.asarray(counts)
        except ValueError:
            given = np.asarray(None)
        if given.size and given.dtype.kind not in "iu":
            raise DTypeError(
                f"repeat_interleave: repeats: expected integers, got {repeats!r}"
            )
        counts = array_module(raw(input)).asarray(given, dtype=np.int64)
    if counts.dtype.kind not in "iu":
        raise DTypeError(
            f"repeat_interleave: repeats: expected integers, got {counts.dtype}"
        )
    if counts.ndim > 1 or (counts.size not in (1, length)):
        raise ShapeError(
            f"repeat_interleave: repeats of shape {counts.shape} does not fit "
            f"dimension {dim} of length {length}"
        )
    if isinstance(counts, np.ndarray) and counts.size and counts.min() < 0:
        raise ShapeError("repeat_interleave: repeats must not be negative")
    module = array_module(counts)
    if counts.size == 1:
        counts = int(counts.reshape(()))
    positions = module.repeat(module.arange(length), counts)
    if output_size is not None and output_size != len(positions):
        raise ShapeError(
            f"repeat_interleave: output_size {output_size}, but the counts add up to "
            f"{len(positions)}"
        )
    return index_select(input, dim, constant(positions, input))


def _each(function: Any, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], tuple | list):
        tensors = tuple(tensors[0])
    elif len(tensors) == 1:
        return function(tensors[0])
    return tuple(function(x) for x in tensors)


@public(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """Return each tensor with at least one dimension."""
    return _each(lambda x: x if x.ndim else reshape(x, (1,)), tensors)


@public(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """Return each tensor with at least two dimensions, new ones in front."""

    def two(x: Any) -> Any:
        return x if x.ndim >= 2 else reshape(x, (1,) * (2 - x.ndim) + tuple(x.shape))

    return _each(two, tensors)


@public(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """Return each tensor with at least three dimensions: a vector in the middle."""

    def three(x: Any) -> Any:
        if x.ndim >= 3:
            return x
        if x.ndim == 2:
            return reshape(x, (*x.shape, 1))
        return reshape(x, (1, -1, 1))

    return _each(three, tensors)
