"""How an index is read: the view it starts with, and the index arrays beyond it."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import bool_, int32, int64
from nnlib.backend.errors import BoundsError, DTypeError
from nnlib.ops.dims import check_bounds, constant, raw

__all__: list[str] = []

FULL = slice(None)
# Index dtypes that need no conversion.
PLAIN = frozenset({int64, int32, bool_})


class Slot(int):
    """Stands in a key for the index array of that number."""


# The key of a single index tensor.
FIRST = (Slot(0),)


_BASIC = frozenset({int, slice, type(None), type(Ellipsis)})


def basic_key(index: Any) -> Any:
    """Return the key of an index of integers, slices, None and Ellipsis, else None."""
    kind = type(index)
    if kind is int or kind is slice or index is None:
        return (index, ...)
    if kind is tuple and _BASIC.issuperset(map(type, index)):
        return index if Ellipsis in index else (*index, ...)
    return (...,) if index is Ellipsis else None


def fill(key: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the index arrays into a key."""
    if not arrays:
        return key
    if key is FIRST:
        return arrays
    return tuple(arrays[part] if type(part) is Slot else part for part in key)


def may_repeat(arrays: tuple[Any, ...]) -> bool:
    """Tell whether an element may be named twice: not by slices, nor by one mask."""
    if not arrays:
        return False
    return len(arrays) > 1 or arrays[0].dtype.kind != "b"


def integer_key(key: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return a key in which masks are integer arrays, one entry per dimension."""
    parts: list[Any] = []
    for part in key:
        if part is Ellipsis:
            continue
        if isinstance(part, slice) or part.dtype.kind != "b":
            parts.append(part)
        else:
            parts.extend(part.nonzero())
    return (*parts, *[FULL] * (ndim - len(parts)))


def explained(error: Exception, shape: Any, key: Any, arrays: Any) -> Exception:
    """Return the error that names the bad value, its position and the size."""
    place = 0
    for part in key:
        array = arrays[part] if type(part) is Slot else None
        if array is None:
            place += 1
        elif array.dtype.kind == "b":
            place += array.ndim
        else:
            if place < len(shape):
                try:
                    check_bounds("index", array, shape[place], negative=True)
                except BoundsError as found:
                    return found
            place += 1
    return BoundsError(f"index: {error}; the shape is {tuple(shape)}")


def as_part(part: Any, like: Any) -> Any:
    """Return an index of an unusual type as a Tensor or array of integers or bool."""
    array = raw(part)
    if not hasattr(array, "dtype"):
        array = np.asarray(list(array) if isinstance(array, range) else array)
        if not array.size:
            array = array.astype(np.int64)
        part = array
    if part is array and type(array) is np.ndarray:
        # No tensor: it goes where it is needed.
        with context_of(raw(like)):
            array = part = array_module(raw(like)).asarray(array)
    if array.dtype.kind not in "iub":
        raise DTypeError(
            "index: expected integers, slices, None, Ellipsis, integer or boolean "
            f"tensors, got a tensor of {array.dtype}"
        )
    if array.dtype.kind == "u":
        array = part = array.astype(np.int64)
    return part if isinstance(part, Tensor) else constant(array, like)


def _width(part: Any) -> int:
    """Return how many dimensions of the input a part of an index stands for."""
    if part is None or part is True or part is False:
        return 0
    if isinstance(part, int | slice):
        return 1
    array = raw(part)
    return int(array.ndim) if array.dtype.kind == "b" else 1


def parse(input: Any, index: Any) -> tuple[Any, Any, list[Any]]:
    """Read an index.

    Returns
    -------
    basic : tuple or None
        The key of the view to take first; None if it would be the whole.
    key : tuple
        The key to apply to that view, with a `Slot` for each array.
    arrays : list
        The index arrays and masks; empty if the view is all.
    """
    parts = list(index) if type(index) is tuple else [index]
    plain = True
    for place, part in enumerate(parts):
        if part is None or part is Ellipsis or isinstance(part, slice | int):
            plain = plain and not isinstance(part, bool)
            continue
        if isinstance(part, Tensor | list | tuple | range) or hasattr(part, "dtype"):
            part = as_part(part, input)
            array = raw(part)
            if not array.ndim:
                part = bool(array) if array.dtype.kind == "b" else int(array)
        else:
            try:
                part = operator.index(part)
            except TypeError:
                raise DTypeError(
                    "index: expected integers, slices, None, Ellipsis, integer or "
                    f"boolean tensors, got {type(part).__name__}"
                ) from None
        parts[place] = part
        plain = plain and isinstance(part, int) and not isinstance(part, bool)
    if plain:
        if any(part is Ellipsis for part in parts):
            return tuple(parts), (), []
        return (*parts, Ellipsis), (), []
    return separate(input, parts)


def separate(input: Any, parts: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Separate the parts that make a view from the arrays."""
    used = sum(0 if part is Ellipsis else _width(part) for part in parts)
    if used > input.ndim:
        raise BoundsError(
            f"index: {used} dimensions are indexed, the tensor has {input.ndim}"
        )
    if not any(part is Ellipsis for part in parts):
        parts = [*parts, Ellipsis]
    basic: list[Any] = []
    key: list[Any] = []
    arrays: list[Any] = []
    for part in parts:
        if part is Ellipsis:
            basic += [FULL] * (input.ndim - used)
            key += [FULL] * (input.ndim - used)
        elif part is None or isinstance(part, slice):
            basic.append(part)
            key.append(FULL)
        elif isinstance(part, bool):
            basic.append(None)
            key.append(Slot(len(arrays)))
            module = array_module(raw(input))
            arrays.append(constant(module.asarray([part]), input))
        elif isinstance(part, int):
            basic.append(part)
        else:
            basic += [FULL] * _width(part)
            key.append(Slot(len(arrays)))
            arrays.append(part)
    trivial = all(isinstance(part, slice) and part == FULL for part in basic)
    return (None if trivial else tuple(basic)), tuple(key), arrays
