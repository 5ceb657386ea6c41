"""Data types and PyTorch's promotion rules over them.

An nnlib dtype is a plain ``numpy.dtype``. Promotion differs from NumPy's in two
points: an integer never widens a float (``int64 + float32 -> float32``), and a
zero-dimensional tensor gives way to one with dimensions of the same or a higher
category.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from nnlib.backend.errors import DTypeError

__all__ = [
    "bfloat16",
    "bool_",
    "category",
    "default_dtype",
    "float16",
    "float32",
    "float64",
    "finfo",
    "get_default_dtype",
    "iinfo",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_floating",
    "is_half",
    "promote",
    "promote_types",
    "resolve_dtype",
    "set_default_dtype",
    "uint8",
]

DType = np.dtype[Any]

bool_: DType = np.dtype(np.bool_)
uint8: DType = np.dtype(np.uint8)
int8: DType = np.dtype(np.int8)
int16: DType = np.dtype(np.int16)
int32: DType = np.dtype(np.int32)
int64: DType = np.dtype(np.int64)
float16: DType = np.dtype(np.float16)
bfloat16: DType = np.dtype(ml_dtypes.bfloat16)
float32: DType = np.dtype(np.float32)
float64: DType = np.dtype(np.float64)

FLOATING = frozenset({float16, bfloat16, float32, float64})
HALF = frozenset({float16, bfloat16})

_NAMES: dict[str, DType] = {
    "bool": bool_,
    "half": float16,
    "float": float32,
    "double": float64,
    "long": int64,
    "int": int32,
    "short": int16,
    "byte": uint8,
    "bfloat16": bfloat16,
}


class _Default:
    dtype: DType = float32


def get_default_dtype() -> DType:
    """Return the dtype given to floats when none is named (float32 at first)."""
    return _Default.dtype


default_dtype = get_default_dtype


def set_default_dtype(dtype: Any) -> None:
    """Set the dtype given to floats when none is named.

    Parameters
    ----------
    dtype : numpy.dtype or str
        A floating dtype: float16, bfloat16, float32 or float64.

    Raises
    ------
    DTypeError
        If `dtype` is not floating.
    """
    resolved = resolve_dtype(dtype)
    if resolved not in FLOATING:
        raise DTypeError(
            f"set_default_dtype: expected a floating dtype, got {resolved}"
        )
    _Default.dtype = resolved


def resolve_dtype(dtype: Any) -> DType:
    """Turn whatever names a dtype (dtype, type, string) into a ``numpy.dtype``.

    Python's ``float`` means the default dtype, as in PyTorch.

    Raises
    ------
    DTypeError
        If `dtype` names nothing that a tensor can hold.
    """
    if isinstance(dtype, np.dtype) and dtype in FLOATING:
        return dtype
    if dtype is float:
        return _Default.dtype
    if isinstance(dtype, str) and dtype in _NAMES:
        return _NAMES[dtype]
    try:
        resolved: DType = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"dtype: {dtype!r} is not a dtype") from None
    if resolved not in FLOATING and resolved.kind not in "biu":
        raise DTypeError(
            f"dtype: a tensor holds floats, integers or bool, not {resolved}"
        )
    return resolved


def is_floating(dtype: DType) -> bool:
    """Tell whether `dtype` is float16, bfloat16, float32 or float64."""
    return dtype in FLOATING


def is_half(dtype: DType) -> bool:
    """Tell whether `dtype` is a 16-bit float (float16 or bfloat16)."""
    return dtype in HALF


def category(dtype: DType) -> int:
    """Return 0 for bool, 1 for integers, 2 for floats."""
    if dtype in FLOATING:
        return 2
    return 0 if dtype.kind == "b" else 1


def promote(a: DType, b: DType) -> DType:
    """Return the dtype that holds both, by PyTorch's table.

    Examples
    --------
    >>> promote(int64, float32)
    dtype('float32')
    >>> promote(float16, bfloat16)
    dtype('float32')
    """
    if a == b:
        return a
    kind_a, kind_b = category(a), category(b)
    if kind_a != kind_b:
        return a if kind_a > kind_b else b
    if kind_a == 2:
        if a in HALF and b in HALF:
            return float32
        return a if a.itemsize > b.itemsize else b
    return np.promote_types(a, b)


def finfo(dtype: Any = None) -> Any:
    """Return the limits of a floating dtype (default: the default dtype).

    Its ``min``, ``max``, ``eps``, ``tiny`` and ``bits`` are NumPy's.

    Examples
    --------
    >>> float(finfo(bfloat16).eps)
    0.0078125
    """
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    if kind not in FLOATING:
        raise DTypeError(f"finfo: expected a floating dtype, got {kind}")
    return ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]


def iinfo(dtype: Any) -> Any:
    """Return the limits of an integer dtype: its ``min``, ``max`` and ``bits``.

    Examples
    --------
    >>> iinfo(int8).max
    127
    """
    kind = resolve_dtype(dtype)
    if kind.kind not in "iu":
        raise DTypeError(f"iinfo: expected an integer dtype, got {kind}")
    return np.iinfo(kind)


# The name that PyTorch has at the top level.
promote_types = promote
