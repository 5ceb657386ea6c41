"""What the door does with arguments of different dtypes: PyTorch's type promotion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING, bool_, get_default_dtype, int64, promote

__all__ = ["promote_arguments", "result_type"]


def promote_arguments(kind: str, args: Sequence[Any]) -> list[Any] | None:
    """Bring tensor arguments to their common dtype.

    Three ranks of arguments are combined: tensors with dimensions, tensors without,
    and numbers. A lower rank matters only where it is of a higher category (bool,
    integer, float) than the ranks above it. NumPy's numbers and arrays without
    dimensions count as numbers, other arrays as tensors.

    Parameters
    ----------
    kind : {"arithmetic", "float"}
        Whether integers become the default float in the end.
    args : sequence

    Returns
    -------
    list or None
        The arguments, some of them cast; None if nothing had to change.
    """
    args, changed = _plain(args)
    target = _common(args)
    if kind == "float" and target not in FLOATING:
        target = get_default_dtype()
    for position, x in enumerate(args):
        if isinstance(x, Tensor) and x._array.dtype != target:
            args[position], changed = x.to(target), True
    return args if changed else None


def result_type(tensor1: Any, tensor2: Any) -> np.dtype[Any]:
    """Return the dtype of ``tensor1 + tensor2``; either may be a number.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.result_type(nnlib.tensor([1, 2]), 1.0)
    dtype('float32')
    """
    return np.dtype(_common(_plain((tensor1, tensor2))[0]))  # type: ignore[no-any-return]


def _common(args: Sequence[Any]) -> Any:
    """Return the dtype that Tensors and numbers have together."""
    ranks: list[Any] = [None, None, None]
    for x in args:
        if isinstance(x, Tensor):
            rank, dtype = (0 if x._array.ndim else 1), x._array.dtype
        elif isinstance(x, bool):
            rank, dtype = 2, bool_
        elif isinstance(x, int):
            rank, dtype = 2, int64
        elif isinstance(x, float):
            rank, dtype = 2, get_default_dtype()
        else:
            continue
        known = ranks[rank]
        ranks[rank] = dtype if known is None else promote(known, dtype)
    return _combine(ranks[0], _combine(ranks[1], ranks[2]))


def _plain(args: Sequence[Any]) -> tuple[list[Any], bool]:
    """Turn NumPy's numbers into Python's, and raw arrays into Tensors."""
    plain: list[Any] = []
    changed = False
    for x in args:
        if not isinstance(x, Tensor) and hasattr(x, "dtype"):
            if isinstance(x, np.generic) or x.ndim == 0:
                x = x.item()
            else:
                x = Tensor._from_array(x)
            changed = True
        plain.append(x)
    return plain, changed


def _combine(higher: Any, lower: Any) -> Any:
    if higher is None or lower is None:
        return lower if higher is None else higher
    if higher in FLOATING:
        return higher
    if higher == bool_ or lower in FLOATING:
        return promote(higher, lower)
    return higher
