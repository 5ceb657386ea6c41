"""16-bit floats: kept as they are, computed in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlib.backend.dtypes import HALF, float32

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = ["forward_upcast", "widen"]


def widen(value: Any) -> Any:
    """Return a 16-bit float array as float32, anything else as it is."""
    if getattr(value, "dtype", None) in HALF and not isinstance(value, np.generic):
        return value.astype(np.float32)
    return value


def forward_upcast(node: Function, arrays: Sequence[Any], params: Any) -> Any:
    """Run a forward in float32 and round its outputs back.

    What it saved of inputs and outputs is kept in 16 bits; `Function.saved` widens it.
    """
    wide = [widen(x) for x in arrays]
    dtypes = {x.dtype for x, y in zip(arrays, wide, strict=True) if x is not y}
    half = dtypes.pop() if len(dtypes) == 1 else float32
    made = node.forward(*wide, **params)
    node.half = True
    several = type(made) is tuple
    wide_outs = made if several else (made,)
    outs = tuple(_round(item, half) for item in wide_outs)
    if node._saved:
        pairs = [*zip(wide, arrays, strict=True), *zip(wide_outs, outs, strict=True)]
        node._saved = tuple(
            next((narrow for whole, narrow in pairs if whole is value), value)
            for value in node._saved
        )
    if node._non_differentiable:
        node._non_differentiable = tuple(
            next((o for w, o in zip(wide_outs, outs, strict=True) if w is value), value)
            for value in node._non_differentiable
        )
    return outs if several else outs[0]


def _round(item: Any, half: Any) -> Any:
    if getattr(item, "dtype", None) == float32:
        array = np.asarray(item) if isinstance(item, np.generic) else item
        return array.astype(half)
    return item
