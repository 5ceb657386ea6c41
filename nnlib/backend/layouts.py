"""Orders of a tensor's elements in memory, with PyTorch's names."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from nnlib.backend.device import array_module
from nnlib.backend.errors import DTypeError, ShapeError

__all__ = [
    "MemoryFormat",
    "arrange",
    "arrange_like",
    "channels_last",
    "channels_last_3d",
    "check_format",
    "contiguous_format",
    "elements_before",
    "lies_in",
    "may_share",
    "preserve_format",
    "strided_view",
]


class MemoryFormat(enum.Enum):
    """An order of elements: C order, channels last, or the one there is."""

    contiguous_format = 0
    preserve_format = 1
    channels_last = 4
    channels_last_3d = 5

    def __repr__(self) -> str:
        """Return the name as a user writes it."""
        return f"nnlib.{self.name}"


contiguous_format = MemoryFormat.contiguous_format
preserve_format = MemoryFormat.preserve_format
channels_last = MemoryFormat.channels_last
channels_last_3d = MemoryFormat.channels_last_3d
# The rank of the arrays that each is for.
_RANKS = {channels_last: 4, channels_last_3d: 5}


def check_format(op: str, memory_format: Any, ndim: int | None = None) -> None:
    """Refuse what is no format, or one for arrays of another rank.

    Raises
    ------
    DTypeError
        If it is no memory format.
    ShapeError
        If the rank does not fit.
    """
    if not isinstance(memory_format, MemoryFormat):
        raise DTypeError(
            f"{op}: memory_format: expected nnlib.contiguous_format, channels_last or "
            f"their like, got {memory_format!r}"
        )
    rank = _RANKS.get(memory_format, ndim)
    if ndim is not None and ndim != rank:
        raise ShapeError(
            f"{op}: memory_format: {memory_format.name} is for {rank} dimensions, got "
            f"{ndim}"
        )


def _channels_behind(array: Any) -> Any:
    # (N, C, *spatial) -> (N, *spatial, C), a view
    return array.transpose(0, *range(2, array.ndim), 1)


def lies_in(array: Any, memory_format: MemoryFormat) -> bool:
    """Tell whether the elements lie in this order, without gaps.

    Examples
    --------
    >>> import numpy as np
    >>> lies_in(np.zeros((2, 3, 4, 5)), channels_last)
    False
    """
    rank = _RANKS.get(memory_format)
    if rank is None:
        return bool(array.flags.c_contiguous)
    return array.ndim == rank and bool(_channels_behind(array).flags.c_contiguous)


def arrange(array: Any, memory_format: MemoryFormat) -> Any:
    """Return the elements in this order: the array itself where they lie so.

    Examples
    --------
    >>> import numpy as np
    >>> arrange(np.zeros((2, 3, 4, 5)), channels_last).strides
    (480, 8, 120, 24)
    """
    module = array_module(array)
    if memory_format not in _RANKS:
        return module.ascontiguousarray(array)
    behind = module.ascontiguousarray(_channels_behind(array))
    # (N, *spatial, C) -> (N, C, *spatial), a view
    return behind.transpose(0, array.ndim - 1, *range(1, array.ndim - 1))


def arrange_like(op: str, array: Any, memory_format: Any, other: Any) -> Any:
    """Return the elements in this order; `preserve_format` is that of `other`.

    Raises
    ------
    DTypeError, ShapeError
        As `check_format`.

    Examples
    --------
    >>> import numpy as np
    >>> arrange_like("op", np.ones((2, 3)), preserve_format, np.ones((3, 2)).T).strides
    (8, 16)
    """
    check_format(op, memory_format, array.ndim)
    if memory_format is not preserve_format:
        return arrange(array, memory_format)
    module = array_module(array)
    if other.flags.c_contiguous or module is not array_module(other):
        return array
    if 0 in other.strides:
        # An expanded dimension has no place of its own in an order.
        return array
    out = module.empty_like(other, dtype=array.dtype)
    out[...] = array
    return out


def _address(array: Any) -> int:
    return int(array.ctypes.data if array_module(array) is np else array.data.ptr)


def elements_before(array: Any) -> tuple[int, int]:
    """Return how many elements of its memory lie before an array, and in all.

    Examples
    --------
    >>> import numpy as np
    >>> elements_before(np.zeros((4, 5))[2:, 1:])
    (11, 20)
    """
    root, base = array, array.base
    while base is not None:
        if isinstance(base, type(array)):
            root = base
        base = getattr(base, "base", None)
    low = high = 0
    for length, step in zip(root.shape, root.strides, strict=True):
        if step < 0:
            low += (length - 1) * step
        else:
            high += (length - 1) * step
    if not array.size or not root.size:
        return 0, array.size
    before = _address(array) - _address(root) - low
    return before // array.itemsize, (high - low) // array.itemsize + 1


def strided_view(
    array: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Any:
    """Return a view by a shape, and strides and a first element counted in elements.

    `offset` counts from the array's own first element. Nothing is checked. Where
    elements share memory, NumPy's view is not to be written into.

    Examples
    --------
    >>> import numpy as np
    >>> strided_view(np.arange(6)[2:], (2, 2), (1, 1), -1)
    array([[1, 2],
           [2, 3]])
    """
    module, item = array_module(array), array.itemsize
    first = module.lib.stride_tricks.as_strided(array, (1,), (item,))
    if offset:
        # A step to the element, wherever it lies in the memory.
        pair = module.lib.stride_tricks.as_strided(array, (2,), (offset * item,))
        first = pair[1:]
    view = module.lib.stride_tricks.as_strided(
        first, shape, tuple(step * item for step in strides)
    )
    if module is np and may_share(shape, strides):
        view.flags.writeable = False
    return view


def may_share(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tell whether elements may share memory: dimensions that do not nest.

    Examples
    --------
    >>> may_share((2, 3), (0, 1)), may_share((2, 3), (3, 1))
    (True, False)
    """
    reach = 0
    for step, length in sorted(zip(strides, shape, strict=True)):
        if length > 1:
            if step <= reach:
                return True
            reach += step * (length - 1)
    return False
