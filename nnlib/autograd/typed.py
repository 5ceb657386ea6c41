"""Tensors of one dtype under the names of PyTorch's older programs: ``LongTensor``."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.construct import from_class
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import (
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
]


class _TypedTensor:
    """`Tensor` with a dtype: ``LongTensor([1, 2])``, ``isinstance(x, LongTensor)``.

    In new programs ``tensor(data, dtype=...)`` and ``x.dtype`` say the same.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __call__(self, *data: Any, **kwargs: Any) -> Tensor:
        """Return values, or zeros where there are only sizes, as `Tensor` does."""
        return from_class(data, dtype=self.dtype, **kwargs)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype == self.dtype


BoolTensor = _TypedTensor(bool_)
ByteTensor = _TypedTensor(uint8)
CharTensor = _TypedTensor(int8)
DoubleTensor = _TypedTensor(float64)
FloatTensor = _TypedTensor(float32)
HalfTensor = _TypedTensor(float16)
IntTensor = _TypedTensor(int32)
LongTensor = _TypedTensor(int64)
ShortTensor = _TypedTensor(int16)
